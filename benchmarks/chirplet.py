"""A clean chirplet: an exponential chirp under a Gaussian, modulated in amplitude.

The paper (section 4.3) names its two parameters and its centre frequency and bandwidth; the formulas are ours.
With t in seconds from the centre of the chirplet,

    x(t) = sqrt(gamma) exp(-t^2 / 2 sigma^2) cos^2(pi f_AM t) sin(2 pi f_c h(gamma, t)),
    h(gamma, t) = (2^(gamma t) - 1) / (gamma ln 2),   instantaneous frequency f_c 2^(gamma t),

and sigma = bandwidth / (4 gamma), so that two standard deviations on each side sweep the bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def chirplet(time: Tensor, am: Tensor, fm: Tensor, center: float, bandwidth: float) -> Tensor:
    """Samples of one chirplet per row.

    Args:
        time: (..., N) seconds from the centre of the chirplet.
        am: (..., 1) f_AM in Hz.
        fm: (..., 1) gamma in octaves per second, not zero.
        center: f_c in Hz.
        bandwidth: octaves.
    """
    sigma = bandwidth / (4.0 * fm)
    cycles = center * torch.expm1(fm * time * math.log(2.0)) / (fm * math.log(2.0))
    envelope = torch.exp(-0.5 * (time / sigma).square()) * torch.cos(math.pi * am * time).square()
    return fm.sqrt() * envelope * torch.sin(2.0 * math.pi * cycles)


@dataclass(frozen=True)
class Chirplet:
    """Renders theta = (AM, FM) in [0, 1]^2, logarithmic in both rates, in double precision throughout.

    In single precision a phase of a thousand cycles is off by 4e-4: noise at -70 dB, no clean sound any more.
    """

    n_samples: int
    sample_rate: float
    am: tuple[float, float]
    fm: tuple[float, float]
    center: float = 512.0
    bandwidth: float = 2.0

    def __call__(self, theta: Tensor, shift: Tensor) -> Tensor:
        """(B, 2) parameters and (B,) shifts in samples to (B, n_samples) float64."""
        theta = theta.double()
        time = torch.arange(self.n_samples, dtype=torch.float64) - (self.n_samples - 1) / 2 - shift[:, None]
        am, fm = (low * (high / low) ** theta[:, i, None] for i, (low, high) in enumerate((self.am, self.fm)))
        # The tails grow without bound in frequency; where the window is below 1e-39 they are not wanted.
        time = time / self.sample_rate
        reach = 13.5 * self.bandwidth / (4.0 * fm.detach())
        return chirplet(torch.clamp(time, -reach, reach), am, fm, self.center, self.bandwidth)
