"""The arms of the study: optimizers for the same encoder, textures, batches and paths."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import scrapl_optim
from benchmarks.harness.runs import Job, epoch_teller, keep_result
from benchmarks.sound_matching.losses import Scrapl
from benchmarks.sound_matching.presets import PRESETS, Preset, configuration
from benchmarks.sound_matching.train import EpochRecord, Experiment, Trainer, checkpoint_path
from scrapl_optim.experimental import nearest

REFERENCE = "float32"

PRESET = PRESETS["small"]
QUICK: Preset = replace(PRESET, name="small-quick", n_train=32, n_val=8, n_test=8, epochs=1)
"""Two steps: to see that everything runs."""


@dataclass(frozen=True)
class Arm:
    """A change of PathAdamSAGA as it is by default.

    Args:
        name: of the arm, and of its folder.
        storage: how rows are kept; ``-nearest`` is for studies like this one.
        saga: strength of the SAGA terms.
        nudge: initial weights are multiplied by 1 + nudge * noise. The difference that this makes is that of
            chance: what a policy changes must be larger to be its own.
    """

    name: str
    storage: str = "float32"
    saga: float = 1.0
    nudge: float = 0.0


ARMS = {
    arm.name: arm
    for arm in (
        Arm(REFERENCE),
        Arm("bfloat16", storage="bfloat16"),
        Arm("bfloat16-nearest", storage=nearest("bfloat16")),
        Arm("int8", storage="int8"),
        Arm("int8-nearest", storage=nearest("int8")),
        Arm("float32-nudged", nudge=1e-6),
        Arm("saga-0.5", saga=0.5),
        Arm("saga-0", saga=0.0),
    )
}

GROUPS = {
    "storage": (REFERENCE, "bfloat16", "bfloat16-nearest", "int8", "int8-nearest"),
    "control": (REFERENCE, "float32-nudged"),
    "saga": (REFERENCE, "saga-0.5", "saga-0"),
}


class ArmObjective(Scrapl):
    """SCRAPL as in the sound matching benchmark, with the optimizer of one arm."""

    def __init__(self, preset: Preset, seed: int, arm: Arm) -> None:
        super().__init__(preset, seed, torch.device("cpu"))
        self.label, self.arm = f"SCRAPL, {arm.name}", arm

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        parameters = list(parameters)
        if self.arm.nudge:
            nudge(parameters, self.arm.nudge)
        options: dict[str, Any] = {"storage": self.arm.storage, "saga": self.arm.saga}
        return self.preset.path_adam_saga(parameters, self.jtfs.n_paths, **options)


@torch.no_grad()
def nudge(parameters: Iterable[nn.Parameter], amount: float) -> None:
    """Multiply every entry by 1 + amount * noise, with a generator of its own."""
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.mul_(1 + amount * torch.randn(parameter.shape, generator=generator).to(parameter))


def make_job(folder: Path, preset: Preset, seed: int, arm: Arm) -> Job:
    """The run of one arm and seed, in a folder of all runs."""
    determines = {**configuration(preset, seed), "arm": asdict(arm)}
    return Job(f"{arm.name}, seed {seed}", folder / f"seed{seed}" / arm.name, determines, (preset, seed, arm))


def run(job: Job, on_epoch: Callable[[EpochRecord], object] | None = None) -> dict[str, Any]:
    """Train one arm to the end from its last checkpoint; `on_epoch` is called with each line of the history."""
    preset, seed, arm = job.arguments
    trainer = Trainer(Experiment(preset, seed), "scrapl", ArmObjective(preset, seed, arm))
    checkpoint, tell = checkpoint_path(job.folder, "scrapl"), on_epoch or epoch_teller(job)
    if checkpoint.exists():
        trainer.load(checkpoint)
    while not trainer.finished:
        record = trainer.run_epoch()
        trainer.save(checkpoint)
        tell(record)
    n_bytes, n_parameters = state_bytes(trainer.optimizer), sum(p.numel() for p in trainer.encoder.parameters())
    result = {"arm": arm.name, "seed": seed, **trainer.summary(), "n_parameters": n_parameters}
    result |= {"state_bytes": n_bytes, "state_bytes_per_parameter": n_bytes / n_parameters}
    return keep_result(job, {**result, "optimizer_sources": optimizer_sources()})


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Memory of the state, clocks and units of the paths included; what tensors share counts once."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    storages = [value.untyped_storage() for value in values if isinstance(value, torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def optimizer_sources() -> str:
    """Hash the source files of scrapl_optim, to tell runs before and after a change apart."""
    digest, folder = hashlib.sha256(), Path(scrapl_optim.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
