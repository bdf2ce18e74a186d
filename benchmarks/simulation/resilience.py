"""What the simulated router asks of a resilience layer, and how litellm's own cooldown behaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from traced_router.strategy import Candidate, Outcome, RoutingRequest, Ticket

COOLDOWN_SECONDS = 5.0
FAILURE_SHARE = 0.5
FAILURE_MINIMUM = 5
"""litellm's ``DEFAULT_COOLDOWN_TIME_SECONDS``, ``DEFAULT_FAILURE_THRESHOLD_PERCENT`` and ``..._MINIMUM_REQUESTS``."""


class Resilience(Protocol):
    """The layer beside a strategy: what it may not pick, and whether a failure may be retried."""

    def filter(
        self, request: RoutingRequest, candidates: Sequence[Candidate], now: float
    ) -> tuple[Sequence[Candidate], Mapping[str, str]]:
        """The eligible candidates, never empty, and why the others are not (id to reason)."""
        ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """How an attempt ended."""
        ...

    def allow_retry(self, now: float) -> bool:
        """Whether the retry budget has room for one more; takes it when it has."""
        ...


class ExcludeTried:
    """The least of resilience: never the same deployment twice in one request."""

    def filter(
        self, request: RoutingRequest, candidates: Sequence[Candidate], now: float  # noqa: ARG002
    ) -> tuple[Sequence[Candidate], Mapping[str, str]]:
        """Drop what this request has tried, unless nothing else is left."""
        if not request.tried:
            return candidates, {}
        left = [candidate for candidate in candidates if candidate.id not in request.tried]
        return (left, dict.fromkeys(request.tried, "already_tried")) if left else (candidates, {})

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Nothing to learn."""

    def allow_retry(self, now: float) -> bool:  # noqa: ARG002
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
