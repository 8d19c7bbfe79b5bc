"""What an import of the packages brings along, and what the wheel is made of."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = ("matplotlib", "torchaudio", "hypothesis", "scipy", "kymatio", "pandas", "tqdm", "IPython")


def modules_after(statement: str) -> set[str]:
    code = f"import sys, torch; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    return set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize("package", ["scrapl_jtfs", "scrapl_optim"])
def test_import_brings_in_nothing_heavy(package: str) -> None:
    found = modules_after(f"import {package}")
    assert package in found
    assert not [name for name in found if name.split(".")[0] in FORBIDDEN]
    assert not [name for name in found if name.startswith("scrapl_jtfs.commands") or name == "soundfile"]


def test_the_optimizer_knows_nothing_of_audio() -> None:
    assert not [name for name in modules_after("import scrapl_optim") if name.startswith("scrapl_jtfs")]
    for source in (ROOT / "scrapl_optim").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("scrapl_jtfs")], source


def test_every_package_is_listed_typed_and_licensed() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for init in [*ROOT.glob("scrapl_*/__init__.py"), *ROOT.glob("scrapl_*/*/__init__.py")]:
        name = ".".join(init.parent.relative_to(ROOT).parts)
        assert f'"{name}"' in listed, name
    assert (ROOT / "scrapl_jtfs" / "py.typed").exists()
    assert (ROOT / "scrapl_optim" / "py.typed").exists()
    assert "MIT" in (ROOT / "LICENSE").read_text()
