"""Files written whole or not at all: scrapl_optim.checkpoint for checkpoints, texts and figures."""

from pathlib import Path
from typing import Any

from scrapl_optim import checkpoint
from scrapl_optim.checkpoint import write_atomically

__all__ = ["save_checkpoint", "write_atomically", "write_text"]


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    checkpoint.save_checkpoint(state, path)
