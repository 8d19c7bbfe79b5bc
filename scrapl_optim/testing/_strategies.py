"""Hypothesis strategies: distributions over paths, families of path losses, seeds, steps, sequences of paths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st
from torch import Tensor

from scrapl_optim._validation import as_int, as_number, as_path_idx

_MOST = 9  # integers up to here make counter-examples that can be checked by hand
_SIGNED = sorted(range(-_MOST, _MOST + 1), key=lambda number: (abs(number), number < 0))  # simplest first
_DECADES = 12
_FEWEST_DIGITS = 8


@dataclass(frozen=True)
class PathLosses:
    r"""Quadratic losses of P paths on W weights, with gradients in closed form.

    .. math:: L_p(w) = \frac12 \sum_i D_{pi} (w_i - a_{pi})^2, \qquad \nabla L_p(w) = D_p \odot (w - a_p),
        \qquad L(w) = \frac1P \sum_p L_p(w)

    Args:
        centers: :math:`a`, P rows of W numbers.
        curvatures: :math:`D`, the same; not negative.

    Raises:
        ValueError: if the two are not P rows of W numbers, or a curvature is negative.
        TypeError: if they are not tuples of tuples of numbers.

    Example:
        >>> import torch
        >>> losses = PathLosses(centers=((0, 0), (1, 2)), curvatures=((1, 1), (2, 1)))
        >>> w = torch.zeros(2, dtype=torch.float64)
        >>> losses.gradient(w, 1)
        tensor([-2., -2.], dtype=torch.float64)
        >>> losses.full_gradient(w)
        tensor([-1., -1.], dtype=torch.float64)
    """

    centers: tuple[tuple[float, ...], ...]
    curvatures: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name, rows in (("centers", self.centers), ("curvatures", self.curvatures)):
            if not isinstance(rows, (tuple, list)) or not all(isinstance(row, (tuple, list)) for row in rows):
                raise TypeError(f"Invalid {name}: {rows!r}; expected P rows of W numbers")
            for row in rows:
                for number in row:
                    as_number(number, name)
        sizes = [[len(row) for row in rows] for rows in (self.centers, self.curvatures)]
        if not sizes[0] or sizes[0] != sizes[1] or len(set(sizes[0])) != 1 or sizes[0][0] == 0:
            raise ValueError(f"Invalid centers, curvatures: rows of {sizes} numbers; expected P rows of W each")
        if not all(curvature >= 0 for row in self.curvatures for curvature in row):
            raise ValueError(f"Invalid curvatures: {self.curvatures}; expected numbers >= 0")

    @property
    def n_paths(self) -> int:
        """The number P of paths."""
        return len(self.centers)

    @property
    def n_weights(self) -> int:
        """The number W of weights."""
        return len(self.centers[0])

    def loss(self, w: Tensor, p: int) -> Tensor:
        """Return the loss of path p at w, shape ``(W,)``: a scalar in the dtype of w.

        Raises:
            IndexError: if there is no such path.
        """
        return (0.5 * self._row(self.curvatures, w, p) * (w - self._row(self.centers, w, p)).square()).sum()

    def gradient(self, w: Tensor, p: int) -> Tensor:
        """Return the gradient of the loss of path p at w, shape ``(W,)``, without a graph.

        Raises:
            IndexError: if there is no such path.
        """
        return self._row(self.curvatures, w, p) * (w.detach() - self._row(self.centers, w, p))

    def full_gradient(self, w: Tensor) -> Tensor:
        """Return the gradient of the mean over paths at w, shape ``(W,)``."""
        return torch.stack([self.gradient(w, p) for p in range(self.n_paths)]).mean(0)

    def _row(self, rows: tuple[tuple[float, ...], ...], w: Tensor, p: int) -> Tensor:
        return torch.tensor(rows[as_path_idx(p, self.n_paths)], dtype=w.dtype, device=w.device)


def _check_sizes(name: str, smallest: int, largest: int, least: int = 1) -> None:
    if not least <= as_int(smallest, f"min_{name}") <= as_int(largest, f"max_{name}"):
        raise ValueError(
            f"Invalid min_{name}, max_{name}: {smallest}, {largest}; expected integers, {least} <= min <= max"
        )


def distributions(
    min_paths: int = 1, max_paths: int = 8, *, smallest: float = 1e-12
) -> st.SearchStrategy[npt.NDArray[np.float64]]:
    r"""Generate categorical distributions :math:`\pi` over paths: uniform, mild, extreme, dominated by one path.

    Entries are in :math:`[s, 1]` with s = ``smallest``, in ratios of small integers, of powers of ten down to
    ``smallest``, or with all paths but one as rare as can be. They shrink to few paths, equal probabilities, then
    ratios of small integers.

    Args:
        min_paths: least number of paths.
        max_paths: largest number of paths.
        smallest: s, at most ``1 / max_paths``. With 0, some entries may be 0.

    Returns:
        A strategy for float64 arrays of shape ``(n_paths,)`` and sum one, all positive unless ``smallest`` is 0.

    Raises:
        ValueError: if an argument is out of its domain.
        TypeError: if a number of paths is not an integer.

    Example:
        >>> from hypothesis import given, settings
        >>> @given(distributions(min_paths=2, smallest=1e-6))
        ... @settings(max_examples=20, derandomize=True)
        ... def test(pi):
        ...     assert len(pi) >= 2 and pi.min() >= 0.99e-6
        >>> test()
    """
    _check_sizes("paths", min_paths, max_paths)
    if not 0.0 <= as_number(smallest, "smallest") <= 1 / max_paths:
        raise ValueError(
            f"Invalid smallest: {smallest}; expected a number in [0, 1 / max_paths] = [0, {1 / max_paths:.6g}]"
        )
    return _distributions(min_paths, max_paths, smallest)


# What a composite strategy draws is shown as it is, what st.builds and map make as calls of their functions.
@st.composite
def _distributions(draw: st.DrawFn, min_paths: int, max_paths: int, smallest: float) -> npt.NDArray[np.float64]:
    n_paths = draw(st.integers(min_paths, max_paths))
    kind = draw(st.sampled_from(("even", "ratios", "decades", "dominated")))
    # Hypothesis prefers fewer choices to simpler ones, and cannot take away a path if that disturbs what is drawn
    # next: all kinds, and all numbers of paths that shrinking matters to, take the same choices. Early ones become
    # simple first, so that the last are the ones to keep.
    n_digits = max(n_paths, _FEWEST_DIGITS)
    digit = st.integers(1 if smallest > 0 else 0, _MOST)
    digits = draw(st.lists(digit, min_size=n_digits, max_size=n_digits))[-n_paths:]
    decades = min(_DECADES, math.ceil(-math.log10(smallest))) if smallest > 0 else _DECADES
    shares = _shares(kind, digits if any(digits) else [1] * n_paths, decades)
    # The sum of what follows is at most n_paths, which keeps each entry at smallest or above.
    pi = np.maximum(shares / shares.max(), smallest * n_paths)
    return pi / math.fsum(pi)


def _shares(kind: str, digits: list[int], decades: int) -> npt.NDArray[np.float64]:
    """Return what a kind of distribution makes of a digit for each path; zero stays zero."""
    shares = np.array(digits, dtype=np.float64)
    if kind == "even":
        return np.sign(shares)
    if kind == "decades":
        return np.sign(shares) * 10.0 ** -np.round((shares - 1) * decades / (_MOST - 1))
    return np.arange(shares.size) == shares.argmax() if kind == "dominated" else shares


def path_losses(
    min_paths: int = 1, max_paths: int = 5, *, min_weights: int = 1, max_weights: int = 3
) -> st.SearchStrategy[PathLosses]:
    """Generate families of quadratic losses, one for each path, with small integers for numbers.

    Args:
        min_paths: least number of paths.
        max_paths: largest number of paths.
        min_weights: least number of weights.
        max_weights: largest number of weights.

    Returns:
        A strategy for :class:`PathLosses`; they shrink to few paths and weights, centers 0 and curvatures 1.

    Raises:
        ValueError: if an argument is out of its domain.
        TypeError: if one is not an integer.

    Example:
        A distribution for as many paths, by ``flatmap``:

        >>> from hypothesis import given, settings
        >>> from hypothesis import strategies as st
        >>> def with_distribution(losses):
        ...     return st.tuples(st.just(losses), distributions(losses.n_paths, losses.n_paths))
        >>> @given(path_losses(max_paths=4).flatmap(with_distribution))
        ... @settings(max_examples=20, derandomize=True)
        ... def test(case):
        ...     losses, pi = case
        ...     assert losses.n_paths == len(pi)
        >>> test()
    """
    _check_sizes("paths", min_paths, max_paths)
    _check_sizes("weights", min_weights, max_weights)
    return _path_losses(min_paths, max_paths, min_weights, max_weights)


@st.composite
def _path_losses(
    draw: st.DrawFn, min_paths: int, max_paths: int, min_weights: int, max_weights: int
) -> PathLosses:
    n_paths = draw(st.integers(min_paths, max_paths))
    n_weights = draw(st.integers(min_weights, max_weights))
    # One choice for a center and its curvature; as many as the most paths and weights take, and the last of them
    # kept, for the reasons above.
    n_choices = max_paths * max_weights
    choices = draw(st.lists(st.integers(0, len(_SIGNED) * _MOST - 1), min_size=n_choices, max_size=n_choices))
    rows = [choices[p * max_weights :][:max_weights][-n_weights:] for p in range(max_paths)][-n_paths:]
    return PathLosses(
        centers=tuple(tuple(_SIGNED[choice % len(_SIGNED)] for choice in row) for row in rows),
        curvatures=tuple(tuple(1 + choice // len(_SIGNED) for choice in row) for row in rows),
    )


def seeds() -> st.SearchStrategy[int]:
    """Generate seeds of a sampler: integers in ``[0, 2**64)``; they shrink to 0."""
    return st.integers(0, 2**64 - 1)


def steps() -> st.SearchStrategy[int]:
    """Generate step numbers for a stateless sampler: integers in ``[0, 2**64)``, small ones often."""
    return st.one_of(st.integers(0, 1000), st.integers(0, 2**64 - 1))


def path_sequences(
    n_paths: int, *, min_size: int = 0, max_size: int = 40, every_path: bool = False
) -> st.SearchStrategy[list[int]]:
    """Generate the paths of successive steps: any, every path first, or a long gap between two visits.

    Args:
        n_paths: number of paths.
        min_size: least number of steps.
        max_size: largest number of steps.
        every_path: whether to visit every path first, always.

    Returns:
        A strategy for lists of path ids; they shrink to few steps and to path 0.

    Raises:
        ValueError: if an argument is out of its domain, or there are too few steps for every path.
        TypeError: if one is not an integer.

    Example:
        >>> from hypothesis import given, settings
        >>> @given(path_sequences(3, max_size=10, every_path=True))
        ... @settings(max_examples=20, derandomize=True)
        ... def test(paths):
        ...     assert set(paths) == {0, 1, 2} and len(paths) <= 10
        >>> test()
    """
    _check_sizes("size", min_size, max_size, least=0)
    if as_int(n_paths, "n_paths") < 1 or (every_path and max_size < n_paths):
        raise ValueError(
            f"Invalid n_paths: {n_paths}, with max_size={max_size}; expected at least 1 path, and no more than "
            "steps if every_path"
        )
    return _path_sequences(n_paths, min_size, max_size, every_path)


@st.composite
def _path_sequences(draw: st.DrawFn, n_paths: int, min_size: int, max_size: int, every_path: bool) -> list[int]:
    # The first two paths come up more often than others, so that they are returned to, also after long gaps.
    path = st.one_of(st.integers(0, min(1, n_paths - 1)), st.integers(0, n_paths - 1))
    length = st.one_of(st.integers(1, 2), st.integers(1, max(1, max_size)))
    runs = draw(st.lists(st.tuples(path, length), max_size=max_size))
    sequence = [p for p, n in runs for _ in range(n)]
    if n_paths <= max_size and (draw(st.booleans()) or every_path):
        keys = draw(st.lists(st.integers(0, _MOST), min_size=n_paths, max_size=n_paths))
        sequence = sorted(range(n_paths), key=keys.__getitem__) + sequence
    missing = max(0, min_size - len(sequence))
    return sequence[:max_size] + draw(st.lists(path, min_size=missing, max_size=missing))
