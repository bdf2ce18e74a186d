"""What is logged while a router works: every record has the ids of the span it belongs to."""

import asyncio
import contextlib
import contextvars
import logging
import threading

import httpx
import litellm
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import Decision, TracedRouter, logs
from traced_router.testing import Answer, RateLimited, Recorder

MESSAGES = [{"role": "user", "content": "the secret question"}]
LITE = "the-caller-s-own-id"
WIRE = logging.getLogger("tests.wire")
"""Logs whenever bytes are sent to a provider, or come from one, as an HTTP client's logger would."""


@pytest.fixture(autouse=True)
def _on_the_wire(monkeypatch):
    async_send, send = httpx.AsyncClient.send, httpx.Client.send
    aiter_raw, iter_raw = httpx.Response.aiter_raw, httpx.Response.iter_raw

    async def async_sending(self, *args, **kwargs):
        WIRE.info("sent")
        return await async_send(self, *args, **kwargs)

    def sending(self, *args, **kwargs):
        WIRE.info("sent")
        return send(self, *args, **kwargs)

    async def async_coming(self, chunk_size=None):
        async for raw in aiter_raw(self, chunk_size):
            WIRE.info("came")
            yield raw

    def coming(self, chunk_size=None):
        for raw in iter_raw(self, chunk_size):
            WIRE.info("came")
            yield raw

    monkeypatch.setattr(httpx.AsyncClient, "send", async_sending)
    monkeypatch.setattr(httpx.Client, "send", sending)
    monkeypatch.setattr(httpx.Response, "aiter_raw", async_coming)
    monkeypatch.setattr(httpx.Response, "iter_raw", coming)


@pytest.fixture
def records(caplog):
    """Of the wire, of the application and our own, each with its ids."""
    ids = logs.CallIds()
    caplog.handler.addFilter(ids)
    for name in ("tests", "traced_router"):
        caplog.set_level(logging.INFO, name)
    yield lambda name="tests.wire": [r for r in caplog.records if r.name == name]
    caplog.handler.removeFilter(ids)


def ids_of(record):
    return record.trace_id, record.span_id, record.litellm_trace_id


def ids_in(node, lite=LITE):
    return f"{node.trace_id:032x}", f"{node.span_id:016x}", lite


def attempts(recorder):
    return recorder.tree().find("chat gpt-4o-2024-08-06")


async def test_an_asynchronous_call(provider, router, recorder, records):
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt)}


def test_a_synchronous_call(provider, router, recorder, records):
    router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt)}


async def test_a_synchronous_call_inside_a_running_loop(provider, router, recorder, records):
    """litellm runs it in a thread of its own."""
    router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt)}


def test_calls_from_threads_do_not_mix(provider, router, recorder, records):
    made = router(provider.deployment("dep-a"))
    names = [f"id-{i}" for i in range(4)]
    threads = [
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(made.completion, "gpt-4o", MESSAGES),
            kwargs={"litellm_trace_id": name},
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {
        ids_in(tree.find("chat gpt-4o-2024-08-06")[0], tree.attributes["litellm_trace_id"]) for tree in recorder.trees()
    }
    assert {ids_of(r) for r in records() if r.getMessage() == "sent"} == expected
    assert {lite for _, _, lite in expected} == set(names)


async def test_litellm_s_own_id_when_the_caller_has_none(provider, router, recorder, records):
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt, attempt.attributes["litellm_trace_id"])}


# --- streams ---------------------------------------------------------------------------------


def gated(provider):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    return gate


async def test_a_stream_while_it_is_pulled_and_in_between(provider, router, recorder, records):
    gate = gated(provider)
    reader = logging.getLogger("tests.reader")
    with recorder.provider.get_tracer("caller").start_as_current_span("caller"):
        stream = await router(provider.deployment("dep-a")).acompletion(
            "gpt-4o", MESSAGES, stream=True, litellm_trace_id=LITE
        )
        await anext(stream)
        gate.open()
        async for _ in stream:
            reader.info("read")
        reader.info("done")

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt)}
    assert [r.getMessage() for r in records()].count("came") > 1
    assert {ids_of(r) for r in records("tests.reader")} == {ids_in(recorder.tree(), "-")}


def test_a_synchronous_stream(provider, router, recorder, records):
    gate = gated(provider)
    reader = logging.getLogger("tests.reader")
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True, litellm_trace_id=LITE)
    next(stream)
    gate.open()
    for _ in stream:
        reader.info("read")

    (attempt,) = attempts(recorder)
    assert {ids_of(r) for r in records()} == {ids_in(attempt)}
    assert [r.getMessage() for r in records()].count("came") > 1
    assert {ids_of(r) for r in records("tests.reader")} == {("-", "-", "-")}


# --- our own lines ---------------------------------------------------------------------------


def texts(found):
    return [(r.levelname, r.getMessage()) for r in found]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_fallbacks_and_cooldowns_are_lines_of_their_spans(provider, router, recorder, records, asynchronous):
    provider.script("dep-a", [RateLimited()])
    made = router(
        provider.deployment("dep-a", weight=1),
        provider.deployment("dep-c", weight=0),
        provider.deployment("dep-b", group="b"),
        fallbacks=[{"gpt-4o": ["b"]}],
        cooldown_time=60,
    )
    if asynchronous:
        await made.acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)
    else:
        made.completion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    failed, _ = attempts(recorder)
    (hop,) = recorder.tree().find("router.fallback b")
    ours = records("traced_router")
    assert texts(ours) == [
        ("WARNING", "deployment 'dep-a' cools down for 60 s (rate_limit)"),
        ("INFO", "fallback from 'gpt-4o' to 'b' (model_group) after RateLimitError"),
    ]
    assert [ids_of(r) for r in ours] == [ids_in(failed), ids_in(hop)]


class Broken:
    name = "broken"

    def __init__(self, *steps):
        self._steps = steps

    def _do(self, step):
        if step in self._steps:
            raise LookupError(MESSAGES[0]["content"])

    def pick(self, _request, candidates):
        self._do("pick")
        return Decision(candidates[0].id, "lowest_score")

    def started(self, _ticket):
        self._do("started")

    def first_chunk(self, _ticket):
        self._do("first_chunk")

    def finished(self, _ticket, _outcome):
        self._do("finished")


@pytest.mark.usefixtures("tracing_may_fail")
async def test_what_a_strategy_does_wrong_is_a_line_of_where_it_did(provider, router, recorder, records):
    made = router(provider.deployment("dep-a"), routing_strategy=Broken("pick"))
    await made.acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)
    await made.acompletion("gpt-4o", MESSAGES)

    (line,) = records("traced_router")
    first = next(t for t in recorder.trees() if t.attributes["litellm_trace_id"] == LITE)
    assert line.levelname == "ERROR"
    assert line.getMessage().startswith("strategy 'broken' failed in pick() with LookupError at test_log_records.py:")
    assert ids_of(line) == ids_in(first.find("router.select gpt-4o")[0])


async def test_what_it_has_not_learnt_is_a_line_of_the_request(provider, router, recorder, records):
    made = router(provider.deployment("dep-a"), routing_strategy=Broken("started", "first_chunk", "finished"))
    stream = await made.acompletion("gpt-4o", MESSAGES, stream=True, litellm_trace_id=LITE)
    async for _ in stream:
        pass

    (line,) = records("traced_router")
    assert texts([line])[0][0] == "WARNING"
    assert ids_of(line) == ids_in(recorder.tree().find("router.select gpt-4o")[0])

    second = router(provider.deployment("dep-a"), routing_strategy=Broken("first_chunk", "finished"))
    stream = await second.acompletion("gpt-4o", MESSAGES, stream=True, litellm_trace_id=LITE)
    async for _ in stream:
        pass

    lines = records("traced_router")[1:]
    assert [r.getMessage().split(" with ")[0] for r in lines] == [
        "strategy 'broken' failed in first_chunk()",
        "strategy 'broken' failed in finished()",
    ]
    assert {ids_of(r) for r in lines} == {ids_in(recorder.trees()[-1])}


@pytest.mark.usefixtures("tracing_may_fail")
async def test_no_line_says_what_was_sent_or_answered(provider, router, caplog):
    """At any level, of a strategy's exceptions too."""
    caplog.set_level(logging.DEBUG, "traced_router")
    provider.script("dep-a", [RateLimited(message="the secret answer")])
    made = router(
        provider.deployment("dep-a", weight=1, api_key="sk-secret"),
        provider.deployment("dep-c", weight=0, api_key="sk-secret"),
        provider.deployment("dep-b", group="b", api_key="sk-secret"),
        fallbacks=[{"gpt-4o": ["b"]}],
        routing_strategy=Broken("pick", "started", "finished"),
        cooldown_time=60,
    )
    await made.acompletion("gpt-4o", MESSAGES)

    ours = [r for r in caplog.records if r.name == "traced_router"]
    assert {r.levelname for r in ours} == {"DEBUG", "INFO", "WARNING", "ERROR"}
    said = "\n".join(f"{r.getMessage()} {vars(r)}" for r in ours)
    for secret in ("the secret question", "the secret answer", "sk-secret", provider.url, "/v1"):
        assert secret not in said


# --- calls that nobody records -----------------------------------------------------------------


async def test_not_sampled_a_call_can_be_found_in_the_log_all_the_same(provider, router, records):
    unsampled = Recorder(sampler=ALWAYS_OFF)
    made = router(provider.deployment("dep-a"), tracer_provider=unsampled.provider)
    await made.acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)
    await made.acompletion("gpt-4o", MESSAGES)

    first, second = (ids_of(r) for r in records() if r.getMessage() == "sent")
    assert first[2] == LITE
    assert second[2] not in {LITE, "-"}
    assert "-" not in {*first, *second}
    assert first[0] != second[0]


async def test_without_an_sdk_litellm_s_id_is_there(provider, records):
    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0)
    await made.acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    assert {ids_of(r) for r in records()} == {("-", "-", LITE)}


async def test_without_an_sdk_a_cooldown_is_a_line_of_its_call(provider, records):
    provider.script("dep-a", [RateLimited()])
    made = TracedRouter(
        model_list=[provider.deployment("dep-a", weight=1), provider.deployment("dep-b", weight=0)],
        num_retries=0,
        cooldown_time=60,
    )
    with contextlib.suppress(litellm.RateLimitError):
        await made.acompletion("gpt-4o", MESSAGES, litellm_trace_id=LITE)

    (line,) = records("traced_router")
    assert texts([line]) == [("WARNING", "deployment 'dep-a' cools down for 60 s (rate_limit)")]
    assert ids_of(line) == ("-", "-", LITE)
    (made.retire if hasattr(made, "retire") else made.discard)()


@pytest.mark.parametrize("sampled", [True, False])
async def test_a_router_is_silent_about_another_one_s_calls(provider, router, records, sampled):
    """litellm's callbacks are everybody's: both routers cool the deployment down."""
    provider.script("dep-a", [RateLimited()])
    pair = [provider.deployment("dep-a", weight=1), provider.deployment("dep-b", weight=0)]
    tracing = Recorder() if sampled else Recorder(sampler=ALWAYS_OFF)
    calling, _idle = (router(*pair, cooldown_time=60, tracer_provider=tracing.provider) for _ in range(2))
    with contextlib.suppress(litellm.RateLimitError):
        await calling.acompletion("gpt-4o", MESSAGES)
    await asyncio.sleep(0)

    assert texts(records("traced_router")) == [("WARNING", "deployment 'dep-a' cools down for 60 s (rate_limit)")]
