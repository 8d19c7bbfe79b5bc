"""The level or the histogram of a target, which a resynthesis may keep, or nothing."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

Keep = Literal["histogram", "level"] | None
# Weight of the distance of histograms, in squared relative errors of a start with the target's values. Of 0.03 to
# 30 on four textures, 1 ends near the best error on three; on the fourth, a picture, larger ones end lower.
_HISTOGRAM_WEIGHT = 1.0


class Kept(Protocol):
    """Map from what is optimised, u (rows, *signal_shape) with deviations near 1, to signals of the same shape."""

    def parameters(self, x: Tensor) -> Tensor:
        """Return the u of signals x."""
        ...

    def signals(self, u: Tensor) -> Tensor:
        """Return signals, differentiable in u."""
        ...

    def penalty(self, x: Tensor) -> Tensor | None:
        """Return what is added to the value of each signal (rows,), differentiable; None for nothing."""
        ...

    def finished(self, u: Tensor) -> Tensor:
        """Return signals that keep exactly what is promised."""
        ...


class Free:
    """Nothing is kept.

    Args:
        targets: (T, *signal_shape) targets, to whose deviations u is relative.
        n_outputs: outputs of each.
    """

    def __init__(self, targets: Tensor, n_outputs: int) -> None:
        self._scale = scales(targets).repeat(n_outputs).to(targets.dtype).reshape(-1, *[1] * (targets.ndim - 1))

    def parameters(self, x: Tensor) -> Tensor:
        """Return the u of signals x."""
        return x / self._scale

    def signals(self, u: Tensor) -> Tensor:
        """Return signals, differentiable in u."""
        return u * self._scale

    def penalty(self, x: Tensor) -> Tensor | None:
        """Return None."""
        return None

    def finished(self, u: Tensor) -> Tensor:
        """Return the signals as they are."""
        return self.signals(u)


class Level(Free):
    """The root mean square of each target is kept: x = level * u / rms(u)."""

    def __init__(self, targets: Tensor, n_outputs: int) -> None:
        super().__init__(targets, n_outputs)
        self._level = levels(targets).repeat(n_outputs, *[1] * (targets.ndim - 1))

    def signals(self, u: Tensor) -> Tensor:
        """Return signals of the target's level, differentiable in u."""
        return u * (self._level / levels(u))


class Histogram(Free):
    r"""The values of each target's samples are kept, in another order.

    On the way the distance of histograms is added, with a weight, relative to the variance of the target: with
    :math:`x_{(i)}` the i-th smallest of N samples,

    .. math:: \frac{\sum_i (x_{(i)} - y_{(i)})^2}{\sum_i (y_i - \bar y)^2} ,

    the squared Wasserstein distance. At the end each sample takes the target's value of the same rank.
    """

    def __init__(self, targets: Tensor, n_outputs: int) -> None:
        super().__init__(targets, n_outputs)
        self._sorted = targets.flatten(1).sort().values.repeat(n_outputs, 1)
        variation = targets.flatten(1).double().var(1, correction=0) * targets[0].numel()
        self._variation = variation.clamp_min(torch.finfo(targets.dtype).tiny).repeat(n_outputs)
        self._weight = (_HISTOGRAM_WEIGHT / self._variation).to(targets.dtype)

    def weigh(self, errors: Tensor) -> None:
        """Set the weight by the relative errors (rows,) of starts with the target's values."""
        self._weight = (_HISTOGRAM_WEIGHT * errors.square() / self._variation).to(self._weight.dtype)

    def penalty(self, x: Tensor) -> Tensor | None:
        """Return the weighted distance of histograms (rows,)."""
        return self._weight * (x.flatten(1).sort().values - self._sorted).square().sum(1)

    def finished(self, u: Tensor) -> Tensor:
        """Return signals with the target's values."""
        return self.exchanged(self.signals(u))

    def exchanged(self, x: Tensor) -> Tensor:
        """Return signals in which each sample has the target's value of its rank."""
        ranks = x.flatten(1).argsort(stable=True)
        return torch.empty_like(self._sorted).scatter_(1, ranks, self._sorted).reshape(x.shape)


def make_kept(keep: Keep, targets: Tensor, n_outputs: int) -> Kept:
    """Return what is to be kept of targets (T, *signal_shape)."""
    kinds: dict[Keep, type[Free]] = {None: Free, "level": Level, "histogram": Histogram}
    return kinds[keep](targets, n_outputs)


def levels(x: Tensor) -> Tensor:
    """Return the root mean square of each row (rows, 1, ...), of the dtype of x."""
    axes = tuple(range(1, x.ndim))
    return x.double().square().mean(axes, keepdim=True).sqrt().to(x.dtype)


def scales(x: Tensor) -> Tensor:
    """Return the standard deviation of each row (rows,), its level where it does not vary."""
    flat = x.flatten(1).double()
    deviation = flat.std(1, correction=0)
    return torch.where(deviation > 0, deviation, flat.square().mean(1).sqrt())
