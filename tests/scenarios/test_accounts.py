"""Money: what each attempt cost is what litellm says of what went over the wire, and the request has the sum of it."""

import asyncio
import functools
import inspect
import itertools

import litellm
import pytest
from litellm.caching.caching import Cache

from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, DieMidStream, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
CHAT, CLAUDE, GEMINI = "openai/gpt-4o-2024-08-06", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"
TEXT = "text-completion-openai/gpt-3.5-turbo-instruct"
EMBEDDING, RERANK, IMAGE = "openai/text-embedding-3-small", "cohere/rerank-v3.5", "openai/gpt-image-1"
ANSWER = Answer("hello", input_tokens=1000, output_tokens=100)
CACHED = Answer("hello", input_tokens=1000, output_tokens=100, cached_tokens=400)
PRICE = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01, "cache_read_input_token_cost": 0.0001}

numbers = itertools.count()
"""litellm keeps prices by a deployment's id, for ever: each has its own."""


def deployment(provider, model, price=None, place="litellm_params", group=TEXT, answer=ANSWER):
    made = provider.deployment(f"priced-{next(numbers)}", group=group, model=model, max_retries=0)
    made[place].update(price or {})
    provider.default(made["model_info"]["id"], answer)
    return made


async def ask(router, method, **parameters):
    call = getattr(router, method)
    arguments = {"model": TEXT, **parameters}
    if not inspect.iscoroutinefunction(call):
        result = await asyncio.to_thread(functools.partial(call, **arguments))
        return await asyncio.to_thread(list, result) if parameters.get("stream") else result
    result = await call(**arguments)
    return [chunk async for chunk in result] if hasattr(type(result), "__aiter__") else result


def cost_of(recorder):
    """What the one attempt cost; the request says the same."""
    request = recorder.tree()
    (attempt,) = [node for node in request.walk() if node.kind == "CLIENT"]
    cost = attempt.attributes.get("traced_router.attempt.cost")
    assert request.attributes.get("traced_router.cost.total") == cost
    assert request.attributes.get("traced_router.cost.wasted") == (None if cost is None else 0.0)
    return cost


KINDS = {
    "acompletion": (CHAT, {"messages": MESSAGES}),
    "completion": (CHAT, {"messages": MESSAGES}),
    "acompletion-claude": (CLAUDE, {"messages": MESSAGES}),
    "acompletion-gemini": (GEMINI, {"messages": MESSAGES}),
    "atext_completion": (TEXT, {"prompt": "hi"}),
    "text_completion": (TEXT, {"prompt": "hi"}),
    "aembedding": (EMBEDDING, {"input": ["hi"]}),
    "embedding": (EMBEDDING, {"input": ["hi"]}),
    "aresponses": (CHAT, {"input": "hi"}),
    "responses": (CHAT, {"input": "hi"}),
    "arerank": (RERANK, {"query": "hi", "documents": ["a"]}),
    "aimage_generation": (IMAGE, {"prompt": "hi"}),
    "image_generation": (IMAGE, {"prompt": "hi"}),
    "agenerate_content": (GEMINI, {"contents": CONTENTS}),
    "generate_content": (GEMINI, {"contents": CONTENTS}),
}


answers = pytest.mark.parametrize("answer", [ANSWER, CACHED], ids=["fresh", "cached"])


@answers
@pytest.mark.parametrize("name", [name for name in KINDS if "generate_content" not in name])
async def test_litellms_own_price(provider, router, recorder, name, answer):
    """As litellm's public function computes it from the answer, without a router."""
    model, parameters = KINDS[name]
    method, (vendor, _, sent) = name.partition("-")[0], model.partition("/")
    result = await ask(router(deployment(provider, model, answer=answer)), method, **parameters)

    kind = {"call_type": "arerank"} if method == "arerank" else {}
    expected = litellm.completion_cost(result, model=sent, custom_llm_provider=vendor, **kind)
    assert expected > 0
    assert cost_of(recorder) == pytest.approx(expected, rel=1e-9)


@answers
@pytest.mark.parametrize("name", ["agenerate_content", "generate_content"])
async def test_geminis_own_calls(provider, router, recorder, name, answer):
    """litellm's function does not take what they answer."""
    model, parameters = KINDS[name]
    await ask(router(deployment(provider, model, answer=answer)), name, **parameters)

    price, read = litellm.model_cost["gemini/gemini-2.5-flash"], answer.cached_tokens or 0
    fresh = (1000 - read) * price["input_cost_per_token"] + read * price["cache_read_input_token_cost"]
    assert cost_of(recorder) == pytest.approx(fresh + 100 * price["output_cost_per_token"], rel=1e-9)


@answers
@pytest.mark.parametrize("place", ["litellm_params", "model_info"])
@pytest.mark.parametrize(
    "name", [n for n in KINDS if not n.endswith(("rerank", "image_generation", "text_completion"))]
)
async def test_a_price_of_ones_own(provider, router, recorder, name, answer, place):
    """As a person with a pencil has it; an embedding has no completion, and its provider no cache."""
    model, parameters = KINDS[name]
    await ask(router(deployment(provider, model, PRICE, place, answer=answer)), name.partition("-")[0], **parameters)

    embedding = name.endswith("embedding")
    read = 0 if embedding else answer.cached_tokens or 0
    expected = (1000 - read) * 0.001 + read * 0.0001 + (0 if embedding else 100) * 0.01
    assert cost_of(recorder) == pytest.approx(expected, rel=1e-9)


@answers
@pytest.mark.parametrize("place", ["litellm_params", "model_info"])
@pytest.mark.parametrize("name", ["atext_completion", "text_completion"])
async def test_a_price_of_ones_own_for_text(provider, router, recorder, name, answer, place):
    """As plain litellm's router has it: its versions differ in what cached tokens of these cost."""
    _, parameters = KINDS[name]
    plain = litellm.Router([deployment(provider, TEXT, PRICE, place, answer=answer)])
    theirs = await ask(plain, name, **parameters)
    await ask(router(deployment(provider, TEXT, PRICE, place, answer=answer)), name, **parameters)

    assert cost_of(recorder) == pytest.approx(theirs._hidden_params["response_cost"], rel=1e-9)


USAGE = {"stream": True, "stream_options": {"include_usage": True}}
STREAMS = {
    "acompletion": (CHAT, {"messages": MESSAGES, **USAGE}),
    "completion": (CHAT, {"messages": MESSAGES, **USAGE}),
    "acompletion-claude": (CLAUDE, {"messages": MESSAGES, "stream": True}),
    "completion-claude": (CLAUDE, {"messages": MESSAGES, "stream": True}),
    "acompletion-gemini": (GEMINI, {"messages": MESSAGES, "stream": True}),
    "aresponses": (CHAT, {"input": "hi", "stream": True}),
    "responses": (CHAT, {"input": "hi", "stream": True}),
    "aanthropic_messages": (CLAUDE, {"messages": MESSAGES, "max_tokens": 9, "stream": True}),
    "agenerate_content_stream": (GEMINI, {"contents": CONTENTS}),
}


@pytest.mark.parametrize("price", [None, PRICE], ids=["litellm's price", "one's own"])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_costs_what_the_whole_answer_costs(provider, router, recorder, name, price):
    model, parameters = STREAMS[name]
    method = name.partition("-")[0]
    built = router(deployment(provider, model, price, answer=CACHED))
    await ask(built, method, **parameters)
    streamed = cost_of(recorder)
    recorder.clear()
    whole = {key: value for key, value in parameters.items() if not key.startswith("stream")}
    await ask(built, method.removesuffix("_stream"), **whole)

    assert streamed == pytest.approx(cost_of(recorder), rel=1e-9)
    if price is not None:
        assert streamed == pytest.approx(600 * 0.001 + 400 * 0.0001 + 100 * 0.01, rel=1e-9)


@pytest.mark.parametrize("price", [None, PRICE], ids=["litellm's price", "one's own"])
async def test_anthropics_messages_cost_what_a_chat_costs(provider, router, recorder, price):
    built = router(deployment(provider, CLAUDE, price, answer=CACHED))
    await ask(built, "aanthropic_messages", messages=MESSAGES, max_tokens=9)
    messages = cost_of(recorder)
    recorder.clear()
    await ask(built, "acompletion", messages=MESSAGES)

    assert messages == pytest.approx(cost_of(recorder), rel=1e-9)


@pytest.mark.parametrize("method", ["acompletion", "completion"])
async def test_a_stream_whose_provider_does_not_count(provider, router, recorder, method):
    """Nobody asked for the usage: then what it cost is not known, and no cost is not a cost of 0."""
    built = router(deployment(provider, CHAT, PRICE))
    await ask(built, method, messages=MESSAGES, stream=True)

    assert cost_of(recorder) is None


@pytest.mark.parametrize("method", ["acompletion", "completion"])
async def test_litellms_cache_is_free(provider, router, recorder, monkeypatch, method):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    made = deployment(provider, CHAT, PRICE)
    built = router(made, cache_responses=True)
    await ask(built, method, messages=MESSAGES)
    while not litellm.cache.cache.cache_dict:  # litellm writes to its cache after the answer
        await asyncio.sleep(0.001)
    paid = cost_of(recorder)
    recorder.clear()
    await ask(built, method, messages=MESSAGES)

    assert provider.hits() == 1
    assert (paid, cost_of(recorder)) == (pytest.approx(2.0), 0.0)


async def test_what_was_wasted(provider, router, recorder):
    """A stream that died after its provider had counted was paid for, and answered nobody."""
    first = deployment(provider, CLAUDE, PRICE, group="a")
    second = deployment(provider, CHAT, PRICE, group="b")
    provider.script(first["model_info"]["id"], [ServerError(), DieMidStream(after_chunks=0, answer=ANSWER)])
    built = router(first, second, fallbacks=[{"a": ["b"]}], num_retries=1, retry_after=0)
    stream = await built.acompletion("a", MESSAGES, **USAGE)
    async for _ in stream:
        pass

    request = recorder.tree()
    costs = [
        node.attributes.get("traced_router.attempt.cost")
        for node in sorted(request.walk(), key=lambda node: node.start_ns)
        if node.kind == "CLIENT"
    ]
    known = [cost for cost in costs if cost is not None]
    assert costs[0] is None
    assert costs[-1] == pytest.approx(2.0)
    assert request.attributes["traced_router.cost.total"] == pytest.approx(sum(known))
    assert request.attributes["traced_router.cost.wasted"] == pytest.approx(sum(known) - costs[-1], abs=1e-12)


async def test_a_model_without_a_price(provider, router, recorder):
    built = router(deployment(provider, "openai/nobody-knows"))
    await ask(built, "acompletion", messages=MESSAGES)

    assert cost_of(recorder) is None
    assert_tree(
        recorder,
        span(
            f"router.chat {TEXT}",
            attributes={"traced_router.cost.total": absent, "traced_router.cost.wasted": absent},
            children=[span(f"router.select {TEXT}"), span("chat nobody-knows")],
        ),
    )
