"""What is matched, and how a guess is judged where the true controls are known, and where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.data import Split, Textures, make_splits
from benchmarks.sound_matching.front_end import LogCQT
from benchmarks.sound_matching.presets import Preset

Score = dict[str, float]
"""How far encoders are off, the less the better: of each control or kind by its name, and their "mean"."""


class Task(Protocol):
    """What an experiment matches."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its recordings from others, for the configuration of a run; empty if preset and seed do."""
        ...

    def splits(self, synth: nn.Module, front_end: LogCQT) -> tuple[Split, Split, Split]:
        """Return the sets for training, validation and test."""
        ...

    def score(self, encoder: nn.Module, split: Split) -> Score:
        """Judge an encoder on a set."""
        ...

    def note(self, score: Score) -> str:
        """Return a score as the progress bar shows it."""
        ...


@torch.no_grad()
def predict(encoder: nn.Module, spectrograms: Tensor, batch_size: int = 64) -> Tensor:
    """Return theta_hat (n, U) in evaluation mode."""
    was_training = encoder.training
    encoder.eval()
    theta_hat = torch.cat([encoder(part) for part in spectrograms.split(batch_size)])
    encoder.train(was_training)
    return theta_hat


def parameter_error(encoder: nn.Module, split: Split, controls: Sequence[str]) -> Score:
    return error_of(predict(encoder, split.spectrograms), split.theta, controls)


def error_of(theta_hat: Tensor, theta: Tensor, controls: Sequence[str]) -> Score:
    """Return mean absolute errors of guesses (n, U) of controls (n, U), in thousandths of their range."""
    error = (theta_hat - theta).abs().mean(0).mul(1000).tolist()
    return {"mean": sum(error) / len(error), **dict(zip(controls, error, strict=True))}


@dataclass(frozen=True)
class TextureTask:
    """Textures that the synthesizer itself renders from controls, which are known and judge the guesses."""

    preset: Preset
    seed: int
    device: torch.device

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def splits(self, synth: nn.Module, front_end: LogCQT) -> tuple[Textures, Textures, Textures]:
        return make_splits(self.preset, self.seed, synth, front_end, self.device)

    def score(self, encoder: nn.Module, split: Split) -> Score:
        return parameter_error(encoder, split, self.preset.controls)

    def note(self, score: Score) -> str:
        each = ", ".join(f"{control} {score[control]:.0f}" for control in self.preset.controls)
        return f"error {score['mean']:.0f} thousandths ({each}; chance 250)"
