"""Sampling behind a real router: which calls' traces come through whole, and what their requests say."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from traced_router.sampling import KeepHintProcessor, KeepRules, SamplingOptions, SamplingProcessor
from traced_router.testing import check_trace
from traced_router.testing._provider_behaviours import Answer, RateLimited, ServerError
from traced_router.testing._recorder import Node, forest

MESSAGES = [{"role": "user", "content": "hi"}]
REASON = "traced_router.sampling.reason"
WEIGHT = "traced_router.sampling.weight"
KEEP = "traced_router.sampling.keep"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def sampled(recorder, exporter) -> Iterator[SamplingProcessor]:
    """No share at all: what comes through is what a rule keeps."""
    options = SamplingOptions(share=0.0, keep=KeepRules(slow_quantile=None))
    processor = SamplingProcessor(SimpleSpanProcessor(exporter), options)
    recorder.provider.add_span_processor(processor)
    yield processor
    counts = processor.counts
    assert counts.forwarded + counts.dropped == len(recorder.spans())
    assert (counts.waiting, counts.open_traces, counts.faults) == (0, 0, 0)
    for node in trees(exporter):
        assert [str(v) for v in check_trace([node])] == []


def remote(trace_id: int) -> trace.Span:
    """A caller in another process, which has sampled its trace."""
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.NonRecordingSpan(trace.SpanContext(trace_id, 7, is_remote=True, trace_flags=sampled))


def trees(exporter: InMemorySpanExporter) -> tuple[Node, ...]:
    return forest(exporter.get_finished_spans())


def requests(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [s for s in exporter.get_finished_spans() if s.name.startswith("router.chat")]


async def test_calls_that_went_wrong_come_through_whole(router, provider, recorder, exporter, sampled, waits):
    made = router(
        provider.deployment("a"),
        provider.deployment("b", group="other"),
        num_retries=1,
        fallbacks=[{"gpt-4o": ["other"]}],
        disable_cooldowns=True,
    )
    await made.acompletion("gpt-4o", MESSAGES)
    provider.script("a", [RateLimited(), Answer()])
    await made.acompletion("gpt-4o", MESSAGES)
    provider.script("a", [ServerError(), ServerError()])
    await made.acompletion("gpt-4o", MESSAGES)
    provider.script("a", [ServerError(), ServerError()])
    provider.script("b", [ServerError(), ServerError()])
    with pytest.raises(Exception, match="InternalServerError"):
        await made.acompletion("gpt-4o", MESSAGES)

    assert [(n.attributes[REASON], n.attributes[WEIGHT]) for n in trees(exporter)] == [
        ("retry", 1.0),
        ("fallback", 1.0),
        ("error", 1.0),
    ]
    kept = {n.trace_id for n in trees(exporter)}
    whole = [t for t in recorder.trees() if t.trace_id in kept]
    assert [[n.name for n in t.walk()] for t in trees(exporter)] == [[n.name for n in t.walk()] for t in whole]
    assert sampled.counts.kept_requests["retry"] == 1
    assert sampled.counts.dropped_requests == 1


async def test_a_cooldown_keeps_a_call_that_was_served_after_all(router, provider, recorder, exporter, waits):
    """The rules that would keep it too are off."""
    rules = KeepRules(errors=False, retries=False, slow_quantile=None)
    processor = SamplingProcessor(SimpleSpanProcessor(exporter), SamplingOptions(share=0.0, keep=rules))
    recorder.provider.add_span_processor(processor)
    provider.script("a", [RateLimited()])
    pair = [provider.deployment("a", weight=1), provider.deployment("b", weight=0)]
    made = router(*pair, num_retries=1, cooldown_time=60)
    for _ in range(2):
        await made.acompletion("gpt-4o", MESSAGES)
    (request,) = requests(exporter)
    assert request.attributes["traced_router.outcome"] == "ok_after_retry"
    assert (request.attributes[REASON], request.attributes[WEIGHT]) == ("cooldown", 1.0)


async def test_a_trace_with_several_requests_is_kept_for_one_of_them(router, provider, recorder, exporter, sampled):
    made = router(provider.deployment("a"), provider.deployment("b", group="other"))
    provider.script("b", [ServerError()])
    tracer = recorder.provider.get_tracer("caller")
    with tracer.start_as_current_span("GET /chat"):
        answers = await asyncio.gather(
            made.acompletion("gpt-4o", MESSAGES),
            made.acompletion("other", MESSAGES),
            made.acompletion("gpt-4o", MESSAGES),
            return_exceptions=True,
        )
        assert exporter.get_finished_spans() == ()
    assert sum(isinstance(answer, Exception) for answer in answers) == 1
    with tracer.start_as_current_span("GET /chat"):
        await made.acompletion("gpt-4o", MESSAGES)
    (tree,) = trees(exporter)
    assert tree.name == "GET /chat"
    assert [(c.attributes[REASON], c.attributes[WEIGHT]) for c in tree.children] == [("error", 1.0)] * 3


async def test_a_stream_that_is_dropped_ends_its_trace(router, provider, recorder, exporter, sampled):
    made = router(provider.deployment("a"))
    stream = await made.acompletion("gpt-4o", MESSAGES, stream=True)
    async for _ in stream:
        break
    assert sampled.counts.open_traces == 1
    await stream.aclose()
    del stream
    assert sampled.counts.open_traces == 0
    assert sampled.counts.dropped_requests == 1


async def test_what_is_kept_by_share_stands_for_the_rest(router, provider, recorder, exporter):
    options = SamplingOptions(share=0.25, keep=KeepRules(slow_quantile=None))
    recorder.provider.add_span_processor(SamplingProcessor(SimpleSpanProcessor(exporter), options))
    made = router(provider.deployment("a"))
    ids = [(1 << 100) + (quarter << 62) for quarter in range(4)]
    for trace_id in ids:
        with trace.use_span(remote(trace_id)):
            await made.acompletion("gpt-4o", MESSAGES)
    (request,) = requests(exporter)
    assert (request.context.trace_id, request.attributes[REASON], request.attributes[WEIGHT]) == (ids[0], "share", 4.0)
    assert sum(s.attributes[WEIGHT] for s in requests(exporter)) == len(ids)
    assert len(exporter.get_finished_spans()) == 3


async def test_a_mirror_is_kept_when_its_original_is(router, provider, recorder, exporter):
    options = SamplingOptions(share=0.25, keep=KeepRules(slow_quantile=None))
    processor = SamplingProcessor(SimpleSpanProcessor(exporter), options)
    recorder.provider.add_span_processor(processor)
    made = router(
        provider.deployment("dep-a", group="a", silent_model="shadow"), provider.deployment("dep-b", group="shadow")
    )
    for trace_id in (1 << 100, (1 << 100) + (1 << 63)):
        gate = provider.gate()
        provider.script("dep-b", [Answer(hold_before=gate)])
        with trace.use_span(remote(trace_id)):
            await made.acompletion("a", MESSAGES)
        await gate.reached()
        assert processor.counts.open_traces == 1
        gate.open()
        async with asyncio.timeout(5):
            while processor.counts.open_traces:
                await asyncio.sleep(0.001)
    call, mirror = requests(exporter)
    assert (call.name, mirror.name) == ("router.chat a", "router.chat shadow")
    assert mirror.links[0].context == call.context
    assert [(s.attributes[REASON], s.attributes[WEIGHT]) for s in (call, mirror)] == [("share", 4.0)] * 2
    assert processor.counts.dropped_requests == 2


async def test_hints_for_a_collector(router, provider, recorder, exporter, waits):
    recorder.provider.add_span_processor(KeepHintProcessor(SimpleSpanProcessor(exporter)))
    made = router(provider.deployment("a"), num_retries=1, disable_cooldowns=True)
    await made.acompletion("gpt-4o", MESSAGES)
    provider.script("a", [RateLimited(), Answer()])
    await made.acompletion("gpt-4o", MESSAGES)
    assert [(s.attributes.get(KEEP), s.attributes.get(REASON)) for s in requests(exporter)] == [
        (None, None),
        (True, "retry"),
    ]
    assert len(exporter.get_finished_spans()) == len(recorder.spans())
    assert [str(v) for v in check_trace(exporter.get_finished_spans())] == []
