"""One run: one arm on one problem with one seed, from the start, or the last checkpoint, to result.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.runs import Job, configuration_hash, epoch_teller, keep_result
from benchmarks.sound_matching.data import Batch, synth_seeds
from benchmarks.sound_matching.losses import build_objective, drawn_spectrograms, logarithm
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.sound_matching.train import Experiment, Trainer, checkpoint_path
from benchmarks.studies.does_it_help.arms import SPECTROGRAMS, Arm
from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler

_CPU = torch.device("cpu")
_CHECKPOINT_EVERY = 4
"""Epochs."""


def make_job(folder: Path, preset: Preset, seed: int, arm: Arm, lr: float, pi: Sequence[float] | None) -> Job:
    """Return the run of an arm on a problem, in a folder of all runs."""
    place = folder / preset.name / f"seed{seed}" / f"{arm.name.replace(', ', '-').replace(' ', '-')}-{lr:g}"
    decides = {**configuration(preset, seed), "arm": arm.decisions(), "lr": lr}
    if pi is not None:
        decides["pi"] = configuration_hash({"pi": list(pi)})
    return Job(f"{preset.name}, {arm.name}, lr {lr:g}, seed {seed}", place, decides, (preset, seed, arm, lr, pi))


def path_distance_of(preset: Preset, arm: Arm, jtfs: JTFSPath) -> JTFSPathLoss:
    """Build the distance on a path as the arm wants it."""
    squared = preset.squared if arm.squared is None else arm.squared
    return JTFSPathLoss(jtfs, squared=squared, path_scale=preset.path_scale)


class ArmObjective:
    """The loss and the optimizer of an arm; the paths of a step are a pure function of seed and step.

    Raises:
        ValueError: the arm adds logarithms of spectrograms to a loss that is not of paths, or may be negative.
    """

    def __init__(self, preset: Preset, seed: int, arm: Arm, lr: float, pi: Sequence[float] | None) -> None:
        if arm.one_mss and (arm.loss != "path" or arm.renderings > 1):
            raise ValueError(
                f"Invalid arm: {arm.name!r} with mss beside the loss {arm.loss!r} of {arm.renderings} renderings; "
                "expected the loss of a path and one rendering, as the loss of several may be negative"
            )
        self.label, self.preset, self.arm, self.lr = arm.name, preset, arm, lr
        self.jtfs = preset.transform(**arm.transform_options())
        warmup_steps = arm.warmup * self.jtfs.n_paths
        self.schedule = replace(preset, warmup_steps=warmup_steps, final_lr=arm.final_lr)  # for `lr_factor` alone
        self.distance = path_distance_of(preset, arm, self.jtfs)
        self.rates = sorted({path.rate for path in self.jtfs.paths})
        self.sampler = self._sampler(seed, pi)
        self.baseline = build_objective(arm.loss, preset, seed, _CPU) if arm.loss in SPECTROGRAMS else None
        self.one_mss = drawn_spectrograms(preset, seed, revisited=False, one=True) if arm.one_mss else None

    def _sampler(self, seed: int, pi: Sequence[float] | None) -> PathSampler:
        """Return what draws paths, or rates."""
        options: dict[str, Any] = {"seed": seed, "cover_first": self.arm.cover_first}
        if self.arm.by_rate:
            return PathSampler(n_paths=len(self.rates), **options)
        if pi is None:
            return PathSampler(n_paths=self.jtfs.n_paths, **options)
        return PathSampler(pi, min_prob_frac=self.arm.min_prob_frac, **options)

    @property
    def by_paths(self) -> bool:
        """True if the optimizer is told the paths."""
        return self.arm.loss == "path" and (self.arm.path_adam or self.arm.saga > 0)

    def draws(self, step: int) -> list[int]:
        """Return the units that a step draws, in the order of the parts of the batch."""
        if self.arm.loss != "path":
            return [0]
        k = self.arm.paths_per_step
        return [self.sampler(step)] if k == 1 else list(self.sampler.sample(step, k, stratified=True))

    def paths_of(self, unit: int) -> list[int]:
        """Return the paths of a unit that was drawn."""
        if not self.arm.by_rate:
            return [unit]
        return [path.index for path in self.jtfs.paths if path.rate == self.rates[unit]]

    def loss(
        self, theta_hat: Tensor, theta: Tensor, sounds: list[Tensor], target: Tensor, step: int, unit: int
    ) -> Tensor:
        """Compute the loss of one unit in a step, on as many renderings as the arm has."""
        if self.arm.loss == "controls":
            return (theta_hat - theta).abs().mean()
        signals = sounds if len(sounds) > 1 else sounds[0]
        if self.arm.loss == "full":
            return self.distance.full(signals, target)
        if self.baseline is not None:
            return self.baseline.loss(theta_hat, theta, lambda: sounds[0], lambda: target, step)
        of_paths = self.distance(signals, target, self.paths_of(unit))
        if self.one_mss is None:
            return of_paths
        return logarithm(of_paths) + logarithm(self.one_mss(sounds[0], target, step))

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer, Adam for whatever has no paths or is not told them."""
        rates: dict[str, Any] = {
            "lr": self.lr,
            "betas": self.preset.betas,
            "weight_decay": self.preset.weight_decay,
        }
        if not self.by_paths:
            # The gradients of a path loss may be below Adam's usual 1e-8, which would then decide the steps.
            eps = 1e-8 if self.arm.loss in (*SPECTROGRAMS, "controls") else 1e-30
            return torch.optim.AdamW(parameters, eps=eps, **rates)
        options: dict[str, Any] = {"path_adam": self.arm.path_adam, "saga": self.arm.saga}
        if self.arm.path_warmup:
            options["path_warmup"] = self.arm.path_warmup
        if self.arm.memory_by_pi or self.arm.clocks_by_pi:
            options |= {"probs": self.sampler.probs, "memory_by_probs": self.arm.memory_by_pi}
            options["clocks_by_probs"] = self.arm.clocks_by_pi
        n_units = len(self.rates) if self.arm.by_rate else self.jtfs.n_paths
        return PathAdamSAGA(parameters, n_paths=n_units, **rates, **options)


class ArmTrainer(Trainer):
    """The trainer of the sound matching benchmark with an arm's losses, renderings and paths in each step."""

    def __init__(self, experiment: Experiment, objective: ArmObjective) -> None:
        self.arm_objective = objective
        super().__init__(experiment, objective.arm.name, objective)  # type: ignore[arg-type]

    def step(self, batch: Batch) -> Tensor:
        """Do one optimizer step; returns the loss, detached."""
        objective, data = self.arm_objective, self.experiment.train
        units = objective.draws(batch.step)
        for group, lr in zip(self.optimizer.param_groups, self.first_lrs, strict=True):
            group["lr"] = lr * objective.schedule.lr_factor(batch.step)
            if objective.arm.final_saga != 1.0:
                group["saga"] = objective.arm.saga * self._saga_factor(batch.step)
        self.optimizer.zero_grad()
        losses = []
        for unit, index, seeds in zip(
            units, batch.index.chunk(len(units)), self._seeds(batch, len(units)), strict=True
        ):
            theta = data.theta[index]
            theta_hat = self.encoder(data.spectrograms[index])
            sounds = (
                [] if objective.arm.loss == "controls" else [self.experiment.synth(theta_hat, s) for s in seeds]
            )
            loss = objective.loss(theta_hat, theta, sounds, data.targets(index), batch.step, unit)
            loss.backward()
            losses.append(loss.detach())
            if len(units) > 1 and isinstance(self.optimizer, PathAdamSAGA):
                self.optimizer.add_path(unit)
        if len(units) == 1 and isinstance(self.optimizer, PathAdamSAGA):
            self.optimizer.set_path(units[0])
        self.optimizer.step()
        return torch.stack(losses).mean()

    def _saga_factor(self, step: int) -> float:
        """Return the strength of P-SAGA at a step over that at the first, which never quite reaches nothing."""
        return 1.0 - (1.0 - self.arm_objective.arm.final_saga) * step / self.experiment.preset.n_steps

    def _seeds(self, batch: Batch, n_parts: int) -> list[list[list[int]]]:
        """Return new seeds for each part of the batch, each rendering, and each example."""
        n, size = self.arm_objective.arm.renderings, len(batch.index)
        seeds = synth_seeds(self.experiment.seed, "match", batch.step * n * size, n * size)
        renderings = [torch.tensor(seeds[k * size : (k + 1) * size]) for k in range(n)]
        return [
            [part.tolist() for part in parts]
            for parts in zip(*(rendering.chunk(n_parts) for rendering in renderings), strict=True)
        ]


def run(job: Job) -> dict[str, Any]:
    """Train one arm to the end, from the last checkpoint if there is one."""
    preset, seed, arm, lr, pi = job.arguments
    objective = ArmObjective(preset, seed, arm, lr, pi)
    trainer = ArmTrainer(Experiment(preset, seed), objective)
    place, tell = checkpoint_path(job.folder, "training"), epoch_teller(job, every=8)
    if place.exists():
        trainer.load(place)
    while not trainer.finished:
        tell(trainer.run_epoch())
        if trainer.epoch % _CHECKPOINT_EVERY == 0:
            trainer.save(place)
    result = keep_result(
        job, {"problem": preset.name, "arm": arm.name, "lr": lr, "seed": seed, **trainer.summary()}
    )
    place.unlink(missing_ok=True)
    return result
