"""Hedged calls: cancelled, or decided, at each suspension point of the two attempts in turn; and a thousand at once.

A hedged call waits for two tasks, so what stops the call at its own suspension points leaves most of theirs out.
Here each of the two is driven by something that counts what it waits for, and acts at the k-th time.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import litellm
import pytest

from traced_router import HedgePolicy, _hedging
from traced_router import _litellm as seams
from traced_router import _names as n
from traced_router.testing import Answer, DieMidStream, LiveCheck, LiveCheckLimits, ServerError, SlowFirstByte

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


def deployments(provider: Any, at_once: int = 1) -> list[Any]:
    embedding = {"group": "e", "model": "openai/text-embedding-3-small"}
    return [
        provider.deployment(name, max_parallel_requests=at_once, **{"group": "a", **more})
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


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # as above, up to 1.95
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_thousand_hedged_calls_at_once(world, stubbed, seed):
    """A fifth of the attempts fails, a tenth of the calls is cancelled, and a fifth of the attempts may be hedged."""
    rng, called = random.Random(seed), 0

    async def provider(**_kwargs):
        nonlocal called
        called += 1
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        if rng.random() < 0.2:
            raise litellm.InternalServerError("m", "openai", "gpt-4o")
        return litellm.ModelResponse()

    async def one(router, number):
        task = asyncio.ensure_future(router.acompletion("a", MESSAGES))
        if number % 10 == 0:
            for _ in range(1 + number // 10 % 50):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])

    stubbed(provider)
    live = LiveCheck(limits=LiveCheckLimits(checks_per_second=1000))
    world.recorder.provider.add_span_processor(live)
    policy = HedgePolicy(delay=0.0, ratio=0.2, per_second=0.1)
    router = world.traced(*deployments(world.provider, 500), num_retries=1, hedging=policy, disable_cooldowns=True)
    hedging = seams.core_of(router).__dict__["_traced_router"].hedging
    hedging.clock = lambda: 100.0
    await asyncio.gather(*(one(router, number) for number in range(1000)))

    trees = world.recorder.trees()
    (budget,) = hedging._budgets.values()
    granted = budget.snapshot()
    attempts = [node for tree in trees for node in tree.walk() if n.DEPLOYMENT_ATTEMPT in node.attributes]
    cancelled = sum(node.attributes.get(n.ERROR_CATEGORY) == "cancelled" for node in attempts)
    hedges = sum(tree.attributes.get(n.HEDGES, 0) for tree in trees)
    assert len(trees) == live.counts.checked == 1000
    assert live.counts.violations == {}
    assert called <= world.attempts() <= called + cancelled
    assert 100 < hedges <= granted.retries <= 0.2 * granted.calls + 1
    assert sum(tree.attributes.get(n.HEDGES_DENIED, 0) for tree in trees) == granted.denied > 100
