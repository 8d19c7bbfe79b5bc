"""A differentiable drum machine of 14 controls (section 4.4; the paper cites it, and does not write it down).

With t = 0, 1, ... in samples, sr the sampling rate and e(t) = r^t, a sound is, up to a shift,

    x_t = tanh(g_d (g_1 A_1(t) s_1(t) + g_2 A_2(t) s_2(t) + g_n A_n(t) n_t)),
    s_i(t) = sin(2 pi sum over k < t of f_i (1 + a_i e(k)) / sr),

where A(t) is t / L over the attack of L samples (1 ms) and r^(t - L) from there on, and n_t is white noise in
(-1, 1) through a resonant high-pass. The envelopes e, A_1, A_2 and A_n each have their r = 1 - 6.91 / (decay in
samples), with which they fall by 60 dB in their decay. Controls are linear in frequencies (Hz), amounts, decays
(ms), q and gains (dB).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sound_matching.synths.chirplets import draw_shifts
from benchmarks.sound_matching.synths.high_pass import high_pass

_HIGHEST_PITCH = 2000.0
# In cycles of half the sampling rate. At 1 the poles lie on the unit circle, and nothing passes.
_HIGHEST_CUTOFF = 0.99
# Seconds.
_ATTACK = 0.001
# ln 1000: what decays by 60 dB.
_FALL = 6.91
_PITCH, _AMOUNT, _DECAY, _GAIN = (20.0, _HIGHEST_PITCH), (-1.0, 2.0), (10.0, 2000.0), (-60.0, 6.0)
# Values of the controls at 0 and 1; None stands for the highest cutoff, which depends on the sampling rate.
_RANGES: dict[str, tuple[float, float | None]] = {
    "osc1_frequency": _PITCH,
    "osc1_amount": _AMOUNT,
    "osc2_frequency": _PITCH,
    "osc2_amount": _AMOUNT,
    "frequency_decay": _DECAY,
    "osc1_decay": _DECAY,
    "osc2_decay": _DECAY,
    "noise_decay": _DECAY,
    "noise_cutoff": (20.0, None),
    "noise_q": (0.5, 10.0),
    "osc1_gain": _GAIN,
    "osc2_gain": _GAIN,
    "noise_gain": _GAIN,
    "drive": (-24.0, 24.0),
}


def draw_noise(seed: int, n_samples: int) -> np.ndarray:
    """Return n_samples numbers, uniform in (-1, 1), of 24 bits: float32 holds them exactly.

    The seed's first word is that of its shift. A longer noise begins with the shorter one.
    """
    words = np.random.Philox(key=seed).random_raw(n_samples + 1)[1:]
    return ((words >> np.uint64(40)) * 2.0 + (1 - 2**24)) * 2.0**-24


def decibels(gain: Tensor) -> Tensor:
    """Return the factor of a gain in dB."""
    return torch.exp(gain * (math.log(10.0) / 20.0))


class DrumSynth(nn.Module):
    """Synthesizer of drums from theta (B, 14) and one seed per example, which decides the noise and the shift.

    Envelopes and waves are computed in the dtype of theta, phases and the response of the filter in double
    precision: in single precision a thousand cycles lose 4e-4 radians, and low cutoffs all digits. Sounds are
    differentiable any number of times on all of [0, 1]^14. Above half the sampling rate, oscillators alias.

    Args:
        n_samples: length of the sounds.
        sample_rate: Hz, above 4000, so that the oscillators are below half of it once they have settled.
        max_shift: sounds are shifted by a whole number of samples, uniform in [-max_shift, max_shift], below
            n_samples; zeros come in at the end from which the shift leads away.
        delay: samples by which all sounds come later, on top of the shift. With max_shift, none begins before 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    controls = tuple(_RANGES)

    def __init__(self, n_samples: int, sample_rate: float = 44100, *, max_shift: int = 0, delay: int = 0) -> None:
        super().__init__()
        if n_samples < 1 or not 0 <= max_shift < n_samples:
            raise ValueError(
                f"Invalid n_samples, max_shift: {n_samples}, {max_shift}; expected 1 sample or more, and shifts "
                "from 0 to n_samples - 1; lengthen the sounds"
            )
        if not 0 <= delay < n_samples - max_shift:
            raise ValueError(
                f"Invalid delay: {delay}; expected 0 to {n_samples - max_shift - 1}, such that something of every "
                "sound is left; lengthen the sounds"
            )
        if not 2.0 * _HIGHEST_PITCH < sample_rate < math.inf:
            raise ValueError(
                f"Invalid sample_rate: {sample_rate}; expected more than {2.0 * _HIGHEST_PITCH:g} Hz, twice the "
                "highest pitch"
            )
        self.n_samples, self.sample_rate, self.max_shift, self.delay = n_samples, sample_rate, max_shift, delay
        top = 0.5 * _HIGHEST_CUTOFF * sample_rate
        self.ranges = {name: (low, top if high is None else high) for name, (low, high) in _RANGES.items()}

    def values(self, theta: Tensor) -> Tensor:
        """Return what theta stands for, in Hz, ms and dB, float64 (B, 14)."""
        low, high = torch.tensor(list(self.ranges.values()), dtype=torch.float64, device=theta.device).unbind(1)
        return low + theta.double() * (high - low)

    def forward(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
        """Render drums (B, n_samples) of theta (B, 14), float32 or float64, and B integer seeds.

        Raises:
            TypeError: theta is no tensor of these dtypes, or a seed no integer.
            ValueError: a shape, a control or a seed is out of its range.
        """
        seeds = self._check(theta, seeds)
        dtype = theta.dtype
        # Columns (B, 1) of the fourteen.
        f1, a1, f2, a2, decay, decay1, decay2, decay_n, cutoff, q, g1, g2, g_n, drive = (
            self.values(theta).T.unsqueeze(-1).unbind()
        )
        noise = torch.from_numpy(np.stack([draw_noise(seed, self.n_samples) for seed in seeds])).to(theta)
        noise = high_pass(noise, (cutoff * (2.0 * math.pi / self.sample_rate))[:, 0], q[:, 0])
        bend = self.bend(decay)
        dry = (
            self.wave(f1, a1, bend, dtype) * self.amplitude(decay1, g1, dtype)
            + self.wave(f2, a2, bend, dtype) * self.amplitude(decay2, g2, dtype)
            + noise * self.amplitude(decay_n, g_n, dtype)
        )
        return self._shift(torch.tanh(decibels(drive).to(dtype) * dry), seeds)

    def _rate(self, decay: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - r and ln r of decays in ms."""
        step = _FALL / (decay * (0.001 * self.sample_rate))
        return step, torch.log1p(-step)

    def bend(self, decay: Tensor) -> Tensor:
        """Return the sums of e over k < t, (1 - r^t) / (1 - r), as (B, N) float64."""
        step, log_r = self._rate(decay)
        return -torch.expm1(log_r * self._samples(decay)) / step

    def wave(self, frequency: Tensor, amount: Tensor, bend: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the sine (B, N) of an oscillator; whole cycles are dropped in double precision."""
        cycles = (frequency / self.sample_rate) * (self._samples(bend) + amount * bend)
        return torch.sin(cycles.frac().to(dtype) * (2.0 * math.pi))

    def amplitude(self, decay: Tensor, gain: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the envelope (B, N) with its gain."""
        attack = max(1, round(_ATTACK * self.sample_rate))
        time = self._samples(decay).to(dtype)
        _, log_r = self._rate(decay)
        rise = (time / attack).clamp(max=1.0)
        return decibels(gain).to(dtype) * rise * torch.exp(log_r.to(dtype) * (time - attack).clamp(min=0.0))

    def _samples(self, like: Tensor) -> Tensor:
        return torch.arange(self.n_samples, dtype=torch.float64, device=like.device)

    def _shift(self, sounds: Tensor, seeds: list[int]) -> Tensor:
        """Move each sound by its whole number of samples, later if positive."""
        if self.max_shift == self.delay == 0:
            return sounds
        shifts = [self.delay + by for by in draw_shifts(seeds, self.max_shift).long().tolist()]
        return torch.stack([nn.functional.pad(sound, (by, -by)) for sound, by in zip(sounds, shifts, strict=True)])

    def _check(self, theta: Tensor, seeds: Sequence[int] | Tensor) -> list[int]:
        """Return the seeds as a list."""
        if not isinstance(theta, Tensor) or theta.dtype not in (torch.float32, torch.float64):
            kind = theta.dtype if isinstance(theta, Tensor) else type(theta).__name__
            raise TypeError(f"Invalid theta: {kind}; expected a tensor of float32 or float64; convert it")
        seeds = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
        expected = len(self.controls)
        if theta.ndim != 2 or theta.shape[1] != expected or not 0 < len(seeds) == theta.shape[0]:
            raise ValueError(
                f"Invalid theta: shape {tuple(theta.shape)} with {len(seeds)} seeds; expected (B, {expected}) and "
                f"B seeds; give one row of the {expected} controls and one seed per example"
            )
        inside = (theta >= 0) & (theta <= 1)
        if not inside.all():
            row, column = (~inside).nonzero()[0].tolist()
            raise ValueError(
                f"Invalid theta: {theta[row, column].item():g} for {self.controls[column]} of example {row}; "
                "expected numbers in [0, 1]; end the encoder in a sigmoid"
            )
        try:
            seeds = [operator.index(seed) for seed in seeds]
        except TypeError as error:
            raise TypeError(f"Invalid seeds: {seeds}; expected integers; draw them with torch.randint") from error
        if not all(0 <= seed < 2**63 for seed in seeds):
            raise ValueError(
                f"Invalid seeds: {seeds}; expected integers from 0 to 2^63 - 1; take them modulo 2^63"
            )
        return seeds
