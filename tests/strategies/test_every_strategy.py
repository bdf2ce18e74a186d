"""What all strategies owe the router, whatever they rank by."""

import math
import random
import threading
from collections.abc import Sequence
from typing import Any, get_args

import pytest
import traced_router_strategies
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from traced_router_strategies import __all__ as names

from traced_router.strategy import (
    Candidate,
    Outcome,
    RankBy,
    Reason,
    RoutingRequest,
    RoutingStrategy,
    SharedState,
    Status,
    Ticket,
)

KINDS: list[Any] = [getattr(traced_router_strategies, name) for name in names]
every = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def candidates(count: int) -> list[Candidate]:
    return [
        Candidate(
            f"d{i}",
            "group",
            weight=1.0 + i % 3,
            rpm=600.0,
            tpm=600_000.0,
            input_cost_per_token=1e-6 * (1 + i % 2),
            output_cost_per_token=4e-6,
        )
        for i in range(count)
    ]


def inflight(strategy: RoutingStrategy, among: Sequence[Candidate]) -> list[int | None]:
    return [strategy.pick(RoutingRequest("group"), (one,)).inflight for one in among]


def test_names_are_sorted_and_those_of_the_entry_points():
    assert list(names) == sorted(names)
    assert sorted(kind.name for kind in KINDS) == [
        "bounded-hash",
        "cost-slo",
        "least-expected-completion",
        "least-in-flight",
        "p2c-peak-ewma",
        "prefix-affinity",
        "quota-aware",
        "weighted",
    ]


@every
def test_keeps_to_the_interface(kind):
    strategy = kind()
    assert isinstance(strategy, RoutingStrategy)
    assert isinstance(strategy, SharedState)


@every
@pytest.mark.parametrize("count", [1, 2, 8, 16, 17, 40])
def test_explains_itself(kind, count, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    among = candidates(count)
    ids = {one.id for one in among}
    for turn in range(60):
        request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn % 5}", size=lambda: 4000)
        decision = strategy.pick(request, among)
        assert decision.id in ids
        assert decision.reason in get_args(Reason)
        assert (decision.reason == "only_candidate") == (count == 1)
        assert decision.rank_by in get_args(RankBy)
        assert decision.score is not None
        assert math.isfinite(decision.score)
        assert decision.considered is not None
        assert 1 <= decision.considered <= count
        assert decision.inflight is not None
        assert len(decision.attributes) <= 16
        assert all(type(value) in (str, int, float, bool) for value in decision.attributes.values())
        assert "name" not in decision.attributes
        assert (decision.runner_up_id is None) == (count == 1)
        assert decision.runner_up_id != decision.id
        if decision.runner_up_score is not None:
            assert decision.runner_up_score >= decision.score
        ticket = Ticket(decision.id, "group", clock.now, request)
        strategy.started(ticket)
        clock.sleep(0.4 + 0.01 * turn)
        outcome = Outcome("ok", 0.4, clock.now, input_tokens=4000, cached_input_tokens=3000, output_tokens=80)
        strategy.finished(ticket, outcome)


@every
def test_counts_reservations_and_releases_each_once(kind, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    among = candidates(3)
    tickets = [Ticket("d1", "group", clock.now, RoutingRequest("group")) for _ in range(4)]
    for ticket in tickets:
        strategy.started(ticket)
    assert inflight(strategy, among) == [0, 4, 0]
    clock.sleep(1.0)
    for ticket in [*tickets, *tickets]:
        strategy.finished(ticket, Outcome("cancelled", 1.0, clock.now))
    assert inflight(strategy, among) == [0, 0, 0]


@every
def test_ignores_a_ticket_that_was_never_started(kind, clock):
    strategy = kind(clock=clock)
    ticket = Ticket("d0", "group", clock.now, RoutingRequest("group"))
    strategy.first_chunk(ticket)
    strategy.finished(ticket, Outcome("ok", 1.0, clock.now))
    assert inflight(strategy, candidates(1)) == [0]


@every
def test_same_seed_same_picks(kind, clock):
    def play() -> list[str]:
        strategy = kind(clock=lambda: 5.0, rng=random.Random(3))
        ids = []
        for turn in range(80):
            request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn % 7}")
            decision = strategy.pick(request, candidates(20))
            ids.append(decision.id)
            ticket = Ticket(decision.id, "group", 5.0, request)
            strategy.started(ticket)
            if turn % 3:
                strategy.finished(ticket, Outcome("ok", 0.1 * (1 + turn % 4), 5.0, input_tokens=9, output_tokens=9))
        return ids

    assert play() == play()


@every
def test_deployments_come_go_and_change(kind, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    among = candidates(4)
    seen: set[str] = set()
    for turn in range(400):
        if turn == 100:
            among = among[1:]
        if turn == 200:
            among = [*among, Candidate("new", "group", weight=2.0, input_cost_per_token=1e-7)]
        if turn == 300:
            among = [Candidate(one.id, "group", weight=5.0, rpm=10.0) for one in among]
        request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn}")
        decision = strategy.pick(request, among)
        assert decision.id in {one.id for one in among}
        if turn >= 200:
            seen.add(decision.id)
        ticket = Ticket(decision.id, "group", clock.now, request)
        strategy.started(ticket)
        clock.sleep(0.5)
        strategy.finished(ticket, Outcome("ok", 0.5, clock.now, input_tokens=10, output_tokens=10))
    assert "new" in seen


@every
def test_state_is_bounded(kind, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    for turn in range(5000):
        among = [Candidate(f"d{turn}", f"g{turn}"), Candidate(f"e{turn}", f"g{turn}")]
        request = RoutingRequest(f"g{turn}", affinity=lambda turn=turn: f"s{turn}")
        decision = strategy.pick(request, among)
        ticket = Ticket(decision.id, f"g{turn}", clock.now, request)
        strategy.started(ticket)
        clock.sleep(0.01)
        strategy.finished(ticket, Outcome("ok", 0.01, clock.now, input_tokens=1, output_tokens=1))
    assert _largest(strategy) <= 16_384
    assert len(strategy.export_state()) <= 4096


def _largest(thing: object, depth: int = 0) -> int:
    """The size of the largest collection that is reachable from a strategy."""
    if depth > 6:
        return 0
    if isinstance(thing, dict | list | tuple | set):
        inner = list(thing.values()) if isinstance(thing, dict) else list(thing)
        return max([len(inner), *(_largest(one, depth + 1) for one in inner[:3])])
    slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
    parts = [*vars(thing).values()] if hasattr(thing, "__dict__") else []
    parts += [getattr(thing, slot) for slot in slots if hasattr(thing, slot)]
    if not type(thing).__module__.startswith("traced_router_strategies"):
        parts = []
    return max([0, *(_largest(part, depth + 1) for part in parts)])


@every
@pytest.mark.parametrize("status", [status for status in get_args(Status) if status != "ok"])
def test_bears_every_end(kind, status, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    among = candidates(3)
    for _ in range(30):
        decision = strategy.pick(RoutingRequest("group", stream=True), among)
        ticket = Ticket(decision.id, "group", clock.now, RoutingRequest("group", stream=True))
        strategy.started(ticket)
        clock.sleep(0.05)
        strategy.first_chunk(ticket)
        clock.sleep(0.05)
        strategy.finished(ticket, Outcome(status, 0.1, clock.now, status_code=500))
        strategy.first_chunk(ticket)
    assert inflight(strategy, among) == [0, 0, 0]


@every
def test_a_deployment_that_failed_is_tried_again_within_ten_seconds(kind, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    among = [Candidate("d0", "group"), Candidate("d1", "group")]
    for _ in range(40):  # d0 fails, d1 answers
        decision = strategy.pick(RoutingRequest("group"), among)
        ticket = Ticket(decision.id, "group", clock.now, RoutingRequest("group"))
        strategy.started(ticket)
        clock.sleep(0.2)
        strategy.finished(ticket, Outcome("error" if decision.id == "d0" else "ok", 0.2, clock.now))
    picked = set()
    for turn in range(50):  # d0 has recovered; keys so that a hash meets both
        request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn}")
        decision = strategy.pick(request, among)
        picked.add(decision.id)
        ticket = Ticket(decision.id, "group", clock.now, request)
        strategy.started(ticket)
        clock.sleep(0.2)
        strategy.finished(ticket, Outcome("ok", 0.2, clock.now))
    assert picked == {"d0", "d1"}


@every
def test_a_cold_start_is_no_stampede(kind, clock):
    """Forty calls at once into a group that nobody knows: no deployment of eight gets more than a quarter."""
    strategy = kind(clock=clock, rng=random.Random(1))
    among = [Candidate(f"d{i}", "group") for i in range(8)]
    counts: dict[str, int] = {}
    for turn in range(40):
        request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn}")
        decision = strategy.pick(request, among)
        counts[decision.id] = counts.get(decision.id, 0) + 1
        strategy.started(Ticket(decision.id, "group", clock.now, request))
    assert max(counts.values()) <= 10
    assert len(counts) == 8


@pytest.mark.parametrize("name", ["least-expected-completion", "prefix-affinity"])
def test_those_that_rank_by_time_try_everyone_however_fast_the_first_one_was(name, clock):
    (kind,) = (one for one in KINDS if one.name == name)
    strategy = kind(clock=clock, rng=random.Random(4))
    tried = []
    for turn in range(3):
        request = RoutingRequest("group", affinity=lambda turn=turn: f"s{turn}")
        decision = strategy.pick(request, candidates(3))
        ticket = Ticket(decision.id, "group", clock(), request)
        strategy.started(ticket)
        clock.now += 0.02
        strategy.finished(ticket, Outcome("ok", 0.02, clock(), input_tokens=10, output_tokens=10))
        tried.append(decision.id)
    assert sorted(tried) == ["d0", "d1", "d2"]


@every
def test_peers_replace_each_other_and_vanish(kind, clock):
    ours, theirs = (kind(clock=clock, rng=random.Random(seed)) for seed in (1, 2))
    among = candidates(2)
    tickets = [Ticket("d0", "group", clock.now, RoutingRequest("group")) for _ in range(50)]
    for ticket in tickets:
        theirs.started(ticket)
    exported = theirs.export_state()
    assert all(len(gauge) <= 16 for gauge in exported.values())
    assert exported["d0"][0] == 50.0
    for _ in range(2):
        ours.absorb_state([exported, {"d1": ()}])
        assert inflight(ours, among) == [0, 0]  # ours alone
    ours.absorb_state([])
    clock.sleep(1.0)
    for ticket in tickets:
        theirs.finished(ticket, Outcome("ok", 1.0, clock.now))
    assert all(gauge[0] == 0.0 for gauge in theirs.export_state().values())


@every
def test_threads_leave_nothing_in_flight(kind):
    strategy = kind(rng=random.Random(1))
    among = candidates(5)
    errors: list[BaseException] = []

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        tickets: list[Ticket] = []
        try:
            for turn in range(400):
                request = RoutingRequest("group", stream=turn % 2 == 0, affinity=lambda turn=turn: f"s{turn % 9}")
                decision = strategy.pick(request, among)
                ticket = Ticket(decision.id, "group", strategy.clock(), request)
                strategy.started(ticket)
                tickets.append(ticket)
                if rng.random() < 0.7:
                    done = tickets.pop(rng.randrange(len(tickets)))
                    strategy.first_chunk(done)
                    status = rng.choice(get_args(Status))
                    strategy.finished(done, Outcome(status, rng.random(), strategy.clock()))
                if turn % 50 == 0:
                    strategy.absorb_state([strategy.export_state()])
            for ticket in tickets:
                strategy.finished(ticket, Outcome("cancelled", 0.1, strategy.clock()))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    strategy.absorb_state([])
    assert inflight(strategy, among) == [0] * 5


class Life(RuleBasedStateMachine):
    """Calls start and end in any order, time passes, deployments come and go; the counts stay right."""

    kind: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.strategy = self.kind(clock=lambda: self.now, rng=random.Random(0))
        self.among = candidates(3)
        self.open: list[Ticket] = []

    @rule(seconds=st.floats(0.0, 100.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 20))
    def change(self, count: int) -> None:
        self.among = candidates(count)

    @rule(
        key=st.one_of(st.none(), st.sampled_from("xyz")),
        stream=st.booleans(),
        attempt=st.integers(1, 3),
        deadline=st.one_of(st.none(), st.floats(0.0, 50.0)),
        most=st.one_of(st.none(), st.integers(1, 5000)),
    )
    def call(self, key, stream, attempt, deadline, most) -> None:
        request = RoutingRequest(
            "group",
            stream=stream,
            attempt=attempt,
            max_output_tokens=most,
            deadline=None if deadline is None else self.now + deadline,
            affinity=lambda: key,
            size=lambda: 3000,
        )
        decision = self.strategy.pick(request, self.among)
        assert decision.id in {one.id for one in self.among}
        ticket = Ticket(decision.id, "group", self.now, request)
        self.strategy.started(ticket)
        self.open.append(ticket)

    @rule(which=st.integers(0, 10_000))
    def first_chunk(self, which: int) -> None:
        if self.open:
            self.strategy.first_chunk(self.open[which % len(self.open)])

    @rule(
        which=st.integers(0, 10_000),
        status=st.sampled_from(get_args(Status)),
        tokens=st.one_of(st.none(), st.integers(0, 10_000)),
        cached=st.one_of(st.none(), st.integers(0, 20_000)),
        left=st.one_of(st.none(), st.integers(0, 100)),
        reset=st.one_of(st.none(), st.floats(0.0, 60.0)),
        retry_after=st.one_of(st.none(), st.floats(-1.0, 100.0)),
    )
    def end(self, which, status, tokens, cached, left, reset, retry_after) -> None:
        if not self.open:
            return
        ticket = self.open.pop(which % len(self.open))
        outcome = Outcome(
            status,
            self.now - ticket.started_at,
            self.now,
            input_tokens=tokens,
            cached_input_tokens=cached,
            output_tokens=tokens,
            retry_after=retry_after,
            ratelimit_remaining_requests=left,
            ratelimit_remaining_tokens=left,
            ratelimit_reset_seconds=reset,
        )
        self.strategy.finished(ticket, outcome)

    @rule(inflight=st.floats(0.0, 50.0), seconds=st.floats(0.0, 9.0), silent=st.booleans())
    def peers(self, inflight, seconds, silent) -> None:
        self.strategy.absorb_state([] if silent else [{"d0": (inflight, seconds, 3.0, 4.0, 5.0)}])

    @invariant()
    def counts_are_right(self) -> None:
        for one in self.among:
            decision = self.strategy.pick(RoutingRequest("group"), (one,))
            assert decision.inflight == sum(ticket.id == one.id for ticket in self.open)
            assert decision.score is not None
            assert math.isfinite(decision.score)


@every
def test_any_life(kind):
    machine = type("Life", (Life,), {"kind": kind})
    case = machine.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=40, deadline=None, database=None)
    case().runTest()


@every
def test_a_group_in_use_is_not_forgotten_for_those_that_come_and_go(kind, clock):
    strategy = kind(clock=clock, rng=random.Random(1))
    kept = next((getattr(strategy, name) for name in ("_rooms", "_groups", "_rings") if hasattr(strategy, name)), None)
    seen = set()
    for turn in range(600):
        group = "lasting" if turn % 2 else f"g{turn}"
        request = RoutingRequest(group, affinity=lambda: "s")
        decision = strategy.pick(request, [Candidate(f"{group}-a", group), Candidate(f"{group}-b", group)])
        ticket = Ticket(decision.id, group, clock.now, request)
        strategy.started(ticket)
        strategy.finished(ticket, Outcome("ok", 0.1, clock.now))
        if kept is not None and group == "lasting":
            seen.add(id(kept.states[group]))
    assert len(seen) == (kept is not None)
