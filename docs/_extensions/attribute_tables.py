"""The attribute tables of the reference, made from `traced_router._names` when the site is built.

A page asks for the table of one span, or of what several spans share::

    ```{attributes} attempt
    ```
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from traced_router import _names

SHOWN = {object: "`str`, `int`, `float` or `bool`", tuple: "`tuple` of `str`"}


class Attributes(SphinxDirective):
    """One table: the attributes of the span named by the argument, in the order of the contract."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        span = self.arguments[0]
        if span not in _names._ALL_SPANS:  # noqa: SLF001 - the documentation of this very module
            raise self.error(f"{span!r} is no span; there are: {', '.join(_names._ALL_SPANS)}.")  # noqa: SLF001
        self.env.note_dependency(_names.__file__)
        return self.parse_text_to_nodes(table(span))


def table(span: str) -> str:
    """The attributes of ``span`` as a Markdown table."""
    rows = [
        f"| `{attribute.key}` | {SHOWN.get(attribute.type, f'`{attribute.type.__name__}`')} | {attribute.doc} |"
        for attribute in _names.ATTRIBUTES
        if span in attribute.spans
    ]
    return "\n".join(["| attribute | type | meaning |", "|---|---|---|", *rows])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directive."""
    app.add_directive("attributes", Attributes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
