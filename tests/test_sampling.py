"""Which traces are kept, what they weigh, what bounds do, and that nothing is lost without being counted."""

import gc
import logging
import os
import random
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from traced_router._sampling_rules import Judge
from traced_router.errors import ConfigurationError
from traced_router.sampling import (
    KeepHintProcessor,
    KeepRules,
    SamplingBounds,
    SamplingOptions,
    SamplingProcessor,
    options_of,
)

REASON = "traced_router.sampling.reason"
WEIGHT = "traced_router.sampling.weight"
KEEP = "traced_router.sampling.keep"

SECOND = 1_000_000_000
OFF = KeepRules(
    errors=False,
    retries=False,
    fallbacks=False,
    cooldowns=False,
    slow_seconds=None,
    slow_quantile=None,
    wasted_cost=None,
)
NOTHING = SamplingOptions(share=0.0, keep=OFF)
SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Sink(SpanProcessor):
    """What comes through, in order."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.told: list[object] = []

    def on_start(self, span, parent_context=None) -> None:
        self.told.append(("start", span.name, parent_context))

    def _on_ending(self, span) -> None:
        self.told.append(("ending", span.name))

    def on_end(self, span) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        self.told.append("shutdown")

    def force_flush(self, timeout_millis=30000) -> bool:
        self.told.append(("flush", timeout_millis))
        return True

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    @property
    def said(self) -> list[tuple[object, object]]:
        """Reason and weight of each request that came through."""
        return [(s.attributes.get(REASON), s.attributes.get(WEIGHT)) for s in self.spans if is_request(s)]


class SeededIds(IdGenerator):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128)

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """A provider whose spans go through the processor into a sink."""

    def __init__(self, options: SamplingOptions | None = None, *, seed: int = 1, sampler: Sampler = ALWAYS_ON) -> None:
        self.sink = Sink()
        self.clock = Clock()
        self.processor = SamplingProcessor(self.sink, options, clock=self.clock)
        self.provider = TracerProvider(sampler=sampler, id_generator=SeededIds(seed), shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("test")

    def start(self, name="span", parent=None, **arguments):
        context = trace.set_span_in_context(parent) if parent is not None else trace.Context()
        return self.tracer.start_span(name, context, start_time=arguments.pop("start_time", 0), **arguments)

    def request(self, parent=None, *, seconds=1.0, end=True, name="router.chat gpt-4o", status=None, **said):
        said = {key.replace("__", "."): value for key, value in said.items()}
        attributes = {"traced_router.operation": "chat", "traced_router.model_group": "gpt-4o", **said}
        links = attributes.pop("links", ())
        span = self.start(name, parent, attributes=attributes, links=links)
        span.set_attribute("traced_router.outcome", "error" if status is StatusCode.ERROR else "ok")
        if status is not None:
            span.set_status(status)
        if end:
            span.end(int(seconds * SECOND))
        return span

    def span(self, parent=None, *, name="span", status=None, **arguments):
        span = self.start(name, parent, **arguments)
        if status is not None:
            span.set_status(status)
        span.end(SECOND)
        return span


def is_request(span: ReadableSpan) -> bool:
    return span.name.startswith("router.") and "traced_router.operation" in span.attributes


def remote(trace_id: int, span_id: int = 7, state: str | None = None):
    trace_state = TraceState([("ot", state)]) if state is not None else None
    return NonRecordingSpan(
        SpanContext(trace_id, span_id, is_remote=True, trace_flags=SAMPLED, trace_state=trace_state)
    )


def adds_up(processor: SamplingProcessor, ended: int) -> None:
    counts = processor.counts
    assert counts.forwarded + counts.dropped + counts.waiting + counts.after_shutdown == ended


# --- one trace -------------------------------------------------------------------------------


def test_an_ordinary_trace_is_dropped_whole_and_counted():
    world = World(NOTHING)
    root = world.start("GET /chat")
    world.request(root)
    world.span(root, name="SELECT")
    assert world.processor.counts.waiting == 2
    assert world.processor.counts.open_traces == 1
    root.end()
    assert world.sink.spans == []
    counts = world.processor.counts
    assert (counts.dropped, counts.dropped_requests, counts.waiting, counts.open_traces) == (3, 1, 0, 0)
    assert counts.waiting_bytes == 0


def test_a_kept_trace_goes_through_whole_in_the_order_in_which_its_spans_ended():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    root = world.start("GET /chat")
    world.request(root)
    world.span(root, name="SELECT")
    world.request(root, status=StatusCode.ERROR)
    assert world.sink.spans == []
    root.end()
    assert world.sink.names == ["router.chat gpt-4o", "SELECT", "router.chat gpt-4o", "GET /chat"]
    assert world.sink.said == [("error", 1.0), ("error", 1.0)]
    assert world.processor.counts.kept_requests["error"] == 2


def test_spans_of_others_are_handed_on_as_they_are():
    world = World(SamplingOptions(share=1.0))
    ended = []
    second = Sink()
    second.on_end = ended.append
    world.provider.add_span_processor(second)
    root = world.start("GET /chat")
    world.request(root)
    root.end()
    assert world.sink.spans[1] is not ended[0]
    assert [s.name for s in world.sink.spans] == ["router.chat gpt-4o", "GET /chat"]
    assert REASON not in ended[0].attributes
    assert dict(world.sink.spans[0].attributes) == {**ended[0].attributes, REASON: "share", WEIGHT: 1.0}
    assert dict(world.sink.spans[1].attributes) == {}


def test_a_trace_is_decided_when_its_last_local_span_has_ended_even_if_its_root_ended_before():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    root = world.start("GET /chat")
    stream = world.request(root, end=False)
    root.end()
    assert world.processor.counts.waiting == 1
    stream.set_status(StatusCode.ERROR)
    stream.end()
    assert world.sink.names == ["GET /chat", "router.chat gpt-4o"]


def test_traces_do_not_mix():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    roots = [world.start(f"root {i}") for i in range(6)]
    for i, root in enumerate(roots):
        world.request(root, status=StatusCode.ERROR if i % 2 else None)
    for root in roots[::-1]:
        root.end()
    assert world.sink.names == [name for i in (5, 3, 1) for name in ("router.chat gpt-4o", f"root {i}")]


def test_a_batch_and_its_members_are_one_trace():
    world = World(SamplingOptions(share=0.5, keep=replace(OFF, retries=True)))
    batch = world.start(
        "router.batch gpt-4o", attributes={"traced_router.operation": "chat", "traced_router.batch.size": 2}
    )
    world.request(batch)
    world.request(batch, traced_router__retries=1)
    batch.end()
    assert [(s.name, s.attributes.get(REASON)) for s in world.sink.spans] == [
        ("router.chat gpt-4o", "retry"),
        ("router.chat gpt-4o", "retry"),
        ("router.batch gpt-4o", None),
    ]


# --- rules -----------------------------------------------------------------------------------


def failed_attempt(world: World, parent, **attributes):
    return world.span(parent, name="chat gpt-4o-2024-08-06", status=StatusCode.ERROR, attributes=attributes or None)


def retried(world: World) -> None:
    request = world.request(end=False, traced_router__retries=1)
    attempt = world.start("chat gpt-4o-2024-08-06", request)
    world.span(attempt, name="POST", status=StatusCode.ERROR)
    attempt.set_status(StatusCode.ERROR)
    attempt.end()
    failed_attempt(world, request)
    request.end(SECOND)


def fell_back(world: World) -> None:
    request = world.request(end=False, traced_router__fallbacks=1, traced_router__retries=0)
    failed_attempt(world, request)
    world.span(request, name="router.fallback b", attributes={"traced_router.fallback.kind": "default"})
    request.end(SECOND)


def cooled_down(world: World) -> None:
    request = world.request(end=False)
    attempt = world.start("chat gpt-4o-2024-08-06", request)
    attempt.add_event("traced_router.cooldown", {"seconds": 5.0})
    attempt.end()
    request.end(SECOND)


def failed(world: World) -> None:
    world.request(status=StatusCode.ERROR)


def failed_above(world: World) -> None:
    root = world.start("GET /chat")
    world.request(root)
    root.set_status(StatusCode.ERROR)
    root.end()


def failed_beside(world: World) -> None:
    """One of several calls that run side by side: nobody retried."""
    request = world.request(end=False)
    failed_attempt(world, request)
    request.end(SECOND)


def failed_inside_a_saved_one(world: World) -> None:
    request = world.request(end=False, traced_router__retries=1)
    world.request(request, status=StatusCode.ERROR)
    request.end(SECOND)


def failed_above_a_saved_one(world: World) -> None:
    root = world.start("GET /chat")
    request = world.request(root, end=False, traced_router__retries=1)
    failed_attempt(world, request)
    request.end(SECOND)
    root.set_status(StatusCode.ERROR)
    root.end()


def slow(world: World) -> None:
    world.request(seconds=30.0)


def wasteful(world: World) -> None:
    root = world.start("GET /chat")
    world.request(root, traced_router__cost__wasted=0.03)
    world.request(root, traced_router__cost__wasted=0.03)
    root.end()


ALL_RULES = KeepRules(slow_seconds=30.0, wasted_cost=0.05)
SWITCHED_OFF = {
    "error": {"errors": False},
    "fallback": {"fallbacks": False},
    "retry": {"retries": False},
    "cooldown": {"cooldowns": False},
    "slow": {"slow_seconds": None},
    "wasted_cost": {"wasted_cost": None},
}


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (failed, "error"),
        (failed_above, "error"),
        (failed_beside, "error"),
        (failed_inside_a_saved_one, "error"),
        (failed_above_a_saved_one, "error"),
        (fell_back, "fallback"),
        (retried, "retry"),
        (cooled_down, "cooldown"),
        (slow, "slow"),
        (wasteful, "wasted_cost"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_rule_keeps_its_traces_and_no_other_rule_does(happens, reason):
    world = World(SamplingOptions(share=0.0, keep=ALL_RULES))
    happens(world)
    assert set(world.sink.said) == {(reason, 1.0)}
    assert world.processor.counts.dropped == 0

    without = World(SamplingOptions(share=0.0, keep=replace(ALL_RULES, **SWITCHED_OFF[reason])))
    happens(without)
    kept_for = {"failed_inside_a_saved_one": {("retry", 1.0)}, "failed_above_a_saved_one": {("retry", 1.0)}}
    assert set(without.sink.said) == kept_for.get(happens.__name__, set())

    alone = World(replace(NOTHING, keep=replace(OFF, **{k: getattr(ALL_RULES, k) for k in SWITCHED_OFF[reason]})))
    happens(alone)
    assert set(alone.sink.said) == {(reason, 1.0)}


def test_the_gravest_of_several_reasons_is_said():
    world = World(SamplingOptions(share=1.0, keep=ALL_RULES))
    root = world.start("GET /chat")
    for happens in (slow, wasteful, cooled_down, retried, fell_back, failed):
        world.request(root)
        happens(world)
    root.end()
    said = world.sink.said
    assert said[: -len(SWITCHED_OFF)] == [
        ("slow", 1.0),
        ("wasted_cost", 1.0),
        ("wasted_cost", 1.0),
        ("cooldown", 1.0),
        ("retry", 1.0),
        ("fallback", 1.0),
        ("error", 1.0),
    ]
    assert set(said[-len(SWITCHED_OFF) :]) == {("share", 1.0)}


def test_limits_are_limits():
    world = World(SamplingOptions(share=0.0, keep=ALL_RULES))
    world.request(seconds=29.999)
    world.request(traced_router__cost__wasted=0.05)
    world.request(seconds=40.0, traced_router__time__consumer=11.0)
    assert world.sink.spans == []
    world.request(seconds=30.0)
    world.request(traced_router__cost__wasted=0.0501)
    assert world.sink.said == [("slow", 1.0), ("wasted_cost", 1.0)]


def test_attempts_tell_of_retries_and_fallbacks_where_their_request_is_not_there():
    world = World(SamplingOptions(share=0.0, keep=replace(OFF, retries=True, fallbacks=True), others="sample"))
    world.span(name="chat gpt", attributes={"litellm.deployment.reason": "retry"})
    world.span(name="router.fallback b", attributes={"traced_router.fallback.kind": "order"})
    world.span(name="chat gpt", attributes={"litellm.deployment.reason": "initial"})
    assert world.sink.names == ["chat gpt", "router.fallback b"]


def test_a_request_is_known_when_the_sdk_has_dropped_its_first_attributes():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    limited = TracerProvider(span_limits=SpanLimits(max_span_attributes=1), shutdown_on_exit=False)
    limited.add_span_processor(world.processor)
    world.tracer = limited.get_tracer("test")
    span = world.start("router.chat gpt-4o", attributes={"traced_router.operation": "chat"})
    logging.disable()
    span.set_attribute("traced_router.outcome", "error")
    logging.disable(logging.NOTSET)
    span.end()
    assert dict(world.sink.spans[0].attributes) == {"traced_router.outcome": "error", REASON: "error", WEIGHT: 1.0}
    assert world.sink.spans[0].dropped_attributes == 1


# --- the slow ones by quantile ---------------------------------------------------------------


def test_a_quantile_keeps_what_is_slower_than_it_was_and_waits_until_there_were_enough():
    world = World(replace(NOTHING, keep=replace(OFF, slow_quantile=0.9)))
    for seconds in range(1, 10):
        world.request(seconds=seconds)
    world.request(seconds=1000.0)  # the tenth: not enough before it
    assert world.sink.spans == []
    world.request(seconds=9.0)  # the ninth of ten is 9.0, and this is no more
    assert world.sink.spans == []
    world.request(seconds=9.5)
    assert world.sink.said == [("slow", 1.0)]


def test_a_quantile_compares_within_a_group_and_forgets_the_old():
    world = World(replace(NOTHING, keep=replace(OFF, slow_quantile=0.5)))
    for _ in range(3):
        world.request(seconds=1.0)
        world.request(seconds=100.0, traced_router__operation="batch")
    world.request(seconds=50.0, traced_router__operation="batch")
    assert world.sink.spans == []
    world.request(seconds=2.0)
    assert world.sink.said == [("slow", 1.0)]
    for _ in range(1000):
        world.request(seconds=5.0)
    before = len(world.sink.spans)
    world.request(seconds=5.0)
    assert len(world.sink.spans) == before
    world.request(seconds=5.1)
    assert len(world.sink.spans) == before + 1


def test_failures_do_not_make_answers_look_slow():
    world = World(replace(NOTHING, keep=replace(OFF, slow_quantile=0.5)))
    for _ in range(2):
        world.request(seconds=10.0)
    for _ in range(50):
        world.request(seconds=0.1, status=StatusCode.ERROR)
    world.request(seconds=9.0)
    assert world.sink.spans == []


def test_a_request_that_ended_before_it_began_is_not_slow():
    world = World(replace(NOTHING, keep=replace(OFF, slow_seconds=0.5)))
    world.request(seconds=-1.0)
    assert world.sink.spans == []


def test_groups_without_a_window_of_their_own_share_one():
    world = World(replace(NOTHING, keep=replace(OFF, slow_quantile=0.5)))
    for group in range(64):
        world.request(seconds=1.0, traced_router__model_group=f"group {group}")
    for group in range(64, 66):
        world.request(seconds=1.0, traced_router__model_group=f"group {group}")
    world.request(seconds=2.0, traced_router__model_group="group 66")
    assert world.sink.said == [("slow", 1.0)]
    world.request(seconds=2.0, traced_router__model_group="group 0")
    assert len(world.sink.spans) == 1


# --- weights ---------------------------------------------------------------------------------


def test_the_share_is_that_of_trace_id_ratio_based():
    head = TraceIdRatioBased(0.3)
    world = World(replace(NOTHING, share=0.3))
    expected = []
    for _ in range(500):
        context = world.request().get_span_context()
        if head.should_sample(None, context.trace_id, "x").decision is Decision.RECORD_AND_SAMPLE:
            expected.append(context.trace_id)
    assert [span.context.trace_id for span in world.sink.spans] == expected
    assert 100 < len(expected) < 200


def test_processes_with_the_same_share_keep_the_same_traces():
    options = replace(NOTHING, share=0.2)
    one, other = World(options, seed=1), World(options, seed=2)
    rng = random.Random(6)
    ids = [rng.getrandbits(128) for _ in range(300)]
    for world in (one, other):
        for trace_id in ids:
            world.request(remote(trace_id))
    kept = [{span.context.trace_id for span in world.sink.spans} for world in (one, other)]
    assert kept[0] == kept[1]
    assert 30 < len(kept[0]) < 90


def play_a_day(world: World, traces: int, seed: int, parent_of=lambda _: None) -> Counter[str]:
    """Traces of all sorts, with one to three requests each; the true number of requests by sort."""
    rng = random.Random(seed)
    true: Counter[str] = Counter()
    for _ in range(traces):
        root = world.start("GET /chat", parent_of(rng))
        for _ in range(rng.randint(1, 3)):
            sort = rng.choices(["plain", "retry", "error"], [0.96, 0.03, 0.01])[0]
            world.request(
                root,
                seconds=rng.lognormvariate(0.0, 1.0),
                sort=sort,
                traced_router__retries=int(sort == "retry"),
                status=StatusCode.ERROR if sort == "error" else None,
            )
            true[sort] += root.is_recording()
            true["all"] += root.is_recording()
        root.end()
    return true


def estimate(spans: Sequence[ReadableSpan]) -> Counter[str]:
    weights: Counter[str] = Counter()
    for span in filter(is_request, spans):
        weights[span.attributes["sort"]] += span.attributes[WEIGHT]
        weights["all"] += span.attributes[WEIGHT]
    return weights


def test_weights_at_one_percent_match_the_true_counts():
    """20,000 traces with two requests on average, and 1 % of the ordinary ones.

    The variance of the sum is 99 * m^2 for each ordinary trace of m requests, so the standard error is
    sqrt(99 * 14/3 * 18,000) = 2,900 of 40,000; the tolerance is three of them. What a rule keeps is exact.
    """
    world = World(SamplingOptions(share=0.01, keep=KeepRules(slow_quantile=0.99)), seed=3)
    true = play_a_day(world, 20_000, seed=4)
    estimated = estimate(world.sink.spans)
    assert estimated["error"] == true["error"]
    assert estimated["retry"] == true["retry"]
    assert true["all"] > 39_000
    assert abs(estimated["all"] - true["all"]) < 8_700
    weights = {span.attributes[WEIGHT] for span in world.sink.spans if is_request(span)}
    assert weights == {1.0, 100.0}
    counts = world.processor.counts
    assert sum(counts.kept_requests.values()) + counts.dropped_requests == true["all"]
    adds_up(world.processor, true["all"] + 20_000)


TENTH = (1 << 64) // 10


class ShiftedIds(SeededIds):
    """The same ids, with the dice turned on by some tenths."""

    def __init__(self, seed: int, tenths: int) -> None:
        super().__init__(seed)
        self._shift = tenths * TENTH

    def generate_trace_id(self) -> int:
        trace_id = super().generate_trace_id()
        return trace_id >> 64 << 64 | (trace_id + self._shift) % (1 << 64)


def play_disorder(world: World, ids: IdGenerator, seed: int) -> int:
    """Traces side by side that fail, go on, come late, repeat each other and meet bounds; how many requests."""
    rng = random.Random(seed)
    open_spans, traces, mirrored = [], [remote(ids.generate_trace_id()) for _ in range(30)], []
    requests = 0
    for _ in range(400):
        world.clock.now += rng.random()
        what = rng.random()
        if what < 0.25:
            open_spans.append(world.start("handler", rng.choice([None, *traces])))
        elif what < 0.7:
            parent = rng.choice([None, *traces, *open_spans])
            links = [Link(rng.choice(mirrored))] if parent is None and mirrored and rng.random() < 0.5 else []
            request = world.request(
                parent,
                links=links,
                number=requests,
                seconds=rng.lognormvariate(0.0, 1.0),
                status=StatusCode.ERROR if rng.random() < 0.04 else None,
                traced_router__retries=int(rng.random() < 0.04),
            )
            mirrored.append(request.get_span_context())
            requests += 1
        elif open_spans:
            span = open_spans.pop(rng.randrange(len(open_spans)))
            if rng.random() < 0.05:
                span.set_status(StatusCode.ERROR)
            span.end()
    world.processor.shutdown()
    return requests


@pytest.mark.parametrize("then", ["keep", "decide"])
@pytest.mark.parametrize("others", ["pass", "sample"])
@pytest.mark.parametrize(
    ("bound", "value", "seed"), [("spans", 3, 1), ("traces", 3, 2), ("bytes", 12_000, 3), ("seconds", 6.0, 4)]
)
def test_the_weights_of_each_request_add_up_to_the_truth_over_all_dice(then, others, bound, value, seed):
    """Everything happens ten times, each time with the dice turned on by a tenth: no chance is left.

    A request that weighs 10 in one of ten runs, or 1 in each of them, has a true weight; anything
    else would be a bias, however rare what led to it is.
    """
    weights: Counter[int] = Counter()
    kept, met = Counter(), Counter()
    for tenths in range(10):
        bounds = SamplingBounds(**{bound: value}, then=then)
        world = World(SamplingOptions(share=0.1, keep=KeepRules(slow_quantile=0.9), bounds=bounds, others=others))
        ids = ShiftedIds(seed, tenths)
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(world.processor)
        world.tracer = provider.get_tracer("test")
        requests = play_disorder(world, ids, seed)
        for span in filter(is_request, world.sink.spans):
            weights[span.attributes["number"]] += span.attributes[WEIGHT]
        kept.update(world.processor.counts.kept_requests)
        met.update(world.processor.counts.bounds_met)
    assert weights == dict.fromkeys(range(requests), 10.0)
    assert min(kept[reason] for reason in ("error", "retry", "slow", "share")) > 0
    assert (kept["limit"] > 0) is (then == "keep")
    assert met[bound] > 10


def test_a_head_sampler_of_the_same_kind_is_nested_and_the_weights_make_up_for_it():
    """10 % at the head and 2 % here are 2 % of all; what a rule keeps stands for the ten that were there."""
    estimates, truths = Counter(), Counter()
    for seed in range(10):
        options = SamplingOptions(share=0.02, keep=KeepRules(slow_quantile=None), head_ratio=0.1)
        world = World(options, seed=40 + seed, sampler=ParentBased(TraceIdRatioBased(0.1)))
        rng = random.Random(seed)
        for _ in range(4000):
            sort = "error" if rng.random() < 0.05 else "plain"
            world.request(sort=sort, status=StatusCode.ERROR if sort == "error" else None)
            truths[sort] += 1
        estimates += estimate(world.sink.spans)
    weights = {(s.attributes[REASON], s.attributes[WEIGHT]) for s in world.sink.spans}
    assert weights == {("error", 10.0), ("share", 50.0)}
    assert abs(estimates["plain"] / truths["plain"] - 1) < 4 / 760**0.5
    assert abs(estimates["error"] / truths["error"] - 1) < 4 / 200**0.5


def test_a_share_above_the_head_samplers_takes_all_that_come():
    world = World(SamplingOptions(share=0.5, keep=OFF, head_ratio=0.1), sampler=TraceIdRatioBased(0.1))
    for _ in range(300):
        world.request()
    assert 10 < len(world.sink.spans) < 60
    assert set(world.sink.said) == {("share", 10.0)}
    assert world.processor.counts.dropped == 0


# --- a head sampler that says its threshold --------------------------------------------------


def threshold_of(chance: float) -> str:
    return f"{(1 << 56) - round(chance * (1 << 56)):014x}".rstrip("0") or "0"


def test_a_threshold_in_the_tracestate_is_raised_to_the_share():
    """A quarter at the head, an eighth here: half of what comes, each worth 8; what a rule keeps is worth 4."""
    rng = random.Random(8)
    options = SamplingOptions(share=0.125, keep=replace(OFF, errors=True), head_ratio=0.5)
    world = World(options)
    came = 0
    for _ in range(2000):
        trace_id = rng.getrandbits(128)
        if trace_id & ((1 << 56) - 1) >= 0.75 * (1 << 56):
            came += 1
            root = world.start("GET /chat", remote(trace_id, state=f"th:{threshold_of(0.25)}"))
            world.request(root, status=StatusCode.ERROR if came % 10 == 0 else None)
            root.end()
    assert set(world.sink.said) == {("share", 8.0), ("error", 4.0)}
    kept = Counter(reason for reason, _ in world.sink.said)
    assert kept["error"] == came // 10
    assert abs(kept["share"] - 0.45 * came) < 4 * (0.25 * came) ** 0.5
    states = {(s.name, s.context.trace_state.get("ot")) for s in world.sink.spans}
    assert states == {(name, state) for name in ("router.chat gpt-4o", "GET /chat") for state in ("th:c", "th:e")}
    assert all(s.context.trace_state.get("ot") == "th:e" for s in world.sink.spans if s.attributes.get(WEIGHT) == 8.0)


@pytest.mark.parametrize(
    ("state", "trace_id", "said"),
    [
        ("th:0", 0xE0_0000_0000_0000, ("share", 8.0)),
        ("th:0", 0xDF_FFFF_FFFF_FFFF, None),
        ("rv:e0000000000000;th:0", 0, ("share", 8.0)),
        ("th:0;rv:dfffffffffffff", 0xFF_FFFF_FFFF_FFFF, None),
        ("th:e", 0xE0_0000_0000_0000, ("share", 8.0)),
        ("th:f;x:y", 0xF0_0000_0000_0000, ("share", 16.0)),
        # not to be believed: the trace would not be here
        ("th:f", 0xE0_0000_0000_0000, ("share", 8.0)),
        ("th:f", 0xFF_E0_0000_0000_0000, None),
        # no threshold
        ("rv:e0000000000000", 0, ("share", 8.0)),
        ("th:xyz", 0, ("share", 8.0)),
        ("th:E", 0, ("share", 8.0)),
        ("th:123456789012345", 0, ("share", 8.0)),
    ],
)
def test_thresholds(state, trace_id, said):
    world = World(SamplingOptions(share=0.125, keep=OFF))
    world.request(remote((1 << 100) + trace_id, state=state))
    assert world.sink.said == ([] if said is None else [said])


def test_what_else_the_tracestate_says_stays():
    world = World(SamplingOptions(share=0.125, keep=OFF))
    trace_id = (1 << 100) + 0xE0_0000_0000_0000
    state = TraceState([("vendor", "1"), ("ot", "p:8;th:8;rv:e0000000000001;z:1")])
    parent = NonRecordingSpan(SpanContext(trace_id, 7, is_remote=True, trace_flags=SAMPLED, trace_state=state))
    world.request(parent)
    (span,) = world.sink.spans
    assert dict(span.context.trace_state) == {"vendor": "1", "ot": "p:8;th:e;rv:e0000000000001;z:1"}
    assert span.parent.trace_state == state
    assert (span.context.trace_id, span.context.is_remote, span.context.trace_flags) == (trace_id, False, SAMPLED)


def test_no_share_at_all_with_a_threshold():
    world = World(NOTHING)
    world.request(remote((1 << 100) + (1 << 56) - 1, state="th:0"))
    assert world.sink.spans == []


# --- traces that go on -----------------------------------------------------------------------


def test_what_comes_after_a_kept_trace_goes_through_at_once():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    parent = remote(1 << 100)
    world.request(parent, status=StatusCode.ERROR)
    second = world.start("handler", parent)
    world.request(second)
    assert world.sink.said == [("error", 1.0), ("error", 1.0)]
    second.end()
    assert world.sink.names == ["router.chat gpt-4o", "router.chat gpt-4o", "handler"]
    assert world.processor.counts.late == 2
    assert world.processor.counts.open_traces == 0


def test_what_comes_after_an_ordinary_trace_throws_the_same_dice_unless_a_rule_holds():
    in_share, out_of_it = 1 << 100, (1 << 100) + (1 << 63)
    world = World(SamplingOptions(share=0.25, keep=replace(OFF, errors=True)))
    for trace_id in (in_share, out_of_it):
        world.request(remote(trace_id))
        world.span(remote(trace_id), name=f"after {trace_id & 1 << 63:d}")
    assert world.sink.names == ["router.chat gpt-4o", "after 0"]
    for trace_id in (in_share, out_of_it):
        world.request(remote(trace_id), status=StatusCode.ERROR)
        world.request(remote(trace_id))
    assert world.sink.said == [("share", 4.0), *[("error", 1.0)] * 4]


def test_a_span_whose_start_was_not_seen_follows_the_decision():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    late = TracerProvider(id_generator=SeededIds(9), shutdown_on_exit=False)
    world.tracer = late.get_tracer("test")
    root = world.start("root")
    late.add_span_processor(world.processor)
    world.request(root, status=StatusCode.ERROR)
    assert world.sink.names == ["router.chat gpt-4o"]
    root.end()
    assert world.sink.names == ["router.chat gpt-4o", "root"]


def test_a_mirror_shares_the_fate_of_the_call_that_it_repeats():
    world = World(SamplingOptions(share=0.25, keep=replace(OFF, errors=True)))
    seen = {}
    for trace_id in (1 << 100, (1 << 100) + (1 << 63), (1 << 100) + (1 << 62)):
        original = world.request(
            remote(trace_id), status=StatusCode.ERROR if trace_id & 1 << 62 else None
        ).get_span_context()
        mirrors = [world.request(links=[Link(original)]).get_span_context().trace_id for _ in range(5)]
        seen[trace_id] = [
            (s.attributes[REASON], s.attributes[WEIGHT]) for s in world.sink.spans if s.context.trace_id in mirrors
        ]
    assert list(seen.values()) == [[("share", 4.0)] * 5, [], [("error", 1.0)] * 5]


def test_a_mirror_fails_for_itself():
    world = World(SamplingOptions(share=0.0, keep=replace(OFF, errors=True)))
    original = world.request().get_span_context()
    world.request(links=[Link(original)], status=StatusCode.ERROR)
    assert world.sink.said == [("error", 1.0)]


def test_a_mirror_behind_a_head_sampler_throws_its_own_dice():
    world = World(SamplingOptions(share=0.25, keep=OFF, head_ratio=0.5))
    in_share = SpanContext(1 << 100, 7, is_remote=True, trace_flags=SAMPLED)
    for _ in range(200):
        world.request(links=[Link(in_share)])
    assert 20 < len(world.sink.spans) < 80


# --- traces of others ------------------------------------------------------------------------


def test_traces_without_a_request_go_through_untouched():
    world = World(NOTHING)
    root = world.start("GET /health")
    world.span(root, name="SELECT", status=StatusCode.ERROR)
    root.end()
    assert world.sink.names == ["SELECT", "GET /health"]
    assert [dict(span.attributes) for span in world.sink.spans] == [{}, {}]
    assert set(world.processor.counts.kept_requests.values()) == {0}


def test_an_error_before_the_first_request_counts():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    parent = remote(1 << 100)
    world.span(parent, status=StatusCode.ERROR)
    world.request(parent)
    assert world.sink.said == [("error", 1.0)]


def test_traces_without_a_request_can_be_sampled_too():
    world = World(SamplingOptions(share=0.25, keep=KeepRules(), others="sample"))
    for trace_id in (1 << 100, (1 << 100) + (1 << 63)):
        world.span(remote(trace_id), name=f"{trace_id & 1 << 63:d}")
    world.span(remote((1 << 101) + (1 << 63)), name="failed", status=StatusCode.ERROR)
    assert world.sink.names == ["0", "failed"]


# --- bounds ----------------------------------------------------------------------------------


def test_a_trace_with_too_many_spans_is_kept_with_all_that_comes_later():
    world = World(replace(NOTHING, bounds=SamplingBounds(spans=4)))
    root = world.start("root")
    for _ in range(3):
        world.request(root)
    assert world.sink.spans == []
    fourth = world.request(root, end=False)  # the root, three that wait, and this one
    assert len(world.sink.spans) == 3
    fourth.end()
    assert world.processor.counts.bounds_met == {"spans": 1, "traces": 0, "bytes": 0, "seconds": 0}
    world.request(root)
    root.end()
    assert world.sink.said == [("limit", 1.0)] * 5
    assert world.sink.names[-1] == "root"
    assert world.processor.counts.kept_requests["limit"] == 5
    adds_up(world.processor, 6)


def test_a_trace_with_too_many_spans_can_be_decided_on_what_there_is():
    rules = replace(OFF, errors=True)
    world = World(SamplingOptions(share=0.0, keep=rules, bounds=SamplingBounds(spans=4, then="decide")))
    root = world.start("root")
    for _ in range(4):
        world.request(root)
    assert world.processor.counts.dropped == 4
    assert world.processor.counts.dropped_requests == 4
    world.request(root, status=StatusCode.ERROR)
    root.end()
    assert world.sink.names == ["router.chat gpt-4o", "root"]
    assert world.sink.said == [("error", 1.0)]
    adds_up(world.processor, 6)


def test_too_many_open_traces_make_the_oldest_give_way():
    world = World(replace(NOTHING, bounds=SamplingBounds(traces=2)))
    roots = [world.start(f"root {i}") for i in range(3)]
    assert world.processor.counts.bounds_met["traces"] == 1
    assert world.processor.counts.open_traces == 2
    for root in roots:
        world.request(root)
        root.end()
    assert world.sink.names == ["router.chat gpt-4o", "root 0"]
    assert world.sink.said == [("limit", 1.0)]
    adds_up(world.processor, 6)


def test_too_many_bytes_make_the_longest_waiting_give_way():
    world = World(replace(NOTHING, bounds=SamplingBounds(bytes=50_000)))
    empty = world.start("waits for nothing")
    roots = [world.start(f"root {i}") for i in range(2)]
    for root in roots[::-1]:
        request = world.request(root, end=False, prompt="x" * 20_000, parts=("y" * 1000, "z"), raw=b"b" * 100)
        request.add_event("chunk", {"n": 1})
        request.end()
    counts = world.processor.counts
    assert 40_000 < counts.waiting_bytes < 50_000
    world.request(roots[0], prompt="x" * 10_000)
    assert world.sink.said == [("limit", 1.0)]
    assert world.sink.spans[0].parent == roots[1].get_span_context()
    assert world.processor.counts.waiting_bytes < 40_000
    for root in (*roots, empty):
        root.end()
    assert world.sink.names == ["router.chat gpt-4o", "root 1", "waits for nothing"]
    assert world.processor.counts.waiting_bytes == 0


def test_traces_that_are_open_too_long_are_kept_when_the_next_span_comes():
    world = World(replace(NOTHING, bounds=SamplingBounds(seconds=10.0)))
    old = world.start("old")
    world.request(old)
    world.clock.now = 5.0
    young = world.start("young")
    world.request(young)
    world.clock.now = 10.0
    world.span()
    assert world.sink.names == ["span"]
    world.clock.now = 10.1
    world.span()
    assert world.sink.names == ["span", "router.chat gpt-4o", "span"]
    assert world.sink.said == [("limit", 1.0)]
    assert world.processor.counts.bounds_met["seconds"] == 1
    old.end()
    young.end()
    assert world.sink.names[-1] == "old"
    adds_up(world.processor, 6)


def test_a_span_sees_to_a_few_old_traces_and_a_flush_to_all():
    world = World(replace(NOTHING, bounds=SamplingBounds(seconds=10.0)))
    for _ in range(30):
        world.start()
    world.clock.now = 20.0
    world.start()
    assert world.processor.counts.open_traces == 23
    assert world.processor.force_flush()
    assert world.processor.counts.open_traces == 1
    assert world.processor.counts.bounds_met["seconds"] == 30


def test_what_is_remembered_is_bounded():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    world.request(remote(1 << 100), status=StatusCode.ERROR)
    for _ in range(10_000):
        world.request()
    world.request(remote(1 << 100))
    assert len(world.sink.spans) == 1
    assert len(world.processor._memory._reasons) == 10_000


# --- flush and shutdown ----------------------------------------------------------------------


def test_a_flush_decides_nothing_that_is_young_and_flushes_what_was_kept():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    root = world.start("root")
    world.request(root)
    assert world.provider.force_flush(1000)
    assert world.sink.spans == []
    assert world.sink.told[-1][0] == "flush"
    assert world.sink.told[-1][1] <= 1000
    root.set_status(StatusCode.ERROR)
    root.end()
    assert len(world.sink.spans) == 2


def test_a_shutdown_decides_all_that_is_open_on_what_there_is():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    roots = [world.start(f"root {i}") for i in range(3)]
    world.request(roots[0])
    world.request(roots[1], status=StatusCode.ERROR)
    world.provider.shutdown()
    assert world.sink.said == [("error", 1.0)]
    assert world.sink.told[-1] == "shutdown"
    world.processor.shutdown()
    assert world.sink.told.count("shutdown") == 1
    for root in roots:
        root.end()
    world.request()
    assert len(world.sink.spans) == 1
    counts = world.processor.counts
    assert (counts.after_shutdown, counts.dropped, counts.open_traces) == (4, 1, 0)
    adds_up(world.processor, 6)


def test_the_wrapped_processor_hears_of_starts_and_ends():
    world = World()
    span = world.start("root")
    context = trace.Context()
    world.processor.on_start(span, context)
    world.processor._on_ending(span)
    assert world.sink.told[-2:] == [("start", "root", context), ("ending", "root")]


class Lean:
    """A processor of somebody who has only what is needed."""

    def __init__(self) -> None:
        self.ended = 0

    def on_start(self, span, parent_context=None) -> None: ...

    def on_end(self, span) -> None:
        self.ended += 1


def test_a_wrapped_processor_need_not_know_of_endings():
    lean = Lean()
    processor = SamplingProcessor(lean, SamplingOptions(share=1.0))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    span = provider.get_tracer("x").start_span("x")
    processor._on_ending(span)
    span.end()
    assert (lean.ended, processor.faults) == (1, 0)


def test_spans_that_a_head_sampler_records_only_are_left_to_the_wrapped_processor():
    class RecordOnly(Sampler):
        def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self):
            return "record only"

    world = World(NOTHING, sampler=RecordOnly())
    world.request()
    assert len(world.sink.spans) == 1
    assert world.processor.counts.forwarded == 0
    world.processor.on_end(ReadableSpan("without a context"))
    assert world.sink.names[-1] == "without a context"


# --- faithful copies -------------------------------------------------------------------------


def test_a_request_is_told_again_in_full():
    sink, exporter = Sink(), Sink()
    provider = TracerProvider(
        resource=Resource({"service.name": "s"}),
        span_limits=SpanLimits(max_span_attributes=4, max_events=1, max_links=1),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SamplingProcessor(sink, SamplingOptions(share=1.0)))
    provider.add_span_processor(exporter)
    other = SpanContext(1, 2, is_remote=True, trace_flags=SAMPLED)
    logging.disable()
    span = provider.get_tracer("scope", "1.2").start_span(
        "router.chat gpt-4o",
        trace.set_span_in_context(remote(1 << 100)),
        SpanKind.INTERNAL,
        {"a": 1, "b": (1.5, 2.5), "traced_router.operation": "chat", "c": True, "d": "x"},
        [Link(other, {"l": 1}), Link(other, {"l": 2})],
        start_time=5,
    )
    span.add_event("first", {"e": 1}, 6)
    span.add_event("second", {"e": 2}, 7)
    span.set_status(Status(StatusCode.ERROR, "why"))
    span.end(8)
    logging.disable(logging.NOTSET)
    (told,), (original,) = sink.spans, exporter.spans
    assert isinstance(told, ReadableSpan)
    assert told is not original
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # instrumentation_info
        for name in (name for name, value in vars(ReadableSpan).items() if isinstance(value, property)):
            was, is_now = getattr(original, name), getattr(told, name)
            if name == "attributes":
                assert dict(is_now) == {**was, REASON: "error", WEIGHT: 1.0}
            elif name == "status":
                assert (is_now.status_code, is_now.description) == (was.status_code, was.description)
            else:
                assert is_now == was, name
    assert told.get_span_context() is original.get_span_context()
    assert (told.dropped_attributes, told.dropped_events, told.dropped_links) == (1, 1, 1)
    assert told.to_json() != original.to_json()
    assert set(vars(told)) == set(vars(original))


# --- processors of the SDK -------------------------------------------------------------------


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_it_stands_before_the_sdks_processors(processor):
    exporter = InMemorySpanExporter()
    world = World()
    sampling = SamplingProcessor(processor(exporter), replace(NOTHING, keep=replace(OFF, errors=True)))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sampling)
    world.tracer = provider.get_tracer("test")
    world.request()
    world.request(status=StatusCode.ERROR)
    assert provider.force_flush()
    assert [dict(s.attributes)[REASON] for s in exporter.get_finished_spans()] == ["error"]
    open_one = world.start("open")
    world.request(open_one, status=StatusCode.ERROR)
    provider.shutdown()
    assert len(exporter.get_finished_spans()) == 2


# --- faults ----------------------------------------------------------------------------------


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError("start")

    def _on_ending(self, span):
        raise RuntimeError("ending")

    def on_end(self, span):
        raise RuntimeError("end")

    def shutdown(self):
        raise RuntimeError("shutdown")

    def force_flush(self, timeout_millis=30000):
        raise RuntimeError("flush")


def test_a_broken_processor_harms_nobody(caplog):
    processor = SamplingProcessor(Broken(), SamplingOptions(share=1.0))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    span = provider.get_tracer("x").start_span("x")
    processor._on_ending(span)
    before = processor.faults
    span.end()
    assert provider.force_flush() is False
    provider.shutdown()
    assert processor.faults >= before + 3
    assert processor.counts.faults == processor.faults
    assert [r.getMessage() for r in caplog.records] == [
        "tracing failed in sampling with RuntimeError; the call goes on, and further faults there are only counted"
    ]


class Unreadable(ReadableSpan):
    @property
    def attributes(self):
        raise RuntimeError("attributes")


def test_a_span_that_cannot_be_read_goes_through_and_its_trace_still_ends():
    world = World(NOTHING)
    root = world.start("root")
    world.request(root)
    world.processor.on_end(Unreadable("root", root.get_span_context()))
    assert world.sink.names == ["root"]
    counts = world.processor.counts
    assert (counts.dropped, counts.open_traces, counts.faults) == (1, 0, 1)
    world.processor.on_end(Unreadable("alone", SpanContext(5, 5, is_remote=False, trace_flags=SAMPLED)))
    assert world.sink.names == ["root", "alone"]


def test_a_fault_of_ours_loses_nothing(monkeypatch):
    world = World(NOTHING)
    monkeypatch.setattr(Judge, "reason", lambda *_: 1 / 0)
    world.request()
    assert world.sink.said == [(None, None)]
    assert (world.processor.counts.forwarded, world.processor.faults) == (1, 1)


def test_a_span_that_cannot_be_told_again_goes_through_as_it_is(monkeypatch):
    monkeypatch.setattr("traced_router.sampling.retold", lambda *_: 1 / 0)
    world = World(SamplingOptions(share=1.0))
    world.request()
    assert world.sink.said == [(None, None)]
    sink = Sink()
    hints = KeepHintProcessor(sink)
    world.provider.add_span_processor(hints)
    world.request(status=StatusCode.ERROR)
    assert sink.said == [(None, None)]


# --- threads, the collector, forks -----------------------------------------------------------


def test_threads_share_traces_and_nothing_is_lost():
    world = World(SamplingOptions(share=0.5, keep=replace(OFF, errors=True), bounds=SamplingBounds(traces=20)))
    roots = [world.start(f"root {i}") for i in range(8)]
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        gate.wait()
        for step in range(100):
            shared = roots[(number + step) % len(roots)]
            world.request(shared, name=f"router.chat {number}", status=StatusCode.ERROR if step == 50 else None)
            root = world.start("own")
            world.request(root, sort="own")
            root.end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for root in roots:
        root.end()
    adds_up(world.processor, 8 * 100 * 3 + 8)
    counts = world.processor.counts
    assert (counts.waiting, counts.open_traces, counts.waiting_bytes, counts.faults) == (0, 0, 0, 0)
    assert counts.forwarded == len(world.sink.spans)
    shared = [s for s in world.sink.spans if s.name.startswith("router.chat ") and "sort" not in s.attributes]
    assert len(shared) == 8 * 100
    assert {s.attributes[WEIGHT] for s in shared} == {1.0}


def test_a_span_that_the_collector_ends_inside_a_step_waits_in_line(monkeypatch):
    """A dropped stream's spans end at any line; here at one that holds the lock."""
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    reason = Judge.reason
    inner = world.request(end=False, status=StatusCode.ERROR)

    inside = []

    def collecting(judge, facts):
        assert inside == []
        inside.append(facts)
        if inner.is_recording():
            inner.end()
        return reason(judge, inside.pop())

    monkeypatch.setattr(Judge, "reason", collecting)
    world.request()
    assert not inner.is_recording()
    assert world.sink.said == [("error", 1.0)]
    assert world.processor.counts.dropped == 1


def test_a_child_process_begins_anew():
    world = World(replace(NOTHING, keep=replace(OFF, errors=True)))
    hints = KeepHintProcessor(Sink())
    root = world.start("root")
    world.request(root)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with world.processor._lock:
            holds.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(30)
    pid = _fork_without_warning()
    if pid == 0:
        code = 1
        try:
            ok = world.processor.counts == replace(World().processor.counts)
            root.end()
            world.request(status=StatusCode.ERROR)
            ok = ok and world.sink.said == [("error", 1.0)] and hints.faults == 0
            code = 0 if ok else 2
        finally:
            os._exit(code)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert world.processor.counts.waiting == 1


def _fork_without_warning() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: there are threads, which is the point
        return os.fork()


def test_begins_anew_after_a_fork_without_one():
    world = World(NOTHING)
    root = world.start("root")
    world.request(root)
    world.processor._inside = True  # another thread was, and is not there any more
    world.processor._line.append(lambda _: world.request(name="the parent's"))
    world.processor.after_fork()
    assert world.processor.counts == World(NOTHING).processor.counts
    world.request()
    assert world.processor.counts.dropped == 1
    hints = KeepHintProcessor(Sink())
    judge = hints._judge
    hints.after_fork()
    assert hints._judge is not judge


def test_a_processor_that_is_gone_hears_of_no_fork(monkeypatch):
    registered = []
    monkeypatch.setattr(os, "register_at_fork", lambda *, after_in_child: registered.append(after_in_child))
    processor = SamplingProcessor(Sink())
    lock = processor._lock
    registered[0]()
    assert processor._lock is not lock
    del processor
    gc.collect()
    registered[0]()


def test_systems_that_do_not_fork(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    world = World(SamplingOptions(share=1.0))
    world.request()
    assert world.sink.said == [("share", 1.0)]


# --- hints for a collector -------------------------------------------------------------------


class Hinted(World):
    def __init__(self, rules: KeepRules | None = None) -> None:
        super().__init__()
        self.hints = KeepHintProcessor(self.sink, rules)
        self.provider = TracerProvider(id_generator=SeededIds(1), shutdown_on_exit=False)
        self.provider.add_span_processor(self.hints)
        self.tracer = self.provider.get_tracer("test")

    @property
    def hinted(self) -> list[tuple[object, object, object]]:
        requests = filter(is_request, self.sink.spans)
        return [tuple(span.attributes.get(key) for key in (KEEP, REASON, WEIGHT)) for span in requests]


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (failed, "error"),
        (fell_back, "fallback"),
        (retried, "retry"),
        (cooled_down, "cooldown"),
        (slow, "slow"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_hints_drop_nothing_and_mark_what_a_rule_holds_for(happens, reason):
    world = Hinted(ALL_RULES)
    happens(world)
    world.request()
    assert world.hinted == [(True, reason, None), (None, None, None)]
    without = Hinted(replace(ALL_RULES, **SWITCHED_OFF[reason]))
    happens(without)
    assert len(without.sink.spans) == len(world.sink.spans) - 1
    assert without.hinted == [(None, None, None)]


def test_a_hint_is_given_for_wasted_cost_and_at_once():
    world = Hinted(ALL_RULES)
    root = world.start("root")
    world.request(root, traced_router__cost__wasted=0.06)
    assert world.hinted == [(True, "wasted_cost", None)]
    assert world.hints.force_flush(5)
    world.hints.shutdown()
    assert world.sink.told[-2:] == [("flush", 5), "shutdown"]
    root.end()
    assert world.sink.names[-1] == "root"


def test_hints_leave_what_they_cannot_read():
    sink = Sink()
    hints = KeepHintProcessor(sink)
    hints.on_end(ReadableSpan("without a context"))
    hints.on_end(Unreadable("unreadable", SpanContext(5, 5, is_remote=False)))
    assert sink.names == ["without a context", "unreadable"]
    assert hints.faults == 1


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SamplingOptions(share=1.5), "share=1.5: give a share of the traces, 0 to 1; 0.01 is 1 %."),
        (lambda: SamplingOptions(share=-0.1), "share=-0.1: give a share of the traces, 0 to 1; 0.01 is 1 %."),
        (lambda: SamplingOptions(head_ratio=0), "head_ratio=0: give the head sampler's ratio, up to 1."),
        (lambda: SamplingOptions(others="drop"), "others='drop': give 'pass' or 'sample'."),
        (lambda: SamplingBounds(spans=0), "spans=0: give a number, at least 1."),
        (lambda: SamplingBounds(seconds=-1), "seconds=-1: give a number, at least 0."),
        (lambda: SamplingBounds(then="drop"), "then='drop': give 'keep' or 'decide'."),
        (lambda: KeepRules(slow_seconds=0), "slow_seconds=0: give seconds, more than 0, or None."),
        (lambda: KeepRules(slow_quantile=0.9999), "slow_quantile=0.9999: give a share from 0.5 to 0.999, or None."),
        (lambda: KeepRules(wasted_cost=-1), "wasted_cost=-1: give USD, at least 0, or None."),
    ],
)
def test_options_that_cannot_be_used_are_refused(make, message):
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert str(refused.value) == message


# --- what a setting says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (None, None),
        (SamplingOptions(share=0.5), SamplingOptions(share=0.5)),
        (0.25, SamplingOptions(share=0.25)),
        (
            {"share": 0.5, "keep": {"slow_seconds": 3.0}, "bounds": {"spans": 10}, "others": "sample"},
            SamplingOptions(
                share=0.5, keep=KeepRules(slow_seconds=3.0), bounds=SamplingBounds(spans=10), others="sample"
            ),
        ),
    ],
)
def test_options_come_from_a_setting(given, options):
    assert options_of(given) == options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shares": 1}, "sampling={'shares': 1}: .*unexpected keyword.*Give a share"),
        ({"keep": {"slow": 1}}, "unexpected keyword"),
        ({"keep": 1, "share": "much"}, "Give a share of the traces"),
        ("much", "sampling='much'"),
        (2, "share=2: give a share"),
    ],
)
def test_a_setting_that_says_something_else_is_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        options_of(given)
