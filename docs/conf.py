"""The site of the documents: `make docs`.

The sources are the files of the repository, so that a link in one of them is right in both places.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from lpot_lightning.version import VERSION

ROOT = Path(__file__).parents[1]
PAGES = {"lpot_lightning/conf/templates": "docs/reference/templates"}
"""Folders of the repository that have a page."""

project = "lpot_lightning"
release = version = VERSION
project_copyright = "the authors of lpot_lightning, Apache-2.0"
html_title = f"{project} {VERSION}"

root_doc = "docs/index"
include_patterns = [
    *("*.md", "docs/**", "benchmarks/RESULTS.md"),
    *("examples/*/README.md", "tests/attacks/README.md"),
]
exclude_patterns = ["docs/_build", ".venv*", ".git"]
source_suffix = {".md": "markdown"}

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
# Types of others, whose pages a build without a network cannot look up, and short names of types.
ALIASES = r"Path|Model|Module|Result|Spread|Origin|Source|Choice|\w*(Conf|Facts|Status)"
nitpick_ignore_regex = [
    ("py:class", r"(torch|lightning|collections|os|pathlib|nn)\..*"),
    ("py:class", rf"(lpot_lightning\.[\w.]+\.)?({ALIASES})"),
]
myst_heading_anchors = 4
default_role = "code"
highlight_language = "python"

autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True

html_theme = "furo"
html_extra_path = ["_root"]
html_show_sourcelink = False
html_copy_source = False


def leave_out(app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any) -> bool:
    """Leave out what others define, and the hooks that a Trainer calls."""
    member = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))
    foreign = not str(getattr(member, "__module__", project)).startswith(project)
    return skip or foreign or bool(getattr(member, "__override__", False))


def shorter(app: Sphinx, what: str, name: str, found: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out how records are made: they come back from a run."""
    return ("", None) if what == "class" and dataclasses.is_dataclass(found) else None


def folders(app: Sphinx, doctree: nodes.document) -> None:
    """Send links to a folder of the repository to its page, and leave others as text."""
    here = Path(app.env.docname).parent
    for node in list(doctree.findall(addnodes.pending_xref)):
        folder = os.path.normpath(here / node["reftarget"])
        if node["reftype"] != "myst" or not (ROOT / folder).is_dir():
            continue
        if folder in PAGES:
            node["refdomain"], node["reftarget"], node["reftargetid"] = "doc", PAGES[folder], None
        else:
            node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-signature", shorter)
    app.connect("doctree-read", folders)
