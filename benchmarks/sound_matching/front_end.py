"""The front end of the encoder: the logarithm of a constant-Q spectrogram."""

from __future__ import annotations

from typing import cast

import torch
from nnAudio2.features import CQT1992v2
from torch import Tensor, nn


class LogCQT(nn.Module):
    """Audio (B, n_samples) -> log(1 + gain * |CQT|) of shape (B, 1, n_bins, frames), without gradient.

    `gain` brings the magnitudes of textures at an RMS of 0.1 to around one, where log1p starts to compress.
    The filters come from nnAudio2, quietly; it pads with zeros, as the textures do.
    """

    def __init__(
        self, sample_rate: int, *, octaves: int = 5, bins_per_octave: int = 12, hop: int = 256, gain: float = 10.0
    ) -> None:
        super().__init__()
        self.n_bins, self.hop, self.gain = octaves * bins_per_octave, hop, gain
        # the top octave ends at Nyquist, so the highest filter is centred one bin below it
        self.min_frequency = sample_rate / 2 / 2**octaves
        self.bins_per_octave = bins_per_octave
        self.cqt = CQT1992v2(
            sr=sample_rate,
            hop_length=hop,
            fmin=self.min_frequency,
            n_bins=self.n_bins,
            bins_per_octave=bins_per_octave,
            pad_mode="constant",
            verbose=False,
        )

    @property
    def frequencies(self) -> list[float]:
        """Centre frequency of each bin in Hz."""
        return [self.min_frequency * 2 ** (k / self.bins_per_octave) for k in range(self.n_bins)]

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        magnitude = cast(Tensor, self.cqt(audio))
        return torch.log1p(self.gain * magnitude)[:, None]
