"""Numbers that are drawn, of whatever kind, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# A number for each path.
Values: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]] | Tensor"


def need_matplotlib() -> None:
    """Raise ImportError, with the remedy, if matplotlib is not installed."""
    try:
        import matplotlib as matplotlib
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'scrapl-jtfs[pictures]'") from error


def as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Return numbers of any kind as an array.

    Raises:
        TypeError: they are no numbers.
    """
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
        elif isinstance(values, (list, tuple)):
            values = [one.detach().cpu() if isinstance(one, Tensor) else one for one in values]
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, NotImplementedError):  # NotImplementedError: tensors on the meta device
        raise TypeError(f"Invalid {name}: a {type(values).__name__}; expected numbers") from None


def as_path_values(values: Any, n_paths: int, name: str) -> NDArray[np.float64]:
    """Return a number for each path as an array.

    Raises:
        TypeError: they are no numbers.
        ValueError: there are not as many as paths.
    """
    numbers = as_numbers(values, name)
    if numbers.shape != (n_paths,):
        raise ValueError(f"Invalid {name}: shape {numbers.shape}; expected one for each of {n_paths} paths")
    return numbers
