"""OpenLLMetry: Traceloop's workflows and tasks, and the names that LLM spans had before the conventions.

Names as in `opentelemetry-semantic-conventions-ai` 0.4, and as Traceloop's instrumentations wrote
them until they moved to the conventions' own.

This module must not know litellm.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router.vocabularies._messages import Spoken, answered, asked, few
from traced_router.vocabularies._vocabulary import Names, Said, counts, rename

_name: Final = Names()
_ATTEMPT: Final = (n.ATTEMPT,)
_REQUEST: Final = (n.REQUEST,)
_STEPS: Final = (n.REQUEST, n.SELECTION, n.BACKOFF, n.FALLBACK, n.BATCH)

KIND: Final = _name(
    "traceloop.span.kind", str, _STEPS, "`workflow` for requests and batches, `task` for what is inside them."
)
ENTITY: Final = _name("traceloop.entity.name", str, _STEPS, "The span's name without the group: `router.chat`.")
WORKFLOW: Final = _name("traceloop.workflow.name", str, (n.REQUEST, n.BATCH), "The span's name.")
SESSION: Final = _name("traceloop.association.properties.session_id", str, _REQUEST, "`session.id`.")
USER: Final = _name("traceloop.association.properties.user_id", str, _REQUEST, "`user.id`.")
REQUEST_TYPE: Final = _name(
    "llm.request.type", str, _ATTEMPT, "`chat`, `completion`, `embedding`, `rerank` or `unknown`."
)
SYSTEM: Final = _name("gen_ai.system", str, _ATTEMPT, "`gen_ai.provider.name`.")
PROMPT_TOKENS: Final = _name("gen_ai.usage.prompt_tokens", int, _ATTEMPT, "`gen_ai.usage.input_tokens`.")
COMPLETION_TOKENS: Final = _name("gen_ai.usage.completion_tokens", int, _ATTEMPT, "`gen_ai.usage.output_tokens`.")
TOTAL_TOKENS: Final = _name("llm.usage.total_tokens", int, _ATTEMPT, "Both together.")
CACHE_READ_TOKENS: Final = _name(
    "gen_ai.usage.cache_read_input_tokens", int, _ATTEMPT, "`gen_ai.usage.cache_read.input_tokens`."
)
REASONING_TOKENS: Final = _name(
    "gen_ai.usage.reasoning_tokens", int, _ATTEMPT, "`gen_ai.usage.reasoning.output_tokens`."
)
STREAMING: Final = _name("llm.is_streaming", bool, _ATTEMPT, "`gen_ai.request.stream`.")
FREQUENCY_PENALTY: Final = _name("llm.frequency_penalty", float, _ATTEMPT, "`gen_ai.request.frequency_penalty`.")
PRESENCE_PENALTY: Final = _name("llm.presence_penalty", float, _ATTEMPT, "`gen_ai.request.presence_penalty`.")
TOP_K: Final = _name("llm.top_k", float, _ATTEMPT, "`gen_ai.request.top_k`.")
STOP: Final = _name("llm.chat.stop_sequences", tuple, _ATTEMPT, "`gen_ai.request.stop_sequences`.")
FINISH_REASON: Final = _name(
    "llm.response.finish_reason", str, _ATTEMPT, "The first of `gen_ai.response.finish_reasons`."
)
_name("gen_ai.prompt.*", str, _ATTEMPT, "The captured content of the call by message: role, text, tool calls; if few.")
_name("gen_ai.completion.*", str, _ATTEMPT, "As of the call; and why it ended.")

NAMES: Final = _name.table()

_TYPES: Final = {
    "chat": "chat",
    "generate_content": "chat",
    "text_completion": "completion",
    "embeddings": "embedding",
    "rerank": "rerank",
}
_ASKED: Final = {
    n.GEN_AI_PROVIDER: SYSTEM,
    n.GEN_AI_REQUEST_STREAM: STREAMING,
    n.GEN_AI_REQUEST_FREQUENCY_PENALTY: FREQUENCY_PENALTY,
    n.GEN_AI_REQUEST_PRESENCE_PENALTY: PRESENCE_PENALTY,
    n.GEN_AI_REQUEST_TOP_K: TOP_K,
    n.GEN_AI_REQUEST_STOP: STOP,
}
_COUNTS: Final = {
    n.GEN_AI_INPUT_TOKENS: PROMPT_TOKENS,
    n.GEN_AI_OUTPUT_TOKENS: COMPLETION_TOKENS,
    n.GEN_AI_CACHE_READ_TOKENS: CACHE_READ_TOKENS,
    n.GEN_AI_REASONING_TOKENS: REASONING_TOKENS,
}
_ASSOCIATED: Final = {n.SESSION_ID: SESSION, n.USER_ID: USER}


def mirror(said: Said) -> Mapping[str, Value]:
    """What ``said`` is in OpenLLMetry."""
    if said.role == n.ATTEMPT:
        return _asked(said) if said.end is None else _answered(said.attributes)
    if said.end is not None:
        return rename(said.attributes, _ASSOCIATED)
    whole = said.role in {n.REQUEST, n.BATCH}
    out: dict[str, Value] = {KIND: "workflow" if whole else "task", ENTITY: said.name.partition(" ")[0]}
    if whole:
        out[WORKFLOW] = said.name
    return out


def _asked(said: Said) -> Mapping[str, Value]:
    return {REQUEST_TYPE: _TYPES.get(said.operation, "unknown"), **rename(said.attributes, _ASKED)}


def _answered(attributes: Mapping[str, Value]) -> Mapping[str, Value]:
    out = counts(attributes, _COUNTS, TOTAL_TOKENS)
    reasons = attributes.get(n.GEN_AI_RESPONSE_FINISH_REASONS)
    if isinstance(reasons, tuple):
        out[FINISH_REASON] = reasons[0]
    out.update(_flat("gen_ai.prompt", asked(attributes)))
    out.update(_flat("gen_ai.completion", answered(attributes)))
    return out


def _flat(prefix: str, messages: Sequence[Spoken]) -> dict[str, Value]:
    words: dict[str, str | None] = {}
    for i, message in enumerate(messages):
        at = f"{prefix}.{i}"
        words[f"{at}.role"] = message.role
        words[f"{at}.content"] = message.text
        words[f"{at}.finish_reason"] = message.finish_reason
        words[f"{at}.tool_call_id"] = message.answers
        for j, call in enumerate(message.calls):
            words[f"{at}.tool_calls.{j}.id"] = call.id
            words[f"{at}.tool_calls.{j}.name"] = call.name
            words[f"{at}.tool_calls.{j}.arguments"] = call.arguments
    return few(words)
