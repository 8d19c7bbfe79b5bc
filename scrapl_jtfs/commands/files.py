"""Files written whole or not at all: scrapl_optim.checkpoint for checkpoints, texts and figures."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scrapl_optim import checkpoint
from scrapl_optim.checkpoint import write_atomically

__all__ = ["claimed_folder", "save_checkpoint", "write_atomically", "write_text"]


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    checkpoint.save_checkpoint(state, path)


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make sure that `folder`, new or not, can be written to before hours of work; leave no empty one behind.

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
            with suppress(OSError):  # never made, or it holds results
                path.rmdir()
