"""The eight strategies keep every rule of the kit; each way to break one is found, and said in plain words."""

import random
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
import traced_router_strategies
from traced_router_strategies._table import Table

from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, Ticket
from traced_router.testing import (
    StrategyDesk,
    StrategyViolation,
    VirtualClock,
    check_strategy,
    make_candidates,
    make_request,
    try_strategy,
)

OURS: list[Any] = [getattr(traced_router_strategies, name) for name in traced_router_strategies.__all__]


class Fair:
    """Least in flight, ties at random: the simplest that breaks nothing. What is broken below, is one of these."""

    name = "fair"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self.clock = clock
        self.rng = rng or random.Random()
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        with self.lock:
            counts = [self.counts.get(one.id, 0) for one in candidates]
            low = min(counts)
            chosen = candidates[self.rng.choice([i for i, count in enumerate(counts) if count == low])]
            return Decision(chosen.id, "lowest_score", low, "inflight", considered=len(counts), inflight=low)

    def started(self, ticket: Ticket) -> None:
        with self.lock:
            self.counts[ticket.id] = self.counts.get(ticket.id, 0) + 1

    def first_chunk(self, ticket: Ticket) -> None: ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        with self.lock:
            self.counts[ticket.id] -= 1
            if not self.counts[ticket.id]:
                del self.counts[ticket.id]

    def export_state(self) -> Mapping[str, Sequence[float]]:
        return {id_: (float(count),) for id_, count in self.counts.items()}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None: ...


def broken_rules(factory: Any, **limits: Any) -> set[str]:
    return {one.rule for one in check_strategy(factory, **{"ids": 400, **limits})}


def said(factory: Any, **limits: Any) -> list[str]:
    return [str(one) for one in check_strategy(factory, **{"ids": 400, **limits})]


@pytest.mark.parametrize("kind", OURS, ids=[kind.name for kind in OURS])
def test_ours_keep_all_rules(kind, monkeypatch):
    # Limits that a life of 4,000 ids meets in its first half, as one of 34,000 does the real ones.
    monkeypatch.setattr(Table.__init__, "__defaults__", (500, None))
    monkeypatch.setattr("traced_router_strategies._prefixes._MAX_PREFIXES", 600)
    monkeypatch.setattr("traced_router_strategies.bounded_hash._MOST_KNOWN", 100)
    for module in ("_forecast", "bounded_hash", "prefix_affinity", "weighted"):
        monkeypatch.setattr(f"traced_router_strategies.{module}._MAX_GROUPS", 50)
    assert check_strategy(kind, ids=4000, most_operations=300) == []


def test_a_simple_strategy_keeps_all_rules():
    assert check_strategy(Fair, ids=20_000) == []


def in_pick(change: Callable[[Any, Any, Any], Any], base: Any = Fair) -> Any:
    """A strategy whose decision is changed: ``change(strategy, decision, candidates)``."""

    class Changed(base):
        def pick(self, request, candidates):
            return change(self, super().pick(request, candidates), candidates)

    return Changed


def with_method(name: str, method: Callable[..., Any], base: Any = Fair) -> Any:
    return type("Changed", (base,), {name: method})


# --- basics ----------------------------------------------------------------------------------


def test_says_what_is_missing():
    class Half:
        name = ""
        started = first_chunk = None

        def __init__(self, *, clock, rng): ...

        def pick(self, request, candidates):
            return "the first"

        def export_state(self): ...

    assert said(Half) == [
        "it has no method started() [has_the_interface]",
        "it has no method first_chunk() [has_the_interface]",
        "it has no method finished() [has_the_interface]",
        "its name is '', expected a string that is not empty [has_the_interface]",
        "it has one of export_state() and absorb_state(), which only make sense together [has_the_interface]",
        "pick() answered 'the first', expected a Decision [picks_one_of_the_candidates]",
    ]


def test_a_factory_takes_a_clock_and_a_random_source():
    def none():
        return Fair()

    assert said(none) == [
        f"it raised TypeError(\"{none.__qualname__}() got an unexpected keyword argument 'clock'\") [{rule}]"
        for rule in ("has_the_interface", "picks_one_of_the_candidates")
    ]


def test_an_exception_is_said_with_its_place():
    def pick(self, request, candidates):
        return self.nothing_of_that_name

    [violation] = check_strategy(with_method("pick", pick))
    assert violation.rule == "picks_one_of_the_candidates"
    line = pick.__code__.co_firstlineno + 1
    assert violation.message.startswith("it raised AttributeError(")
    assert violation.message.endswith(f" in pick, line {line} of test_strategy_kit.py")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "nobody"}, "pick() chose 'nobody', which is none of the candidates"),
        ({"rank_by": "beauty"}, "rank_by is 'beauty', expected one of expected_seconds, inflight, latency, weight, "),
        ({"reason": "only_candidate"}, "reason is 'only_candidate' although there were others"),
        ({"reason": "gut feeling"}, "reason is 'gut feeling', expected one of only_candidate, lowest_score, "),
        ({"score": float("nan")}, "score is nan, expected a finite number or None"),
        ({"predicted_seconds": "soon"}, "predicted_seconds is 'soon', expected a finite number or None"),
        ({"considered": 0}, "considered is 0, of 1 candidates"),
        ({"inflight": 7}, "inflight is 7 where 0 calls are in flight"),
        ({"runner_up_id": "nobody"}, "the runner-up is 'nobody', which is none of the candidates"),
        ({"runner_up_id": "a"}, "the runner-up is the chosen one"),
        (
            {"runner_up_id": "a", "score": 2.0, "runner_up_score": 1.0},
            "the runner-up's score is lower than the chosen one's: lower is better",
        ),
        ({"attributes": {"name": "x"}}, "an attribute is called 'name', which is reserved"),
        ({"attributes": {"ids": ["a"]}}, "attribute 'ids' is a list, expected str, int, float or bool"),
        ({"attributes": {f"fact{i}": i for i in range(17)}}, "there are 17 attributes, of which 16 are kept"),
    ],
)
def test_a_decision_says_what_can_be(fields, message):
    found = check_strategy(in_pick(lambda _self, decision, _candidates: replace(decision, **fields)), ids=400)
    assert any(one.message.startswith(message) for one in found)
    assert {one.rule for one in found} == {"picks_one_of_the_candidates"}
    assert len(found) <= 5


def test_the_candidates_are_not_the_strategys_to_change():
    def take(_self, decision, candidates):
        del candidates[0]
        return decision

    assert (
        said(in_pick(take))[0]
        == "pick() changed the list of candidates that it was given [picks_one_of_the_candidates]"
    )


def test_a_strategy_that_waits_is_not_waited_for():
    waiting = threading.Event()
    found = said(with_method("pick", lambda *_: waiting.wait()), patience=0.2)
    assert found == [
        "it did not come back within 0.2 s: a strategy must not wait for anything [picks_one_of_the_candidates]"
    ]
    waiting.set()


class Open(Fair):
    """Says what each scores, too."""

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        return {one.id: self.counts.get(one.id, 0) for one in candidates}


def test_scores_need_not_be_said_but_can():
    assert check_strategy(Open, ids=400) == []
    short = with_method("scores", lambda self, _, some: {one.id: self.counts.get(one.id, 0) for one in some[:9]}, Open)
    assert check_strategy(short, ids=400) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "scores() answered None, expected a mapping"),
        (lambda said: {**said, "nobody": 1.0}, "scores() has 'nobody', which is none of the candidates"),
        (lambda said: {**said, "a": float("inf")}, "scores() has [inf, 0, 0, 0, 0, 0, 0, 0], expected finite numbers"),
        (lambda said: {**said, "a": "0"}, "scores() has ['0', 0, 0, 0, 0, 0, 0, 0], expected finite numbers"),
        (
            lambda said: {id_: load + 1 for id_, load in said.items()},
            "scores() has 1 for the chosen one, whose score is 0",
        ),
        (lambda _: {}, "scores() has None for the chosen one, whose score is 0"),
        (
            lambda said: {**said, max(said, key=said.get): -1},
            "reason is 'lowest_score', and scores() has a lower one than the chosen one's",
        ),
    ],
)
def test_scores_fit_the_pick(change, message):
    kind = with_method("scores", lambda self, *args: change(Open.scores(self, *args)))
    found = check_strategy(kind, ids=400)
    assert message in [one.message for one in found]
    assert {one.rule for one in found} == {"scores_as_it_picks"}


def test_asking_for_scores_changes_nothing():
    def scores(self, request, candidates):
        self.rng.random()
        return Open.scores(self, request, candidates)

    [violation] = check_strategy(with_method("scores", scores), ids=400)
    assert (violation.rule, violation.message) == (
        "scores_as_it_picks",
        "other picks follow when scores() is asked than when it is not: it must not change anything",
    )


# --- over a life -----------------------------------------------------------------------------


def test_lots_of_its_own_cannot_be_repeated():
    class Own(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=random.Random(next(seeds)))

    seeds = iter(range(1000))
    first, *_ = check_strategy(Own, ids=400)
    assert first.rule == "repeats_itself"
    assert first.message.startswith("two plays with one seed part at pick ")


def test_what_is_counted_must_be_released():
    class Leaky(Fair):
        def finished(self, ticket, outcome):
            if outcome.status != "cancelled":
                super().finished(ticket, outcome)

    found = check_strategy(Leaky, ids=400)
    assert {one.rule for one in found} == {
        "counts_what_is_in_flight",
        "bears_any_end",
        "bears_threads",
    }
    assert found[0].message.startswith("while calls start and end, inflight is wrong: ")


def test_a_deployment_may_go_before_its_call_ends():
    class Strict(Fair):
        def pick(self, request, candidates):
            self.ids = {one.id for one in candidates}
            return super().pick(request, candidates)

        def finished(self, ticket, outcome):
            if ticket.id not in self.ids:
                raise KeyError(ticket.id)
            super().finished(ticket, outcome)

    assert "bears_deployments_that_come_and_go" in broken_rules(Strict)


def test_a_deployment_that_joins_is_used_and_one_that_left_is_not():
    class Faithful(Fair):
        first: Any = ()

        def pick(self, request, candidates):
            if len(candidates) < 3 or len(candidates) > 8:
                return super().pick(request, candidates)
            self.first = self.first or list(candidates)
            return super().pick(request, [one for one in candidates if one in self.first] or candidates)

    assert said(Faithful) == [
        "a deployment that joined the group got none of the next 200 calls [bears_deployments_that_come_and_go]"
    ]

    class Blind(Faithful):
        def pick(self, request, candidates):
            if len(candidates) == 4:
                self.first = self.first or list(candidates)
                return Fair.pick(self, request, self.first)
            return super().pick(request, candidates)

    assert "it chose 'a', which has gone [bears_deployments_that_come_and_go]" in said(Blind)


def test_a_status_may_be_new():
    class Closed(Fair):
        def finished(self, ticket, outcome):
            super().finished(ticket, outcome)
            {"ok": 1, "cached": 1, "rejected": 0, "rate_limited": 0, "timeout": 0, "error": 0, "cancelled": 0}[
                outcome.status
            ]

    [violation] = check_strategy(Closed, ids=400)
    assert violation.rule == "bears_any_end"
    assert violation.message.startswith("it raised KeyError('not known yet') in finished, line ")


def test_state_is_bounded():
    class Elephant(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=rng)
            self.seen = array("d")
            self.forget = partial(setattr, self, "seen")

        def finished(self, ticket, outcome):
            super().finished(ticket, outcome)
            self.seen.append(outcome.seconds)

    [violation] = check_strategy(Elephant, ids=4000)
    assert violation.rule == "keeps_bounded_state"
    assert " after 2000 ids of deployments and sessions, and " in violation.message


def test_what_a_closure_keeps_is_state_too():
    class Sly(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=rng)
            seen = []

            def remember(one):
                seen.append(one)

            self.remember = remember

        def started(self, ticket):
            super().started(ticket)
            self.remember(ticket.request.affinity_key)

    assert broken_rules(Sly, ids=4000) == {"keeps_bounded_state"}


def test_threads_are_borne():
    class Alone(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=rng)
            self.thread = threading.get_ident()

        def started(self, ticket):
            if threading.get_ident() != self.thread:
                raise RuntimeError("made in another thread")
            super().started(ticket)

    [violation] = check_strategy(Alone, ids=400)
    assert violation.rule == "bears_threads"
    assert violation.message.startswith("it raised RuntimeError('made in another thread') in started, line ")


def test_counts_are_locked():
    class Unlocked(Fair):
        def started(self, ticket):
            count = self.counts.get(ticket.id, 0)
            time.sleep(0)  # another thread's turn
            self.counts[ticket.id] = count + 1

        def finished(self, ticket, outcome):
            count = self.counts.get(ticket.id, 0)
            time.sleep(0)
            self.counts[ticket.id] = count - 1
            if count == 1:
                self.counts.pop(ticket.id, None)

    found = check_strategy(Unlocked, ids=400)
    assert {one.rule for one in found} == {"bears_threads"}
    assert found[0].message.startswith("when the calls of eight threads have ended, inflight is wrong: ")


def test_a_pick_looks_at_each_candidate_a_few_times_at_most():
    class Pedant(Fair):
        picks = 0

        def pick(self, request, candidates):
            self.picks += len(candidates) == 512
            for one in candidates[:20] if self.picks > 500 else ():
                sum(one.id < other.id for other in candidates)
            return super().pick(request, candidates)

    [violation] = check_strategy(Pedant, ids=400)
    assert violation.rule == "picks_without_looking_too_long"
    assert violation.message.startswith("a pick among 512 candidates takes ")
    assert violation.message.endswith(" operations (candidates read, functions called), and 8192 are allowed")
    assert broken_rules(Fair, most_operations=200) == {"picks_without_looking_too_long"}


@pytest.mark.parametrize(
    ("fault", "grudge"), [("failing", lambda end: end.status == "error"), ("slow", lambda end: end.seconds > 2.0)]
)
def test_what_has_recovered_is_tried_again(fault, grudge):
    class Unforgiving(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=rng)
            self.banned = set()

        def pick(self, request, candidates):
            left = [one for one in candidates if one.id not in self.banned]
            return super().pick(request, left or candidates)

        def finished(self, ticket, outcome):
            super().finished(ticket, outcome)
            if ticket.model_group == "group" and outcome.finished_at > 1009.0 and grudge(outcome):
                self.banned.add(ticket.id)

    found = [
        one.message for one in check_strategy(Unforgiving, ids=400) if one.rule == "tries_again_what_has_recovered"
    ]
    [message] = found
    assert message.startswith(f"a deployment that was {fault} for 30 s was not picked in the 10 s after its recovery, ")
    assert message.endswith(", in which 45 calls went elsewhere")


def test_a_cold_start_is_no_stampede():
    class Stampede(Fair):
        def pick(self, request, candidates):
            if len(candidates) == 8:
                return Decision(candidates[0].id, "cold_start")
            return super().pick(request, candidates)

    assert said(Stampede) == [
        "of 400 calls at once into eight deployments that are all alike, 'a' got 400 [starts_without_a_stampede]",
        "of 400 calls at once into eight deployments that are all alike, 7 got none [starts_without_a_stampede]",
    ]


# --- state that is shared --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exported", "message"),
    [
        (None, "export_state() answered None, expected a mapping"),
        ({3: (1.0,)}, "export_state() has 3: (1.0,), expected an id and numbers"),
        ({"a": 1.0}, "export_state() has 'a': 1.0, expected an id and numbers"),
        ({"a": (1.0,) * 17}, "export_state() has 17 numbers per id, of which 16 are sent"),
        ({"a": (float("inf"),)}, "export_state() has (inf,), expected finite numbers"),
        ({"a": ("1",)}, "export_state() has ('1',), expected finite numbers"),
    ],
)
def test_exports_gauges(exported, message):
    assert said(with_method("export_state", lambda _: exported)) == [f"{message} [exports_few_numbers]"]


def test_peers_may_say_anything():
    class Gullible(Fair):
        elsewhere: Any = MappingProxyType({})

        def absorb_state(self, peers):
            self.elsewhere = {id_: numbers[0] for peer in peers for id_, numbers in peer.items() if numbers}

        def pick(self, request, candidates):
            decision = super().pick(request, candidates)
            return replace(decision, score=decision.score + self.elsewhere.get(decision.id, 0.0))

    found = said(Gullible)
    assert found
    assert all(one.endswith(" expected a finite number or None [bears_what_peers_say]") for one in found)
    assert found[0].startswith("after peers said [{'a': (nan, nan, nan, nan, ")


def test_what_peers_said_is_not_remembered():
    class Poisoned(Fair):
        def absorb_state(self, peers):
            self.poisoned = len(peers) > 1 or getattr(self, "poisoned", False)

        def pick(self, request, candidates):
            decision = super().pick(request, candidates)
            return replace(decision, considered=0) if getattr(self, "poisoned", False) else decision

    assert broken_rules(Poisoned) == {"bears_what_peers_say"}
    assert any(" and fell silent: considered is 0, of 4 candidates" in one for one in said(Poisoned))


def test_absorbing_replaces():
    class Adding(Fair):
        def __init__(self, *, clock, rng):
            super().__init__(clock=clock, rng=rng)
            self.elsewhere = 0

        def absorb_state(self, peers):
            self.elsewhere += sum("a" in peer for peer in peers)

        def pick(self, request, candidates):
            decision = super().pick(request, candidates)
            return replace(decision, score=decision.score + self.elsewhere)

    [violation] = check_strategy(Adding, ids=400)
    assert violation.rule == "replaces_what_peers_said"
    assert violation.message.startswith("absorb_state() with the same state again changes the picks: ")


def test_state_need_not_be_shared():
    class Private:
        name = "private"
        pick, started, first_chunk, finished = Fair.pick, Fair.started, Fair.first_chunk, Fair.finished
        __init__ = Fair.__init__

    assert check_strategy(Private, ids=400) == []


# --- what tests of one's own are written with ------------------------------------------------


def test_the_desk_plays_the_router():
    desk = StrategyDesk(Fair)
    group = make_candidates(2, like=Candidate("", weight=3.0))
    assert group == [Candidate("a", "group", weight=3.0), Candidate("b", "group", weight=3.0)]
    first = desk.start("a")
    assert (first.started_at, desk.inflight("a"), desk.open) == (1000.0, 1, [first])
    assert desk.pick(group).id == "b"
    assert desk.serve(group, 2.5, "error", status_code=500) == "b"
    assert desk.clock() == 1002.5
    desk.first_chunk(first)
    desk.finish(first, output_tokens=3)
    assert desk.open == []


def test_the_desk_tells_how_a_call_ended():
    heard = []

    class Listening(Fair):
        def finished(self, ticket, outcome):
            super().finished(ticket, outcome)
            heard.append(outcome)

    desk = StrategyDesk(Listening)
    desk.serve(make_candidates(1), 0.5, "rate_limited", make_request("s", 70), status_code=429, retry_after=2.0)
    assert heard == [Outcome("rate_limited", 0.5, 1000.5, status_code=429, retry_after=2.0)]


def test_a_request_says_what_it_is_told():
    plain = make_request()
    assert (plain.affinity_key, plain.input_size, plain.attempt) == (None, None, 1)
    retry = make_request("s", 70, group="g", stream=True, tried=["a"], max_output_tokens=9, deadline=5.0)
    assert (retry.affinity_key, retry.input_size, retry.attempt, retry.tried) == ("s", 70, 2, frozenset("a"))
    assert (retry.model_group, retry.stream, retry.max_output_tokens, retry.deadline) == ("g", True, 9, 5.0)


def test_candidates_of_large_groups_have_numbers():
    assert [one.id for one in make_candidates(30, group="g")][::29] == ["d000", "d029"]
    assert {one.model_group for one in make_candidates(30, group="g")} == {"g"}


def test_the_clock_stands_still():
    clock = VirtualClock(3.0)
    clock.advance(0.5)
    assert (clock(), clock.now) == (3.5, 3.5)


def test_a_violation_reads_as_a_sentence():
    assert str(StrategyViolation("some_rule", "it is wrong")) == "it is wrong [some_rule]"


def test_the_tiny_world_shows_who_leaves_and_comes_back():
    report = try_strategy(traced_router_strategies.LeastExpectedCompletion)
    well, slow, recovered, failing, again = report.phases
    assert report.strategy == "least-expected-completion"
    assert [one.phase for one in report.phases] == [
        "all is well",
        "a is 6 x slow",
        "a has recovered",
        "b fails at once",
        "b has recovered",
    ]
    assert well.shares["a"] > 0.3
    assert slow.shares["a"] < 0.12
    assert recovered.shares["a"] > slow.shares["a"]
    assert failing.shares["b"] < 0.1 < again.shares["b"]
    assert well.median < well.p99
    assert (well.failed, 0 < failing.failed <= failing.calls) == (0, True)
    assert str(try_strategy(traced_router_strategies.LeastExpectedCompletion)) == str(report)


def test_the_tiny_world_has_a_table():
    class Stubborn(Fair):
        name = "stubborn"

        def pick(self, request, candidates):
            return Decision("b", "external")

    table = str(try_strategy(Stubborn)).splitlines()
    assert table[0] == "stubborn                   calls  failed     p50     p99      a     b     c     d"
    assert table[4].split()[-8:] == [*table[4].split()[-8:-4], "0%", "100%", "0%", "0%"]
    assert table[4].split()[4:8] == [table[4].split()[4], table[4].split()[4], "nan", "nan"]
