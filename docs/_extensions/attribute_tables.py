"""The tables of attributes and of metrics, made from `traced_router._names` when the site is built.

A page asks for the table of one span, or of what several spans share::

    ```{attributes} attempt
    ```

or for that of all metrics, of their buckets, or of a vocabulary's names::

    ```{metrics}
    ```
    ```{metric-buckets}
    ```
    ```{vocabulary} openinference
    ```
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from traced_router import _names, vocabularies

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


class Metrics(SphinxDirective):
    """One table: the metrics, in the order of the contract."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        self.env.note_dependency(_names.__file__)
        return self.parse_text_to_nodes(metrics_table())


def metrics_table() -> str:
    """The metrics as a Markdown table."""
    rows = [
        f"| `{m.name}` | {m.kind}, `{m.unit}` | {m.doc} | {', '.join(f'`{key}`' for key in m.keys)} |"
        for m in _names.METRICS.values()
    ]
    return "\n".join(["| metric | kind and unit | meaning | attributes |", "|---|---|---|---|", *rows])


class MetricBuckets(SphinxDirective):
    """One table: the buckets of the histograms."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        self.env.note_dependency(_names.__file__)
        return self.parse_text_to_nodes(buckets_table())


def buckets_table() -> str:
    """The histograms' boundaries as a Markdown table; those that share them share a row."""
    named: dict[tuple[float, ...], list[str]] = {}
    for metric in _names.METRICS.values():
        if metric.bounds:
            named.setdefault(metric.bounds, []).append(f"`{metric.name}`")
    rows = [f"| {', '.join(names)} | {', '.join(f'{b:.10g}' for b in bounds)} |" for bounds, names in named.items()]
    return "\n".join(["| histogram | upper bounds |", "|---|---|", *rows])


class Vocabulary(SphinxDirective):
    """One table: the attributes of the vocabulary named by the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown, and have the page's own parser read it."""
        name = self.arguments[0]
        if name not in vocabularies.VOCABULARIES:
            raise self.error(f"{name!r} is no vocabulary; there are: {', '.join(vocabularies.VOCABULARIES)}.")
        self.env.note_dependency(str(Path(vocabularies.__file__).with_name(f"{name}.py")))
        return self.parse_text_to_nodes(vocabulary_table(name))


def vocabulary_table(name: str) -> str:
    """The attributes of a vocabulary as a Markdown table."""
    rows = [
        f"| `{row.key}` | `{row.type.__name__}` | {_on(row.spans)} | {row.doc} |"
        for row in vocabularies.VOCABULARIES[name].NAMES
    ]
    return "\n".join(["| attribute | type | on | meaning |", "|---|---|---|---|", *rows])


def _on(spans: tuple[str, ...]) -> str:
    return "every span" if len(spans) == len(_names._ALL_SPANS) else ", ".join(spans)  # noqa: SLF001 - as above


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx of the directives."""
    app.add_directive("attributes", Attributes)
    app.add_directive("metrics", Metrics)
    app.add_directive("metric-buckets", MetricBuckets)
    app.add_directive("vocabulary", Vocabulary)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
