"""Fit a sound to a recording by gradient descent on one random JTFS path per step.

Two models of the sound: a waveform, every sample of which is free (texture resynthesis), and the granular
synthesizer, with two parameters. With phi_p the coefficients of path p, y the recording and x_b what the model
makes of seed b, a step descends

    w_p || mean_b phi_p(x_b) - phi_p(y) ||^2 / sum_q ||phi_q(y)||^2,    p ~ pi,  w_p = 1 / (P pi_p).

The mean is inside the norm: grains of other seeds cannot match those of the recording, only their statistics can,
and a mean of distances would add the variance of phi_p over seeds, in favour of sounds that vary little. pi is
half uniform and half proportional to ||phi_p(y)||^2: energies of paths differ by orders of magnitude, and so do
gradients.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scrapl_optim import PathAdamSAGA, PathSampler

from ..transform import JTFSPath
from .audio import LEVEL, Recording
from .granular import GranularSynth
from .progress import Progress

__all__ = ["FITS", "MAX_STEPS", "FitSettings", "Grains", "History", "Model", "Target", "Waveform", "descend"]

MAX_STEPS = 2**24
_EVAL_STEP = MAX_STEPS  # seeds of the evaluations come after those of any step
_STARTS = ((0.5, 0.25), (0.5, 0.75))  # falling and rising; 0.5 would be a saddle for sounds without chirp


@dataclass(frozen=True)
class FitSettings:
    """How to descend: `lr` in the units of the model's parameters falls to 0 as half a cosine."""

    lr: float
    steps: int
    seeds: int  # per step
    eval_seeds: int
    evaluations: int
    sample_rate: int  # Hz
    invariant: bool  # average over the whole signal, or over half a second


# The figures behind each choice are in the repository, benchmarks/results/recordings.json.
FITS = {
    "texture": FitSettings(0.05 * LEVEL, 1000, 1, 1, 10, 16384, False),
    "granular": FitSettings(0.2, 150, 4, 16, 3, 8192, True),
}


def make_jtfs(n_samples: int, sample_rate: int, invariant: bool) -> JTFSPath:
    """Wavelets up to half a second, 8 per octave of pitch; order 1 carries the spectrum."""
    octaves = int(math.log2(min(n_samples, sample_rate / 2)))
    with warnings.catch_warnings():
        # Of an average that hears the reflection: a waveform has the recording's own, and no direction to tell.
        warnings.simplefilter("ignore", UserWarning)
        return JTFSPath(
            n_samples,
            J=octaves,
            Q=(8, 1),
            J_fr=3,
            T="global" if invariant else 2**octaves,
            F=8,
            sample_rate=sample_rate,
            orders=(1, 2),
        )


class Target:
    """The coefficients of a recording, and distances of other sounds to them."""

    def __init__(self, jtfs: JTFSPath, samples: Tensor) -> None:
        self.jtfs = jtfs
        with torch.no_grad():
            self.coefficients = jtfs.full(samples)
        self.energy = np.array([float(c.square().sum()) for c in self.coefficients])

    def distance(self, coefficients: Tensor, path_idx: int) -> Tensor:
        """(starts, seeds, rows, frames) -> (starts,): squared distance of the mean over seeds, over all energy."""
        difference = coefficients.mean(1) - self.coefficients[path_idx]
        return difference.square().sum((-2, -1)) / self.energy.sum()

    @torch.no_grad()
    def path_distances(self, x: Tensor) -> Tensor:
        """(starts, seeds, n_samples) -> (starts, P)."""
        return torch.stack([self.distance(c, p) for p, c in self.jtfs.stream(x)], dim=-1)

    def relative_error(self, x: Tensor) -> Tensor:
        """(starts, seeds, n_samples) -> (starts,): sqrt(sum_p ||S_p(x) - S_p(y)||^2 / sum_p ||S_p(y)||^2)."""
        return self.path_distances(x).sum(-1).sqrt()

    def fall(self, start: Tensor, match: Tensor) -> tuple[float, float]:
        """(seeds, n_samples) of the same seeds -> how far the error falls, and the standard error of that.

        From four groups of seeds, each compared with itself.
        """
        before, after = (self.relative_error(x.unflatten(0, (4, -1))) for x in (start, match))
        fall = before - after
        return float(fall.mean()), float(fall.std() / 2)

    def median_path_error(self, x: Tensor) -> float:
        """(1, seeds, n_samples) -> the median over paths of ||S_p(x) - S_p(y)|| / ||S_p(y)||.

        The error over the tree is that of its few strong paths; this one is that of a typical path.
        """
        share = np.maximum(self.energy / self.energy.sum(), np.finfo(np.float64).tiny)
        return float(np.median(np.sqrt(self.path_distances(x)[0].double().numpy() / share)))


class Model(Protocol):
    """A sound with parameters to fit."""

    def __call__(self, seeds: Sequence[int]) -> Tensor: ...  # (starts, seeds, n_samples), differentiable
    def parameters(self) -> Sequence[nn.Parameter]: ...


class Waveform:
    """Every sample is a parameter. Starts from noise: the recording's magnitude spectrum with random phases."""

    def __init__(self, recording: Recording, seed: int) -> None:
        spectrum = torch.fft.rfft(recording.samples)
        turn = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(seed)) * (2 * math.pi)
        noise = torch.fft.irfft(torch.polar(spectrum.abs(), turn), recording.samples.shape[-1])
        self.samples = nn.Parameter(noise)

    def __call__(self, seeds: Sequence[int]) -> Tensor:
        return self.samples[None, None]

    def parameters(self) -> Sequence[nn.Parameter]:
        return [self.samples]


class Grains:
    """The granular synthesizer, theta = sigmoid of the parameters, from several starts at once.

    Grains last 1/8 s, up to 32 start per second, and they rise or fall by an octave at most; their pitches span
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
        """(starts, 2)."""
        return torch.sigmoid(self.logit)

    def __call__(self, seeds: Sequence[int]) -> Tensor:
        theta = self.theta.repeat_interleave(len(seeds), 0)
        return self.synth(theta, list(seeds) * len(_STARTS)).unflatten(0, (len(_STARTS), len(seeds)))

    def parameters(self) -> Sequence[nn.Parameter]:
        return [self.logit]

    def physical(self, theta: Tensor) -> dict[str, float]:
        """(2,) -> theta as such, in grains per second and in octaves per second."""
        density, slope = theta.tolist()
        duration = self.synth.n_samples / self.synth.sample_rate
        return {
            "density": density,
            "slope": slope,
            "grains_per_second": self.synth.n_grains**density / duration,
            "octaves_per_second": self.synth.max_slope * (2 * slope - 1),
        }

    def doubts(self, best: int) -> list[str]:
        """What should keep the reader from believing theta of the chosen start."""
        (density, slope), falls = self.theta[best].tolist(), self.theta[:, 1] < 0.5
        ends = [name for name, value in (("density", density), ("slope", slope)) if not 0.03 < value < 0.97]
        found = [
            f"{name} is at the end of its range: the recording may be no texture of such grains" for name in ends
        ]
        if bool(falls[0]) != bool(falls[1]):
            found.append("the two starts end with slopes of opposite signs: compare their errors")
        return found


def fall_doubts(fall: float, standard_error: float) -> list[str]:
    """Whether a fit is better than its start at all."""
    if fall > 2 * standard_error:
        return []
    return [
        f"the error falls by {fall:.3f} +- {standard_error:.3f} over seeds of grains, not beyond chance: "
        "this recording does not determine theta"
    ]


def pitch_band(samples: Tensor, sample_rate: int, lowest: float, highest: float) -> tuple[float, float]:
    """Frequencies in Hz below which 5 % and 95 % of the energy lie, between `lowest` and `highest`."""
    power = torch.fft.rfft(samples.double()).abs().square().cumsum(0)
    bins = torch.searchsorted(power, power[-1] * torch.tensor([0.05, 0.95], dtype=torch.float64))
    low, high = (bins * sample_rate / samples.shape[-1]).clamp(lowest, highest).tolist()
    return low, high


@dataclass
class History:
    """What happened: `curve` holds (step, error of the full tree for each start)."""

    curve: list[tuple[int, list[float]]] = field(default_factory=list)
    done: int = 0
    interrupted: bool = False

    @property
    def best(self) -> int:
        """The start that ended nearest to the recording."""
        return int(np.argmin(self.curve[-1][1]))


def step_seeds(seed: int, step: int, count: int) -> list[int]:
    """Seeds of the grains of a step: never the same twice."""
    return [(seed << 32) + step * count + b for b in range(count)]


def eval_seeds(seed: int, settings: FitSettings) -> list[int]:
    """Seeds of every evaluation, none of which a step uses."""
    return [(seed << 32) + _EVAL_STEP * settings.seeds + b for b in range(settings.eval_seeds)]


def descend(target: Target, model: Model, settings: FitSettings, seed: int) -> History:
    """Fit the model; ctrl-C ends it early, and is told by `interrupted`.

    Adam without rows per path, which is PathAdamSAGA with one path: its state is two floats per parameter (and an
    unused third), where P-Adam with P-SAGA keeps 2P + 1: 25 MB for a waveform of 32768 samples and 95 paths. It is
    also what converges here: P-Adam gives weak and strong paths equal votes, and in a single sound, where nothing
    averages over a data set, ends at twice the error or more.
    """
    sampler = PathSampler(target.energy / target.energy.sum(), seed=seed, min_prob_frac=0.5)
    optimizer = PathAdamSAGA(model.parameters(), n_paths=1, lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
    history = History()
    _evaluate(history, target, model, settings, seed)
    marks = {round(settings.steps * k / settings.evaluations) for k in range(1, settings.evaluations)}
    try:
        with Progress(settings.steps, disable=None) as bar:
            for step in range(settings.steps):
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
                _step(target, model, optimizer, sampler, step, step_seeds(seed, step, settings.seeds))
                history.done = step + 1
                if history.done in marks:
                    _evaluate(history, target, model, settings, seed)
                bar.note(f"error {min(history.curve[-1][1]):.3f}")
                bar.step()
    except KeyboardInterrupt:
        history.interrupted = True
    if history.curve[-1][0] != history.done:
        _evaluate(history, target, model, settings, seed)
    return history


def _step(
    target: Target, model: Model, optimizer: PathAdamSAGA, sampler: PathSampler, step: int, seeds: Sequence[int]
) -> None:
    path_idx = sampler(step)
    optimizer.zero_grad()
    distance = target.distance(target.jtfs(model(seeds), path_idx), path_idx)
    (sampler.weight(path_idx) * distance.sum()).backward()  # starts do not share parameters
    optimizer.step()


@torch.no_grad()
def _evaluate(history: History, target: Target, model: Model, settings: FitSettings, seed: int) -> None:
    errors = target.relative_error(model(eval_seeds(seed, settings))).tolist()
    history.curve.append((history.done, errors))
