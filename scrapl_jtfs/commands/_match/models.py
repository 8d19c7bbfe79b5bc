"""Model of a sound that is fitted to a recording: the granular synthesizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from scrapl_jtfs.commands.audio import LEVEL, Recording
from scrapl_jtfs.commands.granular import GranularSynth

__all__ = ["Grains", "Model"]

# Density and slope at the starts, falling and rising. A slope of 0.5 is a saddle for sounds without chirp.
_STARTS = ((0.5, 0.25), (0.5, 0.75))


class Model(Protocol):
    """Model of a sound with parameters to fit."""

    def __call__(self, seeds: Sequence[int]) -> Tensor:
        """Return sounds (starts, seeds, n_samples), differentiable in the parameters."""
        ...

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return what is fitted."""
        ...


class Grains:
    """Granular synthesizer whose theta is the sigmoid of the parameters, with several starts at once.

    Grains last 1/8 s and rise or fall by at most an octave; up to 32 of them start in a second. Their pitches span
    the band that holds 90 % of the recording's energy.
    """

    def __init__(self, recording: Recording) -> None:
        n, rate = recording.samples.shape[-1], recording.sample_rate
        grain = min(rate // 8, n // 4)
        lowest, highest = pitch_band(recording.samples, rate, 4 * rate / grain, rate / 2 * 2**-0.55)
        self.synth = GranularSynth(
            n,
            rate,
            n_grains=max(8, 32 * n // rate),
            grain_samples=grain,
            min_pitch=lowest,
            max_pitch=highest,
            max_slope=rate / grain,
            level=LEVEL,
        )
        self.logit = nn.Parameter(torch.logit(torch.tensor(_STARTS)))

    @property
    def theta(self) -> Tensor:
        """Density and slope of each start (starts, 2)."""
        return torch.sigmoid(self.logit)

    def __call__(self, seeds: Sequence[int]) -> Tensor:
        theta = self.theta.repeat_interleave(len(seeds), 0)
        return self.synth(theta, list(seeds) * len(_STARTS)).unflatten(0, (len(_STARTS), len(seeds)))

    def parameters(self) -> Sequence[nn.Parameter]:
        return [self.logit]

    def physical(self, theta: Tensor) -> dict[str, float]:
        """Return theta (2,) by name, as it is and in grains and octaves per second."""
        density, slope = theta.tolist()
        duration = self.synth.n_samples / self.synth.sample_rate
        return {
            "density": density,
            "slope": slope,
            "grains_per_second": self.synth.n_grains**density / duration,
            "octaves_per_second": self.synth.max_slope * (2 * slope - 1),
        }

    def doubts(self, best: int) -> list[str]:
        """Return reasons not to believe theta of the chosen start."""
        (density, slope), falls = self.theta[best].tolist(), self.theta[:, 1] < 0.5
        ends = [name for name, value in (("density", density), ("slope", slope)) if not 0.03 < value < 0.97]
        doubts = [
            f"{name} is at the end of its range: the recording may be no texture of such grains" for name in ends
        ]
        if bool(falls[0]) != bool(falls[1]):
            doubts.append("the two starts end with slopes of opposite signs: compare their errors")
        return doubts


def pitch_band(samples: Tensor, sample_rate: int, lowest: float, highest: float) -> tuple[float, float]:
    """Return the frequencies in Hz, from ``lowest`` to ``highest``, below which 5 % and 95 % of the energy lie."""
    power = torch.fft.rfft(samples.double()).abs().square().cumsum(0)
    bins = torch.searchsorted(power, power[-1] * torch.tensor([0.05, 0.95], dtype=torch.float64))
    low, high = (bins * sample_rate / samples.shape[-1]).clamp(lowest, highest).tolist()
    return low, high
