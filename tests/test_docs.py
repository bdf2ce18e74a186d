"""Runs every Python block of the README and of the documentation, page by page, as a reader would type it.

A page's blocks share one namespace and one event loop, and `await` is allowed outside a function. What a block
needs and a reader need not see stands in the page itself, in a comment that opens with `<!-- python`.
"""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

from traced_router import _configure
from traced_router._litellm import BATCHES, ENTRIES
from traced_router._names import COUNTER, HISTOGRAM, METRICS, UP_DOWN_COUNTER
from traced_router.testing import FakeProvider

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"""^(?P<indent>[ ]*)
        (?: (?P<fence>`{3,}|~{3,}) [ ]* | <!--[ ]* ) (?P<language>\S*) .* \n
        (?P<code> (?:.*\n)*? )
        (?P=indent) (?(fence)(?P=fence)|-->) [ ]*$""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    lines_above: int
    code: str


def blocks(page: str) -> Iterator[Block]:
    for match in BLOCK.finditer(page):
        if match["language"] in {"python", "py"}:
            yield Block(page.count("\n", 0, match.start("code")), dedent(match["code"]))


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What a page finds: keys, providers that answer without a network, and no tracing set up yet."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_configure, "_made", [])
    for signal in ("METRICS", "LOGS"):  # their providers would outlive the page
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    with FakeProvider() as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
        monkeypatch.setenv("OPENAI_API_BASE", provider.api_base("openai"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-fake")
        monkeypatch.setenv("ANTHROPIC_API_BASE", f"{provider.url}/anthropic")
        yield {"__name__": "__main__", "provider": provider}


@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p.read_text("utf-8")))], ids=lambda p: p.name)
def test_the_blocks_of_a_page_run(page: Path, surroundings: dict[str, object]) -> None:
    with asyncio.Runner() as runner:
        for block in blocks(page.read_text("utf-8")):
            # Empty lines in front: a traceback then points at the line of the page.
            code = compile("\n" * block.lines_above + block.code, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, surroundings))  # noqa: S307 - our own documentation
            else:
                exec(code, surroundings)  # noqa: S102 - our own documentation


def test_every_method_stands_in_the_table_of_entry_points() -> None:
    page = (ROOT / "docs" / "reference" / "entry-points.md").read_text("utf-8")
    said = {
        name: row["operation"]
        for row in re.finditer(r"^\| (?P<names>`[^|]*) \| (?P<operation>[^|]*) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row["names"])
    }
    assert {entry.name: said.get(entry.name) for entry in ENTRIES} == {e.name: f"`{e.operation}`" for e in ENTRIES}
    assert set(BATCHES) <= set(said)


def test_the_queries_of_the_metrics_page_ask_for_metrics_that_there_are() -> None:
    page = (ROOT / "docs" / "guides" / "metrics.md").read_text("utf-8")
    queries = "".join(block["code"] for block in BLOCK.finditer(page) if block["language"] == "promql")
    asked = set(re.findall(r"\b(?:traced_router|gen_ai)_\w+(?=\{| offset|\)|\[|\n)", queries))
    series, keys = set(), set()
    for metric in METRICS.values():
        unit = {"s": "_seconds", "USD": "_USD"}.get(metric.unit, "")
        name = metric.name.replace(".", "_") + unit
        endings = {COUNTER: ("_total",), HISTOGRAM: ("_bucket", "_sum", "_count"), UP_DOWN_COUNTER: ("",)}[metric.kind]
        series |= {name + ending for ending in endings}
        keys |= {key.replace(".", "_") for key in metric.keys}
    assert asked - keys <= series
    assert len(asked & series) > 10


def test_blocks_are_found_shown_or_hidden_and_only_in_python() -> None:
    page = """\
# Title

```python
shown = 1
```

```text
python
```

- a list

  ```python title="indented"
  if shown:
      indented = 2
  ```

<!-- python
hidden = 3
-->

````markdown
```python
a block inside a block is Markdown
```
````
"""
    assert list(blocks(page)) == [
        Block(3, "shown = 1\n"),
        Block(13, "if shown:\n    indented = 2\n"),
        Block(18, "hidden = 3\n"),
    ]
