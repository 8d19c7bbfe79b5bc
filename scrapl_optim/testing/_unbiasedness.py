"""Exact unbiasedness: the mean of an estimator over paths, by enumeration."""

# Annotations stay strings: help() would else spell ArrayLike out, half a screen long.
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import check_callable
from scrapl_optim.probabilities import as_distribution
from scrapl_optim.testing._numbers import (
    Estimate,
    Numbers,
    check_tolerances,
    read,
    read_like,
    read_target,
    show,
)

_PATHS_SHOWN = 5
_TINY = 1e-300


def assert_unbiased(
    estimate: Callable[[int], Estimate],
    probs: Tensor | npt.ArrayLike,
    target: Estimate,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
) -> None:
    r"""Assert that the mean of an estimator over the draw of a path is the target, by enumeration.

    .. math:: \sum_p \pi_p \, e_p = t

    with :math:`\pi` = ``probs``, :math:`e_p` = ``estimate(p)`` and :math:`t` = ``target``. Nothing is sampled:
    the assertion fails if and only if the estimator is biased by more than the tolerance. The tolerance of a
    coordinate c is ``atol`` + ``rtol`` times the largest :math:`\sum_p \pi_p |e_{pc'}|` of its tensor, in
    proportion to the rounding of the sum.

    Args:
        estimate: returns what a step estimates if path p is drawn: tensors or arrays of the target's shapes, any
            real or complex dtype. It must depend on p alone; to test an optimizer, step a deep copy. Called once
            for each path of non-zero probability, and again to explain a failure.
        probs: :math:`\pi`, shape ``(n_paths,)``, of sum one.
        target: what the estimator is to be on average; a list where ``estimate`` returns a list.
        rtol: by default 1e-9; 1e-5 if anything is in float32, ``probs`` included, 1e-2 if in half precision.
        atol: absolute tolerance.

    Raises:
        AssertionError: if the estimator is biased or not finite; says where, by how much, and through which paths.
        ValueError: if shapes differ or ``probs`` is not a distribution.
        TypeError: if an estimate is not made of numbers.

    Example:
        A path's gradient over P times its probability, and SAGA's :math:`g_p - \hat g_p + \bar g` under uniform
        draws, whatever the memory :math:`\hat g`:

        >>> import numpy as np
        >>> gradients = np.array([[1.0, 0.0], [3.0, -4.0]])
        >>> probs = np.array([0.9, 0.1])
        >>> assert_unbiased(lambda p: gradients[p] / (2 * probs[p]), probs, gradients.mean(0))
        >>> memory = np.array([[5.0, 0.0], [0.0, 7.0]])
        >>> assert_unbiased(lambda p: gradients[p] - memory[p] + memory.mean(0), [0.5, 0.5], gradients.mean(0))
        >>> assert_unbiased(lambda p: gradients[p], probs, gradients.mean(0))
        Traceback (most recent call last):
        AssertionError: biased: the mean over paths is not the target in 2 of 2 coordinates
          coordinate (1,): expected -2, found -0.4, relative error 0.8 (allowed error 1.2e-09)
          expected [2, -2]
          found [1.2, -0.4]
          contributions to coordinate (1,), largest first:
            path 1: probability 0.1 * estimate -4 = -0.4
            path 0: probability 0.9 * estimate 0 = 0

    Source: for SAGA, Defazio, Bach and Lacoste-Julien (2014).
    """
    check_callable(estimate, "estimate")
    check_tolerances(rtol, atol)
    pi = as_distribution(probs)
    target_numbers = read_target(target)
    mean, size = torch.zeros_like(target_numbers.flat), torch.zeros_like(target_numbers.flat)
    rounding = max(target_numbers.rounding, read(probs, "probs").rounding)
    for path in np.flatnonzero(pi).tolist():
        prob = float(pi[path])
        numbers = read_like(estimate(path), f"estimate({path})", target_numbers)
        if not bool(numbers.flat.isfinite().all()):
            where = target_numbers.name(int((~numbers.flat.isfinite()).nonzero()[0]))
            raise AssertionError(f"the estimate of path {path} is not finite: {where} of {show(numbers.flat)}")
        mean.add_(numbers.flat, alpha=prob)
        size.add_(numbers.flat.abs(), alpha=prob)
        rounding = max(rounding, numbers.rounding)
    allowed = float(atol) + (rounding if rtol is None else float(rtol)) * target_numbers.largest(size)
    if bool(((mean - target_numbers.flat).abs() > allowed).any()):
        raise AssertionError(_explain(estimate, pi, target_numbers, mean, allowed))


def _explain(
    estimate: Callable[[int], Estimate],
    pi: npt.NDArray[np.float64],
    target: Numbers,
    mean: Tensor,
    allowed: Tensor,
) -> str:
    error = (mean - target.flat).abs()
    off = error > allowed
    worst = int(torch.where(off, error / allowed.clamp_min(_TINY), -1.0).argmax())
    where, expected, found = target.name(worst), target.flat[worst].item(), mean[worst].item()
    relative = abs(found - expected) / abs(expected) if expected else math.inf
    paths = np.flatnonzero(pi).tolist()
    there = {path: read(estimate(path), "estimate").flat[worst].item() for path in paths}
    paths.sort(key=lambda path: -abs(pi[path] * there[path]))
    lines = [
        f"biased: the mean over paths is not the target in {int(off.sum())} of {mean.numel()} coordinates",
        f"  {where}: expected {expected:.6g}, found {found:.6g}, relative error {relative:.3g} "
        f"(allowed error {allowed[worst].item():.3g})",
        f"  expected {show(target.flat)}",
        f"  found {show(mean)}",
        f"  contributions to {where}, largest first:",
    ]
    lines += [
        f"    path {path}: probability {pi[path]:.6g} * estimate {there[path]:.6g} = {pi[path] * there[path]:.6g}"
        for path in paths[:_PATHS_SHOWN]
    ]
    return "\n".join(lines + [f"    and {len(paths) - _PATHS_SHOWN} more"] * (len(paths) > _PATHS_SHOWN))
