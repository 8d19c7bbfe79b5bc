"""Runs the update of many parameters in pieces of a good size.

On a CPU, each operation on a tensor costs a few microseconds to call, and passes over large tensors wait for
memory. Pieces of a few hundred thousand entries keep both small: many small parameters share one set of calls,
and the intermediate results of a large one stay in the cache. On an accelerator one large piece is best.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _unflatten_dense_tensors

from scrapl_optim.functional import Coefficients, Slot, update_tensor
from scrapl_optim.storage import RowFormat

# In entries. Formats of few bits have more intermediate results.
PIECE = 2**18
ROUNDED_PIECE = 2**16
LARGEST_GATHERED = 2**16


class Work(NamedTuple):
    """What a step reads and writes for the parameters of an arena.

    ``update``, ``rms`` and ``saga_sum`` are joined if the arena is flat, as in :class:`Slot` otherwise.
    """

    params: list[Tensor]
    grads: list[Tensor]
    update: list[Tensor]
    rms: list[Tensor]
    formats: RowFormat
    saga_sum: Tensor | None
    is_flat: bool


class Scratch:
    """Memory that steps use again: freshly allocated pages would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, like: Tensor, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` entries of the buffer ``name`` on ``like``'s device; their content is anything."""
        key = (name, dtype, like.device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            self._buffers[key] = buffer = torch.empty(size, dtype=dtype, device=like.device)
        return buffer[:size]


def in_pieces(work: Work, dtype: torch.dtype, c: Coefficients, scratch: Scratch) -> None:
    """:func:`scrapl_optim.functional.update_tensor` for all parameters of ``work``."""

    def update(slot: Slot) -> None:
        size, shape = slot.param.numel(), slot.param.shape
        first, second = (scratch.take(name, slot.param, size, dtype).view(shape) for name in ("first", "second"))
        update_tensor(slot, dtype, c, (first, second))

    size = PIECE if work.formats.update.whole else ROUNDED_PIECE
    if work.params[0].device.type != "cpu":
        size = max(1, sum(param.numel() for param in work.params))
    if not work.is_flat:
        for piece in _cut(_only_slot(work), size):
            update(piece)
        return
    start = 0
    for first, last in _runs([param.numel() for param in work.params], size):
        params, grads = work.params[first:last], work.grads[first:last]
        stop = start + sum(param.numel() for param in params)
        alone = len(params) == 1 and params[0].is_contiguous() and grads[0].is_contiguous()
        if alone:
            slot = _stretch(work, params[0].view(-1), grads[0].view(-1), start, stop)
        else:
            slot = _stretch(work, _join(params, "param", scratch), _join(grads, "grad", scratch), start, stop)
        for piece in _cut(slot, size):
            update(piece)
        if not alone:
            _copy_back(params, slot.param)
        start = stop


def _runs(sizes: list[int], largest: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of neighbours to take together: small parameters, up to ``largest`` entries, or a large one."""
    first, total = 0, 0
    for i, size in enumerate(sizes):
        if i > first and (total + size > largest or max(size, sizes[i - 1]) > min(LARGEST_GATHERED, largest)):
            yield first, i
            first, total = i, 0
        total += size
    yield first, len(sizes)


def _stretch(work: Work, param: Tensor, grad: Tensor, start: int, stop: int) -> Slot:
    part = slice(start, stop)
    return Slot(
        param=param,
        grad=grad,
        update=[tensor[part] for tensor in work.update],
        rms=[tensor[part] for tensor in work.rms],
        formats=work.formats,
        saga_sum=None if work.saga_sum is None else work.saga_sum[part],
    )


def _join(tensors: list[Tensor], name: str, scratch: Scratch) -> Tensor:
    flat = [tensor.reshape(-1) for tensor in tensors]
    joined = scratch.take(name, flat[0], sum(tensor.numel() for tensor in flat), flat[0].dtype)
    return torch.cat(flat, out=joined)


def _copy_back(params: list[Tensor], joined: Tensor) -> None:
    torch._foreach_copy_(params, _unflatten_dense_tensors(joined, params))


def _only_slot(work: Work) -> Slot:
    return Slot(work.params[0], work.grads[0], work.update, work.rms, work.formats, work.saga_sum)


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
