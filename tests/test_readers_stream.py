"""Streams of every kind, over real HTTP; and chunks made by hand."""

import importlib.util
import json
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import litellm
import pytest
from litellm import Router
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

from traced_router import _read_stream
from traced_router._facts import AnswerFacts
from traced_router._read_sse import EventReader
from traced_router._readers import StreamReader, answer
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Answer, ToolCall

MESSAGES = [{"role": "user", "content": "hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
ANSWER = Answer("hello big world", input_tokens=1000, output_tokens=100, cached_tokens=400, reasoning_tokens=30)
USAGE = {"stream_options": {"include_usage": True}}

needs_proxy = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("orjson", "backoff", "redis")),
    reason="litellm imports its proxy for native streams",
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


Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "chat": lambda r, **k: r.acompletion("gpt-4o", MESSAGES, **k),
    "text": lambda r, **k: r.atext_completion("gpt-4o", prompt="hi", **k),
    "responses": lambda r, **k: r.aresponses(model="gpt-4o", input="hi", **k),
    "messages": lambda r, **k: r.aanthropic_messages(model="gpt-4o", messages=MESSAGES, max_tokens=5, **k),
    "gemini": lambda r, **k: (r.agenerate_content_stream if k else r.agenerate_content)(
        model="gpt-4o", contents=CONTENTS
    ),
}


async def read(stream: Any, reader: StreamReader | None = None) -> tuple[StreamReader, list[bool]]:
    reader = reader or StreamReader()
    return reader, [reader.chunk(chunk) async for chunk in stream]


KINDS = [
    pytest.param("chat", "openai/gpt-4o", USAGE, id="openai"),
    pytest.param("chat", "azure/gpt-4o", {**USAGE, "api_version": "2024-06-01"}, id="azure"),
    pytest.param("chat", "anthropic/claude-sonnet-4-5", {}, id="anthropic"),
    pytest.param("chat", "anthropic/claude-sonnet-4-5", USAGE, id="anthropic with usage"),
    pytest.param("chat", "gemini/gemini-2.5-flash", {}, id="gemini"),
    pytest.param("chat", "gemini/gemini-2.5-flash", USAGE, id="gemini with usage"),
    pytest.param("responses", "openai/gpt-4o", {}, id="responses"),
    pytest.param("messages", "anthropic/claude-sonnet-4-5", {}, id="messages", marks=needs_proxy),
    pytest.param("messages", "openai/gpt-4o", {}, id="messages bridged", marks=needs_proxy),
    pytest.param("gemini", "gemini/gemini-2.5-flash", {}, id="generate content", marks=needs_proxy),
]
PRICES = [
    pytest.param({}, id="litellm's price"),
    pytest.param({"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}, id="custom price"),
]


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize(("call", "model", "extra"), KINDS)
async def test_a_stream_says_what_an_answer_says(
    provider: FakeProvider, call: str, model: str, extra: dict[str, Any], price: dict[str, float]
) -> None:
    """The same tokens, and the same cost as litellm puts on an answer that is no stream."""
    name = f"stream-{call}-{model}-{len(extra)}-{len(price)}".replace("/", "-")
    made = router(provider, model, name, **price)
    whole = answer(await CALLS[call](made, **{k: v for k, v in extra.items() if k != "stream_options"}), name)
    stream = await CALLS[call](made, stream=True, **extra)
    reader, content = await read(stream)
    facts = reader.finish(stream, deployment_id=name)

    assert any(content)
    assert (facts.input_tokens, facts.output_tokens) == (1000, 100)
    assert facts.cache_read_tokens == whole.cache_read_tokens or call == "messages"  # a bridge on 1.95 loses it
    assert facts.reasoning_tokens == whole.reasoning_tokens
    assert facts.finish_reasons == whole.finish_reasons
    assert facts.response_model == whole.response_model
    assert whole.cost is not None
    assert facts.cost == pytest.approx(whole.cost)
    assert reader.finish(stream, deployment_id=name) == facts


@pytest.mark.parametrize(
    ("call", "model", "extra", "content"),
    [
        ("chat", "openai/gpt-4o", USAGE, [True, True, True, False, False]),
        ("chat", "openai/gpt-4o", {}, [True, True, True, False]),
        ("text", "text-completion-openai/gpt-3.5-turbo-instruct", {}, [True, True, True, False]),
        ("responses", "openai/gpt-4o", {}, [False] * 4 + [True] * 3 + [False] * 4),
    ],
)
async def test_which_chunks_have_content(
    provider: FakeProvider, call: str, model: str, extra: dict[str, Any], content: list[bool]
) -> None:
    name = f"content-{call}-{len(extra)}"
    assert (await read(await CALLS[call](router(provider, model, name), stream=True, **extra)))[1] == content


async def test_tool_calls_are_content(provider: FakeProvider) -> None:
    provider.default("stream-tools", Answer("", tool_calls=[ToolCall("look", '{"at": 1}')]))
    stream = await CALLS["chat"](router(provider, "openai/gpt-4o", "stream-tools"), stream=True)
    reader, content = await read(stream)
    assert content[0] is True
    assert reader.finish(stream).finish_reasons == ("tool_calls",)


async def test_without_usage_nothing_is_estimated(provider: FakeProvider) -> None:
    """litellm counts with a tokenizer of its own here (1.95, 1.109), or fills in zeros (1.106)."""
    stream = await CALLS["chat"](router(provider, "openai/gpt-4o", "stream-none"), stream=True)
    reader, _ = await read(stream)
    facts = reader.finish(stream)
    assert facts == AnswerFacts(facts.response_id, "gpt-4o", ("stop",))
    assert facts.response_id is not None


async def test_text_completion(provider: FakeProvider) -> None:
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    made = router(provider, model, "stream-text")
    stream = await CALLS["text"](made, stream=True, **USAGE)
    reader, _ = await read(stream)
    facts = reader.finish(stream, deployment_id="stream-text")
    assert (facts.finish_reasons, facts.cost is None) == (("stop",), False)
    assert facts.input_tokens in (1000, 8)  # 1.95 throws the provider's usage away
    stream = await CALLS["text"](made, stream=True)
    reader, _ = await read(stream)
    facts = reader.finish(stream)
    assert (facts.input_tokens, facts.output_tokens, facts.cost) == (None, None, None)


def test_a_synchronous_stream(provider: FakeProvider) -> None:
    made = router(provider, "openai/gpt-4o", "stream-sync")
    stream = made.completion("gpt-4o", MESSAGES, stream=True, **USAGE)
    reader = StreamReader()
    assert [reader.chunk(chunk) for chunk in stream] == [True, True, True, False, False]
    facts = reader.finish(stream)
    assert (facts.input_tokens, facts.output_tokens) == (1000, 100)
    assert facts.cost == pytest.approx(0.003)


async def test_an_unknown_model_has_no_cost(provider: FakeProvider) -> None:
    stream = await CALLS["chat"](router(provider, "openai/nobody-knows", "stream-unknown"), stream=True, **USAGE)
    reader, _ = await read(stream)
    facts = reader.finish(stream)
    assert (facts.input_tokens, facts.cost) == (1000, None)


async def test_a_free_model_costs_nothing(provider: FakeProvider) -> None:
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    stream = await CALLS["chat"](router(provider, "openai/nobody", "stream-free", **free), stream=True, **USAGE)
    reader, _ = await read(stream)
    assert reader.finish(stream).cost == 0.0


async def test_a_stream_that_was_left(provider: FakeProvider) -> None:
    """Anthropic counts the input in its first event: that much is known, and one output token is not the truth."""
    stream = await CALLS["chat"](router(provider, "anthropic/claude-sonnet-4-5", "stream-left"), stream=True)
    reader = StreamReader()
    async for chunk in stream:
        reader.chunk(chunk)
        break
    facts = reader.finish(stream, complete=False)
    await stream.aclose()
    assert (facts.input_tokens, facts.output_tokens, facts.cache_read_tokens) == (1000, None, 400)
    assert (facts.finish_reasons, facts.cost) == ((), None)
    assert facts.response_model == "claude-sonnet-4-5"


async def test_a_stream_that_is_gone(provider: FakeProvider) -> None:
    stream = await CALLS["chat"](router(provider, "openai/gpt-4o", "stream-gone"), stream=True, **USAGE)
    reader, _ = await read(stream)
    facts = reader.finish(None, complete=False)
    assert (facts.input_tokens, facts.output_tokens) == (1000, 100)  # its last words had come
    assert facts.cost == pytest.approx(0.003)  # a chunk says whose it is


async def test_the_model_that_answered(provider: FakeProvider) -> None:
    provider.default("stream-model", Answer(response_model="gpt-4o-2024-08-06"))
    stream = await CALLS["chat"](router(provider, "openai/gpt-4o", "stream-model"), stream=True)
    reader, _ = await read(stream)
    # litellm puts the model that was asked for on the chunks, and keeps the provider's beside it from 1.106 on.
    assert reader.finish(stream).response_model in ("gpt-4o-2024-08-06", "gpt-4o")


# --- chunks made by hand ---------------------------------------------------------------------


def chunk(*deltas: dict[str, object], reasons: tuple[str | None, ...] = (), **more: Any) -> ModelResponseStream:
    choices = [
        StreamingChoices(index=i, delta=Delta(**delta), finish_reason=reasons[i] if i < len(reasons) else None)
        for i, delta in enumerate(deltas)
    ]
    made = ModelResponseStream(id="c-1", model="m", choices=choices, **more)
    made.choices = choices  # an empty list too, as in a chunk that has only the usage
    return made


@pytest.mark.parametrize(
    ("given", "content"),
    [
        (chunk({"content": "x"}), True),
        (chunk({"content": ""}), False),
        (chunk({"role": "assistant"}), False),
        (chunk({"reasoning_content": "x"}), True),
        (chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}, "type": "function"}]}), True),
        (chunk({"content": ""}, {"content": "x"}), True),
        (chunk(), False),
        ({"choices": [{"delta": {"content": "x"}}]}, True),
        ({"choices": [{"delta": {"role": "assistant"}}]}, False),
        ({"choices": [{"text": "x"}]}, True),
        ({"candidates": [{"content": {"parts": []}}]}, True),
        ({"type": "response.output_text.delta", "delta": "x"}, True),
        ({"type": "response.created", "response": {}}, False),
        (SimpleNamespace(type="response.output_text.delta"), True),
        (SimpleNamespace(type=3), False),
        (b'event: content_block_delta\ndata: {"delta": {"text": "x"}}\n\n', True),
        (b"event: ping\ndata: {}\n\n", False),
        ('data: {"choices": []}\n\n', True),
        ('data: {"candidates": [{"content": {"parts": []}}]}\n', True),
        ('data: {"type": "response.output_text.delta"}\n', True),
        ("\ud800\n", False),
    ],
    ids=repr,
)
def test_content(given: object, content: bool) -> None:  # noqa: FBT001
    assert StreamReader().chunk(given) is content


def test_reasons_of_several_choices() -> None:
    reader = StreamReader()
    reader.chunk(chunk({"content": "a"}, {"content": "b"}, reasons=(None, "length")))
    reader.chunk(chunk({}, {}, reasons=("stop",)))
    assert set(reader.finish(None).finish_reasons) == {"stop", "length"}


def test_reasons_are_bounded() -> None:
    reader = StreamReader()
    for i in range(100):
        reader.chunk({"choices": [{"index": i, "finish_reason": "stop"}]})
    assert reader.finish(None).finish_reasons == ("stop",) * 64


def kept(*chunks: object, **more: object) -> SimpleNamespace:
    """A stream with the chunks that litellm keeps of it."""
    return SimpleNamespace(chunks=list(chunks), _hidden_params={"model_id": "nobody"}, **more)


def used(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


@pytest.mark.parametrize(
    ("chunks", "tokens"),
    [
        ([{}, {}], (None, None)),
        ([used(0, 0)], (None, None)),
        ([used(5, 1), {}, used(0, 7)], (5, 7)),
        ([used(5, 1), {}, used(5, 7)], (5, 7)),
        ([used(5, 1), *[{}] * 100, used(0, 7)], (5, 7)),
        ([{}] * 50 + [used(5, 7)] + [{}] * 50, (None, None)),
    ],
)
def test_usage_of_kept_chunks(chunks: list[dict[str, Any]], tokens: tuple[int | None, int | None]) -> None:
    facts = StreamReader().finish(kept(*chunks))
    assert (facts.input_tokens, facts.output_tokens) == tokens


def test_a_cost_of_litellms_is_taken_from_the_usage() -> None:
    reader = StreamReader()
    reader.chunk({"choices": [{"finish_reason": "stop"}], **used(5, 7, cost=0.25)})
    assert reader.finish(kept(used(5, 7))).cost == 0.25
    assert reader.finish(kept(used(5, 7, cost=0.25))).cost is None  # a provider's word, for litellm to judge
    assert reader.finish(kept(used(6, 7))).cost is None  # another usage


@pytest.mark.parametrize("stream", [kept(used(5, 7), logging_obj=3), kept(used(5, 7), logging_obj=object())])
def test_a_cost_that_cannot_be_computed(stream: object) -> None:
    facts = StreamReader().finish(stream)
    assert (facts.input_tokens, facts.output_tokens, facts.cost) == (5, 7, None)


def test_a_stream_that_hides_what_it_has_says_what_its_chunks_said() -> None:
    reader = StreamReader()
    reader.chunk({"id": "c-1", "choices": [{"finish_reason": "stop"}], **used(5, 7)})
    facts = reader.finish(Raising())
    assert facts == AnswerFacts("c-1", None, ("stop",), 5, 7)


def test_a_stream_in_wrappers() -> None:
    inner = kept(used(5, 7))
    for name in ("inner", "_inner", "_source_iterator", "completion_stream"):
        inner = SimpleNamespace(**{name: inner})
    assert StreamReader().finish(inner).input_tokens == 5
    loop = SimpleNamespace()
    loop.inner = loop
    assert StreamReader().finish(loop) == AnswerFacts()


def test_a_responses_stream_that_nobody_watched() -> None:
    response = {"id": "r-1", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    stream = SimpleNamespace(completed_response=SimpleNamespace(response=response))
    assert StreamReader().finish(stream) == AnswerFacts("r-1", None, ("length",))


def test_a_responses_stream_that_was_left() -> None:
    reader = StreamReader()
    reader.chunk({"type": "response.created", "response": {"id": "r-1", "model": "m", "status": "in_progress"}})
    assert reader.finish(None, complete=False) == AnswerFacts("r-1", "m")


def test_cache_hit() -> None:
    stream = SimpleNamespace(_hidden_params={"cache_hit": True, "response_cost": 0.5})
    assert StreamReader().finish(stream) == AnswerFacts(cost=0.0, cache_hit=True)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: e\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "stop_reason": None,
        "usage": {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 3},
    },
}
TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'say "usage" twice'}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7, "input_tokens": 0}}
MESSAGE = AnswerFacts("msg_1", "claude-sonnet-4-5", ("end_turn",), 8, 7, 3)


class TestBytes:
    @pytest.mark.parametrize("size", [1, 7, 64, 10_000])
    def test_cut_anywhere(self, size: int) -> None:
        raw = sse(START, TEXT, TEXT, END, {"type": "message_stop"})
        reader = StreamReader()
        content = [reader.chunk(raw[i : i + size]) for i in range(0, len(raw), size)]
        assert any(content)
        assert reader.finish(None) == MESSAGE

    def test_the_cache_is_priced_as_anthropic_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token written to the cache costs more, one read from it less: 5, 3 and 4 at $1, $0.5 and $2, out $10."""
        price = {
            "litellm_provider": "anthropic",
            "mode": "chat",
            "input_cost_per_token": 1.0,
            "output_cost_per_token": 10.0,
            "cache_read_input_token_cost": 0.5,
            "cache_creation_input_token_cost": 2.0,
        }
        monkeypatch.setitem(litellm.model_cost, "stream-cached", price)
        start = json.loads(json.dumps(START))
        start["message"]["usage"]["cache_creation_input_tokens"] = 4
        reader = StreamReader()
        reader.chunk(sse(start, TEXT, END))
        facts = reader.finish(None, deployment_id="stream-cached")
        assert (facts.input_tokens, facts.cost) == (12, pytest.approx(5 * 1.0 + 3 * 0.5 + 4 * 2.0 + 7 * 10.0))

    def test_text_and_unfinished_lines(self) -> None:
        reader = StreamReader()
        reader.chunk(sse(START).decode())
        reader.chunk(sse(END).decode().rstrip())
        assert reader.finish(None) == MESSAGE

    def test_left(self) -> None:
        reader = StreamReader()
        reader.chunk(sse(START, TEXT))
        assert reader.finish(None, complete=False) == AnswerFacts("msg_1", "claude-sonnet-4-5", (), 8, None, 3)

    def test_gemini(self) -> None:
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}
        event = {"candidates": [{"finishReason": "STOP"}], "responseId": "g-1", "modelVersion": "gemini"}
        reader = StreamReader()
        reader.chunk(sse({"candidates": [{}]}, {**event, "usageMetadata": usage}))
        assert reader.finish(None) == AnswerFacts("g-1", "gemini", ("STOP",), 5, 5, None, 3)

    def test_openai(self) -> None:
        event = {"id": "c-1", "model": "m", "choices": [{"finish_reason": "stop"}], **used(5, 7)}
        reader = StreamReader()
        reader.chunk(sse(event))
        reader.chunk(b"data: [DONE]\n\n")
        assert reader.finish(None) == AnswerFacts("c-1", "m", ("stop",), 5, 7)

    @pytest.mark.parametrize(
        "raw",
        [b"", b"\n", b'data: {"usage"', b'data: "usage"\n', b'data: ["usage"]\n', b'data: {"usage": 3}\n', b"\xff\n"],
    )
    def test_garbage(self, raw: bytes) -> None:
        reader = StreamReader()
        assert reader.chunk(raw) is False
        assert reader.finish(None) == AnswerFacts()

    def test_an_endless_line_is_not_kept(self) -> None:
        reader = EventReader()
        for _ in range(5):
            reader.chunk(b"x" * (1 << 20))
        assert len(reader._rest) == 1 << 20


class Raising:
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(None, id="none"),
        pytest.param(3, id="int"),
        pytest.param([1], id="list"),
        pytest.param(object(), id="slots"),
        pytest.param(Raising(), id="raising"),
        pytest.param({"choices": 3}, id="wrong type"),
        pytest.param({"choices": [Raising()]}, id="raising inside"),
        pytest.param(SimpleNamespace(choices=3), id="object of wrong type"),
        pytest.param(SimpleNamespace(choices=[SimpleNamespace(delta=3, index=[])]), id="wrong type inside"),
        pytest.param(SimpleNamespace(choices=[SimpleNamespace(finish_reason="x", index=[])]), id="unhashable"),
    ],
)
def test_odd_chunks_and_streams_say_nothing(odd: object) -> None:
    reader = StreamReader()
    assert reader.chunk(odd) is False
    assert reader.finish(odd) == AnswerFacts()
    assert reader.finish(odd, complete=False) == AnswerFacts()


def test_a_fault_in_here_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_stream, "stream_answer", None)
    assert StreamReader().finish(None) == AnswerFacts()
