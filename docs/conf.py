"""Configuration of the documentation; `make docs` builds it."""

from __future__ import annotations

from peernet._version import __version__

project = "peernet"
author = "The peernet authors"
copyright = "2026, The peernet authors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "furo"
html_title = f"peernet {__version__}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
