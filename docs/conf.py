"""Configuration of Sphinx."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "sa_history"
author = "The sa_history authors"
copyright = f"2026 {author}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "sa_history"

# The button copies commands without the prompt, and without what they print.
copybutton_prompt_text = "$ "

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# What people look for, and a page that they have to find.
SEARCHES = {
    "audit": "triggers/audit",
    "erase": "proof_and_erasure",
    "GDPR": "how_do_i",
    "retention": "keeping",
    "soft delete": "triggers/soft_delete",
    "tenant": "how_do_i",
}


def check_search(app: Sphinx, error: Exception | None) -> None:
    """Fail if a search of the built site does not find its page."""
    if error or app.builder.name != "html":
        return
    source = Path(app.outdir, "searchindex.js").read_text()
    index = json.loads(source.partition("(")[2].rpartition(")")[0])
    stem = app.builder.indexer.lang.stem
    for search, page in SEARCHES.items():
        number = index["docnames"].index(page)
        for word in search.lower().split():
            found: list[int] = []
            for terms in ("terms", "titleterms"):
                pages = index[terms].get(stem(word), [])
                found += [pages] if isinstance(pages, int) else pages
            if number not in found:
                raise SphinxError(f"a search for {search!r} does not find {page}")


def setup(app: Sphinx) -> None:
    """Have Sphinx call what is ours."""
    app.connect("build-finished", check_search)
