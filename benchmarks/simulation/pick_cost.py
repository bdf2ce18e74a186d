"""W6: what a pick costs in CPU, by the size of the group. Wall-clock independent ratios of CPU time.

A strategy is driven alone, without router: ``pick``, ``started``, and ``finished`` of an older
call, with twice as many calls in flight as there are deployments. litellm's classes run on litellm's
own cache here.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from time import process_time

from benchmarks.simulation.contenders import Contender, Setting
from benchmarks.simulation.router import GROUP
from traced_router.strategy import Candidate, Outcome, RoutingRequest, RoutingStrategy, Ticket

SIZES = (2, 8, 32, 128, 512)
BLOCK_SECONDS = 0.005
BLOCKS = 5
WARM_UP_SECONDS = 0.3
"""At the most: litellm's latency strategy would take ten."""
REQUESTS = 256
MOST_IN_FLIGHT = 256


@dataclass(frozen=True, slots=True)
class PickCost:
    """Microseconds of CPU, the least of a few blocks.

    Attributes:
        pick: of a pick.
        cycle: of a pick, its reservation, and the end of an older call.
    """

    pick: float
    cycle: float


class _Clock:
    """Ten milliseconds pass with every call."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Driver:
    """Keeps a strategy busy."""

    def __init__(self, strategy: RoutingStrategy, candidates: Sequence[Candidate], clock: _Clock, rng: Random) -> None:
        self._strategy = strategy
        self._candidates = candidates
        self._clock = clock
        self._rng = rng
        self._flying: deque[Ticket] = deque()
        self._most = min(2 * len(candidates), MOST_IN_FLIGHT)

    def request(self) -> RoutingRequest:
        session = f"s{self._rng.randrange(600)}"
        return RoutingRequest(GROUP, affinity=lambda: session, size=lambda: 900)

    def cycle(self, request: RoutingRequest) -> None:
        self._clock.now += 0.01
        decision = self._strategy.pick(request, self._candidates)
        ticket = Ticket(decision.id, GROUP, self._clock.now, request)
        self._strategy.started(ticket)
        self._flying.append(ticket)
        if len(self._flying) > self._most:
            self._finish(self._flying.popleft())

    def warm_up(self, cycles: int) -> None:
        until = process_time() + WARM_UP_SECONDS
        for _ in range(cycles):
            self.cycle(self.request())
            if process_time() > until:
                break

    def pick(self, request: RoutingRequest) -> None:
        self._strategy.pick(request, self._candidates)

    def _finish(self, ticket: Ticket) -> None:
        now = self._clock.now
        outcome = Outcome("ok", now - ticket.started_at, now, input_tokens=900, output_tokens=150)
        self._strategy.finished(ticket, outcome)


def pick_costs(contenders: Sequence[Contender], sizes: Sequence[int] = SIZES) -> Mapping[str, Mapping[int, PickCost]]:
    """By contender and size of the group; oracles are left out."""
    return {
        c.name: {size: pick_cost(c, size) for size in sizes} for c in contenders if c.kind not in ("limit", "reference")
    }


def pick_cost(contender: Contender, size: int) -> PickCost:
    """Of one contender at one size."""
    clock, rng = _Clock(), Random(size)
    candidates = [Candidate(f"d{i}", GROUP, "openai/sim", weight=1.0 + i % 3) for i in range(size)]
    scope = contender.scope(clock, rng) if contender.scope is not None else nullcontext()
    with scope:
        strategy = contender.make(Setting(clock, rng, {}, store={}, faithful=True))
        driver = _Driver(strategy, candidates, clock, rng)
        driver.warm_up(min(4 * size, 2 * MOST_IN_FLIGHT))
        requests = [driver.request() for _ in range(REQUESTS)]
        return PickCost(pick=_least(driver.pick, requests), cycle=_least(driver.cycle, requests))


def _least(action: Callable[[RoutingRequest], None], requests: Sequence[RoutingRequest]) -> float:
    """Microseconds per action in the cheapest block."""
    count = 4
    while (taken := _block(action, requests, count)) < BLOCK_SECONDS:
        count *= 2
    return min(taken, *(_block(action, requests, count) for _ in range(BLOCKS))) / count * 1e6


def _block(action: Callable[[RoutingRequest], None], requests: Sequence[RoutingRequest], count: int) -> float:
    chosen = list(islice(cycle(requests), count))
    began = process_time()
    for request in chosen:
        action(request)
    return process_time() - began
