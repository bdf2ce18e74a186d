"""What a server turns away before it serves: rate limits, and failures of every kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, inf
from random import Random
from typing import NamedTuple, Protocol

from traced_router.strategy import Status


class Refusal(NamedTuple):
    """An answer that is not one.

    Attributes:
        delay: seconds until it arrives; with ``share`` set, this share of the work is done first.
        share: 0..1.
        retry_after: what the provider asks for, seconds.
    """

    status: Status
    status_code: int
    delay: float
    share: float | None = None
    retry_after: float | None = None


class Limits(NamedTuple):
    """A provider's rate-limit headers."""

    remaining_requests: float
    reset_seconds: float


class Gate(Protocol):
    """Decides on arrival whether a call is served."""

    def refuse(self, now: float) -> Refusal | None:
        """Why not, or ``None`` when it is served."""
        ...

    def limits(self, now: float) -> Limits | None:
        """The headers that an answer carries, when this gate has any."""
        ...

    def open(self, now: float) -> float:
        """Probability that a call that arrives now is served: for the oracle, without changing anything."""
        ...


@dataclass(slots=True)
class TokenBucket:
    """A quota that refills continuously; beyond it, 429 at once.

    Attributes:
        rate: calls per second.
        burst: calls that a full bucket holds.
        tells: whether 429s carry ``Retry-After`` and answers carry rate-limit headers.
    """

    rate: float
    burst: float
    delay: float = 0.05
    tells: bool = True
    _level: float = field(default=inf, init=False)
    _at: float = field(default=0.0, init=False)

    def _now(self, now: float) -> float:
        return min(self.burst, self._level + (now - self._at) * self.rate)

    def refuse(self, now: float) -> Refusal | None:
        """Take a token, or say when the next one is due."""
        self._level, self._at = self._now(now), now
        if self._level >= 1.0:
            self._level -= 1.0
            return None
        wait = (1.0 - self._level) / self.rate
        return Refusal("rate_limited", 429, self.delay, retry_after=wait if self.tells else None)

    def limits(self, now: float) -> Limits | None:
        """Tokens left, and when the bucket is full again."""
        level = self._now(now)
        return Limits(float(floor(level)), (self.burst - level) / self.rate) if self.tells else None

    def open(self, now: float) -> float:
        """1 while there is a token."""
        return 1.0 if self._now(now) >= 1.0 else 0.0


@dataclass(slots=True)
class MinuteQuota:
    """A quota per calendar minute, which comes back all at once when the minute turns."""

    calls: int
    delay: float = 0.05
    tells: bool = True
    seconds: float = 60.0
    _window: int = field(default=-1, init=False)
    _used: int = field(default=0, init=False)

    def _turn(self, now: float) -> None:
        window = int(now // self.seconds)
        if window != self._window:
            self._window, self._used = window, 0

    def _reset(self, now: float) -> float:
        return self.seconds - now % self.seconds

    def refuse(self, now: float) -> Refusal | None:
        """Count the call, or say when the minute turns."""
        self._turn(now)
        if self._used < self.calls:
            self._used += 1
            return None
        return Refusal("rate_limited", 429, self.delay, retry_after=self._reset(now) if self.tells else None)

    def limits(self, now: float) -> Limits | None:
        """Calls left in this minute."""
        self._turn(now)
        return Limits(float(self.calls - self._used), self._reset(now)) if self.tells else None

    def open(self, now: float) -> float:
        """1 while the minute has calls left."""
        self._turn(now)
        return 1.0 if self._used < self.calls else 0.0


@dataclass(slots=True)
class Failing:
    """Fails a share of the calls, at once or part of the way, while it is on.

    Attributes:
        probability: of failure.
        delay: seconds until the failure is told.
        half_way: fail after a random share of the work instead.
        windows: ``(from, until)`` in which it fails; always, when empty.
    """

    probability: float
    rng: Random
    delay: float = 0.03
    half_way: bool = False
    status: Status = "error"
    status_code: int = 500
    windows: Sequence[tuple[float, float]] = ()

    def _on(self, now: float) -> bool:
        return not self.windows or any(start <= now < end for start, end in self.windows)

    def refuse(self, now: float) -> Refusal | None:
        """Throw the die."""
        if not self._on(now) or self.rng.random() >= self.probability:
            return None
        return Refusal(self.status, self.status_code, self.delay, share=self.rng.random() if self.half_way else None)

    def limits(self, now: float) -> Limits | None:  # noqa: ARG002 - a failing server says nothing
        """None."""
        return None

    def open(self, now: float) -> float:
        """One minus the probability of failure, while it is on."""
        return 1.0 - self.probability if self._on(now) else 1.0
