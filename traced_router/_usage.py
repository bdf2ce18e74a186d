"""Token counts of a usage object, whichever provider's way of counting it has.

``gen_ai.usage.input_tokens`` is the whole prompt, cached tokens included, and
``gen_ai.usage.output_tokens`` the whole completion, reasoning included (GenAI conventions). Anthropic
counts the cache apart from the input, Gemini its thoughts apart from the candidates.

This module must not know OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from traced_router._litellm import fields
from traced_router._values import count


class Tokens(NamedTuple):
    """Counts as the conventions mean them; ``None`` is unknown."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


NO_TOKENS: Final = Tokens()
_NOTHING: Final[Mapping[str, object]] = {}


def tokens_of(usage: object) -> Tokens:
    """The counts of a usage object or dict; none at all when it is all zeros, which is litellm's word for unknown."""
    if usage is None:
        return NO_TOKENS
    of = fields(usage)
    if "prompt_tokens" in of:
        found = _openai(of)
    elif "promptTokenCount" in of or "prompt_token_count" in of:
        found = _gemini(of)
    else:
        found = _responses(of) if "input_tokens_details" in of else _anthropic(of)
    return found if found.input or found.output else NO_TOKENS


def _openai(of: Mapping[str, object]) -> Tokens:
    """Chat completions; litellm brings most providers into this shape."""
    prompt, completion = of.get("prompt_tokens_details"), of.get("completion_tokens_details")
    cached = count(fields(prompt).get("cached_tokens")) if prompt is not None else None
    return Tokens(
        count(of["prompt_tokens"]) or None,
        count(of.get("completion_tokens")),
        cached if cached is not None else count(of.get("cache_read_input_tokens")),
        _reasoning(fields(completion)) if completion is not None else None,
    )


def _reasoning(details: Mapping[str, object]) -> int | None:
    tokens = count(details.get("reasoning_tokens"))
    # Where litellm works out the breakdown itself (anthropic) it adds the text's tokens, and a 0 is its filling.
    return None if tokens == 0 and details.get("text_tokens") is not None else tokens


def _responses(of: Mapping[str, object]) -> Tokens:
    """The responses API, images and transcriptions."""
    return Tokens(
        count(of.get("input_tokens")) or None,
        count(of.get("output_tokens")),
        count(fields(of["input_tokens_details"]).get("cached_tokens")),
        _reasoning(fields(of.get("output_tokens_details"))),
    )


def _anthropic(of: Mapping[str, object]) -> Tokens:
    """Anthropic's messages: what was read from the cache, or written to it, is not part of the input."""
    fresh, cached = count(of.get("input_tokens")), count(of.get("cache_read_input_tokens"))
    written = count(of.get("cache_creation_input_tokens"))
    total = (fresh or 0) + (cached or 0) + (written or 0)
    return Tokens(count(total) or None, count(of.get("output_tokens")), cached)  # a sum can be beyond 64 bits


def _gemini(of: Mapping[str, object]) -> Tokens:
    """Gemini's generate-content: thoughts are apart from the candidates, unless the total says otherwise."""
    prompt = count(_either(of, "promptTokenCount", "prompt_token_count"))
    output = count(_either(of, "candidatesTokenCount", "candidates_token_count"))
    thoughts = count(_either(of, "thoughtsTokenCount", "thoughts_token_count"))
    total = count(_either(of, "totalTokenCount", "total_token_count"))
    if thoughts and total != (prompt or 0) + (output or 0):
        output = count((output or 0) + thoughts)
    return Tokens(
        prompt or None, output, count(_either(of, "cachedContentTokenCount", "cached_content_token_count")), thoughts
    )


def _either(of: Mapping[str, object], camel: str, snake: str) -> object:
    value = of.get(camel)
    return of.get(snake) if value is None else value
