"""What a stream amounts to, when it is over or was left: the facts of an answer, from its pieces.

Tokens are the provider's count, or unknown: where a provider gives none (OpenAI without
``stream_options.include_usage``) litellm estimates them with a tokenizer of its own, and that
estimate is not taken for a count. This module must not know OpenTelemetry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from traced_router._facts import AnswerFacts
from traced_router._litellm import (
    anthropic_usage,
    as_response,
    completed_response,
    cost_of_stream,
    fields,
    from_cache,
    hidden_params,
    plain_usage,
    provider_chunks,
    stream_layers,
)
from traced_router._read_answer import billed, finish_reasons, response_id, response_model, tokens_in
from traced_router._usage import NO_TOKENS, Tokens, tokens_of
from traced_router._values import amount, text

_ENDS: Final = 10
"""Chunks that are searched for usage: it comes with the first ones (anthropic) and with the last ones."""


@dataclass(slots=True)
class Seen:
    """What was kept of a stream's chunks.

    Attributes:
        first: the first chunk with content; it has the provider's model.
        last: the last chunk; litellm hides the sum of the usage in it.
        usage: a usage that the reader saw.
        reasons: finish reasons by choice.
        response: of a responses stream's last event that had one.
        body: what a stream of bytes amounts to.
    """

    first: object = None
    last: object = None
    usage: object = None
    reasons: Mapping[object, object] = field(default_factory=dict[object, object])
    response: object = None
    body: Mapping[str, object] | None = None


class _Said(NamedTuple):
    """A stream's words: who, why it ended, how much; and what its cost is, or can be computed from."""

    id: str | None
    model: str | None
    reasons: tuple[str, ...]
    tokens: Tokens
    priced: Callable[[], object] | None = None
    cost: float | None = None


def stream_answer(seen: Seen, stream: object, *, complete: bool = True, deployment_id: object = None) -> AnswerFacts:
    """The facts of a stream; see :meth:`traced_router._read_stream.StreamReader.finish`."""
    layers = stream_layers(stream)
    hidden = _hidden(layers, seen)
    owner = hidden.get("model_id") or deployment_id
    response = seen.response if seen.response is not None else completed_response(layers)
    if response is not None:
        said = _of_response(response, hidden, seen.last)
    elif seen.body is not None:
        said = _of_body(seen.body, hidden, owner)
    else:
        said = _of_chunks(seen, layers, owner)
    over = complete or bool(said.reasons)
    tokens = said.tokens if over else Tokens(said.tokens.input, None, said.tokens.cached, None)
    hit = from_cache(hidden)
    cost = 0.0 if hit else said.cost
    if cost is None and over and said.priced is not None and tokens != NO_TOKENS:
        cost = _cost(layers, said.priced, hidden, said.model)
    return AnswerFacts(said.id, said.model, said.reasons, *tokens, cost, cache_hit=hit)


def _hidden(layers: Sequence[object], seen: Seen) -> Mapping[str, object]:
    """The stream's hidden parameters, or a chunk's when the stream is gone. Their cost is of no use: it is 0."""
    hidden = next((found for layer in layers if (found := hidden_params(layer))), None)
    return hidden_params(seen.first) if hidden is None else hidden


def _cost(
    layers: Sequence[object], priced: Callable[[], object], hidden: Mapping[str, object], model: str | None
) -> float | None:
    try:
        return billed(cost_of_stream(layers, priced()), hidden, model)
    except Exception:  # noqa: BLE001  # what else the stream said is still worth telling
        return None


# --- kinds of streams ------------------------------------------------------------------------


def _of_response(response: object, hidden: Mapping[str, object], event: object) -> _Said:
    body = fields(response)
    tokens = tokens_in(body)
    cost = amount(hidden_params(event).get("response_cost")) or None  # on the last event from 1.106 on; 0.0 on 1.95
    return _Said(
        response_id(body, hidden), text(body.get("model")), finish_reasons(body), tokens, lambda: response, cost
    )


def _of_body(body: Mapping[str, object], hidden: Mapping[str, object], owner: object) -> _Said:
    model, tokens = response_model(body, {}), tokens_in(body)

    def priced() -> object:
        usage = body.get("usage")
        if body.get("type") == "message" and isinstance(usage, dict):
            return as_response(anthropic_usage(cast("dict[str, object]", usage)), model, owner)
        return as_response(plain_usage(*tokens), model, owner)

    return _Said(response_id(body, hidden), model, finish_reasons(body), tokens, priced)


def _of_chunks(seen: Seen, layers: Sequence[object], owner: object) -> _Said:
    body, hidden = fields(seen.first), hidden_params(seen.first)
    reasons = tuple(reason for r in seen.reasons.values() if (reason := text(r)) is not None)
    tokens, usage, cost = _chunks_usage(seen, layers)
    return _Said(
        response_id(body, hidden),
        response_model(body, hidden),
        reasons,
        tokens,
        lambda: as_response(usage, text(body.get("model")), owner),
        cost,
    )


def _chunks_usage(seen: Seen, layers: Sequence[object]) -> tuple[Tokens, object, float | None]:
    """The provider's counts, a usage object that has them, and litellm's cost if it is on that.

    What litellm kept of the provider's own chunks comes first; then what the reader saw, which
    text completions on 1.95 make up. From 1.106 on litellm puts its cost on the usage that it hands
    out or hides, and that saves computing it again; a provider's own ``cost`` would be on its chunks.
    """
    chunks = provider_chunks(layers) or []
    ends = chunks if len(chunks) <= _ENDS else [*chunks[:2], *chunks[2 - _ENDS :]]
    given = [usage for chunk in ends if tokens_of(usage := fields(chunk).get("usage")) is not NO_TOKENS]
    if not given:
        tokens = tokens_of(seen.usage)
        return tokens, None if tokens is NO_TOKENS else seen.usage, None
    tokens = _merged([tokens_of(usage) for usage in given])
    for usage in (seen.usage, hidden_params(seen.last).get("usage")):
        if tokens_of(usage) == tokens:
            theirs = any(fields(u).get("cost") is not None for u in given)
            return tokens, usage, None if theirs else (amount(fields(usage).get("cost")) or None)
    return tokens, given[-1] if tokens_of(given[-1]) == tokens else plain_usage(*tokens), None


def _merged(parts: Sequence[Tokens]) -> Tokens:
    """Counts grow as a stream goes on: of each, the last one that is not 0."""
    merged = parts[0]
    for part in parts[1:]:
        merged = Tokens(*(new or old for new, old in zip(part, merged, strict=True)))
    return merged
