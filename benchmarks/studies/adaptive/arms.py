"""The arms of the study: ways to draw the path of a step, all else being the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.losses import Render
from benchmarks.sound_matching.presets import Preset, configuration
from scrapl_jtfs import JTFSPath
from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.experimental import AdaptivePathSampler

REFERENCE = "uniform"


@dataclass(frozen=True)
class Arm:
    """A way to draw paths, and what is done about it.

    Args:
        name: of the arm, and of its folder.
        source: of pi: none, theta_importance before training, slopes of the loss in the controls, or the norm of
            the gradient.
        min_prob_frac: share of the uniform distribution in pi.
        rate: of the adaptive means.
        unbiased: whether the optimizer weighs paths by 1 / (P pi); otherwise pi changes the objective, on purpose.
        examples: training examples that pi is computed from.
        synths: problems that it is tried on.
        description: for the result file.
    """

    name: str
    source: Literal["uniform", "importance", "slopes", "norm"]
    description: str
    min_prob_frac: float = 0.0
    rate: float | None = None
    unbiased: bool = False
    examples: int = 4
    synths: tuple[str, ...] = ("granular", "chirplet")


ARMS = {
    arm.name: arm
    for arm in (
        Arm(REFERENCE, "uniform", "PathSampler, uniform, as in the sound matching benchmark"),
        Arm(
            "theta-is",
            "importance",
            "PathSampler with pi from theta_importance (tolerance 1e-2, compact transform in float64; each run "
            "says by which of two methods, the same within the tolerance) on the initial encoder and 4 training "
            "examples; no weights, as in the paper",
            min_prob_frac=0.25,
        ),
        Arm(
            "theta-is-16",
            "importance",
            "the same with pi from 16 training examples",
            min_prob_frac=0.25,
            examples=16,
            synths=("chirplet",),
        ),
        Arm(
            "adaptive-slopes",
            "slopes",
            "AdaptivePathSampler told the mean over examples of |dL_p / dtheta_u| for each control; no weights; "
            "the first P steps visit every path once",
            min_prob_frac=0.2,
            rate=0.2,
        ),
        Arm(
            "adaptive-norm-unbiased",
            "norm",
            "AdaptivePathSampler told the norm of the gradient in all weights; PathAdamSAGA(unbiased=True) with "
            "the sampler's weights; the first P steps visit every path once, with those weights, too",
            min_prob_frac=0.2,
            rate=0.2,
            unbiased=True,
        ),
    )
}


def run_configuration(problem: Preset, seed: int, arm: Arm) -> dict[str, Any]:
    """Everything that determines a run, JSON-like."""
    # There in any case, as in the first runs of the study, where they were no settings of the preset.
    synth = {"synth": problem.synth, "smoothing": problem.smoothing, "am": None, "fm": None}
    decides = {key: value for key, value in asdict(arm).items() if key not in ("description", "synths")}
    if arm.source != "importance" or arm.examples == Arm.examples:
        del decides["examples"]
    return {**synth, **configuration(problem, seed), "arm": decides}


class PathObjective:
    """SCRAPL with any sampler of paths.

    An adaptive sampler's draw depends on what it was told before: each step asks once, in `loss`, and `update`
    steps with that path before it tells the sampler. Neither is repeatable, hence runs start over after a kill.
    """

    def __init__(
        self, preset: Preset, jtfs: JTFSPath, arm: Arm, sampler: PathSampler | AdaptivePathSampler
    ) -> None:
        self.label, self.preset, self.jtfs = f"SCRAPL, {arm.name}", preset, jtfs
        self.distance, self.arm, self.sampler = preset.path_loss(jtfs), arm, sampler
        self.path_counts = [0] * jtfs.n_paths
        self._drawn: tuple[int, Tensor] | None = None

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        path = self.sampler(step)
        self.path_counts[path] += 1
        if self.arm.source == "slopes":
            theta_hat.retain_grad()
        self._drawn = path, theta_hat
        return self.distance(match(), target(), path)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self.preset.path_adam_saga(parameters, self.jtfs.n_paths, unbiased=self.arm.unbiased)

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        if not isinstance(optimizer, PathAdamSAGA) or self._drawn is None:
            raise RuntimeError("update needs a PathAdamSAGA, and a call of loss before it")
        (path, theta_hat), self._drawn = self._drawn, None
        weight = self.sampler.weight(path) if self.arm.unbiased else None
        optimizer.step(path_idx=path, weight=weight)
        if isinstance(self.sampler, AdaptivePathSampler):
            self.sampler.update(path, self._values(optimizer, theta_hat))

    def _values(self, optimizer: torch.optim.Optimizer, theta_hat: Tensor) -> list[float]:
        """Return what the sampler is told, in double precision, as squares of gradients may underflow."""
        if self.arm.source == "slopes":
            assert theta_hat.grad is not None
            # The loss is a mean over examples, so the sum of the slopes' sizes is the mean of the examples' own.
            return theta_hat.grad.double().abs().sum(0).tolist()
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        return [torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in grads]).double()).item()]
