"""Choice of the paths that SCRAPL draws, their probabilities, and the units in which they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scrapl_jtfs.any_path_table import AnyPathTable
from scrapl_jtfs.path_table import PathTable
from scrapl_optim import PathSampler, load_probs

# (lowest, highest), of which None is no bound, or one number; a list where it comes from a file
Bounds: TypeAlias = "Sequence[float | None] | float"


def choose_paths(
    table: PathTable,
    rates: Bounds | None,
    scales: Bounds | None,
    spins: int | Sequence[int] | None,
    paths: Sequence[int] | None,
) -> tuple[int, ...]:
    """Return the ids of the paths that meet every condition, ascending.

    Raises:
        TypeError, ValueError: a condition is out of its domain, or no path meets them all.
    """
    ids = table.where(rate=rates, scale=scales, spin=spins)
    if paths is None:
        return ids
    both = tuple(sorted(set(ids) & set(table.ids(paths))))
    if not both:
        raise ValueError(
            f"Invalid paths: {paths!r}; expected one that meets rates={rates!r}, scales={scales!r}, "
            f"spins={spins!r}, which keep {ids!r}"
        )
    return both


def choose_probabilities(
    n_paths: int, probs: Any, drawn: tuple[int, ...], min_prob_frac: float
) -> NDArray[np.float64]:
    """Return the probability of each of the P paths; those that are drawn share all of it.

    Args:
        n_paths: the number P of paths.
        probs: probability of each path, a file of them, or None for the uniform distribution.
        drawn: ids of the paths that are drawn.
        min_prob_frac: of :class:`scrapl_optim.PathSampler`.
    """
    if probs is None:
        all_paths = PathSampler(n_paths=n_paths)
    else:
        all_paths = PathSampler(load_probs(probs) if isinstance(probs, str) else probs)
    if all_paths.n_paths != n_paths:
        raise ValueError(
            f"Invalid probs: {all_paths.n_paths} entries; expected one for each of {n_paths} paths, also "
            "for those that are not drawn"
        )
    return PathSampler(all_paths.probs, paths=drawn, min_prob_frac=min_prob_frac).probs


def make_units(table: AnyPathTable[Any], drawn: tuple[int, ...], unit: str) -> tuple[tuple[int, ...], ...]:
    """Return the paths of each unit: every path by itself, so that ids stay, or bundles of drawn paths."""
    if unit == "path":
        return tuple((index,) for index in range(len(table)))
    known = [repr(name) for name in ("path", *table.properties)]
    if unit not in table.properties:
        raise ValueError(f"Invalid unit: {unit!r}; expected {', '.join(known[:-1])} or {known[-1]}")
    return table.bundles(unit, within=drawn)


def as_plain(value: Any) -> Any:
    """Return a list of any kind, such as one of a configuration file, as a tuple; other values stay."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
