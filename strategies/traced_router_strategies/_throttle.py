"""What a deployment's rate limits still allow, mirrored from outside.

Three sources, the surest first: a 429 with Retry-After closes the deployment until then;
rate-limit headers (what was left when the call arrived there, and when the limit is whole again)
are counted down by what was sent since, and up at the rate that two readings imply; without
either, a 429 closes for half a second, doubling while 429s go on, and sets a pace of sending a
little below what went through before, which grows with each success: the client-side rate
limiter of the AWS SDKs' adaptive retry mode (additive increase, multiplicative decrease).
"""

from math import exp, inf
from typing import Final

from traced_router.strategy import Outcome

_FIRST_PENALTY: Final = 0.5
_MAX_PENALTY: Final = 8.0
_MAX_RETRY_AFTER: Final = 60.0
_STALE_HEADER: Final = 60.0
"""Seconds: no provider's limit takes longer than a minute to be whole."""

_RATE_SECONDS: Final = 5.0
"""Time constant of the rate that went through."""

_SLOWER: Final = 0.8
_FASTER: Final = 0.25
"""Calls per second that a success adds."""

_LOWEST: Final = 0.25
_CALM_SECONDS: Final = 30.0
"""After so long without a 429 the pace is free again."""


class Throttle:
    """The limits of one deployment. Not locked: its owner is.

    Attributes:
        sent: calls sent so far; a call notes it, to place its headers in time.
        armed: a limit has shown itself; until then there is nothing to ask.
        refused_at: when the last 429 came.
    """

    __slots__ = (
        "_accepted", "_accepted_at", "_left", "_left_at", "_left_sent", "_limit", "_open_at",
        "_pace", "_refill", "_refusals", "_tokens", "_tokens_at", "armed", "refused_at", "sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent = 0
        self.armed = False
        self.refused_at = -inf
        self._open_at = -inf
        self._refusals = 0
        self._left: float | None = None
        self._left_at = -inf
        self._left_sent = 0
        self._limit = 0.0
        self._refill = 0.0
        self._pace: float | None = None
        self._tokens = 0.0
        self._tokens_at = 0.0
        self._accepted = 0.0
        self._accepted_at = 0.0

    def left(self, now: float) -> float | None:
        """Calls that the headers leave; ``None`` when they say nothing."""
        if self._left is None or now > self._left_at + _STALE_HEADER:
            return None
        refilled = min(self._limit, self._left + self._refill * (now - self._left_at))
        return refilled - (self.sent - self._left_sent)

    def opens_in(self, now: float) -> float:
        """Seconds until a call may be sent; 0 when it may now."""
        wait = max(0.0, self._open_at - now)
        left = self.left(now)
        if left is not None and left < 1.0:
            wait = max(wait, (1.0 - left) / self._refill if self._refill > 0.0 else 1.0)
        if self._pace is not None:
            wait = max(wait, (1.0 - self._level(now)) / self._pace)
        return wait

    def started(self, now: float) -> None:
        """A call is sent."""
        self.sent += 1
        if self._pace is not None:
            self._tokens = self._level(now) - 1.0
            self._tokens_at = now

    def finished(self, outcome: Outcome, started_at: float, sent: int) -> None:
        """A call ended that left at ``started_at`` as the ``sent``-th."""
        self._read_headers(outcome, started_at, sent)
        if outcome.status == "rate_limited":
            self._refused(outcome, started_at)
        elif outcome.status == "ok":
            self._went_through(outcome.finished_at, started_at)

    def _level(self, now: float) -> float:
        """Of the bucket that the pace fills: half a second's worth at most, so that a rest is no burst."""
        pace = self._pace or 0.0
        return min(max(1.0, 0.5 * pace), self._tokens + (now - self._tokens_at) * pace)

    def _read_headers(self, outcome: Outcome, started_at: float, sent: int) -> None:
        left = outcome.ratelimit_remaining_requests
        if left is None or started_at < self._left_at:
            return
        self.armed = True
        self._limit = max(self._limit, left + 1.0)
        self._left = left
        self._left_at = started_at
        self._left_sent = sent
        reset = outcome.ratelimit_reset_seconds
        self._refill = max(0.0, self._limit - left) / reset if reset is not None and reset > 0.0 else 0.0

    def _refused(self, outcome: Outcome, started_at: float) -> None:
        now = outcome.finished_at
        self.armed = True
        if outcome.retry_after is not None:
            self._open_at = max(self._open_at, now + min(max(0.0, outcome.retry_after), _MAX_RETRY_AFTER))
        if started_at < self.refused_at:
            return  # left before the last 429 was known: the same event
        if outcome.retry_after is None:
            self._open_at = max(self._open_at, now + min(_MAX_PENALTY, _FIRST_PENALTY * 2.0**self._refusals))
        self._refusals = min(self._refusals + 1, 10)
        self._pace = self._slower(now)
        self._tokens_at = max(now, self._open_at)
        self._tokens = 1.0  # when it opens, one call finds out
        self.refused_at = now

    def _slower(self, now: float) -> float:
        if self._pace is not None:
            return max(_LOWEST, _SLOWER * self._pace)
        return max(2.0 * _LOWEST, self._accepted * exp((self._accepted_at - now) / _RATE_SECONDS))

    def _went_through(self, now: float, started_at: float) -> None:
        passed = max(0.0, now - self._accepted_at)
        self._accepted = self._accepted * exp(-passed / _RATE_SECONDS) + 1.0 / _RATE_SECONDS
        self._accepted_at = now
        if started_at <= self.refused_at:
            return
        self._refusals = 0
        if self._pace is not None:
            self._pace = None if now - self.refused_at > _CALM_SECONDS else self._pace + _FASTER
