"""Every entry point of the router gives one request span, and says of its attempts what really happened."""

import asyncio
import collections
import functools
import inspect

import litellm
import openai
import pytest
from opentelemetry import trace

from traced_router import TracedRouter
from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, BadRequest, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = "openai/gpt-4o-2024-08-06"

# --- the endpoints that litellm makes, with a provider function that answers at once ----------

AWAITS_A_PLAIN_FUNCTION = frozenset({"create_interaction"})
"""litellm awaits what these return, which is no coroutine, and raises TypeError."""

NEEDS = {
    "aadapter_generate_content": {"contents": []},
    "arealtime_calls": {"sdp": "v=0"},
    "allm_passthrough_route": {"method": "POST", "endpoint": "/v1/x"},
    "asearch": {"search_tool_name": "tool"},
    "search": {"search_tool_name": "tool"},
}
"""Parameters without which litellm's router itself raises."""

OPERATIONS = {
    "aresponses": "chat",
    "responses": "chat",
    "aanthropic_messages": "chat",
    "anthropic_messages": "chat",
    "agenerate_content": "generate_content",
    "agenerate_content_stream": "generate_content",
    "aadapter_generate_content": "generate_content",
    "amoderation": "moderation",
    "avector_store_search": "retrieval",
    "vector_store_search": "retrieval",
    "asearch": "search",
    "search": "search",
    "aocr": "ocr",
    "avideo_generation": "video_generation",
    "afile_list": "list_files",
    "a_add_message": "add_message",
}
"""What some of them are called in the trace, written out; for the others see the test."""


class RefusedError(Exception):
    """What a provider function raises in the failing half of the test."""


def stubbed(calls, error):
    """A router whose provider functions, behind the endpoints that litellm makes, only note that they were called."""

    class Stubbed(TracedRouter):
        def factory_function(self, original_function, *args, **kwargs):
            def called(kwargs):
                calls.append(kwargs)
                if error is not None:
                    raise error
                return {"object": "stub"}

            if inspect.iscoroutinefunction(original_function):

                @functools.wraps(original_function)
                async def stub(*_args, **kwargs):
                    return called(kwargs)

            else:

                @functools.wraps(original_function)
                def stub(*_args, **kwargs):
                    return called(kwargs)

            return super().factory_function(stub, *args, **kwargs)

    return Stubbed


def instance_endpoints(router):
    """Callables on the instance that wrap something, without litellm's cached helpers."""
    held = router.__dict__.get("_core", router).__dict__
    return sorted(name for name, value in held.items() if inspect.isfunction(value) and hasattr(value, "__wrapped__"))


async def call(router, name):
    parameters = {"model": "gpt-4o", "custom_llm_provider": "openai", **NEEDS.get(name, {})}
    result = getattr(router, name)(**parameters)
    return await result if inspect.isawaitable(result) else result


@pytest.mark.parametrize("error", [None, RefusedError("no")], ids=["answered", "refused"])
async def test_every_endpoint_that_litellm_makes(provider, recorder, error):
    calls: list[object] = []
    router = stubbed(calls, error)(
        model_list=[provider.deployment("dep-a")],
        search_tools=[{"search_tool_name": "tool", "litellm_params": {"search_provider": "perplexity"}}],
        num_retries=0,
        tracer_provider=recorder.provider,
    )
    names = instance_endpoints(router)
    assert len(names) >= 120
    wrong = []
    for name in names:
        recorder.clear()
        calls.clear()
        raised = None
        try:
            await call(router, name)
        except Exception as caught:
            raised = caught
        wrong += [f"{name}: {what}" for what in _wrong(name, recorder.trees(), len(calls), error, raised)]
    recorder.clear()
    assert wrong == []
    (router.retire if hasattr(router, "retire") else router.discard)()


def _wrong(name, trees, calls, error, raised):
    if len(trees) != 1:
        yield f"{len(trees)} request spans: {[tree.name for tree in trees]}"
        return
    (tree,) = trees
    operation = OPERATIONS.get(name)
    allowed = ("router.",) if operation is None else (f"router.{operation} gpt-4o", f"router.{operation}")
    if not tree.name.startswith(allowed):
        yield f"is named {tree.name!r}"
    attempts = [node for node in tree.walk() if node.kind == "CLIENT"]
    if len(attempts) != calls:
        yield f"{calls} provider calls, {len(attempts)} attempts, raised {raised!r}"
    if (tree.status == "ERROR") != (raised is not None):
        yield f"status {tree.status}, raised {raised!r}"
    if raised is not None and tree.attributes.get("error.type") != type(raised).__name__:
        yield f"error.type {tree.attributes.get('error.type')!r}, raised {raised!r}"
    if error is None and raised is not None and calls and name not in AWAITS_A_PLAIN_FUNCTION:
        yield f"raised {raised!r} after {calls} calls"


# --- over the wire -----------------------------------------------------------------------------


def tree(name, attempt, *, select=None, **attributes):
    group = name.partition(" ")[2]
    return span(
        f"router.{name}",
        kind="INTERNAL",
        status="UNSET",
        attributes={"traced_router.outcome": "ok", "traced_router.attempts": 1, **attributes},
        children=[
            *([] if select is False else [span(f"router.select {group}", status="UNSET")]),
            span(attempt, kind="CLIENT", status="UNSET"),
        ],
    )


WIRE = {
    "acompletion": ("chat", CHAT, {"messages": MESSAGES}),
    "completion": ("chat", CHAT, {"messages": MESSAGES}),
    "schedule_acompletion": ("chat", CHAT, {"messages": MESSAGES, "priority": 0}),
    "atext_completion": ("text_completion", "text-completion-openai/gpt-3.5-turbo-instruct", {"prompt": "hi"}),
    "text_completion": ("text_completion", "text-completion-openai/gpt-3.5-turbo-instruct", {"prompt": "hi"}),
    "aembedding": ("embeddings", "openai/text-embedding-3-small", {"input": ["hi"]}),
    "embedding": ("embeddings", "openai/text-embedding-3-small", {"input": ["hi"]}),
    "aresponses": ("chat", CHAT, {"input": "hi"}),
    "responses": ("chat", CHAT, {"input": "hi"}),
    "aanthropic_messages": ("chat", "anthropic/claude-sonnet-4-5", {"messages": MESSAGES, "max_tokens": 9}),
    "aimage_generation": ("image_generation", "openai/gpt-image-1", {"prompt": "hi"}),
    "image_generation": ("image_generation", "openai/gpt-image-1", {"prompt": "hi"}),
    "atranscription": ("transcription", "openai/whisper-1", {"file": ("a.wav", b"RIFF")}),
    "aspeech": ("speech", "openai/tts-1", {"input": "hi", "voice": "alloy"}),
    "arerank": ("rerank", "cohere/rerank-v3.5", {"query": "hi", "documents": ["a", "b"]}),
    "amoderation": ("moderation", "openai/omni-moderation-latest", {"input": "hi"}),
    "agenerate_content": ("generate_content", "gemini/gemini-2.5-flash", {"contents": [{"parts": [{"text": "hi"}]}]}),
    "generate_content": ("generate_content", "gemini/gemini-2.5-flash", {"contents": [{"parts": [{"text": "hi"}]}]}),
}

GROUPS = {"text_completion": "text-completion-openai/gpt-3.5-turbo-instruct"}
"""Synchronous text completion sends the group's name where the deployment's model belongs: they have to be one."""


@pytest.mark.parametrize("name", WIRE)
async def test_an_entry_point_over_the_wire(provider, router, recorder, name):
    operation, model, parameters = WIRE[name]
    group = GROUPS.get(name, "g")
    made = router(provider.deployment("dep-a", group=group, model=model))
    method = getattr(made, name)
    arguments = {"model": group, **parameters}
    if inspect.iscoroutinefunction(method):
        await method(**arguments)
    else:
        await asyncio.to_thread(functools.partial(method, **arguments))

    assert provider.hits() == 1
    assert_tree(
        recorder,
        tree(
            f"{operation} {group}",
            f"{operation} {model.partition('/')[2]}",
            **{"traced_router.operation": operation, "traced_router.served.deployment_id": "dep-a"},
        ),
    )
    request = recorder.tree()
    assert request.attributes["litellm_trace_id"] == request.children[-1].attributes["litellm_trace_id"]


@pytest.mark.parametrize("name", WIRE)
async def test_an_entry_point_that_fails(provider, router, recorder, name):
    operation, model, parameters = WIRE[name]
    provider.default("dep-a", BadRequest())
    group = GROUPS.get(name, "g")
    made = router(provider.deployment("dep-a", group=group, model=model))
    method = getattr(made, name)
    arguments = {"model": group, **parameters}
    with pytest.raises(Exception) as caught:
        if inspect.iscoroutinefunction(method):
            await method(**arguments)
        else:
            await asyncio.to_thread(functools.partial(method, **arguments))

    error = type(caught.value).__name__
    request = recorder.tree()
    assert request.name == f"router.{operation} {group}"
    assert request.status == "ERROR"
    assert request.attributes["error.type"] == error
    attempts = [node for node in request.walk() if node.kind == "CLIENT"]
    assert len(attempts) == provider.hits() == 1
    assert attempts[0].status == "ERROR"
    assert attempts[0].attributes["http.response.status_code"] == 400


# --- several deployments at once -----------------------------------------------------------------


def group_of(provider, *names, group="g"):
    """Deployments whose OpenAI client repeats nothing by itself."""
    return [provider.deployment(f"dep-{name}", group=group, max_retries=0) for name in names]


def parallel(operation, deployment, reason="initial", error=None, status=None, **attributes):
    return span(
        f"{operation} gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "litellm.deployment.id": f"dep-{deployment}",
            "litellm.deployment.model_group": "g",
            "litellm.deployment.reason": reason,
            "error.type": error or absent,
            "http.response.status_code": status or absent,
            **attributes,
        },
    )


def request(operation, *attempts, status="UNSET", **attributes):
    return span(f"router.{operation} g", status=status, attributes=attributes, children=attempts)


async def stragglers():
    """Wait for what litellm has left running."""
    left = [t for t in asyncio.all_tasks() if t.get_coro().__qualname__.endswith("create_file_for_deployment")]
    await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 5)


async def test_a_file_goes_to_every_deployment_of_its_group(provider, router, recorder):
    made = router(*group_of(provider, "a", "b"))
    await made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch")

    assert provider.hits() == 2
    assert_tree(
        recorder,
        request(
            "create_file",
            parallel("create_file", "a", **{"litellm.deployment.attempt": 1, "traced_router.attempt.number": 1}),
            parallel("create_file", "b", **{"litellm.deployment.attempt": 2, "traced_router.attempt.number": 2}),
            **{
                "traced_router.outcome": "ok",
                "traced_router.attempts": 2,
                "traced_router.retries": 0,
                "traced_router.served.deployment_id": "dep-a",
            },
        ),
    )


async def test_a_file_that_one_deployment_refuses(provider, router, recorder):
    """litellm sends it to all of them again; what the others said the first time stays theirs."""
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate), Answer()])
    provider.script("dep-b", [ServerError(), Answer()])
    made = router(*group_of(provider, "a", "b"), num_retries=1)
    task = asyncio.ensure_future(made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch"))
    await asyncio.wait_for(task, 5)
    gate.open()
    await stragglers()

    assert provider.hits() == 4
    assert_tree(
        recorder,
        request(
            "create_file",
            parallel("create_file", "a"),
            parallel("create_file", "b", error="InternalServerError", status=500),
            parallel("create_file", "a", "retry"),
            parallel("create_file", "b", "retry"),
            **{
                "traced_router.outcome": "ok_after_retry",
                "traced_router.retries": 2,
                "traced_router.served.deployment_id": "dep-a",
            },
        ),
    )


async def test_a_file_that_falls_back_while_one_deployment_still_thinks(provider, router, recorder):
    """What has failed is over, whatever litellm has left running in it."""
    gate = provider.gate()
    provider.script("dep-a", [ServerError(), ServerError(), Answer()])
    provider.script("dep-b", [Answer(hold_before=gate), Answer(hold_before=gate), Answer()])
    made = router(*group_of(provider, "a", "b"))
    fallbacks = [{"model": "g", "timeout": 9}, {"model": "g", "timeout": 8}]
    await made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch", fallbacks=fallbacks)
    gate.open()
    await stragglers()

    failed = {"error": "InternalServerError", "status": 500}
    assert_tree(
        recorder,
        request(
            "create_file",
            parallel("create_file", "a", **failed),
            parallel("create_file", "b"),
            span(
                "router.fallback g",
                status="ERROR",
                children=[
                    parallel("create_file", "a", "fallback", **failed),
                    parallel("create_file", "b", "fallback"),
                ],
            ),
            span(
                "router.fallback g",
                status="UNSET",
                children=[parallel("create_file", "a", "fallback"), parallel("create_file", "b", "fallback")],
            ),
            **{"traced_router.outcome": "ok_after_fallback", "traced_router.retries": 0},
        ),
    )


async def test_a_file_that_nobody_takes(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    provider.script("dep-b", [ServerError()])
    made = router(*group_of(provider, "a", "b"))
    with pytest.raises(openai.InternalServerError):
        await made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch")
    gate.open()
    await stragglers()

    assert_tree(
        recorder,
        request(
            "create_file",
            parallel("create_file", "a"),
            parallel("create_file", "b", error="InternalServerError", status=500),
            status="ERROR",
            **{"traced_router.outcome": "error"},
        ),
    )


async def test_a_file_for_a_deployment_whose_turn_comes_too_late(provider, recorder):
    """litellm goes on with it although the call is over; a tree that is finished stays as it is."""
    turn = asyncio.Event()

    class Waiting(TracedRouter):
        async def async_routing_strategy_pre_call_checks(self, deployment, *args, **kwargs):
            if deployment["model_info"]["id"] == "dep-b":
                await turn.wait()
            return await super().async_routing_strategy_pre_call_checks(deployment, *args, **kwargs)

    provider.script("dep-a", [ServerError()])
    made = Waiting(model_list=group_of(provider, "a", "b"), num_retries=0, tracer_provider=recorder.provider)
    with pytest.raises(openai.InternalServerError):
        await made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch")
    turn.set()
    await stragglers()

    assert provider.hits("dep-b") == 1
    assert_tree(
        recorder,
        request("create_file", parallel("create_file", "a", error="InternalServerError", status=500), status="ERROR"),
    )
    (made.retire if hasattr(made, "retire") else made.discard)()


async def test_a_file_whose_deployment_cools_down(provider, router, recorder):
    """The event is on the attempt that failed, not on the one that began last."""
    gate = provider.gate()
    provider.script("dep-a", [RateLimited(hold_before=gate)])
    provider.script("dep-b", [Answer(hold_before=gate)])
    made = router(*group_of(provider, "a", "b"))
    task = asyncio.ensure_future(made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch"))
    await gate.reached(count=2)
    gate.open()
    with pytest.raises(openai.RateLimitError):
        await task
    await stragglers()

    events = {a.attributes["litellm.deployment.id"]: [e.name for e in a.events] for a in recorder.tree().children}
    assert events == {"dep-a": ["traced_router.cooldown"], "dep-b": []}


async def test_a_batch_job_that_one_of_its_deployments_has(provider, router, recorder):
    """litellm keeps to itself what the others said; their attempts tell."""
    provider.script("dep-a", [BadRequest()])
    provider.script("dep-c", [ServerError()])
    made = router(*group_of(provider, "a", "b", "c"))
    await made.aretrieve_batch("g", batch_id="batch-1")

    assert provider.hits() == 3
    assert_tree(
        recorder,
        request(
            "retrieve_batch",
            parallel("retrieve_batch", "a", error="BadRequestError", status=400),
            parallel("retrieve_batch", "b"),
            parallel("retrieve_batch", "c", error="InternalServerError", status=500),
            **{
                "traced_router.outcome": "ok",
                "traced_router.attempts": 3,
                "traced_router.retries": 0,
                "traced_router.served.deployment_id": "dep-b",
            },
        ),
    )


async def test_a_batch_job_that_none_of_its_deployments_has(provider, router, recorder):
    provider.default("dep-a", BadRequest())
    provider.default("dep-b", BadRequest())
    made = router(*group_of(provider, "a", "b"))
    with pytest.raises(openai.BadRequestError):
        await made.aretrieve_batch("g", batch_id="batch-1")

    assert_tree(
        recorder,
        request(
            "retrieve_batch",
            parallel("retrieve_batch", "a", error="BadRequestError", status=400),
            parallel("retrieve_batch", "b", error="BadRequestError", status=400),
            status="ERROR",
            **{"traced_router.outcome": "error", "traced_router.served.deployment_id": absent},
        ),
    )


async def test_a_batch_job_of_nobody_knows_which_group(provider, router, recorder):
    made = router(*group_of(provider, "a"), provider.deployment("dep-b", group="h"))
    await made.aretrieve_batch(batch_id="batch-1")

    assert provider.hits() == 2
    tree = recorder.tree()
    assert tree.name == "router.retrieve_batch"
    assert [c.attributes["litellm.deployment.id"] for c in tree.children] == ["dep-a", "dep-b"]


async def test_a_cancelled_search_for_a_batch_job(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-b", Answer(hold_before=gate))
    made = router(*group_of(provider, "a", "b"))
    task = asyncio.ensure_future(made.aretrieve_batch("g", batch_id="batch-1"))
    await gate.reached()
    while len(recorder.open_spans()) > 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert_tree(
        recorder,
        request(
            "retrieve_batch",
            parallel("retrieve_batch", "a"),
            parallel("retrieve_batch", "b", **{"traced_router.error.category": "cancelled"}),
            **{"traced_router.outcome": "cancelled"},
        ),
    )


async def test_the_batch_jobs_of_all_deployments(provider, router, recorder):
    provider.script("dep-b", [ServerError()])
    made = router(*group_of(provider, "a", "b"))
    found = await made.alist_batches("g")

    assert len(found["data"]) > 0
    assert provider.hits() == 2
    assert_tree(
        recorder,
        request(
            "list_batches",
            parallel("list_batches", "a"),
            parallel("list_batches", "b", error="InternalServerError", status=500),
            **{"traced_router.outcome": "ok", "traced_router.attempts": 2},
        ),
    )


async def test_each_of_them_is_current_while_it_is_called(provider, router, recorder, monkeypatch):
    current = []

    async def listing(**_):
        current.append(trace.get_current_span())
        await asyncio.sleep(0)
        current.append(trace.get_current_span())

    monkeypatch.setattr(litellm, "alist_batches", listing)
    await router(*group_of(provider, "a", "b")).alist_batches("g")

    assert [s.attributes["litellm.deployment.id"] for s in current] == ["dep-a", "dep-b", "dep-a", "dep-b"]
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_provider_function_that_only_returns_something_to_await(provider, router, recorder, monkeypatch):
    """Its attempt is not over when it has returned that: nobody has asked the provider yet."""
    ended = []

    async def listing():
        ended.extend(a.end_ns for a in recorder.tree().children)

    monkeypatch.setattr(litellm, "alist_batches", lambda **_: listing())
    await router(*group_of(provider, "a")).alist_batches("g")

    assert ended == [None]
    assert_tree(recorder, request("list_batches", parallel("list_batches", "a")))


# --- one of them ---------------------------------------------------------------------------------


async def test_a_batch_job(provider, router, recorder):
    made = router(provider.deployment("dep-a", group="g"))
    await made.acreate_batch(
        model="g", input_file_id="file-1", completion_window="24h", endpoint="/v1/chat/completions"
    )

    request = recorder.tree()
    assert request.name == "router.create_batch g"
    assert len([node for node in request.children if node.kind == "CLIENT"]) == provider.hits() == 1


def test_the_conventional_names_of_an_openai_client(provider, router, recorder):
    made = router(provider.deployment("dep-a", group="g"))
    answer = made.chat.completions.create(model="g", messages=MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert recorder.tree().name == "router.chat g"


async def test_a_call_that_names_no_model(provider, router, recorder):
    """The attempt's name has no model either, and no space where one would be."""
    params = provider.deployment("dep-a")["litellm_params"]
    made = router(provider.deployment("dep-b", group="g"))
    await made.avector_store_create(
        None, custom_llm_provider="openai", api_base=params["api_base"], api_key=params["api_key"], name="store"
    )

    assert provider.hits("dep-a") == 1
    assert_tree(recorder, tree("vector_store_create", "vector_store_create", select=False))


async def test_a_guardrail_is_its_own_group(provider, router, recorder):
    guardrail = {"guardrail_name": "pii", "litellm_params": {"guardrail": "custom", "mode": "pre_call"}}
    made = router(provider.deployment("dep-a"), guardrail_list=[guardrail])

    async def run(selected_guardrail, **_):
        return selected_guardrail["guardrail_name"]

    assert await made.aguardrail("pii", run) == "pii"
    assert await made.aguardrail(guardrail_name="pii", original_function=run) == "pii"
    assert len(recorder.trees()) == 2
    for request in recorder.trees():
        assert_tree(
            request,
            span("router.guardrail pii", status="UNSET", attributes={"traced_router.model_group": "pii"}),
        )


# --- when the provider is through ----------------------------------------------------------------


class Noting(collections.Counter):
    """litellm's count of successes, which it keeps when a provider has answered: notes the span that is current."""

    def __init__(self):
        super().__init__()
        self.current = []

    def __setitem__(self, model, count):
        self.current.append(trace.get_current_span())
        super().__setitem__(model, count)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attempt_is_over_when_its_provider_function_is(provider, router, recorder, stream):
    """What litellm does with the answer is not the provider's time, and no part of the attempt."""
    made = router(provider.deployment("dep-a", group="g"))
    noting = made.__dict__.get("_core", made).success_calls = Noting()
    answer = await made.aresponses(model="g", input="hi", stream=stream)
    (current,) = noting.current
    if stream:
        assert current.name == "chat gpt-4o-2024-08-06"
        async for _ in answer:
            pass
    else:
        assert current.name == "router.chat g"
        (attempt,) = recorder.tree().find("chat gpt-4o-2024-08-06")
        assert attempt.end_ns is not None
    assert_tree(recorder, tree("chat g", "chat gpt-4o-2024-08-06"))


# --- what they cost ------------------------------------------------------------------------------

PRICES = {
    "as listed": ({}, 60 * 3e-6 + 40 * 3e-7 + 5 * 15e-6),
    "custom": ({"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2}, 100 * 1e-3 + 5 * 1e-2),
    "free": ({"input_cost_per_token": 0, "output_cost_per_token": 0}, 0.0),
    "unknown": ({"model": "anthropic/no-such-model"}, None),
}


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize("stream", [False, True], ids=["dict", "stream"])
async def test_the_cost_of_anthropic_s_messages(provider, router, recorder, price, stream):
    """litellm puts no cost on their answers, which are plain dicts, and on 1.95 not whose they are either."""
    params, cost = PRICES[price]
    name = f"dep-{price.replace(' ', '-')}"  # litellm keeps a deployment's prices by its id, for ever
    cached = None if "input_cost_per_token" in params else 40
    provider.default(name, Answer(input_tokens=100, output_tokens=5, cached_tokens=cached))
    made = router(provider.deployment(name, group="g", **{"model": "anthropic/claude-sonnet-4-5", **params}))
    answer = await made.aanthropic_messages(model="g", messages=MESSAGES, max_tokens=9, stream=stream)
    if stream:
        async for _ in answer:
            pass

    attempt = recorder.tree().children[-1]
    assert attempt.attributes.get("traced_router.attempt.cost") == (cost if cost is None else pytest.approx(cost))
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 100
