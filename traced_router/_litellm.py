from collections.abc import Mapping
from typing import Final, cast

# --- objects ---------------------------------------------------------------------------------
# litellm's answers, streams and exceptions, and what is private in them.

_NOTHING: Final[Mapping[str, object]] = {}


def fields(thing: object) -> Mapping[str, object]:
    """The fields of an answer or a part of one, without pydantic's slow look-up of a missing name."""
    if isinstance(thing, dict):
        return cast("dict[str, object]", thing)
    try:
        own = thing.__dict__
    except AttributeError:
        return _NOTHING
    extra = getattr(thing, "__pydantic_extra__", None)
    return {**own, **extra} if extra else own


def hidden_params(thing: object) -> Mapping[str, object]:
    """``_hidden_params`` of an answer, a chunk or a stream: a dict, or a pydantic ``HiddenParams``."""
    try:
        private = thing.__pydantic_private__  # type: ignore[attr-defined]
        hidden = private.get("_hidden_params") if private else None
    except AttributeError:
        hidden = getattr(thing, "_hidden_params", None)
    return _NOTHING if hidden is None else fields(hidden)


def guess_provider(model: str, api_base: str | None) -> tuple[str, str] | None:
    """The model without its prefix and litellm's name of its provider; ``None`` when litellm knows none."""
    from litellm import get_llm_provider  # imported late: litellm takes seconds to import

    try:
        found = get_llm_provider(model=model, api_base=api_base)
    except Exception:  # noqa: BLE001 - litellm raises BadRequestError, and more on odd names
        return None
    return found[0], found[1]
