"""Unbiasedness of an estimator that cannot be enumerated: tests on draws, with a stated rate of false alarms."""

# Annotations stay strings: help() would else spell ArrayLike out, half a screen long.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim._validation import as_floats, as_int, check_callable
from scrapl_optim.testing._numbers import (
    Estimate,
    Numbers,
    check_false_alarm,
    check_tolerances,
    read_like,
    read_target,
    show,
)

Bounds = tuple[Estimate, Estimate]

# The largest deviation, in roots of the sum of squares, may be this over the cube of the threshold. With it the
# false alarms of two-point draws, enumerated, stay under 0.7 of the nominal rate from 0.2 to 1e-12.
_DOMINANCE = 10.0
_ENTRIES_AT_ONCE = 2**18


class _Sums(NamedTuple):
    """Of the deviations of the draws from the target, for each coordinate."""

    first: Tensor
    second: Tensor
    largest: Tensor
    tolerance: Tensor


def assert_statistically_unbiased(
    draw: Callable[[int], Estimate],
    target: Estimate,
    n_draws: int,
    *,
    bounds: Bounds | None = None,
    rtol: float | None = None,
    false_alarm: float = 1e-6,
) -> float:
    r"""Assert that the mean of independent draws is the target, with a stated rate of false alarms.

    For estimators whose randomness is not only the path: stochastic rounding, several paths per step, random
    augmentation. Where every path can be enumerated, :func:`assert_unbiased` is exact and cheaper.

    Write :math:`d_i` for the deviation of draw i from the target in one of D coordinates, n = ``n_draws`` and
    :math:`\alpha` = ``false_alarm``. For an unbiased estimator, the probability of an AssertionError is at most
    :math:`\alpha`, over all coordinates together (Bonferroni), under these conditions:

    - **With** ``bounds``, low and high: always, if draws are independent, of one distribution, and lie within the
      bounds, however rare and large values are. The test is the empirical Bernstein bound, with sample variance
      V and :math:`\ell = \ln(4 D / \alpha)`: it fails if

      .. math:: |\bar d| > \sqrt{2 V \ell / n} + \frac{7 (\text{high} - \text{low}) \, \ell}{3 (n - 1)} .

    - **Without**: if draws are independent and symmetric about the target, however heavy their tails. The test is
      Efron's: with :math:`x = \sqrt{2 \ln(2 D / \alpha)}`, it fails if

      .. math:: \Big| \sum_i d_i \Big| > x \, \sqrt{\sum_i d_i^2} .

      Draws that are not symmetric have no such guarantee from any test without bounds. It holds approximately if
      (1) every value that matters to the mean has a probability of at least :math:`x^2 / n` of being drawn, which
      the caller must know, for what was never drawn cannot be seen; and (2) no single draw dominates,
      :math:`\max_i |d_i| \leq 10 \, x^{-3} \sqrt{\sum_i d_i^2}`, which is checked for all draws: ValueError
      otherwise. For draws of two values, as those of an importance weight, (1) and (2) suffice: enumeration gives
      at most :math:`0.7 \alpha`, for :math:`\alpha / D` from 0.2 to 1e-12. (2) takes n of about 4000 for normal
      draws at the default rate.

    Power: with ``bounds``, a bias of more than twice the returned half-width is found with probability at least
    :math:`1 - \alpha`; without, one of :math:`(x + 3) / \sqrt n` standard deviations of nearly normal draws
    with probability 0.99.

    Args:
        draw: returns the i-th draw, i = 0, ..., n_draws - 1: tensors or arrays of the target's shapes. Draws must
            be independent; seed them by i, and the test passes or fails for good.
        target: what the estimator is to be on average.
        n_draws: the number n of draws.
        bounds: low and high, numbers or like the target: a weighted path estimate lies within the largest
            :math:`|g_p| / (P \pi_p)`.
        rtol: bias to overlook, relative to the largest entry of the target's tensor, for roundings; by default
            1e-9, 1e-5 if anything is in float32, 1e-2 if in half precision.
        false_alarm: :math:`\alpha`.

    Returns:
        The half-width of the widest confidence interval: a bias much smaller than it may have gone unseen.

    Raises:
        AssertionError: if the draws show a bias or are not finite.
        ValueError: if the question cannot be answered with these draws (too few, dominated by rare large values,
            or outside the bounds), or shapes differ.
        TypeError: if a draw is not made of numbers.

    Example:
        >>> import numpy as np
        >>> def rounded(i, x=0.3):
        ...     return np.floor(x + np.random.default_rng(i).random())
        >>> half_width = assert_statistically_unbiased(rounded, 0.3, n_draws=2000, bounds=(0, 1))
        >>> assert_statistically_unbiased(rounded, 0.5, n_draws=2000, bounds=(0, 1))
        Traceback (most recent call last):
        AssertionError: biased: the mean of 2000 draws is not the target in 1 of 1 coordinates
          the value: expected 0.5 +- 0.074, found 0.297 (false alarms: 1e-06)

    Source: Maurer and Pontil (2009), Theorem 4, for bounded draws; Efron (1969) and Hoeffding (1963) for
    symmetric ones.
    """
    check_callable(draw, "draw")
    check_false_alarm(false_alarm)
    check_tolerances(rtol)
    n_draws = as_int(n_draws, "n_draws")
    target_numbers = read_target(target)
    n_sides = (2 if bounds is None else 4) * max(1, target_numbers.flat.numel())
    log_term = math.log(n_sides / false_alarm)
    _check_enough(n_draws, log_term, bounds is not None, false_alarm)
    limits = None if bounds is None else _read_bounds(bounds, target_numbers)
    sums = _collect(draw, target_numbers, n_draws, limits, rtol)
    mean = sums.first / n_draws
    threshold = math.sqrt(2 * log_term)
    if limits is None:
        half_width = threshold * sums.second.sqrt() / n_draws
        dominated = sums.largest * threshold**3 > _DOMINANCE * sums.second.sqrt()
        dominated &= sums.largest > sums.tolerance
    else:
        variance = ((sums.second - sums.first * mean) / (n_draws - 1)).clamp_min(0)
        half_width = (2 * variance * log_term / n_draws).sqrt()
        half_width += 7 * (limits[1] - limits[0]) * log_term / (3 * (n_draws - 1))
        dominated = torch.zeros_like(mean, dtype=torch.bool)
    excess = mean.abs() - half_width - sums.tolerance
    alarms = (excess > 0) & ~dominated
    if bool(alarms.any()):
        worst = int(torch.where(alarms, excess / half_width.clamp_min(1e-300), -math.inf).argmax())
        raise AssertionError(_explain(target_numbers, mean, half_width, alarms, worst, n_draws, false_alarm))
    if bool(dominated.any()):
        raise ValueError(_refuse(target_numbers, sums, dominated, threshold, n_draws))
    return half_width.max().item() if half_width.numel() else 0.0


def _check_enough(n_draws: int, log_term: float, bounded: bool, false_alarm: float) -> None:
    """Raise if no draws whatsoever could make the test fail: it would pass for nothing."""
    threshold = 2 * log_term
    least = 2 + 7 * log_term / 3 if bounded else 1 + max(threshold, threshold**3 / _DOMINANCE**2)
    if n_draws < least:
        raise ValueError(
            f"Invalid n_draws: {n_draws} cannot show any bias at false_alarm={false_alarm:g}; expected at least "
            f"{math.ceil(least)}; take more draws, many times that to see a small bias"
        )


def _read_bounds(bounds: Bounds, target: Numbers) -> tuple[Tensor, Tensor]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"Invalid bounds: {bounds!r}; expected a pair (low, high)")
    low, high = (_read_bound(bound, target) for bound in bounds)
    if not bool(((low <= high) & (high - low).isfinite()).all()):
        raise ValueError(f"Invalid bounds: {bounds}; expected finite numbers with low <= high")
    return low, high


def _read_bound(bound: Estimate, target: Numbers) -> Tensor:
    if isinstance(bound, (list, tuple)) or np.ndim(as_floats(bound, "bounds")) > 0:
        return read_like(bound, "bounds", target).flat
    return torch.full_like(target.flat, float(as_floats(bound, "bounds")))


def _collect(
    draw: Callable[[int], Estimate],
    target: Numbers,
    n_draws: int,
    limits: tuple[Tensor, Tensor] | None,
    rtol: float | None,
) -> _Sums:
    first, second, largest = (torch.zeros_like(target.flat) for _ in range(3))
    rounding = target.rounding
    at_once = max(1, _ENTRIES_AT_ONCE // max(1, target.flat.numel()))
    for begin in range(0, n_draws, at_once):
        rows = [read_like(draw(i), f"draw({i})", target) for i in range(begin, min(begin + at_once, n_draws))]
        draws = torch.stack([row.flat for row in rows])
        rounding = max(rounding, *(row.rounding for row in rows))
        _check_draws(draws, limits, target, begin, rounding)
        deviations = draws - target.flat
        first += deviations.sum(0)
        second += deviations.square().sum(0)
        largest = torch.maximum(largest, deviations.abs().amax(0))
    tolerance = (rounding if rtol is None else float(rtol)) * target.largest(target.flat.abs())
    return _Sums(first, second, largest, tolerance)


def _check_draws(
    draws: Tensor, limits: tuple[Tensor, Tensor] | None, target: Numbers, begin: int, rounding: float
) -> None:
    """Raise if a number of these draws, (draws, coordinates), is not finite or out of bounds."""
    if not bool(draws.isfinite().all()):
        i, at = (~draws.isfinite()).nonzero()[0].tolist()
        raise AssertionError(f"draw {begin + i} is not finite: {target.name(at)} of {show(draws[i])}")
    if limits is None:
        return
    low, high = limits
    slack = rounding * torch.maximum(low.abs(), high.abs())
    outside = (draws < low - slack) | (draws > high + slack)
    if bool(outside.any()):
        i, at = outside.nonzero()[0].tolist()
        raise ValueError(
            f"Invalid draw {begin + i}: {draws[i, at].item():.6g} in {target.name(at)}; expected a number in the "
            f"bounds, [{low[at].item():.6g}, {high[at].item():.6g}]; give bounds that hold always"
        )


def _explain(
    target: Numbers,
    mean: Tensor,
    half_width: Tensor,
    alarms: Tensor,
    worst: int,
    n_draws: int,
    false_alarm: float,
) -> str:
    expected = target.flat[worst].item()
    return (
        f"biased: the mean of {n_draws} draws is not the target in {int(alarms.sum())} of {mean.numel()} "
        f"coordinates\n  {target.name(worst)}: expected {expected:.3g} +- {half_width[worst].item():.2g}, "
        f"found {expected + mean[worst].item():.3g} (false alarms: {false_alarm:g})"
    )


def _refuse(target: Numbers, sums: _Sums, dominated: Tensor, threshold: float, n_draws: int) -> str:
    shares = torch.where(dominated, sums.largest.square() / sums.second, 0.0)
    worst = int(shares.argmax())
    share, limit = shares[worst].item(), _DOMINANCE**2 / threshold**6
    return (
        f"Invalid draws: one of {n_draws} makes up {share:.2g} of the sum of squares in {target.name(worst)}; "
        f"expected at most {limit:.2g}, as nothing follows where the mean hangs on rare large values; take "
        f"more (n_draws={math.ceil(n_draws * share / limit)} or so), give bounds=(low, high), or enumerate "
        "the paths with assert_unbiased"
    )
