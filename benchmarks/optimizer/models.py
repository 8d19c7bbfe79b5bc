"""The parameters that are stepped: those of the sound-matching encoder, at four sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.sound_matching.encoder import Encoder

_GRADIENT_SCALE = 1e-6  # of the order that scattering losses give


@dataclass(frozen=True)
class Model:
    """An encoder by its width and depth; only the shapes of its parameters matter here."""

    name: str
    channels: int
    n_blocks: int

    def shapes(self) -> list[tuple[int, ...]]:
        with torch.device("meta"):
            encoder = Encoder(self.channels, n_blocks=self.n_blocks)
        return [tuple(parameter.shape) for parameter in encoder.parameters()]


# 0.6M is the encoder of the paper (Table 10)
MODELS = {
    m.name: m for m in (Model("0.1M", 52, 5), Model("0.6M", 128, 5), Model("3M", 288, 5), Model("10M", 376, 9))
}


def make_parameters(
    shapes: Sequence[tuple[int, ...]], seed: int = 0, scale: float = _GRADIENT_SCALE
) -> list[Tensor]:
    """Float32 leaves of standard deviation 0.05, with noise of standard deviation `scale` as gradients."""
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for shape in shapes:
        parameter = torch.randn(shape, generator=generator).mul_(0.05).requires_grad_()
        parameter.grad = torch.randn(shape, generator=generator).mul_(scale)
        parameters.append(parameter)
    return parameters
