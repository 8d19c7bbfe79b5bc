"""Drawing of results that are on the disk already, which a failure leaves there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import style

from scrapl_jtfs.commands.command_line import one_line, shown

__all__ = ["PictureError", "drawing", "plain_title"]

_TITLE_LENGTH = 60


class PictureError(RuntimeError):
    """Failure of a picture, whose content is kept in other files."""


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Give a context to draw and write the picture at ``path``, in matplotlib's default style.

    A picture that an earlier run left at ``path`` is removed first, since it would pass for one of this run.

    Raises:
        PictureError: an exception was raised inside.
    """
    try:
        path.unlink(missing_ok=True)
        with style.context("default"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in letters that the font lacks
            yield
    except Exception as error:  # matplotlib raises errors of many kinds
        raise PictureError(
            f"{shown(path)} could not be drawn ({type(error).__name__}: {one_line(error)})"
        ) from error


def plain_title(name: str) -> str:
    """Return the name of a file for a title: on one line, and cut in the middle if it is long."""
    name = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    if len(name) <= _TITLE_LENGTH:
        return name
    half = _TITLE_LENGTH // 2
    return f"{name[: half - 1]}…{name[-half:]}"
