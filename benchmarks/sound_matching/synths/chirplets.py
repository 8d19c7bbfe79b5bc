"""Chirplets of two rates, AM and FM, shifted at random: ours, and those of the paper's authors (section 4.3).

The authors' are, with t = (n - shift - N/2) / sr, gamma in octaves per second and f_0 = 512 Hz,

    x_n = gamma exp(-t^2 / 2 sigma^2) sin(pi f_AM t) sin(2 pi f_0 (2^(gamma t) - 1) / (gamma ln 2)),

sigma = 0.2 / gamma seconds, and zeros come in at the end from which the shift leads away. The level tells gamma.
In the paper's sounds of four seconds, the factor gamma is the sweep in octaves over a quarter of the sound. So it
is written here, and sounds shrunk in time have the same levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.chirplet import Chirplet
from scrapl_jtfs.commands.granular import draw_grains

_CENTER = 512.0
_LEVEL = 0.1
"""RMS of our textures and chirplets, for which the gain of the encoder's front end is chosen."""
WIDTH = 0.2
"""Standard deviation of the authors' window in octaves of the sweep."""


def draw_shifts(seeds: Sequence[int] | Tensor, max_shift: int) -> Tensor:
    """Return whole samples (B,), uniform in [-max_shift, max_shift], float64: a pure function of each seed."""
    uniform = np.array([draw_grains(int(seed), 1)[0, 0] for seed in seeds])
    return torch.from_numpy(np.floor(uniform * (2 * max_shift + 1)) - max_shift)


class ChirpletSynth(nn.Module):
    """Our chirplets, which have the RMS of our textures, so that nothing can be read off the level.

    They are computed in double precision and returned in the dtype of theta. Shifts are of up to a sixteenth of
    the sound if ``max_shift`` is None.
    """

    controls = ("am", "fm")

    def __init__(
        self,
        n_samples: int,
        sample_rate: float,
        *,
        am: tuple[float, float],
        fm: tuple[float, float],
        max_shift: int | None = None,
    ) -> None:
        super().__init__()
        self.chirplet = Chirplet(n_samples, sample_rate, am, fm, center=_CENTER)
        self.max_shift = n_samples // 16 if max_shift is None else max_shift

    def forward(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
        """(B, 2) and B seeds -> (B, n_samples)."""
        sound = self.chirplet(theta, draw_shifts(seeds, self.max_shift))
        return (_LEVEL * (sound / sound.square().mean(-1, keepdim=True).sqrt())).to(theta.dtype)


class PaperChirplet(nn.Module):
    """The authors' chirplets of theta = (AM, FM), logarithmic in both rates, and one seed per example.

    They are computed in double precision and returned in the dtype of theta. In the authors' program the middle of
    the window is half a sample before N/2, which is left out here.
    """

    controls = ("am", "fm")

    def __init__(
        self,
        n_samples: int,
        sample_rate: float,
        *,
        am: tuple[float, float],
        fm: tuple[float, float],
        max_shift: int,
    ) -> None:
        super().__init__()
        self.n_samples, self.sample_rate = n_samples, sample_rate
        self.am, self.fm, self.max_shift = am, fm, max_shift

    def forward(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
        """(B, 2) and B seeds -> (B, n_samples)."""
        shift = draw_shifts(seeds, self.max_shift).to(theta.device)
        index = torch.arange(self.n_samples, dtype=torch.float64, device=theta.device) - shift[:, None]
        time = (index - self.n_samples / 2) / self.sample_rate
        am, fm = (
            low * (high / low) ** theta[:, i, None].double() for i, (low, high) in enumerate((self.am, self.fm))
        )
        level = fm * (self.n_samples / (4.0 * self.sample_rate))
        cycles = _CENTER * torch.expm1(fm * time * math.log(2.0)) / (fm * math.log(2.0))
        envelope = torch.exp(-0.5 * (time * fm / WIDTH).square()) * torch.sin(math.pi * am * time)
        inside = (index >= 0) & (index < self.n_samples)
        return (inside * level * envelope * torch.sin(2.0 * math.pi * cycles)).to(theta.dtype)
