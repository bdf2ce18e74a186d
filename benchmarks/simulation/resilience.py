"""What the simulated router asks of a resilience layer, and how litellm's own cooldown behaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from traced_router.strategy import Candidate, Outcome, RoutingRequest, Ticket

COOLDOWN_SECONDS = 5.0
FAILURE_SHARE = 0.5
FAILURE_MINIMUM = 5
"""litellm's ``DEFAULT_COOLDOWN_TIME_SECONDS``, ``DEFAULT_FAILURE_THRESHOLD_PERCENT`` and ``..._MINIMUM_REQUESTS``."""


class Eligible(Protocol):
    """What is left to rank."""

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Never empty."""
        ...


class Resilience(Protocol):
    """The layer beside a strategy, as ``traced_router.resilience.Resilience`` has it."""

    def filter(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Eligible:
        """Leave out what should not be picked now."""
        ...

    def started(self, ticket: Ticket) -> None:
        """An attempt leaves."""
        ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """An attempt ended."""
        ...

    def allow_retry(self) -> bool:
        """Whether the retry budget has room for one more; takes it when it has."""
        ...


@dataclass(frozen=True, slots=True)
class _Rest:
    candidates: Sequence[Candidate]


class ExcludeTried:
    """The least of resilience: never the same deployment twice in one request. The oracle's."""

    def filter(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Eligible:
        """Drop what this request has tried, unless nothing else is left."""
        left = [candidate for candidate in candidates if candidate.id not in request.tried]
        return _Rest(left or candidates)

    def started(self, ticket: Ticket) -> None:
        """Nothing to note."""

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Nothing to learn."""

    def allow_retry(self) -> bool:
        """Always."""
        return True


@dataclass(slots=True)
class Cooldown:
    """litellm's cooldown, as ``router_utils/cooldown_handlers.py`` has it by default.

    A 429 cools a deployment down at once; any other failure does when more than half of at least
    five calls of the current minute failed. The provider's ``Retry-After`` (429 only) sets how long,
    else five seconds. A group of one is never cooled down.
    """

    group_size: int
    _until: dict[str, float] = field(default_factory=dict[str, float])
    _minute: int = -1
    _counts: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def filter(self, candidates: Sequence[Candidate], now: float) -> Sequence[Candidate]:
        """Those that are not cooling down; possibly none."""
        until = self._until
        if not until:
            return candidates
        for gone in [key for key, end in until.items() if end <= now]:
            del until[gone]
        return [candidate for candidate in candidates if candidate.id not in until] if until else candidates

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Count, and cool down."""
        if outcome.status in ("cancelled", "rejected"):
            return
        now = outcome.finished_at
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        counts = self._counts.setdefault(ticket.id, [0, 0])
        failed = outcome.status != "ok"
        counts[failed] += 1
        if failed and self.group_size > 1 and (outcome.status == "rate_limited" or self._failing(counts)):
            self._until[ticket.id] = now + (outcome.retry_after or COOLDOWN_SECONDS)

    @staticmethod
    def _failing(counts: Sequence[int]) -> bool:
        total = counts[0] + counts[1]
        return total >= FAILURE_MINIMUM and counts[1] / total > FAILURE_SHARE
