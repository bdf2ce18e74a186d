"""The fake provider over plain HTTP: what each behaviour puts on the wire, and what the log says of it."""

import asyncio
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Iterator

import httpx
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
    Hang,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    SlowFirstByte,
    Status,
    ToolCall,
    Unauthorized,
)
from traced_router.testing._provider_gate import Gate

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
TOOLS = (ToolCall("look", '{"at":"x"}'), ToolCall("leave", id="call-2"))

# A deployment's name goes into a path, so one of them has what a path must not have.
DEPLOYMENT = "dep/a b"
CHAT_PATH = "/chat/completions"


# httpx makes a context that loads every root certificate, for each client and for no use here.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(clock=iter(range(1000)).__next__) as provider:
        yield provider


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=provider.api_base(DEPLOYMENT), trust_env=False, verify=NO_TLS) as client:
        yield client


@pytest.fixture
async def aclient(provider: FakeProvider) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=provider.api_base(DEPLOYMENT), trust_env=False, verify=NO_TLS) as client:
        yield client


def events(text: str) -> list[dict[str, object]]:
    """The JSON of a stream's events, in order; ``[DONE]`` is none."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def content(text: str) -> str:
    """The text of an OpenAI chat stream."""
    choices = [choice for event in events(text) for choice in event["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


class TestAnswers:
    def test_a_chat_completion_repeats_the_model_and_counts_its_ids(self, client: httpx.Client) -> None:
        first, second = (client.post(CHAT_PATH, json=CHAT) for _ in range(2))
        assert first.json() == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }
        assert second.json()["id"] == "chatcmpl-2"
        assert (first.headers["x-request-id"], second.headers["x-request-id"]) == ("req-1", "req-2")

    def test_an_answer_says_all_that_it_was_given(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(
            DEPLOYMENT,
            Answer(
                input_tokens=5,
                output_tokens=4,
                cached_tokens=3,
                reasoning_tokens=2,
                response_model="gpt-4o-2024-08-06",
                finish_reason="length",
                headers={"x-ratelimit-remaining-requests": "9"},
            ),
        )
        response = client.post(CHAT_PATH, json=CHAT)
        body = response.json()
        assert body["model"] == "gpt-4o-2024-08-06"
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"] == {
            "prompt_tokens": 5,
            "completion_tokens": 4,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
        assert response.headers["x-ratelimit-remaining-requests"] == "9"

    def test_usage_can_be_missing(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer(usage=False))
        assert "usage" not in client.post(CHAT_PATH, json=CHAT).json()
        assert "usage" not in client.post("/embeddings", json={"input": "x"}).json()
        assert "usage" not in client.post("/images/generations", json={"prompt": "x"}).json()

    def test_tool_calls_replace_or_follow_the_text(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [Answer("", tool_calls=TOOLS), Answer(tool_calls=TOOLS)])
        only, beside = (client.post(CHAT_PATH, json=CHAT).json()["choices"][0] for _ in range(2))
        assert (only["message"]["content"], only["finish_reason"]) == (None, "tool_calls")
        assert [call["function"]["name"] for call in only["message"]["tool_calls"]] == ["look", "leave"]
        assert beside["message"]["content"] == "hello"

    def test_the_pieces_of_a_stream_are_the_text_of_a_whole_answer(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        provider.default(DEPLOYMENT, Answer("not this", chunks=["he", "llo"]))
        assert client.post(CHAT_PATH, json=CHAT).json()["choices"][0]["message"]["content"] == "hello"
        assert content(client.post(CHAT_PATH, json=STREAM).text) == "hello"

    @pytest.mark.parametrize(
        ("answer", "pieces"),
        [
            (Answer("a b"), ["a ", "b"]),
            (Answer("a b "), ["a ", "b "]),
            (Answer(""), [""]),
            (Answer("", tool_calls=TOOLS), []),
            (Answer("a", chunks=()), []),
        ],
    )
    def test_text_is_cut_after_its_spaces(self, answer: Answer, pieces: list[str]) -> None:
        assert list(answer.pieces) == pieces

    def test_a_stream_has_roles_pieces_a_reason_and_an_end(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer("hello big world", chunk_delay=0.001))
        response = client.post(CHAT_PATH, json=STREAM)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.text.endswith("data: [DONE]\n\n")
        chunks = events(response.text)
        assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
            {"role": "assistant", "content": "hello "},
            {"content": "big "},
            {"content": "world"},
            {},
        ]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
        assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}
        assert not any("usage" in chunk for chunk in chunks)

    def test_a_stream_reports_usage_only_when_asked_and_there_is_any(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        asked = {**STREAM, "stream_options": {"include_usage": True}}
        *chunks, last = events(client.post(CHAT_PATH, json=asked).text)
        assert [chunk["usage"] for chunk in chunks] == [None, None]
        assert (last["choices"], last["usage"]["total_tokens"]) == ([], 18)
        provider.default(DEPLOYMENT, Answer(usage=False))
        assert not any("usage" in chunk for chunk in events(client.post(CHAT_PATH, json=asked).text))

    def test_a_stream_can_hold_tool_calls_or_nothing_at_all(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [Answer("", tool_calls=TOOLS), Answer(chunks=())])
        tools, nothing = (events(client.post(CHAT_PATH, json=STREAM).text) for _ in range(2))
        assert [call["id"] for call in tools[0]["choices"][0]["delta"]["tool_calls"]] == ["call-1", "call-2"]
        assert tools[1]["choices"][0]["finish_reason"] == "tool_calls"
        assert [chunk["choices"][0]["delta"] for chunk in nothing] == [{}]

    def test_text_completions_stream_too(self, client: httpx.Client) -> None:
        body = {"model": "instruct", "prompt": "hi"}
        assert client.post("/completions", json=body).json()["choices"][0]["text"] == "hello"
        chunks = events(client.post("/completions", json={**body, "stream": True}).text)
        assert [chunk["choices"][0]["text"] for chunk in chunks] == ["hello", ""]
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}

    def test_embeddings_are_one_per_input(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer(dimensions=2))
        several = client.post("/embeddings", json={"model": "e", "input": ["a", "b"]}).json()
        one = client.post("/embeddings", json={"model": "e", "input": "a"}).json()
        assert [entry["embedding"] for entry in several["data"]] == [[0.1, 0.2], [0.1, 0.2]]
        assert (len(one["data"]), one["usage"]["total_tokens"]) == (1, 11)


class TestOtherProtocols:
    def test_responses(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer(cached_tokens=3, tool_calls=TOOLS))
        body = client.post("/responses", json={"model": "gpt-4o", "input": "hi"}).json()
        assert (body["id"], body["status"]) == ("resp_1", "completed")
        assert [item["type"] for item in body["output"]] == ["message", "function_call", "function_call"]
        assert body["usage"]["input_tokens_details"] == {"cached_tokens": 3}

    def test_responses_as_events(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer("a b", tool_calls=TOOLS[:1], finish_reason="length", usage=False))
        stream = events(client.post("/responses", json={"model": "gpt-4o", "input": "hi", "stream": True}).text)
        assert [event["type"].removeprefix("response.") for event in stream] == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "incomplete",
        ]
        assert [event["sequence_number"] for event in stream] == list(range(14))
        assert stream[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
        assert stream[-1]["response"]["usage"] is None

    def test_responses_can_hold_tool_calls_alone(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer("", tool_calls=TOOLS))
        body = client.post("/responses", json={"model": "gpt-4o", "input": "hi"}).json()
        assert [item["type"] for item in body["output"]] == ["function_call", "function_call"]

    def test_responses_without_a_piece_still_have_their_frame(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        provider.default(DEPLOYMENT, Answer(chunks=()))
        stream = events(client.post("/responses", json={"input": "hi", "stream": True}).text)
        assert [event["type"] for event in stream][-1] == "response.completed"
        assert not any(event["type"].endswith(".delta") for event in stream)

    def test_anthropic_messages(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [Answer(cached_tokens=3), Answer("", tool_calls=TOOLS, usage=False)])
        text, tools = (client.post("/messages", json={"model": "claude"}).json() for _ in range(2))
        assert text["content"] == [{"type": "text", "text": "hello"}]
        assert text["usage"] == {
            "input_tokens": 8,
            "output_tokens": 7,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 0,
        }
        assert [block["type"] for block in tools["content"]] == ["tool_use", "tool_use"]
        assert (tools["stop_reason"], tools["usage"]) == ("tool_use", {"input_tokens": 0, "output_tokens": 0})
        assert client.post("/messages/count_tokens", json={}).json() == {"input_tokens": 11}

    @pytest.mark.parametrize(
        ("answer", "frame"),
        [
            (Answer("a b"), ["0 start", "ping", "0 delta", "0 delta", "0 stop"]),
            (Answer(chunks=()), []),
            (Answer(tool_calls=TOOLS[:1]), ["0 start", "ping", "0 delta", "0 stop", "1 start", "1 delta", "1 stop"]),
            (Answer("", tool_calls=TOOLS), ["0 start", "0 delta", "0 stop", "1 start", "1 delta", "1 stop"]),
        ],
    )
    def test_anthropic_blocks_open_and_close_around_their_deltas(
        self, provider: FakeProvider, client: httpx.Client, answer: Answer, frame: list[str]
    ) -> None:
        provider.default(DEPLOYMENT, answer)
        response = client.post("/messages", json={"model": "claude", "stream": True})
        first, *blocks, ending, last = events(response.text)
        assert [first["type"], ending["type"], last["type"]] == ["message_start", "message_delta", "message_stop"]
        places = [
            f"{block.get('index', '')} {block['type'].removeprefix('content_block_')}".strip() for block in blocks
        ]
        assert places == frame
        assert ending["usage"] == {"input_tokens": 11, "output_tokens": 7}
        assert "event: message_stop\ndata: " in response.text

    def test_gemini(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(
            DEPLOYMENT, [Answer(cached_tokens=3, reasoning_tokens=2), Answer("", tool_calls=TOOLS, usage=False)]
        )
        text, tools = (client.post("/models/gemini-pro:generateContent", json={}).json() for _ in range(2))
        assert text["modelVersion"] == "gemini-pro"
        assert text["usageMetadata"] == {
            "promptTokenCount": 11,
            "candidatesTokenCount": 5,
            "totalTokenCount": 18,
            "cachedContentTokenCount": 3,
            "thoughtsTokenCount": 2,
        }
        calls = tools["candidates"][0]["content"]["parts"]
        assert calls[0] == {"functionCall": {"name": "look", "args": {"at": "x"}}}
        assert tools["usageMetadata"] == {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}

    def test_bedrock(self, provider: FakeProvider, client: httpx.Client) -> None:
        both = Answer("hello", tool_calls=TOOLS, cached_tokens=3)
        provider.script(DEPLOYMENT, [both, Answer("", tool_calls=TOOLS, usage=False)])
        text, tools = (client.post("/model/amazon.nova-lite-v1%3A0/converse", json={}).json() for _ in range(2))
        assert text["output"]["message"]["content"][0] == {"text": "hello"}
        assert text["stopReason"] == "tool_use"
        assert text["usage"] == {"inputTokens": 8, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokens": 3}
        assert tools["output"]["message"]["content"][0]["toolUse"]["input"] == {"at": "x"}
        assert tools["usage"] == {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}

    def test_gemini_streams_when_the_path_says_so(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Answer("a b", tool_calls=TOOLS))
        chunks = events(client.post("/models/gemini-pro:streamGenerateContent?alt=sse", json={}).text)
        assert [len(chunk["candidates"][0]["content"]["parts"]) for chunk in chunks] == [1, 1, 2, 1]
        assert [("usageMetadata" in chunk) for chunk in chunks] == [False, False, False, True]
        assert provider.requests[-1].stream

    @pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
    def test_rerank(self, client: httpx.Client, path: str) -> None:
        all_of_them = client.post(path, json={"query": "q", "documents": ["a", "b"]}).json()["results"]
        assert all_of_them == [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": 0.5}]
        assert len(client.post(path, json={"documents": ["a", "b"], "top_n": 1}).json()["results"]) == 1
        assert len(client.post(path, json={}).json()["results"]) == 1

    def test_a_multipart_form_names_its_model(self, provider: FakeProvider, client: httpx.Client) -> None:
        files = {"file": ("a.wav", b"RIFF"), "model": (None, "whisper-1")}
        assert client.post("/audio/transcriptions", files=files).json() == {"text": "hello"}
        assert provider.requests[-1].body is None
        assert client.post("/images/edits", files={"image": ("a.png", b"PNG")}).json()["data"]

    def test_the_path_names_the_model_of_azure(self, client: httpx.Client) -> None:
        path = "/openai/deployments/gpt%2D4o/chat/completions?api-version=1"
        assert client.post(path, json={"messages": []}).json()["model"] == "gpt-4o"

    def test_resources_can_be_made_fetched_and_deleted(self, client: httpx.Client) -> None:
        assert client.get("/models").json()["data"][0]["id"] == "fake-model"
        assert client.post("/files", files={"file": b"{}"}).json()["id"] == "file-1"
        assert client.get("/files").json()["data"][0]["id"] == "file-2"
        assert json.loads(client.get("/files/file-1/content").content)["response"]["status_code"] == 200
        assert client.delete("/files/file-1").json() == {"id": "file-1", "object": "deleted", "deleted": True}
        assert client.post("/batches", json={"endpoint": "/v1/embeddings"}).json()["endpoint"] == "/v1/embeddings"
        assert client.get("/batches/batch_1").json()["status"] == "in_progress"
        assert client.post("/vector_stores", json={"name": "x"}).json()["name"] == "x"
        assert client.post("/vector_stores/vs_1/search", json={"query": "q"}).json()["search_query"] == ["q"]
        assert client.post("/vector_stores/vs_1/search", json={"query": ["q"]}).json()["search_query"] == ["q"]
        assert client.post("/moderations", json={"input": "x"}).json()["results"][0]["flagged"] is False
        assert client.post("/audio/speech", json={"input": "x"}).content == b"ID3hello"


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code", "kind", "error_code"),
        [
            (RateLimited(), 429, "requests", None),
            (ServerError(), 500, "api_error", None),
            (ServerError(503), 503, "api_error", None),
            (BadRequest(), 400, "invalid_request_error", None),
            (ContextWindowExceeded(), 400, "invalid_request_error", "context_length_exceeded"),
            (ContentPolicy(), 400, "invalid_request_error", "content_policy_violation"),
            (Unauthorized(), 401, "invalid_request_error", "invalid_api_key"),
            (NotFound(), 404, "invalid_request_error", "model_not_found"),
            (Status(418, type="teapot"), 418, "teapot", None),
        ],
    )
    def test_an_error_has_the_shape_of_openai(
        self, provider: FakeProvider, client: httpx.Client, error: Status, code: int, kind: str, error_code: str | None
    ) -> None:
        provider.default(DEPLOYMENT, error)
        response = client.post(CHAT_PATH, json=CHAT)
        assert response.status_code == code
        assert response.json() == {"error": {"message": error.message, "type": kind, "param": None, "code": error_code}}

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/messages", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}),
            (
                "/models/g:generateContent",
                {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}},
            ),
            ("/rerank", {"message": "slow down"}),
        ],
    )
    def test_each_protocol_has_its_own_shape(
        self, provider: FakeProvider, client: httpx.Client, path: str, body: dict[str, object]
    ) -> None:
        provider.default(DEPLOYMENT, RateLimited(message="slow down"))
        assert client.post(path, json={}).json() == body

    def test_a_rate_limit_says_how_long_in_three_ways(self, provider: FakeProvider, client: httpx.Client) -> None:
        date = "Wed, 21 Oct 2026 07:28:00 GMT"
        provider.script(
            DEPLOYMENT,
            [RateLimited(retry_after=1.5, retry_after_ms=1500), RateLimited(retry_after=date), RateLimited()],
        )
        both, http_date, neither = (client.post(CHAT_PATH, json=CHAT).headers for _ in range(3))
        assert (both["retry-after"], both["retry-after-ms"]) == ("1.5", "1500")
        assert (http_date["retry-after"], "retry-after-ms" in http_date) == (date, False)
        assert "retry-after" not in neither

    def test_a_body_can_be_given(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [Status(400, body={"own": 1}), Status(502, body="<html>")])
        assert client.post(CHAT_PATH, json=CHAT).json() == {"own": 1}
        assert client.post(CHAT_PATH, json=CHAT).text == "<html>"

    def test_an_unknown_endpoint_is_not_found_and_says_so(self, client: httpx.Client) -> None:
        response = client.post("/nowhere", json={})
        assert response.status_code == 404
        assert "no endpoint /dep%2Fa%20b/v1/nowhere" in response.json()["error"]["message"]

    def test_an_unknown_endpoint_takes_no_step_of_a_script(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [BadRequest()])
        assert client.get(CHAT_PATH).status_code == 404
        assert provider.remaining(DEPLOYMENT) == 1

    def test_malformed_is_no_json(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.default(DEPLOYMENT, Malformed())
        response = client.post(CHAT_PATH, json=CHAT)
        assert response.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            response.json()
        assert client.post(CHAT_PATH, json=STREAM).text == f"data: {Malformed().garbage}\n\n"

    @pytest.mark.parametrize("reset", [True, False])
    def test_a_drop_sends_nothing(self, provider: FakeProvider, client: httpx.Client, *, reset: bool) -> None:
        provider.script(DEPLOYMENT, [Drop(reset=reset)])
        with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
            client.post(CHAT_PATH, json=CHAT)
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(None, False)]
        assert client.post(CHAT_PATH, json=CHAT).status_code == 200

    @pytest.mark.parametrize("reset", [True, False])
    @pytest.mark.parametrize("after_chunks", [0, 2, 9])
    def test_a_stream_dies_after_its_chunks(
        self, provider: FakeProvider, client: httpx.Client, after_chunks: int, *, reset: bool
    ) -> None:
        """The gate lets it die when the client has what was sent: a reset may take unread bytes along."""
        gate = provider.gate()
        sent = min(after_chunks, 3)
        answer = Answer("a b c", hold_after_chunk=(sent, gate))
        provider.default(DEPLOYMENT, DieMidStream(after_chunks, reset=reset, answer=answer))
        expected = "".join(["a ", "b ", "c"][:sent])
        if not sent:
            gate.open()
        seen = ""
        with client.stream("POST", CHAT_PATH, json=STREAM) as response:

            def read() -> None:
                nonlocal seen
                for text in response.iter_text():
                    seen += text
                    if content(seen) == expected:
                        gate.open()

            with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
                read()
        assert content(seen) == expected
        assert "[DONE]" not in seen
        provider.wait_idle()
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(200, False)]

    @pytest.mark.parametrize("after_chunks", [0, 1])
    def test_a_whole_answer_dies_in_its_middle_or_before_it(
        self, provider: FakeProvider, client: httpx.Client, after_chunks: int
    ) -> None:
        provider.default(DEPLOYMENT, DieMidStream(after_chunks, reset=False))
        with (
            client.stream("POST", CHAT_PATH, json=CHAT) as response,
            pytest.raises(httpx.RemoteProtocolError, match=r"without sending complete message body"),
        ):
            response.read()
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("path", "event"),
        [
            (CHAT_PATH, {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": 529}}),
            (
                "/responses",
                {"type": "error", "code": "server_error", "message": "Overloaded", "param": None, "sequence_number": 0},
            ),
            ("/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            ("/m:streamGenerateContent", {"error": {"code": 529, "message": "Overloaded", "status": "INTERNAL"}}),
        ],
    )
    def test_a_stream_turns_into_an_error_event(
        self, provider: FakeProvider, client: httpx.Client, path: str, event: dict[str, object]
    ) -> None:
        provider.default(DEPLOYMENT, ErrorEventMidStream(answer=Answer("a b c")))
        response = client.post(path, json=STREAM)
        assert response.status_code == 200
        assert events(response.text)[-1] == event
        assert '"a "' in response.text
        assert '"b "' not in response.text

    def test_an_error_event_to_who_does_not_stream_is_a_status(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        provider.default(DEPLOYMENT, ErrorEventMidStream(error=RateLimited()))
        assert client.post(CHAT_PATH, json=CHAT).status_code == 429


class TestWaits:
    async def test_a_gate_stops_a_request_before_its_first_byte(
        self, provider: FakeProvider, aclient: httpx.AsyncClient
    ) -> None:
        gate = provider.gate()
        provider.default(DEPLOYMENT, Answer(hold_before=gate, delay=0.001))
        call = asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT))
        await gate.reached()
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(None, False)]
        gate.open()
        assert (await call).status_code == 200
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(200, True)]
        assert (await aclient.post(CHAT_PATH, json=CHAT)).status_code == 200  # open, it stays open
        assert gate.arrivals == 2

    async def test_one_gate_gathers_several_requests(self, provider: FakeProvider, aclient: httpx.AsyncClient) -> None:
        gate = Gate()
        provider.default(DEPLOYMENT, RateLimited(hold_before=gate))
        calls = [asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT)) for _ in range(3)]
        await gate.reached(count=3)
        gate.open()
        assert [(await call).status_code for call in calls] == [429, 429, 429]

    def test_a_gate_that_nobody_reaches_says_so(self, provider: FakeProvider) -> None:
        gate = provider.gate()
        with pytest.raises(TimeoutError, match=r"waited 0 s for 1 at the gate; the count stands at 0"):
            gate.wait_reached(0)

    async def test_a_gate_that_nobody_reaches_says_so_in_a_loop(self, provider: FakeProvider) -> None:
        gate = provider.gate()
        with pytest.raises(TimeoutError, match=r"waited 0 s for 2 at the gate"):
            await gate.reached(0, count=2)

    async def test_a_stream_stops_after_a_chunk(self, provider: FakeProvider, aclient: httpx.AsyncClient) -> None:
        gate = provider.gate()
        provider.default(DEPLOYMENT, Answer("a b c", hold_after_chunk=(1, gate)))
        async with aclient.stream("POST", CHAT_PATH, json=STREAM) as response:
            texts = response.aiter_text()
            first = await anext(texts)
            await gate.reached()
            assert content(first) == "a "
            gate.open()
            assert content("".join([text async for text in texts])) == "b c"
        assert provider.requests[0].finished

    def test_a_client_that_leaves_at_a_gate_has_not_finished(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        gate = provider.gate()
        provider.default(DEPLOYMENT, Answer("a b", hold_after_chunk=(1, gate)))
        with client.stream("POST", CHAT_PATH, json=STREAM) as response:
            next(response.iter_text())
            gate.wait_reached()
        provider.wait_idle()
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(200, False)]
        gate.open()
        assert [seen.finished for seen in provider.requests] == [False]

    async def test_a_cancelled_call_has_not_finished(self, provider: FakeProvider, aclient: httpx.AsyncClient) -> None:
        gate = provider.gate()
        provider.default(DEPLOYMENT, Answer(hold_before=gate))
        call = asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT))
        await gate.reached()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await provider.idle()
        assert [(seen.status, seen.finished) for seen in provider.requests] == [(None, False)]

    async def test_waiting_for_idle_gives_up_while_a_request_is_held(
        self, provider: FakeProvider, aclient: httpx.AsyncClient
    ) -> None:
        gate = provider.gate()
        provider.default(DEPLOYMENT, Answer(hold_before=gate))
        call = asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT))
        await gate.reached()
        with pytest.raises(TimeoutError, match=r"waited 0 s for all requests to end; the count stands at 1"):
            provider.wait_idle(0)
        gate.open()
        await call

    async def test_a_hanging_request_is_released(self, provider: FakeProvider, aclient: httpx.AsyncClient) -> None:
        provider.script(DEPLOYMENT, [Hang(), Hang(then=BadRequest())])
        calls = [asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT)) for _ in range(2)]
        await provider._hanging.reached(count=2)
        provider.release()
        assert sorted([(await call).status_code for call in calls]) == [200, 400]

    async def test_what_hangs_after_a_release_hangs_again(
        self, provider: FakeProvider, aclient: httpx.AsyncClient
    ) -> None:
        provider.release()
        provider.default(DEPLOYMENT, Hang())
        call = asyncio.ensure_future(aclient.post(CHAT_PATH, json=CHAT))
        await provider._hanging.reached()
        provider.release()
        assert (await call).status_code == 200

    @pytest.mark.parametrize("body", [CHAT, STREAM])
    async def test_the_head_comes_before_a_slow_first_byte(
        self, provider: FakeProvider, aclient: httpx.AsyncClient, body: dict[str, object]
    ) -> None:
        gate = provider.gate()
        provider.script(DEPLOYMENT, [SlowFirstByte(gate=gate), SlowFirstByte(seconds=0.001)])
        async with aclient.stream("POST", CHAT_PATH, json=body) as response:
            assert response.status_code == 200
            await gate.reached()
            gate.open()
            assert b"hello" in await response.aread()
        assert provider.requests[0].finished
        assert b"hello" in (await aclient.post(CHAT_PATH, json=body)).content


class TestScriptsAndLog:
    def test_a_script_comes_before_the_default_and_each_deployment_has_its_own(self, provider: FakeProvider) -> None:
        provider.script("a", [ServerError(), BadRequest()])
        provider.default("a", RateLimited())
        assert provider.remaining("a") == 2
        with httpx.Client(base_url=provider.url, trust_env=False, verify=NO_TLS) as client:
            codes = [client.post("/a/v1/chat/completions", json=CHAT).status_code for _ in range(3)]
            other = client.post("/b/v1/chat/completions", json=CHAT).status_code
        assert (codes, other) == ([500, 400, 429], 200)
        assert (provider.remaining("a"), provider.remaining("b")) == (0, 0)
        assert (provider.hits("a"), provider.hits("b"), provider.hits()) == (3, 1, 4)

    def test_a_new_script_replaces_what_was_left(self, provider: FakeProvider, client: httpx.Client) -> None:
        provider.script(DEPLOYMENT, [ServerError(), ServerError()])
        provider.script(DEPLOYMENT, [BadRequest()])
        assert [client.post(CHAT_PATH, json=CHAT).status_code for _ in range(2)] == [400, 200]

    def test_the_default_of_all_deployments_can_be_given(self) -> None:
        with FakeProvider(default=ServerError(502)) as provider:
            assert httpx.get(provider.api_base("a") + "/models", trust_env=False, verify=NO_TLS).status_code == 502

    def test_what_is_no_behaviour_is_refused_where_it_is_given(self, provider: FakeProvider) -> None:
        with pytest.raises(TypeError, match=r"expected a behaviour such as Answer\(\) or RateLimited\(\), got 'hello'"):
            provider.script("a", ["hello"])
        with pytest.raises(TypeError, match="expected a behaviour"):
            provider.default("a", None)
        with pytest.raises(TypeError, match="expected a behaviour"):
            FakeProvider(default=RateLimited)

    def test_the_log_shows_what_came_in(self, provider: FakeProvider, client: httpx.Client) -> None:
        client.post(CHAT_PATH + "?a=1", json=CHAT, headers={"TraceParent": "00-ab-CD-01", "Authorization": "Bearer k"})
        (seen,) = provider.requests
        assert (seen.deployment, seen.method) == (DEPLOYMENT, "POST")
        assert seen.path == "/dep%2Fa%20b/v1/chat/completions?a=1"
        assert (seen.headers["traceparent"], seen.headers["authorization"]) == ("00-ab-CD-01", "Bearer k")
        assert (seen.body, seen.raw_size) == (CHAT, int(seen.headers["content-length"]))
        assert (seen.stream, seen.status, seen.finished, seen.at) == (False, 200, True, 0)
        with pytest.raises(dataclasses.FrozenInstanceError):
            seen.status = 500
        with pytest.raises(TypeError):
            seen.headers["x"] = "y"

    def test_a_body_that_is_no_json_or_very_large_is_not_kept(
        self, provider: FakeProvider, client: httpx.Client
    ) -> None:
        client.post(CHAT_PATH, content=b"{")
        client.post(CHAT_PATH, json=[1])
        client.post(CHAT_PATH, json={"model": "m", "prompt": "x" * 10_000_000})
        assert [seen.body for seen in provider.requests] == [None, [1], None]
        assert provider.requests[-1].raw_size > 10_000_000

    def test_the_log_can_be_cleared_and_is_bounded(self) -> None:
        with FakeProvider(keep_requests=2) as provider, httpx.Client(trust_env=False, verify=NO_TLS) as client:
            for name in "abc":
                client.get(provider.api_base(name) + "/models")
            assert [seen.deployment for seen in provider.requests] == ["b", "c"]
            assert provider.hits() == 3
            provider.clear()
            assert (provider.requests, provider.hits(), provider.hits("a")) == ([], 0, 0)

    def test_a_deployment_is_an_entry_of_litellms_model_list(self, provider: FakeProvider) -> None:
        assert provider.deployment("dep-a", group="g", model="anthropic/claude", timeout=3) == {
            "model_name": "g",
            "litellm_params": {
                "model": "anthropic/claude",
                "api_base": f"{provider.url}/dep-a/v1",
                "api_key": "sk-fake",
                "timeout": 3,
            },
            "model_info": {"id": "dep-a"},
        }

    def test_behaviours_are_values(self) -> None:
        behaviours: list[Behaviour] = [
            Answer(),
            Drop(),
            Hang(),
            Malformed(),
            DieMidStream(),
            SlowFirstByte(),
            Status(500),
        ]
        for behaviour in behaviours:
            later = dataclasses.replace(behaviour, delay=1.0)
            assert (later.delay, behaviour.delay) == (1.0, 0.0)
            assert later != behaviour
