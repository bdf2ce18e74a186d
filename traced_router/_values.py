"""Odd values in, plain values out: the checks that every reader shares.

An attribute must survive the exporter, and one that does not takes its whole batch along: a
lone surrogate cannot be encoded as UTF-8, an int beyond 64 bits does not fit OTLP, and NaN is
no number of anything. So a value of the wrong kind is ``None`` here, and never an exception.
This module must know neither litellm nor OpenTelemetry.
"""

from math import isfinite
from typing import Final

MAX_TEXT: Final = 1024
"""Characters kept of a string that a provider sent: the settings' own limit applies after it."""

_INT64: Final = 2**63


def text(value: object) -> str | None:
    """A non-empty string that can be encoded, cut at :data:`MAX_TEXT`; else ``None``."""
    if not isinstance(value, str) or not value:
        return None
    plain = str.__str__(value)[:MAX_TEXT]  # a str enum's value, not its name
    if plain.isascii():
        return plain
    return plain.encode("utf-8", "replace").decode("utf-8")


def texts(value: object, limit: int = 64) -> tuple[str, ...]:
    """The strings of a list or tuple, or a single string as a tuple of one."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple):
        return ()
    return tuple(kept for item in value[:limit] if (kept := text(item)) is not None)


def integer(value: object) -> int | None:
    """An int that fits 64 bits and is no bool; else ``None``."""
    if type(value) is not int:
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        value = int.__int__(value)
    return value if -_INT64 <= value < _INT64 else None


def count(value: object) -> int | None:
    """An :func:`integer` that is not negative: a number of tokens, of choices, of seconds."""
    whole = integer(value)
    return whole if whole is not None and whole >= 0 else None


def number(value: object) -> float | None:
    """A finite float, from a float or an int that is no bool; else ``None``."""
    if not isinstance(value, float | int) or isinstance(value, bool):
        return None
    try:
        real = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return real if isfinite(real) else None


def amount(value: object) -> float | None:
    """A :func:`number` that is not negative: money, or seconds."""
    real = number(value)
    return real if real is not None and real >= 0.0 else None


def peek(thing: object, name: str) -> object:
    """A member of any object, or an entry of a dict; ``None`` when there is none, or when reading it raises."""
    try:
        return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property can raise anything: httpx's `elapsed` does
        return None
