"""Shares are kept to the call, and evenly interleaved."""

from itertools import pairwise

import pytest
from traced_router_strategies import Weighted

from traced_router.strategy import Candidate


@pytest.fixture
def desk(make_desk):
    return make_desk(Weighted)


def turns(desk, candidates, count):
    return "".join(desk.pick(candidates).id for _ in range(count))


def test_interleaves_as_smooth_weighted_round_robin(desk, group):
    three = group(3, weight=[5.0, 1.0, 1.0])
    for _ in range(20):
        seven = turns(desk, three, 7)
        assert sorted(seven) == list("aaaaabc")
        assert seven[:2] == "aa"
        assert seven[-2:] == "aa"


def test_explains_the_turn(desk, group):
    decision = desk.pick(group(3, weight=[5.0, 1.0, 1.0]))
    assert (decision.id, decision.reason, decision.rank_by) == ("a", "lowest_score", "weight")
    assert decision.score == pytest.approx(0.7)  # of the turns, half of one in 7 / 5
    assert (decision.runner_up_id in "bc", decision.runner_up_score) == (True, pytest.approx(3.5))
    assert decision.attributes == {"traffic_share": 0.7143}
    assert (decision.considered, decision.inflight) == (3, 0)


def test_any_window_keeps_the_shares(desk, group):
    weights = [1.0, 2.0, 3.0, 4.0]
    sequence = turns(desk, group(4, weight=weights), 1000)
    for start in range(0, 900, 50):
        window = sequence[start : start + 100]
        assert all(abs(window.count(id_) - 10.0 * weight) <= 2 for id_, weight in zip("abcd", weights, strict=True))


@pytest.mark.parametrize(
    ("known", "shares"),
    [
        ({"weight": [1.0, 3.0]}, (1, 3)),
        ({"weight": [None, None], "rpm": [100.0, 300.0]}, (1, 3)),
        ({"tpm": [100.0, 300.0]}, (1, 3)),
        ({"weight": [3.0, None]}, (1, 1)),
        ({"weight": [0.0, 2.0]}, (0, 1)),
        ({"weight": [0.0, 0.0]}, (1, 1)),
        ({}, (1, 1)),
    ],
    ids=str,
)
def test_reads_weight_then_rpm_then_tpm(desk, group, known, shares):
    sequence = turns(desk, group(2, **known), 400)
    assert abs(sequence.count("a") - 400 * shares[0] / sum(shares)) <= 1


def test_one_of_weight_zero_alone_with_a_heavy_one_has_no_runner_up(desk, group):
    decision = desk.pick(group(2, weight=[0.0, 2.0]))
    assert (decision.id, decision.runner_up_id) == ("b", None)


def test_who_was_away_is_owed_nothing(desk, group):
    three = group(3, weight=[1.0, 1.0, 1.0])
    turns(desk, three, 30)
    turns(desk, three[:2], 300)
    assert abs(turns(desk, three, 30).count("c") - 10) <= 1


def test_a_short_absence_costs_no_turn(desk, group):
    two = group(2, weight=[9.0, 1.0])
    sequence = ""
    for _ in range(100):  # b is left out of every other pick
        sequence += desk.pick(two).id
        desk.pick(two[:1])
    assert 18 <= sequence.count("b") <= 20  # one in ten of all 200


def test_weights_may_change(desk, group):
    turns(desk, group(2, weight=[9.0, 1.0]), 50)
    assert abs(turns(desk, group(2, weight=[1.0, 9.0]), 100).count("a") - 10) <= 2


def test_a_list_that_is_altered_in_place_is_noticed(desk, group):
    three = group(3)
    turns(desk, three, 5)
    three[1] = Candidate("z", "group")
    assert "z" in turns(desk, three, 20)
    assert "b" not in turns(desk, three, 20)


def test_equals_are_drawn(desk, group):
    sequence = turns(desk, group(4), 4000)
    pairs = dict.fromkeys(pairwise("abcd"), 0)
    for pair in pairwise(sequence):
        if pair in pairs:
            pairs[pair] += 1
    assert all(120 < count < 420 for count in pairs.values())  # a fixed order would give 0 or 1000
