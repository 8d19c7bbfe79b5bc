"""Runs the update of many parameters in pieces of a good size.

On a CPU, each operation on a tensor costs a few microseconds to call, and passes over large tensors wait for
memory. Pieces of a few hundred thousand entries keep both small: many small parameters share one set of calls,
and the intermediate results of a large one stay in the cache. On an accelerator one large piece is best.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim.functional import Coefficients, Slot, update_tensor
from scrapl_optim.storage import RowFormat

# In entries. Formats of few bits have more intermediate results.
PIECE = 2**18
ROUNDED_PIECE = 2**16
LARGEST_GATHERED = 2**16
_MOST_VIEWS = 1024


class Work(NamedTuple):
    """What a step reads and writes for the parameters of an arena, as real tensors of ``shapes``.

    ``update``, ``rms`` and ``saga_sum`` are joined if the arena is flat, as in :class:`Slot` otherwise.
    """

    params: list[Tensor]
    grads: list[Tensor]
    shapes: tuple[tuple[int, ...], ...]
    update: list[Tensor]
    rms: list[Tensor]
    formats: RowFormat
    saga_sum: Tensor | None
    is_flat: bool


class Run(NamedTuple):
    """Neighbours to take together: parameters ``first`` to ``last``, entries ``start`` to ``stop``."""

    first: int
    last: int
    start: int
    stop: int
    shapes: tuple[tuple[int, ...], ...]


class Scratch:
    """Memory that steps use again: freshly allocated pages would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[Any, Tensor] = {}
        self._views: dict[Any, tuple[Tensor, list[Tensor]]] = {}

    def take(self, name: str, like: Tensor, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` entries of the buffer ``name`` on ``like``'s device; their content is anything."""
        key = (name, dtype, like.device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            self._buffers[key] = buffer = torch.empty(size, dtype=dtype, device=like.device)
            self._views.clear()  # they would keep the old buffer
        return buffer[:size]

    def join(self, name: str, tensors: list[Tensor], run: Run, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """Copy ``tensors`` end to end into the buffer ``name``; returns this part of it and views of theirs."""
        key = (name, run, dtype, tensors[0].device)
        joined = self._views.get(key)
        if joined is None:
            flat = self.take(name, tensors[0], run.stop - run.start, dtype)
            parts = flat.split([math.prod(shape) for shape in run.shapes])
            joined = flat, [part.view(shape) for part, shape in zip(parts, run.shapes, strict=True)]
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[key] = joined
        torch._foreach_copy_(joined[1], tensors)
        return joined


def in_pieces(work: Work, dtype: torch.dtype, c: Coefficients, scratch: Scratch) -> None:
    """:func:`scrapl_optim.functional.update_tensor` for all parameters of ``work``."""

    def update(whole: Slot) -> None:
        for slot in _cut(whole, size):
            n, shape = slot.param.numel(), slot.param.shape
            first, second = (scratch.take(name, slot.param, n, dtype).view(shape) for name in ("first", "second"))
            update_tensor(slot, dtype, c, (first, second))

    size = PIECE if work.formats.update.whole else ROUNDED_PIECE
    if work.params[0].device.type != "cpu":
        size = max(1, sum(param.numel() for param in work.params))
    if not work.is_flat:
        update(Slot(work.params[0], work.grads[0], work.update, work.rms, work.formats, work.saga_sum))
        return
    for run in _runs(work.shapes, size):
        params, grads = work.params[run.first : run.last], work.grads[run.first : run.last]
        if len(params) == 1 and params[0].is_contiguous() and grads[0].is_contiguous():
            update(_stretch(work, params[0].view(-1), grads[0].view(-1), run))
        else:
            joined, views = scratch.join("params", params, run, dtype)
            update(_stretch(work, joined, scratch.join("grads", grads, run, dtype)[0], run))
            torch._foreach_copy_(params, views)


@functools.lru_cache(maxsize=256)
def _runs(shapes: tuple[tuple[int, ...], ...], largest: int) -> tuple[Run, ...]:
    """Return the neighbours to take together: small parameters, up to ``largest`` entries, or a large one."""
    sizes = [math.prod(shape) for shape in shapes]
    bounds, total = [0], 0
    for i, size in enumerate(sizes):
        if i > bounds[-1] and (total + size > largest or max(size, sizes[i - 1]) > min(LARGEST_GATHERED, largest)):
            bounds.append(i)
            total = 0
        total += size
    starts = list(itertools.accumulate(sizes, initial=0))
    return tuple(
        Run(first, last, starts[first], starts[last], shapes[first:last])
        for first, last in itertools.pairwise([*bounds, len(sizes)])
    )


def _stretch(work: Work, param: Tensor, grad: Tensor, run: Run) -> Slot:
    part = slice(run.start, run.stop)
    return Slot(
        param=param,
        grad=grad,
        update=[tensor[part] for tensor in work.update],
        rms=[tensor[part] for tensor in work.rms],
        formats=work.formats,
        saga_sum=None if work.saga_sum is None else work.saga_sum[part],
    )


def _cut(slot: Slot, size: int) -> Iterator[Slot]:
    """Cut along the first dimension: formats in blocks have no block across its entries."""
    if slot.param.numel() <= size:
        yield slot
        return
    n_rows = slot.param.shape[0]
    step = max(1, size * n_rows // slot.param.numel())
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        yield Slot(
            param=slot.param[part],
            grad=slot.grad[part],
            update=[tensor[part] for tensor in slot.update],
            rms=[tensor[part] for tensor in slot.rms],
            formats=slot.formats,
            saga_sum=None if slot.saga_sum is None else slot.saga_sum[part],
        )
