"""What the fuzz tests share: hostile values, what an error must be, and a timer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

ALLOWED = (ValueError, TypeError, RuntimeError, IndexError, OSError)
FORBIDDEN = (RecursionError, NotImplementedError, UnicodeError)
INTERNAL = (
    "The size of tensor",
    "INTERNAL ASSERT",
    "shape mismatch",
    "object has no attribute",
    "not supported between instances",
    "unsupported operand",
    "list index out of range",
    "too many indices",
    "expected scalar type",
    "object is not iterable",
    "object is not subscriptable",
    "object is not callable",
    "is ambiguous",
    "unhashable type",
    "has no len",
    "could not convert",
    "not implemented for",
    "Could not run",
)
SECONDS = 20.0


class Foreign:
    """An object of no use to anyone."""

    def __repr__(self) -> str:
        return "Foreign()"


HOSTILE: list[Any] = [
    *(None, "x", "0.5", b"b", [], [1], (), {}, {1: 2}, set(), Foreign(), int, len, slice(1), range(3), 1j),
    *(True, False, -1, 0, 1, 2, 10**9, 2**63, 10**400, 1.0, 1.5, -0.0, 5e-324, 1e-38, 1e308),
    *(float("nan"), float("inf"), -float("inf"), Fraction(3, 2), Decimal("1.5")),
    *(np.int64(1), np.uint8(1), np.float32(0.5), np.float64("nan"), np.bool_(True)),
    *(np.array(1), np.array([1]), np.array([]), np.array(["a"])),
    *(torch.tensor(1), torch.tensor(1.5), torch.tensor([1]), torch.tensor([1, 2]), torch.tensor(True)),
    *(torch.tensor(1j), torch.empty(0), torch.empty((), device="meta"), torch.ones(2).to_sparse()),
]
hostile = st.sampled_from(HOSTILE)


def fuzz(max_examples: int) -> Any:
    """Settings that give the same examples at each run."""
    return settings(derandomize=True, deadline=None, max_examples=max_examples, database=None)


def _too_slow(*_: Any) -> None:
    pytest.fail(f"a call took more than {SECONDS} s")


def attempt(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the error that it raised; fail if it is slow or the error tells nothing."""
    previous = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return call()
    except Exception as error:
        raised = error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    _check_error(raised)
    return raised


def _check_error(error: Exception) -> None:
    message = str(error)
    fit = isinstance(error, ALLOWED) and not isinstance(error, FORBIDDEN) and len(message) > 10
    if not fit or any(phrase in message for phrase in INTERNAL):
        raise AssertionError(f"an error of the wrong type, or that tells nothing: {error!r}") from error


def signals(n: int) -> dict[str, Any]:
    """Return tensors that are signals of n samples, or nearly."""
    x = torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inference = x.clone()
    at_3 = torch.arange(n) == 3
    return {
        "good": x,
        "one": x[0],
        "empty": torch.empty(0),
        "number": torch.tensor(1.0),
        "short": x[:, :-1],
        "long": torch.ones(2, n + 1),
        "no batch": torch.ones(0, n),
        "strided": torch.randn(2, n, 2, generator=torch.Generator().manual_seed(1))[..., 0],
        "expanded": x[:1].expand(3, n),
        "requires grad": x.clone().requires_grad_(),
        "imaginary part of a conjugate": torch.complex(x, x).conj().imag,
        "inference": inference,
        "sparse": x.to_sparse(),
        "meta": x.to("meta"),
        "half": x.half(),
        "bfloat16": x.bfloat16(),
        "double": x.double(),
        "int": x.int(),
        "bool": x > 0,
        "complex": x.to(torch.complex64),
        "nan": torch.where(at_3, float("nan"), x),
        "inf": torch.where(at_3, float("inf"), x),
        "zeros": torch.zeros(2, n),
        "subnormal": torch.full((2, n), 1e-44),
        "tiny": x * 1e-38,
        "large": x * 1e15,
        "huge": x * 1e37,
        "array": x.numpy(),
        "list": x.tolist(),
    }


NOT_FINITE = ("nan", "inf", "huge")
