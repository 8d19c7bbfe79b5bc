"""Checks of what a path transform has and refuses: members, texts of paths, ids and signals that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scrapl_jtfs._testing.case import Case, fail
from scrapl_jtfs.any_path_table import as_table


def check_members(case: Case) -> None:
    """Check types that :func:`scrapl_jtfs.check_path_transform` leaves aside."""
    transform = case.transform
    before, after = transform.settings, transform.settings
    equal = before == after
    if not isinstance(equal, bool) or not equal:
        kind = equal if isinstance(equal, bool) else f"a {type(equal).__name__}"
        fail(
            "settings",
            f"settings == settings is {kind}; expected True, as nothing has changed; let them be a dict of "
            "numbers and texts",
        )
    if len(as_table(transform.paths)) != transform.n_paths:
        fail("n_paths", f"{transform.n_paths}; expected {len(transform.paths)}, the length of paths")


def check_texts(case: Case) -> None:
    """Check that texts tell paths apart."""
    seen: dict[str, int] = {}
    for p, path in enumerate(case.transform.paths):
        text = str(path)
        if not text.strip() or f" at 0x{id(path):x}" in text:
            fail("texts", f"path {p} reads {text!r}; expected in units what it listens to; define __str__")
        if text in seen:
            fail("texts", f"paths {seen[text]} and {p} both read {text!r}; expected a text of its own for each")
        seen[text] = p


def check_bad_ids(case: Case) -> None:
    """Check that what is no path id is refused, negative ones among them."""
    transform, x, n_paths = case.transform, case.x, case.transform.n_paths
    bad: list[tuple[Any, type[Exception]]] = [
        (n_paths, IndexError), (-1, IndexError), (1.5, TypeError), ("0", TypeError), (None, TypeError),
        (True, TypeError),
    ]  # fmt: skip
    for value, error in bad:
        _refuses("ids", f"forward(x, {value!r})", lambda value=value: transform(x, value), (error,))
        _refuses("ids", f"select(x, [{value!r}])", lambda value=value: transform.select(x, [value]), (error,))


def check_bad_signals(case: Case) -> None:
    """Check that signals that do not fit are refused."""
    transform, x = case.transform, case.x
    other = torch.float64 if transform.dtype == torch.float32 else torch.float32
    bad: dict[str, tuple[Any, tuple[type[Exception], ...]]] = {
        "a signal with one sample too many on its last axis": (
            torch.cat([x, x[..., :1]], -1),
            (ValueError,),
        ),
        "a signal with too few axes": (x[(0,) * (case.batch_axes + 1)], (ValueError,)),
        f"a signal of {other}": (x.to(other), (ValueError, TypeError)),
        "integers": (x.to(torch.int64), (TypeError, ValueError)),
        "complex numbers": (torch.complex(x, x), (TypeError, ValueError)),
        "a list": (x.tolist(), (TypeError, ValueError)),
    }
    for what, (value, errors) in bad.items():
        for name, call in _calls(transform, value).items():
            _refuses("signals", f"{name} of {what}", call, errors)


def _calls(transform: Any, x: Any) -> dict[str, Callable[[], Any]]:
    return {
        "forward": lambda: transform(x, 0),
        "select": lambda: transform.select(x, [0]),
        "full": lambda: transform.full(x),
        "stream": lambda: next(iter(transform.stream(x))),
    }


def _refuses(name: str, what: str, call: Callable[[], Any], errors: tuple[type[Exception], ...]) -> None:
    expected = " or ".join(error.__name__ for error in errors)
    remedy = "; use checked_index and checked_signal of PathTransform"
    try:
        call()
    except errors:
        return
    except Exception as error:
        kind = type(error).__name__
        raise AssertionError(f"{name}: {what} raises {kind}: {error}; expected {expected}{remedy}") from error
    fail(name, f"{what} is taken; expected {expected}{remedy}")
