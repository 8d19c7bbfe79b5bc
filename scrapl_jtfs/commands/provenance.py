"""Provenance of results: configuration of their folder, machine and versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["CONFIGURATION", "check_configuration", "machine", "versions"]

CONFIGURATION = "config.json"


def check_configuration(folder: Path, configuration: dict[str, Any]) -> None:
    """Raise unless a folder is new, or holds results of this configuration.

    Raises:
        ValueError: the results are of another configuration, or of none that can be read; or it is a file.
    """
    path = folder / CONFIGURATION
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Invalid --out: {folder}; expected a folder, not a file; name a folder")
    if not path.exists():
        return
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Invalid --out: {folder}; expected the configuration of a run in {path.name} ({error}); choose "
            "another --out"
        ) from error
    differences = [
        f"{key}: {earlier.get(key)!r} there, {configuration.get(key)!r} now"
        for key in sorted(earlier.keys() | configuration.keys())
        if earlier.get(key) != configuration.get(key)
    ]
    if differences:
        raise ValueError(
            f"Invalid --out: {folder}; expected no results of another configuration ({'; '.join(differences)}); "
            "choose another --out, repeat the original settings, or delete the folder"
        )


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine of a run."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of some packages."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that was not installed
        return "not installed"
