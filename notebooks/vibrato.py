"""A synthesizer of two controls and an encoder to hear them, for the first training runs."""

import math

import torch
from torch import Tensor, nn

SAMPLE_RATE, N_SAMPLES = 4096, 4096
# What to listen to: 2 to 50 Hz, all paths of one rate at a time, their mean over the whole sound
HEARING = {"J": 10, "Q": (8, 1), "J_fr": 3, "T": "global", "rates": (1.5, 50), "unit": "rate"}


def vibrato(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Return tones (batch, N_SAMPLES) that swing 3 to 15 times a second by 0.05 to 0.5 octaves.

    Where in its swing a tone begins, and its phase, are drawn anew at each call: two tones of
    equal controls are not aligned, and a loss on spectrograms would compare the wrong moments.
    """
    rate, depth = 3 * 5 ** theta[:, :1], 0.05 + 0.45 * theta[:, 1:]
    starts = 2 * math.pi * torch.rand(len(theta), 2, generator=generator)
    swing = torch.sin(2 * math.pi * rate * torch.arange(N_SAMPLES) / SAMPLE_RATE + starts[:, :1])
    phase = 2 * math.pi * (400 * 2 ** (depth * swing) / SAMPLE_RATE).cumsum(-1) + starts[:, 1:]
    return torch.sin(phase) + torch.sin(2 * phase) / 2 + torch.sin(3 * phase) / 3


class Encoder(nn.Module):
    """A spectrogram, three convolutions, the mean over time, and each control between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        layers = [(nn.Conv2d(a, b, 5, 2, 2), nn.PReLU()) for a, b in ((1, 16), (16, 32), (32, 32))]
        self.layers = nn.Sequential(*(module for pair in layers for module in pair))
        self.head = nn.Sequential(nn.Linear(32 * 16, 64), nn.PReLU(), nn.Linear(64, 2))
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(256))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, 256, 64, window=self.window, return_complex=True).abs()[
            :, None, :128
        ]
        heard = self.layers(torch.log1p(100 * spectrum / spectrum.amax((2, 3), keepdim=True)))
        return torch.sigmoid(self.head(heard.mean(-1).flatten(1)))
