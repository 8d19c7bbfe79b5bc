"""The Frechet distance between two sets of embeddings, of targets and of matches (paper, Table 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Compute the squared 2-Wasserstein distance between Gaussians with the means and covariances of two sets.

    .. math:: \lVert \mu - \nu \rVert^2 + \operatorname{tr} (C + D - 2 (C D)^{1/2})

    With C = A'A and D = B'B, where A and B are the centered sets over the root of their sizes less one, the
    nonzero eigenvalues of CD are those of (A B')(A B')', so the trace of the root is the sum of the singular
    values of A B'. The triangular factors R and S of A and B give the same as R S', a small matrix. No covariance
    is formed, let alone a product of two, whose small eigenvalues would drown in rounding. The sets may have
    fewer members than dimensions.

    As covariances are estimated, the distance between two sets of one distribution is above zero, and the more so
    the smaller the sets: compare values of sets of one size alone.

    Args:
        x: (n, d) embeddings, of n sounds at least two.
        y: (m, d) embeddings.

    Returns:
        The distance, in squared units of the embeddings; at least zero.

    Raises:
        TypeError: the embeddings are not real floating-point tensors.
        ValueError: they do not fit each other, are not finite, or a set has less than two members.

    Source: Dowson and Landau (1982); Kilgour et al. (2019) for sound.
    """
    for name, embeddings in (("x", x), ("y", y)):
        _check_embeddings(name, embeddings)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"Invalid x and y: {x.shape[1]} and {y.shape[1]} dimensions; expected embeddings of one kind"
        )
    x, y = x.detach().double(), y.detach().double().to(x.device)
    a, b = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    r, s = (torch.linalg.qr(z, mode="r").R for z in (a, b))
    overlap = torch.linalg.svdvals(r @ s.T).sum()
    distance = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap
    return max(0.0, float(distance))


def _check_embeddings(name: str, embeddings: Tensor) -> None:
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        kind = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise TypeError(f"Invalid {name}: {kind}; expected a real floating-point tensor")
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(
            f"Invalid {name}: shape {tuple(embeddings.shape)}; expected embeddings (n, d) of two sounds or more; "
            "average over frames, or take frames as members"
        )
    if not embeddings.isfinite().all():
        raise ValueError(f"Invalid {name}: NaN or infinite; expected finite embeddings")
