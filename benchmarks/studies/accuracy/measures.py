"""The measures of a transform: paths, their losses, gradients of these; and distances between two answers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.harness.records import relative_distance
from benchmarks.speed.cases import representative_paths
from benchmarks.studies.accuracy.layered import LayeredJTFS
from benchmarks.studies.accuracy.signals import SAMPLE_RATE, Pair
from scrapl_jtfs import JTFSPath, JTFSPathLoss


@dataclass(frozen=True)
class Settings:
    """Settings of a transform; by default the paper's for its granular synth, 315 paths."""

    n_samples: int = 32768
    J: int = 12
    T: int | Literal["global"] = 4096

    def build(self, second: float = 1.0, **options: Any) -> JTFSPath:
        """Build it in double precision.

        Args:
            second: eps of the second layer over that of the first.
            options: `samples_per_bandwidth`, `smoothing`, `boundary`, `memory`.
        """
        args = (self.n_samples, self.J, (8, 2), 3, 2, self.T, 8)
        options["sample_rate"] = SAMPLE_RATE
        jtfs = LayeredJTFS(*args, second=second, **options)
        return jtfs.to(torch.float64)


PAPER = Settings()


def path_ids(jtfs: JTFSPath) -> list[int]:
    """One path for each n2, with all n_fr alike."""
    return representative_paths([(path.n2 or 0, path.n_fr) for path in jtfs.paths])


@dataclass(frozen=True)
class Answer:
    """One path: its coefficients, the loss' value, and the loss' gradient with respect to the sound."""

    coefficients: Tensor
    value: float
    gradient: Tensor


def answers(jtfs: JTFSPath, pair: Pair, paths: Sequence[int], dtype: torch.dtype = torch.float64) -> list[Answer]:
    """Evaluate paths one at a time in a precision; results are in double."""
    jtfs = jtfs.to(dtype)
    x, y = (z.to(dtype) for z in pair)
    loss_fn = JTFSPathLoss(jtfs)
    target = loss_fn.prepare(y)
    found = []
    for path in paths:
        x = x.detach().requires_grad_()
        value = loss_fn(x, target, path)
        value.backward()
        with torch.no_grad():
            coefficients = jtfs(x, path)
        assert x.grad is not None
        found.append(Answer(coefficients.double(), value.item(), x.grad.double()))
    return found


@dataclass(frozen=True)
class Errors:
    """Relative distances from a reference over paths: median, largest, and of all paths as one long vector."""

    median: float
    largest: float
    together: float


def _errors(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Errors:
    each = [relative_distance(a, b) for a, b in zip(found, wanted, strict=True)]
    together = relative_distance(torch.cat([a.flatten() for a in found]), torch.cat([b.flatten() for b in wanted]))
    return Errors(statistics.median(each), max(each), together)


def compare(found: Sequence[Answer], wanted: Sequence[Answer]) -> dict[str, Errors]:
    """Distances of coefficients, gradients and values; in `together` paths weigh as their norms do."""
    values = ([torch.tensor([a.value], dtype=torch.float64) for a in some] for some in (found, wanted))
    return {
        "coefficients": _errors([a.coefficients for a in found], [a.coefficients for a in wanted]),
        "gradient": _errors([a.gradient for a in found], [a.gradient for a in wanted]),
        "value": _errors(*values),
    }
