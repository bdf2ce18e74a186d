"""Settings as a call shows them: the default strategy and resilience, and attempts that are no LLM spans."""

import pytest

from traced_router import ResilienceOptions, UnknownStrategyError
from traced_router._litellm import core_of
from traced_router.testing import assert_tree, span

MESSAGES = [{"role": "user", "content": "hi"}]


async def strategies(made, recorder):
    await made.acompletion("gpt-4o", MESSAGES)
    tree = recorder.trees()[-1]
    return tree.attributes["traced_router.strategy.name"], tree.children[0].attributes["traced_router.strategy.name"]


@pytest.mark.parametrize("name", ["least-in-flight", "least-busy"])
async def test_a_router_without_a_strategy_gets_the_one_that_is_set(provider, recorder, router, monkeypatch, name):
    monkeypatch.setenv("TRACED_ROUTER_ROUTING_STRATEGY", name)
    two = [provider.deployment("dep-a"), provider.deployment("dep-b")]

    assert await strategies(router(*two), recorder) == (name, name)
    keyword = router(*two, routing_strategy="usage-based-routing-v2")
    assert await strategies(keyword, recorder) == ("usage-based-routing-v2", "usage-based-routing-v2")
    setting = router(*two, settings={"routing_strategy": "p2c-peak-ewma"})
    assert await strategies(setting, recorder) == ("p2c-peak-ewma", "p2c-peak-ewma")


async def test_without_that_setting_litellm_s_own_default_stays(provider, recorder, router):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))

    assert await strategies(made, recorder) == ("simple-shuffle", "simple-shuffle")


def test_a_strategy_that_does_not_exist(provider, router, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_ROUTING_STRATEGY", "least-bussy")
    with pytest.raises(UnknownStrategyError, match="Did you mean 'least-busy'"):
        router(provider.deployment("dep-a"))


@pytest.mark.parametrize(
    ("variable", "keyword", "on"),
    [("true", None, True), ("false", None, False), ("true", False, False), ("false", ResilienceOptions(), True)],
)
def test_resilience(provider, router, monkeypatch, variable, keyword, on):
    monkeypatch.setenv("TRACED_ROUTER_RESILIENCE", variable)
    made = router(provider.deployment("dep-a"), resilience=keyword)

    strategies = core_of(made).__dict__["_traced_router"].strategies
    assert (strategies.guarding is not None, strategies.resilience is not None) == (on, on)


async def test_attempts_that_are_no_llm_spans(provider, recorder, router):
    made = router(provider.deployment("dep-a"), settings={"llm_spans": False}, vocabularies=["openinference"])
    await made.acompletion("gpt-4o", MESSAGES, temperature=0.5)
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        pass

    for tree in recorder.trees():
        assert_tree(
            tree,
            span(
                "router.chat gpt-4o",
                kind="INTERNAL",
                children=[
                    span("router.select gpt-4o", kind="INTERNAL"),
                    span(
                        "chat gpt-4o-2024-08-06",
                        kind="INTERNAL",
                        attributes={"litellm.deployment.id": "dep-a", "traced_router.attempt.number": 1},
                    ),
                ],
            ),
        )
        assert [key for node in tree.walk() for key in node.attributes if key.startswith("gen_ai.")] == []
        assert [key for key in tree.children[1].attributes if key.startswith(("llm.", "openinference."))] == []
        assert "server.address" in tree.children[1].attributes
