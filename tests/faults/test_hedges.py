"""Hedged calls that are cancelled, or decided, at each suspension point of the two attempts in turn.

A hedged call waits for two tasks, so what stops the call at its own suspension points leaves most of theirs out.
Here each of the two is driven by something that counts what it waits for, and acts at the k-th time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from traced_router import HedgePolicy, _hedging
from traced_router import _names as n
from traced_router.testing import Answer, DieMidStream, ServerError, SlowFirstByte

MESSAGES = [{"role": "user", "content": "hi"}]
AT_ONCE = HedgePolicy(delay=0, ratio=1)
MOST = 100
"""Suspension points that an attempt may have."""


class Counted(Coroutine[Any, Any, Any]):
    """``inner``, and ``act`` each time it waits."""

    def __init__(self, inner: Any, act: Callable[[], None]) -> None:
        self._inner, self._act = inner, act

    def send(self, value: Any) -> Any:
        return self._waits(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._waits(self._inner.throw(*error))

    def _waits(self, waited_for: Any) -> Any:
        self._act()
        return waited_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        raise NotImplementedError  # a task drives it


class Points:
    """Acts at the ``k``-th suspension of the attempt with this role."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.role, self.k, self.act = "", 0, lambda _entrant: None
        self.reached = 0
        run = _hedging.Entrant.run
        monkeypatch.setattr(
            _hedging.Entrant, "run", lambda entrant, *given: Counted(run(entrant, *given), self._of(entrant))
        )

    def at(self, role: str, k: int, act: Callable[[Any], None]) -> None:
        self.role, self.k, self.act, self.reached = role, k, act, 0

    def _of(self, entrant: Any) -> Callable[[], None]:
        def waits() -> None:
            if entrant.role == self.role:
                self.reached += 1
                if self.reached == self.k:
                    self.act(entrant)

        return waits


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    return Points(monkeypatch)


async def chat(router: Any, model: str, **how: Any) -> None:
    await router.acompletion(model, MESSAGES, **how)


async def embed(router: Any, model: str, **how: Any) -> None:
    await router.aembedding(model, ["hi"], **how)


async def read(router: Any, model: str, **how: Any) -> None:
    async for _ in await router.acompletion(model, MESSAGES, stream=True, **how):
        pass


async def read_responses(router: Any, model: str, **how: Any) -> None:
    async for _ in await router.aresponses(model=model, input="hi", stream=True, store=False, **how):
        pass


async def read_text(router: Any, model: str, **how: Any) -> None:
    async for _ in await router.atext_completion(model=model, prompt="hi", stream=True, **how):
        pass


async def read_messages(router: Any, model: str, **how: Any) -> None:
    async for _ in await router.aanthropic_messages(model=model, messages=MESSAGES, max_tokens=9, stream=True, **how):
        pass


CALLS = {
    "chat": (chat, []),
    "chat whose primary fails": (chat, [ServerError()]),
    "an embedding": (embed, []),
    "a stream": (read, []),
    "a slow stream": (read, [SlowFirstByte(0.01)]),
    "a stream that dies": (read, [DieMidStream(0)]),
    "a responses stream": (read_responses, []),
    "a text stream": (read_text, []),
    "a messages stream": (read_messages, []),
}


def deployments(provider: Any) -> list[Any]:
    embedding = {"group": "e", "model": "openai/text-embedding-3-small"}
    return [
        provider.deployment(name, max_parallel_requests=1, **{"group": "a", **more})
        for name, more in (("dep-a", {}), ("dep-b", {}), ("dep-e", embedding), ("dep-f", embedding))
    ]


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # litellm's own, made and not begun
@pytest.mark.parametrize("decided", [False, True], ids=["cancelled", "decided"])
@pytest.mark.parametrize("role", [n.PRIMARY, n.HEDGE])
@pytest.mark.parametrize("name", CALLS)
async def test_at_every_suspension_of_either(world, provider, points, name, role, decided):
    """The caller leaves, or the other one has its answer; and the deployments' only slots are given back."""
    call, script = CALLS[name]
    group, ids = ("e", ("dep-e", "dep-f")) if call is embed else ("a", ("dep-a", "dep-b"))
    provider.default("dep-a", Answer("one two three"))
    provider.default("dep-b", Answer("one two three"))
    router = world.traced(*deployments(provider), disable_cooldowns=True)
    await asyncio.wait([asyncio.ensure_future(call(router, group, hedging=False))])  # the connections stand
    tasks = asyncio.all_tasks()
    for k in range(1, MOST):
        provider.script("dep-a", script)
        running = asyncio.ensure_future(call(router, group, hedging=AT_ONCE))

        def act(entrant: Any, running: Any = running) -> None:
            race = entrant._race
            if not decided:
                running.cancel()
                return
            others = [one for one in race._running.values() if one is not entrant]
            if others and others[0].open_attempt is not None and race.winner is None:
                race.finish(others[0])

        points.at(role, k, act)
        await asyncio.wait([running], timeout=20)
        assert running.done(), (k, points.reached)
        while left := asyncio.all_tasks() - tasks:
            await asyncio.wait(left)
        await provider.idle()
        world.check()
        world.recorder.clear()
        if not running.cancelled():
            running.exception()
        if points.reached < k:
            break
        provider.script("dep-a", [])
        for one in ids:
            await asyncio.wait_for(call(router, one, hedging=False), 10)

    assert k > 1
