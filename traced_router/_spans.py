"""The children of a request span: one class a kind, each ending exactly once.

They tell the :class:`~traced_router._tree.Call` that owns them when they are over; it keeps the
sums. This module must not know litellm.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from traced_router import _log_lines
from traced_router import _names as n
from traced_router._attributes import (
    SECONDS,
    Value,
    answer_attributes,
    candidates,
    decision_attributes,
    failure_attributes,
    text,
    texts,
)
from traced_router._facts import AnswerFacts, AttemptEnd, AttemptFacts, DecisionFacts, FailureFacts, Parameters
from traced_router._frame import Frame, standing
from traced_router._guard import fails_open
from traced_router._interrupted import interrupts
from traced_router._storms import Early, nanoseconds_early
from traced_router._summaries import Attempted, Decided

if TYPE_CHECKING:
    from traced_router._tree import Call

ERROR: Final = Status(StatusCode.ERROR)
_DEADLINE: Final = FailureFacts("DeadlineExceeded", "timeout")


class AttemptListener(Protocol):
    """Hears of one attempt: a routing strategy that learns from it."""

    def first_chunk(self) -> None:
        """The first chunk with content has come."""
        ...

    def ended(self, end: AttemptEnd | None) -> None:
        """The attempt is over; ``None`` when it never left."""
        ...


class AttemptContent(Protocol):
    """What an attempt says and is answered, where that is captured; its methods do not raise."""

    def asked(self, attributes: Mapping[str, Value], /) -> Mapping[str, Value] | None:
        """Further attributes of a span that begins with ``attributes``."""
        ...

    def chunk(self, chunk: object, /) -> None:
        """A stream has brought a chunk."""
        ...

    def answered(self, answer: object, /) -> None:
        """The provider has answered."""
        ...

    def said(self, otherwise: str, /) -> Mapping[str, Value] | None:
        """Further attributes at the end; ``otherwise`` is the finish reason where the answer has none."""
        ...

    def emit(self, attributes: Mapping[str, Value], context: Context, now: int, /) -> None:
        """The attempt ends with ``attributes``: tell it beside the span, where that is wanted."""
        ...


class Hedge(Protocol):
    """What an attempt is in a race of two."""

    @property
    def role(self) -> str:
        """``primary`` or ``hedge``."""
        ...

    @property
    def outcome(self) -> str | None:
        """``won`` or ``lost``; ``None`` where it ran alone."""
        ...

    @property
    def delay(self) -> float | None:
        """Seconds after the primary, of a hedge."""
        ...

    @property
    def estimated_cost(self) -> float | None:
        """USD of its prompt, estimated."""
        ...


class Selection:
    """One pick of a deployment."""

    __slots__ = ("_call", "_done", "_group", "_span", "_start", "context", "guard")

    def __init__(self, call: "Call", model_group: str, hop: "Hop | None", owner: object) -> None:
        self.guard = call.guard
        self._call = call
        self._group = model_group
        self._done = False
        self._start = call.timeline.now()
        self._span = call.start_span(
            n.SELECTION, text(n.selection_span(model_group), call.limits.string), hop, None, self._start
        )
        self.context = standing(Frame(call, hop, owner), self._span, call.parent_context(hop))

    @fails_open("selection")
    def end(self, decision: DecisionFacts | None, failure: FailureFacts | None = None) -> None:
        """End the span, with the decision if one came about. Only the first time counts."""
        if self._done:
            return
        self._done = True
        call = self._call
        now = call.timeline.now()
        decided = Decided(self._group, decision, None if failure is None else failure.error_type)
        call.selected(self, now - self._start, decided)
        if call.measures is not None:
            call.measures.selected(self.context, self._group, call.strategy, decision, failure, now - self._start)
        try:
            if decision is not None and call.recording:
                said, extent = decision_attributes(decision, call.limits.string), (self._start, now)
                call.describe(self._span, n.SELECTION, said, extent, decision.chosen_model)
                if failure is not None or (decision.ids and (call.limits.list_candidates or call.failed)):
                    self._span.add_event(n.CANDIDATES_EVENT, candidates(decision, call.limits.string), now)
            if failure is not None:
                said = {n.ERROR_TYPE: text(failure.error_type, call.limits.string)}
                call.describe(self._span, n.SELECTION, said, (self._start, now))
                self._span.set_status(ERROR)
        finally:
            self._span.end(now)


class Attempt:
    """One call of a provider through litellm."""

    __slots__ = (
        "_call",
        "_consumed_before",
        "_done",
        "_first_content_ns",
        "_listener",
        "_span",
        "_start",
        "answered",
        "beside",
        "busy_ns",
        "content",
        "context",
        "cost",
        "deployment",
        "early",
        "ended",
        "error_type",
        "failed",
        "guard",
        "hedge",
        "hop",
        "meter",
        "model_group",
        "number",
        "partial",
        "reason",
    )

    def __init__(
        self,
        call: "Call",
        facts: AttemptFacts,
        hop: "Hop | None",
        numbers: tuple[int, int],
        owner: object,
        listener: AttemptListener | None,
        beside: object,
        content: AttemptContent | None,
    ) -> None:
        self.guard = call.guard
        self._call = call
        self.content = content
        """What hears of the answer and of every chunk, where content is captured."""
        self.deployment = facts.deployment
        self.hop = hop
        self.model_group = facts.model_group if facts.model_group is not None else call.model_group
        self.number, in_hop = numbers
        self.beside = beside
        same = (a for a in call.ledger.attempts[::-1] if a.hop is hop and (beside is None or a.beside is not beside))
        before = next(same, None)
        self.reason = "retry" if before is not None else "initial" if hop is None else "fallback"
        self.cost: float | None = None
        self.partial: Callable[[], AnswerFacts] | None = None
        """What a stream has said so far; asked when it is left or fails half-way."""
        self.answered = False
        """Whether litellm returned an answer, or a stream, for it."""
        self.failed = False
        self.ended: Attempted | None = None
        """What it came to."""
        self.early: Early | None = None
        """How much earlier it is than its deployment has asked for."""
        self.hedge: Hedge | None = None
        """What it is in a race, where there may be one."""
        self.error_type: str | None = None
        self.busy_ns = 0
        self._listener = listener
        self._consumed_before = call.ledger.consumer_ns
        self._done = False
        self._first_content_ns: int | None = None
        self._start = call.timeline.now()
        if call.ledger.attempts:
            self.early = self._earliness(call.ledger.attempts)
        attributes = self._attributes(in_hop, facts.parameters) if call.recording else None
        self._span = call.start_span(
            n.ATTEMPT,
            text(n.attempt_span(call.operation, self.deployment.model or self.model_group), call.limits.string),
            hop,
            attributes,
            self._start,
        )
        if content is not None and attributes is not None:
            asked = content.asked(attributes)
            if asked:
                call.describe(self._span, n.ATTEMPT, asked, (self._start, self._start))
        self.context = standing(Frame(call, hop, owner), self._span, call.parent_context(hop))
        measures = call.measures
        self.meter = None if measures is None else measures.attempt(self, call.operation, before, call.last_decision)

    def _attributes(self, in_hop: int, parameters: Parameters | None) -> dict[str, Value]:
        call, deployment, limit = self._call, self.deployment, self._call.limits.string
        out: dict[str, Value] = {
            n.GEN_AI_OPERATION: call.operation,
            n.TRACE_ID: text(call.trace_id, limit),
            n.DEPLOYMENT_ATTEMPT: in_hop,
            n.DEPLOYMENT_REASON: self.reason,
            n.ATTEMPT_NUMBER: self.number,
        }
        if deployment.id is not None:
            out[n.DEPLOYMENT_ID] = text(deployment.id, limit)
        if deployment.model is not None:
            out[n.GEN_AI_REQUEST_MODEL] = text(deployment.model, limit)
        if deployment.provider is not None:
            out[n.GEN_AI_PROVIDER] = text(deployment.provider, limit)
        if deployment.server_address is not None:
            out[n.SERVER_ADDRESS] = text(deployment.server_address, limit)
        if deployment.server_port is not None:
            out[n.SERVER_PORT] = deployment.server_port
        if self.model_group is not None:
            out[n.DEPLOYMENT_MODEL_GROUP] = text(self.model_group, limit)
        if parameters:
            for key, value in parameters.items():
                out[key] = texts(value, limit) if isinstance(value, tuple) else value
        self._add_prospects(out)
        return out

    def _add_prospects(self, out: dict[str, Value]) -> None:
        """Add how long the attempt may take, and how long it is expected to."""
        call = self._call
        if call.countdown is not None and (remaining := call.countdown.remaining) is not None:
            out[n.DEADLINE_REMAINING] = remaining
        decision = call.last_decision
        if decision is not None and decision.predicted_seconds is not None:
            out[n.ATTEMPT_PREDICTED_SECONDS] = decision.predicted_seconds

    def _earliness(self, earlier: "Sequence[Attempt]") -> Early | None:
        """How much earlier this one is than its deployment has last asked for, if it is."""
        own = self.deployment.id
        for attempt in reversed(earlier):
            ended = attempt.ended if own is not None and attempt.deployment.id == own else None
            asked = None if ended is None or ended.failure is None else ended.failure.retry_after
            if ended is not None and asked is not None:
                by = nanoseconds_early(asked, attempt._start + ended.duration, self._start)  # noqa: SLF001  # its own class
                return Early(attempt.number, asked, by) if by else None
        return None

    @property
    def done(self) -> bool:
        """Whether the span has ended."""
        return self._done

    @property
    def cached(self) -> bool:
        """Whether litellm's cache answered, so that no provider was called."""
        return self.ended is not None and self.ended.answer is not None and self.ended.answer.cache_hit

    @property
    def lost(self) -> bool:
        """Whether another one, that ran beside it, had an answer first."""
        return self.hedge is not None and self.hedge.outcome == "lost"

    @property
    def is_hedge(self) -> bool:
        """Whether it was sent beside another one that took long."""
        return self.hedge is not None and self.hedge.role == n.HEDGE

    @fails_open("attempt")
    def first_content(self) -> None:
        """The first chunk with content has come."""
        if self._first_content_ns is None:
            self._first_content_ns = self._call.timeline.now() - self._start
            if self._listener is not None:
                self._listener.first_chunk()

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
        """The caller left. Where the collector has thrown them away, the end of the request follows, and ends this."""
        if not interrupts():
            self.leave(cancelled=cancelled)

    @fails_open("attempt")
    def leave(self, *, cancelled: bool) -> None:
        """End without an answer: not an error. Unless it was the call's deadline that took the caller away."""
        countdown = self._call.countdown
        if cancelled and countdown is not None and countdown.struck:
            self.fail(_DEADLINE)
        elif not self._done:
            self._end(None, FailureFacts("", "cancelled") if cancelled else None, left=True)

    @fails_open("attempt")
    def over(self) -> None:
        """The caller has all that it wanted, and nobody has said how the provider ended."""
        if not self._done:
            self.answered = True
            self._end(None, None)

    def _end(self, answer: AnswerFacts | None, failure: FailureFacts | None, *, left: bool = False) -> None:
        self._done = True
        call = self._call
        now = call.timeline.now()
        self.busy_ns = max(0, now - self._start - (call.ledger.consumer_ns - self._consumed_before))
        # A follower refers to its attempt: let go of it, or the chunks it keeps wait for the collector.
        partial, self.partial = self.partial, None
        try:
            if answer is None and partial is not None:
                answer = partial()
            if answer is not None:
                self.cost = answer.cost
            duration, first = now - self._start, self._first_content_ns
            about = (self.number, self.reason, self.model_group, self.deployment)
            raced = self._raced(left=left)
            self.ended = Attempted(*about, answer, failure, duration, self.busy_ns, first, raced)
            if self.early is not None and not self.cached:
                self._came_early(self.early)
            if call.recording:
                self._describe(answer, failure, now, left=left)
        finally:
            try:
                self._span.end(now)
            finally:
                if self.meter is not None:
                    error_type = None if failure is None or failure.category == "cancelled" else failure.error_type
                    busy = self.busy_ns if failure is None and not left else None
                    self.meter.ended(answer, error_type, now - self._start, self._first_content_ns, busy)
                call.attempted(self)
                self._tell(answer, None if left else failure, left=left)

    def _came_early(self, early: Early) -> None:
        """A provider was called before the time that it had asked for."""
        said = {n.RETRY_AFTER_ASKED: early.asked, n.RETRY_AFTER_EARLY: early.by * SECONDS}
        self._span.add_event(n.RETRY_AFTER_EVENT, {**said, n.RETRY_AFTER_ASKED_BY: early.asked_by}, self._start)
        self._call.ledger.early += 1
        if self.meter is not None:
            self.meter.came_early()

    def _raced(self, *, left: bool) -> tuple[str, str] | None:
        """What it was in a race of two, and what came of it."""
        hedge, call = self.hedge, self._call
        if hedge is None or hedge.outcome is None:
            return None
        if call.recording:
            said: dict[str, Value] = {n.HEDGE_ROLE: hedge.role, n.HEDGE_OUTCOME: hedge.outcome}
            if hedge.delay is not None:
                said[n.HEDGE_DELAY] = hedge.delay
            if left and self.cost is None and (estimated := hedge.estimated_cost) is not None:
                said[n.HEDGE_ESTIMATED_COST] = estimated
            self._span.set_attributes(said)
        if call.measures is not None and hedge.role == n.HEDGE:
            call.measures.hedged(self.context, self.model_group, self.deployment.id, hedge.outcome)
        return hedge.role, hedge.outcome

    def _describe(self, answer: AnswerFacts | None, failure: FailureFacts | None, now: int, *, left: bool) -> None:
        out: dict[str, Value] = {}
        if answer is not None:
            answer_attributes(out, answer, self._call.limits.string)
        if self._first_content_ns is not None:
            out[n.GEN_AI_TIME_TO_FIRST_CHUNK] = self._first_content_ns * SECONDS
        if failure is not None:
            failure_attributes(out, failure, self._call.limits.string)
            if failure.category != "cancelled":
                self._span.set_status(ERROR)
        content, self.content = self.content, None
        if content is not None:
            out.update(content.said("cancelled" if left else "error" if failure is not None else "stop") or {})
            content.emit(out, self.context, now)
        if out:
            self._call.describe(self._span, n.ATTEMPT, out, (self._start, now))

    def _tell(self, answer: AnswerFacts | None, failure: FailureFacts | None, *, left: bool) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            first = None if self._first_content_ns is None else self._first_content_ns * SECONDS
            listener.ended(AttemptEnd(answer, failure, left, self.busy_ns * SECONDS, first))


class Backoff:
    """One wait before the next attempt."""

    __slots__ = ("_call", "_hop", "_source", "_span", "_start")

    def __init__(self, call: "Call", seconds: float, source: str, retry_after: float | None, hop: "Hop | None") -> None:
        self._call = call
        self._hop = hop
        self._source = source
        self._start = call.timeline.now()
        attributes: dict[str, Value] = {n.BACKOFF_SECONDS: float(seconds), n.BACKOFF_SOURCE: source}
        if retry_after is not None:
            attributes[n.BACKOFF_RETRY_AFTER] = retry_after
        self._span = call.start_span(n.BACKOFF, n.BACKOFF_SPAN, hop, attributes, self._start)

    def end(self) -> None:
        """End the span."""
        call, hop = self._call, self._hop
        now = call.timeline.now()
        call.backed_off(now - self._start)
        if call.measures is not None:
            context = trace.set_span_in_context(self._span, call.parent_context(hop))
            group = call.model_group if hop is None else hop.target
            call.measures.backed_off(context, group, self._source, now - self._start)
        self._span.end(now)


class Hop:
    """One fallback. It ends with its own failure, with its answer, or with its answer's stream."""

    __slots__ = ("_call", "_returned", "_span", "_start", "done", "guard", "span_context", "target")

    def __init__(
        self, call: "Call", target: str, kind: str, depth: int, from_group: str | None, error_type: str | None
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
            attributes[n.FALLBACK_ERROR_TYPE] = text(error_type, limit)
        self._start = call.timeline.now()
        self._span = call.start_span(n.FALLBACK, text(n.fallback_span(target), limit), None, attributes, self._start)
        self.span_context = trace.set_span_in_context(self._span, call.parent_context(None))
        _log_lines.fell_back(call, self, attributes)

    def goes_in_a_circle(self, depth: int, visits: int) -> None:
        """The hop is to a group that has failed this request."""
        group = text(self.target, self._call.limits.string)
        said: dict[str, Value] = {n.CYCLE_GROUP: group, n.CYCLE_DEPTH: depth, n.CYCLE_VISITS: visits}
        self._span.add_event(n.CYCLE_EVENT, said, self._start)

    @fails_open("fallback")
    def returned(self) -> None:
        """The hop has its answer; when that is a stream, the hop lasts as long."""
        self._returned = True
        if not self._call.still_open_under(self):
            self.end(None)

    @fails_open("fallback")
    def fail(self, error_type: str) -> None:
        """The hop gave up. Only the first time counts: hops that litellm nested in it have failed since."""
        if not self.done:
            self._call.hop_failed(self.target, error_type)
            self.end(error_type)

    def attempt_ended(self, attempt: Attempt) -> None:
        """An attempt of this hop ended: the hop's stream is over, if it had returned one.

        Unless it died: then the router may try again inside the hop, go on to another, or give up,
        and each of these says so.
        """
        if self._returned and attempt.error_type is None and not self._call.still_open_under(self):
            self.end(None)

    @fails_open("fallback")
    def end(self, error_type: str | None) -> None:
        """End the span. Only the first time counts."""
        if self.done:
            return
        self.done = True
        call = self._call
        call.hop_ended(self)
        now = call.timeline.now()
        try:
            amplification = call.ledger.amplification(self, self.target) if call.recording else 0
            said: dict[str, Value] = {n.AMPLIFICATION: amplification} if amplification else {}
            if error_type is not None:
                said[n.ERROR_TYPE] = text(error_type, call.limits.string)
                self._span.set_status(ERROR)
            if said:
                call.describe(self._span, n.FALLBACK, said, (self._start, now))
        finally:
            self._span.end(now)
