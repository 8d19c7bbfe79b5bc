"""From curvatures and seconds to the figures of the tables: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Place:
    """The place of a path in the plane of Figure 6.

    Attributes:
        rate: Hz.
        scale: cycles per octave; 0 for the low-pass, which has no place along FM.
        spin: of the path.
    """

    rate: float
    scale: float
    spin: int

    @property
    def fm(self) -> float | None:
        """Octaves per second of the chirps that the path answers to most: rate over scale."""
        return self.rate / self.scale if self.scale > 0 else None


def distribution(curvature: Sequence[Sequence[float]]) -> np.ndarray:
    """Pi of equation (10) from C, shape (P, U): the mean over controls of what each gives to the paths."""
    table = np.asarray(curvature, dtype=float)
    return (table / table.sum(0)).mean(1)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of the absolute differences of two distributions."""
    return 0.5 * float(np.abs(np.asarray(first) - np.asarray(second)).sum())


def relative_differences(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> np.ndarray:
    """|found - expected| / expected of each entry, flat."""
    a, b = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return (np.abs(a - b) / b).ravel()


def inside(
    place: Place, am: tuple[float, float], fm: tuple[float, float], per_octave: tuple[float, float]
) -> bool:
    """Test if a path is in a rectangle that is wider by half a spacing of wavelets on each side.

    Args:
        place: of the path; either spin counts, as in the paper's figure.
        am: range in Hz.
        fm: range in octaves per second.
        per_octave: wavelets per octave along time (rate) and log-frequency (scale, hence FM at a given rate).
    """
    if place.fm is None:
        return False
    return all(
        low * 2 ** (-0.5 / q) <= value <= high * 2 ** (0.5 / q)
        for value, (low, high), q in ((place.rate, am, per_octave[0]), (place.fm, fm, per_octave[1]))
    )


def mass_ratio(pi: Sequence[float], chosen: Sequence[bool]) -> float:
    """Probability of the chosen paths over what a uniform distribution gives them; 1 is no better."""
    picked = np.asarray(chosen, dtype=bool)
    if not picked.any():
        raise ValueError("no path is chosen: the rectangle holds none")
    return float(np.asarray(pi)[picked].sum() / picked.mean())


def path_seconds(pieces: dict[str, Any], n_controls: int, n_products: float) -> float:
    """Seconds of all values of one path of scrapl-loss from the measured pieces.

    Args:
        pieces: seconds of the "graph", once, and of each of the "products".
        n_controls: U.
        n_products: for one value.
    """
    return pieces["graph"] + n_controls * n_products * float(np.median(pieces["products"]))
