"""``p2c-peak-ewma``: the better of two deployments drawn at random, by latency that peaks × load.

Algorithm. Draw two deployments; send the call to the one with the lower *cost* = latency × (calls
in flight + 1). The latency is a decayed mean that jumps up to a slow answer at once and comes
down slowly (a *peak* EWMA), and that fades while nothing is heard, so that a deployment which was
slow is tried again. A failure counts as an answer twice as slow as any so far. A deployment that
has not answered yet costs nothing while it is idle, and very much while a call is out: one call
at a time explores it.

Source. finagle's ``PeakEwma`` and ``p2c``, tower's ``load::PeakEwma`` and ``balance::p2c``;
Mitzenmacher 2001 for the two choices.

Cost. 2–3 µs a pick at any number of candidates; about 160 bytes per deployment.

Needs to know. Nothing; it learns from the duration of every attempt.

Use it to have what other load balancers have. Not where answers vary a hundredfold in size, as those
of language models do: a peak is then more often a long answer than a slow deployment.
``least-expected-completion`` corrects for that, and is better in every world that we have measured.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import exp
from typing import Final

from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, Ticket
from traced_router_strategies._inflight import InFlightStrategy
from traced_router_strategies._load import PeakEwma
from traced_router_strategies._table import Table

_UNTRIED: Final = 1e6
"""Seconds that a deployment costs per call in flight, while it has not answered any."""

_FAILED: Final = 2.0
_MOST: Final = 60.0
"""A failure counts as an answer this many times as slow as the last peak, up to so many seconds."""


class P2CPeakEwma(InFlightStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: draws the two.
        decay: time constant of the mean, seconds: after twice that, a peak is a seventh of what it was.
    """

    name = "p2c-peak-ewma"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        decay: float = 5.0,
    ) -> None:
        super().__init__(clock=clock, rng=rng)
        self._decay = decay
        self._latencies: Table[PeakEwma] = Table()

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The better of two."""
        total, draw = len(candidates), self._rng.random
        with self._lock:
            now = self.clock()
            first = int(draw() * total)
            chosen = candidates[first].id
            cost, latency = self._cost(chosen, now)
            if total == 1:
                return self._decide(chosen, cost, latency, None, None)
            other = candidates[(first + 1 + int(draw() * (total - 1))) % total].id
            other_cost, other_latency = self._cost(other, now)
            if other_cost < cost:
                return self._decide(other, other_cost, other_latency, chosen, cost)
            return self._decide(chosen, cost, latency, other, other_cost)

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:  # noqa: ARG002 - as its interface has it
        """Latency × load, by id; of all, though only two are compared."""
        with self._lock:
            now = self.clock()
            return {one.id: self._cost(one.id, now)[0] for one in candidates}

    def _decide(
        self, chosen: str, cost: float, latency: float | None, other: str | None, other_cost: float | None
    ) -> Decision:
        return Decision(
            chosen,
            "only_candidate" if other is None else "cold_start" if latency is None else "lowest_score",
            cost,
            "latency",
            other,
            other_cost,
            1 if other is None else 2,
            self._mine.get(chosen, 0),
            latency,
            {} if latency is None else {"peak_seconds": round(latency, 4)},
        )

    def _cost(self, id_: str, now: float) -> tuple[float, float | None]:
        """The cost of one more call, and the latency that it rests on."""
        load = self._load(id_)
        seen = self._latencies.states.get(id_)
        if seen is None:
            return _UNTRIED * load, None
        latency = seen.value * exp((seen.at - now) / self._decay)
        return latency * (load + 1.0), latency

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:  # noqa: ARG002 - as its interface has it
        now, seconds = outcome.finished_at, outcome.seconds
        seen = self._latencies.states.get(ticket.id)
        if outcome.status in ("error", "timeout", "rate_limited"):
            peak = seen.value if seen is not None else seconds
            seconds = max(seconds, min(_MOST, _FAILED * max(peak, 1.0)))
        elif outcome.status != "ok" and (seen is None or seconds <= seen.value):
            return  # cancelled early, cached, rejected: nothing against it, and nothing for it
        if seen is None:
            self._latencies.add(ticket.id, PeakEwma(seconds, now))
            return
        self._latencies.touch(ticket.id)
        seen.observe(seconds, now, self._decay)
