"""Headroom by configured limits, by headers, and by 429s alone."""

import pytest
from traced_router_strategies import QuotaAware
from traced_router_strategies.quota_aware import _Window

from traced_router.strategy import Candidate


@pytest.fixture
def desk(make_desk):
    return make_desk(QuotaAware)


def test_the_least_used_by_requests(desk, group):
    two = group(2, rpm=[10.0, 100.0])
    desk.start("a")
    decision = desk.pick(two)
    assert (decision.id, decision.reason, decision.rank_by) == ("b", "lowest_score", "usage")
    assert decision.score == pytest.approx(0.01)
    assert decision.runner_up_score == pytest.approx(0.2, abs=1e-5)
    assert decision.attributes == {"requests_last_minute": 0.0, "tokens_last_minute": 0.0, "tightest_limit": "requests"}


def test_shares_follow_the_limits(desk, group):
    three = group(3, rpm=[60.0, 120.0, 420.0])
    counts = dict.fromkeys("abc", 0)
    for _ in range(300):
        decision, ticket = desk.send(three)
        counts[decision.id] += 1
        desk.clock.sleep(0.1)
        desk.end(ticket)
    assert all(abs(counts[id_] - share) <= 2 for id_, share in (("a", 30), ("b", 60), ("c", 210)))


def test_tokens_are_reserved_by_estimate_and_corrected(desk, group):
    two = group(2, tpm=[10_000.0, 10_000.0])
    ticket = desk.start("a", size=5000, max_output_tokens=1000)
    decision = desk.pick(two)
    assert decision.id == "b"
    assert decision.runner_up_score == pytest.approx(0.6, abs=1e-3)
    desk.clock.sleep(1.0)
    desk.end(ticket, input_tokens=400, output_tokens=100)
    decision = desk.pick(two[:1])
    assert decision.score == pytest.approx((500 + 500) / 10_000, abs=1e-5)
    assert decision.attributes["tightest_limit"] == "tokens"
    desk.start("b", size=5000, max_output_tokens=50)  # output is at most that, though 100 are usual
    assert desk.pick(two[1:]).score == pytest.approx((5050 + 500) / 10_000, abs=1e-5)
    desk.start("b", size=1000)
    assert desk.pick(two[1:]).score == pytest.approx((5050 + 1100 + 500) / 10_000, abs=1e-5)


def test_the_window_slides(desk, group):
    one = group(1, rpm=[100.0])
    desk.serve("a", 1.0, times=30)
    assert desk.pick(one).score == pytest.approx(0.31)
    desk.clock.sleep(45.0)
    assert desk.pick(one).score == pytest.approx(0.16, abs=0.011)
    desk.clock.sleep(500.0)
    assert desk.pick(one).score == pytest.approx(0.01)


def test_a_refused_or_cached_call_has_used_nothing(desk, group):
    desk.serve("a", 0.1, "rate_limited", retry_after=0.0)
    desk.serve("a", 0.1, "cached")
    desk.clock.sleep(60.0)
    assert desk.pick(group(1, rpm=[100.0])).score == pytest.approx(0.01)
    desk.serve("b", 0.1, "error")
    assert desk.pick(group(2, rpm=[100.0, 100.0])[1:]).score == pytest.approx(0.02)


def test_the_providers_word_comes_before_the_operators(desk, group):
    two = group(2, rpm=[1000.0, 1000.0])
    desk.serve("a", 0.1, ratelimit_remaining_requests=99.0, ratelimit_reset_seconds=0.6)
    desk.serve("a", 0.1, ratelimit_remaining_requests=9.0, ratelimit_reset_seconds=60.0)
    decision = desk.pick(two)
    assert decision.id == "b"
    assert decision.runner_up_score == pytest.approx(1.0 - (9.0 + 91.0 / 60.0 * 0.1 - 1.0) / 100.0, abs=1e-3)


def test_a_used_up_limit_closes_until_it_refills(desk, group):
    two = group(2)
    desk.serve("a", 0.1, ratelimit_remaining_requests=9.0, ratelimit_reset_seconds=1.0)
    desk.serve("a", 0.1, ratelimit_remaining_requests=0.0, ratelimit_reset_seconds=10.0)
    desk.start("b")
    assert desk.pick(two).id == "b"
    closed = desk.pick(two[:1])
    assert closed.attributes["rate_limited_seconds"] == pytest.approx(0.9)
    assert (closed.score, closed.attributes["tightest_limit"]) == (pytest.approx(1.0, abs=0.11), "requests")
    assert desk.pick(two).runner_up_score is None
    assert desk.strategy.scores(desk.request(), two) == {"b": desk.pick(two).score}
    desk.clock.sleep(1.0)
    assert desk.pick(two).score is not None
    assert "rate_limited_seconds" not in desk.pick(two[:1]).attributes


def test_retry_after_closes_and_opens(desk, group):
    two = group(2)
    desk.serve("a", 0.1, "rate_limited", retry_after=5.0)
    assert {desk.pick(two).id for _ in range(20)} == {"b"}
    desk.serve("b", 0.1, "rate_limited", retry_after=20.0)
    assert desk.pick(two).id == "a"  # both closed: the one that opens first
    desk.clock.sleep(5.5)
    assert desk.pick(two).id == "a"
    assert desk.pick(two).score < 1.0


def test_without_any_limit_calls_in_flight_decide(desk, group):
    desk.start("a")
    desk.start("a")
    desk.start("b")
    decision = desk.pick(group(2))
    assert (decision.id, "tightest_limit" in decision.attributes) == ("b", False)
    desk.strategy.absorb_state([{"b": (5.0,)}])
    assert desk.pick(group(2)).id == "a"


def test_a_note_that_is_not_ours_is_passed_over(desk):
    ticket = desk.start("a")
    ticket.state.note = None
    desk.end(ticket)
    assert desk.strategy.export_state() == {}


def test_configuration_may_change(desk):
    desk.serve("a", 0.1, times=5)
    assert desk.pick([Candidate("a", rpm=10.0)]).score == pytest.approx(0.6)
    desk.clock.sleep(1.0)
    assert desk.pick([Candidate("a", rpm=60.0)]).score == pytest.approx(0.1)


def test_a_window_bears_a_clock_that_jumps():
    window = _Window()
    window.add(100.5, 1.0, 10.0)
    window.add(99.0, 1.0, 10.0)
    assert (window.requests, window.tokens) == (2.0, 20.0)
    window.slide(1e6)
    assert (window.requests, window.tokens) == (0.0, 0.0)
