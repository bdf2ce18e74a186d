"""A clock that stands still until it is moved, and a desk that plays the router's part."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, RoutingStrategy, Status, Ticket


@dataclass
class Clock:
    """Virtual time, seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Desk:
    """Drives one strategy as the contract says."""

    strategy: RoutingStrategy
    clock: Clock
    tickets: list[Ticket] = field(default_factory=list)

    def request(self, *, key: str | None = None, size: int | None = None, **known: Any) -> RoutingRequest:
        affinity = (lambda: key) if key is not None else None
        sized = (lambda: size) if size is not None else None
        return RoutingRequest("group", affinity=affinity, size=sized, **known)

    def pick(self, candidates: Sequence[Candidate], **known: Any) -> Decision:
        return self.strategy.pick(self.request(**known), candidates)

    def start(self, id_: str, **known: Any) -> Ticket:
        """A call goes there, whatever the strategy would say."""
        ticket = Ticket(id_, "group", self.clock.now, self.request(**known))
        self.strategy.started(ticket)
        self.tickets.append(ticket)
        return ticket

    def send(self, candidates: Sequence[Candidate], **known: Any) -> tuple[Decision, Ticket]:
        request = self.request(**known)
        decision = self.strategy.pick(request, candidates)
        ticket = Ticket(decision.id, "group", self.clock.now, request)
        self.strategy.started(ticket)
        self.tickets.append(ticket)
        return decision, ticket

    def first_chunk(self, ticket: Ticket) -> None:
        self.strategy.first_chunk(ticket)

    def end(self, ticket: Ticket, status: Status = "ok", **known: Any) -> None:
        self.tickets.remove(ticket)
        seconds = self.clock.now - ticket.started_at
        self.strategy.finished(ticket, Outcome(status, seconds, self.clock.now, **known))

    def serve(self, id_: str, seconds: float, status: Status = "ok", *, times: int = 1, **known: Any) -> None:
        """Calls to one deployment, one after the other."""
        for _ in range(times):
            ticket = self.start(id_)
            self.clock.sleep(seconds)
            self.end(ticket, status, **known)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_desk(clock: Clock) -> Callable[..., Desk]:
    """Builds a desk for a strategy class, with the clock and a fixed seed."""

    def make(kind: Callable[..., RoutingStrategy], seed: int = 7, **knobs: Any) -> Desk:
        return Desk(kind(clock=clock, rng=random.Random(seed), **knobs), clock)

    return make


@pytest.fixture
def group() -> Callable[..., list[Candidate]]:
    """Candidates named a, b, c, …, of one group."""

    def make(count: int, **known: Sequence[Any]) -> list[Candidate]:
        names = [chr(ord("a") + i) if count <= 26 else f"d{i:03}" for i in range(count)]
        return [
            Candidate(name, "group", **{key: values[i] for key, values in known.items()})
            for i, name in enumerate(names)
        ]

    return make
