"""Check finished traces against the contract: :func:`check_trace`.

For tests (``assert check_trace(recorder.spans()) == []``) and, since it costs some fifty
microseconds a span and looks at each span once, for a span processor in a live program.

The rules are in :mod:`traced_router.testing._conformance_rules`, one function each. This module
must not know any of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from traced_router.testing._conformance_rules import RULES, Rule
from traced_router.testing._conformance_tree import ours
from traced_router.testing._recorder import Node

MAX_STRING: Final = 1024
"""Characters of an attribute's value, unless the caller has another limit in force."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the rule's name, the span's name, and what is wrong, in plain words."""

    rule: str
    span: str
    message: str

    def __str__(self) -> str:
        return f"{self.span}: {self.message} [{self.rule}]"


def _by_kind() -> dict[str, list[Rule]]:
    table: dict[str, list[Rule]] = {}
    for rule, kinds in RULES:
        for kind in kinds:
            table.setdefault(kind, []).append(rule)
    return table


_RULES_OF: Final = _by_kind()


def check_trace(spans: Iterable[ReadableSpan | Node], *, max_string: int = MAX_STRING) -> list[Violation]:
    """What the spans of one or more traces do against the contract; an empty list when they keep it.

    Spans that are not the router's (the caller's above, other instrumentations' below an attempt)
    are ignored. Give whole traces: a span whose parent is missing counts as an orphan. From
    ``recorder.trees()`` open spans are seen as well.

    ``max_string``: the limit in force for the length of attribute values, in characters.
    """
    return [
        Violation(rule.__name__, span.node.name, message)
        for span in ours(spans, max_string)
        for rule in _RULES_OF[span.kind]
        for message in rule(span)
    ]
