"""Captured content as other vocabularies have it: one attribute for each part of each message.

What nobody captured is in no attribute of a span, so it is in none of these. This module must not
know litellm.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router.vocabularies._vocabulary import as_json

MOST: Final = 20
"""Attributes for the messages of one side. A longer conversation is only said whole: OpenTelemetry
keeps 128 attributes of a span, and drops the first of more."""


class Called(NamedTuple):
    """A tool that the model wants to be called."""

    id: str | None
    name: str | None
    arguments: str | None


class Spoken(NamedTuple):
    """One message; ``answers`` is the id of the tool call whose result it has."""

    role: str | None
    text: str | None
    calls: Sequence[Called]
    answers: str | None
    finish_reason: str | None


def asked(attributes: Mapping[str, Value]) -> list[Spoken]:
    """The messages of a call, instructions beside them first."""
    system = _listed(attributes, n.GEN_AI_SYSTEM_INSTRUCTIONS)
    first = [{"role": "system", "parts": system}] if system else []
    return [_spoken(message) for message in (*first, *_listed(attributes, n.GEN_AI_INPUT_MESSAGES))]


def answered(attributes: Mapping[str, Value]) -> list[Spoken]:
    """The messages of an answer, one for each choice."""
    return [_spoken(message) for message in _listed(attributes, n.GEN_AI_OUTPUT_MESSAGES)]


def tools(attributes: Mapping[str, Value]) -> list[str]:
    """The tools on offer, each as JSON."""
    return [as_json(tool) for tool in _listed(attributes, n.GEN_AI_TOOL_DEFINITIONS)]


def few(words: Mapping[str, str | None]) -> dict[str, Value]:
    """Those ``words`` that are known, unless there are more than :data:`MOST`."""
    known: dict[str, Value] = {key: word for key, word in words.items() if word is not None}
    return known if len(known) <= MOST else {}


def _listed(attributes: Mapping[str, Value], key: str) -> list[Mapping[str, Any]]:
    value = attributes.get(key)
    return _objects(json.loads(value)) if isinstance(value, str) else []


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list: a user's redactor may have put anything into it."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, dict)]


def _spoken(message: Mapping[str, Any]) -> Spoken:
    parts = _objects(message.get("parts"))
    results = [part for part in parts if part.get("type") == "tool_call_response"]
    texts = [_text(part.get("content")) for part in parts if part.get("type") == "text"]
    texts += [_text(part.get("response")) for part in results]
    calls = [
        Called(_text(part.get("id")), _text(part.get("name")), _text(part.get("arguments")))
        for part in parts
        if part.get("type") == "tool_call"
    ]
    return Spoken(
        _text(message.get("role")),
        "\n".join(filter(None, texts)) or None,
        calls,
        _text(results[0].get("id")) if results else None,
        _text(message.get("finish_reason")),
    )


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))
