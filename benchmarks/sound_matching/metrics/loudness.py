"""Loudness of frames and its mean difference between two drums (paper, Tables 8 and 9)."""

from __future__ import annotations

import math

from torch import Tensor

from benchmarks.sound_matching.metrics.framing import PAPER_FRAMING, Framing, Parts, as_pair
from benchmarks.sound_matching.metrics.k_weighting import k_weighted

# Of ITU-R BS.1770, in dB: it makes a sine of 997 Hz at full scale -3.01 LKFS.
_OFFSET = -0.691
# Mean square that is added to that of each frame, so that silence has a loudness, of -80.7 LKFS: 10 dB below the
# standard's gate for silence, and the floor of Shier et al. (2024).
_FLOOR = 1e-8


def loudness_above_floor(
    audio: Tensor, sample_rate: float, onset: int | Tensor = 0, framing: Framing = PAPER_FRAMING
) -> Tensor:
    r"""Compute the loudness of frames above that of silence, :math:`10 \log_{10}(1 + m / 10^{-8})` dB.

    m is the mean square of the K-weighted sound over a frame. The whole sound is filtered before it is cut, as in
    the standard. (The program of Shier et al. filters each frame by itself, whose edges then count as steps.)

    Args:
        audio: (B, n_samples), full scale being 1.
        sample_rate: in Hz.
        onset: where the first frame begins, one for all sounds or (B,).
        framing: lengths and numbers of frames.

    Returns:
        (B, frames), non-negative, and zero for silence.
    """
    frames = framing.frames(k_weighted(audio, sample_rate).square(), onset)
    return (frames.mean(-1) / _FLOOR).log1p() * (10 / math.log(10))


def loudness(
    audio: Tensor, sample_rate: float, onset: int | Tensor = 0, framing: Framing = PAPER_FRAMING
) -> Tensor:
    """Compute the loudness (B, frames) of frames in LKFS, -80.7 for silence; see loudness_above_floor."""
    silence = _OFFSET + 10 * math.log10(_FLOOR)
    return silence + loudness_above_floor(audio, sample_rate, onset, framing)


def loudness_distance(
    target: Tensor,
    match: Tensor,
    sample_rate: float,
    *,
    onset: int | Tensor = 0,
    framing: Framing = PAPER_FRAMING,
) -> Parts:
    """Compute the mean absolute difference of loudness in dB, frame by frame, over transient and decay.

    A match that comes late counts with its silence: in each frame that it misses wholly the difference is the
    target's loudness above the floor.

    Args:
        target: (B, n_samples), full scale being 1.
        match: the same.
        sample_rate: in Hz.
        onset: sample at which the target begins, one for all or (B,).
        framing: lengths and numbers of frames.
    """
    target, match = as_pair(target, match)
    features = [loudness_above_floor(audio, sample_rate, onset, framing) for audio in (target, match)]
    return framing.mean_difference(*features)
