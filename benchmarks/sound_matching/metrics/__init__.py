"""Distances between target drums and their matches by which the experiment is judged (paper, Tables 4, 8 and 9).

None of them undoes a misalignment: both sounds are compared as they are. The "micro" and "meso" evaluations differ
in the shift alone, and the same functions serve for both. Frames begin at the onset of the target. A match that is
d samples late has d samples of silence there, and one that is early has lost the start of its transient. So errors
of the transient grow with the shift, and more than those of the decay; a match that is later than the transient is
long counts as silence. Distances of spectrograms and of the JTFS grow as well.
"""

from __future__ import annotations

from benchmarks.sound_matching.metrics.drum_metrics import DRUM_METRICS, DrumMetrics
from benchmarks.sound_matching.metrics.evaluation import (
    ALL,
    Embeddings,
    Evaluation,
    evaluate,
    groups_of,
    load_embeddings,
)
from benchmarks.sound_matching.metrics.framing import Framing, Parts
from benchmarks.sound_matching.metrics.frechet_distance import frechet_distance
from benchmarks.sound_matching.metrics.jtfs_distance import JTFSDistance
from benchmarks.sound_matching.metrics.loudness import loudness_distance
from benchmarks.sound_matching.metrics.spectral_centroid import spectral_centroid_distance
from benchmarks.sound_matching.metrics.spectral_flatness import spectral_flatness_distance
from benchmarks.sound_matching.metrics.spectrogram_distance import spectrogram_distance

__all__ = [
    "ALL",
    "DRUM_METRICS",
    "DrumMetrics",
    "Embeddings",
    "Evaluation",
    "Framing",
    "JTFSDistance",
    "Parts",
    "evaluate",
    "frechet_distance",
    "groups_of",
    "load_embeddings",
    "loudness_distance",
    "spectral_centroid_distance",
    "spectral_flatness_distance",
    "spectrogram_distance",
]
