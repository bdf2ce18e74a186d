"""Every entry point of the router gives one request span, and says of its attempts what really happened."""

import asyncio
import functools
import inspect

import litellm
import pytest

from traced_router import TracedRouter
from traced_router.testing import assert_tree, span
from traced_router.testing._provider_behaviours import BadRequest

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


async def test_a_file_goes_to_every_deployment_of_its_group(provider, router, recorder):
    made = router(*(provider.deployment(f"dep-{n}", group="g") for n in "ab"))
    await made.acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch")

    request = recorder.tree()
    assert request.name == "router.create_file g"
    attempts = [node for node in request.children if node.kind == "CLIENT"]
    assert len(attempts) == provider.hits()
    assert {a.attributes["litellm.deployment.id"] for a in attempts} == {"dep-a", "dep-b"}


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
