"""Whole runs: conservation, determinism, and that a strategy is driven as the contract says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.simulation.contenders import BASELINES, Contender, Setting, limits, load
from benchmarks.simulation.fleet import Exchange
from benchmarks.simulation.gates import Failing
from benchmarks.simulation.holdouts import HOLDOUTS
from benchmarks.simulation.metrics import Recorder, percentile
from benchmarks.simulation.resilience import Cooldown, ExcludeTried
from benchmarks.simulation.runner import Run, calls_of, run
from benchmarks.simulation.timeline import timeline
from benchmarks.simulation.worlds import WORLDS, Watch, w1, w3, w8
from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, Ticket

EVERYWHERE = {**WORLDS, **HOLDOUTS}
BY_NAME = {contender.name: contender for contender in (*BASELINES, *limits())}


def check_conservation(result: Run) -> None:
    recorder = result.recorder
    assert set(recorder.endings.values()) == {1}
    assert len(recorder.endings) == sum(recorder.ends.values()) == result.calls
    assert result.left_in_servers == 0
    assert result.left_in_strategy == 0
    assert len(recorder.picks) <= recorder.attempts


@pytest.mark.parametrize("key", EVERYWHERE)
@pytest.mark.parametrize("name", ["plain p2c", "oracle"])
def test_every_arrival_ends_once_and_nothing_stays_in_flight(key, name):
    check_conservation(run(EVERYWHERE[key](0.04), BY_NAME[name], seed=3))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_baseline_conserves_calls_through_failures_and_cancels(name):
    check_conservation(run(w3(0.02), BY_NAME[name], seed=1))
    check_conservation(run(w8(0.02), BY_NAME[name], seed=1))


@pytest.mark.parametrize("name", ["plain random", "plain p2c-peak-ewma", "oracle"])
def test_a_seed_decides_everything(name):
    first, again, other = (run(w1(0.05), BY_NAME[name], seed) for seed in (1, 1, 2))
    assert first.recorder.latencies == again.recorder.latencies
    assert first.recorder.picks == again.recorder.picks
    assert first.recorder.latencies != other.recorder.latencies


def test_all_contenders_get_the_same_calls():
    assert calls_of(w1(0.05), 4) == calls_of(w1(0.05), 4)
    assert calls_of(w1(0.05), 4) == calls_of(WORLDS["W5-shared"](0.05), 4)


def test_arrivals_come_at_the_rate_that_was_asked_for():
    calls = calls_of(w1(10.0), 0)
    # 18 a second, x 2.2 in bursts that fill an eighth of the time: 20.7, and bursts come in few pieces.
    assert len(calls) / 3000.0 == pytest.approx(20.7, rel=0.05)
    assert sorted(call.at for call in calls) == [call.at for call in calls]


class Spy:
    """Picks the first candidate, and notes what it is told."""

    name = "spy"

    def __init__(self) -> None:
        self.open: dict[int, Ticket] = {}
        self.requests: list[RoutingRequest] = []
        self.outcomes: list[tuple[Ticket, Outcome]] = []
        self.first_chunks: list[Ticket] = []
        self.absorbed: list[int] = []

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        self.requests.append(request)
        return Decision(candidates[0].id, "external", inflight=len(self.open))

    def started(self, ticket: Ticket) -> None:
        assert id(ticket) not in self.open
        self.open[id(ticket)] = ticket

    def first_chunk(self, ticket: Ticket) -> None:
        assert id(ticket) in self.open
        self.first_chunks.append(ticket)

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        assert self.open.pop(id(ticket)) is ticket  # exactly once
        self.outcomes.append((ticket, outcome))

    def inflight_left(self) -> int:
        return len(self.open)


class SharingSpy(Spy):
    """Also exports how many calls it has in flight."""

    def export_state(self) -> dict[str, tuple[float, ...]]:
        return {"d0": (float(len(self.open)),)}

    def absorb_state(self, peers: Sequence[object]) -> None:
        self.absorbed.append(len(peers))


def spied(kind: type[Spy] = Spy, *, resilient: bool = True, cooldown: bool = False) -> tuple[Contender, list[Spy]]:
    made: list[Spy] = []

    def make(setting: Setting) -> Spy:
        made.append(kind())
        return made[-1]

    resilience = (lambda _: ExcludeTried()) if resilient else None
    return Contender("spy", make, resilience=resilience, cooldown=cooldown), made


def test_a_strategy_is_told_of_every_end_exactly_once():
    contender, made = spied()
    result = run(w8(0.03), contender, seed=2)
    check_conservation(result)
    spy = made[0]
    statuses = Counter(outcome.status for _, outcome in spy.outcomes)
    assert statuses["cancelled"] == result.recorder.ends["cancelled"] > 0
    assert statuses["ok"] == result.recorder.ends["ok"]
    assert len(spy.first_chunks) == len(result.recorder.first_chunks)
    for ticket, outcome in spy.outcomes:
        assert outcome.seconds == pytest.approx(outcome.finished_at - ticket.started_at)


def test_a_retry_goes_elsewhere_when_tried_deployments_are_excluded():
    world = w3(0.02)
    broken = replace(world.servers[0], gates=[lambda rng: Failing(1.0, rng)])
    contender, made = spied()
    result = run(replace(world, servers=[broken, *world.servers[1:]]), contender, seed=0)
    assert result.recorder.ends == {"ok": result.calls}
    again = [request for request in made[0].requests if request.attempt == 2]
    assert len(again) == result.calls
    assert all(request.tried == {"d0"} for request in again)


def test_without_exclusion_the_same_deployment_fails_three_times():
    world = w3(0.02)
    broken = replace(world.servers[0], gates=[lambda rng: Failing(1.0, rng)])
    contender, _ = spied(resilient=False)
    result = run(replace(world, servers=[broken, *world.servers[1:]]), contender, seed=0)
    assert result.recorder.ends == {"error": result.calls}
    assert result.recorder.attempts == 3 * result.calls


def ended(status: str, at: float, retry_after: float | None = None) -> tuple[Ticket, Outcome]:
    ticket = Ticket("a", "group", 0.0, RoutingRequest())
    return ticket, Outcome(status, at, at, retry_after=retry_after)  # type: ignore[arg-type]


def test_cooldown_follows_litellm():
    a, b = Candidate("a"), Candidate("b")
    cooldown = Cooldown(2)
    for _ in range(4):
        cooldown.finished(*ended("error", 1.0))
    assert cooldown.filter([a, b], 1.0) == [a, b]  # fewer than five calls
    cooldown.finished(*ended("error", 1.0))
    assert cooldown.filter([a, b], 5.9) == [b]
    assert cooldown.filter([a, b], 6.0) == [a, b]
    cooldown.finished(*ended("rate_limited", 70.0, 12.0))
    assert cooldown.filter([a, b], 81.9) == [b]
    single = Cooldown(1)
    single.finished(*ended("rate_limited", 1.0))
    assert single.filter([a], 1.0) == [a]


def test_a_fleet_shares_snapshots_and_forgets_a_dead_redis():
    contender, made = spied(SharingSpy)
    world = replace(WORLDS["W5-shared"](0.1), exchange=Exchange(dead_from=15.0))
    check_conservation(run(world, contender, seed=0))
    assert len(made) == 8
    for spy in made:
        assert max(spy.absorbed) == 7
        assert spy.absorbed[-1] == 0  # what was published last has expired


def test_a_fleet_that_does_not_share_hears_nothing():
    contender, made = spied(SharingSpy)
    run(WORLDS["W5-alone"](0.05), contender, seed=0)
    assert all(spy.absorbed == [] for spy in made)


def test_the_oracle_is_ahead_of_the_best_simple_strategy():
    # Seeds fixed; over these the ratio is 1.3 to 1.5.
    for seed in range(3):
        slow, fast = (
            sorted(run(w1(0.5), BY_NAME[name], seed).recorder.latencies) for name in ("plain least-in-flight", "oracle")
        )
        assert percentile(slow, 0.99) > 1.1 * percentile(fast, 0.99)


def test_heeding_the_others_is_faster_for_all():
    # Seeds fixed; over these the ratio is 0.85 to 0.95: the oracle is a reference, not a bound.
    for seed in range(3):
        runs = [run(w1(0.5), BY_NAME[name], seed) for name in ("oracle-considerate", "oracle")]
        heeding, greedy = (sorted(result.recorder.latencies) for result in runs)
        assert percentile(heeding, 0.99) < percentile(greedy, 0.99)
        assert sum(heeding) < sum(greedy)


def test_the_timeline_finds_when_a_server_was_left_and_come_back_to():
    recorder = Recorder("d0")
    for tenth in range(1000):
        at = tenth / 10.0
        away = 42.0 <= at < 75.0
        recorder.picked(at, "d0" if tenth % 4 == 0 and not away else "d1")
    found = timeline([recorder], Watch("d0", 40.0, 70.0), 100.0)
    assert found.usual == pytest.approx(0.25, abs=0.02)
    assert (found.leaves, found.returns) == (2, 4)


def test_a_user_strategy_must_be_named_with_module_and_class():
    with pytest.raises(ValueError, match="module:Class"):
        load("just_a_module")


def test_percentiles_are_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([], 0.5) == 0.0
