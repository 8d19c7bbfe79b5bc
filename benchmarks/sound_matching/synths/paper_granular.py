"""The granular synthesizer of the paper's authors (section 4.2), which the paper does not write down.

With sample times t_m = (m - L/2) / sr, m = 0..L-1, grain i = 0..n-1 of n is

    a_i / sqrt(f_i)  cos^2(pi t_m sr / L)  sin(2 pi f_i h_m),      h_m = sum over l <= m of 2^(gamma t_l) / sr,

with the pitch f_i log-uniform, onsets uniform, gamma = tan(0.95 s pi / 2) sr / (3 L) octaves per second for the
slope s in [-1, 1], and, for the density d in [0, 1],

    a_i = sigma(-2 (1 - d) n (i/n - d/4 - 3 d^2/4)) / its maximum over i,      sigma the logistic function.

The sum of all grains is divided by its 2-norm. For the paper's grains of L = 4096 samples the unit of slope is
sr / (4 * 12 * 256), a quarter of that of its constant-Q transform. Written in L, as here, shorter grains sweep the
same octaves. Steep grains of high pitch pass the Nyquist frequency under their window, as the authors' do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scrapl_jtfs.commands.granular import _OverlapAdd, draw_grains, powers, taylor_basis

_STEEPEST = 0.95


class PaperGranular(nn.Module):
    """Synthesizer of textures from theta = (density, (s + 1) / 2) and one seed per example.

    Phases and amplitudes are computed in double precision, the waveforms in the dtype of theta, any number of
    times differentiable. Powers of two are Taylor series of 20 terms, exact to 1e-15 at the ends of the steepest
    grains, where gamma t ln 2 = 1.47.
    """

    controls = ("density", "slope")
    window: Tensor
    basis: Tensor

    def __init__(
        self,
        n_samples: int,
        sample_rate: float,
        n_grains: int,
        grain_samples: int,
        *,
        min_pitch: float = 256.0,
        max_pitch: float = 2048.0,
    ) -> None:
        super().__init__()
        self.n_samples, self.sample_rate = n_samples, sample_rate
        self.n_grains, self.grain_samples = n_grains, grain_samples
        self.min_pitch, self.max_pitch = min_pitch, max_pitch
        time = (torch.arange(grain_samples, dtype=torch.float64) - grain_samples / 2) / sample_rate
        self.register_buffer(
            "window", torch.cos(math.pi * time * sample_rate / grain_samples).square(), persistent=False
        )
        # Row k is the sum over l <= m of (ln 2)^k t_l^k / k! / sr: h is the sum over k of gamma^k times row k. The
        # rows of taylor_basis are (ln 2)^(k-1) t^k / k!, from k = 1 on.
        terms = torch.cat([torch.ones_like(time)[None], math.log(2.0) * taylor_basis(time)[:-1]])
        self.register_buffer("basis", terms.cumsum(1) / sample_rate, persistent=False)

    def grains(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return onsets in samples (int64) and pitches in Hz (float64), each (B, n_grains)."""
        uniform = torch.from_numpy(np.stack([draw_grains(seed, self.n_grains) for seed in seeds]))
        uniform = uniform.to(self.basis.device)
        onset = (uniform[:, 0] * (self.n_samples - self.grain_samples)).long()
        return onset, self.min_pitch * (self.max_pitch / self.min_pitch) ** uniform[:, 1]

    def amplitudes(self, density: Tensor) -> Tensor:
        """Return a_i as (B, n_grains); they fall with i, so that the first is the maximum."""
        d, n = density[:, None], self.n_grains
        i = torch.arange(n, dtype=density.dtype, device=density.device)
        a = torch.sigmoid(-2.0 * (1.0 - d) * n * (i / n - 0.25 * d - 0.75 * d.square()))
        return a / a[:, :1]

    def slopes(self, theta_slope: Tensor) -> Tensor:
        """Return gamma in octaves per second (B,)."""
        unit = self.sample_rate / (3.0 * self.grain_samples)
        return torch.tan(_STEEPEST * (2.0 * theta_slope - 1.0) * math.pi / 2.0) * unit

    def forward(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
        """Render textures (B, n_samples) of theta (B, 2) and B seeds."""
        onset, pitch = self.grains([int(seed) for seed in seeds])
        density, slope = theta.double().unbind(1)
        audio = _OverlapAdd.apply(
            (self.amplitudes(density) / pitch.sqrt()).to(theta.dtype),
            powers(self.slopes(slope)) @ self.basis,
            pitch,
            onset,
            self.window.to(theta.dtype),
            self.n_samples,
        )
        return audio / audio.square().sum(-1, keepdim=True).sqrt()
