"""Checks that the distances share, and the distance between features."""

from __future__ import annotations

import torch
from torch import Tensor


def check_sounds(x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless two batches of sounds are (B, n_samples) of one shape."""
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(
            f"Invalid x and y: shapes {tuple(x.shape)} and {tuple(y.shape)}; expected sounds (B, n_samples) of "
            "one shape; add the batch axis, or cut both to one length"
        )


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances (B,) of features (B, ...); the gradient is 0 where they agree."""
    return torch.linalg.vector_norm((a - b).flatten(1), dim=1)
