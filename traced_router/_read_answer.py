"""What a provider's answer said of itself: ids, finish reasons, tokens, cost.

litellm answers with a dozen classes. They are read as bags of fields, because looking up an
attribute that a pydantic model lacks costs 2 µs, and in its ``__dict__`` 0.03 µs. No prompt and no
completion is read. This module must not know OpenTelemetry.
"""

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Final, cast

from traced_router._facts import AnswerFacts
from traced_router._litellm import (
    anthropic_usage,
    as_response,
    cost_by_name,
    fields,
    from_cache,
    hidden_params,
    is_free,
)
from traced_router._usage import NO_TOKENS, Tokens, tokens_of
from traced_router._values import amount, listed, text

_NOTHING: Final[Mapping[str, object]] = {}
_MAX_CHOICES: Final = 64


def answer(response: object, deployment_id: object = None) -> AnswerFacts:
    """The facts of an answer of any kind; what it does not say is ``None``.

    Args:
        response: what litellm returned.
        deployment_id: whose answer it is, for the price where the answer does not say (1.95).
    """
    try:
        return _answer(response, deployment_id)
    except Exception:  # noqa: BLE001  # an answer can be any object
        return AnswerFacts()


def _answer(response: object, deployment_id: object) -> AnswerFacts:
    body = fields(response)
    hidden = hidden_params(response)
    hit = from_cache(hidden)
    tokens = tokens_in(body)
    return AnswerFacts(
        response_id(body, hidden),
        response_model(body, hidden),
        finish_reasons(body),
        *tokens,
        0.0 if hit else _cost(body, hidden, deployment_id),
        cache_hit=hit,
    )


# --- who answered ----------------------------------------------------------------------------

_MADE_UP: Final = len("chatcmpl-") + 36
_NO_IDS: Final = frozenset({"anthropic", "bedrock", "cohere", "cohere_chat", "ollama", "ollama_chat", "sagemaker"})
"""Providers whose ids litellm does not keep: it answers with a ``chatcmpl-`` and a UUID of its own."""


def response_id(body: Mapping[str, object], hidden: Mapping[str, object]) -> str | None:
    """The id that the provider gave the answer."""
    found = text(body.get("id") or body.get("responseId") or body.get("response_id"))
    if found is None:
        return None
    if len(found) == _MADE_UP and found.startswith("chatcmpl-") and _provider(hidden) in _NO_IDS:
        return None
    return _unwrapped(found) if found.startswith("resp_bGl0ZWxsb") else found


def _provider(hidden: Mapping[str, object]) -> object:
    name = hidden.get("custom_llm_provider")
    model = hidden.get("litellm_model_name")
    return model.partition("/")[0] if name is None and isinstance(model, str) else name


def _unwrapped(wrapped: str) -> str:
    """The id in ``resp_<base64 of "litellm:custom_llm_provider:…;model_id:…;response_id:…">`` (1.95 to 1.109)."""
    try:
        inner = a2b_base64(wrapped.removeprefix("resp_")).decode()
    except ValueError:
        return wrapped
    return text(inner.partition("response_id:")[2]) or wrapped


def response_model(body: Mapping[str, object], hidden: Mapping[str, object]) -> str | None:
    """The model that the provider says answered: litellm puts the one asked for on a stream's chunks."""
    return text(
        hidden.get("provider_response_model")  # 1.106, 1.109
        or body.get("model")
        or body.get("modelVersion")
        or body.get("model_version")
    )


# --- why it ended ----------------------------------------------------------------------------

_INCOMPLETE: Final[Mapping[object, str]] = {"max_output_tokens": "length"}
_STATUSES: Final[Mapping[object, tuple[str, ...]]] = {
    "completed": ("stop",),
    "failed": ("error",),
    "cancelled": ("cancelled",),
}


def finish_reasons(body: Mapping[str, object]) -> tuple[str, ...]:
    """One per choice, in the provider's or litellm's words; a response's status in those of chat completions."""
    choices = body.get("choices")
    if choices is None:
        choices = body.get("candidates")
    if choices is not None:
        return _of_choices(listed(choices))
    if "stop_reason" in body:
        one = text(body["stop_reason"])
        return () if one is None else (one,)
    return _of_response(body) if "status" in body else ()


def _of_choices(choices: list[object]) -> tuple[str, ...]:
    reasons: list[str] = []
    for choice in choices[:_MAX_CHOICES]:
        of = fields(choice)
        reason = text(of.get("finish_reason") or of.get("finishReason"))
        if reason is not None:
            reasons.append(reason)
    return tuple(reasons)


def _of_response(body: Mapping[str, object]) -> tuple[str, ...]:
    status = body["status"]
    if status == "incomplete":
        reason = fields(body.get("incomplete_details")).get("reason")
        one = _INCOMPLETE.get(reason) or text(reason)
        return () if one is None else (one,)
    if status == "completed":
        for item in listed(body.get("output"))[:_MAX_CHOICES]:
            if fields(item).get("type") == "function_call":
                return ("tool_calls",)
    return _STATUSES.get(status, ())


# --- what it took ----------------------------------------------------------------------------


def tokens_in(body: Mapping[str, object]) -> Tokens:
    """The counts of an answer's usage, wherever it has it."""
    usage = body.get("usage") or body.get("usageMetadata") or body.get("usage_metadata")
    if usage is None:
        meta = body.get("meta")  # a rerank's
        usage = fields(meta).get("tokens") if meta is not None else None
    tokens = tokens_of(usage)
    if tokens.output == 0 and "data" in body and tokens is not NO_TOKENS:
        return tokens._replace(output=None)  # an embedding has no completion; litellm fills in 0
    return tokens


def _cost(body: Mapping[str, object], hidden: Mapping[str, object], deployment_id: object) -> float | None:
    cost = hidden.get("response_cost")
    if cost is not None:
        return billed(cost, hidden, body.get("model"))
    if body.get("type") != "message":
        return None
    # An answer of anthropic's messages is a plain dict, on which litellm puts no cost.
    usage, model = body.get("usage"), text(body.get("model"))
    if not isinstance(usage, dict) or model is None:
        return None
    owner = hidden.get("model_id") or deployment_id
    try:
        priced = as_response(anthropic_usage(cast("dict[str, object]", usage)), model, owner)
    except Exception:  # noqa: BLE001  # what else the answer said is still worth telling
        return None
    return billed(cost_by_name(priced), hidden, owner, model)


def billed(cost: object, hidden: Mapping[str, object], *names: object) -> float | None:
    """A cost of litellm's: its 0 is a price only where it has one."""
    usd = amount(cost)
    return usd if usd or (usd == 0.0 and is_free(hidden, *names)) else None
