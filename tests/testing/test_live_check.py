"""The live check on calls that a tree builder is told of: quiet when rules are kept, loud once when they are not."""

import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from traced_router._facts import AnswerFacts, AttemptFacts, CallFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router._guard import Guard
from traced_router._timeline import Timeline
from traced_router._tree import Tree
from traced_router.testing import LiveCheck, LiveCheckCounts, LiveCheckLimits, Recorder

SECOND = 1_000_000_000


class Clock:
    """Nanoseconds, moved by hand, and by a microsecond at every look."""

    def __init__(self):
        self.now = 1000 * SECOND

    def __call__(self):
        self.now += 1000
        return self.now

    def seconds(self):
        return self.now / SECOND

    def sleep(self, seconds):
        self.now += int(seconds * SECOND)


class Bench:
    """A tree whose spans a live check sees, by a clock."""

    def __init__(self, **arguments):
        self.clock, self.meters = Clock(), Recorder()
        self.check = LiveCheck(meter_provider=self.meters.meter_provider, clock=self.clock.seconds, **arguments)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.check)
        self.tree = Tree(
            lambda: self.provider.get_tracer("traced_router"),
            Guard(lambda: self.meters.meter_provider),
            timeline=lambda: Timeline(self.clock, lambda: (0, 0)),
        )

    def call(self, group="g"):
        return self.tree.open_call(CallFacts("chat", group, "id", "s"))

    def attempt(self, call, deployment="a", hop=None, reason="external"):
        group = "g" if hop is None else hop.target
        decision = DecisionFacts("s", reason, deployment, ids=(deployment,))
        call.select(group, hop).end(decision)
        return call.attempt(AttemptFacts(DeploymentFacts(deployment, "m"), group), hop)

    def answered(self, call, **where):
        self.attempt(call, **where).succeed(AnswerFacts())
        call.finish("ok")

    def violations(self):
        points = self.meters.metrics().get("traced_router.live_check.violations", ())
        counted = {point.attributes["traced_router.live_check.rule"]: point.value for point in points}
        assert counted == self.check.counts.violations
        return counted


@pytest.fixture(autouse=True)
def _no_fault(caplog):
    caplog.set_level(logging.WARNING)
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_a_request_that_keeps_the_rules(caplog):
    bench = Bench(max_attempts=2)
    call = bench.call()
    bench.attempt(call).fail(FailureFacts("RateLimitError", "rate_limit", 429, retry_after=2.0))
    bench.clock.sleep(2)
    bench.answered(call)

    assert bench.violations() == {}
    assert bench.check.counts == LiveCheckCounts(1, 0, {})
    assert caplog.records == []


def test_a_provider_that_is_called_before_its_time(caplog):
    bench = Bench()
    call = bench.call()
    bench.attempt(call).fail(FailureFacts("RateLimitError", "rate_limit", 429, retry_after=2.0))
    bench.attempt(call, "b").fail(FailureFacts("Timeout", "timeout"))
    bench.clock.sleep(0.5)
    bench.answered(call)

    assert bench.violations() == {"retry_after": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "live check: router.chat g: a had asked to wait 2 s, and was called again 1.500 s before that [retry_after]"
    ]


def test_too_many_attempts():
    bench = Bench(max_attempts=1)
    call = bench.call()
    bench.attempt(call).fail(FailureFacts("Timeout", "timeout"))
    bench.answered(call)

    assert bench.violations() == {"attempts": 1}


@pytest.mark.parametrize(("kind", "target", "found"), [("default", "g", 1), ("order", "g", 0), ("model_group", "h", 0)])
def test_a_cycle(kind, target, found):
    bench = Bench()
    call = bench.call()
    bench.attempt(call).fail(FailureFacts("Timeout", "timeout"))
    call.hop_failed("g", "Timeout")
    hop = call.hop(target, kind)
    bench.attempt(call, "b", hop).succeed(AnswerFacts())
    hop.returned()
    call.finish("ok")

    assert bench.violations().get("cycle", 0) == found


def test_an_attempt_on_a_deployment_in_cooldown():
    bench = Bench()
    call = bench.call()
    failed = bench.attempt(call)
    failed.cooled_down("a", 5.0, "timeout")
    failed.fail(FailureFacts("Timeout", "timeout"))
    call.finish("error", FailureFacts("Timeout", "timeout"))
    assert bench.violations() == {}

    bench.clock.sleep(1)
    bench.answered(bench.call(), deployment="b")
    bench.answered(bench.call(), reason="forced_specific")
    assert bench.violations() == {}

    bench.answered(bench.call())
    assert bench.violations() == {"cooldown": 1}

    bench.clock.sleep(5)
    bench.answered(bench.call())
    assert bench.violations() == {"cooldown": 1}


def test_cooldowns_are_bounded(monkeypatch):
    monkeypatch.setattr("traced_router.testing._live_rules._MAX_COOLING", 1)
    bench = Bench()
    call = bench.call()
    failed = bench.attempt(call)
    failed._span.add_event("another's")
    for name in "ab":
        failed.cooled_down(name, 5.0, "timeout")
    failed.fail(FailureFacts("Timeout", "timeout"))
    call.finish("error", FailureFacts("Timeout", "timeout"))
    bench.clock.sleep(1)
    for name in "ab":
        bench.answered(bench.call(), deployment=name)

    assert bench.violations() == {"cooldown": 1}


def test_a_span_that_is_lost_and_one_that_breaks_the_contract():
    bench = Bench()
    tracer = bench.provider.get_tracer("traced_router")
    call = bench.call()
    tracer.start_span("router.backoff", call.parent_context(None))
    tracer.start_span("router.fallback x", call.parent_context(None)).end()
    bench.answered(call)

    assert bench.violations()["lost_span"] == 1
    assert bench.violations()["required"] > 1


def test_a_rule_is_logged_now_and_then_and_always_counted(caplog):
    bench = Bench(max_attempts=0, limits=LiveCheckLimits(log_seconds=10))
    for _ in range(3):
        bench.answered(bench.call())
    assert len(caplog.records) == 1
    bench.clock.sleep(10)
    bench.answered(bench.call())

    assert len(caplog.records) == 2
    assert bench.violations() == {"attempts": 4}


# --- bounds ------------------------------------------------------------------------------------


def test_checks_are_bounded_by_the_second():
    bench = Bench(max_attempts=0, limits=LiveCheckLimits(checks_per_second=2))
    for _ in range(5):
        bench.answered(bench.call())
    assert (bench.check.counts.checked, bench.check.counts.unchecked) == (2, 3)
    bench.clock.sleep(1)
    bench.answered(bench.call())

    assert bench.violations() == {"attempts": 3}


def test_requests_spans_and_age_are_bounded():
    """What is let go of is not checked, and its later spans are nobody's."""
    many = Bench(limits=LiveCheckLimits(requests=1))
    one, other = many.call(), many.call()
    many.answered(one)
    many.answered(other)
    assert (many.check.counts.checked, many.check.counts.unchecked) == (1, 1)

    two = Bench(limits=LiveCheckLimits(requests=2))
    one, other = two.call(), two.call()
    two.answered(one)
    two.answered(other)
    assert two.check.counts == LiveCheckCounts(2, 0, {})

    large = Bench(limits=LiveCheckLimits(spans=1))
    large.answered(large.call())
    assert (large.check.counts.checked, large.check.counts.unchecked) == (0, 1)

    old = Bench(limits=LiveCheckLimits(seconds=60))
    call = old.call()
    open_attempt = old.attempt(call)
    old.clock.sleep(61)
    old.answered(old.call())
    open_attempt.succeed(AnswerFacts())
    call.finish("ok")
    assert (old.check.counts.checked, old.check.counts.unchecked) == (1, 1)
    for bench in (many, large, old):
        assert bench.check._open == {}
        assert bench.check._request_of == {}


def test_spans_of_others_and_orphans_are_not_looked_at():
    bench = Bench(max_attempts=0)
    bench.provider.get_tracer("http").start_span("GET").end()
    bench.provider.get_tracer("traced_router").start_span("router.backoff").end()
    batch = bench.tree.open_batch("chat", ["a"], 0)
    batch.returned()

    assert bench.check.counts == LiveCheckCounts(0, 0, {})


@pytest.mark.filterwarnings("ignore")
def test_a_fault_of_its_own_is_counted(monkeypatch, caplog):
    bench = Bench()
    monkeypatch.setattr("traced_router.testing._live_check.check_trace", None)
    bench.answered(bench.call())

    (point,) = bench.meters.metrics()["traced_router.tracing.errors"]
    assert point.attributes == {"traced_router.tracing.where": "live_check"}
    assert len(caplog.records) == 1
    caplog.clear()


def test_the_global_meters_count_where_none_are_given(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: recorder.meter_provider)
    check = LiveCheck(max_attempts=0)
    bench = Bench()
    bench.provider.add_span_processor(check)
    bench.answered(bench.call())

    (point,) = recorder.metrics()["traced_router.live_check.violations"]
    assert point.value == 1
