"""Sphinx settings of the documentation; `make docs` writes it to build/docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tomllib
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = f"2026, {author}"
version = release = PROJECT["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_math_renderer = "mathml"  # browsers draw it without a script or the network
html_theme = "furo"
html_title = f"{project} {version}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Notebooks show the outputs that are committed with them; the test suite executes them.
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_type_aliases = {"npt.ArrayLike": "ArrayLike", "Estimate": "Estimate"}
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


def link_top_level_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to files of the top folder lead to the pages that include them."""
    source[0] = re.sub(
        r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG)\.md",
        lambda link: f"](/{link[1].lower()}.md",
        source[0],
    )


# docutils turns TeX into MathML, but for these commands.
PLAIN_TEX = {
    r"\\[bB]igg?(?![a-zA-Z])": "",
    r"\\dots\b": r"\\ldots",
    r"(\\hat (?:\w|\\\w+))_": r"\1{}_",  # else the index lies under the letter
    r"\\tag\{(\d+)\}": r"\\qquad (\1)",
}


def write_mathml(translator: HTML5Translator, node: nodes.Element, is_block: bool) -> None:
    """Write a formula as MathML."""
    tex = node.astext()
    for pattern, plain in PLAIN_TEX.items():
        tex = re.sub(pattern, plain, tex)
    if r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    try:
        shown = tex2mathml(tex, as_block=is_block)
    except MathError as error:
        logger.warning("%s in %s", error, tex, location=node)
        shown = ""
    style = 'style="overflow: auto hidden; padding: 0.5em 0"'
    translator.body.append(f"<div {style}>{shown}</div>" if is_block else shown)
    raise nodes.SkipNode


def link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link code that is a name of ours, such as `scrapl_optim.PathSampler`, to its entry."""
    objects = app.env.domains.python_domain.objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext()
        entry = objects.get(name) or objects.get(f"{docname.removeprefix('api/')}.{name}")
        if entry is not None and not isinstance(literal.parent, nodes.reference):
            link = make_refnode(
                app.builder, docname, entry.docname, entry.node_id, literal.deepcopy()
            )
            literal.replace_self(link)


def skip_field(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a NamedTuple, which its docstring describes under Attributes."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def simplify_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: Any
) -> tuple[str | None, Any]:
    """Write aliases in unions by their names, and leave out arguments under former names."""
    if signature:
        signature = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", signature)
        signature = signature.replace(", **deprecated: Any", "")
    return signature, returned


def show_annotation(
    app: Sphinx, env: Any, node: nodes.Element, contnode: nodes.Node
) -> nodes.Node | None:
    """Show a type in a signature that has no page, such as Tensor, without a link."""
    parent = node.parent
    while parent is not None and not isinstance(parent, addnodes.desc_signature):
        parent = parent.parent
    return contnode if parent is not None else None


def parse_property(self: GoogleDocstring) -> list[str]:
    """Parse the docstring of a property as that of a method, with sections.

    Napoleon reads what precedes a colon in the first line of a property as its type; in our
    docstrings it is part of a sentence.
    """
    self._what = "method"
    self._parse()
    lines, self._parsed_lines = self._parsed_lines, []
    return lines


def setup(app: Sphinx) -> None:
    GoogleDocstring._parse_attribute_docstring = parse_property
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # in place of "Variables"
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda translator, node: write_mathml(translator, node, False), None),
        block_renderers=(lambda translator, node: write_mathml(translator, node, True), None),
    )
    app.connect("source-read", link_top_level_pages)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("autodoc-process-signature", simplify_signature)
    app.connect("doctree-resolved", link_names)
    app.connect("missing-reference", show_annotation)
