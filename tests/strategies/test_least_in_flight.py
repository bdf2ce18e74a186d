"""Exact decisions, and lots that are fair."""

import pytest
from traced_router_strategies import LeastInFlight


@pytest.fixture
def desk(make_desk):
    return make_desk(LeastInFlight)


def test_picks_the_emptiest_and_says_who_was_next(desk, group):
    for id_ in "aabbbc":
        desk.start(id_)
    decision = desk.pick(group(3))
    assert (decision.id, decision.reason, decision.score, decision.rank_by) == ("c", "lowest_score", 1.0, "inflight")
    assert (decision.runner_up_id, decision.runner_up_score) == ("a", 2.0)
    assert (decision.considered, decision.inflight, decision.predicted_seconds) == (3, 1, None)


def test_draws_among_equals(desk, group):
    counts = dict.fromkeys("abcd", 0)
    for _ in range(4000):
        decision = desk.pick(group(4))
        assert decision.reason == "tie_random"
        counts[decision.id] += 1
    assert all(abs(count - 1000) < 120 for count in counts.values())  # 4 standard deviations


def test_compares_a_few_of_many_and_remembers_the_best(desk, group):
    many = group(100)
    for one in many[:99]:
        desk.start(one.id)
    picks = [desk.pick(many) for _ in range(300)]
    assert all(3 <= (decision.considered or 0) <= 5 or decision.considered == 2 for decision in picks)
    found = next(i for i, decision in enumerate(picks) if decision.id == many[99].id)
    assert all(decision.id == many[99].id for decision in picks[found:])  # once seen, not forgotten


def test_counts_what_peers_have_in_flight(desk, group):
    desk.start("a")
    desk.strategy.absorb_state([{"b": (2.0,)}, {"b": (1.0,), "c": (5.0,)}])
    decision = desk.pick(group(3))
    assert (decision.id, decision.score, decision.runner_up_id, decision.runner_up_score) == ("a", 1.0, "b", 3.0)
    assert decision.attributes == {"inflight_elsewhere": 0.0}
    desk.strategy.absorb_state([])
    assert desk.pick(group(3)).id in "bc"
    assert desk.strategy.export_state() == {"a": (1.0,)}
