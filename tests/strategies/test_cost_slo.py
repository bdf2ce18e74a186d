"""Cheapest in time, else fastest."""

import pytest
from traced_router_strategies import CostSLO

from traced_router.strategy import Candidate

TOKENS = {"input_tokens": 1000, "cached_input_tokens": 0, "output_tokens": 100}


@pytest.fixture
def desk(make_desk):
    return make_desk(CostSLO, objective=6.0)


@pytest.fixture
def three(desk):
    """Dear and fast, middling, cheap and slow."""
    for id_, seconds in (("fast", 1.0), ("middle", 2.0), ("cheap", 8.0)):
        desk.serve(id_, seconds, times=12, **TOKENS)
    return [
        Candidate("fast", "group", input_cost_per_token=10e-6, output_cost_per_token=30e-6),
        Candidate("middle", "group", input_cost_per_token=1e-6, output_cost_per_token=4e-6),
        Candidate("cheap", "group", input_cost_per_token=0.1e-6, output_cost_per_token=0.4e-6),
    ]


def test_the_cheapest_that_meets_the_objective(desk, three):
    decision = desk.pick(three, size=1000)
    assert (decision.id, decision.reason, decision.rank_by) == ("middle", "lowest_score", "cost")
    assert decision.score == pytest.approx(1000 * 1e-6 + 100 * 4e-6, rel=0.01)
    assert decision.runner_up_id == "fast"
    assert decision.runner_up_score == pytest.approx(1000 * 10e-6 + 100 * 30e-6, rel=0.01)
    assert decision.predicted_seconds == pytest.approx(2.0, rel=0.2)
    assert decision.attributes["budget_seconds"] == 6.0
    assert decision.attributes["candidates_in_time"] == 2
    assert decision.predicted_seconds < decision.attributes["p90_seconds"] < 6.0


def test_the_requests_deadline_comes_before_the_objective(desk, three):
    relaxed = desk.pick(three, deadline=desk.clock.now + 60.0)
    assert (relaxed.id, relaxed.attributes["budget_seconds"]) == ("cheap", 60.0)
    assert desk.pick(three, deadline=desk.clock.now + 2.0).id == "fast"


@pytest.mark.parametrize("left", [0.5, -3.0], ids=["too little", "passed"])
def test_none_in_time_is_the_fastest(desk, three, left):
    decision = desk.pick(three, deadline=desk.clock.now + left)
    assert (decision.id, decision.rank_by, decision.attributes["candidates_in_time"]) == ("fast", "expected_seconds", 0)
    assert decision.runner_up_id == "middle"


def test_it_fills_the_cheap_one_up_to_the_objective(desk, three):
    ids = [desk.send(three, deadline=desk.clock.now + 20.0)[0].id for _ in range(30)]
    assert ids[0] == "cheap"
    assert {"cheap", "middle"} <= set(ids)


def test_one_price_is_enough_and_none_is_dearest(desk, three):
    half = Candidate("fast", "group", output_cost_per_token=1e-9)
    assert desk.pick([half, *three[1:]]).id == "fast"
    unknown = [Candidate(one.id, "group") for one in three]
    assert desk.pick([unknown[2], three[1], unknown[0]]).id == "middle"
    decision = desk.pick(unknown)
    assert (decision.id, decision.rank_by) == ("fast", "expected_seconds")


def test_failures_make_it_late(desk, three):
    desk.serve("middle", 0.2, "error", times=10)
    assert desk.pick(three).id == "fast"


def test_a_closed_one_is_not_in_time(desk, three):
    desk.serve("middle", 0.1, "rate_limited", retry_after=5.0)
    assert desk.pick(three).id == "fast"
    assert list(desk.strategy.scores(desk.request(), three)) == ["fast"]  # the cheap one is too slow
    alone = desk.pick([three[1]])
    assert alone.reason == "only_candidate"
    assert alone.score == pytest.approx(alone.predicted_seconds + 5.0)
    desk.serve("fast", 0.1, "rate_limited", retry_after=5.0)
    desk.serve("cheap", 0.1, "rate_limited", retry_after=5.0)
    assert desk.pick(three).runner_up_score is None


def test_a_cached_prompt_is_less_late(desk, three):
    decision, ticket = desk.send(three, key="s", size=9000)
    desk.clock.sleep(2.0)
    desk.end(ticket, input_tokens=9000, cached_input_tokens=0, output_tokens=100)
    again = desk.pick(three, key="s", size=9000)
    assert again.id == decision.id
    assert again.predicted_seconds < decision.predicted_seconds


def test_many_are_sampled(desk):
    many = [Candidate(f"d{i}", "group", input_cost_per_token=1e-6) for i in range(100)]
    assert all(2 <= (desk.pick(many).considered or 0) <= 5 for _ in range(20))


def test_a_trial_is_called_one_only_where_hope_decides(desk, three):
    for _ in range(60):
        desk.serve("fast", 1.0, **TOKENS)
    known = desk.pick(three, deadline=desk.clock.now + 90.0)
    assert (known.id, known.reason) == ("cheap", "lowest_score")
    hoped = desk.pick(three)
    assert (hoped.id, hoped.reason) == ("cheap", "probe")
    assert hoped.predicted_seconds > 6.0
