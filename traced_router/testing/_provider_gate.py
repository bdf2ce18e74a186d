"""Where a test and the fake provider meet, without a sleep.

A :class:`Gate` stops the server at an exact point and tells the test that it stands there. It is
touched from three sides at once (the server's event loop, the test's thread, any event loop of
the test), so what is waited for is a :class:`concurrent.futures.Future` per waiter: it belongs to
no loop, and ``asyncio.wrap_future`` brings it to any. This module must know nothing of HTTP.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

PATIENCE = 10.0
"""Seconds that a test waits for something that should happen at once, before it is a failure."""


class Tally:
    """A number that any thread changes and any thread or event loop waits on."""

    __slots__ = ("_lock", "_value", "_waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0
        self._waiters: list[tuple[Callable[[int], bool], Future[None]]] = []

    @property
    def value(self) -> int:
        return self._value

    def add(self, step: int) -> None:
        """Change the number, and wake those whose condition now holds."""
        with self._lock:
            self._value += step
            if not self._waiters:
                return
            woken = [future for holds, future in self._waiters if holds(self._value)]
            self._waiters = [waiter for waiter in self._waiters if waiter[1] not in woken]
        for future in woken:
            future.set_result(None)

    def wait(self, holds: Callable[[int], bool], timeout: float, what: str) -> None:
        """Block until ``holds(value)``.

        Raises:
            TimeoutError: it did not hold within ``timeout`` seconds; the message names ``what``.
        """
        try:
            self._when(holds).result(timeout)
        except TimeoutError:
            raise TimeoutError(self._missed(timeout, what)) from None

    async def until(self, holds: Callable[[int], bool], seconds: float | None, what: str) -> None:
        """As :meth:`wait`, in an event loop; ``None`` waits for ever."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(self._when(holds))
        except TimeoutError:
            raise TimeoutError(self._missed(seconds, what)) from None

    def _missed(self, seconds: float | None, what: str) -> str:
        return f"waited {seconds} s for {what}; the count stands at {self._value}"

    def _when(self, holds: Callable[[int], bool]) -> Future[None]:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a waiter that gives up must not make set_result raise
        with self._lock:
            if not holds(self._value):
                self._waiters.append((holds, future))
                return future
        future.set_result(None)
        return future


class Gate:
    """A point at which requests wait until a test lets them pass.

    Shut when made; once open it stays open. One gate can hold several requests, and each arrival
    counts. Made by :meth:`FakeProvider.gate`, or alone: it is bound to no server.
    """

    __slots__ = ("_arrivals", "_opened")

    def __init__(self) -> None:
        self._arrivals = Tally()
        self._opened = Tally()

    def open(self) -> None:
        """Let everything pass, now and later. From any thread."""
        self._opened.add(1)

    @property
    def arrivals(self) -> int:
        """How many requests have come to the gate so far, those that passed included."""
        return self._arrivals.value

    def wait_reached(self, timeout: float = PATIENCE, *, count: int = 1) -> None:
        """Block until ``count`` requests have come to the gate.

        Raises:
            TimeoutError: fewer came within ``timeout`` seconds.
        """
        self._arrivals.wait(lambda arrived: arrived >= count, timeout, f"{count} at the gate")

    async def reached(self, timeout: float = PATIENCE, *, count: int = 1) -> None:  # noqa: ASYNC109 - a test says how long
        """As :meth:`wait_reached`, for an async test; any event loop will do."""
        await self._arrivals.until(lambda arrived: arrived >= count, timeout, f"{count} at the gate")

    async def passage(self) -> None:
        """The server's side: arrive, and go on when the gate is open."""
        self._arrivals.add(1)
        await self._opened.until(lambda opened: opened > 0, None, "the gate to open")
