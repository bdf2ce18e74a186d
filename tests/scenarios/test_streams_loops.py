"""Streams that are made in one event loop or thread, and read in another: as with plain Router."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import litellm
import pytest

from traced_router.testing import assert_tree, of_type, span

ASKED = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "mock_response": "an answer in chunks",  # a socket belongs to its loop, whoever reads
}


@contextlib.contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs elsewhere."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def tree(**attributes):
    return span(
        "router.chat gpt-4o",
        status="UNSET",
        attributes={
            "traced_router.stream.outcome": "exhausted",
            "traced_router.outcome": "ok",
            "traced_router.attempts": 1,
            "traced_router.time_to_first_chunk": of_type(float),
            **attributes,
        },
        children=[span("router.select gpt-4o"), span("chat gpt-4o-2024-08-06", kind="CLIENT", status="UNSET")],
    )


async def texts_of(stream):
    return [chunk.choices[0].delta.content or "" async for chunk in stream]


@pytest.fixture
def both(provider, router):
    """A plain router and a traced one."""
    plain = litellm.Router(model_list=[provider.deployment("dep-a")], num_retries=0)
    yield plain, router(provider.deployment("dep-a"))
    plain.discard() if not hasattr(plain, "retire") else plain.retire()


def test_made_in_a_loop_that_is_gone(both, recorder):
    async def make(router):
        return await router.acompletion(**ASKED)

    read = []
    for router in both:
        stream = asyncio.run(make(router))
        read.append(asyncio.run(texts_of(stream)))

    assert read[0] == read[1]
    assert_tree(recorder, tree(**{"traced_router.stream.chunks": len(read[1])}))


def test_made_in_a_loop_that_runs_elsewhere(both, recorder):
    async def make(router):
        return await router.acompletion(**ASKED)

    read = []
    with loop_in_a_thread() as elsewhere:
        for router in both:
            stream = asyncio.run_coroutine_threadsafe(make(router), elsewhere).result()
            read.append(asyncio.run(texts_of(stream)))

    assert read[0] == read[1]
    assert_tree(recorder, tree(**{"traced_router.stream.chunks": len(read[1])}))


def test_made_in_a_caller_s_span_that_is_over(both, recorder):
    """The stream's request began in it, and ends when the stream does."""
    tracer = recorder.provider.get_tracer("caller")

    async def make(router):
        with tracer.start_as_current_span("caller"):
            return await router.acompletion(**ASKED)

    with loop_in_a_thread() as elsewhere:
        stream = asyncio.run_coroutine_threadsafe(make(both[1]), elsewhere).result()
        asyncio.run(texts_of(stream))

    (caller,) = recorder.trees()
    assert caller.name == "caller"
    assert_tree(caller.children[0], tree())


def test_a_synchronous_stream_is_read_by_another_thread(both, recorder):
    read = []
    for router in both:
        stream = router.completion(**ASKED)
        reader = threading.Thread(target=lambda s=stream: read.append([c.choices[0].delta.content for c in s]))
        reader.start()
        reader.join()
        del stream, reader

    assert read[0] == read[1]
    assert_tree(recorder, tree(**{"traced_router.stream.chunks": len(read[1])}))


async def test_readers_take_turns(both, recorder):
    """Each chunk is pulled by a task of its own."""
    stream = await both[1].acompletion(**ASKED)
    read = 0
    with contextlib.suppress(StopAsyncIteration):
        while await asyncio.create_task(anext(stream)):
            read += 1

    assert_tree(recorder, tree(**{"traced_router.stream.chunks": read}))
