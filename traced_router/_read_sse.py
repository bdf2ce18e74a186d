"""Streams of bytes: server-sent events of anthropic's messages, of Gemini, or of anything like them.

litellm hands these out as they come off the wire, cut anywhere. Only two pieces are kept, the first
and the last that speak of usage, and they are parsed when the stream is over. No text is kept.
This module must know neither litellm nor OpenTelemetry.
"""

import json
from collections.abc import Mapping
from typing import Final, cast

_MAX_LINE: Final = 1 << 20
"""Bytes of an unfinished line that are kept to be joined with the next piece."""


class EventReader:
    """Reads a stream of bytes."""

    __slots__ = ("_first", "_last", "_rest")

    def __init__(self) -> None:
        self._first = b""
        self._last = b""
        self._rest = b""

    def chunk(self, raw: bytes) -> bool:
        """Look at a piece; whether it has an event with content."""
        if self._rest:
            raw, self._rest = self._rest + raw, b""
        if not raw.endswith(b"\n"):
            cut = raw.rfind(b"\n") + 1
            raw, self._rest = raw[:cut], raw[cut:][:_MAX_LINE]
        if b'"usage' in raw:
            self._last = raw
            if not self._first:
                self._first = raw
        # Anthropic's, Gemini's, OpenAI's.
        return b"content_block_delta" in raw or b'"parts"' in raw or b'"choices"' in raw or b'.delta"' in raw

    def body(self) -> Mapping[str, object]:
        """What the events amount to, in the shape of an answer that is no stream."""
        pieces = [self._first, self._rest] if self._first is self._last else [self._first, self._last, self._rest]
        body: dict[str, object] = {}
        usage: dict[str, object] = {}
        for piece in pieces:
            for line in piece.splitlines():
                if line.startswith(b"data:") and b'"usage' in line:
                    _add(_parsed(line[5:]), body, usage)
        if usage:
            body["usage"] = usage
        return body


def _parsed(line: bytes) -> Mapping[str, object]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return _mapping(event)


def _add(event: Mapping[str, object], body: dict[str, object], usage: dict[str, object]) -> None:
    """Add an event: a whole body (Gemini, OpenAI), the start of a message, or the end of one."""
    if "message" in event:
        body["type"] = "message"
    for part in (event, event.get("message"), event.get("response"), event.get("delta")):
        said = _mapping(part)
        body.update({k: v for k, v in said.items() if v is not None and k != "type"})
        # Later counts replace earlier ones; a count that a later event leaves out, or at 0, stays.
        usage.update({k: v for k, v in _mapping(said.get("usage")).items() if v or k not in usage})


def _mapping(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
