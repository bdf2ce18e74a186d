"""Content: where a router is told to capture it, what each kind of call shows of it, and how it is kept back."""

import base64
import contextlib
import gc
import hashlib
import json
import time

import litellm
import pytest
from opentelemetry import _logs as logs_api
from opentelemetry import trace

from traced_router import ConfigurationError
from traced_router._capture import EVENTS
from traced_router.testing._provider_behaviours import (
    Answer,
    DieMidStream,
    RateLimited,
    ServerError,
    ToolCall,
)

MESSAGES = [{"role": "user", "content": "hi"}]
SPAN = {"capture_content": "SPAN_ONLY"}
ASKED = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
INPUT = "gen_ai.input.messages"
OUTPUT = "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"
TOOLS = "gen_ai.tool.definitions"


def text(content):
    return {"type": "text", "content": content}


def said(*parts, reason="stop"):
    return [{"role": "assistant", "parts": list(parts), "finish_reason": reason}]


HELLO = said(text("hello"))


def content(node):
    """What a span shows of content, parsed."""
    own = {key: value for key, value in node.attributes.items() if key.startswith((INPUT, OUTPUT, SYSTEM, TOOLS))}
    return {key: value if value is True else json.loads(value) for key, value in own.items()}


def attempts(recorder):
    """The content of every attempt, in order; no other span has any."""
    nodes = [node for tree in recorder.trees() for node in tree.walk()]
    assert [node.name for node in nodes if content(node) and node.kind != "CLIENT"] == []
    return [content(node) for node in nodes if node.kind == "CLIENT"]


class Logs(logs_api.LoggerProvider):
    """A logger provider that keeps what is emitted."""

    def __init__(self):
        self.events = []

    def get_logger(self, name, *_args, **_kwargs):
        assert name == "traced_router"
        return self

    def emit(self, **event):
        self.events.append(event)


# --- off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [None, {"capture_content": "NO_CONTENT"}, {**SPAN, "llm_spans": False}])
async def test_nothing_is_captured(provider, recorder, router, settings, monkeypatch):
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    logs = Logs()
    made = router(provider.deployment("dep-a"), settings=settings, logger_provider=logs)
    await made.acompletion("gpt-4o", MESSAGES)

    assert [content(node) for node in recorder.tree().walk()] == [{}, {}, {}]
    assert logs.events == []


async def test_the_conventions_variable_turns_it_on(provider, recorder, router, monkeypatch):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)
    monkeypatch.setenv("TRACED_ROUTER_CAPTURE_CONTENT", "NO_CONTENT")
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}, {}]


# --- every kind of call ------------------------------------------------------------------------


@pytest.fixture
def made(provider, router):
    """A router that puts content on spans."""
    return router(
        provider.deployment("dep-a"),
        provider.deployment("dep-claude", group="claude", model="anthropic/claude-sonnet-4-5"),
        provider.deployment("dep-gemini", group="gemini", model="gemini/gemini-2.0-flash"),
        settings=SPAN,
    )


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
OFFERED = [{"type": "function", "name": "rain", "description": "d", "parameters": SCHEMA}]
FUNCTION = [{"type": "function", "function": {"name": "rain", "description": "d", "parameters": SCHEMA}}]
CALLED = Answer("", tool_calls=[ToolCall("rain", '{"city": "Rome"}')])
CALL = {"type": "tool_call", "id": "call-1", "name": "rain", "arguments": {"city": "Rome"}}


async def test_chat_with_tools_and_an_image(provider, recorder, made):
    image = base64.b64encode(b"pixels").decode()
    provider.script("dep-a", [CALLED])
    await made.acompletion(
        "gpt-4o",
        [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "rain?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                ],
            },
        ],
        tools=FUNCTION,
    )

    blob = {"modality": "image", "mime_type": "image/png", "size": 6, "sha256": hashlib.sha256(b"pixels").hexdigest()}
    assert attempts(recorder) == [
        {
            INPUT: [
                {"role": "system", "parts": [text("be brief")]},
                {"role": "user", "parts": [text("rain?"), {"type": "blob", **blob}]},
            ],
            TOOLS: OFFERED,
            OUTPUT: said(CALL, reason="tool_call"),
        }
    ]


def test_sync(recorder, made):
    made.completion("gpt-4o", MESSAGES)
    made.text_completion("gpt-4o", "once")
    for _ in made.completion("gpt-4o", MESSAGES, stream=True):
        pass

    once = [{"role": "user", "parts": [text("once")]}]
    assert attempts(recorder) == [
        {INPUT: ASKED, OUTPUT: HELLO},
        {INPUT: once, OUTPUT: HELLO},
        {INPUT: ASKED, OUTPUT: HELLO},
    ]


async def test_sync_inside_a_loop(recorder, made):
    made.completion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}]


async def test_responses(provider, recorder, made):
    await made.aresponses(model="gpt-4o", input="hi", instructions="be brief", tools=OFFERED)
    async for _ in await made.aresponses(model="gpt-4o", input=MESSAGES, stream=True):
        pass

    assert attempts(recorder) == [
        {INPUT: ASKED, SYSTEM: [text("be brief")], TOOLS: OFFERED, OUTPUT: HELLO},
        {INPUT: ASKED, OUTPUT: HELLO},
    ]


async def test_anthropic_s_messages(recorder, made):
    tools = [{"name": "rain", "description": "d", "input_schema": SCHEMA}]
    asked = {"model": "claude", "messages": MESSAGES, "max_tokens": 9, "system": "be brief", "tools": tools}
    await made.aanthropic_messages(**asked)
    async for _ in await made.aanthropic_messages(**asked, stream=True):
        pass

    whole = {INPUT: ASKED, SYSTEM: [text("be brief")], TOOLS: OFFERED, OUTPUT: HELLO}
    assert attempts(recorder) == [whole, whole]


async def test_gemini_s_contents(recorder, made):
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    await made.agenerate_content(model="gemini", contents=contents)
    async for _ in await made.agenerate_content_stream(model="gemini", contents=contents):
        pass

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}, {INPUT: ASKED, OUTPUT: HELLO}]


async def test_calls_that_are_no_conversation(recorder, made):
    await made.atext_completion("gpt-4o", "once")
    await made.aembedding("gpt-4o", input=["a", "b"])
    await made.aimage_generation("a cat", "gpt-4o")

    embedded = [{"role": "user", "parts": [text("a")]}, {"role": "user", "parts": [text("b")]}]
    text_completion, embedding, image = attempts(recorder)
    assert text_completion == {INPUT: [{"role": "user", "parts": [text("once")]}], OUTPUT: HELLO}
    assert embedding == {INPUT: embedded}
    assert image[INPUT] == [{"role": "user", "parts": [text("a cat")]}]
    assert [part["type"] for part in image[OUTPUT][0]["parts"]] == ["blob"]


async def test_several_deployments_at_once(provider, recorder, router):
    made = router(provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b"), settings=SPAN)
    await made.abatch_completion(models=["a", "b"], messages=MESSAGES)
    await made.abatch_completion_fastest_response(model="a, b", messages=MESSAGES)

    assert [one[INPUT] for one in attempts(recorder)] == [ASKED] * 4


# --- failures, fallbacks, streams --------------------------------------------------------------


async def test_every_attempt_shows_its_own(provider, recorder, router, waits):
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b", group="b"),
        fallbacks=[{"gpt-4o": ["b"]}],
        num_retries=1,
        settings=SPAN,
    )
    provider.script("dep-a", [ServerError(message="a body with secrets"), RateLimited()])
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED}, {INPUT: ASKED}, {INPUT: ASKED, OUTPUT: HELLO}]


async def test_a_stream(provider, recorder, made):
    provider.script("dep-a", [Answer(chunks=["hel", "lo", "!"])])
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        pass

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: said(text("hello!"))}]


async def test_a_stream_of_tool_calls(provider, recorder, made):
    provider.script("dep-a", [CALLED])
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True, tools=FUNCTION):
        pass

    assert attempts(recorder) == [{INPUT: ASKED, TOOLS: OFFERED, OUTPUT: said(CALL, reason="tool_call")}]


async def test_a_stream_that_is_left(provider, recorder, made):
    provider.script("dep-a", [Answer(chunks=["one", "two", "three"])])
    stream = await made.acompletion("gpt-4o", MESSAGES, stream=True)
    got = ""
    async for chunk in stream:
        got += chunk.choices[0].delta.content or ""
        if got == "onetwo":
            break
    await stream.aclose()

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: said(text("onetwo"), reason="cancelled")}]


def test_a_sync_stream_that_is_dropped(provider, recorder, made):
    provider.script("dep-a", [Answer(chunks=["one", "two"])])
    stream = made.completion("gpt-4o", MESSAGES, stream=True)
    got = ""
    while got != "one":
        got += next(stream).choices[0].delta.content or ""
    del stream
    gc.collect()

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: said(text("one"), reason="cancelled")}]


async def test_a_stream_that_dies(provider, recorder, made):
    provider.script("dep-a", [DieMidStream(1, answer=Answer(chunks=["one", "two"]))])
    with pytest.raises((litellm.APIError, litellm.APIConnectionError)):
        async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
            pass

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: said(text("one"), reason="error")}]


# --- events ------------------------------------------------------------------------------------


async def test_the_event(provider, recorder, router, monkeypatch):
    logs = Logs()
    monkeypatch.setattr("traced_router._capture.EVENTS", True)
    made = router(provider.deployment("dep-a"), settings={"capture_content": "EVENT_ONLY"}, logger_provider=logs)
    await made.acompletion("gpt-4o", MESSAGES, tools=FUNCTION)
    provider.script("dep-a", [ServerError()])
    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{}, {}]
    first, second = logs.events
    attempt, failed = (tree.children[1] for tree in recorder.trees())
    assert first["event_name"] == "gen_ai.client.inference.operation.details"
    assert first["timestamp"] == attempt.end_ns
    assert trace.get_current_span(first["context"]).get_span_context().span_id == attempt.span_id
    of_attempt = {k: v for k, v in attempt.attributes.items() if k.startswith(("gen_ai.", "server."))}
    assert first["attributes"] == {**of_attempt, INPUT: ASKED, TOOLS: OFFERED, OUTPUT: HELLO}
    assert second["attributes"]["error.type"] == failed.attributes["error.type"] == "InternalServerError"
    assert second["attributes"][INPUT] == ASKED
    assert OUTPUT not in second["attributes"]


async def test_both(provider, recorder, router, monkeypatch):
    logs = Logs()
    monkeypatch.setattr("traced_router._capture.EVENTS", True)
    monkeypatch.setattr("traced_router._tracing.get_logger_provider", lambda: logs)  # whatever is global then
    made = router(provider.deployment("dep-a"), settings={"capture_content": "SPAN_AND_EVENT"})
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}]
    assert [event["attributes"][OUTPUT] for event in logs.events] == [HELLO]


@pytest.mark.skipif(not EVENTS, reason="this OpenTelemetry has no events")
async def test_the_sdk_takes_the_event(provider, recorder, router):
    from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor

    class Kept(LogRecordProcessor):
        def __init__(self):
            self.records = []

        def on_emit(self, log_record):
            self.records.append(log_record.log_record)

        def shutdown(self):
            pass

        def force_flush(self, timeout_millis=0):
            pass

    logs = LoggerProvider()
    kept = Kept()
    logs.add_log_record_processor(kept)
    made = router(provider.deployment("dep-a"), settings={"capture_content": "EVENT_ONLY"}, logger_provider=logs)
    await made.acompletion("gpt-4o", MESSAGES)

    (record,) = kept.records
    assert record.trace_id == recorder.spans()[0].context.trace_id
    assert json.loads(json.dumps(record.attributes[INPUT])) == ASKED


async def test_an_opentelemetry_without_events(provider, recorder, router, monkeypatch, caplog):
    logs = Logs()
    monkeypatch.setattr("traced_router._capture.EVENTS", False)
    made = router(provider.deployment("dep-a"), settings={"capture_content": "SPAN_AND_EVENT"}, logger_provider=logs)
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}]
    assert logs.events == []
    assert "this OpenTelemetry is too old to emit events" in caplog.text


@pytest.mark.usefixtures("tracing_may_fail")
async def test_a_logger_that_raises(provider, recorder, router, monkeypatch):
    class Broken(Logs):
        def emit(self, **_event):
            raise RuntimeError

    monkeypatch.setattr("traced_router._capture.EVENTS", True)
    made = router(
        provider.deployment("dep-a"), settings={"capture_content": "SPAN_AND_EVENT"}, logger_provider=Broken()
    )
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}]


# --- redaction ---------------------------------------------------------------------------------


async def test_a_redactor_sees_and_replaces_everything(provider, recorder, router):
    seen = []

    def redactor(messages):
        seen.append([message["role"] for message in messages])
        for message in messages:
            for part in message["parts"]:
                if "content" in part:
                    part["content"] = part["content"].replace("hi", "[name]")
        return messages

    made = router(provider.deployment("dep-a"), settings=SPAN, redactor=redactor)
    asked = [dict(message) for message in MESSAGES]
    await made.aresponses(model="gpt-4o", input=asked, instructions="hide it", tools=OFFERED)

    assert seen == [["user"], ["system"], ["tool_definitions"], ["assistant"]]
    assert asked == MESSAGES
    assert attempts(recorder) == [
        {
            INPUT: [{"role": "user", "parts": [text("[name]")]}],
            SYSTEM: [text("[name]de it")],
            TOOLS: OFFERED,
            OUTPUT: HELLO,
        }
    ]


async def test_a_redactor_that_drops(provider, recorder, router):
    def redactor(messages):
        return None if messages[0]["role"] == "user" else messages

    await router(provider.deployment("dep-a"), settings=SPAN, redactor=redactor).acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{OUTPUT: HELLO}]


def _raises(*_):
    raise KeyError("hi")


@pytest.mark.usefixtures("tracing_may_fail")
@pytest.mark.parametrize(
    "redactor",
    [_raises, lambda _: "text", lambda _: [{"role": "user"}]],
    ids=["raises", "no list", "no parts"],
)
async def test_a_redactor_that_fails(provider, recorder, router, redactor, caplog):
    made = router(
        provider.deployment("dep-a"),
        settings=SPAN,
        redactor=redactor,
        meter_provider=recorder.meter_provider,
    )
    await made.aresponses(model="gpt-4o", input="hi", instructions="hi")

    (shown,) = attempts(recorder)
    assert SYSTEM not in shown
    assert "hi" not in json.dumps(shown)
    points = recorder.metrics()["traced_router.tracing.errors"]
    assert {point.attributes["traced_router.tracing.where"] for point in points} == {"redactor"}
    assert "KeyError('hi')" not in caplog.text


async def test_what_a_redactor_returns_is_cut_like_anything_else(provider, recorder, router):
    loop = {"role": "user", "parts": []}
    loop["parts"].append({"type": "text", "content": "x" * 10_000, "again": loop, "at": time})
    made = router(provider.deployment("dep-a"), settings={**SPAN, "max_content_length": 512}, redactor=lambda _: [loop])
    await made.acompletion("gpt-4o", MESSAGES)

    (shown,) = attempts(recorder)
    assert shown[f"{INPUT}.truncated"] is True
    assert shown[INPUT][0]["role"] == "user"


@pytest.mark.parametrize("redactor", ["mask", 3])
def test_a_redactor_that_is_none(provider, router, redactor):
    with pytest.raises(ConfigurationError, match=r"redactor='.*' object: give a plain function"):
        router(provider.deployment("dep-a"), redactor=redactor)


def test_a_redactor_that_would_have_to_be_awaited(provider, router):
    async def redactor(messages):
        return messages

    with pytest.raises(ConfigurationError, match="redactor='function' object: give a plain function"):
        router(provider.deployment("dep-a"), redactor=redactor)


# --- litellm's own redaction -------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        {"turn_off_message_logging": True},
        {"metadata": {"turn_off_message_logging": True}},
        {"metadata": {"headers": {"x-litellm-enable-message-redaction": "true"}}},
        {"metadata": {"headers": {"litellm-enable-message-redaction": "true"}}},
        {"no-log": True},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_not_to_be_logged(recorder, made, call, stream):
    answer = await made.acompletion("gpt-4o", MESSAGES, stream=stream, **call)
    if stream:
        async for _ in answer:
            pass

    assert attempts(recorder) == [{}]


async def test_litellm_s_global_switch(recorder, made, monkeypatch):
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    await made.acompletion("gpt-4o", MESSAGES)
    await made.aresponses(model="gpt-4o", input="hi")
    await made.aanthropic_messages(model="claude", messages=MESSAGES, max_tokens=9)
    await made.acompletion("gpt-4o", MESSAGES, turn_off_message_logging=False)

    assert attempts(recorder) == [{}, {}, {}, {INPUT: ASKED, OUTPUT: HELLO}]


def test_litellm_s_global_switch_in_sync_calls(recorder, made, monkeypatch):
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    made.completion("gpt-4o", MESSAGES)
    made.text_completion("gpt-4o", "hi")

    assert attempts(recorder) == [{}, {}]


async def test_a_deployment_that_is_not_to_be_logged(provider, recorder, router):
    silent = provider.deployment("dep-a", turn_off_message_logging=True)
    await router(silent, settings=SPAN).acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{}]


async def test_no_log_can_be_disabled(recorder, made, monkeypatch):
    monkeypatch.setattr(litellm, "global_disable_no_log_param", True)
    await made.acompletion("gpt-4o", MESSAGES, **{"no-log": True})

    assert attempts(recorder) == [{INPUT: ASKED, OUTPUT: HELLO}]


async def test_where_litellm_cannot_tell_nothing_is_shown(recorder, made, monkeypatch):
    from litellm.litellm_core_utils import redact_messages

    monkeypatch.delattr(redact_messages, "should_redact_message_logging")
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{}]


# --- limits and hostility ----------------------------------------------------------------------


async def test_a_limit(provider, recorder, router):
    made = router(provider.deployment("dep-a"), settings={**SPAN, "max_content_length": 512})
    messages = [{"role": "system", "content": "short"}, {"role": "user", "content": "x" * 10_000_000}]
    await made.acompletion("gpt-4o", messages, mock_response="hello")

    attempt = recorder.tree().children[1]
    assert len(attempt.attributes[INPUT]) == 512
    (shown,) = attempts(recorder)
    assert [message["parts"][0]["content"][:5] for message in shown[INPUT]] == ["short", "xxxxx"]
    assert shown[f"{INPUT}.truncated"] is True
    assert f"{OUTPUT}.truncated" not in shown


async def test_a_stream_beyond_the_limit(provider, recorder, router):
    provider.script("dep-a", [Answer(chunks=["x" * 1000] * 10)])
    made = router(provider.deployment("dep-a"), settings={**SPAN, "max_content_length": 512})
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        pass

    (shown,) = attempts(recorder)
    assert shown[f"{OUTPUT}.truncated"] is True
    assert set(shown[OUTPUT][0]["parts"][0]["content"]) == {"x"}


async def test_odd_messages_reach_litellm_as_they_are(recorder, made):
    loop = {"role": "user", "content": "lone \ud800"}
    loop["self"] = loop
    for messages in ([loop], [{"role": "user", "content": [loop]}], [3], "text", {"role": "user"}):
        with contextlib.suppress(Exception):
            await made.acompletion("gpt-4o", messages)

    for shown in attempts(recorder):
        json.dumps(shown).encode("utf-8")


@pytest.mark.usefixtures("tracing_may_fail")
async def test_content_that_cannot_be_read(recorder, made, monkeypatch):
    monkeypatch.setattr("traced_router._capture.input_messages", _raises)
    await made.acompletion("gpt-4o", MESSAGES)

    assert attempts(recorder) == [{OUTPUT: HELLO}]


@pytest.mark.usefixtures("tracing_may_fail")
async def test_chunks_that_cannot_be_read(recorder, made, monkeypatch):
    monkeypatch.setattr("traced_router._capture.StreamedMessages.chunk", _raises)
    got = [c async for c in await made.acompletion("gpt-4o", MESSAGES, stream=True)]

    assert "".join(c.choices[0].delta.content or "" for c in got) == "hello"
    assert attempts(recorder) == [{INPUT: ASKED}]
