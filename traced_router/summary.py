"""What is known of a request that has ended, for people's own code: `on_request_end` and `last_request`.

This module must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from traced_router.explanation import Explanation


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """One provider call. What is not known is ``None``.

    Attributes:
        number: 1-based over the whole request.
        reason: ``initial``, ``retry`` or ``fallback``.
        model_group: the group that the deployment was picked for.
        deployment_id: the deployment that was called.
        provider: in the spelling of OpenTelemetry's GenAI conventions.
        model: without its provider's prefix.
        response_model: the model that the provider says answered.
        served: whether this one answered the caller.
        seconds: the length of its span.
        provider_seconds: the same without the time that a stream waited for its reader.
        time_to_first_chunk: seconds to the first chunk with content; streams only.
        error_type: the exception's class; ``None`` when it did not fail.
        error_category: ``rate_limit``, ``timeout``, … as ``traced_router.error.category``.
        status_code: the HTTP status of a failure, when a provider sent one.
        retry_after: seconds that the provider asked to wait.
        input_tokens: the whole prompt, cached tokens included.
        cached_input_tokens: of these, read from the provider's cache.
        output_tokens: the whole completion, reasoning included.
        reasoning_tokens: of these, spent on reasoning.
        finish_reasons: one per choice.
        cost: USD, as litellm computes it.
        cache_hit: whether litellm's cache answered.
        hedge_role: ``primary`` or ``hedge``, of two that ran beside each other.
        hedge_outcome: of these, ``won`` or ``lost``.
    """

    number: int
    reason: str
    model_group: str | None = None
    deployment_id: str | None = None
    provider: str | None = None
    model: str | None = None
    response_model: str | None = None
    served: bool = False
    seconds: float = 0.0
    provider_seconds: float = 0.0
    time_to_first_chunk: float | None = None
    error_type: str | None = None
    error_category: str | None = None
    status_code: int | None = None
    retry_after: float | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reasons: tuple[str, ...] = ()
    cost: float | None = None
    cache_hit: bool = False
    hedge_role: str | None = None
    hedge_outcome: str | None = None


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """One public call of the router, from the call to its end; a stream's, to the end of the stream.

    Nothing of what was asked or answered is in it.

    Attributes:
        operation: as in the span's name: ``chat``, ``embeddings``, …
        outcome: ``ok``, ``ok_after_retry``, ``ok_after_fallback``, ``error``, ``cancelled`` or ``abandoned``.
        model_group: the group that the caller asked for.
        error_type: the class of the exception that the caller gets.
        litellm_trace_id: litellm's id of the request.
        trace_id: of the request's span, as 32 hexadecimal digits; ``None`` without an SDK.
        span_id: likewise, 16 digits.
        sampled: whether the span is exported, as far as the SDK's sampler decides.
        session_id: litellm's session id.
        user_id: the call's ``user``.
        strategy: the routing strategy in force.
        attempts: every provider call, in order.
        decisions: every pick, in order, explained as `TracedRouter.explain` explains.
        retries: attempts that repeated an earlier one in the same hop.
        retries_denied: those that the retry budget refused.
        fallbacks: hops taken.
        served_model_group: the group that answered.
        served_deployment_id: the deployment that answered.
        seconds: the whole duration, the sum of the next five.
        select_seconds: picking deployments.
        provider_seconds: waiting for providers.
        backoff_seconds: waiting before attempts.
        consumer_seconds: a stream waiting for its reader.
        overhead_seconds: the rest: litellm's work and this package's.
        wasted_seconds: of these, providers of attempts that did not serve, and waits.
        cost_total: USD over all attempts; ``None`` when no cost is known.
        cost_wasted: USD of attempts that did not serve.
        streaming: whether the caller got a stream, or asked for one.
        stream_outcome: ``exhausted``, ``closed``, ``abandoned``, ``cancelled`` or ``error``.
        stream_chunks: chunks that the caller got.
        time_to_first_chunk: seconds from the call to the first of them.
        amplification: provider calls by model group; what litellm's cache answered is none.
        fallback_cycles: hops to a group that had failed this request.
        retry_after_violations: attempts that came earlier than their deployment had asked for.
        retry_budget_left: retries that the budget had left when this request last asked it; ``None`` when it never did.
        hedges: attempts that were sent beside another one.
        hedges_denied: those that their budget refused.
    """

    operation: str
    outcome: str
    model_group: str | None = None
    error_type: str | None = None
    litellm_trace_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    sampled: bool = False
    session_id: str | None = None
    user_id: str | None = None
    strategy: str | None = None
    attempts: tuple[AttemptSummary, ...] = ()
    decisions: tuple[Explanation, ...] = ()
    retries: int = 0
    retries_denied: int = 0
    fallbacks: int = 0
    served_model_group: str | None = None
    served_deployment_id: str | None = None
    seconds: float = 0.0
    select_seconds: float = 0.0
    provider_seconds: float = 0.0
    backoff_seconds: float = 0.0
    consumer_seconds: float = 0.0
    overhead_seconds: float = 0.0
    wasted_seconds: float = 0.0
    cost_total: float | None = None
    cost_wasted: float | None = None
    streaming: bool = False
    stream_outcome: str | None = None
    stream_chunks: int | None = None
    time_to_first_chunk: float | None = None
    amplification: Mapping[str, int] = field(default_factory=dict[str, int])
    fallback_cycles: int = 0
    retry_after_violations: int = 0
    retry_budget_left: int | None = None
    hedges: int = 0
    hedges_denied: int = 0
