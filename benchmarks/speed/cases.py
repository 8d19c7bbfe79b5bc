"""The cases that are timed: settings of the transform, one case of work, and the paths that stand for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks.harness.files import tuples
from benchmarks.sound_matching.presets import PAPER

Kind = Literal["step", "forward", "hvp", "tree", "construction"]


@dataclass(frozen=True)
class Settings:
    """Settings of the transform, and what the comparisons need of them."""

    n_samples: int
    J: int
    Q: tuple[int, int]
    J_fr: int
    Q_fr: int
    T: int
    F: int
    fft_sizes: tuple[int, ...] = PAPER.fft_sizes

    def resized(self, n_samples: int) -> Settings:
        """The same for signals of another length; only an average longer than the signal must shrink."""
        return replace(self, n_samples=n_samples, T=min(self.T, n_samples))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Settings:
        """From what `dataclasses.asdict` makes."""
        return cls(**tuples(data))


# The granular configuration of the paper; T is a number there.
PAPER_SETTINGS = Settings(
    PAPER.n_samples, PAPER.J, PAPER.Q, PAPER.J_fr, PAPER.Q_fr, int(PAPER.T), PAPER.F, PAPER.fft_sizes
)


@dataclass(frozen=True)
class Case:
    """One piece of work, in single precision.

    Args:
        kind: "step" is the loss on `paths` and its gradient, "forward" the loss alone without a graph, "hvp" a
            product of its Hessian with a vector, "tree" the energy of all coefficients and its gradient,
            "construction" the transform of orders 1 and 2 from its settings, whose batch is 1.
        settings: of the transform.
        batch: signals at once.
        paths: path ids, none where the contender has no paths or takes all.
    """

    kind: Kind
    settings: Settings
    batch: int
    paths: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        return cls(data["kind"], Settings.from_json(data["settings"]), data["batch"], tuple(data["paths"]))


def representative_paths(table: Sequence[tuple[int, int]]) -> list[int]:
    """One path for each n2, with n_fr spread evenly over its values.

    Args:
        table: (n2, n_fr) of every path.

    Returns:
        Path ids: the i-th n2 with n_fr = 7 i modulo the number of n_fr (7 and 15 have no common factor).
    """
    temporal, frequential = sorted({n2 for n2, _ in table}), sorted({n_fr for _, n_fr in table})
    position = {key: index for index, key in enumerate(table)}
    return [position[n2, frequential[7 * i % len(frequential)]] for i, n2 in enumerate(temporal)]
