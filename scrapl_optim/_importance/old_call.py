"""Translation of the call with ``method="..."`` and loose options, which works for one release."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

from scrapl_optim._importance.arnoldi import Arnoldi
from scrapl_optim._importance.search import Method
from scrapl_optim._importance.shared_subspace import SharedSubspace
from scrapl_optim._importance.surrogates import ControlCurvature, GaussNewton

_METHODS = {method.label: method for method in (Arnoldi, SharedSubspace, GaussNewton, ControlCurvature)}
# Options that a method has now, under their old names.
_OPTIONS = {
    "tolerance": "tolerance",
    "max_products": "max_products",
    "max_basis": "max_basis",
    "max_subspace": "max_size",
    "max_graphs": "max_graphs",
    "split": "split_batch",
}
_KEYWORDS = (*_OPTIONS, "curvature", "share")


def as_new_call(method: Any, derivatives: Any, rank: Any, world_size: Any, old: dict[str, Any]) -> tuple[Any, ...]:
    """Return method, derivatives, rank and world size of a call that may be an old one, and warn if it is.

    Raises:
        TypeError: if a keyword is unknown, or given with the one that took its place.
        ValueError: if the name of a method is unknown.
    """
    unknown = [name for name in old if name not in _KEYWORDS]
    if unknown:
        raise TypeError(f"theta_importance() got an unexpected keyword argument {unknown[0]!r}")  # as Python does
    if not old and not isinstance(method, str):
        return method, derivatives, rank, world_size
    changes: list[str] = []
    options = {_OPTIONS[name]: value for name, value in old.items() if name in _OPTIONS}
    if isinstance(method, str) or options:
        method = _as_method(method, options)
        changes.append(f"method={_written(method, options)}")
    if "curvature" in old:
        if derivatives is not None:
            raise TypeError("Invalid curvature: given with derivatives, its new name; expected one of them")
        derivatives = old["curvature"]
        changes.append("derivatives=...")
    if "share" in old:
        rank, world_size = _as_rank(old["share"])
        changes.append(f"rank={rank}, world_size={world_size}")
    warnings.warn(
        "theta_importance with a method's name or its loose options, curvature or share is deprecated and will be "
        f"removed in the next release; use theta_importance(..., {', '.join(changes)}).",
        DeprecationWarning,
        stacklevel=3,
    )
    return method, derivatives, rank, world_size


def _as_method(method: Any, options: dict[str, Any]) -> Method:
    if not isinstance(method, str):
        if method != Arnoldi():
            raise TypeError(f"Invalid {', '.join(options)}: given with method={method!r}; expected in it")
        method = Arnoldi.label
    if method not in _METHODS:
        raise ValueError(f"Invalid method: {method!r}; expected Arnoldi(...) or SharedSubspace(...)")
    checked = SharedSubspace(**options)  # it has all options
    chosen = _METHODS[method]
    return chosen(**{field.name: getattr(checked, field.name) for field in fields(chosen)})


def _written(method: Method, options: dict[str, Any]) -> str:
    """Return how users write a method with the options that they gave."""
    if isinstance(method, (GaussNewton, ControlCurvature)):
        return f"Arnoldi() or SharedSubspace(), as {method.label!r} goes without replacement"
    names = [field.name for field in fields(method) if field.name in options]  # type: ignore[arg-type]
    shown = [f"{n}={'...' if callable(options[n]) else repr(options[n])}" for n in names]
    return f"{type(method).__name__}({', '.join(shown)})"


def _as_rank(share: Any) -> tuple[Any, Any]:
    if not isinstance(share, (tuple, list)) or len(share) != 2:
        raise TypeError(f"Invalid share: {share!r}; expected rank=..., world_size=... in its place")
    return tuple(share)  # type: ignore[return-value]
