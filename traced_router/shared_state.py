"""How a router's view of its deployments travels to other routers: bytes, and nothing but bytes.

A strategy whose state can be shared exports gauges per candidate id (at most 16 numbers each,
:class:`traced_router.strategy.SharedState`). :func:`pack` turns one node's gauges of one group
into a small message, :func:`unpack` reads a peer's. A peer may run another version, or its
message may be cut short or be another program's: whatever does not check out is ``None``,
never an exception.

This module must not know Redis, litellm, OpenTelemetry or any strategy: who sends messages,
and when one is too old, is decided elsewhere.

Layout, little-endian::

    "TR"  version:u8  flags:u8 (0)  timestamp:f64
    node:str8  group:str16  strategy:str8
    count:u16  count × ( id:str8  width:u8  width × f32 )
    crc32:u32 over all of the above

where ``str8`` and ``str16`` are UTF-8 after a length of one or two bytes. litellm's generated
ids are 64 hexadecimal digits: an id of that form travels as its 32 bytes, after the length 255.
"""

import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_NUMBERS", "NodeState", "pack", "unpack"]

MAX_NUMBERS: Final = 16
"""Numbers per candidate; more are cut off."""

_MAGIC: Final = b"TR"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<2sBBd")
_U8: Final = struct.Struct("<B")
_U16: Final = struct.Struct("<H")
_CRC: Final = struct.Struct("<I")
_HEX_ID: Final = re.compile(r"[0-9a-f]{64}\Z")
_HEX_MARK: Final = 255
_HEX_BYTES: Final = 32
_MAX_SHORT: Final = 254
_MAX_LONG: Final = 65_535
_MAX_CANDIDATES: Final = 65_535
_MAX_FLOAT: Final = 3.4028234663852886e38
"""The largest finite float32."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What one node says of one group.

    Attributes:
        node: names the router, unique among its peers; at most 254 bytes of UTF-8.
        group: the model group; at most 65,535 bytes.
        strategy: whose numbers these are; at most 254 bytes.
        timestamp: when they were exported, seconds since the epoch: peers share no other clock.
        candidates: finite numbers by candidate id (at most 254 bytes), in single precision once packed.
    """

    node: str
    group: str
    strategy: str
    timestamp: float
    candidates: Mapping[str, Sequence[float]]

    def age(self, now: float) -> float:
        """Seconds since it was exported; 0 when the peer's clock is ahead."""
        return max(0.0, now - self.timestamp)


def pack(state: NodeState) -> bytes:
    """The message.

    Numbers beyond :data:`MAX_NUMBERS` are cut off, numbers beyond single precision are clamped,
    and a candidate that cannot be told (a number that is not one, an id too long) is left out:
    peers do without it.

    Raises:
        ValueError: ``node``, ``group`` or ``strategy`` is too long, or the timestamp is not finite.
    """
    if not math.isfinite(state.timestamp):
        raise ValueError(f"timestamp must be finite, got {state.timestamp}: pass seconds since the epoch")
    entries = [entry for id_, numbers in state.candidates.items() if (entry := _entry(id_, numbers)) is not None]
    body = b"".join(
        (
            _HEAD.pack(_MAGIC, _VERSION, 0, state.timestamp),
            _text("node", state.node, _U8, _MAX_SHORT),
            _text("group", state.group, _U16, _MAX_LONG),
            _text("strategy", state.strategy, _U8, _MAX_SHORT),
            _U16.pack(min(len(entries), _MAX_CANDIDATES)),
            *entries[:_MAX_CANDIDATES],
        )
    )
    return body + _CRC.pack(zlib.crc32(body))


def unpack(message: bytes) -> NodeState | None:
    """What a peer said, or ``None`` when it is not a message of this version, whole and sound."""
    body, crc = message[: -_CRC.size], message[-_CRC.size :]
    if len(body) < _HEAD.size or _CRC.pack(zlib.crc32(body)) != crc:
        return None
    magic, version, _, timestamp = _HEAD.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or not math.isfinite(timestamp):
        return None
    try:
        return _Reader(body, _HEAD.size).state(timestamp)
    except (struct.error, UnicodeDecodeError, IndexError):
        return None  # a sum that matches by accident, or a peer with a defect


def _text(what: str, value: str, length: struct.Struct, limit: int) -> bytes:
    data = value.encode()
    if len(data) > limit:
        raise ValueError(f"{what} must be at most {limit} bytes of UTF-8, got {len(data)}: shorten it")
    return length.pack(len(data)) + data


def _entry(id_: str, numbers: Sequence[float]) -> bytes | None:
    """One candidate, or ``None`` when it cannot be told."""
    kept = numbers[:MAX_NUMBERS]
    if not all(math.isfinite(number) for number in kept):
        return None
    if _HEX_ID.match(id_):
        name = _U8.pack(_HEX_MARK) + bytes.fromhex(id_)
    else:
        data = id_.encode(errors="replace")
        if len(data) > _MAX_SHORT:
            return None
        name = _U8.pack(len(data)) + data
    clamped = (max(-_MAX_FLOAT, min(_MAX_FLOAT, number)) for number in kept)
    return name + struct.pack(f"<B{len(kept)}f", len(kept), *clamped)


class _Reader:
    """Walks through a body whose sum is right."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self._at = at

    def state(self, timestamp: float) -> NodeState:
        node, group, strategy = self._text(_U8), self._text(_U16), self._text(_U8)
        candidates: dict[str, tuple[float, ...]] = {}
        for _ in range(self._number(_U16)):
            id_ = self._id()
            width = self._number(_U8)
            numbers = struct.unpack(f"<{width}f", self._take(4 * width))
            if width <= MAX_NUMBERS and all(math.isfinite(number) for number in numbers):
                candidates[id_] = numbers
        if self._at != len(self._body):
            raise IndexError(f"{len(self._body) - self._at} bytes too many")
        return NodeState(node, group, strategy, timestamp, candidates)

    def _take(self, size: int) -> bytes:
        taken = self._body[self._at : self._at + size]
        if len(taken) < size:
            raise IndexError(f"{size - len(taken)} bytes missing")
        self._at += size
        return taken

    def _number(self, kind: struct.Struct) -> int:
        value: int = kind.unpack(self._take(kind.size))[0]
        return value

    def _text(self, length: struct.Struct) -> str:
        return self._take(self._number(length)).decode()

    def _id(self) -> str:
        length = self._number(_U8)
        if length == _HEX_MARK:
            return self._take(_HEX_BYTES).hex()
        return self._take(length).decode()
