"""Stateless sampling of paths: the path of a step is a pure function of (probs, seed, step)."""

# Annotations stay strings: help() would else spell ArrayLike out, half a screen long.
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import (
    as_fraction,
    as_int,
    as_n_paths,
    as_one_path,
    as_switch,
    as_uint64,
    refuse_paths,
)
from scrapl_optim.probabilities import as_distribution

# Separate Philox streams, so that the cover-first permutation is independent of the draws.
_DRAWS, _PERMUTATION = 0, 1
# The largest float64 below one keeps every point inside the cumulative distribution.
_BELOW_ONE = math.nextafter(1.0, 0.0)
_MOST_DRAWS = 2**24


class PathSampler:
    r"""Draws path indices from a categorical distribution, as a pure function of the step.

    With :math:`\pi` the distribution, :math:`f` = ``min_prob_frac`` and :math:`S` the number of paths of
    non-zero probability,

    .. math:: \pi_p \leftarrow f / S + (1 - f) \, \pi_p \quad \text{for } \pi_p > 0 ,

    a mixture with the uniform distribution over those paths: it sums to one and :math:`\pi_p \geq f/S` for each
    of them. Zero means never: a path of probability zero is left out of the floor, the draws and the cover.
    ``sampler(step)`` inverts the cumulative distribution of :math:`\pi` at a uniform number that
    NumPy's counter-based Philox generator gives for the key ``seed`` and the counter ``step``.
    Nothing is stored between calls: any step costs the same, in any order, and every rank, device and
    resumed run sees the same paths without communication.

    **Excluded paths.** ``paths`` names the ones to draw from; :math:`\pi` is renormalised over them, and all
    others get probability zero. **Ids and** :math:`P` **do not change**: ``n_paths`` stays the number of *all*
    paths, in the sampler, the optimizer and the loss, so that an id means the same path everywhere and a run can
    go on from a checkpoint with fewer or more paths kept. The optimizer has no rows for paths never drawn, and
    its ``betas`` stay decay rates per :math:`P` steps, in which each of :math:`K` kept paths is drawn
    :math:`P/K` times on average.

    **Weights.** The mean over all :math:`P` = ``n_paths`` paths of the losses,
    :math:`\frac{1}{P} \sum_p \ell_p`, is estimated without bias by :math:`\frac{1}{P \pi_p} \ell_p` with
    :math:`p \sim \pi`; the factor is :meth:`weight`. Paths of probability zero then count as if their loss
    were zero: the estimate is of the share that the others have in the mean over all. The theta-importance
    sampling of the paper (Section 3.4) leaves the weight out: importance is meant to change the objective,
    towards the paths that matter to the synthesizer's parameters. The default of this package is the paper's:
    nothing here multiplies the loss, so a distribution that is not uniform gives a biased estimate on purpose.
    Multiply the loss by ``sampler.weight(p)`` to have the unbiased one. P-Adam divides the gradients of each path
    by their own size: a constant factor per path, this weight included, has no effect on it (but for ``eps``).
    The weight matters to plain gradient descent, Adam, and P-SAGA alone.

    Args:
        probs: :math:`\pi`, array-like or tensor of shape ``(n_paths,)``, non-negative with sum one;
            uniform if ``None``. A path of probability zero is never drawn, whatever the other arguments.
        n_paths: number of paths :math:`P`, those of probability zero included; needed only without ``probs``.
        seed: non-negative integer below ``2**64``.
        min_prob_frac: :math:`f` in ``[0, 1]``: the floor, as a fraction of the uniform probability over the
            paths of non-zero probability.
        paths: ids to draw from, each once: a list, a set, a range, a one-dimensional array or tensor; all if
            ``None``.
        cover_first: whether the first steps visit every path of non-zero probability once, in the
            order of a permutation drawn from ``seed``.

    Raises:
        ValueError: if ``probs`` is not a distribution over ``n_paths`` paths, ``paths`` is empty or names one
            twice, or ``n_paths``, ``seed`` or ``min_prob_frac`` is out of range.
        TypeError: if ``seed``, ``n_paths`` or an id is not an integer, or ``probs`` are not real numbers.
        IndexError: if an id of ``paths`` is not from 0 to ``n_paths - 1``.

    Example:
        >>> sampler = PathSampler([0.2, 0.5, 0.3], seed=1)
        >>> sampler(1000) == sampler(1000)
        True
        >>> sampler.weight(1)
        0.6666666666666666
        >>> sampler = PathSampler([0.2, 0.5, 0.3], paths=[0, 2])
        >>> sampler.probs, sampler.n_paths
        (array([0.4, 0. , 0.6]), 3)

    Source: SCRAPL, Algorithm 1 (the draw of :math:`p` according to :math:`\pi`) and Section 3.4; Salmon
    et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), for Philox.
    """

    def __init__(
        self,
        probs: npt.ArrayLike | Tensor | None = None,
        *,
        n_paths: SupportsIndex | Tensor | None = None,
        seed: SupportsIndex | Tensor = 0,
        min_prob_frac: float = 0.0,
        cover_first: bool = False,
        paths: Iterable[SupportsIndex] | npt.NDArray[np.integer[Any]] | Tensor | None = None,
    ) -> None:
        self._seed = as_uint64(seed, "seed")
        self._min_prob_frac = as_fraction(min_prob_frac, "min_prob_frac")
        refuse_paths(n_paths)
        count = None if n_paths is None else as_n_paths(n_paths)
        pi = np.full(count, 1.0 / count) if probs is None and count is not None else as_distribution(probs, count)
        pi = _restricted(pi, as_drawable(paths, pi.size))
        self._cover_first = as_switch(cover_first, "cover_first")
        self._set_probs(_floored(pi, self._min_prob_frac))

    def _set_probs(self, probs: npt.NDArray[np.float64]) -> None:
        cdf = np.cumsum(probs)
        cdf /= cdf[-1]
        for array in (probs, cdf):
            array.setflags(write=False)
        self._probs = probs
        self._cdf = cdf
        support = np.flatnonzero(probs)
        self._support_size = support.size
        # Sorting uniform numbers is a permutation that no later NumPy can change.
        keys = self._uniforms(0, support.size, _PERMUTATION) if self._cover_first else np.empty(0)
        self._permutation = support[np.argsort(keys, kind="stable")] if self._cover_first else support[:0]

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """The distribution drawn from, after the floor: float64 of shape ``(n_paths,)``, a copy of your own."""
        return self._probs.copy()

    @property
    def n_paths(self) -> int:
        """P, the number of all paths, those never drawn included."""
        return self._probs.size

    @property
    def paths(self) -> tuple[int, ...]:
        """Ids of the paths that can be drawn, ascending."""
        return tuple(np.flatnonzero(self._probs).tolist())

    @property
    def seed(self) -> int:
        """The seed of the draws, which is the key of the Philox generator."""
        return self._seed

    def __call__(self, step: SupportsIndex | Tensor) -> int:
        """Return the path of ``step`` (0, 1, 2, ...); equal to ``sample(step, 1)[0]``.

        Raises:
            TypeError: if ``step`` is not an integer.
            ValueError: if ``step`` is negative or not below ``2**64``.
        """
        return self.sample(step, 1)[0]

    def steps(self, start: SupportsIndex | Tensor = 0) -> Iterator[tuple[int, int]]:
        """Yield (step, path of the step) from ``start`` on, without end.

        Example:
            >>> import itertools
            >>> list(itertools.islice(PathSampler(n_paths=3, seed=1).steps(start=5), 3))
            [(5, 0), (6, 2), (7, 2)]
        """
        for step in itertools.count(as_uint64(start, "start")):
            yield step, self(step)

    def sample(
        self,
        step: SupportsIndex | Tensor,
        n_draws: SupportsIndex | Tensor | None = None,
        *,
        replacement: bool = True,
        stratified: bool = False,
    ) -> tuple[int, ...]:
        r"""Return the ``n_draws`` = :math:`K` paths of ``step``.

        - ``replacement=True``: independent draws. ``weight(p)`` is exact for each of them.
        - ``stratified=True``: systematic draws, the cumulative distribution inverted at
          :math:`(u + i) / K`, :math:`i = 0, \dots, K-1`, with one uniform :math:`u`. Path ``p`` comes up
          :math:`\lfloor K \pi_p \rfloor` or :math:`\lceil K \pi_p \rceil` times, :math:`K \pi_p` on
          average: ``weight(p)`` remains exact, with less variance in how often each path is seen.
        - ``stratified=True, replacement=False``: the same, for :math:`K \pi_p \leq 1`, where no path
          can come up twice. The way to have distinct paths *and* exact weights.
        - ``replacement=False``: successive draws, each from :math:`\pi` restricted to the paths left.
          The probability that ``p`` is among them is :math:`K \pi_p` only if :math:`\pi` is uniform
          or :math:`K = 1`; otherwise likely paths are included less often than that and ``weight(p)``
          is not exact.

        With ``cover_first``, step ``t`` takes entries ``t * K`` to ``(t + 1) * K`` of the permutation
        whatever the other arguments, for as many steps as it takes to see every path; the last of them
        fills up from the permutation's start.

        Raises:
            TypeError: if ``step`` or ``n_draws`` is not an integer, or ``n_draws`` is missing.
            ValueError: if ``step`` is negative, or ``n_draws`` is less than 1, or too large for draws
                without replacement.

        Example:
            >>> sorted(PathSampler(n_paths=3).sample(0, 3, replacement=False))
            [0, 1, 2]
        """
        if n_draws is None:
            raise TypeError(
                "Invalid n_draws: missing; expected sample(step, n_draws); for the path of a step, sampler(step)"
            )
        step = as_uint64(step, "step")
        n_draws = as_int(n_draws, "n_draws")
        if not 1 <= n_draws <= _MOST_DRAWS:
            raise ValueError(f"Invalid n_draws: {n_draws}; expected an integer from 1 to {_MOST_DRAWS}")
        replacement, stratified = as_switch(replacement, "replacement"), as_switch(stratified, "stratified")
        if not replacement:
            self._check_distinct(n_draws, stratified)
        if step * n_draws < self._permutation.size:
            draws = np.arange(step * n_draws, (step + 1) * n_draws) % self._permutation.size
            return tuple(self._permutation[draws].tolist())
        if stratified:
            points = (self._uniforms(step, 1) + np.arange(n_draws)) / n_draws
            return self._invert(np.minimum(points, _BELOW_ONE))
        if replacement or n_draws == 1:
            return self._invert(self._uniforms(step, n_draws))
        return self._draw_successively(self._uniforms(step, n_draws))

    def weight(self, path_idx: SupportsIndex | Tensor) -> float:
        r"""Return :math:`1 / (P \pi_p)`, which makes the loss of a drawn path an unbiased estimate.

        The estimate is of :math:`\frac1P \sum_p \ell_p` over the paths that can be drawn.

        Raises:
            TypeError: if ``path_idx`` is not an integer.
            IndexError: if ``path_idx`` is out of range.
            ValueError: if the path has probability zero: it is never drawn and no weight repairs that.
        """
        path_idx = as_one_path(path_idx, self.n_paths)
        prob = float(self._probs[path_idx])
        if prob == 0.0:
            raise ValueError(
                f"Invalid path_idx: {path_idx} has probability 0, is never drawn and has no importance weight; "
                "expected a path that is drawn; give it a probability above 0, and name it in paths where there "
                "are any"
            )
        return 1.0 / (self.n_paths * prob)

    def _uniforms(self, step: int, count: int, stream: int = _DRAWS) -> npt.NDArray[np.float64]:
        """Return ``count`` uniform numbers in [0, 1), multiples of 2**-53.

        ``random_raw`` is used because NumPy guarantees the bits of its bit generators, not the
        algorithms of ``Generator``. The low word of the counter is left to the draws of one step.
        """
        counter = np.array([0, step, stream, 0], dtype=np.uint64)
        raw = np.random.Philox(key=self._seed, counter=counter).random_raw(count)
        return np.multiply(raw >> np.uint64(11), 2.0**-53, dtype=np.float64)

    def _invert(self, points: npt.NDArray[np.float64]) -> tuple[int, ...]:
        # side="right" skips paths of probability zero even at a point equal to their step.
        return tuple(np.searchsorted(self._cdf, points, side="right").tolist())

    def _draw_successively(self, uniforms: npt.NDArray[np.float64]) -> tuple[int, ...]:
        left = self._probs.copy()
        draws: list[int] = []
        for u in uniforms:
            cdf = np.cumsum(left)
            path_idx = int(np.searchsorted(cdf / cdf[-1], u, side="right"))
            left[path_idx] = 0.0
            draws.append(path_idx)
        return tuple(draws)

    def _check_distinct(self, n_draws: int, stratified: bool) -> None:
        if n_draws > self._support_size:
            raise ValueError(
                f"Invalid n_draws: {n_draws} without replacement; expected at most {self._support_size}, the "
                "paths of non-zero probability; draw fewer, or with replacement"
            )
        largest = float(self._probs.max())
        if stratified and n_draws * largest > 1.0 + 1e-12:
            raise ValueError(
                f"Invalid n_draws: {n_draws} stratified draws without replacement, with a probability of "
                f"{largest:.6g}; expected every probability <= 1/n_draws = {1 / n_draws:.6g}; draw fewer, or set "
                "stratified=False or replacement=True"
            )

    def _identity(self) -> tuple[Any, ...]:
        return (self._probs.tobytes(), self._seed, self._cover_first)

    def __eq__(self, other: object) -> bool:
        """Return whether both draw the same paths at every step."""
        if not isinstance(other, PathSampler):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        drawn = "" if self._support_size == self.n_paths else f"{self._support_size} of them drawn, "
        return (
            f"PathSampler(n_paths={self.n_paths}, {drawn}seed={self._seed}, min_prob_frac={self._min_prob_frac}, "
            f"cover_first={self._cover_first}, probs in [{self._probs.min():.3g}, {self._probs.max():.3g}])"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for array in (self._probs, self._cdf):
            array.setflags(write=False)  # NumPy does not pickle the flag


def as_drawable(paths: Any, n_paths: int) -> npt.NDArray[np.bool_]:
    """Return which of ``n_paths`` paths can be drawn, those whose ids ``paths`` has; all of them for ``None``.

    Raises:
        TypeError: if ``paths`` are not several integers.
        IndexError: if an id is not in ``[0, n_paths)``.
        ValueError: if there are none, or an id comes twice.
    """
    drawable = np.full(n_paths, paths is None)
    if paths is None:
        return drawable
    for path in _listed(paths):
        index = _as_id(path)
        if not 0 <= index < n_paths:
            raise IndexError(f"Invalid paths: {index}; expected ids in [0, {n_paths})")
        if drawable[index]:
            raise ValueError(f"Invalid paths: {index} twice; expected each id once; pass a set of them")
        drawable[index] = True
    if not drawable.any():
        raise ValueError("Invalid paths: none; expected at least one id; leave it out to draw from all")
    return drawable


def _restricted(pi: npt.NDArray[np.float64], drawable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return ``pi`` given that the path is one that can be drawn.

    Raises:
        ValueError: if all of them have probability zero.
    """
    if drawable.all():
        return pi
    pi = np.where(drawable, pi, 0.0)
    if not pi.any():
        raise ValueError(
            f"Invalid probs: 0 for each of the {drawable.sum()} paths; expected one above 0 at least; name "
            "others, or leave probs out"
        )
    # Sums of numbers near the smallest one lose digits, quotients by the largest do not.
    scaled = pi / pi.max()
    return scaled / math.fsum(scaled)


def _floored(pi: npt.NDArray[np.float64], min_prob_frac: float) -> npt.NDArray[np.float64]:
    """Return the mixture of ``pi`` with the uniform distribution over the paths that it can draw."""
    support = pi > 0
    return np.where(support, min_prob_frac / support.sum() + (1.0 - min_prob_frac) * pi, 0.0)


def _listed(paths: Any) -> list[Any]:
    """Return the entries of a list, set, range or other iterable, or of a one-dimensional array or tensor."""
    kind = type(paths).__name__
    if isinstance(paths, (Tensor, np.ndarray)):
        if paths.dtype in (torch.bool, np.bool_):
            raise TypeError(
                f"Invalid paths: a {kind} of bool; expected integers, ids of paths; give the ids where it is True"
            )
        if paths.ndim == 1 and not (isinstance(paths, Tensor) and paths.is_meta):
            return paths.tolist()
        kind += f" of shape {tuple(paths.shape)}"
    elif isinstance(paths, Iterable) and not isinstance(paths, (str, bytes, dict)):
        return list(paths)
    raise TypeError(f"Invalid paths: a {kind}; expected several ids of paths, such as [0, 1]")


def _as_id(path: Any) -> int:
    if isinstance(path, SupportsIndex) and not isinstance(path, bool):
        return as_int(path, "each of paths")
    bundles = isinstance(path, (list, tuple, range))
    remedy = "to draw bundles: n_paths=len(bundles)" if bundles else "take ids, as those of jtfs.paths.where()"
    raise TypeError(
        f"Invalid paths: a {type(path).__name__} among them; expected integers, ids of paths; {remedy}"
    )
