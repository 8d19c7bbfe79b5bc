"""Noise to start from: white, or with the target's magnitude spectrum."""

from __future__ import annotations

import torch
from torch import Tensor


def noise(kind: str, targets: Tensor, n_outputs: int, generator: torch.Generator) -> Tensor:
    """Return noise (n_outputs, T, *signal_shape) for targets (T, *signal_shape).

    It is drawn output by output in float64 on the generator's device: it does not depend on how many outputs there
    are, and only by roundings on the device and dtype of the targets.

    Args:
        kind: "white" for Gaussian noise of the target's mean and standard deviation, "spectrum" for the target's
            magnitude spectrum with the phases of white noise.
        targets: the targets.
        n_outputs: noises for each.
        generator: source of randomness.
    """
    shape = targets.shape
    drawn = [
        torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        for _ in range(n_outputs)
    ]
    white = torch.stack(drawn).to(targets.device)
    y = targets.double()
    axes = tuple(range(1, y.ndim))
    if kind == "white":
        found = white * y.std(axes, correction=0, keepdim=True) + y.mean(axes, keepdim=True)
    else:
        found = with_spectrum_of(y, white)
    return found.to(targets.dtype)


def with_spectrum_of(y: Tensor, white: Tensor) -> Tensor:
    """Return signals with the magnitude spectrum and mean of y (T, ...), and the phases of white (n, T, ...)."""
    axes = tuple(range(2 - white.ndim, 0))
    spectrum, phases = torch.fft.rfftn(y, dim=axes), torch.fft.rfftn(white, dim=axes)
    turned = torch.polar(spectrum.abs().expand_as(phases), phases.angle())
    signals = torch.fft.irfftn(turned, s=y.shape[1:], dim=axes)
    means = tuple(range(2, white.ndim))
    return signals - signals.mean(means, keepdim=True) + y.mean(tuple(range(1, y.ndim)), keepdim=True)
