"""Every span name and attribute key of a trace, and nothing else.

    router.{operation} {model_group}            INTERNAL  request: the caller's whole call
    ├─ router.select {model_group}              INTERNAL  selection: one pick, and why
    ├─ {operation} {model}                      CLIENT    attempt: one provider call
    ├─ router.backoff                           INTERNAL  the wait before the next attempt
    └─ router.fallback {target}                 INTERNAL  a hop; hops are flat under the request
       ├─ router.select {target}
       └─ {operation} {model}                   CLIENT

    router.batch {model_groups}                 INTERNAL  one ``abatch_*`` call over its requests

This module must not know litellm, nor OpenTelemetry's API: it holds strings, and a table
that says which span carries which key with which type. The documentation's tables and the
conformance checker are made from that table, so a key that is not here does not exist.

Keys under ``gen_ai.*``, ``server.*``, ``error.*``, ``http.*``, ``session.*`` and ``user.*`` are
OpenTelemetry's semantic conventions (GenAI: semantic-conventions 1.38 and its successor
repository); ``litellm.deployment.*`` are litellm's own; the rest is ours.
"""

from dataclasses import dataclass
from typing import Final

# --- spans -----------------------------------------------------------------------------------

REQUEST: Final = "request"
SELECTION: Final = "selection"
ATTEMPT: Final = "attempt"
BACKOFF: Final = "backoff"
FALLBACK: Final = "fallback"
BATCH: Final = "batch"

MAX_GROUP_IN_NAME: Final = 64
"""Characters of a model group that a span's name keeps: a mistyped group is still named."""

BACKOFF_SPAN: Final = "router.backoff"


def request_span(operation: str, model_group: str | None) -> str:
    """Name of a request span; a call that names no model (listing files) has no group either."""
    return f"router.{operation} {model_group[:MAX_GROUP_IN_NAME]}" if model_group else f"router.{operation}"


def selection_span(model_group: str) -> str:
    """Name of a selection span."""
    return f"router.select {model_group[:MAX_GROUP_IN_NAME]}"


def attempt_span(operation: str, model: str | None) -> str:
    """Name of an attempt span: the GenAI conventions' ``{operation} {model}``, where there is a model."""
    return f"{operation} {model[:MAX_GROUP_IN_NAME]}" if model else operation


def fallback_span(target: str) -> str:
    """Name of a fallback span."""
    return f"router.fallback {target[:MAX_GROUP_IN_NAME]}"


def batch_span(model_groups: str) -> str:
    """Name of a batch span."""
    return f"router.batch {model_groups[:MAX_GROUP_IN_NAME]}"


# --- attributes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute key: which spans carry it, as which Python type, and what it means.

    ``type`` is ``str``, ``int``, ``float``, ``bool``, or ``tuple`` for a sequence of strings.
    A key that ends in ``.*`` stands for a family of keys.
    """

    key: str
    type: type
    spans: tuple[str, ...]
    doc: str


_table: list[Attribute] = []


def _key(key: str, type_: type, spans: tuple[str, ...], doc: str) -> str:
    _table.append(Attribute(key, type_, spans, doc))
    return key


_ALL_SPANS: Final = (REQUEST, SELECTION, ATTEMPT, BACKOFF, FALLBACK, BATCH)

# request
TRACE_ID: Final = _key(
    "litellm_trace_id",
    str,
    (REQUEST, ATTEMPT),
    "litellm's id of this request, the same through retries, fallbacks and recovery; the caller's own is kept.",
)
OPERATION: Final = _key("traced_router.operation", str, (REQUEST, BATCH), "The operation in the span's name.")
MODEL_GROUP: Final = _key(
    "traced_router.model_group", str, (REQUEST, BATCH), "The model group that the caller asked for."
)
STRATEGY_NAME: Final = _key("traced_router.strategy.name", str, (REQUEST, SELECTION), "The routing strategy in force.")
OUTCOME: Final = _key(
    "traced_router.outcome",
    str,
    (REQUEST, BATCH),
    "`ok`, `ok_after_retry`, `ok_after_fallback`, `error`, `cancelled` or `abandoned`.",
)
ATTEMPTS: Final = _key("traced_router.attempts", int, (REQUEST,), "Provider calls made for this request.")
RETRIES: Final = _key(
    "traced_router.retries", int, (REQUEST,), "Attempts that repeated an earlier one in the same hop."
)
RETRIES_DENIED: Final = _key(
    "traced_router.retries.denied", int, (REQUEST,), "Retries that the retry budget refused; absent when none."
)
FALLBACKS: Final = _key("traced_router.fallbacks", int, (REQUEST,), "Fallback hops taken.")
SERVED_MODEL_GROUP: Final = _key(
    "traced_router.served.model_group", str, (REQUEST,), "The group that answered; absent on error."
)
SERVED_DEPLOYMENT_ID: Final = _key(
    "traced_router.served.deployment_id", str, (REQUEST,), "The deployment that answered; absent on error."
)
STREAMING: Final = _key(
    "traced_router.streaming", bool, (REQUEST,), "Whether the caller got a stream or asked for one."
)
STREAM_OUTCOME: Final = _key(
    "traced_router.stream.outcome", str, (REQUEST,), "`exhausted`, `closed`, `abandoned`, `cancelled` or `error`."
)
STREAM_CHUNKS: Final = _key("traced_router.stream.chunks", int, (REQUEST,), "Chunks that the caller got.")
TIME_TO_FIRST_CHUNK: Final = _key(
    "traced_router.time_to_first_chunk",
    float,
    (REQUEST,),
    "Seconds from the call to the first chunk that the caller got, over all attempts.",
)
COST_TOTAL: Final = _key(
    "traced_router.cost.total", float, (REQUEST,), "USD over all attempts; absent when no cost is known."
)
COST_WASTED: Final = _key(
    "traced_router.cost.wasted", float, (REQUEST,), "USD spent on attempts that did not serve the caller."
)
TIME_SELECT: Final = _key("traced_router.time.select", float, (REQUEST,), "Seconds spent picking deployments.")
TIME_PROVIDER: Final = _key("traced_router.time.provider", float, (REQUEST,), "Seconds spent waiting for providers.")
TIME_BACKOFF: Final = _key("traced_router.time.backoff", float, (REQUEST,), "Seconds spent in waits before attempts.")
TIME_CONSUMER: Final = _key(
    "traced_router.time.consumer", float, (REQUEST,), "Seconds that a stream waited for its reader."
)
TIME_OVERHEAD: Final = _key(
    "traced_router.time.overhead", float, (REQUEST,), "The rest of the request's duration: litellm's work and ours."
)
TIME_WASTED: Final = _key(
    "traced_router.time.wasted",
    float,
    (REQUEST,),
    "Provider time of attempts that did not serve, plus backoff.",
)
SESSION_ID: Final = _key("session.id", str, (REQUEST,), "litellm's session id, when given.")
USER_ID: Final = _key("user.id", str, (REQUEST,), "The call's `user`, when given.")
ENGINE: Final = _key(
    "traced_router.engine", str, (REQUEST,), "Which litellm core is underneath; absent when all seams are `full`."
)
CAPABILITIES: Final = _key(
    "traced_router.capabilities",
    tuple,
    (REQUEST,),
    "`seam=level` for each seam that is not `full`; absent when all are.",
)

# batch
BATCH_SIZE: Final = _key("traced_router.batch.size", int, (BATCH,), "Member requests of the batch.")

# selection
DECISION_REASON: Final = _key(
    "traced_router.decision.reason",
    str,
    (SELECTION,),
    "`only_candidate`, `lowest_score`, `tie_random`, `weighted_random`, `affinity_hit`, `affinity_spill`, "
    "`cold_start`, `probe`, `panic`, `forced_specific`, `strategy_error_fallback` or `external`.",
)
DECISION_MARGIN: Final = _key(
    "traced_router.decision.margin", float, (SELECTION,), "(runner-up − chosen) / runner-up, 0 to 1."
)
DECISION_SECONDS: Final = _key("traced_router.decision.seconds", float, (SELECTION,), "The strategy's own time.")
CANDIDATES_TOTAL: Final = _key(
    "traced_router.candidates.total", int, (SELECTION,), "Deployments configured in the group."
)
CANDIDATES_ELIGIBLE: Final = _key(
    "traced_router.candidates.eligible", int, (SELECTION,), "Left after the filters and the resilience layer."
)
CANDIDATES_CONSIDERED: Final = _key(
    "traced_router.candidates.considered", int, (SELECTION,), "Looked at by the strategy."
)
_EXCLUDED: Final = "traced_router.candidates.excluded."
EXCLUSIONS: Final = (
    "cooldown",
    "unhealthy",
    "blocked",
    "context_window",
    "rate_limit",
    "tag",
    "team",
    "order",
    "already_tried",
    "plugin",
    "ejected",
    "other",
)
CANDIDATES_EXCLUDED: Final = {
    reason: _key(f"{_EXCLUDED}{reason}", int, (SELECTION,), f"Deployments excluded: {reason}; only when not zero.")
    for reason in EXCLUSIONS
}
CHOSEN_SCORE: Final = _key(
    "traced_router.chosen.score",
    float,
    (SELECTION,),
    "The chosen deployment's score. Lower wins; where lots were drawn (`weight`, `random`), its chance, 0 to 1.",
)
CHOSEN_RANK_BY: Final = _key(
    "traced_router.chosen.rank_by",
    str,
    (SELECTION,),
    "`expected_seconds`, `inflight`, `latency`, `weight`, `cost`, `hash`, `usage` or `random`.",
)
CHOSEN_INFLIGHT: Final = _key(
    "traced_router.chosen.inflight", int, (SELECTION,), "Calls in flight on the chosen deployment before this one."
)
RUNNER_UP_ID: Final = _key("traced_router.runner_up.id", str, (SELECTION,), "The deployment that came second.")
RUNNER_UP_SCORE: Final = _key("traced_router.runner_up.score", float, (SELECTION,), "Its score.")
STRATEGY_FACTS: Final = _key("traced_router.strategy.*", object, (SELECTION,), "A strategy's own facts, at most 16.")
STRATEGY_PREFIX: Final = "traced_router.strategy."
MAX_STRATEGY_FACTS: Final = 16

# attempt
DEPLOYMENT_ID: Final = _key("litellm.deployment.id", str, (SELECTION, ATTEMPT), "The deployment chosen, or called.")
DEPLOYMENT_MODEL_GROUP: Final = _key("litellm.deployment.model_group", str, (ATTEMPT,), "The group it was picked for.")
DEPLOYMENT_ATTEMPT: Final = _key("litellm.deployment.attempt", int, (ATTEMPT,), "1-based within the hop.")
DEPLOYMENT_REASON: Final = _key("litellm.deployment.reason", str, (ATTEMPT,), "`initial`, `retry` or `fallback`.")
ATTEMPT_NUMBER: Final = _key("traced_router.attempt.number", int, (ATTEMPT,), "1-based over the whole request.")
ATTEMPT_COST: Final = _key("traced_router.attempt.cost", float, (ATTEMPT,), "USD, as litellm computes it.")
ATTEMPT_RETRY_AFTER: Final = _key(
    "traced_router.attempt.retry_after", float, (ATTEMPT,), "Seconds that the provider asked to wait."
)
ATTEMPT_PREDICTED_SECONDS: Final = _key(
    "traced_router.attempt.predicted_seconds", float, (ATTEMPT,), "The duration that the strategy expected."
)
CACHE_HIT: Final = _key("traced_router.cache.hit", bool, (ATTEMPT,), "True when litellm's cache answered.")
ERROR_CATEGORY: Final = _key(
    "traced_router.error.category",
    str,
    (ATTEMPT,),
    "`rate_limit`, `timeout`, `auth`, `context_window`, `content_policy`, `bad_request`, `not_found`, `server`, "
    "`connection`, `cancelled` or `other`.",
)
ERROR_TYPE: Final = _key("error.type", str, _ALL_SPANS, "The exception's class name; on failed spans only.")
HTTP_STATUS: Final = _key(
    "http.response.status_code", int, (ATTEMPT,), "The status that the provider really sent; on failed attempts."
)
SERVER_ADDRESS: Final = _key("server.address", str, (ATTEMPT,), "Host of the deployment's `api_base`.")
SERVER_PORT: Final = _key("server.port", int, (ATTEMPT,), "Port of the deployment's `api_base`.")
GEN_AI_OPERATION: Final = _key("gen_ai.operation.name", str, (ATTEMPT,), "GenAI conventions' operation.")
GEN_AI_PROVIDER: Final = _key("gen_ai.provider.name", str, (ATTEMPT,), "Provider, in the conventions' spelling.")
GEN_AI_REQUEST_MODEL: Final = _key("gen_ai.request.model", str, (ATTEMPT,), "The model, without its provider prefix.")
GEN_AI_REQUEST_MAX_TOKENS: Final = _key("gen_ai.request.max_tokens", int, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_TEMPERATURE: Final = _key("gen_ai.request.temperature", float, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_TOP_P: Final = _key("gen_ai.request.top_p", float, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_TOP_K: Final = _key("gen_ai.request.top_k", float, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = _key("gen_ai.request.frequency_penalty", float, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = _key("gen_ai.request.presence_penalty", float, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_SEED: Final = _key("gen_ai.request.seed", int, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_CHOICE_COUNT: Final = _key("gen_ai.request.choice.count", int, (ATTEMPT,), "As sent, when not 1.")
GEN_AI_REQUEST_STOP: Final = _key("gen_ai.request.stop_sequences", tuple, (ATTEMPT,), "As sent.")
GEN_AI_REQUEST_STREAM: Final = _key("gen_ai.request.stream", bool, (ATTEMPT,), "True when the call streams.")
GEN_AI_REQUEST_ENCODING_FORMATS: Final = _key("gen_ai.request.encoding_formats", tuple, (ATTEMPT,), "As sent.")
GEN_AI_EMBEDDINGS_DIMENSIONS: Final = _key("gen_ai.embeddings.dimension.count", int, (ATTEMPT,), "As sent.")
GEN_AI_RESPONSE_ID: Final = _key("gen_ai.response.id", str, (ATTEMPT,), "When the provider gave one.")
GEN_AI_RESPONSE_MODEL: Final = _key(
    "gen_ai.response.model", str, (ATTEMPT,), "The model that the provider says answered."
)
GEN_AI_RESPONSE_FINISH_REASONS: Final = _key("gen_ai.response.finish_reasons", tuple, (ATTEMPT,), "One per choice.")
GEN_AI_INPUT_TOKENS: Final = _key("gen_ai.usage.input_tokens", int, (ATTEMPT,), "As the provider counted.")
GEN_AI_OUTPUT_TOKENS: Final = _key("gen_ai.usage.output_tokens", int, (ATTEMPT,), "As the provider counted.")
GEN_AI_CACHE_READ_TOKENS: Final = _key(
    "gen_ai.usage.cache_read.input_tokens", int, (ATTEMPT,), "Input tokens read from the provider's prompt cache."
)
GEN_AI_REASONING_TOKENS: Final = _key(
    "gen_ai.usage.reasoning.output_tokens", int, (ATTEMPT,), "Output tokens spent on reasoning."
)
GEN_AI_TIME_TO_FIRST_CHUNK: Final = _key(
    "gen_ai.response.time_to_first_chunk", float, (ATTEMPT,), "Seconds to the first chunk with content; streams only."
)

# backoff
BACKOFF_SECONDS: Final = _key(
    "traced_router.backoff.seconds", float, (BACKOFF,), "The wait that was asked for, seconds."
)
BACKOFF_SOURCE: Final = _key(
    "traced_router.backoff.source",
    str,
    (BACKOFF,),
    "What it was computed from: `retry_after`, `exponential` or `policy`.",
)
BACKOFF_RETRY_AFTER: Final = _key(
    "traced_router.backoff.retry_after", float, (BACKOFF,), "Seconds that the provider asked for, waited or not."
)

# fallback
FALLBACK_KIND: Final = _key(
    "traced_router.fallback.kind",
    str,
    (FALLBACK,),
    "`model_group`, `default`, `order`, `weighted`, `context_window`, `content_policy` or `mid_stream`.",
)
FALLBACK_FROM: Final = _key("traced_router.fallback.from", str, (FALLBACK,), "The group that has just failed.")
FALLBACK_TO: Final = _key("traced_router.fallback.to", str, (FALLBACK,), "The group tried next.")
FALLBACK_DEPTH: Final = _key("traced_router.fallback.depth", int, (FALLBACK,), "1-based.")
FALLBACK_ERROR_TYPE: Final = _key("traced_router.fallback.error_type", str, (FALLBACK,), "The error that led to it.")

ATTRIBUTES: Final[tuple[Attribute, ...]] = tuple(_table)
"""Every attribute, in the order of the contract."""

# --- events ----------------------------------------------------------------------------------

COOLDOWN_EVENT: Final = "traced_router.cooldown"
"""On the attempt whose failure put a deployment into cooldown: id, ``seconds``, ``reason``."""
COOLDOWN_SECONDS: Final = "seconds"
COOLDOWN_REASON: Final = "reason"

CANDIDATES_EVENT: Final = "traced_router.candidates"
"""On a selection: parallel arrays ``ids``, ``scores``, ``excluded``, at most 16 entries."""
CANDIDATES_IDS: Final = "ids"
CANDIDATES_SCORES: Final = "scores"
CANDIDATES_EXCLUDED_BY: Final = "excluded"
MAX_CANDIDATES_LISTED: Final = 16

# --- values ----------------------------------------------------------------------------------

OUTCOMES: Final = ("ok", "ok_after_retry", "ok_after_fallback", "error", "cancelled", "abandoned")
STREAM_OUTCOMES: Final = ("exhausted", "closed", "abandoned", "cancelled", "error")
REASONS: Final = (
    "only_candidate",
    "lowest_score",
    "tie_random",
    "weighted_random",
    "affinity_hit",
    "affinity_spill",
    "cold_start",
    "probe",
    "panic",
    "forced_specific",
    "strategy_error_fallback",
    "external",
)
RANKINGS: Final = ("expected_seconds", "inflight", "latency", "weight", "cost", "hash", "usage", "random")
ATTEMPT_REASONS: Final = ("initial", "retry", "fallback")
ERROR_CATEGORIES: Final = (
    "rate_limit",
    "timeout",
    "auth",
    "context_window",
    "content_policy",
    "bad_request",
    "not_found",
    "server",
    "connection",
    "cancelled",
    "other",
)
BACKOFF_SOURCES: Final = ("retry_after", "exponential", "policy")
FALLBACK_KINDS: Final = (
    "model_group",
    "default",
    "order",
    "weighted",
    "context_window",
    "content_policy",
    "mid_stream",
)

# --- metrics ---------------------------------------------------------------------------------

TRACING_ERRORS: Final = "traced_router.tracing.errors"
TRACING_WHERE: Final = "traced_router.tracing.where"
