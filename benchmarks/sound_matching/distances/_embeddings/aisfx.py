"""The embedding of aiSFX, a network that sorts sound effects, with the weights of its package."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.sound_matching.distances._embeddings.packages import import_alone
from benchmarks.sound_matching.distances._embeddings.weights import load_frozen, read_weights

_REMEDY = "install it with pip install --no-deps aisfx"
_PREFIX = "embedding_net."
_WINDOW, _HOP, _N_MELS = 2048, 1024, 96
# Frames of a block, 2.3 seconds, and from one block to the next.
_BLOCK, _BLOCK_HOP = 100, 50
# The largest log spectrogram of the sounds that the network was trained on: its scale.
_LARGEST = 9.457798957824707
# Peak below which a sound is not made louder: -80 dB.
_FLOOR = 1e-4


class AisfxEmbedding(nn.Module):
    r"""Features of aiSFX, 512 for each block of 2.3 seconds, trained on libraries of sound effects.

    Sounds of peak one become log10(1 + 10^4 M), where M is the power spectrogram in 96 mel bands, each a mean over
    its bins. Zeros fill up the last block. As with CREPE, levels are not heard, but for peaks below -80 dB.

    Raises:
        ValueError: aisfx is not installed.

    Source: Ma and Lerch (2022); weights under CC BY 4.0.
    """

    name = "aisfx"
    sample_rate = 44100

    def __init__(self) -> None:
        super().__init__()
        module = import_alone("aisfx.models.cnn2d", remedy=_REMEDY)
        path = Path(str(module.__file__)).parent / "checkpoint.pth"
        state = {
            name.removeprefix(_PREFIX): value
            for name, value in read_weights(path).items()
            if name.startswith(_PREFIX)
        }
        # Maxima over blocks of 2 by 2, kernels of 3, stride 1, 64 channels in the first of four layers.
        self.network = load_frozen(module.EmbeddingNet("max", 3, 1, 64), state, path, "aisfx's network")
        self.register_buffer("filters", _mel_filters(self.sample_rate).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to (B, blocks, 512)."""
        frames = self.log_mel(audio)
        n_blocks = 1 + max(0, math.ceil((frames.shape[1] - _BLOCK) / _BLOCK_HOP))
        padding = (n_blocks - 1) * _BLOCK_HOP + _BLOCK - frames.shape[1]
        padded = nn.functional.pad(frames, (0, 0, 0, padding))
        blocks = padded.unfold(1, _BLOCK, _BLOCK_HOP).transpose(2, 3)
        return self.network(blocks.flatten(0, 1)).unflatten(0, (-1, n_blocks))

    def log_mel(self, audio: Tensor) -> Tensor:
        """Map sounds (B, n_samples) to what the network sees, (B, frames, bands)."""
        scaled = audio / audio.abs().amax(-1, keepdim=True).clamp_min(_FLOOR)
        window = self.get_buffer("window")
        spectrum = torch.stft(scaled, _WINDOW, _HOP, window=window, pad_mode="constant", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        bands = torch.einsum("mf,bft->btm", self.get_buffer("filters"), power)
        return torch.log10(1.0 + 1e4 * bands) / _LARGEST


def _mel_filters(sample_rate: int) -> Tensor:
    """Return triangles between neighbours on the mel scale 2595 log10(1 + f / 700), sums one, (bands, bins)."""
    nyquist = sample_rate / 2
    top = 2595.0 * math.log10(1.0 + nyquist / 700.0)
    mels = torch.linspace(0.0, top, _N_MELS + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0.0, nyquist, _WINDOW // 2 + 1, dtype=torch.float64)
    low, middle, high = (edges[i : i + _N_MELS, None] for i in range(3))
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp_min(0.0)
    # A band so narrow that no bin lies in it stays zero.
    return triangles / triangles.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
