"""A tiny world to try a routing strategy in: four servers, three minutes, two faults, in virtual time.

It tells at a glance whether a strategy leaves a slow server, and whether it comes back; it is no
benchmark. Those of the repository (``benchmarks/strategies.py``) have more worlds, other strategies
to compare with, and an oracle.

This module must not know any strategy, nor litellm.
"""

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate, pairwise
from math import inf, nan
from typing import Final

from traced_router.strategy import Candidate, Status, Ticket
from traced_router.testing._strategy_kit import StrategyDesk, StrategyFactory, make_candidates, make_request

_SPEEDS: Final = {"a": 0.6, "b": 0.8, "c": 1.0, "d": 1.4}
"""Seconds that a usual call takes there while there is room."""

_ROOM: Final = 4
"""Calls that a server does at once; of more, each gets a part of it."""

_GAP: Final = 0.09
"""Mean seconds between calls: 60 % of what the four can do."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the world's time.

    Attributes:
        name: says what goes wrong.
        seconds: how long.
        slow: by server, how many times slower it is.
        failing: the server that answers 500 at once.
    """

    name: str
    seconds: float
    slow: Mapping[str, float] = field(default_factory=dict[str, float])
    failing: str | None = None


_PHASES: Final = (
    Phase("all is well", 60.0),
    Phase("a is 6 x slow", 30.0, slow={"a": 6.0}),
    Phase("a has recovered", 30.0),
    Phase("b fails at once", 30.0, failing="b"),
    Phase("b has recovered", 30.0),
)


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """How a phase went, by the calls that left in it.

    Attributes:
        phase: its name.
        calls: how many left.
        failed: how many of them failed; nobody retries here.
        median: seconds, of the calls that were answered.
        p99: seconds, of the calls that were answered.
        shares: of the calls, by server.
    """

    phase: str
    calls: int
    failed: int
    median: float
    p99: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WorldReport:
    """How a strategy did in the tiny world; a table when printed."""

    strategy: str
    phases: Sequence[PhaseReport]

    def __str__(self) -> str:
        lines = [f"{self.strategy:26} calls  failed     p50     p99 " + "".join(f"{id_:>6}" for id_ in _SPEEDS)]
        for one in self.phases:
            shares = "".join(f"{one.shares[id_]:6.0%}" for id_ in _SPEEDS)
            lines.append(f"{one.phase:26} {one.calls:5} {one.failed:7} {one.median:7.2f} {one.p99:7.2f} {shares}")
        return "\n".join(lines)


def try_strategy(factory: StrategyFactory, *, seed: int = 1) -> WorldReport:
    """Send some 2,000 calls through four servers, of which one turns slow and another fails, each for a while.

    Sizes of calls, and so their times, differ tenfold; there are 40 sessions. The same seed gives
    the same world.
    """
    desk = StrategyDesk(factory, seed=seed)
    rng = random.Random(seed)  # noqa: S311 - the world shall repeat itself
    starts = [desk.clock.now + begins for begins in accumulate((one.seconds for one in _PHASES), initial=0.0)]

    def behave(ticket: Ticket) -> tuple[float, Status]:
        phase = _PHASES[bisect(starts, desk.clock.now) - 1]
        if ticket.id == phase.failing:
            return 0.03, "error"
        crowd = max(1.0, desk.inflight(ticket.id) / _ROOM)
        size = rng.lognormvariate(-0.18, 0.6)  # its mean is 1
        return _SPEEDS[ticket.id] * phase.slow.get(ticket.id, 1.0) * crowd * size, "ok"

    group = make_candidates(len(_SPEEDS))
    sent = list(traffic(desk, group, starts[-1] - starts[0], lambda: rng.expovariate(1.0 / _GAP), behave, sessions=40))
    during = [[one for one in sent if begin <= one.at < end] for begin, end in pairwise(starts)]
    return WorldReport(desk.strategy.name, [_report(*pair) for pair in zip(_PHASES, during, strict=True)])


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that left: when, to whom, how long it takes, and how it ends."""

    at: float
    id: str
    seconds: float
    status: Status


def traffic(
    desk: StrategyDesk,
    candidates: Sequence[Candidate],
    seconds: float,
    gap: Callable[[], float],
    behave: Callable[[Ticket], tuple[float, Status]],
    *,
    sessions: int = 20,
) -> Iterator[Sent]:
    """Send calls for so many seconds, and let time pass until the last of them has ended.

    Args:
        desk: of the strategy.
        candidates: to choose from.
        seconds: after which no call leaves any more.
        gap: draws the seconds until the next call.
        behave: how long a call that has just left takes, and how it ends.
        sessions: affinity keys, which take turns.
    """
    clock = desk.clock
    until = clock.now + seconds
    ends: list[tuple[float, int, Ticket, Status]] = []

    def let_end(now: float) -> None:
        while ends and ends[0][0] <= now:
            clock.now, _, ticket, status = heappop(ends)
            desk.finish(ticket, status, input_tokens=1000, output_tokens=100)

    turn = 0
    while True:
        leaves_at = clock.now + gap()
        let_end(min(leaves_at, until))
        clock.now = min(leaves_at, until)
        if leaves_at >= until:
            break
        ticket = desk.send(candidates, make_request(f"session-{turn % sessions}", 1000))
        takes, status = behave(ticket)
        heappush(ends, (clock.now + takes, turn, ticket, status))
        yield Sent(clock.now, ticket.id, takes, status)
        turn += 1
    let_end(inf)


def _report(phase: Phase, sent: Sequence[Sent]) -> PhaseReport:
    answered = sorted(one.seconds for one in sent if one.status == "ok")
    shares = {id_: sum(one.id == id_ for one in sent) / len(sent) for id_ in _SPEEDS}
    return PhaseReport(
        phase.name, len(sent), len(sent) - len(answered), _quantile(answered, 0.5), _quantile(answered, 0.99), shares
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[int(share * len(ordered))] if ordered else nan
