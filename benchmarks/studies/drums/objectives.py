"""The losses of the arms that are made of random paths, and their optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sound_matching.losses import (
    Objective,
    Render,
    build_objective,
    drawn_spectrograms,
    logarithm,
)
from benchmarks.sound_matching.presets import Preset
from benchmarks.studies.drums.arms import Arm
from scrapl_jtfs import JTFSPath
from scrapl_optim import PathAdamSAGA, PathSampler

# Share of the rates that are called slow.
_SLOW = 1 / 3


def favoured_paths(arm: Arm, jtfs: JTFSPath) -> list[int]:
    """Return the ids of the paths that get a share of their own."""
    if arm.favoured == "order 1":
        return [path.index for path in jtfs.paths if path.order == 1]
    if arm.favoured == "slow":
        rates = sorted({path.rate for path in jtfs.paths if path.order == 2})
        slow = set(rates[: round(_SLOW * len(rates))])
        return [path.index for path in jtfs.paths if path.rate in slow]
    return []


def distribution(arm: Arm, jtfs: JTFSPath, pi: Sequence[float] | None) -> np.ndarray:
    r"""Return the probabilities (P,) of the paths.

    With floor f, share s of the favoured paths F, and pi, uniform where none is given,

    .. math:: \pi'_p = (1 - s) (f / P + (1 - f) \pi_p) + s [p \in F] / |F| .
    """
    uniform = np.full(jtfs.n_paths, 1 / jtfs.n_paths)
    base = uniform if pi is None else np.asarray(pi, dtype=float)
    probs = uniform if pi is None else arm.min_prob_frac * uniform + (1 - arm.min_prob_frac) * base
    favoured = favoured_paths(arm, jtfs)
    if favoured:
        probs = (1 - arm.share) * probs
        probs[favoured] += arm.share / len(favoured)
    return probs


class PathObjective:
    r"""The loss of an arm on the paths of a step: one path, or all of one rate.

    With the spectrogram distance M and its weight w, the loss is :math:`\log L_p + w \log M`; with one window, M
    is the distance at one resolution, which each step draws uniformly.

    Args:
        preset: the settings.
        seed: of the draws.
        arm: of those whose loss is "scrapl".
        pi: (P,), None for uniform draws.

    Raises:
        ValueError: the arm asks for the logarithm of a loss that may be negative, or names a distance or a window
            without giving it a weight.
    """

    def __init__(self, preset: Preset, seed: int, arm: Arm, pi: Sequence[float] | None = None) -> None:
        if arm.spectrograms and arm.renderings > 1:
            raise ValueError(
                f"Invalid arm: {arm.name!r} with spectrograms and {arm.renderings} renderings; expected one of "
                "the two, as the loss of several renderings may be negative and has no logarithm"
            )
        if (arm.revisited or arm.one_window) and not arm.spectrograms:
            raise ValueError(
                f"Invalid arm: {arm.name!r} with a distance of spectrograms at a weight of 0; expected a positive "
                "weight; set spectrograms"
            )
        self.label, self.arm = arm.name, arm
        if arm.log1p_eps is not None:
            preset = replace(preset, log1p_eps=arm.log1p_eps)
        # The loss of several renderings is that of the square alone.
        self.preset = replace(preset, squared=True) if arm.renderings > 1 else preset
        self.jtfs = preset.transform(orders=arm.orders)
        self.distance = self.preset.path_loss(self.jtfs)
        self.units = self._units()
        self.sampler = self._sampler(seed, pi)
        how = {"revisited": arm.revisited, "one": arm.one_window}
        self.spectrograms = drawn_spectrograms(preset, seed, **how) if arm.spectrograms else None

    def _units(self) -> tuple[tuple[int, ...], ...]:
        """Return the paths of each unit that is drawn."""
        if self.arm.by_rate:
            return self.jtfs.paths.bundles("rate")
        return tuple((p,) for p in range(self.jtfs.n_paths))

    def _sampler(self, seed: int, pi: Sequence[float] | None) -> PathSampler:
        if self.arm.by_rate:
            return PathSampler(n_paths=len(self.units), seed=seed)
        return PathSampler(distribution(self.arm, self.jtfs, pi), seed=seed)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        """Compute the loss of a step."""
        sounds, goal = [match() for _ in range(self.arm.renderings)], target()
        of_paths = self.distance(
            sounds if len(sounds) > 1 else sounds[0], goal, self.units[int(self.sampler(step))]
        )
        if self.spectrograms is None:
            return of_paths
        of_spectra = self.spectrograms(sounds[0], goal, step)
        return logarithm(of_paths) + self.arm.spectrograms * logarithm(of_spectra)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build P-Adam with P-SAGA over the units."""
        by_pi = {"probs": self.sampler.probs, "clocks_by_probs": True} if self.arm.by_pi else {}
        return self.preset.path_adam_saga(parameters, len(self.units), saga=self.arm.saga, **by_pi)

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Do one optimizer step, gradients being there."""
        assert isinstance(optimizer, PathAdamSAGA)
        optimizer.step(path_idx=self.sampler(step))


def build_arm(preset: Preset, seed: int, arm: Arm, pi: Sequence[float] | None = None) -> Objective:
    """Build the objective of an arm; an arm without a loss gets SCRAPL's, which is not asked.

    Raises:
        ValueError: the loss needs a package that is not installed.
    """
    if arm.loss in ("scrapl", "none"):
        return PathObjective(preset, seed, arm, pi)
    return build_objective(arm.loss, preset, seed, torch.device("cpu"))
