"""Spectral flatness of frames in dB, and its mean difference between two drums."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.sound_matching.metrics.framing import PAPER_FRAMING, Framing, Parts, as_pair
from benchmarks.sound_matching.metrics.loudness import loudness_above_floor

# Least power of a bin.
_FLOOR = 1e-10
# Added to the ratio, so that a tone is no flatter than -160.
_LEAST_RATIO = 1e-8


def spectral_flatness(frames: Tensor) -> Tensor:
    r"""Compute the flatness of frames, 20 log10 of the geometric over the arithmetic mean of the power spectrum.

    The window is Hann's, and powers are no less than 1e-10. Flatness is 0 for an impulse and for silence, -5.01
    for white noise (where the ratio is :math:`e^{-\gamma}`), and down to -160 for a tone. Decibels of a ratio of
    powers would have a factor of 10; 20 is that of the published programs of the paper's authors and of Shier et
    al. (2024), with whose numbers ours are to be compared.

    Args:
        frames: (..., size), full scale being 1.

    Returns:
        (...), at most zero.
    """
    window = torch.hann_window(frames.shape[-1], dtype=frames.dtype, device=frames.device)
    power = torch.fft.rfft(frames * window).abs().square().clamp_min(_FLOOR)
    ratio = (power.log().mean(-1) - power.mean(-1).log()).exp()
    return (ratio + _LEAST_RATIO).log() * (20 / math.log(10))


def spectral_flatness_distance(
    target: Tensor,
    match: Tensor,
    sample_rate: float,
    *,
    onset: int | Tensor = 0,
    framing: Framing = PAPER_FRAMING,
) -> Parts:
    """Compute the mean absolute difference of flatness times loudness, frame by frame.

    The loudness of each sound, in dB above silence, weighs its own flatness, as in spectral_centroid_distance.

    Args:
        target: (B, n_samples), full scale being 1.
        match: the same.
        sample_rate: in Hz.
        onset: sample at which the target begins, one for all or (B,).
        framing: lengths and numbers of frames.
    """
    features = [
        spectral_flatness(framing.frames(audio, onset)) * loudness_above_floor(audio, sample_rate, onset, framing)
        for audio in as_pair(target, match)
    ]
    return framing.mean_difference(*features)
