"""The files in which benchmarks leave what they measure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scrapl_jtfs.commands.files import write_text

_CHUNK = 1 << 20
COMMITTED = Path("benchmarks/results")
"""Folder of the results that the documentation quotes."""


def run_folder(name: str) -> Path:
    """Return the folder of what a benchmark measures in part, or has not measured to the end."""
    return Path("runs") / name


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Undo what JSON does to the fields of a record: tuples, and tuples of them, come back as lists."""
    return {name: _as_tuple(value) for name, value in fields.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
