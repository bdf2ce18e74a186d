"""From facts to attributes: an unknown fact becomes none, and no string is longer than the limit.

This module must not know litellm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias, cast

from traced_router import _names as n
from traced_router._facts import AnswerFacts, DecisionFacts, FailureFacts
from traced_router._values import integer, number
from traced_router._values import texts as texts_of

Value: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[float]

SECONDS: Final = 1e-9
"""A nanosecond, in seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a span may say.

    Attributes:
        string: characters that a string attribute keeps.
        list_candidates: put the event ``traced_router.candidates`` on every selection, not only
            on those that follow a failure or find no deployment.
        llm_spans: whether attempts are LLM spans; else another instrumentation's are.
    """

    string: int = 1024
    list_candidates: bool = False
    llm_spans: bool = True


def text(value: str, limit: int) -> str:
    """``value`` as an attribute may carry it: cut at ``limit``, and encodable as UTF-8."""
    if len(value) > limit:
        value = value[:limit]
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


def without_llm(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """What an attempt still says where another instrumentation makes the LLM span."""
    return {key: value for key, value in attributes.items() if not key.startswith(n.GEN_AI_PREFIX)}


def texts(values: Sequence[str], limit: int) -> tuple[str, ...]:
    """``values`` as an attribute may carry them, each a :func:`text`."""
    return tuple(text(value, limit) for value in values)


def decision_attributes(decision: DecisionFacts, limit: int) -> dict[str, Value]:
    """A selection's attributes."""
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
    if decision.attributes:
        _add_strategy_facts(out, decision.attributes, limit)
    return out


def plain(value: object, limit: int) -> Value | None:
    """A value of somebody else's as an attribute can have it: text, a number, a flag, or a list of text."""
    if isinstance(value, str):
        return text(str.__str__(value), limit) or None
    if isinstance(value, list | tuple):
        return texts(texts_of(cast("object", value)), limit) or None
    return value if isinstance(value, bool) else integer(value) if isinstance(value, int) else number(value)


def _add_strategy_facts(out: dict[str, Value], facts: Mapping[str, object], limit: int) -> None:
    """A strategy's own facts; what no attribute can hold is left out."""
    for name, value in islice(facts.items(), n.MAX_STRATEGY_FACTS):
        if name in {"name", ""}:
            continue
        if isinstance(value, str):
            kept: Value | None = text(value, limit) or None
        else:
            kept = value if isinstance(value, bool) else integer(value) if isinstance(value, int) else number(value)
        if kept is not None:
            out[n.STRATEGY_PREFIX + text(str(name), limit)] = kept


def in_order(decision: DecisionFacts) -> list[str]:
    """The candidates: the chosen first, then the best scores, then the excluded."""
    scores, worst = decision.scores, float("inf")
    drawn = decision.reason == "weighted_random" or decision.rank_by == "random"
    sign = -1.0 if drawn else 1.0
    return sorted(
        decision.ids,
        key=lambda i: (i != decision.chosen_id, i in decision.excluded, sign * scores[i] if i in scores else worst),
    )


def candidates(decision: DecisionFacts, limit: int) -> dict[str, Value]:
    """The event's parallel arrays, :func:`in_order`.

    Without any score there is no array of them. A single one that is missing is NaN: OTLP has it,
    and any number would be taken for a score.
    """
    scores, order = decision.scores, in_order(decision)[: n.MAX_CANDIDATES_LISTED]
    out: dict[str, Value] = {
        n.CANDIDATES_IDS: [text(i, limit) for i in order],
        n.CANDIDATES_EXCLUDED_BY: [decision.excluded.get(i, "") for i in order],
    }
    if scores:
        out[n.CANDIDATES_SCORES] = [float(scores.get(i, float("nan"))) for i in order]
    return out


def answer_attributes(out: dict[str, Value], answer: AnswerFacts, limit: int) -> None:
    """Add what an answer gives an attempt."""
    if answer.response_id is not None:
        out[n.GEN_AI_RESPONSE_ID] = text(answer.response_id, limit)
    if answer.response_model is not None:
        out[n.GEN_AI_RESPONSE_MODEL] = text(answer.response_model, limit)
    if answer.finish_reasons:
        out[n.GEN_AI_RESPONSE_FINISH_REASONS] = texts(answer.finish_reasons, limit)
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


def failure_attributes(out: dict[str, Value], failure: FailureFacts, limit: int) -> None:
    """Add what a failure gives an attempt; a cancellation is none."""
    out[n.ERROR_CATEGORY] = failure.category
    if failure.category != "cancelled":
        out[n.ERROR_TYPE] = text(failure.error_type, limit)
    if failure.status_code is not None:
        out[n.HTTP_STATUS] = failure.status_code
    if failure.retry_after is not None:
        out[n.ATTEMPT_RETRY_AFTER] = failure.retry_after
