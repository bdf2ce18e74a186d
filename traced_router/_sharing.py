"""Tells a strategy what the other routers know: one background task per router, and no pick that waits for it.

Local state is the truth; what is shared is a hint that ages. Every 250 ms the task hangs this
router's gauges on the board (:mod:`traced_router._board`), one message per model group, reads the
others', and gives the strategy all of them at once (:mod:`traced_router._peers`). Sums of gauges,
never counters: a router that crashes stops talking, and 1.5 s later nobody counts it any more.

A pick touches :meth:`Sharing.ensure`, which awaits nothing, and nothing else. The task belongs to
the event loop of the first pick, and so does its connection; it refers to the router weakly, and
ends with it. This module must not know spans, nor any strategy; of litellm, only that ``_litellm``
finds and opens its Redis.
"""

import asyncio
import contextlib
import contextvars
import os
import random
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, cast

from opentelemetry import context as otel_context

from traced_router import _litellm as seams
from traced_router._board import Board, Exchange, RedisBoard
from traced_router._peers import PERIOD, WHERE, Groups, Report, Shareable, Talk
from traced_router.strategy import SharedState

__all__ = ["Sharing", "sharing_of"]

PATIENCE: Final = 0.2
"""Seconds that an exchange may take on a connection that answered a moment ago."""

OPENING: Final = 5.0
"""Seconds that it may take when a connection has to be made: TLS, a login, a cluster's map."""

_CLOSING: Final = 0.1

Source: TypeAlias = Callable[[], Callable[[], Board] | None]
"""How to open a board on the running event loop; ``None`` while the router has no Redis."""


def sharing_of(router: object, strategy: object, groups: Groups, *, report: Report) -> "Sharing | None":
    """What shares ``strategy`` between ``router``, which is held weakly, and others; ``None`` when it cannot be."""
    if not isinstance(strategy, SharedState):
        return None
    return Sharing(cast("Shareable", strategy), groups, _redis_of(weakref.ref(router)), report=report)


def _redis_of(ref: weakref.ref[object]) -> Source:
    def source() -> Callable[[], Board] | None:
        cache = seams.redis_of(ref())
        return None if cache is None else lambda: _open(cache)

    return source


def _open(cache: object) -> Board:
    access = seams.open_redis(cache)
    return RedisBoard(access.client, cluster=access.cluster, namespace=access.namespace)


class Sharing:
    """One strategy of one router, and the task that talks for it.

    Args:
        strategy: gives its gauges and takes its peers'.
        groups: which candidates belong to which model group, asked before each exchange.
        source: how to open a board.
        report: where faults go; nothing here raises.
        clock: seconds, monotonic; those of :meth:`state` too.
        wall: seconds since the epoch.
        rng: spreads exchanges over time; the system's by default, which no fork repeats.
    """

    def __init__(
        self,
        strategy: Shareable,
        groups: Groups,
        source: Source,
        *,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._talk = Talk(strategy, groups, report=report, clock=clock, wall=wall, rng=rng)
        self._source = source
        self._pid = os.getpid()
        self._closed = False
        self._line: _Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancel: weakref.finalize[..., Sharing] | None = None

    @property
    def node(self) -> str:
        """Names this router among its peers: random, and another one after a fork."""
        return self._talk.node.decode()

    def ensure(self, *, start: bool = True) -> None:
        """Before a pick: see to it that the task runs, and that nothing outdated counts. Awaits nothing, never raises.

        Args:
            start: whether a task may be started on the event loop that runs here. Not for a
                synchronous pick: litellm runs it on a loop that it throws away after the call.
        """
        if self._talk.seconds_left() < 0.0:
            self._talk.forget()
        if start and not self._runs():
            try:
                self._start()
            except Exception as fault:  # noqa: BLE001  # a pick goes on without peers
                self._talk.report(WHERE, fault)

    def state(self, now: float) -> tuple[Literal["local", "shared"], float | None]:
        """Whether peers are heard, and seconds since the oldest news that counts came in.

        ``local`` when Redis has not answered for 1.5 s. Alone on the board is ``shared``: nobody has anything to add.
        """
        return self._talk.state(now)

    async def tick(self) -> None:
        """One exchange, as the task makes it."""
        loop = asyncio.get_running_loop()
        if self._line is None or self._line.loop is not loop:
            self._line = _Line(loop, self._source)
        await _turn(weakref.ref(self._talk), self._line)

    def close(self) -> None:
        """Share no more: the strategy is on its own, and the task ends. From any thread."""
        self._closed = True
        if self._cancel is not None:
            self._cancel()
        self._talk.forget()

    def _runs(self) -> bool:
        task, line = self._task, self._line
        return (
            task is not None
            and line is not None
            and not task.done()
            and line.loop.is_running()
            and self._pid == os.getpid()
        )

    def _start(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._closed or self._source() is None:
            return
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._talk.rename()
        if self._line is not None:
            self._line.over = True
        if self._cancel is not None:
            self._cancel.detach()
        self._line = _Line(loop, self._source)
        live = _live(weakref.ref(self._talk), self._line, self._talk.rng.uniform(0.0, PERIOD))
        # In a context of its own: in the pick's, the task would keep the pick's trace alive and add to it.
        task = contextvars.Context().run(loop.create_task, live)
        # A loop that is closed without being asked to cancel its tasks leaves nothing undone here.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # as asyncio.gather() does
        self._task = task
        self._cancel = weakref.finalize(self, _cancel, loop, task, self._pid)
        self._cancel.atexit = False


class _Line:
    """The way of one event loop to the board; ``over`` when another loop has taken over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        self.loop = loop
        self.over = False
        self._answered = False
        self._source = source
        self._board: Board | None = None

    def patience(self, seconds_left: float) -> float:
        """How long an exchange may take. Nobody waits for it, but a stuck connection must go before news is old."""
        if self._answered:
            return PATIENCE
        return seconds_left if seconds_left > PATIENCE else OPENING

    async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
        """Raises when Redis, or the way to it, does."""
        self._answered = False
        if self._board is None:
            opener = self._source()
            if opener is None:
                raise ConnectionError("the router has no Redis any more")
            self._board = opener()
        found = await self._board.exchange(brought)
        self._answered = True
        return found

    def is_running_here(self) -> bool:
        """Not when the task is destroyed with a loop that was closed under it: then nothing can be awaited."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    async def close(self) -> None:
        """Let go of the connection; one that takes its time is left to the collector."""
        for _ in range(2):  # once more when a cancellation came in between
            if self._board is not None and self.is_running_here():
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    async with asyncio.timeout(_CLOSING):
                        await self._board.close()
                    self._board = None


async def _live(ref: weakref.ref[Talk], line: _Line, pause: float) -> None:
    """The task. Between exchanges it holds nothing that keeps the router alive."""
    # Instrumentations of Redis clients that heed this make no span of what nobody called.
    otel_context.attach(otel_context.set_value("suppress_instrumentation", True))  # noqa: FBT003  # a value under a key
    task = asyncio.current_task()
    try:
        # Python 3.11's wait_for(), which Redis clients use, can swallow a cancellation: so it is asked for.
        while task is not None and not task.cancelling() and line.is_running_here():
            await asyncio.sleep(pause)
            if ref() is None or line.over:
                break
            pause = await _turn(ref, line)
    finally:
        await line.close()


async def _turn(ref: weakref.ref[Talk], line: _Line) -> float:
    """One exchange, without holding on to the router while Redis takes its time; answers the pause after it."""
    talk = ref()
    brought = None if talk is None else talk.brings()
    if talk is None or brought is None:
        return PERIOD
    patience = line.patience(talk.seconds_left())
    del talk
    found: Mapping[str, Mapping[bytes, bytes]] = {}
    failure: Exception | None = None
    try:
        async with asyncio.timeout(patience):
            found = await line.exchange(brought)
    except Exception as error:  # noqa: BLE001  # whatever it is, the router goes on by itself
        failure = error
    if (talk := ref()) is None:
        return PERIOD
    return talk.hears(found) if failure is None else talk.misses(failure)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], pid: int) -> None:
    """Let the task end; from any thread, and from a collector."""
    if pid == os.getpid():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
            loop.call_soon_threadsafe(task.cancel)
