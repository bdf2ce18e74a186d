"""Following a stream to its end without changing what the caller holds.

Two things follow a stream. A :class:`CallWatch` sits in the object that the caller pulls from,
and ends the request on every way out: read to the end, broken, cancelled, closed, dropped. An
:class:`AttemptStream` stands for one provider's stream inside litellm's own wrapper, which can go
on with another provider when that one dies. In both, the context is attached for the length of
one pull and no longer: nothing stays attached while the caller has the chunk.

How the watch gets in depends on the object: litellm's router wraps streams in objects whose
generator can be replaced; a bare generator is generated anew; anything else keeps its identity
and gets a subclass of its own class. Nothing here refers back to the stream, so a dropped stream
is collected at once.

This module knows litellm's streams only by the attribute names in ``_litellm``.
"""

import asyncio
import functools
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, Protocol, cast

from opentelemetry.context import Context

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._current import attach, detach
from traced_router._facts import AnswerFacts
from traced_router._guard import Guard
from traced_router._spans import Attempt
from traced_router._tree import Call

_LEFT: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)


class Follower(Protocol):
    """Hears of every pull of one stream."""

    @property
    def context(self) -> Context:
        """What is current during a pull."""
        ...

    def pulling(self) -> None:
        """The reader wants a chunk."""
        ...

    def got(self, chunk: object) -> None:
        """It gets one."""
        ...

    def ended(self, error: BaseException | None) -> None:
        """There is no more: exhausted when ``error`` is ``None``."""
        ...

    def closed(self) -> None:
        """The reader closed the stream."""
        ...


class AttemptFollower:
    """Follows a provider's stream for its attempt."""

    __slots__ = ("_attempt", "_content", "_reader", "context")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._reader = _readers.StreamReader()
        self._content = False
        self.context = attempt.context

    def follow(self, stream: object) -> None:
        """``stream`` is the one: what it has said counts even if the attempt is left half-way."""
        self._attempt.partial = functools.partial(self._answer, weakref_or_none(stream), complete=False)

    def _answer(self, stream: Callable[[], object], *, complete: bool) -> AnswerFacts:
        return self._reader.finish(stream(), complete=complete)

    def pulling(self) -> None:
        """Nothing to do: the attempt's time is what the call counts."""

    def got(self, chunk: object) -> None:
        """Look at the chunk."""
        if self._reader.chunk(chunk) and not self._content:
            self._content = True
            self._attempt.first_content()

    def ended(self, error: BaseException | None, stream: object = None) -> None:
        """The provider's stream is over."""
        if error is None:
            self._attempt.succeed(self._reader.finish(stream, complete=True))
        elif isinstance(error, _LEFT):
            self._attempt.left(cancelled=isinstance(error, asyncio.CancelledError))
        else:
            self._attempt.fail(_readers.failure(error))

    def closed(self) -> None:
        """The stream was closed before its end."""
        self._attempt.left()


def weakref_or_none(thing: object) -> Callable[[], object]:
    """A weak reference, or a function that finds nothing for what cannot be referred to."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return _nothing


def _nothing() -> None:
    return None


class AttemptStream:
    """One provider's stream, in litellm's hands: pulls run under the attempt's span.

    It stands in for the stream in every other respect, ``isinstance`` included.
    """

    __slots__ = ("__weakref__", "_follower", "_inner", "_iterator")

    def __init__(self, inner: Any, follower: AttemptFollower) -> None:
        self._inner = inner
        self._follower = follower
        self._iterator: Any = None
        follower.follow(inner)

    @property
    def __class__(self) -> type:  # type: ignore[override]  # isinstance() asks this
        return type(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in AttemptStream.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._inner, name, value)

    def __aiter__(self) -> "AttemptStream":
        self._iterator = self._inner.__aiter__()
        return self

    async def __anext__(self) -> object:
        iterator = self._inner if self._iterator is None else self._iterator
        follower = self._follower
        token = attach(follower.context)
        try:
            chunk = await iterator.__anext__()
        except StopAsyncIteration:
            follower.ended(None, self._inner)
            raise
        except BaseException as error:
            follower.ended(error)
            raise
        finally:
            detach(token)
        follower.got(chunk)
        return chunk

    def __iter__(self) -> "AttemptStream":
        self._iterator = self._inner.__iter__()
        return self

    def __next__(self) -> object:
        iterator = self._inner if self._iterator is None else self._iterator
        follower = self._follower
        token = attach(follower.context)
        try:
            chunk = iterator.__next__()
        except StopIteration:
            follower.ended(None, self._inner)
            raise
        except BaseException as error:
            follower.ended(error)
            raise
        finally:
            detach(token)
        follower.got(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close the provider's stream, if it can be closed."""
        close = getattr(self._inner, "aclose", None)
        token = attach(self._follower.context)
        try:
            if close is not None:
                await close()
        finally:
            detach(token)
            self._follower.closed()

    def close(self) -> None:
        """Close the provider's stream, if it can be closed."""
        close = getattr(self._inner, "close", None)
        token = attach(self._follower.context)
        try:
            if close is not None:
                close()
        finally:
            detach(token)
            self._follower.closed()


class CallWatch:
    """Follows what the caller reads, for the request; and for its attempt, where nothing else does.

    Args:
        call: the request.
        context: what is current during a pull.
        attempt: the follower of the attempt behind the stream, when litellm did not wrap it.
    """

    __slots__ = ("__weakref__", "_attempt", "_call", "_finalizer", "_idle_since", "_stream", "context")

    def __init__(self, call: Call, context: Context, attempt: AttemptFollower | None) -> None:
        self._call = call
        self._attempt = attempt
        self._idle_since = call.timeline.now()
        self._stream: Callable[[], object] = _nothing
        self._finalizer: weakref.finalize[..., Any] | None = None
        self.context = context

    def watch(self, stream: object) -> None:
        """End the request when ``stream`` is collected, at the latest."""
        self._stream = weakref_or_none(stream)
        if self._attempt is not None:
            self._attempt.follow(stream)
        self._finalizer = weakref.finalize(stream, self.dropped)

    def pulling(self) -> None:
        """The time since the last chunk was the reader's."""
        self._call.waited_for_consumer(self._call.timeline.now() - self._idle_since)

    def got(self, chunk: object) -> None:
        """The reader gets a chunk."""
        self._call.chunk()
        if self._attempt is not None:
            self._attempt.got(chunk)
        self._idle_since = self._call.timeline.now()

    def ended(self, error: BaseException | None) -> None:
        """There is no more to read."""
        if self._attempt is not None:
            self._attempt.ended(error, self._stream())
        if error is None:
            self._over("ok", "exhausted")
        elif isinstance(error, asyncio.CancelledError):
            self._over("cancelled", "cancelled")
        elif isinstance(error, _LEFT):
            self._over("abandoned", "abandoned")
        else:
            self._over("error", "error", error)

    def closed(self) -> None:
        """The reader closed the stream."""
        self._over("abandoned", "closed")

    def dropped(self) -> None:
        """Nobody can read the stream any more."""
        self._finalizer = None
        self._over("abandoned", "abandoned")

    def _over(self, how: str, stream_outcome: str, error: BaseException | None = None) -> None:
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()
        self._call.finish(how, None if error is None else _readers.failure(error), stream_outcome)


# --- getting the watch in ----------------------------------------------------------------------


def follow(stream: Any, watch: CallWatch, guard: Guard) -> Any:
    """Make ``watch`` hear of every pull of ``stream``; what the caller is to get instead of it.

    That is ``stream`` itself, but for a bare generator, which is generated anew. A stream that
    cannot be followed is left alone, and its request ends here.
    """
    try:
        return _follow(stream, watch)
    except Exception as fault:  # noqa: BLE001  # an odd stream type must not cost the caller the stream
        guard.report("stream", fault)
        watch.closed()
        return stream


def _follow(stream: Any, watch: CallWatch) -> Any:
    if isinstance(stream, types.AsyncGeneratorType):
        renewed: Any = _regenerate_async(stream, watch)
        watch.watch(renewed)
        return renewed
    if isinstance(stream, types.GeneratorType):
        renewed = _regenerate(stream, watch)
        watch.watch(renewed)
        return renewed
    own = getattr(stream, "__dict__", {})
    for name in seams.STREAM_GENERATORS:
        inner = own.get(name)
        if inner is not None:
            pulled = FollowedGenerator(inner, watch)
            for alias in (name, seams.STREAM_SOURCE):
                if own.get(alias) is inner:
                    setattr(stream, alias, pulled)
            watch.watch(stream)
            return stream
    if type(stream).__name__ in seams.STREAMS_OF_SOURCE:
        setattr(stream, seams.STREAM_SOURCE, FollowedGenerator(own[seams.STREAM_SOURCE], watch))
    else:
        object.__setattr__(stream, _WATCH, watch)
        stream.__class__ = _followed_class(type(stream))
    watch.watch(stream)
    return stream


class FollowedGenerator:
    """The generator inside one of litellm's stream objects, with a follower on it."""

    __slots__ = ("__weakref__", "_follower", "_inner", "_iterator")

    def __init__(self, inner: Any, follower: Follower) -> None:
        self._inner = inner
        self._follower = follower
        self._iterator: Any = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> "FollowedGenerator":
        self._iterator = self._inner.__aiter__()
        return self

    def __iter__(self) -> "FollowedGenerator":
        self._iterator = self._inner.__iter__()
        return self

    async def __anext__(self) -> object:
        return await pull_async(self._iterator.__anext__, self._follower)

    def __next__(self) -> object:
        return pull(self._iterator.__next__, self._follower)

    async def aclose(self) -> None:
        """Close the generator, and say so."""
        await close_async(getattr(self._inner, "aclose", None), self._follower)

    def close(self) -> None:
        """Close the generator, and say so."""
        close(getattr(self._inner, "close", None), self._follower)


async def pull_async(step: Callable[[], Any], follower: Follower) -> Any:
    """One pull of an asynchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        chunk = await step()
    except StopAsyncIteration:
        follower.ended(None)
        raise
    except BaseException as error:
        follower.ended(error)
        raise
    finally:
        detach(token)
    follower.got(chunk)
    return chunk


def pull(step: Callable[[], Any], follower: Follower) -> Any:
    """One pull of a synchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        chunk = step()
    except StopIteration:
        follower.ended(None)
        raise
    except BaseException as error:
        follower.ended(error)
        raise
    finally:
        detach(token)
    follower.got(chunk)
    return chunk


async def close_async(step: Callable[[], Any] | None, follower: Follower) -> None:
    """Close an asynchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        if step is not None:
            await step()
    finally:
        detach(token)
        follower.closed()


def close(step: Callable[[], Any] | None, follower: Follower) -> None:
    """Close a synchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        if step is not None:
            step()
    finally:
        detach(token)
        follower.closed()


async def _regenerate_async(inner: AsyncGenerator[Any, None], follower: Follower) -> AsyncGenerator[Any, None]:
    try:
        while True:
            try:
                chunk = await pull_async(inner.__anext__, follower)
            except StopAsyncIteration:
                return
            yield chunk
    finally:
        await close_async(inner.aclose, follower)


def _regenerate(inner: Generator[Any, None, None], follower: Follower) -> Generator[Any, None, None]:
    try:
        while True:
            try:
                chunk = pull(inner.__next__, follower)
            except StopIteration:
                return
            yield chunk
    finally:
        close(inner.close, follower)


_WATCH: Final = "_traced_router_watch"


@functools.lru_cache(maxsize=256)
def _followed_class(kind: type) -> type:
    """A subclass of ``kind`` that tells the watch of each pull; the same one for every stream of that kind."""
    # Special methods are looked up on the class, so a watch on the instance alone is not heard.
    base = cast("Any", kind)
    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}
    if hasattr(kind, "__anext__"):

        async def __anext__(self: AsyncIterator[Any]) -> Any:  # noqa: N807
            return await pull_async(functools.partial(base.__anext__, self), getattr(self, _WATCH))

        body["__anext__"] = __anext__
    if hasattr(kind, "__next__"):

        def __next__(self: Iterator[Any]) -> Any:  # noqa: N807
            return pull(functools.partial(base.__next__, self), getattr(self, _WATCH))

        body["__next__"] = __next__
    if hasattr(kind, "aclose"):

        async def aclose(self: Any) -> None:
            await close_async(functools.partial(base.aclose, self), getattr(self, _WATCH))

        body["aclose"] = aclose
    if hasattr(kind, "close"):

        def close_(self: Any) -> None:
            close(functools.partial(base.close, self), getattr(self, _WATCH))

        body["close"] = close_
    return type(kind.__name__, (kind,), body)
