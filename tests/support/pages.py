"""The texts for readers: README, and the pages of the documentation."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FOLDER = ROOT / "notebooks"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for path in FOLDER.rglob("*.md") if ".ipynb_checkpoints" not in path.parts),
]


def text(name: str) -> str:
    """Return a page of the documentation by its name, with lines joined as a reader sees them."""
    return " ".join((FOLDER / "pages" / f"{name}.md").read_text(encoding="utf-8").split())
