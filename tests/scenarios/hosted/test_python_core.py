"""litellm's own core under a facade: it runs the overrides, and its host has nothing to tell."""

import litellm
import pytest
from opentelemetry import trace

from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]

# Of the names that a user reads on the router; what we read ourselves is watched in test_manners.
pytestmark = pytest.mark.filterwarnings(r"ignore:Router\.\w+ is deprecated:DeprecationWarning")


@pytest.fixture
def router(hosted, recorder):
    def make(*deployments, kind=hosted.TracedRouter, **arguments):
        return kind(model_list=list(deployments), tracer_provider=recorder.provider, **arguments)

    return make


def select(group):
    return span(f"router.select {group}", attributes={"litellm.deployment.id": f"dep-{group}"})


def attempt(group, error=None, **attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "error.type": error or absent,
            "litellm.deployment.id": f"dep-{group}",
            "litellm.deployment.model_group": group,
            **attributes,
        },
    )


async def test_a_retry_and_a_fallback(provider, waits, router, recorder):
    provider.script("dep-a", [RateLimited(), ServerError()])
    provider.script("dep-b", [Answer(input_tokens=5, output_tokens=6)])
    made = router(
        provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b"), fallbacks=[{"a": ["b"]}]
    )
    answer = await made.acompletion("a", MESSAGES, num_retries=1)

    assert type(answer) is litellm.ModelResponse
    assert made.tracing_capabilities == dict.fromkeys(
        ("request", "selection", "attempt", "backoff", "fallback", "stream"), "full"
    )
    wait = span("router.backoff", attributes={"traced_router.backoff.seconds": waits[0]})
    assert_tree(
        recorder,
        span(
            "router.chat a",
            attributes={
                "traced_router.engine": absent,
                "traced_router.capabilities": absent,
                "traced_router.outcome": "ok_after_fallback",
                "traced_router.attempts": 3,
                "traced_router.served.deployment_id": "dep-b",
            },
            children=[
                select("a"),
                attempt("a", error="RateLimitError"),
                wait,
                select("a"),
                attempt("a", error="InternalServerError"),
                *[span("router.backoff")] * (len(waits) - 1),
                span("router.fallback b", children=[select("b"), attempt("b", **{"gen_ai.usage.input_tokens": 5})]),
            ],
        ),
    )


async def test_a_stream_and_an_endpoint(provider, router, recorder):
    made = router(provider.deployment("dep-a", group="a"))
    stream = await made.acompletion("a", MESSAGES, stream=True)
    assert [chunk async for chunk in stream]
    await made.aresponses(model="a", input="hi")

    first, second = recorder.trees()
    assert_tree(
        first,
        span(
            "router.chat a",
            attributes={"traced_router.stream.outcome": "exhausted"},
            children=[select("a"), attempt("a")],
        ),
    )
    assert_tree(second, span("router.chat a", children=[select("a"), attempt("a")]))


def test_the_host_leaves_what_calls_no_provider_as_it_is(provider, hosted, router):
    host = router(provider.deployment("dep-a", group="a")).__dict__["_core"]._host

    assert type(host) is hosted.module("_hosted").TracingHost
    assert host.invoke("get_model_info") is litellm.get_model_info
    assert host.invoke("acompletion") is not litellm.acompletion


def test_methods_that_call_side_by_side_are_left_as_they_are(provider, hosted, router):
    """A hosted core asks its host for provider functions: there is no name to look for in its module."""
    core = router(provider.deployment("dep-a", group="a")).__dict__["_core"]
    method = core.alist_batches

    assert hosted.module("_litellm").seeing(method, "alist_batches", str) is method


def test_members_that_a_core_deprecates_are_read_where_it_keeps_them(hosted):
    """Reading the old name warns."""

    class Core:
        _core_routing_strategy = "least-busy"
        model_names = ("g",)

        @property
        def routing_strategy(self):
            raise DeprecationWarning

    seams = hosted.module("_litellm")
    assert seams.state(Core(), "routing_strategy") == "least-busy"
    assert seams.state(Core(), "model_names") == ("g",)
    assert seams.state(Core(), "no_such_name", 7) == 7


async def test_overrides_of_a_user_s_own_class_run(provider, hosted, router, recorder):
    ran = []

    class Own(hosted.TracedRouter):
        async def make_call(self, original_function, *args, **kwargs):
            ran.append(kwargs["model"])
            return await super().make_call(original_function, *args, **kwargs)

    await router(provider.deployment("dep-a", group="a"), kind=Own).acompletion("a", MESSAGES)

    assert ran == ["a"]
    assert_tree(recorder, span("router.chat a", children=[select("a"), attempt("a")]))


async def test_a_live_router_is_adopted(provider, hosted, recorder, monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.provider)
    live = hosted.Router(model_list=[provider.deployment("dep-a", group="a")], num_retries=0)
    await live.acompletion("a", MESSAGES)
    assert recorder.trees() == ()

    live.__class__ = hosted.TracedRouter
    for _ in range(2):  # the second time there is nothing left to move
        live.initialize_router_endpoints()
    assert type(live.__dict__["_core"]._host) is hosted.module("_hosted").TracingHost  # it tells side-by-side calls
    await live.acompletion("a", MESSAGES)
    await live.aresponses(model="a", input="hi")

    for tree in recorder.trees():
        assert_tree(tree, span("router.chat a", children=[select("a"), attempt("a")]))
    assert len(recorder.trees()) == 2


def test_a_host_of_the_router_s_owner_stays(provider, hosted):
    """Adoption replaces litellm's host, which keeps nothing, and no other."""

    class OwnHost(type(hosted.Router(model_list=[]).__dict__["_core"]._host)):
        pass

    live = hosted.Router(model_list=[provider.deployment("dep-a", group="a")])
    core = live.__dict__["_core"]
    core._host = own = OwnHost()
    live.__class__ = hosted.TracedRouter
    live.initialize_router_endpoints()

    assert core._host is own
