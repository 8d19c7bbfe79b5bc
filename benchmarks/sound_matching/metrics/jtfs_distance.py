"""The distance of all coefficients of the JTFS, of each pair (paper, Table 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.sound_matching.metrics.framing import as_pair
from scrapl_jtfs import JTFSPath, JTFSPathLoss

# Of rho = log(1 + s / eps): that of the losses on drums (Table 12).
_LOG1P_EPS = 1e-3
# Pairs transformed at a time; a minute of drums takes gigabytes otherwise.
_BATCH = 8


class JTFSDistance:
    r"""The Euclidean distance of all coefficients, that is of the full tree.

    .. math:: \Big( \sum_p \lVert \rho(\phi_p(x)) - \rho(\phi_p(y)) \rVert^2 \Big)^{1/2}

    Args:
        jtfs: the transform.
        log1p_eps: eps of :math:`\rho(s) = \log(1 + s / \varepsilon)`, or None for the identity.
    """

    def __init__(self, jtfs: JTFSPath, *, log1p_eps: float | None = _LOG1P_EPS) -> None:
        self._loss = JTFSPathLoss(jtfs, log1p_eps=log1p_eps, reduction="none")

    @torch.no_grad()
    def __call__(self, target: Tensor, match: Tensor) -> Tensor:
        """Return the distances (B,) of targets and matches (B, n_samples), in the precision of the transform."""
        as_pair(target, match)
        like = {"dtype": self._loss.jtfs.dtype, "device": self._loss.jtfs.device}
        pairs = zip(match.to(**like).split(_BATCH), target.to(**like).split(_BATCH), strict=True)
        # The mean over paths of P times the squared distance is the sum of the squared distances.
        return torch.cat([self._loss.full(x, y) for x, y in pairs]).sqrt()
