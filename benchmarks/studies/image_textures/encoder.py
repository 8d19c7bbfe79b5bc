"""The encoder: a small convolutional network that guesses the controls of a texture from the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Images (batch, height, width) to controls (batch, 3).

    The orientation comes out as a point of the plane, (cos 2 phi, sin 2 phi) times any length, of which the angle
    is taken: 180 degrees are where 0 degrees are, without a jump. The other two go through a sigmoid.
    """

    def __init__(self, channels: int = 24, n_blocks: int = 3, hidden: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(n_blocks):
            layers += [
                nn.Conv2d(1 if k == 0 else channels, channels, *((3, 2, 1) if k else (7, 2, 3))),
                nn.PReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * channels, hidden), nn.PReLU(), nn.Linear(hidden, 4))

    def forward(self, images: Tensor) -> Tensor:
        """Return orientation in (-0.5, 0.5], wavelength and density in (0, 1)."""
        maps = self.features(images.unsqueeze(1)).flatten(2)
        out = self.head(torch.cat([maps.mean(-1), maps.square().mean(-1)], 1))
        orientation = torch.atan2(out[:, 1], out[:, 0]) / (2 * math.pi)
        return torch.cat([orientation[:, None], out[:, 2:].sigmoid()], 1)
