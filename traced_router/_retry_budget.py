"""A retry budget: retries may add a share of the calls, and no more.

When a whole group is ill, retries multiply the load exactly when it can bear least. The budget
is finagle's ``RetryBudget`` (a share of recent calls, plus a floor so that a quiet router may
retry at all), counted over a sliding window of one-second slots rather than leaked, so that
what is left can be explained: *n* calls, *m* retries, *d* denied.

It must not know deployments, strategies, litellm or OpenTelemetry.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_WINDOW: Final = 10
"""Seconds, one slot each; finagle's default ``ttl``."""


@dataclass(frozen=True, slots=True)
class RetryBudgetSnapshot:
    """What the budget has seen.

    Attributes:
        calls: first attempts within the window.
        retries: retries granted within the window.
        left: how many more would be granted now.
        denied: retries refused since the router was built.
    """

    calls: int
    retries: int
    left: int
    denied: int


class RetryBudget:
    """Grants ``ratio`` retries per call plus ``per_second``, over the last ten seconds.

    Args:
        ratio: retries per call.
        per_second: retries per second that are always granted.
        clock: seconds, monotonic.
    """

    def __init__(self, *, ratio: float, per_second: float, clock: Callable[[], float]) -> None:
        self._ratio = ratio
        self._floor = per_second * _WINDOW
        self._clock = clock
        self._lock = threading.Lock()
        self._slot = int(clock())
        self._calls = [0] * _WINDOW
        self._retries = [0] * _WINDOW
        self._denied = 0

    def call(self) -> None:
        """A first attempt was sent."""
        with self._lock:
            self._turn()
            self._calls[self._slot % _WINDOW] += 1

    def allow(self) -> bool:
        """Whether one more retry may be sent; a granted one is counted."""
        with self._lock:
            self._turn()
            if self._left() < 1:
                self._denied += 1
                return False
            self._retries[self._slot % _WINDOW] += 1
            return True

    def snapshot(self) -> RetryBudgetSnapshot:
        """The counts, for an explanation."""
        with self._lock:
            self._turn()
            return RetryBudgetSnapshot(sum(self._calls), sum(self._retries), max(0, int(self._left())), self._denied)

    def _left(self) -> float:
        return self._ratio * sum(self._calls) + self._floor - sum(self._retries)

    def _turn(self) -> None:
        """Empty the slots whose second has come round again."""
        slot = int(self._clock())
        for passed in range(self._slot + 1, min(slot, self._slot + _WINDOW) + 1):
            self._calls[passed % _WINDOW] = 0
            self._retries[passed % _WINDOW] = 0
        self._slot = max(slot, self._slot)
