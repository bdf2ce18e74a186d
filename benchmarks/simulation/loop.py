"""The clock: discrete events in virtual time.

Knows nothing of routing. Events that fall on the same instant run in the order in which they were
scheduled, so a run is a function of its seed.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

_Event = tuple[float, int, Callable[[Any], None], Any]


class Scheduler(Protocol):
    """What a server needs of a clock: virtual here, an asyncio loop's in ``end_to_end``."""

    @property
    def now(self) -> float:
        """Seconds."""
        ...

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> None:
        """Call ``action(argument)`` at ``when``."""
        ...


class EventLoop:
    """A heap of things to do, and the time of the one being done.

    Attributes:
        now: virtual seconds.
    """

    __slots__ = ("_events", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[_Event] = []
        self._order = count()

    def time(self) -> float:
        """The clock that strategies are given."""
        return self.now

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> None:
        """Call ``action(argument)`` at ``when``, or now when that has passed."""
        heappush(self._events, (max(self.now, when), next(self._order), action, argument))

    def run(self) -> None:
        """Until nothing is left to do."""
        events = self._events
        while events:
            self.now, _, action, argument = heappop(events)
            action(argument)
