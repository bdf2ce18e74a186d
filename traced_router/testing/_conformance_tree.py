"""Find the router's own spans among a trace's spans, and who belongs to whom.

A trace holds more than ours: the caller's spans above, HTTP clients' and other instrumentations'
below the attempts. :func:`ours` picks ours out, says what each is (request, selection, attempt,
backoff, fallback, batch), and hands every request its hops. One pass over the spans and one sort,
no search.

This module must not know the rules (:mod:`traced_router.testing._conformance_rules`), and must not
trust a span to keep them: a name, a type or a parent can be wrong here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from traced_router import _names as n
from traced_router.testing._recorder import Event, Node, node_of

OUR_PREFIXES: Final = ("traced_router.", "litellm.deployment.")
"""Namespaces of attribute keys in which every key is the contract's."""


@dataclass(slots=True, eq=False)
class Ours:
    """One span of ours in its surroundings.

    ``parent`` is the span of ours above it, if there is one. ``selections``, ``attempts`` and
    ``backoffs`` are the direct children of a request or a fallback, which makes each of them a
    hop; ``fallbacks`` are a request's, ``all_attempts`` those of its hops together; ``requests``
    are a batch's. All are sorted by start. ``picked_groups`` are the model groups of a hop's attempts.
    """

    node: Node
    kind: str
    max_string: int
    parent: "Ours | None" = None
    selections: list["Ours"] = field(default_factory=list["Ours"])
    attempts: list["Ours"] = field(default_factory=list["Ours"])
    backoffs: list["Ours"] = field(default_factory=list["Ours"])
    fallbacks: list["Ours"] = field(default_factory=list["Ours"])
    all_attempts: list["Ours"] = field(default_factory=list["Ours"])
    requests: list["Ours"] = field(default_factory=list["Ours"])
    picked_groups: set[str] = field(default_factory=set[str])

    @property
    def hops(self) -> list["Ours"]:
        """A request's hops: itself, then its fallbacks."""
        return [self, *self.fallbacks]

    @property
    def failed(self) -> bool:
        """Whether the span's status is ERROR."""
        return self.node.status == "ERROR"

    @property
    def request(self) -> "Ours | None":
        """The request that this is a hop's part of."""
        hop = self.parent
        return hop.parent if hop and hop.kind == n.FALLBACK else hop

    def has(self, key: str) -> bool:
        """Whether the attribute is there, whatever it holds."""
        return key in self.node.attributes

    def text(self, key: str) -> str | None:
        """The attribute, if it is a string."""
        value = self.node.attributes.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """The attribute, if it is an int or a float."""
        value = self.node.attributes.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def true(self, key: str) -> bool:
        """Whether the attribute is ``True``."""
        return self.node.attributes.get(key) is True

    def events_named(self, name: str) -> list[Event]:
        """The span's events of this name."""
        return [event for event in self.node.events if event.name == name]

    @property
    def detached(self) -> bool:
        """Whether this is work that outlived its request: a root with a link (contract §1)."""
        return self.node.parent_id is None and bool(self.node.links)


def ours(spans: Iterable[ReadableSpan | Node], max_string: int) -> list[Ours]:
    """Our spans among ``spans``, each with its parent and its children, sorted by start."""
    nodes = sorted(_flat(spans).values(), key=lambda node: node.start_ns)
    by_id = {node.span_id: Ours(node, kind, max_string) for node in nodes if (kind := _kind(node))}
    for node in nodes:
        above = by_id.get(node.parent_id) if node.parent_id is not None else None
        if above and node.span_id not in by_id and _is_nameless_attempt(node, above):
            by_id[node.span_id] = Ours(node, n.ATTEMPT, max_string)
    found = sorted(by_id.values(), key=_start)
    for span in found:
        if span.node.parent_id in by_id:
            _adopt(by_id[span.node.parent_id], span)
    for span in found:
        if span.kind == n.ATTEMPT and span.request:
            span.request.all_attempts.append(span)
    return found


def _flat(spans: Iterable[ReadableSpan | Node]) -> dict[int, Node]:
    nodes: dict[int, Node] = {}
    for span in spans:
        for node in span.walk() if isinstance(span, Node) else (node_of(span),):
            nodes[node.span_id] = node
    return nodes


def _adopt(parent: Ours, child: Ours) -> None:
    child.parent = parent
    if child.kind == n.ATTEMPT and (group := child.text(n.DEPLOYMENT_MODEL_GROUP)):
        parent.picked_groups.add(group)
    children = {
        n.SELECTION: parent.selections,
        n.ATTEMPT: parent.attempts,
        n.BACKOFF: parent.backoffs,
        n.FALLBACK: parent.fallbacks,
        n.REQUEST: parent.requests,
        n.BATCH: [],
    }
    children[child.kind].append(child)


def _start(span: Ours) -> int:
    return span.node.start_ns


# --- what a span is --------------------------------------------------------------------------

_PREFIXES: Final = {
    n.selection_span(""): n.SELECTION,
    n.fallback_span(""): n.FALLBACK,
    n.batch_span(""): n.BATCH,
}
_SIGNATURES: Final = {
    n.BATCH_SIZE: n.BATCH,
    n.OPERATION: n.REQUEST,
    n.ATTEMPT_NUMBER: n.ATTEMPT,
    n.FALLBACK_TO: n.FALLBACK,
    n.BACKOFF_SECONDS: n.BACKOFF,
    n.DECISION_REASON: n.SELECTION,
}
"""An attribute that tells what a span is when its name does not."""

_ANY_REQUEST: Final = n.request_span("", "").rstrip()


def _kind(node: Node) -> str | None:
    """What the span is, by its name, else by an attribute; ``None``: not ours, as far as it shows."""
    if node.name == n.BACKOFF_SPAN:
        return n.BACKOFF
    for prefix, kind in _PREFIXES.items():
        if node.name.startswith(prefix):
            return kind
    for key, kind in _SIGNATURES.items():
        if key in node.attributes:
            return kind
    if node.name.startswith(_ANY_REQUEST) and any(key.startswith(OUR_PREFIXES) for key in node.attributes):
        return n.REQUEST
    return None


def _is_nameless_attempt(node: Node, above: Ours) -> bool:
    """An attempt that lost its number; litellm's own spans carry its keys too, but lie below an attempt."""
    return above.kind in {n.REQUEST, n.FALLBACK} and (
        n.DEPLOYMENT_REASON in node.attributes or n.TRACE_ID in node.attributes
    )
