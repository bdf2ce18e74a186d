"""Exact costs, and the behaviour of the peak."""

from math import exp

import pytest
from traced_router_strategies import P2CPeakEwma


@pytest.fixture
def desk(make_desk):
    return make_desk(P2CPeakEwma)


def test_cost_is_the_faded_peak_times_load(desk, group):
    desk.serve("a", 1.0)
    desk.serve("b", 2.0)
    desk.start("a")
    desk.clock.sleep(1.0)
    decision = desk.pick(group(2))
    a, b = 1.0 * exp(-3.0 / 5.0), 2.0 * exp(-1.0 / 5.0)
    assert (decision.id, decision.reason, decision.rank_by) == ("a", "lowest_score", "latency")
    assert decision.score == pytest.approx(2.0 * a)
    assert decision.runner_up_score == pytest.approx(b)
    assert decision.predicted_seconds == pytest.approx(a)
    assert (decision.considered, decision.inflight) == (2, 1)
    assert decision.attributes == {"peak_seconds": round(a, 4)}


def test_follows_a_rise_at_once_and_a_fall_slowly(desk, group):
    desk.serve("a", 1.0, times=20)
    desk.serve("a", 9.0)
    assert desk.pick(group(1)).predicted_seconds == pytest.approx(9.0)
    desk.serve("a", 1.0)
    keep = exp(-1.0 / 5.0)
    assert desk.pick(group(1)).predicted_seconds == pytest.approx(9.0 * keep + 1.0 * (1.0 - keep))


def test_the_untried_get_one_call_at_a_time(desk, group):
    desk.serve("a", 1.0)
    assert (desk.pick(group(2)).id, desk.pick(group(2)).reason) == ("b", "cold_start")
    desk.start("b")
    assert desk.pick(group(2)).id == "a"


@pytest.mark.parametrize("status", ["error", "timeout", "rate_limited"])
def test_a_failure_is_a_slow_answer_and_slower_each_time(desk, group, status):
    desk.serve("a", 3.0)
    desk.serve("a", 0.01, status)
    assert desk.pick(group(1)).predicted_seconds == pytest.approx(6.0)
    desk.serve("a", 0.01, status, times=20)
    assert 50.0 < (desk.pick(group(1)).predicted_seconds or 0.0) <= 60.0
    desk.serve("b", 0.01, status)
    assert desk.pick(group(2)[1:]).predicted_seconds == pytest.approx(2.0)


def test_what_is_not_the_deployments_fault_leaves_no_mark(desk, group):
    for status in ("cached", "rejected", "cancelled"):
        desk.serve("b", 0.1, status)
    assert desk.pick(group(2)[1:]).predicted_seconds is None
    desk.serve("a", 1.0)
    desk.serve("a", 0.1, "cancelled")
    assert desk.pick(group(1)).predicted_seconds == pytest.approx(exp(-0.1 / 5.0))
    desk.serve("a", 4.0, "cancelled")  # it had taken longer than ever when the caller left
    assert desk.pick(group(1)).predicted_seconds == pytest.approx(4.0)


def test_draws_two_different_ones_evenly(desk, group):
    seen: dict[frozenset[str], int] = {}
    for _ in range(6000):
        decision = desk.pick(group(4))
        pair = frozenset((decision.id, decision.runner_up_id))
        seen[pair] = seen.get(pair, 0) + 1
    assert len(seen) == 6
    assert all(abs(count - 1000) < 120 for count in seen.values())  # 4 standard deviations
