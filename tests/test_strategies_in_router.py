"""Which strategy decides for which call: names, objects, groups, and what a call asks for."""

import copy
from typing import ClassVar

import pytest
from litellm.types.router import RoutingStrategy
from opentelemetry.metrics import NoOpMeterProvider
from traced_router_strategies.least_in_flight import LeastInFlight
from traced_router_strategies.weighted import Weighted

from traced_router import _strategies
from traced_router._guard import Guard
from traced_router._strategies import Configured, Handle, Strategies, resolve, translate
from traced_router.errors import ConfigurationError, UnknownStrategyError


class Own:
    """A strategy of a caller's."""

    def __init__(self, name="own"):
        self.name = name

    def pick(self, request, candidates):
        """Unused."""

    def started(self, ticket):
        """Unused."""

    first_chunk = started

    def finished(self, ticket, outcome):
        """Unused."""


class Half:
    name = "half"

    def pick(self, request, candidates):
        """Unused."""


@pytest.fixture
def guard():
    return Guard(NoOpMeterProvider)


class Router:
    """What is asked of one here."""

    routing_groups: ClassVar = {"pair": object()}
    model_names: ClassVar = {"a", "b", "c"}
    _model_to_group: ClassVar = {"a": "pair"}


ROUTER = Router()


@pytest.fixture
def strategies(guard):
    return Strategies(guard, router=ROUTER)


# --- the configuration -------------------------------------------------------------------------


@pytest.mark.parametrize("litellms", [None, "simple-shuffle", "lar1", "priority", "least-busy", *RoutingStrategy])
def test_litellm_s_own_stay_litellm_s(litellms):
    assert resolve(litellms) is None


def test_names_and_objects_of_ours():
    own = Own()

    assert resolve(own) is own
    assert type(resolve("weighted")) is Weighted


@pytest.mark.parametrize("unknown", ["least-in-fligth", 7])
def test_what_nobody_has(unknown):
    with pytest.raises(UnknownStrategyError, match=f"routing_strategy={unknown!r} is not known"):
        resolve(unknown)


def test_an_object_that_lacks_something():
    with pytest.raises(ConfigurationError, match="Half is no routing strategy"):
        resolve(Half())


def test_litellm_is_told_of_its_own_strategies_only():
    own = Own()
    kept = {"group_name": "kept", "models": ["b"], "routing_strategy": "usage-based-routing"}
    groups = [{"group_name": "pair", "models": ["a"], "routing_strategy": "weighted"}, kept]
    settings = {"routing_strategy": own, "routing_groups": groups, "num_retries": 2}
    out, configured = translate(settings)

    assert out == {
        "routing_strategy": "simple-shuffle",
        "routing_groups": [{**groups[0], "routing_strategy": "simple-shuffle"}, kept],
        "num_retries": 2,
    }
    assert configured.default is own
    assert {name: type(found) for name, found in configured.groups.items()} == {"pair": Weighted}
    assert settings["routing_strategy"] is own
    assert groups[0]["routing_strategy"] == "weighted"


def test_what_is_not_changed_stays(strategies):
    default, of_group = Own("default"), Own("of-group")
    strategies.configure(Configured(default, {"pair": of_group}))
    strategies.configure(Configured(), lambda _: False)
    assert strategies.default.strategy is default
    assert strategies.seat(ROUTER, "a", {}).strategy is of_group

    strategies.configure(Configured(), {"routing_groups"}.__contains__)
    assert strategies.default.strategy is default
    assert strategies.seat(ROUTER, "a", {}).strategy is default

    strategies.configure(Configured())
    assert (strategies.default, strategies.seat(ROUTER, "a", {})) == (None, None)


# --- of a call ---------------------------------------------------------------------------------


def test_who_decides_for_a_call(strategies):
    """The request's own strategy first, then its routing group's, then the router's."""
    default, of_group = Own("default"), Own("of-group")
    strategies.configure(Configured(default, {"pair": of_group, "other": Own()}))

    def decides(model, **request):
        seat = strategies.seat(ROUTER, model, request)
        return seat and seat.strategy

    assert decides("c") is default
    assert decides("a") is of_group
    assert decides("pair") is of_group
    assert strategies.seat(ROUTER, "c", None).strategy is default
    assert decides("a", routing_strategy="default") is default
    assert type(decides("a", routing_strategy="least-in-flight")) is LeastInFlight
    assert decides("a", routing_strategy="simple-shuffle") is None
    assert decides("a", routing_strategy=RoutingStrategy.LEAST_BUSY) is None
    assert decides("a", routing_strategy="nobody has it") is of_group
    assert decides("a", routing_strategy=7) is of_group


def test_a_group_that_litellm_decides_for_is_not_the_router_s_strategy_s(strategies):
    strategies.configure(Configured(Own("default"), {"other": Own()}))

    assert strategies.seat(ROUTER, "a", {}) is None


def test_what_a_request_brings_is_kept_for_the_next(strategies):
    own = Own()
    one, other = {"routing_strategy": own, "user": "u"}, {"routing_strategy": own}
    for request in (one, other):
        strategies.take_in(request)

    assert one == {"routing_strategy": "own", "user": "u"}
    assert strategies.seat(ROUTER, "a", one) is strategies.seat(ROUTER, "a", other)
    assert strategies.seat(ROUTER, "a", one).strategy is own
    by_name = {"routing_strategy": "weighted"}
    assert type(strategies.seat(ROUTER, "a", by_name).strategy) is Weighted
    assert strategies.seat(ROUTER, "a", by_name) is strategies.seat(ROUTER, "c", dict(by_name))


@pytest.mark.parametrize("asked", [None, "weighted", "nobody has it", 7, RoutingStrategy.LEAST_BUSY])
def test_what_is_no_strategy_object_is_left_to_litellm(strategies, asked):
    request = {"routing_strategy": asked}
    strategies.take_in(request)

    assert request["routing_strategy"] is asked


@pytest.mark.parametrize(
    ("request_", "asks"),
    [
        ({}, False),
        ({"routing_strategy": None}, False),
        ({"routing_strategy": "simple-shuffle"}, False),
        ({"routing_strategy": RoutingStrategy.LEAST_BUSY}, False),
        ({"routing_strategy": "weighted"}, True),
        ({"routing_strategy": Own()}, True),
    ],
)
def test_whether_a_call_may_bring_one(strategies, request_, asks):
    assert strategies.asks(request_) is asks


def test_litellm_s_copies_of_a_request_lead_to_the_same_strategy(strategies):
    request = {"routing_strategy": Own()}
    strategies.take_in(request)
    handle = request["routing_strategy"]

    assert (type(handle), handle) == (Handle, "own")
    assert copy.copy(handle) is handle
    assert copy.deepcopy(request)["routing_strategy"] is handle


def test_one_that_cannot_be_made_costs_no_request(strategies, guard, monkeypatch):
    default = Own("default")
    strategies.configure(Configured(default))

    def failing(name):
        raise ConfigurationError(name)

    monkeypatch.setattr(_strategies._registry, "load", failing)
    for _ in range(2):
        assert strategies.seat(ROUTER, "a", {"routing_strategy": "weighted"}).strategy is default

    assert guard.faults == 1  # it is not tried again


def test_an_object_that_cannot_be_used_spoils_none_that_comes_after_it(strategies, guard, monkeypatch):
    """An id is another object's as soon as its owner is gone."""
    monkeypatch.setattr(_strategies, "id", lambda _: 7, raising=False)
    half, whole = {"routing_strategy": Half()}, {"routing_strategy": Own()}
    left = half["routing_strategy"]
    strategies.take_in(half)
    strategies.take_in(whole)

    assert half["routing_strategy"] is left
    assert (type(whole["routing_strategy"]), whole["routing_strategy"]) == (Handle, "own")
    assert guard.faults == 1


def test_there_is_an_end_to_what_requests_bring(strategies, monkeypatch):
    """A caller that makes a strategy for every request gets no learning from it, and fills no memory."""
    closed = []
    monkeypatch.setattr(_strategies.Seat, "close", lambda seat: closed.append(seat.strategy))
    made = [Own() for _ in range(65)]
    for own in made:
        strategies.take_in({"routing_strategy": own})

    assert closed == made[:64]
    strategies.close()
    assert closed == made


def test_whether_a_strategy_hears_of_every_call(guard):
    idle = Strategies(guard)
    assert idle.active is False
    for configured in (Configured(Own()), Configured(None, {"pair": Own()})):
        busy = Strategies(guard)
        busy.configure(configured)
        assert busy.active is True
    assert Strategies(guard, resilience=True).active is True
    assert Strategies(guard, resilience=False).resilience is None
