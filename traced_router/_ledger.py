"""The accounts of one call: attempts, waits, chunks, time and money.

The tree writes them as things happen; at the end they become the request's attributes. The five
parts of the request's time add up to its duration, on every path. This module must not know
litellm.
"""

from typing import TYPE_CHECKING

from traced_router import _names as n
from traced_router._attributes import SECONDS, Value

if TYPE_CHECKING:
    from traced_router._spans import Attempt


class Ledger:
    """What one call has cost so far; times in nanoseconds."""

    __slots__ = ("attempts", "backoff_ns", "chunks", "consumer_ns", "fallbacks", "first_chunk_ns", "select_ns")

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.fallbacks = 0
        self.select_ns = 0
        self.backoff_ns = 0
        self.consumer_ns = 0
        self.chunks = 0
        self.first_chunk_ns: int | None = None

    def served(self, how: str) -> "Attempt | None":
        """The attempt that answered the caller, if one did."""
        if how == "error":
            return None
        return next((a for a in reversed(self.attempts) if a.answered and not a.failed), None)

    def outcome(self, how: str) -> str:
        """``how`` the call ended, and what saved it."""
        if how != "ok":
            return how
        served = self.served(how)
        if self.fallbacks if served is None else served.hop is not None:
            return "ok_after_fallback"
        return "ok_after_retry" if self.retries else "ok"

    @property
    def retries(self) -> int:
        """Attempts that repeated an earlier one of their hop."""
        return sum(1 for a in self.attempts if a.reason == "retry")

    def add_accounts(self, out: dict[str, Value], how: str, duration: int) -> None:
        """Add counts, who served, time and money; ``duration`` is the request's."""
        served = self.served(how)
        out[n.OUTCOME] = self.outcome(how)
        out[n.ATTEMPTS] = len(self.attempts)
        out[n.RETRIES] = self.retries
        out[n.FALLBACKS] = self.fallbacks
        if served is not None:
            if served.model_group is not None:
                out[n.SERVED_MODEL_GROUP] = served.model_group
            if served.deployment.id is not None:
                out[n.SERVED_DEPLOYMENT_ID] = served.deployment.id
        self._add_money(out, served)
        self._add_time(out, served, duration)

    def _add_money(self, out: dict[str, Value], served: "Attempt | None") -> None:
        known = [(a, a.cost) for a in self.attempts if a.cost is not None]
        if known:
            out[n.COST_TOTAL] = sum((cost for _, cost in known), 0.0)
            out[n.COST_WASTED] = sum((cost for a, cost in known if a is not served), 0.0)

    def _add_time(self, out: dict[str, Value], served: "Attempt | None", duration: int) -> None:
        # Attempts can overlap (a file goes to every deployment of a group at once): what they
        # waited together is at most what the caller waited.
        rest = max(0, duration - self.select_ns - self.backoff_ns - self.consumer_ns)
        provider = min(rest, sum(a.busy_ns for a in self.attempts))
        wasted = min(provider, sum(a.busy_ns for a in self.attempts if a is not served))
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
