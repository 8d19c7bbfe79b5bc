"""The documentation builds without a warning, names every public object, and shows every page and option."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import FOLDER, PAGES, ROOT

pytest.importorskip("sphinx", reason="needs Sphinx: pip install '.[docs]'")
pytest.importorskip("myst_nb", reason="needs MyST-NB: pip install '.[docs]'")
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the settings read TOML")

PUBLIC = (
    "scrapl_jtfs",
    "scrapl_jtfs.experimental",
    "scrapl_optim",
    "scrapl_optim.experimental",
    "scrapl_optim.testing",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    (command,) = re.findall(r"\$\(BIN\)/python -m sphinx (.*) build/docs$", (ROOT / "Makefile").read_text(), re.M)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *command.split(), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_builds_without_warnings_or_network(site: Path) -> None:
    assert (site / "index.html").stat().st_size > 1000
    settings = (FOLDER / "conf.py").read_text()
    assert "intersphinx" not in settings
    assert "nitpicky = True" in settings


def test_every_public_name_has_an_entry(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    entries = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    missing = []
    for module in PUBLIC:
        names = importlib.import_module(module).__all__
        assert names
        missing += [f"{module}.{name}" for name in names if f"{module}.{name}" not in entries]
    assert not missing
    assert {"scrapl_optim.reference.Algorithm1", "scrapl_jtfs.reference.ReferenceJTFS"} <= entries


def test_mathematics_and_references_are_rendered(site: Path) -> None:
    """As reST, not as its source."""
    page = (site / "api/scrapl_optim.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20
    assert not re.search(r":(?:class|func|meth|math):`", re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL))


def test_docstrings_are_read_as_they_are_meant(site: Path) -> None:
    """No "(9)" or "P." becomes a list, properties have sections, former names of arguments are not shown."""
    for path in (site / "api").glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert "<ol" not in page, path.name
        assert "Raises:</p>" not in page, path.name
        assert "Raises: " not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL), path.name
        assert "unset" not in re.sub(r"<[^>]+>", "", page), path.name
        assert "[source]" in page, path.name


def test_every_page_is_in_a_table_of_contents(site: Path) -> None:
    listed = re.findall(r"^([\w/]+)$", (FOLDER / "index.md").read_text(), flags=re.MULTILINE)
    pages = [path for path in PAGES if FOLDER in path.parents] + sorted(FOLDER.glob("*.ipynb"))
    assert {path.relative_to(FOLDER).with_suffix("").as_posix() for path in pages} == {"index", *listed}
    assert all((site / f"{name}.html").exists() for name in listed)


def test_every_option_of_the_command_is_on_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    from scrapl_jtfs.commands import COMMANDS, main

    page = (FOLDER / "pages/commands.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        options = set(re.findall(r"(--[\w-]+)", capsys.readouterr().out)) - {"--help"}
        (section,) = re.findall(rf"^## {command}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
        assert options
        assert options <= set(re.findall(r"(--[\w-]+)", section)), command


@pytest.mark.parametrize("package", ["scrapl_jtfs", "scrapl_optim"])
def test_the_equation_map_of_a_package_names_what_is_there(package: str) -> None:
    docstring = importlib.import_module(package).__doc__ or ""
    named = re.findall(r"``([\w.]+)``", docstring[docstring.index("====") : docstring.rindex("====")])
    assert len(named) >= 5
    for name in named:
        inside = not name.startswith(("scrapl_jtfs", "scrapl_optim"))
        assert pkgutil.resolve_name(f"{package}.{name}" if inside else name) is not None
