"""Routers that tell each other what they know: in memory for the rules, through a real Redis for the rest."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from litellm.caching.redis_cache import RedisCache
from litellm.caching.redis_cluster_cache import RedisClusterCache
from opentelemetry import context as otel_context

from traced_router import TracedRouter, _peers, _sharing
from traced_router import _litellm as seams
from traced_router._board import Exchange, RedisBoard
from traced_router._peers import EXPIRY, LONGEST_PAUSE, PERIOD
from traced_router._sharing import OPENING, PATIENCE, Sharing, sharing_of
from traced_router.shared_state import NodeState, pack, unpack

GROUPS = {"gpt-4o": ("a", "b"), "claude": ("c",)}
KEY = "traced_router:state:stub:gpt-4o"


class Stub:
    """A strategy that says what it is told to say, and keeps what it hears."""

    def __init__(self, gauges: Mapping[str, Sequence[float]] | None = None, name: str = "stub") -> None:
        self.name = name
        self.gauges = gauges if gauges is not None else {"a": (1.0,)}
        self.heard: list[list[dict[str, tuple[float, ...]]]] = []
        self.hears = asyncio.Event()
        self.context: contextvars.Context | None = None

    def export_state(self) -> Mapping[str, Sequence[float]]:
        return self.gauges

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        self.context = contextvars.copy_context()
        self.heard.append([{id_: tuple(gauge) for id_, gauge in peer.items()} for peer in peers])
        self.hears.set()

    @property
    def last(self) -> list[dict[str, tuple[float, ...]]]:
        return sorted(self.heard[-1], key=repr)


class Clocks:
    """One for all routers of a test, unless a host's wall clock is off."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now


class Memory:
    """A board without a Redis; hashes do not expire."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self.exchanges: list[Exchange] = []
        self.opened = 0
        self.closed = 0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
        self.exchanges.append(brought)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        for group, message in brought.messages.items():
            hung = self.hashes.setdefault(f"{brought.strategy}/{group}", {})
            for node in (*brought.stale.get(group, ()), brought.node):
                hung.pop(node, None)
            if message is not None:
                hung[brought.node] = message
        return {group: dict(self.hashes[f"{brought.strategy}/{group}"]) for group in brought.messages}

    async def close(self) -> None:
        self.closed += 1

    def open(self) -> "Memory":
        self.opened += 1
        return self


class World:
    """A board, clocks, and the routers that use them."""

    def __init__(self) -> None:
        self.board = Memory()
        self.clocks = Clocks()
        self.faults: list[tuple[str, str]] = []
        self.has_redis = True

    def sharing(self, strategy: Stub, *, wall_off: float = 0.0, seed: int = 0) -> Sharing:
        return Sharing(
            strategy,
            lambda: GROUPS,
            lambda: self.board.open if self.has_redis else None,
            report=self.report,
            clock=self.clocks,
            wall=lambda: self.clocks.wall() + wall_off,
            rng=random.Random(seed),
        )

    def report(self, where: str, fault: BaseException) -> None:
        self.faults.append((where, type(fault).__name__))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that a test can wait for."""
    monkeypatch.setattr(_peers, "PERIOD", 0.002)
    monkeypatch.setattr(_sharing, "PERIOD", 0.002)
    monkeypatch.setattr(_sharing, "OPENING", 0.2)


# --- what is heard ---------------------------------------------------------------------------


async def test_each_router_hears_all_others_and_not_itself(world: World) -> None:
    strategies = [Stub({"a": (float(i),), "c": (i + 0.5, 2.0)}) for i in range(8)]
    routers = [world.sharing(strategy) for strategy in strategies]
    for router in routers * 2:
        await router.tick()
    for i, strategy in enumerate(strategies):
        assert strategy.last == sorted(({"a": (float(j),), "c": (j + 0.5, 2.0)} for j in range(8) if j != i), key=repr)
    assert len({router.node for router in routers}) == 8


async def test_a_candidate_of_two_groups_counts_once_per_router(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS, "alias", ("a",))
    one, other = Stub(), Stub()
    for router in (world.sharing(one), world.sharing(other)):
        await router.tick()
    assert other.last == [{"a": (1.0,)}]


async def test_candidates_of_no_group_stay_at_home(world: World) -> None:
    one, other = Stub({"a": (1.0,), "elsewhere": (9.0,)}), Stub()
    for router in (world.sharing(one), world.sharing(other)):
        await router.tick()
    assert other.last == [{"a": (1.0,)}]


async def test_other_strategies_are_not_heard(world: World) -> None:
    one, other = Stub(name="one"), Stub(name="other")
    first, second = world.sharing(one), world.sharing(other)
    await first.tick()
    world.board.hashes["other/gpt-4o"] = dict(world.board.hashes["one/gpt-4o"])  # and not under another's key either
    await second.tick()
    assert other.heard == [[]]


async def test_a_router_with_nothing_left_to_say_takes_its_message_down(world: World) -> None:
    one, other = Stub(), Stub()
    first, second = world.sharing(one), world.sharing(other)
    await first.tick()
    one.gauges = {}
    await first.tick()
    await second.tick()
    assert other.heard == [[]]


async def test_garbage_is_not_heard_and_is_taken_down(world: World) -> None:
    strategy = Stub()
    router = world.sharing(strategy)
    sound = pack(NodeState("n", "gpt-4o", "stub", world.clocks.wall(), {"a": (1.0,)}))
    newer = bytearray(sound)
    newer[2] = 2  # another version
    world.board.hashes["stub/gpt-4o"] = {b"x": b"garbage", b"y": b"", b"z": sound[:-1], b"\xff": bytes(newer)}
    for _ in range(3):
        await router.tick()
        world.clocks.now += EXPIRY + 0.1
    assert set(world.board.hashes["stub/gpt-4o"]) == {router.node.encode()}
    assert strategy.heard == [[], [], []]
    assert world.faults == []


async def test_a_message_that_stays_the_same_counts_for_a_second_and_a_half(world: World) -> None:
    one, other = Stub(), Stub()
    gone, stays = world.sharing(one), world.sharing(other)
    await gone.tick()
    await stays.tick()
    assert other.last == [{"a": (1.0,)}]
    world.clocks.now += EXPIRY
    await stays.tick()
    assert other.last == [{"a": (1.0,)}]
    world.clocks.now += 0.1
    await stays.tick()
    assert other.last == []
    assert gone.node.encode() in world.board.hashes["stub/gpt-4o"]
    await stays.tick()
    assert gone.node.encode() not in world.board.hashes["stub/gpt-4o"]


async def test_what_was_left_behind_is_not_news(world: World) -> None:
    one, other = Stub(), Stub()
    await world.sharing(one).tick()
    world.clocks.now += EXPIRY + 0.1
    await world.sharing(other).tick()
    assert other.heard == [[]]


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_hosts_whose_clocks_differ_hear_each_other(world: World, off: float) -> None:
    one, other = Stub({"a": (1.0,)}), Stub({"a": (2.0,)})
    routers = [world.sharing(one), world.sharing(other, wall_off=off)]
    for _ in range(8):
        for router in routers:
            await router.tick()
        world.clocks.now += PERIOD
    assert one.last == [{"a": (2.0,)}]
    assert other.last == [{"a": (1.0,)}]
    await routers[0].tick()
    world.clocks.now += EXPIRY + 0.1
    await routers[0].tick()
    assert one.last == []


async def test_the_message_is_what_the_codec_says(world: World) -> None:
    router = world.sharing(Stub({"a": (1.0, 2.0), "b": (3.0,)}))
    await router.tick()
    (brought,) = world.board.exchanges
    assert (brought.node, brought.strategy, brought.stale, brought.expiry) == (router.node.encode(), "stub", {}, EXPIRY)
    message = brought.messages["gpt-4o"]
    assert message is not None
    assert unpack(message) == NodeState(
        router.node, "gpt-4o", "stub", world.clocks.wall(), {"a": (1.0, 2.0), "b": (3.0,)}
    )
    assert brought.messages["claude"] is None


async def test_a_router_without_groups_goes_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "GROUPS", {})
    strategy = Stub()
    await world.sharing(strategy).tick()
    assert (strategy.heard, world.board.opened) == ([], 0)


# --- what a span says ------------------------------------------------------------------------


async def test_state_tells_how_old_the_oldest_news_is(world: World) -> None:
    one, other = world.sharing(Stub()), world.sharing(Stub())
    assert one.state(world.clocks.now) == ("local", None)
    await one.tick()
    assert one.state(world.clocks.now + 0.25) == ("shared", 0.25)
    await other.tick()
    await one.tick()
    world.clocks.now += 1.0
    await one.tick()
    assert one.state(world.clocks.now) == ("shared", 1.0)  # the other has said nothing new
    assert one.state(world.clocks.now + EXPIRY) == ("shared", 2.5)
    assert one.state(world.clocks.now + EXPIRY + 0.1) == ("local", None)


# --- a Redis that is slow, gone, or back -----------------------------------------------------


async def test_a_lost_redis_is_said_once_and_so_is_its_return(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "traced_router")
    strategy = Stub()
    router = world.sharing(strategy)
    await world.sharing(Stub()).tick()
    await router.tick()
    world.board.failure = OSError("redis://user:password@host")
    await router.tick()
    assert router.state(world.clocks.now)[0] == "shared"  # one exchange more or less is nothing to talk about
    assert caplog.messages == []
    world.clocks.now += EXPIRY + 0.1
    for _ in range(3):
        await router.tick()
    assert (strategy.last, router.state(world.clocks.now)) == ([], ("local", None))
    world.board.failure = None
    for _ in range(3):
        await router.tick()
    assert router.state(world.clocks.now) == ("shared", 0.0)
    assert [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records] == [
        (
            "WARNING",
            "Redis does not answer (OSError): strategy stub decides by this router's own state until it does",
            None,
        ),
        ("INFO", "Redis answers again: strategy stub shares its state with other routers", None),
    ]
    assert world.faults == []


async def test_a_redis_that_never_answered_is_said_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.board.failure = TimeoutError()
    router = world.sharing(Stub())
    await router.tick()
    await router.tick()
    assert [record.getMessage() for record in caplog.records] == [
        "Redis does not answer (TimeoutError): strategy stub decides by this router's own state until it does"
    ]


async def test_a_pick_does_not_count_on_what_is_outdated(world: World) -> None:
    strategy = Stub()
    router = world.sharing(strategy)
    await world.sharing(Stub()).tick()
    await router.tick()
    world.clocks.now += EXPIRY
    router.ensure(start=False)
    assert strategy.last == [{"a": (1.0,)}]
    world.clocks.now += 0.1
    router.ensure(start=False)
    router.ensure(start=False)
    assert strategy.heard == [[{"a": (1.0,)}], []]


async def test_after_an_outage_nobody_takes_down_the_others(world: World) -> None:
    one, other = world.sharing(Stub()), world.sharing(Stub())
    for router in (one, other, one):
        await router.tick()
    world.board.failure = OSError()
    world.clocks.now += EXPIRY + 0.1
    await one.tick()
    world.board.failure = None
    await one.tick()
    await one.tick()
    assert world.board.exchanges[-1].stale == {}


async def test_pauses_grow_and_exchanges_get_time(world: World) -> None:
    router = world.sharing(Stub())
    await router.tick()
    line, talk = router._line, router._talk
    assert line is not None
    assert line.patience(talk.seconds_left()) == PATIENCE
    world.board.failure = OSError()
    await router.tick()
    assert line.patience(talk.seconds_left()) == EXPIRY  # until nobody would believe what was heard last
    world.clocks.now += EXPIRY - PATIENCE / 2
    assert line.patience(talk.seconds_left()) == OPENING
    bounds = [min(LONGEST_PAUSE, PERIOD * 2.0**n) for n in range(1, 13)]
    pauses = [talk.misses(OSError()) for _ in bounds]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert 0.9 * PERIOD <= talk.hears({}) <= 1.1 * PERIOD
    assert talk.misses(OSError()) <= PERIOD


async def test_an_exchange_that_hangs_is_given_up(world: World, brief: None) -> None:
    router = world.sharing(Stub())
    await router.tick()
    world.board.gate = asyncio.Event()
    await router.tick()  # returns
    world.clocks.now += EXPIRY + 0.1
    await router.tick()
    assert router.state(world.clocks.now) == ("local", None)
    world.board.gate = None
    await router.tick()
    assert router.state(world.clocks.now) == ("shared", 0.0)


async def test_a_redis_that_was_taken_away_is_a_lost_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.has_redis = False
    await world.sharing(Stub()).tick()
    assert "ConnectionError" in caplog.text


@pytest.mark.parametrize("method", ["export_state", "absorb_state"])
async def test_a_strategy_that_raises_shares_nothing_and_is_reported(
    world: World, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = Stub()

    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(strategy, method, fail)
    router = world.sharing(strategy)
    await router.tick()
    assert router.state(world.clocks.now) == ("local", None)
    assert world.faults == [("shared_state", "LookupError")]
    monkeypatch.undo()
    await router.tick()
    assert router.state(world.clocks.now) == ("shared", 0.0)
    monkeypatch.setattr(strategy, method, fail)
    router.close()
    assert world.faults == [("shared_state", "LookupError")] * (1 if method == "export_state" else 2)


# --- the task --------------------------------------------------------------------------------


async def test_the_task_tells_and_hears(world: World, brief: None) -> None:
    one, other = Stub({"a": (1.0,)}), Stub({"a": (2.0,)})
    routers = [world.sharing(one), world.sharing(other)]
    variable = contextvars.ContextVar[str]("variable")
    variable.set("of the pick")
    for router in routers * 3:
        router.ensure()
    while not (one.heard and one.last and other.heard and other.last):
        one.hears.clear()
        await one.hears.wait()
    assert (one.last, other.last) == ([{"a": (2.0,)}], [{"a": (1.0,)}])
    assert world.board.opened == 2
    assert one.context is not None
    assert variable not in one.context
    assert one.context.run(otel_context.get_value, "suppress_instrumentation") is True
    tasks = [router._task for router in routers]
    for router in routers:
        router.close()
    await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
    assert world.board.closed == 2
    assert one.last == []
    routers[0].ensure()
    assert routers[0]._task is tasks[0]  # closed is closed


async def test_a_pick_awaits_nothing(world: World) -> None:
    router = world.sharing(Stub())
    world.board.gate = asyncio.Event()
    router.ensure()  # a plain function: it returns, with Redis hanging
    task = router._task
    assert task is not None
    assert world.board.exchanges == []
    router.ensure()
    assert router._task is task
    router.close()
    await asyncio.wait([task])


async def test_a_synchronous_pick_starts_no_task(world: World) -> None:
    router = world.sharing(Stub())
    router.ensure(start=False)
    await asyncio.to_thread(router.ensure)  # no loop runs there
    assert router._task is None


async def test_a_router_that_gets_its_redis_later_shares_from_then_on(world: World) -> None:
    router = world.sharing(Stub())
    world.has_redis = False
    router.ensure()
    assert router._task is None
    world.has_redis = True
    router.ensure()
    assert router._task is not None
    router.close()


async def test_a_fault_in_starting_does_not_reach_the_pick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    router = world.sharing(Stub())
    monkeypatch.setattr(router, "_source", {}.popitem)
    router.ensure()
    assert world.faults == [("shared_state", "KeyError")]


async def test_the_task_ends_with_its_router(world: World, brief: None) -> None:
    strategy = Stub()
    router = world.sharing(strategy)
    router.ensure()
    await strategy.hears.wait()
    task, gone = router._task, weakref.ref(router)
    assert task is not None
    del router
    assert gone() is None
    await asyncio.wait([task])
    assert world.board.closed == 1


async def test_a_router_goes_at_once_while_redis_takes_its_time(world: World) -> None:
    router = world.sharing(Stub())
    await router.tick()
    line, talk = router._line, weakref.ref(router._talk)
    assert line is not None
    world.board.gate = asyncio.Event()
    turn = asyncio.ensure_future(_sharing._turn(talk, line))
    while len(world.board.exchanges) < 2:
        await asyncio.sleep(0)
    del router
    assert talk() is None
    world.board.gate.set()
    assert await turn == PERIOD
    assert await _sharing._turn(talk, line) == PERIOD
    assert len(world.board.exchanges) == 2


async def test_a_cancellation_that_the_client_swallows_ends_the_task(world: World, brief: None) -> None:
    class Deaf(Memory):
        async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
            self.exchanges.append(brought)
            if len(self.exchanges) == 1:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return {}

    world.board = Deaf()
    router = world.sharing(Stub())
    router.ensure()
    while not world.board.exchanges:
        await asyncio.sleep(0.001)
    router.close()
    assert router._task is not None
    await asyncio.wait([router._task], timeout=5)
    assert (len(world.board.exchanges), world.board.closed) == (1, 1)


async def test_a_cancellation_while_closing_closes_all_the_same(world: World, brief: None) -> None:
    class Slow(Memory):
        async def close(self) -> None:
            await asyncio.sleep(0)
            await super().close()

    world.board = Slow()
    strategy = Stub()
    router = world.sharing(strategy)
    router.ensure()
    await strategy.hears.wait()
    task = router._task
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert world.board.closed == 1


def test_the_next_loop_goes_on(world: World, brief: None) -> None:
    strategy = Stub()
    router = world.sharing(strategy)

    async def use() -> None:
        strategy.hears = asyncio.Event()
        router.ensure()
        await strategy.hears.wait()

    asyncio.run(use())
    assert world.board.closed == 1
    asyncio.run(use())
    assert (world.board.opened, world.board.closed) == (2, 2)
    router.close()  # its loop is closed: nothing to stop
    assert world.faults == []


def test_a_loop_that_stands_still_is_overtaken_and_its_task_ends(world: World, brief: None) -> None:
    strategy = Stub()
    router = world.sharing(strategy)

    async def use() -> asyncio.Task[None] | None:
        strategy.hears = asyncio.Event()
        router.ensure()
        await strategy.hears.wait()
        return router._task

    idle = asyncio.new_event_loop()
    task = idle.run_until_complete(use())
    assert task is not None
    asyncio.run(use())
    assert not task.done()
    idle.run_until_complete(asyncio.wait_for(task, 5))
    assert (world.board.opened, world.board.closed) == (2, 2)
    idle.close()


def test_loops_in_two_threads_share_one_task(world: World) -> None:
    router = world.sharing(Stub())

    async def first() -> None:
        router.ensure()
        task = router._task
        await asyncio.to_thread(asyncio.run, second())
        assert router._task is task
        await asyncio.to_thread(router.close)
        assert task is not None
        await asyncio.wait([task])

    async def second() -> None:
        router.ensure()

    asyncio.run(first())


def test_a_fork_is_another_node_with_a_task_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    router = world.sharing(Stub())

    async def use() -> None:
        router.ensure()
        node, task, cancel = router.node, router._task, router._cancel
        assert task is not None
        monkeypatch.setattr(os, "getpid", lambda: -1)
        router.ensure()
        assert router.node != node
        assert router._task is not task
        assert cancel is not None
        assert not cancel.alive
        _sharing._cancel(asyncio.get_running_loop(), task, 1)  # not this process's task
        await asyncio.sleep(0)
        assert not task.cancelling()

    asyncio.run(use())


def test_a_loop_that_is_closed_under_the_task_leaves_no_word(
    world: World, brief: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As litellm closes the loops of its synchronous calls. What cannot be raised is an error in these tests."""
    destroyed: list[str] = []

    class Sore(Memory):
        async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
            try:
                return await super().exchange(brought)
            except GeneratorExit:
                destroyed.append(brought.strategy)
                asyncio.get_running_loop()  # raises, as redis-py does when it is destroyed while it waits
                raise

    async def use() -> None:
        for router in routers:
            router.ensure()
        while len(world.board.exchanges) < 2:
            await asyncio.sleep(0.001)

    world.board = Sore()
    world.board.gate = asyncio.Event()
    routers = [world.sharing(Stub(name="one")), world.sharing(Stub(name="other"))]
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    routers.clear()
    world.board = Memory()
    gc.collect()
    assert sorted(destroyed) == ["one", "other"]
    assert caplog.records == []


# --- Redis's commands ------------------------------------------------------------------------


class Pipeline:
    """Notes commands; answers what it is told to."""

    def __init__(self, client: "Client", kwargs: dict[str, object]) -> None:
        self.client = client
        self.client.pipelines.append((kwargs, []))

    def __getattr__(self, name: str) -> object:
        return lambda *args: self.client.pipelines[-1][1].append((name, *args))

    async def execute(self, **kwargs: object) -> list[object]:
        assert kwargs == {"raise_on_error": False}
        self.client.executed += 1
        return [self.client.answers.get(command[1:2], {}) for command in self.client.pipelines[-1][1]]


class Client:
    def __init__(self) -> None:
        self.pipelines: list[tuple[dict[str, object], list[tuple[object, ...]]]] = []
        self.executed = 0
        self.answers: dict[tuple[object, ...], object] = {}
        self.closed: list[dict[str, object]] = []

    def pipeline(self, **kwargs: object) -> Pipeline:
        return Pipeline(self, kwargs)

    async def aclose(self, **kwargs: object) -> None:
        self.closed.append(kwargs)


BROUGHT = Exchange(b"me", "stub", {"gpt-4o": b"news", "claude": None}, {"gpt-4o": [b"x", b"y"]}, EXPIRY)


async def test_an_exchange_is_one_pipeline() -> None:
    client = Client()
    client.answers[(KEY,)] = {b"you": b"hello"}
    assert await RedisBoard(client).exchange(BROUGHT) == {"gpt-4o": {b"you": b"hello"}, "claude": {}}
    assert client.executed == 1
    assert client.pipelines == [
        (
            {"transaction": True},
            [
                ("hset", KEY, b"me", b"news"),
                ("pexpire", KEY, 1500),
                ("hdel", KEY, b"x", b"y"),
                ("hgetall", KEY),
                ("hdel", "traced_router:state:stub:claude", b"me"),
                ("hgetall", "traced_router:state:stub:claude"),
            ],
        )
    ]


async def test_a_cluster_has_no_transaction_and_a_namespace_comes_first() -> None:
    client = Client()
    board = RedisBoard(client, cluster=True, namespace="prod")
    await board.exchange(Exchange(b"me", "stub", {"gpt-4o": b"news"}, {}, EXPIRY))
    key = f"prod:{KEY}"
    assert client.pipelines == [
        ({"transaction": False}, [("hset", key, b"me", b"news"), ("pexpire", key, 1500), ("hgetall", key)])
    ]
    await board.close()
    await RedisBoard(client).close()
    assert client.closed == [{}, {"close_connection_pool": True}]


async def test_a_refused_group_is_left_out_and_all_refused_is_a_failure() -> None:
    client = Client()
    client.answers[(KEY,)] = refusal = redis.ResponseError("WRONGTYPE")
    assert await RedisBoard(client).exchange(BROUGHT) == {"claude": {}}
    client.answers["traced_router:state:stub:claude",] = redis.ResponseError("another")
    with pytest.raises(redis.ResponseError) as raised:
        await RedisBoard(client).exchange(BROUGHT)
    assert raised.value is refusal


# --- a real Redis ----------------------------------------------------------------------------


@pytest.fixture
def admin(server: Any) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as client:
        yield client


@pytest.fixture
def cache(server: Any) -> Iterator[RedisCache]:
    """Made where no loop runs: litellm pings from a task where one does."""
    cache = RedisCache(host="127.0.0.1", port=server.port)
    yield cache
    cache.redis_client.close()


class Router:
    """A router with a Redis, as far as sharing looks at it."""

    def __init__(self, cache: RedisCache | None) -> None:
        self.cache = SimpleNamespace(redis_cache=cache)


class Fleet:
    """Routers with one Redis."""

    def __init__(self, cache: RedisCache) -> None:
        self.cache = cache
        self.routers: list[object] = []
        self.sharings: list[Sharing] = []
        self.faults: list[object] = []

    def add(self, strategy: object) -> Sharing:
        router = Router(self.cache)
        self.routers.append(router)
        sharing = sharing_of(router, strategy, lambda: GROUPS, report=lambda *fault: self.faults.append(fault))
        assert sharing is not None
        self.sharings.append(sharing)
        return sharing


@pytest.fixture
async def fleet(cache: RedisCache) -> AsyncIterator[Fleet]:
    fleet = Fleet(cache)
    yield fleet
    for sharing in fleet.sharings:
        if sharing._line is not None:
            await sharing._line.close()
    assert fleet.faults == []


@pytest.mark.parametrize("count", [2, 8])
async def test_routers_hear_each_other_through_redis(fleet: Fleet, admin: redis.Redis, count: int) -> None:
    strategies = [Stub({"a": (float(i), 0.5)}) for i in range(count)]
    sharings = [fleet.add(strategy) for strategy in strategies]
    for sharing in sharings * 2:
        await sharing.tick()
    for i, strategy in enumerate(strategies):
        assert strategy.last == [{"a": (float(j), 0.5)} for j in range(count) if j != i]
    assert admin.keys() == [KEY.encode()]
    assert admin.hlen(KEY) == count
    assert 0 < admin.pttl(KEY) <= 1500


async def test_what_crashed_routers_leave_behind_expires(fleet: Fleet, admin: redis.Redis) -> None:
    await fleet.add(Stub()).tick()
    assert admin.exists(KEY)
    while admin.exists(KEY):
        await asyncio.sleep(0.05)


async def test_the_tasks_of_two_routers_talk(fleet: Fleet) -> None:
    one, other = Stub({"a": (1.0,)}), Stub({"a": (2.0,)})
    sharings = [fleet.add(one), fleet.add(other)]
    for sharing in sharings:
        sharing.ensure()
    while not (one.heard and one.last):
        one.hears.clear()
        await one.hears.wait()
    assert one.last == [{"a": (2.0,)}]
    for sharing in sharings:
        sharing.close()


@pytest.mark.parametrize("settings", [{"namespace": "prod"}, {"decode_responses": True}, {"url": True}])
async def test_the_caches_settings_are_honoured(server: Any, admin: redis.Redis, settings: dict[str, object]) -> None:
    def make() -> RedisCache:
        if "url" in settings:
            return RedisCache(url=f"redis://127.0.0.1:{server.port}")
        return RedisCache(host="127.0.0.1", port=server.port, **settings)

    cache = await asyncio.to_thread(make)
    fleet = Fleet(cache)
    one, other = Stub(), Stub()
    for sharing in (fleet.add(one), fleet.add(other)):
        await sharing.tick()
        assert sharing._line is not None
        await sharing._line.close()
    assert other.last == [{"a": (1.0,)}]
    assert admin.keys() == [f"prod:{KEY}".encode() if "namespace" in settings else KEY.encode()]
    cache.redis_client.close()


@pytest.mark.parametrize("server", [{"cluster-enabled": "yes"}], indirect=True, ids=["cluster"])
async def test_routers_hear_each_other_through_a_cluster(server: Any, admin: redis.Redis) -> None:
    admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in admin.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
        await asyncio.sleep(0.05)
    nodes = [{"host": "127.0.0.1", "port": server.port}]
    cache = await asyncio.to_thread(RedisClusterCache, startup_nodes=nodes)
    fleet = Fleet(cache)
    gauges = {"a": (1.0,), "c": (2.0,)}
    one, other = Stub(gauges), Stub(gauges)
    for sharing in [fleet.add(one), fleet.add(other)] * 2:
        await sharing.tick()
    assert one.last == other.last == [gauges]
    assert all(0 < admin.pttl(key) <= 1500 for key in admin.scan_iter())
    for sharing in fleet.sharings:
        assert sharing._line is not None
        await sharing._line.close()
    cache.redis_client.close()


async def test_somebody_elses_keys_do_no_harm(fleet: Fleet, admin: redis.Redis) -> None:
    admin.set(KEY, "not a hash")
    admin.hset("traced_router:state:stub:claude", "x", "garbage")
    gauges = {"a": (1.0,), "c": (2.0,)}
    one, other = Stub(gauges), Stub(gauges)
    for sharing in (fleet.add(one), fleet.add(other)):
        await sharing.tick()
    assert other.last == [{"c": (2.0,)}]
    assert admin.get(KEY) == b"not a hash"


async def test_a_redis_that_stops_and_goes_on(
    fleet: Fleet, server: Any, brief: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "traced_router")
    strategy = Stub()
    clocks, sharing = Clocks(), fleet.add(strategy)
    sharing._talk._clock, sharing._talk._wall = clocks, clocks.wall
    await sharing.tick()
    server.process.send_signal(signal.SIGSTOP)
    await sharing.tick()
    assert sharing.state(clocks.now)[0] == "shared"
    clocks.now += EXPIRY + 0.1
    await sharing.tick()
    assert sharing.state(clocks.now) == ("local", None)
    server.process.send_signal(signal.SIGCONT)
    while sharing.state(clocks.now)[0] == "local":
        await sharing.tick()
    assert [record.levelname for record in caplog.records if record.name == "traced_router"] == ["WARNING", "INFO"]


async def test_a_redis_that_dies_and_comes_back_empty(
    fleet: Fleet, server: Any, brief: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "traced_router")
    one, other = Stub(), Stub()
    sharings = [fleet.add(one), fleet.add(other)]
    for sharing in sharings * 2:
        await sharing.tick()
    server.stop()
    for sharing in sharings:
        sharing._talk._heard_at = 0.0  # long ago
        await sharing.tick()
    assert (one.last, other.last) == ([], [])
    server.start()
    while not (one.last and other.last):
        for sharing in sharings:
            await sharing.tick()
    assert one.last == other.last == [{"a": (1.0,)}]
    text = " ".join(record.getMessage() for record in caplog.records if record.name == "traced_router")
    assert [record.levelname for record in caplog.records if record.name == "traced_router"] == [
        "WARNING",
        "WARNING",
        "INFO",
        "INFO",
    ]
    assert str(server.port) not in text


async def test_many_routers_leave_no_connection_behind(fleet: Fleet, admin: redis.Redis, brief: None) -> None:
    before = len(admin.client_list())
    tasks: list[asyncio.Task[None]] = []
    for _ in range(20):
        strategy = Stub()
        sharing = fleet.add(strategy)
        sharing.ensure()
        await strategy.hears.wait()
        assert sharing._task is not None
        tasks.append(sharing._task)
    assert len(admin.client_list()) == before + 20
    fleet.sharings.clear()
    del sharing
    await asyncio.wait(tasks)
    while len(admin.client_list()) > before:
        await asyncio.sleep(0.01)


def test_a_router_shares_through_its_own_redis(server: Any) -> None:
    router = TracedRouter(
        model_list=[{"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-fake"}}],
        redis_host="127.0.0.1",
        redis_port=server.port,
    )
    cache = seams.redis_of(router)
    assert isinstance(cache, RedisCache)
    assert seams.redis_of(seams.core_of(router)) is cache
    cache.redis_client.close()


def test_what_cannot_be_shared_is_not() -> None:
    assert sharing_of(object(), object(), dict, report=print) is None
    assert seams.redis_of(object()) is None
    sharing = sharing_of(router := Router(None), Stub(), dict, report=print)
    assert sharing is not None
    assert sharing._source() is None
    del router
    assert sharing._source() is None


EXIT = """
    import asyncio, gc, threading, warnings
    from types import SimpleNamespace
    from litellm.caching.redis_cache import RedisCache
    from traced_router._sharing import sharing_of

    warnings.simplefilter("error")
    cache = RedisCache(host="127.0.0.1", port=PORT)

    class Router:
        cache = SimpleNamespace(redis_cache=cache)

    class Strategy:
        name = "stub"
        def export_state(self): return {"a": (1.0,)}
        def absorb_state(self, peers): self.heard.set()

    class Way:
        def __init__(self):
            self.router, self.strategy = Router(), Strategy()
            self.sharing = sharing_of(self.router, self.strategy, lambda: {"g": ("a",)}, report=print)

        async def use(self):
            self.strategy.heard = asyncio.Event()
            self.sharing.ensure()
            await self.strategy.heard.wait()

    runs, closed_late, in_a_thread, left_open, closed_roughly = (Way() for _ in range(5))
    asyncio.run(runs.use())
    asyncio.run(runs.use())
    asyncio.run(closed_late.use())
    closed_late.sharing.close()
    threading.Thread(target=asyncio.run, args=(in_a_thread.use(),)).start()

    gc.collect()
    warnings.simplefilter("ignore", ResourceWarning)  # a loop that nobody cleans up has open sockets
    loop = asyncio.new_event_loop()
    loop.run_until_complete(closed_roughly.use())
    loop.close()
    asyncio.new_event_loop().run_until_complete(left_open.use())
    cache.redis_client.close()
"""


def test_the_interpreter_exits_without_a_word(server: Any) -> None:
    script = textwrap.dedent(EXIT).replace("PORT", str(server.port))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
