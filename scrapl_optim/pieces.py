"""Cuts large parameters and gathers small ones into pieces that fit a CPU's cache.

On a CPU, each operation on a tensor costs a few microseconds to call, and passes over large tensors wait for
memory. Pieces of a few hundred thousand entries keep both small: many small tensors share one set of calls,
and the intermediate results of a large one stay in the cache.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from scrapl_optim.functional import Coefficients, Slot, update_tensor

# In entries. Formats of few bits have more intermediate results.
PIECE = 2**18
ROUNDED_PIECE = 2**16
LARGEST_GATHERED = 2**15


class Scratch:
    """Memory that steps use again: freshly allocated pages would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}

    def take(self, index: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` entries of the ``index``-th buffer of ``dtype``, whose content is anything."""
        buffer = self._buffers.get((index, dtype))
        if buffer is None or buffer.numel() < size:
            self._buffers[index, dtype] = buffer = torch.empty(size, dtype=dtype)
        return buffer[:size]


_FIRST, _SECOND, _GATHERED = 0, 1, 2


def in_pieces(slots: list[Slot], dtype: torch.dtype, c: Coefficients, scratch: Scratch) -> None:
    """:func:`scrapl_optim.functional.update_tensor` for ``slots``, all of one dtype and kind of row."""

    def update(slot: Slot) -> None:
        size = slot.param.numel()
        first, second = (scratch.take(i, size, dtype).view(slot.param.shape) for i in (_FIRST, _SECOND))
        update_tensor(slot, dtype, c, (first, second))

    waiting: list[Slot] = []
    n_waiting = 0
    for slot in slots:
        if _can_gather(slot):
            waiting.append(slot)
            n_waiting += slot.param.numel()
            if n_waiting >= PIECE:
                _gather(waiting, update, scratch)
                waiting, n_waiting = [], 0
        else:
            for piece in _cut(slot):
                update(piece)
    if waiting:
        _gather(waiting, update, scratch)


def _tensors(slot: Slot) -> list[Tensor]:
    return [slot.param, *slot.update, *slot.rms, *([] if slot.saga_sum is None else [slot.saga_sum])]


def _can_gather(slot: Slot) -> bool:
    return (
        slot.param.numel() <= LARGEST_GATHERED
        and slot.formats.update.elementwise
        and all(tensor.is_contiguous() for tensor in _tensors(slot))
    )


def _gather(slots: list[Slot], update: Callable[[Slot], None], scratch: Scratch) -> None:
    """Update copies of the tensors of ``slots``, laid end to end, and copy the results back."""
    sizes = [slot.param.numel() for slot in slots]
    columns = [[tensor.view(-1) for tensor in tensors] for tensors in zip(*map(_tensors, slots), strict=True)]
    grads = [slot.grad.reshape(-1) for slot in slots]
    grad, *joined = (
        torch.cat(column, out=scratch.take(_GATHERED + i, sum(sizes), column[0].dtype))
        for i, column in enumerate([grads, *columns])
    )
    first = slots[0]
    n_update, n_rms = len(first.update), len(first.rms)
    update(
        Slot(
            param=joined[0],
            grad=grad,
            update=joined[1 : 1 + n_update],
            rms=joined[1 + n_update : 1 + n_update + n_rms],
            formats=first.formats,
            saga_sum=None if first.saga_sum is None else joined[-1],
        )
    )
    for column, whole in zip(columns, joined, strict=True):
        torch._foreach_copy_(column, whole.split(sizes))


def _cut(slot: Slot) -> Iterator[Slot]:
    """Cut along the first dimension: formats in blocks have no block across its entries."""
    size = PIECE if slot.formats.update.whole else ROUNDED_PIECE
    if slot.param.numel() <= size:
        yield slot
        return
    if slot.formats.update.elementwise and all(t.is_contiguous() for t in (slot.grad, *_tensors(slot))):
        slot = _flat(slot)
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


def _flat(slot: Slot) -> Slot:
    return Slot(
        param=slot.param.view(-1),
        grad=slot.grad.view(-1),
        update=[tensor.view(-1) for tensor in slot.update],
        rms=[tensor.view(-1) for tensor in slot.rms],
        formats=slot.formats,
        saga_sum=None if slot.saga_sum is None else slot.saga_sum.view(-1),
    )
