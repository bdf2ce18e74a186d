"""Calls of a router from inside a call of a router: each a request of its own, under what was current."""

import asyncio

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

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
