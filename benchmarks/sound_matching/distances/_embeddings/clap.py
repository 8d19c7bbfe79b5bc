"""The embedding of MS-CLAP, a network that brings sounds and their descriptions together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from benchmarks.sound_matching.distances._embeddings.packages import import_alone
from benchmarks.sound_matching.distances._embeddings.weights import load_frozen, read_weights

_REMEDY = "install it with pip install torchlibrosa and pip install --no-deps msclap"
_PREFIX = "audio_encoder."
# Dimension of the space that sounds and texts share.
_SHARED = 1024


class _Version(NamedTuple):
    """A version of the network that hears.

    Attributes:
        encoder: its name in msclap.
        n_features: numbers that it gives, before the projection.
        max_frequency: of the mel spectrogram, in Hz.
        seconds: length of the sounds that it was trained on.
    """

    encoder: str
    n_features: int
    max_frequency: int
    seconds: int


VERSIONS = {"2022": _Version("Cnn14", 2048, 14000, 5), "2023": _Version("HTSAT", 768, 8000, 7)}


class _Projection(nn.Module):
    """Map to the shared space: LayerNorm(a + W2 gelu(a)), a = W1 x."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(n_features, _SHARED, bias=False)
        self.linear2 = nn.Linear(_SHARED, _SHARED, bias=False)
        self.layer_norm = nn.LayerNorm(_SHARED)

    def forward(self, features: Tensor) -> Tensor:
        first = self.linear1(features)
        return self.layer_norm(first + self.linear2(nn.functional.gelu(first)))


class AudioNetwork(nn.Module):
    """Half of MS-CLAP that hears, with random weights; modules are named as in its checkpoints.

    Raises:
        ValueError: msclap is not installed.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        module = import_alone("msclap.models.audio", remedy=_REMEDY)
        chosen = VERSIONS[version]
        build = module.get_audio_encoder(chosen.encoder)
        self.base: nn.Module = build(44100, 1024, 320, 64, 50, chosen.max_frequency, 527, chosen.n_features)
        self.projection = _Projection(chosen.n_features)

    def forward(self, audio: Tensor) -> Tensor:
        return self.projection(self.base(audio)["embedding"])


class ClapEmbedding(nn.Module):
    """MS-CLAP's 1024 numbers of a sound, of its version of 2022 or 2023, whichever the weights are of.

    As in the package, a sound is repeated up to the length that the network was trained on, 5 or 7 seconds; of a
    longer one the beginning is heard, where the package draws a part at random.

    Args:
        weights: the authors' checkpoint; its texts are not needed.

    Raises:
        ValueError: the package is not installed, or the file is not of this network.

    Source: Elizalde et al. (2023).
    """

    name = "clap"
    sample_rate = 44100

    def __init__(self, weights: Path) -> None:
        super().__init__()
        state = _of_sounds(read_weights(weights))
        self.version = "2023" if any(name.startswith("base.htsat.") for name in state) else "2022"
        what = f"the audio encoder of MS-CLAP {self.version}"
        self.network = load_frozen(AudioNetwork(self.version), state, weights, what)

    def forward(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to (B, 1024)."""
        length = VERSIONS[self.version].seconds * self.sample_rate
        repeated = audio.repeat(1, math.ceil(length / audio.shape[-1]))
        return self.network(repeated[:, :length])


def _of_sounds(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the half that hears, without the prefix of their names."""
    return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
