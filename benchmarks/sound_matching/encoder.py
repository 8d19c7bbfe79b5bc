"""The convolutional encoders that guess synthesizer parameters from a constant-Q spectrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """(B, 1, n_bins, frames) -> theta_hat (B, n_parameters) in (0, 1). Table 10 of the paper by default.

    Five blocks: 3x3 convolution, normalisation, PReLU, 2x2 max-pooling (learns the slope
    several times sooner than averages); then the mean over what is left of time and
    frequency (a texture has no time origin), an embedding with dropout, a hidden layer and the output.
    With 128 channels that is 604,169 parameters (604 K in the paper). A normalisation with learned scales would
    make it 605 K; ours, over each example's own features, has none: nothing couples the examples of a batch, and
    training and evaluation differ in dropout alone.
    """

    def __init__(
        self,
        channels: int = 128,
        *,
        n_blocks: int = 5,
        embedding: int = 64,
        dropout: float = 0.5,
        n_parameters: int = 2,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(n_blocks):
            layers += [
                nn.Conv2d(1 if k == 0 else channels, channels, 3, padding=1),
                nn.GroupNorm(1, channels, affine=False),
                nn.PReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels, embedding),
            nn.PReLU(),
            nn.Dropout(dropout),
            nn.Linear(embedding, embedding),
            nn.PReLU(),
        )
        self.output = nn.Linear(embedding, n_parameters)
        self.smallest = (2**n_blocks, 2**n_blocks)
        # start near theta_hat = 0.5 for every input: chance level, and the steepest point of the sigmoid
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, spectrogram: Tensor) -> Tensor:
        check_spectrogram(spectrogram, self.smallest)
        return self.output(self.head(self.features(spectrogram).mean((-2, -1)))).sigmoid()


class PaperEncoder(nn.Module):
    """The encoder of the paper's authors, with the interface of `Encoder`.

    Each of the blocks normalises its input, every channel of every example by itself and without learned scales,
    before the convolution; the pooling comes before the PReLU. After the mean and one layer with dropout, each
    parameter has a head of its own. All weights start as PyTorch's layers have them. With 128 channels that is
    604,106 parameters (Table 10); with an embedding of 128 and 14 controls, as for drums, 724,642 (Table 12).

    Supervised, it learns the slope of the granular textures sooner than `Encoder` does.

    Args:
        channels: of each convolution.
        n_blocks: number of convolutions.
        embedding: width of the layer that the heads share, twice that of their own.
        dropout: probability, after the shared layer and in each head.
        n_parameters: number of controls.
        pooling: bins and frames that become one, for each block; None for two by two.

    Raises:
        ValueError: there is not one pooling for each block.
    """

    def __init__(
        self,
        channels: int = 128,
        *,
        n_blocks: int = 5,
        embedding: int = 64,
        dropout: float = 0.5,
        n_parameters: int = 2,
        pooling: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        pooling = [(2, 2)] * n_blocks if pooling is None else pooling
        if len(pooling) != n_blocks:
            raise ValueError(
                f"Invalid pooling: {list(pooling)}; expected a pair for each of {n_blocks} blocks; change one of "
                "the two"
            )
        layers: list[nn.Module] = []
        for inputs, kernel in zip([1] + [channels] * (n_blocks - 1), pooling, strict=True):
            layers += [
                nn.GroupNorm(inputs, inputs, affine=False),
                nn.Conv2d(inputs, channels, 3, padding=1),
                nn.MaxPool2d(kernel),
                nn.PReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.shared = nn.Sequential(nn.Linear(channels, embedding), nn.PReLU(), nn.Dropout(dropout))
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(embedding, embedding // 2), nn.PReLU(), nn.Dropout(dropout), nn.Linear(embedding // 2, 1)
            )
            for _ in range(n_parameters)
        )
        self.smallest = (math.prod(bins for bins, _ in pooling), math.prod(frames for _, frames in pooling))

    def forward(self, spectrogram: Tensor) -> Tensor:
        check_spectrogram(spectrogram, self.smallest)
        shared = self.shared(self.features(spectrogram).mean((-2, -1)))
        return torch.cat([head(shared) for head in self.heads], dim=-1).sigmoid()


def check_spectrogram(spectrogram: Tensor, smallest: tuple[int, int]) -> None:
    """Raise ValueError for one with fewer bins or frames than pooling makes one of."""
    n_bins, n_frames = smallest
    if spectrogram.ndim != 4 or spectrogram.shape[-2] < n_bins or spectrogram.shape[-1] < n_frames:
        wanted = f"{n_bins} bins and frames" if n_bins == n_frames else f"{n_bins} bins and {n_frames} frames"
        raise ValueError(
            f"expected (B, 1, n_bins, frames) with at least {wanted}, got {tuple(spectrogram.shape)}: lengthen "
            "the audio, or use a shorter CQT hop"
        )
