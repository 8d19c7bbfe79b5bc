"""Rows in host memory: fetched while forward and backward run, written back after the step."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Tensor]


def on_host(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor in host memory, pinned if copies to ``device`` need that to run meanwhile.

    Raises:
        RuntimeError: if the tensor is a DTensor, whose parts must be on its mesh's device.
    """
    if hasattr(tensor, "to_local"):
        raise RuntimeError(
            "Invalid storage: rows on the host for a sharded parameter (DTensor); expected rows on its device; "
            "use storage='bfloat16' or 'int8', or shard over more ranks"
        )
    tensor = tensor.cpu()
    return tensor.pin_memory() if device.type == "cuda" else tensor


class RowFetcher:
    """Copies rows between the host and a device.

    On CUDA all copies of a device go through one stream of their own, so that a row is never read before it
    was written, and the host does not wait. Elsewhere copies are ordinary ones.
    """

    def __init__(self) -> None:
        self._fetched: dict[Hashable, Row] = {}
        self._streams: dict[torch.device, Any] = {}

    def fetch(self, key: Hashable, row: Row, device: torch.device) -> None:
        """Start copying a row to a device; ``key`` names it."""
        if key in self._fetched:
            return
        stream = self._stream(device)
        if stream is None:
            self._fetched[key] = {name: part.to(device, copy=True) for name, part in row.items()}
            return
        with torch.cuda.stream(stream):
            self._fetched[key] = {name: part.to(device, non_blocking=True) for name, part in row.items()}

    def take(self, key: Hashable, row: Row, device: torch.device) -> Row:
        """Return a row's copy on the device, fetched before or now."""
        self.fetch(key, row, device)
        fetched = self._fetched.pop(key)
        stream = self._stream(device)
        if stream is not None:
            current = torch.cuda.current_stream(device)
            current.wait_stream(stream)
            for part in fetched.values():
                part.record_stream(current)
        return fetched

    def put(self, row: Row, fetched: Row, device: torch.device) -> None:
        """Start copying a row back to the host, after what the device is computing now."""
        stream = self._stream(device)
        if stream is None:
            for name, part in fetched.items():
                row[name].copy_(part)
            return
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for name, part in fetched.items():
                row[name].copy_(part, non_blocking=True)
                part.record_stream(stream)

    def forget(self) -> None:
        """Drop rows that were fetched and not taken: they may be out of date after this."""
        self._fetched.clear()

    def wait(self) -> None:
        """Wait until all rows are on the host: before the host reads them."""
        for stream in self._streams.values():
            stream.synchronize()

    def _stream(self, device: torch.device) -> Any:
        if device.type != "cuda":
            return None
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        return self._streams[device]
