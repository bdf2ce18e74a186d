"""Tracing never changes a call: without an SDK, sampled out, with everything in it broken."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings

import litellm
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from traced_router import TracedRouter, _readers
from traced_router.testing import Recorder
from traced_router.testing._provider_behaviours import Answer, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


# --- nobody records ----------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch):
    """Which of the readers ran."""
    ran: list[str] = []
    for name in ("answer", "failure", "request_parameters"):
        read = getattr(_readers, name)

        def spying(*args, _name=name, _read=read, **kwargs):
            ran.append(_name)
            return _read(*args, **kwargs)

        monkeypatch.setattr(_readers, name, spying)
    return ran


async def test_without_an_sdk_a_call_is_litellm_s_alone(provider, computed):
    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0)
    answer = await made.acompletion("gpt-4o", MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert computed == []


async def test_sampled_out_nothing_is_computed_and_the_decision_goes_on(provider, router, computed, monkeypatch):
    recorder = Recorder(ALWAYS_OFF)
    seen: list[trace.SpanContext] = []
    acompletion = litellm.acompletion

    async def spying(**kwargs):
        seen.append(trace.get_current_span().get_span_context())
        return await acompletion(**kwargs)

    monkeypatch.setattr(litellm, "acompletion", spying)
    provider.script("dep-a", [RateLimited()])
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="b"),
                  fallbacks=[{"gpt-4o": ["b"]}], tracer_provider=recorder.provider)  # fmt: skip
    await made.acompletion("gpt-4o", MESSAGES)

    assert recorder.trees() == ()
    assert computed == []
    assert len(seen) == 2
    assert all(context.is_valid and not context.trace_flags.sampled for context in seen)


async def test_a_provider_that_is_installed_later_counts(provider, monkeypatch):
    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0)
    await made.acompletion("gpt-4o", MESSAGES)
    recorder = Recorder()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.provider)
    await made.acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().name == "router.chat gpt-4o"


async def test_the_global_providers_are_read_and_never_set(provider, router, monkeypatch):
    def never(*_args):
        raise AssertionError("set a global provider")

    monkeypatch.setattr(trace, "set_tracer_provider", never)
    monkeypatch.setattr(metrics, "set_meter_provider", never)
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)


# --- everything in it is broken ----------------------------------------------------------------


class BrokenError(Exception):
    """A fault in somebody's telemetry."""


class BrokenProcessor(SpanProcessor):
    def __init__(self, *, start, end):
        self._start, self._end = start, end

    def on_start(self, span, parent_context=None):
        if self._start:
            raise BrokenError

    def on_end(self, span):
        if self._end:
            raise BrokenError


class BrokenSampler(Sampler):
    def should_sample(self, *args, **kwargs):
        raise BrokenError

    def get_description(self):
        return "broken"


class BrokenProvider(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        raise BrokenError


def processor(**when):
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(BrokenProcessor(**when))
    return made


class BrokenChildren(Sampler):
    """Works for roots alone."""

    def should_sample(self, parent_context, *args, **kwargs):
        if trace.get_current_span(parent_context).get_span_context().is_valid:
            raise BrokenError
        return ALWAYS_ON.should_sample(parent_context, *args, **kwargs)

    def get_description(self):
        return "broken children"


FAULTS = {
    "a processor at the start": lambda: processor(start=True, end=False),
    "a processor at the end": lambda: processor(start=False, end=True),
    "a sampler": lambda: TracerProvider(sampler=BrokenSampler(), shutdown_on_exit=False),
    "a sampler of children": lambda: TracerProvider(sampler=BrokenChildren(), shutdown_on_exit=False),
    "a provider": BrokenProvider,
}


@pytest.fixture
def broken(request):
    return FAULTS[request.param]()


SCRIPT = {"dep-a": [RateLimited(), ServerError()]}


def deployments(provider):
    return [provider.deployment("dep-a"), provider.deployment("dep-b", group="b")]


@pytest.mark.usefixtures("tracing_may_fail")
@pytest.mark.parametrize("broken", FAULTS, indirect=True)
@pytest.mark.parametrize("way", ["acompletion", "completion"])
async def test_a_fault_in_telemetry_never_changes_a_call(provider, waits, broken, way, caplog):
    """A retry, a wait, a fallback and its answer, with every layer's spans broken."""
    outcomes = []
    meters = Recorder()
    for make, extra in (
        (litellm.Router, {}),
        (TracedRouter, {"tracer_provider": broken, "meter_provider": meters.meter_provider}),
    ):
        provider.clear()
        waits.clear()
        for name, steps in SCRIPT.items():
            provider.script(name, steps)
        made = make(
            model_list=deployments(provider), num_retries=1, retry_after=0, fallbacks=[{"gpt-4o": ["b"]}], **extra
        )
        if way == "acompletion":
            answer = await made.acompletion("gpt-4o", MESSAGES)
        else:
            answer = await asyncio.to_thread(made.completion, "gpt-4o", MESSAGES)
        outcomes.append(
            (
                type(answer),
                answer.choices[0].message.content,
                provider.hits("dep-a"),
                provider.hits("dep-b"),
                tuple(waits),
            )
        )

    assert outcomes[0] == outcomes[1]
    assert provider.hits() == 3
    points = meters.metrics()["traced_router.tracing.errors"]
    assert sum(point.value for point in points) >= 1
    lines = [r.getMessage() for r in caplog.records if r.name == "traced_router" and "tracing failed" in r.getMessage()]
    assert len(lines) == len({point.attributes["traced_router.tracing.where"] for point in points})


@pytest.mark.usefixtures("tracing_may_fail")
@pytest.mark.parametrize("broken", FAULTS, indirect=True)
async def test_a_fault_in_telemetry_never_changes_an_error(provider, broken):
    provider.script("dep-a", [ServerError()])
    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0, tracer_provider=broken)
    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES)


READS = {
    "answers": "traced_router._readers.answer",
    "failures": "traced_router._readers.failure",
    "parameters": "traced_router._readers.request_parameters",
    "waits": "traced_router._litellm.obeys_retry_after",
    "chains": "traced_router._litellm.fallback_groups",
    "groups": "traced_router._litellm.model_group_of",
    "strategies": "traced_router._litellm.routing_strategy",
    "context window": "traced_router._litellm.is_inline_fallbacks",
}


@pytest.mark.usefixtures("tracing_may_fail")
@pytest.mark.parametrize("read", READS)
async def test_a_fault_in_what_we_read_never_changes_a_call(provider, router, recorder, waits, monkeypatch, read):
    def failing(*_args, **_kwargs):
        raise BrokenError

    made = router(*deployments(provider), num_retries=1, retry_after=0, fallbacks=[{"gpt-4o": ["b"]}])
    for name, steps in SCRIPT.items():
        provider.script(name, steps)
    monkeypatch.setattr(READS[read], failing)
    answer = await made.acompletion("gpt-4o", MESSAGES)
    monkeypatch.undo()

    assert answer.choices[0].message.content == "hello"
    assert provider.hits() == 3
    assert recorder.open_spans() == []
    recorder.clear()  # such a trace cannot keep the contract


# --- what we leave alone -----------------------------------------------------------------------


async def test_litellm_s_callbacks_are_left_as_they_were(provider):
    lists = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")

    async def after(make):
        made = make(model_list=[provider.deployment("dep-a")], num_retries=0)
        await made.acompletion("gpt-4o", MESSAGES)
        names = {
            name: sorted(str(getattr(c, "__qualname__", type(c))) for c in getattr(litellm, name)) for name in lists
        }
        (made.retire if hasattr(made, "retire") else made.discard)()
        return names

    plain = await after(litellm.Router)
    traced = await after(TracedRouter)

    def ours(names):
        return [c for held in names.values() for c in held if "traced" in c.lower()]

    assert ours(traced) == ours(plain) == []
    assert {k: len(v) for k, v in traced.items()} == {k: len(v) for k, v in plain.items()}


async def test_no_thread_and_no_task_of_ours(provider, router):
    made = router(provider.deployment("dep-a"))
    await made.acompletion("gpt-4o", MESSAGES)

    assert [t.name for t in threading.enumerate() if "traced" in t.name.lower()] == []
    assert [
        t for t in asyncio.all_tasks() if "traced_router" in repr(t.get_coro()) and t is not asyncio.current_task()
    ] == []


def test_a_router_that_is_dropped_is_collected(provider):
    """Nothing global of ours refers to it."""
    import weakref

    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0)
    tracing = weakref.ref(made.__dict__.get("_core", made).__dict__["_traced_router"])
    made.__dict__.get("_core", made).__dict__.pop("_traced_router")
    gc.collect()

    assert tracing() is None


def test_importing_it_does_nothing():
    """No provider, no thread, no environment: in a fresh interpreter, without its site's warnings."""
    code = (
        "import os, threading; before = dict(os.environ)\n"
        "import litellm; threads = threading.active_count()\n"
        "lists = [list(litellm.callbacks), list(litellm.success_callback)]\n"
        "import traced_router\n"
        "assert threading.active_count() == threads\n"
        "assert [list(litellm.callbacks), list(litellm.success_callback)] == lists\n"
        "from opentelemetry import trace\n"
        "assert type(trace.get_tracer_provider()).__name__ == 'ProxyTracerProvider'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


EXIT = """
import os, sys, weakref

class Anything:
    pass

anything = Anything()
weakref.finalize(anything, print)  # a library's, before there is a provider

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from traced_router import TracedRouter

class Out(SpanExporter):
    def export(self, spans):
        for span in spans:
            os.write(1, f"{span.name} {span.attributes.get('traced_router.outcome')}\\n".encode())
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Out()))
trace.set_tracer_provider(provider)
router = TracedRouter(model_list=[{
    "model_name": "gpt-4o",
    "litellm_params": {"model": "openai/gpt-4o", "api_key": "k", "mock_response": "one two three"},
}])
stream = router.completion("gpt-4o", [{"role": "user", "content": "hi"}], stream=True)
next(stream)
if len(sys.argv) > 1 and os.fork():
    os.wait()
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [
        ((), "router.select gpt-4o None\nchat gpt-4o None\nrouter.chat gpt-4o abandoned\n"),
        (("fork",), "router.select gpt-4o None\n"),
    ],
    ids=["exit", "exit of a fork"],
)
def test_a_stream_that_is_open_at_exit(arguments, ended):
    """It ends before the provider shuts down; the one that a fork has inherited is not the fork's to end."""
    quiet = {**os.environ, "LITELLM_LOG": "ERROR"}  # 1.95 warns of models without a price
    done = subprocess.run(
        [sys.executable, "-c", EXIT, *arguments], capture_output=True, text=True, check=True, env=quiet
    )

    assert (done.stdout.replace("\n\n", "\n").lstrip("\n"), done.stderr) == (ended, "")


async def test_no_deprecation_warning_of_litellm_s_is_ours(provider, router, recorder, waits):
    """1.109 warns of the names that it will drop, at every use."""
    provider.script("dep-a", [RateLimited(), ServerError()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        made = router(*deployments(provider), num_retries=1, retry_after=0, fallbacks=[{"gpt-4o": ["b"]}])
        await made.acompletion("gpt-4o", MESSAGES)
        await made.aembedding("b", ["hi"])
        made.completion("b", MESSAGES)
        _ = made.tracing_capabilities

    assert [str(w.message) for w in caught if "Router" in str(w.message) or "traced_router" in w.filename] == []


# --- what is said ------------------------------------------------------------------------------


def test_capabilities_are_full_on_a_known_litellm(provider, router):
    made = router(provider.deployment("dep-a"))

    assert made.tracing_capabilities == dict.fromkeys(
        ("request", "selection", "attempt", "backoff", "fallback", "stream"), "full"
    )


async def test_with_all_capabilities_a_request_does_not_carry_them(provider, router, recorder):
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert not {"traced_router.engine", "traced_router.capabilities"} & set(recorder.tree().attributes)


def test_litellm_s_first_otel_callback_is_warned_of(provider, router, monkeypatch, caplog):
    monkeypatch.setattr(litellm, "callbacks", ["otel"])
    router(provider.deployment("dep-a"))

    assert [r.levelname for r in caplog.records if "USE_OTEL_LITELLM_REQUEST_SPAN" in r.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("variable", ["USE_OTEL_LITELLM_REQUEST_SPAN", "LITELLM_OTEL_V2"])
def test_the_ways_out_of_it_silence_the_warning(provider, router, monkeypatch, caplog, variable):
    monkeypatch.setattr(litellm, "callbacks", ["otel"])
    monkeypatch.setenv(variable, "true")
    router(provider.deployment("dep-a"))

    assert not [r for r in caplog.records if "USE_OTEL_LITELLM_REQUEST_SPAN" in r.getMessage()]


CANARY = "canary-7f3a"


async def test_nothing_that_is_private_is_in_a_trace(provider, router, recorder, waits):
    """Prompts, completions, keys, headers, the URL's path, error bodies."""
    provider.script("secret-canary-7f3a", [ServerError(message=CANARY), Answer(CANARY)])
    deployment = provider.deployment("secret-canary-7f3a")
    deployment["model_info"] = {"id": "dep-a"}
    deployment["litellm_params"]["api_key"] = f"sk-{CANARY}"
    made = router(deployment, num_retries=1)
    await made.acompletion(
        "gpt-4o",
        [{"role": "system", "content": CANARY}, {"role": "user", "content": CANARY}],
        extra_headers={"x-canary": CANARY},
        tools=[{"type": "function", "function": {"name": CANARY, "parameters": {}}}],
        metadata={"note": CANARY},
    )

    said = repr([(n.name, dict(n.attributes), n.events, n.status_description) for n in recorder.tree().walk()])
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_retry"
    assert CANARY not in said
