"""What the options of a transform mean: how much memory each layer gets, and how its modulus is smoothed."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real

import torch
from torch import Tensor

from .checks import is_number
from .modulation import Effort

DEFAULT_MEMORY = 2**25
"""Bytes of sub-bands on a CPU: more leaves its caches and is returned to the system between steps."""
DEFAULT_MEMORY_CUDA = 2**30
"""Bytes of sub-bands on a GPU, where few launches of many numbers count."""
FEWEST_FFTS_AT_ONCE = 8
"""Longest sub-bands that are computed at a time whatever the memory: planning an FFT costs about half of one."""
SMALLEST_SMOOTHING = 1e-15
"""Below, eps^2 is lost to underflow in float32, or to rounding in float64."""
LARGEST_SMOOTHING = 1e9
"""Above, eps^2 comes near to overflow in float32."""
MOST_SAMPLES_PER_BANDWIDTH = 1e6
"""Above any sampling rate of kymatio's, which it is capped by."""
LARGEST_MEMORY = 2**62
SECOND_SMOOTHING = 0.01
"""eps of the second layer over that of the first, whose moduli are larger and whose eps cures gradients."""


def check_options(samples_per_bandwidth: object, smoothing: object, memory: object) -> None:
    """Check the options of a transform.

    Raises:
        ValueError: one is out of range.
    """
    if samples_per_bandwidth is not None and not is_number(samples_per_bandwidth, 1.0, MOST_SAMPLES_PER_BANDWIDTH):
        raise ValueError(
            f"Invalid samples_per_bandwidth: {samples_per_bandwidth!r}; expected a number >= 1, at most "
            f"{MOST_SAMPLES_PER_BANDWIDTH:g}, or None for kymatio's sampling rates."
        )
    if not (is_number(smoothing, 0, 0) or is_number(smoothing, SMALLEST_SMOOTHING, LARGEST_SMOOTHING)):
        raise ValueError(
            f"Invalid smoothing: {smoothing!r}; expected 0, or a number >= {SMALLEST_SMOOTHING}, at most "
            f"{LARGEST_SMOOTHING:g}."
        )
    if memory is not None and not (isinstance(memory, int) and is_number(memory, 1, LARGEST_MEMORY)):
        raise ValueError(f"Invalid memory: {memory!r}; expected a positive number of bytes, or None.")


def check_orders(orders: object) -> None:
    """Check which orders a transform includes.

    Raises:
        TypeError: not a collection of numbers.
        ValueError: another set than {1}, {2} or {1, 2}.
    """
    if not isinstance(orders, Collection) or not all(isinstance(order, Real) for order in orders):
        raise TypeError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2).")
    if not set(orders) or not set(orders) <= {1, 2}:
        raise ValueError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2).")


def first_effort(x: Tensor, memory: int | None, smoothing: float, differentiated: int | None) -> Effort:
    """Return the effort of the first layer, which needs several long FFTs in a call, as each call plans anew.

    Args:
        x: padded signals.
        memory: bytes, or None for the default.
        smoothing: eps.
        differentiated: see :class:`Effort`.
    """
    memory = allowed_memory(x, memory)
    longest = 2 * x.shape[-1] * x.element_size()
    work = max(memory // 8, FEWEST_FFTS_AT_ONCE * longest)
    return Effort(work, _kept(x, memory), smoothing, differentiated)


def second_effort(
    x: Tensor, memory: int | None, smoothing: float, differentiated: int | None, n_calls: int
) -> Effort:
    """Return the effort of one of ``n_calls`` second layers, which work in small pieces that stay in cache."""
    memory = allowed_memory(x, memory)
    return Effort(memory // 32, _kept(x, memory) // n_calls, smoothing * SECOND_SMOOTHING, differentiated)


def allowed_memory(x: Tensor, memory: int | None) -> int:
    """Return the bytes of sub-bands that a layer may hold: ``memory``, or what suits the device of ``x``."""
    if x.is_meta:  # where nothing is held, and cutting to pieces costs time alone
        return LARGEST_MEMORY
    return memory or (DEFAULT_MEMORY_CUDA if x.device.type == "cuda" else DEFAULT_MEMORY)


def _kept(x: Tensor, memory: int) -> int:
    return memory // 2 if x.requires_grad and torch.is_grad_enabled() else 0
