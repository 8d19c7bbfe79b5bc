"""One update: the buckets of a step with the rows and the numbers of one path."""

from __future__ import annotations

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
from scrapl_optim._path_adam_saga.chunks import Scratch, chunks, parts, single_parameters, whole
from scrapl_optim._path_adam_saga.clocks import Visit
from scrapl_optim._path_adam_saga.offload import Row, RowFetcher
from scrapl_optim._path_adam_saga.several_paths import Draw


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


def make_update(group: dict[str, Any], bucket: Bucket, visit: Visit, draw: Draw, fetcher: RowFetcher) -> Update:
    """Return the update of a bucket of ``group``, whose row then exists."""
    row, host_row = bucket.row(draw.path), None
    if bucket.layout.formats.host and row:
        row, host_row = fetcher.take((id(bucket), draw.path), row, bucket.device), row
    params, grads = bucket.tensors(draw.grads)
    n_paths = group["n_paths"]
    refresh_due = draw.last and n_paths <= rows.MOST_REFRESHED and visit.k % rows.REFRESH_EVERY == 0
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
    )


def change_unit(update: Update) -> None:
    """Bring the root of the row into the unit of this step."""
    layout = update.bucket.layout
    if len(layout.tensors) == 2:
        form, root = layout.formats.rms, parts(update.row, "rms")
        form.encode(root, form.decode(root, layout.dtype).mul_(update.unit_change), 0)


def run(update: Update, scratch: Scratch) -> None:
    """Update the parameters, the row and the sum."""
    bucket, dtype = update.bucket, update.bucket.layout.dtype
    if update.foreach is False:
        for chunk in single_parameters(bucket, update.params, update.grads, update.row):
            grad = chunk.grad
            two = torch.empty_like(grad, dtype=dtype), torch.empty_like(grad, dtype=dtype)
            update_in_place(chunk, dtype, update.coefficients, two)
    else:
        for chunk in chunks(bucket, update.params, update.grads, update.row, scratch):
            update_in_place(chunk, dtype, update.coefficients, scratch.pair(chunk.param, dtype))


class CompiledUpdate(NamedTuple):
    """The arguments of :func:`run_compiled`."""

    chunk: Chunk
    dtype: torch.dtype
    coefficients: Any


def for_compiler(update: Update) -> CompiledUpdate:
    """Return an update as tensors, for the compiler."""
    dtype = update.bucket.layout.dtype
    chunk = whole(update.bucket, update.params, update.grads, update.row)
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
                rows.refresh_sum(state, update.bucket.layout)
