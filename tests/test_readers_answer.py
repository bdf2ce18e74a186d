"""Answers of every class that litellm returns, over real HTTP; and answers made by hand."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import litellm
import pytest
from litellm import Router
from litellm.caching import Cache

from traced_router._facts import AnswerFacts
from traced_router._readers import answer
from traced_router._usage import NO_TOKENS, Tokens, tokens_of
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Answer, ToolCall

MESSAGES = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
ANSWER = Answer("hello", input_tokens=1000, output_tokens=100, cached_tokens=400, reasoning_tokens=30)

needs_proxy = pytest.mark.skipif(
    importlib.util.find_spec("orjson") is None, reason="litellm imports its proxy for Gemini's own calls"
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(default=ANSWER) as made:
        yield made


@pytest.fixture(autouse=True)
async def _close_connections() -> AsyncIterator[None]:
    """litellm keeps its clients for ever, and their sockets would be found open when the loop is gone."""
    yield
    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        transport = getattr(getattr(client, "client", None) or getattr(client, "_client", None), "_transport", None)
        if isinstance(transport, httpx.AsyncBaseTransport):
            await transport.aclose()


def router(provider: FakeProvider, model: str, name: str, **params: object) -> Router:
    """A router of one deployment. litellm keeps prices by the deployment's id, so each test has its own."""
    made = provider.deployment(name, model=model, **params)
    return Router([made], num_retries=0, disable_cooldowns=True)


CALLS: dict[str, Callable[[Router], Any]] = {
    "chat": lambda r: r.acompletion("gpt-4o", MESSAGES),
    "text": lambda r: r.atext_completion("gpt-4o", prompt="hi"),
    "embedding": lambda r: r.aembedding("gpt-4o", input=["hi"]),
    "responses": lambda r: r.aresponses(model="gpt-4o", input="hi"),
    "messages": lambda r: r.aanthropic_messages(model="gpt-4o", messages=MESSAGES, max_tokens=5),
    "gemini": lambda r: r.agenerate_content(model="gpt-4o", contents=CONTENTS),
    "rerank": lambda r: r.arerank(model="gpt-4o", query="hi", documents=["a"]),
    "image": lambda r: r.aimage_generation(model="gpt-4o", prompt="hi"),
    "transcription": lambda r: r.atranscription(model="gpt-4o", file=("a.wav", b"RIFF")),
    "speech": lambda r: r.aspeech(model="gpt-4o", input="hi", voice="alloy"),
    "moderation": lambda r: r.amoderation(model="gpt-4o", input="hi"),
}
CHAT = (("stop",), 1000, 100, 400, 30)


@pytest.mark.parametrize(
    ("call", "model", "said"),
    [
        ("chat", "openai/gpt-4o", ("chatcmpl-1", "gpt-4o", *CHAT, 0.003)),
        ("chat", "gemini/gemini-2.5-flash", ("gemini-1", "gemini-2.5-flash", *CHAT, 0.000442)),
        # litellm makes up the id, and a 0 for the reasoning that anthropic does not count.
        ("chat", "anthropic/claude-sonnet-4-5", (None, "claude-sonnet-4-5", *CHAT[:4], None, 0.00342)),
        ("responses", "openai/gpt-4o", ("resp_1", "gpt-4o", *CHAT, 0.003)),
        (
            "messages",
            "anthropic/claude-sonnet-4-5",
            ("msg_1", "claude-sonnet-4-5", ("end_turn",), 1000, 100, 400, None, 0.00342),
        ),
        pytest.param(
            "gemini",
            "gemini/gemini-2.5-flash",
            ("gemini-1", "gemini-2.5-flash", ("STOP",), 1000, 100, 400, 30, 0.000442),
            marks=needs_proxy,
        ),
        (
            "embedding",
            "openai/text-embedding-3-small",
            (None, "text-embedding-3-small", (), 1000, None, None, None, 2e-05),
        ),
        ("rerank", "cohere/rerank-english-v3.0", ("rerank-1", None, (), None, None, None, None, 0.002)),
        ("image", "openai/gpt-image-1", (None, None, (), 1000, 100, None, None, 0.009)),
        ("transcription", "openai/whisper-1", (None, None, (), None, None, None, None, None)),
        ("speech", "openai/tts-1", (None, None, (), None, None, None, None, 3e-05)),
        (
            "moderation",
            "openai/omni-moderation-latest",
            ("modr-1", "omni-moderation-latest", (), None, None, None, None, 0.0),
        ),
    ],
)
async def test_over_http(provider: FakeProvider, call: str, model: str, said: tuple[Any, ...]) -> None:
    name = f"answer-{call}-{model.partition('/')[0]}"
    facts = answer(await CALLS[call](router(provider, model, name)), name)
    assert facts == AnswerFacts(*said[:7], None if said[7] is None else pytest.approx(said[7]))
    assert [type(v) for v in (facts.input_tokens, facts.cost)] == [type(said[3]), type(said[7])]


async def test_text_completion(provider: FakeProvider) -> None:
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    facts = answer(await CALLS["text"](router(provider, model, "answer-text")))
    assert facts.response_id == "cmpl-1"
    assert (facts.finish_reasons, facts.input_tokens, facts.output_tokens) == (("stop",), 1000, 100)
    assert facts.cost is not None  # 1.95 counts what is cached twice as cheap as 1.106 does


async def test_the_model_that_answered(provider: FakeProvider) -> None:
    provider.default("answer-model", Answer(response_model="gpt-4o-2024-08-06"))
    facts = answer(await CALLS["chat"](router(provider, "openai/gpt-4o", "answer-model")))
    assert facts.response_model == "gpt-4o-2024-08-06"


async def test_tool_calls(provider: FakeProvider) -> None:
    provider.default("answer-tools", Answer("", tool_calls=[ToolCall("look")]))
    made = router(provider, "openai/gpt-4o", "answer-tools")
    assert answer(await CALLS["chat"](made)).finish_reasons == ("tool_calls",)
    assert answer(await CALLS["responses"](made)).finish_reasons == ("tool_calls",)


async def test_several_choices() -> None:
    choices = [{"finish_reason": r, "index": i, "message": {"content": "x"}} for i, r in enumerate(["stop", "length"])]
    assert answer(litellm.ModelResponse(choices=choices)).finish_reasons == ("stop", "length")


class TestCost:
    """What litellm calls 0.0 is free only where it has a price: 1.95 to 1.109 say 0.0 of what they do not know."""

    async def cost(self, provider: FakeProvider, model: str, name: str, **params: object) -> float | None:
        response = await CALLS["chat"](router(provider, model, name, **params))
        return answer(response).cost

    async def test_of_an_unknown_model(self, provider: FakeProvider) -> None:
        response = await CALLS["chat"](router(provider, "openai/nobody-knows", "cost-unknown"))
        assert response._hidden_params["response_cost"] == 0.0
        assert answer(response).cost is None

    async def test_of_a_model_that_is_free(self, provider: FakeProvider) -> None:
        free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
        assert await self.cost(provider, "openai/nobody-knows", "cost-free", **free) == 0.0

    async def test_of_a_custom_price(self, provider: FakeProvider) -> None:
        provider.default("cost-custom", Answer(input_tokens=1000, output_tokens=100))
        price = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
        assert await self.cost(provider, "openai/nobody-knows", "cost-custom", **price) == pytest.approx(1.2)

    async def test_of_a_custom_price_in_messages(self, provider: FakeProvider) -> None:
        provider.default("cost-messages", Answer(input_tokens=1000, output_tokens=100))
        made = provider.deployment("cost-messages", model="anthropic/claude-sonnet-4-5")
        made["model_info"] = {"id": "cost-messages", "input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
        response = await CALLS["messages"](Router([made], num_retries=0))
        assert answer(response, "cost-messages").cost == pytest.approx(1.2)

    async def test_of_messages_of_nobody(self) -> None:
        body = {"type": "message", "model": "claude-sonnet-4-5", "usage": {"input_tokens": 1, "output_tokens": 1}}
        assert answer(body).cost is None
        assert answer(body, "no-such-deployment").cost is None
        assert answer({**body, "model": None}).cost is None
        assert answer({**body, "usage": None}).cost is None

    def test_of_messages_that_cannot_be_counted(self) -> None:
        usage = {"output_tokens": 1, "cache_creation": 3, "server_tool_use": object()}
        facts = answer({"type": "message", "model": "claude-sonnet-4-5", "id": "m-1", "usage": usage}, "dep-a")
        assert (facts.response_id, facts.output_tokens, facts.cost) == ("m-1", 1, None)

    async def test_of_messages_of_an_unknown_model(self, provider: FakeProvider) -> None:
        response = await CALLS["messages"](router(provider, "anthropic/nobody-knows", "cost-nobody"))
        assert answer(response, "cost-nobody").cost is None

    @pytest.mark.parametrize(
        ("cost", "expected"),
        [(0.5, 0.5), (2, 2.0), (-1.0, None), (float("nan"), None), ("1", None), (None, None), (True, None)],
    )
    def test_of_odd_values(self, cost: object, expected: float | None) -> None:
        assert answer({"_hidden_params": {"response_cost": cost}}).cost == expected

    @pytest.mark.parametrize(
        ("hidden", "model", "expected"),
        [
            ({"litellm_model_name": "openai/omni-moderation-latest"}, None, 0.0),
            ({}, "omni-moderation-latest", 0.0),
            ({"model_id": 3, "litellm_model_name": None}, None, None),
            ({"litellm_model_name": "openai/gpt-4o"}, None, None),
        ],
    )
    def test_of_zero(self, hidden: dict[str, object], model: str | None, expected: float | None) -> None:
        assert answer({"_hidden_params": {**hidden, "response_cost": 0.0}, "model": model}).cost == expected


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    """litellm's cache in memory; making one adds itself to litellm's callbacks."""
    for name in ("input_callback", "success_callback", "_async_success_callback"):
        monkeypatch.setattr(litellm, name, list(getattr(litellm, name)))
    made = Cache(type="local")
    monkeypatch.setattr(litellm, "cache", made)
    return made


async def test_cache_hit(provider: FakeProvider, cache: Cache) -> None:
    made = router(provider, "openai/gpt-4o", "answer-cache")
    first = answer(await made.acompletion("gpt-4o", MESSAGES, caching=True))
    while not cache.cache.cache_dict:  # a task of litellm's stores the first answer
        await asyncio.sleep(0)
    response = await made.acompletion("gpt-4o", MESSAGES, caching=True)
    assert provider.hits() == 1
    assert response._hidden_params["response_cost"] in (0.003, 0.0)  # the old cost on 1.95 and 1.106
    second = answer(response)
    assert (first.cache_hit, second.cache_hit, second.cost) == (False, True, 0.0)


# --- made by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({"status": "completed", "output": []}, ("stop",)),
        ({"status": "completed", "output": [{"type": "function_call"}]}, ("tool_calls",)),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ("length",)),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ("content_filter",)),
        ({"status": "incomplete", "incomplete_details": None}, ()),
        ({"status": "failed"}, ("error",)),
        ({"status": "cancelled"}, ("cancelled",)),
        ({"status": "in_progress"}, ()),
        ({"status": None}, ()),
        ({"stop_reason": "max_tokens"}, ("max_tokens",)),
        ({"stop_reason": None}, ()),
        ({"choices": []}, ()),
        ({"choices": "stop"}, ()),
        ({"choices": [None, {"finish_reason": 3}, {"finish_reason": "stop"}]}, ("stop",)),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, ("MAX_TOKENS",)),
        ({"choices": [{"finish_reason": "stop"}] * 100}, ("stop",) * 64),
    ],
)
def test_finish_reasons(body: dict[str, object], reasons: tuple[str, ...]) -> None:
    assert answer(body).finish_reasons == reasons


WRAPPED = "resp_bGl0ZWxsbTpjdXN0b21fbGxtX3Byb3ZpZGVyOm9wZW5haTttb2RlbF9pZDpkZXAtYTtyZXNwb25zZV9pZDpyZXNwXzE="
UUID = "chatcmpl-ba73c730-1c11-4b49-9841-3e5b83e80ab5"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": "chatcmpl-1"}, "chatcmpl-1"),
        ({"id": WRAPPED}, "resp_1"),
        ({"id": WRAPPED[:30]}, WRAPPED[:30]),
        ({"id": WRAPPED[:29]}, WRAPPED[:29]),
        ({"id": UUID}, UUID),
        ({"id": UUID, "_hidden_params": {"litellm_model_name": "groq/llama"}}, UUID),
        ({"id": UUID, "_hidden_params": {"litellm_model_name": "anthropic/claude"}}, None),
        ({"id": UUID, "_hidden_params": {"custom_llm_provider": "bedrock"}}, None),
        ({"id": "chatcmpl-1", "_hidden_params": {"custom_llm_provider": "bedrock"}}, "chatcmpl-1"),
        ({"responseId": "g-1"}, "g-1"),
        ({"id": 3}, None),
        ({"id": "a\ud800"}, "a?"),
    ],
)
def test_response_id(body: dict[str, object], expected: str | None) -> None:
    assert answer(body).response_id == expected


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, NO_TOKENS),
        ({}, NO_TOKENS),
        ("usage", NO_TOKENS),
        ({"prompt_tokens": 5, "completion_tokens": 2}, Tokens(5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 0}, Tokens(5, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 2}, Tokens(None, 2)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, NO_TOKENS),
        ({"prompt_tokens": "5", "completion_tokens": True}, NO_TOKENS),
        ({"prompt_tokens": -1, "completion_tokens": 2.0}, NO_TOKENS),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}, Tokens(5, None, 0)),
        ({"prompt_tokens": 5, "cache_read_input_tokens": 3}, Tokens(5, None, 3)),
        ({"prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 0}}, Tokens(5, None, None, 0)),
        ({"prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 2}}, Tokens(5)),
        (
            {
                "input_tokens": 5,
                "output_tokens": 2,
                "input_tokens_details": {"cached_tokens": 1},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            Tokens(5, 2, 1, 1),
        ),
        ({"input_tokens": 5, "output_tokens": 2, "input_tokens_details": None}, Tokens(5, 2)),
        ({"input_tokens": 5, "output_tokens": 2}, Tokens(5, 2)),
        (
            {
                "input_tokens": 5,
                "output_tokens": 2,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 1,
            },
            Tokens(9, 2, 3),
        ),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}, Tokens(5, 2)),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10},
            Tokens(5, 5, None, 3),
        ),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 10},
            Tokens(5, 5, None, 3),
        ),
        (
            {"prompt_token_count": 5, "candidates_token_count": 2, "cached_content_token_count": 4},
            Tokens(5, 2, 4),
        ),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 3}, Tokens(5, 3, None, 3)),
        (  # sums beyond 64 bits, which no exporter can carry
            {"promptTokenCount": 5, "candidatesTokenCount": 2**63 - 1, "thoughtsTokenCount": 1},
            Tokens(5, None, None, 1),
        ),
        (
            {"input_tokens": 2**63 - 1, "cache_read_input_tokens": 1, "output_tokens": 2},
            Tokens(None, 2, 1),
        ),
        (SimpleNamespace(prompt_tokens=5, completion_tokens=2), Tokens(5, 2)),
        (litellm.Usage(prompt_tokens=5, completion_tokens=2), Tokens(5, 2)),
    ],
)
def test_tokens(usage: object, tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens


def test_tokens_of_a_rerank() -> None:
    facts = answer({"meta": {"tokens": {"input_tokens": 5, "output_tokens": None}}})
    assert (facts.input_tokens, facts.output_tokens) == (5, None)
    assert answer({"meta": None}).input_tokens is None


class Raising:
    """Hides even its own ``__dict__``."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError


class Evil(dict[str, object]):
    def get(self, *_: object) -> object:
        raise RuntimeError


LOOP: dict[str, Any] = {}
LOOP.update(usage=LOOP, choices=[LOOP], _hidden_params=LOOP, meta=LOOP, id=LOOP, output=LOOP, prompt_tokens=LOOP)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(None, id="none"),
        pytest.param(3, id="int"),
        pytest.param("text", id="str"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param([1], id="list"),
        pytest.param(object(), id="slots"),
        pytest.param(Raising(), id="raising"),
        pytest.param(Evil(usage=1), id="evil dict"),
        pytest.param(LOOP, id="loop"),
        pytest.param(int, id="class"),
        pytest.param({"usage": Raising(), "choices": [Raising()], "_hidden_params": Raising()}, id="raising inside"),
        pytest.param({"_hidden_params": 3, "choices": 3, "usage": 3, "model": 3}, id="wrong types"),
        pytest.param({1: 2, None: 3}, id="odd keys"),
    ],
)
def test_odd_answers_say_nothing(odd: object) -> None:
    assert answer(odd) == AnswerFacts()


def test_huge_strings_are_cut() -> None:
    facts = answer({"id": "x" * 10_000_000, "model": "é" * 10_000_000})
    assert facts.response_id is not None
    assert facts.response_model is not None
    assert len(facts.response_id) == len(facts.response_model) == 1024
