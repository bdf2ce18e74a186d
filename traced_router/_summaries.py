"""Requests that have ended, as people's own code is told of them; and the last one of each context.

The end of a call leaves a :class:`Finished` behind: numbers and names, no span, no context and
nothing that was asked or answered, so that keeping it keeps nothing else. What it amounts to is
worked out when somebody asks. This module must not know litellm.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final, NamedTuple

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from traced_router._attributes import SECONDS, in_order
from traced_router._facts import AnswerFacts, CallFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router.explanation import ExplainedCandidate, Explanation
from traced_router.summary import AttemptSummary, RequestSummary

_UNKNOWN: Final = DecisionFacts()
_NO_ANSWER: Final = AnswerFacts()


class Attempted(NamedTuple):
    """One attempt that has ended; times in nanoseconds."""

    number: int
    reason: str
    model_group: str | None
    deployment: DeploymentFacts
    answer: AnswerFacts | None
    failure: FailureFacts | None
    duration: int
    busy: int
    first_content: int | None
    hedge: tuple[str, str] | None = None  # role and outcome


class Decided(NamedTuple):
    """One pick that has ended."""

    model_group: str
    decision: DecisionFacts | None
    error_type: str | None


class Accounts(NamedTuple):
    """What a request came to; times in nanoseconds, the first five of which add up to its duration."""

    outcome: str
    served: int | None  # the number of the attempt that answered the caller
    served_group: str | None
    served_id: str | None
    retries: int
    hedges: int
    total: float | None
    wasted: float | None
    select: int
    provider: int
    backoff: int
    consumer: int
    overhead: int
    wasted_time: int


class Streamed(NamedTuple):
    """What became of a stream."""

    outcome: str | None
    chunks: int
    first_chunk: int | None


class Finished(NamedTuple):
    """A request that has ended."""

    facts: CallFacts
    span: SpanContext
    trace_id: str | None
    strategy: str | None
    error_type: str | None
    accounts: Accounts
    attempts: tuple[Attempted, ...]
    decisions: tuple[Decided, ...]
    fallbacks: int
    denied: int
    hedges_denied: int
    stream: Streamed | None
    cycles: int
    early: int
    budget_left: int | None

    def summary(self) -> RequestSummary:
        """The whole of it."""
        facts, span, of, stream = self.facts, self.span, self.accounts, self.stream
        return RequestSummary(
            facts.operation,
            of.outcome,
            facts.model_group,
            self.error_type,
            self.trace_id,
            format_trace_id(span.trace_id) if span.is_valid else None,
            format_span_id(span.span_id) if span.is_valid else None,
            span.trace_flags.sampled,
            facts.session_id,
            facts.user_id,
            self.strategy,
            tuple(_attempt(one, of.served) for one in self.attempts),
            tuple(explained(*one) for one in self.decisions),
            of.retries,
            self.denied,
            self.fallbacks,
            of.served_group,
            of.served_id,
            seconds=(of.select + of.provider + of.backoff + of.consumer + of.overhead) * SECONDS,
            select_seconds=of.select * SECONDS,
            provider_seconds=of.provider * SECONDS,
            backoff_seconds=of.backoff * SECONDS,
            consumer_seconds=of.consumer * SECONDS,
            overhead_seconds=of.overhead * SECONDS,
            wasted_seconds=of.wasted_time * SECONDS,
            cost_total=of.total,
            cost_wasted=of.wasted,
            streaming=stream is not None,
            stream_outcome=None if stream is None else stream.outcome,
            stream_chunks=None if stream is None or stream.outcome is None else stream.chunks,
            time_to_first_chunk=None if stream is None else _seconds(stream.first_chunk),
            amplification=_amplification(self.attempts),
            fallback_cycles=self.cycles,
            retry_after_violations=self.early,
            retry_budget_left=self.budget_left,
            hedges=of.hedges,
            hedges_denied=self.hedges_denied,
        )


def _amplification(attempts: Sequence[Attempted]) -> Mapping[str, int]:
    called = [a.model_group for a in attempts if a.answer is None or not a.answer.cache_hit]
    return dict(Counter(group for group in called if group is not None))


def _attempt(one: Attempted, served: int | None) -> AttemptSummary:
    deployment, answer, failure = one.deployment, one.answer or _NO_ANSWER, one.failure
    failed = failure is not None and failure.category != "cancelled"
    return AttemptSummary(
        one.number,
        one.reason,
        one.model_group,
        deployment.id,
        deployment.provider,
        deployment.model,
        answer.response_model,
        one.number == served,
        one.duration * SECONDS,
        one.busy * SECONDS,
        _seconds(one.first_content),
        failure.error_type if failure is not None and failed else None,
        None if failure is None else failure.category,
        None if failure is None else failure.status_code,
        None if failure is None else failure.retry_after,
        answer.input_tokens,
        answer.cache_read_tokens,
        answer.output_tokens,
        answer.reasoning_tokens,
        answer.finish_reasons,
        answer.cost,
        answer.cache_hit,
        *(one.hedge or (None, None)),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds * SECONDS


def explained(model_group: str | None, decision: DecisionFacts | None, error_type: str | None) -> Explanation:
    """A pick for people: with all candidates where they were listed, else with those that are known."""
    facts = decision or _UNKNOWN
    if not facts.ids:
        known = dict.fromkeys([facts.chosen_id, facts.runner_up_id, *facts.scores, *facts.excluded])
        facts = facts._replace(ids=tuple(i for i in known if i is not None))
    return Explanation(
        model_group,
        facts.strategy,
        facts.reason,
        facts.chosen_id,
        facts.rank_by,
        tuple(
            ExplainedCandidate(i, facts.scores.get(i), facts.excluded.get(i), i == facts.chosen_id)
            for i in in_order(facts)
        ),
        facts.considered,
        facts.predicted_seconds,
        facts.attributes,
        error_type,
    )


# --- the last one ----------------------------------------------------------------------------

_LAST: Final[ContextVar[Finished | None]] = ContextVar("traced_router.last_request", default=None)


def remember(finished: Finished | None) -> None:
    """``finished`` is the last request of this context; ``None`` when nobody followed it."""
    _LAST.set(finished)


def last_request() -> RequestSummary | None:
    """The request of a ``TracedRouter`` that ended last in this context.

    A context is what a coroutine, and all that it awaits directly, shares: an asyncio task has its own,
    and so has a thread. So after ``await router.acompletion(…)`` this is that call, whatever other tasks
    do meanwhile; after a stream, once it has been read to its end or closed.

    Returns:
        its summary; ``None`` when there was none, or when nobody followed it: no span records it,
        nobody measures, and no strategy or hook listens.
    """
    finished = _LAST.get()
    return None if finished is None else finished.summary()
