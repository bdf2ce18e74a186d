"""Who hears of the pulls of a stream: for its attempt, and for the whole request.

An :class:`AttemptFollower` follows one provider's stream inside litellm's own wrapper, which can
go on with another provider when that one dies. A :class:`CallWatch` follows what the caller
reads, and ends the request on every way out: read to the end, broken, cancelled, closed, dropped.
Neither ever raises, and neither refers to the stream, so that a dropped one is collected at once.

This module must not know how a follower gets into a stream; that is ``_streams``.
"""

import asyncio
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from opentelemetry.context import Context

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._countdown import Countdown
from traced_router._facts import AnswerFacts
from traced_router._guard import fails_open
from traced_router._interrupted import elsewhere
from traced_router._spans import Attempt
from traced_router._tree import Call

_EXHAUSTED: Final = (StopAsyncIteration, StopIteration)


class Follower(Protocol):
    """Hears of every pull of one stream; its methods do not raise."""

    @property
    def context(self) -> Context:
        """What is current during a pull."""
        ...

    @property
    def countdown(self) -> Countdown | None:
        """How long a pull may take, if somebody limits that."""
        ...

    def pulling(self) -> None:
        """The reader wants a chunk."""
        ...

    def got(self, chunk: object) -> None:
        """It gets one."""
        ...

    def ended(self, error: BaseException) -> None:
        """A pull raised ``error``: the end of the stream, or the death of it."""
        ...

    def closing(self) -> None:
        """The reader starts to close the stream."""
        ...

    def closed(self) -> None:
        """It has closed it."""
        ...


class AttemptFollower:
    """Follows a provider's stream for its attempt.

    Args:
        attempt: the attempt; its span is current during a pull.
        stream: what is read; what it has said so far counts even if it is left half-way.
    """

    __slots__ = ("_attempt", "_content", "_heard", "_reader", "_stream", "context", "guard")
    countdown = None

    def __init__(self, attempt: Attempt, stream: object) -> None:
        self._attempt = attempt
        self._reader = _readers.StreamReader()
        self._content = False
        self._heard = attempt.content
        self._stream = _weakly(stream)
        self.guard = attempt.guard
        self.context = attempt.context
        attempt.partial = self._partial

    def _partial(self) -> AnswerFacts:
        return self._said(complete=False)

    def _said(self, *, complete: bool) -> AnswerFacts:
        deployment_id = self._attempt.deployment.id
        return self._reader.finish(self._stream(), complete=complete, deployment_id=deployment_id)

    @property
    def has_content(self) -> bool:
        """Whether a chunk with content has come."""
        return self._content

    def pulling(self) -> None:
        """Nothing to do: the attempt's time is what the call counts."""

    def got(self, chunk: object) -> None:
        """Look at the chunk."""
        try:
            if self._reader.chunk(chunk) and not self._content:
                self._content = True
                self._attempt.first_content()
            if self._heard is not None:
                self._heard.chunk(chunk)
        except Exception as fault:  # noqa: BLE001  # the chunk is on its way to the caller
            self.guard.report("stream", fault)

    @fails_open("stream")
    def ended(self, error: BaseException) -> None:
        """The provider's stream is over."""
        if isinstance(error, _EXHAUSTED):
            self._attempt.succeed(self._said(complete=True))
        elif isinstance(error, Exception):
            self._attempt.fail(_readers.failure(error))
        else:
            self._attempt.left(cancelled=isinstance(error, asyncio.CancelledError))

    @fails_open("stream")
    def closing(self) -> None:
        """litellm closes the stream before its end; how long that takes is not the provider's time.

        It also closes one whose provider said that it failed, in an event that litellm reads, and
        that goes on elsewhere.
        """
        handled = sys.exception()
        if handled is not None and seams.is_mid_stream(handled):
            self._attempt.fail(_readers.failure(handled))
        else:
            self.left()

    def left(self) -> None:
        """The caller closes the stream before its end."""
        self._attempt.left()

    def closed(self) -> None:
        """Nothing to do: the attempt was over when the closing began."""


class CallWatch:
    """Follows what the caller reads, for the request; and for its attempt, where nothing else does.

    Args:
        call: the request.
        context: what is current during a pull.
        attempt: the follower of the attempt behind the stream, when nothing inside it is followed.
    """

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_call",
        "_clock",
        "_finalizers",
        "_idle_since",
        "_leaving",
        "_ledger",
        "context",
        "countdown",
        "guard",
    )

    def __init__(self, call: Call, context: Context, attempt: AttemptFollower | None = None) -> None:
        self._call = call
        self._attempt = attempt
        self._ledger = call.ledger
        self._clock = call.timeline.clock
        self._idle_since: int | None = self._clock()
        self._leaving = False
        self._finalizers: tuple[weakref.finalize[..., Any], ...] = ()
        self.guard = call.guard
        self.context = context
        self.countdown = call.countdown

    def watch(self, *streams: object) -> None:
        """End the request when one of ``streams`` is collected, at the latest."""
        self._finalizers = tuple(weakref.finalize(stream, self.dropped) for stream in streams)
        for finalizer in self._finalizers:
            finalizer.atexit = False
        self._call.open_ends.add(self.dropped)

    def pulling(self) -> None:
        """The time since the last chunk was the reader's."""
        try:
            idle_since, self._idle_since = self._idle_since, None
            if idle_since is not None:
                self._ledger.consumer_ns += self._clock() - idle_since
        except Exception as fault:  # noqa: BLE001  # the caller wants its chunk
            self.guard.report("stream", fault)

    def got(self, chunk: object) -> None:
        """The reader gets a chunk."""
        try:
            self._idle_since = self._clock()
            ledger = self._ledger
            ledger.chunks += 1
            if ledger.chunks == 1:
                self._call.first_chunk()
            if self._attempt is not None:
                self._attempt.got(chunk)
        except Exception as fault:  # noqa: BLE001  # the caller gets its chunk in any case
            self.guard.report("stream", fault)

    @fails_open("stream")
    def ended(self, error: BaseException) -> None:
        """There is no more to read."""
        if self._attempt is not None:
            self._attempt.ended(error)
        if isinstance(error, _EXHAUSTED):
            self._over("ok", "exhausted")
        elif isinstance(error, Exception):
            self._over("error", "error", error)
        elif isinstance(error, asyncio.CancelledError):
            self._over("cancelled", "cancelled")
        else:
            self._over("abandoned", "abandoned")

    def closing(self) -> None:
        """The reader has no more use for the stream; in the midst of a pull, it is the stream that tidies up."""
        self._leaving = self._idle_since is not None
        if self._leaving:
            self.pulling()
            if self._attempt is not None:
                self._attempt.left()

    @fails_open("stream")
    def closed(self) -> None:
        """The reader closed the stream."""
        if self._leaving:
            self._over("abandoned", "closed")

    @fails_open("stream")
    def dropped(self) -> None:
        """Nobody can read the stream any more."""
        self.pulling()
        if self._call.told:  # by somebody's function, which may take locks of its own
            elsewhere(self._over, "abandoned", "abandoned")
        else:
            self._over("abandoned", "abandoned")

    @fails_open("stream")
    def unseen(self) -> None:
        """The stream is of a kind that cannot be followed: all that is known is that the caller has it."""
        self._over("ok", None)

    def _over(self, how: str, stream_outcome: str | None, error: Exception | None = None) -> None:
        finalizers, self._finalizers = self._finalizers, ()
        for finalizer in finalizers:
            finalizer.detach()
        self._call.open_ends.discard(self.dropped)
        self._call.finish(how, None if error is None else _readers.failure(error), stream_outcome)


def _weakly(thing: object) -> Callable[[], object]:
    """A weak reference, or a function that finds nothing for what cannot be referred to."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return _nothing


def _nothing() -> None:
    return None
