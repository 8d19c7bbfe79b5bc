"""The K-weighting of ITU-R BS.1770 at any sample rate: two biquads that stand for the head and for the ear.

The standard prints the coefficients at 48 kHz and asks for the same frequency response at other rates. A digital
filter at the rate f comes from an analog one by the bilinear map s = 2 f (1 - 1/z) / (1 + 1/z). So the analog
prototypes are the printed filters under the inverse map at 48 kHz, and the map leads from them to the filters at
any other rate. The response at the frequency w (radians per sample) is that of the standard at w' with
48000 tan(w' / 2) = f tan(w / 2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.sound_matching.metrics.framing import check_sample_rate

_STANDARD_RATE = 48000.0
# Seconds in which both impulse responses fall below 1e-20 of their start: the slowest pole is at 38 Hz.
_MEMORY = 0.25


class Biquad(NamedTuple):
    """The transfer function (b0 + b1 / z + b2 / z^2) / (a0 + a1 / z + a2 / z^2), with a0 = 1.

    Attributes:
        b: b0, b1, b2.
        a: a0, a1, a2.
    """

    b: tuple[float, float, float]
    a: tuple[float, float, float]


# ITU-R BS.1770, Tables 1 and 2: a shelf for the head, which raises high frequencies by 4 dB, and a high-pass.
_STANDARD = (
    Biquad((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    Biquad((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


def _mapped(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of p0 (1 + u)^2 + p1 (1 + u)(1 - u) + p2 (1 - u)^2, constant first.

    For 1/z = (1 - u) / (1 + u), where u = s / (2 f), that is (1 + u)^2 times the polynomial p of 1/z. As u and 1/z
    are the same function of each other, it is the inverse as well, up to a factor of 4.
    """
    p0, p1, p2 = p
    return np.array([p0 + p1 + p2, 2 * (p0 - p2), p0 - p1 + p2])


def biquads(sample_rate: float) -> tuple[Biquad, Biquad]:
    """Return the shelf and the high-pass of the K-weighting at a sample rate in Hz."""
    check_sample_rate(sample_rate)
    # s / (2 * 48000) is this, at the first power, times s / (2 f).
    powers = (sample_rate / _STANDARD_RATE) ** np.arange(3)
    filters = []
    for standard in _STANDARD:
        b, a = (_mapped(_mapped(np.array(p)) * powers) for p in standard)
        filters.append(Biquad(tuple((b / a[0]).tolist()), tuple((a / a[0]).tolist())))
    return filters[0], filters[1]


def k_weighted(audio: Tensor, sample_rate: float) -> Tensor:
    """Filter sounds (..., n_samples) in both biquads, at rest before the first sample.

    The filter is a product of spectra. Zeros after the sound, as long as the impulse responses last, keep the end
    from coming round to the start, so the result is that of the recursion up to rounding.
    """
    n_samples = audio.shape[-1]
    n_fft = n_samples + math.ceil(_MEMORY * sample_rate)
    n_fft += n_fft % 2
    # 1/z on the unit circle.
    angle = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device=audio.device) * (2 * math.pi / n_fft)
    delay = torch.polar(torch.ones_like(angle), -angle)
    response = torch.ones_like(delay)
    for (b0, b1, b2), (a0, a1, a2) in biquads(sample_rate):
        response = response * ((b0 + delay * (b1 + delay * b2)) / (a0 + delay * (a1 + delay * a2)))
    spectrum = torch.fft.rfft(audio.double(), n_fft) * response
    return torch.fft.irfft(spectrum, n_fft)[..., :n_samples].to(audio.dtype)
