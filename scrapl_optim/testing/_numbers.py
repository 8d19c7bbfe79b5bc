"""The parts that the assertions share: reading tensors, naming coordinates, showing numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import as_number

# What an estimator may return: a number, an array, a tensor, or a list of them (one for each parameter).
Estimate = Tensor | npt.ArrayLike | Sequence[Tensor] | Sequence[npt.NDArray[Any]]

_ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 1e-2, torch.float32: 1e-5}
_EXACT = 1e-9
_SHOWN = 6


class Numbers(NamedTuple):
    """All entries of an estimate in one vector.

    Attributes:
        flat: the entries, float64 on the CPU, a copy; complex ones as two.
        shapes: the shapes of the tensors they come from.
        rounding: relative tolerance that suits the least precise dtype among them.
    """

    flat: Tensor
    shapes: tuple[tuple[int, ...], ...]
    rounding: float

    def largest(self, magnitudes: Tensor) -> Tensor:
        """Return, at every entry, the largest of ``magnitudes`` (like ``flat``) in the entry's tensor."""
        parts = magnitudes.split([math.prod(shape) for shape in self.shapes])
        return torch.cat([part.max().expand(part.shape) if part.numel() else part for part in parts])

    def name(self, entry: int) -> str:
        """Return where an entry of ``flat`` is, in words."""
        for index, shape in enumerate(self.shapes):
            size = math.prod(shape)
            if entry < size:
                where = tuple(int(i) for i in np.unravel_index(entry, shape)) if shape else ()
                names = [f"tensor {index}"] * (len(self.shapes) > 1) + [f"coordinate {where}"] * bool(shape)
                return ", ".join(names) or "the value"
            entry -= size
        raise IndexError(f"Invalid entry: {entry}; expected one of {self.shapes}")


def read(value: Any, name: str) -> Numbers:
    """Return the entries of an estimate.

    Raises:
        TypeError: if it is not made of numbers.
    """
    is_list = isinstance(value, (list, tuple)) and any(isinstance(v, (Tensor, np.ndarray)) for v in value)
    tensors = [_as_tensor(part, name) for part in (value if is_list else [value])]
    rounding = max((_ROUNDING.get(tensor.real.dtype, _EXACT) for tensor in tensors), default=_EXACT)
    tensors = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    # Accumulated over many paths and draws, while the caller may reuse the memory: a copy, in float64.
    flat = torch.cat([tensor.detach().to("cpu", torch.float64).reshape(-1) for tensor in tensors])
    return Numbers(flat, tuple(tuple(tensor.shape) for tensor in tensors), rounding)


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.array(value)  # a copy: torch warns of read-only memory
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"Invalid {name}: {value!r} of type {type(value).__name__}; expected numbers, tensors or arrays; "
            "in place of None put zeros"
        )
    return torch.from_numpy(array)


def read_target(target: Any) -> Numbers:
    """Return the entries of a target.

    Raises:
        ValueError: if they are not finite.
        TypeError: if they are not numbers.
    """
    numbers = read(target, "target")
    if not bool(numbers.flat.isfinite().all()):
        raise ValueError(f"Invalid target: {show(numbers.flat)}; expected finite numbers, as means are")
    return numbers


def read_like(value: Any, name: str, target: Numbers) -> Numbers:
    """Return the entries of an estimate of ``target``.

    Raises:
        ValueError: if its shapes are not the target's.
    """
    numbers = read(value, name)
    if numbers.shapes != target.shapes:
        raise ValueError(
            f"Invalid {name}: shapes {list(numbers.shapes)}; expected the target's {list(target.shapes)}; "
            "return the same tensors in the same order"
        )
    return numbers


def as_array(values: Tensor | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return real numbers as a new float64 array."""
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.array(values, dtype=np.float64)


def check_false_alarm(false_alarm: float) -> None:
    """Raise ValueError unless it is a rate that a test can have."""
    if not 0.0 < as_number(false_alarm, "false_alarm") <= 0.5:
        raise ValueError(f"Invalid false_alarm: {false_alarm}; expected a probability in (0, 0.5], such as 1e-6")


def check_tolerances(rtol: float | None, atol: float = 0.0) -> None:
    """Raise ValueError unless they are numbers of at least 0, or None for a default."""
    for name, value in (("rtol", 0.0 if rtol is None else rtol), ("atol", atol)):
        if not as_number(value, name) >= 0.0:
            raise ValueError(f"Invalid {name}: {value}; expected a number >= 0")


def show(values: Tensor | npt.NDArray[Any]) -> str:
    """Return the first few numbers as text."""
    numbers = as_array(values).reshape(-1)
    shown = [f"{number:.6g}" for number in numbers[:_SHOWN]]
    rest = [f"... {numbers.size} in all"] if numbers.size > _SHOWN else []
    return f"[{', '.join(shown + rest)}]"
