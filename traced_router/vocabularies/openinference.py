"""OpenInference, which Phoenix and Arize read: what kind of step a span is, models, tokens, cost.

Names and values as in `openinference-semantic-conventions` 0.1.42. Backends add up the tokens of
every span that has some, so only attempts do; and those of an attempt that litellm's cache answered
are 0, because Phoenix works out its cost from them. `session.id` and `user.id` are on the request
as they are.

This module must not know litellm.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router.vocabularies._messages import Spoken, answered, asked, few, tools
from traced_router.vocabularies._vocabulary import EVERY_SPAN, Names, Said, counts, parameters

_name: Final = Names()
_ATTEMPT: Final = (n.ATTEMPT,)

KIND: Final = _name(
    "openinference.span.kind",
    str,
    EVERY_SPAN,
    "`LLM` for an attempt (`EMBEDDING`, `RERANKER`, `GUARDRAIL` for a moderation, `CHAIN` without a model), "
    "`CHAIN` for every other span.",
)
MODEL: Final = _name("llm.model_name", str, _ATTEMPT, "The model asked for; once it has answered, as it names itself.")
PROVIDER: Final = _name("llm.provider", str, _ATTEMPT, "Whose interface was called, as OpenInference spells it.")
SYSTEM: Final = _name("llm.system", str, _ATTEMPT, "Whose models answer there, where OpenInference has a name for it.")
PARAMETERS: Final = _name(
    "llm.invocation_parameters", str, _ATTEMPT, "The `gen_ai.request.*` of the call, as JSON with their usual names."
)
PROMPT_TOKENS: Final = _name("llm.token_count.prompt", int, _ATTEMPT, "`gen_ai.usage.input_tokens`.")
COMPLETION_TOKENS: Final = _name("llm.token_count.completion", int, _ATTEMPT, "`gen_ai.usage.output_tokens`.")
TOTAL_TOKENS: Final = _name("llm.token_count.total", int, _ATTEMPT, "Both together.")
CACHE_READ_TOKENS: Final = _name(
    "llm.token_count.prompt_details.cache_read", int, _ATTEMPT, "Of the prompt's, those from the provider's cache."
)
REASONING_TOKENS: Final = _name(
    "llm.token_count.completion_details.reasoning", int, _ATTEMPT, "Of the completion's, those spent on reasoning."
)
COST: Final = _name("llm.cost.total", float, _ATTEMPT, "`traced_router.attempt.cost`, USD.")
EMBEDDING_MODEL: Final = _name("embedding.model_name", str, _ATTEMPT, "The model of an embedding.")
EMBEDDING_PARAMETERS: Final = _name(
    "embedding.invocation_parameters", str, _ATTEMPT, "As `llm.invocation_parameters`, of an embedding."
)
RERANKER_MODEL: Final = _name("reranker.model_name", str, _ATTEMPT, "The model of a reranking.")
INPUT: Final = _name("input.value", str, _ATTEMPT, "`gen_ai.input.messages`, where content is captured.")
INPUT_TYPE: Final = _name("input.mime_type", str, _ATTEMPT, "`application/json`, beside the value.")
OUTPUT: Final = _name("output.value", str, _ATTEMPT, "`gen_ai.output.messages`, where content is captured.")
OUTPUT_TYPE: Final = _name("output.mime_type", str, _ATTEMPT, "`application/json`, beside the value.")
_name("llm.input_messages.*", str, _ATTEMPT, "The same, and instructions, by message: role, text, tool calls; if few.")
_name("llm.output_messages.*", str, _ATTEMPT, "As of the input.")
_name("llm.tools.*", str, _ATTEMPT, "`gen_ai.tool.definitions`, each as JSON; if few.")

NAMES: Final = _name.table()

_KINDS: Final = {"embeddings": "EMBEDDING", "rerank": "RERANKER", "moderation": "GUARDRAIL"}
_MODELS: Final = {"embeddings": EMBEDDING_MODEL, "rerank": RERANKER_MODEL}
_PROVIDERS: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistralai",
    "together_ai": "together",
    "x_ai": "xai",
}
_SYSTEMS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "azure.ai.openai": "openai",
    "cohere": "cohere",
    "gcp.vertex_ai": "vertexai",
    "mistral_ai": "mistralai",
    "openai": "openai",
}
_COUNTS: Final = {
    n.GEN_AI_INPUT_TOKENS: PROMPT_TOKENS,
    n.GEN_AI_OUTPUT_TOKENS: COMPLETION_TOKENS,
    n.GEN_AI_CACHE_READ_TOKENS: CACHE_READ_TOKENS,
    n.GEN_AI_REASONING_TOKENS: REASONING_TOKENS,
}


def mirror(said: Said) -> Mapping[str, Value]:
    """What ``said`` is in OpenInference."""
    if said.role == n.ATTEMPT:
        return _asked(said) if said.end is None else _answered(said)
    return {KIND: "CHAIN"} if said.end is None else {}


def _asked(said: Said) -> Mapping[str, Value]:
    model = said.attributes.get(n.GEN_AI_REQUEST_MODEL)
    out: dict[str, Value] = {KIND: _KINDS.get(said.operation, "CHAIN" if model is None else "LLM")}
    if model is not None:
        out[_MODELS.get(said.operation, MODEL)] = model
    embedding = said.operation == "embeddings"
    provider = said.attributes.get(n.GEN_AI_PROVIDER)
    if isinstance(provider, str) and not embedding:
        out[PROVIDER] = _PROVIDERS.get(provider, provider)
        if provider in _SYSTEMS:
            out[SYSTEM] = _SYSTEMS[provider]
    asked_for = parameters(said.attributes)
    if asked_for is not None:
        out[EMBEDDING_PARAMETERS if embedding else PARAMETERS] = asked_for
    return out


def _answered(said: Said) -> Mapping[str, Value]:
    attributes = said.attributes
    out = counts(attributes, _COUNTS, TOTAL_TOKENS)
    if n.GEN_AI_RESPONSE_MODEL in attributes:
        out[_MODELS.get(said.operation, MODEL)] = attributes[n.GEN_AI_RESPONSE_MODEL]
    if n.ATTEMPT_COST in attributes:
        out[COST] = attributes[n.ATTEMPT_COST]
    if n.GEN_AI_INPUT_MESSAGES in attributes or n.GEN_AI_OUTPUT_MESSAGES in attributes:
        out.update(_spoken(said))
    return out


def _spoken(said: Said) -> dict[str, Value]:
    """The content, where it is captured."""
    attributes = said.attributes
    out: dict[str, Value] = {}
    for key, value, mime_type in (
        (n.GEN_AI_INPUT_MESSAGES, INPUT, INPUT_TYPE),
        (n.GEN_AI_OUTPUT_MESSAGES, OUTPUT, OUTPUT_TYPE),
    ):
        if key in attributes:
            out[value] = attributes[key]
            out[mime_type] = "application/json"
    if said.operation not in _KINDS:
        out.update(_flat("llm.input_messages", asked(attributes)))
        out.update(_flat("llm.output_messages", answered(attributes)))
        out.update(few({f"llm.tools.{i}.tool.json_schema": tool for i, tool in enumerate(tools(attributes))}))
    return out


def _flat(prefix: str, messages: Sequence[Spoken]) -> dict[str, Value]:
    words: dict[str, str | None] = {}
    for i, message in enumerate(messages):
        at = f"{prefix}.{i}.message"
        words[f"{at}.role"] = message.role
        words[f"{at}.content"] = message.text
        words[f"{at}.tool_call_id"] = message.answers
        for j, call in enumerate(message.calls):
            words[f"{at}.tool_calls.{j}.tool_call.id"] = call.id
            words[f"{at}.tool_calls.{j}.tool_call.function.name"] = call.name
            words[f"{at}.tool_calls.{j}.tool_call.function.arguments"] = call.arguments
    return few(words)
