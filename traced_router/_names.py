"""Every span name, attribute key and metric, and nothing else.

    router.{operation} {model_group}            INTERNAL  request: the caller's whole call
    ├─ router.select {model_group}              INTERNAL  selection: one pick, and why
    ├─ {operation} {model}                      CLIENT    attempt: one provider call
    ├─ router.backoff                           INTERNAL  the wait before the next attempt
    └─ router.fallback {target}                 INTERNAL  a hop; hops are flat under the request
       ├─ router.select {target}
       └─ {operation} {model}                   CLIENT

    router.batch {model_groups}                 INTERNAL  one ``abatch_*`` call over its requests

This module must not know litellm, nor OpenTelemetry's API: it holds strings, a table that says
which span carries which key with which type, and one that says which metric is measured in what
and by which keys. The documentation's tables, the conformance checker and the instruments are made
from these, so a key or a metric that is not here does not exist.

Keys under ``gen_ai.*``, ``server.*``, ``error.*``, ``http.*``, ``session.*`` and ``user.*`` are
OpenTelemetry's semantic conventions (GenAI: semantic-conventions 1.38 and its successor
repository); ``litellm.deployment.*`` are litellm's own; the rest is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
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
    """Name of a batch span; a batch of no requests may have no group either."""
    return f"router.batch {model_groups[:MAX_GROUP_IN_NAME]}" if model_groups else "router.batch"


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
_BUDGET: Final = "when this request last asked the retry budget; absent when it never did."
RETRY_BUDGET_LEFT: Final = _key(
    "traced_router.retry_budget.left", int, (REQUEST,), f"Retries that were left over, {_BUDGET}"
)
RETRY_BUDGET_CALLS: Final = _key(
    "traced_router.retry_budget.calls", int, (REQUEST,), f"The router's calls of the last ten seconds, {_BUDGET}"
)
RETRY_BUDGET_RETRIES: Final = _key(
    "traced_router.retry_budget.retries", int, (REQUEST,), f"Retries granted in the last ten seconds, {_BUDGET}"
)
AMPLIFICATION: Final = _key(
    "traced_router.amplification",
    int,
    (REQUEST, FALLBACK),
    "Provider calls that this request has made of the span's model group, earlier turns of it included; what "
    "litellm's cache answers is none. Absent when there was no more than one.",
)
FALLBACK_CYCLES: Final = _key(
    "traced_router.fallback.cycles", int, (REQUEST,), "Hops to a group that had failed this request; absent when none."
)
RETRY_AFTER_VIOLATIONS: Final = _key(
    "traced_router.retry_after.violations",
    int,
    (REQUEST,),
    "Attempts that came earlier than their deployment had asked for; absent when none.",
)
HEDGES: Final = _key(
    "traced_router.hedges", int, (REQUEST,), "Attempts that were sent beside another one; absent when none."
)
HEDGES_DENIED: Final = _key(
    "traced_router.hedges.denied", int, (REQUEST,), "Hedges that their budget refused; absent when none."
)
SUBSTITUTED: Final = _key(
    "traced_router.substituted",
    bool,
    (REQUEST,),
    "True when the answer is not a provider's but a retry policy's own, of its `retry_error_callback`.",
)
DEADLINE: Final = _key(
    "traced_router.deadline", float, (REQUEST,), "Seconds that the call may take; absent without a deadline."
)
DEADLINE_FIRST_CHUNK: Final = _key(
    "traced_router.deadline.first_chunk", float, (REQUEST,), "Seconds until a stream's first chunk, when limited."
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
SAMPLING_REASON: Final = _key(
    "traced_router.sampling.reason",
    str,
    (REQUEST,),
    "Why the trace was kept: `error`, `fallback`, `retry`, `cooldown`, `slow`, `wasted_cost`, `limit` or `share`.",
)
SAMPLING_WEIGHT: Final = _key(
    "traced_router.sampling.weight", float, (REQUEST,), "How many requests this one stands for; 1 where all are kept."
)
SAMPLING_KEEP: Final = _key(
    "traced_router.sampling.keep", bool, (REQUEST,), "True where a collector that samples should keep the trace."
)

METADATA: Final = _key(
    "traced_router.metadata.*",
    object,
    (REQUEST,),
    "What `metadata_attributes` allows of litellm's metadata.",
)
METADATA_PREFIX: Final = "traced_router.metadata."
MAX_ENRICHMENT: Final = 32
"""Attributes that a user can add by each way there is."""

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
    "The chosen deployment's score. Lower wins; if lots were drawn (`weighted_random`, `random`), the chance, 0 to 1.",
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
DEADLINE_REMAINING: Final = _key(
    "traced_router.deadline.remaining",
    float,
    (ATTEMPT,),
    "Seconds of the deadline that were left when the attempt began.",
)
HEDGE_ROLE: Final = _key(
    "traced_router.hedge.role", str, (ATTEMPT,), "`primary` or `hedge`, of two attempts that ran beside each other."
)
HEDGE_OUTCOME: Final = _key(
    "traced_router.hedge.outcome", str, (ATTEMPT,), "`won` or `lost`: who of the two answered the caller."
)
HEDGE_DELAY: Final = _key(
    "traced_router.hedge.delay", float, (ATTEMPT,), "Seconds that were to pass before the hedge; on the hedge."
)
HEDGE_ESTIMATED_COST: Final = _key(
    "traced_router.hedge.estimated_cost",
    float,
    (ATTEMPT,),
    "USD of the prompt that a cancelled loser was sent, estimated from its length at the deployment's price: "
    "what the provider bills is not known, and not in any other cost.",
)
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
GEN_AI_PREFIX: Final = "gen_ai."
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

_CUT: Final = "True when something of it was left out to keep to the limit."
GEN_AI_INPUT_MESSAGES: Final = _key(
    "gen_ai.input.messages", str, (ATTEMPT,), "What the call said, as JSON; only where content is captured."
)
GEN_AI_OUTPUT_MESSAGES: Final = _key(
    "gen_ai.output.messages", str, (ATTEMPT,), "What was answered, as JSON; only where content is captured."
)
GEN_AI_SYSTEM_INSTRUCTIONS: Final = _key(
    "gen_ai.system_instructions",
    str,
    (ATTEMPT,),
    "Instructions beside the messages, as JSON; only where content is captured.",
)
GEN_AI_TOOL_DEFINITIONS: Final = _key(
    "gen_ai.tool.definitions", str, (ATTEMPT,), "The tools on offer, as JSON; only where content is captured."
)
CONTENT: Final = (
    GEN_AI_INPUT_MESSAGES,
    GEN_AI_OUTPUT_MESSAGES,
    GEN_AI_SYSTEM_INSTRUCTIONS,
    GEN_AI_TOOL_DEFINITIONS,
)
"""The keys with content. Their strings have a limit of their own."""
TRUNCATED: Final = {content: _key(f"{content}.truncated", bool, (ATTEMPT,), _CUT) for content in CONTENT}

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

RETRY_AFTER_EVENT: Final = "traced_router.retry_after.violated"
"""On an attempt that comes earlier than its deployment has asked for: ``retry_after``, ``early``, ``asked_by``."""
RETRY_AFTER_ASKED: Final = "retry_after"
"""Seconds, from the end of the attempt that was told."""
RETRY_AFTER_EARLY: Final = "early"
"""Seconds by which this attempt is too early."""
RETRY_AFTER_ASKED_BY: Final = "asked_by"
"""The number of the attempt that was told."""

CYCLE_EVENT: Final = "traced_router.fallback.cycle"
"""On a hop to a group that has failed this request: ``model_group``, ``depth``, ``visits``."""
CYCLE_GROUP: Final = "model_group"
CYCLE_DEPTH: Final = "depth"
CYCLE_VISITS: Final = "visits"
"""How often the request has come to the group, this time included."""

CANDIDATES_EVENT: Final = "traced_router.candidates"
"""On a selection: parallel arrays ``ids``, ``scores``, ``excluded``, at most 16 entries."""
CANDIDATES_IDS: Final = "ids"
CANDIDATES_SCORES: Final = "scores"
CANDIDATES_EXCLUDED_BY: Final = "excluded"
MAX_CANDIDATES_LISTED: Final = 16

# --- log records -----------------------------------------------------------------------------

LOG_TRACE_ID: Final = "trace_id"
"""On a log record: the trace's id, 32 hexadecimal digits. ``litellm_trace_id`` is called as on spans."""
LOG_SPAN_ID: Final = "span_id"
"""On a log record: the current span's id, 16 hexadecimal digits."""

LOG_COOLDOWN_SECONDS: Final = "traced_router.cooldown.seconds"
LOG_COOLDOWN_REASON: Final = "traced_router.cooldown.reason"
LOG_STRATEGY_STEP: Final = "traced_router.strategy_error.step"
LOG_STRATEGY_AT: Final = "traced_router.strategy_error.at"
LOG_STRATEGY_SUPPRESSED: Final = "traced_router.strategy_error.suppressed"

LINES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fallback": (FALLBACK_FROM, FALLBACK_TO, FALLBACK_KIND, FALLBACK_DEPTH, FALLBACK_ERROR_TYPE, TRACE_ID),
        "cooldown": (DEPLOYMENT_ID, MODEL_GROUP, LOG_COOLDOWN_SECONDS, LOG_COOLDOWN_REASON, ERROR_TYPE, TRACE_ID),
        "strategy": (
            STRATEGY_NAME,
            LOG_STRATEGY_STEP,
            ERROR_TYPE,
            LOG_STRATEGY_AT,
            LOG_STRATEGY_SUPPRESSED,
            TRACE_ID,
        ),
    }
)
"""Every field of the lines that this package logs of a call; what is unknown is left out."""

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
"""A log record of an attempt, with its content as structured values: the conventions' event."""

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

PRIMARY: Final = "primary"
HEDGE: Final = "hedge"
HEDGE_ROLES: Final = (PRIMARY, HEDGE)
HEDGE_OUTCOMES: Final = ("won", "lost")

SAMPLED_ERROR: Final = "error"
SAMPLED_FALLBACK: Final = "fallback"
SAMPLED_RETRY: Final = "retry"
SAMPLED_COOLDOWN: Final = "cooldown"
SAMPLED_SLOW: Final = "slow"
SAMPLED_WASTED_COST: Final = "wasted_cost"
SAMPLED_LIMIT: Final = "limit"
SAMPLED_SHARE: Final = "share"
SAMPLING_REASONS: Final = (
    SAMPLED_ERROR,
    SAMPLED_FALLBACK,
    SAMPLED_RETRY,
    SAMPLED_COOLDOWN,
    SAMPLED_SLOW,
    SAMPLED_WASTED_COST,
    SAMPLED_LIMIT,
    SAMPLED_SHARE,
)

# --- metrics ---------------------------------------------------------------------------------

HISTOGRAM: Final = "histogram"
COUNTER: Final = "counter"
UP_DOWN_COUNTER: Final = "up-down counter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: the kind of its instrument, its unit, what it means, and the keys that split it.

    ``bounds`` are the upper bounds of a histogram's buckets, as advice to whoever aggregates.
    """

    name: str
    kind: str
    unit: str
    doc: str
    keys: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_metrics: list[Metric] = []


def _metric(name: str, kind: str, unit: str, keys: tuple[str, ...], doc: str, bounds: tuple[float, ...] = ()) -> str:
    _metrics.append(Metric(name, kind, unit, doc, keys, bounds))
    return name


OTHER: Final = "_other"
"""What a metric says for a name that the router's configuration does not have."""

GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # no secret
COST_KIND: Final = "traced_router.cost.kind"
TRACING_WHERE: Final = "traced_router.tracing.where"
LIVE_CHECK_RULE: Final = "traced_router.live_check.rule"

TOKEN_TYPES: Final = ("input", "output")
COST_KINDS: Final = ("served", "wasted")

# The GenAI conventions' boundaries of their own histograms.
_OPERATION_BOUNDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
# A request lasts as long as several attempts and the waits between them.
_REQUEST_BOUNDS: Final = (*_OPERATION_BOUNDS, 163.84, 327.68)
_SELECTION_BOUNDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_BACKOFF_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
# As far below 1 as above it, and finest where a forecast is nearly right.
_RATIO_BOUNDS: Final = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.11, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

_AMPLIFICATION_BOUNDS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0, 21.0, 34.0)
# The budget that is on unless told otherwise grants a hundred in ten seconds, and a fifth of the calls.
_BUDGET_BOUNDS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)

_ANSWER_KEYS: Final = (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL, GEN_AI_RESPONSE_MODEL)
_FAILURE_KEYS: Final = (MODEL_GROUP, DEPLOYMENT_ID, ERROR_TYPE)

METRIC_OPERATION_DURATION: Final = _metric(
    "gen_ai.client.operation.duration",
    HISTOGRAM,
    "s",
    (*_ANSWER_KEYS, ERROR_TYPE),
    "Length of each attempt's span.",
    _OPERATION_BOUNDS,
)
METRIC_TOKEN_USAGE: Final = _metric(
    "gen_ai.client.token.usage",
    HISTOGRAM,
    "{token}",
    (*_ANSWER_KEYS, GEN_AI_TOKEN_TYPE),
    "Tokens of each attempt, as the provider counted them; none for what litellm's cache answered.",
    _TOKEN_BOUNDS,
)
METRIC_TIME_TO_FIRST_CHUNK: Final = _metric(
    "gen_ai.client.operation.time_to_first_chunk",
    HISTOGRAM,
    "s",
    (*_ANSWER_KEYS, ERROR_TYPE),
    "From the beginning of each attempt to its first chunk with content; streams only.",
    _OPERATION_BOUNDS,
)
METRIC_REQUEST_DURATION: Final = _metric(
    "traced_router.request.duration",
    HISTOGRAM,
    "s",
    (OPERATION, MODEL_GROUP, OUTCOME, STRATEGY_NAME),
    "Length of each request's span: the caller's whole call, stream included.",
    _REQUEST_BOUNDS,
)
METRIC_SELECTION_DURATION: Final = _metric(
    "traced_router.selection.duration",
    HISTOGRAM,
    "s",
    (MODEL_GROUP, STRATEGY_NAME, DECISION_REASON, ERROR_TYPE),
    "Time of each pick; `error.type` instead of a reason when none came about.",
    _SELECTION_BOUNDS,
)
METRIC_ATTEMPTS: Final = _metric(
    "traced_router.attempts",
    COUNTER,
    "{attempt}",
    _FAILURE_KEYS,
    "Attempts that have ended, with their own error.",
)
METRIC_RETRIES: Final = _metric(
    "traced_router.retries",
    COUNTER,
    "{retry}",
    _FAILURE_KEYS,
    "Retries, counted against the attempt before: its deployment, and the error that led to the retry.",
)
METRIC_RETRIES_DENIED: Final = _metric(
    "traced_router.retries.denied",
    COUNTER,
    "{retry}",
    _FAILURE_KEYS,
    "Retries that the retry budget refused, counted like those that were made.",
)
METRIC_RETRY_BUDGET_LEFT: Final = _metric(
    "traced_router.retry_budget.left",
    HISTOGRAM,
    "{retry}",
    (),
    "Retries that the budget had left over, each time that it was asked for one.",
    _BUDGET_BOUNDS,
)
METRIC_AMPLIFICATION: Final = _metric(
    "traced_router.amplification",
    HISTOGRAM,
    "{attempt}",
    (MODEL_GROUP,),
    "Provider calls that a request made of a group, for each group of which it made any; what litellm's cache "
    "answered is none.",
    _AMPLIFICATION_BOUNDS,
)
METRIC_RETRY_AFTER_VIOLATIONS: Final = _metric(
    "traced_router.retry_after.violations",
    COUNTER,
    "{attempt}",
    (MODEL_GROUP, DEPLOYMENT_ID),
    "Attempts that came earlier than their deployment had asked the same request for.",
)
METRIC_COOLDOWNS: Final = _metric(
    "traced_router.cooldowns",
    COUNTER,
    "{cooldown}",
    _FAILURE_KEYS,
    "Deployments put into cooldown by this router, and the error that did it.",
)
METRIC_FALLBACKS: Final = _metric(
    "traced_router.fallbacks",
    COUNTER,
    "{fallback}",
    (FALLBACK_FROM, FALLBACK_TO, FALLBACK_KIND),
    "Hops to another group, to the next order, or to the rest of a group.",
)
METRIC_FALLBACK_CYCLES: Final = _metric(
    "traced_router.fallback.cycles",
    COUNTER,
    "{fallback}",
    (FALLBACK_FROM, FALLBACK_TO),
    "Hops to a group that had failed the same request.",
)
METRIC_HEDGES: Final = _metric(
    "traced_router.hedges",
    COUNTER,
    "{hedge}",
    (MODEL_GROUP, DEPLOYMENT_ID, HEDGE_OUTCOME),
    "Hedges that have ended, `won` or `lost`, by the deployment that they went to; and those that the budget `denied`.",
)
METRIC_INFLIGHT: Final = _metric(
    "traced_router.inflight",
    UP_DOWN_COUNTER,
    "{attempt}",
    (MODEL_GROUP, DEPLOYMENT_ID),
    "Attempts that run now.",
)
METRIC_COST: Final = _metric(
    "traced_router.cost",
    COUNTER,
    "USD",
    (MODEL_GROUP, DEPLOYMENT_ID, COST_KIND),
    "What attempts cost, where litellm knows it: `served` for those that answered the caller, else `wasted`.",
)
METRIC_BACKOFF_DURATION: Final = _metric(
    "traced_router.backoff.duration",
    HISTOGRAM,
    "s",
    (MODEL_GROUP, BACKOFF_SOURCE),
    "Length of each wait before an attempt.",
    _BACKOFF_BOUNDS,
)
METRIC_PREDICTION_RATIO: Final = _metric(
    "traced_router.prediction.ratio",
    HISTOGRAM,
    "1",
    (MODEL_GROUP, STRATEGY_NAME),
    "Seconds that an attempt kept its provider busy, by the seconds that the strategy had predicted; "
    "of attempts that succeeded.",
    _RATIO_BOUNDS,
)
TRACING_ERRORS: Final = _metric(
    "traced_router.tracing.errors",
    COUNTER,
    "{error}",
    (TRACING_WHERE,),
    "Faults inside tracing; the calls went on.",
)
LIVE_CHECK_VIOLATIONS: Final = _metric(
    "traced_router.live_check.violations",
    COUNTER,
    "{violation}",
    (LIVE_CHECK_RULE,),
    "Broken rules that `traced_router.testing.LiveCheck` found, where it is installed.",
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _metrics})
"""Every metric by its name, in the order of the contract."""
