"""What a provider's response headers ask for: how long to wait, and what is left of the limits.

Pure functions of headers and the wall clock's reading: this module must know neither litellm nor
OpenTelemetry.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Final, NamedTuple, cast


def retry_after_seconds(headers: object, now: float) -> float | None:
    """Seconds that a provider asked to wait; ``None`` when it did not, or not so that one can tell.

    ``retry-after-ms`` (OpenAI, Azure) is more precise and comes first, as in the OpenAI SDK; so does
    ``x-ms-retry-after-ms``, Azure's older name of it. ``Retry-After`` is seconds or an HTTP date (RFC 9110,
    10.2.3); a date that has passed is 0. A wait of more than a year is no wait: providers have been
    seen to send a time there, in seconds since 1970.

    Args:
        headers: any mapping; names in any case.
        now: the wall clock, seconds since 1970.
    """
    try:
        return next((seconds for seconds in _waits(_lower(headers), now) if seconds <= _YEAR), None)
    except Exception:  # noqa: BLE001  # a mapping of somebody else's, or a date that is none
        return None


def _waits(found: Mapping[str, str], now: float) -> Iterator[float]:
    """What the headers ask for, the most precise first."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _seconds(found.get(name, ""))
        if milliseconds is not None:
            yield milliseconds / 1000.0
    asked = found.get("retry-after", "")
    seconds = _seconds(asked)
    if seconds is not None:
        yield seconds
    elif not _NUMBER.match(asked):
        yield _until(parsedate_to_datetime(asked), now)


class Ratelimit(NamedTuple):
    """What is left of a provider's limits, and in how many seconds they are whole again."""

    remaining_requests: float | None = None
    remaining_tokens: float | None = None
    reset_seconds: float | None = None


def ratelimit(headers: object, now: float) -> Ratelimit:
    """The limits in a response's headers: OpenAI's ``x-ratelimit-*`` or ``anthropic-ratelimit-*``.

    Of two resets, that of requests and that of tokens, the later one. litellm's copies
    (``llm_provider-x-ratelimit-…`` in ``additional_headers``) count too.

    Args:
        headers: any mapping; names in any case.
        now: the wall clock, seconds since 1970.
    """
    try:
        found = _lower(headers)
        resets = [
            reset
            for name in ("x-ratelimit-reset-{}", "anthropic-ratelimit-{}-reset")
            for kind in ("requests", "tokens")
            if (reset := _reset(found.get(name.format(kind), ""), now)) is not None
        ]
        requests, tokens = _remaining(found, "requests"), _remaining(found, "tokens")
        return Ratelimit(requests, tokens, max(resets, default=None))
    except Exception:  # noqa: BLE001  # a mapping of somebody else's can raise anything
        return Ratelimit()


def _lower(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        return {}
    pairs = cast("Mapping[object, object]", headers).items()
    named = [(str(name).lower().removeprefix("llm_provider-"), value) for name, value in pairs]
    return {name: str(value).strip() for name, value in named if name.startswith(_PREFIXES)}


_PREFIXES: Final = ("retry-after", "x-ms-retry-after", "x-ratelimit-", "anthropic-ratelimit-")
_YEAR: Final = 366 * 86400.0
_NUMBER: Final = re.compile(r"[+-]?[\d.]")
_DECIMAL: Final = re.compile(r"\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""What ``float()`` takes, without its underscores, its words and other scripts' digits."""


def _seconds(value: str) -> float | None:
    seconds = float(value) if _DECIMAL.fullmatch(value) else inf
    return seconds if seconds < inf else None


def _until(when: datetime, now: float) -> float:
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, aware.timestamp() - now)


def _remaining(found: Mapping[str, str], kind: str) -> float | None:
    openai = _seconds(found.get(f"x-ratelimit-remaining-{kind}", ""))
    return openai if openai is not None else _seconds(found.get(f"anthropic-ratelimit-{kind}-remaining", ""))


_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_UNITS: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def _reset(value: str, now: float) -> float | None:
    """``12``, ``6m0s``, ``20ms`` (OpenAI), or a time (anthropic: RFC 3339)."""
    seconds = _seconds(value)
    if seconds is not None or not value:
        return seconds
    duration = _DURATION.fullmatch(value)
    if duration is not None:
        return sum(float(n) * unit for n, unit in zip(duration.groups(), _UNITS, strict=True) if n)
    return _until(datetime.fromisoformat(value), now)
