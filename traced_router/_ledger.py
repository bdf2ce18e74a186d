"""The accounts of one call: attempts, waits, chunks, time and money.

The tree writes them as things happen; at the end they become the request's attributes. The five
parts of the request's time add up to its duration, on every path. This module must not know
litellm.
"""

from typing import TYPE_CHECKING

from traced_router import _names as n
from traced_router._attributes import SECONDS, Value, text

if TYPE_CHECKING:
    from traced_router._spans import Attempt


class Ledger:
    """What one call has cost so far; times in nanoseconds."""

    __slots__ = (
        "attempts",
        "backoff_ns",
        "chunks",
        "consumer_ns",
        "denied",
        "fallbacks",
        "first_chunk_ns",
        "select_ns",
    )

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.fallbacks = 0
        self.denied = 0
        self.select_ns = 0
        self.backoff_ns = 0
        self.consumer_ns = 0
        self.chunks = 0
        self.first_chunk_ns: int | None = None

    def served(self, how: str) -> "Attempt | None":
        """The attempt that answered the caller, if one did: the last that answered, the first of those beside it."""
        answered = [] if how == "error" else [a for a in self.attempts if a.answered and not a.failed]
        if not answered:
            return None
        beside = answered[-1].beside
        return answered[-1] if beside is None else next(a for a in answered if a.beside is beside)

    def add_accounts(self, out: dict[str, Value], how: str, duration: int, limit: int) -> None:
        """Add counts, who served, time and money.

        Args:
            out: the request's attributes.
            how: its end: ``ok``, ``error``, ``cancelled`` or ``abandoned``.
            duration: its own.
            limit: characters that a string keeps.
        """
        served = self.served(how)
        retries = busy = 0
        total: float | None = None
        for attempt in self.attempts:
            retries += attempt.reason == "retry"
            busy += attempt.busy_ns
            if attempt.cost is not None:
                total = attempt.cost if total is None else total + attempt.cost
        out[n.OUTCOME] = self.outcome(how, served)
        out[n.ATTEMPTS] = len(self.attempts)
        out[n.RETRIES] = retries
        out[n.FALLBACKS] = self.fallbacks
        if self.denied:
            out[n.RETRIES_DENIED] = self.denied
        if served is not None:
            if served.model_group is not None:
                out[n.SERVED_MODEL_GROUP] = text(served.model_group, limit)
            if served.deployment.id is not None:
                out[n.SERVED_DEPLOYMENT_ID] = text(served.deployment.id, limit)
        if total is not None:
            out[n.COST_TOTAL] = total
            out[n.COST_WASTED] = total - (served.cost or 0.0) if served is not None else total
        self._add_time(out, busy, 0 if served is None else served.busy_ns, duration)

    def outcome(self, how: str, served: "Attempt | None") -> str:
        """The request's outcome; ``served`` is the attempt that answered the caller."""
        if how != "ok":
            return how
        if self.fallbacks if served is None else served.hop is not None:
            return "ok_after_fallback"
        return "ok_after_retry" if any(a.reason == "retry" for a in self.attempts) else "ok"

    def _add_time(self, out: dict[str, Value], busy: int, serving: int, duration: int) -> None:
        # Attempts can overlap (a file goes to every deployment of a group at once): what they
        # waited together is at most what the caller waited.
        rest = max(0, duration - self.select_ns - self.backoff_ns - self.consumer_ns)
        provider = min(rest, busy)
        wasted = max(0, provider - serving)
        out[n.TIME_SELECT] = self.select_ns * SECONDS
        out[n.TIME_PROVIDER] = provider * SECONDS
        out[n.TIME_BACKOFF] = self.backoff_ns * SECONDS
        out[n.TIME_CONSUMER] = self.consumer_ns * SECONDS
        out[n.TIME_OVERHEAD] = (rest - provider) * SECONDS
        out[n.TIME_WASTED] = (wasted + self.backoff_ns) * SECONDS

    def add_stream(self, out: dict[str, Value], stream_outcome: str | None) -> None:
        """Add what is known of a stream."""
        if stream_outcome is not None:
            out[n.STREAM_OUTCOME] = stream_outcome
            out[n.STREAM_CHUNKS] = self.chunks
        if self.first_chunk_ns is not None:
            out[n.TIME_TO_FIRST_CHUNK] = self.first_chunk_ns * SECONDS
