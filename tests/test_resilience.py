"""The resilience layer: who is left out, for how long, and why."""

import random
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from traced_router import resilience as module
from traced_router.resilience import Resilience, ResilienceOptions
from traced_router.strategy import Candidate, Outcome, RoutingRequest, Status, Ticket


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Layer:
    """The layer under test, with its clock."""

    options: ResilienceOptions = field(default_factory=ResilienceOptions)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        rng = random.Random(1)
        rng.random = lambda: 0.0  # type: ignore[method-assign]
        self.it = Resilience(self.options, clock=self.clock, rng=rng)

    def call(self, id_: str, status: Status = "ok", *, attempt: int = 1, **known: Any) -> None:
        self.end(self.start(id_, attempt=attempt), status, **known)

    def start(self, id_: str, *, attempt: int = 1) -> Ticket:
        ticket = Ticket(id_, "group", self.clock.now, RoutingRequest("group", attempt=attempt))
        self.it.started(ticket)
        return ticket

    def end(self, ticket: Ticket, status: Status = "ok", **known: Any) -> None:
        self.it.finished(ticket, Outcome(status, self.clock.now - ticket.started_at, self.clock.now, **known))

    def fail(self, id_: str, times: int = 3) -> None:
        for _ in range(times):
            self.call(id_, "error")

    def eligible(self, ids: str = "abcd", *tried: str):
        return self.it.filter(RoutingRequest("group", tried=frozenset(tried)), [Candidate(id_) for id_ in ids])

    def left(self, ids: str = "abcd", *tried: str) -> str:
        return "".join(candidate.id for candidate in self.eligible(ids, *tried).candidates)


@pytest.fixture
def layer():
    return Layer()


def test_with_nothing_wrong_the_candidates_pass_untouched(layer):
    candidates = [Candidate("a"), Candidate("b")]
    eligible = layer.it.filter(RoutingRequest(), candidates)
    assert eligible.candidates is candidates
    assert (dict(eligible.excluded), eligible.panic, eligible.probes) == ({}, False, frozenset())


class TestAlreadyTried:
    def test_what_was_tried_is_left_out(self, layer):
        eligible = layer.eligible("abc", "b")
        assert [candidate.id for candidate in eligible.candidates] == ["a", "c"]
        assert dict(eligible.excluded) == {"b": "already_tried"}

    def test_unless_nothing_else_is_left(self, layer):
        eligible = layer.eligible("ab", "a", "b")
        assert [candidate.id for candidate in eligible.candidates] == ["a", "b"]
        assert dict(eligible.excluded) == {}

    def test_the_least_bad_is_left(self, layer):
        layer.fail("c")
        layer.call("b", "rate_limited", retry_after=9.0)
        eligible = layer.eligible("abc", "a")
        assert [candidate.id for candidate in eligible.candidates] == ["a"]
        assert dict(eligible.excluded) == {"b": "rate_limit", "c": "ejected"}
        assert layer.left("bc") == "b"

    def test_switched_off(self):
        assert Layer(ResilienceOptions(exclude_tried=False)).left("abc", "b") == "abc"


class TestEjection:
    def test_three_failures_in_a_row_eject(self, layer):
        layer.fail("a", 2)
        assert layer.left() == "abcd"
        layer.fail("a", 1)
        assert dict(layer.eligible().excluded) == {"a": "ejected"}
        health = layer.it.snapshot().deployments["a"]
        assert (health.state, health.ejections, health.ejected_seconds) == ("ejected", 1, 1.0)
        assert health.failure_rate == pytest.approx(1 - 0.75**3)

    def test_a_third_of_failures_now_and_then_does_not(self, layer):
        for _ in range(50):
            layer.call("a", "error")
            layer.call("a")
            layer.call("a")
        assert layer.left() == "abcd"

    @pytest.mark.parametrize("status", ["cancelled", "cached", "rejected"])
    def test_what_says_nothing_of_the_deployment_does_not(self, layer, status):
        for _ in range(20):
            layer.call("a", status)
        assert layer.left() == "abcd"
        assert layer.it.snapshot().deployments == {}

    def test_one_probe_at_a_time_then_closed(self, layer):
        layer.fail("a")
        layer.clock.now += 1.0
        eligible = layer.eligible()
        assert eligible.probes == {"a"}
        assert len(eligible.candidates) == 4
        assert layer.it.snapshot().deployments["a"].state == "half_open"
        probe = layer.start("a")
        assert dict(layer.eligible().excluded) == {"a": "ejected"}
        layer.clock.now += 0.2
        layer.end(probe)
        assert layer.left() == "abcd"
        assert layer.it.snapshot().deployments["a"].state == "closed"

    def test_a_failed_probe_ejects_for_twice_as_long_up_to_ten_seconds(self, layer):
        layer.fail("a")
        lengths = []
        for _ in range(6):
            lengths.append(layer.it.snapshot().deployments["a"].ejected_seconds)
            layer.clock.now += lengths[-1]
            layer.call("a", "timeout")
        assert lengths == pytest.approx([1.0, 2.0, 4.0, 8.0, 10.0, 10.0])

    def test_a_relapse_comes_sooner_and_lasts_longer_a_new_illness_does_not(self, layer):
        layer.fail("a")
        layer.clock.now += 1.0
        layer.call("a")
        layer.fail("a", 2)
        assert layer.it.snapshot().deployments["a"].ejected_seconds == 2.0
        layer.clock.now += 2.0
        layer.call("a")
        layer.clock.now += 30.0
        layer.call("a")
        layer.fail("a", 3)
        assert layer.it.snapshot().deployments["a"].ejected_seconds == 1.0

    def test_a_probe_that_hangs_does_not_bar_the_next(self, layer):
        layer.fail("a")
        layer.clock.now += 1.0
        layer.start("a")
        layer.clock.now += 9.9
        assert layer.left() == "bcd"
        layer.clock.now += 0.2
        assert layer.left() == "abcd"
        second = layer.start("a")
        assert layer.left() == "bcd"
        layer.end(second, "cancelled")
        assert layer.left() == "abcd"  # it said nothing: the next may try

    def test_failures_that_left_before_the_ejection_do_not_lengthen_it(self, layer):
        tickets = [layer.start("a") for _ in range(10)]
        layer.fail("a")
        layer.clock.now += 1.5
        for ticket in tickets:
            layer.end(ticket, "error")
        assert layer.left() == "abcd"
        assert layer.it.snapshot().deployments["a"].ejections == 1

    def test_an_answer_that_left_before_the_ejection_does_not_end_it(self, layer):
        ticket = layer.start("a")
        layer.clock.now += 0.1
        layer.fail("a")
        layer.end(ticket)
        assert layer.left() == "bcd"

    def test_panic_when_more_than_half_is_ejected(self, layer):
        for id_ in "ab":
            layer.fail(id_)
        assert (layer.left(), layer.eligible().panic) == ("cd", False)
        layer.fail("c")
        eligible = layer.eligible()
        assert (len(eligible.candidates), eligible.panic, dict(eligible.excluded)) == (4, True, {})
        assert layer.left("abcd", "a") == "bcd"

    def test_a_success_in_a_panic_ends_the_ejection(self, layer):
        for id_ in "abc":
            layer.fail(id_)
        layer.clock.now += 0.1
        layer.call("a")
        assert layer.left() == "ad"

    def test_the_only_one_is_never_ejected(self, layer):
        layer.fail("a", 9)
        assert layer.eligible("a").panic
        assert Layer(ResilienceOptions(panic=1.0)).left("a") == "a"

    def test_all_ejected_is_a_panic_whatever_the_threshold(self):
        layer = Layer(ResilienceOptions(panic=1.0))
        for id_ in "ab":
            layer.fail(id_)
        assert layer.eligible("ab").panic

    def test_jitter_shortens_by_a_fifth_at_most(self):
        clock = Clock()
        ends = set()
        for seed in range(50):
            it = Resilience(clock=clock, rng=random.Random(seed))
            for _ in range(3):
                ticket = Ticket("a", "g", clock.now, RoutingRequest())
                it.finished(ticket, Outcome("error", 0.0, clock.now))
            ends.add(it.snapshot().deployments["a"].ejected_seconds)
        assert len(ends) > 40
        assert 0.8 <= min(ends) < max(ends) <= 1.0

    def test_switched_off(self):
        layer = Layer(ResilienceOptions(eject=False))
        layer.fail("a", 20)
        assert layer.left() == "abcd"
        assert layer.it.snapshot().deployments["a"].failure_rate > 0.9


class TestRateLimit:
    def test_retry_after_is_kept(self, layer):
        layer.call("a", "rate_limited", retry_after=7.0)
        assert dict(layer.eligible().excluded) == {"a": "rate_limit"}
        layer.clock.now += 6.9
        assert layer.left() == "bcd"
        layer.clock.now += 0.2
        assert layer.left() == "abcd"

    @pytest.mark.parametrize(("asked", "kept"), [(1e9, 60.0), (-5.0, 0.0)])
    def test_within_reason(self, layer, asked, kept):
        layer.call("a", "rate_limited", retry_after=asked)
        deployments = layer.it.snapshot().deployments
        assert (deployments["a"].limited_seconds if "a" in deployments else 0.0) == kept

    def test_without_it_a_penalty_that_doubles_and_is_forgotten_by_success(self, layer):
        lengths = []
        for _ in range(5):
            layer.call("a", "rate_limited")
            lengths.append(layer.it.snapshot().deployments["a"].limited_seconds)
            layer.clock.now += lengths[-1]
        assert lengths == [1.0, 2.0, 4.0, 8.0, 8.0]
        layer.call("a")
        assert "a" not in layer.it.snapshot().deployments
        layer.call("a", "rate_limited")
        assert layer.it.snapshot().deployments["a"].limited_seconds == 1.0

    def test_refusals_of_one_moment_are_one(self, layer):
        tickets = [layer.start("a") for _ in range(10)]
        for ticket in tickets:
            layer.end(ticket, "rate_limited")
        assert layer.it.snapshot().deployments["a"].limited_seconds == 1.0

    def test_it_does_not_eject(self, layer):
        for _ in range(20):
            layer.call("a", "rate_limited", retry_after=0.0)
        assert layer.left() == "abcd"

    def test_when_all_are_limited_all_are_left(self, layer):
        for id_ in "ab":
            layer.call(id_, "rate_limited", retry_after=9.0)
        assert layer.left("ab") == "ab"

    def test_switched_off(self):
        layer = Layer(ResilienceOptions(rate_limits=False))
        layer.call("a", "rate_limited", retry_after=9.0)
        assert layer.left() == "abcd"


class TestRetryBudget:
    def test_a_fifth_of_the_calls_and_ten_a_second(self, layer):
        for _ in range(1000):
            layer.call("a")
        granted = sum(layer.it.allow_retry() for _ in range(500))
        assert granted == 300
        budget = layer.it.snapshot().retry_budget
        assert (budget.calls, budget.retries, budget.left, budget.denied) == (1000, 300, 0, 200)

    def test_only_first_attempts_earn(self, layer):
        layer.call("a", attempt=2)
        assert layer.it.snapshot().retry_budget.calls == 0

    def test_the_window_slides(self, layer):
        assert sum(layer.it.allow_retry() for _ in range(150)) == 100
        layer.clock.now += 5.0
        assert not layer.it.allow_retry()
        layer.clock.now += 6.0
        assert layer.it.allow_retry()
        assert layer.it.snapshot().retry_budget.denied == 51
        layer.clock.now += 1e6
        assert layer.it.snapshot().retry_budget.retries == 0
        layer.clock.now -= 1e6  # a clock that goes back
        assert layer.it.allow_retry()

    def test_switched_off(self):
        layer = Layer(ResilienceOptions(retry_budget=False))
        assert all(layer.it.allow_retry() for _ in range(1000))


def test_the_healthy_leave_no_trace(layer):
    layer.fail("a", 1)
    for _ in range(60):
        layer.call("a")
    assert layer.it.snapshot().deployments == {}
    layer.fail("a")
    layer.clock.now += 1.0
    layer.call("a")
    layer.clock.now += 25.0
    for _ in range(60):
        layer.call("a")
    assert layer.it._health == {}


def test_state_is_bounded(layer, monkeypatch):
    monkeypatch.setattr(module, "_MAX_IN_TROUBLE", 10)
    for i in range(50):
        layer.call(f"d{i}", "error")
    assert list(layer.it._health) == [f"d{i}" for i in range(40, 50)]


def test_a_start_that_loses_the_race_against_forgetting_is_no_probe(layer):
    class Vanishing(dict):  # type: ignore[type-arg]
        def get(self, key, default=None):
            return None

    layer.fail("a")
    layer.it._health = Vanishing(layer.it._health)
    layer.start("a")


def test_started_on_a_closed_or_still_ejected_one_is_no_probe(layer):
    layer.fail("b", 1)
    layer.start("b")
    layer.fail("a")
    layer.clock.now += 0.1
    ticket = layer.start("a")  # a panic, or a pick from before
    layer.clock.now += 1.0
    assert layer.left() == "abcd"
    layer.end(ticket, "error")
    assert layer.left() == "bcd"


def test_defaults_are_the_documented_ones():
    it = Resilience()
    assert it.options == ResilienceOptions()
    assert it.filter(RoutingRequest(), [Candidate("a")]).candidates == [Candidate("a")]


def test_threads():
    it = Resilience(rng=random.Random(1))
    errors: list[BaseException] = []

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        candidates = [Candidate(f"d{i}") for i in range(6)]
        try:
            for turn in range(500):
                request = RoutingRequest("g", attempt=1 + turn % 2, tried=frozenset(["d0"] if turn % 3 else []))
                eligible = it.filter(request, candidates)
                assert eligible.candidates
                ticket = Ticket(rng.choice(eligible.candidates).id, "g", it.clock(), request)
                it.started(ticket)
                status = rng.choice(["ok", "error", "rate_limited", "timeout", "cancelled"])
                it.finished(ticket, Outcome(status, 0.0, it.clock(), retry_after=rng.choice([None, 0.001])))
                it.allow_retry()
                it.snapshot()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
