"""Differentiable granular synthesizer: textures of chirped grains with a density and a slope.

The paper (section 4.2) leaves the formulas open. These are ours; every grain n of example b is

    a_n(theta) w(t) sin(2 pi f_n h(gamma, t)),   t in (-D/2, D/2) seconds around the grain's centre,

    h(gamma, t) = (2^(gamma t) - 1) / (gamma ln 2),   instantaneous frequency f_n 2^(gamma t)

with w a Hann window, f_n (pitch at the grain's centre) and the onset drawn from the example's seed, gamma
(oct/s) from theta_slope and a_n from theta_density. Grains lie wholly inside the clip, so none is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["GranularSynth"]

# With 1/20! < 1e-18 the series is exact in float64 for |gamma t ln 2| <= 1, which the constructor ensures.
_TAYLOR_TERMS = 20


def draw_grains(seed: int, n_grains: int) -> np.ndarray:
    """Return uniform numbers in [0, 1) of shape (2, n_grains), for onsets and pitches; the seed determines them.

    They are made of raw words of a counter-based generator, which NumPy promises never to change.
    """
    words = np.random.Philox(key=seed).random_raw(2 * n_grains)
    return (words >> np.uint64(11)).reshape(2, n_grains) * 2.0**-53


def smooth_step(u: Tensor) -> Tensor:
    """Return 0 below -1/2, 1 above 1/2 and a quintic between: twice differentiable, and exactly 0 at the end."""
    v = (u + 0.5).clamp(0.0, 1.0)
    return v * v * v * (v * (6.0 * v - 15.0) + 10.0)


def taylor_basis(time: Tensor) -> Tensor:
    """Return the rows (ln 2)^k t^(k+1) / (k+1)!, with which h(gamma, t) = sum_k gamma^k basis[k](t).

    As a polynomial h is smooth at gamma = 0, where the closed form divides zero by zero.
    """
    rows = [time]
    for k in range(1, _TAYLOR_TERMS):
        rows.append(rows[-1] * time * (math.log(2.0) / (k + 1)))
    return torch.stack(rows)


def powers(gamma: Tensor) -> Tensor:
    """Return gamma^k in column k of (B, K), by products, as higher derivatives of ``pow`` are NaN at zero."""
    columns = [torch.ones_like(gamma)]
    for _ in range(1, _TAYLOR_TERMS):
        columns.append(columns[-1] * gamma)
    return torch.stack(columns, dim=-1)


def phase(pitch: Tensor, warped_time: Tensor, dtype: torch.dtype) -> Tensor:
    """Return phases in radians (b, g, L); whole cycles are dropped in float64, as float32 errs by 4e-4 rad."""
    cycles = pitch[:, :, None] * warped_time[:, None, :]
    return cycles.frac().to(dtype) * (2.0 * math.pi)


def sample_index(onset: Tensor, grain_samples: int, n_samples: int) -> Tensor:
    """Return the position of each grain sample in the flattened audio (b, n_samples), flattened itself."""
    example = torch.arange(onset.shape[0], device=onset.device)[:, None] * n_samples
    return ((onset + example)[:, :, None] + torch.arange(grain_samples, device=onset.device)).flatten()


class _OverlapAdd(torch.autograd.Function):
    """Sum over grains of amplitude * window * sin(phase), placed at their onsets.

    Plain autograd would keep some ten arrays of grain samples; this function keeps none and computes them again.
    The backward pass consists of differentiable operations, so that create_graph=True works. On the CPU, examples
    are taken one by one: the work stays in cache, and silent grains are skipped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        amplitude: Tensor,
        warped_time: Tensor,
        pitch: Tensor,
        onset: Tensor,
        window: Tensor,
        n_samples: int,
    ) -> Tensor:
        ctx.save_for_backward(amplitude, warped_time, pitch, onset, window)
        ctx.n_samples = n_samples
        audio = amplitude.new_zeros(amplitude.shape[0], n_samples)
        for b, g in _groups(amplitude):
            grains = phase(pitch[b, g], warped_time[b], amplitude.dtype).sin_()
            grains *= window
            grains *= amplitude[b, g, None]
            index = sample_index(onset[b, g], window.shape[0], n_samples)
            audio[b].view(-1).scatter_add_(0, index, grains.view(-1))
        return audio

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        amplitude, warped_time, pitch, onset, window = ctx.saved_tensors
        grad_amplitude, grad_warped_time = [], []
        for b, g in _groups(amplitude):
            a, f, h = amplitude[b, g], pitch[b, g], warped_time[b]
            index = sample_index(onset[b, g], window.shape[0], ctx.n_samples)
            grad_grains = grads[0][b].reshape(-1).index_select(0, index).view(*a.shape, -1) * window
            radians = phase(f, h, a.dtype)
            grad_a = (grad_grains * radians.sin()).sum(-1)
            grad_h = torch.einsum("bg,bgt->bt", a * (2.0 * math.pi * f).to(a.dtype), grad_grains * radians.cos())
            grad_amplitude.append(nn.functional.pad(grad_a, (0, amplitude.shape[1] - grad_a.shape[1])))
            grad_warped_time.append(grad_h.to(h.dtype))
        return torch.cat(grad_amplitude), torch.cat(grad_warped_time), None, None, None, None


def _groups(amplitude: Tensor) -> list[tuple[slice, slice]]:
    """Return slices (examples, audible grains) that are computed at a time."""
    if amplitude.device.type != "cpu":  # few large kernels, and no wait for the device
        return [(slice(None), slice(None))]
    # amplitudes fall with the grain's index, and are exactly 0 with zero derivatives after the last audible one
    audible = (amplitude.detach() > 0).sum(1).tolist()
    return [(slice(b, b + 1), slice(0, n)) for b, n in enumerate(audible)]


class GranularSynth(nn.Module):
    """Synthesizer of textures from theta = (density, slope) in [0, 1]^2 and one seed per example.

    Density moves the number of audible grains c = n_grains^density from one to ``n_grains``. Grain n = 1, 2, ...
    has the amplitude smooth_step(log2(c / n) / softness + 1/2), so that it fades within ``softness`` octaves of
    density. The law is logarithmic, as those of pitch and rate: with a linear law, half of the range of density
    would tell 16 grains from 32, which sound alike. Slopes from 0 to 1 are gamma = -max_slope to +max_slope oct/s,
    and 0.5 is no chirp. The audio is scaled to the RMS ``level``, so that loudness does not reveal density (the
    paper does not say if it does so).

    Onsets (whole samples, uniform) and pitches (log-uniform) depend on the seed alone: one seed gives the same
    grains in any batch. The audio is differentiable in theta, any number of times.
    """

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
        max_slope: float,
        softness: float = 1.0,
        level: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 < grain_samples <= n_samples:
            raise ValueError(
                f"Invalid grain_samples: {grain_samples}; expected 2 to n_samples={n_samples}; shorten the "
                "grains or lengthen the textures"
            )
        if n_grains < 1 or softness <= 0 or level <= 0:
            raise ValueError(
                f"Invalid n_grains, softness, level: {n_grains}, {softness}, {level}; expected positive numbers"
            )
        duration = grain_samples / sample_rate
        limit = min(math.log2(sample_rate / 2 / max_pitch), 1 / math.log(2)) * 2 / duration
        if not 0 < min_pitch <= max_pitch or not 0 <= max_slope < limit:
            raise ValueError(
                f"Invalid max_slope, min_pitch: {max_slope:g}, {min_pitch:g}; expected 0 < min_pitch <= max_pitch "
                f"and slopes under {limit:g} oct/s, with which grains of {duration:g} s around up to "
                f"{max_pitch:g} Hz stay below {sample_rate / 2:g} Hz; lower max_slope or max_pitch, or shorten "
                "the grains"
            )
        self.n_samples, self.sample_rate = n_samples, sample_rate
        self.n_grains, self.grain_samples = n_grains, grain_samples
        self.min_pitch, self.max_pitch, self.max_slope = min_pitch, max_pitch, max_slope
        self.softness, self.level = softness, level
        # samples at the middle of their interval: the grid is symmetric around the grain's centre
        time = (torch.arange(grain_samples, dtype=torch.float64) - (grain_samples - 1) / 2) / sample_rate
        self.register_buffer("window", torch.cos(math.pi * time / duration) ** 2, persistent=False)
        self.register_buffer("basis", taylor_basis(time), persistent=False)

    def grains(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return onsets in samples (int64) and pitches in Hz (float64), each (B, n_grains)."""
        uniform = np.stack([draw_grains(seed, self.n_grains) for seed in seeds])
        onset = np.floor(uniform[:, 0] * (self.n_samples - self.grain_samples + 1)).astype(np.int64)
        pitch = self.min_pitch * (self.max_pitch / self.min_pitch) ** uniform[:, 1]
        return torch.from_numpy(onset).to(self.basis.device), torch.from_numpy(pitch).to(self.basis.device)

    def amplitudes(self, density: Tensor) -> Tensor:
        """Return amplitudes (B, n_grains); the first grain is always on, so that the audio is never silent."""
        octave = torch.log2(torch.arange(1, self.n_grains + 1, dtype=density.dtype, device=density.device))
        active = density[:, None] * math.log2(self.n_grains)
        return smooth_step((active - octave) / self.softness + 0.5)

    def forward(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
        """Render textures (B, n_samples) of theta (B, 2) and B seeds."""
        seeds = [int(seed) for seed in seeds]
        if theta.ndim != 2 or theta.shape[1] != 2 or len(seeds) != theta.shape[0]:
            raise ValueError(
                f"Invalid theta: shape {tuple(theta.shape)} with {len(seeds)} seeds; expected (B, 2) and B seeds; "
                "give one row (density, slope) and one seed per example"
            )
        onset, pitch = self.grains(seeds)
        slope = self.max_slope * (2.0 * theta[:, 1].double() - 1.0)
        audio = _OverlapAdd.apply(
            self.amplitudes(theta[:, 0]),
            powers(slope) @ self.basis,
            pitch,
            onset,
            self.window.to(theta.dtype),
            self.n_samples,
        )
        # the first grain keeps the energy above zero, so the square root needs no guard
        return audio * (self.level * math.sqrt(self.n_samples)) / audio.square().sum(-1, keepdim=True).sqrt()
