"""No byte of what is nobody's business leaves: markers in all of it, on every path, and a search of every signal.

Each marker says what it stands in for. With content off none may be found; with content on, those of what was said may
be found in the attributes that promise it, and nowhere else; those of keys, headers and the like never.
"""

import contextlib
import gc
import json
import logging
import re

import litellm
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import traced_router
from traced_router import ResilienceOptions, _names
from traced_router._litellm import core_of
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    ContentPolicy,
    ContextWindowExceeded,
    DieMidStream,
    Drop,
    ErrorEventMidStream,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    ToolCall,
    Unauthorized,
)

MARKER = re.compile(r"canary-[a-z]+")


def canary(place):
    return f"canary-{place}"


SAID = frozenset(
    map(canary, ("prompt", "system", "tool", "image", "name", "args", "history", "result", "completion", "thought"))
)
"""What content capture is about; everything else is never shown."""

IMAGE = f"https://images.test/{canary('image')}.png?sig={canary('image')}"
SCHEMA = {"type": "object", "properties": {canary("tool"): {"type": "string", "description": canary("tool")}}}
TOOLS = [{"type": "function", "function": {"name": canary("tool"), "description": "d", "parameters": SCHEMA}}]
FLAT_TOOLS = [{"type": "function", "name": canary("tool"), "parameters": SCHEMA}]
MESSAGES = [
    {"role": "system", "content": canary("system")},
    {
        "role": "user",
        "name": canary("name"),
        "content": [
            {"type": "text", "text": canary("prompt")},
            {"type": "image_url", "image_url": {"url": IMAGE}},
        ],
    },
    {
        "role": "assistant",
        "content": canary("history"),
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": canary("args")})}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": canary("result")},
]
PLAIN = [{"role": "user", "content": canary("prompt")}]
CHAT = {"model": "gpt-4o", "messages": MESSAGES}
OURS = {
    "api_key": canary("callkey"),
    "extra_headers": {"x-marker": canary("requestheader"), "authorization": canary("authorization")},
    "extra_body": {"marker": canary("extrabody")},
    "metadata": {
        "marker": canary("metadata"),
        "tags": [canary("tags")],
        "headers": {"x-marker": canary("proxyheader")},
        "user_api_key": canary("proxykey"),
    },
    "proxy_server_request": {"url": canary("proxyurl"), "headers": {"h": canary("proxyheader")}, "body": {}},
}
HEADERS = {"x-marker": canary("responseheader"), "set-cookie": canary("cookie")}
ANSWER = Answer(
    chunks=[canary("completion"), " and ", canary("completion")],
    tool_calls=[ToolCall("f", json.dumps({"a": canary("args")}))],
    headers=HEADERS,
)
TALK = Answer(chunks=[canary("completion"), " and ", canary("completion")], headers=HEADERS)
BODY = {"error": {"message": canary("errorbody"), "type": canary("errortype"), "param": canary("errorbody")}}
BAD = {"message": f"{canary('errorbody')} {canary('prompt')}", "headers": HEADERS}
PATH = canary("path")


async def read(stream):
    async for _ in stream:
        pass


# --- the paths ---------------------------------------------------------------------------------


async def chat(router, play):
    play(ANSWER)
    await router.acompletion(**CHAT, **OURS, tools=TOOLS)


async def chat_stream(router, play):
    play(ANSWER)
    await read(await router.acompletion(**CHAT, **OURS, tools=TOOLS, stream=True))


async def stream_that_is_left(router, play):
    play(TALK)
    stream = await router.acompletion(**CHAT, **OURS, stream=True)
    async for _ in stream:
        break
    await stream.aclose()


async def stream_that_is_dropped(router, play):
    play(TALK)
    stream = await router.acompletion(**CHAT, stream=True)
    await anext(stream)
    del stream
    gc.collect()


async def stream_that_dies(router, play):
    play(DieMidStream(1, answer=TALK))
    await read(await router.acompletion(**CHAT, **OURS, stream=True))


async def stream_that_goes_on_elsewhere(router, play):
    play(ErrorEventMidStream(0, ServerError(529, **BAD), TALK), at="f")
    await read(await router.acompletion(model="fragile", messages=MESSAGES, stream=True))


async def sync_inside_a_loop(router, play):
    play(ANSWER)
    router.completion(**CHAT, **OURS, tools=TOOLS)
    play(TALK)
    list(router.completion(**CHAT, stream=True))


async def text_completions(router, play):
    play(TALK, TALK)
    await router.atext_completion("gpt-4o", canary("prompt"), **OURS)
    router.text_completion("gpt-4o", canary("prompt"))


async def responses(router, play):
    asked = {"model": "gpt-4o", "input": PLAIN, "instructions": canary("system"), "tools": FLAT_TOOLS}
    play(ANSWER, ANSWER)
    await router.aresponses(**asked, **OURS)
    await read(await router.aresponses(**asked, stream=True))


async def anthropic(router, play):
    tools = [{"name": canary("tool"), "description": canary("tool"), "input_schema": SCHEMA}]
    asked = {"model": "claude", "messages": PLAIN, "max_tokens": 9, "system": canary("system"), "tools": tools}
    play(ANSWER, ANSWER)
    await router.aanthropic_messages(**asked, metadata=OURS["metadata"])
    await read(await router.aanthropic_messages(**asked, stream=True))


async def gemini(router, play):
    contents = [{"role": "user", "parts": [{"text": canary("prompt")}]}]
    play(ANSWER, ANSWER)
    await router.agenerate_content(model="gemini", contents=contents)
    await read(await router.agenerate_content_stream(model="gemini", contents=contents))


async def other_operations(router, play):
    play(TALK, TALK, TALK)
    await router.aembedding("gpt-4o", input=[canary("prompt")], metadata=OURS["metadata"])
    await router.aimage_generation(canary("prompt"), "gpt-4o")
    with contextlib.suppress(Exception):
        await router.amoderation(model="gpt-4o", input=canary("prompt"))


async def retries_and_a_fallback(router, play):
    failures = ServerError(body=BODY, headers=HEADERS), RateLimited(**BAD, retry_after=0.01), ServerError(**BAD)
    play(*failures, at="f")
    await router.acompletion(model="fragile", messages=MESSAGES, **OURS)


async def cooldown_and_nobody_left(router, play):
    play(*[RateLimited(**BAD)] * 9)
    for _ in range(3):
        with contextlib.suppress(Exception):
            await router.acompletion(model="lonely", messages=MESSAGES, **OURS)
    raise litellm.APIError(500, "as it should", "x", "y")


async def context_window(router, play):
    play(ContextWindowExceeded(message=f"{ContextWindowExceeded().message} {canary('errorbody')}"), at="s")
    await router.acompletion(model="small", messages=MESSAGES)


async def content_policy(router, play):
    play(ContentPolicy(message=f"{ContentPolicy().message} {canary('errorbody')}"))
    await router.acompletion(**CHAT)


async def bad_requests(router, play):
    for failure in (BadRequest(**BAD), NotFound(**BAD), Unauthorized(**BAD), Malformed(canary("garbage")), Drop()):
        play(failure)
        with contextlib.suppress(Exception):
            await router.acompletion(**CHAT, **OURS)
    raise litellm.APIError(500, "as it should", "x", "y")


async def arguments_that_cannot_be_sent(router, play):
    await router.acompletion(**CHAT, temperature=canary("argument"), tools=[{canary("argument"): object()}])


async def timeouts(router, play):
    play(Answer(delay=0.3, headers=HEADERS))
    await router.acompletion(**CHAT, timeout=0.05)


async def batches(router, play):
    play(TALK, TALK, TALK)
    await router.abatch_completion(models=["gpt-4o", "claude"], messages=PLAIN)
    await router.abatch_completion_fastest_response(model="gpt-4o, claude", messages=PLAIN)


async def a_cached_answer(router, play):
    play(TALK)
    for _ in range(2):
        await router.acompletion(model="gpt-4o", messages=PLAIN, caching=True)


async def secrets_in_an_address(router, play):
    play(TALK)
    await router.acompletion(model="password", messages=MESSAGES)


async def no_such_group(router, play):
    await router.acompletion(model="nothing", messages=MESSAGES, **OURS)


async def explained(router, play):
    router.explain("gpt-4o", MESSAGES, metadata=OURS["metadata"])
    await router.aexplain("gpt-4o", MESSAGES, metadata=OURS["metadata"])


PATHS = {
    path.__name__: path
    for path in (
        chat, chat_stream, stream_that_is_left, stream_that_is_dropped, stream_that_dies,
        stream_that_goes_on_elsewhere, sync_inside_a_loop, text_completions, responses, anthropic, gemini,
        other_operations, retries_and_a_fallback, cooldown_and_nobody_left, context_window, content_policy,
        bad_requests, arguments_that_cannot_be_sent, timeouts, batches, a_cached_answer,
        secrets_in_an_address, no_such_group, explained,
    )
}  # fmt: skip
FAIL = frozenset(
    {"stream_that_dies", "cooldown_and_nobody_left", "content_policy", "bad_requests", "arguments_that_cannot_be_sent",
     "timeouts", "no_such_group", "secrets_in_an_address"}
)  # fmt: skip


# --- what leaves -------------------------------------------------------------------------------


class Signals:
    """Everything that a call gives out, as text by where it was found."""

    def __init__(self, recorder, meters, events, caplog):
        self._recorder = recorder
        self._meters = meters
        self._events = events
        self._caplog = caplog
        self.reprs = []

    def found(self):
        """Where which markers are: pairs of a place and a marker."""
        return {(where, marker) for where, text in self._texts() for marker in MARKER.findall(text)}

    def _texts(self):
        for span in self._recorder.spans():
            yield (
                "span",
                f"{span.name} {span.status.description} {span.resource.to_json()} {span.instrumentation_scope}",
            )
            yield "span", repr([(link.context, dict(link.attributes or {})) for link in span.links])
            yield "span event", repr([(event.name, dict(event.attributes or {})) for event in span.events])
            for key, value in (span.attributes or {}).items():
                yield "attribute key", key
                yield f"attribute {key}", repr(value)
        measured = self._meters.get_metrics_data()
        yield "metric", "" if measured is None else measured.to_json()
        yield "event", repr(self._events)
        for record in self._caplog.records:
            if record.name.startswith(("traced_router", "opentelemetry")):
                yield "log", f"{record.getMessage()} {record.exc_text} {record.__dict__}"
        for thing in self.reprs:
            yield f"repr of {type(thing).__name__}", repr(thing)


class Logs:
    """A logger provider that keeps what is emitted."""

    def __init__(self):
        self.events = []

    def get_logger(self, *_args, **_kwargs):
        return self

    def emit(self, **event):
        self.events.append({**event, "context": None})


@pytest.fixture
def run(provider, recorder, router, waits, caplog, monkeypatch):
    monkeypatch.setattr(litellm, "cache", None)
    monkeypatch.delenv(_CAPTURE, raising=False)
    for name in ("traced_router", "opentelemetry"):
        caplog.set_level(logging.DEBUG, name)

    def deployment(name, group, model, **more):
        return {
            "model_name": group,
            "litellm_params": {
                "model": model,
                "api_base": provider.api_base(f"{PATH}-{name}"),
                "api_key": canary("deploymentkey"),
                "extra_headers": {"x-marker": canary("deploymentheader")},
                **more,
            },
            "model_info": {"id": name, "note": canary("modelinfo")},
        }

    async def run(path, settings, **arguments):
        reader, logs = InMemoryMetricReader(), Logs()
        base = provider.api_base(f"{PATH}-dep-p")
        secretive = base.replace("://", f"://u:{canary('password')}@") + f"?key={canary('query')}"
        made = router(
            deployment("dep-a", "gpt-4o", "openai/gpt-4o-2024-08-06"),
            deployment("dep-f", "fragile", "openai/gpt-4o-2024-08-06"),
            deployment("dep-l", "lonely", "openai/gpt-4o-2024-08-06"),
            deployment("dep-s", "small", "openai/gpt-4o-2024-08-06"),
            deployment("dep-p", "password", "openai/gpt-4o-2024-08-06", api_base=secretive),
            deployment("dep-c", "claude", "anthropic/claude-sonnet-4-5"),
            deployment("dep-g", "gemini", "gemini/gemini-2.0-flash"),
            fallbacks=[{"fragile": ["gpt-4o"]}],
            context_window_fallbacks=[{"small": ["gpt-4o"]}],
            num_retries=2 if path is retries_and_a_fallback else 0,
            allowed_fails=0,
            cache_responses=path is a_cached_answer,
            meter_provider=MeterProvider([reader], shutdown_on_exit=False),
            logger_provider=logs,
            settings={"list_candidates": True, **settings},
            **arguments,
        )
        ended = []

        for name in "aflspcg":
            provider.default(f"{PATH}-dep-{name}", TALK)

        def play(*steps, at="aflspcg"):
            for name in at:
                provider.script(f"{PATH}-dep-{name}", steps)

        made_up = signals(recorder, reader, logs, caplog)
        with contextlib.suppress(Exception) if path.__name__ in FAIL else contextlib.nullcontext():
            await path(made, play)
            ended.append(path)
        assert bool(ended) is (path.__name__ not in FAIL)
        tracing = core_of(made).__dict__["_traced_router"]
        made_up.reprs += [made, tracing, tracing.tree, tracing.strategies, tracing.guard, tracing.metrics]
        made_up.reprs += [tracing.reader, tracing.capture, traced_router.last_request()]
        made_up.reprs += [made.explain("gpt-4o", MESSAGES)]
        return made_up

    return run


_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def signals(recorder, reader, logs, caplog):
    return Signals(recorder, reader, logs.events, caplog)


# --- the tests ---------------------------------------------------------------------------------

VOCABULARIES = ("openinference", "langfuse", "openllmetry", "llm_routing")


MIRRORED = (
    "input.value",
    "output.value",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.tools.",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "gen_ai.prompt.",
    "gen_ai.completion.",
)
"""What the vocabularies call what was said."""


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_with_content_off_nothing_leaves(run, path):
    found = (await run(path, {}, vocabularies=VOCABULARIES)).found()

    assert found == set()


@pytest.mark.parametrize("strategy", ["prefix-affinity", "least-expected-completion"])
async def test_strategies_that_look_at_a_call_tell_nothing_of_it(run, strategy):
    found = (await run(chat, {}, routing_strategy=strategy, resilience=ResilienceOptions())).found()

    assert found == set()


@pytest.mark.parametrize("mode", ["SPAN_ONLY", "SPAN_AND_EVENT"])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_with_content_on_only_what_was_said_leaves_and_only_there(run, path, mode, monkeypatch):
    monkeypatch.setattr("traced_router._capture.EVENTS", True)
    found = (await run(path, {"capture_content": mode}, vocabularies=VOCABULARIES)).found()

    promised = *(f"attribute {key}" for key in (*_names.CONTENT, *MIRRORED)), *(["event"] if "EVENT" in mode else [])
    assert {(where, marker) for where, marker in found if marker not in SAID or not where.startswith(promised)} == set()
    assert path in {explained, no_such_group} or found


async def test_the_markers_are_on_the_wire_and_come_back(run, provider):
    """Else the tests above would find nothing because there is nothing."""
    await run(chat, {})
    await run(responses, {})

    sent = " ".join(f"{r.path} {dict(r.headers)} {json.dumps(r.body)}" for r in provider.requests)
    assert set(MARKER.findall(sent)) >= {
        canary(place)
        for place in ("path", "prompt", "system", "tool", "image", "args", "history", "result", "callkey", "extrabody")
    }


async def test_a_leak_would_be_found(run, monkeypatch):
    """One of ours that says too much: what these tests are for."""
    kept = _names.GEN_AI_REQUEST_MODEL
    from traced_router import _scope

    known = _scope.Scope._know

    def leaking(self, deployment):
        result = known(self, deployment)
        object.__setattr__(self._deployment, "model", deployment["litellm_params"]["api_key"])
        return result

    monkeypatch.setattr(_scope.Scope, "_know", leaking)
    found = (await run(chat, {})).found()

    assert (f"attribute {kept}", canary("deploymentkey")) in found
    assert ("span", canary("deploymentkey")) in found
