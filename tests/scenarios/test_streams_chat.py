"""A chat stream, async and sync, and every way out of it: the whole tree, and what the caller holds."""

import asyncio
import contextlib
import gc
import threading
import weakref

import httpx
import litellm
import pytest
from opentelemetry import trace

from traced_router.testing import absent, assert_tree, of_type, span
from traced_router.testing._provider_behaviours import Answer, ErrorEventMidStream, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]
FOUR = Answer(chunks=("a", "b", "c", "d"), input_tokens=1000, output_tokens=100)
"""Four chunks of text; a reader gets a fifth, with the finish reason."""


@pytest.fixture
def no_collector():
    """What ends without it ends with its last reference."""
    gc.disable()
    yield
    gc.enable()


def attempt(**attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status=attributes.pop("status", "UNSET"),
        attributes={"litellm.deployment.id": "dep-a", "litellm.deployment.reason": "initial", **attributes},
    )


def stream_tree(outcome, ending, chunks, *attempts, status="UNSET", **attributes):
    return span(
        "router.chat gpt-4o",
        kind="INTERNAL",
        status=status,
        attributes={
            "traced_router.outcome": outcome,
            "traced_router.streaming": True,
            "traced_router.stream.outcome": ending,
            "traced_router.stream.chunks": chunks,
            "traced_router.time_to_first_chunk": of_type(float) if chunks else absent,
            **attributes,
        },
        children=[span("router.select gpt-4o"), *(attempts or (attempt(),))],
    )


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


# --- read to the end --------------------------------------------------------------------------


async def test_read_to_the_end(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    assert recorder.tree().end_ns is None
    chunks = [chunk async for chunk in stream]

    assert text(chunks) == "abcd"
    assert_tree(
        recorder,
        stream_tree(
            "ok",
            "exhausted",
            len(chunks),
            attempt(
                **{
                    "gen_ai.response.time_to_first_chunk": of_type(float),
                    "gen_ai.response.id": of_type(str),
                    "gen_ai.response.finish_reasons": ("stop",),
                }
            ),
            **{"traced_router.served.deployment_id": "dep-a"},
        ),
    )
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_read_to_the_end_in_sync(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    chunks = list(stream)

    assert text(chunks) == "abcd"
    seen = attempt(**{"gen_ai.response.time_to_first_chunk": of_type(float)})
    assert_tree(recorder, stream_tree("ok", "exhausted", len(chunks), seen))
    with pytest.raises(StopIteration):
        next(stream)


async def test_the_children_end_before_the_request(provider, router, recorder):
    provider.default("dep-a", FOUR)
    async for _ in await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True):
        pass
    assert [s.name for s in recorder.spans()] == [
        "router.select gpt-4o",
        "chat gpt-4o-2024-08-06",
        "router.chat gpt-4o",
    ]


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
async def test_usage_and_cost_when_the_caller_asks_for_them(provider, router, recorder, asynchronous):
    provider.default("dep-a", FOUR)
    built, asked = router(provider.deployment("dep-a")), {"stream": True, "stream_options": {"include_usage": True}}
    if asynchronous:
        chunks = await _read(await built.acompletion("gpt-4o", MESSAGES, **asked))
    else:
        chunks = list(built.completion("gpt-4o", MESSAGES, **asked))

    (node,) = recorder.tree().find("chat gpt-4o-2024-08-06")
    assert node.attributes["gen_ai.usage.input_tokens"] == 1000
    assert node.attributes["gen_ai.usage.output_tokens"] == 100
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    cost = litellm.completion_cost(built, model="gpt-4o-2024-08-06", custom_llm_provider="openai")
    assert node.attributes["traced_router.attempt.cost"] == pytest.approx(cost)
    assert recorder.tree().attributes["traced_router.cost.total"] == pytest.approx(cost)


async def test_nobody_is_asked_for_usage_that_the_caller_did_not_ask_for(provider, router, recorder):
    """The provider gets the caller's request, and what litellm estimates is not taken for a count."""
    provider.default("dep-a", FOUR)
    await _read(await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True))
    (received,) = provider.requests
    assert "stream_options" not in received.body
    (node,) = recorder.tree().find("chat gpt-4o-2024-08-06")
    assert not [key for key in node.attributes if key.startswith("gen_ai.usage.")]


async def test_a_first_chunk_without_content_does_not_count_as_content(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("", "a"), hold_after_chunk=(1, gate)))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    reading = asyncio.ensure_future(_read(stream))
    await gate.reached()
    gate.open()
    chunks = await reading
    assert text(chunks) == "a"
    node = recorder.tree().find("chat gpt-4o-2024-08-06")[0]
    assert node.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_no_content_means_no_time_to_content(provider, router, recorder):
    provider.default("dep-a", Answer(text="", chunks=()))
    chunks = await _read(await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True))
    assert text(chunks) == ""
    node = recorder.tree().find("chat gpt-4o-2024-08-06")[0]
    assert "gen_ai.response.time_to_first_chunk" not in node.attributes


async def _read(stream):
    return [chunk async for chunk in stream]


# --- what the caller holds is what a plain router gives --------------------------------------------


async def test_the_object_is_the_plain_routers(provider, router):
    provider.default("dep-a", FOUR)
    deployment = provider.deployment("dep-a")
    plain = await litellm.Router(model_list=[deployment], num_retries=0).acompletion("gpt-4o", MESSAGES, stream=True)
    traced = await router(deployment).acompletion("gpt-4o", MESSAGES, stream=True)

    assert isinstance(traced, litellm.CustomStreamWrapper)
    assert (type(traced).__module__, type(traced).__qualname__) == (type(plain).__module__, type(plain).__qualname__)
    for name in ("aclose", "close", "chunks", "completion_stream", "_hidden_params", "_async_generator", "model"):
        assert hasattr(traced, name) == hasattr(plain, name), name
    assert traced._hidden_params["model_id"] == plain._hidden_params["model_id"] == "dep-a"
    theirs, ours = await _read(plain), await _read(traced)
    assert [type(c) for c in ours] == [type(c) for c in theirs]
    assert [c.choices[0].delta.content for c in ours] == [c.choices[0].delta.content for c in theirs]
    assert len(traced.chunks) == len(plain.chunks)
    assert type(traced.completion_stream) is not type(plain.completion_stream)
    assert isinstance(traced.completion_stream, type(plain.completion_stream))


async def test_a_sync_stream_can_be_read_asynchronously_where_litellm_can(provider, router, recorder):
    """Its class has ``__anext__``, which looks at what the generator inside can do."""
    provider.default("dep-a", FOUR)
    plain = litellm.Router(model_list=[provider.deployment("dep-a")], num_retries=0)
    theirs = await _read(plain.completion("gpt-4o", MESSAGES, stream=True))
    ours = await _read(router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True))
    assert text(ours) == text(theirs)
    assert_tree(recorder, stream_tree("ok", "exhausted", of_type(int)))


# --- left early ----------------------------------------------------------------------------------


async def test_broken_off_and_dropped(provider, router, recorder, no_collector):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    async for chunk in stream:
        assert chunk.choices[0].delta.content == "a"
        break
    assert recorder.tree().end_ns is None
    gone = weakref.ref(stream)
    del stream

    assert gone() is None
    assert_tree(recorder, stream_tree("abandoned", "abandoned", 1))
    await asyncio.sleep(0)


def test_broken_off_and_dropped_in_sync(provider, router, recorder, no_collector):
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    for _ in stream:
        break
    gone = weakref.ref(stream)
    del stream

    assert gone() is None
    assert_tree(recorder, stream_tree("abandoned", "abandoned", 1))


async def test_never_read_and_dropped(provider, router, recorder, no_collector):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    assert recorder.tree().end_ns is None
    del stream
    assert_tree(recorder, stream_tree("abandoned", "abandoned", 0))


def test_never_read_and_dropped_in_sync(provider, router, recorder, no_collector):
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    del stream
    assert_tree(recorder, stream_tree("abandoned", "abandoned", 0))


@pytest.mark.parametrize("read", [0, 2])
async def test_closed(provider, router, recorder, read):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    for _ in range(read):
        await anext(stream)
    await stream.aclose()

    assert_tree(recorder, stream_tree("abandoned", "closed", read))
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_closed_after_the_end(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    await _read(stream)
    await stream.aclose()
    assert_tree(recorder, stream_tree("ok", "exhausted", 5))


def test_the_generator_inside_closed_in_sync(provider, router, recorder):
    """litellm's own sync wrapper has no ``close`` up to 1.106; the generator inside has."""
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    next(stream)
    (stream.close if hasattr(stream, "close") else stream.completion_stream.close)()
    assert_tree(recorder, stream_tree("abandoned", "closed", 1))
    with pytest.raises(StopIteration):
        next(stream)


async def test_an_exception_in_the_reader(provider, router, recorder, no_collector):
    provider.default("dep-a", FOUR)

    async def read():
        async for _ in await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True):
            raise KeyError("the reader's own")

    with contextlib.suppress(KeyError):
        await read()
    assert_tree(recorder, stream_tree("abandoned", "abandoned", 1))


async def test_a_pending_pull_is_cancelled(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await gate.reached()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open()

    assert_tree(
        recorder,
        stream_tree("cancelled", "cancelled", 1, attempt(**{"traced_router.error.category": "cancelled"})),
    )


def test_the_reading_coroutine_is_destroyed_where_it_stands(provider, router, recorder):
    """As when a loop is closed under it: nobody cancels it, and it is closed in another context."""
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    built = router(provider.deployment("dep-a"))
    loop = asyncio.new_event_loop()

    async def read():
        await _read(await built.acompletion("gpt-4o", MESSAGES, stream=True))

    async def start():
        reading = asyncio.ensure_future(read())
        await gate.reached()
        return reading

    reading = loop.run_until_complete(start())
    reading._log_destroy_pending = False
    with contextlib.suppress(RuntimeError):  # litellm awaits the closing of its own stream
        reading.get_coro().close()
    loop.close()
    gate.open()

    assert_tree(recorder, stream_tree("abandoned", "abandoned", 1))


# --- what is current ------------------------------------------------------------------------------


@pytest.fixture
def while_reading(monkeypatch):
    """The span that is current each time bytes come out of an HTTP response."""
    spans = []
    aiter_raw, iter_raw = httpx.Response.aiter_raw, httpx.Response.iter_raw

    async def aiter_recorded(self, chunk_size=None):
        async for raw in aiter_raw(self, chunk_size):
            spans.append(trace.get_current_span())
            yield raw

    def iter_recorded(self, chunk_size=None):
        for raw in iter_raw(self, chunk_size):
            spans.append(trace.get_current_span())
            yield raw

    monkeypatch.setattr(httpx.Response, "aiter_raw", aiter_recorded)
    monkeypatch.setattr(httpx.Response, "iter_raw", iter_recorded)
    return spans


def gated(provider, pieces):
    """One behaviour whose chunks cannot come in one read: each waits until the reader has the one before."""
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=pieces, hold_after_chunk=(1, gate)))
    return gate


async def test_the_attempt_is_current_in_each_pull_and_nothing_between(provider, router, recorder, while_reading):
    gate = gated(provider, ("a", "b"))
    mine = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(mine):
        stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
        assert trace.get_current_span() is mine
        await anext(stream)
        assert trace.get_current_span() is mine
        gate.open()
        async for _ in stream:
            assert trace.get_current_span() is mine
        assert trace.get_current_span() is mine
    node = recorder.trees()[0].find("chat gpt-4o-2024-08-06")[0]
    assert len(while_reading) > 1
    assert {s.get_span_context().span_id for s in while_reading} == {node.span_id}


def test_the_attempt_is_current_in_each_pull_in_sync(provider, router, recorder, while_reading):
    gate = gated(provider, ("a", "b"))
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    next(stream)
    assert trace.get_current_span() is trace.INVALID_SPAN
    gate.open()
    for _ in stream:
        assert trace.get_current_span() is trace.INVALID_SPAN
    node = recorder.tree().find("chat gpt-4o-2024-08-06")[0]
    assert len(while_reading) > 1
    assert {s.get_span_context().span_id for s in while_reading} == {node.span_id}


# --- read elsewhere -------------------------------------------------------------------------------


async def test_half_here_and_half_in_another_task(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    first = await anext(stream)
    rest = await asyncio.create_task(_read(stream))
    assert text([first, *rest]) == "abcd"
    assert_tree(recorder, stream_tree("ok", "exhausted", 5))


def test_half_here_and_half_in_another_thread(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    chunks = [next(stream)]
    reader = threading.Thread(target=lambda: chunks.extend(stream))
    reader.start()
    reader.join()
    assert text(chunks) == "abcd"
    assert_tree(recorder, stream_tree("ok", "exhausted", 5))


async def test_a_sync_stream_is_read_inside_a_running_loop(provider, router, recorder):
    provider.default("dep-a", FOUR)
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True)
    assert text(list(stream)) == "abcd"
    assert_tree(recorder, stream_tree("ok", "exhausted", 5))


async def test_two_readers_at_once_break_nothing_of_ours(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    reading = asyncio.ensure_future(_read(stream))
    await gate.reached()
    with pytest.raises(RuntimeError, match="already running"):
        await anext(stream)
    gate.open()
    assert text(await reading) == "b"
    assert recorder.ended_twice() == []


# --- it fails -------------------------------------------------------------------------------------


async def test_an_error_event_after_content(provider, router, recorder):
    provider.default("dep-a", ErrorEventMidStream(1, ServerError(500, "boom"), Answer(chunks=("a", "b"))))
    deployment = provider.deployment("dep-a")
    plain = litellm.Router(model_list=[deployment], num_retries=0)
    theirs = await _failure(await plain.acompletion("gpt-4o", MESSAGES, stream=True))
    ours = await _failure(await router(deployment).acompletion("gpt-4o", MESSAGES, stream=True))

    assert (type(ours), str(ours)) == (type(theirs), str(theirs))
    tree = recorder.tree()
    assert (tree.status, tree.attributes["traced_router.outcome"]) == ("ERROR", "error")
    assert tree.attributes["error.type"] == type(ours).__name__
    assert tree.attributes["traced_router.stream.outcome"] == "error"
    assert "traced_router.served.deployment_id" not in tree.attributes
    (node,) = tree.find("chat gpt-4o-2024-08-06")
    assert node.status == "ERROR"


async def _failure(stream):
    with pytest.raises(Exception) as raised:  # whatever a plain router raises
        await _read(stream)
    return raised.value
