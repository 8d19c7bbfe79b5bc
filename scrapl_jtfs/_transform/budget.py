"""The memory that each layer of a transform may use."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Bytes of sub-bands on a CPU: more leaves its caches and is returned to the system between steps.
_DEFAULT_MEMORY = 2**25
# Bytes of sub-bands on a GPU, where few launches of many numbers count.
_DEFAULT_MEMORY_CUDA = 2**30
# Longest sub-bands that are computed at a time whatever the memory: planning an FFT costs about half of one.
_FEWEST_FFTS_AT_ONCE = 8
# Where nothing is held, and cutting to chunks costs time alone.
_UNLIMITED = 2**62


class Budget(NamedTuple):
    """Memory that one layer may use. It changes time and memory, never the result but by roundings.

    Attributes:
        work: bytes of |A y| computed at a time; the batch is cut into chunks of that size.
        keep: bytes of A y saved for the backward pass; what exceeds it is computed again there.
    """

    work: int
    keep: int

    def items_at_once(self, size: int, x: Tensor) -> int:
        """Return how many items, of ``size`` real numbers of the precision of x each, fit the working memory."""
        return max(1, self.work // (size * torch.finfo(x.dtype).bits // 8))


def first_layer_budget(x: Tensor, n_computed: int, memory: int | None) -> Budget:
    """Return the budget of the first layer, which needs several long FFTs in a call, as each call plans anew.

    Args:
        x: the signals.
        n_computed: samples of their continuation that are computed with.
        memory: bytes, or None for the default.
    """
    memory = allowed_memory(x, memory)
    saved = memory // 2 if x.requires_grad and torch.is_grad_enabled() else 0
    longest = 2 * n_computed * x.element_size()
    return Budget(max(memory // 8, _FEWEST_FFTS_AT_ONCE * longest), saved)


def second_layer_budget(x: Tensor, memory: int | None, n_calls: int) -> Budget:
    """Return the budget of one of ``n_calls`` second layers, which work in small chunks that stay in cache."""
    memory = allowed_memory(x, memory)
    saved = memory // 2 if x.requires_grad and torch.is_grad_enabled() else 0
    return Budget(memory // 32, saved // n_calls)


def allowed_memory(x: Tensor, memory: int | None) -> int:
    """Return the bytes of sub-bands that a layer may hold: ``memory``, or what suits the device of ``x``."""
    if x.is_meta:
        return _UNLIMITED
    return memory or (_DEFAULT_MEMORY_CUDA if x.device.type == "cuda" else _DEFAULT_MEMORY)
