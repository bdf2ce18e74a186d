"""Strategies to beat, and the limit: textbook pickers, and an oracle.

They keep to the interface of ``traced_router.strategy`` and to as few lines as they can; the
strategies for use are in ``traced_router_strategies``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Protocol

from benchmarks.simulation.servers import Server
from benchmarks.simulation.workload import Call
from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, Ticket


class _Base:
    """In-flight per deployment, which every picker here can use."""

    name = "base"

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._inflight: dict[str, int] = {}

    def started(self, ticket: Ticket) -> None:
        """Reserve."""
        self._inflight[ticket.id] = self._inflight.get(ticket.id, 0) + 1

    def first_chunk(self, ticket: Ticket) -> None:
        """Nothing to learn."""

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:  # noqa: ARG002 - as its interface has it
        """Release."""
        self._inflight[ticket.id] -= 1

    def _load(self, candidate: Candidate) -> int:
        return self._inflight.get(candidate.id, 0)

    def _decide(self, chosen: Candidate) -> Decision:
        return Decision(chosen.id, "external", inflight=self._load(chosen))


class RandomPick(_Base):
    """Uniformly at random."""

    name = "random"

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """Any."""
        return self._decide(candidates[int(self._rng.random() * len(candidates))])


class RoundRobin(_Base):
    """In turn."""

    name = "round-robin"
    _turn = -1

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The next one."""
        self._turn += 1
        return self._decide(candidates[self._turn % len(candidates)])


class SmoothWeighted(_Base):
    """Smooth weighted round robin, as nginx does it."""

    name = "smooth-wrr"

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._current: dict[str, float] = {}

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The one whose turn is longest overdue."""
        current = self._current
        total = 0.0
        for candidate in candidates:
            weight = candidate.weight or 1.0
            total += weight
            current[candidate.id] = current.get(candidate.id, 0.0) + weight
        chosen = max(candidates, key=lambda candidate: current[candidate.id])
        current[chosen.id] -= total
        return self._decide(chosen)


class LeastInFlight(_Base):
    """The fewest calls in flight, ties at random."""

    name = "least-in-flight"

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The emptiest."""
        least = min(map(self._load, candidates))
        ties = [candidate for candidate in candidates if self._load(candidate) == least]
        return self._decide(ties[int(self._rng.random() * len(ties))])


class PowerOfTwo(_Base):
    """The emptier of two drawn at random (Mitzenmacher 2001)."""

    name = "p2c"

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The emptier of two."""
        if len(candidates) == 1:
            return self._decide(candidates[0])
        return self._decide(min(self._rng.sample(candidates, 2), key=self._score))

    def _score(self, candidate: Candidate) -> float:
        return float(self._load(candidate))


class PeakEwma(PowerOfTwo):
    """The cheaper of two by finagle's peak-EWMA: latency that jumps up at once and decays, times load."""

    name = "p2c-peak-ewma"

    def __init__(self, rng: Random, clock: Callable[[], float], decay: float = 10.0) -> None:
        super().__init__(rng)
        self._clock = clock
        self._decay = decay
        self._cost: dict[str, tuple[float, float]] = {}

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Observe the round trip."""
        super().finished(ticket, outcome)
        now = self._clock()
        cost, at = self._cost.get(ticket.id, (0.0, now))
        if outcome.seconds > cost:
            self._cost[ticket.id] = (outcome.seconds, now)
        else:
            keep = exp((at - now) / self._decay)
            self._cost[ticket.id] = (cost * keep + outcome.seconds * (1.0 - keep), now)

    def _score(self, candidate: Candidate) -> float:
        cost, at = self._cost.get(candidate.id, (0.0, 0.0))
        load = self._load(candidate)
        if cost == 0.0 and load:
            return 1e9 + load
        return cost * exp((at - self._clock()) / self._decay) * (load + 1)


class _Looking(Protocol):
    @property
    def looking_at(self) -> Call | None: ...


@dataclass(slots=True)
class Oracle:
    """Joins the shortest expected wait, with perfect knowledge of the servers and of the call.

    Greedy: it minimises the time of the call at hand (or of its first chunk), not of the others. So it is
    the limit that WORKLOADS.md names, but not the best that can be done: with ``considerate``, it adds the
    delay that the call would impose on those in service, and is ten per cent faster for all.
    """

    servers: dict[str, Server]
    clock: Callable[[], float]
    router: _Looking | None = None
    first_chunk_first: bool = False
    considerate: bool = False
    name: str = "oracle"

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The server on which this call would end first."""
        call = self.router.looking_at if self.router is not None else None
        if call is None:
            message = "the oracle was not told which call it picks for: set its router first"
            raise RuntimeError(message)
        now = self.clock()
        chosen = min(candidates, key=lambda candidate: self._wait(candidate, call, now))
        return Decision(chosen.id, "external", inflight=self.servers[chosen.id].inflight)

    def _wait(self, candidate: Candidate, call: Call, now: float) -> float:
        """Expected seconds, repeated for as often as the server is expected to fail."""
        server = self.servers[candidate.id]
        seconds = server.expected_seconds(call, first_chunk=self.first_chunk_first)
        if self.considerate:
            seconds += server.imposed_seconds(call)
        return seconds / max(1e-9, server.open(now))

    def started(self, ticket: Ticket) -> None:
        """The servers know."""

    def first_chunk(self, ticket: Ticket) -> None:
        """The servers know."""

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """The servers know."""
