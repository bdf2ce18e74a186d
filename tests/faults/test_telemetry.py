"""Exporters, collectors, providers, samplers and clocks that fail under a call: its caller sees nothing of it."""

import contextlib
import http.server
import random
import socket
import threading
import time

import litellm
import pytest
import traced_router_strategies
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from traced_router._timeline import Timeline
from traced_router.testing import Answer, Recorder, ServerError, check_trace

MESSAGES = [{"role": "user", "content": "hi"}]


def deployments(provider):
    return [provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b")]


ARGUMENTS = {"num_retries": 1, "retry_after": 0, "fallbacks": [{"a": ["b"]}], "disable_cooldowns": True}


async def seen_by_callers(router, provider):
    """A good answer, a retry, a fallback, a stream, and an error."""
    seen = []
    for script in ([], [ServerError()], [ServerError()] * 2):
        provider.script("dep-a", script)
        seen.append((await router.acompletion("a", MESSAGES)).choices[0].message.content)
    stream = await router.acompletion("a", MESSAGES, stream=True)
    seen.append([chunk.choices[0].delta.content async for chunk in stream])
    provider.script("dep-b", [ServerError()] * 2)
    with pytest.raises(Exception) as raised:
        await router.acompletion("b", MESSAGES)
    seen.append(type(raised.value))
    return seen, provider.hits()


async def as_plain(world):
    provider, outcomes = world.provider, []
    for make in (world.plain, world.traced):
        provider.clear()
        provider.default("dep-a", Answer("one two"))
        outcomes.append(await seen_by_callers(make(*deployments(provider), **ARGUMENTS), provider))
    assert outcomes[0] == outcomes[1]
    if not world.breaks_trees:
        assert world.attempts() == provider.hits()


# --- exporters ---------------------------------------------------------------------------------


class Exporter(SpanExporter):
    """Fails in one of the ways in which exporters fail."""

    def __init__(self, way):
        self._way = way
        self.names = []
        self.goes_on = threading.Event()

    def export(self, spans):
        if self._way == "raises":
            raise RuntimeError
        if self._way == "fails":
            return SpanExportResult.FAILURE
        self.goes_on.wait(0.01 if self._way == "is slow" else None)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self):
        self.goes_on.set()


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("way", ["raises", "fails", "is slow", "hangs"])
async def test_an_exporter_that(world, way):
    """Behind a queue of two spans, which is full at once."""
    world.exporter_complains = True
    exporter = Exporter(way)
    processor = BatchSpanProcessor(exporter, max_queue_size=2, max_export_batch_size=1)
    world.recorder.provider.add_span_processor(processor)
    await as_plain(world)
    exporter.goes_on.set()
    processor.shutdown()


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("way", ["raises", "fails", "is slow"])
async def test_in_the_caller_s_thread_an_exporter_that(world, way):
    world.exporter_complains = True
    world.recorder.provider.add_span_processor(SimpleSpanProcessor(Exporter(way)))
    await as_plain(world)


@pytest.mark.usefixtures("soon", "no_task_left")
async def test_an_exporter_that_is_back_after_a_minute(world, stubbed):
    """Which is ten calls a second of three spans: the SDK's queue of 2,048 holds them, and none is lost."""

    async def provider(**_kwargs):
        return litellm.ModelResponse()

    stubbed(provider)
    exporter = Exporter("hangs")
    processor = BatchSpanProcessor(exporter, max_queue_size=2048)
    world.recorder.provider.add_span_processor(processor)
    router = world.traced(*deployments(world.provider))
    for _ in range(600):
        await router.acompletion("a", MESSAGES)
    exporter.goes_on.set()
    processor.force_flush()
    processor.shutdown()

    assert len(exporter.names) == len(world.recorder.spans()) == 3 * 600


class Collector(http.server.BaseHTTPRequestHandler):
    """Counts what it gets."""

    def do_POST(self):  # the handler's protocol
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        spans = [span for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]
        self.server.got.extend(span.name for span in spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args): ...


@contextlib.contextmanager
def collector(port):
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Collector) as server:
        server.got = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("soon", "no_task_left")
async def test_a_collector_that_is_back_after_a_while(world):
    """What the exporter gave up meanwhile is lost, and it says so; what comes later arrives."""
    exporters = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    world.exporter_complains = True
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    exporter = exporters.OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", timeout=0.05)
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000)
    world.recorder.provider.add_span_processor(processor)
    router = world.traced(*deployments(world.provider))
    await router.acompletion("a", MESSAGES)
    processor.force_flush()
    with collector(port) as running:
        exporter._timeout = 10
        await router.acompletion("b", MESSAGES)
        processor.force_flush()

        assert sorted(running.got) == ["chat gpt-4o-2024-08-06", "router.chat b", "router.select b"]
    processor.shutdown()


# --- processors, samplers, providers -----------------------------------------------------------


class Faulty(SpanProcessor, Sampler):
    """Raises at some of the things that it is asked, counted from 1."""

    def __init__(self, lost, raises_at):
        self.asked, self._lost, self._raises_at = 0, lost, raises_at

    def _maybe(self):
        self.asked += 1
        if self._raises_at(self.asked):
            raise RuntimeError

    def on_start(self, span, parent_context=None):
        self._lost.append(span)
        self._maybe()
        self._lost.pop()

    def on_end(self, span):
        self._maybe()

    def should_sample(self, *args, **kwargs):
        self._maybe()
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self):
        return "faulty"


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("way", ["processor", "sampler"])
async def test_telemetry_that_fails_now_and_then(world, way):
    world.breaks_tracing = world.breaks_trees = True
    flaky = Faulty(world.lost, lambda asked: asked % 3 == 0)
    if way == "processor":
        world.recorder.provider.add_span_processor(flaky)
    else:
        world.recorder = Recorder(flaky)
    await as_plain(world)


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("way", ["processor", "sampler"])
async def test_telemetry_that_fails_once(world, way):
    """At each thing that a call with a retry and a fallback asks of it, and its stream, in turn."""
    world.breaks_tracing = world.breaks_trees = True
    world.provider.default("dep-a", Answer("one two"))
    k, flaky = 0, None
    while flaky is None or flaky.asked >= k:
        k += 1
        flaky = Faulty(world.lost, k.__eq__)
        world.recorder = Recorder(flaky) if way == "sampler" else Recorder()
        if way == "processor":
            world.recorder.provider.add_span_processor(flaky)
        router = world.traced(*deployments(world.provider), **ARGUMENTS)
        world.provider.script("dep-a", [ServerError()] * 2)
        assert (await router.acompletion("a", MESSAGES)).choices[0].message.content == "hello"
        stream = await router.acompletion("a", MESSAGES, stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["one ", "two", None]
        stream = None
        world.figures["steps of telemetry that failed once"] += 1
        world.check()

    assert k > 9


@pytest.mark.usefixtures("no_task_left")
@pytest.mark.parametrize("of", ["spans", "measurements"])
async def test_a_provider_that_is_shut_down_in_the_midst_of_a_stream(world, of):
    world.provider.default("dep-a", Answer("one two three"))
    router = world.traced(*deployments(world.provider))
    stream = await router.acompletion("a", MESSAGES, stream=True)
    words = [(await anext(stream)).choices[0].delta.content]
    (world.recorder.provider if of == "spans" else world.recorder.meter_provider).shutdown()
    words += [chunk.choices[0].delta.content async for chunk in stream]

    assert words == ["one ", "two ", "three", None]


# --- clocks ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon", "no_task_left")
async def test_a_wall_clock_that_jumps(world, monkeypatch):
    """By hours, forward and back, at every look."""
    rng, real = random.Random(5), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + rng.randint(-(10**13), 10**13))
    await as_plain(world)

    for spans in world.recorder.traces():
        assert check_trace(spans) == []


@pytest.mark.usefixtures("soon", "no_task_left")
async def test_a_clock_that_stands_still_and_leaps(world):
    """As a virtual machine's does that is moved; no part of a request is less than nothing."""
    rng, now = random.Random(6), 10**18

    def clock():
        nonlocal now
        now += rng.choice([0, 0, 1, 10**12])
        return now

    router = world.traced(*deployments(world.provider), **ARGUMENTS)
    tracing = router.__dict__.get("_core", router).__dict__["_traced_router"]
    tracing.tree._timeline = lambda: Timeline(clock, lambda: (clock(), now))
    await seen_by_callers(router, world.provider)


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("strategy", traced_router_strategies.__all__)
async def test_a_strategy_s_clock_that_stands_still_and_leaps(world, strategy):
    """By hours; who is picked may be anybody, and what callers see stays."""
    rng, now = random.Random(7), 0.0

    def clock():
        nonlocal now
        now += rng.choice([0.0, 0.0, 1e-9, 3600.0])
        return now

    made = getattr(traced_router_strategies, strategy)(clock=clock, rng=rng)
    router = world.traced(*deployments(world.provider), routing_strategy=made, resilience=True, **ARGUMENTS)
    world.provider.default("dep-a", Answer("one two"))
    await seen_by_callers(router, world.provider)
