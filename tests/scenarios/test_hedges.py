"""Hedges: a second attempt on another deployment, beside a first one that takes long."""

import asyncio
import importlib.metadata
import re

import litellm
import pytest
from litellm.types.router import CustomRoutingStrategyBase
from opentelemetry.trace import NoOpTracerProvider

from traced_router import ConfigurationError, DeadlineExceeded, HedgePolicy, last_request
from traced_router import _litellm as seams
from traced_router.strategy import Decision
from traced_router.testing import absent, approx, assert_tree, of_type, span
from traced_router.testing._provider_behaviours import (
    Answer,
    DieMidStream,
    Hang,
    ServerError,
    SlowFirstByte,
)

VERSION = tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])
MESSAGES = [{"role": "user", "content": "how are you today"}]
SOON = HedgePolicy(delay=0.01, ratio=0, per_second=10)
MODEL = "gpt-4o-2024-08-06"


class First:
    """Picks the first, and keeps what it hears."""

    name = "first"

    def __init__(self):
        self.heard = []

    def pick(self, _request, candidates):
        return Decision(min(c.id for c in candidates), "external")

    def started(self, ticket):
        self.heard.append((ticket.id, "started"))

    def first_chunk(self, ticket):
        self.heard.append((ticket.id, "first_chunk"))

    def finished(self, ticket, outcome):
        self.heard.append((ticket.id, outcome.status))


@pytest.fixture
def strategy():
    return First()


@pytest.fixture
def hedged(router, provider, strategy, recorder):
    """A router with two deployments, dep-a before dep-b."""

    def make(*deployments, **arguments):
        given = deployments or (provider.deployment("dep-a"), provider.deployment("dep-b"))
        arguments = {
            "hedging": {"gpt-4o": SOON},
            "routing_strategy": strategy,
            "meter_provider": recorder.meter_provider,
            "resilience": False,
            **arguments,
        }
        return router(*given, **arguments)

    return make


def select(chosen, **attributes):
    return span("router.select gpt-4o", attributes={"litellm.deployment.id": chosen, **attributes})


def attempt(number, deployment, role=absent, outcome=absent, error=None, name=f"chat {MODEL}", **attributes):
    return span(
        name,
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "traced_router.attempt.number": number,
            "litellm.deployment.attempt": number,
            "litellm.deployment.id": deployment,
            "litellm.deployment.reason": "initial",
            "traced_router.hedge.role": role,
            "traced_router.hedge.outcome": outcome,
            "traced_router.hedge.delay": 0.01 if role == "hedge" else absent,
            "error.type": error or absent,
            **attributes,
        },
    )


def request(*children, status="UNSET", name="router.chat gpt-4o", **attributes):
    return span(name, status=status, attributes=attributes, children=list(children))


EXCLUDED = {"traced_router.candidates.excluded.already_tried": 1, "traced_router.candidates.eligible": 1}
CANCELLED = {"traced_router.error.category": "cancelled"}


# --- who wins ------------------------------------------------------------------------------------


async def test_a_hedge_that_is_faster(provider, hedged, recorder, strategy):
    provider.default("dep-a", Hang())
    provider.default("dep-b", Answer(text="from b", input_tokens=10, output_tokens=5))

    answer = await hedged().acompletion("gpt-4o", MESSAGES)

    assert answer.choices[0].message.content == "from b"
    assert answer._hidden_params["model_id"] == "dep-b"
    assert "hedging" not in provider.requests[0].body
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(
                1,
                "dep-a",
                "primary",
                "lost",
                **CANCELLED,
                **{
                    "traced_router.hedge.estimated_cost": approx(4 * 2.5e-6),
                    "traced_router.attempt.cost": absent,
                    "gen_ai.usage.input_tokens": absent,
                },
            ),
            select("dep-b", **EXCLUDED),
            attempt(
                2,
                "dep-b",
                "hedge",
                "won",
                **{
                    "traced_router.hedge.estimated_cost": absent,
                    "traced_router.attempt.cost": of_type(float),
                    "gen_ai.usage.input_tokens": 10,
                },
            ),
            **{
                "traced_router.outcome": "ok",
                "traced_router.attempts": 2,
                "traced_router.retries": 0,
                "traced_router.hedges": 1,
                "traced_router.hedges.denied": absent,
                "traced_router.served.deployment_id": "dep-b",
                "traced_router.cost.wasted": 0.0,
            },
        ),
    )
    assert strategy.heard[:2] == [("dep-a", "started"), ("dep-b", "started")]
    assert sorted(strategy.heard[2:]) == [("dep-a", "cancelled"), ("dep-b", "ok")]
    await provider.idle()
    assert {r.deployment: r.finished for r in provider.requests} == {"dep-a": False, "dep-b": True}


async def test_a_primary_that_is_faster_after_all(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(text="from a", hold_before=gate))
    arrived = provider.gate()
    provider.default("dep-b", Answer(hold_before=arrived))

    call = asyncio.ensure_future(hedged().acompletion("gpt-4o", MESSAGES))
    await arrived.reached()
    gate.open()
    answer = await call

    assert answer.choices[0].message.content == "from a"
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "won"),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "lost", **CANCELLED),
            **{"traced_router.served.deployment_id": "dep-a", "traced_router.hedges": 1},
        ),
    )
    counted = {p.attributes["traced_router.hedge.outcome"]: p for p in recorder.metrics()["traced_router.hedges"]}
    assert {outcome: (p.value, dict(p.attributes)) for outcome, p in counted.items()} == {
        "lost": (
            1,
            {
                "traced_router.model_group": "gpt-4o",
                "litellm.deployment.id": "dep-b",
                "traced_router.hedge.outcome": "lost",
            },
        )
    }


async def test_a_primary_that_is_fast_has_no_hedge(provider, hedged, recorder):
    await hedged(hedging={"gpt-4o": 60}).acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 1
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a"),
            **{"traced_router.hedges": absent, "traced_router.hedges.denied": absent},
        ),
    )
    assert "traced_router.hedges" not in recorder.metrics()


async def test_a_primary_that_fails_loses(provider, hedged, recorder):
    gate = provider.gate()
    provider.script("dep-a", [ServerError(hold_before=gate)])
    held = provider.gate()
    provider.script("dep-b", [Answer(hold_before=held)])

    call = asyncio.ensure_future(hedged(num_retries=2).acompletion("gpt-4o", MESSAGES))
    await held.reached()
    gate.open()
    await _until_failed(recorder)
    held.open()
    await call

    assert provider.hits() == 2
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "lost", "InternalServerError"),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "won"),
            **{"traced_router.outcome": "ok", "traced_router.retries": 0},
        ),
    )


async def test_a_hedge_that_fails_loses(provider, hedged, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    provider.script("dep-b", [ServerError()])

    call = asyncio.ensure_future(hedged(num_retries=2).acompletion("gpt-4o", MESSAGES))
    await _until_failed(recorder)
    gate.open()
    await call

    assert provider.hits() == 2
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "won"),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "lost", "InternalServerError"),
            **{"traced_router.outcome": "ok", "traced_router.served.deployment_id": "dep-a"},
        ),
    )


async def test_where_both_fail_the_primary_s_error_counts_and_litellm_goes_on(provider, hedged, recorder, waits):
    gate = provider.gate()
    provider.script("dep-a", [ServerError(503, "from a", hold_before=gate), Answer()])
    provider.script("dep-b", [ServerError(500, "from b")])

    once = HedgePolicy(delay=0.01, ratio=0, per_second=0.1)
    call = asyncio.ensure_future(hedged(num_retries=1, hedging=once).acompletion("gpt-4o", MESSAGES))
    await _until_failed(recorder)
    gate.open()
    await call

    served = recorder.tree().children[-1].attributes["litellm.deployment.id"]
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "lost", "ServiceUnavailableError"),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "lost", "InternalServerError"),
            *([span("router.backoff")] if recorder.tree().find("router.backoff") else []),
            select(served),
            attempt(3, served, **{"litellm.deployment.reason": "retry"}),
            **{"traced_router.outcome": "ok_after_retry", "traced_router.retries": 1, "traced_router.hedges": 1},
        ),
    )


async def test_where_both_fail_the_caller_gets_the_primary_s_error(provider, hedged, recorder):
    gate = provider.gate()
    provider.script("dep-a", [ServerError(503, "from a", hold_before=gate)])
    provider.script("dep-b", [ServerError(500, "from b")])

    call = asyncio.ensure_future(hedged().acompletion("gpt-4o", MESSAGES))
    await _until_failed(recorder)
    gate.open()
    with pytest.raises(litellm.ServiceUnavailableError, match="from a"):
        await call

    assert recorder.tree().attributes["traced_router.hedges"] == 1


async def test_an_error_that_comes_soon_is_litellm_s_to_retry(provider, hedged, recorder, waits):
    provider.script("dep-a", [ServerError()])

    await hedged(num_retries=1, hedging=60).acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 2
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_retry"


async def _until_failed(recorder, attempts=1):
    await _until(lambda: sum(n.status == "ERROR" for t in recorder.trees() for n in t.walk()) >= attempts)


async def _until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


# --- streams -------------------------------------------------------------------------------------


def chat(router):
    return router.acompletion("gpt-4o", MESSAGES, stream=True)


def responses(router):
    return router.aresponses(model="gpt-4o", input="hi", store=False, stream=True)


def anthropic(router):
    return router.aanthropic_messages(model="gpt-4o", messages=MESSAGES, max_tokens=9, stream=True)


def text(router):
    return router.atext_completion(model="gpt-4o", prompt="hi", stream=True)


def claude(provider):
    return [provider.deployment(name, model="anthropic/claude-sonnet-4-5") for name in ("dep-a", "dep-b")]


def instruct(provider):
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    return [provider.deployment(name, model=model) for name in ("dep-a", "dep-b")]


def plain(_provider):
    return []


KINDS = {
    "chat": (chat, plain, True),
    "responses": (responses, plain, VERSION >= (1, 106)),
    "anthropic": (anthropic, claude, VERSION >= (1, 106)),
    "text": (text, instruct, False),
}
"""How to ask, who answers, and whether the first content counts, rather than the beginning of the stream."""


def _text(chunks):
    """What a stream of any kind says."""
    if chunks and isinstance(chunks[0], bytes):
        return "".join(re.findall(r'"text_delta", ?"text": ?"(.*?)"', b"".join(chunks).decode()))
    said = []
    for chunk in chunks:
        if hasattr(chunk, "choices"):
            choice = chunk.choices[0]
            said.append(choice.delta.content if hasattr(choice, "delta") else choice.text)
        elif chunk.type == "response.output_text.delta":
            said.append(chunk.delta)
    return "".join(filter(None, said))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_is_hedged_until_its_first_content(provider, hedged, recorder, kind):
    ask, deployments, wrapped = KINDS[kind]
    provider.default("dep-a", SlowFirstByte(gate=provider.gate()) if wrapped else Hang())
    provider.default("dep-b", Answer(chunks=("a", "b", "c")))
    made = hedged(*deployments(provider))
    alone = hedged(*deployments(provider), hedging=None, routing_strategy="simple-shuffle")

    stream = await ask(made)
    chunks = [chunk async for chunk in stream]

    assert _text(chunks) == "abc"
    provider.default("dep-a", Answer(chunks=("a", "b", "c")))
    plain_stream = await ask(alone)
    assert type(stream).__qualname__ == type(plain_stream).__qualname__
    assert _text([chunk async for chunk in plain_stream]) == "abc"
    tree = recorder.trees()[0]
    primary, hedge = (n for n in tree.children if "traced_router.hedge.role" in n.attributes)
    assert [n.attributes["traced_router.hedge.outcome"] for n in (primary, hedge)] == ["lost", "won"]
    assert tree.attributes["traced_router.served.deployment_id"] == "dep-b"
    assert tree.attributes["traced_router.stream.outcome"] == "exhausted"
    assert tree.attributes["traced_router.stream.chunks"] == len(chunks)
    assert hedge.attributes["gen_ai.response.time_to_first_chunk"] > 0.0
    assert tree.attributes["traced_router.time_to_first_chunk"] > 0.01
    await provider.idle()


async def test_a_stream_whose_primary_is_first(provider, hedged, recorder):
    gate, held = provider.gate(), provider.gate()
    provider.default("dep-a", SlowFirstByte(gate=gate, answer=Answer(chunks=("a", "b"))))
    provider.default("dep-b", SlowFirstByte(gate=held))

    call = asyncio.ensure_future(chat(hedged()))
    await held.reached()
    gate.open()
    stream = await call
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "ab"
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "won"),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "lost", **CANCELLED),
            **{"traced_router.stream.outcome": "exhausted", "traced_router.served.deployment_id": "dep-a"},
        ),
    )
    await provider.idle()


async def test_a_hedged_stream_that_is_left(provider, hedged, recorder):
    provider.default("dep-a", Hang())
    provider.default("dep-b", Answer(chunks=("a", "b", "c")))

    stream = await chat(hedged())
    await anext(stream)
    await stream.aclose()

    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "lost", **CANCELLED),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "won"),
            **{"traced_router.outcome": "abandoned", "traced_router.stream.outcome": "closed"},
        ),
    )


async def test_a_stream_that_dies_before_its_content_loses(provider, hedged, recorder):
    gate, held = provider.gate(), provider.gate()
    provider.default("dep-a", DieMidStream(0, answer=Answer(), hold_before=gate))
    provider.default("dep-b", SlowFirstByte(gate=held, answer=Answer(chunks=("x",))))

    call = asyncio.ensure_future(chat(hedged()))
    await held.reached()
    gate.open()
    await _until_failed(recorder)
    held.open()
    stream = await call
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "x"
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "lost", of_type(str)),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "won"),
            **{"traced_router.outcome": "ok", "traced_router.fallbacks": 0},
        ),
    )


@pytest.mark.parametrize("hedging", [SOON, HedgePolicy(delay=60), HedgePolicy()], ids=["both", "alone", "warming-up"])
async def test_a_stream_that_dies_falls_back_as_ever(provider, hedged, recorder, hedging):
    gate = provider.gate()
    provider.default("dep-a", DieMidStream(0, answer=Answer(), hold_before=gate))
    provider.default("dep-b", DieMidStream(0, answer=Answer()))
    provider.default("dep-c", Answer(chunks=("c",)))
    three = (provider.deployment("dep-a"), provider.deployment("dep-b"), provider.deployment("dep-c", group="other"))
    made = hedged(*three, fallbacks=[{"gpt-4o": ["other"]}], hedging=hedging)
    unhedged = hedged(*three, fallbacks=[{"gpt-4o": ["other"]}], hedging=None)

    call = asyncio.ensure_future(chat(made))
    if hedging is SOON:
        await _until_failed(recorder)
    gate.open()
    stream = await call
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    async for _ in await chat(unhedged):
        pass

    assert text == "c"
    tree, other = recorder.trees()
    assert tree.attributes["traced_router.outcome"] == "ok_after_fallback"
    assert [n.name for n in tree.children][-1] == "router.fallback other"
    kind = "traced_router.fallback.kind"
    assert tree.children[-1].attributes[kind] == other.children[-1].attributes[kind]
    assert tree.attributes.get("traced_router.hedges") == (1 if hedging is SOON else None)


# --- who may be hedged ---------------------------------------------------------------------------


async def test_a_budget(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = hedged(hedging=HedgePolicy(delay=0.01, ratio=0, per_second=0.1))

    await made.acompletion("gpt-4o", MESSAGES)
    call = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES))
    await _until(lambda: _denied(recorder))
    gate.open()
    await call

    first, second = recorder.trees()
    assert first.attributes["traced_router.hedges"] == 1
    assert "traced_router.hedges.denied" not in first.attributes
    assert second.attributes["traced_router.hedges.denied"] == 1
    assert "traced_router.hedges" not in second.attributes
    assert _denied(recorder) == {"traced_router.model_group": "gpt-4o", "traced_router.hedge.outcome": "denied"}


def _denied(recorder):
    points = recorder.metrics().get("traced_router.hedges", ())
    return next((dict(p.attributes) for p in points if p.attributes["traced_router.hedge.outcome"] == "denied"), None)


async def test_a_group_of_one_has_nobody_to_go_to(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    call = asyncio.ensure_future(hedged(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES))
    await _until(lambda: provider.hits() == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.1)
    gate.open()
    await call

    assert_tree(recorder, request(select("dep-a"), attempt(1, "dep-a"), **{"traced_router.hedges.denied": absent}))


async def test_a_deployment_of_a_later_order_is_no_second_choice(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = hedged(provider.deployment("dep-a", order=1), provider.deployment("dep-b", order=2))
    call = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES))
    await _until(lambda: provider.hits() == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.1)
    gate.open()
    await call

    assert provider.hits("dep-b") == 0


@pytest.mark.parametrize("strategy", ["simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing"])
async def test_litellm_s_own_strategies_send_the_hedge_elsewhere(provider, hedged, recorder, strategy):
    gate = provider.gate()
    for name in ("dep-a", "dep-b"):
        provider.default(name, Answer(hold_before=gate))
    call = asyncio.ensure_future(hedged(routing_strategy=strategy).acompletion("gpt-4o", MESSAGES))
    await gate.reached(count=2)
    gate.open()
    await call

    assert {r.deployment for r in provider.requests} == {"dep-a", "dep-b"}
    assert all("_excluded_deployment_ids" not in r.body for r in provider.requests)


class _Custom(CustomRoutingStrategyBase):
    """A user's own: one after the other of these places in the model list."""

    def __init__(self, router, *places):
        self._router = router
        self._places = iter(places)

    async def async_get_available_deployment(self, *_args, **_kwargs):
        return self.get_available_deployment()

    def get_available_deployment(self, *_args, **_kwargs):
        return seams.state(seams.core_of(self._router), "model_list")[next(self._places)]


def _install(router, strategy):
    # 1.109 calls it a plugin, and warns of the old name.
    getattr(router, "register_plugin" if hasattr(router, "register_plugin") else "set_custom_routing_strategy")(
        strategy
    )


async def test_a_strategy_of_the_user_s_that_picks_another_one(provider, hedged, recorder):
    provider.default("dep-a", Hang())
    made = hedged(routing_strategy="simple-shuffle")
    _install(made, _Custom(made, 0, 1))

    await made.acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().attributes["traced_router.served.deployment_id"] == "dep-b"
    assert all("_excluded_deployment_ids" not in r.body for r in provider.requests)


async def test_a_strategy_of_the_user_s_that_picks_the_same_again(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = hedged(routing_strategy="simple-shuffle")
    _install(made, _Custom(made, 0, 0))
    call = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES))
    await _until(lambda: len(recorder.spans()) == 2)
    gate.open()
    await call

    assert provider.hits() == 1
    assert_tree(
        recorder, request(select("dep-a"), attempt(1, "dep-a"), select("dep-a"), **{"traced_router.hedges": absent})
    )


async def test_a_reranker_of_the_user_s_that_picks_the_same_again(provider, hedged, recorder):
    """litellm checks nothing between the pick and the call: the attempt begins with the pick."""
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    cohere = [provider.deployment(name, model="cohere/rerank-v3.5") for name in ("dep-a", "dep-b")]
    made = hedged(*cohere, routing_strategy="simple-shuffle")
    _install(made, _Custom(made, 0, 0))
    call = asyncio.ensure_future(made.arerank(model="gpt-4o", query="q", documents=["d"]))
    await _until(lambda: len(recorder.spans()) == 2)
    gate.open()
    await call

    assert provider.hits() == 1
    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", name="rerank rerank-v3.5"),
            select("dep-a"),
            name="router.rerank gpt-4o",
            **{"traced_router.hedges": absent},
        ),
    )


async def test_names_that_callers_make_up_are_one_group(provider, hedged, recorder):
    made = hedged(hedging=1)
    for number in range(3):
        with pytest.raises(litellm.BadRequestError):
            await made.acompletion(f"made-up-{number}", MESSAGES)

    hedging = seams.core_of(made).__dict__["_traced_router"].hedging
    assert list(hedging._budgets) == [("_other", 0.1, 0.1)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aimage_generation", {"prompt": "a cat"}),
        ("aresponses", {"input": "hi"}),
        ("acompletion", {"messages": MESSAGES, "tools": [{"type": "mcp", "server_url": "https://example.com"}]}),
    ],
)
async def test_what_is_not_to_happen_twice(provider, hedged, recorder, name, arguments):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    call = asyncio.ensure_future(getattr(hedged(), name)(model="gpt-4o", **arguments))
    await _until(lambda: provider.hits() == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.1)
    gate.open()
    await call

    assert provider.hits() == 1
    assert "traced_router.hedges" not in recorder.tree().attributes


@pytest.mark.parametrize(
    ("name", "arguments"), [("aembedding", {"input": "hi"}), ("aresponses", {"input": "hi", "store": False})]
)
async def test_what_may_happen_twice(provider, hedged, recorder, name, arguments):
    provider.default("dep-a", Hang())

    await getattr(hedged(), name)(model="gpt-4o", **arguments)

    tree = recorder.tree()
    assert tree.attributes["traced_router.hedges"] == 1
    assert tree.attributes["traced_router.served.deployment_id"] == "dep-b"


def test_a_synchronous_call_is_not_hedged(provider, hedged, recorder):
    hedged(hedging=0).completion("gpt-4o", MESSAGES)

    assert provider.hits() == 1


# --- beside everything else ----------------------------------------------------------------------


async def test_a_call_s_own_word_comes_first(provider, hedged, recorder):
    provider.default("dep-a", Hang())
    await hedged(hedging=None).acompletion("gpt-4o", MESSAGES, hedging=SOON)
    assert recorder.tree().attributes["traced_router.hedges"] == 1
    provider.default("dep-a", Answer())
    await hedged(hedging=0).acompletion("gpt-4o", MESSAGES, hedging=False)
    assert "traced_router.hedges" not in recorder.trees()[1].attributes
    with pytest.raises(ConfigurationError, match="hedging='soon'"):
        await hedged().acompletion("gpt-4o", MESSAGES, hedging="soon")


async def test_a_setting(provider, hedged, recorder, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_HEDGING", '{"gpt-4o": {"delay": 0.01}}')
    provider.default("dep-a", Hang())

    await hedged(hedging=None).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().attributes["traced_router.hedges"] == 1


async def test_in_a_fallback(provider, hedged, recorder):
    provider.default("dep-x", ServerError())
    provider.default("dep-a", Hang())
    made = hedged(
        provider.deployment("dep-x", group="first"),
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        fallbacks=[{"first": ["gpt-4o"]}],
    )

    await made.acompletion("first", MESSAGES)

    hop = recorder.tree().children[-1]
    assert hop.name == "router.fallback gpt-4o"
    assert [
        (n.attributes["litellm.deployment.reason"], n.attributes["traced_router.hedge.outcome"])
        for n in hop.children
        if "traced_router.hedge.role" in n.attributes
    ] == [("fallback", "lost"), ("fallback", "won")]
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_fallback"


async def test_a_hedge_that_fails_in_a_fallback_does_not_fail_it(provider, hedged, recorder):
    gate = provider.gate()
    provider.default("dep-x", ServerError())
    provider.default("dep-a", Answer(hold_before=gate))
    provider.default("dep-b", ServerError())
    made = hedged(
        provider.deployment("dep-x", group="first"),
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        fallbacks=[{"first": ["gpt-4o"]}],
    )

    call = asyncio.ensure_future(made.acompletion("first", MESSAGES))
    await _until(lambda: provider.hits("dep-b") == 1)
    await _until_failed(recorder, 2)
    gate.open()
    await call

    assert recorder.tree().children[-1].status == "UNSET"


async def test_the_caller_leaves(provider, hedged, recorder, strategy):
    held = provider.gate()
    provider.default("dep-a", Hang())
    provider.default("dep-b", Answer(hold_before=held))

    call = asyncio.ensure_future(hedged().acompletion("gpt-4o", MESSAGES))
    await held.reached()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt(1, "dep-a", "primary", "lost", **CANCELLED),
            select("dep-b", **EXCLUDED),
            attempt(2, "dep-b", "hedge", "lost", **CANCELLED),
            **{"traced_router.outcome": "cancelled"},
        ),
    )
    assert sorted(strategy.heard) == [
        ("dep-a", "cancelled"),
        ("dep-a", "started"),
        ("dep-b", "cancelled"),
        ("dep-b", "started"),
    ]
    await provider.idle()


async def test_a_deadline_ends_both(provider, hedged, recorder):
    provider.default("dep-a", Hang())
    provider.default("dep-b", Hang())

    with pytest.raises(DeadlineExceeded):
        await hedged().acompletion("gpt-4o", MESSAGES, deadline=0.4)

    assert recorder.tree().attributes["traced_router.hedges"] == 1
    assert recorder.tree().attributes["error.type"] == "DeadlineExceeded"
    await provider.idle()


async def test_no_hedge_is_sent_when_there_is_no_time_for_it(provider, hedged, recorder, monkeypatch):
    monkeypatch.setattr("traced_router._countdown._MARGIN", 0.99)
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    monkeypatch.setattr("traced_router._countdown.Countdown.timeout", lambda _self: None)
    call = asyncio.ensure_future(hedged(hedging=0.2).acompletion("gpt-4o", MESSAGES, deadline=10))
    await gate.reached()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.4)
    gate.open()
    await call

    assert provider.hits() == 1


async def test_without_a_recorder(provider, hedged, recorder, strategy):
    provider.default("dep-a", Hang())

    answer = await hedged(tracer_provider=NoOpTracerProvider()).acompletion("gpt-4o", MESSAGES)

    assert answer._hidden_params["model_id"] == "dep-b"
    summary = last_request()
    assert [(a.deployment_id, a.hedge_role, a.hedge_outcome, a.served) for a in summary.attempts] == [
        ("dep-a", "primary", "lost", False),
        ("dep-b", "hedge", "won", True),
    ]
    assert summary.hedges == 1


async def test_the_two_do_not_share_what_litellm_writes_down(provider, hedged, recorder):
    """A callback of litellm's is told which deployment an attempt went to, by the call's metadata."""
    heard = []

    class Callback(litellm.integrations.custom_logger.CustomLogger):
        async def async_log_success_event(self, kwargs, *_args, **_named):
            heard.append(kwargs["litellm_params"]["metadata"]["model_info"]["id"])

        async def async_log_failure_event(self, kwargs, *_args, **_named):
            heard.append(kwargs["litellm_params"]["metadata"]["model_info"]["id"])

    litellm.callbacks.append(Callback())
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    provider.default("dep-b", ServerError())
    mine = {"mine": 1}

    call = asyncio.ensure_future(hedged().acompletion("gpt-4o", MESSAGES, metadata=mine))
    await _until(lambda: "dep-b" in heard)
    gate.open()
    await call
    await _until(lambda: len(heard) == 2)

    assert heard == ["dep-b", "dep-a"]
