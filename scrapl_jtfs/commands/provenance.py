"""Where figures come from: configuration of a run folder, machine, versions."""

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


def check_configuration(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder that holds results of another configuration.

    Raises:
        ValueError: it does, it is a file, or what it says of its configuration cannot be read.
    """
    path = folder / CONFIGURATION
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a folder")
    if not path.exists():
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a run ({error}): choose another --out") from error
    differences = [
        f"{key}: {found.get(key)!r} there, {wanted.get(key)!r} now"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    if differences:
        raise ValueError(
            f"the run folder {folder} holds results of another configuration "
            f"({'; '.join(differences)}): choose another --out, repeat the original settings, or delete the folder"
        )


def machine(device: torch.device) -> dict[str, Any]:
    """What the run was made on."""
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
    """Versions of Python and of some packages."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that was not installed
        return "not installed"
