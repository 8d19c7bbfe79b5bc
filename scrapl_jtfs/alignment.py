"""Alignment of path losses with the errors of controls, which tells if a loss can train a synthesizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from scrapl_jtfs._validation import as_dense
from scrapl_jtfs.loss import PathLoss
from scrapl_jtfs.taylor import signal_derivatives
from scrapl_jtfs.transform import JTFSPath
from scrapl_optim import Alignment, Progress
from scrapl_optim import alignment as optim_alignment
from scrapl_optim._validation import check_callable


def measure_alignment(
    synth: Callable[[Tensor, list[int]], Tensor],
    loss_fn: PathLoss,
    theta: Tensor,
    theta_hat: Tensor,
    *,
    renderings: int = 1,
    batch_size: int = 8,
    seed: int = 0,
    check: bool = True,
    progress: bool | Callable[[Progress], None] = False,
) -> Alignment:
    r"""Measure how well the gradients of a loss's paths point from estimates of controls to the truth.

    This is :func:`scrapl_optim.measure_alignment`, for the JTFS with slopes in a cheaper way. The first layer y of
    a sound, which its paths share, and its derivatives in the controls are computed once. A path takes a forward
    and a backward pass through the second layer alone, whatever the number of controls:

    .. math:: \frac{\partial L_p}{\partial \hat\theta_u}
        = \frac{\partial L_p}{\partial y} \cdot \frac{\partial y}{\partial \hat\theta_u} .

    Backward passes to the controls, which other transforms take, go through the first layer once for each path.

    Args:
        synth: maps controls (B, U) and B seeds, integers from 0 to 2**63 - 1, to sounds (B, N) of the transform's
            dtype; all its random numbers come from the seeds. It is differentiated twice, as in
            :func:`taylor_signals`.
        loss_fn: the loss, on paths of the JTFS or of any other transform; its reduction is left aside.
        theta: (M, U) true controls, such as ``torch.rand(64, U)``.
        theta_hat: (M, U) estimates, drawn independently.
        renderings: renderings of each estimate with seeds of their own; for two or more, the loss is that of
            several renderings.
        batch_size: pairs that are computed at a time.
        seed: of the seeds that ``synth`` is given.
        check: whether to look first if a pair has the same loss alone as among others.
        progress: True for a bar (needs tqdm), or a callable.

    Returns:
        The slopes of all paths, which :meth:`Alignment.score <scrapl_optim.Alignment.score>` sums under any pi.

    Raises:
        TypeError: loss_fn is no PathLoss, synth cannot be called, or controls are no floating tensors.
        ValueError: shapes or dtypes do not fit.
        RuntimeError: synth has no gradient in the controls, couples pairs, or is random beyond its seeds.
        FloatingPointError: a slope, whose path is named, is not finite.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss, measure_alignment
        >>> loss_fn = JTFSPathLoss(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2), squared=False)
        >>> t = torch.arange(2048)
        >>> def synth(theta, seeds):  # loudness and pitch
        ...     return (0.1 + theta[:, :1]) * torch.sin(0.5 * 2 ** theta[:, 1:] * t)
        >>> theta, theta_hat = torch.rand(2, 16, 2, generator=torch.Generator().manual_seed(0))
        >>> print(str(measure_alignment(synth, loss_fn, theta, theta_hat)).splitlines()[0])
        alignment of 35 paths with 2 controls, from 16 pairs, uniform pi
    """
    if not isinstance(loss_fn, PathLoss):
        raise TypeError(
            f"Invalid loss_fn: {type(loss_fn).__name__}; expected a JTFSPathLoss or another PathLoss, as "
            "loss_fn of a SCRAPL is; for other losses call scrapl_optim.measure_alignment"
        )
    check_callable(synth, "synth")
    each = copy.copy(loss_fn)
    each.reduction = "none"

    def path_loss(sounds: Any, target: Tensor, path_idx: int) -> Tensor:
        return each(sounds, target, path_idx).reshape(len(target), -1).sum(1)

    def slopes(estimates: Tensor, seeds: list[list[int]], target: Tensor) -> Iterator[Tensor]:
        jtfs = loss_fn.transform
        synths = [lambda controls, one=one: synth(controls, one) for one in seeds]
        return _slopes(loss_fn, [_Rendering(jtfs, render, estimates) for render in synths], target)

    return optim_alignment.measure_alignment(
        synth,
        path_loss,
        theta,
        theta_hat,
        loss_fn.n_paths,
        renderings=renderings,
        slopes=slopes if isinstance(loss_fn.transform, JTFSPath) else None,
        batch_size=batch_size,
        seed=seed,
        check=check,
        progress=progress,
    )


class _Rendering:
    """The first layer of a batch of sounds, as leaves of a graph, with its derivatives in the controls.

    Args:
        jtfs: the transform.
        synth: maps controls (B, U) to sounds.
        controls: (B, U) where it is differentiated.
    """

    def __init__(self, jtfs: JTFSPath, synth: Callable[[Tensor], Any], controls: Tensor) -> None:
        moved = controls.clone().requires_grad_()
        with torch.enable_grad():
            sounds = as_dense(synth(moved), "sounds of synth")
            if not sounds.requires_grad:
                raise RuntimeError(
                    "Invalid synth: its sounds have no gradient in the controls; expected a differentiable one; "
                    "mind detach(), no_grad() and rounding"
                )
            derivatives = [d.detach() for d in signal_derivatives(sounds, moved)]
        with torch.no_grad(), forward_ad.dual_level():
            layers = [jtfs.first_layer(forward_ad.make_dual(sounds.detach(), d)) for d in derivatives]
            duals = [[forward_ad.unpack_dual(x) for x in layer.tensors] for layer in layers]
        self._tangents = [[_tangent(dual) for dual in of_control] for of_control in duals]
        self.leaves = [dual.primal.detach().requires_grad_() for dual in duals[0]]
        self.layer = layers[0].with_tensors(self.leaves)
        self._examples = len(controls)

    def slopes(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return (B, U), the inner products of gradients in the leaves with the leaves' derivatives."""
        of_controls: list[Tensor] = []
        for tangents in self._tangents:
            products = [
                (_real(gradient) * _real(tangent)).reshape(self._examples, -1).sum(1)
                for gradient, tangent in zip(gradients, tangents, strict=True)
                if gradient is not None
            ]
            of_controls.append(torch.stack(products).sum(0))
        return torch.stack(of_controls, 1)


def _slopes(loss_fn: PathLoss, renderings: Sequence[_Rendering], target: Tensor) -> Iterator[Tensor]:
    """Yield the slopes (B, U) of each path."""
    jtfs = loss_fn.transform
    leaves = [leaf for rendering in renderings for leaf in rendering.leaves]
    with torch.no_grad():
        of_target = jtfs.first_layer(target)
    for p in range(jtfs.n_paths):
        with torch.no_grad():
            b = jtfs(of_target, p)
        with torch.enable_grad():
            first, *others = (jtfs(rendering.layer, p) for rendering in renderings)
            loss = loss_fn._distance((first, *others) if others else first, b).sum()
        gradients = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
        # A control moves all renderings.
        slopes = [rendering.slopes([next(gradients) for _ in rendering.leaves]) for rendering in renderings]
        yield torch.stack(slopes).sum(0)


def _tangent(dual: forward_ad.UnpackedDualTensor) -> Tensor:
    """Return a derivative, 0 where there is none."""
    return torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
