"""litellm's cache: a hit is an attempt without a wire call, and free."""

import asyncio

import litellm
import pytest
from litellm.caching.caching import Cache

from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _cache(monkeypatch):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))


def served(hit):
    return span(
        "router.chat gpt-4o",
        attributes={
            "traced_router.outcome": "ok",
            "traced_router.attempts": 1,
            "traced_router.served.deployment_id": "dep-a",
        },
        children=[
            span("router.select gpt-4o"),
            span(
                "chat gpt-4o-2024-08-06",
                status="UNSET",
                attributes={"traced_router.cache.hit": True, "traced_router.attempt.cost": 0.0}
                if hit
                else {"traced_router.cache.hit": absent},
            ),
        ],
    )


async def test_a_hit(provider, router, recorder):
    provider.default("dep-a", Answer("hello"))
    made = router(provider.deployment("dep-a"), cache_responses=True)
    first = await made.acompletion("gpt-4o", MESSAGES)
    for _ in range(20):  # litellm writes to its cache after the answer
        await litellm.utils.asyncio.sleep(0)
    await litellm.cache.async_add_cache(first, model="openai/gpt-4o-2024-08-06", messages=MESSAGES)
    second = await made.acompletion("gpt-4o", MESSAGES)

    assert second.choices[0].message.content == "hello"
    trees = recorder.trees()
    assert_tree(trees[0], served(hit=False))
    hit = provider.hits() == 1
    assert_tree(trees[1], served(hit=hit))
    assert hit


def test_a_synchronous_hit(provider, router, recorder):
    provider.default("dep-a", Answer("hello"))
    made = router(provider.deployment("dep-a"), cache_responses=True)
    made.completion("gpt-4o", MESSAGES)
    made.completion("gpt-4o", MESSAGES)

    assert provider.hits() == 1
    assert_tree(recorder.trees()[0], served(hit=False))
    assert_tree(recorder.trees()[1], served(hit=True))
    assert recorder.trees()[1].attributes["traced_router.cost.total"] == 0.0


async def test_a_hit_of_a_text_completion(provider, router, recorder):
    """litellm 1.95 does not call it one: the answer has the key that it was found under."""
    made = router(provider.deployment("dep-a"), cache_responses=True)
    await made.atext_completion("gpt-4o", "hi")
    while not litellm.cache.cache.cache_dict:  # litellm writes to its cache after the answer
        await asyncio.sleep(0)
    await made.atext_completion("gpt-4o", "hi")

    attempt = recorder.trees()[1].children[1]
    assert provider.hits() == 1
    assert attempt.attributes["traced_router.cache.hit"] is True
    assert attempt.attributes["traced_router.attempt.cost"] == 0.0


async def test_no_cache_for_one_request(provider, router, recorder):
    made = router(provider.deployment("dep-a"), cache_responses=True)
    for _ in range(2):
        await made.acompletion("gpt-4o", MESSAGES, cache={"no-cache": True})

    assert provider.hits() == 2
    for tree in recorder.trees():
        assert_tree(tree, served(hit=False))
