"""What users add to request spans, and what they are told of requests that have ended."""

import asyncio
import contextlib
import dataclasses
import gc
import threading

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import (
    AttemptSummary,
    ConfigurationError,
    ExplainedCandidate,
    Explanation,
    RequestSummary,
    TracedRouter,
    last_request,
)
from traced_router import _litellm as seams
from traced_router.testing import Recorder
from traced_router.testing._provider_behaviours import Answer, BadRequest, Hang, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "a question that nobody else may keep"}]


def a(provider, **params):
    return provider.deployment("dep-a", group="a", max_retries=0, **params)


def b(provider, **params):
    return provider.deployment("dep-b", group="b", max_retries=0, **params)


@pytest.fixture(autouse=True)
def nothing_before():
    """Another test's request is not this one's."""
    from traced_router._summaries import remember

    remember(None)


# --- attributes ------------------------------------------------------------------------------


async def test_attributes_of_a_router(provider, router, recorder):
    given = {"app.team": "search", "app.tier": 1, "app.share": 0.5, "app.beta": True, "app.regions": ["eu", "us"]}
    made = router(a(provider), attributes=given)
    given["app.team"] = "changed later"
    await made.acompletion("a", MESSAGES)

    request = recorder.tree()
    own = {key: value for key, value in request.attributes.items() if key.startswith("app.")}
    assert own == {
        "app.team": "search",
        "app.tier": 1,
        "app.share": 0.5,
        "app.beta": True,
        "app.regions": ("eu", "us"),
    }
    assert not [key for child in request.children for key in child.attributes if key.startswith("app.")]


async def test_samplers_see_them(provider, router):
    class Seen:
        def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
            seen.append((name, dict(attributes or {})))
            return ALWAYS_OFF.should_sample(parent_context, trace_id, name)

        def get_description(self):
            return "seen"

    seen = []
    recorder = Recorder(Seen())
    settings = {"metadata_attributes": ("tenant",)}
    made = router(a(provider), attributes={"app.team": "x"}, settings=settings, tracer_provider=recorder.provider)
    await made.acompletion("a", MESSAGES, metadata={"tenant": "acme"})

    name, attributes = seen[0]
    assert name == "router.chat a"
    assert (attributes["app.team"], attributes["traced_router.metadata.tenant"]) == ("x", "acme")


async def test_attributes_by_environment_and_by_keyword(provider, router, recorder, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_ATTRIBUTES", '{"app.team": "environment", "app.tier": 2}')
    await router(a(provider)).acompletion("a", MESSAGES)
    await router(a(provider), attributes={"app.team": "keyword"}).acompletion("a", MESSAGES)

    first, second = recorder.trees()
    assert (first.attributes["app.team"], first.attributes["app.tier"]) == ("environment", 2)
    assert second.attributes["app.team"] == "keyword"
    assert "app.tier" not in second.attributes


async def test_long_attributes_are_cut(provider, router, recorder):
    settings = {"max_string_length": 64, "metadata_attributes": "note,notes"}
    made = router(a(provider), attributes={"app.note": "x" * 100}, settings=settings)
    await made.acompletion("a", MESSAGES, metadata={"note": "y" * 100, "notes": ["z" * 100] * 100})

    attributes = recorder.tree().attributes
    assert attributes["app.note"] == "x" * 64
    assert attributes["traced_router.metadata.note"] == "y" * 64
    assert attributes["traced_router.metadata.notes"] == ("z" * 64,) * 64


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"traced_router.outcome": "ok"}, "which this package sets itself"),
        ({"traced_router.mine": "x"}, "which this package sets itself"),
        ({"litellm.deployment.id": "x"}, "which this package sets itself"),
        ({"litellm_trace_id": "x"}, "which this package sets itself"),
        ({"gen_ai.usage.input_tokens": 1}, "which this package sets itself"),
        ({"session.id": "x"}, "which this package sets itself"),
        ({"": "x"}, "non-empty text"),
        ({1: "x"}, "non-empty text"),
        ({"app.x": None}, "is a NoneType"),
        ({"app.x": {}}, "is a dict"),
        ({"app.x": ""}, "is a str"),
        ({"app.x": float("nan")}, "is a float"),
        ({"app.x": []}, "is a list"),
        ({f"app.{i}": i for i in range(33)}, "33 entries: give at most 32"),
        ([("app.x", "y")], "attributes='list' object: give a mapping"),
    ],
)
def test_attributes_that_cannot_be(provider, given, words):
    with pytest.raises(ConfigurationError, match=words):
        TracedRouter(model_list=[a(provider)], attributes=given)


def test_settings_are_held_to_the_same(provider, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_ATTRIBUTES", '{"traced_router.outcome": "ok"}')
    with pytest.raises(ConfigurationError, match="which this package sets itself"):
        TracedRouter(model_list=[a(provider)])


# --- metadata --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metadata", "litellm_metadata"])
async def test_metadata_that_is_allowed(provider, router, recorder, name):
    keys = "tenant, tier ,share,beta,tags,odd,empty,missing,nan,nothing"
    made = router(a(provider), settings={"metadata_attributes": keys})
    metadata = {
        "tenant": "acme",
        "tier": 3,
        "share": 0.25,
        "beta": False,
        "tags": ["x", 1, "y"],
        "odd": {"deep": "canary"},
        "empty": "",
        "nan": float("nan"),
        "nothing": None,
        "secret": "canary",
    }
    await made.acompletion("a", MESSAGES, **{name: metadata})

    found = {k: v for k, v in recorder.tree().attributes.items() if k.startswith("traced_router.metadata.")}
    prefix = "traced_router.metadata."
    assert found == {
        prefix + "tenant": "acme",
        prefix + "tier": 3,
        prefix + "share": 0.25,
        prefix + "beta": False,
        prefix + "tags": ("x", "y"),
    }
    assert "canary" not in str([span.attributes for span in recorder.spans()])


async def test_a_call_without_metadata(provider, router, recorder):
    made = router(a(provider), settings={"metadata_attributes": ("tenant",)})
    await made.acompletion("a", MESSAGES)
    await made.acompletion("a", MESSAGES, metadata={"tenant": None}, litellm_metadata={"tenant": "acme"})

    first, second = recorder.trees()
    assert "traced_router.metadata.tenant" not in first.attributes
    assert second.attributes["traced_router.metadata.tenant"] == "acme"


async def test_metadata_by_environment(provider, router, recorder, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_METADATA_ATTRIBUTES", "tenant,tier")
    await router(a(provider)).acompletion("a", MESSAGES, metadata={"tenant": "acme", "tier": 1, "other": 2})

    attributes = recorder.tree().attributes
    assert (attributes["traced_router.metadata.tenant"], attributes["traced_router.metadata.tier"]) == ("acme", 1)
    assert "traced_router.metadata.other" not in attributes


def test_too_many_keys(provider):
    keys = ",".join(f"k{i}" for i in range(33))
    with pytest.raises(ConfigurationError, match="33 keys: give at most 32"):
        TracedRouter(model_list=[a(provider)], settings={"metadata_attributes": keys})


# --- the hook --------------------------------------------------------------------------------


def approximately(summary, request):
    """The summary says of the times what the span says."""
    times = ("select", "provider", "backoff", "consumer", "overhead", "wasted")
    for time in times:
        assert getattr(summary, f"{time}_seconds") == request.attributes[f"traced_router.time.{time}"]
    assert summary.seconds == pytest.approx(request.seconds, abs=1e-9)
    assert summary.seconds == pytest.approx(sum(getattr(summary, f"{time}_seconds") for time in times[:5]), abs=1e-9)


async def test_a_call_with_everything(provider, router, recorder):
    provider.script("dep-a", [RateLimited(retry_after=3), ServerError()])
    provider.script("dep-b", [Answer("hello", input_tokens=11, output_tokens=7, cached_tokens=3)])
    told = []
    made = router(
        a(provider), b(provider), num_retries=1, retry_after=0, fallbacks=[{"a": ["b"]}], on_request_end=told.append
    )
    await made.acompletion(
        "a", MESSAGES, user="u-1", litellm_session_id="s-1", litellm_trace_id="t-1", metadata={"team": "x"}
    )

    (summary,) = told
    assert last_request() == summary
    request = recorder.tree()
    attempts = [node for node in request.walk() if node.kind == "CLIENT"]
    approximately(summary, request)
    cost = attempts[2].attributes["traced_router.attempt.cost"]
    busy = [one.provider_seconds for one in summary.attempts]
    common = {"provider": "openai", "model": "gpt-4o-2024-08-06"}
    assert summary == RequestSummary(
        "chat",
        "ok_after_fallback",
        "a",
        litellm_trace_id="t-1",
        trace_id=f"{request.trace_id:032x}",
        span_id=f"{request.span_id:016x}",
        sampled=True,
        session_id="s-1",
        user_id="u-1",
        strategy="simple-shuffle",
        attempts=(
            AttemptSummary(
                1,
                "initial",
                "a",
                "dep-a",
                **common,
                seconds=length(attempts[0]),
                provider_seconds=busy[0],
                error_type="RateLimitError",
                error_category="rate_limit",
                status_code=429,
                retry_after=3.0,
            ),
            AttemptSummary(
                2,
                "retry",
                "a",
                "dep-a",
                **common,
                seconds=length(attempts[1]),
                provider_seconds=busy[1],
                error_type="InternalServerError",
                error_category="server",
                status_code=500,
            ),
            AttemptSummary(
                3,
                "fallback",
                "b",
                "dep-b",
                **common,
                response_model="gpt-4o-2024-08-06",
                served=True,
                seconds=length(attempts[2]),
                provider_seconds=busy[2],
                input_tokens=11,
                cached_input_tokens=3,
                output_tokens=7,
                finish_reasons=("stop",),
                cost=cost,
            ),
        ),
        decisions=(picked("a"), picked("a"), picked("b")),
        retries=1,
        fallbacks=1,
        served_model_group="b",
        served_deployment_id="dep-b",
        cost_total=cost,
        cost_wasted=0.0,
        amplification={"a": 2, "b": 1},
        **{field: getattr(summary, field) for field in SECONDS},
    )
    assert busy == [one.seconds for one in summary.attempts]


def length(node):
    return (node.end_ns - node.start_ns) * 1e-9


SECONDS = [field.name for field in dataclasses.fields(RequestSummary) if field.name.endswith("seconds")]


def picked(group):
    return Explanation(
        group,
        "simple-shuffle",
        "only_candidate",
        f"dep-{group}",
        candidates=(ExplainedCandidate(f"dep-{group}", chosen=True),),
        considered=1,
    )


async def test_a_call_that_fails(provider, router, recorder):
    provider.default("dep-a", BadRequest())
    told = []
    made = router(a(provider), on_request_end=told.append)
    with pytest.raises(Exception, match="temperature"):
        await made.acompletion("a", MESSAGES)

    (summary,) = told
    assert (summary.outcome, summary.error_type, summary.served_deployment_id) == ("error", "BadRequestError", None)
    assert (summary.cost_total, summary.cost_wasted) == (None, None)
    assert [one.served for one in summary.attempts] == [False]
    assert last_request() == summary


async def test_a_pick_that_finds_nobody(provider, router, recorder):
    made = router(a(provider), fallbacks=[])
    with pytest.raises(Exception, match="nobody-has-this"):
        await made.acompletion("nobody-has-this", MESSAGES)

    summary = last_request()
    assert summary.attempts == ()
    (decision,) = summary.decisions
    assert (decision.model_group, decision.chosen_id) == ("nobody-has-this", None)
    assert decision.error_type == summary.error_type


async def test_all_candidates_for_who_asks(provider, router, recorder):
    """A hook sees who was not chosen; without one, only those are known that a strategy or a filter named."""
    told = []
    group = [provider.deployment(f"dep-{i}", group="a") for i in range(3)]
    await router(*group, on_request_end=told.append).acompletion("a", MESSAGES)
    await router(*group).acompletion("a", MESSAGES)

    ((first,), (second,)) = told[0].decisions, last_request().decisions
    assert sorted(one.id for one in first.candidates) == ["dep-0", "dep-1", "dep-2"]
    assert second.chosen_id in [one.id for one in second.candidates]
    for tree in recorder.trees():  # and no span is the larger for it
        assert [node.events for node in tree.walk()] == [()] * 3


async def test_an_attribute_of_a_hook(provider, router, recorder):
    made = router(a(provider), on_request_end=lambda summary: {"app.attempts": len(summary.attempts)})
    await made.acompletion("a", MESSAGES)

    assert recorder.tree().attributes["app.attempts"] == 1


async def test_what_a_hook_returns(provider, router, recorder):
    def hook(summary):
        return {
            "app.saved": summary.outcome != "ok",
            "app.note": "x" * 5000,
            "app.list": ("a", "b"),
            "app.bad": object(),
            "traced_router.outcome": "mine",
            "gen_ai.usage.input_tokens": 99,
            1: "x",
            **{f"app.{i}": i for i in range(100)},
        }

    made = router(a(provider), on_request_end=hook)
    await made.acompletion("a", MESSAGES)

    attributes = recorder.tree().attributes
    own = {key: value for key, value in attributes.items() if key.startswith("app.")}
    assert len(own) == 32
    assert (own["app.saved"], own["app.note"], own["app.list"]) == (False, "x" * 1024, ("a", "b"))
    assert "app.bad" not in own
    assert attributes["traced_router.outcome"] == "ok"
    assert "gen_ai.usage.input_tokens" not in attributes


@pytest.mark.parametrize("wrong", [RuntimeError("canary"), "text", 7])
async def test_a_hook_that_fails(provider, router, recorder, caplog, wrong, tracing_may_fail):
    def hook(_summary):
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    made = router(a(provider), on_request_end=hook)
    for _ in range(2):
        answer = await made.acompletion("a", MESSAGES)
        assert answer.choices[0].message.content == "hello"

    assert [tree.attributes["traced_router.outcome"] for tree in recorder.trees()] == ["ok", "ok"]
    ours = [record.getMessage() for record in caplog.records if record.name == "traced_router"]
    assert len(ours) == 1
    assert "on_request_end" in ours[0]
    assert "canary" not in caplog.text
    assert last_request().outcome == "ok"


async def test_calls_that_nobody_records(provider, router):
    unsampled = Recorder(ALWAYS_OFF)
    told = []
    made = router(a(provider), tracer_provider=unsampled.provider, on_request_end=lambda s: told.append(s) or {"x": 1})
    await made.acompletion("a", MESSAGES)
    async for _ in await made.acompletion("a", MESSAGES, stream=True):
        pass

    assert [(one.outcome, one.sampled, len(one.attempts)) for one in told] == [("ok", False, 1)] * 2
    assert told[1].stream_outcome == "exhausted"
    assert unsampled.spans() == []


@pytest.mark.parametrize("wrong", ["text", 7])
def test_a_hook_that_is_no_function(provider, wrong):
    with pytest.raises(ConfigurationError, match="give a function"):
        TracedRouter(model_list=[a(provider)], on_request_end=wrong)


def test_a_hook_that_would_have_to_be_awaited(provider):
    async def hook(summary): ...

    class Hook:
        async def __call__(self, summary): ...

    for wrong in (hook, Hook()):
        with pytest.raises(ConfigurationError, match="nobody would wait for it"):
            TracedRouter(model_list=[a(provider)], on_request_end=wrong)


async def test_each_member_of_a_batch(provider, router, recorder):
    told = []
    made = router(a(provider), b(provider), on_request_end=told.append)
    await made.abatch_completion(models=["a", "b"], messages=MESSAGES)

    assert sorted(one.model_group for one in told) == ["a", "b"]
    assert last_request() is None  # its members ran in tasks of their own


async def test_a_stream_that_is_dropped_calls_the_hook_from_elsewhere(provider, router, recorder):
    """The collector can come in the midst of anything, and a hook may take locks."""
    told = threading.Event()
    threads = []

    def hook(summary):
        threads.append((threading.current_thread() is threading.main_thread(), summary.outcome))
        told.set()

    provider.default("dep-a", Answer(chunks=("x", "y", "z")))
    made = router(a(provider), on_request_end=hook)
    stream = await made.acompletion("a", MESSAGES, stream=True)
    await anext(stream)
    del stream
    gc.collect()
    assert await asyncio.to_thread(told.wait, 5)

    assert threads == [(False, "abandoned")]
    recorder.wait_for_end(3)


# --- the last request ------------------------------------------------------------------------


async def test_before_any_request():
    assert last_request() is None


@pytest.mark.parametrize("call", ["acompletion", "completion", "completion in a loop", "aresponses", "responses"])
def test_after_a_call(provider, router, recorder, call):
    made = router(a(provider))

    async def awaits():
        if call == "completion in a loop":
            made.completion("a", MESSAGES)
        elif call == "aresponses":
            await made.aresponses(model="a", input="hi")
        else:
            await made.acompletion("a", MESSAGES)
        return last_request()

    if call == "completion":
        made.completion("a", MESSAGES)
        summary = last_request()
    elif call == "responses":
        made.responses(model="a", input="hi")
        summary = last_request()
    else:
        summary = asyncio.run(awaits())
    assert summary.span_id == f"{recorder.tree().span_id:016x}"


async def test_tasks_do_not_mix(provider, router, recorder):
    made = router(a(provider), b(provider))
    both = asyncio.Barrier(2)

    async def one(group):
        await made.acompletion(group, MESSAGES)
        await both.wait()
        return last_request().model_group

    assert await asyncio.gather(one("a"), one("b")) == ["a", "b"]
    assert last_request() is None


def test_threads_do_not_mix(provider, router, recorder):
    made = router(a(provider), b(provider))
    both, found = threading.Barrier(2), {}

    def one(group):
        made.completion(group, MESSAGES)
        both.wait(5)
        found[group] = last_request().model_group

    threads = [threading.Thread(target=one, args=(group,)) for group in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": "a", "b": "b"}
    assert last_request() is None


@pytest.mark.parametrize("sync", [False, True])
async def test_a_stream_is_over_when_it_has_been_read(provider, router, recorder, sync):
    provider.default("dep-a", Answer(chunks=("x", "y")))
    made = router(a(provider), b(provider))
    if sync:
        stream = made.completion("a", MESSAGES, stream=True)
        await made.acompletion("b", MESSAGES)
        for _ in stream:
            assert last_request().model_group == "b"
    else:
        stream = await made.acompletion("a", MESSAGES, stream=True)
        await made.acompletion("b", MESSAGES)
        async for _ in stream:
            assert last_request().model_group == "b"

    summary = last_request()
    assert (summary.model_group, summary.streaming, summary.stream_outcome) == ("a", True, "exhausted")
    request = next(tree for tree in recorder.trees() if tree.name == "router.chat a")
    assert summary.stream_chunks == request.attributes["traced_router.stream.chunks"]
    assert summary.time_to_first_chunk == request.attributes["traced_router.time_to_first_chunk"]
    assert summary.attempts[0].time_to_first_chunk is not None
    approximately(summary, request)


async def test_a_stream_that_is_closed(provider, router, recorder):
    provider.default("dep-a", Answer(chunks=("x", "y")))
    stream = await router(a(provider)).acompletion("a", MESSAGES, stream=True)
    await anext(stream)
    await stream.aclose()

    summary = last_request()
    assert (summary.outcome, summary.stream_outcome, summary.stream_chunks) == ("abandoned", "closed", 1)


async def test_a_stream_that_is_dropped_is_nobodys(provider, router, recorder):
    """Whoever runs when the collector comes has not made this request."""
    made = router(a(provider), b(provider))
    stream = await made.acompletion("a", MESSAGES, stream=True)
    await anext(stream)
    await made.acompletion("b", MESSAGES)
    del stream
    gc.collect()

    recorder.wait_for_end(6)
    assert last_request().model_group == "b"


async def test_a_cancelled_call(provider, router, recorder):
    provider.default("dep-a", Hang())
    made = router(a(provider))
    found = []

    async def one():
        try:
            await made.acompletion("a", MESSAGES)
        finally:
            found.append(last_request())

    task = asyncio.ensure_future(one())
    while not provider.hits():
        await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    (summary,) = found
    assert (summary.outcome, summary.attempts[0].error_type, summary.attempts[0].error_category) == (
        "cancelled",
        None,
        "cancelled",
    )
    provider.release()


async def test_a_call_that_nobody_follows_is_not_mistaken_for_an_older_one(provider, router, recorder):
    unsampled = Recorder(ALWAYS_OFF)
    made, silent = router(a(provider)), router(b(provider), tracer_provider=unsampled.provider)
    await made.acompletion("a", MESSAGES)
    assert last_request().model_group == "a"
    await silent.acompletion("b", MESSAGES)
    assert last_request() is None

    await made.acompletion("a", MESSAGES)
    provider.default("dep-b", BadRequest())
    with pytest.raises(Exception, match="temperature"):
        await silent.acompletion("b", MESSAGES)
    assert last_request() is None


async def test_a_call_inside_a_call_ends_before_it(provider, router, recorder):
    inner = router(b(provider))
    found = []

    class Asks(seams.litellm.integrations.custom_logger.CustomLogger):
        async def async_filter_deployments(self, model, healthy_deployments, *args, **kwargs):
            if model == "a":
                await inner.acompletion("b", MESSAGES)
                found.append(last_request().model_group)
            return healthy_deployments

    seams.litellm.callbacks.append(Asks())
    await router(a(provider)).acompletion("a", MESSAGES)

    assert found == ["b"]
    assert last_request().model_group == "a"


async def test_nothing_of_the_request_is_kept(provider, router, recorder):
    """No prompt, no completion, no span and no context is to be found from what is kept."""
    from traced_router._summaries import _LAST

    secret = "canary-" + "x" * 50
    provider.default("dep-a", Answer(secret))
    made = router(a(provider), settings={"capture_content": "SPAN_AND_EVENT"})
    await made.acompletion("a", [{"role": "user", "content": secret}], metadata={"note": secret})
    async for _ in await made.acompletion("a", [{"role": "user", "content": secret}], stream=True):
        pass

    seen, todo, modules = set(), [_LAST.get()], (type, type(gc))
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, modules):
            continue
        seen.add(id(thing))
        assert not (isinstance(thing, str) and "canary" in thing)
        assert type(thing).__module__.split(".")[0] not in {"litellm", "openai", "httpx"}
        todo += gc.get_referents(thing)
    assert 10 < len(seen) < 500


async def test_a_fault_in_here_is_no_fault(provider, router, recorder, monkeypatch, tracing_may_fail):
    monkeypatch.setattr("traced_router._tree.Finished", None)
    await router(a(provider)).acompletion("a", MESSAGES)

    assert recorder.tree().attributes["traced_router.outcome"] == "ok"
    assert last_request() is None


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RequestSummary)])
def test_a_summary_is_a_value(name):
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        setattr(RequestSummary("chat", "ok"), name, None)
