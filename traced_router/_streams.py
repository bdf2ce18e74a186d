"""Following a stream without changing what the caller holds: how a follower gets in.

litellm's router wraps a provider's stream in an object of its own, and that is what the caller
reads. The provider's stream inside gets a stand-in that follows it for its attempt
(:func:`stand_in`); the object outside keeps its identity, and what it pulls from gets another
that follows it for the request (:func:`follow`). A bare generator is generated anew, and anything
else gets a subclass of its own class. What cannot take one (``__slots__``, iterators written in
C) is handed on as it is, and its request ends there: better no stream outcome than another type.

In all of them the context is attached for the length of one pull and no longer: nothing stays
attached while the caller has the chunk. This module knows litellm's streams only by the names in
``_litellm``.
"""

import contextlib
import functools
import inspect
import io
import types
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, TypeAlias, cast

from opentelemetry.context import Context

from traced_router import _litellm as seams
from traced_router._current import attach, detach
from traced_router._followers import AttemptFollower, CallWatch, Follower
from traced_router._spans import Attempt
from traced_router._tree import Call

StandsIn: TypeAlias = Callable[[Any, AttemptFollower], Any]
"""Makes something that stands for a stream, and tells a follower."""

_MAX_AHEAD: Final = 64
"""Chunks that are read ahead of their reader, in search of the first with content."""


def is_stream(result: object) -> bool:
    """Whether ``result`` is something that a caller pulls chunks from."""
    kind = type(result)
    if issubclass(kind, io.IOBase):
        return False
    return hasattr(kind, "__anext__") or hasattr(kind, "__next__") or hasattr(kind, "__aiter__")


# --- one pull --------------------------------------------------------------------------------


async def pull_async(step: Callable[[], Any], follower: Follower) -> Any:
    """One pull of an asynchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        countdown, pulled = follower.countdown, step()
        chunk = await (pulled if countdown is None else countdown.within(pulled))
    except BaseException as error:
        detach(token)
        follower.ended(error)
        raise
    detach(token)
    follower.got(chunk)
    return chunk


def pull(step: Callable[[], Any], follower: Follower) -> Any:
    """One pull of a synchronous stream."""
    follower.pulling()
    token = attach(follower.context)
    try:
        countdown = follower.countdown
        chunk = step() if countdown is None else countdown.call(step)
    except BaseException as error:
        detach(token)
        follower.ended(error)
        raise
    detach(token)
    follower.got(chunk)
    return chunk


async def close_async(step: Callable[[], Any], follower: Follower) -> Any:
    """Close an asynchronous stream."""
    follower.closing()
    token = attach(follower.context)
    try:
        return await step()
    finally:
        detach(token)
        follower.closed()


def close(step: Callable[[], Any], follower: Follower) -> Any:
    """Close a synchronous stream."""
    follower.closing()
    token = attach(follower.context)
    try:
        return step()
    finally:
        detach(token)
        follower.closed()


def _closer(step: Callable[[], Any]) -> Callable[[Callable[[], Any], Follower], Any]:
    """Which of the two ``step`` wants: an asynchronous stream may call its own simply ``close``."""
    return close_async if inspect.iscoroutinefunction(step) else close


# --- stand-ins -------------------------------------------------------------------------------


class _StandIn:
    """Stands for a stream in all respects, ``isinstance`` and ``hasattr`` included, and is followed."""

    __slots__ = ("__weakref__", "_anext", "_followed", "_follower", "_keep", "_next")

    def __init__(self, stream: Any, follower: Follower, keep: object) -> None:
        self._followed = stream
        self._follower = follower
        self._keep = keep
        self._anext: Any = getattr(stream, "__anext__", None)
        self._next: Any = getattr(stream, "__next__", None)

    @property  # type: ignore[misc]  # isinstance() asks this, and nobody sets it
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("Any", type(self._followed))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._followed, name)
        if name in {"aclose", "close"}:
            return functools.partial(_closer(found), found, self._follower)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        if name in _StandIn.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._followed, name, value)


class _Async(_StandIn):
    __slots__ = ()

    def __aiter__(self) -> "_Async":
        self._anext = self._followed.__aiter__().__anext__
        return self

    # The two drivers once more, for the one path on which every chunk of every stream goes.
    async def __anext__(self) -> object:
        follower = self._follower
        follower.pulling()
        token = attach(follower.context)
        try:
            countdown, pulled = follower.countdown, self._anext()
            chunk = await (pulled if countdown is None else countdown.within(pulled))
        except BaseException as error:
            detach(token)
            follower.ended(error)
            raise
        detach(token)
        follower.got(chunk)
        return chunk


class _Sync(_StandIn):
    __slots__ = ()

    def __iter__(self) -> "_Sync":
        self._next = self._followed.__iter__().__next__
        return self

    def __next__(self) -> object:
        return pull(self._next, self._follower)


class _Both(_Async, _Sync):
    __slots__ = ()


class Unread(BaseException):
    """What a stream ends with that nobody is going to read: on an ``Exception`` litellm would go on elsewhere."""


class ReadAhead(_Async):
    """An asynchronous stand-in that is read before anybody asks: to the first chunk with content.

    Args:
        stream: what is pulled.
        follower: hears of it when it is.
    """

    __slots__ = ("_chunks", "_end")

    def __init__(self, stream: Any, follower: AttemptFollower) -> None:
        super().__init__(stream, follower, None)
        object.__setattr__(self, "_chunks", deque())
        object.__setattr__(self, "_end", None)
        _Async.__aiter__(self)

    async def prime(self) -> bool:
        """Read that far; whether the stream lives. One that does not raises when it is read."""
        heard, chunks = cast("AttemptFollower", self._follower), self._chunks
        while not heard.has_content and len(chunks) < _MAX_AHEAD:
            try:
                chunks.append(await _Async.__anext__(self))
            except StopAsyncIteration as end:
                object.__setattr__(self, "_end", end)
                return True
            except Exception as error:  # noqa: BLE001  # it is raised to whoever reads
                object.__setattr__(self, "_end", error)
                return False
        return True

    def discard(self) -> None:
        """Nobody is going to read it."""
        self._chunks.clear()
        object.__setattr__(self, "_end", Unread())

    def __aiter__(self) -> "ReadAhead":
        return self

    async def __anext__(self) -> object:
        if self._chunks:
            return self._chunks.popleft()
        if self._end is not None:
            end = self._end
            object.__setattr__(self, "_end", None)
            raise end
        return await _Async.__anext__(self)


async def give_up(stream: Any, ahead: ReadAhead | None) -> None:
    """Close a stream that nobody is going to read, so that it gives back what it holds.

    A generator of litellm's that has not been started closes nothing. So where it pulls from a stream that
    was read ``ahead``, it is pulled once, and meets its end there.
    """
    with contextlib.suppress(Exception, Unread):
        if ahead is not None:
            ahead.discard()
            await anext(aiter(stream))
        else:
            await stream.aclose()


def stand_in(stream: Any, follower: Follower, keep: object = None) -> Any:
    """Something that stands for ``stream`` wherever it is pulled from, and tells ``follower``.

    Args:
        stream: what is pulled.
        follower: hears of it.
        keep: what must live as long.
    """
    kind = cast("Any", type(stream))
    runs_async = hasattr(kind, "__anext__") or hasattr(kind, "__aiter__")
    runs_sync = hasattr(kind, "__next__") or hasattr(kind, "__iter__")
    chosen = _Both if runs_async and runs_sync else _Async if runs_async else _Sync
    return chosen(stream, follower, keep)


# --- getting the watch in ----------------------------------------------------------------------


def follow_attempt(
    call: Call, stream: Any, taken: Any = None, attempt: Attempt | None = None, stand: StandsIn | None = None
) -> tuple[Any, Any]:
    """What litellm is to wrap instead of a provider's ``stream``, so that its attempt follows it.

    Args:
        call: the call that litellm wraps it for.
        stream: the provider's.
        taken: the first chunk and the rest of the stream, where litellm has read that far.
        attempt: which one waits for it; the open one when ``None``.
        stand: makes what stands for a stream; :func:`stand_in` when ``None``.

    Returns:
        Both, renewed; as they were when no attempt is waiting for its stream.
    """
    try:
        attempt = attempt or call.open_attempt
        if attempt is None or attempt.partial is not None:
            return stream, taken
        follower = AttemptFollower(attempt, stream)
        stand = stand or stand_in
        followed = stand(stream, follower)
        if taken is None:
            return followed, taken
        chunk, rest = seams.first_chunk(taken)
        taken = seams.with_rest(taken, followed if rest is stream else stand(rest, follower))
        if chunk is None:
            follower.ended(StopAsyncIteration())
        else:
            follower.got(chunk)
    except Exception as fault:  # noqa: BLE001  # an odd stream type must not cost the caller the stream
        call.guard.report("stream", fault)
        return stream, taken
    return followed, taken


def follow(stream: Any, call: Call, context: Context) -> Any:
    """Make ``call`` last as long as ``stream``; what the caller is to get instead of it.

    That is ``stream`` itself, but for a bare generator, which is generated anew. A stream that
    cannot be followed is left alone, and its request ends here.

    Args:
        stream: what litellm's router returned.
        call: the call that it was returned for.
        context: what is current during a pull, when attempts are followed inside the stream.
    """
    watch = CallWatch(call, context)
    try:
        attempt = call.open_attempt
        if attempt is not None and attempt.partial is None:
            watch = _with_attempt(stream, call, attempt)
        return _follow(stream, watch)
    except Exception as fault:  # noqa: BLE001  # an odd stream type must not cost the caller the stream
        call.guard.report("stream", fault)
        watch.unseen()
        return stream


def _with_attempt(stream: Any, call: Call, attempt: Attempt) -> CallWatch:
    """The watch of a stream that no wrapper of the router's follows for its attempt."""
    if follow_converted(stream, attempt):
        return CallWatch(call, attempt.context)
    return CallWatch(call, attempt.context, AttemptFollower(attempt, stream))


def follow_converted(stream: Any, attempt: Attempt, stand: StandsIn | None = None) -> bool:
    """Follow, for its attempt, the chat stream that ``stream`` turns into text chunks; whether it does.

    ``stand`` as in :func:`follow_attempt`.
    """
    converter = seams.converter_in(stream)
    if converter is None:
        return False
    source = getattr(converter, seams.CONVERTED)
    setattr(converter, seams.CONVERTED, (stand or stand_in)(source, AttemptFollower(attempt, source)))
    return True


def _follow(stream: Any, watch: CallWatch) -> Any:
    if isinstance(stream, types.AsyncGeneratorType | types.GeneratorType):
        anew: Any = _regenerate_async if isinstance(stream, types.AsyncGeneratorType) else _regenerate
        renewed, inner = anew(stream, watch), cast("Any", stream)
        renewed.__name__, renewed.__qualname__ = inner.__name__, inner.__qualname__
        # Closing a generator that was never started runs none of its code: it only lets go of the inner one.
        watch.watch(renewed, inner)
        return renewed
    held = seams.held_by(stream)
    source = getattr(stream, held[0]) if held else None
    # A holder can be closed even if what it holds cannot; then only the holder hears of it.
    if hasattr(source, "aclose") or hasattr(source, "close"):
        pulled = stand_in(source, watch)
        for name in held:
            if getattr(stream, name) is source:
                setattr(stream, name, pulled)
    else:
        object.__setattr__(stream, _WATCH, watch)
        stream.__class__ = _followed_class(cast("Any", type(stream)))
    watch.watch(stream)
    return stream


async def _regenerate_async(inner: AsyncGenerator[Any, Any], follower: Follower) -> AsyncGenerator[Any, Any]:
    step: Callable[[], Any] = inner.__anext__
    while True:
        try:
            chunk = await pull_async(step, follower)
        except StopAsyncIteration:
            return
        try:
            sent = yield chunk
        except GeneratorExit:
            await close_async(inner.aclose, follower)
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the reader throws is the inner one's to handle
            step = functools.partial(inner.athrow, error)
        else:
            step = inner.__anext__ if sent is None else functools.partial(inner.asend, sent)


def _regenerate(inner: Generator[Any, Any, Any], follower: Follower) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = inner.__next__
    while True:
        try:
            chunk = pull(step, follower)
        except StopIteration as end:
            return end.value
        try:
            sent = yield chunk
        except GeneratorExit:
            close(inner.close, follower)
            raise
        except BaseException as error:  # noqa: BLE001  # whatever the reader throws is the inner one's to handle
            step = functools.partial(inner.throw, error)
        else:
            step = inner.__next__ if sent is None else functools.partial(inner.send, sent)


_WATCH: Final = "_traced_router_watch"


@functools.lru_cache(maxsize=64)
def _followed_class(kind: type) -> type:
    """A subclass of ``kind`` that tells the watch of each pull; the same one for every stream of that kind."""
    # Special methods are looked up on the class, so a watch on the instance alone is not heard.
    base = cast("Any", kind)
    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}

    def __aiter__(self: AsyncIterator[Any]) -> Any:  # noqa: N807  # a class is made of it
        iterator = base.__aiter__(self)
        return iterator if iterator is self else stand_in(iterator, getattr(self, _WATCH), self)

    def __iter__(self: Iterator[Any]) -> Any:  # noqa: N807  # a class is made of it
        iterator = base.__iter__(self)
        return iterator if iterator is self else stand_in(iterator, getattr(self, _WATCH), self)

    async def __anext__(self: AsyncIterator[Any]) -> Any:  # noqa: N807  # a class is made of it
        return await pull_async(functools.partial(base.__anext__, self), getattr(self, _WATCH))

    def __next__(self: Iterator[Any]) -> Any:  # noqa: N807  # a class is made of it
        return pull(functools.partial(base.__next__, self), getattr(self, _WATCH))

    async def aclose(self: Any) -> Any:
        return await close_async(functools.partial(base.aclose, self), getattr(self, _WATCH))

    def close_(self: Any) -> Any:
        return _closer(base.close)(functools.partial(base.close, self), getattr(self, _WATCH))

    for method in (__aiter__, __iter__, __anext__, __next__, aclose, close_):
        name = method.__name__.rstrip("_") if method is close_ else method.__name__
        if hasattr(kind, name):
            body[name] = method
    return type(kind.__name__, (kind,), body)
