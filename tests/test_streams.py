"""Followers and stand-ins, on streams of every shape, without litellm's router around them."""

import asyncio
import gc
import inspect
import types
import weakref
from dataclasses import dataclass

import pytest
from litellm.exceptions import MidStreamFallbackError
from opentelemetry import metrics, trace

from traced_router import _streams as streams
from traced_router._facts import AttemptFacts, CallFacts, DeploymentFacts
from traced_router._followers import AttemptFollower, CallWatch
from traced_router._guard import Guard
from traced_router._tree import Tree
from traced_router.testing import Recorder


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def guard():
    return Guard(metrics.get_meter_provider)


@pytest.fixture
def call(recorder, guard):
    tree = Tree(lambda: recorder.provider.get_tracer("test"), guard)
    made = tree.open_call(CallFacts("chat", "g", streaming=True))
    made.streams()
    return made


@pytest.fixture
def attempt(call):
    return call.attempt(AttemptFacts(DeploymentFacts(id="d", model="m")), None)


def ending(recorder):
    attributes = recorder.tree().attributes
    return attributes.get("traced_router.outcome"), attributes.get("traced_router.stream.outcome")


def follow(stream, call):
    return streams.follow(stream, call, call.parent_context(None))


async def letters():
    yield "a"
    yield "b"


class Async:
    """An asynchronous iterator that is no generator."""

    def __init__(self):
        self.left = ["b", "a"]
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


class Closable(Async):
    async def aclose(self):
        self.closed += 1


class ClosableByClose(Async):
    async def close(self):
        self.closed += 1
        return "done"


class Sync:
    def __init__(self):
        self.left = ["b", "a"]
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()

    def close(self):
        self.closed += 1


class Both(Async, Sync):
    pass


@dataclass
class Heard:
    """A follower that only notes."""

    said: list
    context: object = None
    countdown: object = None

    def pulling(self):
        self.said.append("pulling")

    def got(self, chunk):
        self.said.append(chunk)

    def ended(self, error):
        self.said.append(type(error))

    def closing(self):
        self.said.append("closing")

    def closed(self):
        self.said.append("closed")


@pytest.fixture
def heard():
    return Heard([], trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))))


# --- stand-ins --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Async, Closable, ClosableByClose, Sync, Both])
def test_a_stand_in_has_what_its_stream_has_and_nothing_more(kind, heard):
    stream = kind()
    stand_in = streams.stand_in(stream, heard)
    assert isinstance(stand_in, kind)
    names = ("__aiter__", "__anext__", "__iter__", "__next__", "aclose", "close", "left", "nothing")
    assert {n for n in names if hasattr(stand_in, n)} == {n for n in names if hasattr(stream, n)}
    stand_in.left = ["z"]
    stand_in.more = 1
    assert (stream.left, stream.more) == (["z"], 1)


async def test_a_stand_in_is_pulled_in_its_context_only(heard):
    seen = []

    async def stream():
        seen.append(trace.get_current_span().get_span_context().span_id)
        yield "a"

    stand_in = streams.stand_in(stream(), heard)
    assert inspect.isasyncgen(stand_in)
    seen += [trace.get_current_span().get_span_context().span_id async for _ in stand_in]
    assert seen == [2, 0]
    assert heard.said == ["pulling", "a", "pulling", StopAsyncIteration]


async def test_a_stand_in_can_be_pulled_before_it_is_iterated(heard):
    assert await anext(streams.stand_in(Async(), heard)) == "a"
    assert next(streams.stand_in(Sync(), heard)) == "a"


async def test_a_stand_in_of_an_iterable_pulls_from_its_iterator(heard):
    class Iterable:
        async def __aiter__(self):
            yield 1

        def __iter__(self):
            yield 2

    assert [x async for x in streams.stand_in(Iterable(), heard)] == [1]
    assert list(streams.stand_in(Iterable(), heard)) == [2]


async def test_closing_a_stand_in_closes_its_stream(heard):
    for stream, name in ((Closable(), "aclose"), (ClosableByClose(), "close")):
        heard.said.clear()
        await getattr(streams.stand_in(stream, heard), name)()
        assert (stream.closed, heard.said) == (1, ["closing", "closed"])
    heard.said.clear()
    stream = Sync()
    streams.stand_in(stream, heard).close()
    assert (stream.closed, heard.said) == (1, ["closing", "closed"])


async def test_a_stream_that_cannot_be_closed_raises_its_own_error(heard):
    class Stuck(Async):
        async def aclose(self):
            raise OSError("stuck")

    with pytest.raises(OSError, match="stuck"):
        await streams.stand_in(Stuck(), heard).aclose()
    assert heard.said == ["closing", "closed"]


# --- generators --------------------------------------------------------------------------------


async def test_an_async_generator_stays_one(call, recorder):
    stream = follow(letters(), call)
    assert type(stream) is types.AsyncGeneratorType
    assert (stream.__name__, stream.__qualname__) == ("letters", "letters")
    assert [x async for x in stream] == ["a", "b"]
    assert ending(recorder) == ("ok", "exhausted")


async def test_an_async_generator_is_sent_and_thrown_to(call, recorder):
    async def inner():
        got = []
        while len(got) < 3:
            try:
                got.append((yield len(got)))
            except KeyError as error:
                got.append(error.args[0])
        yield got

    stream = follow(inner(), call)
    assert await stream.asend(None) == 0
    assert await stream.asend("x") == 1
    assert await stream.athrow(KeyError("k")) == 2
    assert await anext(stream) == ["x", "k", None]
    await stream.aclose()
    assert ending(recorder) == ("abandoned", "closed")


async def test_what_an_async_generator_does_not_catch_is_the_readers(call, recorder):
    stream = follow(letters(), call)
    await anext(stream)
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        await stream.athrow(error)
    assert raised.value is error
    assert ending(recorder) == ("error", "error")


def test_a_generator_is_sent_thrown_to_and_returns(call, recorder):
    def inner():
        try:
            got = yield "first"
        except ValueError:
            got = "thrown"
        got = [got, (yield "second")]
        return got

    def outer():
        return (yield from follow(inner(), call))

    stream = outer()
    assert next(stream) == "first"
    assert stream.throw(ValueError()) == "second"
    with pytest.raises(StopIteration) as end:
        stream.send("sent")
    assert end.value.value == ["thrown", "sent"]
    assert ending(recorder) == ("ok", "exhausted")


def test_a_generator_is_closed(call, recorder):
    cleaned = []

    def inner():
        try:
            yield 1
        finally:
            cleaned.append(True)

    stream = follow(inner(), call)
    assert type(stream) is types.GeneratorType
    next(stream)
    next_of_plain = stream.close()
    assert next_of_plain is None
    assert cleaned == [True]
    assert ending(recorder) == ("abandoned", "closed")


async def test_a_generator_that_never_started_is_over_when_it_is_closed(call, recorder):
    stream = follow(letters(), call)
    await stream.aclose()
    assert ending(recorder)[0] == "abandoned"


# --- anything else --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Async, Closable])
async def test_an_object_keeps_its_identity_and_its_class(kind, call, recorder):
    stream = kind()
    followed = follow(stream, call)
    assert followed is stream
    assert isinstance(stream, kind)
    assert (type(stream).__name__, type(stream).__module__) == (kind.__name__, kind.__module__)
    assert [x async for x in stream] == ["a", "b"]
    assert ending(recorder) == ("ok", "exhausted")


@pytest.mark.parametrize("kind", [Closable, ClosableByClose, Sync])
async def test_an_object_is_closed_by_the_name_it_has(kind, call, recorder):
    stream = follow(kind(), call)
    close = stream.aclose if hasattr(stream, "aclose") else stream.close
    result = close()
    if inspect.isawaitable(result):
        assert await result == ("done" if kind is ClosableByClose else None)
    assert stream.closed == 1
    assert ending(recorder) == ("abandoned", "closed")


async def test_a_stream_that_closes_itself_at_its_end_is_not_closed_by_its_reader(call, recorder):
    class Tidy(Closable):
        async def __anext__(self):
            try:
                return await super().__anext__()
            except StopAsyncIteration:
                await self.aclose()
                raise

    stream = follow(Tidy(), call)
    assert [x async for x in stream] == ["a", "b"]
    assert stream.closed == 1
    assert ending(recorder) == ("ok", "exhausted")


async def test_an_object_is_followed_through_the_iterator_it_makes(call, recorder):
    class Iterable:
        async def __aiter__(self):
            yield "a"

    async for _ in follow(Iterable(), call):
        gc.collect()  # nobody but the iterator holds the object
        assert recorder.tree().end_ns is None
    assert ending(recorder) == ("ok", "exhausted")


def test_a_sync_object_is_followed_through_the_iterator_it_makes(call, recorder):
    class Iterable(Sync):
        def __iter__(self):
            yield from ("a", "b")

    assert list(follow(Iterable(), call)) == ["a", "b"]
    assert ending(recorder) == ("ok", "exhausted")


def test_a_sync_object_read_by_next(call, recorder):
    assert list(follow(Sync(), call)) == ["a", "b"]
    assert ending(recorder) == ("ok", "exhausted")


def test_a_dropped_object_is_collected_at_once(call, recorder):
    gc.disable()
    try:
        stream = follow(Sync(), call)
        gone = weakref.ref(stream)
        del stream
        assert gone() is None
        assert ending(recorder) == ("abandoned", "abandoned")
    finally:
        gc.enable()


class Slots:
    __slots__ = ()

    def __next__(self):
        return 1


@pytest.mark.parametrize("stream", [Slots(), iter([1]), map(str, [1])])
def test_what_cannot_be_followed_is_handed_on_and_its_request_ends(stream, call, attempt, recorder, guard):
    assert follow(stream, call) is stream
    assert guard.faults == 1
    assert ending(recorder) == ("ok", None)
    assert recorder.open_spans() == []
    assert next(stream) in (1, "1")


# --- litellm's own holders, by their names -----------------------------------------------------------


class HiddenParamsAsyncIteratorWrapper:
    def __init__(self, inner):
        self.inner = inner

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.inner.__anext__()

    async def aclose(self):
        if hasattr(self.inner, "aclose"):
            await self.inner.aclose()


class TextCompletionStreamWrapper:
    def __init__(self, stream):
        self.completion_stream = stream

    def __aiter__(self):
        return self

    async def __anext__(self):
        return (await self.completion_stream.__anext__()).upper()


class FallbackStreamWrapper:
    def __init__(self, stream):
        self._async_generator = stream
        self.completion_stream = stream


async def test_a_holder_keeps_its_very_class_and_what_it_holds_is_followed(call, recorder):
    stream = HiddenParamsAsyncIteratorWrapper(letters())
    assert follow(stream, call) is stream
    assert type(stream) is HiddenParamsAsyncIteratorWrapper
    assert [x async for x in stream] == ["a", "b"]
    assert ending(recorder) == ("ok", "exhausted")


async def test_both_names_of_what_is_held_get_the_same_stand_in(call):
    stream = FallbackStreamWrapper(letters())
    follow(stream, call)
    assert stream._async_generator is stream.completion_stream
    other = FallbackStreamWrapper(letters())
    other.completion_stream = kept = letters()
    follow(other, call)
    assert other.completion_stream is kept


async def test_a_holder_of_what_cannot_be_closed_is_heard_when_it_is_closed(call, recorder):
    stream = follow(HiddenParamsAsyncIteratorWrapper(Async()), call)
    await anext(stream)
    await stream.aclose()
    assert ending(recorder) == ("abandoned", "closed")


@pytest.mark.parametrize("held", [True, False])
async def test_a_converted_stream_is_followed_at_its_source_for_the_attempt(call, attempt, recorder, held):
    converter = TextCompletionStreamWrapper(letters())
    stream = follow(HiddenParamsAsyncIteratorWrapper(converter) if held else converter, call)
    assert isinstance(converter.completion_stream._follower, AttemptFollower)
    assert [x async for x in stream] == ["A", "B"]
    assert attempt.answered
    assert ending(recorder) == ("ok", "exhausted")


# --- faults of our own ---------------------------------------------------------------------------


async def test_a_fault_in_a_follower_costs_the_reader_nothing(call, attempt, recorder, guard, monkeypatch):
    def broken(*_args, **_kwargs):
        raise LookupError

    stream, _ = streams.follow_attempt(call, Async())
    stream = follow(_through(stream), call)
    monkeypatch.setattr("traced_router._readers.StreamReader.chunk", broken)
    monkeypatch.setattr("traced_router._readers.StreamReader.finish", broken)
    monkeypatch.setattr(type(call), "first_chunk", broken)
    assert [x async for x in stream] == ["a", "b"]
    assert guard.faults == 5
    assert recorder.open_spans() == []


async def _through(stream):
    """As litellm's router wraps a stream: closing the generator closes what it reads."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        if hasattr(stream, "aclose"):
            await stream.aclose()


def test_a_clock_that_fails_costs_the_reader_nothing(call, guard):
    def broken():
        raise OSError

    watch = CallWatch(call, call.parent_context(None))
    watch._clock = broken
    watch.pulling()
    assert guard.faults == 1


def test_a_stream_that_cannot_be_stood_in_for_is_handed_on(call, attempt, guard):
    class Odd:
        def __getattribute__(self, name):
            raise LookupError(name)

    stream = Odd()
    assert streams.follow_attempt(call, stream) == (stream, None)
    assert guard.faults == 1


# --- attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
async def test_the_first_content_is_the_attempts(call, attempt, recorder, wrapped):
    def delta(content):
        return {"choices": [{"delta": {"content": content}, "index": 0}], "id": "c", "model": "m"}

    async def chunks():
        for content in (None, "a", "b"):
            yield delta(content)

    stream = chunks()
    if wrapped:
        stream = _through(streams.follow_attempt(call, stream)[0])
    async for _ in follow(stream, call):
        pass
    tree = recorder.tree()
    (node,) = tree.children
    assert node.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert tree.attributes["traced_router.stream.chunks"] == 3
    assert tree.attributes["traced_router.time_to_first_chunk"] > 0


async def test_a_reader_that_leaves_a_stream_leaves_its_attempt(call, attempt, recorder):
    stream = _through(streams.follow_attempt(call, Closable())[0])
    stream = follow(stream, call)
    await anext(stream)
    await stream.aclose()
    assert attempt.done
    assert not attempt.failed


def test_without_an_open_attempt_a_stream_is_left_as_it_is(call):
    stream = Async()
    assert streams.follow_attempt(call, stream) == (stream, None)


def test_an_attempt_is_followed_once(call, attempt):
    stream = Async()
    followed, _ = streams.follow_attempt(call, stream)
    assert type(followed) is not Async
    assert streams.follow_attempt(call, stream) == (stream, None)


@dataclass(frozen=True)
class Taken:
    """What litellm 1.109 has when it has read the first chunk."""

    chunk: object
    rest: object


async def test_a_chunk_that_litellm_has_read_already_counts(call, attempt, recorder):
    stream = Async()
    chunk = await anext(stream)
    followed, taken = streams.follow_attempt(call, stream, Taken(chunk, stream))
    assert taken.chunk == "a"
    assert taken.rest is followed
    assert [x async for x in taken.rest] == ["b"]
    assert attempt.done


async def test_the_rest_may_be_read_from_elsewhere(call, attempt):
    stream, rest = Async(), letters()
    followed, taken = streams.follow_attempt(call, stream, Taken("x", rest))
    assert taken.rest is not followed
    assert [x async for x in taken.rest] == ["a", "b"]
    assert attempt.done


def test_a_stream_that_was_empty_is_over(call, attempt):
    stream = Async()
    streams.follow_attempt(call, stream, Taken(None, stream))
    assert attempt.done
    assert not attempt.failed


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), None),
        (KeyboardInterrupt(), None),
        (OSError(), "connection"),
    ],
    ids=["cancelled", "destroyed", "interrupted", "failed"],
)
def test_how_a_pull_that_raises_ends_an_attempt(call, attempt, recorder, error, category):
    AttemptFollower(attempt, iter([])).ended(error)
    call.finish("ok")
    node = recorder.tree().children[0]
    found = node.attributes.get("traced_router.error.category")
    assert found == category or (category == "connection" and node.status == "ERROR")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StopIteration(), ("ok", "exhausted")),
        (StopAsyncIteration(), ("ok", "exhausted")),
        (asyncio.CancelledError(), ("cancelled", "cancelled")),
        (GeneratorExit(), ("abandoned", "abandoned")),
        (SystemExit(), ("abandoned", "abandoned")),
        (OSError(), ("error", "error")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_a_pull_that_raises_ends_a_request(call, attempt, recorder, error, expected):
    CallWatch(call, call.parent_context(None), AttemptFollower(attempt, None)).ended(error)
    assert ending(recorder) == expected
    assert attempt.done


def while_handling(error, *steps):
    """Take steps as inside ``except``."""
    try:
        raise error
    except type(error):
        for step in steps:
            step()


def test_litellm_closes_a_stream_whose_provider_said_that_it_failed(call, attempt):
    follower = AttemptFollower(attempt, None)
    failed = MidStreamFallbackError(message="overloaded", model="m", llm_provider="anthropic")
    while_handling(failed, follower.closing)
    assert attempt.failed
    follower.closed()


def test_a_reader_that_closes_while_it_handles_an_error_of_its_own_has_left(call, attempt, recorder):
    watch = CallWatch(call, call.parent_context(None), AttemptFollower(attempt, None))
    failed = MidStreamFallbackError(message="another stream's", model="m", llm_provider="anthropic")
    while_handling(failed, watch.closing, watch.closed)
    assert not attempt.failed
    assert ending(recorder) == ("abandoned", "closed")


def test_nothing_comes_after_the_end(call, recorder):
    stream = Sync()
    watch = CallWatch(call, call.parent_context(None))
    watch.watch(stream)
    watch.pulling()
    watch.ended(StopIteration())
    watch.closing()
    watch.closed()
    watch.dropped()
    watch.ended(OSError())
    del stream
    assert ending(recorder) == ("ok", "exhausted")
    assert recorder.ended_twice() == []
