"""Trace context in and out: whose trace a call continues, and which host is told of it."""

import asyncio
import contextlib
import functools
import importlib.metadata
import inspect

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from traced_router import _litellm as seams
from traced_router._propagation import put_headers
from traced_router.testing import Recorder
from traced_router.testing._provider_behaviours import Answer, DieMidStream, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
CHAT = "openai/gpt-4o-2024-08-06"
TEXT = "text-completion-openai/gpt-3.5-turbo-instruct"
GEMINI = "gemini/gemini-2.5-flash"
CLAUDE = "anthropic/claude-sonnet-4-5"
EMBEDDING = "openai/text-embedding-3-small"
IMAGE = "openai/gpt-image-1"

VERSION = tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])
no_sync_recovery = pytest.mark.skipif(
    VERSION < (1, 106),
    reason="litellm 1.95 calls the group whose sync stream died for ever, with its own router too",
)

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
REMOTE = NonRecordingSpan(
    SpanContext(
        int(TRACE_ID, 16),
        int(SPAN_ID, 16),
        is_remote=True,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("v", "1")]),
    )
)
"""The span of a caller in another service."""


def asking(provider, name, group="g", **params):
    """A deployment that wants to be told of the trace."""
    made = provider.deployment(name, group=group, max_retries=0, **params)
    made["model_info"]["inject_trace_context"] = True
    return made


def silent(provider, name, group="g", **params):
    return provider.deployment(name, group=group, max_retries=0, **params)


def headers_of(provider):
    """Version, trace and span of the header that came with each request, without its flags."""
    sent = [request.headers.get("traceparent") for request in provider.requests]
    return [None if header is None else header.rpartition("-")[0] for header in sent]


def traceparents(recorder):
    """What the attempts would be called in a header, in order."""
    attempts = [node for tree in recorder.trees() for node in tree.walk() if node.kind == "CLIENT"]
    return [f"00-{node.trace_id:032x}-{node.span_id:016x}" for node in attempts]


def configured(router):
    return [deployment["litellm_params"] for deployment in seams.state(seams.core_of(router), "model_list")]


async def chat(router, model="g", **arguments):
    return await router.acompletion(model, MESSAGES, **arguments)


# --- in --------------------------------------------------------------------------------------


@contextlib.contextmanager
def current(span):
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)


@pytest.mark.parametrize("key", ["metadata", "litellm_metadata"])
async def test_a_parent_in_the_metadata(provider, router, recorder, key):
    made = router(silent(provider, "dep-a"))
    tracer = recorder.provider.get_tracer("test")
    with tracer.start_as_current_span("handler"):
        await chat(made, **{key: {"litellm_parent_otel_span": REMOTE}})

    request = next(tree for tree in recorder.trees() if tree.name == "router.chat g")
    assert (request.trace_id, request.parent_id) == (int(TRACE_ID, 16), int(SPAN_ID, 16))


@pytest.mark.parametrize("call", ["completion", "text_completion", "responses"])
def test_a_parent_in_the_metadata_of_a_synchronous_call(provider, router, recorder, call):
    parameters = {
        "completion": {"messages": MESSAGES},
        "text_completion": {"prompt": "hi"},
        "responses": {"input": "hi"},
    }
    model = TEXT if call == "text_completion" else CHAT
    made = router(silent(provider, "dep-a", group=TEXT, model=model))
    getattr(made, call)(model=TEXT, metadata={"litellm_parent_otel_span": REMOTE}, **parameters[call])

    assert recorder.tree().parent_id == int(SPAN_ID, 16)


async def test_a_batch_with_a_parent_in_the_metadata(provider, router, recorder):
    made = router(silent(provider, "dep-a", group="g"), silent(provider, "dep-b", group="h"))
    metadata = {"litellm_parent_otel_span": REMOTE}
    await made.abatch_completion(models=["g", "h"], messages=MESSAGES, metadata=metadata)

    batch = recorder.tree()
    assert (batch.name, batch.parent_id) == ("router.batch g,h", int(SPAN_ID, 16))
    assert [node.name for node in batch.children] == ["router.chat g", "router.chat h"]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "placeholder",
        trace.INVALID_SPAN,
    ],
)
async def test_a_parent_that_is_none(provider, router, recorder, given):
    made = router(silent(provider, "dep-a"))
    with current(REMOTE):
        await chat(made, metadata={"litellm_parent_otel_span": given})

    assert recorder.tree().parent_id == int(SPAN_ID, 16)


async def test_a_call_inside_a_call_stays_there(provider, router, recorder):
    """litellm and its plugins hand metadata on to the calls that they make themselves."""
    metadata = {"litellm_parent_otel_span": REMOTE}
    made = router(silent(provider, "dep-a"), silent(provider, "dep-b", group="inner"))

    class Asks(CustomLogger):
        async def async_filter_deployments(self, model, healthy_deployments, *args, **kwargs):
            if model == "g":
                await chat(made, "inner", metadata=metadata)
            return healthy_deployments

    litellm.callbacks.append(Asks())
    await chat(made, metadata=metadata)

    outer = recorder.tree()
    assert (outer.name, outer.parent_id) == ("router.chat g", int(SPAN_ID, 16))
    (selection,) = outer.find("router.select g")
    assert [node.name for node in selection.children] == ["router.chat inner"]


@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
async def test_the_headers_of_a_request_to_the_proxy(provider, router, recorder, name):
    made = router(silent(provider, "dep-a"))
    received = {"headers": {name: TRACEPARENT, "tracestate": "v=1", "authorization": "Bearer x", "baggage": "user=x"}}
    await chat(made, proxy_server_request=received)

    assert (recorder.tree().trace_id, recorder.tree().parent_id) == (int(TRACE_ID, 16), int(SPAN_ID, 16))
    (request, *_) = [span for span in recorder.spans() if span.name == "router.chat g"]
    assert request.parent.trace_state.to_header() == "v=1"


async def test_a_current_span_is_nearer_than_the_headers(provider, router, recorder):
    made = router(silent(provider, "dep-a"))
    with recorder.provider.get_tracer("test").start_as_current_span("server"):
        await chat(made, proxy_server_request={"headers": {"traceparent": TRACEPARENT}})

    assert recorder.tree().name == "server"


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": "garbage"}, {1: 2}])
async def test_headers_without_a_trace(provider, router, recorder, headers):
    made = router(silent(provider, "dep-a"))
    await chat(made, proxy_server_request={"headers": headers})

    assert recorder.tree().parent_id is None


async def test_a_metadata_that_raises_leaves_the_current_span(provider, router, recorder, tracing_may_fail):
    class Odd(NonRecordingSpan):
        def get_span_context(self):
            raise RuntimeError

    made = router(silent(provider, "dep-a"))
    with current(REMOTE):
        await chat(made, metadata={"litellm_parent_otel_span": Odd(REMOTE.get_span_context())})

    assert recorder.tree().parent_id == int(SPAN_ID, 16)


@pytest.mark.parametrize("explicit", [False, True])
async def test_baggage_is_everywhere_in_a_call(provider, router, explicit):
    """For processors that copy it to spans, and for the HTTP client's own instrumentation."""

    class Baggage(SpanProcessor):
        def on_start(self, span, parent_context=None):
            seen.append((span.name, baggage.get_baggage("tenant", parent_context)))

    seen = []
    recorder = Recorder()
    recorder.provider.add_span_processor(Baggage())
    provider.script("dep-a", [ServerError(), ServerError()])
    made = router(
        silent(provider, "dep-a"),
        silent(provider, "dep-b", group="h"),
        tracer_provider=recorder.provider,
        num_retries=1,
        retry_after=0,
        fallbacks=[{"g": ["h"]}],
    )
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        await chat(made, metadata={"litellm_parent_otel_span": REMOTE} if explicit else {})
    finally:
        context.detach(token)

    names = {name for name, _ in seen}
    assert {
        "router.chat g",
        "router.select g",
        "chat gpt-4o-2024-08-06",
        "router.fallback h",
        "router.select h",
    } <= names
    assert {value for _, value in seen} == {"acme"}
    assert all("baggage" not in request.headers for request in provider.requests)


# --- out -------------------------------------------------------------------------------------


CALLS = {
    "acompletion": (CHAT, {"messages": MESSAGES}),
    "acompletion-azure": ("azure/gpt-4o", {"messages": MESSAGES, "api_version": "2024-06-01"}),
    "acompletion-anthropic": (CLAUDE, {"messages": MESSAGES}),
    "acompletion-gemini": (GEMINI, {"messages": MESSAGES}),
    "acompletion-vllm": ("hosted_vllm/llama", {"messages": MESSAGES}),
    "acompletion-proxy": ("litellm_proxy/gpt-4o", {"messages": MESSAGES}),
    "completion": (CHAT, {"messages": MESSAGES}),
    "completion-anthropic": (CLAUDE, {"messages": MESSAGES}),
    "schedule_acompletion": (CHAT, {"messages": MESSAGES, "priority": 0}),
    "atext_completion": (TEXT, {"prompt": "hi"}),
    "text_completion": (TEXT, {"prompt": "hi"}),
    "aembedding": (EMBEDDING, {"input": ["hi"]}),
    "embedding": (EMBEDDING, {"input": ["hi"]}),
    "aembedding-vllm": ("hosted_vllm/bge", {"input": ["hi"]}),
    "aresponses": (CHAT, {"input": "hi"}),
    "responses": (CHAT, {"input": "hi"}),
    "aresponses-anthropic": (CLAUDE, {"input": "hi"}),
    "aanthropic_messages": (CLAUDE, {"messages": MESSAGES, "max_tokens": 9}),
    "aanthropic_messages-openai": (CHAT, {"messages": MESSAGES, "max_tokens": 9}),
    "agenerate_content": (GEMINI, {"contents": CONTENTS}),
    "generate_content": (GEMINI, {"contents": CONTENTS}),
    "aimage_generation": (IMAGE, {"prompt": "hi"}),
    "image_generation": (IMAGE, {"prompt": "hi"}),
    "arerank": ("cohere/rerank-v3.5", {"query": "hi", "documents": ["a", "b"]}),
    "arerank-vllm": ("hosted_vllm/bge", {"query": "hi", "documents": ["a", "b"]}),
    "acreate_file": (CHAT, {"file": ("b.jsonl", b"{}"), "purpose": "batch"}),
}
if VERSION < (1, 106):
    del CALLS["text_completion"]  # its pick does not see the call's parameters
STREAMS = {
    "acompletion": (CHAT, {"messages": MESSAGES}),
    "acompletion-anthropic": (CLAUDE, {"messages": MESSAGES}),
    "completion": (CHAT, {"messages": MESSAGES}),
    "atext_completion": (TEXT, {"prompt": "hi"}),
    "aresponses": (CHAT, {"input": "hi"}),
    "responses": (CHAT, {"input": "hi"}),
    "aanthropic_messages": (CLAUDE, {"messages": MESSAGES, "max_tokens": 9}),
    "agenerate_content_stream": (GEMINI, {"contents": CONTENTS}),
}
WITHOUT = {
    "atranscription": ("openai/whisper-1", {"file": ("a.wav", b"RIFF")}),
    "aspeech": ("openai/tts-1", {"input": "hi", "voice": "alloy"}),
    "amoderation": ("openai/omni-moderation-latest", {"input": "hi"}),
}
"""litellm sends nobody's extra headers with these."""


async def ask(router, name, parameters):
    method = getattr(router, name.partition("-")[0])
    arguments = {"model": TEXT, **parameters}
    stream = arguments.get("stream") is True
    if inspect.iscoroutinefunction(method):
        result = await method(**arguments)
    else:
        result = await asyncio.to_thread(functools.partial(method, **arguments))
    if hasattr(result, "__aiter__"):
        return [chunk async for chunk in result]
    return await asyncio.to_thread(list, result) if stream else [result]


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_names_its_attempt(provider, router, recorder, name):
    model, parameters = CALLS[name]
    made = router(asking(provider, "dep-a", group=TEXT, model=model))
    await ask(made, name, parameters)

    assert headers_of(provider) == traceparents(recorder)
    assert len(headers_of(provider)) == 1


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_names_its_attempt(provider, router, recorder, name):
    model, parameters = STREAMS[name]
    made = router(asking(provider, "dep-a", group=TEXT, model=model))
    stream = {} if name == "agenerate_content_stream" else {"stream": True}
    await ask(made, name, {**parameters, **stream})

    assert headers_of(provider) == traceparents(recorder)
    assert len(headers_of(provider)) == 1


@pytest.mark.parametrize("name", WITHOUT)
async def test_where_litellm_sends_no_headers(provider, router, recorder, name):
    model, parameters = WITHOUT[name]
    made = router(asking(provider, "dep-a", group=TEXT, model=model))
    await ask(made, name, {**parameters, "extra_headers": {"x-mine": "1"}})

    assert len(traceparents(recorder)) == 1
    (request,) = provider.requests
    assert not {"traceparent", "x-mine"} & request.headers.keys()


@pytest.mark.parametrize("name", [*CALLS, *(f"{name} as a stream" for name in STREAMS)])
async def test_off_by_default(provider, router, name):
    model, parameters = CALLS.get(name) or STREAMS[name.partition(" ")[0]]
    made = router(silent(provider, "dep-a", group=TEXT, model=model))
    stream = {"stream": True} if name not in CALLS and not name.startswith("agenerate") else {}
    await ask(made, name.partition(" ")[0], {**parameters, **stream})

    assert headers_of(provider) == [None]


@pytest.mark.parametrize("flag", [False, None, "false", "true", 1])
async def test_only_true_asks(provider, router, flag):
    deployment = silent(provider, "dep-a")
    deployment["model_info"]["inject_trace_context"] = flag
    await chat(router(deployment))

    assert headers_of(provider) == [None]


@pytest.mark.parametrize(("deployment", "parameters"), [(None, {}), ("dep-a", {}), ({}, None), ({}, ())])
def test_what_is_no_call(deployment, parameters):
    """A strategy of somebody else's can pick anything."""
    assert put_headers(deployment, parameters) is None


@pytest.mark.parametrize("call", ["acompletion", "completion", "atext_completion", "aresponses", "aanthropic_messages"])
async def test_each_attempt_its_own_and_nobody_elses(provider, router, recorder, call):
    """A retry has its own span; a deployment that did not ask gets nothing of the one before it."""
    model, parameters = CALLS[call]
    provider.default("dep-a", ServerError())
    provider.default("dep-b", ServerError())
    made = router(
        asking(provider, "dep-a", model=model),
        silent(provider, "dep-b", group="h", model=model),
        asking(provider, "dep-c", group="i", model=model),
        num_retries=1,
        retry_after=0,
        fallbacks=[{"g": ["h", "i"]}],
    )
    mine = {"metadata": {"team": "x"}, "extra_headers": {"x-mine": "1"}}
    await ask(made, call, {**parameters, "model": "g", **mine})

    spans = traceparents(recorder)
    assert [request.deployment for request in provider.requests] == ["dep-a", "dep-a", "dep-b", "dep-b", "dep-c"]
    assert headers_of(provider) == [spans[0], spans[1], None, None, spans[4]]
    assert [request.headers["x-mine"] for request in provider.requests] == ["1"] * 5
    assert mine["extra_headers"] == {"x-mine": "1"}
    assert "trace" not in str(mine["metadata"].get("headers", ""))
    assert all(params.get("extra_headers") is None for params in configured(made))


@pytest.mark.parametrize("sync", [False, pytest.param(True, marks=no_sync_recovery)])
async def test_a_stream_that_goes_on_elsewhere(provider, router, recorder, sync):
    provider.default("dep-a", DieMidStream(after_chunks=0))
    made = router(asking(provider, "dep-a"), silent(provider, "dep-b", group="h"), fallbacks=[{"g": ["h"]}])
    await ask(made, "completion" if sync else "acompletion", {"model": "g", "messages": MESSAGES, "stream": True})

    spans = traceparents(recorder)
    assert [request.deployment for request in provider.requests] == ["dep-a", "dep-b"]
    assert headers_of(provider) == [spans[0], None]


async def test_headers_of_the_deployment_and_of_the_caller(provider, router, recorder):
    """A caller's replace the deployment's, as in litellm; a trace's that came along is not the attempt's."""
    old = "00-" + "1" * 32 + "-" + "2" * 16 + "-00"
    made = router(asking(provider, "dep-a", extra_headers={"x-theirs": "1", "Traceparent": old}))
    await chat(made)
    await chat(made, extra_headers={"x-mine": "1", "TRACEPARENT": old, "tracestate": "a=b"})
    await chat(made, extra_headers=None)

    first, second, third = (request.headers for request in provider.requests)
    assert headers_of(provider) == traceparents(recorder)
    assert (first["x-theirs"], second["x-mine"]) == ("1", "1")
    assert "x-theirs" not in second
    assert "x-theirs" not in third
    assert "tracestate" not in second
    assert configured(made)[0]["extra_headers"] == {"x-theirs": "1", "Traceparent": old}


@pytest.mark.parametrize("named", ["api_base", "base_url"])
async def test_a_caller_who_names_a_host(provider, router, named):
    made = router(asking(provider, "dep-a"))
    await chat(made, **{named: provider.api_base("dep-b")}, api_key="sk-mine")

    (request,) = provider.requests
    assert (request.deployment, request.headers.get("traceparent")) == ("dep-b", None)


async def test_a_caller_who_names_the_same_host(provider, router, recorder):
    made = router(asking(provider, "dep-a"))
    await chat(made, api_base=provider.api_base("dep-a"))

    assert headers_of(provider) == traceparents(recorder)


async def test_the_state_of_the_trace_travels_and_baggage_does_not(provider, router, recorder):
    made = router(asking(provider, "dep-a"))
    token = context.attach(baggage.set_baggage("secret", "x", trace.set_span_in_context(REMOTE)))
    try:
        await chat(made)
    finally:
        context.detach(token)

    (request,) = provider.requests
    assert request.headers["tracestate"] == "v=1"
    assert "baggage" not in request.headers
    assert headers_of(provider) == traceparents(recorder)


@pytest.mark.parametrize("caller", [None, REMOTE])
async def test_a_call_that_is_not_sampled(provider, router, caller):
    """The service behind must not sample it either, so it is told: by the span that is not recorded."""
    unsampled = Recorder(ALWAYS_OFF)
    made = router(asking(provider, "dep-a"), tracer_provider=unsampled.provider)
    with current(caller or trace.INVALID_SPAN):
        await chat(made)

    (request,) = provider.requests
    header = request.headers["traceparent"]
    assert header.endswith(("-00", "-02"))  # bit 1 says that the id is random
    assert caller is None or TRACE_ID in header


async def test_without_an_sdk(provider, router):
    """Nothing is made up; a caller's own trace is handed on."""
    made = router(asking(provider, "dep-a"), tracer_provider=trace.NoOpTracerProvider())
    await chat(made)
    with current(REMOTE):
        await chat(made)

    assert [request.headers.get("traceparent") for request in provider.requests] == [None, TRACEPARENT]


async def test_a_second_service_continues_under_the_right_attempt(provider, router, recorder):
    provider.script("dep-a", [ServerError(), Answer()])
    made = router(asking(provider, "dep-a"), num_retries=1, retry_after=0)
    await chat(made)
    tracer = recorder.provider.get_tracer("second service")
    for request in provider.requests:
        received = TraceContextTextMapPropagator().extract(request.headers)
        tracer.start_span("POST /v1/chat/completions", received, SpanKind.SERVER).end()

    attempts = recorder.tree().find("chat gpt-4o-2024-08-06")
    assert [node.attributes["traced_router.attempt.number"] for node in attempts] == [1, 2]
    assert [[child.name for child in node.children] for node in attempts] == [["POST /v1/chat/completions"]] * 2
    recorder.clear()  # the services' clocks agree, but the second one answered later here


async def test_a_fault_in_here_is_no_fault(provider, router, recorder, monkeypatch, tracing_may_fail):
    monkeypatch.setattr("traced_router._tracing.put_headers", None)
    made = router(asking(provider, "dep-a"))
    await chat(made)

    assert headers_of(provider) == [None]
    assert len(traceparents(recorder)) == 1
