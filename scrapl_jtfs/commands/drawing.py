"""Drawing results that are on the disk already: a picture that fails is told, and takes nothing with it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import style

from .command_line import one_line, shown

__all__ = ["PictureError", "drawing", "plain_title"]

_TITLE_LENGTH = 60


class PictureError(RuntimeError):
    """A picture could not be made; what it shows is kept in other files."""


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Draw and write the picture at `path` in this context, whatever the user's matplotlibrc says.

    A picture that an earlier run left at `path` is removed first: it would pass for this run's.

    Raises:
        PictureError: from any exception inside.
    """
    try:
        path.unlink(missing_ok=True)
        with style.context("default"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in letters that the font lacks
            yield
    except Exception as error:  # whatever the drawing library makes of the data
        raise PictureError(
            f"{shown(path)} could not be drawn ({type(error).__name__}: {one_line(error)})"
        ) from error


def plain_title(name: str) -> str:
    """A file's name for a title: on one line, and cut in the middle where it is long."""
    name = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    if len(name) <= _TITLE_LENGTH:
        return name
    half = _TITLE_LENGTH // 2
    return f"{name[: half - 1]}…{name[-half:]}"
