"""The contract of a sampler of paths: it draws from its distribution, as a function of the step."""

# Annotations stay strings: help() would else spell ArrayLike out, half a screen long.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import as_int, as_path_idx, check_callable
from scrapl_optim.probabilities import as_distribution
from scrapl_optim.testing._numbers import check_false_alarm

Sampler = Callable[[int], SupportsIndex | Tensor]


def assert_draws_follow(
    sampler: Sampler,
    probs: Tensor | npt.ArrayLike,
    n_steps: int,
    *,
    first_step: int = 0,
    twin: Sampler | None = None,
    false_alarm: float = 1e-6,
) -> None:
    r"""Assert that a sampler draws each path as often as its distribution says, as a pure function of the step.

    The draws of n = ``n_steps`` steps are made twice, the second time in another order, and must be the same.
    Then the number of draws of every path, :math:`n_p`, is held against the binomial distribution of n and
    :math:`\pi_p`; the test fails if, for any of the P' paths with :math:`0 < \pi_p < 1`,

    .. math:: \min\big( \Pr(N \leq n_p), \Pr(N \geq n_p) \big) < \frac{\alpha}{2 P'} ,
        \qquad N \sim \mathrm{Binomial}(n, \pi_p) ,

    or a path of probability zero came up at all. The tails are exact, so that a right sampler with independent
    draws fails with probability at most :math:`\alpha` = ``false_alarm`` over its seeds, for any n and
    :math:`\pi`: rare paths need no pooling. A share that is off by some six standard deviations,
    :math:`6 \sqrt{\pi_p (1 - \pi_p) / n}`, is found at the default rate with up to a few hundred paths.

    It tests frequencies alone: a sampler that goes through the paths in turn passes, and so do draws that depend
    on each other but come up no more often for it.

    Args:
        sampler: returns the path of a step, with its seed in it; :class:`scrapl_optim.PathSampler` is one.
        probs: :math:`\pi`, shape ``(n_paths,)``: what it is to draw from, any floor included.
        n_steps: the number n of steps.
        first_step: the first of the steps; past the cover-first steps of a sampler that has them.
        twin: a sampler that must draw the same: a copy, one out of a checkpoint, one of the same seed.
        false_alarm: :math:`\alpha`.

    Raises:
        AssertionError: if a draw changes when repeated, differs from the twin's, is no path, or a path comes up
            too often or too rarely.
        ValueError: if ``probs`` is not a distribution, or a number is out of its domain.
        TypeError: if the sampler returns something else than integers.

    Example:
        >>> from scrapl_optim import PathSampler
        >>> assert_draws_follow(PathSampler([0.2, 0.8], seed=1), [0.2, 0.8], n_steps=1000)
        >>> assert_draws_follow(PathSampler([0.4, 0.6], seed=1), [0.2, 0.8], n_steps=1000)
        Traceback (most recent call last):
        AssertionError: path 0 came up 423 times in 1000 steps, expected about 200 (probability 0.2)
          by chance: once in 1e+57 trials

    Source: the exact binomial test of Clopper and Pearson (1934), with Bonferroni's correction.
    """
    check_callable(sampler, "sampler")
    if twin is not None:
        check_callable(twin, "twin")
    check_false_alarm(false_alarm)
    pi = as_distribution(probs)
    n_steps, first_step = as_int(n_steps, "n_steps"), as_int(first_step, "first_step")
    if n_steps < 1 or first_step < 0:
        raise ValueError(f"Invalid n_steps, first_step: {n_steps}, {first_step}; expected at least 1, at least 0")
    draws = [_draw(sampler, first_step + i, pi.size) for i in range(n_steps)]
    for i in np.random.default_rng(0).permutation(n_steps).tolist():
        step = first_step + i
        again = _draw(sampler, step, pi.size)
        if again != draws[i]:
            raise AssertionError(
                f"step {step} drew path {draws[i]}, and path {again} when asked again, in another order; "
                "a draw must be a function of the seed and the step alone"
            )
        if twin is not None and (other := _draw(twin, step, pi.size)) != draws[i]:
            raise AssertionError(f"step {step} drew path {draws[i]}, and path {other} from the twin")
    _check_counts(np.bincount(draws, minlength=pi.size), pi, false_alarm)


def _draw(sampler: Sampler, step: int, n_paths: int) -> int:
    path = sampler(step)
    try:
        return as_path_idx(path, n_paths)
    except IndexError:
        raise AssertionError(f"step {step} drew path {path}, expected one of the {n_paths} of probs") from None


def _check_counts(counts: npt.NDArray[np.int64], pi: npt.NDArray[np.float64], false_alarm: float) -> None:
    n = int(counts.sum())
    drawn = counts.astype(np.float64)
    possible = (pi > 0) & (pi < 1)
    log_limit = math.log(false_alarm / (2 * max(1, int(possible.sum()))))
    log_tails = np.where((pi == 0) & (drawn > 0), -math.inf, 0.0)
    # A tail is at least its first term: only for counts with an unlikely one need it be summed.
    log_first = _log_binomial(drawn, n, np.where(possible, pi, 0.5))
    for path in np.flatnonzero(possible & (log_first < log_limit)).tolist():
        count = int(drawn[path])
        tail = np.arange(0, count + 1) if count < n * pi[path] else np.arange(count, n + 1)
        terms = torch.from_numpy(_log_binomial(tail.astype(np.float64), n, float(pi[path])))
        log_tails[path] = torch.logsumexp(terms, 0).item()
    worst = int(log_tails.argmin())
    if log_tails[worst] < log_limit:
        chance = "never"
        if log_tails[worst] > -math.inf:
            chance = f"once in 1e+{-log_tails[worst] / math.log(10):.0f} trials"
        raise AssertionError(
            f"path {worst} came up {counts[worst]} times in {n} steps, expected about {n * pi[worst]:.4g} "
            f"(probability {pi[worst]:.4g})\n  by chance: {chance}"
        )


def _log_binomial(
    k: npt.NDArray[np.float64], n: int, prob: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the logarithms of the probabilities of k successes in n trials, 0 < prob < 1."""
    successes = torch.from_numpy(k)
    log_ways = math.lgamma(n + 1) - torch.lgamma(successes + 1) - torch.lgamma(n - successes + 1)
    return log_ways.numpy() + k * np.log(prob) + (n - k) * np.log1p(-prob)
