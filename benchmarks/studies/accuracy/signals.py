"""The sounds of the study, in pairs (sound, target), of RMS one and in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.chirplet import chirplet
from scrapl_jtfs.commands.granular import GranularSynth

SAMPLE_RATE = 8192.0
Pair = tuple[Tensor, Tensor]


def normalized(x: Tensor) -> Tensor:
    """Divide by the RMS over the last axis."""
    return x / x.square().mean(-1, keepdim=True).sqrt()


def white_noise(n: int, seed: int) -> Tensor:
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pink_noise(n: int, seed: int) -> Tensor:
    """Power 1 / f, no mean."""
    spectrum = torch.fft.rfft(white_noise(n, seed))
    spectrum[0] = 0.0
    spectrum[1:] /= torch.arange(1, spectrum.shape[0], dtype=torch.float64).sqrt()
    return torch.fft.irfft(spectrum, n=n)


def seconds(n: int) -> Tensor:
    """Time from the middle of the sound."""
    return (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / SAMPLE_RATE


def chirp(n: int, fm: float) -> Tensor:
    """A chirplet without modulation of its amplitude."""
    rate = torch.tensor([fm], dtype=torch.float64)
    return chirplet(seconds(n), torch.zeros_like(rate), rate, center=512.0, bandwidth=2.0)


def am_tone(n: int, pitch: float, rate: float) -> Tensor:
    time = seconds(n)
    return (1.0 + 0.8 * torch.sin(2 * math.pi * rate * time)) * torch.sin(2 * math.pi * pitch * time)


def granular(n: int, density: float, slope: float, seed: int) -> Tensor:
    synth = GranularSynth(n, SAMPLE_RATE, n_grains=64, grain_samples=n // 8, max_slope=24.0 * 4096 / n)
    return synth(torch.tensor([[density, slope]], dtype=torch.float64), [seed])[0]


def click(n: int, position: float) -> Tensor:
    """Silence, one sample, silence."""
    x = torch.zeros(n, dtype=torch.float64)
    x[round(n * position)] = 1.0
    return x


def burst(n: int, pitch: float) -> Tensor:
    """A sixteenth of a tone under a Hann window, digital silence around it."""
    length = n // 16
    x = torch.zeros(n, dtype=torch.float64)
    tone = torch.sin(2 * math.pi * pitch * torch.arange(length) / SAMPLE_RATE)
    x[n // 2 : n // 2 + length] = tone * torch.hann_window(length, periodic=False, dtype=torch.float64)
    return x


def noisy(pair: Pair, decibels: float) -> Pair:
    """Add white noise at a level relative to each sound's RMS."""
    gain = 10.0 ** (decibels / 20.0)
    x, y = (normalized(z) + gain * white_noise(z.shape[-1], 100 + i) for i, z in enumerate(pair))
    return x, y


def _pair(x: Tensor, y: Tensor) -> Pair:
    return normalized(x), normalized(y)


Makers = Mapping[str, Callable[[int], Pair]]

SOUNDS: Makers = {
    "white noise": lambda n: _pair(white_noise(n, 0), white_noise(n, 1)),
    "pink noise": lambda n: _pair(pink_noise(n, 0), pink_noise(n, 1)),
    "clean chirp": lambda n: _pair(chirp(n, 1.5), chirp(n, 2.5)),
    "AM tone, noise -60 dB": lambda n: noisy((am_tone(n, 600.0, 5.0), am_tone(n, 660.0, 7.0)), -60.0),
    "granular": lambda n: _pair(granular(n, 0.6, 0.75, 0), granular(n, 0.8, 0.4, 1)),
    "silence, click": lambda n: _pair(click(n, 0.6), 0.8 * click(n, 0.6) + 0.4 * click(n, 0.75)),
}
"""Sounds on which compact transforms are compared with the exact one."""

CLEAN_SOUNDS: Makers = {
    "clean chirp": SOUNDS["clean chirp"],
    "clean AM tone": lambda n: _pair(am_tone(n, 600.0, 5.0), am_tone(n, 660.0, 7.0)),
    "chirp, noise -60 dB": lambda n: noisy((chirp(n, 1.5), chirp(n, 2.5)), -60.0),
    "white noise": SOUNDS["white noise"],
    "silence, burst": lambda n: _pair(burst(n, 700.0), burst(n, 900.0)),
}
"""Sounds on which smoothed moduli are measured: those with empty sub-bands, and two without."""
