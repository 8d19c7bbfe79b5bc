"""One update: the parameters of a bucket with the row and the numbers of one path, in chunks of a good size.

On a CPU, each operation on a tensor costs a few microseconds to call, and passes over large tensors wait for
memory. Chunks of a few hundred thousand entries keep both small: many small parameters share one set of calls,
and the intermediate results of a large one stay in the cache. On an accelerator one large chunk is best.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._path_adam_saga import rows
from scrapl_optim._path_adam_saga.algorithm import (
    Chunk,
    Coefficients,
    algorithm_1,
    as_tensors,
    coefficients,
    update_in_place,
)
from scrapl_optim._path_adam_saga.buckets import Bucket
from scrapl_optim._path_adam_saga.clocks import Visit
from scrapl_optim._path_adam_saga.offload import Row, RowFetcher
from scrapl_optim._path_adam_saga.several_paths import Draw

# In entries. Formats of few bits have more intermediate results.
_CHUNK = 2**18
_ROUNDED_CHUNK = 2**16
_LARGEST_GATHERED = 2**16
_MOST_VIEWS = 1024


class Update(NamedTuple):
    """The update of a bucket with the gradients of one path.

    Attributes:
        bucket: where the rows and sums of the parameters are.
        params: parameters, as real tensors of this rank.
        grads: their gradients.
        row: row of the path, on the device.
        host_row: the same row on the host, if that is its place.
        unit_change: factor that brings the root of the row into the unit of this step.
        coefficients: numbers of the update.
        foreach: ``False`` for one parameter at a time.
        is_alone: True if the step has no other path.
        refreshing: True if the sum is to be summed again afterwards.
        sum_weights: weights of the paths in the sum.
    """

    bucket: Bucket
    params: list[Tensor]
    grads: list[Tensor]
    row: Row
    host_row: Row | None
    unit_change: float
    coefficients: Coefficients
    foreach: bool | None
    is_alone: bool
    refreshing: bool
    sum_weights: tuple[float, ...] | None


def make_update(group: dict[str, Any], bucket: Bucket, visit: Visit, draw: Draw, fetcher: RowFetcher) -> Update:
    """Return the update of a bucket of ``group``, whose row then exists."""
    row, host_row = bucket.row(draw.path), None
    if bucket.layout.formats.host and row:
        row, host_row = fetcher.take((id(bucket), draw.path), row, bucket.device), row
    params, grads = bucket.tensors(draw.grads)
    refresh_due = draw.last and rows.is_refresh_due(group, visit.k)
    return Update(
        bucket=bucket,
        params=params,
        grads=grads,
        row=row,
        host_row=host_row,
        unit_change=visit.unit_change,
        coefficients=coefficients(group, visit, bucket.layout.dtype, draw),
        foreach=group["foreach"],
        is_alone=draw.first and draw.last,
        refreshing=refresh_due and bucket.saga_sum() is not None,
        sum_weights=rows.sum_weights(group),
    )


def change_unit(update: Update) -> None:
    """Bring the root of the row into the unit of this step."""
    layout = update.bucket.layout
    if len(layout.tensors) == 2:
        form, root = layout.formats.rms, _parts(update.row, "rms")
        form.encode(root, form.decode(root, layout.dtype).mul_(update.unit_change), 0)


def run(update: Update, scratch: Scratch) -> None:
    """Update the parameters, the row and the sum."""
    dtype = update.bucket.layout.dtype
    if update.foreach is False:
        for chunk in _single_parameters(update):
            two = torch.empty_like(chunk.grad, dtype=dtype), torch.empty_like(chunk.grad, dtype=dtype)
            update_in_place(chunk, dtype, update.coefficients, two)
    else:
        for chunk in _chunks(update, scratch):
            update_in_place(chunk, dtype, update.coefficients, scratch.pair(chunk.param, dtype))


class CompiledUpdate(NamedTuple):
    """The arguments of :func:`run_compiled`."""

    chunk: Chunk
    dtype: torch.dtype
    coefficients: Any


def for_compiler(update: Update) -> CompiledUpdate:
    """Return an update as tensors, for the compiler: one chunk, of copies if the bucket joins its parameters."""
    bucket, dtype = update.bucket, update.bucket.layout.dtype
    params, grads = [param.detach() for param in update.params], update.grads
    if bucket.is_joined:
        params, grads = ([torch.cat([t.reshape(-1) for t in tensors])] for tensors in (params, grads))
    row, rms = _parts(update.row, "update"), _parts(update.row, "rms")
    chunk = Chunk(params[0], grads[0], row, rms, bucket.layout.formats, bucket.saga_sum())
    return CompiledUpdate(chunk, dtype, as_tensors(update.coefficients, dtype))


def run_compiled(updates: list[CompiledUpdate]) -> None:
    """Update what :func:`for_compiler` returned: this is what the compiler sees."""
    for chunk, dtype, numbers in updates:
        algorithm_1(chunk, dtype, numbers)


def copy_back(update: Update, compiled: CompiledUpdate) -> None:
    """Give the parameters their values."""
    bucket = update.bucket
    if bucket.is_joined:
        torch._foreach_copy_(update.params, bucket.split(compiled.chunk.param))


@torch._disable_dynamo
def finish(updates: list[Update], fetcher: RowFetcher) -> None:
    """Send rows back to the host, drop others that were fetched, and sum the memory again where it is time."""
    for update in updates:
        if update.host_row is not None:
            fetcher.put(update.host_row, update.row, update.bucket.device)
    fetcher.forget()
    for update in updates:
        if update.refreshing:
            fetcher.wait()
            for state in update.bucket.states:
                rows.refresh_sum(state, update.bucket.layout, update.sum_weights)


class Neighbours(NamedTuple):
    """Parameters ``first`` to ``last`` of a bucket, which are its entries ``start`` to ``stop``."""

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

    def pair(self, like: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return two tensors shaped as ``like``, on its device; their content is anything."""
        size, shape = like.numel(), like.shape
        return (
            self._take("first", like, size, dtype).view(shape),
            self._take("second", like, size, dtype).view(shape),
        )

    def gather(
        self, name: str, tensors: list[Tensor], at: Neighbours, dtype: torch.dtype
    ) -> tuple[Tensor, list[Tensor]]:
        """Copy ``tensors`` end to end into the buffer ``name``; return the copy and its views, one for each."""
        key = (name, at, dtype, tensors[0].device)
        gathered = self._views.get(key)
        if gathered is None:
            flat = self._take(name, tensors[0], at.stop - at.start, dtype)
            parts = flat.split([math.prod(shape) for shape in at.shapes])
            gathered = flat, [part.view(shape) for part, shape in zip(parts, at.shapes, strict=True)]
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[key] = gathered
        torch._foreach_copy_(gathered[1], tensors)
        return gathered

    def _take(self, name: str, like: Tensor, size: int, dtype: torch.dtype) -> Tensor:
        key = (name, dtype, like.device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            self._buffers[key] = buffer = torch.empty(size, dtype=dtype, device=like.device)
            self._views.clear()  # they would keep the old buffer
        return buffer[:size]


def _chunks(update: Update, scratch: Scratch) -> Iterator[Chunk]:
    """Yield chunks that cover the bucket; each must be updated before the next is asked for."""
    bucket, params, grads = update.bucket, update.params, update.grads
    formats, dtype = bucket.layout.formats, bucket.layout.dtype
    size = _CHUNK if formats.update.whole else _ROUNDED_CHUNK
    if bucket.device.type != "cpu":
        size = max(1, sum(param.numel() for param in params))
    row, rms, saga_sum = _parts(update.row, "update"), _parts(update.row, "rms"), bucket.saga_sum()
    if not bucket.is_joined:
        yield from _cut(Chunk(params[0], grads[0], row, rms, formats, saga_sum), size)
        return
    for at in _neighbours(bucket.shapes, size):
        some, their_grads = params[at.first : at.last], grads[at.first : at.last]
        entries, views = slice(at.start, at.stop), None
        if len(some) == 1 and some[0].is_contiguous() and their_grads[0].is_contiguous():
            param, grad = some[0].view(-1), their_grads[0].view(-1)
        else:
            param, views = scratch.gather("params", some, at, dtype)
            grad, _ = scratch.gather("grads", their_grads, at, dtype)
        own_sum = None if saga_sum is None else saga_sum[entries]
        yield from _cut(
            Chunk(param, grad, [t[entries] for t in row], [t[entries] for t in rms], formats, own_sum), size
        )
        if views is not None:
            torch._foreach_copy_(some, views)


def _single_parameters(update: Update) -> Iterator[Chunk]:
    """Yield a chunk for each parameter of the bucket."""
    bucket, saga_sum = update.bucket, update.bucket.saga_sum()
    row = [bucket.split(part) for part in _parts(update.row, "update")]
    rms = [bucket.split(part) for part in _parts(update.row, "rms")]
    sums = None if saga_sum is None else bucket.split(saga_sum)
    for i, (param, grad) in enumerate(zip(update.params, update.grads, strict=True)):
        own_sum = None if sums is None else sums[i]
        parts = [part[i] for part in row], [part[i] for part in rms]
        yield Chunk(param, grad, *parts, bucket.layout.formats, own_sum)


def _parts(row: Row, name: str) -> list[Tensor]:
    """Return the parts of ``update`` or ``rms`` of a row."""
    return [part for key, part in row.items() if key.startswith(name)]


@functools.lru_cache(maxsize=256)
def _neighbours(shapes: tuple[tuple[int, ...], ...], largest: int) -> tuple[Neighbours, ...]:
    """Return the parameters to take together: small ones, up to ``largest`` entries, or a large one."""
    sizes = [math.prod(shape) for shape in shapes]
    bounds, total = [0], 0
    for i, size in enumerate(sizes):
        is_large = max(size, sizes[i - 1]) > min(_LARGEST_GATHERED, largest)
        if i > bounds[-1] and (total + size > largest or is_large):
            bounds.append(i)
            total = 0
        total += size
    starts = list(itertools.accumulate(sizes, initial=0))
    return tuple(
        Neighbours(first, last, starts[first], starts[last], shapes[first:last])
        for first, last in itertools.pairwise([*bounds, len(sizes)])
    )


def _cut(chunk: Chunk, size: int) -> Iterator[Chunk]:
    """Cut along the first dimension: formats in blocks have no block across its entries."""
    if chunk.param.numel() <= size:
        yield chunk
        return
    n_rows = chunk.param.shape[0]
    step = max(1, size * n_rows // chunk.param.numel())
    for start in range(0, n_rows, step):
        part = slice(start, start + step)
        yield Chunk(
            param=chunk.param[part],
            grad=chunk.grad[part],
            update=[tensor[part] for tensor in chunk.update],
            rms=[tensor[part] for tensor in chunk.rms],
            formats=chunk.formats,
            saga_sum=None if chunk.saga_sum is None else chunk.saga_sum[part],
        )
