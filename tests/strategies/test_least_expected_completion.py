"""The default: what it believes, what it picks, and how it says so."""

from statistics import fmean

import pytest
from traced_router_strategies import LeastExpectedCompletion

from traced_router.strategy import Outcome, RoutingRequest, Ticket

TOKENS = {"input_tokens": 800, "cached_input_tokens": 0, "output_tokens": 120}


@pytest.fixture
def desk(make_desk):
    return make_desk(LeastExpectedCompletion)


def warm(desk, **seconds):
    """A few calls each, in turn."""
    for _ in range(6):
        for id_, each in seconds.items():
            desk.serve(id_, each, **TOKENS)


def test_picks_the_fastest_and_explains(desk, group):
    warm(desk, a=3.0, b=1.0, c=2.0)
    decision = desk.pick(group(3))
    assert (decision.id, decision.reason, decision.rank_by) == ("b", "lowest_score", "expected_seconds")
    assert decision.runner_up_id == "c"
    assert decision.score == pytest.approx(1.0, rel=0.1)
    assert decision.runner_up_score == pytest.approx(2.0, rel=0.1)
    assert decision.predicted_seconds == pytest.approx(1.0, rel=0.1)
    assert (decision.considered, decision.inflight) == (3, 0)
    assert decision.attributes["light_load_seconds"] == pytest.approx(1.0, rel=0.1)
    assert decision.attributes["overdue_ratio"] == 1.0
    assert decision.attributes["failure_rate"] == 0.0
    assert decision.attributes["samples"] in (4, 5, 6)  # they fade
    assert decision.attributes["capacity_calls"] in (1.0, 2.0, 4.0)


def test_a_reservation_counts_before_anything_is_answered(desk, group):
    warm(desk, a=1.0, b=1.2)
    ids = [desk.send(group(2))[0].id for _ in range(6)]
    assert ids[0] == "a"
    assert ids.count("a") == 3


def test_equals_are_drawn(desk, group):
    counts = dict.fromkeys("abcd", 0)
    for _ in range(2000):
        decision = desk.pick(group(4))
        assert decision.reason == "cold_start"
        counts[decision.id] += 1
    assert all(abs(count - 500) < 80 for count in counts.values())  # 4 standard deviations
    for id_ in "ab":
        desk.serve(id_, 1.0)
    assert desk.pick(group(2)).reason in ("tie_random", "lowest_score")


def test_missing_answers_are_noticed_before_they_come(desk, group):
    warm(desk, a=1.0, b=2.0)
    for _ in range(20):
        desk.serve("a", 1.0, **TOKENS)
    for _ in range(3):
        desk.start("a")
    desk.clock.sleep(1.0)
    before = desk.pick(group(1)).attributes["overdue_ratio"]
    desk.clock.sleep(10.0)
    assert desk.pick(group(1)).attributes["overdue_ratio"] > 3.0 * before
    assert desk.pick(group(2)).id == "b"


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_failures_count_as_time_lost(desk, group, status):
    warm(desk, a=1.0, b=1.5)
    desk.serve("a", 0.03, status, times=4)
    decision = desk.pick(group(2))
    assert decision.id == "b"
    assert decision.runner_up_score == pytest.approx(1.03 * 0.59 / 0.41 + 1.0, rel=0.1)
    assert desk.pick(group(1)).attributes["failure_rate"] == pytest.approx(0.59, abs=0.01)


def test_a_deployment_that_only_fails_is_left_and_tried_again(desk, group):
    desk.serve("b", 1.0)
    desk.serve("a", 0.03, "error", times=5)
    assert {desk.pick(group(2)).id for _ in range(5)} == {"b"}
    desk.clock.sleep(6.5)
    decision, ticket = desk.send(group(2))
    assert (decision.id, decision.reason) == ("a", "probe")
    assert desk.pick(group(2)).id == "b"  # one at a time
    desk.clock.sleep(0.03)
    desk.end(ticket, "error")
    assert desk.pick(group(2)).id == "b"


def test_success_makes_failures_forgotten(desk, group):
    desk.serve("a", 1.0, "error")
    desk.serve("a", 1.0, times=20)
    assert desk.pick(group(1)).attributes["failure_rate"] == 0.0


def slow_down(desk):
    """a is usual at 1 s and b at 2 s; then a takes 12 s."""
    for _ in range(6):
        warm(desk, a=1.0, b=2.0)
    desk.serve("a", 12.0, times=5, **TOKENS)


def test_a_slow_one_is_tried_every_few_seconds_one_call_at_a_time(desk, group):
    slow_down(desk)
    assert desk.pick(group(2)).id == "b"
    desk.clock.sleep(6.5)
    decision, ticket = desk.send(group(2))
    assert (decision.id, decision.reason) == ("a", "probe")
    assert decision.attributes["idle_seconds"] == 6.5
    assert decision.predicted_seconds > 6.0  # hoped for, not predicted
    assert decision.score < 1.5
    assert desk.send(group(2))[0].id == "b"
    desk.clock.sleep(12.0)
    desk.end(ticket, **TOKENS)
    assert desk.pick(group(2)).id == "b"


def test_a_recovered_one_is_believed_at_once(desk, group):
    slow_down(desk)
    desk.clock.sleep(6.5)
    _, ticket = desk.send(group(2))
    desk.clock.sleep(1.0)
    desk.end(ticket, **TOKENS)
    decision = desk.pick(group(2))
    assert decision.id == "a"
    assert decision.predicted_seconds == pytest.approx(1.0, rel=0.3)


def test_one_that_never_was_better_gets_few_trials(desk, group):
    """Out of hundreds of calls, a deployment three times slower gets a handful."""
    warm(desk, a=3.0, b=1.0)
    trials = 0
    for _ in range(600):
        decision, ticket = desk.send(group(2))
        trials += decision.id == "a"
        desk.clock.sleep(3.0 if decision.id == "a" else 1.0)
        desk.end(ticket, **TOKENS)
    assert 1 <= trials <= 6


def test_retry_after_closes_a_deployment(desk, group):
    warm(desk, a=1.0, b=3.0)
    desk.serve("a", 0.05, "rate_limited", retry_after=4.0)
    decision = desk.pick(group(2))
    assert (decision.id, decision.runner_up_id, decision.runner_up_score) == ("b", "a", None)
    assert desk.strategy.scores(desk.request(), group(2)) == {"b": decision.score}
    alone = desk.pick(group(1))
    assert alone.attributes["rate_limited_seconds"] == pytest.approx(4.0)
    assert alone.score == pytest.approx(alone.predicted_seconds + 4.0)
    desk.clock.sleep(4.1)
    assert desk.pick(group(2)).id == "a"


def test_a_retry_avoids_who_refused_lately(desk, group):
    warm(desk, a=1.0, b=3.0)
    desk.serve("a", 0.05, "rate_limited", retry_after=0.0)
    desk.clock.sleep(3.0)
    assert desk.pick(group(2)).id == "a"
    again = desk.pick(group(2), attempt=2)
    assert (again.id, again.reason, again.attributes["refused_lately"]) == ("b", "lowest_score", 1)
    request = desk.request(attempt=2)
    assert desk.strategy.scores(request, group(2)) == {"b": again.score}
    alone = desk.pick(group(1), attempt=2)
    assert (alone.id, alone.reason) == ("a", "only_candidate")
    assert "refused_lately" not in alone.attributes


def test_streams_go_where_the_first_chunk_comes_first(desk, group):
    for _ in range(8):
        for id_, first, whole in (("a", 0.2, 4.0), ("b", 1.0, 3.0)):
            ticket = desk.start(id_, stream=True)
            desk.clock.sleep(first)
            desk.first_chunk(ticket)
            desk.clock.sleep(whole - first)
            desk.end(ticket, time_to_first_chunk=first, **TOKENS)
    assert desk.pick(group(2), stream=True).id == "a"
    assert desk.pick(group(2), stream=False).id == "b"


def test_first_chunks_follow_a_change(desk, group):
    def stream(id_, first):
        ticket = desk.start(id_, stream=True)
        desk.clock.sleep(first)
        desk.first_chunk(ticket)
        desk.clock.sleep(1.0)
        desk.end(ticket, **TOKENS)

    for _ in range(8):
        stream("a", 0.3)
        stream("b", 0.5)
    before = desk.pick(group(2), stream=True)
    assert before.id == "a"
    stream("a", 3.0)
    stream("a", 3.0)
    assert desk.pick(group(2), stream=True).id == "b"
    desk.clock.sleep(7.0)
    decision, ticket = desk.send(group(2), stream=True)
    assert (decision.id, decision.reason) == ("a", "probe")
    desk.clock.sleep(0.3)
    desk.first_chunk(ticket)
    desk.clock.sleep(1.0)
    desk.end(ticket, **TOKENS)
    assert desk.pick(group(2), stream=True).id == "a"


def converse(desk, candidates, key, cached, *, seconds=2.0, prompt=10_000):
    decision, ticket = desk.send(candidates, key=key, size=prompt)
    desk.clock.sleep(seconds)
    desk.end(ticket, input_tokens=prompt, cached_input_tokens=cached, output_tokens=100)
    return decision


def test_a_session_stays_where_its_prefix_is_until_the_queue_outweighs_it(desk, group):
    for id_ in "abcd":
        desk.serve(id_, 2.0, input_tokens=10_000, cached_input_tokens=0, output_tokens=100, times=3)
    home = converse(desk, group(4), "s", 0).id
    for _ in range(5):
        decision = converse(desk, group(4), "s", 9_500, seconds=1.2)
        assert (decision.id, decision.reason) == (home, "affinity_hit")
        assert decision.attributes["work_left_share"] < 0.8
    for _ in range(12):
        desk.start(home)
    spilled = desk.pick(group(4), key="s", size=10_000)
    assert spilled.id != home
    assert spilled.reason == "affinity_spill"
    assert spilled.attributes["work_left_share"] == 1.0
    assert desk.pick(group(1), key="s", size=10_000).reason == "only_candidate"


def test_a_holder_is_looked_at_in_a_large_group(desk, group):
    many = group(80)
    for one in many:
        desk.serve(one.id, 2.0, input_tokens=10_000, cached_input_tokens=0, output_tokens=100)
    home = converse(desk, many, "s", 0).id
    assert [converse(desk, many, "s", 9_500, seconds=1.2).id for _ in range(10)] == [home] * 10


def test_a_holder_that_is_gone_is_no_longer_followed(desk, group):
    many = group(80)
    home = converse(desk, many, "s", 0)
    rest = [one for one in many if one.id != home.id]
    assert all(converse(desk, rest, "s", 0).id != home.id for _ in range(5))


def test_without_counts_of_cached_tokens_it_learns_what_a_second_call_saves(desk, group):
    for turn in range(60):
        converse(desk, group(2), f"s{turn}", None, seconds=2.0)
        converse(desk, group(2), f"s{turn}", None, seconds=0.8)
    decision = desk.pick(group(2), key="s59", size=10_000)
    assert decision.reason == "affinity_hit"
    assert decision.attributes["work_left_share"] == pytest.approx(0.4, abs=0.15)


def test_affinity_is_not_asked_for_where_prefill_is_little_of_the_work(desk, group):
    for turn in range(64):  # two seconds, however long the prompt
        ticket = desk.start("a")
        desk.clock.sleep(2.0)
        desk.end(ticket, input_tokens=10 + 40 * (turn % 5), cached_input_tokens=0, output_tokens=120)

    def never():
        raise AssertionError("it was asked for")

    request = RoutingRequest("group", affinity=never, size=never)
    decision = desk.strategy.pick(request, group(2))
    ticket = Ticket(decision.id, "group", desk.clock.now, request)
    desk.strategy.started(ticket)
    desk.strategy.finished(ticket, Outcome("ok", 1.0, desk.clock.now))


def test_predictions_follow_the_size(desk, group):
    for turn in range(120):
        prompt, output = 1000 + 3000 * (turn % 4), 50 + 100 * (turn % 3)
        ticket = desk.start("a")
        desk.clock.sleep(0.2 + 0.0001 * prompt + 0.01 * output)
        desk.end(ticket, input_tokens=prompt, cached_input_tokens=0, output_tokens=output)
    small = desk.pick(group(1), size=1000, max_output_tokens=50)
    large = desk.pick(group(1), size=10_000)
    assert small.predicted_seconds == pytest.approx(0.8, rel=0.15)
    assert large.predicted_seconds == pytest.approx(2.7, rel=0.15)


def simulate(desk, *, capacity, calls=900, gap=0.06):
    """Processor sharing: every call is 1 s of work, served at min(1, capacity / n)."""
    left: list[tuple[Ticket, float]] = []
    for turn in range(calls):
        burst = gap / 3.0 if turn % 300 < 100 else gap
        if len(left) < 60:
            left.append((desk.start("a"), 1.0))
        end = desk.clock.now + burst
        while left:
            rate = min(1.0, capacity / len(left))
            first = min(range(len(left)), key=lambda i: left[i][1])
            need = left[first][1] / rate
            step = min(need, end - desk.clock.now)
            desk.clock.sleep(step)
            left = [(ticket, work - step * rate) for ticket, work in left]
            if step < need:
                break
            ticket, _ = left.pop(first)
            desk.end(ticket, **TOKENS)
        desk.clock.now = end


@pytest.mark.parametrize("capacity", [4, 16])
def test_learns_how_many_calls_are_served_at_once(desk, group, capacity):
    simulate(desk, capacity=capacity, gap=1.3 / capacity)
    decision = desk.pick(group(1))
    assert decision.attributes["capacity_calls"] == capacity
    assert decision.attributes["light_load_seconds"] == pytest.approx(1.0, rel=0.15)


def test_learns_that_there_is_no_queue(desk, group):
    simulate(desk, capacity=1e9)
    assert desk.pick(group(1)).attributes["capacity_calls"] in (64.0, 1e6)


def test_many_candidates_are_sampled_and_the_best_remembered(desk, group):
    many = group(200)
    for position, one in enumerate(many):
        desk.serve(one.id, 1.0 if position == 150 else 3.0, **TOKENS)
    picks = [desk.pick(many) for _ in range(400)]
    assert all(2 <= (decision.considered or 0) <= 5 for decision in picks)
    found = next(i for i, decision in enumerate(picks) if decision.id == many[150].id)
    assert all(decision.id == many[150].id for decision in picks[found:])


def test_no_candidate_is_an_error_that_says_so(desk):
    with pytest.raises(ValueError, match="no candidate to pick from"):
        desk.strategy.pick(RoutingRequest("group"), [])


def test_routers_share_what_they_know(make_desk, group):
    knows, learns = make_desk(LeastExpectedCompletion, seed=1), make_desk(LeastExpectedCompletion, seed=2)
    warm(knows, a=4.0, b=1.0)
    for _ in range(3):
        knows.start("a")
    learns.strategy.absorb_state([knows.strategy.export_state()])
    decision = learns.pick(group(2))
    assert (decision.id, decision.reason) == ("b", "lowest_score")
    assert decision.predicted_seconds == pytest.approx(1.0, rel=0.2)
    assert decision.attributes["routers_heard"] == 1
    assert learns.pick(group(1)).attributes["inflight_elsewhere"] == 3
    warm(learns, a=1.0, b=1.0)
    assert learns.pick(group(2)).id == "b"  # what others see at a counts, too


def test_silent_peers_are_supposed_to_carry_on(make_desk, group):
    desk = make_desk(LeastExpectedCompletion)
    warm(desk, a=1.0)
    for _ in range(4):
        desk.start("a")
    desk.clock.sleep(3.0)
    for _ in range(200):
        desk.strategy.absorb_state([{"a": (12.0, 1.0, 5.0, 1.0, 1.0)}])
    shared = desk.pick(group(1)).predicted_seconds
    desk.strategy.absorb_state([])
    silent = desk.pick(group(1))
    assert "routers_heard" not in silent.attributes
    assert silent.inflight == 4
    assert silent.predicted_seconds > 0.2 * shared


def test_predictions_are_calibrated(desk, group):
    """Calls of random length at one deployment: predicted and real seconds agree on average."""
    rng = desk.strategy._rng
    errors = []
    for _ in range(300):
        output = int(rng.lognormvariate(4.5, 0.7))
        decision, ticket = desk.send(group(1))
        seconds = 0.3 + 0.015 * output
        desk.clock.sleep(seconds)
        desk.end(ticket, input_tokens=500, cached_input_tokens=0, output_tokens=output)
        if len(errors) >= 50 or decision.attributes["samples"] >= 6:
            errors.append(decision.predicted_seconds - seconds)
    assert fmean(errors) == pytest.approx(0.0, abs=0.25)


def test_one_that_failed_once_is_tried_again_soon(desk, group):
    """Although others do as well, and although it was never much better."""
    warm(desk, a=1.0, b=1.0)
    desk.serve("a", 0.1, "error")
    assert desk.pick(group(2)).id == "b"
    desk.clock.sleep(5.5)
    decision = desk.pick(group(2))
    assert (decision.id, decision.reason) == ("a", "probe")
