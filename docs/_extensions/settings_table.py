"""The table of settings, made from the fields of `TracedRouterSettings` when the site is built.

A page asks for it with::

    ```{settings}
    ```
"""

import inspect
import types
from enum import Enum
from typing import Any, get_args, get_origin

from docutils import nodes
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from traced_router import settings


class Settings(SphinxDirective):
    """One row for each setting, in the order of the fields."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        self.env.note_dependency(settings.__file__)
        return self.parse_text_to_nodes(table())


def table() -> str:
    """All settings as a Markdown table."""
    fields = settings.TracedRouterSettings.model_fields
    rows = [f"| {_names(name)} | {_type(f.annotation)} | {_default(f)} | {_doc(f)} |" for name, f in fields.items()]
    return "\n".join(["| setting and variable | type | default | meaning |", "|---|---|---|---|", *rows])


def _names(setting: str) -> str:
    return f"`{setting}`<br>`{settings.PREFIX}{setting.upper()}`"


def _type(annotation: Any) -> str:
    if isinstance(annotation, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    named = annotation.__name__ if inspect.isclass(annotation) and not get_origin(annotation) else str(annotation)
    return f"`{named}`".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see its meaning"
    return "not set" if field.default is None else f"`{field.default}`"


def _doc(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directive."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
