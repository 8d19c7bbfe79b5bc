"""The transform under test with its signals and paths, and what checks have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from scrapl_jtfs._validation import as_path_indices
from scrapl_jtfs.path_transform import check_path_transform

# Errors that rounding explains, relative to the largest coefficient of a path: of sums of some thousand terms.
_TOLERANCES = {torch.float64: 1e-9}
_TOLERANCE = 2e-4
_MOST_PATHS = 8

_T = TypeVar("_T")


class Case(NamedTuple):
    """The transform under test, and the signals that it is tested on.

    Attributes:
        transform: a copy of the user's.
        original: the user's, which is left alone.
        x: signals (2, 3, *signal_shape).
        paths: ids that are looked at one by one.
        seed: of random numbers.
    """

    transform: Any
    original: Any
    x: Tensor
    paths: list[int]
    seed: int

    @property
    def batch_axes(self) -> int:
        """Number of batch axes of x."""
        return self.x.ndim - len(self.transform.signal_shape)

    def phi(self, path_idx: int, x: Tensor | None = None) -> Tensor:
        """Return the coefficients of a path, of x if nothing else is given, without a graph."""
        with torch.no_grad():
            return self.transform(self.x if x is None else x, path_idx)

    def text(self, path_idx: int) -> str:
        """Return a path's name for messages."""
        return f"'{self.transform.paths[path_idx]}'"


def make_case(transform: Any, signal: Any, paths: Any, seed: int) -> Case:
    """Copy a transform and draw its signals.

    Raises:
        AssertionError: it lacks members, or cannot be copied.
        ValueError: the signal does not fit, or there are no paths.
    """
    attempt("members", lambda: check_path_transform(transform))
    copied = attempt("copies: copy.deepcopy fails", lambda: copy.deepcopy(transform))
    n_paths = transform.n_paths
    if paths is None:
        count = min(n_paths, _MOST_PATHS)
        chosen = sorted({round(i * (n_paths - 1) / max(1, count - 1)) for i in range(count)})
    else:
        chosen = as_path_indices(paths, n_paths)
        if not chosen:
            raise ValueError("Invalid paths: none; expected at least one path id, or None for a choice of them")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, *transform.signal_shape, generator=generator, dtype=torch.float64)
    if signal is not None:
        if not isinstance(signal, Tensor) or tuple(signal.shape) != transform.signal_shape:
            raise ValueError(
                f"Invalid signal: shape {tuple(getattr(signal, 'shape', ()))}; expected {transform.signal_shape}, "
                "one signal without batch axes"
            )
        # Others like it, each different.
        size = signal.detach().double().cpu().std().clamp_min(1e-3)
        x = signal.detach().double().cpu() + 0.05 * size * x
    return Case(copied, transform, x.to(transform.device, transform.dtype), chosen, seed)


def attempt(name: str, call: Callable[[], _T]) -> _T:
    """Return what a call returns; its error is that of a check."""
    try:
        return call()
    except Exception as error:
        raise AssertionError(f"{name}: {error}") from error


def fail(name: str, text: str) -> NoReturn:
    """Raise the error of a check."""
    raise AssertionError(f"{name}: {text}")


def compare(name: str, actual: Any, expected: Tensor, what: str, factor: float = 1.0) -> None:
    """Raise AssertionError where a tensor is not another, up to rounding."""
    if not isinstance(actual, Tensor):
        fail(name, f"{what} is a {type(actual).__name__}; expected a torch.Tensor")
    if actual.shape != expected.shape:
        fail(name, f"{what} has shape {tuple(actual.shape)}; expected {tuple(expected.shape)}")
    if not actual.numel():
        return
    allowed = factor * tolerance(expected.dtype)
    size = float(expected.detach().abs().max())
    error = float((actual.detach() - expected.detach()).abs().max()) / (size or 1.0)
    if not error <= allowed:
        fail(name, f"{what} is off by {error:.2g} of its largest value; expected at most {allowed:.2g}")


def tolerance(dtype: torch.dtype) -> float:
    """Return the error that rounding explains, relative to the largest coefficient."""
    return _TOLERANCES.get(dtype, _TOLERANCE)


def in_float64(transform: Any) -> Any:
    """Return a copy in float64, or None where it is no module to be moved."""
    return copy.deepcopy(transform).double() if isinstance(transform, nn.Module) else None
