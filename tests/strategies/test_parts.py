"""The building blocks, where the strategies' own tests do not reach every corner."""

import random
from math import inf, nan

import pytest
from traced_router_strategies._capacity import CAPACITIES, Belief, Clocks, Evidence
from traced_router_strategies._choice import lowest_two, shortlist
from traced_router_strategies._inflight import Reservation
from traced_router_strategies._load import DecayedMean, PeakEwma
from traced_router_strategies._pace import Pace, Scatter
from traced_router_strategies._peers import NOTHING, Heard, gather
from traced_router_strategies._prefixes import Prefixes
from traced_router_strategies._roster import Roster
from traced_router_strategies._table import Table
from traced_router_strategies._throttle import Meter, Throttle
from traced_router_strategies._trials import Allowance, Trials
from traced_router_strategies._work import WorkModel

from traced_router.strategy import Candidate, Outcome


class TestTable:
    def test_the_one_unused_for_longest_goes(self):
        table: Table[int] = Table(2)
        table.add("a", 1)
        table.add("b", 2)
        table.touch("a")
        table.add("c", 3)
        assert dict(table.states) == {"a": 1, "c": 3}

    def test_what_is_in_use_is_passed_over(self):
        table: Table[int] = Table(2, spare=lambda state: state > 1)
        for key, state in (("a", 1), ("b", 2), ("c", 1), ("d", 1)):
            table.add(key, state)
        assert dict(table.states) == {"a": 1, "c": 1, "d": 1}


class TestReservation:
    def test_releases_once(self):
        counts: dict[str, int] = {}
        first, second = Reservation(counts, "a"), Reservation(counts, "a")
        assert counts == {"a": 2}
        assert (first.release(), first.release()) == (True, False)
        assert counts == {"a": 1}
        assert second.release()
        assert counts == {}


class TestChoice:
    def test_lowest_two(self):
        assert lowest_two([3.0, 1.0, 2.0], random.Random(0)) == (1, 1.0, 2, 2.0, False)

    def test_one(self):
        assert lowest_two([3.0], random.Random(0)) == (0, 3.0, None, None, False)

    @pytest.mark.parametrize("scores", [[inf, inf], [1.0, inf], [inf, 1.0]], ids=str)
    def test_the_second_is_another_one_even_if_infinite(self, scores):
        choice = lowest_two(list(scores), random.Random(1))
        assert choice.second == 1 - choice.first

    def test_ties_are_fair(self):
        rng = random.Random(5)
        firsts = [lowest_two([1.0, 2.0, 1.0, 1.0], rng).first for _ in range(3000)]
        assert all(abs(firsts.count(i) - 1000) < 110 for i in (0, 2, 3))  # 4 standard deviations

    def test_few_are_all_looked_at(self):
        assert list(shortlist(16, (), random.Random(0))) == list(range(16))

    def test_of_many_a_sample_and_the_remembered_that_still_exist(self):
        positions = shortlist(100, (7, 99, 100), random.Random(0))
        assert {7, 99} <= set(positions)
        assert 100 not in positions
        assert len(set(positions)) == len(positions) <= 5

    def test_there_are_always_two(self):
        class Same(random.Random):
            def random(self) -> float:
                return 0.995

        assert sorted(shortlist(100, (), Same())) == [0, 99]


class TestLoad:
    def test_peak_ewma_bears_a_clock_that_goes_back(self):
        peak = PeakEwma(1.0, 10.0)
        peak.observe(0.5, 9.0, 5.0)
        assert (peak.value, peak.at) == (1.0, 10.0)

    def test_decayed_mean(self):
        mean = DecayedMean(2.0)
        mean.observe(4.0)
        assert (mean.value, mean.weight) == (4.0, 1.0)
        mean.observe(2.0)
        mean.observe(1.0)
        assert (mean.value, mean.weight) == (2.0, 2.0)


class TestRoster:
    def test_the_same_sequence_is_read_once(self):
        roster, group = Roster(), [Candidate(id_) for id_ in "abc"]
        assert [roster.update(group) for _ in range(5)] == [True, False, False, False, False]
        assert (roster.find("c"), roster.find("z")) == (2, None)

    @pytest.mark.parametrize("change", [list.pop, lambda group: group.append(Candidate("d"))], ids=["pop", "append"])
    def test_a_change_of_length_is_noticed(self, change):
        roster, group = Roster(), [Candidate(id_) for id_ in "abc"]
        roster.update(group)
        change(group)
        assert roster.find("a") == 0
        assert roster.update(group)

    def test_a_swap_in_place_is_noticed_in_turn_and_never_believed(self):
        roster, group = Roster(), [Candidate(id_) for id_ in "abc"]
        roster.update(group)
        group[2] = Candidate("z")
        assert roster.find("c") is None
        assert any(roster.update(group) for _ in range(3))
        assert roster.find("z") == 2
        del group[1:]
        assert roster.find("z") is None


class TestClocks:
    def test_service_is_real_time_up_to_the_capacity_and_shared_beyond(self):
        clocks = Clocks(0.0)
        before = tuple(clocks.lost)
        assert clocks.advance(1.0, 8) == 1.0
        service = [clocks.service(1.0, before, j) for j in range(len(CAPACITIES))]
        assert service == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1.0, 1.0, 1.0, 1.0, 1.0])

    def test_nothing_is_lost_alone(self):
        clocks = Clocks(0.0)
        clocks.advance(5.0, 1)
        assert clocks.lost == [0.0] * 8

    def test_more_calls_than_any_finite_capacity(self):
        """Only an API without a queue still serves all of them at once."""
        clocks = Clocks(0.0)
        clocks.advance(1.0, 128)
        assert clocks.service(1.0, [0.0] * 8, 6) == pytest.approx(0.5)
        assert clocks.service(1.0, [0.0] * 8, 7) == 1.0


class TestBelief:
    def test_without_evidence_small_capacities_are_likelier(self):
        belief = Belief(Evidence())
        assert belief.main == 0
        assert sum(belief.odds) == pytest.approx(1.0)
        assert sorted(belief.odds, reverse=True) == belief.odds

    def test_the_least_scatter_wins_and_the_group_helps_the_new(self):
        group = Evidence()
        belief = Belief(group)
        residuals = [0.8, 0.6, 0.4, 0.1, 0.3, 0.5, 0.6, 0.6]
        for _ in range(30):
            belief.add(residuals, group)
        assert CAPACITIES[belief.main] == 8.0
        assert belief.odds[3] > 0.95
        assert list(belief.alive) == [3]
        assert CAPACITIES[Belief(group).main] == 8.0


class TestPace:
    @staticmethod
    def observe(pace, seconds, *, now, trial=False, scatter=None):
        group = Evidence()
        pace.observe(
            1.0,
            seconds,
            Clocks(0.0),
            [0.0] * 8,
            Belief(group),
            now=now,
            scatter=scatter or Scatter(),
            evidence=group,
            trial=trial,
        )

    def test_a_surprise_moves_it_fast_but_not_out_of_reach(self):
        pace = Pace()
        for now in range(20):
            self.observe(pace, 1.0, now=now)
        assert pace.means[0] == pytest.approx(1.0)
        self.observe(pace, 1000.0, now=20)
        assert pace.means[0] == pytest.approx(1.0 + 0.4 * 7.0)

    def test_a_trial_that_went_well_is_believed(self):
        pace = Pace()
        for now in range(20):
            self.observe(pace, 6.0, now=now)
        self.observe(pace, 1.0, now=20, trial=True)
        assert pace.means[0] == 1.0

    def test_what_is_known_fades(self):
        pace = Pace()
        for now in range(30):
            self.observe(pace, 1.0, now=now)
        assert pace.fresh(29.0) == pytest.approx(pace.samples)
        assert pace.fresh(89.0) == pytest.approx(pace.samples / 2.71828, rel=1e-3)

    def test_more_scatter_longer_means(self):
        calm, wild = Scatter(), Scatter()
        for _ in range(500):
            calm.add(0.02)
            wild.add(-2.0)
        assert calm.samples == 12.0
        assert wild.samples == 48.0


class TestWorkModel:
    def test_learns_what_tokens_cost(self):
        model, rng = WorkModel(), random.Random(3)
        for _ in range(4000):
            fresh, cached, output = rng.randrange(8000), rng.choice((0, 5000)), rng.randrange(20, 600)
            service = 0.5 + 0.0004 * fresh + 0.00001 * cached + 0.006 * output
            model.observe((1.0, fresh, cached, output), service * rng.lognormvariate(0.0, 0.1))
            model.count(model.work(fresh, cached, output), fresh + cached, output)
        base, fresh, cached, output = model.coefficients
        assert (base, fresh, output) == pytest.approx((0.5, 0.0004, 0.006), rel=0.15)
        assert cached < 0.00005
        assert model.prefill_matters
        assert model.mean_output == pytest.approx(310, rel=0.15)

    def test_outliers_count_little(self):
        model = WorkModel()
        model.observe((1.0, 100.0, 0.0, 100.0), 1e9)
        for _ in range(8):
            model.observe((1.0, 100.0, 0.0, 100.0), 1.7)
        assert model.work(100.0, 0.0, 100.0) == pytest.approx(1.7, rel=0.3)

    def test_keeps_its_coefficients_where_nothing_costs_anything(self):
        model = WorkModel()
        model._moments = [[1e9 * (i == j) for j in range(4)] for i in range(4)]
        model._seen = 400
        before = model.coefficients
        model._cross = [-1e12] * 4
        model._fit()
        assert model.coefficients == before


class TestPrefixes:
    def test_a_prefix_is_displaced_at_the_distance_that_was_learnt(self):
        prefixes = Prefixes()
        assert prefixes.work_left("s", 0.5) == {}
        assert prefixes.sent("s", "a") is None
        assert prefixes.sent("s", "a") == 0
        for i in range(20):
            prefixes.sent(f"other {i}", "a")
        for _ in range(300):
            prefixes.learn(20, 0.0)
        assert prefixes.share(20) < 0.01
        assert prefixes.share(0) == 1.0
        assert prefixes.work_left("s", 0.5)["a"] > 0.99
        assert prefixes.sent("s", "a") == 20

    def test_remembers_three_holders(self):
        prefixes = Prefixes()
        for id_ in "abcd":
            prefixes.sent("s", id_)
        assert list(prefixes.work_left("s", 0.5)) == ["b", "c", "d"]

    def test_a_deployment_that_was_forgotten_holds_nothing(self):
        prefixes = Prefixes()
        prefixes.sent("s", "a")
        del prefixes._entered.states["a"]
        for _ in range(300):
            prefixes.learn(1 << 20, 0.0)
        assert prefixes.work_left("s", 0.5)["a"] > 0.99
        assert prefixes.sent("s", "a") == 0


class TestPeers:
    def test_sums_and_means(self):
        heard = gather([{"a": (2.0, 1.0, 3.0, 4.0, 5.0), "b": (1.0,)}, {"a": (1.0, 5.0, 1.0, 1.0, 1.0, 9.0)}])
        assert heard == {"a": Heard(2, 3.0, 2.0, 4.0, 5.0, 6.0)}
        assert gather([{"a": (2.0, 1.0, 0.0, 0.0, 0.0)}])["a"] == Heard(1, 2.0, 0.0, 0.0, 0.0, 0.0)
        assert gather([]) == {}

    def test_what_is_no_gauge_is_left_out(self):
        fine = (2.0, 1.0, 3.0, 4.0, 5.0)
        odd = [(*fine[:at], wrong, *fine[at + 1 :]) for at in range(5) for wrong in (nan, inf, -inf, -1.0, 1e10)]
        assert gather([{"a": fine}, *({"a": gauge} for gauge in odd)]) == gather([{"a": fine}])

    def test_nothing_is_heard_of_those_unheard_of(self):
        assert NOTHING.routers == 0


class TestTrials:
    def test_late_trials_come_no_more_often_than_traffic_allows(self):
        allowance, trials = Allowance(), Trials(0.0)
        for now in range(200):
            allowance.called(float(now))
        trials.seen(1.0, 1)
        assert trials.hope(10.0, 1.0, 1.0, allowance, 4.0) == (10.0, 5.0)
        assert trials.hope(10.0, 1.0, 1.0, allowance, 5.0)[0] == pytest.approx(0.6)
        for _ in range(12):
            trials.started(10.0, allowance, 6.0)
            trials.ended(10.0, 10.0)
        assert trials.hope(10.0, 1.0, 1.0, allowance, 100.0) == (10.0, pytest.approx(200.0, rel=0.1))
        assert trials.hope(10.0, 1.0, 1.0, allowance, 300.0)[0] == pytest.approx(0.6)

    def test_a_group_pays_for_one_doubt_at_a_time(self):
        allowance, one, other = Allowance(), Trials(0.0), Trials(0.0)
        for trials in (one, other):
            trials.seen(5.0, 1)
        for now in range(100):
            allowance.called(now / 10)
        assert one.hope(5.0, 1.0, 1.0, allowance, 10.0)[0] == pytest.approx(0.6)
        one.started(5.0, allowance, 10.0)
        cost, until = other.hope(5.0, 1.0, 1.0, allowance, 10.0)
        assert cost == 5.0
        assert until > 30.0
        assert other.hope(5.0, 1.0, 4.0, allowance, 10.0) == (5.0, 11.0)  # hardly slower than the rest

    def test_mending_goes_on_without_a_pause(self):
        allowance, trials = Allowance(), Trials(0.0)
        trials.seen(1.0, 1)
        trials.ended(3.0, 10.0)
        assert trials.hope(3.0, 1.0, 1.0, allowance, 0.1)[0] == 1.0
        trials.ended(3.5, 3.0)
        assert trials.hope(3.5, 1.0, 1.0, allowance, 0.1)[0] == 1.0
        trials.ended(9.0, 3.0)
        assert trials.hope(9.0, 1.0, 1.0, allowance, 0.1)[0] == 9.0


class TestMeter:
    def test_a_bucket_refills_as_its_headers_imply(self):
        meter = Meter()
        assert (meter.left(0.0), meter.wait(1.0, 0.0)) == (None, 0.0)
        meter.read(99.0, 0.1, at=0.0, noted=1.0, cost=1.0)
        meter.spent = 1.0
        meter.read(0.0, 10.0, at=1.0, noted=1.0, cost=1.0)
        assert meter.left(1.0) == 0.0
        assert meter.left(2.0) == pytest.approx(10.0)
        assert meter.wait(5.0, 1.0) == pytest.approx(0.5)
        meter.spent = 4.0  # three more since
        assert meter.left(2.0) == pytest.approx(7.0)
        assert meter.left(1000.0) is None

    def test_a_window_turns_all_at_once(self):
        meter = Meter()
        meter.read(90.0, 50.0, at=10.0, noted=0.0, cost=1.0)
        meter.read(60.0, 40.0, at=20.0, noted=0.0, cost=1.0)
        assert meter.left(50.0) == 60.0
        assert meter.wait(70.0, 50.0) == pytest.approx(10.0)
        assert meter.left(60.0) == 91.0
        meter.spent = 91.0
        assert meter.wait(1.0, 60.0) == 1.0  # it should have turned: try again soon

    def test_a_bucket_is_not_mistaken_for_a_window(self):
        meter = Meter()
        meter.read(90.0, 1.0, at=10.0, noted=0.0, cost=10.0)
        meter.read(60.0, 4.0, at=11.0, noted=0.0, cost=1.0)
        meter.read(30.0, 7.0, at=12.0, noted=0.0, cost=1.0)
        assert meter.left(13.0) == pytest.approx(40.0)

    def test_headers_close_together_tell_nothing_new(self):
        meter = Meter()
        meter.read(90.0, 50.0, at=10.0, noted=0.0, cost=1.0)
        meter.read(60.0, 40.0, at=20.0, noted=0.0, cost=1.0)
        meter.read(60.0, 39.9, at=20.1, noted=0.0, cost=1.0)
        assert meter.left(50.0) == 60.0  # a window still

    def test_an_old_header_changes_nothing(self):
        meter = Meter()
        meter.read(5.0, None, at=10.0, noted=0.0, cost=1.0)
        meter.read(50.0, None, at=9.0, noted=0.0, cost=1.0)
        assert meter.left(11.0) == 5.0
        assert meter.wait(9.0, 11.0) == 1.0


def outcome(status, now, **known):
    return Outcome(status, 0.1, now, **known)


class TestThrottle:
    def test_a_header_without_a_reset_still_counts_down(self):
        throttle = Throttle()
        noted = throttle.started(0.0, 1.0)
        throttle.finished(outcome("ok", 1.0, ratelimit_remaining_requests=1.0), 0.0, noted)
        assert throttle.opens_in(1.0) == 0.0
        throttle.started(1.0, 1.0)
        assert throttle.opens_in(1.0) == 1.0

    def test_without_a_word_penalties_double_and_end(self):
        throttle, now, waits = Throttle(), 0.0, []
        for _ in range(7):
            noted = throttle.started(now, 1.0)
            throttle.finished(outcome("rate_limited", now), now, noted)
            waits.append(throttle.opens_in(now))
            now += waits[-1] + 0.01
        assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0])
        noted = throttle.started(now, 1.0)
        throttle.finished(outcome("ok", now + 1.0), now, noted)
        now += 10.0
        noted = throttle.started(now, 1.0)
        throttle.finished(outcome("rate_limited", now), now, noted)
        assert throttle.opens_in(now) == pytest.approx(0.5)

    def test_refusals_of_one_moment_are_one(self):
        throttle = Throttle()
        for noted in [throttle.started(5.0, 1.0) for _ in range(10)]:
            throttle.finished(outcome("rate_limited", 5.1), 5.0, noted)
        assert throttle.opens_in(5.1) == pytest.approx(0.5)

    def test_paces_itself_below_what_went_through_and_recovers(self):
        throttle = Throttle()
        for turn in range(100):  # ten a second
            throttle.finished(outcome("ok", turn / 10), turn / 10, throttle.started(turn / 10, 1.0))
        throttle.finished(outcome("rate_limited", 10.0, retry_after=0.0), 10.0, throttle.started(10.0, 1.0))
        sent, now = 0, 10.0
        while now < 12.0:
            if throttle.opens_in(now) <= 0.0:
                throttle.started(now, 1.0)
                sent += 1
            now += 0.01
        assert 14 <= sent <= 21
        noted = throttle.started(50.0, 1.0)
        throttle.finished(outcome("ok", 51.0), 50.0, noted)
        assert [throttle.opens_in(51.0) for _ in range(3)] == [0.0, 0.0, 0.0]
        assert throttle._pace is None

    def test_tokens_close_it_too(self):
        throttle = Throttle()
        noted = throttle.started(0.0, 500.0)
        headers = {"ratelimit_remaining_tokens": 400.0, "ratelimit_reset_seconds": 6.0}
        throttle.finished(outcome("ok", 1.0, input_tokens=500, output_tokens=100, **headers), 0.0, noted)
        assert throttle.opens_in(1.0, 450.0) == 0.0
        assert throttle.opens_in(1.0, 900.0) > 1.0
