"""Training one encoder with one objective, interruptible at any time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from benchmarks.harness.files import hash_file
from benchmarks.harness.records import BenchmarkError
from benchmarks.harness.runs import configuration_hash
from benchmarks.sound_matching.data import Batch, build_front_end, build_synth, epoch_batches, match_seeds
from benchmarks.sound_matching.losses import Objective, build_objective
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.sound_matching.task import Score, Task, TextureTask
from scrapl_jtfs.commands.files import save_checkpoint
from scrapl_jtfs.commands.progress import Progress


class DivergedError(BenchmarkError):
    """The loss became infinite or NaN."""


class EpochRecord(TypedDict):
    """One line of a training history. `seconds` counts training alone, over all sittings."""

    epoch: int
    step: int
    seconds: float
    loss: float
    val: Score


class Experiment:
    """The setting that all objectives share: synthesizer, front end and the three sets of sounds.

    Args:
        preset: the settings.
        seed: of everything that is drawn.
        device: of all tensors; the CPU by default.
        weights: files of the weights of embeddings, by the name of the loss.
        task: what is matched; by default textures of the synthesizer.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        device: torch.device | None = None,
        weights: Mapping[str, Path] | None = None,
        task: Task | None = None,
    ) -> None:
        self.preset, self.seed, self.weights = preset, seed, dict(weights or {})
        self.device = torch.device("cpu") if device is None else device
        self.synth = build_synth(preset).to(self.device)
        self.front_end = build_front_end(preset).to(self.device)
        self.task: Task = task or TextureTask(preset, seed, self.device)
        self.train, self.val, self.test = self.task.splits(self.synth, self.front_end)
        self.pi: Sequence[float] | None = None  # theta-importance, once it is known
        self._hashes: dict[str, str] = {}
        self._objectives: dict[str, Objective] = {}

    def fresh_encoder(self) -> nn.Module:
        """Build the encoder with the weights that every loss starts from, and leave torch's generator at them."""
        torch.manual_seed(self.seed)
        return self.preset.build_encoder().to(self.device)

    @property
    def configuration(self) -> dict[str, Any]:
        """Everything that determines results, for the run folder."""
        return configuration(self.preset, self.seed, self.task.identity)

    def objective(self, loss_name: str) -> Objective:
        """Built once: wavelets take seconds, and an objective has no state."""
        if loss_name not in self._objectives:
            self._objectives[loss_name] = build_objective(
                loss_name, self.preset, self.seed, self.device, self.weights, self.pi
            )
        return self._objectives[loss_name]

    def weights_hash(self, loss_name: str) -> str | None:
        """Return the SHA-256 of the file of weights of a loss, None if it needs none."""
        path = self.weights.get(loss_name)
        if path is not None and loss_name not in self._hashes:
            self._hashes[loss_name] = hash_file(path)
        return self._hashes.get(loss_name)

    def trainer(self, loss_name: str) -> Trainer:
        """An encoder with its initial weights."""
        return Trainer(self, loss_name, self.objective(loss_name))


def checkpoint_path(folder: Path, loss_name: str) -> Path:
    return folder / loss_name / "checkpoint.pt"


class Trainer:
    """An encoder in training: state and how to save it."""

    def __init__(self, experiment: Experiment, loss_name: str, objective: Objective) -> None:
        self.experiment, self.loss_name, self.objective = experiment, loss_name, objective
        self.epoch = 0
        self.history: list[EpochRecord] = []
        self.encoder = experiment.fresh_encoder()  # dropout goes on with the same generator
        self.optimizer = objective.optimizer(self.encoder.parameters())
        self.first_lrs = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def finished(self) -> bool:
        return self.epoch >= self.experiment.preset.epochs

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step; returns the loss, detached and still on the device."""
        data, synth = self.experiment.train, self.experiment.synth
        index = batch.index.to(data.theta.device)
        theta = data.theta[index]
        theta_hat = self.encoder(data.spectrograms[index])

        def target() -> Tensor:
            return data.targets(batch.index)

        renderings = count()

        def match() -> Tensor:
            preset, seed = self.experiment.preset, self.experiment.seed
            return synth(theta_hat, match_seeds(preset, seed, batch.step, next(renderings)))

        loss = self.objective.loss(theta_hat, theta, match, target, batch.step)
        self.optimizer.zero_grad()
        loss.backward()
        for group, lr in zip(self.optimizer.param_groups, self.first_lrs, strict=True):
            group["lr"] = lr * self.experiment.preset.lr_factor(batch.step)
        self.objective.update(self.optimizer, batch.step)
        return loss.detach()

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> EpochRecord:
        """Train an epoch and validate; `on_step` is called after every step."""
        started = time.perf_counter()
        losses = []
        for batch in epoch_batches(self.experiment.preset, self.experiment.seed, self.epoch):
            losses.append(self.step(batch))
            on_step()
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the {self.loss_name} loss became {loss} in epoch {self.epoch + 1}: lower its "
                "learning rate in presets.py; the last checkpoint is intact"
            )
        elapsed = time.perf_counter() - started
        self.epoch += 1
        record: EpochRecord = {
            "epoch": self.epoch,
            "step": self.epoch * self.experiment.preset.steps_per_epoch,
            "seconds": elapsed + (self.history[-1]["seconds"] if self.history else 0.0),
            "loss": loss,
            "val": self.experiment.task.score(self.encoder, self.experiment.val),
        }
        self.history.append(record)
        return record

    def run(self, folder: Path, *, quiet: bool = False) -> None:
        """Train up to the preset's epochs from where `folder` stands, with a checkpoint after every epoch."""
        path, preset = checkpoint_path(folder, self.loss_name), self.experiment.preset
        if path.exists():
            self.load(path)
        done = self.epoch * preset.steps_per_epoch
        with Progress(preset.n_steps, done, label=f"{self.objective.label:20}", disable=quiet) as bar:
            while not self.finished:
                val = self.run_epoch(bar.step)["val"]
                self.save(path)
                bar.note(self.experiment.task.note(val))

    def summary(self) -> dict[str, Any]:
        """Errors on the test set and over the history, and what the training took."""
        last = self.history[-1]
        return {
            "test": self.experiment.task.score(self.encoder, self.experiment.test),
            "last_val": last["val"],
            "best_val": min((record["val"] for record in self.history), key=lambda val: val["mean"]),
            "steps": last["step"],
            "seconds": last["seconds"],
            "history": self.history,
        }

    def save(self, path: Path) -> None:
        state = {
            "configuration": configuration_hash(self.experiment.configuration),
            "weights": self.experiment.weights_hash(self.loss_name),
            "epoch": self.epoch,
            "history": self.history,
            "encoder": self.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": _random_state(self.experiment.device),
        }
        save_checkpoint(path, state)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.experiment.device, weights_only=True)
        except Exception as error:  # whatever a damaged file makes the unpickler do
            raise ValueError(f"{path} cannot be read, it is damaged: delete it to start this loss over") from error
        expected = configuration_hash(self.experiment.configuration)
        if state["configuration"] != expected:
            raise ValueError(
                f"{path} was written with configuration {state['configuration']}, this run has "
                f"{expected}: choose another --out or delete the folder"
            )
        weights = self.experiment.weights_hash(self.loss_name)
        if state.get("weights") != weights:
            raise ValueError(
                f"Invalid --{self.loss_name}-weights: SHA-256 {weights}; expected the file that {path} was begun "
                f"with, {state.get('weights')}; name that file, or choose another --out"
            )
        self.epoch, self.history = state["epoch"], state["history"]
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        _restore_random_state(state["random"], self.experiment.device)


def _random_state(device: torch.device) -> dict[str, Any]:
    """Dropout draws from torch's global generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
