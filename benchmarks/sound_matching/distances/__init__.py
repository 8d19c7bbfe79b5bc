"""Distances between sounds that SCRAPL is compared with, differentiable in both.

Each is called as ``distance(x, y)`` with two batches of sounds (B, n_samples) and gives a scalar, the mean over
the batch. Equal sounds have distance zero. Those that draw, `RandomSpectrograms` and `DrawnDistance`, take the
number of the step as well.
"""

from __future__ import annotations

from benchmarks.sound_matching.distances.spectrograms import (
    REVISITED_LENGTHS,
    DrawnDistance,
    RandomSpectrograms,
    RevisitedSpectrograms,
    Spectrograms,
)
from benchmarks.sound_matching.distances.time_scattering import TimeScattering

__all__ = [
    "REVISITED_LENGTHS",
    "DrawnDistance",
    "RandomSpectrograms",
    "RevisitedSpectrograms",
    "Spectrograms",
    "TimeScattering",
]
