"""The constants of a transform at the dtype and on the device that it was moved to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Filters(nn.Module):
    """Constants as buffers, which follow every move of a module, and stay exact in float64 on the CPU beside.

    They are a module of their own so that the transform's attributes are those that users look for. None of them
    is in a state dict.

    Args:
        exact: every constant by name, float64 on the CPU.
    """

    def __init__(self, exact: dict[str, Tensor]) -> None:
        super().__init__()
        self.exact = exact
        dtype = filter_dtype(torch.get_default_dtype())
        for name, constant in exact.items():
            self.register_buffer(name, constant.to(dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Filters:
        def move(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except NotImplementedError:
                if not tensor.is_meta:
                    raise
                # Off the meta device, where numbers were lost that the exact constants give back below.
                return fn(torch.empty_like(tensor, device="cpu"))

        super()._apply(move, recurse)
        for name, exact in self.exact.items():
            moved = self.get_buffer(name)
            if moved.device.type == "meta":
                continue
            # A change to float64 must not keep float32's rounding, nor to_empty what memory held.
            wanted = exact.to(device=moved.device, dtype=filter_dtype(moved.dtype))
            if moved.dtype != wanted.dtype or not torch.equal(moved, wanted):
                setattr(self, name, wanted)
        return self

    @property
    def like(self) -> Tensor:
        """Any of them: all have one dtype and device."""
        return next(self.buffers())

    def extra_repr(self) -> str:
        """Show how many there are, and their size, in ``repr``."""
        buffers = list(self.buffers())
        return f"{len(buffers)} arrays, {sum(buffer.nbytes for buffer in buffers)} bytes"


def filter_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision cannot hold the filters."""
    return torch.float64 if dtype == torch.float64 else torch.float32
