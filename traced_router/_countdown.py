"""The deadline of one call, running down.

It is asked before anything starts that takes time (an attempt, a wait, a hop), tells an attempt how
long its client may take, and stands around the whole call and around each pull of its stream.
Whatever comes out of these when the time is up, or when the lack of it cut retries short, becomes a
:class:`DeadlineExceeded`. A timer of the event loop ends what a client's own timeout does not: an
answer that trickles, a hook that hangs. The client is told a little less than what is left, because a
timeout of its own tells litellm, its cooldowns and its callbacks more than a cancellation does.

An adapter: it knows litellm's exceptions. It must not know OpenTelemetry.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from litellm.exceptions import Timeout

from traced_router.deadline import Deadline
from traced_router.errors import TracedRouterError

_MARGIN: Final = 0.025
"""The last part of a deadline, in which nothing starts any more: a client may give up within it."""
_OVER: Final = (StopIteration, StopAsyncIteration)

clock: Callable[[], float] = time.monotonic


class DeadlineExceeded(TracedRouterError, Timeout):  # noqa: N818  # the name that gRPC made known
    """A call did not get its answer within its deadline; ``except litellm.Timeout`` catches it, too.

    Attributes:
        seconds: the deadline that was exceeded.
        phase: ``total`` or ``first_chunk``.
        last_error: the last error that a provider, or litellm, gave before; also ``__cause__``.
    """

    model: str

    def __init__(self, seconds: float, phase: str, model: str | None, last_error: Exception | None) -> None:
        missing = "first chunk" if phase == "first_chunk" else "answer"
        after = "" if last_error is None else f"; the last error was {type(last_error).__name__}"
        cast("Any", Timeout).__init__(
            self,
            message=f"no {missing} within the deadline of {seconds:g} s{after}",
            model=model or "",
            llm_provider=str(getattr(last_error, "llm_provider", None) or ""),
        )
        self.seconds = seconds
        self.phase = phase
        self.last_error = last_error

    def __reduce__(self) -> tuple[type["DeadlineExceeded"], tuple[object, ...]]:
        return type(self), (self.seconds, self.phase, self.model, self.last_error)


class Countdown:
    """What is left of one call's deadline.

    Args:
        deadline: the call's.
        model: the group that was asked for.
        streaming: whether the caller asked for a stream.
        blocking: whether the caller's thread waits: no timer reaches it, so a client's timeout must do.
    """

    __slots__ = ("_blocking", "_first_at", "_model", "_started", "_timer", "_total_at", "cut_short", "deadline", "last")

    def __init__(self, deadline: Deadline, model: str | None, *, streaming: bool, blocking: bool) -> None:
        self._started = clock()
        self.deadline = deadline
        self._model = model
        self._blocking = blocking
        self._total_at = self._at(deadline.total)
        self._first_at = self._at(deadline.first_chunk) if streaming else None
        self._timer: asyncio.Timeout | None = None
        self.cut_short = False
        """Whether there would have been another attempt, had there been time for it."""
        self.last: Exception | None = None
        """The last failure that came before the time was up."""

    def _at(self, seconds: float | None) -> float | None:
        return None if seconds is None or math.isinf(seconds) else self._started + seconds

    # --- what is left ----------------------------------------------------------------------------

    def _nearest(self) -> float | None:
        if self._first_at is None or (self._total_at is not None and self._total_at < self._first_at):
            return self._total_at
        return self._first_at

    @property
    def remaining(self) -> float | None:
        """Seconds until the time is up, of the first chunk while there is none; ``None`` when nothing limits."""
        at = self._nearest()
        return None if at is None else max(0.0, at - clock())

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining == 0.0

    @property
    def too_late(self) -> bool:
        """Whether what is left is too little for an attempt."""
        remaining = self.remaining
        return remaining is not None and remaining <= self._limit[0] * _MARGIN

    @property
    def struck(self) -> bool:
        """Whether the timer has ended the call."""
        return self._timer is not None and self._timer.expired()

    def timeout(self) -> float | None:
        """Seconds that a client may take to connect, and between two reads.

        A client that limits its reads cannot tell the first chunk from others. Where a timer sees to the
        first chunk, the client has the whole time; where none can, the first chunk's holds for every one.

        It is rounded down, by 2 % at most: litellm keeps a client, and its connections, for each timeout.
        """
        at = self._nearest() if self._blocking else self._total_at
        return None if at is None else _stepped(max(_LEAST, at - clock()))

    # --- what must not start any more ------------------------------------------------------------

    def check(self) -> None:
        """Raise :class:`DeadlineExceeded` when it is too late to start anything."""
        if self.too_late:
            raise self._exceeded(None) from self.last

    def refuses(self, seconds: float, *, retry: bool = True) -> bool:
        """Whether a wait of ``seconds`` would leave no time for what is to come after it.

        Args:
            seconds: to wait.
            retry: whether another attempt of the same group would have followed.
        """
        remaining = self.remaining
        if remaining is None or seconds < remaining - self._limit[0] * _MARGIN:
            return False
        self.cut_short = self.cut_short or retry
        return True

    def gives_up(self, error: Exception) -> bool:
        """Whether a group that failed with ``error`` is the last: there is no time for a fallback."""
        self.failed(error)
        self.cut_short = self.cut_short or self.too_late
        return self.too_late

    def failed(self, error: Exception) -> None:
        """An attempt failed; not for want of time, as far as one can tell."""
        if not self.too_late:
            self.last = error

    def first_chunk(self) -> None:
        """The caller has its first chunk: from now on only the total counts."""
        self._first_at = None

    # --- around the call -------------------------------------------------------------------------

    async def within(self, awaitable: Awaitable[Any]) -> Any:
        """What ``awaitable`` gives, if it does so in time."""
        try:
            remaining = self.remaining
            if remaining is None:
                return await awaitable
            async with asyncio.timeout(remaining) as self._timer:
                return await awaitable
        except _OVER:
            raise
        except Exception as error:
            self._convert(error)
            raise

    def call(self, function: Callable[[], Any]) -> Any:
        """What ``function`` gives, in this thread: it is given no time that is over, and cannot be interrupted."""
        if self.expired:
            raise self._exceeded(None) from self.last
        try:
            return function()
        except _OVER:
            raise
        except Exception as error:
            self._convert(error)
            raise

    def _convert(self, error: Exception) -> None:
        """Raise :class:`DeadlineExceeded` instead of ``error`` when that came of the deadline."""
        late = self.expired or (self.too_late and isinstance(error, Timeout))
        if isinstance(error, DeadlineExceeded) or not (late or self.cut_short or self.struck):
            return
        own = None if self.struck and isinstance(error, TimeoutError) else error
        raise self._exceeded(own) from (self.last or own)

    def _exceeded(self, error: Exception | None) -> DeadlineExceeded:
        return DeadlineExceeded(*self._limit, self._model, self.last or error)

    @property
    def _limit(self) -> tuple[float, str]:
        """The deadline that comes first, and which one that is."""
        if self._first_at is not None and self._nearest() == self._first_at:
            return max(0.0, self._first_at - self._started), "first_chunk"
        return max(0.0, (self._total_at or self._started) - self._started), "total"


def _stepped(seconds: float) -> float:
    """``seconds``, rounded down to one of some hundred values for each power of ten."""
    step: float = _STEP ** math.floor(math.log(seconds, _STEP))
    return step


_STEP: Final = 1.02
_LEAST: Final = 0.001
"""Seconds that a client is given at the least: some take 0 for no limit."""
