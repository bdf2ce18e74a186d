"""Configuration of the documentation's site: `make docs`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "traced-router"
author = "the traced-router authors"
version = release = installed("traced-router")

extensions = [
    "attribute_tables",
    "endpoint_table",
    "myst_parser",
    "settings_table",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_extensions"]

# Furo has no web fonts and no CDN: the site reads the same without a network.
html_theme = "furo"
html_title = "traced-router"
html_static_path = ["_static"]
html_css_files = ["trees.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# Single backticks in docstrings are code, as in Markdown.
default_role = "code"

# Other projects' names have no page here, and the site is built without asking theirs.
nitpick_ignore_regex = [
    (r"py:.*", r"(litellm|opentelemetry|pydantic|pydantic_settings)\..*"),
    (r"py:.*", r"(abc|asyncio|collections|contextvars|datetime|functools|math|pathlib)\..*"),
    (r"py:.*", r"(random|threading|time|types|typing)\..*"),
    (r"py:.*", r"logging(\..*)?"),
    (r"py:class", r"AnyValue"),  # an alias inside opentelemetry, which its annotations name without the module
]


def setup(app: Sphinx) -> None:
    """Tell Sphinx of what is below."""
    app.connect("autodoc-process-signature", readable_signature)


def readable_signature(*event: object) -> tuple[object, object]:
    """Show a dataclass's default factory as ``...``: Sphinx cannot parse a signature with ``<factory>`` in it."""
    signature, returns = event[-2:]
    return signature.replace("<factory>", "...") if isinstance(signature, str) else signature, returns
