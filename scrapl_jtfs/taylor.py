"""First and second derivatives of path losses in a synthesizer's few controls, by Taylor series sent forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from scrapl_jtfs._transform import scattering
from scrapl_jtfs._transform.budget import Budget, allowed_memory, first_layer_budget, second_layer_budget
from scrapl_jtfs._transform.first_layer import FirstLayer
from scrapl_jtfs._transform.linear.autograd import full_precision
from scrapl_jtfs._transform.taylor_layer import TaylorSeries, taylor_layer
from scrapl_jtfs._validation import PathIndices, as_dense, as_path_index, as_path_indices, as_signal
from scrapl_jtfs.loss import JTFSPathLoss
from scrapl_jtfs.paths import Path
from scrapl_jtfs.prepared_target import PreparedTarget
from scrapl_jtfs.transform import JTFSPath
from scrapl_optim._deprecation import warn_renamed
from scrapl_optim.importance import PathDerivatives

Synth = Callable[[Tensor], Tensor]

# Paths of one n2 are computed in bundles that share U1 * psi_n2. All planes that a bundle computes, chunk after
# chunk, may take this many times the transform's memory: larger bundles share more, but leave the caches.
_BUNDLE_OVER_MEMORY = 8


def taylor_signals(synth: Synth, theta: Tensor) -> Tensor:
    r"""Compute the sounds of a synthesizer with their first and second derivatives in its controls.

    By reverse mode alone: a product with the Jacobian is the derivative of v -> J^T v, itself taken backward.
    So synth's autograd Functions need no forward mode, which torch would nest silently wrong.

    Args:
        synth: maps controls (B, U) to sounds (B, ..., N), each example by itself, by twice differentiable means.
        theta: (B, U) controls.

    Returns:
        (K, B, ..., N), K = 1 + U + U (U + 1) / 2: x, then dx/dtheta_u, then d^2x/dtheta_u dtheta_u' for the pairs
            (0, 0), (0, 1), ..., (1, 1), ...; of the dtype of the sounds.

    Raises:
        TypeError: controls or sounds are not real floating-point tensors; synth is not callable.
        ValueError: the controls are not (B, U), or the sounds not (B, ..., N).

    Example:
        >>> import torch
        >>> from scrapl_jtfs.taylor import taylor_signals
        >>> harmonics = torch.tensor([1.0, 0.5, 0.25])
        >>> taylor_signals(lambda theta: theta**3 * harmonics, torch.tensor([[2.0]]))
        tensor([[[ 8.,  4.,  2.]],
        <BLANKLINE>
                [[12.,  6.,  3.]],
        <BLANKLINE>
                [[12.,  6.,  3.]]])
    """
    # A copy, as tensors made in inference mode cannot require gradients.
    theta = _checked_controls(theta).detach().clone().requires_grad_()
    if not callable(synth):
        raise TypeError(f"Invalid synth: {type(synth).__name__}; expected a callable")
    with torch.enable_grad():
        x = synth(theta)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"Invalid sounds of synth: {kind}; expected real floating-point numbers; convert them")
        if x.ndim < 2 or x.shape[0] != theta.shape[0]:
            raise ValueError(
                f"Invalid sounds of synth: shape {tuple(x.shape)}; expected (B, N) or (B, ..., N) with B = "
                f"{theta.shape[0]}; let the first axis be that of the examples"
            )
        firsts = signal_derivatives(x, theta)
        seconds = [dd.detach() for u, d in enumerate(firsts) for dd in signal_derivatives(d, theta, u)]
    return torch.stack([x.detach(), *(d.detach() for d in firsts), *seconds])


def signal_derivatives(x: Tensor, theta: Tensor, first: int = 0) -> list[Tensor]:
    """Return the derivatives of signals x of controls theta (B, U) for u from ``first`` on, differentiably."""
    zeros = torch.zeros_like(x)
    if not x.requires_grad:
        return [zeros] * (theta.shape[1] - first)
    v = zeros.clone().requires_grad_()
    (pulled,) = torch.autograd.grad(x, theta, v, create_graph=True, materialize_grads=True)
    if not pulled.requires_grad:
        return [zeros] * (theta.shape[1] - first)
    results: list[Tensor] = []
    for u in range(first, theta.shape[1]):
        e = torch.zeros_like(pulled)
        e[:, u] = 1.0
        results += torch.autograd.grad(pulled, v, e, create_graph=True, materialize_grads=True)
    return results


class PathTaylor:
    r"""Slopes and Hessians of path losses in the controls of a synthesizer, by Taylor series sent forward.

    A layer ``B |A y|`` maps Taylor series in the controls to Taylor series: the linear maps apply to each
    coefficient, and with ``z = A y`` and ``n = z / |z|``

    .. math::
        |z|_a = n \cdot z_a, \qquad
        |z|_{ab} = n \cdot z_{ab} + \frac{z_a \cdot z_b - (n \cdot z_a)(n \cdot z_b)}{|z|}.

    The first layer is costly and the same for all paths. It is computed once, as y with its first derivatives
    y_a and its second derivatives y_ab. The second derivatives of the coefficients S of a path need not be formed,
    since they are linear in y_ab. A path computes S, the first derivatives S_a, the second derivatives S_ab as if
    y_ab were zero, and the gradient G of the loss L with respect to y. Its Hessian is

    .. math::
        H_{ab} = \frac{\partial^2 L}{\partial S^2}[S_a, S_b]
            + \frac{\partial L}{\partial S} \cdot S_{ab}\big|_{y_{ab} = 0} + G \cdot y_{ab}.

    This takes 1 + U forward passes and one backward pass through the second layer. The full S_ab would take
    1 + U + U (U + 1) / 2 forward passes. The result agrees with double backward to rounding.

    Memory: the object holds K = 1 + U + U (U + 1) / 2 first layers of the batch. With the paper's transform
    (N = 32768, U = 2, float64) these are 24 MB for each example, or 18 MB with samples_per_bandwidth=2. The
    transform's ``memory`` comes on top, and about as much again while the first layer is computed. With many
    controls, K limits the size of the batch.

    Args:
        loss_fn: the loss, with reduction "mean" or "sum".
        synth: maps controls (B, U) to sounds of the transform's dtype, (B, N) or, with axes of channels between,
            (B, ..., N); see :func:`taylor_signals`.
        theta: (B, U) controls.
        target: signals of the same shape as the sounds, or what :meth:`PathLoss.prepare` made of them.
        paths: ids of the paths to serve, a list, a range, a one-dimensional array or tensor, by default all.

    Raises:
        TypeError: controls, sounds or target are not real floating-point tensors; loss_fn is no JTFSPathLoss.
        ValueError: shapes or dtypes do not fit, the loss has reduction "none", the target was prepared by a
            transform with other settings, this one was moved since, or a path is not among ``paths``.
        IndexError: a path id is out of range.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor
        >>> loss_fn = JTFSPathLoss(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2).double())
        >>> time = torch.arange(2048, dtype=torch.float64)
        >>> synth = lambda theta: theta[:, :1] * torch.sin((0.1 + theta[:, 1:]) * time)
        >>> theta = torch.rand(3, 2, dtype=torch.float64)
        >>> series = PathTaylor(loss_fn, synth, theta, torch.randn(3, 2048, dtype=torch.float64))
        >>> slope, hessian = series.derivatives(10)
        >>> slope.shape, hessian.shape
        (torch.Size([3, 2]), torch.Size([3, 2, 2]))

    Source: SCRAPL paper, Equations 11 and 12; the series are the chain rule to second order.
    """

    def __init__(
        self,
        loss_fn: JTFSPathLoss,
        synth: Synth,
        theta: Tensor,
        target: Tensor | PreparedTarget,
        paths: PathIndices | None = None,
    ) -> None:
        if not isinstance(loss_fn, JTFSPathLoss):
            raise TypeError(
                f"Invalid loss_fn: {type(loss_fn).__name__}; expected a JTFSPathLoss; for other losses "
                "differentiate twice with torch.autograd, as scrapl_jtfs.importance does"
            )
        if loss_fn.reduction == "none":
            raise ValueError("Invalid reduction: 'none'; expected a loss with reduction 'mean' or 'sum'")
        self.loss_fn = loss_fn
        self.jtfs = jtfs = loss_fn.jtfs
        indices = range(jtfs.n_paths) if paths is None else as_path_indices(paths, jtfs.n_paths)
        if not callable(synth):
            raise TypeError(f"Invalid synth: {type(synth).__name__}; expected a callable")
        self._examples, n_controls = _checked_controls(theta).shape
        shape = _checked_target(loss_fn, target, self._examples)
        signals = taylor_signals(lambda controls: _levelled(jtfs, synth(controls), shape), theta).flatten(1, -2)
        n = jtfs.geometry.n_samples
        self._level = signals[..., n:].unsqueeze(-1) if jtfs.smoothing else None
        # The second layer is given values and first derivatives; second ones enter by the chain rule alone.
        self._series = TaylorSeries(n_controls, second_order=False)
        self._batch = signals.shape[1]
        with torch.no_grad():
            self._target = target if isinstance(target, PreparedTarget) else jtfs.first_layer(target, indices)
            self._layer = self._first_layer(signals[..., :n].flatten(0, 1), indices)

    def _first_layer(self, flat: Tensor, ids: Sequence[int]) -> FirstLayer:
        """Compute what paths share of sounds and their derivatives, (K B, n_samples)."""
        jtfs, filters, epsilon = self.jtfs, self.jtfs._filters, self.jtfs._epsilons[0]
        paths = [jtfs.paths[p] for p in sorted(set(ids))]
        layer = partial(taylor_layer, series=TaylorSeries(self._series.controls))
        with full_precision(flat.device):
            continued = scattering.continued(filters, flat)
            budget = first_layer_budget(continued, continued.shape[-1], jtfs.memory)
            groups = scattering.scalogram(filters, continued, paths, epsilon, budget, layer)
            average = None
            if any(path.order == 1 for path in paths):
                average = scattering.averaged_scalogram(filters, continued, epsilon, budget, layer)
        return FirstLayer(flat.shape[:-1], groups, average, None, frozenset(ids), jtfs._settings)

    def derivatives(self, path_idx: int) -> PathDerivatives:
        """Compute the slopes (B, U) and Hessians (B, U, U) of a path, in the dtype of the transform.

        Args:
            path_idx: path id p, one of those served.
        """
        return self._bundle([as_path_index(path_idx, self.jtfs.n_paths, "iter_derivatives(paths)")])[0]

    def iter_derivatives(self, paths: PathIndices) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (path_idx, slope, hessian) of several paths in the order given.

        Those that share their temporal modulation are computed together when the first of them is due, in bundles
        that the transform's ``memory`` bounds; slopes and Hessians alone wait for their turn.
        """
        ids = as_path_indices(paths, self.jtfs.n_paths)
        self._layer.check_serves(self.jtfs._settings, ids)
        bundles = {p: bundle for bundle in self._bundles(sorted(set(ids))) for p in bundle}
        last = {p: i for i, p in enumerate(ids)}
        results: dict[int, PathDerivatives] = {}
        for i, p in enumerate(ids):
            if p not in results:
                results |= zip(bundles[p], self._bundle(bundles[p]), strict=True)
            slope, hessian = results.pop(p) if last[p] == i else results[p]
            yield p, slope, hessian

    def curvature(self, path_idx: int) -> PathDerivatives:
        """Return what :meth:`derivatives`, its new name, returns."""
        warn_renamed("PathTaylor.curvature", "PathTaylor.derivatives")
        return self.derivatives(path_idx)

    def curvatures(self, paths: PathIndices) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Return what :meth:`iter_derivatives`, its new name, returns."""
        warn_renamed("PathTaylor.curvatures", "PathTaylor.iter_derivatives")
        return self.iter_derivatives(paths)

    def _bundles(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """Cut paths to bundles of one n2 that compute few planes in all."""
        x = self._layer.arrays[0]
        average = self._layer.average
        frames = 0 if average is None else average.shape[-1]
        room = _BUNDLE_OVER_MEMORY * allowed_memory(x, self.jtfs.memory) * 8 // torch.finfo(x.dtype).bits
        bundle: list[Path] = []
        used = 0
        for path in (self.jtfs.paths[p] for p in indices):
            planes = scattering.plane_size(self.jtfs._filters, path, frames)
            size = self._series.n_inputs * self._batch * planes
            if bundle and (path.n2 != bundle[0].n2 or used + size > room):
                yield [p.index for p in bundle]
                bundle, used = [], 0
            bundle.append(path)
            used += size
        if bundle:
            yield [p.index for p in bundle]

    def _bundle(self, indices: Sequence[int]) -> list[PathDerivatives]:
        """Compute paths of one n2."""
        jtfs = self.jtfs
        self._layer.check_serves(jtfs._settings, indices)
        paths = [jtfs.paths[p] for p in indices]
        results: list[PathDerivatives] = []
        with full_precision(jtfs.device), torch.enable_grad():
            inputs = self._layer.items(0, self._series.n_inputs * self._batch)
            leaves = [x.requires_grad_() for x in inputs.arrays]
            budget = Budget(second_layer_budget(leaves[-1], jtfs.memory, 1).work, 0)  # nothing is kept
            layer = partial(taylor_layer, series=self._series)
            series = scattering.second_layer(
                jtfs._filters, inputs, paths, jtfs._epsilons[1], budget, layer, pair_spins=False
            )
            for coefficients, target in zip(series, self._targets(indices), strict=True):
                by_order = coefficients.unflatten(0, (self._series.n_outputs, self._batch))
                slope, hessian, gradient = self._differentiate(by_order.detach(), target)
                # G = dL / dy
                grads = torch.autograd.grad(by_order[0], leaves, gradient, retain_graph=True, allow_unused=True)
                hessian = hessian + self._second_order_part(grads)
                results.append(PathDerivatives(self._by_example(slope), self._by_example(hessian)))
        return results

    def _by_example(self, derivatives: Tensor) -> Tensor:
        """Add those of the channels of an example, which have its controls in common."""
        return derivatives.unflatten(0, (self._examples, -1)).sum(1)

    def _targets(self, indices: Sequence[int]) -> list[Tensor]:
        if isinstance(self._target, PreparedTarget):
            targets = self._target.coefficients(indices, self.jtfs)
        else:
            with torch.no_grad():
                targets = self.jtfs.select(self._target, indices)
        return [target.flatten(0, -3) for target in targets]

    def _differentiate(self, taylor: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Differentiate the distance of a polynomial's value, S(e) = S + e_a S_a + e_a e_b S_ab / 2, to a target.

        Returns:
            The slope (B, U) and the Hessian (B, U, U) with respect to e, and the gradient with respect to S.
        """
        e = taylor.new_zeros(self._batch, self._series.controls, requires_grad=True)
        value = taylor[0].clone().requires_grad_()
        coefficients = _polynomial(value, taylor[1:], e)
        if self._level is not None:
            coefficients = coefficients * _polynomial(self._level[0], self._level[1:], e)
        loss = self.loss_fn._value(coefficients, target)
        slope, gradient = torch.autograd.grad(loss, (e, value), create_graph=True, materialize_grads=True)
        rows = [
            torch.autograd.grad(slope[:, u].sum(), e, retain_graph=True, materialize_grads=True)[0]
            for u in range(e.shape[1])
        ]
        return slope.detach(), torch.stack(rows, 1), gradient.detach()

    def _second_order_part(self, grads: Sequence[Tensor | None]) -> Tensor:
        """Return G . y_ab (B, U, U) for gradients G with respect to the first layer."""
        n, n_pairs = self._series.controls, self._series.n_outputs - self._series.n_inputs
        seconds = self._layer.items(self._series.n_inputs * self._batch, None).arrays
        i, j = torch.triu_indices(n, n, device=seconds[0].device)
        hessian = torch.zeros(self._batch, n, n, dtype=self.jtfs.dtype, device=seconds[0].device)
        for grad, second in zip(grads, seconds, strict=True):
            if grad is not None:
                pairs = _real(second).unflatten(0, (n_pairs, self._batch)).flatten(2)
                hessian[:, i, j] += torch.einsum("kbn,bn->bk", pairs, _real(grad[: self._batch]).flatten(1))
        hessian[:, j, i] = hessian[:, i, j]
        return hessian


def _checked_controls(theta: Tensor) -> Tensor:
    as_dense(theta, "controls theta")
    if theta.ndim != 2 or theta.numel() == 0:
        raise ValueError(
            f"Invalid controls theta: shape {tuple(theta.shape)}; expected (B, U), at least one of each; "
            "reshape them to an example in each row"
        )
    return theta


def _checked_target(loss_fn: JTFSPathLoss, target: Tensor | PreparedTarget, examples: int) -> torch.Size:
    """Return the shape of the target, which that of the sounds must be."""
    n = loss_fn.jtfs.geometry.n_samples
    if isinstance(target, PreparedTarget):
        target.check_serves(loss_fn.jtfs)
    elif not isinstance(target, Tensor):
        raise TypeError(f"Invalid target: {type(target).__name__}; expected a torch.Tensor or a PreparedTarget")
    shape = target.signal.shape if isinstance(target, PreparedTarget) else target.shape
    if len(shape) < 2 or (shape[0], shape[-1]) != (examples, n):
        raise ValueError(
            f"Invalid target: shape {tuple(shape)}; expected (B, N) or (B, ..., N) with B = {examples} and N = "
            f"{n}; let its first axis be that of theta's examples"
        )
    if isinstance(target, Tensor):
        as_signal(target, n, loss_fn.jtfs.dtype, loss_fn.jtfs.device, "target")
    return shape


def _levelled(jtfs: JTFSPath, sound: Tensor, shape: torch.Size) -> Tensor:
    """Return what the transform makes of sounds first; if it divides by levels, these as last sample."""
    if not isinstance(sound, Tensor) or sound.ndim < 2 or sound.shape[0] != shape[0]:
        return sound  # which taylor_signals refuses
    n = jtfs.geometry.n_samples
    flat, batch_shape = as_signal(sound, n, jtfs.dtype, jtfs.device, "synth(theta)")
    if sound.shape != shape:
        remedy = "; drop an axis of one of them with squeeze(1)" if sound.numel() == shape.numel() else ""
        raise ValueError(
            f"Invalid target: its shape {tuple(shape)} is not {tuple(sound.shape)}, that of the sounds of synth; "
            f"expected both (B, N), or both (B, ..., N){remedy}"
        )
    if not jtfs.smoothing:
        return flat.reshape(shape)
    level = scattering.signal_level(flat)
    return torch.cat([flat / level, level], dim=-1).unflatten(0, batch_shape)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _polynomial(value: Tensor, taylor: Tensor, e: Tensor) -> Tensor:
    """Return the value (B, ...) at e (B, U) of a polynomial with derivatives (K - 1, B, ...) at 0."""
    i, j = torch.triu_indices(e.shape[1], e.shape[1], device=e.device)
    halves = torch.where(i == j, 0.5, 1.0).to(e.dtype)
    monomials = torch.cat([e, e[:, i] * e[:, j] * halves], dim=1)
    return value + torch.einsum("bk,kb...->b...", monomials, taylor)
