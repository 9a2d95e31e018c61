"""Configuration of the documentation; `make docs` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

from peernet._version import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "peernet"
author = "The peernet authors"
copyright = "2026, The peernet authors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton", "peernet_tables"]
exclude_patterns = ["_build"]
nitpicky = False

# What names no language is a file, an output, or a line for a shell, and never Python.
highlight_language = "text"
# Two hyphens in the help of a command are an option, and no dash.
smartquotes_action = "q"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["transcripts.css"]
html_title = f"peernet {__version__}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Of parameters, those that the text describes; what is returned, always.
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True}
# As fields of the class, not as members beside those that autodoc finds.
napoleon_use_ivar = True
