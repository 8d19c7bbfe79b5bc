"""Sphinx settings of the documentation; `make docs` writes it to build/docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tomllib
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = f"2026, {author}"
version = release = PROJECT["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = f"{project} {version}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Notebooks show the outputs that are committed with them; the test suite executes them.
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Attributes become a list, since autodoc gives members entries of their own.
napoleon_use_ivar = True
napoleon_attr_annotations = False

# Every cross-reference of a docstring or a page must lead somewhere. Nothing is fetched at build
# time, hence names of other projects are shown without a link.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(torch|numpy|matplotlib|hypothesis|xarray)\..*")]
nitpick_ignore_regex += [
    ("py:.*", r"scrapl_optim\.(eigenvalue|encoder_curvature|shared_subspace)\..*")
]


def link_top_level_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to files of the top folder lead to the pages that include them."""
    source[0] = re.sub(
        r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG)\.md",
        lambda link: f"](/{link[1].lower()}.md",
        source[0],
    )


def skip_field(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a NamedTuple, which its docstring describes under Attributes."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def show_annotation(
    app: Sphinx, env: Any, node: nodes.Element, contnode: nodes.Node
) -> nodes.Node | None:
    """Show a type in a signature that has no page, such as Tensor, without a link."""
    parent = node.parent
    while parent is not None and not isinstance(parent, addnodes.desc_signature):
        parent = parent.parent
    return contnode if parent is not None else None


def setup(app: Sphinx) -> None:
    # Napoleon reads what precedes a colon in the first line of a property as its type; in our
    # docstrings it is part of a sentence.
    GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end
    app.connect("source-read", link_top_level_pages)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("missing-reference", show_annotation)
