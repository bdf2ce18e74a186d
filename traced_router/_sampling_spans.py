"""What sampling wants to know of an ended span, about how large it is, and how to say more on it.

A span that has ended cannot be changed: to say more, it is copied. This module knows the SDK's
spans and the names on ours; it must not know why a trace is kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, StatusCode, TraceState

from traced_router import _names as n
from traced_router._values import amount, count

T = TypeVar("T")

_SPAN_BYTES: Final = 2048
"""An ended span without attributes: its object, two lists, locks and contexts, by ``sys.getsizeof`` on 64 bits."""

_ENTRY_BYTES: Final = 128
"""An attribute's place in its dict, and its value."""

_EVENT_BYTES: Final = 512

_SIZED: Final = (str, bytes)

_SECOND: Final = 1e9
"""Nanoseconds."""


class RequestFacts(NamedTuple):
    """What a request span says.

    Attributes:
        group: whose calls it is compared with: operation and model group.
        seconds: how long the router took; the time that a stream waited for its reader is not its.
        answered: whether the caller got the whole answer.
        wasted: USD, 0 where it is not known.
    """

    group: tuple[object, object]
    seconds: float
    answered: bool
    wasted: float


class SpanFacts(NamedTuple):
    """What one ended span says.

    Attributes:
        origin: the trace that this one repeats: a mirror of a call is a root with a link to it.
    """

    span: ReadableSpan
    context: SpanContext
    parent_id: int | None
    size: int
    error: bool
    retried: bool
    fell_back: bool
    cooled_down: bool
    origin: int | None
    request: RequestFacts | None

    @property
    def saved(self) -> bool:
        """Whether it is a request that a retry or a fallback saved."""
        return self.request is not None and not self.error and (self.retried or self.fell_back)


def facts_of(span: ReadableSpan, context: SpanContext) -> SpanFacts:
    """Read ``span`` once."""
    attributes = _plain(span)
    events, parent = span.events, span.parent
    error = span.status.status_code is StatusCode.ERROR
    ours = n.OPERATION in attributes or n.OUTCOME in attributes
    request = _request(span, attributes, error=error) if ours and n.BATCH_SIZE not in attributes else None
    return SpanFacts(
        span,
        context,
        None if parent is None else parent.span_id,
        _SPAN_BYTES + _size(attributes) + sum(_EVENT_BYTES + _size(event.attributes or {}) for event in events),
        error or attributes.get(n.OUTCOME) == "error",
        bool(count(attributes.get(n.RETRIES))) or attributes.get(n.DEPLOYMENT_REASON) == "retry",
        bool(count(attributes.get(n.FALLBACKS))) or n.FALLBACK_KIND in attributes,
        any(event.name == n.COOLDOWN_EVENT for event in events),
        span.links[0].context.trace_id if ours and parent is None and span.links else None,
        request,
    )


def _request(span: ReadableSpan, attributes: Mapping[str, object], *, error: bool) -> RequestFacts:
    busy = ((span.end_time or 0) - (span.start_time or 0)) / _SECOND - (amount(attributes.get(n.TIME_CONSUMER)) or 0.0)
    outcome = attributes.get(n.OUTCOME)
    return RequestFacts(
        (attributes.get(n.OPERATION), attributes.get(n.MODEL_GROUP)),
        max(0.0, busy),
        not error and (outcome is None or str(outcome).startswith("ok")),
        amount(attributes.get(n.COST_WASTED)) or 0.0,
    )


def _plain(span: ReadableSpan) -> dict[str, object]:
    # A copy in one piece: the view that the SDK gives runs Python for every single key.
    return cast("dict[str, object]", span.attributes).copy()


def _size(attributes: Mapping[str, object]) -> int:
    size = _ENTRY_BYTES * len(attributes)
    for value in attributes.values():
        if isinstance(value, _SIZED):
            size += len(value)
        elif isinstance(value, tuple):
            size += sum(len(v) if isinstance(v, _SIZED) else 8 for v in cast("tuple[object, ...]", value))
    return size


def retold(
    span: ReadableSpan, attributes: Mapping[str, str | bool | float], trace_state: TraceState | None = None
) -> ReadableSpan:
    """A copy of ``span`` that has ``attributes`` too, and another trace state if one is given."""
    context = span.get_span_context()
    if trace_state is not None and context is not None:
        context = SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, trace_state)
    told = BoundedAttributes(attributes={**_plain(span), **attributes})  # type: ignore[dict-item]  # what was on a span
    told.dropped = span.dropped_attributes
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=span.parent,
        resource=span.resource,
        attributes=told,
        events=_listed(span.events, span.dropped_events),
        links=_listed(span.links, span.dropped_links),
        kind=span.kind,
        # Its property warns that it is deprecated; an exporter may still read it.
        instrumentation_info=vars(span).get("_instrumentation_info"),
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _listed(items: Sequence[T], dropped: int) -> Sequence[T]:
    """A list that knows how many were dropped from it, as the SDK's spans have."""
    listed = cast("Any", BoundedList).from_seq(None, items)  # the SDK has no types for what is in it
    listed.dropped = dropped
    return cast("Sequence[T]", listed)
