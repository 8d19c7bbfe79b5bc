"""Cuts the parameters of a bucket into chunks of a good size, on which the update runs.

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

from scrapl_optim._path_adam_saga.algorithm import Chunk
from scrapl_optim._path_adam_saga.buckets import Bucket
from scrapl_optim._path_adam_saga.offload import Row

# In entries. Formats of few bits have more intermediate results.
_CHUNK = 2**18
_ROUNDED_CHUNK = 2**16
_LARGEST_GATHERED = 2**16
_MOST_VIEWS = 1024


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


def chunks(
    bucket: Bucket, params: list[Tensor], grads: list[Tensor], row: Row, scratch: Scratch
) -> Iterator[Chunk]:
    """Yield chunks that cover ``bucket``; each must be updated before the next is asked for."""
    formats = bucket.layout.formats
    size = _CHUNK if formats.update.whole else _ROUNDED_CHUNK
    if bucket.device.type != "cpu":
        size = max(1, sum(param.numel() for param in params))
    update, rms = parts(row, "update"), parts(row, "rms")
    saga_sum = bucket.saga_sum()
    if not bucket.is_joined:
        yield from _cut(Chunk(params[0], grads[0], update, rms, formats, saga_sum), size)
        return
    dtype = bucket.layout.dtype
    for at in _neighbours(bucket.shapes, size):
        some, their_grads, entries = (
            params[at.first : at.last],
            grads[at.first : at.last],
            slice(at.start, at.stop),
        )
        views = None
        if len(some) == 1 and some[0].is_contiguous() and their_grads[0].is_contiguous():
            param, grad = some[0].view(-1), their_grads[0].view(-1)
        else:
            param, views = scratch.gather("params", some, at, dtype)
            grad, _ = scratch.gather("grads", their_grads, at, dtype)
        own_sum = None if saga_sum is None else saga_sum[entries]
        chunk = Chunk(param, grad, [t[entries] for t in update], [t[entries] for t in rms], formats, own_sum)
        if param.numel() <= size:
            yield chunk
        else:
            yield from _cut(chunk, size)
        if views is not None:
            torch._foreach_copy_(some, views)


def single_parameters(bucket: Bucket, params: list[Tensor], grads: list[Tensor], row: Row) -> Iterator[Chunk]:
    """Yield a chunk for each parameter of ``bucket``."""
    formats, saga_sum = bucket.layout.formats, bucket.saga_sum()
    update = [bucket.split(part) for part in parts(row, "update")]
    rms = [bucket.split(part) for part in parts(row, "rms")]
    sums = None if saga_sum is None else bucket.split(saga_sum)
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        own_sum = None if sums is None else sums[i]
        yield Chunk(param, grad, [part[i] for part in update], [part[i] for part in rms], formats, own_sum)


def whole(bucket: Bucket, params: list[Tensor], grads: list[Tensor], row: Row) -> Chunk:
    """Return ``bucket`` as one chunk; its parameters are copies if the bucket joins them."""
    params = [param.detach() for param in params]
    if bucket.is_joined:
        params, grads = ([torch.cat([t.reshape(-1) for t in tensors])] for tensors in (params, grads))
    update, rms = parts(row, "update"), parts(row, "rms")
    return Chunk(params[0], grads[0], update, rms, bucket.layout.formats, bucket.saga_sum())


def parts(row: Row, name: str) -> list[Tensor]:
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
