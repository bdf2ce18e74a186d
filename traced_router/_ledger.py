"""The accounts of one call: attempts, waits, chunks, time and money.

The tree writes them as things happen; at the end they become the request's attributes. The five
parts of the request's time add up to its duration, on every path. This module must not know
litellm.
"""

from typing import TYPE_CHECKING

from traced_router import _names as n
from traced_router._attributes import SECONDS, Value, text
from traced_router._summaries import Accounts, Decided

if TYPE_CHECKING:
    from traced_router._retry_budget import RetryBudgetSnapshot
    from traced_router._spans import Attempt, Hop


class Ledger:
    """What one call has cost so far; times in nanoseconds."""

    __slots__ = (
        "attempts",
        "backoff_ns",
        "budget",
        "chunks",
        "consumer_ns",
        "cycles",
        "decisions",
        "denied",
        "early",
        "fallbacks",
        "first_chunk_ns",
        "hedges_denied",
        "select_ns",
        "substituted",
    )

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.decisions: list[Decided] = []
        self.fallbacks = 0
        self.cycles = 0
        self.denied = 0
        self.early = 0
        self.budget: RetryBudgetSnapshot | None = None
        self.hedges_denied = 0
        self.substituted = False
        self.select_ns = 0
        self.backoff_ns = 0
        self.consumer_ns = 0
        self.chunks = 0
        self.first_chunk_ns: int | None = None

    def served(self, how: str) -> "Attempt | None":
        """The attempt that answered the caller, if one did: the last that answered, the first of those beside it."""
        answered = [] if how == "error" else [a for a in self.attempts if a.answered and not (a.failed or a.lost)]
        if not answered:
            return None
        beside = answered[-1].beside
        return answered[-1] if beside is None else next(a for a in answered if a.beside is beside)

    def amplification(self, hop: "Hop | None", group: str | None) -> int:
        """Provider calls so far of the group whose turn ``hop`` is; what litellm's cache answered is none.

        0 where there was one at most: nothing is amplified.

        Args:
            hop: ``None`` for the turn of the group that was asked for.
            group: its name; its deployments' own, behind an alias, may be another.
        """
        if len(self.attempts) < 2:  # noqa: PLR2004  # the usual case
            return 0
        names = {group, *(a.model_group for a in self.attempts if a.hop is hop)}
        calls = sum(a.model_group in names and not a.cached for a in self.attempts)
        return calls if calls > 1 else 0

    def accounts(self, how: str, duration: int) -> Accounts:
        """What the request comes to.

        Args:
            how: its end: ``ok``, ``error``, ``cancelled`` or ``abandoned``.
            duration: its own, in nanoseconds.
        """
        served = self.served(how)
        retries = hedges = busy = 0
        total: float | None = None
        for attempt in self.attempts:
            retries += attempt.reason == "retry"
            hedges += attempt.is_hedge
            busy += attempt.busy_ns
            if attempt.cost is not None:
                total = attempt.cost if total is None else total + attempt.cost
        wasted = total
        if total is not None and served is not None:
            wasted = total - (served.cost or 0.0)
        return Accounts(
            self.outcome(how, served),
            None if served is None else served.number,
            None if served is None else served.model_group,
            None if served is None else served.deployment.id,
            retries,
            hedges,
            total,
            wasted,
            *self._times(busy, 0 if served is None else served.busy_ns, duration),
        )

    def add_accounts(self, out: dict[str, Value], of: Accounts, limit: int) -> None:
        """Add counts, who served, time and money; strings are cut at ``limit``."""
        out[n.OUTCOME] = of.outcome
        out[n.ATTEMPTS] = len(self.attempts)
        out[n.RETRIES] = of.retries
        out[n.FALLBACKS] = self.fallbacks
        counts = {
            n.RETRIES_DENIED: self.denied,
            n.FALLBACK_CYCLES: self.cycles,
            n.RETRY_AFTER_VIOLATIONS: self.early,
            n.HEDGES: of.hedges,
            n.HEDGES_DENIED: self.hedges_denied,
        }
        out.update({key: count for key, count in counts.items() if count})
        if self.budget is not None:
            out[n.RETRY_BUDGET_LEFT] = self.budget.left
            out[n.RETRY_BUDGET_CALLS] = self.budget.calls
            out[n.RETRY_BUDGET_RETRIES] = self.budget.retries
        if self.substituted:
            out[n.SUBSTITUTED] = True
        if of.served_group is not None:
            out[n.SERVED_MODEL_GROUP] = text(of.served_group, limit)
        if of.served_id is not None:
            out[n.SERVED_DEPLOYMENT_ID] = text(of.served_id, limit)
        if of.total is not None and of.wasted is not None:
            out[n.COST_TOTAL] = of.total
            out[n.COST_WASTED] = of.wasted
        out[n.TIME_SELECT] = of.select * SECONDS
        out[n.TIME_PROVIDER] = of.provider * SECONDS
        out[n.TIME_BACKOFF] = of.backoff * SECONDS
        out[n.TIME_CONSUMER] = of.consumer * SECONDS
        out[n.TIME_OVERHEAD] = of.overhead * SECONDS
        out[n.TIME_WASTED] = of.wasted_time * SECONDS

    def outcome(self, how: str, served: "Attempt | None") -> str:
        """The request's outcome; ``served`` is the attempt that answered the caller."""
        if how != "ok":
            return how
        if self.fallbacks if served is None else served.hop is not None:
            return "ok_after_fallback"
        return "ok_after_retry" if any(a.reason == "retry" for a in self.attempts) else "ok"

    def _times(self, busy: int, serving: int, duration: int) -> tuple[int, int, int, int, int, int]:
        # Attempts can overlap (a file goes to every deployment of a group at once), and whatever a
        # plugin does side by side: what they waited together is at most what the caller waited.
        rest = duration
        select = min(rest, self.select_ns)
        rest -= select
        backoff = min(rest, self.backoff_ns)
        rest -= backoff
        consumer = min(rest, self.consumer_ns)
        rest -= consumer
        provider = min(rest, busy)
        return select, provider, backoff, consumer, rest - provider, max(0, provider - serving) + backoff

    def add_stream(self, out: dict[str, Value], stream_outcome: str | None) -> None:
        """Add what is known of a stream."""
        if stream_outcome is not None:
            out[n.STREAM_OUTCOME] = stream_outcome
            out[n.STREAM_CHUNKS] = self.chunks
        if self.first_chunk_ns is not None:
            out[n.TIME_TO_FIRST_CHUNK] = self.first_chunk_ns * SECONDS
