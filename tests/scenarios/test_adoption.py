"""A true drop-in: signatures, subclasses, live routers that are adopted, and changes while calls run."""

import asyncio
import inspect

import litellm
import pytest
from litellm.types.router import CustomRoutingStrategyBase
from opentelemetry import trace

from traced_router import TracedRouter
from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, ServerError

# Of the names that these tests use as users do; what we use ourselves is watched in test_manners.
pytestmark = pytest.mark.filterwarnings(r"ignore:Router\.\w+ is deprecated:DeprecationWarning")

MESSAGES = [{"role": "user", "content": "hi"}]


def plain(group="gpt-4o", select=None, attempt=None):
    return span(
        f"router.chat {group}",
        attributes={"traced_router.outcome": "ok", "traced_router.attempts": 1, "traced_router.model_group": group},
        children=[
            span(f"router.select {group}", attributes=select),
            span("chat gpt-4o-2024-08-06", kind="CLIENT", attributes=attempt),
        ],
    )


# --- the constructor ---------------------------------------------------------------------------


def test_it_is_a_router(provider, router):
    assert isinstance(router(provider.deployment("dep-a")), litellm.Router)


async def test_positional_arguments(provider, recorder):
    made = TracedRouter([provider.deployment("dep-a")], tracer_provider=recorder.provider)
    await made.acompletion("gpt-4o", MESSAGES)

    assert_tree(recorder, plain())


def test_the_signature_is_litellm_s_and_ours():
    theirs = inspect.signature(litellm.Router.__init__).parameters
    ours = inspect.signature(TracedRouter.__init__).parameters

    assert list(theirs) == [name for name in ours if name in theirs]
    assert [name for name in ours if name not in theirs] == [
        "tracer_provider", "meter_provider", "logger_provider", "settings", "resilience",
        "vocabularies",
        "attributes",
        "on_request_end",
        "redactor",
        "retrying",
        "deadline",
        "hedging",
    ]  # fmt: skip
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in set(ours) - set(theirs))


def test_litellm_s_proxy_finds_every_argument():
    arguments = TracedRouter.get_valid_args()

    assert set(litellm.Router.get_valid_args()) <= set(arguments)


# --- adoption ----------------------------------------------------------------------------------


async def test_a_live_router_is_adopted(provider, recorder, monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.provider)
    live = litellm.Router(model_list=[provider.deployment("dep-a")], num_retries=0)
    await live.acompletion("gpt-4o", MESSAGES)
    assert recorder.trees() == ()

    live.__class__ = TracedRouter
    live.initialize_router_endpoints()
    live.initialize_assistants_endpoint()
    await live.acompletion("gpt-4o", MESSAGES)
    await live.aresponses(model="gpt-4o", input="hi")
    await live.alist_batches("gpt-4o")

    first, second, third = recorder.trees()
    assert_tree(first, plain())
    assert_tree(second, plain())
    assert_tree(
        third, span("router.list_batches gpt-4o", children=[span("list_batches gpt-4o-2024-08-06", kind="CLIENT")])
    )
    (live.retire if hasattr(live, "retire") else live.discard)()


async def test_a_live_router_is_adopted_under_settings_that_cannot_be_used(provider, monkeypatch, caplog):
    """What would be an error when a router is built must not be one at a request."""
    live = litellm.Router(model_list=[provider.deployment("dep-a")], num_retries=0)
    live.__class__ = TracedRouter
    live.initialize_router_endpoints()
    monkeypatch.setenv("TRACED_ROUTER_NO_SUCH_SETTING", "1")
    await live.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 1
    assert "There is no setting behind TRACED_ROUTER_NO_SUCH_SETTING" in caplog.text
    (live.retire if hasattr(live, "retire") else live.discard)()


# --- subclasses --------------------------------------------------------------------------------


class Own(TracedRouter):
    """Overrides what users override."""

    ran: list[str]

    async def acompletion(self, model, messages, **kwargs):
        self.ran.append("acompletion")
        return await super().acompletion(model, messages, **kwargs)

    async def make_call(self, original_function, *args, **kwargs):
        self.ran.append("make_call")
        return await super().make_call(original_function, *args, **kwargs)

    def log_nothing(self):
        return "mine"


async def test_a_subclass_s_overrides_run_as_often(provider, recorder):
    provider.script("dep-a", [ServerError(), ServerError()])
    ran: list[str] = []
    Own.ran = ran
    router = Own(
        model_list=[provider.deployment("dep-a", num_retries=0), provider.deployment("dep-b", group="b")],
        num_retries=0,
        fallbacks=[{"gpt-4o": ["b"]}],
        tracer_provider=recorder.provider,
    )
    await router.acompletion("gpt-4o", MESSAGES)

    assert ran == ["acompletion", "make_call", "make_call"]
    assert router.log_nothing() == "mine"
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_fallback"},
            children=[
                span("router.select gpt-4o"),
                span("chat gpt-4o-2024-08-06", status="ERROR"),
                span("router.fallback b", children=[span("router.select b"), span("chat gpt-4o-2024-08-06")]),
            ],
        ),
    )


async def test_a_subclass_that_picks_itself(provider, recorder):
    class Picking(TracedRouter):
        async def async_get_available_deployment(self, model, request_kwargs=None, *args, **kwargs):
            found = self.get_model_list(model_name=model)
            return next(d for d in found if d["model_info"]["id"] == "dep-b")

    router = Picking(
        model_list=[provider.deployment("dep-a"), provider.deployment("dep-b")],
        num_retries=0,
        tracer_provider=recorder.provider,
    )
    await router.acompletion("gpt-4o", MESSAGES)

    tree = recorder.tree()
    assert provider.hits("dep-b") == 1
    assert tree.children[-1].attributes["litellm.deployment.id"] == "dep-b"


# --- strategies of users' own ------------------------------------------------------------------


class First(CustomRoutingStrategyBase):
    """Always the deployment of one id."""

    def __init__(self, router, wanted):
        self._router, self._wanted = router, wanted

    def _pick(self, model):
        return next(d for d in self._router.model_list if d["model_info"]["id"] == self._wanted)

    async def async_get_available_deployment(self, model, *args, **kwargs):
        return self._pick(model)

    def get_available_deployment(self, model, *args, **kwargs):
        return self._pick(model)


@pytest.mark.parametrize("way", ["acompletion", "completion"])
async def test_a_custom_strategy_is_a_selection(provider, router, recorder, way):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    made.set_custom_routing_strategy(First(made, "dep-b"))
    if way == "acompletion":
        await made.acompletion("gpt-4o", MESSAGES)
    else:
        await asyncio.to_thread(made.completion, "gpt-4o", MESSAGES)

    chosen = {"litellm.deployment.id": "dep-b"}
    assert provider.hits("dep-b") == 1
    assert_tree(recorder, plain(select={**chosen, "traced_router.decision.reason": "external"}, attempt=chosen))


# --- changes while calls run -------------------------------------------------------------------


async def test_deployments_come_and_go_during_calls(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    made = router(provider.deployment("dep-a"))
    running = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES))
    await gate.reached()
    made.delete_deployment(id="dep-a")
    made.add_deployment(litellm.types.router.Deployment(**provider.deployment("dep-b")))
    await made.acompletion("gpt-4o", MESSAGES)
    gate.open()
    await running

    ids = [tree.attributes["traced_router.served.deployment_id"] for tree in recorder.trees()]
    assert ids == ["dep-a", "dep-b"]
    for tree in recorder.trees():
        assert_tree(tree, plain())


async def test_a_router_that_is_given_up_can_still_be_called(provider, router, recorder):
    made = router(provider.deployment("dep-a"))
    (made.retire if hasattr(made, "retire") else made.discard)()
    await made.acompletion("gpt-4o", MESSAGES)

    assert_tree(recorder, plain())


# --- names -------------------------------------------------------------------------------------


async def test_an_alias_is_what_was_asked_for(provider, router, recorder):
    made = router(provider.deployment("dep-a"), model_group_alias={"nick": "gpt-4o"})
    await made.acompletion("nick", MESSAGES)

    tree = recorder.tree()
    assert tree.name == "router.chat nick"
    assert tree.children[0].attributes["litellm.deployment.id"] == "dep-a"


async def test_a_wildcard_group(provider, router, recorder):
    made = router(provider.deployment("dep-a", group="openai/*", model="openai/*"))
    await made.acompletion("openai/gpt-4o-mini", MESSAGES)

    tree = recorder.tree()
    assert tree.name == "router.chat openai/gpt-4o-mini"
    assert tree.children[-1].name == "chat gpt-4o-mini"
    assert len([n for n in tree.children if n.kind == "CLIENT"]) == provider.hits() == 1


async def test_a_deployment_by_its_id_is_named_by_its_group(provider, router, recorder):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    await made.acompletion("dep-b", MESSAGES)

    assert provider.hits("dep-b") == 1
    assert_tree(
        recorder,
        plain(
            select={"traced_router.decision.reason": "forced_specific", "litellm.deployment.id": "dep-b"},
            attempt={"litellm.deployment.id": "dep-b", "litellm.deployment.model_group": "gpt-4o"},
        ),
    )
    assert "dep-b" not in {node.name.partition(" ")[2] for node in recorder.tree().walk()}


async def test_a_specific_deployment_is_named_by_its_group(provider, router, recorder):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="b", model="openai/gpt-4o-mini"))
    await made.acompletion("openai/gpt-4o-mini", MESSAGES, specific_deployment=True)

    tree = recorder.tree()
    assert provider.hits("dep-b") == 1
    assert [node.name for node in tree.walk()] == ["router.chat b", "router.select b", "chat gpt-4o-mini"]
    assert tree.children[0].attributes["traced_router.decision.reason"] == "forced_specific"


async def test_a_team_s_own_model(provider, router, recorder):
    deployment = provider.deployment("dep-t", group="internal-name")
    deployment["model_info"] |= {"team_id": "team-1", "team_public_model_name": "gpt-team"}
    made = router(deployment)
    await made.acompletion("gpt-team", MESSAGES, metadata={"user_api_key_team_id": "team-1"})

    tree = recorder.tree()
    assert tree.name == "router.chat gpt-team"
    assert tree.attributes["traced_router.served.deployment_id"] == "dep-t"


async def test_a_router_s_own_rate_limit_makes_no_attempt(provider, router, recorder):
    made = router(
        provider.deployment("dep-a", rpm=1), routing_strategy="usage-based-routing-v2", enable_pre_call_checks=True
    )
    await made.acompletion("gpt-4o", MESSAGES)
    recorder.clear()
    provider.clear()
    with pytest.raises(Exception) as caught:
        await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 0
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "error.type": type(caught.value).__name__,
                "traced_router.attempts": 0,
                "traced_router.strategy.name": "usage-based-routing-v2",
            },
            children=[span("router.select gpt-4o", status="ERROR", attributes={"litellm.deployment.id": absent})],
        ),
    )
