"""The effect of rounding and smoothing on training: chirplets fitted to clean, shifted chirplets by SCRAPL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.chirplet import Chirplet
from benchmarks.harness.records import relative_distance
from benchmarks.studies.accuracy.measures import Settings, path_ids
from benchmarks.studies.accuracy.signals import SAMPLE_RATE, normalized
from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import PathSampler

CONVERGED = 0.05
"""Mean error of the parameters, in units of their range, under which a start counts as converged."""


@dataclass(frozen=True)
class Arm:
    """A way to compute the transform."""

    smoothing: float = 0.0
    dtype: torch.dtype = torch.float32
    samples_per_bandwidth: float | None = None
    second: float = 1.0

    @property
    def label(self) -> str:
        compact = f", {self.samples_per_bandwidth:g} samples per bandwidth" if self.samples_per_bandwidth else ""
        layers = f" ({self.second:g} eps in layer 2)" if self.smoothing and self.second != 1.0 else ""
        return f"eps {self.smoothing:g}{layers}, {str(self.dtype).removeprefix('torch.')}{compact}"

    def build(self, settings: Settings) -> JTFSPath:
        options = {"samples_per_bandwidth": self.samples_per_bandwidth, "smoothing": self.smoothing}
        return settings.build(self.second, **options).to(self.dtype)


@dataclass(frozen=True)
class Task:
    """Pairs of parameters, each a problem of its own: where to start and what to find.

    Args:
        synth: renders parameters.
        settings: of the transform.
        start: (B, 2) in (0, 1).
        goal: (B, 2) in (0, 1).
        shift: (B,) samples by which the target is late.
    """

    synth: Chirplet
    settings: Settings
    start: Tensor
    goal: Tensor
    shift: Tensor

    def render(self, theta: Tensor) -> Tensor:
        return normalized(self.synth(theta, torch.zeros_like(self.shift)))

    def target(self) -> Tensor:
        return normalized(self.synth(self.goal, self.shift))


def make_task(n_starts: int, settings: Settings, seed: int = 0) -> Task:
    """Draw starts and goals uniformly, shifts within a sixteenth of the sound."""
    generator = torch.Generator().manual_seed(seed)
    start, goal = 0.05 + 0.9 * torch.rand(2, n_starts, 2, dtype=torch.float64, generator=generator)
    shift = torch.rand(n_starts, dtype=torch.float64, generator=generator) - 0.5
    synth = Chirplet(settings.n_samples, SAMPLE_RATE, am=(8.0, 24.0), fm=(2.5, 7.5))
    return Task(synth, settings, start, goal, shift * settings.n_samples / 8)


@dataclass(frozen=True)
class Fit:
    """Error |theta - goal| after each step, (steps + 1, B, 2), of all starts of all tasks."""

    arm: Arm
    errors: Tensor

    @property
    def final(self) -> Tensor:
        """(B,) mean over parameters, after the last step."""
        return self.errors[-1].mean(-1)

    @property
    def converged(self) -> float:
        return (self.final < CONVERGED).double().mean().item()


def fit(tasks: Sequence[Task], arm: Arm, steps: int, lr: float = 0.1) -> Fit:
    """Fit each task with a sequence of random paths of its own, the same in every arm."""
    jtfs = arm.build(tasks[0].settings)
    errors = [_fit(task, jtfs, steps, seed, lr) for seed, task in enumerate(tasks)]
    return Fit(arm, torch.cat(errors, dim=1))


def _fit(task: Task, jtfs: JTFSPath, steps: int, seed: int, lr: float) -> Tensor:
    """Fit all starts at once: one random path a step, and Adam on logits of theta.

    Adam works on each number apart, so starts do not interact. The step falls linearly to a tenth.
    """
    loss_fn = JTFSPathLoss(jtfs, reduction="none")
    target = loss_fn.prepare(task.target().to(jtfs.dtype))
    sampler = PathSampler(n_paths=jtfs.n_paths, seed=seed)
    logits = torch.logit(task.start).requires_grad_()
    # Path losses are tiny: Adam's epsilon must not stand in for their size.
    optimizer = torch.optim.Adam([logits], lr=lr, eps=1e-30)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=steps)
    errors = [(torch.sigmoid(logits) - task.goal).abs().detach()]
    for step in range(steps):
        sound = task.render(torch.sigmoid(logits)).to(jtfs.dtype)
        loss = loss_fn(sound, target, sampler(step)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        errors.append((torch.sigmoid(logits) - task.goal).abs().detach())
    return torch.stack(errors)


def summary(fit: Fit, reference: Fit) -> dict[str, Any]:
    """Final errors over starts, and their differences from the reference's, start by start."""
    final, paired = fit.final, fit.final - reference.final
    return {
        "arm": fit.arm.label,
        "steps": fit.errors.shape[0] - 1,
        "start": fit.errors[0].mean(-1).tolist(),
        "final": final.tolist(),
        "mean": final.mean().item(),
        "std": final.std().item(),
        "median": final.median().item(),
        "converged": fit.converged,
        "paired_mean": paired.mean().item(),
        "paired_std": paired.std().item(),
        "paired_largest": paired.abs().max().item(),
        "history": fit.errors.mean((1, 2))[::5].tolist(),
    }


def parameter_gradients(task: Task, arm: Arm, paths: Sequence[int]) -> Tensor:
    """(paths, B, 2) gradients of path losses with respect to theta; the synth is in double precision."""
    loss_fn = JTFSPathLoss(arm.build(task.settings), reduction="none")
    target = loss_fn.prepare(task.target().to(arm.dtype))
    found = []
    for path in paths:
        theta = task.start.detach().requires_grad_()
        loss_fn(task.render(theta).to(arm.dtype), target, path).sum().backward()
        assert theta.grad is not None
        found.append(theta.grad)
    return torch.stack(found)


def gradient_errors(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """Relative distances of gradients (paths, B, 2), one for each path and start, and of all together."""
    each = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    return {
        "median": each.median().item(),
        "percentile_90": each.flatten().quantile(0.9).item(),
        "largest": each.max().item(),
        "together": relative_distance(found, wanted),
    }


def study_gradients(task: Task, arms: Sequence[Arm], every: int = 1) -> Iterator[dict[str, Any]]:
    """Distance of each arm from its own double precision, and of that from the exact transform at eps = 0."""
    reference = Arm(dtype=torch.float64)
    paths = path_ids(reference.build(task.settings))[::every]
    exact = parameter_gradients(task, reference, paths)
    for arm in arms:
        double = replace(arm, dtype=torch.float64)
        wanted = exact if double == reference else parameter_gradients(task, double, paths)
        if arm.dtype == torch.float32:
            errors = gradient_errors(parameter_gradients(task, arm, paths), wanted)
            yield {"arm": arm.label, "against": "itself in float64", **errors}
        if double != reference:
            yield {"arm": double.label, "against": "exact, eps 0", **gradient_errors(wanted, exact)}
