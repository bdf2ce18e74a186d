"""Content as the GenAI conventions structure it: copied within bounds, and cut so that its JSON still parses.

What callers and providers send can be huge, refer to itself, or be no JSON at all. A :class:`Copier`
makes plain values of it in bounded time, and puts type, size and hash in the place of inline data;
:func:`fitted` makes them fit a limit.

This module must know neither litellm nor OpenTelemetry.
"""

import hashlib
import json
import re
from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any, Final, NamedTuple, cast

from traced_router._values import integer

# --- copying ---------------------------------------------------------------------------------

_MAX_DEPTH: Final = 24
_MAX_NODES: Final = 20_000
_MAX_LABEL: Final = 256
_SHARED: Final = 64
"""Characters that are not worth sharing."""

_MAX_HASHED: Final = 32 * 2**20
"""Characters of inline data that are hashed for one attribute: some 60 ms of work."""

_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,", re.ASCII)
_EMBEDDED: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]{64,}", re.ASCII)


class Copier:
    """Copies what belongs to others into JSON values of our own, within a budget.

    Args:
        characters: how much text is kept at most; of what is left, one long string takes half.

    Attributes:
        cut: whether something was left out.
    """

    __slots__ = ("_characters", "_hashed", "_nodes", "_open", "cut")

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._nodes = _MAX_NODES
        self._hashed = _MAX_HASHED
        self._open: set[int] = set()
        self.cut = False

    @property
    def spent(self) -> bool:
        """Whether there is no room for more."""
        return self._characters <= 0 or self._nodes <= 0

    def text(self, value: str) -> str:
        """A string, encodable as UTF-8, without inline data."""
        found = _DATA_URI.match(value, 0, _MAX_LABEL) if value[:5] == "data:" else None
        if found is not None:
            return self._described(value, found)
        room = min(self._characters, max(self._characters // 2, _SHARED))
        kept = _encodable(str.__str__(value[:room]))
        if len(kept) < len(value):
            self.cut = True
        self._characters -= len(kept)
        self._nodes -= 1
        if "base64," in kept:
            kept = _EMBEDDED.sub(self._embedded, kept)
        return kept

    def _embedded(self, found: re.Match[str]) -> str:
        uri = found.group()
        start = _DATA_URI.match(uri)
        return uri if start is None else self._described(uri, start)

    def _described(self, uri: str, start: re.Match[str]) -> str:
        size, digest = self._measured(uri, start.end())
        return f"data:{start.group(1) or ''};size={size}" + ("" if digest is None else f";sha256={digest}")

    def label(self, value: object) -> str | None:
        """A short string: a role, an id, a name."""
        if not isinstance(value, str) or not value:
            return None
        self._nodes -= 1
        return _encodable(str.__str__(value[:_MAX_LABEL]))

    def value(self, value: object, depth: int = 0) -> object:
        """Any value as JSON."""
        self._nodes -= 1
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._or_cut(integer(value))
        if isinstance(value, float):
            return float(value) if isfinite(value) else self._or_cut(None)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.blob(bytes(cast("bytes", value)))
        return self._container(value, depth)

    def _or_cut(self, value: object) -> object:
        self.cut = self.cut or value is None
        return value

    def _container(self, value: object, depth: int) -> object:
        own_id = id(value)
        if depth >= _MAX_DEPTH or own_id in self._open:
            return self._or_cut(None)
        self._open.add(own_id)
        kind = type(value).__name__
        try:
            if isinstance(value, list | tuple):
                items = cast("list[object]", value)
                return [self.value(item, depth + 1) for item in self._within_budget(items)]
            own = cast("Mapping[object, object]", value if isinstance(value, Mapping) else vars(value))
            return {
                str(self.label(key)): self.value(own[key], depth + 1)
                for key in self._within_budget(own)
                if isinstance(key, str) and (own is value or key[:1] != "_")
            }
        except TypeError:  # no object with fields: its type is all there is to say
            return f"<{kind}>"
        finally:
            self._open.discard(own_id)

    def _within_budget(self, items: Any) -> Iterator[Any]:
        for item in items:
            if self.spent:
                self.cut = True
                return
            yield item

    # --- inline data -------------------------------------------------------------------------

    def blob(self, data: str | bytes, mime_type: object = None, modality: str | None = None) -> dict[str, object]:
        """What stands for inline data: its type, its size in bytes and its SHA-256.

        Args:
            data: bytes, or their base64, or a data URI.
            mime_type: when the sender says.
            modality: ``image``, ``audio``, ``video`` or another.
        """
        self._nodes -= 1
        start = 0
        if isinstance(data, str) and (found := _DATA_URI.match(data, 0, _MAX_LABEL)) is not None:
            mime_type, start = found.group(1) or mime_type, found.end()
        size, digest = self._measured(data, start)
        known: dict[str, object] = {
            "type": "blob",
            "modality": modality,
            "mime_type": self.label(mime_type),
            "size": size,
        }
        out = {key: value for key, value in known.items() if value is not None}
        if digest is not None:
            out["sha256"] = digest
        return out

    def _measured(self, data: str | bytes, start: int) -> tuple[int, str | None]:
        length = len(data) - start
        if length > self._hashed:
            return length if isinstance(data, bytes) else length * 3 // 4, None
        self._hashed -= length
        raw = data if isinstance(data, bytes) else _decoded(data[start:])
        return len(raw), hashlib.sha256(raw).hexdigest()


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _decoded(text: str) -> bytes:
    try:
        return a2b_base64(text)
    except ValueError:
        return text.encode("utf-8", "replace")


# --- fitting ---------------------------------------------------------------------------------

_KEPT: Final = (256, 64, 16, 4, 1)
"""Items that a list keeps, tried one after the other."""

_MAX_KEYS: Final = 16
_PART: Final = 3
"""How deep the conventions' own structure goes: a message, its parts, one of them."""

_SHORTEST: Final = 24
"""Characters below which cutting strings says less than leaving out some of them."""

_WHOLE: Final = frozenset({"type", "role", "finish_reason", "modality", "mime_type", "sha256"})
"""Keys whose short values stay whole: without them a part has no meaning."""


class Fitted(NamedTuple):
    """Values that fit, their JSON, and whether something was cut for that."""

    value: list[object]
    text: str
    cut: bool


def to_json(value: object) -> str:
    """``value`` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def fitted(items: list[object], limit: int) -> Fitted:
    """``items`` within ``limit`` characters of JSON; none when not even one can be made to fit.

    The longest strings are cut first, as evenly as possible. When that leaves too little of each,
    the oldest items go, and what is nested deep becomes a string.
    """
    text = to_json(items)
    if len(text) <= limit:
        return Fitted(items, text, cut=False)
    shorter = _with_shorter_strings(items, limit, _SHORTEST)
    for kept in _KEPT:
        if shorter is not None:
            return shorter
        thin = [_thinned(item, kept, 1) for item in items[-kept:]]
        shorter = _with_shorter_strings(thin, limit, _SHORTEST if kept > 1 else 0)
    return shorter or Fitted([], "[]", cut=True)


def _with_shorter_strings(items: list[object], limit: int, shortest: int) -> Fitted | None:
    """``items`` with every string at most so long that all fit; ``None`` when that were too short."""
    lengths = sorted(_lengths(items))
    length = _level(lengths, limit - len(to_json(_cut(items, 0))))
    while length >= min(shortest, lengths[-1] if lengths else 0):
        cut = cast("list[object]", _cut(items, length))
        text = to_json(cut)
        if len(text) <= limit:
            return Fitted(cut, text, cut=True)
        length = min(length - 1, length * limit // len(text))
    return None


def _level(lengths: list[int], room: int) -> int:
    """The length that strings can have, when those that are shorter leave their room to the others."""
    for at, length in enumerate(lengths):
        share = room // (len(lengths) - at)
        if length > share:
            return share
        room -= length
    return max(0, *lengths) if lengths else 0


def _lengths(value: object) -> Iterator[int]:
    if isinstance(value, str):
        yield len(value)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _lengths(item)
    elif isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            if key not in _WHOLE:
                yield from _lengths(item)


def _cut(value: object, length: int) -> object:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, list):
        return [_cut(item, length) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        own = cast("dict[str, object]", value)
        return {k: _cut(v, max(length, _MAX_LABEL // 4) if k in _WHOLE else length) for k, v in own.items()}
    return value


def _thinned(value: object, kept: int, depth: int) -> object:
    if isinstance(value, list):
        items = cast("list[object]", value)
        return to_json(items) if depth > _PART else [_thinned(item, kept, depth + 1) for item in items[:kept]]
    if isinstance(value, dict):
        own = cast("dict[str, object]", value)
        if depth > _PART:
            return to_json(own)
        return {k: _thinned(v, kept, depth + 1) for k, v in islice(own.items(), _MAX_KEYS)}
    return value
