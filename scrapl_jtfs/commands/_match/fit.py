"""Fit the granular synthesizer to a recording by gradient descent on one random JTFS path per step.

With phi_p the coefficients of
path p, y the recording and x_b the model's sound of seed b, a step descends

    w_p || mean_b phi_p(x_b) - phi_p(y) ||^2 / sum_q ||phi_q(y)||^2,    p ~ pi,  w_p = 1 / (P pi_p).

The mean is inside the norm, as grains of other seeds can match the recording in their statistics only. A mean of
distances would add the variance of phi_p over seeds, which favours sounds that vary little; of the mean of B seeds
the norm has a B-th of that. ``FitSettings.pairs`` leaves it out altogether, with the mean over pairs of seeds of
<phi_p(x_b) - phi_p(y), phi_p(x_c) - phi_p(y)> in place of the norm, at the same cost. Half of pi is uniform
and half is proportional to ||phi_p(y)||^2, since energies of paths differ by orders of magnitude, and so do their
gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs.commands._match.models import Model
from scrapl_jtfs.commands.progress import Progress
from scrapl_jtfs.loss import path_distance
from scrapl_jtfs.transform import JTFSPath
from scrapl_optim import PathAdamSAGA, PathSampler

__all__ = ["GRANULAR", "MAX_STEPS", "FitSettings", "History", "Target", "descend", "eval_seeds", "fall_doubts"]

MAX_STEPS = 2**24
# Seeds of evaluations come after those of any step.
_EVAL_STEP = MAX_STEPS


class FitSettings(NamedTuple):
    """Settings of the descent.

    Attributes:
        lr: learning rate at the start, in the units of the parameters; it falls to 0 like half a cosine.
        steps: number of steps.
        seeds: number of seeds of the model in a step.
        eval_seeds: number of seeds in an evaluation.
        evaluations: number of evaluations.
        sample_rate: working sample rate in Hz.
        invariant: True to average over the whole signal, False over half a second.
        pairs: True to descend the mean product of pairs of seeds, of which a step then needs two or more.
    """

    lr: float
    steps: int
    seeds: int
    eval_seeds: int
    evaluations: int
    sample_rate: int
    invariant: bool
    pairs: bool = False


# The figures behind each choice are in the repository, benchmarks/results/recordings.json.
GRANULAR = FitSettings(0.2, 150, 4, 16, 3, 8192, True)


class Target:
    """Coefficients of a recording, with the distances of other sounds to them."""

    def __init__(self, jtfs: JTFSPath, samples: Tensor) -> None:
        self.jtfs = jtfs
        with torch.no_grad():
            self.coefficients = jtfs.full(samples)
        self.energy = np.array([float(c.square().sum()) for c in self.coefficients])

    def distance(self, coefficients: Tensor, path_idx: int, *, pairs: bool = False) -> Tensor:
        """Return the squared distance of a path's mean over seeds, relative to the energy of all paths.

        Args:
            coefficients: (starts, seeds, rows, frames) coefficients of the path.
            path_idx: path id p.
            pairs: True for the mean product of pairs of seeds, which is unbiased for the mean over all seeds.

        Returns:
            (starts,)
        """
        mean = coefficients.mean(1)
        a = coefficients.unbind(1) if pairs else mean
        return path_distance(a, self.coefficients[path_idx].expand_as(mean)) / self.energy.sum()

    @torch.no_grad()
    def path_distances(self, x: Tensor) -> Tensor:
        """Return the distance (starts, P) of sounds (starts, seeds, n_samples) on each path."""
        return torch.stack([self.distance(c, p) for p, c in self.jtfs.stream(x)], dim=-1)

    def relative_error(self, x: Tensor) -> Tensor:
        """Return sqrt(sum_p ||S_p(x) - S_p(y)||^2 / sum_p ||S_p(y)||^2), (starts,), of sounds x as above."""
        return self.path_distances(x).sum(-1).sqrt()

    def fall(self, start: Tensor, match: Tensor) -> tuple[float, float]:
        """Return by how much the error falls, and the standard error of that, from four groups of seeds.

        Args:
            start: (seeds, n_samples) sounds before the fit.
            match: (seeds, n_samples) sounds of the same seeds after it.
        """
        before, after = (self.relative_error(x.unflatten(0, (4, -1))) for x in (start, match))
        fall = before - after
        return float(fall.mean()), float(fall.std() / 2)

    def median_path_error(self, x: Tensor) -> float:
        """Return the median over paths of ||S_p(x) - S_p(y)|| / ||S_p(y)||, for sounds (1, seeds, n_samples).

        It is the error of a typical path; a few strong paths dominate the error over all of them.
        """
        share = np.maximum(self.energy / self.energy.sum(), np.finfo(np.float64).tiny)
        return float(np.median(np.sqrt(self.path_distances(x)[0].double().numpy() / share)))


def fall_doubts(fall: float, standard_error: float) -> list[str]:
    """Return the doubt, if there is one, that a fit is better than its start."""
    if fall > 2 * standard_error:
        return []
    return [
        f"the error falls by {fall:.3f} +- {standard_error:.3f} over seeds of grains, not beyond chance: "
        "this recording does not determine theta"
    ]


@dataclass
class History:
    """Course of a fit.

    Attributes:
        curve: steps, and the error on all paths at each of them for each start.
        done: number of steps done.
        interrupted: True if ctrl-C ended the fit.
    """

    curve: list[tuple[int, list[float]]] = field(default_factory=list)
    done: int = 0
    interrupted: bool = False

    @property
    def best(self) -> int:
        """Index of the start that ended nearest to the recording."""
        return int(np.argmin(self.curve[-1][1]))


def step_seeds(seed: int, step: int, count: int) -> list[int]:
    """Return the seeds of the grains of a step, which no other step has."""
    return [(seed << 32) + step * count + b for b in range(count)]


def eval_seeds(seed: int, settings: FitSettings) -> list[int]:
    """Return the seeds of every evaluation, none of which a step uses."""
    return [(seed << 32) + _EVAL_STEP * settings.seeds + b for b in range(settings.eval_seeds)]


def descend(target: Target, model: Model, settings: FitSettings, seed: int) -> History:
    """Fit the model and return the course of the fit; ctrl-C ends it early.

    The optimizer is Adam, PathAdamSAGA with a single path. P-Adam with P-SAGA would give weak and strong paths
    equal weight, which for a single sound, with no average over a data set, ends at twice the error or more.
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
                _step(target, model, optimizer, sampler, step, settings, seed)
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
    target: Target,
    model: Model,
    optimizer: PathAdamSAGA,
    sampler: PathSampler,
    step: int,
    settings: FitSettings,
    seed: int,
) -> None:
    path_idx = sampler(step)
    optimizer.zero_grad()
    coefficients = target.jtfs(model(step_seeds(seed, step, settings.seeds)), path_idx)
    distance = target.distance(coefficients, path_idx, pairs=settings.pairs)
    (sampler.weight(path_idx) * distance.sum()).backward()  # starts do not share parameters
    optimizer.step()


@torch.no_grad()
def _evaluate(history: History, target: Target, model: Model, settings: FitSettings, seed: int) -> None:
    errors = target.relative_error(model(eval_seeds(seed, settings))).tolist()
    history.curve.append((history.done, errors))
