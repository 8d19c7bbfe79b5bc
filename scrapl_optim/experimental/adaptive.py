"""Probabilities of paths that follow what training sees of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import (
    as_floats,
    as_int,
    as_n_paths,
    as_number,
    as_one_path,
    as_switch,
    refuse_paths,
)
from scrapl_optim.sampler import PathSampler, as_drawable


class AdaptivePathSampler:
    r"""Draws paths from a distribution that is learned while training.

    After each step it is told how much the drawn path mattered, in one or more respects u (the norm of the
    gradient; or the slope of the loss with respect to each control of a synthesizer), and keeps a mean
    :math:`q_{up}` of that for each path, in which earlier values weigh less by :math:`1 - \rho` = ``1 - rate``
    at each visit. In the manner of equation (10) of the paper,

    .. math:: \pi_p = \frac{f}{S} + (1 - f) \, \frac1U \sum_u \frac{q_{up}}{\sum_{p'} q_{up'}} ,

    with :math:`f` = ``min_prob_frac`` and :math:`S` the number of paths to draw from, over which the sum goes; a
    path not seen yet takes the mean of those seen. The path of a step is a function of :math:`\pi`, the seed and
    the step, as :class:`scrapl_optim.PathSampler`'s; :math:`\pi` is state, which :meth:`state_dict` keeps.

    With the norm of the gradient, :math:`\pi` is the distribution of least variance of the *unbiased*
    estimator, the gradient times ``weight(p)``. Without the weight it favours paths with large gradients.

    Args:
        n_paths: P, the number of all paths.
        n_values: U, how many numbers :meth:`update` takes.
        rate: :math:`\rho` in (0, 1]: weight of the newest value in the mean of its path.
        min_prob_frac: :math:`f` in (0, 1]: no probability falls below ``f / S``, so that every path is seen
            again and its mean can recover.
        paths: ids to draw from, each once, as :class:`scrapl_optim.PathSampler` takes them; all if ``None``.
            Others have probability zero, and neither ids nor P change.
        seed: of the draws, as :class:`scrapl_optim.PathSampler`'s.
        cover_first: whether the first steps visit every path to draw from once.

    Raises:
        TypeError: if an integer is not one.
        ValueError: if a value is out of its domain.
        IndexError: if an id of ``paths`` is out of range.

    Example:
        >>> sampler = AdaptivePathSampler(n_paths=2, min_prob_frac=0.5, rate=1.0)
        >>> sampler.update(0, 3.0)
        >>> sampler.update(1, 1.0)
        >>> sampler.probs
        array([0.625, 0.375])

    Source: the open question of SCRAPL, section 6; least variance: Needell, Ward and Srebro (2014).
    """

    def __init__(
        self,
        n_paths: SupportsIndex,
        *,
        n_values: SupportsIndex = 1,
        rate: float = 0.2,
        min_prob_frac: float = 0.2,
        seed: SupportsIndex = 0,
        cover_first: bool = True,
        paths: Iterable[SupportsIndex] | npt.NDArray[np.integer[Any]] | Tensor | None = None,
    ) -> None:
        refuse_paths(n_paths)
        self._n_paths, self._n_values = as_int(n_paths, "n_paths"), as_int(n_values, "n_values")
        if self._n_paths < 1 or self._n_values < 1:
            raise ValueError(f"Invalid n_paths, n_values: {n_paths}, {n_values}; expected at least 1 of each")
        as_n_paths(self._n_paths * self._n_values)  # as many means
        self._drawable = as_drawable(paths, self._n_paths)
        self._rate, self._min_prob_frac = as_number(rate, "rate"), as_number(min_prob_frac, "min_prob_frac")
        if not 0.0 < self._rate <= 1.0:
            raise ValueError(f"Invalid rate: {rate}; expected a number in (0, 1]")
        if not 0.0 < self._min_prob_frac <= 1.0:
            raise ValueError(
                f"Invalid min_prob_frac: {min_prob_frac}; expected a number in (0, 1], as paths must be seen again"
            )
        self._cover_first = as_switch(cover_first, "cover_first")
        self._seed = as_int(seed, "seed")
        self._means = np.full((self._n_values, self._n_paths), math.nan)
        self._sampler = self._new_sampler(self._means)

    @property
    def n_paths(self) -> int:
        """P, the number of all paths, those never drawn included."""
        return self._n_paths

    @property
    def paths(self) -> tuple[int, ...]:
        """Ids of the paths that can be drawn, ascending."""
        return self._sampler.paths

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """The distribution that the next draw is from, floor included: float64 ``(n_paths,)``, a new copy."""
        return self._sampler.probs

    def __call__(self, step: SupportsIndex) -> int:
        """Return the path of ``step``, with the distribution as it is now: call it once for each step."""
        return self._sampler(step)

    def weight(self, path_idx: SupportsIndex) -> float:
        r"""Return :math:`1 / (P \pi_p)`, with the distribution as it is now: before the step's :meth:`update`."""
        return self._sampler.weight(path_idx)

    def update(self, path_idx: SupportsIndex | Tensor, values: float | Sequence[float] | Tensor) -> None:
        """Tell how much the path of this step mattered: U numbers, finite and not negative, in any unit.

        Raises:
            IndexError: if the path does not exist.
            TypeError: if the path is not an integer, or the values are not numbers.
            ValueError: if the path is not one to draw from, or the numbers are not what is expected; nothing has
                changed then.
        """
        path = as_one_path(path_idx, self._n_paths)
        if not self._drawable[path]:
            raise ValueError(
                f"Invalid path_idx: {path} is never drawn; expected one of paths=...; update with the path that "
                "was drawn"
            )
        new = np.atleast_1d(as_floats(values, f"values of path {path}"))
        if new.shape != (self._n_values,) or not np.isfinite(new).all() or (new < 0).any():
            raise ValueError(
                f"Invalid values: {values} of path {path}; expected {self._n_values} finite numbers >= 0"
            )
        means, old = self._means.copy(), self._means[:, path]
        # Not old + rate (new - old), which loses a small new number beside a large old one.
        with np.errstate(over="ignore"):  # by rounding, at the largest number
            mixture = (1 - self._rate) * old + self._rate * new
        mixture = np.clip(mixture, np.minimum(old, new), np.maximum(old, new))
        means[:, path] = np.where(np.isnan(old), new, mixture)
        self._go_on_from(means)

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` goes on from: means, shape ``(n_values, n_paths)``, NaN for none."""
        return {"means": torch.from_numpy(self._means.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, of which the means of paths never drawn here count for nothing.

        Raises:
            TypeError: if it is not a dict of a tensor.
            ValueError: if it has no means, its shape does not fit, it has negative or infinite numbers, or a path
                has some of its means and lacks others; nothing has changed then.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(
                f"Invalid state_dict: a {type(state_dict).__name__}; expected a dict as of state_dict()"
            )
        if "means" not in state_dict:
            raise ValueError(f"Invalid state_dict: it has {sorted(map(str, state_dict))}; expected 'means'")
        means = as_floats(state_dict["means"], "means of the state")
        if means.shape != self._means.shape:
            raise ValueError(f"Invalid means: shape {means.shape}; expected {self._means.shape}")
        if np.isinf(means).any() or (means < 0).any():
            raise ValueError("Invalid means: negative or infinite; expected numbers >= 0 or NaN")
        if (np.isnan(means) != np.isnan(means[0])).any():
            raise ValueError("Invalid means: NaN for some values of a path; expected it for all or none")
        self._go_on_from(means)

    def _go_on_from(self, means: npt.NDArray[np.float64]) -> None:
        # The sampler first: if it cannot be made, nothing has changed.
        self._sampler, self._means = self._new_sampler(means), means

    def _new_sampler(self, means: npt.NDArray[np.float64]) -> PathSampler:
        means = means[:, self._drawable]
        n_drawable = means.shape[1]
        probs = np.full(n_drawable, 1 / n_drawable)
        seen = ~np.isnan(means[0])
        if seen.any():
            # Sums of numbers up to one do not overflow.
            largest = means[:, seen].max(1, keepdims=True)
            scaled = means / np.where(largest > 0, largest, 1)
            shares = np.where(seen, scaled, scaled[:, seen].mean(1, keepdims=True))
            totals = shares.sum(1, keepdims=True)
            shares = np.where(totals > 0, shares / np.where(totals > 0, totals, 1), 1 / n_drawable)
            probs = shares.mean(0)
        # The floor is put on here: to a sampler, a path that has not mattered so far would be one never to draw.
        pi = np.zeros(self._n_paths)
        pi[self._drawable] = self._min_prob_frac / n_drawable + (1 - self._min_prob_frac) * probs
        return PathSampler(pi, seed=self._seed, cover_first=self._cover_first)
