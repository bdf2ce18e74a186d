"""How router processes share what they know: a simulated Redis that is read and written every 250 ms.

Each router publishes a snapshot and reads its peers', off the path of any pick; a snapshot expires,
so that a dead peer, or a dead Redis, is forgotten rather than believed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulation.loop import EventLoop
from traced_router.strategy import RoutingStrategy, SharedState

_State = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """The terms.

    Attributes:
        interval: seconds between two writes of one router.
        expiry: seconds for which a snapshot counts.
        dead_from: when Redis dies, if it does.
    """

    interval: float = 0.25
    expiry: float = 1.5
    dead_from: float | None = None


class Redis:
    """The snapshots, and the routers' tasks that write and read them."""

    def __init__(self, loop: EventLoop, terms: Exchange, busy: Callable[[], bool]) -> None:
        self._loop = loop
        self._terms = terms
        self._busy = busy
        self._kept: dict[int, tuple[float, _State]] = {}

    def connect(self, strategies: Sequence[RoutingStrategy]) -> None:
        """Start a task for each strategy that can share; their phases are spread."""
        for lane, strategy in enumerate(strategies):
            if isinstance(strategy, SharedState):
                first = self._terms.interval * (lane + 1) / len(strategies)
                self._loop.at(first, self._turn, (lane, strategy))

    def _turn(self, task: tuple[int, SharedState]) -> None:
        lane, strategy = task
        now = self._loop.now
        dead_from = self._terms.dead_from
        if dead_from is None or now < dead_from:
            self._kept[lane] = (now, {key: tuple(values) for key, values in strategy.export_state().items()})
        oldest = now - self._terms.expiry
        strategy.absorb_state([state for peer, (at, state) in self._kept.items() if peer != lane and at > oldest])
        if self._busy():
            self._loop.at(now + self._terms.interval, self._turn, task)
