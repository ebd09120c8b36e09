"""Configuration of Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "sa_history"
author = "The sa_history authors"
copyright = f"2026 {author}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "conftest.py"]

html_theme = "furo"
html_title = "sa_history"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
