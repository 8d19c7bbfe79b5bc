"""The rules that every module of the packages keeps: imports, words of errors, docstrings, nothing printed."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("scrapl_optim", "scrapl_jtfs")
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}

# Internal modules of scrapl_optim that scrapl_jtfs shares, to word and check alike.
SHARED = {"scrapl_optim._deprecation", "scrapl_optim._text", "scrapl_optim._validation"}
# Modules that import the internal folder of another module of their package, beside that module and the folder.
GUESTS = {
    # Public records that live where they are made, and what users choose with their own arguments.
    "scrapl_jtfs": {"scrapl_jtfs._describe", "scrapl_jtfs._transform"},
    "scrapl_jtfs.commands.describe": {"scrapl_jtfs._describe"},
    "scrapl_jtfs.transform": {"scrapl_jtfs._describe"},
    "scrapl_jtfs.features": {"scrapl_jtfs._transform"},
    "scrapl_jtfs.scrapl": {"scrapl_jtfs._transform"},
    "scrapl_optim.experimental.storages": {"scrapl_optim._path_adam_saga"},
    # The second-order version of the transform is made of the same layers, and paths of the same filters.
    "scrapl_jtfs.paths": {"scrapl_jtfs._transform"},
    "scrapl_jtfs.taylor": {"scrapl_jtfs._transform"},
    # Images are checked, and constants kept exact, as signals are.
    "scrapl_jtfs.image_scattering": {"scrapl_jtfs._transform"},
    "scrapl_jtfs._image_scattering": {"scrapl_jtfs._transform"},
    # Time scattering is made of the same layers as well.
    "scrapl_jtfs.time_scattering": {"scrapl_jtfs._transform"},
    "scrapl_jtfs._time_scattering": {"scrapl_jtfs._transform"},
    # A folder that describes or draws what another one computes.
    "scrapl_jtfs._describe": {"scrapl_jtfs._transform"},
    "scrapl_jtfs._features": {"scrapl_jtfs._transform"},
    "scrapl_jtfs._figures": {"scrapl_jtfs._features"},
}
CHECKED_ERRORS = {
    "FileNotFoundError",
    "FloatingPointError",
    "IndexError",
    "RuntimeError",
    "TypeError",
    "ValueError",
}
WORDING = re.compile(r"Invalid [^;]+: .+; expected .*([^.\s]|\.\.\.)\Z")
# Openings of other errors, by module; "{}" stands for a value.
OTHER_WORDING = {
    # As Python words it.
    "scrapl_optim._importance.old_call": {"theta_importance() got an unexpected keyword argument {}"},
    # "FILE: problem; remedy", as the commands print it.
    "scrapl_jtfs.commands.audio": {"{}: "},
    "scrapl_jtfs.commands.describe": {"{}: {} Hz, and {} {} Hz; expected one sample rate"},
}
# Public names without an example of their own.
NO_EXAMPLE = {
    "scrapl_optim.AlignedProbs": "returned by aligned_probs",
    "scrapl_optim.Progress": "passed to the callable of theta_importance",
    "scrapl_optim.ThetaImportance": "returned by theta_importance",
    "scrapl_optim.load_probs": "reads the file again in the example of save_probs",
    "scrapl_jtfs.Description": "returned by JTFSPath.describe",
    "scrapl_jtfs.Features": "returned by JTFSPath.features",
    "scrapl_jtfs.FirstLayer": "returned by JTFSPath.first_layer",
    "scrapl_jtfs.ImagePath": "an entry of ImageScattering.paths",
    "scrapl_jtfs.Importance": "returned by importance_probabilities",
    "scrapl_jtfs.Path": "an entry of JTFSPath.paths",
    "scrapl_jtfs.Resynthesis": "returned by resynthesize",
    "scrapl_jtfs.ResynthesisProgress": "passed to the callback of resynthesize",
    "scrapl_jtfs.Scalogram": "returned by JTFSPath.scalogram",
    "scrapl_jtfs.Sweep": "returned by sweep",
    "scrapl_jtfs.TextureQuality": "returned by measure_texture",
    "scrapl_jtfs.TimePath": "an entry of TimeScattering.paths",
}


def read(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(), str(MODULES[module]))


def imports(tree: ast.Module) -> Iterator[str]:
    """List what a module imports, functions included, with each name after its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def dialect(module: str, tree: ast.Module) -> Iterator[str]:
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    if body and not (isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__"):
        yield "does not begin with from __future__ import annotations"
    if ast.get_docstring(tree) is None:
        yield "has no docstring"
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        yield "has a relative import"


def silence(module: str, tree: ast.Module) -> Iterator[str]:
    """The command line alone prints, in one place."""
    set_up = {"basicConfig", "dictConfig", "fileConfig", "addHandler", "setLevel"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            printed = name == "print" and module != "scrapl_jtfs.commands.command_line"
            if printed or name in set_up:
                yield f"line {node.lineno}: {name}(...)"


def arrows(module: str, tree: ast.Module) -> Iterator[str]:
    """Internal modules are imported by the module that they belong to, their own folder and few others."""
    for name in imports(tree):
        if module.startswith("scrapl_optim") and name.split(".")[0] == "scrapl_jtfs":
            yield f"imports {name}"
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if re.match(r"_[a-z]", part)), None)
        if parts[0] not in PACKAGES or at is None:
            continue
        internal, owner = ".".join(parts[: at + 1]), ".".join(parts[:at])
        at_home = f"{module}.".startswith((f"{internal}.", f"{owner}.{parts[at][1:]}."))
        # Modules such as _validation are of the whole package.
        is_file = MODULES.get(internal, Path("__init__.py")).name != "__init__.py"
        in_package = is_file and f"{module}.".startswith(f"{owner}.")
        guest = any(
            f"{module}.".startswith(f"{who}.") and internal in of_others
            for who, of_others in GUESTS.items()
            if who not in PACKAGES or who == module
        )
        if not (at_home or in_package or guest or internal in SHARED):
            yield f"imports {name}"


def text_of(node: ast.AST) -> str | None:
    """Return a message with "{}" for its values, None if it is not written where it is raised."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{}"
    if isinstance(node, ast.BinOp):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None else left + (right or "{}")
    return None


def wording(module: str, tree: ast.Module) -> Iterator[str]:
    """Errors read "Invalid NAME: VALUE; expected ...; remedy", without a full stop."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
            continue
        text = text_of(node.exc.args[0])
        if ast.unparse(node.exc.func) not in CHECKED_ERRORS or text is None:
            continue
        # Those that begin with another error's words add to it.
        goes_on = text.startswith("{}; ")
        other = any(text.startswith(opening) for opening in OTHER_WORDING.get(module, ()))
        if not (goes_on or other or WORDING.match(text)):
            yield f"line {node.lineno}: {text}"


def docstrings(module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = (ast.get_docstring(node) or "").partition(" ")[0]
            if first in ("What", "How", "Whether", "Which"):
                yield f"the docstring of {getattr(node, 'name', module)} starts with {first}"


CHECKS: list[Callable[[str, ast.Module], Iterator[str]]] = [dialect, silence, arrows, wording, docstrings]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_modules(check: Callable[[str, ast.Module], Iterator[str]]) -> None:
    problems = [f"{module}: {problem}" for module in MODULES for problem in check(module, read(module))]
    assert len(MODULES) > 100
    assert problems == []


GOOD = '"""Numbers."""\n\nfrom __future__ import annotations\n\n'
BAD = [
    (dialect, '"""Numbers."""\n\nimport math\n', "does not begin with"),
    (dialect, "from __future__ import annotations\n", "no docstring"),
    (dialect, f"{GOOD}from .paths import Path\n", "relative"),
    (silence, f"{GOOD}print(1)\n", r"print"),
    (silence, f"{GOOD}def f(x):\n    assert x\n", "assert"),
    (silence, f"{GOOD}import logging\nlogging.basicConfig()\n", "basicConfig"),
    (arrows, f"{GOOD}import scrapl_jtfs\n", "imports scrapl_jtfs"),
    (arrows, f"{GOOD}def f():\n    from scrapl_jtfs.paths import Path\n", r"imports scrapl_jtfs\.paths"),
    (arrows, f"{GOOD}from scrapl_optim._path_adam_saga.rows import add_row\n", "imports scrapl_optim._path"),
    (arrows, f"{GOOD}from scrapl_optim._path_adam_saga import rows\n", "imports scrapl_optim._path"),
    (arrows, f"{GOOD}from scrapl_optim.testing._numbers import show\n", "imports scrapl_optim.testing._numbers"),
    (wording, f'{GOOD}raise ValueError(f"x must be 3, got {{x}}")\n', "x must be 3, got {}"),
    (wording, f'{GOOD}raise ValueError("Invalid x: 3")\n', "Invalid x: 3"),
    (wording, f'{GOOD}raise ValueError(f"Invalid x; expected {{y}}")\n', "Invalid x; expected"),
    (wording, f'{GOOD}raise TypeError(f"Invalid x: {{x}}; expected 3.")\n', "3."),
    (docstrings, f'{GOOD}def f():\n    """What it does."""\n', "of f starts with What"),
    (docstrings, '"""How it works."""\n', "starts with How"),
]


@pytest.mark.parametrize(("check", "source", "problem"), BAD)
def test_checks_find_problems(
    check: Callable[[str, ast.Module], Iterator[str]], source: str, problem: str
) -> None:
    (message,) = check("scrapl_optim.sampler", ast.parse(source))
    assert re.search(problem, message)


def test_checks_pass_what_is_right() -> None:
    source = (
        f"{GOOD}from scrapl_optim._validation import as_int\nfrom scrapl_optim._sampler.table import Table\n\n\n"
        'def f(x, error):\n    """Return x."""\n    raise ValueError(f"Invalid x: {x}; expected 3; add 1")\n'
        '    raise ValueError(f"{error}; look into x")\n'
    )
    for check in CHECKS:
        assert list(check("scrapl_optim.sampler", ast.parse(source))) == []


def test_lists_of_exceptions_are_short_and_used() -> None:
    """Each guest and each other opening is there for something."""
    hosts = {
        who: {
            ".".join(name.split(".")[:2])
            for module in MODULES
            if f"{module}.".startswith(f"{who}.")
            for name in imports(read(module))
        }
        for who in GUESTS
    }
    assert {who: folders - hosts[who] for who, folders in GUESTS.items()} == {who: set() for who in GUESTS}
    openings = [(module, opening) for module, some in OTHER_WORDING.items() for opening in some]
    for module, opening in openings:
        raised = [
            n.exc.args[0]
            for n in ast.walk(read(module))
            if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call) and n.exc.args
        ]
        assert any((text_of(message) or "").startswith(opening) for message in raised), opening


def test_pages_import_nothing_internal() -> None:
    pages = [page for kind in ("*.py", "*.ipynb", "*.md") for page in (ROOT / "notebooks").rglob(kind)]
    assert len(pages) > 10
    internal = r"(?:from|import) scrapl_[\w.]+\._[a-z]"
    assert re.search(internal, "from scrapl_jtfs._transform import layer")
    assert [page.name for page in pages if re.search(internal, page.read_text())] == []


def without_example(package: str) -> list[str]:
    """List the public names of a package whose docstrings have no example that runs."""
    module = importlib.import_module(package)
    documented = {name: inspect.getdoc(getattr(module, name)) or "" for name in module.__all__}
    return [f"{package}.{name}" for name, text in documented.items() if ">>>" not in text]


def test_public_names_have_examples() -> None:
    lacking = {name for package in PACKAGES for name in without_example(package)}
    assert lacking == set(NO_EXAMPLE)
