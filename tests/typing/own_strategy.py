"""A user's own strategy and its tests, against the public names. Checked by mypy and pyright, never run."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import assert_type

from traced_router import (
    Candidate,
    Decision,
    Outcome,
    RoutingRequest,
    RoutingStrategy,
    SharedState,
    Ticket,
    TracedRouter,
)
from traced_router.strategy import Reason, Status
from traced_router.testing import (
    StrategyDesk,
    StrategyFactory,
    StrategyViolation,
    check_strategy,
    make_candidates,
    make_request,
    try_strategy,
)


class Patient:
    """Fewest in flight; of equals, one that failed longest ago."""

    name = "patient"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        patience: float = 5.0,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._patience = patience
        self._lock = threading.Lock()
        self._inflight: dict[str, int] = {}
        self._failed_at: dict[str, float] = {}

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        assert_type(request.affinity_key, str | None)
        assert_type(request.deadline, float | None)
        with self._lock:
            ranked = sorted(candidates, key=self._rank)
            reason: Reason = "lowest_score" if len(ranked) > 1 else "only_candidate"
            return Decision(
                ranked[0].id,
                reason,
                score=float(self._inflight.get(ranked[0].id, 0)),
                rank_by="inflight",
                attributes={"calm": self._calm(ranked[0].id), "retry": request.attempt > 1},
            )

    def started(self, ticket: Ticket) -> None:
        assert_type(ticket.request, RoutingRequest)
        with self._lock:
            self._inflight[ticket.id] = self._inflight.get(ticket.id, 0) + 1

    def first_chunk(self, ticket: Ticket) -> None: ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        assert_type(outcome.status, Status)
        assert_type(outcome.retry_after, float | None)
        with self._lock:
            self._inflight[ticket.id] -= 1
            if outcome.status in ("error", "timeout"):
                self._failed_at[ticket.id] = outcome.finished_at

    def export_state(self) -> Mapping[str, Sequence[float]]:
        return {id_: (float(count),) for id_, count in self._inflight.items()}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None: ...

    def _rank(self, one: Candidate) -> tuple[bool, int, float]:
        return (not self._calm(one.id), self._inflight.get(one.id, 0), self._rng.random())

    def _calm(self, id_: str) -> bool:
        return self._clock() - self._failed_at.get(id_, float("-inf")) > self._patience


as_strategy: RoutingStrategy = Patient()
as_shared: SharedState = Patient()
as_factory: StrategyFactory = Patient

TracedRouter(routing_strategy=Patient(patience=3.0))

assert_type(check_strategy(Patient), list[StrategyViolation])
check_strategy(partial(Patient, patience=1.0), ids=10_000, most_operations=300)
assert_type(try_strategy(Patient).phases[0].p99, float)

desk = StrategyDesk(Patient, seed=3)
call = desk.send(make_candidates(3, like=Candidate("", weight=2.0)), make_request("session", 4000, tried=["a"]))
desk.clock.advance(0.5)
desk.finish(call, "rate_limited", status_code=429, retry_after=2.0)
assert_type(desk.serve(make_candidates(2), 0.5, input_tokens=100), str)

# What a provider says has names: a misspelt one is refused.
desk.serve(make_candidates(2), 0.5, tokens=100)  # type: ignore[call-arg]


class WithoutFinished:
    name = "incomplete"

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        return Decision(candidates[0].id, "external")


# A strategy that cannot hear how calls ended is none.
incomplete: RoutingStrategy = WithoutFinished()  # type: ignore[assignment]
