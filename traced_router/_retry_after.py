"""How long a provider asked to wait, and what is left of its limits, from response headers alone.

A pure function of headers and a clock's reading: it must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite


def retry_after_seconds(headers: object, now: float) -> float | None:
    """Seconds that a provider asked to wait; ``None`` when it did not, or not so that one can tell.

    ``retry-after-ms`` (OpenAI, Azure) is more precise and comes first, as in the OpenAI SDK's
    ``_parse_retry_after_header``. ``Retry-After`` is seconds or an HTTP date (RFC 9110, 10.2.3); a
    date that has passed is 0.

    Args:
        headers: any mapping; names in any case.
        now: the wall clock, seconds since 1970.
    """
    try:
        found = _lower(headers, ("retry-after-ms", "retry-after"))
        milliseconds = _seconds(found.get("retry-after-ms"))
        if milliseconds is not None:
            return milliseconds / 1000.0
        asked = found.get("retry-after")
        seconds = _seconds(asked)
        return seconds if seconds is not None or asked is None else _until(asked, now)
    except Exception:  # noqa: BLE001 - a mapping of somebody else's can raise anything
        return None


def _lower(headers: object, names: Iterable[str]) -> dict[str, str]:
    """The headers of these lower-case names, whatever their case in a plain dict."""
    if not isinstance(headers, Mapping):
        return {}
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower() if isinstance(name, str) else ""
        if lower in names and lower not in found:
            found[lower] = str(value).strip()
    return found


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value else -1.0
    except ValueError:
        return None
    return seconds if isfinite(seconds) and seconds >= 0.0 else None


def _until(date: str, now: float) -> float | None:
    when = parsedate_to_datetime(date)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now)
