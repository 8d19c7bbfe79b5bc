"""Checks of what callers pass: errors name the value, what was expected and the remedy."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from scrapl_jtfs.paths import Path

# Several paths: a list, a range, a one-dimensional array or tensor of ids, or a list of paths of the table.
PathIndices: TypeAlias = "Iterable[int] | Iterable[Path] | NDArray[np.integer[Any]] | Tensor"

# Above any sampling rate of kymatio's, which it is capped by.
_MOST_SAMPLES_PER_BANDWIDTH = 1e6
# Below, eps^2 is lost to underflow in float32, or to rounding in float64.
_SMALLEST_SMOOTHING = 1e-15
# Above, eps^2 comes near to overflow in float32.
_LARGEST_SMOOTHING = 1e9
_LARGEST_MEMORY = 2**62


def is_number(value: object, lowest: float, highest: float) -> bool:
    """Tell whether it is a real number, no bool, from ``lowest`` to ``highest``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return lowest <= float(value) <= highest
    except OverflowError:  # an integer of hundreds of digits
        return False


def as_dense(x: Any, name: str) -> Tensor:
    """Return x, a dense tensor of real floating-point numbers.

    Raises:
        TypeError: it is anything else.
    """
    if not isinstance(x, Tensor):
        remedy = "; use torch.as_tensor" if isinstance(x, (np.ndarray, np.generic, list, tuple, Real)) else ""
        raise TypeError(f"Invalid {name}: {type(x).__name__}; expected a torch.Tensor{remedy}")
    if x.layout is not torch.strided or x.is_nested:
        kind = "a nested tensor" if x.is_nested else x.layout
        raise TypeError(f"Invalid {name}: {kind}; expected a dense torch.Tensor; use x.to_dense()")
    if not x.is_floating_point():
        raise TypeError(
            f"Invalid {name}: {x.dtype}; expected real floating-point numbers; convert it, e.g. "
            + ("take its real part" if x.is_complex() else "x.to(torch.float32) / full scale")
        )
    return x


def as_signal(
    x: Any, n_samples: int, dtype: torch.dtype, device: torch.device, name: str = "x"
) -> tuple[Tensor, torch.Size]:
    """Return signals (batch, n_samples) and the leading axes that they had; half precision is converted.

    Args:
        x: signals (..., n_samples).
        n_samples: the number N of samples.
        dtype: of the transform.
        device: of the transform.
        name: what the caller calls ``x``, for messages.

    Raises:
        TypeError: not a dense floating-point tensor.
        ValueError: of another length, dtype or device than the transform, or none at all.
    """
    x = as_dense(x, name)
    if x.ndim == 0 or x.shape[-1] != n_samples:
        raise ValueError(
            f"Invalid {name}: shape {tuple(x.shape)}; expected {n_samples} samples on the last axis; "
            f"crop or pad it, or build JTFSPath with n_samples={x.shape[-1] if x.ndim else 1}"
        )
    x = _converted(x, dtype, device, name, "jtfs")
    return x.reshape(-1, n_samples), x.shape[:-1]


def as_batch(
    x: Any, signal_shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, name: str = "x"
) -> Tensor:
    """Return signals (..., *signal_shape) of any path transform; half precision is converted.

    Args:
        x: the signals.
        signal_shape: the last axes expected.
        dtype: of the transform.
        device: of the transform.
        name: what the caller calls ``x``, for messages.

    Raises:
        TypeError: not a dense floating-point tensor.
        ValueError: of other last axes, another dtype or device than the transform, or none at all.
    """
    x = as_dense(x, name)
    own = tuple(x.shape[-len(signal_shape) :])
    if own != signal_shape:
        raise ValueError(
            f"Invalid {name}: shape {tuple(x.shape)}; expected {signal_shape} as last axes; crop or pad it, or "
            f"build the transform for {own if len(own) == len(signal_shape) else 'its shape'}"
        )
    return _converted(x, dtype, device, name, "transform")


def _converted(x: Tensor, dtype: torch.dtype, device: torch.device, name: str, transform: str) -> Tensor:
    """Return signals of a transform's dtype and device, to which half precision alone is converted."""
    if x.numel() == 0:
        raise ValueError(f"Invalid {name}: an empty batch of shape {tuple(x.shape)}; expected at least one signal")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.to(dtype)
    if x.dtype != dtype or x.device != device:
        raise ValueError(
            f"Invalid {name}: {x.dtype} on {x.device}; expected {dtype} on {device}, as the transform; "
            + _move(x, dtype, device, name, transform)
        )
    return x


def _move(x: Tensor, dtype: torch.dtype, device: torch.device, name: str, transform: str) -> str:
    """Return how signals get to the transform, and the transform to the signals."""
    if x.is_meta and device.type != "meta":
        return f"it has a shape and no samples, for which {transform}.to('meta') gives the shapes of coefficients"
    if x.device == device:
        call = {torch.float32: "float()", torch.float64: "double()"}.get(dtype, f"to({dtype})")
        return f"convert it with {name}.{call}, or else the transform with {transform}.to({x.dtype})"
    where = repr(str(device)) + ("" if x.dtype == dtype else f", {dtype}")
    return (
        f"move it with {name}.to({where}), or else the transform with {transform}.to({str(x.device)!r}, {x.dtype})"
    )


def check_shapes(x: torch.Size, target: torch.Size) -> None:
    """Raise ValueError where signals and target differ in shape, which nothing broadcasts."""
    if x != target:
        # The same numbers under other axes, such as those of one channel.
        alike = x.numel() == target.numel() and x[-1:] == target[-1:]
        remedy = (
            "reshape one to the other, e.g. with squeeze(1)" if alike else "expand the target to the batch of x"
        )
        raise ValueError(f"Invalid target: shape {tuple(target)}; expected {tuple(x)}, the shape of x; {remedy}")


def as_renderings(x: Any, name: str = "x") -> tuple[Tensor, ...]:
    """Return several renderings of the same controls: two or more dense tensors of one shape.

    Raises:
        TypeError: one is not a real floating-point tensor.
        ValueError: there is one alone, they differ in shape, or one is named twice.
    """
    renderings = tuple(as_dense(rendering, name) for rendering in x)
    if len(renderings) < 2:
        raise ValueError(
            f"Invalid {name}: {len(renderings)} renderings; expected two or more in a list; pass a single one as "
            "it is, without the list"
        )
    shapes = {tuple(rendering.shape) for rendering in renderings}
    if len(shapes) > 1:
        raise ValueError(
            f"Invalid {name}: renderings of shapes {', '.join(map(str, sorted(shapes)))}; expected one shape; "
            "render the same batch of controls"
        )
    if len({id(rendering) for rendering in renderings}) < len(renderings):
        raise ValueError(
            f"Invalid {name}: the same tensor twice; expected independent renderings; render once more with other "
            "seeds"
        )
    return renderings


def check_not_swapped(xs: Sequence[Tensor], target: Tensor) -> None:
    """Raise ValueError where the target, which is never differentiated, alone asks for a gradient."""
    if not (target.requires_grad and torch.is_grad_enabled()) or any(x.requires_grad for x in xs):
        return
    # Derivatives of torch.func and forward-mode ones do not show in requires_grad.
    if retrieve_all_functorch_interpreters() or any(forward_ad.unpack_dual(x).tangent is not None for x in xs):
        return
    raise ValueError(
        "Invalid target: it requires a gradient and x does not; expected the signals to differentiate as x, "
        "which comes first, as no gradient flows to the target; swap them, or pass target.detach()"
    )


def as_path_index(path_idx: Any, n_paths: int, several: str = "") -> int:
    """Return a path id as an int.

    Args:
        path_idx: path id p.
        n_paths: the number P of paths.
        several: what takes several paths where this call takes one, for messages.

    Raises:
        TypeError: not an integer.
        IndexError: not from 0 to ``n_paths`` - 1.
    """
    # A tensor of one entry passes operator.index; it is usually a batch by mistake.
    unfit = isinstance(path_idx, Tensor) and (
        path_idx.ndim > 0 or path_idx.dtype == torch.bool or path_idx.is_meta
    )
    try:
        index = None if unfit or isinstance(path_idx, bool) else operator.index(path_idx)
    except TypeError:
        index = None
    if index is None and is_entry(path_idx):
        raise TypeError(
            f"Invalid path_idx: '{path_idx}'; expected its id, an integer from 0 to {n_paths - 1}: path.index"
        )
    if index is None:
        remedy = f"; for several paths: {several}" if several and is_several(path_idx) else ""
        raise TypeError(f"Invalid path_idx: {path_idx!r}; expected an integer from 0 to {n_paths - 1}{remedy}")
    if not 0 <= index < n_paths:
        raise IndexError(
            f"Invalid path_idx: {index}; expected an id from 0 to {n_paths - 1}, as there are {n_paths} paths"
        )
    return index


def is_entry(path: Any) -> bool:
    """Tell whether it is a path of a table: it has an id as ``index``, which of texts and tuples is a method."""
    index = getattr(path, "index", None)
    return isinstance(index, int) and not isinstance(index, bool)


def is_several(path_idx: Any) -> bool:
    """Tell whether it is a list, range, array or tensor, of path ids as it seems, and not a single one."""
    if isinstance(path_idx, (Tensor, np.ndarray)):
        return path_idx.ndim > 0
    return isinstance(path_idx, (list, tuple, range))


def as_path_indices(path_indices: Any, n_paths: int) -> list[int]:
    """Return path ids as ints: those of a list, a range, another iterable, or a one-dimensional array or tensor.

    Raises:
        TypeError: not a sequence of integers.
        IndexError: one is not from 0 to ``n_paths`` - 1.
    """
    if isinstance(path_indices, (Tensor, np.ndarray)):
        path_indices = _listed(path_indices)
    try:
        if isinstance(path_indices, (str, bytes, dict)):
            raise TypeError
        indices: Iterable[Any] = iter(path_indices)
    except TypeError:
        raise TypeError(
            f"Invalid path_indices: {path_indices!r}; expected a sequence of path ids, such as [0, 1]"
        ) from None
    return [as_path_index(index, n_paths) for index in indices]


def _listed(indices: Tensor | NDArray[Any]) -> list[Any]:
    """Return the entries of a one-dimensional array or tensor of integers, read from its device at once."""
    if 0 in indices.shape and indices.ndim == 1:
        return []
    if isinstance(indices, Tensor):
        integral = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
        fit = integral and indices.layout is torch.strided and not indices.is_meta
    else:
        fit = indices.dtype.kind in "iuO"
    if not fit or indices.ndim != 1:
        raise TypeError(
            f"Invalid path_indices: {type(indices).__name__} of shape {tuple(indices.shape)} and {indices.dtype}; "
            "expected path ids, which are integers, on one axis"
        )
    return indices.tolist()


def check_options(samples_per_bandwidth: object, smoothing: object, memory: object) -> None:
    """Check the options of a transform.

    Raises:
        ValueError: one is out of range.
    """
    if samples_per_bandwidth is not None and not is_number(
        samples_per_bandwidth, 1.0, _MOST_SAMPLES_PER_BANDWIDTH
    ):
        raise ValueError(
            f"Invalid samples_per_bandwidth: {samples_per_bandwidth!r}; expected a number >= 1, at most "
            f"{_MOST_SAMPLES_PER_BANDWIDTH:g}, or None for kymatio's sampling rates"
        )
    if not (is_number(smoothing, 0, 0) or is_number(smoothing, _SMALLEST_SMOOTHING, _LARGEST_SMOOTHING)):
        raise ValueError(
            f"Invalid smoothing: {smoothing!r}; expected 0, or a number >= {_SMALLEST_SMOOTHING}, at most "
            f"{_LARGEST_SMOOTHING:g}"
        )
    if memory is not None and not (isinstance(memory, int) and is_number(memory, 1, _LARGEST_MEMORY)):
        raise ValueError(f"Invalid memory: {memory!r}; expected a positive number of bytes, or None")


def check_orders(orders: object) -> None:
    """Check which orders a transform includes.

    Raises:
        TypeError: not a collection of numbers.
        ValueError: another set than {1}, {2} or {1, 2}.
    """
    if not isinstance(orders, Collection) or not all(isinstance(order, Real) for order in orders):
        raise TypeError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2)")
    if not set(orders) or not set(orders) <= {1, 2}:
        raise ValueError(f"Invalid orders: {orders!r}; expected (2,), (1,) or (1, 2)")
