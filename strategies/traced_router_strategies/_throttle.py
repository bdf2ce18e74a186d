"""What a deployment's rate limits still allow, mirrored from outside.

Three sources, the surest first: a 429 with Retry-After closes the deployment until then;
rate-limit headers (what was left when the call arrived there, and when the limit is whole again)
are counted down by what was sent since, and up as the limit refills; without either, a 429 closes
for half a second, doubling while 429s go on, and sets a pace of sending a little below what went
through before, which grows with each success: the client-side rate limiter of the AWS SDKs'
adaptive retry mode (additive increase, multiplicative decrease).

Limits refill in two ways, and headers do not say which. A token bucket is whole the later the
more was taken from it; a window that turns every minute is whole at a set time, and gives nothing
before. Two headers tell them apart.
"""

from math import exp, inf
from typing import Final

from traced_router.strategy import Outcome

_FIRST_PENALTY: Final = 0.5
_MAX_PENALTY: Final = 8.0
_MAX_RETRY_AFTER: Final = 60.0
_STALE: Final = 60.0
"""Seconds after which a header means nothing any more: no provider's limit takes longer to be whole."""

_RATE_SECONDS: Final = 5.0
"""Time constant of the rate that went through."""

_SLOWER: Final = 0.8
_FASTER: Final = 0.25
"""Calls per second that a success adds."""

_LOWEST: Final = 0.25
_CALM_SECONDS: Final = 30.0
"""After so long without a 429 the pace is free again."""

_MOVED: Final = 1.0
"""Seconds by which a bucket's being whole must have moved before its not moving shows a window."""

_STEADY: Final = 0.25
"""Share of that below which it has not moved."""


class Meter:
    """One limit, of requests or of tokens, as headers show it. Not locked: its owner is.

    Attributes:
        spent: sent so far; a call notes it, to place its headers in time.
        limit: the most that was ever seen to be left.
    """

    __slots__ = ("_at", "_left", "_noted", "_refill", "_turns", "_whole_at", "limit", "spent")

    def __init__(self) -> None:
        self.spent = 0.0
        self.limit = 0.0
        self._left: float | None = None
        self._at = -inf
        self._noted = 0.0
        self._refill = 0.0
        self._whole_at = -inf
        self._turns = False

    def read(self, left: float, reset: float | None, at: float, noted: float, cost: float) -> None:
        """A header: so much was left after a call of that cost, which left at ``at`` when ``noted`` had been spent."""
        if at < self._at:
            return
        self.limit = max(self.limit, left + cost)
        whole_at = at + (reset or 0.0)
        if self._left is not None and self._refill > 0.0 and at > self._at:
            spent = self._left + self._refill * (at - self._at) - left
            moved = spent / self._refill  # what a bucket would have moved by
            if abs(moved) > _MOVED and whole_at > at:
                self._turns = abs(whole_at - self._whole_at) < _STEADY * abs(moved)
        self._refill = max(0.0, self.limit - left) / reset if reset else 0.0
        self._left, self._at, self._noted, self._whole_at = left, at, noted, whole_at

    def left(self, now: float) -> float | None:
        """What is left; ``None`` when headers say nothing."""
        if self._left is None or now > self._at + _STALE:
            return None
        if not self._turns:
            whole = min(self.limit, self._left + self._refill * (now - self._at))
        else:
            whole = self.limit if now >= self._whole_at else self._left
        return whole - (self.spent - self._noted)

    def wait(self, need: float, now: float) -> float:
        """Seconds until so much is left."""
        left = self.left(now)
        if left is None or left >= need:
            return 0.0
        if self._turns:
            return max(0.0, self._whole_at - now) or 1.0
        return (need - left) / self._refill if self._refill > 0.0 else 1.0


class Throttle:
    """The limits of one deployment. Not locked: its owner is.

    Attributes:
        requests: limit of calls.
        tokens: limit of tokens.
        armed: a limit has shown itself; until then there is nothing to ask.
        refused_at: when the last 429 came.
    """

    __slots__ = (
        "_accepted", "_accepted_at", "_open_at", "_pace", "_refusals", "_tokens", "_tokens_at",
        "armed", "refused_at", "requests", "tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = Meter()
        self.tokens = Meter()
        self.armed = False
        self.refused_at = -inf
        self._open_at = -inf
        self._refusals = 0
        self._pace: float | None = None
        self._tokens = 0.0
        self._tokens_at = 0.0
        self._accepted = 0.0
        self._accepted_at = 0.0

    def opens_in(self, now: float, tokens: float = 1.0) -> float:
        """Seconds until a call of so many tokens may be sent; 0 when it may now."""
        wait = max(0.0, self._open_at - now, self.requests.wait(1.0, now), self.tokens.wait(tokens, now))
        if self._pace is not None:
            wait = max(wait, (1.0 - self._level(now)) / self._pace)
        return wait

    def started(self, now: float, tokens: float) -> tuple[float, float]:
        """A call of about so many tokens is sent; the meters with it, to be given back to :meth:`finished`."""
        self.requests.spent += 1.0
        self.tokens.spent += tokens
        if self._pace is not None:
            self._tokens = self._level(now) - 1.0
            self._tokens_at = now
        return self.requests.spent, self.tokens.spent

    def finished(self, outcome: Outcome, started_at: float, noted: tuple[float, float]) -> None:
        """The call ended."""
        requests, tokens = outcome.ratelimit_remaining_requests, outcome.ratelimit_remaining_tokens
        reset = outcome.ratelimit_reset_seconds
        if requests is not None:
            self.armed = True
            self.requests.read(requests, reset, started_at, noted[0], 1.0)
        if tokens is not None:
            self.armed = True
            used = float((outcome.input_tokens or 0) + (outcome.output_tokens or 0))
            self.tokens.read(tokens, reset, started_at, noted[1], used)
        if outcome.status == "rate_limited":
            self._refused(outcome, started_at)
        elif outcome.status == "ok":
            self._went_through(outcome.finished_at, started_at)

    def _level(self, now: float) -> float:
        """Of the bucket that the pace fills: half a second's worth at most, so that a rest is no burst."""
        pace = self._pace or 0.0
        return min(max(1.0, 0.5 * pace), self._tokens + (now - self._tokens_at) * pace)

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
        return max(2.0 * _LOWEST, self._accepted * exp(min(0.0, self._accepted_at - now) / _RATE_SECONDS))

    def _went_through(self, now: float, started_at: float) -> None:
        passed = max(0.0, now - self._accepted_at)
        self._accepted = self._accepted * exp(-passed / _RATE_SECONDS) + 1.0 / _RATE_SECONDS
        self._accepted_at = now
        if started_at <= self.refused_at:
            return
        self._refusals = 0
        if self._pace is not None:
            self._pace = None if now - self.refused_at > _CALM_SECONDS else self._pace + _FASTER
