"""The embedding of PANNs Wavegram-Logmel, a network that tags sounds."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn

from benchmarks.sound_matching.distances._embeddings.packages import import_alone
from benchmarks.sound_matching.distances._embeddings.weights import load_frozen, read_weights

_REMEDY = "install it with pip install torchlibrosa and pip install --no-deps frechet-audio-distance"
# Hop of the log-mel spectrogram, and of the wavegram beside it, in samples.
_HOP = 320
# The shortest sound in samples: a second. Five poolings of two leave three frames of it.
_SHORTEST = 32000


def build_network() -> nn.Module:
    """Build the network with random weights; the authors' package has other networks only, this one has all.

    Raises:
        ValueError: the package is not installed.
    """
    module = import_alone("frechet_audio_distance.models.pann", remedy=_REMEDY)
    return module.Wavegram_Logmel_Cnn14(
        sample_rate=32000, window_size=1024, hop_size=_HOP, mel_bins=64, fmin=50, fmax=14000, classes_num=527
    )


class PannsEmbedding(nn.Module):
    """Layer before the tags of Wavegram-Logmel-CNN14, 2048 numbers a sound, trained on AudioSet.

    Zeros follow sounds of less than a second, and fill up the last pair of hops.

    Args:
        weights: the authors' checkpoint.

    Raises:
        ValueError: the package is not installed, or the file is not of this network.

    Source: Kong et al. (2020).
    """

    name = "panns"
    sample_rate = 32000

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = load_frozen(build_network(), read_weights(weights), weights, "Wavegram_Logmel_Cnn14")

    def forward(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to (B, 2048)."""
        pair = 2 * _HOP
        length = max(_SHORTEST, pair * math.ceil(audio.shape[-1] / pair))
        return self.network(nn.functional.pad(audio, (0, length - audio.shape[-1])))["embedding"]
