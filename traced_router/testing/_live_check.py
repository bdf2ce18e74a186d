"""Check the traces of a running program, a staging system's for example: :class:`LiveCheck`.

A request is checked when its span ends: its children have ended before. So only open requests wait here, and what is
held, and what the checks may cost, has bounds. What was not checked for their sake is counted, never guessed at.

This module must not know the rules: they are ``_conformance_rules``' and ``_live_rules``'.
"""

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from traced_router import _names as n
from traced_router._guard import Guard, fails_open
from traced_router.testing import _live_rules as rules
from traced_router.testing._conformance import MAX_STRING, Violation, check_trace
from traced_router.testing._conformance_tree import Ours, ours

logger: Final = logging.getLogger("traced_router")

_SCOPE: Final = "traced_router"


@dataclass(frozen=True, slots=True)
class LiveCheckLimits:
    """How much a :class:`LiveCheck` may hold and do.

    Attributes:
        requests: open requests that are followed; of more, the oldest is let go.
        spans: spans of one request.
        seconds: age of an open request.
        checks_per_second: requests that are checked; one costs some 50 microseconds a span.
        log_seconds: between two lines of log about the same rule.
    """

    requests: int = 1000
    spans: int = 200
    seconds: float = 600.0
    checks_per_second: int = 20
    log_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class LiveCheckCounts:
    """What a :class:`LiveCheck` has seen: requests that were checked, those that were not, and violations by rule."""

    checked: int
    unchecked: int
    violations: Mapping[str, int]


@dataclass(slots=True)
class _Open:
    """A request that is open."""

    since: float
    started: dict[int, str] = field(default_factory=dict[int, str])
    """Names of its children that have not ended, by id."""
    ended: list[ReadableSpan] = field(default_factory=list[ReadableSpan])


class LiveCheck(SpanProcessor):
    """Checks every request when it is over, logs what breaks a rule, and counts it.

    The rules are those of :func:`check_trace`, and these of the router's own conduct: ``cooldown`` (an attempt on a
    deployment that was in cooldown), ``retry_after`` (a provider called again before the time that it had asked for),
    ``cycle`` (a fallback to a group that had failed this request), ``attempts`` (more than allowed) and ``lost_span``
    (a span that was still open when its request ended).

    It drops nothing and changes nothing; add it beside the processors that export. It never raises: a fault of its own
    is logged once, counted by ``traced_router.tracing.errors``, and the request goes unchecked.

    Args:
        max_attempts: attempts that a request may take, fallbacks included; ``None`` for any number.
        limits: how much it may hold and do.
        max_string: the limit in force for attribute values, in characters.
        meter_provider: counts violations (``traced_router.live_check.violations``); the global one when ``None``.
        clock: seconds, monotonic.

    Example::

        provider.add_span_processor(LiveCheck(max_attempts=6))
    """

    def __init__(
        self,
        *,
        max_attempts: int | None = None,
        limits: LiveCheckLimits | None = None,
        max_string: int = MAX_STRING,
        meter_provider: metrics.MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.guard = Guard(lambda: meter_provider or metrics.get_meter_provider())
        self._meters = meter_provider
        self._counter: metrics.Counter | None = None
        self._max_attempts = max_attempts
        self._max_string = max_string
        self._limits = limits or LiveCheckLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._request_of: dict[int, int] = {}
        """Of each child that is open, and of each hop: its request."""
        self._cooldowns = rules.Cooldowns()
        self._second = 0
        self._in_second = 0
        self._checked = 0
        self._unchecked = 0
        self._violations: Counter[str] = Counter()
        self._logged: dict[str, float] = {}

    @property
    def counts(self) -> LiveCheckCounts:
        """What it has seen so far; a snapshot."""
        with self._lock:
            return LiveCheckCounts(self._checked, self._unchecked, MappingProxyType(dict(self._violations)))

    # --- what the SDK tells ------------------------------------------------------------------

    @fails_open("live_check")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        """A span has started."""
        if not _is_ours(span):
            return
        span_id = span.get_span_context().span_id
        with self._lock:
            if _is_request(span):
                self._let_go_of_the_oldest()
                self._open[span_id] = _Open(self._clock())
                return
            above = span.parent.span_id if span.parent is not None else 0
            request = above if above in self._open else self._request_of.get(above)
            if request is None:
                return
            of = self._open[request]
            of.started[span_id] = span.name
            self._request_of[span_id] = request
            if len(of.started) + len(of.ended) > self._limits.spans:
                self._forget(request)

    @fails_open("live_check")
    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended; if it is a request, it is checked."""
        context = span.get_span_context()
        if context is None or not _is_ours(span):
            return
        with self._lock:
            request = self._request_of.get(context.span_id)
            if request is not None:
                of = self._open[request]
                of.started.pop(context.span_id, None)
                of.ended.append(span)
                return
            over = self._take(context.span_id)
            if over is None or not self._may_check():
                return
        over.ended.append(span)
        self._check(over)

    # --- what is held ------------------------------------------------------------------------

    def _let_go_of_the_oldest(self) -> None:
        oldest = next(iter(self._open), None)
        if oldest is None:
            return
        is_old = self._open[oldest].since < self._clock() - self._limits.seconds
        if is_old or len(self._open) >= self._limits.requests:
            self._forget(oldest)

    def _forget(self, request: int) -> None:
        self._take(request)
        self._unchecked += 1

    def _take(self, request: int) -> _Open | None:
        taken = self._open.pop(request, None)
        if taken is not None:
            ended = (context.span_id for span in taken.ended if (context := span.get_span_context()))
            for span_id in (*taken.started, *ended):
                self._request_of.pop(span_id, None)
        return taken

    def _may_check(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._in_second = 0
        self._in_second += 1
        allowed = self._in_second <= self._limits.checks_per_second
        self._checked += allowed
        self._unchecked += not allowed
        return allowed

    # --- the check ---------------------------------------------------------------------------

    def _check(self, over: _Open) -> None:
        found = check_trace(over.ended, max_string=self._max_string)
        spans = ours(over.ended, self._max_string)
        request = next(span for span in spans if span.kind == n.REQUEST)
        found += [Violation(rule, request.node.name, message) for rule, message in self._conduct(request, over)]
        with self._lock:
            for violation in self._cooled(request):
                found.append(violation)
            loud = [violation for violation in found if self._count(violation.rule)]
        for violation in loud:
            logger.warning("live check: %s", violation)
        for violation in found:
            self._measure(violation.rule)

    def _conduct(self, request: Ours, over: _Open) -> Iterator[tuple[str, str]]:
        for name in over.started.values():
            yield "lost_span", f"{name} was still open when its request ended"
        for message in rules.too_early(request):
            yield "retry_after", message
        for message in rules.in_circles(request):
            yield "cycle", message
        if self._max_attempts is not None:
            for message in rules.too_many(request, self._max_attempts):
                yield "attempts", message

    def _cooled(self, request: Ours) -> Iterator[Violation]:
        for message in self._cooldowns.broken(request):
            yield Violation("cooldown", request.node.name, message)
        for attempt in request.all_attempts:
            self._cooldowns.hear(attempt)

    def _count(self, rule: str) -> bool:
        """Count a violation; whether it is time for a line of log about its rule."""
        self._violations[rule] += 1
        now = self._clock()
        if now < self._logged.get(rule, float("-inf")) + self._limits.log_seconds:
            return False
        self._logged[rule] = now
        return True

    def _measure(self, rule: str) -> None:
        if self._counter is None:
            metric = n.METRICS[n.LIVE_CHECK_VIOLATIONS]
            provider = self._meters or metrics.get_meter_provider()
            self._counter = provider.get_meter(_SCOPE).create_counter(metric.name, metric.unit, metric.doc)
        self._counter.add(1, {n.LIVE_CHECK_RULE: rule})


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == _SCOPE


def _is_request(span: ReadableSpan) -> bool:
    attributes = span.attributes or {}
    return n.OPERATION in attributes and n.BATCH_SIZE not in attributes
