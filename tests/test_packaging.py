"""What an import of the packages brings along, and what the wheel is made of."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_every_folder_of_code_is_a_package_typed_and_licensed() -> None:
    """setuptools takes the folders that have an __init__.py; one without would be missing in the wheel."""
    project = (ROOT / "pyproject.toml").read_text()
    for name in ("scrapl_jtfs", "scrapl_optim"):
        assert f'"{name}", "{name}.*"' in project
        assert (ROOT / name / "py.typed").exists()
        assert not [f for f in (ROOT / name).rglob("*.py") if not (f.parent / "__init__.py").exists()]
    assert "MIT" in (ROOT / "LICENSE").read_text()


def test_citation_project_and_changelog_agree() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (version,) = re.findall(r'^version = "(.+)"', project, flags=re.MULTILINE)
    assert citation["version"] == version
    newest = re.findall(r"^## (\S+)(.*)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]
    assert newest[0] == version.removesuffix(".dev0")
    assert ("unreleased" in newest[1]) == version.endswith(".dev0")
    assert [author["name"] for author in citation["authors"]] == re.findall(r'authors = .*name = "(.+)"', project)
    paper = citation["preferred-citation"]
    assert paper["url"] in project
    bibtex = (ROOT / "README.md").read_text().partition("```bibtex")[2]
    assert paper["title"] in bibtex.replace("{", "").replace("}", "")
    assert all(f"{a['given-names']} {a['family-names']}" in bibtex for a in paper["authors"])
    assert f"Copyright (c) 2026 {citation['authors'][0]['name']}" in (ROOT / "LICENSE").read_text()


def test_commits_are_looked_at_by_the_locked_ruff() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[:2] for hook in hooks] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
    ]
    assert re.search(r"^ruff==", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
