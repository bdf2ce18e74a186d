"""Odd values in, plain values out: the checks that every reader shares.

An attribute must survive the exporter, and one that does not takes its whole batch along: a
lone surrogate cannot be encoded as UTF-8, an int beyond 64 bits does not fit OTLP, and NaN is
no number of anything. So a value of the wrong kind is ``None`` here, and never an exception.
Each check has a first line for what nearly always comes, because some run for every attempt.
This module must know neither litellm nor OpenTelemetry.
"""

from math import inf, isfinite
from typing import Final, cast

MAX_TEXT: Final = 1024
"""Characters kept of a string that a provider sent: the settings' own limit applies after it."""

MAX_TEXTS: Final = 64
"""Strings kept of a list of them."""

_INT64: Final = 2**63


def text(value: object) -> str | None:
    """A non-empty string that can be encoded, cut at :data:`MAX_TEXT`; else ``None``."""
    if type(value) is str and 0 < len(value) <= MAX_TEXT and value.isascii():
        return value
    if not isinstance(value, str) or not value:
        return None
    plain = str.__str__(value)[:MAX_TEXT]  # a str enum's value, not its name
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode("utf-8")


def texts(value: object) -> tuple[str, ...]:
    """The strings of a list or tuple, or a single string as a tuple of one."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple):
        return ()
    items = cast("list[object]", value)[:MAX_TEXTS]
    return tuple(kept for item in items if (kept := text(item)) is not None)


def integer(value: object) -> int | None:
    """An int that fits 64 bits and is no bool; else ``None``."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    whole = int.__int__(value)  # an int enum's value
    return whole if -_INT64 <= whole < _INT64 else None


def count(value: object) -> int | None:
    """An :func:`integer` that is not negative: a number of tokens, of choices."""
    if type(value) is int and 0 <= value < _INT64:
        return value
    whole = integer(value)
    return whole if whole is not None and whole >= 0 else None


def number(value: object) -> float | None:
    """A finite float, from a float or an int that is no bool; else ``None``."""
    if not isinstance(value, float | int) or isinstance(value, bool):
        return None
    try:
        real = float(value)
    except Exception:  # noqa: BLE001  # an int too large, or a subclass of its own mind
        return None
    return real if isfinite(real) else None


def amount(value: object) -> float | None:
    """A :func:`number` that is not negative: money, or seconds."""
    if type(value) is float and 0.0 <= value < inf:
        return value
    real = number(value)
    return real if real is not None and real >= 0.0 else None


def peek(thing: object, name: str) -> object:
    """A member of any object, or an entry of a dict; ``None`` when there is none, or when reading it raises."""
    try:
        return cast("dict[str, object]", thing).get(name) if isinstance(thing, dict) else getattr(thing, name, None)
    except Exception:  # noqa: BLE001  # a property can raise anything: httpx's `elapsed` does
        return None


def wording(value: object) -> str | None:
    """Any object as text, as long as it is; ``None`` for what has none: an id can be any object."""
    if value is None:
        return None
    try:
        return str(value) or None
    except Exception:  # noqa: BLE001  # its text is its own business
        return None


def listed(value: object) -> list[object]:
    """A list or tuple as a list; nothing of anything else."""
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else []
