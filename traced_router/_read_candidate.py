"""From litellm's deployments and parameters to what a strategy is given.

This module must not know OpenTelemetry, nor any strategy.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from traced_router import _litellm as seams
from traced_router._values import amount, count
from traced_router.strategy import Candidate

_NOTHING: Final[Mapping[str, Any]] = {}
_CHARACTERS_PER_TOKEN: Final = 4
"""A rule of thumb for English with byte-pair encodings; the simulations are deaf to a factor of 4."""

_PREFIX_CHARACTERS: Final = 4096
_KEY: Final = b"traced_router.affinity"
"""Makes the hash one that is not found in anybody's tables; the same in all routers of a fleet."""


def deployment_id(deployment: Mapping[str, Any]) -> str:
    """Its id; empty when it has none."""
    return str((deployment.get("model_info") or _NOTHING).get("id", ""))


def candidate(deployment: Mapping[str, Any], model_group: str) -> Candidate:
    """A deployment as a strategy sees it."""
    params: Mapping[str, Any] = deployment.get("litellm_params") or _NOTHING
    info: Mapping[str, Any] = deployment.get("model_info") or _NOTHING
    prices = seams.prices(deployment)
    return Candidate(
        id=deployment_id(deployment),
        model_group=model_group,
        model=str(params.get("model", "")),
        weight=amount(params.get("weight")),
        rpm=amount(params.get("rpm", info.get("rpm"))),
        tpm=amount(params.get("tpm", info.get("tpm"))),
        input_cost_per_token=amount(prices.get("input_cost_per_token")),
        output_cost_per_token=amount(prices.get("output_cost_per_token")),
    )


def max_output_tokens(kwargs: Mapping[str, Any]) -> int | None:
    """The caller's limit."""
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        found = count(kwargs.get(name))
        if found is not None:
            return found
    return None


def affinity_key(kwargs: Mapping[str, Any], messages: object) -> str | None:
    """The session's id, else a keyed hash of the first messages: up to and with the first of the user."""
    session = seams.session_of(kwargs)
    if session is not None:
        return session
    digest = hashlib.blake2b(key=_KEY, digest_size=16)
    room = _PREFIX_CHARACTERS
    for text in _first_texts(messages if messages is not None else kwargs.get("input", kwargs.get("prompt"))):
        digest.update(text[:room].encode("utf-8", "replace"))
        room -= len(text)
        if room <= 0:
            break
    return None if room == _PREFIX_CHARACTERS else digest.hexdigest()


def input_size(kwargs: Mapping[str, Any], messages: object) -> int | None:
    """Estimated tokens of the prompt."""
    of = messages if messages is not None else kwargs.get("input", kwargs.get("prompt"))
    characters = sum(map(len, _texts(of)))
    return characters // _CHARACTERS_PER_TOKEN if characters else None


def input_cost(deployment: Mapping[str, Any], kwargs: Mapping[str, Any]) -> float | None:
    """Estimated USD of the prompt alone."""
    size, price = input_size(kwargs, kwargs.get("messages")), seams.prices(deployment).get("input_cost_per_token")
    per_token = amount(price)
    return None if size is None or per_token is None else size * per_token


def _first_texts(messages: object) -> Iterable[str]:
    if not isinstance(messages, list):
        yield from _texts(messages)
        return
    for message in cast("list[object]", messages):
        yield from _texts(message)
        if isinstance(message, Mapping) and cast("Mapping[str, object]", message).get("role") == "user":
            return


def _texts(part: object, depth: int = 0) -> Iterable[str]:
    """Every text of a prompt, in order; never deeper than prompts are nested."""
    if isinstance(part, str):
        yield part
    elif depth < 6:  # noqa: PLR2004  # messages, content, parts, tool results, their parts
        if isinstance(part, Mapping):
            for name in ("content", "text", "input"):
                yield from _texts(cast("Mapping[str, object]", part).get(name), depth + 1)
        elif isinstance(part, list | tuple):
            for inner in cast("list[object]", part):
                yield from _texts(inner, depth + 1)
