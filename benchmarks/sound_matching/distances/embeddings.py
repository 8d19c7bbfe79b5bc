"""The distance of embeddings: what a network trained on other sounds hears.

An embedding is any `Embedding`. Four are here by name, `EMBEDDINGS`, all with networks of packages that are
installed apart: the weights of CREPE and aiSFX come with their packages, those of MS-CLAP and PANNs are files of
the user's. For drums take aiSFX, which was trained on sound effects of all kinds; CREPE tells pitch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from benchmarks.sound_matching.distances._embeddings.aisfx import AisfxEmbedding
from benchmarks.sound_matching.distances._embeddings.clap import ClapEmbedding
from benchmarks.sound_matching.distances._embeddings.crepe import CrepeEmbedding
from benchmarks.sound_matching.distances._embeddings.panns import PannsEmbedding
from benchmarks.sound_matching.distances._embeddings.weights import file_of_weights
from benchmarks.sound_matching.distances.checks import check_sounds, euclidean
from scrapl_jtfs.commands.audio import resample


class Embedding(Protocol):
    """A differentiable map of sounds to vectors.

    Attributes:
        name: for tables and file names.
        sample_rate: of the sounds it takes, in Hz.
    """

    name: str
    sample_rate: int

    def __call__(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to vectors (B, d), or (B, frames, d) where they tell when."""
        ...


_BUILDERS: dict[str, Callable[[Path | None], Embedding]] = {
    "crepe": lambda weights: CrepeEmbedding(),
    "aisfx": lambda weights: AisfxEmbedding(),
    "clap": lambda weights: ClapEmbedding(file_of_weights("clap", weights)),
    "panns": lambda weights: PannsEmbedding(file_of_weights("panns", weights)),
}
EMBEDDINGS = tuple(_BUILDERS)


def load_embedding(name: str, weights: Path | None = None) -> Embedding:
    """Load one of `EMBEDDINGS`.

    Args:
        name: of the embedding.
        weights: file of the weights, for those whose package has none.

    Raises:
        ValueError: the name is unknown, the package is not installed, or the file is missing or unfit.
    """
    if name not in _BUILDERS:
        raise ValueError(f"Invalid embedding: {name!r}; expected one of {', '.join(EMBEDDINGS)}")
    return _BUILDERS[name](weights)


class EmbeddingDistance(nn.Module):
    r"""Euclidean distance of embeddings, the root of its mean square over frames where there are frames.

    .. math:: \frac{1}{B} \sum_b \Bigl( \frac{1}{F} \sum_f \lVert e_f(x_b) - e_f(y_b) \rVert^2 \Bigr)^{1/2}

    Sounds are resampled to the rate of the embedding by cropping or padding their spectra.

    Args:
        embedding: any `Embedding`.
        sample_rate: of the sounds, in Hz.

    Source: paper, section 4.2, MS-CLAP and PANNs.
    """

    def __init__(self, embedding: Embedding, sample_rate: int) -> None:
        super().__init__()
        self.embedding, self.sample_rate = embedding, sample_rate

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of sounds (B, n_samples)."""
        check_sounds(x, y)
        a, b = (self.embedding(resample(sound, self.sample_rate, self.embedding.sample_rate)) for sound in (x, y))
        n_frames = math.prod(a.shape[1:-1])
        return euclidean(a, b).mean() / math.sqrt(n_frames)
