"""The fake provider as litellm sees it: every endpoint's answers are parsed, every fault is taken for what it is."""

import importlib.util
import io
from collections.abc import AsyncIterator, Iterator

import httpx
import litellm
import pytest

from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    Behaviour,
    ContentPolicy,
    ContextWindowExceeded,
    DieMidStream,
    Drop,
    ErrorEventMidStream,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    ToolCall,
    Unauthorized,
)

pytestmark = [  # in litellm's own code, where they would end a stream
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

MESSAGES = [{"role": "user", "content": "hi"}]
ANSWER = Answer("hello big world", cached_tokens=3, reasoning_tokens=2)
TOOL = ToolCall("look", '{"at": "x"}')
CHAT_MODELS = ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"]


PROXY = ("orjson", "backoff", "redis")
needs_proxy = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PROXY),
    reason=f"litellm imports its proxy for the accounts of native streams, and that needs {', '.join(PROXY)}",
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(default=ANSWER) as provider:
        yield provider


@pytest.fixture(autouse=True)
async def close_connections() -> AsyncIterator[None]:
    """litellm keeps its clients for ever, and their sockets would be found open when the loop is gone.

    Its own ``close_litellm_async_clients`` closes clients that it uses again (1.95); a transport opens anew.
    """
    yield
    for client in (*litellm.in_memory_llm_clients_cache.cache_dict.values(), litellm.module_level_aclient):
        transport = getattr(getattr(client, "client", None) or getattr(client, "_client", None), "_transport", None)
        if isinstance(transport, httpx.AsyncBaseTransport):
            await transport.aclose()


@pytest.fixture
def to(provider: FakeProvider) -> dict[str, object]:
    """Where a call goes, with none of the client's own retries."""
    return {"api_base": provider.api_base("dep-a"), "api_key": "sk-fake", "max_retries": 0}


@pytest.mark.parametrize("model", CHAT_MODELS)
async def test_chat(to: dict[str, object], model: str) -> None:
    response = await litellm.acompletion(model, MESSAGES, **to)
    assert response.choices[0].message.content == "hello big world"
    assert response.choices[0].finish_reason == "stop"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (11, 7)
    assert response.usage.prompt_tokens_details.cached_tokens == 3
    assert response.model == model.partition("/")[2]


@pytest.mark.parametrize("model", CHAT_MODELS)
async def test_chat_as_a_stream(to: dict[str, object], model: str) -> None:
    stream = await litellm.acompletion(model, MESSAGES, stream=True, stream_options={"include_usage": True}, **to)
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [piece for piece in pieces if piece] == ["hello ", "big ", "world"]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 7)


@pytest.mark.parametrize("model", CHAT_MODELS)
@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls(provider: FakeProvider, to: dict[str, object], model: str, *, stream: bool) -> None:
    provider.default("dep-a", Answer(tool_calls=[TOOL]))
    response = await litellm.acompletion(model, MESSAGES, stream=stream, **to)
    if stream:
        response = litellm.stream_chunk_builder([chunk async for chunk in response])
    (call,) = response.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "x"}')
    assert response.choices[0].finish_reason == "tool_calls"


def test_chat_without_a_loop(to: dict[str, object]) -> None:
    response = litellm.completion("openai/gpt-4o", MESSAGES, **to)
    assert response.choices[0].message.content == "hello big world"


async def test_responses(to: dict[str, object]) -> None:
    response = await litellm.aresponses(model="openai/gpt-4o", input="hi", **to)
    assert response.output[0].content[0].text == "hello big world"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)
    events = [event async for event in await litellm.aresponses(model="openai/gpt-4o", input="hi", stream=True, **to)]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "hello big world"
    assert events[-1].response.usage.input_tokens == 11


async def test_text_completion(to: dict[str, object]) -> None:
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    response = await litellm.atext_completion(prompt="hi", model=model, **to)
    assert response.choices[0].text == "hello big world"
    stream = await litellm.atext_completion(prompt="hi", model=model, stream=True, **to)
    assert "".join([chunk.choices[0].text or "" async for chunk in stream]) == "hello big world"


async def test_anthropic_messages(to: dict[str, object]) -> None:
    response = await litellm.anthropic_messages(**anthropic_call(to))
    assert response["content"] == [{"type": "text", "text": "hello big world"}]
    assert response["usage"]["input_tokens"] == 8


@needs_proxy
async def test_anthropic_messages_as_a_stream(to: dict[str, object]) -> None:
    stream = await litellm.anthropic_messages(stream=True, **anthropic_call(to))
    raw = b"".join([chunk async for chunk in stream])
    assert raw.count(b"event: content_block_delta\n") == 3
    assert raw.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def anthropic_call(to: dict[str, object]) -> dict[str, object]:
    del to["max_retries"]
    return {"model": "anthropic/claude-sonnet-4-5", "messages": MESSAGES, "max_tokens": 9, **to}


@needs_proxy
async def test_generate_content(to: dict[str, object]) -> None:
    del to["max_retries"]
    call = {"model": "gemini/gemini-2.5-flash", "contents": [{"role": "user", "parts": [{"text": "hi"}]}], **to}
    response = await litellm.google_genai.agenerate_content(**call)
    assert response.candidates[0]["content"]["parts"] == [{"text": "hello big world"}]
    chunks = [chunk async for chunk in await litellm.google_genai.agenerate_content_stream(**call)]
    assert b"".join(chunks).count(b"data: ") == 4


async def test_embeddings_and_rerank(to: dict[str, object]) -> None:
    embedding = await litellm.aembedding("openai/text-embedding-3-small", ["a", "b"], **to)
    assert [entry["embedding"] for entry in embedding.data] == [[0.1, 0.2, 0.3]] * 2
    ranked = await litellm.arerank("cohere/rerank-v3.5", "q", ["a", "b"], top_n=1, **to)
    assert [dict(result) for result in ranked.results] == [{"index": 0, "relevance_score": 1.0}]


async def test_images_audio_and_moderation(to: dict[str, object]) -> None:
    del to["max_retries"]
    image = await litellm.aimage_generation(prompt="x", model="openai/gpt-image-1", **to)
    assert image.data[0].b64_json == "aGVsbG8="
    picture = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    edited = await litellm.aimage_edit(image=picture, prompt="x", model="openai/gpt-image-1", **to)
    assert edited.data[0].b64_json == "aGVsbG8="
    recording = io.BytesIO(b"RIFF")
    recording.name = "a.wav"
    assert (await litellm.atranscription("openai/whisper-1", recording, **to)).text == "hello big world"
    assert (await litellm.aspeech("openai/tts-1", "hi", "alloy", **to)).content == b"ID3hello big world"
    moderation = await litellm.amoderation(input="hi", model="openai/omni-moderation-latest", **to)
    assert moderation.results[0].flagged is False


async def test_files_batches_and_vector_stores(to: dict[str, object]) -> None:
    del to["max_retries"]
    to["custom_llm_provider"] = "openai"
    assert (await litellm.acreate_file(file=("a.jsonl", b"{}"), purpose="batch", **to)).id == "file-1"
    batch = await litellm.acreate_batch("24h", "/v1/chat/completions", "file-1", **to)
    assert (batch.id, batch.status) == ("batch_1", "in_progress")
    assert (await litellm.vector_stores.acreate(name="x", **to))["id"] == "vs_1"
    found = await litellm.vector_stores.asearch("vs_1", "q", **to)
    assert found["data"][0]["content"] == [{"type": "text", "text": "hello big world"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (RateLimited(retry_after=1), litellm.RateLimitError),
        (ServerError(), litellm.InternalServerError),
        (ServerError(502), litellm.BadGatewayError),
        (ServerError(503), litellm.ServiceUnavailableError),
        (BadRequest(), litellm.BadRequestError),
        (ContextWindowExceeded(), litellm.ContextWindowExceededError),
        (ContentPolicy(), litellm.ContentPolicyViolationError),
        (Unauthorized(), litellm.AuthenticationError),
        (NotFound(), litellm.NotFoundError),
        (Drop(), litellm.InternalServerError),
        (Drop(reset=True), litellm.InternalServerError),
    ],
)
async def test_what_fails_before_the_first_byte(
    provider: FakeProvider, to: dict[str, object], behaviour: Behaviour, error: type[Exception], *, stream: bool
) -> None:
    provider.default("dep-a", behaviour)
    with pytest.raises(error) as raised:
        await litellm.acompletion("openai/gpt-4o", MESSAGES, stream=stream, **to)
    assert type(raised.value) is error
    assert provider.hits() == 1


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (ContextWindowExceeded(), litellm.ContextWindowExceededError),
        (ContentPolicy(), litellm.ContentPolicyViolationError),
        (RateLimited(), litellm.RateLimitError),
    ],
)
async def test_faults_are_known_in_other_protocols(
    provider: FakeProvider, to: dict[str, object], model: str, behaviour: Behaviour, error: type[Exception]
) -> None:
    provider.default("dep-a", behaviour)
    with pytest.raises(error):
        await litellm.acompletion(model, MESSAGES, **to)


@pytest.mark.parametrize("model", CHAT_MODELS)
@pytest.mark.parametrize(
    ("behaviour", "pieces"),
    [
        (DieMidStream(0), []),
        (ErrorEventMidStream(0), []),
        (ErrorEventMidStream(2, answer=ANSWER), ["hello ", "big "]),
    ],
)
async def test_what_fails_inside_a_stream(
    provider: FakeProvider, to: dict[str, object], model: str, behaviour: Behaviour, pieces: list[str]
) -> None:
    provider.default("dep-a", behaviour)
    stream = await litellm.acompletion(model, MESSAGES, stream=True, **to)
    for piece in pieces:
        assert (await anext(stream)).choices[0].delta.content == piece
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        await anext(stream)


async def test_a_malformed_answer_is_an_error(provider: FakeProvider, to: dict[str, object]) -> None:
    provider.default("dep-a", Malformed())
    with pytest.raises(litellm.InternalServerError):
        await litellm.acompletion("openai/gpt-4o", MESSAGES, **to)


async def test_a_router_takes_deployments_as_they_are(provider: FakeProvider) -> None:
    router = litellm.Router([provider.deployment("dep-a", group="g"), provider.deployment("dep-b", group="g")])
    provider.default("dep-a", ServerError())
    provider.default("dep-b", ServerError())
    provider.script("dep-b", [Answer("from b")])
    provider.script("dep-a", [Answer("from a")])
    response = await router.acompletion("g", MESSAGES)
    assert response.choices[0].message.content.removeprefix("from ") == response._hidden_params["model_id"][-1]
    getattr(router, "retire", router.discard)()  # its new name since 1.109
