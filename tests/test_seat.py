"""The seat of a strategy, by itself: whom it asks, what it reserves, and that no fault costs a request."""

import math
from contextlib import contextmanager

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from traced_router import _litellm as seams
from traced_router._facts import AnswerFacts, CallFacts, DecisionFacts, FailureFacts
from traced_router._guard import Guard
from traced_router._readers import DeploymentReader
from traced_router._scope import Scope
from traced_router._seat import Seat, Wanted
from traced_router._tree import Tree
from traced_router.resilience import Resilience, ResilienceOptions
from traced_router.strategy import Decision, Outcome, RoutingRequest, Ticket
from traced_router.testing import Recorder


def deployment(name):
    return {"model_name": "g", "litellm_params": {"model": "openai/gpt-4o"}, "model_info": {"id": name}}


TWO = [deployment("a"), deployment("b")]


class Second:
    """Picks the last candidate; keeps what it hears."""

    name = "second"

    def __init__(self, fails=()):
        self.fails = fails
        self.heard = []
        self.open = []

    def _hear(self, what, *told):
        self.heard.append((what, *told))
        if what in self.fails:
            raise LookupError

    def pick(self, request, candidates):
        self._hear("pick")
        return Decision(candidates[-1].id, "lowest_score", attributes={"own": 1})

    def started(self, ticket):
        self._hear("started", ticket.id)
        self.open.append(ticket)

    def first_chunk(self, ticket):
        self._hear("first_chunk", ticket.id)

    def finished(self, ticket, outcome):
        self._hear("finished", ticket.id, outcome.status)
        self.open.remove(ticket)


class Told:
    """What a pick tells."""

    peeking = listing = False

    def __init__(self, scope=None):
        self.scope = scope
        self.facts = self.excluded = None

    def decided(self, facts, _deployments, excluded):
        self.facts, self.excluded = facts, excluded

    def narrowed(self, _before, left, excluded):
        self.excluded = excluded


@pytest.fixture
def guard():
    return Guard(NoOpMeterProvider)


@contextmanager
def running(guard):
    """An attempt function of a call."""
    recorder = Recorder()
    call = Tree(lambda: recorder.provider.get_tracer("tests"), guard).open_call(CallFacts("chat", "g"))
    scope = Scope(call, None, "_acompletion", DeploymentReader())
    scope.enter()
    yield scope
    scope.leave()
    call.finish("ok")


class Aliases:
    """What litellm's shuffle asks a router for."""

    def get_model_from_alias(self, model):
        """It has none."""


def wanted(told, deployments=TWO, group="g"):
    return Wanted(Aliases(), group, deployments, {}, None, told)


def sick(*names, clock):
    """A resilience layer that has ejected these."""
    layer = Resilience(ResilienceOptions(failure_rate=0.2), clock=clock)
    for name in names:
        ticket = Ticket(name, "g", clock(), RoutingRequest())
        layer.started(ticket)
        layer.finished(ticket, Outcome("error", 1.0, clock()))
    return layer


# --- the pick ----------------------------------------------------------------------------------


def test_it_takes_what_its_strategy_says(guard):
    strategy = Second()
    with running(guard) as scope:
        told = Told(scope)
        assert Seat(strategy, None, guard).pick(wanted(told)) is TWO[1]

    assert told.facts == DecisionFacts(
        strategy="second", reason="lowest_score", chosen_id="b", attributes={"own": 1}, seconds=told.facts.seconds
    )
    assert strategy.heard == [("pick",), ("started", "b"), ("finished", "b", "cancelled")]  # it has never left


def test_deployments_need_be_no_list(guard):
    assert Seat(Second(), None, guard).pick(wanted(Told(), tuple(TWO))) is TWO[1]


def test_a_layer_that_fails_leaves_the_pick_to_litellm(guard):
    class Failing(Resilience):
        def filter(self, request, candidates):
            raise LookupError

    strategy, told = Second(), Told()
    seat = Seat(strategy, Failing(), guard)

    assert seat.pick(wanted(told)) in TWO
    assert (strategy.heard, told.facts, guard.faults) == ([], None, 1)
    assert seat.narrow(wanted(told)) is TWO
    assert guard.faults == 2


def test_a_pick_of_litellm_s_that_cannot_be_read_stands(guard):
    seat = Seat(None, Resilience(), guard)
    with running(guard) as scope:
        seat.took(wanted(Told(scope)), None)

    assert guard.faults == 1


@pytest.mark.parametrize(
    ("names", "at", "reason", "excluded", "chosen"),
    [
        ("b", 1.0, "lowest_score", {"b": "ejected"}, "a"),
        ("ab", 1.0, "panic", {}, "b"),  # a strategy has to pick somebody
        ("b", 3.0, "probe", {}, "b"),  # its time out is over
        ("a", 3.0, "lowest_score", {}, "b"),  # the other one is on trial
    ],
)
def test_what_the_layer_has_to_say_of_a_decision(guard, names, at, reason, excluded, chosen):
    now = 1.0
    layer = sick(*names, clock=lambda: now)
    now, told = at, Told()
    picked = Seat(Second(), layer, guard).pick(wanted(told))

    assert picked["model_info"]["id"] == chosen
    assert (told.facts.reason, told.excluded) == (reason, excluded)


def test_a_group_is_read_once_and_there_is_an_end_to_what_is_kept(guard):
    seat = Seat(Second(), None, guard)
    for number in range(600):
        group = f"g{number}"
        assert seat.pick(wanted(Told(), group=group)) is TWO[1]
        assert len(seat._groups) <= 256
    kept = seat._groups[group]
    seat.pick(wanted(Told(), list(TWO), group=group))
    assert seat._groups[group] is kept


# --- the reservation ---------------------------------------------------------------------------


def test_a_strategy_that_fails_to_reserve_hears_no_end(guard):
    strategy = Second(fails={"started"})
    with running(guard) as scope:
        assert Seat(strategy, None, guard).pick(wanted(Told(scope))) is TWO[1]

    assert strategy.heard == [("pick",), ("started", "b")]
    assert guard.faults == 1


def test_a_layer_that_fails_to_reserve_keeps_nothing_from_the_strategy(guard):
    class Failing(Resilience):
        def started(self, ticket):
            raise LookupError

    strategy, layer = Second(), Failing()
    with running(guard) as scope:
        Seat(strategy, layer, guard).pick(wanted(Told(scope)))

    assert strategy.heard == [("pick",), ("started", "b"), ("finished", "b", "cancelled")]
    assert guard.faults == 1
    assert scope.call.allow_retry == layer.allow_retry


def test_faults_of_a_learner_stay_with_it(guard):
    strategy = Second(fails={"first_chunk", "finished"})
    now = 1.0
    layer = sick("b", clock=lambda: now)
    now = 3.0
    assert layer.snapshot().deployments["b"].state == "half_open"
    with running(guard) as scope:
        Seat(strategy, layer, guard).pick(wanted(Told(scope)))
        scope.checked(TWO[1])
        attempt = scope.open_attempt
        attempt.first_content()
        attempt.succeed(AnswerFacts())

    assert strategy.heard[2:] == [("first_chunk", "b"), ("finished", "b", "ok")]
    assert guard.faults == 2
    assert layer.snapshot().deployments["b"].state == "closed"


@pytest.mark.parametrize(
    ("category", "status"),
    [
        ("rate_limit", "rate_limited"), ("timeout", "timeout"), ("bad_request", "rejected"),
        ("context_window", "rejected"), ("content_policy", "rejected"), ("cancelled", "cancelled"),
        ("server", "error"), ("auth", "error"), ("anything else", "error"),
    ],
)  # fmt: skip
def test_an_end_as_strategies_hear_it(guard, category, status):
    strategy = Second()
    with running(guard) as scope:
        Seat(strategy, None, guard).pick(wanted(Told(scope)))
        scope.checked(TWO[1])
        scope.open_attempt.fail(FailureFacts("E", category))

    assert strategy.heard[2:] == [("finished", "b", status)]


def test_a_hit_of_the_cache_and_an_unread_answer(guard):
    strategy = Second()
    seat = Seat(strategy, None, guard)
    for end in (lambda a: a.succeed(AnswerFacts(cache_hit=True)), lambda a: a.over()):
        with running(guard) as scope:
            seat.pick(wanted(Told(scope)))
            scope.checked(TWO[1])
            end(scope.open_attempt)

    assert [h for h in strategy.heard if h[0] == "finished"] == [
        ("finished", "b", "cached"),
        ("finished", "b", "cancelled"),
    ]


def test_a_seat_without_a_strategy_is_litellm_s_shuffle_behind_the_layer(guard):
    layer = sick("a", clock=lambda: 1.0)
    seat, told = Seat(None, layer, guard), Told()

    assert seat.name == seams.SHUFFLE
    assert seat.pick(wanted(told)) is TWO[1]
    assert told.excluded == {"a": "ejected"}
    assert seat.narrow(wanted(told)) == [TWO[1]]
    assert math.isclose(layer.snapshot().deployments["a"].failure_rate, 0.25)
