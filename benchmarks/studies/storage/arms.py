"""What is compared: optimizers for the same encoder, textures, batches and paths."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.sound_matching.presets import PRESETS, Preset, configuration
from benchmarks.sound_matching.scrapl import Scrapl
from scrapl_optim import PathAdamSAGA

__all__ = [
    "ARMS",
    "GROUPS",
    "PRESET",
    "QUICK",
    "REFERENCE",
    "Arm",
    "ArmObjective",
    "nudge",
    "run_configuration",
    "run_hash",
]

REFERENCE = "float32"

PRESET = PRESETS["small"]
QUICK: Preset = replace(PRESET, name="small-quick", n_train=32, n_val=8, n_test=8, epochs=1)
"""Two steps: to see that everything runs."""


@dataclass(frozen=True)
class Arm:
    """What is changed against PathAdamSAGA as it is by default.

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
        Arm("bfloat16-nearest", storage="bfloat16-nearest"),
        Arm("int8", storage="int8"),
        Arm("int8-nearest", storage="int8-nearest"),
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

    def __init__(self, scrapl: Scrapl, arm: Arm) -> None:
        # Wavelets, distance and sampler are those of `scrapl`: building them takes longer than many a step.
        self.__dict__.update(scrapl.__dict__)
        self.label, self.arm = f"SCRAPL, {arm.name}", arm

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        parameters = list(parameters)
        if self.arm.nudge:
            nudge(parameters, self.arm.nudge)
        return PathAdamSAGA(
            parameters,
            n_paths=self.jtfs.n_paths,
            lr=self.preset.lr_scrapl,
            betas=self.preset.betas,
            weight_decay=self.preset.weight_decay,
            storage=self.arm.storage,
            saga=self.arm.saga,
        )


@torch.no_grad()
def nudge(parameters: Iterable[nn.Parameter], amount: float) -> None:
    """Multiply every entry by 1 + amount * noise, with a generator of its own."""
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.mul_(1 + amount * torch.randn(parameter.shape, generator=generator).to(parameter))


def run_configuration(preset: Preset, seed: int, arm: Arm) -> dict[str, Any]:
    """Everything that determines a run, JSON-like."""
    return {**configuration(preset, seed), "arm": asdict(arm)}


def run_hash(wanted: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
