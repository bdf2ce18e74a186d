"""Drawing a trace in a terminal: one line a span, plain when it is piped.

Pure: it gets finished spans and gives text. It must not know litellm.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from traced_router import _names as n

_MIN_NAME: Final = 34
_ALARMS: Final = {n.COOLDOWN_EVENT: "cooldown!", n.RETRY_AFTER_EVENT: "too early!", n.CYCLE_EVENT: "in a circle!"}


@dataclass(frozen=True, slots=True)
class Ink:
    """The escape sequences of a terminal, or nothing."""

    on: bool

    def __call__(self, text: str, code: str) -> str:
        """``text`` in the colour ``code``."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text

    def good(self, text: str) -> str:
        """What went well."""
        return self(text, "32")

    def bad(self, text: str) -> str:
        """What went wrong."""
        return self(text, "31")

    def faint(self, text: str) -> str:
        """What is only there to be looked up."""
        return self(text, "2")

    def strong(self, text: str) -> str:
        """What the eye looks for."""
        return self(text, "1")


def draw(spans: Sequence[ReadableSpan], ink: Ink) -> list[str]:
    """The lines of one trace's tree."""
    children: dict[int | None, list[ReadableSpan]] = {}
    known = {_id(s) for s in spans}
    for span in sorted(spans, key=lambda s: s.start_time or 0):
        parent = span.parent.span_id if span.parent is not None and span.parent.span_id in known else None
        children.setdefault(parent, []).append(span)
    rows: list[tuple[str, ReadableSpan]] = []

    def walk(span: ReadableSpan, head: str, tail: str) -> None:
        rows.append((head + span.name, span))
        below = children.get(_id(span), [])
        for i, child in enumerate(below):
            last = i == len(below) - 1
            walk(child, tail + ("└─ " if last else "├─ "), tail + ("   " if last else "│  "))

    for root in children.get(None, []):
        walk(root, "", "")
    width = max([_MIN_NAME, *(len(name) for name, _ in rows)])
    return [_line(name, width, span, ink) for name, span in rows]


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return 0 if context is None else context.span_id


def _line(name: str, width: int, span: ReadableSpan, ink: Ink) -> str:
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    failed = span.status.status_code is StatusCode.ERROR
    padded = name.ljust(width)
    shown = ink.bad(padded) if failed else ink.strong(padded) if not span.name.startswith("router.") else padded
    return f"{shown} {ink.faint(f'{milliseconds:8.1f} ms')}  {_say(span, ink)}".rstrip()


def _say(span: ReadableSpan, ink: Ink) -> str:
    has: Mapping[str, Any] = span.attributes or {}
    if n.OUTCOME in has:
        words = _request(has, ink)
    elif n.DEPLOYMENT_REASON in has:
        words = _attempt(has, ink)
    elif n.BACKOFF_SOURCE in has:
        words = [f"waits {has[n.BACKOFF_SECONDS]:.2f} s", str(has[n.BACKOFF_SOURCE]).replace("_", "-")]
    elif n.FALLBACK_KIND in has:
        words = [f"{has[n.FALLBACK_KIND]}: {has.get(n.FALLBACK_FROM)} → {has[n.FALLBACK_TO]}", _because(has)]
    else:
        words = _selection(has, ink)
    words += [ink.bad(_ALARMS[event.name]) for event in span.events if event.name in _ALARMS]
    return "  ".join(w for w in words if w)


def _request(has: Mapping[str, Any], ink: Ink) -> list[str]:
    outcome = str(has[n.OUTCOME])
    colour = ink.good if outcome.startswith("ok") else ink.bad if outcome == "error" else ink.faint
    words = [colour(outcome), _count(has[n.ATTEMPTS], "attempt")]
    if n.SERVED_DEPLOYMENT_ID in has:
        words.append(f"by {has[n.SERVED_DEPLOYMENT_ID]}")
    if n.STREAM_CHUNKS in has:
        words.append(f"{_count(has[n.STREAM_CHUNKS], 'chunk')}, {has[n.STREAM_OUTCOME]}")
    if n.TIME_TO_FIRST_CHUNK in has:
        words.append(f"first after {has[n.TIME_TO_FIRST_CHUNK] * 1000:.0f} ms")
    if n.COST_TOTAL in has:
        words.append(f"${has[n.COST_TOTAL]:.6f}")
    return [*words, str(has.get(n.ERROR_TYPE, ""))]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _attempt(has: Mapping[str, Any], ink: Ink) -> list[str]:
    words = [str(has.get(n.DEPLOYMENT_ID, "?")), str(has[n.DEPLOYMENT_REASON])]
    if n.HEDGE_ROLE in has:
        words.append(f"{has[n.HEDGE_ROLE]} {has[n.HEDGE_OUTCOME]}")
    if n.ERROR_TYPE in has:
        status = f" {has[n.HTTP_STATUS]}" if n.HTTP_STATUS in has else ""
        words.append(ink.bad(f"{has[n.ERROR_TYPE]}{status}"))
    elif n.ERROR_CATEGORY in has:
        words.append(ink.faint(str(has[n.ERROR_CATEGORY])))
    if n.CACHE_HIT in has:
        words.append("cache hit")
    if n.GEN_AI_INPUT_TOKENS in has:
        words.append(ink.faint(f"{has[n.GEN_AI_INPUT_TOKENS]} + {has.get(n.GEN_AI_OUTPUT_TOKENS, 0)} tokens"))
    if n.ATTEMPT_COST in has:
        words.append(f"${has[n.ATTEMPT_COST]:.6f}")
    return words


def _because(has: Mapping[str, Any]) -> str:
    return f"after {has[n.FALLBACK_ERROR_TYPE]}" if n.FALLBACK_ERROR_TYPE in has else ""


def _selection(has: Mapping[str, Any], ink: Ink) -> list[str]:
    words = []
    if n.DEPLOYMENT_ID in has:
        words.append(f"→ {has[n.DEPLOYMENT_ID]}")
    if n.DECISION_REASON in has:
        words.append(str(has[n.DECISION_REASON]))
    if n.CANDIDATES_TOTAL in has:
        words.append(ink.faint(f"{has.get(n.CANDIDATES_ELIGIBLE, 0)} of {has[n.CANDIDATES_TOTAL]}"))
    for reason, key in n.CANDIDATES_EXCLUDED.items():
        if key in has:
            words.append(ink.bad(f"−{has[key]} {reason}"))
    return [*words, ink.bad(str(has.get(n.ERROR_TYPE, "")))]
