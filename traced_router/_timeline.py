"""Time inside one call: the wall clock is read once, a monotonic clock moves it on.

So a clock that jumps cannot make a child span outlive its parent, and a span is as long as what
its caller waited. This module must not know litellm, nor OpenTelemetry.
"""

import time
from collections.abc import Callable
from typing import Final

_TOGETHER: Final = 50_000
"""Nanoseconds between two readings of a clock that count as one moment."""


def _wall_and_monotonic() -> tuple[int, int]:
    """The two clocks, read together: a pause between the two reads would shift the whole call."""
    attempts = 3
    while True:
        before = time.perf_counter_ns()
        wall = time.time_ns()
        after = time.perf_counter_ns()
        attempts -= 1
        if after - before < _TOGETHER or not attempts:
            return wall, after


class Timeline:
    """Nanoseconds since the epoch, moved on by a monotonic clock."""

    __slots__ = ("_offset", "clock")

    def __init__(
        self,
        clock: Callable[[], int] = time.perf_counter_ns,
        start: Callable[[], tuple[int, int]] = _wall_and_monotonic,
    ) -> None:
        wall, monotonic = start()
        self.clock = clock
        self._offset = wall - monotonic

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return self.clock() + self._offset
