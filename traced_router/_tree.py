"""The tree of one call: where spans are born, and where they end.

    Tree ── open_call() ──> Call ── select() ──> Selection
                             │ ──── attempt() ─> Attempt
                             │ ──── backoff() ─> Backoff
                             │ ──── hop() ─────> Hop
            open_batch() ─> Batch (its calls are children)

Adapters tell it what happened, in the words of ``_facts``; it keeps the tree true: every span
that starts ends exactly once, children end before their parents, hops are flat, and the five
parts of the request's time add up. It knows OpenTelemetry's API and must not know litellm.

All times are integer nanoseconds on one time line per outermost call.
"""

import uuid
from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer

from traced_router import _names as n
from traced_router._attributes import Limits, Value, text, without_llm
from traced_router._enrichment import OnRequestEnd, given_attributes
from traced_router._exit import OpenEnds
from traced_router._facts import AttemptFacts, CallFacts, DecisionFacts, FailureFacts
from traced_router._frame import Frame, Outside, frame_of, standing
from traced_router._guard import Guard, fails_open
from traced_router._interrupted import elsewhere, interrupts
from traced_router._ledger import Ledger
from traced_router._metrics import Measures
from traced_router._mirror import Mirror
from traced_router._spans import ERROR, Attempt, AttemptContent, AttemptListener, Backoff, Hop, Selection
from traced_router._storms import Round, stays
from traced_router._summaries import Accounts, Decided, Finished, Streamed, remember
from traced_router._timeline import Timeline
from traced_router._values import wording
from traced_router.vocabularies import Said, Vocabulary

if TYPE_CHECKING:
    from traced_router._countdown import Countdown
    from traced_router._policies import Policies
    from traced_router._retry_budget import RetryBudgetSnapshot
    from traced_router.hedging import Hedges


def _nobody() -> None:
    return None


class Tree:
    """Makes the trees of one router.

    Args:
        tracer: the tracer in force now; asked at every call, so that a provider which is
            installed after the router was built works.
        guard: where faults go.
        measures: where a call that begins now is measured; likewise.
        limits: how much a span may say.
        engine: the litellm core underneath, when some seam is not fully there.
        capabilities: ``seam=level`` for those seams.
        vocabularies: what spans say in the words of other backends too.
        on_end: the user's own function, which is told of every request that ends.
        timeline: makes the time line of an outermost call.
    """

    __slots__ = (
        "_timeline",
        "capabilities",
        "engine",
        "guard",
        "limits",
        "measures",
        "mirror",
        "on_end",
        "open_ends",
        "tracer",
    )

    def __init__(
        self,
        tracer: Callable[[], Tracer],
        guard: Guard,
        *,
        measures: Callable[[], Measures | None] = _nobody,
        limits: Limits | None = None,
        engine: str | None = None,
        capabilities: tuple[str, ...] = (),
        vocabularies: tuple[Vocabulary, ...] = (),
        on_end: OnRequestEnd | None = None,
        timeline: Callable[[], Timeline] = Timeline,
    ) -> None:
        self.tracer = tracer
        self._timeline = timeline
        self.guard = guard
        self.measures = measures
        self.limits = limits or Limits()
        self.engine = engine
        self.capabilities = capabilities
        self.on_end = on_end
        self.mirror = Mirror(vocabularies, guard, self.limits.string) if vocabularies else None
        self.open_ends = OpenEnds()

    def start_span(
        self,
        name: str,
        parent: Context,
        kind: SpanKind,
        attributes: Mapping[str, Value] | None,
        links: Sequence[Link],
        start: int,
    ) -> Span:
        """Start a span; where nobody makes any, one that hands on the caller's trace, as older APIs (1.30) do not."""
        span = self.tracer().start_span(name, parent, kind, attributes, links, start)
        if span is trace.INVALID_SPAN:
            return trace.NonRecordingSpan(trace.get_current_span(parent).get_span_context())
        return span

    def _mirror(self, span: Span, said: Said, parent: Context) -> None:
        """Say in every vocabulary what ``span``, the first of its tree, has said at its start."""
        if self.mirror is not None and span.is_recording():
            root = not trace.get_current_span(parent).get_span_context().is_valid
            self.mirror.add(span, said._replace(root=root))

    @fails_open("request")
    def open_call(
        self,
        facts: CallFacts,
        *,
        links: Sequence[Link] = (),
        context: Context | None = None,
        follow: bool = False,
    ) -> "Call | Unrecorded":
        """Start a request span under ``context`` (the current one when ``None``).

        ``follow`` the call even if no span records it: a routing strategy wants to hear of it.
        """
        parent = otel_context.get_current() if context is None else context
        outer = frame_of(parent)
        enclosing = outer.call if outer is not None else None
        timeline = self._timeline() if enclosing is None else enclosing.timeline
        limit = self.limits.string
        attributes: dict[str, Value] = {**facts.attributes, n.OPERATION: facts.operation}
        if facts.model_group is not None:
            attributes[n.MODEL_GROUP] = text(facts.model_group, limit)
        if facts.trace_id is not None:
            attributes[n.TRACE_ID] = text(facts.trace_id, limit)
        if facts.deadline is not None:
            attributes[n.DEADLINE] = facts.deadline
        if facts.deadline_first_chunk is not None:
            attributes[n.DEADLINE_FIRST_CHUNK] = facts.deadline_first_chunk
        start = timeline.now()
        name = text(n.request_span(facts.operation, facts.model_group), limit)
        try:
            span = self.start_span(name, parent, SpanKind.INTERNAL, attributes, links, start)
        except Exception as fault:
            if not follow:
                raise
            self.guard.report("request", fault)  # a strategy, a deadline or a policy needs the call all the same
            span = trace.INVALID_SPAN
        self._mirror(span, Said(n.REQUEST, facts.operation, attributes, start, name=name), parent)
        measures = self.measures()
        if measures is None and self.on_end is None and not (span.is_recording() or follow):
            return Unrecorded(standing(Outside(facts.trace_id, self), span, parent))
        call = Call(self, span, facts, timeline, start, parent, measures)
        if isinstance(enclosing, Batch) and outer is not None and outer.owner is enclosing:
            enclosing.join(call)
        return call

    @fails_open("batch")
    def open_batch(
        self,
        operation: str,
        model_groups: Sequence[str],
        size: int | None,
        *,
        links: Sequence[Link] = (),
        context: Context | None = None,
        follow: bool = False,
    ) -> "Batch | Unrecorded":
        """Start a batch span; ``context`` and ``follow`` as in :meth:`open_call`."""
        parent = otel_context.get_current() if context is None else context
        outer = frame_of(parent)
        enclosing = outer.call if outer is not None else None
        timeline = self._timeline() if enclosing is None else enclosing.timeline
        start = timeline.now()
        groups = text(",".join(model_groups), self.limits.string)
        attributes: dict[str, Value] = {n.OPERATION: operation}
        if groups:
            attributes[n.MODEL_GROUP] = groups
        if size is not None:
            attributes[n.BATCH_SIZE] = size
        name = n.batch_span(groups)
        span = self.start_span(name, parent, SpanKind.INTERNAL, attributes, links, start)
        self._mirror(span, Said(n.BATCH, operation, attributes, start, name=name), parent)
        if not (span.is_recording() or follow):
            return Unrecorded(standing(Frame(None), span, parent))
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

    __slots__ = ("_limit", "_open", "_returned", "_span", "context", "guard", "timeline")

    def __init__(self, tree: Tree, span: Span, timeline: Timeline, parent: Context) -> None:
        self.guard = tree.guard
        self.timeline = timeline
        self._limit = tree.limits.string
        self._span = span
        self._open = 0
        self._returned = False
        self.context = standing(Frame(self, owner=self), span, parent)

    @property
    def known_trace_id(self) -> None:
        """Each of its calls has one, and it has none."""
        return

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
        if isinstance(error, Exception):
            self._span.set_attribute(n.ERROR_TYPE, text(type(error).__name__, self._limit))
            self._span.set_status(ERROR)
        elif error is not None:
            self._span.set_attribute(n.OUTCOME, "cancelled" if isinstance(error, CancelledError) else "abandoned")
        self._end_when_over()

    def _end_when_over(self) -> None:
        if self._returned and self._open == 0 and self._span.is_recording():
            self._span.end(self.timeline.now())


class Call:
    """One public call of the router: the request span and all that hangs under it."""

    __slots__ = (
        "_backoff",
        "_context",
        "_done",
        "_facts",
        "_failed_group",
        "_failed_type",
        "_limits",
        "_numbers",
        "_open_attempts",
        "_open_hops",
        "_open_selections",
        "_round",
        "_span",
        "_start",
        "_strategy",
        "_streaming",
        "_trace_id",
        "_tree",
        "allow_retry",
        "alone",
        "claimed",
        "countdown",
        "guard",
        "hedges",
        "last_decision",
        "ledger",
        "measures",
        "policies",
        "recording",
        "repeats",
        "retry_budget",
        "timeline",
        "when_done",
    )

    def __init__(
        self,
        tree: Tree,
        span: Span,
        facts: CallFacts,
        timeline: Timeline,
        start: int,
        parent: Context,
        measures: Measures | None,
    ) -> None:
        self.guard = tree.guard
        self.timeline = timeline
        self.recording = span.is_recording()
        """Whether attributes are worth computing."""
        self.claimed = False
        """Set once the call has gone past its public edge: a further edge is another call."""
        self.alone = False
        """Whether no other group stands by: the caller has disabled fallbacks."""
        self.allow_retry: Callable[[], bool] | None = None
        """Whether the router may send one more attempt after a failure, where somebody limits that."""
        self.retry_budget: Callable[[], RetryBudgetSnapshot | None] | None = None
        """What is left of the budget that limits it."""
        self.countdown: Countdown | None = None
        """The call's deadline, running down."""
        self.policies: Policies | None = None
        """The retry policies in force; without one for its group, litellm's own loop retries."""
        self.hedges: Hedges | None = None
        """When a second attempt is sent beside the first, where hedges are in force."""
        self.repeats: int | None = None
        """Retries so far in the turn of the group whose attempts a policy makes now."""
        self.when_done: Callable[[], None] | None = None
        self.last_decision: DecisionFacts | None = None
        self.measures = measures
        """Where this call is measured, if anybody does."""
        self._tree = tree
        self._limits = tree.limits
        self._span = span
        self._facts = facts
        self._start = start
        self._context = trace.set_span_in_context(span, parent)
        self._trace_id = facts.trace_id
        self._strategy = facts.strategy
        self._streaming = facts.streaming
        self.ledger = Ledger()
        self._open_attempts: list[Attempt] = []
        self._open_selections: list[Selection] = []
        self._open_hops: list[Hop] = []
        self._numbers: dict[Hop | None, int] = {}
        self._backoff: Backoff | None = None
        self._round: Round | None = None
        self._failed_group = facts.model_group
        self._failed_type: str | None = None
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
    def strategy(self) -> str | None:
        """The strategy in force: of the last pick, when that said."""
        return self._strategy

    @property
    def trace_id(self) -> str:
        """``litellm_trace_id``: the caller's or litellm's, made here where neither made one."""
        if self._trace_id is None:
            self._trace_id = str(uuid.uuid4())
        return self._trace_id

    @property
    def known_trace_id(self) -> str | None:
        """``litellm_trace_id`` as far as it is known: asking makes none."""
        return self._trace_id

    @property
    def span_context(self) -> trace.SpanContext:
        """What a link to this request points at."""
        return self._span.get_span_context()

    @property
    def open_ends(self) -> OpenEnds:
        """Where something that may be open at exit is known."""
        return self._tree.open_ends

    def belongs_to(self, tree: Tree) -> bool:
        """Whether ``tree`` made this call."""
        return self._tree is tree

    @property
    def done(self) -> bool:
        """Whether the request span has ended."""
        return self._done

    @property
    def told(self) -> bool:
        """Whether a function of the user's is told of this call's end."""
        return self._tree.on_end is not None

    @property
    def failed(self) -> bool:
        """Whether something of this call has failed already."""
        return self._failed_type is not None or any(a.failed for a in self.ledger.attempts)

    @property
    def open_hop(self) -> "Hop | None":
        """The hop that started last and has not ended."""
        return self._open_hops[-1] if self._open_hops else None

    @property
    def open_attempt(self) -> "Attempt | None":
        """The attempt that started last and has not ended."""
        return self._open_attempts[-1] if self._open_attempts else None

    def tried(self) -> frozenset[str]:
        """Ids of the deployments that have failed this request."""
        return frozenset(a.deployment.id for a in self.ledger.attempts if a.failed and a.deployment.id is not None)

    def parent_context(self, hop: "Hop | None") -> Context:
        """The context that a child of ``hop``, or of the request, starts under."""
        return self._context if hop is None or hop.done else hop.span_context

    # --- what adapters tell ------------------------------------------------------------------

    @fails_open("request")
    def adopt_trace_id(self, trace_id: object) -> None:
        """litellm has made its id."""
        words = wording(trace_id) if self._trace_id is None else None
        if words is not None:
            self._trace_id = text(words, self._limits.string)

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
        facts: AttemptFacts,
        hop: "Hop | None",
        owner: object = None,
        listener: AttemptListener | None = None,
        *,
        beside: object = None,
        content: AttemptContent | None = None,
    ) -> "Attempt":
        """Start an attempt span: litellm is about to be called.

        Attempts ``beside`` the same object run at the same time: what ends one of them says nothing of the others.
        """
        self.end_backoff()
        in_hop = self._numbers[hop] = self._numbers.get(hop, 0) + 1
        numbers = (len(self.ledger.attempts) + 1, in_hop)
        attempt = Attempt(self, facts, hop, numbers, owner, listener, beside, content)
        self.ledger.attempts.append(attempt)
        self._open_attempts.append(attempt)
        return attempt

    @fails_open("backoff")
    def backoff(self, seconds: float, source: str, retry_after: float | None, hop: "Hop | None") -> None:
        """The router is about to wait; the wait ends with whatever happens next.

        litellm can go on when the caller is gone: a stream that is torn down breaks, and what breaks is tried again.
        """
        self.end_backoff()
        if self._done:
            return
        self._backoff = Backoff(self, seconds, source, retry_after, hop)

    @fails_open("backoff")
    def end_backoff(self) -> None:
        """The wait, if there is one, is over."""
        if self._backoff is not None:
            backoff, self._backoff = self._backoff, None
            backoff.end()

    @fails_open("fallback")
    def hop(self, target: str, kind: str, behind: Callable[[str], str] = str) -> "Hop":
        """Start a fallback span: the router goes to another group (or the rest of this one).

        ``behind`` tells which group a name is an alias of.
        """
        self.end_backoff()
        visits = 0 if stays(kind, self._failed_group, target) else self._visits(target, behind)
        self.ledger.fallbacks += 1
        hop = Hop(self, target, kind, self.ledger.fallbacks, self._failed_group, self._failed_type)
        self._open_hops.append(hop)
        if visits > 1:
            self.ledger.cycles += 1
            hop.goes_in_a_circle(self.ledger.fallbacks, visits)
        if self.measures is not None:
            self.measures.fell_back(hop.span_context, self._failed_group, target, kind, in_a_circle=visits > 1)
        return hop

    def _visits(self, target: str, behind: Callable[[str], str]) -> int:
        """How often the request will have come to ``target``."""
        if self._round is None:
            self._round = Round(behind)
            self._round.called((self.model_group,))
        attempts = self.ledger.attempts
        self._round.called(attempt.model_group for attempt in attempts[self._round.attempts :])
        self._round.attempts = len(attempts)
        return self._round.arrives(target)

    def hop_failed(self, group: str | None, error_type: str) -> None:
        """``group`` gave up: the next hop, if any, comes from there, and nobody waits for an attempt any more."""
        self.end_backoff()
        for attempt in self._open_attempts[::-1]:
            attempt.left()
        self._failed_group = group if group is not None else self._failed_group
        self._failed_type = error_type

    def may_retry(self) -> bool:
        """Whether the router may send one more attempt after a failure; what is said of it is kept."""
        if self.allow_retry is None:
            return True
        allowed = self.allow_retry()
        self.ledger.denied += not allowed
        budget = None if self.retry_budget is None else self.retry_budget()
        if budget is not None:
            self.ledger.budget = budget
            if self.measures is not None:
                before = self.ledger.attempts[-1] if self.ledger.attempts else None
                self.measures.asked_for_a_retry(self._context, budget.left, self._group_now, before, allowed=allowed)
        return allowed

    @property
    def _group_now(self) -> str | None:
        """The group whose turn it is."""
        hop = self.open_hop
        return self.model_group if hop is None else hop.target

    def hedge_denied(self) -> None:
        """A hedge would have been sent, and the budget did not allow it."""
        self.ledger.hedges_denied += 1
        if self.measures is not None:
            self.measures.hedged(self._context, self._group_now, None, "denied")

    def lost(self, failure: FailureFacts) -> None:
        """The router goes on without the attempts that are open.

        Most have failed of themselves. A stream whose provider said in so many words that it
        failed, in an event that litellm reads, has not: it is merely not read any further.
        """
        for attempt in self._open_attempts[::-1]:
            if attempt.beside is None:
                attempt.fail(failure)

    # --- streams -----------------------------------------------------------------------------

    def streams(self) -> None:
        """The caller gets a stream: the request goes on until it is over."""
        self._streaming = True

    def first_chunk(self) -> None:
        """The caller gets its first chunk."""
        self.ledger.first_chunk_ns = self.timeline.now() - self._start
        if self.countdown is not None:
            self.countdown.first_chunk()

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
        if how == "abandoned" and interrupts():
            elsewhere(self._finish, how, failure, stream_outcome)
        else:
            self._finish(how, failure, stream_outcome)

    @fails_open("request")
    def _finish(self, how: str, failure: FailureFacts | None, stream_outcome: str | None) -> None:
        try:
            self._end_children(how, failure)
            now = self.timeline.now()
            accounts = self.ledger.accounts(how, now - self._start)
            if self.measures is not None:
                self.measures.ended(
                    self._context,
                    self.operation,
                    self.model_group,
                    self._strategy,
                    self.ledger,
                    how,
                    now - self._start,
                )
            try:
                if self.recording:
                    said = self._summary(accounts, failure, stream_outcome)
                    self.describe(self._span, n.REQUEST, said, (self._start, now))
                    if how == "error":
                        self._span.set_status(ERROR)
                self._conclude(accounts, failure, stream_outcome)
            finally:
                self._span.end(now)
        finally:
            if self.when_done is not None:
                self.when_done()

    @fails_open("summary")
    def _conclude(self, accounts: Accounts, failure: FailureFacts | None, stream_outcome: str | None) -> None:
        """Leave behind what there is to know of this call, and tell whoever wants to."""
        ledger = self.ledger
        finished = Finished(
            self._facts,
            self.span_context,
            self._trace_id,
            self._strategy,
            None if failure is None else failure.error_type,
            accounts,
            tuple(a.ended for a in ledger.attempts if a.ended is not None),
            tuple(ledger.decisions),
            ledger.fallbacks,
            ledger.denied,
            ledger.hedges_denied,
            Streamed(stream_outcome, ledger.chunks, ledger.first_chunk_ns) if self._streaming else None,
            ledger.cycles,
            ledger.early,
            None if ledger.budget is None else ledger.budget.left,
        )
        if accounts.outcome != "abandoned" or stream_outcome == "closed":
            remember(finished)  # what is abandoned ends wherever the collector happens to come
        if self._tree.on_end is not None:
            self._tell(self._tree.on_end, finished)

    @fails_open("on_request_end")
    def _tell(self, on_end: OnRequestEnd, finished: Finished) -> None:
        words = on_end(finished.summary())
        if words is not None and self.recording:
            self._span.set_attributes(given_attributes(words, self._limits.string))

    def _end_children(self, how: str, failure: FailureFacts | None) -> None:
        self.end_backoff()
        for selection in self._open_selections[::-1]:
            selection.end(None, failure)
        for attempt in self._open_attempts[::-1]:
            if how == "ok":
                attempt.over()
            elif failure is None:
                attempt.leave(cancelled=how == "cancelled")
            else:
                attempt.fail(failure)
        for hop in self._open_hops[::-1]:
            hop.end(None if failure is None else failure.error_type)

    def _summary(
        self, accounts: Accounts, failure: FailureFacts | None, stream_outcome: str | None
    ) -> dict[str, Value]:
        facts, limit = self._facts, self._limits.string
        out: dict[str, Value] = {n.TRACE_ID: text(self.trace_id, limit), n.STREAMING: self._streaming}
        for key, value in (
            (n.STRATEGY_NAME, self._strategy),
            (n.SESSION_ID, facts.session_id),
            (n.USER_ID, facts.user_id),
            (n.ERROR_TYPE, None if failure is None else failure.error_type),
            (n.ENGINE, self._tree.engine),
        ):
            if value is not None:
                out[key] = text(value, limit)
        if self._tree.capabilities:
            out[n.CAPABILITIES] = self._tree.capabilities
        if self._streaming:
            self.ledger.add_stream(out, stream_outcome)
        self.ledger.add_accounts(out, accounts, limit)
        amplification = self.ledger.amplification(None, self.model_group)
        if amplification:
            out[n.AMPLIFICATION] = amplification
        return out

    # --- what children tell ------------------------------------------------------------------

    def start_span(
        self, role: str, name: str, hop: "Hop | None", attributes: Mapping[str, Value] | None, start: int
    ) -> Span:
        """Start a child span."""
        kind, mirror = SpanKind.CLIENT if role == n.ATTEMPT else SpanKind.INTERNAL, self._tree.mirror
        if role == n.ATTEMPT and not self._limits.llm_spans:
            kind, mirror, attributes = SpanKind.INTERNAL, None, without_llm(attributes or {})
        span = self._tree.start_span(name, self.parent_context(hop), kind, attributes, (), start)
        if mirror is not None and self.recording:
            mirror.add(span, Said(role, self.operation, attributes or {}, start, name=name))
        return span

    def describe(
        self,
        span: Span,
        role: str,
        attributes: Mapping[str, Value],
        extent: tuple[int, int],
        model: str | None = None,
    ) -> None:
        """Set what ``span``, this call's own or a child's, says at the end of its ``extent``."""
        mirror = self._tree.mirror
        if role == n.ATTEMPT and not self._limits.llm_spans:
            mirror, attributes = None, without_llm(attributes)
        span.set_attributes(attributes)
        if mirror is not None and self.recording:
            mirror.add(span, Said(role, self.operation, attributes, *extent, model=model))

    def backed_off(self, nanoseconds: int) -> None:
        """A wait has ended."""
        self.ledger.backoff_ns += nanoseconds

    def selected(self, selection: "Selection", nanoseconds: int, decided: Decided) -> None:
        """A selection has ended."""
        self._open_selections.remove(selection)
        self.ledger.select_ns += nanoseconds
        self.ledger.decisions.append(decided)
        decision = decided.decision
        if decision is not None:
            if self.last_decision is None:  # a fallback's group may have another strategy
                self._strategy = decision.strategy or self._strategy
            self.last_decision = decision

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
