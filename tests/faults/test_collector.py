"""The garbage collector, which can come in the midst of anything: whoever holds a lock there is not called again.

Each place runs code of somebody else's that takes a lock as a rule: a strategy, a redactor, a span processor. The
collector is called there, and finds a stream, or a coroutine, whose request ends with it.
"""

import asyncio
import contextlib
import contextvars
import gc
import importlib.metadata
import threading

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from opentelemetry.sdk.trace import SpanProcessor

from traced_router.strategy import Decision
from traced_router.testing import Answer

MESSAGES = [{"role": "user", "content": "hi"}]


class Place(SpanProcessor):
    """Strategy, redactor and span processor in one: a lock is held in each, and the collector comes in one of them."""

    name = "place"

    def __init__(self, where):
        self._where, self._owner = where, None
        self.reentered, self.collects = [], False
        self.held = 0

    @contextlib.contextmanager
    def _locked(self, where):
        me = threading.get_ident()
        if self._owner == me:
            self.reentered.append(where)
        owner, self._owner = self._owner, me
        if self.collects and where == self._where:
            self.collects = False
            gc.collect()
        yield
        self._owner = owner

    def pick(self, _request, candidates):
        with self._locked("pick"):
            return Decision(candidates[0].id, "external")

    def started(self, _ticket):
        with self._locked("started"):
            self.held += 1

    def first_chunk(self, _ticket):
        with self._locked("first chunk"):
            pass

    def finished(self, _ticket, _outcome):
        with self._locked("finished"):
            self.held -= 1

    def redact(self, messages):
        with self._locked("redactor"):
            return messages

    def on_start(self, span, parent_context=None):
        with self._locked("span start"):
            pass

    def on_end(self, span):
        with self._locked("span end"):
            pass


async def a_stream(router):
    return await router.acompletion("a", MESSAGES, stream=True)


async def a_stream_half_read(router):
    stream = await a_stream(router)
    await anext(stream)
    return stream


async def a_synchronous_stream(router):
    return await asyncio.to_thread(router.completion, "a", MESSAGES, stream=True)


async def a_responses_stream(router):
    return await router.aresponses(model="a", input="hi", stream=True)


async def a_generator(router):
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    stream = await asyncio.to_thread(router.generate_content_stream, model="g", contents=contents)
    next(stream)
    return stream


async def forever(*_args, **_kwargs):
    await asyncio.get_running_loop().create_future()


async def a_coroutine(router):
    coroutine = router.acompletion("a", MESSAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm, "acompletion", forever)
        contextvars.copy_context().run(coroutine.send, None)  # as a task of its own does
    return coroutine


async def a_coroutine_that_has_picked(router):
    coroutine = router.acompletion("a", MESSAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CustomLogger, "async_pre_call_check", forever)
        patch.setattr(litellm, "callbacks", [CustomLogger()])
        contextvars.copy_context().run(coroutine.send, None)  # as a task of its own does
    return coroutine


goes_on = pytest.mark.skipif(
    [int(part) for part in importlib.metadata.version("litellm").split(".")[:2]] >= [1, 109],
    reason="litellm goes on in a coroutine that is destroyed, in the context of whatever call runs there",
)
THROWN_AWAY = [
    a_stream,
    a_stream_half_read,
    a_synchronous_stream,
    a_responses_stream,
    a_generator,
    pytest.param(a_coroutine, marks=goes_on),
    pytest.param(a_coroutine_that_has_picked, marks=goes_on),
]


@pytest.mark.usefixtures("no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # litellm's own, made and not begun
@pytest.mark.parametrize("thing", THROWN_AWAY)
@pytest.mark.parametrize("where", ["pick", "started", "first chunk", "finished", "redactor", "span start", "span end"])
async def test_the_collector_comes_in_the_midst_of(world, where, thing):
    place = Place(where)
    world.recorder.provider.add_span_processor(place)
    for deployment in ("dep-a", "dep-g"):
        world.provider.default(deployment, Answer("one two three"))
    router = world.traced(
        world.provider.deployment("dep-a", group="a"),
        world.provider.deployment("dep-g", group="g", model="gemini/gemini-2.0-flash"),
        routing_strategy=place,
        settings={"capture_content": "SPAN_ONLY"},
        redactor=place.redact,
    )
    await router.acompletion("a", MESSAGES)
    gc.disable()
    try:
        held = [await thing(router)]
        held.append(held)
        held = None
        place.collects = True
        async for _ in await router.acompletion("a", MESSAGES, stream=True):
            pass
    finally:
        gc.enable()
    for thread in threading.enumerate():
        if thread.name == "traced_router":
            thread.join()

    assert not place.collects
    assert place.reentered == []
    assert place.held == 0
    outcomes = sorted(tree.attributes["traced_router.outcome"] for tree in world.recorder.trees())
    assert outcomes == ["abandoned", "ok", "ok"]
