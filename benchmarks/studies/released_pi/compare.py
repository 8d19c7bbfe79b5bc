"""Distributions over paths beside each other: distances, effective numbers, shares by rate, coarse maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from scrapl_jtfs.paths import Path

# Files of the authors' distributions, by the names of our presets without their first word.
_FILES = {
    "": "granular",
    "chirplet-lo-lo": "chirplet_am_lo_fm_lo",
    "chirplet-lo-med": "chirplet_am_lo_fm_med",
    "chirplet-hi-med": "chirplet_am_hi_fm_med",
    "chirplet-hi-hi": "chirplet_am_hi_fm_hi",
}
SOURCE = "christhetree/scrapl at d1b6938, experiments/data/theta_importance_sampling (MIT licence)"
# Steps and reach of maps, in octaves around uniform.
_STEP, _REACH = 0.5, 4.0


def read_released(folder: FilePath, preset: str) -> np.ndarray:
    """Read the authors' pi of a problem, over the paths of the paper's transform.

    Raises:
        ValueError: there is none.
    """
    path = folder / f"{_FILES[preset.partition('-')[2]]}.json"
    if not path.exists():
        raise ValueError(f"Invalid --released: {path} does not exist; expected the authors' pi, as JSON with 'pi'")
    return np.array(json.loads(path.read_text(encoding="utf-8"))["pi"], dtype=np.float64)


def restricted(released: np.ndarray, theirs: Sequence[Path], ours: Sequence[Path], faster: float) -> np.ndarray:
    """Return the shares of paths of a transform of sounds that are ``faster`` as fast; they do not sum to one."""
    shares = {_place(path.rate, path): released[path.index] for path in theirs}
    return np.array([shares[_place(path.rate / faster, path)] for path in ours])


def _place(rate: float, path: Path) -> tuple[float, float, int]:
    return round(float(np.log2(rate)), 2), round(path.scale, 3), path.spin


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Return half the sum of absolute differences: the mass that is on other paths."""
    return float(np.abs(p - q).sum() / 2)


def rank_correlation(p: np.ndarray, q: np.ndarray) -> float:
    """Return Spearman's correlation; 0 where one of them is constant."""
    if np.ptp(p) == 0 or np.ptp(q) == 0:
        return 0.0
    return float(np.corrcoef(np.argsort(np.argsort(p)), np.argsort(np.argsort(q)))[0, 1])


def compare(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """Return how far apart two distributions are, and how much of q lies on the paths that hold 90% of p."""
    order = np.argsort(-p)
    heaviest = order[: int(np.searchsorted(np.cumsum(p[order]), 0.9)) + 1]
    return {
        "total_variation": round(total_variation(p, q), 4),
        "spearman": round(rank_correlation(p, q), 4),
        "mass_on_the_paths_of_90_percent": round(float(q[heaviest].sum()), 4),
    }


def summary(p: np.ndarray, paths: Sequence[Path]) -> dict[str, float]:
    """Return effective numbers of paths, and the mass of rising and falling ones."""
    positive = p[p > 0]
    spin = np.array([path.spin for path in paths])
    return {
        "exp_entropy": round(float(np.exp(-(positive * np.log(positive)).sum())), 1),
        "one_over_sum_of_squares": round(float(1 / np.square(p).sum()), 1),
        "ess_over_paths": round(float(1 / np.square(p).sum() / len(p)), 3),
        "below_a_tenth_of_uniform": round(float((p < 0.1 / len(p)).mean()), 3),
        "rising": round(float(p[spin > 0].sum()), 3),
        "falling": round(float(p[spin < 0].sum()), 3),
    }


def shares(p: np.ndarray, paths: Sequence[Path], key: Callable[[Path], float]) -> dict[str, float]:
    """Return the mass by rate, or by another number of a path."""
    values = np.array([key(path) for path in paths]).round(4)
    return {f"{value:g}": round(float(p[values == value].sum()), 3) for value in np.unique(values)}


def coarse_map(p: np.ndarray, paths: Sequence[Path]) -> dict[str, Any]:
    """Return octaves above uniform, both spins together, on the grid of rates and scales, to half an octave."""
    rates = sorted({round(path.rate, 4) for path in paths})
    scales = sorted({round(path.scale, 4) for path in paths})
    mass, count = np.zeros((len(scales), len(rates))), np.zeros((len(scales), len(rates)))
    for path in paths:
        cell = scales.index(round(path.scale, 4)), rates.index(round(path.rate, 4))
        mass[cell] += p[path.index]
        count[cell] += 1
    with np.errstate(divide="ignore"):
        octaves = np.log2(mass * len(p) / count)
    steps = np.round(np.clip(octaves, -_REACH, _REACH) / _STEP) * _STEP
    return {"rates": rates, "scales": scales, "octaves": steps.tolist()}
