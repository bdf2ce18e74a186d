"""One call that goes well or badly at once: the whole tree, and what the caller gets."""

import asyncio

import litellm
import pytest
from opentelemetry import trace

from traced_router.testing import absent, approx, assert_tree, of_type, span
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    ContentPolicy,
    ContextWindowExceeded,
    Drop,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    Unauthorized,
)

MESSAGES = [{"role": "user", "content": "hi"}]


async def test_the_whole_tree_of_a_plain_call(provider, router, recorder):
    provider.default("dep-a", Answer("hello", input_tokens=1000, output_tokens=100, cached_tokens=10))
    answer = await router(provider.deployment("dep-a")).acompletion(
        "gpt-4o", MESSAGES, temperature=0.5, max_tokens=9, user="u-1", litellm_trace_id="t-1"
    )

    port = int(provider.url.rpartition(":")[2])
    assert type(answer) is litellm.ModelResponse
    assert answer.choices[0].message.content == "hello"
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            kind="INTERNAL",
            status="UNSET",
            exact_attributes=True,
            events=(),
            attributes={
                "litellm_trace_id": "t-1",
                "traced_router.operation": "chat",
                "traced_router.model_group": "gpt-4o",
                "traced_router.strategy.name": "simple-shuffle",
                "traced_router.outcome": "ok",
                "traced_router.attempts": 1,
                "traced_router.retries": 0,
                "traced_router.fallbacks": 0,
                "traced_router.served.model_group": "gpt-4o",
                "traced_router.served.deployment_id": "dep-a",
                "traced_router.streaming": False,
                "traced_router.cost.total": of_type(float),
                "traced_router.cost.wasted": 0.0,
                "traced_router.time.select": of_type(float),
                "traced_router.time.provider": of_type(float),
                "traced_router.time.backoff": 0.0,
                "traced_router.time.consumer": 0.0,
                "traced_router.time.overhead": of_type(float),
                "traced_router.time.wasted": 0.0,
                "user.id": "u-1",
            },
            children=[
                span(
                    "router.select gpt-4o",
                    kind="INTERNAL",
                    status="UNSET",
                    events=(),
                    attributes={
                        "traced_router.strategy.name": "simple-shuffle",
                        "traced_router.decision.reason": "only_candidate",
                        "traced_router.candidates.total": 1,
                        "traced_router.candidates.eligible": 1,
                        "litellm.deployment.id": "dep-a",
                        "error.type": absent,
                    },
                ),
                span(
                    "chat gpt-4o-2024-08-06",
                    kind="CLIENT",
                    status="UNSET",
                    exact_attributes=True,
                    events=(),
                    attributes={
                        "litellm_trace_id": "t-1",
                        "gen_ai.operation.name": "chat",
                        "gen_ai.provider.name": "openai",
                        "gen_ai.request.model": "gpt-4o-2024-08-06",
                        "gen_ai.request.temperature": 0.5,
                        "gen_ai.request.max_tokens": 9,
                        "gen_ai.response.id": answer.id,
                        "gen_ai.response.model": "gpt-4o-2024-08-06",
                        "gen_ai.response.finish_reasons": ("stop",),
                        "gen_ai.usage.input_tokens": 1000,
                        "gen_ai.usage.output_tokens": 100,
                        "gen_ai.usage.cache_read.input_tokens": 10,
                        "server.address": "127.0.0.1",
                        "server.port": port,
                        "litellm.deployment.id": "dep-a",
                        "litellm.deployment.model_group": "gpt-4o",
                        "litellm.deployment.attempt": 1,
                        "litellm.deployment.reason": "initial",
                        "traced_router.attempt.number": 1,
                        "traced_router.attempt.cost": approx(answer._hidden_params["response_cost"]),
                    },
                ),
            ],
        ),
    )
    assert provider.hits() == 1


async def test_a_call_is_a_root_when_nothing_is_current(provider, router, recorder):
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().parent_id is None


async def test_a_call_is_a_child_of_the_caller_s_span_and_leaves_it_current(provider, router, recorder):
    tracer = recorder.provider.get_tracer("caller")
    made = router(provider.deployment("dep-a"))
    with tracer.start_as_current_span("caller") as caller:
        await made.acompletion("gpt-4o", MESSAGES)
        assert trace.get_current_span() is caller
        provider.script("dep-a", [BadRequest()])
        with pytest.raises(litellm.BadRequestError):
            await made.acompletion("gpt-4o", MESSAGES)
        assert trace.get_current_span() is caller

    tree = recorder.tree()
    assert [child.name for child in tree.children] == ["router.chat gpt-4o", "router.chat gpt-4o"]
    assert [child.status for child in tree.children] == ["UNSET", "ERROR"]


async def test_the_attempt_is_current_while_the_provider_is_called(provider, router, recorder, monkeypatch):
    """An HTTP client's own span nests under the attempt; httpx is where litellm's OpenAI client ends."""
    import httpx

    tracer = recorder.provider.get_tracer("http")
    send = httpx.AsyncClient.send

    async def traced(self, *args, **kwargs):
        with tracer.start_as_current_span("POST"):
            return await send(self, *args, **kwargs)

    monkeypatch.setattr(httpx.AsyncClient, "send", traced)
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    select, attempt = recorder.tree().children
    assert [child.name for child in attempt.children] == ["POST"]
    assert select.children == ()


@pytest.mark.parametrize(
    ("behaviour", "error", "category", "status"),
    [
        (RateLimited(), "RateLimitError", "rate_limit", 429),
        (ServerError(), "InternalServerError", "server", 500),
        (ServerError(503), "ServiceUnavailableError", "server", 503),
        (BadRequest(), "BadRequestError", "bad_request", 400),
        (ContextWindowExceeded(), "ContextWindowExceededError", "context_window", 400),
        (ContentPolicy(), "ContentPolicyViolationError", "content_policy", 400),
        (Unauthorized(), "AuthenticationError", "auth", 401),
        (NotFound(), "NotFoundError", "not_found", 404),
        (Malformed(), "APIError|APIConnectionError|InternalServerError", "server", 200),
        (Drop(), "InternalServerError|APIConnectionError", "connection", None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "delay") else None,
)
async def test_a_failure_says_what_kind_it_was(same, provider, recorder, behaviour, error, category, status):
    outcome = await same(
        [provider.deployment("dep-a")],
        {"dep-a": [behaviour]},
        lambda router: router.acompletion("gpt-4o", MESSAGES),
    )

    name = outcome.error.__name__
    assert name in error.split("|")
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "error.type": name,
                "traced_router.outcome": "error",
                "traced_router.attempts": 1,
                "traced_router.served.deployment_id": absent,
                "traced_router.served.model_group": absent,
                "traced_router.cost.total": absent,
            },
            children=[
                span("router.select gpt-4o", status="UNSET"),
                span(
                    "chat gpt-4o-2024-08-06",
                    status="ERROR",
                    attributes={
                        "error.type": name,
                        "traced_router.error.category": category,
                        "http.response.status_code": absent if status is None else status,
                    },
                ),
            ],
        ),
    )


async def test_a_refused_connection_has_no_status(provider, router, recorder):
    base = provider.refusing_api_base("dep-a")
    with pytest.raises(litellm.InternalServerError):
        await router(provider.deployment("dep-a", api_base=base)).acompletion("gpt-4o", MESSAGES)

    attempt = recorder.tree().children[-1]
    assert attempt.attributes["traced_router.error.category"] == "connection"
    assert "http.response.status_code" not in attempt.attributes


async def test_a_timeout_is_one(provider, router, recorder):
    provider.script("dep-a", [Answer(hold_before=provider.gate())])
    with pytest.raises(litellm.Timeout):
        await router(provider.deployment("dep-a", timeout=0.05)).acompletion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={"error.type": "Timeout"},
            children=[
                span("router.select gpt-4o"),
                span(
                    "chat gpt-4o-2024-08-06",
                    status="ERROR",
                    attributes={"traced_router.error.category": "timeout", "http.response.status_code": absent},
                ),
            ],
        ),
    )


async def test_the_exception_is_litellm_s_own_object(provider, router, monkeypatch):
    """Not a copy, and with the traceback down to the client."""
    raised: list[BaseException] = []
    mapped = litellm.main.exception_type

    def spying(*args, **kwargs):
        try:
            return mapped(*args, **kwargs)
        except Exception as error:
            raised.append(error)
            raise

    monkeypatch.setattr(litellm.main, "exception_type", spying)
    provider.script("dep-a", [ServerError()])
    with pytest.raises(litellm.InternalServerError) as caught:
        await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert caught.value is raised[-1]
    modules = {entry.frame.f_globals["__name__"] for entry in caught.traceback}
    assert "litellm.main" in modules


async def test_the_answer_is_litellm_s_own_object(provider, router, monkeypatch):
    returned: list[object] = []
    acompletion = litellm.acompletion

    async def spying(*args, **kwargs):
        returned.append(await acompletion(*args, **kwargs))
        return returned[-1]

    monkeypatch.setattr(litellm, "acompletion", spying)
    answer = await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert answer is returned[-1]


async def test_an_id_is_made_once_and_kept(provider, router, recorder):
    provider.script("dep-a", [Answer(), Answer()])
    made = router(provider.deployment("dep-a"))
    await made.acompletion("gpt-4o", MESSAGES)
    await made.acompletion("gpt-4o", MESSAGES)

    ids = [[node.attributes["litellm_trace_id"] for node in (tree, tree.children[1])] for tree in recorder.trees()]
    assert ids[0][0] == ids[0][1]
    assert ids[1][0] == ids[1][1]
    assert ids[0][0] != ids[1][0]


async def test_a_session_is_said(provider, router, recorder):
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, litellm_session_id="s-1")

    assert recorder.tree().attributes["session.id"] == "s-1"


async def test_an_unknown_group_is_named_and_nothing_is_called(same, provider, recorder):
    outcome = await same([provider.deployment("dep-a")], {}, lambda router: router.acompletion("gpt-5o", MESSAGES))

    assert outcome.hits == {}
    assert_tree(
        recorder,
        span(
            "router.chat gpt-5o",
            status="ERROR",
            attributes={"error.type": outcome.error.__name__, "traced_router.attempts": 0},
            children=[
                span(
                    "router.select gpt-5o",
                    status="ERROR",
                    attributes={"error.type": outcome.error.__name__, "litellm.deployment.id": absent},
                )
            ],
        ),
    )


async def test_an_error_that_litellm_raises_before_the_wire_is_a_failed_attempt(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a")],
        {},
        lambda router: router.acompletion("gpt-4o", MESSAGES, tools=[{"function": {1, 2}}]),
    )

    assert outcome.hits == {}
    assert outcome.error is not None
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={"traced_router.attempts": 1},
            children=[
                span("router.select gpt-4o"),
                span("chat gpt-4o-2024-08-06", status="ERROR", attributes={"http.response.status_code": absent}),
            ],
        ),
    )


async def test_calls_that_run_at_once_never_mix(provider, router, recorder):
    gate = provider.gate()
    for name in ("dep-a", "dep-b"):
        provider.default(name, Answer(hold_before=gate))
    made = router(provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b"))
    running = [asyncio.ensure_future(made.acompletion(g, MESSAGES, litellm_trace_id=g * 3)) for g in "abab"]
    await gate.reached(count=4)
    gate.open()
    await asyncio.gather(*running)

    trees = recorder.trees()
    assert sorted(tree.name for tree in trees) == ["router.chat a", "router.chat a", "router.chat b", "router.chat b"]
    for tree in trees:
        group = tree.attributes["traced_router.model_group"]
        assert [child.attributes["litellm.deployment.id"] for child in tree.children] == [f"dep-{group}"] * 2
        assert tree.children[1].attributes["litellm_trace_id"] == group * 3
