"""The notebooks run from start to end, and what is committed of them is what a reader should see."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="notebooks need a kernel: pip install '.[notebooks]'")
nbclient: Any = pytest.importorskip("nbclient", reason="needs nbclient: pip install '.[notebooks]'")
nbformat: Any = pytest.importorskip("nbformat", reason="needs nbformat: pip install '.[notebooks]'")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 1_500_000
SECONDS = 180
# Base64 has slashes, but none of these between quotes, blanks or brackets.
ABSOLUTE = re.compile(r"(?<![\w/+])/(?:work|tmp|home|root|usr|mnt)/\w")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output: Any) -> Iterator[str]:
    """Yield what an output shows in letters."""
    yield output.get("text", "")
    for mime, content in output.get("data", {}).items():
        if mime.startswith("text/"):
            yield content


def kinds(cell: Any) -> set[str]:
    """Return what a cell shows: streams by name, data by type."""
    found: set[str] = set()
    for output in cell.outputs:
        found |= {output.name} if output.output_type == "stream" else set(output.get("data", {}))
    return found


def test_there_are_eight() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{i}_" for i in range(1, 9)]
    readme = (FOLDER / "README.md").read_text()
    assert all(f"({path.name})" in readme for path in NOTEBOOKS)


@each_notebook
def test_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    committed = read(path)
    notebook = read(path)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Nobody's own settings of IPython or matplotlib take part.
    env = os.environ | {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    env |= {"PYTHONPATH": os.pathsep.join(places)}
    env.pop("MPLBACKEND", None)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute(env=env)  # raises at the first error
    for before, after in zip(code_cells(committed), code_cells(notebook), strict=True):
        assert kinds(after) == kinds(before), f"cell {after.id} shows other kinds of output than committed"


@each_notebook
def test_committed_outputs_are_whole(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run all cells in order, then save"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@each_notebook
def test_committed_files_are_fit_to_be_read(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    notebook = read(path)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    found = [text for cell in code_cells(notebook) for output in cell.outputs for text in texts(output)]
    assert not [text[:200] for text in found if ABSOLUTE.search(text)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", cell.source)
            local = [link for link in links if not link.startswith("http")]
            assert all((FOLDER / link).exists() for link in local), local


def test_notebooks_do_without_scrapl_loss_and_the_network() -> None:
    unwanted = re.compile(r"^\s*(?:from|import) (?:scrapl|requests|urllib)(?:\.|\s|$)", re.MULTILINE)
    for path in NOTEBOOKS:
        for cell in code_cells(read(path)):
            assert not unwanted.search(cell.source), path.name
