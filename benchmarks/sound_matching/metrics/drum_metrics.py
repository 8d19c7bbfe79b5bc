"""All metrics of pairs of drums: every one of the paper's Tables 4, 8 and 9 but the Frechet distance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.sound_matching.metrics.framing import Framing
from benchmarks.sound_matching.metrics.jtfs_distance import JTFSDistance
from benchmarks.sound_matching.metrics.loudness import loudness_distance
from benchmarks.sound_matching.metrics.spectral_centroid import spectral_centroid_distance
from benchmarks.sound_matching.metrics.spectral_flatness import spectral_flatness_distance
from benchmarks.sound_matching.metrics.spectrogram_distance import spectrogram_distance

_BY_PARTS = {
    "loudness": loudness_distance,
    "centroid": spectral_centroid_distance,
    "flatness": spectral_flatness_distance,
}
# Names of the metrics, in the order of Tables 4, 8 and 9.
DRUM_METRICS = ("mss", "jtfs", *(f"{part}_{name}" for part in ("transient", "decay") for name in _BY_PARTS))


class DrumMetrics:
    """The eight metrics of pairs of drums, of which lower is better.

    Sounds are compared as they are, whatever shift there is between them.

    Args:
        jtfs: the distance on the full tree.
        sample_rate: in Hz.
        fft_sizes: of the spectrograms, in samples.
        framing: of loudness, centroid and flatness; by default frames of the paper's duration.
    """

    def __init__(
        self, jtfs: JTFSDistance, sample_rate: float, fft_sizes: Sequence[int], framing: Framing | None = None
    ) -> None:
        self.jtfs, self.sample_rate, self.fft_sizes = jtfs, sample_rate, tuple(fft_sizes)
        self.framing = Framing.at(sample_rate) if framing is None else framing

    @torch.no_grad()
    def __call__(self, target: Tensor, match: Tensor, onset: int | Tensor = 0) -> dict[str, Tensor]:
        """Return distances (B,) by the names in DRUM_METRICS.

        Args:
            target: (B, n_samples), full scale being 1.
            match: the same.
            onset: sample at which the target begins, one for all or (B,).
        """
        values = {
            "mss": spectrogram_distance(target, match, self.fft_sizes),
            "jtfs": self.jtfs(target, match),
        }
        for name, distance in _BY_PARTS.items():
            parts = distance(target, match, self.sample_rate, onset=onset, framing=self.framing)
            values.update({f"{part}_{name}": value for part, value in parts._asdict().items()})
        return {name: values[name].double() for name in DRUM_METRICS}
