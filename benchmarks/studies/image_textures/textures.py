r"""Textures of Gabor grains: a differentiable synthesizer of images with three controls.

A texture is a sum of grains at random places and with random phases,

    x(u) = a sum_k w_k exp(-|u - u_k|^2 / 2 sigma^2) cos(<q, u - u_k> + phi_k),

where q has the wavelength lambda and the angle phi, sigma = lambda / 2, and w_k is 1 for the first n grains and
falls to 0 over the next. The controls theta in [0, 1]^3 are the orientation, phi / 180 degrees, which is circular;
the wavelength, logarithmic from 3 to 10 pixels; and the density, logarithmic from n = 4 to n = 64 grains in the
image and a margin of 4 pixels around it. Nothing is normalised: more grains have more energy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CONTROLS = ("orientation", "wavelength", "density")
SIZE = 32
_WAVELENGTHS = (3.0, 10.0)
_GRAINS = (4.0, 64.0)
_MARGIN = 4.0
# Grains in all, the most of which w_k is above 2e-3 at the highest density.
_MOST_GRAINS = 100
# Over how many grains w_k falls, as a share of n: enough for a gradient with respect to the density.
_SOFTNESS = 0.1
# Such that pixels have a standard deviation near 1 at the highest density.
_LEVEL = 0.4


class Grains(NamedTuple):
    """What is random in a batch of textures.

    Attributes:
        places: (batch, grains, 2) in pixels, down and right.
        phases: (batch, grains) in radians.
    """

    places: Tensor
    phases: Tensor


def random_controls(n: int, generator: torch.Generator) -> Tensor:
    """Draw controls (n, 3), uniformly."""
    return torch.rand(n, len(CONTROLS), generator=generator)


def random_grains(n: int, generator: torch.Generator) -> Grains:
    """Draw places and phases for n textures."""
    places = torch.rand(n, _MOST_GRAINS, 2, generator=generator) * (SIZE + 2 * _MARGIN) - _MARGIN
    return Grains(places, 2 * math.pi * torch.rand(n, _MOST_GRAINS, generator=generator))


def render(theta: Tensor, grains: Grains) -> Tensor:
    """Return textures (batch, SIZE, SIZE), differentiable in theta (batch, 3)."""
    angle = math.pi * theta[:, 0, None, None]
    wavelength = (_WAVELENGTHS[0] * (_WAVELENGTHS[1] / _WAVELENGTHS[0]) ** theta[:, 1])[:, None, None]
    n = (_GRAINS[0] * (_GRAINS[1] / _GRAINS[0]) ** theta[:, 2])[:, None]
    weights = torch.sigmoid((n - torch.arange(0.5, _MOST_GRAINS, dtype=theta.dtype)) / (_SOFTNESS * n))
    pixels = torch.arange(SIZE, dtype=theta.dtype)
    # A grain is the real part of a product of a function of the row and one of the column.
    down, right = (pixels - grains.places[:, :, i, None].to(theta.dtype) for i in (0, 1))
    wave = 2 * math.pi / wavelength
    rows = -wave * torch.sin(angle) * down + grains.phases[:, :, None].to(theta.dtype)
    columns = wave * torch.cos(angle) * right
    spread = -2 / wavelength.square()  # -1 / (2 sigma^2)
    tall = weights[:, :, None] * torch.exp(spread * down.square())
    wide = torch.exp(spread * right.square())
    real = (tall * torch.cos(rows)).mT @ (wide * torch.cos(columns))
    return _LEVEL * (real - (tall * torch.sin(rows)).mT @ (wide * torch.sin(columns)))


def errors(found: Tensor, theta: Tensor) -> Tensor:
    """Return the distances of controls, (batch, 3) in shares of their ranges; that of orientations is circular."""
    distance = found - theta
    circular = torch.remainder(distance[:, :1] + 0.5, 1.0) - 0.5
    return torch.cat([circular, distance[:, 1:]], 1).abs()
