"""A routing strategy on the bench: time that stands still, things to give it, and a desk that plays the router.

What a strategy's author writes tests with. The rules that every strategy owes the router are in
:mod:`traced_router.testing._strategy_rules`.

This module must not know any strategy, nor litellm.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypedDict, Unpack

from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, RoutingStrategy, Status, Ticket

GROUP: Final = "group"
_LETTERS: Final = 26


class StrategyFactory(Protocol):
    """Makes a strategy, as its class does; :func:`functools.partial` binds arguments of its own."""

    def __call__(self, *, clock: Callable[[], float], rng: random.Random) -> RoutingStrategy:
        """A new strategy, with this clock and this random source."""
        ...


class Said(TypedDict, total=False):
    """What a provider can say of a call; see :class:`traced_router.strategy.Outcome`."""

    time_to_first_chunk: float | None
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    status_code: int | None
    retry_after: float | None
    ratelimit_remaining_requests: float | None
    ratelimit_remaining_tokens: float | None
    ratelimit_reset_seconds: float | None


class VirtualClock:
    """Time that passes when it is told to.

    Attributes:
        now: seconds; what calling the clock returns.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def make_candidates(count: int, *, group: str = GROUP, like: Candidate | None = None) -> list[Candidate]:
    """So many deployments of one group, named ``a``, ``b``, ``c``, … or, of more than 26, ``d000``, ``d001``, ….

    ``like`` has what they share: weight, limits, prices.
    """
    names = [chr(ord("a") + i) if count <= _LETTERS else f"d{i:03}" for i in range(count)]
    return [replace(like or Candidate(""), id=name, model_group=group) for name in names]


def make_request(
    key: str | None = None,
    size: int | None = None,
    *,
    group: str = GROUP,
    stream: bool = False,
    tried: Sequence[str] = (),
    max_output_tokens: int | None = None,
    deadline: float | None = None,
) -> RoutingRequest:
    """A call to pick for: ``key`` is its affinity key, ``size`` its input in tokens, ``tried`` who has failed it."""
    return RoutingRequest(
        group,
        stream=stream,
        attempt=len(tried) + 1,
        tried=frozenset(tried),
        max_output_tokens=max_output_tokens,
        deadline=deadline,
        affinity=lambda: key,
        size=lambda: size,
    )


class StrategyDesk:
    """Plays the router for one strategy: picks, reserves, and tells it how calls ended.

    Attributes:
        clock: the strategy's.
        strategy: made by ``factory``, with this clock and a random source of that ``seed``.
        open: tickets of the calls in flight, oldest first.
    """

    def __init__(self, factory: StrategyFactory, *, seed: int = 1) -> None:
        self.clock = VirtualClock()
        self.strategy = factory(clock=self.clock, rng=random.Random(seed))  # noqa: S311 - it shall repeat itself
        self._open: dict[Ticket, None] = {}

    @property
    def open(self) -> list[Ticket]:
        return list(self._open)

    def inflight(self, id_: str) -> int:
        """Calls in flight there, as they were started and finished at this desk."""
        return sum(ticket.id == id_ for ticket in self._open)

    def pick(self, candidates: Sequence[Candidate], request: RoutingRequest | None = None) -> Decision:
        """What the strategy would choose; nothing is started."""
        return self.strategy.pick(request or make_request(), candidates)

    def start(self, id_: str, request: RoutingRequest | None = None) -> Ticket:
        """A call leaves for that deployment, whatever the strategy would have chosen."""
        request = request or make_request()
        ticket = Ticket(id_, request.model_group, self.clock.now, request)
        self.strategy.started(ticket)
        self._open[ticket] = None
        return ticket

    def send(self, candidates: Sequence[Candidate], request: RoutingRequest | None = None) -> Ticket:
        """A call leaves for the deployment that the strategy chooses."""
        request = request or make_request()
        return self.start(self.pick(candidates, request).id, request)

    def first_chunk(self, ticket: Ticket) -> None:
        """The first chunk of its stream arrives."""
        self.strategy.first_chunk(ticket)

    def finish(self, ticket: Ticket, status: Status = "ok", **said: Unpack[Said]) -> None:
        """The call ends now, and the provider said this of it: tokens, limits, a status code."""
        self.end(ticket, Outcome(status, self.clock.now - ticket.started_at, self.clock.now, **said))

    def end(self, ticket: Ticket, outcome: Outcome) -> None:
        """The call ends with this outcome, whatever the clock says."""
        del self._open[ticket]
        self.strategy.finished(ticket, outcome)

    def serve(
        self,
        candidates: Sequence[Candidate],
        seconds: float,
        status: Status = "ok",
        request: RoutingRequest | None = None,
        **said: Unpack[Said],
    ) -> str:
        """One call from its pick to its end, ``seconds`` later; who served it."""
        ticket = self.send(candidates, request)
        self.clock.advance(seconds)
        self.finish(ticket, status, **said)
        return ticket.id
