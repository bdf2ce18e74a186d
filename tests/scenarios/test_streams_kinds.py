"""Every kind of stream that the router returns, on the ways out that all of them share."""

import asyncio
import gc
import importlib.metadata
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import litellm
import pytest
from litellm.responses.streaming_iterator import BaseResponsesAPIStreamingIterator
from opentelemetry import trace

from traced_router._tree import Call
from traced_router.testing import absent, assert_tree, of_type, span
from traced_router.testing._provider_behaviours import Answer

MESSAGES = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
VERSION = tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])
ANSWER = Answer(chunks=("a", "b", "c"), input_tokens=10, output_tokens=5)


@dataclass(frozen=True)
class Kind:
    """One way to ask for a stream."""

    call: Callable[[Any], Any]
    name: str = "router.chat chat"
    attempt: str = "chat gpt-4o-2024-08-06"
    counts: bool = False
    """Its provider says how many tokens there were, without being asked."""
    cyclic: bool = False
    """litellm's own object refers to itself, and waits for the collector when it is dropped."""


def asks(method, **arguments):
    return lambda router: getattr(router, method)(**arguments, stream=True)


CHAT = {"model": "chat", "messages": MESSAGES}
KINDS = {
    "chat": Kind(asks("acompletion", **CHAT)),
    "chat-sync": Kind(asks("completion", **CHAT)),
    "chat-priority": Kind(asks("acompletion", **CHAT, priority=1)),
    "chat-scheduled": Kind(asks("schedule_acompletion", **CHAT, priority=1)),
    "chat-create": Kind(lambda router: router.chat.completions.create(**CHAT, stream=True)),
    "text": Kind(
        asks("atext_completion", model="text", prompt="hi"),
        "router.text_completion text",
        "text_completion gpt-3.5-turbo-instruct",
    ),
    "text-sync": Kind(
        asks("text_completion", model="text", prompt="hi", custom_llm_provider="text-completion-openai"),
        "router.text_completion text",
        "text_completion gpt-3.5-turbo-instruct",
    ),
    "responses": Kind(asks("aresponses", model="chat", input="hi"), counts=True, cyclic=True),
    "responses-sync": Kind(asks("responses", model="chat", input="hi"), counts=True),
    "responses-bridge": Kind(
        asks("aresponses", model="claude", input="hi"),
        "router.chat claude",
        "chat claude-sonnet-4-5",
        counts=True,
        cyclic=True,
    ),
    "anthropic": Kind(
        asks("aanthropic_messages", model="claude", messages=MESSAGES, max_tokens=9),
        "router.chat claude",
        "chat claude-sonnet-4-5",
        counts=True,
        cyclic=True,
    ),
    "anthropic-bridge": Kind(asks("aanthropic_messages", **CHAT, max_tokens=9), counts=True, cyclic=True),
    "gemini": Kind(
        lambda router: router.agenerate_content_stream(model="gemini", contents=CONTENTS),
        "router.generate_content gemini",
        "generate_content gemini-2.0-flash",
        counts=True,
    ),
    "gemini-sync": Kind(
        lambda router: router.generate_content_stream(model="gemini", contents=CONTENTS),
        "router.generate_content gemini",
        "generate_content gemini-2.0-flash",
        counts=True,
    ),
    "gemini-bridge": Kind(
        lambda router: router.agenerate_content_stream(model="chat", contents=CONTENTS),
        "router.generate_content chat",
        "generate_content gpt-4o-2024-08-06",
        counts=VERSION >= (1, 109),  # that is when litellm asks the provider for usage here
    ),
}
every_kind = pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items()])


def deployments(provider):
    return (
        provider.deployment("dep-chat", group="chat"),
        provider.deployment("dep-text", group="text", model="text-completion-openai/gpt-3.5-turbo-instruct"),
        provider.deployment("dep-claude", group="claude", model="anthropic/claude-sonnet-4-5"),
        provider.deployment("dep-gemini", group="gemini", model="gemini/gemini-2.0-flash"),
    )


@pytest.fixture
def made(provider, router):
    for deployment in ("dep-chat", "dep-text", "dep-claude", "dep-gemini"):
        provider.default(deployment, ANSWER)
    return router(*deployments(provider))


async def start(kind, router):
    stream = kind.call(router)
    return await stream if inspect.isawaitable(stream) else stream


async def pull(stream):
    """One chunk, in the way that the kind is read; ``END`` when there is none."""
    return await anext(stream, END) if _is_async(stream) else next(stream, END)


END = object()


def _is_async(stream):
    if isinstance(stream, litellm.CustomStreamWrapper):
        return not hasattr(stream, "_sync_generator")
    return hasattr(stream, "__anext__") and not hasattr(stream, "__next__")


async def read(stream):
    if _is_async(stream):
        return [chunk async for chunk in stream]
    return list(stream)


def tree_of(kind, outcome, ending, chunks, **attributes):
    return span(
        kind.name,
        kind="INTERNAL",
        status="UNSET",
        attributes={
            "traced_router.outcome": outcome,
            "traced_router.streaming": True,
            "traced_router.stream.outcome": ending,
            "traced_router.stream.chunks": chunks,
            "traced_router.time_to_first_chunk": of_type(float) if chunks else absent,
        },
        children=[
            span(kind.name.replace(kind.name.split()[0], "router.select")),
            span(kind.attempt, kind="CLIENT", status="UNSET", attributes=attributes),
        ],
    )


@every_kind
async def test_read_to_the_end(kind, made, recorder):
    stream = await start(kind, made)
    assert recorder.tree().end_ns is None
    chunks = await read(stream)
    assert_tree(recorder, tree_of(kind, "ok", "exhausted", len(chunks)))
    assert [s.name for s in recorder.spans()][-2:] == [kind.attempt, kind.name]


@every_kind
async def test_the_same_chunks_in_the_same_object(kind, made, provider):
    plain = litellm.Router(model_list=list(deployments(provider)), num_retries=0)
    theirs, ours = await start(kind, plain), await start(kind, made)

    assert type(ours).__qualname__ == type(theirs).__qualname__
    assert type(ours).__module__ == type(theirs).__module__
    for known in (litellm.CustomStreamWrapper, BaseResponsesAPIStreamingIterator):
        assert isinstance(ours, known) == isinstance(theirs, known)
    names = ("aclose", "close", "__next__", "__anext__", "_hidden_params", "chunks", "completed_response")
    assert {n for n in names if hasattr(ours, n)} == {n for n in names if hasattr(theirs, n)}
    assert shapes(await read(ours)) == shapes(await read(theirs))
    if isinstance(ours, BaseResponsesAPIStreamingIterator):
        assert type(ours.completed_response) is type(theirs.completed_response)
    bodies = [{k: v for k, v in r.body.items() if k != "metadata"} for r in provider.requests]
    assert bodies[0] == bodies[1]


def shapes(chunks):
    """The types of what was read; bytes are reads of a socket, whose number is the network's."""
    types = [type(c) for c in chunks]
    return {bytes} if set(types) == {bytes} else types


@every_kind
async def test_broken_off_and_dropped(kind, made, recorder):
    stream = await start(kind, made)
    await pull(stream)
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(stream)
        del stream
        if kind.cyclic and gone() is not None:
            gc.collect()
        assert gone() is None
        assert_tree(recorder, tree_of(kind, "abandoned", "abandoned", 1))
    finally:
        gc.enable()


@every_kind
async def test_never_read(kind, made, recorder):
    stream = await start(kind, made)
    gc.collect()
    assert recorder.tree().end_ns is None
    del stream
    gc.collect()
    assert_tree(recorder, tree_of(kind, "abandoned", "abandoned", 0))


@every_kind
async def test_closed_half_way(kind, made, recorder):
    stream = await start(kind, made)
    await pull(stream)
    if _is_async(stream) and hasattr(stream, "aclose"):
        await stream.aclose()
    elif hasattr(stream, "close"):
        stream.close()
    else:
        pytest.skip("litellm's object cannot be closed")
    assert_tree(recorder, tree_of(kind, "abandoned", "closed", 1))


@every_kind
async def test_nothing_is_attached_between_pulls(kind, made, recorder):
    stream = await start(kind, made)
    mine = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(mine):
        while await pull(stream) is not END:
            assert trace.get_current_span() is mine
        assert trace.get_current_span() is mine
    assert recorder.tree().attributes["traced_router.outcome"] == "ok"


@every_kind
async def test_read_in_another_task(kind, made, recorder):
    stream = await start(kind, made)
    first = await pull(stream)
    rest = await asyncio.create_task(read(stream))
    assert_tree(recorder, tree_of(kind, "ok", "exhausted", len([first, *rest])))


@every_kind
async def test_what_the_attempt_knows(kind, made, recorder):
    await read(await start(kind, made))
    (node,) = recorder.tree().find(kind.attempt)
    assert node.attributes["gen_ai.response.time_to_first_chunk"] > 0
    found = [node.attributes.get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output")]
    assert found == ([10, 5] if kind.counts else [None, None])


# --- what a routing strategy hears ---------------------------------------------------------------


class Listener:
    """Hears of one attempt."""

    def __init__(self, ends):
        self._ends = ends

    def first_chunk(self):
        pass

    def ended(self, end):
        self._ends.append(end)


@pytest.fixture
def ends(monkeypatch):
    """The ends of all attempts, as a strategy that listens hears of them."""
    heard = []
    attempt = Call.attempt
    monkeypatch.setattr(
        Call,
        "attempt",
        lambda call, facts, hop, owner, _, **named: attempt(call, facts, hop, owner, Listener(heard), **named),
    )
    return heard


@every_kind
async def test_one_that_is_read_to_its_end_was_not_left(kind, made, recorder, ends):
    await read(await start(kind, made))
    (end,) = ends
    assert (end.cancelled, end.failure, end.answer.output_tokens) == (False, None, 5 if kind.counts else None)


@every_kind
async def test_one_that_is_dropped_was_left(kind, made, recorder, ends):
    stream = await start(kind, made)
    await pull(stream)
    del stream
    gc.collect()
    (end,) = ends
    assert (end.cancelled, end.failure) == (True, None)


@every_kind
async def test_one_that_is_closed_was_left(kind, made, recorder, ends):
    stream = await start(kind, made)
    await pull(stream)
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    if close is None:
        pytest.skip("litellm's object cannot be closed")
    closing = close()
    if inspect.isawaitable(closing):
        await closing
    (end,) = ends
    assert (end.cancelled, end.failure) == (True, None)
    assert end.answer is not None


async def test_one_whose_pull_is_cancelled_was_left(provider, made, recorder, ends):
    gate = provider.gate()
    provider.default("dep-chat", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await start(KINDS["chat"], made)
    await pull(stream)
    task = asyncio.ensure_future(read(stream))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (end,) = ends
    assert (end.cancelled, end.failure) == (True, None)
    assert end.answer.response_model == "gpt-4o-2024-08-06"
