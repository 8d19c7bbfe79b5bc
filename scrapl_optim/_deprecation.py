"""Old names, which work for one release."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that a name is deprecated.

    Args:
        old: the deprecated name, as users write it.
        new: the name that replaces it.
        stacklevel: of ``warnings.warn``, seen from here; 3 is the caller of the function that calls this.
    """
    warnings.warn(
        f"{old} is deprecated and will be removed in the next release; use {new}.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def moved(module: str, name: str, places: dict[str, str]) -> Any:
    """Return what a module had under a name before it moved, and warn; for a module's ``__getattr__``.

    Args:
        module: the module, as its ``__name__``.
        name: the name that was looked up.
        places: the module that each name has moved to.

    Raises:
        AttributeError: if no such name has moved.
    """
    if name not in places:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    # ``from package import name`` looks the name up twice, at first from within the import system.
    if "importlib._bootstrap" not in sys._getframe(2).f_code.co_filename:
        warn_renamed(f"{module}.{name}", f"{places[name]}.{name}", stacklevel=4)
    return getattr(importlib.import_module(places[name]), name)


def rename_arguments(**new_names: str) -> Callable[[_Function], _Function]:
    """Return a decorator of a function, or of a constructor, that takes arguments under their old names, too.

    Args:
        new_names: the new name under each old one.
    """

    def decorate(function: Any) -> Any:
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def with_old_names(*args: Any, **kwargs: Any) -> Any:
            for old, new in new_names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"Invalid {old}: given with {new}, its new name; expected one of them")
                    warn_renamed(f"{name}({old}=...)", f"{name}({new}=...)")
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return with_old_names

    return decorate


def rename_fields(**new_names: str) -> Callable[[_Class], _Class]:
    """Return a decorator of a record that keeps old names of its attributes, as arguments and in pickles, too.

    Args:
        new_names: the new name under each old one.
    """

    def restore(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update({new_names.get(name, name): value for name, value in state.items()})

    def decorate(cls: _Class) -> _Class:
        cls.__init__ = rename_arguments(**new_names)(cls.__init__)
        cls.__setstate__ = restore  # type: ignore[attr-defined]
        for old, new in new_names.items():
            setattr(cls, old, renamed_property(cls.__name__, old, new))
        return cls

    return decorate


def renamed_property(owner: str, old: str, new: str) -> property:
    """Return a property that reads an attribute under its old name."""

    def read(self: Any) -> Any:
        warn_renamed(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(read, doc=f"Deprecated name of ``{new}``.")
