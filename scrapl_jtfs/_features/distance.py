"""Relative distance of two signals over all paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scrapl_jtfs._validation import as_dense

if TYPE_CHECKING:
    from scrapl_jtfs.transform import JTFSPath


def relative_distance(jtfs: JTFSPath, x: Tensor, y: Tensor) -> Tensor:
    r"""Compute the distance of two signals over all paths: 0 for equal ones, 1 as far as silence.

    .. math::
        d(x, y) = \frac{\lVert S x - S y \rVert}{\max(\lVert S x \rVert, \lVert S y \rVert)}, \qquad
        \lVert S x \rVert^2 = \sum_p \lVert \phi_p(x) \rVert^2

    The distance is symmetric and does not change with the level of both signals. As coefficients are not negative,
    it is at most sqrt(2), between signals of which each coefficient hears one at most. Its square is
    ``JTFSPathLoss(jtfs).full(x, y)``, divided by the larger of the same loss from x and from y to silence.

    Args:
        jtfs: the transform.
        x: (..., n_samples) signals of its dtype and device.
        y: signals of the same shape.

    Returns:
        (...) real, differentiable in both; 0 between two silent signals.

    Raises:
        TypeError: a signal is not a real floating-point tensor, or the transform no JTFS.
        ValueError: the signals differ in shape, or do not fit the transform.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, relative_distance
        >>> jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2)
        >>> x = torch.randn(4, 2048)
        >>> relative_distance(jtfs, x, torch.zeros(4, 2048))
        tensor([1., 1., 1., 1.])
    """
    if not hasattr(jtfs, "scalogram"):
        raise TypeError(
            f"Invalid jtfs: {type(jtfs).__name__}; expected a JTFSPath; by any path transform, measure_texture "
            "compares signals"
        )
    x, y = as_dense(x, "x"), as_dense(y, "y")
    if x.shape != y.shape:
        raise ValueError(
            f"Invalid y: shape {tuple(y.shape)}; expected that of x, {tuple(x.shape)}; crop, pad or "
            "expand one of them"
        )
    (x, batch_shape), (y, _) = jtfs._checked_signal(x, "x"), jtfs._checked_signal(y, "y")
    # Coefficients scale with the signal; at a level of one, squares of quiet ones do not vanish.
    peak = torch.maximum(x.detach().abs().amax(-1, keepdim=True), y.detach().abs().amax(-1, keepdim=True))
    peak = torch.where(peak > 0, peak, 1.0)
    difference = energy_x = energy_y = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
    for (_, phi_x), (_, phi_y) in zip(jtfs.stream(x / peak), jtfs.stream(y / peak), strict=True):
        difference = difference + (phi_x - phi_y).square().sum((-2, -1))
        energy_x = energy_x + phi_x.square().sum((-2, -1))
        energy_y = energy_y + phi_y.square().sum((-2, -1))
    largest = torch.maximum(energy_x, energy_y)
    # At zero distance the root has no slope; autograd would make NaN of it.
    different = difference != 0
    ratio = torch.where(different, difference, 1.0) / torch.where(largest == 0, 1.0, largest)
    return torch.where(different, torch.where(different, ratio, 1.0).sqrt(), 0.0).reshape(batch_shape)
