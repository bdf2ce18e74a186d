"""Sampling that keeps what matters: whole traces, decided when they are over.

A head sampler throws its dice before anything has happened, so of a hundred errors it keeps one.
:class:`SamplingProcessor` waits until a trace is over in this process, keeps each that a rule of
:class:`KeepRules` holds for, and a share of the rest, and says on every request span that it lets
through how many it stands for. :class:`KeepHintProcessor` drops nothing, and marks what a collector
should keep.

What a trace is: all spans with one trace id that this process starts and ends, the caller's and
other instrumentations' too. It is over when none of them is open. What is decided then:

====================================  =========================================  ==================
the trace                             is                                         weight
====================================  =========================================  ==================
a rule holds for it                   kept                                       1
met one of :class:`SamplingBounds`    kept as a whole, what comes later too      1
ordinary                              kept or dropped, by its trace id           1 / share
has no request of a router            kept untouched, see `others`               none
====================================  =========================================  ==================

A trace can go on after its end (a second handler of the same remote trace, a span that ends late).
What comes then follows what was decided, or is kept if a rule holds for it by itself.

The weights are true because every request has a known chance to be kept, and weighs one by it: 1
where a rule or a bound decides, for these do not look at the dice; else the share. What a trace was
dropped or kept for *by share* changes nothing for its later parts, which throw the same dice.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, cast

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext

from traced_router import _names as n
from traced_router._sampling_odds import Odds, Share
from traced_router._sampling_rules import Judge, KeepRules
from traced_router._sampling_spans import SpanFacts, facts_of, retold
from traced_router._wrapping import Wrapping
from traced_router.errors import ConfigurationError

__all__ = [
    "KeepHintProcessor",
    "KeepRules",
    "SamplingBounds",
    "SamplingCounts",
    "SamplingOptions",
    "SamplingProcessor",
]

_REMEMBERED: Final = 10_000
"""Traces whose decision is remembered for what comes late; some 150 bytes each."""

_AT_ONCE: Final = 8
"""Traces that one span may find too old: no caller pays for all that waited."""

_ORDINARY: Final = ""
"""Remembered of a trace that no rule held for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingBounds:
    """How much may wait for its decision. All are enforced when spans start and end: there is no timer.

    Attributes:
        spans: of one trace, open ones included.
        traces: open at once; the one that began first gives way.
        bytes: of all spans that wait, estimated; the trace whose spans have waited longest gives way.
        seconds: that a trace is open.
        then: what becomes of a trace that meets a bound. ``keep``: it is forwarded as a whole, with
            what comes of it later, and the reason ``limit``. ``decide``: rules and share decide on
            what there is, and on what comes later by itself; traces can lose parts, weights stay true.
    """

    spans: int = 1000
    traces: int = 10_000
    bytes: int = 64 * 1024 * 1024
    seconds: float = 600.0
    then: Literal["keep", "decide"] = "keep"

    def __post_init__(self) -> None:
        for name, least in (("spans", 1), ("traces", 1), ("bytes", 0), ("seconds", 0)):
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give a number, at least {least}.")
        if self.then not in {"keep", "decide"}:
            raise ConfigurationError(f"then={self.then!r}: give 'keep' or 'decide'.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """What is kept, and within which bounds.

    Attributes:
        share: of the traces that no rule holds for, 0..1. Which ones is in the trace's id, as with
            the SDK's ``TraceIdRatioBased``: processes with the same share keep the same traces.
        keep: the rules.
        bounds: how much may wait.
        others: what becomes of traces without a request of a router. ``pass``: they go through
            untouched. ``sample``: errors are kept, and the share of the rest.
        head_ratio: the share that a ``TraceIdRatioBased`` head sampler lets through to here, 0..1;
            the weights make up for it. Where the tracestate says a threshold (``ot=th:…``), that counts.
    """

    share: float = 0.1
    keep: KeepRules = field(default_factory=KeepRules)
    bounds: SamplingBounds = field(default_factory=SamplingBounds)
    others: Literal["pass", "sample"] = "pass"
    head_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigurationError(f"share={self.share!r}: give a share of the traces, 0 to 1; 0.01 is 1 %.")
        if not 0 < self.head_ratio <= 1:
            raise ConfigurationError(f"head_ratio={self.head_ratio!r}: give the head sampler's ratio, up to 1.")
        if self.others not in {"pass", "sample"}:
            raise ConfigurationError(f"others={self.others!r}: give 'pass' or 'sample'.")


def options_of(given: object) -> SamplingOptions | None:
    """What a setting says: options, a share, or the fields of :class:`SamplingOptions` as a mapping; ``None`` is none.

    Raises:
        ConfigurationError: it is none of these.
    """
    if given is None or isinstance(given, SamplingOptions):
        return given
    try:
        if not isinstance(given, Mapping):
            return SamplingOptions(share=cast("float", given))
        fields = dict(cast("Mapping[str, Any]", given))
        for name, kind in (("keep", KeepRules), ("bounds", SamplingBounds)):
            if isinstance(fields.get(name), Mapping):
                fields[name] = kind(**fields[name])
        return SamplingOptions(**fields)
    except TypeError as error:
        raise ConfigurationError(
            f"sampling={given!r:.64}: {error}. Give a share of the traces, 0 to 1, or the fields of SamplingOptions."
        ) from None


@dataclass(frozen=True, slots=True)
class SamplingCounts:
    """What has become of all spans since the processor was made.

    Spans that came in = forwarded + dropped + waiting + after_shutdown.

    Attributes:
        forwarded: spans handed to the wrapped processor.
        dropped: spans of ordinary traces that the share left out.
        waiting: spans whose trace is open.
        after_shutdown: spans that ended after ``shutdown()``; they are ignored.
        late: spans that ended after their trace had been decided; also forwarded or dropped.
        kept_requests: request spans by ``traced_router.sampling.reason``.
        dropped_requests: request spans among the dropped.
        bounds_met: traces that met a bound: ``spans``, ``traces``, ``bytes`` or ``seconds``.
        open_traces: traces that are not over.
        waiting_bytes: of the spans that wait, estimated.
        faults: exceptions, the wrapped processor's or ours; none is raised, and the spans of ours go through.
    """

    forwarded: int
    dropped: int
    waiting: int
    after_shutdown: int
    late: int
    kept_requests: Mapping[str, int]
    dropped_requests: int
    bounds_met: Mapping[str, int]
    open_traces: int
    waiting_bytes: int
    faults: int


class _Trace:
    """One trace that is not over."""

    __slots__ = ("facts", "open", "since", "size")

    def __init__(self, since: float) -> None:
        self.since = since
        self.open: set[int] = set()
        self.facts: list[SpanFacts] = []
        self.size = 0


class _Memory:
    """Of the last traces, why they were kept, or that they were ordinary. Bounded."""

    __slots__ = ("_reasons",)

    def __init__(self) -> None:
        self._reasons: OrderedDict[int, str] = OrderedDict()

    def of(self, trace_id: int | None) -> str | None:
        """The reason; ``_ORDINARY``; or ``None``, for a trace that nothing is remembered of."""
        return None if trace_id is None else self._reasons.get(trace_id)

    def add(self, trace_id: int, reason: str) -> None:
        """Remember ``reason``, longer than what is there already."""
        self._reasons[trace_id] = reason
        self._reasons.move_to_end(trace_id)
        if len(self._reasons) > _REMEMBERED:
            self._reasons.popitem(last=False)


class SamplingProcessor(Wrapping):
    """Hands whole traces to ``processor``, or drops them, when they are over.

    Args:
        processor: gets what is kept: a ``BatchSpanProcessor``, a ``SimpleSpanProcessor`` or any other.
        options: what is kept.
        clock: seconds, monotonic; for the age of open traces.

    ``force_flush`` decides nothing but for what is too old: a trace that is open can still go wrong.
    ``shutdown`` decides all that is open on what there is.

    Example::

        options = SamplingOptions(share=0.01, keep=KeepRules(slow_seconds=30))
        provider.add_span_processor(SamplingProcessor(BatchSpanProcessor(OTLPSpanExporter()), options))
    """

    def __init__(
        self,
        processor: SpanProcessor,
        options: SamplingOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(processor)
        self._options = options or SamplingOptions()
        self._clock = clock
        self._share = Share(self._options.share, self._options.head_ratio)
        self._begin()

    def _begin(self) -> None:
        self._judge = Judge(self._options.keep)
        self._memory = _Memory()
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._holding: OrderedDict[int, _Trace] = OrderedDict()
        """The open traces that have spans waiting, since when they have."""
        self._bytes = 0
        self._waiting = 0
        self._forwarded = 0
        self._dropped = 0
        self._late = 0
        self._after_shutdown = 0
        self._kept_requests: dict[str, int] = dict.fromkeys(n.SAMPLING_REASONS, 0)
        self._dropped_requests = 0
        self._bounds_met: dict[str, int] = dict.fromkeys(("spans", "traces", "bytes", "seconds"), 0)

    @property
    def counts(self) -> SamplingCounts:
        """What has become of all spans; a snapshot."""
        with self._lock:
            return SamplingCounts(
                forwarded=self._forwarded,
                dropped=self._dropped,
                waiting=self._waiting,
                after_shutdown=self._after_shutdown,
                late=self._late,
                kept_requests=MappingProxyType(dict(self._kept_requests)),
                dropped_requests=self._dropped_requests,
                bounds_met=MappingProxyType(dict(self._bounds_met)),
                open_traces=len(self._traces),
                waiting_bytes=self._bytes,
                faults=self.faults,
            )

    # --- what the SDK tells ------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span has started: its trace is open."""
        super().on_start(span, parent_context)
        context = span.get_span_context()
        if context.trace_flags.sampled:
            self._do(lambda out: self._started(context, out))

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended: it waits until its trace is over."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            self._guarded(self._processor.on_end, span)
            return
        facts = self._guarded(facts_of, span, context)
        if facts is None:
            self._do(lambda out: self._unread(span, context, out))
        else:
            self._do(lambda out: self._ended(facts, out))

    def after_fork(self) -> None:
        """Begin anew in a child process."""
        super().after_fork()
        self._begin()

    # --- steps -------------------------------------------------------------------------------

    def _started(self, context: SpanContext, out: list[ReadableSpan]) -> None:
        trace_id, bounds = context.trace_id, self._options.bounds
        trace = self._traces.get(trace_id)
        if self._shut or (trace is None and self._memory.of(trace_id)):  # kept already: it goes through
            return
        if trace is None:
            trace = self._traces[trace_id] = _Trace(self._clock())
        trace.open.add(context.span_id)
        if len(self._traces) > bounds.traces:
            self._cut(next(iter(self._traces)), "traces", out)
        self._check(trace_id, trace, out)

    def _ended(self, facts: SpanFacts, out: list[ReadableSpan]) -> None:
        if self._shut:
            self._after_shutdown += 1
            return
        trace_id = facts.context.trace_id
        trace = self._traces.get(trace_id)
        if trace is None:
            self._late += 1
            self._decide((facts,), out)
        else:
            trace.facts.append(facts)
            trace.size += facts.size
            self._bytes += facts.size
            self._waiting += 1
            self._holding.setdefault(trace_id, trace)
            trace = self._closed(facts.context, out)
        self._check(trace_id, trace, out)

    def _unread(self, span: ReadableSpan, context: SpanContext, out: list[ReadableSpan]) -> None:
        """A span that could not be read has ended: it goes through."""
        self._forwarded += 1
        out.append(span)
        self._closed(context, out)

    def _closed(self, context: SpanContext, out: list[ReadableSpan]) -> _Trace | None:
        """The trace without this span: decided if that was the last one; ``None`` when it is not open."""
        trace = self._traces.get(context.trace_id)
        if trace is None:
            return None
        trace.open.discard(context.span_id)
        if trace.open:
            return trace
        self._decide(self._taken(context.trace_id), out)
        return None

    def _flush(self, out: list[ReadableSpan]) -> None:
        while self._cut_one_too_old(out):
            pass

    def _finish(self, out: list[ReadableSpan]) -> None:
        super()._finish(out)
        while self._traces:
            self._decide(self._taken(next(iter(self._traces))), out)

    # --- bounds ------------------------------------------------------------------------------

    def _check(self, trace_id: int, trace: _Trace | None, out: list[ReadableSpan]) -> None:
        """See to the bounds after ``trace`` has grown, if it is still open."""
        bounds = self._options.bounds
        if trace is not None and len(trace.open) + len(trace.facts) > bounds.spans:
            self._cut(trace_id, "spans", out)
        while self._bytes > bounds.bytes:
            self._cut(next(iter(self._holding)), "bytes", out)
        for _ in range(_AT_ONCE):
            if not self._cut_one_too_old(out):
                break

    def _cut_one_too_old(self, out: list[ReadableSpan]) -> bool:
        oldest = next(iter(self._traces.items()), None)
        if oldest is None or self._clock() - oldest[1].since <= self._options.bounds.seconds:
            return False
        self._cut(oldest[0], "seconds", out)
        return True

    def _cut(self, trace_id: int, bound: str, out: list[ReadableSpan]) -> None:
        """The trace has met ``bound``, and cannot wait any longer."""
        self._bounds_met[bound] += 1
        if self._options.bounds.then == "keep":
            self._memory.add(trace_id, n.SAMPLED_LIMIT)
        self._decide(self._taken(trace_id), out)

    def _taken(self, trace_id: int) -> Sequence[SpanFacts]:
        """What waits of the trace, which is not open any more."""
        trace = self._traces.pop(trace_id)
        self._holding.pop(trace_id, None)
        self._bytes -= trace.size
        self._waiting -= len(trace.facts)
        return trace.facts

    # --- the decision ------------------------------------------------------------------------

    def _decide(self, facts: Sequence[SpanFacts], out: list[ReadableSpan]) -> None:
        """Forward or drop these spans of one trace."""
        if facts:
            kept = self._guarded(self._kept, facts)
            if kept is None:  # a fault of ours: nothing is lost by it
                kept = [fact.span for fact in facts]
            self._forwarded += len(kept)
            self._dropped += len(facts) - len(kept)
            out += kept

    def _kept(self, facts: Sequence[SpanFacts]) -> list[ReadableSpan]:
        """The spans, as they are forwarded; none when the trace is dropped."""
        context = facts[0].context
        origin = next((fact.origin for fact in facts if fact.origin is not None), None)
        requests = sum(fact.request is not None for fact in facts)
        found = self._judge.reason(facts)
        before = self._memory.of(context.trace_id)
        reason = found or before or self._memory.of(origin)
        if not requests and before is None and self._options.others == "pass":
            if reason:
                self._memory.add(context.trace_id, reason)
            return [fact.span for fact in facts]
        self._memory.add(context.trace_id, before or reason or _ORDINARY)
        odds = self._share.odds(context, origin)
        if not reason and not odds.chosen:
            self._dropped_requests += requests
            return []
        self._kept_requests[reason or n.SAMPLED_SHARE] += requests
        return [self._told(fact, reason, odds) for fact in facts]

    def _told(self, fact: SpanFacts, reason: str | None, odds: Odds) -> ReadableSpan:
        """The span as it is forwarded; a request says why."""
        weight, state = (odds.always_weight, None) if reason else (odds.share_weight, odds.trace_state)
        said: dict[str, str | bool | float] = {}
        if fact.request is not None:
            said = {n.SAMPLING_REASON: reason or n.SAMPLED_SHARE, n.SAMPLING_WEIGHT: weight}
        elif state is None:
            return fact.span
        return self._guarded(retold, fact.span, said, state) or fact.span


class KeepHintProcessor(Wrapping):
    """Drops nothing, and marks the request spans whose trace a collector should keep.

    For a collector that decides for whole traces of many services (``tail_sampling``): it cannot
    see by itself that a call was retried, was slow for its model group, or put a deployment into
    cooldown. A request span for which a rule holds gets ``traced_router.sampling.keep`` and
    ``traced_router.sampling.reason``. Each request is looked at when it ends, and nothing waits;
    errors of other spans a collector sees by itself.

    Args:
        processor: gets all spans.
        rules: what should be kept.
    """

    def __init__(self, processor: SpanProcessor, rules: KeepRules | None = None) -> None:
        super().__init__(processor)
        self._rules = rules or KeepRules()
        self._begin()

    def _begin(self) -> None:
        self._judge = Judge(self._rules)
        self._cooled_down = _Memory()

    def after_fork(self) -> None:
        """Begin anew in a child process."""
        super().after_fork()
        self._begin()

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended; it goes on at once."""
        context = span.get_span_context()
        facts = None if context is None else self._guarded(facts_of, span, context)
        self._do(lambda out: out.append(span if facts is None else self._marked(facts)))

    def _marked(self, facts: SpanFacts) -> ReadableSpan:
        trace_id = facts.context.trace_id
        if facts.request is None:
            if facts.cooled_down and self._rules.cooldowns:
                self._cooled_down.add(trace_id, n.SAMPLED_COOLDOWN)
            return facts.span
        reason = self._judge.reason((facts,)) or self._cooled_down.of(trace_id)
        if not reason:
            return facts.span
        said: dict[str, str | bool | float] = {n.SAMPLING_KEEP: True, n.SAMPLING_REASON: reason}
        return self._guarded(retold, facts.span, said) or facts.span
