"""Keys stay, the bound holds, and little moves when deployments change."""

import pytest
from traced_router_strategies import BoundedHash
from traced_router_strategies.bounded_hash import _Ring

from traced_router.strategy import Candidate


@pytest.fixture
def desk(make_desk):
    return make_desk(BoundedHash)


def homes(desk, candidates, keys=400):
    return [desk.pick(candidates, key=f"k{i}").id for i in range(keys)]


def test_the_same_key_meets_the_same_deployment(desk, group):
    first = desk.pick(group(8), key="k")
    assert (first.reason, first.rank_by, first.score, first.inflight) == ("affinity_hit", "hash", 0.0, 0)
    assert first.runner_up_score == 1.0
    assert first.attributes == {"bound_calls": 1, "full_ones_passed": 0}
    assert {desk.pick(group(8), key="k").id for _ in range(20)} == {first.id}


def test_routers_agree_without_talking(make_desk, group):
    assert homes(make_desk(BoundedHash, seed=1), group(8)) == homes(make_desk(BoundedHash, seed=2), group(8))


def test_no_deployment_takes_more_than_its_bound(desk, group):
    eight = group(8)
    for turn in range(200):
        decision, _ = desk.send(eight, key="one hot key")
        assert (decision.inflight or 0) + 1 <= -(-1.25 * (turn + 1) // 8)
    assert decision.reason in ("affinity_hit", "affinity_spill")
    assert max(desk.strategy.export_state().values()) == (32.0,)


def test_a_full_home_is_passed_and_comes_back(desk, group):
    home, ticket = desk.send(group(4), key="k")
    spilled = desk.pick(group(4), key="k")
    assert (spilled.id, spilled.reason, spilled.score) == (home.runner_up_id, "affinity_spill", 1.0)
    assert spilled.attributes == {"bound_calls": 1, "full_ones_passed": 1}
    desk.end(ticket)
    assert desk.pick(group(4), key="k").id == home.id


def test_bounds_follow_the_weights(desk, group):
    three = group(3, weight=[6.0, None, 0.0])  # b counts as 3
    for _ in range(90):
        desk.send(three, key="k")
    load = {id_: gauge[0] for id_, gauge in desk.strategy.export_state().items()}
    assert load["a"] <= 75
    assert load["b"] <= 38
    assert "c" not in load


def test_few_keys_move_when_a_deployment_goes_and_they_come_back(desk, group):
    before = homes(desk, group(8))
    without = homes(desk, group(8)[1:])
    moved = sum(old != new for old, new in zip(before, without, strict=True))
    assert moved == before.count("a")
    assert homes(desk, group(8)) == before
    grown = homes(desk, [*group(8), Candidate("z", "group")])
    moved = [new for old, new in zip(before, grown, strict=True) if old != new]
    assert set(moved) == {"z"}
    assert len(moved) < 100


def test_shares_of_the_keys_are_even(desk, group):
    counts = [homes(desk, group(8), 4000).count(one.id) for one in group(8)]
    assert min(counts) > 250
    assert max(counts) < 900


def test_without_a_key_the_emptier_of_two(desk, group):
    desk.start("a")
    decision = desk.pick(group(2))
    assert (decision.id, decision.reason, decision.rank_by) == ("b", "lowest_score", "inflight")
    assert (decision.score, decision.runner_up_id, decision.runner_up_score) == (0.0, "a", 1.0)
    assert decision.attributes == {"key": False}
    assert desk.pick(group(3)[1:]).reason == "tie_random"
    assert desk.pick(group(1)).reason == "only_candidate"


def test_what_peers_have_in_flight_fills_it(desk, group):
    home = desk.pick(group(4), key="k").id
    desk.strategy.absorb_state([{home: (3.0,)}])
    decision = desk.pick(group(4), key="k")
    assert decision.id != home
    desk.strategy.absorb_state([])
    assert desk.pick(group(4), key="k").id == home


def test_when_load_elsewhere_fills_all_the_home_takes_it(desk, group):
    home = desk.pick(group(2), key="k").id
    desk.strategy.absorb_state([{"a": (5.0,), "b": (5.0,)}])
    ring = desk.strategy._rings.states["group"]
    ring.elsewhere = 0.0  # as when the peers' calls belong to another group
    decision = desk.pick(group(2), key="k")
    assert (decision.id, decision.score) == (home, 0.0)


def test_two_on_one_point_share_it():
    ring = _Ring()
    ring.update([Candidate("a")])
    points = list(ring._points)
    assert ring._join("a") == []  # all its points are taken: by itself
    assert ring._points == points


def test_a_group_that_was_evicted_in_flight_is_forgotten_softly(desk, group):
    _, ticket = desk.send(group(2), key="k")
    ticket.state.note = None
    desk.end(ticket)
    assert desk.strategy.export_state() == {}


def test_the_ring_forgets_who_was_gone_for_long(monkeypatch):
    """Many at once: a ring is not made anew each time that one more has come."""
    monkeypatch.setattr("traced_router_strategies.bounded_hash._MOST_KNOWN", 6)
    ring, known, made = _Ring(), [], []
    for turn in range(12):
        ring.update([Candidate("stays"), Candidate(f"d{turn}")])
        known.append(len(ring._known))
        made.append(len(ring._points) == 40 * len(ring._known))
    assert known == [2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6, 4]
    assert all(made)
    assert list(ring._known) == ["d9", "d10", "stays", "d11"]
    assert set(ring._owners.values()) == set(ring._known)
    assert sorted(ring._owners) == ring._points


def test_a_ring_has_room_for_a_large_group(monkeypatch):
    monkeypatch.setattr("traced_router_strategies.bounded_hash._MOST_KNOWN", 2)
    ring = _Ring()
    ring.update([Candidate(f"d{i}") for i in range(5)])
    ring.update([Candidate(f"d{i}") for i in range(3, 9)])
    assert len(ring._known) == 9


def test_a_factor_of_one_is_refused():
    with pytest.raises(ValueError, match=r"factor must be more than 1, got 1\.0"):
        BoundedHash(factor=1.0)


def test_a_session_whose_id_is_no_text_stays_where_it_is(desk, group):
    """JSON can carry half a character."""
    first, ticket = desk.send(group(5), key="\ud800")
    desk.end(ticket)
    assert desk.send(group(5), key="\ud800")[0].id == first.id
