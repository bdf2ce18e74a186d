"""Langfuse: the type of an observation, its model, what it used and cost, and whose trace it is.

Names as in Langfuse's `attributes.ts`. Langfuse reads `gen_ai.usage.*` by itself, and adds up every
number that it finds there, the cached tokens once more beside the input that they are part of. So
`usage_details` says parts that do not overlap, and takes precedence. `cost_details` does, too:
without it Langfuse would work out a cost with its own prices.

This module must not know litellm.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router.vocabularies._vocabulary import (
    EVERY_SPAN,
    Names,
    Said,
    as_json,
    parameters,
    rename,
    tokens,
    total_tokens,
)

_name: Final = Names()
_ATTEMPT: Final = (n.ATTEMPT,)
_REQUEST: Final = (n.REQUEST,)

TYPE: Final = _name(
    "langfuse.observation.type",
    str,
    EVERY_SPAN,
    "`generation` for an attempt (`embedding`, or `span` without a model), `chain` for requests, batches and "
    "fallbacks, `span` for the rest.",
)
STATUS: Final = _name(
    "langfuse.observation.status_message",
    str,
    (n.REQUEST, n.SELECTION, n.ATTEMPT, n.FALLBACK),
    "`error.type`, of what failed.",
)
MODEL: Final = _name(
    "langfuse.observation.model.name", str, _ATTEMPT, "The model asked for; once it has answered, as it names itself."
)
PARAMETERS: Final = _name(
    "langfuse.observation.model.parameters",
    str,
    _ATTEMPT,
    "The `gen_ai.request.*` of the call, as JSON with their usual names.",
)
USAGE: Final = _name(
    "langfuse.observation.usage_details",
    str,
    _ATTEMPT,
    "Tokens as JSON: `input` and `output` without the parts that `input_cached_tokens` and "
    "`output_reasoning_tokens` count, and `total`.",
)
COST: Final = _name(
    "langfuse.observation.cost_details", str, _ATTEMPT, '`traced_router.attempt.cost`, USD, as JSON: `{"total":…}`.'
)
FIRST_CHUNK: Final = _name(
    "langfuse.observation.completion_start_time",
    str,
    _ATTEMPT,
    "When the first chunk with content came, ISO 8601; streams only.",
)
INPUT: Final = _name("langfuse.observation.input", str, _ATTEMPT, "`gen_ai.input.messages`, where content is captured.")
OUTPUT: Final = _name(
    "langfuse.observation.output", str, _ATTEMPT, "`gen_ai.output.messages`, where content is captured."
)
TRACE_NAME: Final = _name(
    "langfuse.trace.name",
    str,
    (n.REQUEST, n.BATCH),
    "The span's name, when nothing is above it; a trace of the caller's keeps its own.",
)
SESSION: Final = _name("langfuse.session.id", str, _REQUEST, "`session.id`.")
USER: Final = _name("langfuse.user.id", str, _REQUEST, "`user.id`.")

NAMES: Final = _name.table()

_STEPS: Final = {n.REQUEST: "chain", n.BATCH: "chain", n.FALLBACK: "chain"}
_RENAMED: Final = {n.ERROR_TYPE: STATUS, n.SESSION_ID: SESSION, n.USER_ID: USER}
_SPOKEN: Final = {
    n.GEN_AI_RESPONSE_MODEL: MODEL,
    n.GEN_AI_INPUT_MESSAGES: INPUT,
    n.GEN_AI_OUTPUT_MESSAGES: OUTPUT,
}


def mirror(said: Said) -> Mapping[str, Value]:
    """What ``said`` is to Langfuse."""
    if said.end is not None:
        return _ended(said)
    out: dict[str, Value] = {TYPE: _STEPS.get(said.role, "span")}
    if said.role == n.ATTEMPT:
        out.update(_asked(said))
    elif said.root:
        out[TRACE_NAME] = said.name
    return out


def _asked(said: Said) -> dict[str, Value]:
    out: dict[str, Value] = {}
    model, asked_for = said.attributes.get(n.GEN_AI_REQUEST_MODEL), parameters(said.attributes)
    if model is not None:
        out[TYPE] = "embedding" if said.operation == "embeddings" else "generation"
        out[MODEL] = model
    if asked_for is not None:
        out[PARAMETERS] = asked_for
    return out


def _ended(said: Said) -> dict[str, Value]:
    out = rename(said.attributes, _RENAMED)
    if said.role != n.ATTEMPT:
        return out
    out.update(rename(said.attributes, _SPOKEN))
    usage = _usage(said.attributes)
    if usage:
        out[USAGE] = as_json(usage)
    if n.ATTEMPT_COST in said.attributes:
        out[COST] = as_json({"total": said.attributes[n.ATTEMPT_COST]})
    first = said.attributes.get(n.GEN_AI_TIME_TO_FIRST_CHUNK)
    if isinstance(first, float):
        out[FIRST_CHUNK] = datetime.fromtimestamp(said.start * 1e-9 + first, UTC).isoformat()
    return out


def _usage(attributes: Mapping[str, Value]) -> Mapping[str, int]:
    """Tokens, in parts that do not overlap."""
    out: dict[str, int] = {}
    for whole, key, part, part_key in (
        ("input", n.GEN_AI_INPUT_TOKENS, "input_cached_tokens", n.GEN_AI_CACHE_READ_TOKENS),
        ("output", n.GEN_AI_OUTPUT_TOKENS, "output_reasoning_tokens", n.GEN_AI_REASONING_TOKENS),
    ):
        count, within = tokens(attributes, key), tokens(attributes, part_key)
        if count is not None:
            out[whole] = max(0, count - (within or 0))
            if within:
                out[part] = min(count, within)
    total = total_tokens(attributes)
    if total is not None:
        out["total"] = total
    return out
