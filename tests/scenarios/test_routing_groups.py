"""Strategies per routing group and per request: each pick says the one that made it, hop by hop."""

import asyncio

import pytest
from litellm.types.router import CustomRoutingStrategyBase, RoutingGroup

from traced_router import _litellm as seams
from traced_router.testing import absent, assert_tree, event, span
from traced_router.testing._provider_behaviours import RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(params=["async", "sync"])
def chat(request):
    def call(router, model, **kwargs):
        if request.param == "async":
            return asyncio.run(router.acompletion(model, MESSAGES, **kwargs))
        return router.completion(model, MESSAGES, **kwargs)

    return call


def select(group, strategy, events=..., **attributes):
    return span(
        f"router.select {group}",
        status="UNSET",
        attributes={"traced_router.strategy.name": strategy, **attributes},
        events=events,
    )


def attempt(reason, error=absent):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="UNSET" if error is absent else "ERROR",
        attributes={"litellm.deployment.reason": reason, "error.type": error},
    )


def hop(target, depth, *children, error=absent):
    return span(
        f"router.fallback {target}",
        status="UNSET" if error is absent else "ERROR",
        attributes={"traced_router.fallback.depth": depth, "error.type": error},
        children=children,
    )


def groups_of(**strategies):
    return [RoutingGroup(group_name=f"{m}-group", models=[m], routing_strategy=s) for m, s in strategies.items()]


FAILED = "InternalServerError"


def test_every_hop_has_the_strategy_of_its_group(provider, router, recorder, chat):
    for broken in ("dep-a", "dep-b"):
        provider.default(broken, ServerError())
    made = router(
        *[provider.deployment(f"dep-{g}", group=g) for g in "abc"],
        routing_groups=groups_of(a="least-busy", b="usage-based-routing-v2"),
        fallbacks=[{"a": ["b", "c"]}],
        disable_cooldowns=True,
    )
    chat(made, "a")

    assert_tree(
        recorder,
        span(
            "router.chat a",
            status="UNSET",
            attributes={"traced_router.strategy.name": "least-busy", "traced_router.served.model_group": "c"},
            children=[
                select("a", "least-busy"),
                attempt("initial", FAILED),
                hop("b", 1, select("b", "usage-based-routing-v2"), attempt("fallback", FAILED), error=FAILED),
                hop("c", 2, select("c", "simple-shuffle"), attempt("fallback")),
            ],
        ),
    )


def test_the_strategy_of_a_request_holds_through_retries_and_fallbacks(provider, router, recorder, waits, chat):
    provider.default("dep-a", RateLimited(retry_after=1))
    made = router(
        *[provider.deployment(f"dep-{g}", group=g) for g in "ab"],
        routing_groups=groups_of(a="usage-based-routing-v2"),
        fallbacks=[{"a": ["b"]}],
        num_retries=1,
        disable_cooldowns=True,
    )
    chat(made, "a", routing_strategy="least-busy")

    tree = recorder.tree()
    assert tree.attributes["traced_router.strategy.name"] == "least-busy"
    assert [(s.name, s.attributes["traced_router.strategy.name"]) for s in tree.walk() if "select" in s.name] == [
        ("router.select a", "least-busy"),
        ("router.select a", "least-busy"),
        ("router.select b", "least-busy"),
    ]
    assert all("routing_strategy" not in received.body for received in provider.requests)


async def test_requests_with_strategies_of_their_own_do_not_mix(provider, router, recorder):
    made = router(*[provider.deployment(f"dep-{x}") for x in "ab"])
    strategies = ["least-busy", "usage-based-routing-v2", "latency-based-routing", None] * 3
    await asyncio.gather(
        *[
            made.acompletion("gpt-4o", MESSAGES, user=str(s), **({} if s is None else {"routing_strategy": s}))
            for s in strategies
        ]
    )

    for tree in recorder.trees():
        asked = tree.attributes["user.id"]
        wanted = "simple-shuffle" if asked == "None" else asked
        assert_tree(
            tree,
            span(
                "router.chat gpt-4o",
                attributes={"traced_router.strategy.name": wanted},
                children=[select("gpt-4o", wanted), attempt("initial")],
            ),
        )


class _FirstOfGroup(CustomRoutingStrategyBase):
    """A user's own strategy."""

    def __init__(self, router):
        self._router = router

    async def async_get_available_deployment(self, model, *_args, **kwargs):
        return self.get_available_deployment(model, **kwargs)

    def get_available_deployment(self, model, *_args, **_kwargs):
        return next(d for d in seams.state(seams.core_of(self._router), "model_list") if d["model_name"] == model)


def test_a_strategy_of_the_user_s_makes_every_pick(provider, router, recorder, chat):
    provider.default("dep-a", ServerError())
    made = router(
        *[provider.deployment(f"dep-{g}", group=g) for g in "ab"],
        routing_groups=groups_of(a="least-busy"),
        fallbacks=[{"a": ["b"]}],
    )
    getattr(made, "register_plugin" if hasattr(made, "register_plugin") else "set_custom_routing_strategy")(
        _FirstOfGroup(made)
    )
    chat(made, "a")

    own = {"traced_router.decision.reason": "external", "traced_router.candidates.total": absent}
    known = event("traced_router.candidates", {"ids": ("dep-b",), "excluded": ("",), "scores": absent})
    assert_tree(
        recorder,
        span(
            "router.chat a",
            attributes={"traced_router.strategy.name": "_FirstOfGroup", "traced_router.served.model_group": "b"},
            children=[
                select("a", "_FirstOfGroup", events=[], **own),
                attempt("initial", FAILED),
                hop("b", 1, select("b", "_FirstOfGroup", events=[known], **own), attempt("fallback")),
            ],
        ),
    )
