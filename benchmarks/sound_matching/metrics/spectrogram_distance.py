"""The distance of multi-resolution spectrograms, magnitudes and log magnitudes, of each pair (paper, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.sound_matching.distances import Spectrograms
from benchmarks.sound_matching.metrics.framing import as_pair

# Those with which the experiment trains on spectrograms at the paper's sample rates.
_FFT_SIZES = (2048, 1024, 512, 256, 128, 64)


@torch.no_grad()
def spectrogram_distance(target: Tensor, match: Tensor, fft_sizes: Sequence[int] = _FFT_SIZES) -> Tensor:
    """Compute "MSS log + linear", the loss of that name on each pair by itself.

    Args:
        target: (B, n_samples).
        match: the same.
        fft_sizes: in samples; windows are as long, with 75% overlap.

    Returns:
        (B,), in single precision, in which auraloss computes.

    Raises:
        ValueError: the sounds have no more than half as many samples as the largest size.
    """
    as_pair(target, match)
    n_samples = target.shape[-1]
    if 2 * n_samples <= max(fft_sizes):
        raise ValueError(
            f"Invalid fft_sizes: {max(fft_sizes)} for {n_samples} samples; expected sizes below {2 * n_samples}"
        )
    distance = Spectrograms(fft_sizes, log=True)
    pairs = zip(match.float(), target.float(), strict=True)
    return torch.stack([distance(x[None], y[None]) for x, y in pairs])
