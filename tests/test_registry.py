"""Strategies by name, and objects that are none."""

from importlib.metadata import EntryPoint

import pytest
from traced_router_strategies.least_in_flight import LeastInFlight

from traced_router import _registry
from traced_router._registry import GROUP
from traced_router.errors import ConfigurationError


class Whole:
    name = "whole"

    def pick(self, request, candidates):
        """Unused."""

    def started(self, ticket):
        """Unused."""

    first_chunk = started

    def finished(self, ticket, outcome):
        """Unused."""


class Part:
    name = 7

    def pick(self, request, candidates):
        """Unused."""


@pytest.fixture
def installed(monkeypatch):
    def install(**points):
        made = [EntryPoint(name, value, GROUP) for name, value in points.items()]
        monkeypatch.setattr(_registry, "entry_points", lambda group: made if group == GROUP else [])

    return install


def test_a_name_stands_for_a_new_object_each_time(installed):
    installed(mine="traced_router_strategies.least_in_flight:LeastInFlight")

    assert list(_registry.available()) == ["mine"]
    one, other = _registry.load("mine"), _registry.load("mine")
    assert type(one) is type(other) is LeastInFlight
    assert one is not other


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:Class", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("traced_router.strategy:NoSuchClass", "AttributeError: module 'traced_router.strategy' has no attribute"),
        ("traced_router.strategy:Ticket", "TypeError: "),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named_with_its_reason(installed, value, why):
    installed(mine=value)
    with pytest.raises(ConfigurationError) as raised:
        _registry.load("mine")

    said = str(raised.value)
    assert said.startswith(f"routing_strategy='mine': the entry point {value!r} cannot be used ({why}")
    assert said.endswith("It must name a class whose constructor needs no arguments.")
    assert raised.value.__cause__ is not None


def test_what_an_object_lacks_is_named():
    assert _registry.checked(made := Whole()) is made
    with pytest.raises(ConfigurationError) as raised:
        _registry.checked(Part())

    assert str(raised.value) == (
        "Part is no routing strategy: it has no name, started, first_chunk, finished. "
        "See traced_router.RoutingStrategy for what one needs."
    )


@pytest.mark.parametrize(
    ("thing", "is_one"), [(Whole(), True), (Part(), True), (Whole, False), ("whole", False), (None, False)]
)
def test_what_is_meant_as_a_strategy(thing, is_one):
    assert _registry.is_strategy(thing) is is_one
