"""Streams as messages: every format, cut anywhere, left half-way, and never kept beyond a limit."""

import json
from typing import Any

import pytest
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

from traced_router._content import Copier
from traced_router._read_streamed import StreamedMessages


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def streamed(*chunks: object, characters: int = 10_000) -> tuple[list[Any], bool]:
    stream = StreamedMessages(characters)
    for chunk in chunks:
        stream.chunk(chunk)
    return stream.messages(Copier(characters), "cancelled"), stream.cut


def said(*parts: object, reason: str = "stop") -> tuple[list[Any], bool]:
    return [{"role": "assistant", "parts": list(parts), "finish_reason": reason}], False


def chat(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def call(index: int, arguments: str | None, **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    return {"index": index, "function": {"name": name, "arguments": arguments}, **more}


def test_nothing_came() -> None:
    assert streamed() == ([], False)
    assert streamed(None, 3, {}, {"type": 3}, {"choices": []}, {"type": "ping"}) == ([], False)


# --- OpenAI's chat -----------------------------------------------------------------------------


def test_litellm_s_chunks() -> None:
    def chunk(delta: Delta, reason: str | None = None) -> ModelResponseStream:
        return ModelResponseStream(choices=[StreamingChoices(index=0, delta=delta, finish_reason=reason)])

    assert streamed(
        chunk(Delta(role="assistant", content="hel")), chunk(Delta(content="lo")), chunk(Delta(), "stop")
    ) == said(text("hello"))


def test_all_that_a_delta_can_bring() -> None:
    assert streamed(
        chat({"reasoning_content": "h"}),
        chat({"reasoning_content": "m", "content": "a"}),
        chat({"refusal": "no"}),
        chat({"tool_calls": [call(0, None, id="c0", name="f"), call(1, "{", id="c1", name="g")]}),
        chat({"tool_calls": [call(1, '"a": 1}')]}),
        chat({"images": [{"type": "image_url", "image_url": {"url": "https://e.test/"}}, {}]}, "tool_calls"),
    ) == said(
        {"type": "reasoning", "content": "hm"},
        text("a"),
        {"type": "refusal", "content": "no"},
        {"type": "tool_call", "id": "c0", "name": "f"},
        {"type": "tool_call", "id": "c1", "name": "g", "arguments": {"a": 1}},
        {"type": "uri", "modality": "image", "uri": "https://e.test/"},
        reason="tool_call",
    )


def test_the_older_function_call() -> None:
    assert streamed(
        chat({"function_call": {"name": "f", "arguments": "{"}}), chat({"function_call": {"arguments": "}"}})
    ) == said({"type": "tool_call", "name": "f", "arguments": {}}, reason="cancelled")


def test_choices_side_by_side_and_text_completions() -> None:
    messages, _ = streamed(
        {"choices": [{"index": 1, "text": "b"}]}, {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}
    )
    assert [(m["parts"], m["finish_reason"]) for m in messages] == [([text("b")], "cancelled"), ([text("a")], "length")]


# --- responses ---------------------------------------------------------------------------------


def test_events_of_a_response() -> None:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "hm"},
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message"}},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "a"},
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {"type": "function_call", "call_id": "c", "name": "f"},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
        {"type": "response.output_text.done", "output_index": 1, "text": "a"},
    ]
    left = said(
        {"type": "reasoning", "content": "hm"},
        text("a"),
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {}},
        reason="cancelled",
    )
    assert streamed(*events) == left

    whole = {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "A"}]}]}
    assert streamed(*events, {"type": "response.completed", "response": whole}) == said(text("A"))


def test_a_final_response_without_words() -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"}
    assert streamed(delta, {"type": "response.failed", "response": {"output": [{}]}}) == said(
        text("a"), reason="cancelled"
    )


# --- bytes -------------------------------------------------------------------------------------

ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ß"}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "redacted_thinking"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    {"type": "message_delta", "delta": {}},
]
SAID = said(
    {"type": "reasoning", "content": "hm"},
    text("aß"),
    {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}},
    reason="tool_call",
)


def wire(events: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n".encode() for e in events)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_anthropic_s_bytes_cut_anywhere(size: int) -> None:
    raw = wire(ANTHROPIC)

    assert streamed(*(raw[at : at + size] for at in range(0, len(raw), size))) == SAID


def test_anthropic_s_events() -> None:
    assert streamed(*ANTHROPIC) == SAID


def test_text_that_does_not_end_in_a_line() -> None:
    assert streamed('data: {"choices": [{"delta": {"content": "a"}}]}') == said(text("a"), reason="cancelled")


def test_lines_that_are_no_events() -> None:
    assert streamed(b": ping\ndata: [DONE]\ndata: 3\ndata: {\ndata: " + b"[" * 100_000 + b"\n") == ([], False)


def test_a_line_without_an_end() -> None:
    assert streamed(b"data: " + b"x" * 2_000_000) == ([], True)


# --- Gemini ------------------------------------------------------------------------------------


def test_candidates() -> None:
    def chunk(*parts: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": reason}]}

    assert streamed(
        chunk({"text": "h", "thought": True}),
        chunk({"text": "m", "thought": True}, {"text": "a"}),
        chunk({"functionCall": {"name": "f", "args": {}}}, {"text": "b"}, reason="STOP"),
    ) == said({"type": "reasoning", "content": "hm"}, text("ab"), {"type": "tool_call", "name": "f", "arguments": {}})


# --- bounds ------------------------------------------------------------------------------------


def test_text_beyond_the_limit_is_not_kept() -> None:
    messages, cut = streamed(
        chat({"content": "12345"}), chat({"content": "67890"}), chat({"content": "x"}), characters=7
    )

    assert messages[0]["parts"] == [text("1234567")]
    assert cut is True


def test_more_choices_and_blocks_than_are_kept() -> None:
    choices, cut = streamed(*(chat({"content": "a"}, index=n) for n in range(100)))
    assert (len(choices), cut) == (64, True)

    calls = [chat({"tool_calls": [call(n, "{}")]}) for n in range(1000)]
    image = {"images": [{"type": "image_url", "image_url": "https://e.test/"}]}
    blocks, cut = streamed(*calls, chat(image))
    assert (len(blocks[0]["parts"]), cut) == (512, True)


def test_whole_parts_are_cut_too() -> None:
    part = {"functionResponse": {"name": "f", "response": "x" * 100}}
    _, cut = streamed({"candidates": [{"content": {"parts": [part]}}]}, characters=10)

    assert cut is True
