"""Spectral centroid of frames on a scale of brightness, and its mean difference between two drums."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.signal.windows import general_cosine

from benchmarks.sound_matching.metrics.framing import PAPER_FRAMING, Framing, Parts, as_pair, check_sample_rate
from benchmarks.sound_matching.metrics.loudness import loudness_above_floor

# The flat top window, a sum of cosines.
_FLAT_TOP = (0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368)
# Least magnitude of a bin, so that silence has a centroid.
_FLOOR = 1e-4


def spectral_centroid(frames: Tensor, sample_rate: float) -> Tensor:
    r"""Compute the centroid of frames in Hz, :math:`\sum_k f_k c_k / \sum_k c_k`.

    c is log(1 + m), where m is the magnitude of the spectrum of the frame in a flat top window, no less than 1e-4.
    Because of the logarithm the centroid depends on level: it compresses what is above m = 1, which is 47 dB under
    a sine at full scale in frames of 2048 samples. The centroid of silence is a quarter of the sample rate.

    Args:
        frames: (..., size), full scale being 1.
        sample_rate: in Hz.

    Returns:
        (...) in Hz.
    """
    size = frames.shape[-1]
    window = general_cosine(size, a=_FLAT_TOP, sym=False, dtype=frames.dtype, device=frames.device)
    compressed = torch.fft.rfft(frames * window).abs().clamp_min(_FLOOR).log1p()
    frequencies = torch.arange(size // 2 + 1, dtype=frames.dtype, device=frames.device) * (sample_rate / size)
    return (compressed * frequencies).sum(-1) / compressed.sum(-1)


def brightness(frequency: Tensor) -> Tensor:
    """Map a centroid in Hz to brightness, 21.2985 - 34.61 f^-0.1621, a power law fitted to listeners' judgments.

    The law is that of Kazazis et al., as Shier et al. (2024) use it.
    """
    return 21.2985 - 34.61 * frequency.pow(-0.1621)


def spectral_centroid_distance(
    target: Tensor,
    match: Tensor,
    sample_rate: float,
    *,
    onset: int | Tensor = 0,
    framing: Framing = PAPER_FRAMING,
) -> Parts:
    """Compute the mean absolute difference of brightness times loudness, frame by frame.

    The loudness of each sound, in dB above silence, weighs its own brightness, so frames that nobody hears do not
    count and a frame that one sound lacks counts as a whole. That follows the published programs of the paper's
    authors and of Shier et al. (2024).

    Args:
        target: (B, n_samples), full scale being 1.
        match: the same.
        sample_rate: in Hz.
        onset: sample at which the target begins, one for all or (B,).
        framing: lengths and numbers of frames.
    """
    check_sample_rate(sample_rate)
    features = [
        brightness(spectral_centroid(framing.frames(audio, onset), sample_rate))
        * loudness_above_floor(audio, sample_rate, onset, framing)
        for audio in as_pair(target, match)
    ]
    return framing.mean_difference(*features)
