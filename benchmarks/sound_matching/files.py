"""Files written whole or not at all: write beside, then rename."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["save_checkpoint", "write_atomically", "write_text"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a path beside `path` with the same suffix, then rename it: a crash leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())  # the content must be on disk before the name points to it
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    write_atomically(path, lambda beside: torch.save(state, beside))
