"""Calls of a router from inside a call of a router: each a request of its own, under what was current."""

import asyncio
import contextlib
import contextvars
import inspect
import threading
import uuid

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from opentelemetry.context import Context

from traced_router import TracedRouter
from traced_router.testing import assert_tree, span
from traced_router.testing._provider_behaviours import ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


def plain(group):
    return span(
        f"router.chat {group}",
        attributes={"traced_router.attempts": 1},
        children=[span(f"router.select {group}"), span("chat gpt-4o-2024-08-06", kind="CLIENT")],
    )


class Asking(CustomLogger):
    """Asks a router about a request before its deployment is picked, as a classifier does."""

    def __init__(self):
        super().__init__()
        self.ask = None

    async def async_filter_deployments(self, model, healthy_deployments, *args, **kwargs):
        if model == "a":
            await self.ask()
        return healthy_deployments


@pytest.mark.parametrize("same_router", [True, False], ids=["the same router", "another router"])
async def test_a_call_during_a_selection(provider, router, recorder, monkeypatch, same_router):
    asking = Asking()
    monkeypatch.setattr(litellm, "callbacks", [asking])
    deployments = [provider.deployment(f"dep-{g}", group=g) for g in "ab"]
    made = router(*deployments)
    inner = made if same_router else router(*deployments)
    asking.ask = lambda: inner.acompletion("b", MESSAGES)
    await made.acompletion("a", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat a",
            attributes={"traced_router.attempts": 1, "traced_router.served.model_group": "a"},
            children=[
                span("router.select a", attributes={"litellm.deployment.id": "dep-a"}, children=[plain("b")]),
                span("chat gpt-4o-2024-08-06"),
            ],
        ),
    )


async def test_a_call_during_an_attempt(provider, router, recorder, monkeypatch):
    """A provider of the user's own (``CustomLLM``) that is a chain of calls itself."""
    made: list[TracedRouter] = []

    class Chain(litellm.CustomLLM):
        async def acompletion(self, *args, **kwargs):
            return await made[0].acompletion("b", MESSAGES)

    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "chain", "custom_handler": Chain()}])
    litellm.utils.custom_llm_setup()
    made.append(
        router(
            provider.deployment("dep-a", group="a", model="chain/x"),
            provider.deployment("dep-b", group="b"),
        )
    )
    await made[0].acompletion("a", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat a",
            children=[span("router.select a"), span("chat x", kind="CLIENT", children=[plain("b")])],
        ),
    )


async def test_a_call_after_a_call_in_one_task(provider, router, recorder):
    """Nothing of the first is left in the caller's context."""
    made = router(provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b"))
    await made.acompletion("a", MESSAGES)
    await made.acompletion("b", MESSAGES)

    first, second = recorder.trees()
    assert_tree(first, plain("a"))
    assert_tree(second, plain("b"))


async def test_a_synchronous_call_during_a_selection(provider, router, recorder, monkeypatch):
    asking = Asking()
    monkeypatch.setattr(litellm, "callbacks", [asking])
    made = router(*[provider.deployment(f"dep-{g}", group=g) for g in "ab"])

    async def ask():
        made.completion("b", MESSAGES)

    asking.ask = ask
    await made.acompletion("a", MESSAGES)

    select, _ = recorder.tree().children
    assert [child.name for child in select.children] == ["router.chat b"]
    assert_tree(select.children[0], plain("b"))


class Afterwards(CustomLogger):
    """Calls a router when a call with ``mark`` is over, as a judge of answers does."""

    def __init__(self):
        super().__init__()
        self.mark = {"judged": str(uuid.uuid4())}  # litellm's worker may bring another test's call along
        self.returned = threading.Event()
        self.asked = threading.Event()
        self.ask = None

    async def async_log_success_event(self, kwargs, *args, **_kwargs):
        if self._is_marked(kwargs):
            await self.ask()
            self.asked.set()

    def log_success_event(self, kwargs, *args, **_kwargs):
        if self._is_marked(kwargs) and not inspect.iscoroutinefunction(self.ask):
            self.returned.wait(5)
            self.ask()
            self.asked.set()

    def _is_marked(self, kwargs):
        return self.mark.items() <= (kwargs["litellm_params"].get("metadata") or {}).items()


def linked(recorder, first, second):
    """The two trees, of which the second is a root of its own that is linked to the first."""
    call, later = recorder.trees()
    assert (call.name, later.name) == (first, second)
    assert later.trace_id != call.trace_id
    assert [(link.trace_id, link.span_id) for link in later.links] == [(call.trace_id, call.span_id)]
    return call, later


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_when_a_call_is_over(provider, router, recorder, monkeypatch, stream):
    """litellm's callbacks run in the context of an attempt that has ended: too late to be a part of it."""
    afterwards = Afterwards()
    monkeypatch.setattr(litellm, "callbacks", [afterwards])
    made = router(*[provider.deployment(f"dep-{g}", group=g) for g in "ab"])

    async def ask():
        await made.acompletion("b", MESSAGES)

    afterwards.ask = ask
    answer = await made.acompletion("a", MESSAGES, stream=stream, metadata=afterwards.mark)
    if stream:
        async for _ in answer:
            pass
    assert await asyncio.to_thread(afterwards.asked.wait, 5)

    call, later = linked(recorder, "router.chat a", "router.chat b")
    assert_tree(call, plain("a"))
    assert_tree(later, plain("b"))


def test_a_synchronous_call_when_a_call_is_over(provider, router, recorder, monkeypatch):
    afterwards = Afterwards()
    monkeypatch.setattr(litellm, "callbacks", [afterwards])
    made = router(*[provider.deployment(f"dep-{g}", group=g) for g in "ab"])
    afterwards.ask = lambda: made.completion("b", MESSAGES)
    made.completion("a", MESSAGES, metadata=afterwards.mark)
    afterwards.returned.set()
    assert afterwards.asked.wait(5)

    call, later = linked(recorder, "router.chat a", "router.chat b")
    assert_tree(call, plain("a"))
    assert_tree(later, plain("b"))


async def test_a_batch_when_a_call_is_over(provider, router, recorder, monkeypatch):
    afterwards = Afterwards()
    monkeypatch.setattr(litellm, "callbacks", [afterwards])
    made = router(*[provider.deployment(f"dep-{g}", group=g) for g in "ab"])

    async def ask():
        await made.abatch_completion(models=["b"], messages=MESSAGES)

    afterwards.ask = ask
    await made.acompletion("a", MESSAGES, metadata=afterwards.mark)
    assert await asyncio.to_thread(afterwards.asked.wait, 5)

    call, later = linked(recorder, "router.chat a", "router.batch b")
    assert_tree(call, plain("a"))
    assert_tree(later, span("router.batch b", attributes={"traced_router.batch.size": 1}, children=[plain("b")]))


async def test_a_call_under_a_span_of_a_callback_s_own(provider, router, recorder, monkeypatch):
    """Its parent is what was current, as ever."""
    afterwards = Afterwards()
    monkeypatch.setattr(litellm, "callbacks", [afterwards])
    tracer = recorder.provider.get_tracer("callback")
    made = router(*[provider.deployment(f"dep-{g}", group=g) for g in "ab"])

    async def ask():
        with tracer.start_as_current_span("judge", context=Context()):
            await made.acompletion("b", MESSAGES)

    afterwards.ask = ask
    await made.acompletion("a", MESSAGES, metadata=afterwards.mark)
    assert await asyncio.to_thread(afterwards.asked.wait, 5)

    call, judge = recorder.trees()
    assert_tree(call, plain("a"))
    assert_tree(judge, span("judge", children=[plain("b")]))


@pytest.mark.parametrize("own_span", [False, True])
def test_a_synchronous_callback_that_starts_before_its_call_returns(provider, router, recorder, monkeypatch, own_span):
    """Its thread says what it is; a span of its own is its caller's span all the same."""
    tracer = recorder.provider.get_tracer("callback")
    made: list[TracedRouter] = []

    def judge():
        with tracer.start_as_current_span("judge") if own_span else contextlib.nullcontext():
            made[0].completion("b", MESSAGES)

    class Chain(litellm.CustomLLM):
        def completion(self, *args, **kwargs):
            litellm.utils.executor.submit(contextvars.copy_context().run, judge).result()
            return kwargs["model_response"]

    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "chain", "custom_handler": Chain()}])
    litellm.utils.custom_llm_setup()
    made.append(
        router(provider.deployment("dep-a", group="a", model="chain/x"), provider.deployment("dep-b", group="b"))
    )
    made[0].completion("a", MESSAGES)

    inner = [span("judge", children=[plain("b")])] if own_span else []
    expected = span("router.chat a", children=[span("router.select a"), span("chat x", children=inner)])
    if own_span:
        assert_tree(recorder, expected)
    else:
        call, later = linked(recorder, "router.chat a", "router.chat b")
        assert_tree(call, expected)
        assert_tree(later, plain("b"))


async def test_fifty_calls_of_all_sorts_at_once(provider, router, recorder):
    provider.default("dep-bad", ServerError())
    made = router(
        *[provider.deployment(f"dep-{g}", group=g) for g in "abc"],
        provider.deployment("dep-bad", group="bad"),
        provider.deployment("dep-e", group="e", model="openai/text-embedding-3-small"),
        fallbacks=[{"bad": ["a"]}],
        disable_cooldowns=True,
    )
    calls = []
    for number in range(10):
        user = {"user": str(number)}
        calls += [
            made.acompletion("a", MESSAGES, **user),
            made.acompletion("bad", MESSAGES, **user),
            made.aembedding("e", ["hi"], **user),
            made.abatch_completion(models=["b", "c"], messages=MESSAGES, **user),
            asyncio.to_thread(made.completion, "c", MESSAGES, **user),
        ]
    await asyncio.gather(*calls)

    shapes = {}
    for tree in recorder.trees():
        users = {node.attributes["user.id"] for node in tree.walk() if "user.id" in node.attributes}
        assert len(users) == 1
        ids = {node.attributes["litellm_trace_id"] for node in tree.walk() if "litellm_trace_id" in node.attributes}
        assert len(ids) == (2 if tree.name.startswith("router.batch") else 1)
        shapes.setdefault(tree.name, []).append(len(list(tree.walk())))
    assert shapes == {
        "router.chat a": [3] * 10,
        "router.chat bad": [6] * 10,
        "router.embeddings e": [3] * 10,
        "router.batch b,c": [7] * 10,
        "router.chat c": [3] * 10,
    }
    attempts = [node for tree in recorder.trees() for node in tree.walk() if node.kind == "CLIENT"]
    assert len(attempts) == provider.hits() == 70
