"""The drift of the running sum of P-SAGA from the sum of the rows that it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.harness.records import relative_distance
from scrapl_optim.reference import ReferencePathAdamSAGA

_SIZE = 256


@dataclass(frozen=True)
class Drift:
    """Relative 2-norm distances after some steps.

    Args:
        steps: taken.
        sum: running sum from the float64 sum of the stored rows: the drift.
        mean: running mean from the float64 reference's mean of its own memory: drift, and rounding of the rows.
    """

    steps: int
    sum: float
    mean: float


class DriftRun:
    """One parameter, paths drawn at random, gradients of a fixed mean per path and entry, and as much noise."""

    def __init__(self, n_paths: int, path_adam: bool, storage: str = "float32") -> None:
        from scrapl_optim import PathAdamSAGA

        self._draws = np.random.default_rng([n_paths, int(path_adam)])
        self._means = self._draws.standard_normal((n_paths, _SIZE), dtype=np.float32)
        self._weight = torch.zeros(_SIZE, requires_grad=True)
        self._optimizer = PathAdamSAGA([self._weight], n_paths, path_adam=path_adam, storage=storage)
        self._reference = ReferencePathAdamSAGA(np.zeros(_SIZE), n_paths, lr=0.0, path_adam=path_adam)
        self._steps = 0

    def advance(self, steps: int) -> Drift:
        """Take some steps and measure."""
        paths = self._draws.integers(len(self._means), size=steps)
        gradients = self._means[paths] + self._draws.standard_normal((steps, _SIZE), dtype=np.float32)
        for path, gradient in zip(paths.tolist(), gradients, strict=True):
            self._weight.grad = torch.from_numpy(gradient)
            self._optimizer.step(path_idx=path)
            self._reference.step(path, gradient)
        self._steps += steps
        return self.measure()

    def measure(self) -> Drift:
        state = self._optimizer.state[self._weight]
        drawn = np.flatnonzero(self._reference.tau)
        rows = sum(state[f"update.{p}"].double().numpy() for p in drawn)
        total = state["saga_sum"].double().numpy()
        return Drift(
            self._steps,
            relative_distance(total, np.asarray(rows)),
            relative_distance(total / len(drawn), self._reference.mean()),
        )
