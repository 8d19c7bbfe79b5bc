"""Coefficients of signals and of their target, path by path, of any path transform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from scrapl_jtfs._validation import check_not_swapped, check_shapes
from scrapl_jtfs.path_transform import as_signals

# A path id, its coefficients of the signals or of each rendering, and those of the target.
Pair: TypeAlias = "tuple[int, Tensor | tuple[Tensor, ...], Tensor]"

_T = TypeVar("_T")


def stream_pairs(
    transform: Any, x: Tensor | tuple[Tensor, ...], target: Any, ids: Sequence[int]
) -> Iterator[Pair]:
    """Yield the coefficients of signals, or of several renderings, and of their target, in any order of paths.

    Args:
        transform: the path transform; it computes them together where it has its own ``stream_pairs``.
        x: signals, or a tuple of renderings of one shape.
        target: signals, without a graph.
        ids: of paths; each is yielded once.

    Raises:
        TypeError, ValueError: signals do not fit each other or the transform.
    """
    together: Callable[..., Iterator[Pair]] | None = getattr(transform, "stream_pairs", None)
    if together is not None:
        yield from together(x, target, ids)
        return
    xs = x if isinstance(x, tuple) else (x,)
    checked, target = (
        tuple(as_signals(transform, one) for one in xs),
        as_signals(transform, target, "target"),
    )
    for one in checked:
        check_shapes(one.shape, target.shape)
    check_not_swapped(checked, target)
    signals = torch.stack(checked) if isinstance(x, tuple) else checked[0]
    apart = zip(
        stream_paths(transform, signals, ids),  # both in one order
        _without_graph(stream_paths(transform, target.detach(), ids)),
        strict=True,
    )
    for (p, a), (_, b) in apart:
        yield p, a.unbind() if isinstance(x, tuple) else a, b


def stream_paths(transform: Any, x: Tensor, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield (path_idx, coefficients) of paths in the transform's order, sharing what it shares."""
    ordered = sorted(set(ids))
    if len(ordered) == 1:
        yield ordered[0], transform(x, ordered[0])
    elif len(ordered) == transform.n_paths:
        yield from transform.stream(x)
    elif ordered:
        yield from zip(ordered, transform.select(x, ordered), strict=True)


def select(transform: Any, x: Tensor, ids: Sequence[int]) -> Iterable[Tensor]:
    """Return the coefficients of paths in the order of some ids."""
    if not hasattr(transform, "stream_pairs"):
        x = as_signals(transform, x)
    return in_order(stream_paths(transform, x, ids), ids)


def in_order(by_path: Iterable[tuple[int, _T]], indices: Sequence[int]) -> Iterator[_T]:
    """Yield what comes by path, each once and in any order, in the order of some ids; what comes early waits."""
    rest, waiting = iter(by_path), dict[int, _T]()
    last = {p: place for place, p in enumerate(indices)}
    for place, p in enumerate(indices):
        while p not in waiting:
            came, value = next(rest)
            waiting[came] = value
            del value
        yield waiting.pop(p) if last[p] == place else waiting[p]


def _without_graph(values: Iterator[_T]) -> Iterator[_T]:
    """Yield what is computed without a graph; the caller's mode is not touched in between."""
    while True:
        with torch.no_grad():
            try:
                value = next(values)
            except StopIteration:
                return
        yield value
