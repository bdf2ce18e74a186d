"""A stream that dies on its way: recovered inside the tree, or handed to the caller as litellm hands it.

litellm's versions differ in what they do, and the tree shows what was done. 1.95 goes on with
another group even after content; 1.106 and 1.109 do not. 1.109 reads the first chunk before it
returns the stream, so that a death before it is an ordinary failure with an ordinary fallback.
"""

import asyncio
import contextlib
import gc
import importlib.metadata

import litellm
import pytest
from opentelemetry import trace

from traced_router.testing import assert_tree, of_type, span
from traced_router.testing._provider_behaviours import (
    Answer,
    DieMidStream,
    ErrorEventMidStream,
    Malformed,
    ServerError,
)

MESSAGES = [{"role": "user", "content": "hi"}]
VERSION = tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])
READS_AHEAD = VERSION >= (1, 109)
GOES_ON_AFTER_CONTENT = VERSION < (1, 106)
BEFORE_CONTENT = ErrorEventMidStream(0, ServerError(500, "boom"))
GOOD = Answer(chunks=("x", "y"))
FALLBACKS = [{"a": ["b"]}, {"b": ["c"]}]


def groups(provider, **params):
    return [provider.deployment(f"dep-{name}", group=name, **params) for name in "abc"]


def attempt(deployment, reason, status="UNSET"):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status=status,
        attributes={"litellm.deployment.id": deployment, "litellm.deployment.reason": reason},
    )


def hop(group, number, *, status="UNSET", kind="mid_stream", origin="a"):
    return span(
        f"router.fallback {group}",
        status=status,
        attributes={
            "traced_router.fallback.kind": kind,
            "traced_router.fallback.depth": number,
            "traced_router.fallback.from": origin,
            "traced_router.fallback.to": group,
        },
        children=[span(f"router.select {group}"), attempt(f"dep-{group}", "fallback", status)],
    )


def request(*children, outcome, status="UNSET", **attributes):
    return span(
        "router.chat a",
        status=status,
        attributes={"traced_router.outcome": outcome, "traced_router.streaming": True, **attributes},
        children=[span("router.select a"), attempt("dep-a", "initial", "ERROR"), *children],
    )


async def read(stream):
    return [chunk async for chunk in stream]


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


no_sync_recovery = pytest.mark.skipif(
    GOES_ON_AFTER_CONTENT,
    reason="litellm 1.95 calls the group whose sync stream died for ever, with its own router too",
)
ways = pytest.mark.parametrize(
    "asynchronous", [pytest.param(True, id="async"), pytest.param(False, id="sync", marks=no_sync_recovery)]
)


EARLY = "model_group" if READS_AHEAD else "mid_stream"


# --- before any content -------------------------------------------------------------------------


async def test_a_stream_that_dies_before_content_falls_back_in_its_tree(provider, router, recorder):
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", GOOD)
    stream = await router(*groups(provider), fallbacks=FALLBACKS).acompletion("a", MESSAGES, stream=True)
    chunks = await read(stream)

    assert text(chunks) == "xy"
    assert_tree(
        recorder,
        request(
            hop("b", 1, kind=EARLY),
            outcome="ok_after_fallback",
            **{
                "traced_router.stream.outcome": "exhausted",
                "traced_router.stream.chunks": len(chunks),
                "traced_router.time_to_first_chunk": of_type(float),
                "traced_router.fallbacks": 1,
                "traced_router.served.model_group": "b",
                "traced_router.served.deployment_id": "dep-b",
            },
        ),
    )
    assert provider.hits("dep-a") == provider.hits("dep-b") == 1


def check_sync(provider, recorder, built):
    chunks = list(built.completion("a", MESSAGES, stream=True))
    assert text(chunks) == "xy"
    assert_tree(
        recorder,
        request(hop("b", 1, kind=EARLY), outcome="ok_after_fallback", **{"traced_router.stream.chunks": len(chunks)}),
    )
    assert [sorted(r.body) for r in provider.requests] == [["messages", "model", "stream"]] * 2


@no_sync_recovery
def test_the_same_in_sync(provider, router, recorder):
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", GOOD)
    check_sync(provider, recorder, router(*groups(provider), fallbacks=FALLBACKS))


@no_sync_recovery
async def test_the_same_in_sync_inside_a_running_loop(provider, router, recorder):
    """litellm falls back in a thread of its own, with an empty context."""
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", GOOD)
    check_sync(provider, recorder, router(*groups(provider), fallbacks=FALLBACKS))


async def test_the_hop_lasts_as_long_as_its_stream(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", Answer(chunks=("x", "y"), hold_after_chunk=(1, gate)))
    stream = await router(*groups(provider), fallbacks=FALLBACKS).acompletion("a", MESSAGES, stream=True)
    await anext(stream)
    (open_hop,) = recorder.tree().find("router.fallback b")
    assert open_hop.end_ns is None
    gate.open()
    await read(stream)
    assert [s.name for s in recorder.spans()][-3:] == ["chat gpt-4o-2024-08-06", "router.fallback b", "router.chat a"]


async def test_leaving_in_the_middle_of_a_hop(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", Answer(chunks=("x", "y"), hold_after_chunk=(1, gate)))
    stream = await router(*groups(provider), fallbacks=FALLBACKS).acompletion("a", MESSAGES, stream=True)
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await gate.reached()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open()
    assert_tree(
        recorder,
        request(hop("b", 1, kind=EARLY), outcome="cancelled", **{"traced_router.stream.outcome": "cancelled"}),
    )


@ways
async def test_a_hop_whose_stream_dies_too(provider, router, recorder, asynchronous):
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", BEFORE_CONTENT)
    provider.default("dep-c", GOOD)
    built = router(*groups(provider), fallbacks=FALLBACKS)
    if asynchronous:
        chunks = await read(await built.acompletion("a", MESSAGES, stream=True))
    else:
        chunks = list(built.completion("a", MESSAGES, stream=True))

    assert text(chunks) == "xy"
    assert_tree(
        recorder,
        request(
            hop("b", 1, kind=EARLY, status="ERROR"),
            hop("c", 2, kind=EARLY, origin="b"),
            outcome="ok_after_fallback",
            **{"traced_router.fallbacks": 2, "traced_router.served.model_group": "c"},
        ),
    )


@ways
async def test_no_hop_saves_it(provider, router, recorder, asynchronous):
    """The caller gets what a plain router would raise, from the call or from the stream."""
    for deployment in ("dep-a", "dep-b", "dep-c"):
        provider.default(deployment, BEFORE_CONTENT)
    plain = litellm.Router(model_list=groups(provider), fallbacks=FALLBACKS, num_retries=0)
    theirs = await _failure(plain, asynchronous=asynchronous)
    hits = [provider.hits(f"dep-{name}") for name in "abc"]
    provider.clear()
    ours = await _failure(router(*groups(provider), fallbacks=FALLBACKS), asynchronous=asynchronous)

    assert (type(ours), str(ours)) == (type(theirs), str(theirs))
    assert [provider.hits(f"dep-{name}") for name in "abc"] == hits
    tree = recorder.tree()
    assert (tree.status, tree.attributes["traced_router.outcome"]) == ("ERROR", "error")
    assert tree.attributes["error.type"] == type(ours).__name__
    assert [c.name for c in tree.children if c.name.startswith("router.fallback")] == [
        "router.fallback b",
        "router.fallback c",
    ]
    assert {c.status for c in tree.children if c.name.startswith("router.fallback")} == {"ERROR"}


async def _failure(router, *, asynchronous):
    async def play():
        if asynchronous:
            await read(await router.acompletion("a", MESSAGES, stream=True))
        else:
            list(router.completion("a", MESSAGES, stream=True))

    with pytest.raises(Exception) as raised:  # whatever a plain router raises
        await play()
    return raised.value


async def test_without_fallbacks_it_is_the_callers_error(provider, router, recorder):
    provider.default("dep-a", BEFORE_CONTENT)
    theirs = await _failure(litellm.Router(model_list=groups(provider), num_retries=0), asynchronous=True)
    ours = await _failure(router(*groups(provider)), asynchronous=True)
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))
    assert_tree(recorder, request(outcome="error", status="ERROR", **{"error.type": type(ours).__name__}))


# --- a real connection that breaks -----------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1])
async def test_a_connection_that_breaks(provider, router, recorder, after):
    """Same chunks, same requests, same end as with a plain router; the tree tells what was done."""
    gate = provider.gate()
    provider.default("dep-a", DieMidStream(after, answer=Answer(chunks=("a", "b"), hold_after_chunk=(after, gate))))
    provider.default("dep-b", GOOD)
    plain = litellm.Router(model_list=groups(provider), fallbacks=FALLBACKS, num_retries=0)
    if not after:
        gate.open()
    theirs = await _story(plain, gate)
    hits = [provider.hits(f"dep-{name}") for name in "abc"]
    provider.clear()
    if after:
        gate = provider.gate()
        provider.default("dep-a", DieMidStream(after, answer=Answer(chunks=("a", "b"), hold_after_chunk=(after, gate))))
    ours = await _story(router(*groups(provider), fallbacks=FALLBACKS), gate)

    assert ours == theirs
    assert [provider.hits(f"dep-{name}") for name in "abc"] == hits
    if not after:
        assert_tree(recorder, request(hop("b", 1, kind=EARLY), outcome="ok_after_fallback"))
    elif GOES_ON_AFTER_CONTENT:
        assert_tree(recorder, request(hop("b", 1), outcome="ok_after_fallback"))
    else:
        ending = {"traced_router.stream.outcome": "error", "traced_router.stream.chunks": 1}
        assert_tree(recorder, request(outcome="error", status="ERROR", **ending))


async def _story(router, gate):
    """What a reader sees; the connection breaks when it has the chunks that were sent before."""
    seen = []
    try:
        async for chunk in await router.acompletion("a", MESSAGES, stream=True):
            seen.append(chunk.choices[0].delta.content)
            gate.open()
    except Exception as error:  # whatever a plain router raises
        seen.append(type(error))
    return seen


async def test_a_malformed_chunk(provider, router, recorder):
    provider.default("dep-a", Malformed())
    provider.default("dep-b", GOOD)
    stream = await router(*groups(provider), fallbacks=FALLBACKS).acompletion("a", MESSAGES, stream=True)
    assert text(await read(stream)) == "xy"
    assert_tree(recorder, request(hop("b", 1, kind=EARLY), outcome="ok_after_fallback"))


# --- context, and the frames between ----------------------------------------------------------------


async def test_a_fallback_runs_in_the_readers_task_and_leaves_it_as_it_was(provider, router, recorder):
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", GOOD)
    built = router(*groups(provider), fallbacks=FALLBACKS)
    mine = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    stream = await built.acompletion("a", MESSAGES, stream=True)

    async def elsewhere():
        with trace.use_span(mine):
            async for _ in stream:
                assert trace.get_current_span() is mine
            assert trace.get_current_span() is mine

    await asyncio.create_task(elsewhere())
    assert_tree(recorder, request(hop("b", 1, kind=EARLY), outcome="ok_after_fallback"))


async def test_streams_that_recover_at_once_do_not_mix(provider, router, recorder):
    provider.default("dep-a", BEFORE_CONTENT)
    provider.default("dep-b", GOOD)
    built = router(*groups(provider), fallbacks=FALLBACKS, enable_pre_call_checks=False, allowed_fails=100)

    async def one():
        return text(await read(await built.acompletion("a", MESSAGES, stream=True)))

    assert await asyncio.gather(*(one() for _ in range(5))) == ["xy"] * 5
    for tree in recorder.trees():
        assert_tree(tree, request(hop("b", 1, kind=EARLY), outcome="ok_after_fallback"))


# --- Anthropic: the same group again ----------------------------------------------------------------


@pytest.mark.skipif(VERSION < (1, 106), reason="litellm 1.95 hands an Anthropic stream on as it comes")
@pytest.mark.parametrize("retries", [0, 1])
async def test_an_anthropic_stream_is_tried_again_in_its_group(provider, router, recorder, retries, waits):
    """litellm starts the stream anew without ``make_call``; without a retry left it falls back."""
    overloaded = ErrorEventMidStream(0, ServerError(529, "Overloaded"))
    provider.script("dep-a", [overloaded])
    model = {"model": "anthropic/claude-sonnet-4-5"}
    built = router(*groups(provider, **model), fallbacks=FALLBACKS, num_retries=retries)
    stream = await built.aanthropic_messages(model="a", messages=MESSAGES, max_tokens=9, stream=True)
    said = b"".join([chunk async for chunk in stream])

    assert b"message_stop" in said
    assert said.count(b"message_start") == 2  # the event's name, and its type
    tree = recorder.tree()
    attempts = [s for s in tree.walk() if s.kind == "CLIENT"]
    assert [a.attributes["litellm.deployment.reason"] for a in attempts] == [
        "initial",
        "retry" if retries else "fallback",
    ]
    assert [a.status for a in attempts] == ["ERROR", "UNSET"]
    assert tree.attributes["traced_router.outcome"] == ("ok_after_retry" if retries else "ok_after_fallback")
    assert len(tree.find("router.backoff")) == len(waits)


@pytest.mark.skipif(VERSION < (1, 106), reason="litellm 1.95 hands an Anthropic stream on as it comes")
async def test_an_anthropic_stream_is_tried_again_in_its_hop(provider, router, recorder, waits):
    overloaded = ErrorEventMidStream(0, ServerError(529, "Overloaded"))
    provider.default("dep-a", overloaded)
    provider.script("dep-b", [overloaded])
    model = {"model": "anthropic/claude-sonnet-4-5"}
    built = router(*groups(provider, **model), fallbacks=FALLBACKS, num_retries=1)
    stream = await built.aanthropic_messages(model="a", messages=MESSAGES, max_tokens=9, stream=True)
    assert b"message_stop" in b"".join([chunk async for chunk in stream])

    def turn(group, *reasons):
        (first, one), (second, other) = reasons
        attempt = "chat claude-sonnet-4-5"
        return [
            span(f"router.select {group}"),
            span(attempt, status=one, attributes={"litellm.deployment.reason": first}),
            span("router.backoff"),
            span(f"router.select {group}"),
            span(attempt, status=other, attributes={"litellm.deployment.reason": second}),
        ]

    hop = span("router.fallback b", status="UNSET", children=turn("b", ("fallback", "ERROR"), ("retry", "UNSET")))
    children = [*turn("a", ("initial", "ERROR"), ("retry", "ERROR")), hop]
    outcome = {"traced_router.outcome": "ok_after_fallback"}
    assert_tree(recorder, span("router.chat a", status="UNSET", attributes=outcome, children=children))
    assert len(waits) == 2


def test_a_synchronous_stream_of_a_fallback_that_is_tried_again(provider, router, recorder):
    """1.95 starts the chain of its group anew, which is no further hop."""
    provider.script("dep-h", [ServerError()])
    provider.script("dep-g", [DieMidStream(after_chunks=0), Answer()])
    made = router(
        provider.deployment("dep-h", group="h"), provider.deployment("dep-g", group="g"), fallbacks=[{"h": ["g"]}]
    )
    with contextlib.suppress(Exception):
        list(made.completion("h", MESSAGES, stream=True))
    gc.collect()

    tree = recorder.tree()
    hops = tree.find("router.fallback g")
    assert len(hops) == 1
    assert [a.attributes["litellm.deployment.reason"] for a in hops[0].find("chat gpt-4o-2024-08-06")] == (
        ["fallback", "retry"][: provider.hits("dep-g")]
    )
