"""SCRAPL as an objective: the distance on one random JTFS path per step."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.losses import Render
from benchmarks.sound_matching.presets import Preset
from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler

__all__ = ["Scrapl"]


class Scrapl:
    """One JTFS path per step, drawn by `sampler`, and the optimizer that knows about paths."""

    label = "SCRAPL"

    def __init__(self, preset: Preset, seed: int, device: torch.device) -> None:
        self.preset = preset
        self.jtfs = JTFSPath(
            preset.n_samples,
            J=preset.J,
            Q=preset.Q,
            J_fr=preset.J_fr,
            Q_fr=preset.Q_fr,
            T=preset.T,
            F=preset.F,
            sample_rate=preset.sample_rate,
        ).to(device)
        self.distance = JTFSPathLoss(self.jtfs)
        self.sampler = PathSampler(n_paths=self.jtfs.n_paths, seed=seed)

    def loss(self, theta_hat: Tensor, theta: Tensor, match: Render, target: Render, step: int) -> Tensor:
        return self.distance(match(), target(), self.sampler(step))

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return PathAdamSAGA(
            parameters,
            n_paths=self.jtfs.n_paths,
            lr=self.preset.lr_scrapl,
            betas=self.preset.betas,
            weight_decay=self.preset.weight_decay,
        )

    def update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        assert isinstance(optimizer, PathAdamSAGA)
        optimizer.step(path_idx=self.sampler(step))

    def path_counts(self, n_steps: int) -> list[int]:
        """How often each path was drawn in the first `n_steps` steps; the sampler has no state to ask."""
        counts = [0] * self.jtfs.n_paths
        for step in range(n_steps):
            counts[int(self.sampler(step))] += 1
        return counts
