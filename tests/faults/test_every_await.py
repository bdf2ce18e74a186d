"""A call that is cancelled, or destroyed, at each of its suspension points in turn.

The call is driven through a coroutine that counts what is awaited. At the k-th suspension its task is cancelled, or the
coroutine is closed, for every k until the call gets through; so no await is left out, and none is hit by chance. What
runs in tasks of its own, as a batch's members do, is hit at every turn of the loop instead.

Each destroyed call has an event loop of its own, which ends with it: that is when coroutines are destroyed. A loop that
goes on would hang, with plain Router too. asyncio takes a socket that is being connected out of its selector when the
wait is cancelled, not when it is destroyed, and the next connection gets the number of a file that nobody watches.
"""

import asyncio
import functools
import gc
from collections.abc import Coroutine
from typing import Any

import litellm
import pytest
import tenacity

from traced_router import Deadline, HedgePolicy, RetryPolicy
from traced_router.testing import Answer, DieMidStream, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]
MOST = 200
"""Suspension points that a call may have."""


class DestroyedError(Exception):
    """The coroutine was closed where it stood."""


class StopAt(Coroutine[Any, Any, Any]):
    """``inner``, stopped at its ``k``-th suspension: cancelled, or closed."""

    def __init__(self, inner: Any, k: int, *, close: bool) -> None:
        self._inner, self._k, self._close = inner, k, close
        self.suspensions = 0

    def send(self, value: Any) -> Any:
        return self._suspended(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self._inner.throw(*error))

    def _suspended(self, waited_for: Any) -> Any:
        self.suspensions += 1
        if self.suspensions == self._k:
            if self._close:
                self._inner.close()
                raise DestroyedError
            task = asyncio.current_task()
            assert task is not None
            task.cancel()  # before it waits: it is cancelled as soon as it does
        return waited_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        raise NotImplementedError  # a task drives it


async def stopped_at(inner: Any, k: int, *, close: bool = False) -> tuple[str, int]:
    """How the call ended, and how often it was suspended until then."""
    driven = StopAt(inner, k, close=close)
    task = asyncio.get_running_loop().create_task(driven)
    await asyncio.wait([task])
    how = "CancelledError" if task.cancelled() else type(task.exception()).__name__
    return how, driven.suspensions


def stopping_dead(main: Coroutine[Any, Any, tuple[str, int]]) -> tuple[str, int]:
    """Run it, and end the loop with whatever is in it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


async def answer(router: Any) -> None:
    await router.acompletion("a", MESSAGES)


async def embed(router: Any) -> None:
    await router.aembedding("e", ["hi"])


async def read(router: Any) -> None:
    async for _ in await router.acompletion("a", MESSAGES, stream=True):
        pass


async def read_responses(router: Any) -> None:
    async for _ in await router.aresponses(model="a", input="hi", stream=True):
        pass


async def batch(router: Any) -> None:
    await router.abatch_completion(models=["a", "b"], messages=MESSAGES)


async def fastest(router: Any) -> None:
    await router.abatch_completion_fastest_response(model="a,b", messages=MESSAGES)


async def queued(router: Any) -> None:
    await router.acompletion("a", MESSAGES, priority=1)


async def answer_text(router: Any) -> None:
    await router.atext_completion(model="a", prompt="hi")


async def read_messages(router: Any) -> None:
    async for _ in await router.aanthropic_messages(model="a", messages=MESSAGES, max_tokens=9, stream=True):
        pass


async def members(router: Any) -> None:
    await router.abatch_completion_one_model_multiple_requests("a", [MESSAGES, MESSAGES])


def by(call: Any, **wishes: Any) -> Any:
    """``call`` of a router whose calls get these arguments, too."""

    class Asking:
        def __init__(self, router: Any) -> None:
            self._router = router

        def __getattr__(self, name: str) -> Any:
            return functools.partial(getattr(self._router, name), **wishes)

    return lambda router: call(Asking(router))


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


POLICY = RetryPolicy(attempts=2, sleep=at_once)
TENACITY = tenacity.AsyncRetrying(
    stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(litellm.APIError), sleep=at_once
)
DEADLINE = Deadline(total=600.0, first_chunk=500.0)

HEDGES = HedgePolicy(delay=0.0, per_second=1000.0)


async def hedged(router: Any) -> None:
    await router.acompletion("h", MESSAGES, hedging=HEDGES)


async def read_hedged(router: Any) -> None:
    async for _ in await router.acompletion("h", MESSAGES, stream=True, hedging=HEDGES):
        pass


CALLS = {
    "chat": (answer, []),
    "an embedding": (embed, []),
    "a retry": (answer, [ServerError()]),
    "a wait": (answer, [RateLimited(retry_after=1)]),
    "a fallback": (answer, [ServerError(), ServerError()]),
    "a stream": (read, []),
    "a stream after a retry": (read, [ServerError()]),
    "a stream that recovers": (read, [DieMidStream(0), DieMidStream(0)]),
    "a stream that dies": (read, [DieMidStream(1)]),
    "a responses stream": (read_responses, []),
    "a batch": (batch, []),
    "the fastest of two": (fastest, []),
    "the queue": (queued, []),
    "a text completion": (answer_text, [ServerError()]),
    "a messages stream": (read_messages, [ServerError()]),
    "a batch of many": (members, [ServerError()]),
    "a policy's retry": (by(answer, retrying=POLICY), [ServerError()]),
    "a policy's wait": (by(answer, retrying=POLICY), [RateLimited(retry_after=1)]),
    "a policy's fallback": (by(answer, retrying=POLICY), [ServerError()] * 2),
    "a policy of tenacity's": (by(answer, retrying=TENACITY), [ServerError()] * 2),
    "a policy's stream": (by(read, retrying=POLICY), [ServerError(), DieMidStream(0)]),
    "a deadline": (by(answer, deadline=DEADLINE), [ServerError()]),
    "a deadline's fallback": (by(answer, deadline=DEADLINE), [ServerError()] * 2),
    "a deadline's stream": (by(read, deadline=DEADLINE), [DieMidStream(0)] * 2),
    "a hedge": (hedged, []),
    "a hedged stream": (read_hedged, []),
    "a policy within a deadline": (by(answer, retrying=POLICY, deadline=DEADLINE), [RateLimited(retry_after=1)] * 2),
    "a hedge of one that fails": (by(answer, hedging=HEDGES), [ServerError()]),
    "a hedged embedding": (by(embed, hedging=HEDGES), []),
    "a hedged stream that recovers": (by(read, hedging=HEDGES), [DieMidStream(0)] * 2),
    "a hedged responses stream": (by(read_responses, hedging=HEDGES, store=False), []),
    "a hedged messages stream": (by(read_messages, hedging=HEDGES), []),
    "a hedged text completion": (by(answer_text, hedging=HEDGES), [ServerError()]),
    "a hedged policy within a deadline": (
        by(read, hedging=HEDGES, retrying=POLICY, deadline=DEADLINE),
        [ServerError()] * 2,
    ),
}
TOGETHER = {
    "a batch": batch,
    "a batch of many": members,
    "the fastest of two": fastest,
    "the queue": queued,
    "a hedge": hedged,
    "a policy's batch": by(batch, retrying=POLICY, deadline=DEADLINE),
}


def deployments(provider: Any, *, twice: bool = False) -> list[Any]:
    """One for each group; those that a hedge can go to ``twice``."""
    more = [
        provider.deployment("dep-a2", group="a"),
        provider.deployment("dep-e2", group="e", model="openai/text-embedding-3-small"),
    ]
    return [
        provider.deployment("dep-a", group="a"),
        provider.deployment("dep-b", group="b"),
        provider.deployment("dep-h", group="h"),
        provider.deployment("dep-i", group="h"),
        provider.deployment("dep-e", group="e", model="openai/text-embedding-3-small"),
        *(more if twice else []),
    ]


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # litellm's own, made and not begun
@pytest.mark.parametrize("name", CALLS)
async def test_cancelled(world, provider, name):
    call, script = CALLS[name]
    provider.default("dep-a", Answer("one two three"))
    models = deployments(provider, twice="hedge" in name)
    router = world.traced(*models, num_retries=1, fallbacks=[{"a": ["b"]}], disable_cooldowns=True)
    await router.acompletion("b", MESSAGES)  # the connections stand
    await asyncio.wait([asyncio.create_task(answer(router))])
    tasks = asyncio.all_tasks()
    for k in range(1, MOST):
        provider.script("dep-a", script)
        how, suspensions = await stopped_at(call(router), k)
        while left := asyncio.all_tasks() - tasks:  # what litellm leaves running: a batch's members, its logging
            await asyncio.wait(left)
        gc.collect(1)
        if suspensions < k:
            break
        world.figures["calls cancelled at an await"] += 1
        assert how == "CancelledError" or suspensions > k  # litellm may catch it, and go on; with plain Router, too
        world.check()
        world.recorder.clear()

    assert suspensions < k
    assert k > 1


@pytest.mark.usefixtures("soon")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # as above
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # litellm's streams
@pytest.mark.parametrize("name", CALLS)
def test_destroyed(world, provider, name):
    """And with it its loop. What runs in tasks of its own is cancelled then, as ``asyncio.run`` does."""
    call, script = CALLS[name]
    world.breaks_trees = name in TOGETHER  # a batch that is destroyed is over before its members begin
    provider.default("dep-a", Answer("one two three"))
    models = deployments(provider, twice="hedge" in name)
    router = world.traced(*models, num_retries=1, fallbacks=[{"a": ["b"]}], disable_cooldowns=True)
    for k in range(1, MOST):
        provider.script("dep-a", script)
        run = asyncio.run if name in TOGETHER else stopping_dead
        how, suspensions = run(stopped_at(call(router), k, close=True))
        litellm.in_memory_llm_clients_cache.flush_cache()  # its connections keep the tasks that wait for them
        gc.collect()
        if suspensions < k:
            break
        world.figures["calls destroyed at an await"] += 1
        assert how == "DestroyedError"
        world.check()
        world.recorder.clear()

    assert suspensions < k
    assert k > 1


async def suspends(**kwargs):
    """A provider that suspends a known number of times, and fails for the first deployment."""
    await asyncio.sleep(0)
    if kwargs["model_info"]["id"] == "dep-a":
        await asyncio.sleep(0)
        raise litellm.InternalServerError("m", "openai", "gpt-4o")
    return litellm.ModelResponse()


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("close", [False, True], ids=["cancelled", "destroyed"])
async def test_tracing_adds_no_suspension_point(world, stubbed, close):
    """Plain Router beside it, over a provider that suspends a known number of times."""
    stubbed(suspends)
    arguments = {"num_retries": 2, "fallbacks": [{"a": ["b"]}], "disable_cooldowns": True}
    models = deployments(world.provider)
    seen = []
    for router in (world.plain(*models, **arguments), world.traced(*models, **arguments)):
        ends: list[Any] = []
        for k in range(1, MOST):
            ends.append(await stopped_at(answer(router), k, close=close))
            if ends[-1][1] < k:
                break
        seen.append(ends)
    plain, traced = seen

    assert traced == plain
    assert len(traced) > 6


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("name", TOGETHER)
async def test_cancelled_at_every_turn_of_the_loop(world, stubbed, name):
    stubbed(suspends)
    router = world.traced(*deployments(world.provider), num_retries=1, fallbacks=[{"a": ["b"]}], disable_cooldowns=True)
    ends: list[str] = []
    while ends.count("NoneType") < 2 and len(ends) < MOST:
        task = asyncio.ensure_future(TOGETHER[name](router))
        for _ in range(len(ends)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        ends.append("CancelledError" if task.cancelled() else type(task.exception()).__name__)
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        world.figures["calls cancelled at a turn of the loop"] += 1
        world.check()
        world.recorder.clear()

    assert set(ends) == {"CancelledError", "NoneType"}
    assert len(ends) > 5
