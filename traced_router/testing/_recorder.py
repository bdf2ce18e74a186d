"""Record spans and metrics in memory, and read the spans back as trees.

:class:`Recorder` is for a user's tests as much as for ours: it makes the two providers that a
router needs, keeps every span from its start on (so that one which never ends is seen, and one
which ends twice), and waits for other threads without sleeping. :class:`Node` is a span as a
value: immutable, with its children.

This module must not know litellm, nor what a span of the router looks like: names and rules are
:mod:`traced_router.testing._conformance`'s.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.util.types import AttributeValue

Attributes: TypeAlias = Mapping[str, AttributeValue]

# --- values ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span."""

    name: str
    attributes: Attributes
    time_ns: int

    def number(self, key: str) -> float | None:
        """The attribute, if it is an int or a float."""
        value = self.attributes.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a span to another one."""

    trace_id: int
    span_id: int
    attributes: Attributes


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One span with its children: compared by identity, since no two spans are the same.

    ``kind`` and ``status`` are OpenTelemetry's names (``"CLIENT"``, ``"ERROR"``). Times are
    nanoseconds since the epoch; ``end_ns`` is ``None`` while the span is open. ``parent_id`` is
    set for a parent that was not recorded, too.
    """

    name: str
    kind: str
    status: str
    status_description: str | None
    attributes: Attributes
    events: tuple[Event, ...]
    links: tuple[Link, ...]
    start_ns: int
    end_ns: int | None
    trace_id: int
    span_id: int
    parent_id: int | None
    scope: str
    children: tuple["Node", ...] = ()

    @property
    def seconds(self) -> float | None:
        """Duration; ``None`` while the span is open."""
        return None if self.end_ns is None else (self.end_ns - self.start_ns) / 1e9

    def walk(self) -> Iterator["Node"]:
        """This span, then everything below it, depth first."""
        pending: list[Node] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))

    def find(self, name: str) -> tuple["Node", ...]:
        """The spans of this name in the tree, in the order of :meth:`walk`."""
        return tuple(node for node in self.walk() if node.name == name)


@dataclass(frozen=True, slots=True)
class Point:
    """What a metric holds for one set of attributes.

    A counter has ``value``; a histogram has ``count``, ``sum``, ``min``, ``max`` and its
    buckets: ``bucket_counts`` has one number more than ``bounds``.
    """

    attributes: Attributes
    unit: str
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bounds: tuple[float, ...] = ()
    bucket_counts: tuple[int, ...] = ()


# --- from the SDK's spans to nodes -----------------------------------------------------------


def node_of(span: ReadableSpan) -> Node:
    """The span as a value, without its children."""
    scope = span.instrumentation_scope
    return Node(
        name=span.name,
        kind=span.kind.name,
        status=span.status.status_code.name,
        status_description=span.status.description,
        attributes=_frozen(span.attributes),
        events=tuple(Event(event.name, _frozen(event.attributes), event.timestamp) for event in span.events),
        links=tuple(Link(link.context.trace_id, link.context.span_id, _frozen(link.attributes)) for link in span.links),
        start_ns=span.start_time or 0,
        end_ns=span.end_time,
        trace_id=_trace_id(span),
        span_id=_span_id(span),
        parent_id=span.parent.span_id if span.parent else None,
        scope=scope.name if scope else "",
    )


def forest(spans: Iterable[ReadableSpan]) -> tuple[Node, ...]:
    """The trees of these spans, children sorted by start, those that start together as given.

    A span whose parent is not among them is a root.
    """
    nodes = {node.span_id: node for node in map(node_of, spans)}
    below: dict[int | None, list[Node]] = {}
    for node in nodes.values():
        below.setdefault(node.parent_id if node.parent_id in nodes else None, []).append(node)

    def grown(node: Node) -> Node:
        children = sorted(below.get(node.span_id, ()), key=_start)
        return replace(node, children=tuple(map(grown, children))) if children else node

    return tuple(map(grown, sorted(below.get(None, ()), key=_start)))


def _start(node: Node) -> int:
    return node.start_ns


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


def _trace_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.trace_id if context else 0


def _frozen(attributes: Attributes | None) -> Attributes:
    return MappingProxyType(dict(attributes or {}))


# --- the recorder ----------------------------------------------------------------------------

_DELTA: Final[dict[type, AggregationTemporality]] = dict.fromkeys(
    (Counter, ObservableCounter, Histogram), AggregationTemporality.DELTA
)


class Recorder:
    """Spans and metrics in memory, behind two providers to hand to a router, or to set.

    ``sampler``: which traces are recorded, all by default. Thread-safe.

    Example::

        recorder = Recorder()
        router = TracedRouter(model_list=..., tracer_provider=recorder.provider)
        await router.acompletion("gpt-4o", messages)
        assert recorder.tree().name == "router.chat gpt-4o"
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._changed = threading.Condition()
        self._by_start: dict[int, ReadableSpan] = {}
        self._by_end: list[ReadableSpan] = []
        self._ended_twice: list[str] = []
        self._points: dict[tuple[str, frozenset[tuple[str, AttributeValue]]], Point] = {}
        self._reader = InMemoryMetricReader(preferred_temporality=_DELTA)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(_Recording(self._started, self._ended))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    # spans

    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in the order in which they ended."""
        with self._changed:
            return list(self._by_end)

    def open_spans(self) -> list[ReadableSpan]:
        """Spans that have started and not ended, in the order in which they started."""
        with self._changed:
            return [span for span in self._by_start.values() if span.end_time is None]

    def ended_twice(self) -> list[str]:
        """Names of the spans on which ``end()`` was called again, once for each such call."""
        with self._changed:
            return list(self._ended_twice)

    def traces(self) -> list[list[ReadableSpan]]:
        """Finished spans by trace; traces and their spans in the order in which they started."""
        traces: dict[int, list[ReadableSpan]] = {}
        with self._changed:
            for span in self._by_start.values():
                if span.end_time is not None:
                    traces.setdefault(_trace_id(span), []).append(span)
        return list(traces.values())

    def trees(self) -> tuple[Node, ...]:
        """Every root with what is below it, open spans included."""
        with self._changed:
            return forest(self._by_start.values())

    def tree(self) -> Node:
        """The only tree; AssertionError when there is none, or several."""
        trees = self.trees()
        if len(trees) != 1:
            names = ", ".join(repr(tree.name) for tree in trees) or "none"
            raise AssertionError(f"expected one root span, recorded {len(trees)}: {names}")
        return trees[0]

    def wait_for_end(self, n: int, timeout: float = 5.0) -> list[ReadableSpan]:
        """Block until ``n`` spans have ended since the start or :meth:`clear`, and return them all.

        Raises:
            TimeoutError: fewer had ended after ``timeout`` seconds; says which are still open.
        """
        with self._changed:
            if self._changed.wait_for(lambda: len(self._by_end) >= n, timeout):
                return list(self._by_end)
            ended = len(self._by_end)
        still_open = ", ".join(repr(span.name) for span in self.open_spans()) or "none"
        raise TimeoutError(f"{ended} of {n} spans ended within {timeout} s; still open: {still_open}")

    def clear(self) -> None:
        """Forget spans and metrics. A span that is open now leaves no record when it ends.

        Up-down counters keep their level: what is in flight stays in flight.
        """
        self.metrics()
        with self._changed:
            self._by_start.clear()
            self._by_end.clear()
            self._ended_twice.clear()
            self._points.clear()

    # metrics

    def metrics(self) -> dict[str, list[Point]]:
        """What every instrument has recorded, by its name: one point per set of attributes."""
        with self._changed:
            for metric in self._collected():
                for data in metric.data.data_points:
                    self._add(metric, _point(metric, data))
            metrics: dict[str, list[Point]] = {}
            for (name, _), point in self._points.items():
                metrics.setdefault(name, []).append(point)
            return metrics

    def _collected(self) -> Iterator[Metric]:
        collected = self._reader.get_metrics_data()
        for resource in collected.resource_metrics if collected else ():
            for scope in resource.scope_metrics:
                yield from scope.metrics

    def _add(self, metric: Metric, point: Point) -> None:
        key = metric.name, frozenset(point.attributes.items())
        before = self._points.get(key)
        is_change = getattr(metric.data, "aggregation_temporality", None) is AggregationTemporality.DELTA
        self._points[key] = _sum(before, point) if before and is_change else point

    # called by the span processor

    def _started(self, span: Span) -> None:
        span_id = _span_id(span)
        with self._changed:
            self._by_start[span_id] = span
        # The SDK only logs a second end(), without saying on which span.
        vars(span)["end"] = partial(self._end, span, span_id)

    def _end(self, span: Span, span_id: int, end_time: int | None = None) -> None:
        with self._changed:
            if span.end_time is not None and span_id in self._by_start:
                self._ended_twice.append(span.name)
        type(span).end(span, end_time)

    def _ended(self, span: ReadableSpan) -> None:
        span_id = _span_id(span)
        with self._changed:
            if span_id in self._by_start:
                self._by_start[span_id] = span
                self._by_end.append(span)
                self._changed.notify_all()


class _Recording(SpanProcessor):
    """The SDK's side of a recorder."""

    def __init__(self, started: Callable[[Span], None], ended: Callable[[ReadableSpan], None]) -> None:
        self._started = started
        self._ended = ended

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - SDK's signature
        self._started(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._ended(span)


# --- metric points ---------------------------------------------------------------------------


def _point(metric: Metric, data: object) -> Point:
    if isinstance(data, HistogramDataPoint):
        return Point(
            attributes=_frozen(data.attributes),
            unit=metric.unit or "",
            count=data.count,
            sum=data.sum,
            min=data.min,
            max=data.max,
            bounds=tuple(data.explicit_bounds),
            bucket_counts=tuple(data.bucket_counts),
        )
    if isinstance(data, NumberDataPoint):
        return Point(attributes=_frozen(data.attributes), unit=metric.unit or "", value=data.value)
    raise TypeError(f"metric {metric.name!r} has a {type(data).__name__}; only numbers and explicit buckets are known")


def _sum(one: Point, other: Point) -> Point:
    if one.value is not None and other.value is not None:
        return replace(one, value=one.value + other.value)
    return replace(
        one,
        count=(one.count or 0) + (other.count or 0),
        sum=(one.sum or 0) + (other.sum or 0),
        min=min(_known(one.min, other.min)),
        max=max(_known(one.max, other.max)),
        bucket_counts=tuple(a + b for a, b in zip(one.bucket_counts, other.bucket_counts, strict=True)),
    )


def _known(*values: float | None) -> Sequence[float]:
    return [value for value in values if value is not None]
