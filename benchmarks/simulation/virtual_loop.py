"""An asyncio event loop in virtual time: when nothing is ready, its clock jumps to the next timer.

Real code runs on it unchanged: ``asyncio.sleep(30)`` takes no time. Work that would go to a thread
is done at once, in place, so that time stands still meanwhile. What reads ``time.time()`` or
``datetime.now()`` sees virtual time too, inside :func:`virtual_time`.
"""

import asyncio
import datetime as dt
import selectors
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

_T = TypeVar("_T")
_RealDatetime = dt.datetime
_Ready = list[tuple[selectors.SelectorKey, int]]


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> _Ready:
        ready = super().select(0.0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0.0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; see the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(  # type: ignore[override] # narrower than asyncio's, which differs by version
        self,
        executor: Any,  # noqa: ARG002 - asyncio's signature
        func: Callable[..., _T],
        *args: Any,
    ) -> "asyncio.Future[_T]":
        """Do it now: a thread would take real time, in which the virtual clock would run away."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future


def run(main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``main(loop)`` to its end on a fresh loop, with the process's clocks in virtual time."""
    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner, virtual_time(loop.time):
        return runner.run(main(loop))


@contextmanager
def virtual_time(clock: Callable[[], float], packages: tuple[str, ...] = ("litellm",)) -> Generator[None, None, None]:
    """``time`` and ``datetime`` follow ``clock`` until the block ends.

    ``time.time`` and its siblings are replaced in their module; the class ``datetime`` also in the
    modules of ``packages`` that imported it by name.
    """
    epoch = time.time()
    moment = _virtual_datetime(lambda: epoch + clock())
    with ExitStack() as stack:
        stack.enter_context(patch.object(time, "time", lambda: epoch + clock()))
        for name in ("monotonic", "perf_counter"):
            stack.enter_context(patch.object(time, name, clock))
        stack.enter_context(patch.object(time, "time_ns", lambda: int((epoch + clock()) * 1e9)))
        for name, module in list(sys.modules.items()):
            if name.startswith(packages) and vars(module).get("datetime") is dt.datetime:
                stack.enter_context(patch.object(module, "datetime", moment))
        stack.enter_context(patch.object(dt, "datetime", moment))
        yield


def _virtual_datetime(now: Callable[[], float]) -> type[dt.datetime]:
    class _Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, _RealDatetime)

    class Datetime(dt.datetime, metaclass=_Meta):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Datetime":
            return cls.fromtimestamp(now(), tz)

        @classmethod
        def utcnow(cls) -> "Datetime":
            return cls.fromtimestamp(now(), dt.UTC).replace(tzinfo=None)

    return Datetime
