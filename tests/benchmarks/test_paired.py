"""The figures of paired blocks: what they find in costs that are known, under disturbances that are known."""

import random

import pytest

from benchmarks._paired import Estimate, estimate, paired, ratio, undisturbed

SEED = 7
PLAIN = 1_400.0


def _rounds(dice, count, disturbed):
    """Rounds of three contenders, one of them 50 dearer; ``disturbed`` of the blocks take up to twice as long."""
    rounds = []
    for _ in range(count):
        slow = 1 + dice.random() if dice.random() < disturbed else 1.0
        cost = {"plain": PLAIN, "control": PLAIN, "dearer": PLAIN + 50, "floor": 25.0}
        rounds.append({name: c * slow * dice.uniform(1, 1.1) for name, c in cost.items()})
    return rounds


@pytest.fixture(scope="module", params=[0.0, 0.3, 0.6], ids=lambda share: f"{share:.0%} disturbed")
def generations(request):
    dice = random.Random(SEED)
    return [_rounds(dice, 80, request.param) for _ in range(5)]


@pytest.mark.parametrize("statistic", [undisturbed, paired])
def test_nothing_is_found_where_nothing_is(generations, statistic):
    found = estimate(generations, statistic("control", "plain"), SEED)
    assert found.low <= 0 <= found.high
    assert found.high - found.low < 40


@pytest.mark.parametrize("statistic", [undisturbed, paired])
def test_what_is_there_is_found(generations, statistic):
    found = estimate(generations, statistic("dearer", "plain"), SEED)
    assert 0 < found.low <= 50 <= found.high


def test_what_a_contender_costs_by_itself_is_what_it_costs_undisturbed(generations):
    found = estimate(generations, undisturbed("plain"), SEED)
    assert PLAIN <= found.low <= found.value <= found.high <= 1.04 * PLAIN


def test_a_figure_can_be_told_as_a_multiple_of_another(generations):
    found = estimate(generations, ratio(undisturbed("dearer", "plain"), undisturbed("floor")), SEED)
    assert found.low <= 2 <= found.high


def test_generations_that_disagree_widen_the_interval():
    dice = random.Random(SEED)
    lucky = [_rounds(dice, 80, 0.0) for _ in range(5)]
    unequal = [[{**r, "control": r["control"] + 20 * i} for r in rounds] for i, rounds in enumerate(lucky)]
    widths = [e.high - e.low for e in (estimate(g, paired("control", "plain"), SEED) for g in (lucky, unequal))]
    assert widths[1] > 3 * widths[0]


def test_the_same_rounds_give_the_same_interval(generations):
    assert estimate(generations, undisturbed("plain"), SEED) == estimate(generations, undisturbed("plain"), SEED)


def test_an_estimate_is_told_with_its_interval_and_in_other_units():
    found = Estimate(2_000.0, 1_500.0, 3_000.0) / 1_000
    assert found == Estimate(2.0, 1.5, 3.0)
    assert found.told(1) == "2.0 [1.5, 3.0]"
