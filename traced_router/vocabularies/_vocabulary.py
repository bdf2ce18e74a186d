"""What a vocabulary is: a pure function of what a span says, and the table of the names it uses.

This module must not know litellm, nor OpenTelemetry's API.
"""

import json
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router._names import Attribute

EVERY_SPAN: Final = (n.REQUEST, n.SELECTION, n.ATTEMPT, n.BACKOFF, n.FALLBACK, n.BATCH)


class Said(NamedTuple):
    """What a span says, at its start or at its end.

    Attributes:
        role: ``request``, ``selection``, ``attempt``, ``backoff``, ``fallback`` or ``batch``.
        operation: of the call that the span belongs to.
        attributes: those that the conventions and this package have for it, of this moment only.
        start: when the span started, in nanoseconds since the epoch.
        end: when it ended; ``None`` at its start.
        name: the span's name, at its start only.
        root: whether nothing is above it in its trace; at its start only.
        model: of the deployment that a selection chose; at its end only.
    """

    role: str
    operation: str
    attributes: Mapping[str, Value]
    start: int
    end: int | None = None
    name: str = ""
    root: bool = False
    model: str | None = None


class Vocabulary(Protocol):
    """One backend's words for what a span says; a module can be one."""

    @property
    def NAMES(self) -> tuple[Attribute, ...]:  # noqa: N802  # a module's constant
        """Every attribute that :meth:`mirror` can give."""
        ...

    def mirror(self, said: Said) -> Mapping[str, Value]:
        """The attributes to add; none that says what is not in ``said``."""
        ...


class Names:
    """Collects the table of a vocabulary's names while they are defined."""

    def __init__(self) -> None:
        self._rows: list[Attribute] = []

    def __call__(self, key: str, type_: type, spans: tuple[str, ...], doc: str) -> str:
        """Put a row into the table, and give its key."""
        self._rows.append(Attribute(key, type_, spans, doc))
        return key

    def table(self) -> tuple[Attribute, ...]:
        """The rows so far."""
        return tuple(self._rows)


def tokens(attributes: Mapping[str, Value], key: str) -> int | None:
    """A number of tokens that were paid for: none of what litellm's cache answered, and that is said as a 0.

    Left out, Phoenix and Langfuse would take the number from `gen_ai.usage.*`.
    """
    value = attributes.get(key)
    if not isinstance(value, int):
        return None
    return 0 if attributes.get(n.CACHE_HIT) else value


def total_tokens(attributes: Mapping[str, Value]) -> int | None:
    """Input and output together, as far as they are known."""
    counts = [tokens(attributes, key) for key in (n.GEN_AI_INPUT_TOKENS, n.GEN_AI_OUTPUT_TOKENS)]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def counts(attributes: Mapping[str, Value], names: Mapping[str, str], total: str) -> dict[str, Value]:
    """The :func:`tokens` that ``names`` has a name for, under that name, and all of them as ``total``."""
    out: dict[str, Value] = {}
    for key, name in names.items():
        count = tokens(attributes, key)
        if count is not None:
            out[name] = count
    together = total_tokens(attributes)
    if together is not None:
        out[total] = together
    return out


def rename(attributes: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Those of ``attributes`` that ``names`` has another name for, under that name."""
    return {name: attributes[key] for key, name in names.items() if key in attributes}


_PARAMETERS: Final[Mapping[str, str]] = {
    # The names that callers know them by.
    n.GEN_AI_REQUEST_MAX_TOKENS: "max_tokens",
    n.GEN_AI_REQUEST_TEMPERATURE: "temperature",
    n.GEN_AI_REQUEST_TOP_P: "top_p",
    n.GEN_AI_REQUEST_TOP_K: "top_k",
    n.GEN_AI_REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    n.GEN_AI_REQUEST_PRESENCE_PENALTY: "presence_penalty",
    n.GEN_AI_REQUEST_SEED: "seed",
    n.GEN_AI_REQUEST_CHOICE_COUNT: "n",
    n.GEN_AI_REQUEST_STOP: "stop",
    n.GEN_AI_REQUEST_STREAM: "stream",
    n.GEN_AI_REQUEST_ENCODING_FORMATS: "encoding_format",
    n.GEN_AI_EMBEDDINGS_DIMENSIONS: "dimensions",
}


def parameters(attributes: Mapping[str, Value]) -> str | None:
    """What the call asked for beside its prompt, as JSON."""
    found = rename(attributes, _PARAMETERS)
    return as_json(found) if found else None


def as_json(value: Mapping[str, object]) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))
