"""P-Adam and P-SAGA: Adam moments and a gradient memory for every path (SCRAPL, Algorithm 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim import _validation as checks
from scrapl_optim import path_state, state_dict, state_dict_checks, steps
from scrapl_optim._validation import refuse_paths
from scrapl_optim.arenas import Arena
from scrapl_optim.functional import update_formula
from scrapl_optim.gradients import Gradients
from scrapl_optim.host import RowFetcher
from scrapl_optim.pieces import Scratch
from scrapl_optim.several_paths import Part, check_draw, completed, with_draw

PathIdx = SupportsIndex | Tensor
_Loss = TypeVar("_Loss")


class _Announced(NamedTuple):
    path: int
    weight: float | None


class _Members(NamedTuple):
    """Parameters of a group that have a gradient."""

    params: list[Tensor]
    states: list[dict[str, Any]]


class PathAdamSAGA(Optimizer):
    r"""Path-wise Adam (P-Adam) with a path-wise stochastic average gradient (P-SAGA).

    At the k-th step the loss belongs to path :math:`p` of :math:`P` = ``n_paths``; its gradient is
    :math:`g`, :math:`\tau_p` is the step at which the path was last drawn (0 if never), :math:`\Gamma` the
    set of paths drawn before, :math:`\alpha` = ``lr``, :math:`\lambda` = ``weight_decay``,
    :math:`\varepsilon` = ``eps`` and :math:`(\beta_1, \beta_2)` = ``betas``:

    .. math::
        m_p &\leftarrow \beta_1^{(k-\tau_p)/P} m_p + (1 - \beta_1^{(k-\tau_p)/P}) \, g \\
        v_p &\leftarrow \beta_2^{(k-\tau_p)/P} v_p + (1 - \beta_2^{(k-\tau_p)/P}) \, g \odot g \\
        g_\text{current} &= \frac{m_p / (1 - \beta_1^{k/P})}{\sqrt{\varepsilon + v_p / (1 - \beta_2^{k/P})}} \\
        w &\leftarrow (1 - \alpha \lambda) \, w - \alpha \Big( g_\text{current} - \hat g_p
            + \frac{1}{\max(1, \operatorname{card} \Gamma)} \sum_{\gamma \in \Gamma} \hat g_\gamma \Big) \\
        \hat g_p &\leftarrow g_\text{current}

    ``path_adam=False`` takes :math:`g_\text{current} = g`. ``saga`` in [0, 1] multiplies the two memory terms:
    1 is the paper, 0 leaves them out. Both off is stochastic gradient descent, P-Adam off with P-SAGA on is
    plain SAGA over paths. With ``n_paths=1`` the memory terms cancel and the optimizer is AdamW with epsilon
    inside the root; this is also the way to run plain Adam on random paths, the paper's ablation without P-Adam.

    **Estimators.** The paper's update is biased where paths are not drawn uniformly, on purpose, and before all
    are visited. With ``unbiased=True``, :math:`\omega_p = 1/(P \pi_p)` = ``weight`` and :math:`s` = ``saga``,

    .. math:: w \leftarrow (1 - \alpha \lambda) \, w - \alpha \Big( \omega_p (g_\text{current} - s \hat g_p)
              + \frac{s}{P} \sum_\gamma \hat g_\gamma \Big) ,

    whose mean over the draw is that of :math:`g_\text{current}` over all paths with equal votes, at any step.
    Pass ``weight=sampler.weight(p)`` to ``step`` or ``set_path``, and leave the loss unweighted.

    **Which path.** ``step(path_idx=p)``, or ``set_path(p)`` beforehand where a trainer calls ``step``
    without arguments. With ``n_paths=1`` neither is needed.

    **Unlike losses.** With P-Adam every path has an equal vote, whatever the size of its gradient. That suits many
    paths alike, but changes the objective of a few unlike terms (the residuals of a physics-informed network):
    those that a trivial solution satisfies outvote the others, and weights of terms do nothing. Take Adam on the
    sum of the terms where that is affordable, else ``path_adam=False, weight_decay=0`` with a learning rate as for
    gradient descent, or an ``eps`` far above the squared gradients.

    **Scale.** Gradients of scattering losses are tiny. Each path's root is kept in a unit of its own, a power of
    two, and ``eps`` is 0 by default, on purpose: the update does not depend on the scale of the loss, for any
    finite gradients, and 0/0 is 0. (In float32, entries under 1e-28 of the path's largest gradient get updates
    that are too small. Without P-Adam, rows hold gradients as they are: keep those within 1e-30 to 1e30.)
    Adam's 1e-8 is the floor of gradients of 1e-4 and would stop all learning
    here; scrapl-loss's 1e-8 outside the root, on gradients multiplied by 1e8, is about ``eps=1e-32``.

    **Memory.** A path has a row of two tensors: :math:`\hat g_p` (``update.p``) and the root (``rms.p``), from
    which the moments follow. It is allocated when the path is first drawn. Besides there is one running sum
    (``saga_sum``), so that a step costs the same for any number of paths. ``storage`` says how rows are kept:
    ``"float32"`` takes 8 bytes per parameter and drawn path, ``"bfloat16"`` 4 and ``"int8"`` about 2.03
    (tensors under 4096 entries stay in full), both rounded stochastically; the sum takes 4. With ``"-host"``
    appended, rows are in (pinned) host memory; ``set_path`` before the forward pass fetches the next. Arithmetic
    is in the parameter's dtype, at least float32. The state of a parameter is a view of memory that parameters
    share. ``step`` (last visit of each path) and ``scale`` (unit) have shape ``(n_paths,)``.

    **Checkpoints.** A state dict shares rows with the optimizer: save it, or deepcopy it, before the next step.
    Rows of paths never drawn are zeros without memory there, which safetensors refuses and nothing can be written
    into: call :meth:`materialize` first, also before torch.distributed.checkpoint loads into an optimizer that has
    stepped. FullyShardedDataParallel (FSDP1) cannot gather the state, FSDP2 (``fully_shard``) can. Entries that
    others add to ``optimizer.state``, or to the state of a parameter, are kept as torch's optimizers keep them.

    **Devices.** Rows and sums are on their parameter's device (rows of ``"-host"`` on the host), clocks on the
    CPU. Clocks that a trainer has moved are taken back at the next step.

    **Hyperparameters** are read from the group, and checked, at each step; a tensor ``lr`` on an accelerator is
    not checked then, since reading it would wait for the device. Numbers of NumPy, and tensors other than ``lr``,
    become Python's. New ``betas`` and ``eps`` act from then on, ``saga`` can be scheduled if it starts above 0.
    ``path_adam``, ``storage`` and ``n_paths`` cannot change.

    **Clocks** tick once per ``step``, for the parameters that have a gradient, like Adam's.

    **Several paths in one step** (``PathSampler.sample``): :meth:`add_path` after the backward pass of each, then
    ``step()``. Or count bundles of paths as paths: the loss of a step is then that of a bundle, and its row the
    bundle's.

    **Non-finite gradients** are found before anything is changed,
    at the price of one reduction and, on an accelerator, one synchronisation per step. A NaN in the row of one
    path would otherwise reach all paths through the mean, and stay. GradScaler finds them first and does
    not call ``step``.

    Args:
        params: parameters, named parameters or parameter groups.
        n_paths: number of paths :math:`P`, the same in all groups.
        lr: learning rate, a float or a one-element tensor.
        betas: decay rates of the moments, in ``[0, 1)``, per ``n_paths`` steps.
        eps: :math:`\varepsilon`, inside the root, in the square of the unit of the gradient.
        weight_decay: decoupled weight decay, as in :class:`torch.optim.AdamW`.
        path_adam: whether to use P-Adam.
        saga: strength of P-SAGA.
        unbiased: whether to weight paths and take the mean of the memory over all of them.
        storage: ``"float32"``, ``"bfloat16"`` or ``"int8"``, with ``"-host"`` for rows in host memory.
            (``"bfloat16-nearest"`` and ``"int8-nearest"`` do without stochastic rounding, for comparison.)
        maximize: whether to maximize the loss.
        foreach: ``False`` updates one parameter after the other, ``True`` and ``None`` many together.
        nonfinite: ``"raise"`` a RuntimeError for a gradient with inf or NaN, or ``"skip"`` the step, as
            GradScaler does. Neither moves a parameter, a clock or a row.

    Raises:
        ValueError: if a hyperparameter is out of its domain.
        TypeError: if ``n_paths`` is not an integer.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = PathAdamSAGA([weight], n_paths=2, lr=0.1, weight_decay=0.0)
        >>> (weight * torch.tensor([1e-12, -1e-12])).sum().backward()
        >>> optimizer.step(path_idx=0)
        >>> weight.detach()
        tensor([0.9000, 1.1000])

    Source: SCRAPL, Sections 3.2 and 3.3, equations (6) to (9), Algorithm 1; decoupled weight decay after
    Loshchilov and Hutter (2019).
    """

    def __init__(
        self,
        params: ParamsT,
        n_paths: int,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.0,
        weight_decay: float = 0.01,
        *,
        path_adam: bool = True,
        saga: float = 1.0,
        unbiased: bool = False,
        storage: str = "float32",
        maximize: bool = False,
        foreach: bool | None = None,
        nonfinite: str = "raise",
    ) -> None:
        refuse_paths(n_paths)
        defaults = {
            "n_paths": checks.as_int(n_paths, "n_paths"),
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "path_adam": path_adam,
            "saga": saga,
            "unbiased": unbiased,
            "storage": storage,
            "maximize": maximize,
            "foreach": foreach,
            "nonfinite": nonfinite,
        }
        defaults |= checks.plain_hyperparameters(defaults)
        checks.check_hyperparameters(defaults)
        checks.check_params(params)
        self._start()
        super().__init__(params, defaults)
        self._register_hooks()

    def _start(self) -> None:
        # A list, since wrappers of trainers copy attributes and must see the same announcement.
        self._announced: list[_Announced] = []
        self._parts: list[Part] = []
        self._rows = RowFetcher()
        self._plans: dict[int, steps.Plan] = {}
        self._scratch = Scratch()
        self._checked: dict[int, tuple[Any, ...]] = {}
        # Clocks of state dicts that may still be around, with their content.
        self._snapshots = WeakIdKeyDictionary()
        self._clocks: steps.Clocks = WeakIdKeyDictionary()
        self._awaits_load = False

    def _register_hooks(self) -> None:
        # Functions without a reference to the optimizer: a cycle would keep all rows until it is collected.
        self.register_state_dict_pre_hook(state_dict.before_state_dict)  # type: ignore[arg-type]
        self.register_state_dict_post_hook(state_dict.after_state_dict)  # type: ignore[arg-type]
        self.register_load_state_dict_pre_hook(state_dict.before_load)  # type: ignore[arg-type]
        self.register_load_state_dict_post_hook(state_dict.after_load)

    def __getstate__(self) -> dict[str, Any]:
        self._rows.wait()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called by load_state_dict as well as by pickle and deepcopy, which keep no other attributes.
        unpickled = "_announced" not in self.__dict__
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                if key != "differentiable":
                    group.setdefault(key, value)
        if unpickled:
            self._start()
            self._register_hooks()
            self._know_clocks()
        self._rows.forget()
        self._plans.clear()
        self._parts.clear()
        self._awaits_load = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; its state starts at its first gradient.

        Raises:
            ValueError: if a hyperparameter is out of its domain or ``n_paths`` is not the optimizer's.
            TypeError: if it is not a dict with parameters.
        """
        if isinstance(param_group, dict):
            plain = checks.plain_hyperparameters(param_group)
            group = {**self.defaults, **param_group, **plain}
            checks.check_hyperparameters(group)
            checks.check_n_paths(group["n_paths"], self.defaults["n_paths"])
            checks.check_params(group.get("params"))
            param_group = {**param_group, **plain}
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; nothing changes if it does not fit.

        Raises:
            TypeError, ValueError: it is not one of the same parameters, paths and kind of state.
        """
        state_dict_checks.check_structure(self, state_dict)
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def materialize(self) -> None:
        """Allocate the state of all parameters and paths, drawn or not, as zeros.

        A path otherwise takes memory when it is first drawn, and a state dict lists zeros without memory for it,
        which cannot be written to and which safetensors refuses. After this call every tensor of
        ``state_dict()`` has memory of its own: for such formats, for what writes into a state dict in place
        (broadcasts, torch.distributed.checkpoint into an optimizer that has drawn other paths), or to learn
        before training whether the memory suffices. No later step or result changes. It costs what training
        takes once all paths are drawn: ``(2 n_paths + 1) * 4`` bytes with P-Adam, P-SAGA and ``storage="float32"``
        for each entry of a parameter that requires a gradient. ``load_state_dict`` frees rows of paths never drawn
        again. What was written into a state dict counts after ``load_state_dict`` of that state dict, since clocks
        are copies in it.

        Raises:
            RuntimeError: if the memory does not suffice; allocated rows stay.

        Example:
            >>> weight = torch.nn.Parameter(torch.ones(2))
            >>> optimizer = PathAdamSAGA([weight], n_paths=3)
            >>> optimizer.materialize()
            >>> sorted(optimizer.state_dict()["state"][0])
            ['rms.0', 'rms.1', 'rms.2', 'saga_sum', 'scale', 'step', 'update.0', 'update.1', 'update.2']
        """
        checks.check_groups(self.param_groups, self.defaults["n_paths"], self._checked)
        clocks: dict[str, Tensor] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.requires_grad and not path_state.has_started(self.state[p]):
                    path_state.init_state(self.state[p], p, group, clocks)
        self._awaits_load = False
        self._take_clocks_home()
        self._know_clocks()
        state_dict.complete_rows(self)

    def expected_bytes(self, n_drawn: int | None = None) -> int:
        r"""Return the bytes that the state takes once paths were drawn, before it takes them.

        With :math:`P` paths, :math:`D` of them drawn, and :math:`N_i` entries of parameter i, which requires a
        gradient,

        .. math:: 16 P + \sum_i (D r + 4) N_i , \qquad r = 8, 4, 2.03

        for ``storage`` float32, bfloat16 and int8 and parameters of at most 32 bits, where those that int8 keeps
        in full have r = 8. Without P-Adam r is half of it; with one path or ``saga=0`` there is no sum, for which
        the 4 stands, and without both r = 0. The result is exact. Of sharded parameters (FSDP2) it counts this
        rank's part. Gradients of :meth:`add_path`, and what a step takes besides the state, are not in it.

        Args:
            n_drawn: D, how many different paths are drawn; by default all.

        Raises:
            TypeError: if ``n_drawn`` is not an integer.
            ValueError: if it is not from 0 to ``n_paths``, or a hyperparameter is out of its domain.

        Example:
            >>> weight = torch.nn.Parameter(torch.ones(1000, 1000))
            >>> PathAdamSAGA([weight], n_paths=315).expected_bytes()  # 2524 for each entry, and 5040
            2524005040
        """
        n_paths = self.defaults["n_paths"]
        n_rows = n_paths if n_drawn is None else checks.as_int(n_drawn, "n_drawn")
        if not 0 <= n_rows <= n_paths:
            raise ValueError(f"Invalid n_drawn: {n_drawn!r}; expected from 0 to all {n_paths} paths")
        checks.check_groups(self.param_groups, n_paths, self._checked)
        total, clocks = 0, set()
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.get(p, {})
                started = path_state.has_started(state)
                if not (started or p.requires_grad):
                    continue
                has_sum = "saga_sum" in state if started else path_state.keeps_sum(group)
                row, saga_sum = path_state.bytes_taken(p, group, has_sum)
                total += n_rows * row + saga_sum
                clocks.add(id(state["step"]) if started else None)
        return total + len(clocks) * n_paths * path_state.CLOCK_BYTES

    def __repr__(self) -> str:
        shown = super().__repr__()
        try:
            taken = path_state.bytes_text(self.expected_bytes())
        except (KeyError, TypeError, ValueError, RuntimeError):  # which is the next step's to report
            return shown
        host = any(group["storage"].endswith("-host") for group in self.param_groups)
        where = ", rows in host memory" if host else ""
        return f"{shown}\nState once all {self.defaults['n_paths']} paths were drawn: {taken}{where}"

    def set_path(self, path_idx: PathIdx, weight: float | None = None) -> None:
        """Announce the path, and its importance weight, of the next ``step``, which uses them once.

        For trainers that call ``step(closure)`` and pass nothing else, and, called before the forward pass,
        for rows kept on the host, which are fetched meanwhile. The last announcement counts;
        ``step(path_idx=...)`` takes precedence and uses it up; its weight serves if the path is the
        same. :meth:`add_path` uses it up, too. It is not part of the state dict, of pickles or of copies.

        Raises:
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if it is not in ``[0, n_paths)``.
            ValueError: if ``weight`` is not finite and positive.
        """
        path = checks.as_path_idx(path_idx, self.defaults["n_paths"])
        checks.check_weight(weight, self.param_groups)
        self._announced[:] = [_Announced(path, weight)]
        self._rows.forget()
        for index, plan in self._plans.items():
            if index < len(self.param_groups):
                steps.fetch_rows(plan, self._rows, path)

    @torch.no_grad()
    def add_path(self, path_idx: PathIdx | None = None, weight: float | None = None) -> None:
        r"""Take the gradients that the parameters hold as those of one path of the next ``step``, and clear them.

        For steps of several paths whose gradients come one after the other, each on the whole batch, or each on a
        part of it at the price of one::

            for path in sampler.sample(step, 4):
                loss_fn(model(x), x, path).backward()
                optimizer.add_path(path)
            optimizer.step()

        With :math:`K` draws :math:`p_1, \dots, p_K` the step k is

        .. math:: w \leftarrow (1 - \alpha \lambda) \, w - \alpha \Big( \frac{1}{K} \sum_i \omega_{p_i}
                  (g_{\text{current}, p_i} - s \hat g_{p_i}) + s \, \bar g \Big) ,

        where :math:`\bar g` is the mean of the memory before the step, and then each path updates its own row:
        one tick of the clock, one decay, one update of the parameters. A path that was drawn n times counts n
        times, with the mean of its n gradients. With ``unbiased=True`` and weights of independent or stratified
        draws, the mean of the step over the draws is that of one draw. A parameter that has a gradient for some of
        the paths counts as having a zero gradient for the others.

        Gradients wait in memory of their own, K times that of the parameters, so that ``step`` checks all before
        it changes anything; it uses them up, also if it raises an error, and :meth:`drop_paths` forgets them. They
        are no part of state dicts or copies, and loading one forgets them, too. GradScaler, which looks for
        gradients at the parameters, finds none: use bfloat16, or one path per step.

        Args:
            path_idx: path of the gradients; the announced one (:meth:`set_path`) if ``None``.
            weight: importance weight of the path, with ``unbiased=True``; the announced one, or 1, if ``None``.

        Raises:
            RuntimeError: if no parameter has a gradient, one is sparse, or the path is not known.
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if it is not in ``[0, n_paths)``.
            ValueError: if ``weight`` is not usable, or differs from that of an earlier draw of the path.

        Example:
            >>> weight = torch.nn.Parameter(torch.zeros(2))
            >>> optimizer = PathAdamSAGA([weight], n_paths=3, lr=0.1, weight_decay=0.0)
            >>> for path in (0, 2):
            ...     (weight * (path + 1.0)).sum().backward()
            ...     optimizer.add_path(path)
            >>> optimizer.step()
            >>> optimizer.state[weight]["step"], weight.detach()
            (tensor([1, 0, 1]), tensor([-0.1000, -0.1000]))
        """
        path, weight = self._resolve_path(path_idx, weight)
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            raise RuntimeError(
                f"no gradient for path {path}, expected those of its loss; call backward() before add_path()"
            )
        Gradients(self.param_groups)  # refuses what no step could take
        check_draw(self._parts, path, weight)
        # Copies: DDP and trainers write the next gradients into the same memory.
        grads = {p: p.grad.clone() for p in params if p.grad is not None}
        self._parts = with_draw(self._parts, path, weight, grads)
        for p in params:
            p.grad = None
        self._announced.clear()

    def drop_paths(self) -> None:
        """Forget the gradients that :meth:`add_path` took, for a step that is given up.

        ``zero_grad`` leaves them alone, since it may come before each of the backward passes of a step.
        """
        self._parts.clear()

    def _parts_of_step(self, parts: list[Part], path_idx: PathIdx | None, weight: float | None) -> list[Part]:
        """Return what :meth:`add_path` took, completed by zeros, or else the one path of this step."""
        if not parts:
            return [Part(*self._resolve_path(path_idx, weight))]
        if path_idx is not None or weight is not None or self._announced:
            raise RuntimeError(
                f"Invalid path_idx: {path_idx!r} after add_path; expected step() alone, since the paths of the "
                "step are known; name the path of each backward pass in add_path(...)"
            )
        params = [p for group in self.param_groups for p in group["params"]]
        if any(p.grad is not None for p in params):
            raise RuntimeError(
                "a parameter has a gradient that belongs to none of the paths added; call add_path(...) after "
                "each backward pass, or zero_grad()"
            )
        return completed(parts)

    def _resolve_path(self, path_idx: PathIdx | None, weight: float | None) -> _Announced:
        n_paths = self.defaults["n_paths"]
        checks.check_weight(weight, self.param_groups)
        path = None if path_idx is None else checks.as_path_idx(path_idx, n_paths)
        if self._announced and path in (None, self._announced[0].path):
            announced = self._announced[0]
            return announced if weight is None else _Announced(announced.path, weight)
        if path is not None:
            return _Announced(path, weight)
        if n_paths == 1:
            return _Announced(0, weight)
        raise RuntimeError(
            f"no path for this step: with n_paths={n_paths}, call step(path_idx=...), or set_path(...) "
            "once before each step"
        )

    def _is_state_init(self, path_idx: PathIdx | None) -> bool:
        """Whether this ``step`` is torch.distributed.checkpoint creating the state to load into.

        It calls ``step`` with lr 0 and zero gradients on an empty state. A step like that changes
        nothing, so only the clocks tell the difference.
        """
        if path_idx is not None or self._announced:
            return False
        params = [p for group in self.param_groups for p in group["params"]]
        if any(path_state.has_started(self.state.get(p)) for p in params):
            return False
        grads = [p.grad for p in params if p.grad is not None]
        zero_lr = all(float(group["lr"]) == 0.0 for group in self.param_groups)
        return zero_lr and bool(grads) and not any(bool(grad.any()) for grad in grads)

    def _init_group(self, group: dict[str, Any], clocks: dict[str, Tensor]) -> _Members:
        """Return the parameters of ``group`` that have a gradient and their states, which then exist."""
        params = [p for p in group["params"] if p.grad is not None]
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not path_state.has_started(state):
                path_state.init_state(state, p, group, clocks)
        return _Members(params, states)

    def _take_clocks_home(self) -> None:
        """Have all clocks on the CPU, also of parameters that do not step now and may share them."""
        started = [s for key, s in self.state.items() if isinstance(key, Tensor) and path_state.has_started(s)]
        if all(steps.at_home(key, started) for key in path_state.CLOCKS):
            return
        params = [p for group in self.param_groups for p in group["params"]]
        started = [p for p in params if path_state.has_started(self.state.get(p))]
        steps.take_clocks_home(started, [self.state[p] for p in started], self._clocks)

    def _know_clocks(self) -> None:
        """Remember the clocks of all parameters, for when others move them where numbers are lost."""
        for p, state in self.state.items():
            if isinstance(p, Tensor) and path_state.has_started(state):
                self._clocks[p] = {key: state[key] for key in path_state.CLOCKS}

    @overload
    def step(
        self, closure: None = None, *, path_idx: PathIdx | None = None, weight: float | None = None
    ) -> None: ...

    @overload
    def step(
        self, closure: Callable[[], _Loss], *, path_idx: PathIdx | None = None, weight: float | None = None
    ) -> _Loss: ...

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        path_idx: PathIdx | None = None,
        weight: float | None = None,
    ) -> Any:
        """Update the parameters with the gradient of one path.

        Args:
            closure: evaluates the model again and returns the loss; it may call :meth:`set_path`.
            path_idx: path of the loss, an integer or a 0-dim integer tensor (on an accelerator, reading
                one synchronises); the announced one if ``None``. Left out after :meth:`add_path`.
            weight: importance weight of the path, with ``unbiased=True``. If ``None``, the one announced for this
                path, or 1.

        Returns:
            The closure's loss, or ``None``.

        Raises:
            RuntimeError: if the path is not known, a gradient is sparse or belongs to no path added, or
                (``nonfinite="raise"``) has an inf or a NaN; nothing has changed then.
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if ``path_idx`` is not in ``[0, n_paths)``.
            ValueError: if ``weight`` is not finite and positive, or not 1 without ``unbiased=True``; if a
                hyperparameter of a group was set to a value out of its domain.
        """
        loss = None
        if closure is not None:
            checks.check_closure(closure)
            with torch.enable_grad():
                loss = closure()
        batches = self._prepare(path_idx, weight)
        if torch.compiler.is_compiling():
            works = self._for_compiler(batches)
            for slot, dtype, coefficients in works:
                update_formula(slot, dtype, coefficients)
            self._finish_compiled(batches, works)
        else:
            for batch in batches:
                steps.run(batch, self._scratch)
        self._finish(batches)
        return loss

    @torch._disable_dynamo
    def _prepare(self, path_idx: PathIdx | None, weight: float | None) -> list[steps.Batch]:
        """Check everything, then advance the clocks; returns what is left to compute, path by path."""
        added, self._parts = self._parts, []
        checks.check_groups(self.param_groups, self.defaults["n_paths"], self._checked)
        clocks: dict[str, Tensor] = {}
        if self._is_state_init(path_idx):
            for group in self.param_groups:
                self._init_group(group, clocks)
            state_dict.complete_rows(self)
            self._awaits_load = True
            return []
        parts = self._parts_of_step(added, path_idx, weight)
        gradients = []
        for part in parts:
            with part.handed_out():
                found = Gradients(self.param_groups)
                if not found.usable(part.path):
                    self._announced.clear()
                    return []
                gradients.append(found)
        with parts[0].handed_out():
            return self._batches(parts, gradients, clocks)

    def _batches(
        self, parts: list[Part], gradients: list[Gradients], clocks: dict[str, Tensor]
    ) -> list[steps.Batch]:
        """Create what states and rows are missing, then advance the clocks: one update for each path."""
        if self._awaits_load:
            state_dict.drop_rows(self)
            self._awaits_load = False
        self._take_clocks_home()
        groups = [self._init_group(group, clocks) for group in self.param_groups]
        steps.part_clocks([state for members in groups for state in members.states], self.state)
        arenas = [self._arenas(i, members) for i, members in enumerate(groups)]
        together = list(itertools.chain(*arenas))
        largest_eps = max(group["eps"] for group in self.param_groups)
        n_draws = sum(part.n_draws for part in parts)
        visits = [
            steps.next_visits(together, part.path, found, largest_eps)
            for part, found in zip(parts, gradients, strict=True)
        ]
        batches = []
        for i, (part, visit) in enumerate(zip(parts, visits, strict=True)):
            turn = steps.Turn(part.path, part.weight, part.n_draws / n_draws, i == 0, i == len(parts) - 1)
            batches += [
                steps.make_batch(group, arena, visit, self._rows, turn, part.grads)
                for group, members in zip(self.param_groups, arenas, strict=True)
                for arena in members
            ]
        # What can fail, for want of memory or for a wrong hyperparameter, has had its chance.
        for part, visit in zip(parts, visits, strict=True):
            steps.tick_all(together, part.path, visit)
        for batch in batches:
            steps.change_unit(batch)
        return batches

    def _arenas(self, index: int, members: _Members) -> list[Arena]:
        group, plan = self.param_groups[index], self._plans.get(index)
        if plan is None or not plan.fits(*members, group):
            self._rows.forget()
            if plan is not None:
                steps.part_missing(plan, members.params)
            self._plans[index] = plan = steps.make_plan(group, *members, self._clocks)
        return plan.arenas

    @torch._disable_dynamo
    def _for_compiler(self, batches: list[steps.Batch]) -> list[steps.CompilerWork]:
        """Return what the compiler computes: all of a step of one path, nothing of one of several."""
        if all(batch.is_alone for batch in batches):
            return [steps.compiler_work(batch) for batch in batches]
        for batch in batches:  # an update starts from the weights that the last one left
            steps.run(batch, self._scratch)
        return []

    @torch._disable_dynamo
    def _finish_compiled(self, batches: list[steps.Batch], works: list[steps.CompilerWork]) -> None:
        if works:
            for batch, work in zip(batches, works, strict=True):
                steps.copy_back(batch.arena, work.slot)

    @torch._disable_dynamo
    def _finish(self, batches: list[steps.Batch]) -> None:
        """Keep what the update leaves to keep."""
        steps.finish(batches, self._rows)
        self._announced.clear()
        self._rows.forget()
