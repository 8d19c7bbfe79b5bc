"""Files that are written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scrapl_optim import checkpoint
from scrapl_optim.checkpoint import write_atomically

__all__ = ["claimed_folder", "save_checkpoint", "write_atomically", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint."""
    checkpoint.save_checkpoint(state, path)


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make sure that a folder can be written to before hours of work; a new one that stays empty is removed.

    Raises:
        OSError: it cannot be created or written to.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it was never made, or it holds results
                path.rmdir()
