"""Where faults of our own end: logged once a place, counted, and never raised."""

import logging

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from traced_router._guard import Guard, fails_open
from traced_router.testing import Recorder


class Thing:
    """What a guard is for."""

    def __init__(self, guard):
        self.guard = guard

    @fails_open("thing")
    def double(self, number):
        return number * 2


def counted(recorder):
    return {
        point.attributes["traced_router.tracing.where"]: point.value
        for point in recorder.metrics().get("traced_router.tracing.errors", ())
    }


def test_what_works_is_as_it_was():
    thing = Thing(Guard(NoOpMeterProvider))

    assert thing.double(4) == 8
    assert thing.guard.faults == 0


def test_a_fault_is_an_answer_of_none(caplog):
    """The first of a place is logged, without its message: that can hold what a caller sent."""
    recorder = Recorder()
    thing = Thing(Guard(lambda: recorder.meter_provider))

    for secret in (object(), object()):
        assert thing.double(secret) is None
    thing.guard.report("elsewhere", KeyError("secret"))

    assert thing.guard.faults == 3
    assert counted(recorder) == {"thing": 2, "elsewhere": 1}
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ERROR", f"tracing failed in {place}; the call goes on, and further faults there are only counted")
        for place in ("thing with TypeError", "elsewhere with KeyError")
    ]


def test_the_way_to_a_fault_is_there_for_who_looks_without_its_message(caplog):
    caplog.set_level(logging.DEBUG, logger="traced_router")
    guard = Guard(NoOpMeterProvider)
    unknown = "secret"
    with pytest.raises(KeyError) as met:
        {}[unknown]
    guard.report("thing", met.value)

    error, way = caplog.records
    assert (error.levelname, way.levelname) == ("ERROR", "DEBUG")
    assert way.getMessage().startswith("tracing failed there:\n  File ")
    assert "in test_the_way_to_a_fault" in way.getMessage()
    assert "secret" not in caplog.text


def test_what_is_no_exception_goes_on():
    class Interrupted(Thing):
        @fails_open("thing")
        def stop(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(Guard(NoOpMeterProvider)).stop()


def test_the_meter_provider_in_force_counts():
    one, other = Recorder(), Recorder()
    provider = one.meter_provider
    guard = Guard(lambda: provider)
    guard.report("thing", ValueError())
    guard.report("thing", ValueError())
    provider = other.meter_provider
    guard.report("thing", ValueError())

    assert (counted(one), counted(other)) == ({"thing": 2}, {"thing": 1})


def test_a_meter_provider_that_fails_is_no_fault_of_the_call(caplog):
    def broken():
        raise RuntimeError

    caplog.set_level(logging.DEBUG)
    guard = Guard(broken)
    guard.report("thing", ValueError())
    guard.report("thing", ValueError())

    assert guard.faults == 2
    assert [r.levelname for r in caplog.records] == ["ERROR", "DEBUG", "DEBUG", "DEBUG"]
