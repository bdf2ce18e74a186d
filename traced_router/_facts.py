"""The values that cross from the adapters to the tree: what happened, in plain terms.

An adapter (which knows litellm) makes these; the tree builder (which knows OpenTelemetry)
turns them into attributes. This module must know neither. ``None`` means unknown, and an
unknown fact becomes no attribute at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """A deployment as an attempt names it.

    ``model`` has no provider prefix; ``provider`` is spelt as the GenAI conventions spell it;
    ``server_address`` and ``server_port`` come from ``api_base``, never its path or query.
    """

    id: str | None = None
    model: str | None = None
    provider: str | None = None
    server_address: str | None = None
    server_port: int | None = None


class CallFacts(NamedTuple):
    """What is known of a call when it comes in; see the request span's attributes.

    ``attributes`` are those that the user wants there.
    """

    operation: str
    model_group: str | None = None
    trace_id: str | None = None
    strategy: str | None = None
    streaming: bool = False
    session_id: str | None = None
    user_id: str | None = None
    deadline: float | None = None
    deadline_first_chunk: float | None = None
    attributes: Mapping[str, str | bool | int | float | Sequence[str] | Sequence[float]] = MappingProxyType({})


Parameters: TypeAlias = Mapping[str, str | bool | int | float | Sequence[str]]
"""``gen_ai.request.*`` attributes, by key."""


class AttemptFacts(NamedTuple):
    """A provider call that is about to be made."""

    deployment: DeploymentFacts
    model_group: str | None = None
    parameters: Parameters | None = None


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What a provider's answer said of itself: ids, tokens, USD."""

    response_id: str | None = None
    response_model: str | None = None
    finish_reasons: tuple[str, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    cache_hit: bool = False


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """Why an attempt failed: never with a message, which can hold a prompt.

    ``status_code`` is one that a provider really sent; ``retry_after`` is in seconds.
    """

    error_type: str
    category: str = "other"
    status_code: int | None = None
    retry_after: float | None = None


class AttemptEnd(NamedTuple):
    """How an attempt ended, for whoever learns from it.

    ``seconds`` is the provider's time, without that of a stream's reader;
    ``time_to_first_chunk`` is in seconds too. Both ``answer`` and ``failure`` can be there: a
    stream that died half-way. ``cancelled`` says that the caller left before the end: then there is
    no ``failure``, and ``answer`` is what a stream had said until then.
    """

    answer: AnswerFacts | None
    failure: FailureFacts | None
    cancelled: bool
    seconds: float
    time_to_first_chunk: float | None


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class DecisionFacts(NamedTuple):
    """One pick, explained. Scores rank ascending: the lowest wins, unless lots were drawn.

    ``rank_by`` says what a score is. Where lots were drawn (``weighted_random``, ``random``) it is the chance,
    0 to 1. ``scores`` and ``excluded`` are keyed by deployment id; a value of ``excluded`` is one
    of :data:`traced_router._names.EXCLUSIONS`. ``seconds`` is the strategy's own time. ``ids``
    are the candidates to list, and can be left out where nobody lists them; so can ``chosen_model``, the
    chosen deployment's, where no vocabulary asks for it.
    """

    strategy: str | None = None
    reason: str | None = None
    chosen_id: str | None = None
    total: int | None = None
    eligible: int | None = None
    considered: int | None = None
    excluded: Mapping[str, str] = _NOTHING
    score: float | None = None
    rank_by: str | None = None
    inflight: int | None = None
    runner_up_id: str | None = None
    runner_up_score: float | None = None
    seconds: float | None = None
    predicted_seconds: float | None = None
    ids: Sequence[str] = ()
    scores: Mapping[str, float] = _NOTHING
    attributes: Mapping[str, str | int | float | bool] = _NOTHING
    chosen_model: str | None = None
