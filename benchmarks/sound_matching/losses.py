"""The losses that train the encoder: SCRAPL, the distances that it is compared with, and the controls (P-loss).

To add a loss, write an `Objective` and name it in `_BUILDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.distances import (
    REVISITED_LENGTHS,
    DrawnDistance,
    RandomSpectrograms,
    RevisitedSpectrograms,
    Spectrograms,
    TimeScattering,
)
from benchmarks.sound_matching.distances.embeddings import EMBEDDINGS, EmbeddingDistance, load_embedding
from benchmarks.sound_matching.presets import Preset
from scrapl_optim import PathAdamSAGA, PathSampler

Render = Callable[[], Tensor]

# Adam's epsilon where gradients may be below the usual 1e-8, which would then decide the steps; and what is added
# to losses before the logarithm. (The smallest of all numbers would make a factor in the gradient infinite.)
_TINY = 1e-30


class Objective(Protocol):
    """A loss with its optimizer. State that must survive an interruption lives in the optimizer alone."""

    label: str

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        """Return the loss of a step.

        `match` renders theta_hat, with other grains at a second call than at the first, and `target` the texture
        without graph; both (B, n_samples).
        """
        ...

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """One optimizer step, gradients being there."""
        ...


class Scrapl:
    """The distance on one JTFS path a step, drawn by `sampler`, and the optimizer that knows about paths.

    Args:
        preset: the settings.
        seed: of the draws.
        device: of the transform.
        label: its name in tables and figures.
        pi: distribution of the paths; None for the uniform one.
        options: of the optimizer.
    """

    label = "SCRAPL"

    def __init__(
        self,
        preset: Preset,
        seed: int,
        device: torch.device,
        *,
        label: str | None = None,
        pi: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        self.preset, self.options = preset, options
        self.label = label or self.label
        self.jtfs = preset.transform().to(device)
        self.distance = preset.path_loss(self.jtfs)
        self.sampler = PathSampler(pi, n_paths=self.jtfs.n_paths, seed=seed)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance(match(), target(), self.sampler(step))

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self.preset.path_adam_saga(parameters, self.jtfs.n_paths, **self.options)

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        if isinstance(optimizer, PathAdamSAGA):
            optimizer.step(path_idx=self.sampler(step))
        else:
            optimizer.step()

    def path_counts(self, n_steps: int) -> list[int]:
        """Count the draws of each path in the first `n_steps` steps; the sampler has no state to ask."""
        counts = [0] * self.jtfs.n_paths
        for step in range(n_steps):
            counts[int(self.sampler(step))] += 1
        return counts


class ScraplTwoRenderings(Scrapl):
    """SCRAPL on two renderings, whose variance is no part of the loss: always of the square, which that needs."""

    label = "SCRAPL, two renderings"

    def __init__(self, preset: Preset, seed: int, device: torch.device) -> None:
        super().__init__(replace(preset, squared=True), seed, device)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance([match(), match()], target(), self.sampler(step))


def _adam_w(
    preset: Preset, parameters: Iterable[nn.Parameter], lr: float, eps: float = 1e-8
) -> torch.optim.Optimizer:
    """Build AdamW with the preset's hyperparameters."""
    return torch.optim.AdamW(parameters, lr=lr, betas=preset.betas, eps=eps, weight_decay=preset.weight_decay)


def logarithm(loss: Tensor) -> Tensor:
    """Return the logarithm, in whose gradient the unit of the loss cancels; finite, both, for a loss of zero.

    Losses of paths differ from each other, and from those of spectrograms, by orders of magnitude.
    """
    return (loss + _TINY).log()


class ScraplWithSpectrograms(Scrapl):
    """The logarithm of SCRAPL's loss plus that of a distance of spectrograms, which a step may draw.

    Args:
        preset: the settings.
        seed: of the draws of paths.
        device: of the transform and the windows.
        spectrograms: the distance.
        label: its name in tables and figures.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        device: torch.device,
        spectrograms: DrawnDistance,
        label: str,
    ) -> None:
        super().__init__(preset, seed, device, label=label)
        self.spectrograms = spectrograms.to(device)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        sound, goal = match(), target()
        of_path = self.distance(sound, goal, self.sampler(step))
        return logarithm(of_path) + logarithm(self.spectrograms(sound, goal, step))


class RandomPathAdam(Scrapl):
    """The distance on one path a step, trained by Adam, which knows nothing of paths."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _adam_w(self.preset, parameters, self.preset.lr_scrapl, _TINY)


class _WithAdamW:
    """The optimizer that the comparisons share: AdamW with the preset's hyperparameters."""

    eps = 1e-8

    def __init__(self, preset: Preset, lr: float) -> None:
        self.preset, self.lr = preset, lr

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _adam_w(self.preset, parameters, self.lr, self.eps)

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.step()


class ParameterLoss(_WithAdamW):
    """Supervised: mean absolute error of theta, the very figure that is reported."""

    label = "P-loss (supervised)"

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset, preset.lr_p_loss)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return (theta_hat - theta).abs().mean()


class SoundDistance(_WithAdamW):
    """A distance of sounds as the loss.

    Args:
        distance: of match and target, both (B, n_samples).
        label: its name in tables and figures.
    """

    def __init__(
        self, preset: Preset, distance: Callable[[Tensor, Tensor], Tensor], label: str, lr: float | None = None
    ) -> None:
        super().__init__(preset, preset.lr_mss if lr is None else lr)
        self.distance, self.label = distance, label

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance(match(), target())


class DrawnSoundDistance(_WithAdamW):
    """A distance of sounds that draws something anew in every step, by its number.

    Args:
        distance: of match and target, both (B, n_samples), in a step.
        label: its name in tables and figures.
    """

    def __init__(self, preset: Preset, distance: Callable[[Tensor, Tensor, int], Tensor], label: str) -> None:
        super().__init__(preset, preset.lr_mss)
        self.distance, self.label = distance, label

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance(match(), target(), step)


def _log_linear(preset: Preset, seed: int, device: torch.device) -> Objective:
    return SoundDistance(preset, Spectrograms(preset.fft_sizes, log=True), "MSS log + linear")


def _linear(preset: Preset, seed: int, device: torch.device) -> Objective:
    return SoundDistance(preset, Spectrograms(preset.fft_sizes, log=False), "MSS linear")


def _random(preset: Preset, seed: int, device: torch.device) -> Objective:
    return DrawnSoundDistance(preset, RandomSpectrograms(preset.n_samples, seed=seed), "MSS random")


def _revisited(preset: Preset, seed: int, device: torch.device) -> Objective:
    return SoundDistance(preset, RevisitedSpectrograms().to(device), "MSS revisited")


def _time_scattering(preset: Preset, seed: int, device: torch.device) -> Objective:
    distance = TimeScattering(preset.n_samples, J=preset.J, Q=preset.Q, T=preset.T).to(device)
    return SoundDistance(preset, distance, "Time scattering")


def drawn_spectrograms(preset: Preset, seed: int, *, revisited: bool, one: bool) -> DrawnDistance:
    """Build a distance of spectrograms beside that of a path.

    Args:
        preset: the settings.
        seed: of the draws of resolutions, which differ from those of paths with the same seed.
        revisited: True for MSS revisited, False for MSS log + linear.
        one: True for one resolution, which each step draws, False for all.
    """
    sizes = REVISITED_LENGTHS if revisited else preset.fft_sizes
    choices = [(size,) for size in sizes] if one else [tuple(sizes)]
    return DrawnDistance(
        (RevisitedSpectrograms(choice) if revisited else Spectrograms(choice, log=True) for choice in choices),
        seed=seed,
    )


def _one_mss(preset: Preset, seed: int, device: torch.device) -> Objective:
    spectrograms = drawn_spectrograms(preset, seed, revisited=False, one=True).to(device)
    return DrawnSoundDistance(preset, lambda x, y, step: logarithm(spectrograms(x, y, step)), "one MSS")


def _builder_of_sum(label: str, *, revisited: bool, one: bool) -> Callable[[Preset, int, torch.device], Objective]:
    def build(preset: Preset, seed: int, device: torch.device) -> Objective:
        spectrograms = drawn_spectrograms(preset, seed, revisited=revisited, one=one)
        return ScraplWithSpectrograms(preset, seed, device, spectrograms, f"SCRAPL + {label}")

    return build


def _full_tree(preset: Preset, seed: int, device: torch.device) -> Objective:
    """Return the preset's distance on all paths at once, which SCRAPL estimates."""
    distance = preset.path_loss(preset.transform().to(device))
    objective = SoundDistance(preset, distance.full, "JTFS, full tree", preset.lr_scrapl)
    objective.eps = _TINY
    return objective


_BUILDERS: dict[str, Callable[[Preset, int, torch.device], Objective]] = {
    "scrapl": Scrapl,
    "mss": _log_linear,
    "p_loss": lambda preset, seed, device: ParameterLoss(preset),
    "scrapl_two": ScraplTwoRenderings,
    "mss_linear": _linear,
    "mss_random": _random,
    "mss_revisited": _revisited,
    "one_mss": _one_mss,
    "with_mss": _builder_of_sum("MSS", revisited=False, one=False),
    "with_one_mss": _builder_of_sum("one MSS", revisited=False, one=True),
    "with_revisited": _builder_of_sum("MSS revisited", revisited=True, one=False),
    "with_one_revisited": _builder_of_sum("one revisited", revisited=True, one=True),
    "time_scattering": _time_scattering,
    "full_tree": _full_tree,
    "p_adam": lambda preset, seed, device: Scrapl(preset, seed, device, label="P-Adam", saga=0.0),
    "adam": lambda preset, seed, device: RandomPathAdam(preset, seed, device, label="Adam on random paths"),
}


def _theta_is(preset: Preset, seed: int, device: torch.device, pi: Sequence[float]) -> Objective:
    """Return SCRAPL as the paper has it: pi decides the draws alone."""
    return Scrapl(preset, seed, device, label="SCRAPL, theta-importance", pi=pi)


def _theta_is_by_pi(preset: Preset, seed: int, device: torch.device, pi: Sequence[float]) -> Objective:
    """Return SCRAPL with memory and clocks by pi, so that each path has the vote that pi gives it."""
    label = "SCRAPL, theta-importance, memory and clocks by pi"
    return Scrapl(preset, seed, device, label=label, pi=pi, probs=pi, clocks_by_probs=True)


_BUILDERS_WITH_PI: dict[str, Callable[[Preset, int, torch.device, Sequence[float]], Objective]] = {
    "theta_is": _theta_is,
    "theta_is_by_pi": _theta_is_by_pi,
}
NEED_PI = tuple(_BUILDERS_WITH_PI)
"""Losses that draw paths by theta-importance."""

OBJECTIVES = (*_BUILDERS, *NEED_PI, *EMBEDDINGS)
# Those that `make match` trains.
DEFAULT_OBJECTIVES = OBJECTIVES[:3]


_EMBEDDING_LABELS = {"crepe": "CREPE", "aisfx": "aiSFX", "clap": "MS-CLAP", "panns": "PANNs"}


def _embedded(name: str, preset: Preset, device: torch.device, weights: Path | None) -> Objective:
    distance = EmbeddingDistance(load_embedding(name, weights), preset.sample_rate).to(device)
    return SoundDistance(preset, distance, _EMBEDDING_LABELS[name])


def build_objective(
    name: str,
    preset: Preset,
    seed: int,
    device: torch.device,
    weights: Mapping[str, Path] | None = None,
    pi: Sequence[float] | None = None,
) -> Objective:
    """Build one of `OBJECTIVES`.

    Args:
        name: of the loss.
        preset: the configuration.
        seed: of what it draws.
        device: of the transforms and networks.
        weights: files of the weights of embeddings, by the embedding's name.
        pi: theta-importance of the paths, for `NEED_PI`.

    Raises:
        ValueError: there is no such loss, or what it needs is missing.
    """
    if name in EMBEDDINGS:
        return _embedded(name, preset, device, (weights or {}).get(name))
    if name in NEED_PI:
        if pi is None:
            raise ValueError(f"Invalid pi of {name}: none; expected theta-importance; compute it with theta_pi")
        return _BUILDERS_WITH_PI[name](preset, seed, device, pi)
    if name not in _BUILDERS:
        raise ValueError(f"unknown loss {name!r}: choose among {', '.join(OBJECTIVES)}")
    return _BUILDERS[name](preset, seed, device)
