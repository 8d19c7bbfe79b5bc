"""Old names, which work for one release."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Any


class Unset(Enum):
    """The default of an argument under its old name, which tells whether any value was passed."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "unset"


UNSET = Unset.UNSET


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


def renamed(value: Any, new: str, old_value: Any, old: str) -> Any:
    """Return the value of an argument, which may come under its old name; that warns the caller's caller.

    Raises:
        TypeError: it comes under both names.
    """
    if old_value is UNSET:
        return value
    if value is not None:
        raise TypeError(f"Invalid {old}: {old_value!r}; expected {new} alone, its new name; leave {old} out.")
    warn_renamed(old, new, stacklevel=4)
    return old_value
