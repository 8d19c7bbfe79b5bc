"""P-Adam and P-SAGA: Adam moments and a gradient memory for every path (SCRAPL, Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar, overload

import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim import _validation as checks
from scrapl_optim._path_adam_saga import buckets, chunks, clocks, hyperparameters, rows, state_dict
from scrapl_optim._path_adam_saga.buckets import Bucket, Members
from scrapl_optim._path_adam_saga.chunks import CompiledUpdate, Scratch, Update
from scrapl_optim._path_adam_saga.clocks import ClockId, Visit
from scrapl_optim._path_adam_saga.gradients import Gradients
from scrapl_optim._path_adam_saga.hyperparameters import value_of, without_new_defaults
from scrapl_optim._path_adam_saga.offload import RowFetcher
from scrapl_optim._path_adam_saga.several_paths import Draw, check_draw, completed, with_draw
from scrapl_optim._path_adam_saga.state_dict import check_structure
from scrapl_optim._text import bytes_text
from scrapl_optim._validation import refuse_paths

__all__ = ["PathAdamSAGA"]

PathIdx = SupportsIndex | Tensor
_Loss = TypeVar("_Loss")


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

    With ``path_adam=False``, :math:`g_\text{current} = g`. ``saga`` in [0, 1] multiplies the two memory terms: 1
    is the paper, 0 leaves them out. With both off this is stochastic gradient descent, and with ``n_paths=1``
    AdamW with epsilon inside the root. With ``unbiased=True``, :math:`\omega_p = 1/(P \pi_p)` = ``weight`` and
    :math:`s` = ``saga``,

    .. math:: w \leftarrow (1 - \alpha \lambda) \, w - \alpha \Big( \omega_p (g_\text{current} - s \hat g_p)
              + \frac{s}{P} \sum_\gamma \hat g_\gamma \Big) ,

    whose mean over the draw is that of :math:`g_\text{current}` over all paths, at any step and for any
    distribution.

    **Draws that are not uniform.** Theta-importance draws paths with probabilities :math:`\pi` = ``probs`` so that
    each counts by its own in the objective. The paper's mean over :math:`\Gamma` does not: every path there counts
    alike. With ``probs`` the memory is weighted by them,

    .. math:: w \leftarrow (1 - \alpha \lambda) \, w - \alpha \Big( g_\text{current} - s \hat g_p
              + s \sum_\gamma \pi_\gamma \hat g_\gamma \Big) ,

    and the mean of the step over the draw is :math:`\sum_\gamma \pi_\gamma g_{\text{current}, \gamma}`, at any
    step. Paths that were never drawn count as zero: with uniform ``probs`` this is the mean over all paths, not
    over :math:`\Gamma`. With ``clocks_by_probs=True`` the exponents are :math:`(k - \tau_p) \pi_p` and
    :math:`k \pi_p`, those of the paper where draws are uniform. The moments of all paths then average over the
    same number of visits, where with :math:`(k - \tau_p) / P` those of a path that is drawn more often average
    over more. Groups may get new ``probs``: the next step, or state dict, forms the sum again from all rows.

    The path is that of ``step(path_idx=p)``, or of ``set_path(p)`` before it where a trainer calls ``step``
    without arguments; :meth:`add_path` is for several paths in one step. A path takes memory when it is first
    drawn (:meth:`expected_bytes`). A state dict shares it: save it, or deepcopy it, before the next step.
    Hyperparameters are read from the groups and checked at each step; ``path_adam``, ``storage`` and ``n_paths``
    cannot change.

    **The first visit** of a path is an update of full size, its root mean square 1 as the first moment is a single
    gradient. Once that is an average of n gradients of little more than noise, updates are smaller,
    :math:`1 / \sqrt n`. With ``path_warmup`` :math:`= n_0 > 1`, (8) is multiplied by
    :math:`\sqrt{\min(1, n / n_0)}` at the n-th visit of each path: updates of noise have one size in its first
    :math:`n_0` visits, and all updates are P-Adam's from then on.

    **Unlike losses.** Every path has an equal vote, whatever the size of its gradient. A few unlike terms, such as
    the residuals of a physics-informed network, lose their proportions by that: use Adam on their sum, or
    ``path_adam=False, weight_decay=0`` with a learning rate as for gradient descent.

    **Tiny gradients.** Scattering losses often have gradients below 1e-10, whose squares underflow in float32. The
    second moment of each path is therefore stored relative to a power of two that its first gradient sets
    (``state["scale"]``), and ``eps`` is 0 by default. So multiplying the loss by a constant changes nothing, and a
    zero gradient gives a zero update. Do not set Adam's 1e-8: it would exceed the root and stop learning.

    Args:
        params: parameters, named parameters or parameter groups.
        n_paths: number of paths :math:`P`, the same in all groups.
        lr: learning rate, a float or a one-element tensor.
        betas: decay rates of the moments, in ``[0, 1)``, per ``n_paths`` steps.
        eps: :math:`\varepsilon`, inside the root, in the square of the unit of the gradient.
        weight_decay: decoupled weight decay, as in :class:`torch.optim.AdamW`.
        path_adam: True for P-Adam.
        saga: strength of P-SAGA.
        unbiased: True to weight paths and to take the mean of the memory over all of them.
        probs: :math:`\pi`, shape ``(n_paths,)``, non-negative with sum one: what paths are drawn from, any floor
            included, as ``probs`` of a :class:`PathSampler` are. A path of probability 0 cannot be drawn.
        memory_by_probs: False leaves the memory as it is without ``probs``.
        clocks_by_probs: True for decay rates per :math:`1 / \pi_p` steps.
        path_warmup: :math:`n_0`, number of visits in which the updates of a path grow to their full size; 0 for
            the paper's. The count of visits takes 8 bytes for each path.
        storage: ``"float32"`` (8 bytes for each parameter and drawn path), ``"bfloat16"`` (4) or ``"int8"``
            (2.03); the last two round stochastically. :mod:`scrapl_optim.experimental` has others.
        maximize: True to maximize the loss.
        foreach: ``False`` updates one parameter after the other, ``True`` and ``None`` many together.
        nonfinite: ``"raise"`` a RuntimeError for a gradient with inf or NaN, or ``"skip"`` the step, as
            GradScaler does. Neither moves a parameter, a clock or a row. This costs one reduction per step.

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
        probs: npt.ArrayLike | Tensor | None = None,
        memory_by_probs: bool = True,
        clocks_by_probs: bool = False,
        path_warmup: float = 0.0,
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
            "probs": probs,
            "memory_by_probs": memory_by_probs,
            "clocks_by_probs": clocks_by_probs,
            "path_warmup": path_warmup,
            "storage": storage,
            "maximize": maximize,
            "foreach": foreach,
            "nonfinite": nonfinite,
        }
        hyperparameters.warn_of_storage(defaults)
        defaults |= hyperparameters.plain_hyperparameters(defaults)
        hyperparameters.check_hyperparameters(defaults)
        hyperparameters.check_params(params)
        self._start()
        super().__init__(params, without_new_defaults(defaults))
        self._register_hooks()

    def _start(self) -> None:
        # A list, since wrappers of trainers copy attributes and must see the same announcement.
        self._announced: list[Draw] = []
        self._added: list[Draw] = []
        self._fetcher = RowFetcher()
        self._scratch = Scratch()
        self._members: list[Members] = []
        self._checked: dict[int, tuple[Any, ...]] = {}
        # The weights by which the sums of each group were formed.
        self._sum_weights: list[tuple[float, ...] | None] = []
        # Clocks of state dicts that may still be around, with their content.
        self._snapshots = WeakIdKeyDictionary()
        self._known_clocks: clocks.KnownClocks = WeakIdKeyDictionary()
        self._awaits_load = False

    def _register_hooks(self) -> None:
        # Functions without a reference to the optimizer: a cycle would keep all rows until it is collected.
        self.register_state_dict_pre_hook(state_dict.before_state_dict)  # type: ignore[arg-type]
        self.register_state_dict_post_hook(state_dict.after_state_dict)  # type: ignore[arg-type]
        self.register_load_state_dict_pre_hook(state_dict.before_load)  # type: ignore[arg-type]
        self.register_load_state_dict_post_hook(state_dict.after_load)

    def __getstate__(self) -> dict[str, Any]:
        self._fetcher.wait()
        self._form_sums()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called by load_state_dict as well as by pickle and deepcopy, which keep no other attributes.
        unpickled = "_announced" not in self.__dict__
        super().__setstate__(state)
        sum_weights = [rows.sum_weights(group) for group in self.param_groups]
        for group in self.param_groups:
            for key, value in self.defaults.items():
                if key != "differentiable":
                    group.setdefault(key, value)
        if unpickled:
            self._start()
            self._register_hooks()
            self._know_clocks()
        self._sum_weights = sum_weights
        self._fetcher.forget()
        self._members.clear()
        self._added.clear()
        self._awaits_load = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; its state starts at its first gradient.

        Raises:
            ValueError: if a hyperparameter is out of its domain or ``n_paths`` is not the optimizer's.
            TypeError: if it is not a dict with parameters.
        """
        if isinstance(param_group, dict):
            hyperparameters.warn_of_storage(param_group)
            plain = hyperparameters.plain_hyperparameters(param_group)
            group = {**self.defaults, **param_group, **plain}
            hyperparameters.check_hyperparameters(group)
            hyperparameters.check_n_paths(group["n_paths"], self.defaults["n_paths"])
            hyperparameters.check_params(group.get("params"))
            param_group = {**param_group, **plain}
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; nothing changes if it does not fit.

        Raises:
            TypeError, ValueError: it is not one of the same parameters, paths and kind of state.
        """
        check_structure(self, state_dict)
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
        hyperparameters.check_groups(self.param_groups, self.defaults["n_paths"], self._checked)
        self._take_clocks_home()
        self._create_states([[p for p in group["params"] if p.requires_grad] for group in self.param_groups])
        self._awaits_load = False
        self._know_clocks()
        state_dict.complete_rows(self)

    def expected_bytes(self, n_drawn: int | None = None) -> int:
        r"""Return the bytes that the state takes once paths were drawn, before it takes them.

        With :math:`P` paths, :math:`D` of them drawn, and :math:`N_i` entries of parameter i, which requires a
        gradient,

        .. math:: 16 P + \sum_i (D r + 4) N_i , \qquad r = 8, 4, 2.03

        for ``storage`` float32, bfloat16 and int8 and parameters of at most 32 bits, where those that int8 keeps
        in full have r = 8. Without P-Adam r is half of it; with one path or ``saga=0`` there is no sum, for which
        the 4 stands, and without both r = 0; with ``path_warmup`` 24 stands for 16. The result is exact. Of
        sharded parameters (FSDP2) it counts this rank's part. Gradients of :meth:`add_path`, and what a step takes
        besides the state, are not in it.

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
        hyperparameters.check_groups(self.param_groups, n_paths, self._checked)
        total, own_clocks = 0, dict[Any, int]()
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.get(p, {})
                started = clocks.has_started(state)
                if not (started or p.requires_grad):
                    continue
                has_sum = "saga_sum" in state if started else rows.keeps_sum(group)
                row, saga_sum = rows.bytes_taken(p, group, has_sum)
                total += n_rows * row + saga_sum
                counting = self._is_counting() or "visits" in state
                own_clocks[id(state["step"]) if started else None] = clocks.clock_bytes(n_paths, counting)
        return total + sum(own_clocks.values())

    def __repr__(self) -> str:
        shown = super().__repr__()
        try:
            taken = bytes_text(self.expected_bytes())
        except (KeyError, TypeError, ValueError, RuntimeError):  # which is the next step's to report
            return shown
        host = any(group["storage"].endswith("-host") for group in self.param_groups)
        where = ", rows in host memory" if host else ""
        return f"{shown}\nState once all {self.defaults['n_paths']} paths were drawn: {taken}{where}"

    def set_path(self, path_idx: PathIdx, weight: float | None = None) -> None:
        """Announce the path, and its importance weight, of the next ``step``, which uses them once.

        For trainers that call ``step(closure)`` and pass nothing else, and, called before the forward pass,
        for rows kept on the host, which are fetched meanwhile. The last announcement counts;
        ``step(path_idx=...)`` takes precedence and uses it up; its weight is used if the path is the
        same. :meth:`add_path` uses it up, too. It is not part of the state dict, of pickles or of copies.

        Raises:
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if it is not in ``[0, n_paths)``.
            ValueError: if ``weight`` is not finite and positive, or ``probs`` give the path the probability 0.
        """
        path = checks.as_path_idx(path_idx, self.defaults["n_paths"])
        hyperparameters.check_drawable(path, self.param_groups)
        hyperparameters.check_weight(weight, self.param_groups)
        self._announced[:] = [Draw(path, weight)]
        self._fetcher.forget()
        for members in self._members:
            for bucket in members.buckets:
                if bucket.layout.formats.host and bucket.has_row(path):
                    self._fetcher.fetch((id(bucket), path), bucket.row(path), bucket.device)

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
        draw = self._resolve_path(path_idx, weight)
        hyperparameters.check_drawable(draw.path, self.param_groups)
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not params:
            raise RuntimeError(
                f"Invalid gradient: none for path {draw.path}; expected those of its loss; call backward() before "
                "add_path()"
            )
        Gradients(self.param_groups)  # refuses what no step could take
        check_draw(self._added, draw)
        # Copies: DDP and trainers write the next gradients into the same memory.
        grads = {p: p.grad.clone() for p in params if p.grad is not None}
        self._added = with_draw(self._added, draw._replace(grads=grads))
        for p in params:
            p.grad = None
        self._announced.clear()

    def drop_paths(self) -> None:
        """Forget the gradients that :meth:`add_path` took, for a step that is given up.

        ``zero_grad`` leaves them alone, since it may come before each of the backward passes of a step.
        """
        self._added.clear()

    def _draws(self, added: list[Draw], path_idx: PathIdx | None, weight: float | None) -> list[Draw]:
        """Return the path of this step, or those that :meth:`add_path` took, completed by zeros."""
        if not added:
            return [self._resolve_path(path_idx, weight)]
        if path_idx is not None or weight is not None or self._announced:
            raise RuntimeError(
                f"Invalid path_idx: {path_idx!r} after add_path; expected step() alone, since the paths of the "
                "step are known; name the path of each backward pass in add_path(...)"
            )
        if any(p.grad is not None for group in self.param_groups for p in group["params"]):
            raise RuntimeError(
                "Invalid gradient: a parameter has one that belongs to none of the paths added; expected none; "
                "call add_path(...) after each backward pass, or zero_grad()"
            )
        return completed(added)

    def _resolve_path(self, path_idx: PathIdx | None, weight: float | None) -> Draw:
        n_paths = self.defaults["n_paths"]
        if weight is not None:
            hyperparameters.check_weight(weight, self.param_groups)
        path = None if path_idx is None else checks.as_path_idx(path_idx, n_paths)
        if self._announced and path in (None, self._announced[0].path):
            announced = self._announced[0]
            return announced if weight is None else announced._replace(weight=weight)
        if path is not None:
            return Draw(path, weight)
        if n_paths == 1:
            return Draw(0, weight)
        raise RuntimeError(
            f"Invalid path_idx: no path for this step; expected one of n_paths={n_paths}; call "
            "step(path_idx=...), or set_path(...) once before each step"
        )

    def _is_state_init(self) -> bool:
        """Return whether this ``step`` is torch.distributed.checkpoint creating the state to load into.

        It calls ``step`` with lr 0 and zero gradients on an empty state. A step like that changes
        nothing, so only the clocks tell the difference.
        """
        if self._started():
            return False
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        zero_lr = all(float(group["lr"]) == 0.0 for group in self.param_groups)
        return zero_lr and bool(grads) and not any(bool(grad.any()) for grad in grads)

    def _started(self) -> list[tuple[Tensor, clocks.State]]:
        """Return the parameters that have clocks, with their states."""
        params = [p for group in self.param_groups for p in group["params"]]
        return [(p, self.state[p]) for p in params if clocks.has_started(self.state.get(p))]

    def _take_clocks_home(self) -> None:
        """Have all clocks on the CPU, also of parameters that do not step now and may share them."""
        clocks.take_clocks_home(self._started(), self._known_clocks)

    def _know_clocks(self) -> None:
        """Remember the clocks of all parameters, for when others move them where numbers are lost."""
        for p, state in self._started():
            self._known_clocks[p] = clocks.clocks_of(state)

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
            ValueError: if ``weight`` is not finite and positive, or not 1 without ``unbiased=True``; if ``probs``
                give the path the probability 0; if a hyperparameter of a group was set out of its domain.
        """
        loss = None
        if closure is not None:
            hyperparameters.check_closure(closure)
            with torch.enable_grad():
                loss = closure()
        steps = self._prepare(path_idx, weight)  # check, visit, rows, tick
        if torch.compiler.is_compiling():
            compiled = self._for_compiler(steps)
            chunks.run_compiled(compiled)
            self._finish_compiled(steps, compiled)
        else:
            for update in steps:
                chunks.run(update, self._scratch)
        chunks.finish(steps, self._fetcher)
        return loss

    @torch._disable_dynamo
    def _prepare(self, path_idx: PathIdx | None, weight: float | None) -> list[Update]:
        """Check everything, then advance the clocks; return the updates of the step, path by path."""
        draws, gradients = self._check(path_idx, weight)
        if not draws:
            return []
        with draws[0].handed_out():
            groups = self._buckets()
        all_buckets = [bucket for in_group in groups for bucket in in_group]
        visits = [self._visit(draw, sizes, all_buckets) for draw, sizes in zip(draws, gradients, strict=True)]
        steps = [
            chunks.make_update(group, bucket, visit[bucket.clock_id], draw, self._fetcher)
            for draw, visit in zip(draws, visits, strict=True)
            for group, in_group in zip(self.param_groups, groups, strict=True)
            for bucket in in_group
        ]
        self._form_sums()
        # Anything that can fail, for want of memory or for a wrong hyperparameter, has failed by now.
        for draw, visit in zip(draws, visits, strict=True):
            for bucket in all_buckets:
                clocks.tick(bucket.clocks, draw.path, visit[bucket.clock_id])
        self._announced.clear()
        for update in steps:
            if update.unit_change != 1.0:
                chunks.change_unit(update)
        return steps

    def _check(self, path_idx: PathIdx | None, weight: float | None) -> tuple[list[Draw], list[Gradients]]:
        """Return the paths of the step and their gradients; none if the step is to be left out."""
        added, self._added = self._added, []
        hyperparameters.check_groups(self.param_groups, self.defaults["n_paths"], self._checked)
        if path_idx is None and not self._announced and self._is_state_init():
            self._create_states(
                [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
            )
            state_dict.complete_rows(self)
            self._awaits_load = True
            return [], []
        draws, gradients = self._draws(added, path_idx, weight), []
        for draw in draws:
            hyperparameters.check_drawable(draw.path, self.param_groups)
            with draw.handed_out():
                sizes = Gradients(self.param_groups)
            if not math.isfinite(sizes.bound):
                if any(group["nonfinite"] == "raise" for group in self.param_groups):
                    raise RuntimeError(
                        f"Invalid gradient: one of path {draw.path} has an inf or a NaN; expected finite values; "
                        "nothing was updated; look for it in the loss of this path, or leave such steps out with "
                        "nonfinite='skip'"
                    )
                self._announced.clear()
                return [], []
            gradients.append(sizes)
        return draws, gradients

    def _visit(self, draw: Draw, gradients: Gradients, all_buckets: list[Bucket]) -> dict[ClockId, Visit]:
        """Return the visits of a path in this step, by the clocks of the buckets."""
        visits: dict[ClockId, Visit] = {}
        eps = max(group["eps"] for group in self.param_groups)
        for bucket in all_buckets:
            if bucket.clock_id not in visits:
                # The unit must be one that all of them can hold.
                sharing = [b.layout.dtype for b in all_buckets if b.clock_id == bucket.clock_id]
                dtype = torch.float64 if set(sharing) == {torch.float64} else torch.float32
                visits[bucket.clock_id] = clocks.next_visit(bucket.clocks, draw.path, gradients, eps, dtype)
        return visits

    def _buckets(self) -> list[list[Bucket]]:
        """Return the buckets of the parameters of each group that have a gradient."""
        params = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        states = [[self.state[p] for p in in_group] for in_group in params]
        signatures = list(map(buckets.signature, self.param_groups, params, states))
        if (
            self._awaits_load
            or signatures != [members.signature for members in self._members]
            # Others may have moved or cast a clock in place.
            or not all(clocks.at_home(bucket.states[0]) for members in self._members for bucket in members.buckets)
        ):
            self._sort(params, states)
        return [members.buckets for members in self._members]

    def _sort(self, params: list[list[Tensor]], states: list[list[clocks.State]]) -> None:
        """Sort parameters into buckets, after creating the states that they lack."""
        if self._awaits_load:
            state_dict.drop_rows(self)
            self._awaits_load = False
        self._take_clocks_home()
        self._create_states(params)
        stepping = [state for their_states in states for state in their_states]
        clocks.part_clocks(stepping, [state for _, state in self._started()])
        self._fetcher.forget()
        for i, group in enumerate(self.param_groups):
            if i >= len(self._members):
                self._members.append(buckets.make_members(group, params[i], states[i], self._known_clocks))
            elif self._members[i].signature != buckets.signature(group, params[i], states[i]):
                buckets.set_apart(self._members[i], params[i])
                self._members[i] = buckets.make_members(group, params[i], states[i], self._known_clocks)
        del self._members[len(self.param_groups) :]

    def _create_states(self, params: list[list[Tensor]]) -> None:
        """Give the parameters of each group the states that they lack, with clocks that all of them share."""
        shared = clocks.new_clocks(self.defaults["n_paths"], self._is_counting())
        for group, in_group in zip(self.param_groups, params, strict=True):
            for p in in_group:
                if not clocks.has_started(self.state[p]):
                    rows.init_state(self.state[p], p, group, shared)
        if self._is_counting():
            clocks.count_visits([state for _, state in self._started()])

    def _is_counting(self) -> bool:
        """Return whether the clocks count visits; parameters share clocks, so that all do or none."""
        return any(value_of(group, "path_warmup") > 0 for group in self.param_groups)

    def _form_sums(self) -> None:
        """Form the sums of the memory again where others have changed the weights of the paths in it."""
        for i, group in enumerate(self.param_groups):
            weights = rows.sum_weights(group)
            if i == len(self._sum_weights):
                self._sum_weights.append(weights)
            elif weights is not self._sum_weights[i]:
                hyperparameters.check_groups([group], self.defaults["n_paths"], {})
                self._sum_weights[i], former = rows.sum_weights(group), self._sum_weights[i]
                params = group["params"] if self._sum_weights[i] != former else []
                self._fetcher.wait()
                for p in params:
                    if "saga_sum" in self.state.get(p, {}):
                        rows.refresh_sum(self.state[p], rows.row_layout(p, group, True), self._sum_weights[i])

    @torch._disable_dynamo
    def _for_compiler(self, steps: list[Update]) -> list[CompiledUpdate]:
        """Return what the compiler computes: all of a step of one path, nothing of one of several."""
        if all(update.is_alone for update in steps):
            return [chunks.for_compiler(update) for update in steps]
        for update in steps:  # each starts from the weights that the last one left
            chunks.run(update, self._scratch)
        return []

    @torch._disable_dynamo
    def _finish_compiled(self, steps: list[Update], compiled: list[CompiledUpdate]) -> None:
        if compiled:
            for update, result in zip(steps, compiled, strict=True):
                chunks.copy_back(update, result)
