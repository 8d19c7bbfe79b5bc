"""Old names, which work for one release."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

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


def rename_fields(**new_names: str) -> Callable[[_Class], _Class]:
    """Return a decorator of a class that keeps old names of attributes and of arguments of its constructor.

    Args:
        new_names: the new name under each old one.
    """

    def decorate(cls: _Class) -> _Class:
        constructor: Any = cls.__init__

        @functools.wraps(constructor)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            for old, new in new_names.items():
                if old in kwargs:
                    warn_renamed(f"{cls.__name__}({old}=...)", f"{cls.__name__}({new}=...)")
                    kwargs[new] = kwargs.pop(old)
            constructor(self, *args, **kwargs)

        cls.__init__ = __init__
        for old, new in new_names.items():
            setattr(cls, old, _renamed_property(cls.__name__, old, new))
        return cls

    return decorate


def _renamed_property(owner: str, old: str, new: str) -> property:
    def read(self: Any) -> Any:
        warn_renamed(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(read, doc=f"Deprecated name of ``{new}``.")
