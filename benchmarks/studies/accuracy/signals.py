"""The sounds of the study, in pairs (sound, target), of RMS one and in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

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


def granular(n: int, density: float, slope: float, seed: int, times: int = 1) -> Tensor:
    """A texture of some times n samples, with as many times the grains."""
    grains = {"n_grains": 64 * times, "grain_samples": n // 8, "max_slope": 24.0 * 4096 / n}
    synth = GranularSynth(times * n, SAMPLE_RATE, **grains)
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


def drum(n: int, onset: float, pitch: float, seed: int) -> Tensor:
    """Decaying partials whose pitch falls and noise that decays faster, digital silence from the middle on.

    Args:
        n: samples.
        onset: of the attack, in units of n; silence before it.
        pitch: of the lowest partial in the end, in Hz.
        seed: of the noise.
    """
    start, decay = round(n * onset), n / 24
    length = n // 2 - start
    time = torch.arange(length, dtype=torch.float64)
    falling = 2 * math.pi * pitch / SAMPLE_RATE * (time - 0.5 * decay * torch.exp(-2 * time / decay))
    body = sum(torch.sin(ratio * falling) * torch.exp(-ratio * time / decay) for ratio in (1.0, 1.6, 2.7))
    x = body + white_noise(length, seed) * torch.exp(-8 * time / decay)
    fade = torch.hann_window(2 * (length // 4), periodic=False, dtype=torch.float64)[length // 4 :]
    x[-len(fade) :] *= fade
    return pad(x, (start, n // 2))


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


def _in_silence(pair: Pair) -> Pair:
    """Sounds with half their length of silence before and after them."""
    x, y = (pad(z, (z.shape[-1] // 2, z.shape[-1] // 2)) for z in pair)
    return x, y


LONG_SOUNDS: Makers = {
    "white noise": lambda n: SOUNDS["white noise"](2 * n),
    "pink noise": lambda n: SOUNDS["pink noise"](2 * n),
    "clean chirp": lambda n: SOUNDS["clean chirp"](2 * n),
    "AM tone, noise -60 dB": lambda n: SOUNDS["AM tone, noise -60 dB"](2 * n),
    "granular": lambda n: _pair(granular(n, 0.6, 0.75, 0, times=2), granular(n, 0.8, 0.4, 1, times=2)),
    "silence, click": lambda n: _in_silence(SOUNDS["silence, click"](n)),
    "drum, silence": lambda n: _in_silence(_pair(drum(n, 0.0, 80.0, 0), drum(n, 0.0, 110.0, 1))),
    "silence, drum, silence": lambda n: _in_silence(_pair(drum(n, 0.125, 80.0, 0), drum(n, 0.125, 110.0, 1))),
}
"""Sounds of n samples with half as many more before and after them, as they would go on: 2 n in all."""
