"""Checks of the arguments of a resynthesis."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from scrapl_jtfs._resynthesis.marginals import Keep
from scrapl_jtfs.path_transform import as_signals
from scrapl_optim._validation import as_int, check_callable

METHODS = ("lbfgs", "paths")
STARTS = ("spectrum", "white")
_KEEP: tuple[str | None, ...] = (*get_args(get_args(Keep)[0]), None)
# Of a torch.Generator.
_MOST_SEED = 2**63


def as_fixed(transform: Any, x: Any, name: str) -> Tensor:
    """Return signals (..., *signal_shape) that are given and not differentiated.

    Raises:
        TypeError: not a real floating-point tensor.
        ValueError: it does not fit the transform, requires a gradient, or has no finite samples.
    """
    signals = as_signals(transform, x, name)
    if signals.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"Invalid {name}: it requires a gradient; expected signals without one, as no gradient flows to them; "
            f"pass {name}.detach()"
        )
    if signals.is_meta:
        raise ValueError(
            f"Invalid {name}: shape {tuple(signals.shape)} on the meta device; expected samples, as there is "
            "nothing to descend without them; move the transform to a device"
        )
    if not bool(signals.isfinite().all()):
        raise ValueError(f"Invalid {name}: it has inf or NaN; expected finite samples; look where they come from")
    return signals.detach()


def check_start(start: Any, target: Tensor, n_outputs: int | None, keep: Keep, n_axes: int) -> None:
    """Raise unless a start is a kind of noise, or signals of ``n_axes`` axes that fit the target."""
    if isinstance(start, str):
        if start not in STARTS:
            raise ValueError(f"Invalid start: {start!r}; expected 'spectrum', 'white' or a tensor of signals")
        return
    expected = tuple(target.shape) if n_outputs is None else (n_outputs, *target.shape)
    if tuple(start.shape) != expected:
        more = "; for several outputs of one target, set n_outputs" if n_outputs is None else ""
        raise ValueError(
            f"Invalid start: shape {tuple(start.shape)}; expected {expected}, "
            + ("the shape of the target" if n_outputs is None else "one start for each output")
            + more
        )
    if keep == "level" and not bool(start.flatten(-n_axes).any(-1).all()):
        raise ValueError("Invalid start: one is all zero; expected signals with a level; start from noise")


def check_choices(keep: object, method: object) -> None:
    """Raise ValueError unless both are among what there is."""
    if keep not in _KEEP:
        raise ValueError(f"Invalid keep: {keep!r}; expected 'histogram', 'level' or None")
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; expected 'lbfgs' or 'paths'")


def as_count(value: Any, name: str) -> int:
    """Return a number of at least 1.

    Raises:
        TypeError: it is no integer.
        ValueError: it is smaller.
    """
    count = as_int(value, name)
    if count < 1:
        raise ValueError(f"Invalid {name}: {count}; expected at least 1")
    return count


def as_generator(seed: Any) -> torch.Generator:
    """Return a generator for a seed, or the one that it is.

    Raises:
        TypeError: it is neither.
        ValueError: it is out of range.
    """
    if isinstance(seed, torch.Generator):
        return seed
    number = as_int(seed, "seed")
    if not 0 <= number < _MOST_SEED:
        raise ValueError(f"Invalid seed: {number}; expected an integer in [0, 2**63), or a torch.Generator")
    return torch.Generator().manual_seed(number)


def check_callback(callback: object) -> None:
    """Raise TypeError unless there is none or it can be called."""
    if callback is not None:
        check_callable(callback, "callback")


def check_finite_errors(errors: Tensor) -> None:
    """Raise FloatingPointError where a signal that was reached has no error."""
    if not bool(errors.isfinite().all()):
        raise FloatingPointError(
            f"Invalid signals: errors {errors.tolist()}; expected finite coefficients; start nearer to the level "
            "of the target, or in float64"
        )
