"""Many calls, loops and routers at once; streams left in every state; deployments that change under open streams."""

import asyncio
import contextlib
import gc
import random
import threading
import weakref

import litellm
import pytest

from traced_router import TracedRouter
from traced_router.testing import Answer, DieMidStream, ErrorEventMidStream, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


def deployments(provider):
    return [provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b")]


ARGUMENTS = {"num_retries": 1, "retry_after": 0, "fallbacks": [{"a": ["b"]}], "disable_cooldowns": True}


# --- a thousand calls --------------------------------------------------------------------------


class Chaos:
    """A provider whose mood depends on the call alone: its number, and how often it was asked."""

    def __init__(self, seed=0):
        self._seed = seed
        self.asked = {}

    async def __call__(self, **kwargs):
        number = kwargs["seed"]
        self.asked[number] = self.asked.get(number, 0) + 1
        rng = random.Random(f"{self._seed} {number} {self.asked[number]}")
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        mood = rng.random()
        if mood < 0.2:
            raise litellm.InternalServerError("m", "openai", "gpt-4o")
        if mood < 0.25:
            raise litellm.RateLimitError("m", "openai", "gpt-4o")
        if mood < 0.3:
            raise litellm.BadRequestError("m", "gpt-4o", "openai")
        return litellm.ModelResponse(id=f"{number}-{self.asked[number]}")


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_thousand_calls_at_once(world, stubbed, seed):
    """Every tenth is cancelled after a few turns of the loop."""

    async def one(router, number):
        task = asyncio.ensure_future(router.acompletion("a", MESSAGES, seed=number))
        if number % 10 == 0:
            for _ in range(1 + number // 10 % 12):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            return "cancelled"
        error = task.exception()
        return type(error) if error else task.result().id

    seen = []
    for make in (world.plain, world.traced):
        chaos = Chaos(seed)
        stubbed(chaos)
        router = make(*deployments(world.provider), **ARGUMENTS)
        seen.append(await asyncio.gather(*(one(router, number) for number in range(1000))))
    plain, traced = seen

    kept = [number for number in range(1000) if number % 10]
    assert [traced[number] for number in kept] == [plain[number] for number in kept]
    assert sum(outcome == "cancelled" for outcome in traced) > 10
    trees = world.recorder.trees()
    assert len(trees) == 1000
    outcomes = {tree.attributes["traced_router.outcome"] for tree in trees}
    assert outcomes == {"ok", "ok_after_retry", "ok_after_fallback", "error", "cancelled"}
    assert world.attempts() == sum(chaos.asked.values())


@pytest.mark.usefixtures("soon")
def test_ten_event_loops(world, stubbed):
    """Of one router, each in a thread of its own."""
    seen = []
    for make in (world.plain, world.traced):
        stubbed(Chaos())
        router, outcomes = make(*deployments(world.provider), **ARGUMENTS), {}

        async def calls(first, router=router, outcomes=outcomes):
            made = (router.acompletion("a", MESSAGES, seed=first + n) for n in range(20))
            ends = await asyncio.gather(*made, return_exceptions=True)
            outcomes[first] = [type(end) if isinstance(end, Exception) else end.id for end in ends]

        threads = [threading.Thread(target=asyncio.run, args=(calls(1000 * n),)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(outcomes)
    plain, traced = seen

    assert traced == plain
    assert len(world.recorder.trees()) == 200


# --- routers -----------------------------------------------------------------------------------


def test_routers_made_and_dropped(world):
    """Ours leave no more behind than plain ones do, and nothing of ours at all."""
    models = deployments(world.provider)

    def left_by(make, count):
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(count):
            router = make(models)
            (router.retire if hasattr(router, "retire") else router.discard)()
            del router
        gc.collect()
        return (len(gc.get_objects()) - before) / count

    tracings = []

    def traced(models):
        router = TracedRouter(model_list=models, routing_strategy="least-in-flight", resilience=True)
        tracings.append(weakref.ref(router.__dict__.get("_core", router).__dict__["_traced_router"]))
        return router

    for make in (litellm.Router, traced):
        left_by(lambda models, make=make: make(model_list=models) if make is litellm.Router else make(models), 5)
    tracings.clear()
    plain = left_by(lambda models: litellm.Router(model_list=models), 100)
    ours = left_by(traced, 100)

    assert ours < plain + 5
    assert len([one for one in tracings if one() is not None]) <= 1


# --- streams -----------------------------------------------------------------------------------


async def unread(stream):
    del stream


async def begun(stream):
    aiter(stream)


async def read_once(stream):
    await anext(stream)


async def closed_at_once(stream):
    await stream.aclose()


async def closed_twice(stream):
    await anext(stream)
    await stream.aclose()
    await stream.aclose()


async def read_after_close(stream):
    await stream.aclose()
    async for _ in stream:
        pass


async def read_after_the_end(stream):
    async for _ in stream:
        pass
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def cancelled_in_a_pull(stream):
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def cancelled_and_read_on(stream):
    await cancelled_in_a_pull(stream)
    with contextlib.suppress(Exception):  # the chunk had come in time, or not
        async for _ in stream:
            pass


LEAVE = [
    unread,
    begun,
    read_once,
    closed_at_once,
    closed_twice,
    read_after_close,
    read_after_the_end,
    cancelled_in_a_pull,
    cancelled_and_read_on,
]
STATES = {
    "fresh": [],
    "after a retry": [ServerError()],
    "after a fallback": [ServerError(), ServerError()],
    "that dies": [DieMidStream(1)],
    "that recovers": [DieMidStream(0)] * 2,
    "with an error event": [ErrorEventMidStream(1)],
}


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # litellm's own, made and not begun
@pytest.mark.parametrize("state", STATES)
async def test_a_stream_left(world, state):
    """In every way, in this state; plain Router beside it."""
    seen = []
    world.provider.default("dep-a", Answer("one two three"))
    for router in (make(*deployments(world.provider), **ARGUMENTS) for make in (world.plain, world.traced)):
        ends = {}
        for leave in LEAVE:
            world.provider.script("dep-a", STATES[state])
            try:
                stream = await router.acompletion("a", MESSAGES, stream=True)
                ends[leave.__name__] = await leave(stream)
            except Exception as error:
                ends[leave.__name__] = type(error)
            stream = None
            gc.collect(1)
            world.figures["streams left"] += 1
        seen.append(ends)
    plain, traced = seen

    assert traced == plain
    assert len(world.recorder.trees()) == len(LEAVE)


@pytest.mark.usefixtures("no_task_left")
@pytest.mark.filterwarnings("ignore:Router\\..* is deprecated:DeprecationWarning")  # 1.109 has another way
@pytest.mark.parametrize("change", ["deleted", "replaced", "all others", "strategy", "retired"])
async def test_deployments_that_change_under_an_open_stream(world, change):
    world.provider.default("dep-a", Answer("one two three"))
    router = world.traced(*deployments(world.provider))
    stream = await router.acompletion("a", MESSAGES, stream=True)
    words = [(await anext(stream)).choices[0].delta.content]
    if change == "deleted":
        router.delete_deployment("dep-a")
    elif change == "replaced":
        router.upsert_deployment(litellm.types.router.Deployment(**world.provider.deployment("dep-a", group="c")))
    elif change == "all others":
        router.set_model_list([world.provider.deployment("dep-c", group="a")])
    elif change == "strategy":
        router.update_settings(routing_strategy="least-in-flight")
    else:
        (router.retire if hasattr(router, "retire") else router.discard)()
    words += [chunk.choices[0].delta.content async for chunk in stream]

    assert words == ["one ", "two ", "three", None]
    (tree,) = world.recorder.trees()
    assert tree.attributes["traced_router.outcome"] == "ok"
    assert tree.attributes["traced_router.served.deployment_id"] == "dep-a"


# --- Redis -------------------------------------------------------------------------------------


async def test_a_redis_that_comes_and_goes(world, server):
    """Calls, and their cooldowns and usage, go on without it, and so does what strategies tell each other."""
    world.breaks_tracing = True  # the router says that Redis does not answer
    router = world.traced(
        *deployments(world.provider),
        routing_strategy="least-expected-completion",
        redis_host="127.0.0.1",
        redis_port=server.port,
        num_retries=1,
    )
    for _ in range(3):
        await router.acompletion("a", MESSAGES)
        server.stop()
        await router.acompletion("a", MESSAGES)
        server.start()

    assert [tree.attributes["traced_router.outcome"] for tree in world.recorder.trees()] == ["ok"] * 6
