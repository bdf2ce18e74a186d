"""What a call asked for, as the ``gen_ai.request.*`` attributes of its attempts.

Only parameters that are present and of the right type: no prompt, no tool, no message. This
module must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from traced_router import _names as names
from traced_router._values import integer, number, text, texts

RequestValue: TypeAlias = str | int | float | bool | tuple[str, ...]


def _choices(value: object) -> int | None:
    n = integer(value)
    return None if n == 1 else n


def _formats(value: object) -> tuple[str, ...] | None:
    one = text(value)
    return None if one is None else (one,)


def _stop(value: object) -> tuple[str, ...] | None:
    return texts(value) or None


def _true(value: object) -> bool | None:
    return True if value is True else None


_PARAMETERS: Final[tuple[tuple[str, str, Callable[[object], RequestValue | None]], ...]] = (
    # Three names of one limit: chat's, chat's newer one, and that of the responses API.
    ("max_tokens", names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    ("max_completion_tokens", names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    ("max_output_tokens", names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    ("temperature", names.GEN_AI_REQUEST_TEMPERATURE, number),
    ("top_p", names.GEN_AI_REQUEST_TOP_P, number),
    ("top_k", names.GEN_AI_REQUEST_TOP_K, number),
    ("frequency_penalty", names.GEN_AI_REQUEST_FREQUENCY_PENALTY, number),
    ("presence_penalty", names.GEN_AI_REQUEST_PRESENCE_PENALTY, number),
    ("seed", names.GEN_AI_REQUEST_SEED, integer),
    ("n", names.GEN_AI_REQUEST_CHOICE_COUNT, _choices),
    ("stop", names.GEN_AI_REQUEST_STOP, _stop),
    ("stream", names.GEN_AI_REQUEST_STREAM, _true),
    ("encoding_format", names.GEN_AI_REQUEST_ENCODING_FORMATS, _formats),
    ("dimensions", names.GEN_AI_EMBEDDINGS_DIMENSIONS, integer),
)


def request_parameters(kwargs: Mapping[str, object]) -> dict[str, RequestValue]:
    """The ``gen_ai.request.*`` attributes of a call's keyword arguments; a value of a wrong type is left out."""
    found: dict[str, RequestValue] = {}
    try:
        for name, key, read in _PARAMETERS:
            if name in kwargs and key not in found and (value := read(kwargs[name])) is not None:
                found[key] = value
    except Exception:  # noqa: BLE001  # a mapping of the caller's own can raise anything
        return found
    return found
