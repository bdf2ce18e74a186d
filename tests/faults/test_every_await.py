"""A call that is cancelled, or destroyed, at each of its suspension points in turn.

The call is driven through a coroutine that counts what is awaited. At the k-th suspension its task is cancelled, or the
coroutine is closed, for every k until the call gets through; so no await is left out, and none is hit by chance.
"""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import litellm
import pytest

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
}


def deployments(provider: Any) -> list[Any]:
    return [
        provider.deployment("dep-a", group="a"),
        provider.deployment("dep-b", group="b"),
        provider.deployment("dep-e", group="e", model="openai/text-embedding-3-small"),
    ]


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # litellm's own, made and not begun
@pytest.mark.parametrize("name", CALLS)
async def test_cancelled(world, provider, name):
    call, script = CALLS[name]
    provider.default("dep-a", Answer("one two three"))
    router = world.traced(*deployments(provider), num_retries=1, fallbacks=[{"a": ["b"]}], disable_cooldowns=True)
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
        assert how == "CancelledError"
        world.check()
        world.recorder.clear()

    assert suspensions < k
    assert k > 1


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("close", [False, True], ids=["cancelled", "destroyed"])
async def test_tracing_adds_no_suspension_point(world, stubbed, close):
    """Plain Router beside it, over a provider that suspends a known number of times."""

    async def provider(**kwargs):
        await asyncio.sleep(0)
        if kwargs["model_info"]["id"] == "dep-a":
            await asyncio.sleep(0)
            raise litellm.InternalServerError("m", "openai", "gpt-4o")
        return litellm.ModelResponse()

    stubbed(provider)
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
