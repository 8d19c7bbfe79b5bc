"""Import of a module of a package without the rest of the package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def import_alone(name: str, *, remedy: str, **names: Any) -> ModuleType:
    """Import a module with what it imports itself, and leave out the ``__init__`` of the packages around it.

    The networks that we use are in modules that need torch and little else, but their packages also import
    readers of sound files, tokenizers and plots (torchaudio, transformers, Matplotlib), or download labels.

    Args:
        name: of the module, with its packages.
        remedy: how to install it.
        names: what the module takes from the package around it, with its value there.

    Raises:
        ValueError: the package, or one that the module needs, is not installed.
    """
    root, *inner = name.split(".")[:-1]
    if root in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"Invalid embedding: no package {root}; expected it to be installed; {remedy}")
    before = set(sys.modules)
    folder, package = Path(spec.submodule_search_locations[0]), root
    _put_stub(package, folder, names)
    for part in inner:
        folder, package = folder / part, f"{package}.{part}"
        _put_stub(package, folder, {})
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"Invalid embedding: {root} does not load ({error}); expected what it needs to be installed; {remedy}"
        ) from error
    finally:
        for module in set(sys.modules) - before:
            if f"{module}.".startswith(f"{root}."):
                del sys.modules[module]


def _put_stub(name: str, folder: Path, names: dict[str, Any]) -> None:
    """Put a package into `sys.modules` that has a folder of modules and these names."""
    stub = ModuleType(name)
    stub.__path__ = [str(folder)]
    vars(stub).update(names)
    sys.modules[name] = stub
