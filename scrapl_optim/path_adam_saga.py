"""P-Adam and P-SAGA: Adam moments and a gradient memory for every path (SCRAPL, Algorithm 1)."""

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from scrapl_optim import path_state
from scrapl_optim._validation import as_int, as_path_idx, check_hyperparameters, gradients_usable
from scrapl_optim.functional import Rows, path_adam_saga

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

    ``path_adam=False`` takes :math:`g_\text{current} = g`; ``path_saga=False`` leaves out the two
    memory terms. Both off is stochastic gradient descent, P-Adam off with P-SAGA on is plain SAGA over
    paths. With ``n_paths=1`` the memory terms cancel and the optimizer is AdamW with epsilon inside the
    root; this is also the way to run plain Adam on random paths, the paper's ablation without P-Adam.

    **Which path.** ``step(path_idx=p)``, or ``set_path(p)`` beforehand where a trainer calls ``step``
    without arguments. With ``n_paths=1`` neither is needed.

    **Scale.** Gradients of scattering losses are tiny. Moments are kept of :math:`2^{32} g`, after bias
    correction, and ``eps`` is 0 by default, on purpose: the update does not depend on the scale of
    the loss, for gradients between 1e-28 and 1e9 in float32, and 0/0 is 0. (An ``eps`` below 6e-58 acts as
    6e-58.) Adam's 1e-8 is the floor of gradients of 1e-4 and would stop all learning here;
    scrapl-loss's 1e-8 on gradients multiplied by 1e8 is ``eps=1e-24``.

    **Memory.** :math:`\hat g_p` is a function of what P-Adam keeps, so it is derived, not stored; its sum
    over paths is updated, not summed again. The state of a parameter is ``2 n_paths + 1`` times its
    size (``n_paths + 1`` with P-SAGA alone), allocated at its first gradient, and a step costs O(size).
    The dtype is the parameter's, at least float32. Keys: ``step`` (int64, shape ``(n_paths,)``, the last
    visit of each path), ``exp_avg`` and ``exp_avg_sq`` (shape ``(n_paths, *param.shape)``, the
    bias-corrected moments of :math:`2^{32} g`), ``saga_sum`` and ``saga_eps``, or ``saga_grad`` (the last
    raw gradients) with ``path_adam=False``.

    **Hyperparameters** are read from the group at each step. New ``betas`` act from then on; a new
    ``eps`` applies to the memory of all paths, whose sum is computed again once. ``path_adam``,
    ``path_saga`` and ``n_paths`` cannot change.

    **Clocks** tick once per ``step``, for the parameters that have a gradient, like Adam's.

    **Several paths in one step** (``PathSampler.sample``): a step has one path, whose row it updates. Either
    call ``step`` once for each, or, with a loss that is the mean over the paths drawn, use ``n_paths=1``.

    **Non-finite gradients**, and finite ones beyond the range above, are found before anything is changed,
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
        path_saga: whether to use P-SAGA.
        maximize: whether to maximize the loss.
        foreach: whether to use the multi-tensor implementation; ``None`` chooses by device, as PyTorch.
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
        path_saga: bool = True,
        maximize: bool = False,
        foreach: bool | None = None,
        nonfinite: str = "raise",
    ) -> None:
        defaults = {
            "n_paths": as_int(n_paths, "n_paths"),
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "path_adam": path_adam,
            "path_saga": path_saga,
            "maximize": maximize,
            "foreach": foreach,
            "nonfinite": nonfinite,
        }
        check_hyperparameters(defaults)
        self._path_idx: int | None = None
        super().__init__(params, defaults)
        self._register_hooks()

    def _register_hooks(self) -> None:
        self.register_state_dict_post_hook(path_state.after_state_dict)  # type: ignore[arg-type]
        self.register_load_state_dict_pre_hook(path_state.before_load)  # type: ignore[arg-type]
        self.register_load_state_dict_post_hook(path_state.after_load)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called by load_state_dict as well as by pickle and deepcopy, which keep no other attributes.
        unpickled = "_path_idx" not in self.__dict__
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                if key != "differentiable":
                    group.setdefault(key, value)
        if unpickled:
            self._path_idx = None
            self._register_hooks()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; its state starts at its first gradient.

        Raises:
            ValueError: if a hyperparameter is out of its domain or ``n_paths`` is not the optimizer's.
        """
        if isinstance(param_group, dict):
            group = {**self.defaults, **param_group}
            check_hyperparameters(group)
            if group["n_paths"] != self.defaults["n_paths"]:
                raise ValueError(
                    f"n_paths={group['n_paths']} of the parameter group differs from the optimizer's "
                    f"n_paths={self.defaults['n_paths']}; all groups share one set of paths, leave it out"
                )
        super().add_param_group(param_group)

    def set_path(self, path_idx: PathIdx) -> None:
        """Announce the path of the next ``step``, which uses it once.

        For trainers that call ``step(closure)`` and pass nothing else. The last announcement counts;
        ``step(path_idx=...)`` takes precedence and uses it up. It is not part of the state dict, of
        pickles or of copies.

        Raises:
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if it is not in ``[0, n_paths)``.
        """
        self._path_idx = as_path_idx(path_idx, self.defaults["n_paths"])

    def _resolve_path(self, path_idx: PathIdx | None) -> int:
        n_paths = self.defaults["n_paths"]
        if path_idx is not None:
            return as_path_idx(path_idx, n_paths)
        if self._path_idx is not None:
            return self._path_idx
        if n_paths == 1:
            return 0
        raise RuntimeError(
            f"no path for this step: with n_paths={n_paths}, call step(path_idx=...), or set_path(...) "
            "once before each step"
        )

    def _is_state_init(self, path_idx: PathIdx | None) -> bool:
        """Whether this ``step`` is torch.distributed.checkpoint creating the state to load into.

        It calls ``step`` with lr 0 and zero gradients on an empty state. A step like that changes
        nothing, so only the clocks tell the difference.
        """
        if self.state or path_idx is not None or self._path_idx is not None:
            return False
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        zero_lr = all(float(group["lr"]) == 0.0 for group in self.param_groups)
        return zero_lr and bool(grads) and not any(bool(grad.any()) for grad in grads)

    def _init_group(self, group: dict[str, Any]) -> list[Tensor]:
        """Return the parameters of ``group`` that have a gradient, with their state in place."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            state = self.state[p]
            if not state:
                path_state.init_state(state, p, group)
            path_state.check_switches(state, group)
            if "saga_eps" in state:
                path_state.refresh_saga_sum(state, group["eps"])
        return params

    @overload
    def step(self, closure: None = None, *, path_idx: PathIdx | None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Loss], *, path_idx: PathIdx | None = None) -> _Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, path_idx: PathIdx | None = None) -> Any:
        """Update the parameters with the gradient of one path.

        Args:
            closure: evaluates the model again and returns the loss; it may call :meth:`set_path`.
            path_idx: path of the loss, an integer or a 0-dim integer tensor (on an accelerator, reading
                one synchronises); the announced one if ``None``.

        Returns:
            The closure's loss, or ``None``.

        Raises:
            RuntimeError: if the path is not known, a gradient is sparse, or (``nonfinite="raise"``) a
                gradient has an inf, a NaN or an entry too large for the moments; nothing has changed then.
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if ``path_idx`` is not in ``[0, n_paths)``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._is_state_init(path_idx):
            for group in self.param_groups:
                self._init_group(group)
            return loss
        path = self._resolve_path(path_idx)
        if gradients_usable(self.param_groups, path):
            params = [self._init_group(group) for group in self.param_groups]
            for group, with_grad in zip(self.param_groups, params, strict=True):
                self._update_group(group, with_grad, path)
        self._path_idx = None
        return loss

    def _update_group(self, group: dict[str, Any], params: list[Tensor], path: int) -> None:
        states = [self.state[p] for p in params]
        keys = path_state.state_keys(group)

        def rows(key: str) -> Rows:
            return [path_state.row(state, key, path) for state in states] if key in keys else None

        path_adam_saga(
            _as_real(params),
            _as_real(p.grad for p in params if p.grad is not None),
            [path_state.tick(state, path) for state in states],
            exp_avgs=rows("exp_avg"),
            exp_avg_sqs=rows("exp_avg_sq"),
            saga_grads=rows("saga_grad"),
            saga_sums=_as_real(state["saga_sum"] for state in states) if "saga_sum" in keys else None,
            foreach=group["foreach"],
            n_paths=group["n_paths"],
            lr=_as_scalar(group["lr"]),
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )


def _as_real(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [torch.view_as_real(t) if torch.is_complex(t) else t for t in tensors]


def _as_scalar(lr: float | Tensor) -> float | Tensor:
    """A CPU tensor becomes a number; one on an accelerator stays there, for reading would synchronise."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.item() if lr.device.type == "cpu" else lr.reshape(())
