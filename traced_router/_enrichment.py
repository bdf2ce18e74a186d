"""What users add to request spans: attributes of their own, keys of litellm's metadata, what a hook returns.

Each is bounded, and none can say what this package says itself. This module must not know
litellm.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias, cast

from opentelemetry.util.types import AttributeValue

from traced_router import _names as n
from traced_router._attributes import Value, plain
from traced_router.errors import ConfigurationError
from traced_router.summary import RequestSummary

OnRequestEnd: TypeAlias = Callable[[RequestSummary], Mapping[str, AttributeValue] | None]
"""Is told of every request that ends; what it returns becomes attributes of the request's span."""

_OURS: Final = frozenset(attribute.key for attribute in n.ATTRIBUTES)
_OUR_PREFIXES: Final = ("traced_router.", "litellm.")


def _is_ours(key: str) -> bool:
    return key in _OURS or key.startswith(_OUR_PREFIXES)


def check_attributes(given: object) -> None:
    """Raise :class:`ConfigurationError` for attributes that a span cannot have."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"attributes={type(given).__name__!r} object: give a mapping of names to values.")
    pairs = cast("Mapping[object, object]", given)
    if len(pairs) > n.MAX_ENRICHMENT:
        raise ConfigurationError(f"attributes has {len(pairs)} entries: give at most {n.MAX_ENRICHMENT}.")
    for key, value in pairs.items():
        if not isinstance(key, str) or not key:
            raise ConfigurationError(f"attributes has the key {key!r}: give non-empty text.")
        if _is_ours(key):
            raise ConfigurationError(f"attributes has the key {key!r}, which this package sets itself: take another.")
        if plain(value, 1) is None:
            raise ConfigurationError(
                f"attributes[{key!r}] is a {type(value).__name__}: give text, a number, a flag, or a list of text."
            )


def check_hook(given: object) -> None:
    """Raise :class:`ConfigurationError` for what cannot be told of the end of a request."""
    if given is None:
        return
    if not callable(given):
        raise ConfigurationError(f"on_request_end={type(given).__name__!r} object: give a function.")
    if inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(type(given).__call__):
        raise ConfigurationError(
            "on_request_end is a coroutine function, and nobody would wait for it: give a plain one, which can "
            "start a task or put the summary into a queue."
        )


def given_attributes(given: object, limit: int) -> dict[str, Value]:
    """What a hook returned, as far as a span can have it; strings are cut at ``limit``.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(given, Mapping):
        raise TypeError(type(given).__name__)
    found: dict[str, Value] = {}
    for key, value in cast("Mapping[object, object]", given).items():
        if isinstance(key, str) and key and not _is_ours(key) and (kept := plain(value, limit)) is not None:
            found[key] = kept
            if len(found) == n.MAX_ENRICHMENT:
                break
    return found


class Enrichment:
    """The attributes that request spans of one router start with.

    Args:
        attributes: the same for every request.
        keys: of litellm's metadata; text with commas between them, or several.
        limit: characters of a string.

    Raises:
        ConfigurationError: when a span cannot have them.
    """

    __slots__ = ("_fixed", "_keys", "_limit")

    def __init__(self, attributes: Mapping[str, object], keys: tuple[str, ...] | str, limit: int) -> None:
        check_attributes(attributes)
        named = [key.strip() for key in (keys.split(",") if isinstance(keys, str) else keys)]
        if len(named) > n.MAX_ENRICHMENT:
            raise ConfigurationError(f"metadata_attributes has {len(named)} keys: give at most {n.MAX_ENRICHMENT}.")
        self._keys = tuple((key, n.METADATA_PREFIX + key) for key in named if key)
        self._limit = limit
        kept = ((key, plain(value, limit)) for key, value in attributes.items())
        self._fixed: Mapping[str, Value] = {key: value for key, value in kept if value is not None}

    def of(self, metadata: Callable[[], Iterator[Mapping[str, object]]]) -> Mapping[str, Value]:
        """The attributes of a call; ``metadata`` tells all of its mappings, of which the first one counts."""
        if not self._keys:
            return self._fixed
        found = dict(self._fixed)
        layers = list(metadata())
        for key, name in self._keys:
            values = (plain(layer[key], self._limit) for layer in layers if key in layer)
            value = next((value for value in values if value is not None), None)
            if value is not None:
                found[name] = value
        return found
