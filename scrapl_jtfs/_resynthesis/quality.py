"""Moments and autocorrelation, which textures are judged by besides their coefficients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Moments of the samples of each signal, float64.

    Attributes:
        mean: (...) mean.
        std: (...) standard deviation.
        skewness: (...) third central moment, in standard deviations; NaN where nothing varies.
        kurtosis: (...) fourth central moment, in standard deviations, 3 for a Gaussian; NaN where nothing varies.
    """

    mean: Tensor
    std: Tensor
    skewness: Tensor
    kurtosis: Tensor


def moments(x: Tensor) -> Moments:
    """Return the moments of each signal (rows, *signal_shape)."""
    flat = x.flatten(1).double()
    mean = flat.mean(1, keepdim=True)
    central = flat - mean
    std = central.square().mean(1).sqrt()
    return Moments(mean[:, 0], std, central.pow(3).mean(1) / std.pow(3), central.pow(4).mean(1) / std.pow(4))


def autocorrelation(x: Tensor) -> Tensor:
    r"""Return the autocorrelation of each signal about its mean, up to a quarter of each axis.

    .. math:: r(k) = \frac{1}{N} \sum_n (x_n - \bar x)(x_{n + k} - \bar x)

    without wrapping around; along the first axes of an image lags are of both signs.

    Args:
        x: (rows, *signal_shape).

    Returns:
        (rows, *lags), float64.
    """
    shape = x.shape[1:]
    axes = tuple(range(1, x.ndim))
    central = x.double() - x.double().mean(axes, keepdim=True)
    lags = [size // 4 for size in shape]
    padded = [size + lag for size, lag in zip(shape, lags, strict=True)]
    power = torch.fft.rfftn(central, s=padded, dim=axes).abs().square()
    products = torch.fft.irfftn(power, s=padded, dim=axes) / central[0].numel()
    for axis, lag in zip(axes[:-1], lags[:-1], strict=True):
        products = products.roll(lag, axis).narrow(axis, 0, 2 * lag + 1)
    return products.narrow(axes[-1], 0, lags[-1] + 1)


def autocorrelation_error(x: Tensor, y: Tensor) -> Tensor:
    """Return ||r_x - r_y|| / ||r_y|| for signals (n * T, ...) and targets (T, ...), (n * T,)."""
    of_x, of_y = autocorrelation(x).flatten(1), autocorrelation(y).flatten(1)
    difference = of_x.unflatten(0, (-1, len(of_y))) - of_y
    return (difference.norm(dim=-1) / of_y.norm(dim=-1)).flatten()
