"""The tree of one call: where spans are born, and where they end.

    Tree ── open_call() ──> Call ── select() ──> Selection
                             │ ──── attempt() ─> Attempt
                             │ ──── backoff() ─> Backoff
                             │ ──── hop() ─────> Hop
            open_batch() ─> Batch (its calls are children)

Adapters tell it what happened, in the words of ``_facts``; it keeps the tree true: every span
that starts ends exactly once, children end before their parents, hops are flat, and the five
parts of the request's time add up. It knows OpenTelemetry's API and must not know litellm.

All times are integer nanoseconds on one time line per call: the wall clock is read once, when
the outermost call starts, and a monotonic clock moves it on. So a clock that jumps cannot make
a child outlive its parent, and a span's length is what its caller waited.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from traced_router import _names as n
from traced_router._facts import AnswerFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router._guard import Guard, fails_open

Value: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[float]

_FRAME: Final = otel_context.create_key("traced_router.frame")
_ERROR: Final = Status(StatusCode.ERROR)
_NS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a span may say.

    Attributes:
        string: characters that a string attribute keeps.
        list_candidates: put the event ``traced_router.candidates`` on every selection, not only
            on those that follow a failure or find no deployment.
    """

    string: int = 1024
    list_candidates: bool = False


def _wall_and_monotonic() -> tuple[int, int]:
    """The two clocks, read together: a pause between the two reads would shift the whole call."""
    for _ in range(3):
        before = time.perf_counter_ns()
        wall = time.time_ns()
        after = time.perf_counter_ns()
        if after - before < 50_000:
            break
    return wall, after


class Timeline:
    """Nanoseconds since the epoch, moved on by a monotonic clock."""

    __slots__ = ("_clock", "_offset")

    def __init__(
        self,
        clock: Callable[[], int] = time.perf_counter_ns,
        start: Callable[[], tuple[int, int]] = _wall_and_monotonic,
    ) -> None:
        wall, monotonic = start()
        self._clock = clock
        self._offset = wall - monotonic

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return self._clock() + self._offset


def text(value: str, limit: int) -> str:
    """``value`` as an attribute may carry it: cut at ``limit``, and encodable as UTF-8."""
    if len(value) > limit:
        value = value[:limit]
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call when it comes in; see the request span's attributes."""

    operation: str
    model_group: str | None = None
    trace_id: str | None = None
    strategy: str | None = None
    streaming: bool = False
    session_id: str | None = None
    user_id: str | None = None


class Frame:
    """Where the code that runs now stands in a tree; travels in the OpenTelemetry context.

    ``owner`` is whatever an adapter wants to find again there; the tree does not look at it.
    """

    __slots__ = ("call", "hop", "owner")

    def __init__(self, call: "Call | Batch | None", hop: "Hop | None" = None, owner: object = None) -> None:
        self.call = call
        self.hop = hop
        self.owner = owner


def current_frame() -> Frame | None:
    """The frame of the code that runs now, if it runs inside a traced call."""
    frame = otel_context.get_value(_FRAME)
    return frame if isinstance(frame, Frame) else None


def with_frame(frame: Frame, context: Context) -> Context:
    """``context``, but standing at ``frame``."""
    return otel_context.set_value(_FRAME, frame, context)


class Tree:
    """Makes the trees of one router.

    Args:
        tracer: the tracer in force now; asked at every call, so that a provider which is
            installed after the router was built works.
        guard: where faults go.
        limits: how much a span may say.
        engine: the litellm core underneath, when some seam is not fully there.
        capabilities: ``seam=level`` for those seams.
        timeline: makes the time line of an outermost call.
    """

    __slots__ = ("_timeline", "_tracer", "capabilities", "engine", "guard", "limits")

    def __init__(
        self,
        tracer: Callable[[], Tracer],
        guard: Guard,
        *,
        limits: Limits | None = None,
        engine: str | None = None,
        capabilities: tuple[str, ...] = (),
        timeline: Callable[[], Timeline] = Timeline,
    ) -> None:
        self._tracer = tracer
        self._timeline = timeline
        self.guard = guard
        self.limits = limits or Limits()
        self.engine = engine
        self.capabilities = capabilities

    @fails_open("request")
    def open_call(
        self, facts: CallFacts, *, links: Sequence[Link] = (), context: Context | None = None
    ) -> "Call | Unrecorded":
        """Start a request span under ``context`` (the current one when ``None``)."""
        parent = otel_context.get_current() if context is None else context
        outer = parent.get(_FRAME)
        enclosing = outer.call if isinstance(outer, Frame) else None
        timeline = self._timeline() if enclosing is None else enclosing.timeline
        limit = self.limits.string
        attributes: dict[str, Value] = {n.OPERATION: facts.operation}
        if facts.model_group is not None:
            attributes[n.MODEL_GROUP] = text(facts.model_group, limit)
        if facts.trace_id is not None:
            attributes[n.TRACE_ID] = text(facts.trace_id, limit)
        start = timeline.now()
        span = self._tracer().start_span(
            text(n.request_span(facts.operation, facts.model_group), limit),
            parent,
            SpanKind.INTERNAL,
            attributes,
            links,
            start,
        )
        if not span.is_recording():
            return Unrecorded(with_frame(Frame(None), trace.set_span_in_context(span, parent)))
        call = Call(self, span, facts, timeline, start, parent)
        if isinstance(enclosing, Batch) and isinstance(outer, Frame) and outer.owner is enclosing:
            enclosing.join(call)
        return call

    @fails_open("batch")
    def open_batch(self, operation: str, model_groups: Sequence[str], size: int) -> "Batch | Unrecorded":
        """Start a batch span under the current context."""
        parent = otel_context.get_current()
        outer = parent.get(_FRAME)
        enclosing = outer.call if isinstance(outer, Frame) else None
        timeline = self._timeline() if enclosing is None else enclosing.timeline
        groups = text(",".join(model_groups), self.limits.string)
        span = self._tracer().start_span(
            n.batch_span(groups),
            parent,
            SpanKind.INTERNAL,
            {n.OPERATION: operation, n.MODEL_GROUP: groups, n.BATCH_SIZE: size},
            (),
            timeline.now(),
        )
        if not span.is_recording():
            return Unrecorded(with_frame(Frame(None), trace.set_span_in_context(span, parent)))
        return Batch(self, span, timeline, parent)


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A call that nobody records: no SDK, or sampled out.

    Its context still hands the span on, so that what happens below is not sampled either, and
    hides the frame of a call around it.
    """

    context: Context


class Batch:
    """One ``abatch_*`` call: it ends when the last of its calls has ended."""

    __slots__ = ("_open", "_returned", "_span", "context", "guard", "timeline")

    def __init__(self, tree: Tree, span: Span, timeline: Timeline, parent: Context) -> None:
        self.guard = tree.guard
        self.timeline = timeline
        self._span = span
        self._open = 0
        self._returned = False
        self.context = with_frame(Frame(self, owner=self), trace.set_span_in_context(span, parent))

    def join(self, call: "Call") -> None:
        """``call`` is a member: the batch lasts at least as long."""
        self._open += 1
        call.when_done = self._left

    def _left(self) -> None:
        self._open -= 1
        self._end_when_over()

    @fails_open("batch")
    def returned(self, error: BaseException | None = None) -> None:
        """The ``abatch_*`` call is over, with ``error`` if it raised; its members may not be."""
        self._returned = True
        if error is not None and isinstance(error, Exception):
            self._span.set_attribute(n.ERROR_TYPE, type(error).__name__)
            self._span.set_status(_ERROR)
        self._end_when_over()

    def _end_when_over(self) -> None:
        if self._returned and self._open == 0:
            self._span.end(self.timeline.now())


class Call:
    """One public call of the router: the request span and all that hangs under it."""

    __slots__ = (
        "_attempts",
        "_backoff",
        "_backoff_ns",
        "_chunks",
        "_consumer_ns",
        "_context",
        "_done",
        "_facts",
        "_failed_group",
        "_failed_type",
        "_fallbacks",
        "_first_chunk_ns",
        "_limits",
        "_numbers",
        "_open_attempts",
        "_open_hops",
        "_open_selections",
        "_select_ns",
        "_span",
        "_start",
        "_strategy",
        "_streaming",
        "_trace_id",
        "_tree",
        "claimed",
        "context",
        "guard",
        "last_decision",
        "timeline",
        "when_done",
    )

    def __init__(
        self, tree: Tree, span: Span, facts: CallFacts, timeline: Timeline, start: int, parent: Context
    ) -> None:
        self.guard = tree.guard
        self.timeline = timeline
        self.claimed = False
        """Set once the call has gone past its public edge: a further edge is another call."""
        self.when_done: Callable[[], None] | None = None
        self.last_decision: DecisionFacts | None = None
        self._tree = tree
        self._limits = tree.limits
        self._span = span
        self._facts = facts
        self._start = start
        self._context = trace.set_span_in_context(span, parent)
        self.context = with_frame(Frame(self), self._context)
        self._trace_id = facts.trace_id
        self._strategy = facts.strategy
        self._streaming = facts.streaming
        self._attempts: list[Attempt] = []
        self._open_attempts: list[Attempt] = []
        self._open_selections: list[Selection] = []
        self._open_hops: list[Hop] = []
        self._numbers: dict[Hop | None, int] = {}
        self._backoff: Backoff | None = None
        self._fallbacks = 0
        self._failed_group = facts.model_group
        self._failed_type: str | None = None
        self._select_ns = self._backoff_ns = self._consumer_ns = 0
        self._chunks = 0
        self._first_chunk_ns: int | None = None
        self._done = False

    # --- what adapters ask -------------------------------------------------------------------

    @property
    def operation(self) -> str:
        """The operation in the span's name."""
        return self._facts.operation

    @property
    def model_group(self) -> str | None:
        """The group that the caller asked for."""
        return self._facts.model_group

    @property
    def trace_id(self) -> str:
        """``litellm_trace_id``: the caller's or litellm's, made here where neither made one."""
        if self._trace_id is None:
            self._trace_id = str(uuid.uuid4())
        return self._trace_id

    @property
    def span_context(self) -> trace.SpanContext:
        """What a link to this request points at."""
        return self._span.get_span_context()

    def belongs_to(self, tree: Tree) -> bool:
        """Whether ``tree`` made this call."""
        return self._tree is tree

    @property
    def done(self) -> bool:
        """Whether the request span has ended."""
        return self._done

    @property
    def failed(self) -> bool:
        """Whether something of this call has failed already."""
        return self._failed_type is not None

    @property
    def open_attempt(self) -> "Attempt | None":
        """The attempt that started last and has not ended."""
        return self._open_attempts[-1] if self._open_attempts else None

    def tried(self) -> frozenset[str]:
        """Ids of the deployments that have failed this request."""
        return frozenset(a.deployment.id for a in self._attempts if a.failed and a.deployment.id is not None)

    def parent_context(self, hop: "Hop | None") -> Context:
        """The context that a child of ``hop``, or of the request, starts under."""
        return self._context if hop is None or hop.done else hop.span_context

    # --- what adapters tell ------------------------------------------------------------------

    def adopt_trace_id(self, trace_id: object) -> None:
        """litellm has made its id."""
        if self._trace_id is None and trace_id is not None:
            self._trace_id = text(str(trace_id), self._limits.string)

    @fails_open("selection")
    def select(self, model_group: str | None, hop: "Hop | None", owner: object = None) -> "Selection":
        """Start a selection span."""
        self.end_backoff()
        selection = Selection(self, model_group or self._facts.model_group or "", hop, owner)
        self._open_selections.append(selection)
        return selection

    @fails_open("attempt")
    def attempt(
        self,
        deployment: DeploymentFacts,
        hop: "Hop | None",
        *,
        model_group: str | None = None,
        parameters: Mapping[str, Value] | None = None,
        owner: object = None,
    ) -> "Attempt":
        """Start an attempt span: litellm is about to be called with ``deployment``."""
        self.end_backoff()
        number_in_hop = self._numbers.get(hop, 0) + 1
        self._numbers[hop] = number_in_hop
        attempt = Attempt(self, deployment, hop, len(self._attempts) + 1, number_in_hop, model_group, parameters, owner)
        self._attempts.append(attempt)
        self._open_attempts.append(attempt)
        return attempt

    @fails_open("backoff")
    def backoff(self, seconds: float, source: str, retry_after: float | None, hop: "Hop | None") -> None:
        """The router is about to wait; the wait ends with whatever happens next."""
        self.end_backoff()
        self._backoff = Backoff(self, seconds, source, retry_after, hop)

    def end_backoff(self) -> None:
        """The wait, if there is one, is over."""
        if self._backoff is not None:
            backoff, self._backoff = self._backoff, None
            self._backoff_ns += backoff.end()

    @fails_open("fallback")
    def hop(self, target: str, kind: str, depth: int) -> "Hop":
        """Start a fallback span: the router goes to another group (or the rest of this one)."""
        self.end_backoff()
        self._fallbacks += 1
        hop = Hop(self, target, kind, depth, self._failed_group, self._failed_type)
        self._open_hops.append(hop)
        return hop

    def hop_failed(self, group: str | None, error_type: str) -> None:
        """``group`` gave up: the next hop, if any, comes from there."""
        self.end_backoff()
        self._failed_group = group if group is not None else self._failed_group
        self._failed_type = error_type

    # --- streams -----------------------------------------------------------------------------

    def streams(self) -> None:
        """The caller gets a stream: the request goes on until it is over."""
        self._streaming = True

    def chunk(self) -> None:
        """The caller gets a chunk."""
        self._chunks += 1
        if self._first_chunk_ns is None:
            self._first_chunk_ns = self.timeline.now() - self._start

    def waited_for_consumer(self, nanoseconds: int) -> None:
        """The stream waited that long for its reader."""
        self._consumer_ns += nanoseconds
        for attempt in self._open_attempts:
            attempt.consumer_ns += nanoseconds

    # --- the end -----------------------------------------------------------------------------

    @fails_open("request")
    def finish(self, how: str, failure: FailureFacts | None = None, stream_outcome: str | None = None) -> None:
        """End the request and whatever is still open under it. Only the first time counts.

        Args:
            how: ``ok``, ``error``, ``cancelled`` or ``abandoned``.
            failure: of an ``error``.
            stream_outcome: how the stream ended, when there was one.
        """
        if self._done:
            return
        self._done = True
        try:
            self._end_children(how, failure)
            now = self.timeline.now()
            self._span.set_attributes(self._summary(how, failure, stream_outcome, now - self._start))
            if how == "error":
                self._span.set_status(_ERROR)
            self._span.end(now)
        finally:
            if self.when_done is not None:
                self.when_done()

    def _end_children(self, how: str, failure: FailureFacts | None) -> None:
        self.end_backoff()
        for selection in self._open_selections[::-1]:
            selection.end(None, failure)
        for attempt in self._open_attempts[::-1]:
            if failure is None:
                attempt.left(cancelled=how == "cancelled")
            else:
                attempt.fail(failure)
        for hop in self._open_hops[::-1]:
            hop.end(None if failure is None else failure.error_type)

    def _summary(
        self, how: str, failure: FailureFacts | None, stream_outcome: str | None, duration: int
    ) -> dict[str, Value]:
        facts = self._facts
        retries = sum(1 for a in self._attempts if a.reason == "retry")
        served = self._served(how)
        limit = self._limits.string
        out: dict[str, Value] = {
            n.TRACE_ID: text(self.trace_id, limit),
            n.OUTCOME: self._outcome(how, served, retries),
            n.ATTEMPTS: len(self._attempts),
            n.RETRIES: retries,
            n.FALLBACKS: self._fallbacks,
            n.STREAMING: self._streaming,
        }
        if self._strategy is not None:
            out[n.STRATEGY_NAME] = self._strategy
        if facts.session_id is not None:
            out[n.SESSION_ID] = text(facts.session_id, limit)
        if facts.user_id is not None:
            out[n.USER_ID] = text(facts.user_id, limit)
        if failure is not None:
            out[n.ERROR_TYPE] = failure.error_type
        if served is not None:
            if served.model_group is not None:
                out[n.SERVED_MODEL_GROUP] = served.model_group
            if served.deployment.id is not None:
                out[n.SERVED_DEPLOYMENT_ID] = served.deployment.id
        if self._streaming:
            if stream_outcome is not None:
                out[n.STREAM_OUTCOME] = stream_outcome
                out[n.STREAM_CHUNKS] = self._chunks
            if self._first_chunk_ns is not None:
                out[n.TIME_TO_FIRST_CHUNK] = self._first_chunk_ns * _NS
        self._add_cost(out, served)
        self._add_times(out, served, duration)
        if self._tree.engine is not None:
            out[n.ENGINE] = self._tree.engine
        if self._tree.capabilities:
            out[n.CAPABILITIES] = self._tree.capabilities
        return out

    def _served(self, how: str) -> "Attempt | None":
        if how == "error":
            return None
        return next((a for a in reversed(self._attempts) if a.answered and not a.failed), None)

    def _outcome(self, how: str, served: "Attempt | None", retries: int) -> str:
        if how != "ok":
            return how
        if served.hop is not None if served is not None else self._fallbacks:
            return "ok_after_fallback"
        return "ok_after_retry" if retries else "ok"

    def _add_cost(self, out: dict[str, Value], served: "Attempt | None") -> None:
        known = [a for a in self._attempts if a.cost is not None]
        if known:
            out[n.COST_TOTAL] = sum((a.cost or 0.0 for a in known), 0.0)
            out[n.COST_WASTED] = sum((a.cost or 0.0 for a in known if a is not served), 0.0)

    def _add_times(self, out: dict[str, Value], served: "Attempt | None", duration: int) -> None:
        # Attempts can overlap (a file goes to every deployment of a group at once): what they
        # waited together is at most what the caller waited.
        rest = max(0, duration - self._select_ns - self._backoff_ns - self._consumer_ns)
        provider = min(rest, sum(a.busy_ns for a in self._attempts))
        wasted = min(provider, sum(a.busy_ns for a in self._attempts if a is not served))
        out[n.TIME_SELECT] = self._select_ns * _NS
        out[n.TIME_PROVIDER] = provider * _NS
        out[n.TIME_BACKOFF] = self._backoff_ns * _NS
        out[n.TIME_CONSUMER] = self._consumer_ns * _NS
        out[n.TIME_OVERHEAD] = (rest - provider) * _NS
        out[n.TIME_WASTED] = (wasted + self._backoff_ns) * _NS

    # --- what children tell ------------------------------------------------------------------

    def start_span(
        self, name: str, hop: "Hop | None", kind: SpanKind, attributes: Mapping[str, Value] | None, start: int
    ) -> Span:
        """Start a child span."""
        return self._tree._tracer().start_span(  # noqa: SLF001  # the tree's own module
            name, self.parent_context(hop), kind, attributes, (), start
        )

    def selected(self, selection: "Selection", nanoseconds: int, decision: DecisionFacts | None) -> None:
        """A selection has ended."""
        self._open_selections.remove(selection)
        self._select_ns += nanoseconds
        if decision is not None:
            self.last_decision = decision
            if self._strategy is None or decision.strategy is not None:
                self._strategy = decision.strategy or self._strategy

    def attempted(self, attempt: "Attempt") -> None:
        """An attempt has ended."""
        self._open_attempts.remove(attempt)
        hop = attempt.hop
        if hop is not None:
            hop.attempt_ended(attempt)

    def still_open_under(self, hop: "Hop") -> bool:
        """Whether an attempt of ``hop`` is open."""
        return any(a.hop is hop for a in self._open_attempts)

    def hop_ended(self, hop: "Hop") -> None:
        """A hop has ended."""
        self._open_hops.remove(hop)

    @property
    def limits(self) -> Limits:
        """How much a span may say."""
        return self._limits


class Selection:
    """One pick of a deployment."""

    __slots__ = ("_call", "_done", "_group", "_span", "_start", "context", "guard")

    def __init__(self, call: Call, model_group: str, hop: "Hop | None", owner: object) -> None:
        self.guard = call.guard
        self._call = call
        self._group = model_group
        self._done = False
        self._start = call.timeline.now()
        self._span = call.start_span(
            text(n.selection_span(model_group), call.limits.string), hop, SpanKind.INTERNAL, None, self._start
        )
        self.context = with_frame(
            Frame(call, hop, owner), trace.set_span_in_context(self._span, call.parent_context(hop))
        )

    @fails_open("selection")
    def end(self, decision: DecisionFacts | None, failure: FailureFacts | None = None) -> None:
        """End the span, with the decision if one came about. Only the first time counts."""
        if self._done:
            return
        self._done = True
        call = self._call
        now = call.timeline.now()
        call.selected(self, now - self._start, decision)
        try:
            if decision is not None:
                self._span.set_attributes(_decision_attributes(decision, call.limits.string))
                if decision.ids and (call.limits.list_candidates or call.failed or failure is not None):
                    self._span.add_event(n.CANDIDATES_EVENT, _candidates(decision), now)
            if failure is not None:
                self._span.set_attribute(n.ERROR_TYPE, failure.error_type)
                self._span.set_status(_ERROR)
        finally:
            self._span.end(now)


def _decision_attributes(decision: DecisionFacts, limit: int) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for key, value in (
        (n.STRATEGY_NAME, decision.strategy),
        (n.DECISION_REASON, decision.reason),
        (n.CANDIDATES_TOTAL, decision.total),
        (n.CANDIDATES_ELIGIBLE, decision.eligible),
        (n.CANDIDATES_CONSIDERED, decision.considered),
        (n.DEPLOYMENT_ID, decision.chosen_id),
        (n.CHOSEN_SCORE, decision.score),
        (n.CHOSEN_RANK_BY, decision.rank_by),
        (n.CHOSEN_INFLIGHT, decision.inflight),
        (n.RUNNER_UP_ID, decision.runner_up_id),
        (n.RUNNER_UP_SCORE, decision.runner_up_score),
        (n.DECISION_SECONDS, decision.seconds),
    ):
        if value is not None:
            out[key] = text(value, limit) if isinstance(value, str) else value
    if decision.excluded:
        for reason in decision.excluded.values():
            key = n.CANDIDATES_EXCLUDED[reason]
            count = out.get(key, 0)
            out[key] = count + 1 if isinstance(count, int) else 1
    if decision.score is not None and decision.runner_up_score:
        margin = (decision.runner_up_score - decision.score) / decision.runner_up_score
        out[n.DECISION_MARGIN] = min(1.0, max(0.0, margin))
    for name, value in list(decision.attributes.items())[: n.MAX_STRATEGY_FACTS]:
        if name != "name":
            out[n.STRATEGY_PREFIX + text(name, limit)] = text(value, limit) if isinstance(value, str) else value
    return out


def _candidates(decision: DecisionFacts) -> dict[str, Value]:
    """The event's parallel arrays: the chosen first, then the best scores, then the excluded."""
    scores = decision.scores
    order = sorted(
        decision.ids,
        key=lambda i: (i != decision.chosen_id, i in decision.excluded, scores.get(i, float("inf"))),
    )[: n.MAX_CANDIDATES_LISTED]
    return {
        n.CANDIDATES_IDS: order,
        n.CANDIDATES_SCORES: [float(scores.get(i, float("nan"))) for i in order],
        n.CANDIDATES_EXCLUDED_BY: [decision.excluded.get(i, "") for i in order],
    }


class Attempt:
    """One call of a provider through litellm."""

    __slots__ = (
        "_call",
        "_done",
        "_first_content_ns",
        "_operation",
        "_span",
        "_start",
        "answered",
        "busy_ns",
        "consumer_ns",
        "context",
        "cost",
        "deployment",
        "error_type",
        "failed",
        "guard",
        "hop",
        "model_group",
        "number",
        "partial",
        "reason",
    )

    def __init__(
        self,
        call: Call,
        deployment: DeploymentFacts,
        hop: "Hop | None",
        number: int,
        number_in_hop: int,
        model_group: str | None,
        parameters: Mapping[str, Value] | None,
        owner: object,
    ) -> None:
        self.guard = call.guard
        self._call = call
        self.deployment = deployment
        self.hop = hop
        self.number = number
        self.model_group = model_group if model_group is not None else call.model_group
        self.reason = "retry" if number_in_hop > 1 else "initial" if hop is None else "fallback"
        self.cost: float | None = None
        self.partial: Callable[[], AnswerFacts] | None = None
        """What a stream has said so far; asked when it is left or fails half-way."""
        self.answered = False
        """Whether litellm returned an answer, or a stream, for it."""
        self.failed = False
        self.error_type: str | None = None
        self.consumer_ns = 0
        self.busy_ns = 0
        self._done = False
        self._first_content_ns: int | None = None
        self._start = call.timeline.now()
        self._span = call.start_span(
            text(n.attempt_span(call.operation, deployment.model or self.model_group or ""), call.limits.string),
            hop,
            SpanKind.CLIENT,
            self._attributes(number_in_hop, parameters),
            self._start,
        )
        self.context = with_frame(
            Frame(call, hop, owner), trace.set_span_in_context(self._span, call.parent_context(hop))
        )

    def _attributes(self, number_in_hop: int, parameters: Mapping[str, Value] | None) -> dict[str, Value]:
        call, deployment, limit = self._call, self.deployment, self._call.limits.string
        out: dict[str, Value] = {
            n.GEN_AI_OPERATION: call.operation,
            n.TRACE_ID: text(call.trace_id, limit),
            n.DEPLOYMENT_ATTEMPT: number_in_hop,
            n.DEPLOYMENT_REASON: self.reason,
            n.ATTEMPT_NUMBER: self.number,
        }
        if deployment.id is not None:
            out[n.DEPLOYMENT_ID] = text(deployment.id, limit)
        if deployment.model is not None:
            out[n.GEN_AI_REQUEST_MODEL] = text(deployment.model, limit)
        if deployment.provider is not None:
            out[n.GEN_AI_PROVIDER] = deployment.provider
        if deployment.server_address is not None:
            out[n.SERVER_ADDRESS] = text(deployment.server_address, limit)
        if deployment.server_port is not None:
            out[n.SERVER_PORT] = deployment.server_port
        if self.model_group is not None:
            out[n.DEPLOYMENT_MODEL_GROUP] = text(self.model_group, limit)
        if parameters:
            out.update(parameters)
        decision = call.last_decision
        if decision is not None and decision.predicted_seconds is not None:
            out[n.ATTEMPT_PREDICTED_SECONDS] = decision.predicted_seconds
        return out

    @property
    def done(self) -> bool:
        """Whether the span has ended."""
        return self._done

    def first_content(self) -> None:
        """The first chunk with content has come."""
        if self._first_content_ns is None:
            self._first_content_ns = self._call.timeline.now() - self._start

    @fails_open("attempt")
    def cooled_down(self, deployment_id: str, seconds: float, reason: str) -> None:
        """This attempt's failure put a deployment into cooldown."""
        self._span.add_event(
            n.COOLDOWN_EVENT,
            {
                n.DEPLOYMENT_ID: text(deployment_id, self._call.limits.string),
                n.COOLDOWN_SECONDS: float(seconds),
                n.COOLDOWN_REASON: reason,
            },
            self._call.timeline.now(),
        )

    @fails_open("attempt")
    def succeed(self, answer: AnswerFacts) -> None:
        """The provider answered. Only the first of succeed, fail and left counts."""
        if not self._done:
            self.answered = True
            self._end(answer, None)

    @fails_open("attempt")
    def fail(self, failure: FailureFacts) -> None:
        """The provider, or litellm on the way there, failed."""
        if not self._done:
            self.failed = True
            self.error_type = failure.error_type
            self._end(None, failure)

    @fails_open("attempt")
    def left(self, *, cancelled: bool = False) -> None:
        """The caller left: not an error."""
        if not self._done:
            self._end(None, FailureFacts("", "cancelled") if cancelled else None)

    def _end(self, answer: AnswerFacts | None, failure: FailureFacts | None) -> None:
        self._done = True
        now = self._call.timeline.now()
        self.busy_ns = max(0, now - self._start - self.consumer_ns)
        out: dict[str, Value] = {}
        try:
            if answer is None and self.partial is not None:
                answer = self.partial()
            if answer is not None:
                self.cost = answer.cost
                _answer_attributes(out, answer, self._call.limits.string)
            if self._first_content_ns is not None:
                out[n.GEN_AI_TIME_TO_FIRST_CHUNK] = self._first_content_ns * _NS
            if failure is not None:
                _failure_attributes(out, failure)
                if failure.category != "cancelled":
                    self._span.set_status(_ERROR)
            if out:
                self._span.set_attributes(out)
            self._span.end(now)
        finally:
            self._call.attempted(self)


def _answer_attributes(out: dict[str, Value], answer: AnswerFacts, limit: int) -> None:
    if answer.response_id is not None:
        out[n.GEN_AI_RESPONSE_ID] = text(answer.response_id, limit)
    if answer.response_model is not None:
        out[n.GEN_AI_RESPONSE_MODEL] = text(answer.response_model, limit)
    if answer.finish_reasons:
        out[n.GEN_AI_RESPONSE_FINISH_REASONS] = answer.finish_reasons
    if answer.input_tokens is not None:
        out[n.GEN_AI_INPUT_TOKENS] = answer.input_tokens
    if answer.output_tokens is not None:
        out[n.GEN_AI_OUTPUT_TOKENS] = answer.output_tokens
    if answer.cache_read_tokens is not None:
        out[n.GEN_AI_CACHE_READ_TOKENS] = answer.cache_read_tokens
    if answer.reasoning_tokens is not None:
        out[n.GEN_AI_REASONING_TOKENS] = answer.reasoning_tokens
    if answer.cost is not None:
        out[n.ATTEMPT_COST] = answer.cost
    if answer.cache_hit:
        out[n.CACHE_HIT] = True


def _failure_attributes(out: dict[str, Value], failure: FailureFacts) -> None:
    out[n.ERROR_CATEGORY] = failure.category
    if failure.category != "cancelled":
        out[n.ERROR_TYPE] = failure.error_type
    if failure.status_code is not None:
        out[n.HTTP_STATUS] = failure.status_code
    if failure.retry_after is not None:
        out[n.ATTEMPT_RETRY_AFTER] = failure.retry_after


class Backoff:
    """One wait before the next attempt."""

    __slots__ = ("_call", "_span", "_start")

    def __init__(self, call: Call, seconds: float, source: str, retry_after: float | None, hop: "Hop | None") -> None:
        self._call = call
        self._start = call.timeline.now()
        attributes: dict[str, Value] = {n.BACKOFF_SECONDS: float(seconds), n.BACKOFF_SOURCE: source}
        if retry_after is not None:
            attributes[n.BACKOFF_RETRY_AFTER] = retry_after
        self._span = call.start_span(n.BACKOFF_SPAN, hop, SpanKind.INTERNAL, attributes, self._start)

    def end(self) -> int:
        """End the span; how many nanoseconds it lasted."""
        now = self._call.timeline.now()
        self._span.end(now)
        return now - self._start


class Hop:
    """One fallback. It ends with its own failure, with its answer, or with its answer's stream."""

    __slots__ = ("_call", "_returned", "_span", "done", "guard", "span_context", "target")

    def __init__(
        self, call: Call, target: str, kind: str, depth: int, from_group: str | None, error_type: str | None
    ) -> None:
        self.guard = call.guard
        self._call = call
        self.target = target
        self.done = False
        self._returned = False
        limit = call.limits.string
        attributes: dict[str, Value] = {
            n.FALLBACK_KIND: kind,
            n.FALLBACK_TO: text(target, limit),
            n.FALLBACK_DEPTH: depth,
        }
        if from_group is not None:
            attributes[n.FALLBACK_FROM] = text(from_group, limit)
        if error_type is not None:
            attributes[n.FALLBACK_ERROR_TYPE] = error_type
        self._span = call.start_span(
            text(n.fallback_span(target), limit), None, SpanKind.INTERNAL, attributes, call.timeline.now()
        )
        self.span_context = trace.set_span_in_context(self._span, call.parent_context(None))

    @fails_open("fallback")
    def returned(self) -> None:
        """The hop has its answer; when that is a stream, the hop lasts as long."""
        self._returned = True
        if not self._call.still_open_under(self):
            self.end(None)

    @fails_open("fallback")
    def fail(self, error_type: str) -> None:
        """The hop gave up."""
        self._call.hop_failed(self.target, error_type)
        self.end(error_type)

    def attempt_ended(self, attempt: Attempt) -> None:
        """An attempt of this hop ended: the hop's stream is over, if it had returned one."""
        if self._returned and not self.done and not self._call.still_open_under(self):
            if attempt.error_type is not None:
                self.fail(attempt.error_type)
            else:
                self.end(None)

    def end(self, error_type: str | None) -> None:
        """End the span. Only the first time counts."""
        if self.done:
            return
        self.done = True
        self._call.hop_ended(self)
        try:
            if error_type is not None:
                self._span.set_attribute(n.ERROR_TYPE, error_type)
                self._span.set_status(_ERROR)
        finally:
            self._span.end(self._call.timeline.now())
