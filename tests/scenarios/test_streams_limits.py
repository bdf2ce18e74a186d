"""What a stream holds while it runs, and for how long: slots, time, memory, races between streams."""

import asyncio
import gc
import threading
import weakref

import litellm
import pytest
from litellm.types.router import RouterErrors

from traced_router._timeline import Timeline
from traced_router._tree import Tree
from traced_router.testing import assert_tree, span
from traced_router.testing._provider_behaviours import Answer

MESSAGES = [{"role": "user", "content": "hi"}]
SECOND = 1_000_000_000


async def read(stream):
    return [chunk async for chunk in stream]


# --- the deployment's slot -------------------------------------------------------------------------


async def slot_free(router, steps):
    """Whether a deployment with one slot takes a further call, while a stream runs and after each of ``steps``."""
    stream = await router.acompletion("gpt-4o", MESSAGES, stream=True)
    free = [await _takes(router)]
    for step in steps:
        stream = await step(stream)
        free.append(await _takes(router))
    return free


async def _takes(router):
    try:
        await router.acompletion("gpt-4o", MESSAGES)
    except litellm.RateLimitError:
        return False
    return True


async def _one(stream):
    await anext(stream)
    return stream


async def _close(stream):
    await stream.aclose()
    return stream


async def _rest(stream):
    await read(stream)
    return stream


@pytest.mark.parametrize("steps", [(_one, _rest), (_one, _close)], ids=["read", "closed"])
async def test_a_slot_is_free_when_a_plain_router_frees_it(provider, router, recorder, steps):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    deployment = provider.deployment("dep-a", max_parallel_requests=1)
    plain = litellm.Router(model_list=[deployment], num_retries=0, disable_cooldowns=True)
    theirs = await slot_free(plain, steps)
    ours = await slot_free(router(deployment, disable_cooldowns=True), steps)
    assert ours == theirs
    assert ours[-1]


async def test_a_slot_is_free_when_its_stream_is_dropped(provider, router, recorder):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    built = router(provider.deployment("dep-a", max_parallel_requests=1), disable_cooldowns=True)
    stream = await built.acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    del stream
    async with asyncio.timeout(10):
        # The event loop closes the generator when it gets round to it.
        while not await _takes(built):
            await asyncio.sleep(0)


# --- time -----------------------------------------------------------------------------------------


class Clock:
    """Nanoseconds that pass only when a test says so."""

    def __init__(self):
        self.now = 1_700_000_000 * SECOND

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    timeline = lambda: Timeline(made, lambda: (made.now, made.now))  # noqa: E731
    monkeypatch.setitem(Tree.__init__.__kwdefaults__, "timeline", timeline)
    return made


def times(tree):
    parts = ("select", "provider", "backoff", "consumer", "overhead")
    return {part: round(tree.attributes[f"traced_router.time.{part}"], 6) for part in parts}


async def test_a_dawdling_reader_pays_for_its_own_time(provider, router, recorder, clock):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    clock.pass_(1)
    count = 0
    async for _ in stream:
        count += 1
        clock.pass_(10)
    tree = recorder.tree()
    assert times(tree) == {"select": 0, "provider": 0, "backoff": 0, "consumer": 1 + 10 * count, "overhead": 0}
    assert tree.seconds == 1 + 10 * count


async def test_the_providers_time_is_the_providers(provider, router, recorder, clock):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await gate.reached()
    clock.pass_(5)
    gate.open()
    await reading
    clock.pass_(2)
    await read(stream)
    tree = recorder.tree()
    assert times(tree) == {"select": 0, "provider": 5, "backoff": 0, "consumer": 2, "overhead": 0}
    (node,) = tree.find("chat gpt-4o-2024-08-06")
    assert node.seconds == 7


@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
async def test_the_time_before_a_reader_leaves_is_its_own(provider, router, recorder, clock, close):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    stream = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    clock.pass_(9)
    if close:
        await stream.aclose()
    del stream
    assert times(recorder.tree()) == {"select": 0, "provider": 0, "backoff": 0, "consumer": 9, "overhead": 0}


# --- memory and threads ---------------------------------------------------------------------------


async def test_nothing_of_a_stream_stays(provider, router, recorder):
    """No thread, no task, no stream and no chunk outlives a stream that was read and let go."""
    provider.default("dep-a", Answer(chunks=("a", "b")))
    built = router(provider.deployment("dep-a"))
    await read(await built.acompletion("gpt-4o", MESSAGES, stream=True))  # litellm's own first-call threads
    threads, tasks = set(threading.enumerate()), len(asyncio.all_tasks())
    stream = await built.acompletion("gpt-4o", MESSAGES, stream=True)
    inner, gone = weakref.ref(stream.completion_stream), weakref.ref(stream)
    await read(stream)
    gc.collect()
    gc.disable()
    try:
        del stream
        assert gone() is None
        assert inner() is None
    finally:
        gc.enable()
    mine = [t for t in set(threading.enumerate()) - threads if "traced" in (t.name or "")]
    assert mine == []
    assert len(asyncio.all_tasks()) <= tasks + 1  # litellm logs a stream in a task of its own


# --- races ----------------------------------------------------------------------------------------


async def test_the_fastest_of_two_streams(provider, router, recorder):
    """The slower one is cancelled before it has its stream."""
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b")))
    provider.default("dep-b", Answer(chunks=("x",), hold_before=gate))
    built = router(provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b"))
    stream = await built.abatch_completion_fastest_response(model="a,b", messages=MESSAGES, stream=True)
    chunks = await read(stream)
    gate.open()
    await asyncio.sleep(0)

    def member(group, outcome):
        return span(
            f"router.chat {group}",
            attributes={"traced_router.outcome": outcome},
            children=[span(f"router.select {group}"), span("chat gpt-4o-2024-08-06")],
        )

    assert len(chunks) == 3
    assert_tree(
        recorder,
        span(
            "router.batch a,b",
            attributes={"traced_router.batch.size": 2},
            children=[member("a", "ok"), member("b", "cancelled")],
        ),
    )


async def test_streams_read_at_once_do_not_mix(provider, router, recorder):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    built = router(provider.deployment("dep-a"))

    async def one(number):
        stream = await built.acompletion("gpt-4o", MESSAGES, stream=True, litellm_trace_id=f"t-{number}")
        return len(await read(stream))

    assert await asyncio.gather(*(one(n) for n in range(8))) == [3] * 8
    for tree in recorder.trees():
        (node,) = tree.find("chat gpt-4o-2024-08-06")
        assert node.attributes["litellm_trace_id"] == tree.attributes["litellm_trace_id"]
    assert len({tree.attributes["litellm_trace_id"] for tree in recorder.trees()}) == 8


# --- streams that no wrapper of the router's surrounds ------------------------------------------------


async def test_a_prompt_management_model_streams_as_it_comes(provider, router, recorder, monkeypatch):
    """litellm hands its raw ``CustomStreamWrapper`` out: it keeps its class's name, and is one."""
    provider.default("dep-a", Answer(chunks=("a", "b")))
    raw = await litellm.acompletion(
        "openai/gpt-4o-2024-08-06", MESSAGES, stream=True, api_base=provider.api_base("dep-a"), api_key="sk-fake"
    )
    built = router(provider.deployment("dep-a"))

    async def answers(*_args, **_kwargs):
        return raw

    monkeypatch.setattr(litellm, "aadapter_completion", answers)
    stream = await built.aadapter_completion(adapter_id="any", model="gpt-4o", messages=MESSAGES, stream=True)
    assert stream is raw
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert type(stream).__name__ == "CustomStreamWrapper"
    chunks = await read(stream)
    tree = recorder.tree()
    assert tree.name == "router.adapter_completion gpt-4o"
    assert tree.attributes["traced_router.stream.outcome"] == "exhausted"
    assert tree.attributes["traced_router.stream.chunks"] == len(chunks)


@pytest.mark.skipif(
    not hasattr(RouterErrors, "max_parallel_requests_exceeded"), reason="litellm of this age waits for a slot"
)
async def test_a_call_that_gets_no_slot_makes_no_attempt(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    built = router(provider.deployment("dep-a", max_parallel_requests=1), disable_cooldowns=True)
    first = asyncio.ensure_future(built.acompletion("gpt-4o", MESSAGES))
    await gate.reached()
    with pytest.raises(litellm.RateLimitError):
        await built.acompletion("gpt-4o", MESSAGES, user="second")
    gate.open()
    await first

    _, refused = recorder.trees()
    assert_tree(
        refused,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={"traced_router.attempts": 0, "error.type": "RateLimitError"},
            children=[span("router.select gpt-4o", status="UNSET", attributes={"litellm.deployment.id": "dep-a"})],
        ),
    )
    assert provider.hits() == 1
