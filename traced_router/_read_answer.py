"""What a provider's answer said of itself: ids, finish reasons, tokens, cost.

litellm answers with a dozen classes; they are read here as bags of fields, because a look-up
of a missing attribute on a pydantic model costs 2 µs and on its ``__dict__`` 0.03 µs. This
module must not know OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Final

from traced_router._facts import AnswerFacts
from traced_router._litellm import fields, hidden_params
from traced_router._values import amount, count, text

_NOTHING: Final[Mapping[str, object]] = {}


def answer(response: object) -> AnswerFacts:
    """The facts of an answer of any kind; unknown is ``None``."""
    try:
        return _answer(response)
    except Exception:  # noqa: BLE001 - an answer can be any object
        return AnswerFacts()


def _answer(response: object) -> AnswerFacts:
    body = fields(response)
    hidden = hidden_params(response)
    hit = hidden.get("cache_hit") is True
    usage = usage_tokens(body.get("usage") or body.get("usageMetadata") or body.get("usage_metadata"))
    return AnswerFacts(
        response_id=text(body.get("id") or body.get("responseId") or body.get("response_id")),
        response_model=text(body.get("model") or body.get("modelVersion") or body.get("model_version")),
        finish_reasons=finish_reasons(body),
        input_tokens=usage[0],
        output_tokens=usage[1],
        cache_read_tokens=usage[2],
        reasoning_tokens=usage[3],
        cost=0.0 if hit else amount(hidden.get("response_cost")),
        cache_hit=hit,
    )


Tokens = tuple[int | None, int | None, int | None, int | None]
_NO_TOKENS: Final[Tokens] = (None, None, None, None)


def usage_tokens(usage: object) -> Tokens:
    """Input, output, cached and reasoning tokens of a usage object of any provider."""
    if usage is None:
        return _NO_TOKENS
    of = fields(usage)
    return (
        count(_first(of, "prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")),
        count(_first(of, "completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")),
        count(
            _first(of, "cache_read_input_tokens", "cachedContentTokenCount", "cached_content_token_count")
            or _first(_part(of, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        ),
        count(
            _first(of, "reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count")
            or _first(_part(of, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        ),
    )


def _first(of: Mapping[str, object], *names: str) -> object:
    for name in names:
        value = of.get(name)
        if value is not None:
            return value
    return None


def _part(of: Mapping[str, object], *names: str) -> Mapping[str, object]:
    part = _first(of, *names)
    return _NOTHING if part is None else fields(part)


def finish_reasons(body: Mapping[str, object]) -> tuple[str, ...]:
    """One per choice."""
    choices = body.get("choices") or body.get("candidates")
    if isinstance(choices, list | tuple):
        found = (_first(fields(c), "finish_reason", "finishReason") for c in choices[:64])
        return tuple(reason for f in found if (reason := text(f)) is not None)
    one = text(body.get("stop_reason"))
    return () if one is None else (one,)
