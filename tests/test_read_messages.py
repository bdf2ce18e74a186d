"""Calls and answers in four formats, as the GenAI conventions' messages."""

import hashlib
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from litellm.types.utils import Message, ModelResponse

from traced_router._content import Copier
from traced_router._read_messages import (
    finish_reason,
    input_messages,
    output_messages,
    system_instructions,
    tool_definitions,
)

HELLO = "aGVsbG8="
BLOB = {"size": 5, "sha256": hashlib.sha256(b"hello").hexdigest()}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "parts": list(parts)}


def asked(**kwargs: Any) -> list[Any]:
    copier = Copier(10_000)
    messages = input_messages(kwargs, copier)
    assert copier.cut is False
    return messages


def parts(*given: Any) -> list[Any]:
    (message,) = asked(messages=[{"role": "user", "content": list(given)}])
    return message["parts"]


# --- plain strings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "messages"),
    [
        ({}, []),
        ({"messages": "just text"}, [user(text("just text"))]),
        ({"prompt": "once"}, [user(text("once"))]),
        ({"prompt": ["once", "upon"]}, [user(text("once")), user(text("upon"))]),
        ({"prompt": [1, 2, 3]}, [user({"type": "token_ids", "count": 3})]),
        ({"prompt": [[1, 2], [3]]}, [user({"type": "token_ids", "count": 2}), user({"type": "token_ids", "count": 1})]),
        ({"input": [["a", "b"]]}, [user(text("a"), text("b"))]),
        ({"query": "q", "documents": ["d", {"text": "e"}]}, [user(text("q")), user(text("d")), user(text("e"))]),
        ({"messages": [3, None, {}, {"type": 7}]}, []),
    ],
)
def test_strings(kwargs: dict[str, Any], messages: list[Any]) -> None:
    assert asked(**kwargs) == messages


# --- OpenAI's chat -----------------------------------------------------------------------------


def test_a_conversation() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "rain", "arguments": '{"in": "Rome"}'}}
    assert asked(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "rain?", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "no"},
            {"role": "assistant", "content": "No.", "refusal": "not more", "reasoning_content": "hm"},
        ]
    ) == [
        {"role": "system", "parts": [text("be brief")]},
        {"role": "user", "parts": [text("rain?")], "name": "ann"},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "rain", "arguments": {"in": "Rome"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "no"}]},
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, text("No."), {"type": "refusal", "content": "not more"}],
        },
    ]


def test_messages_that_are_litellm_s_own_objects() -> None:
    answer = Message(content="hi", role="assistant")

    assert asked(messages=[answer]) == [{"role": "assistant", "parts": [text("hi")]}]


def test_the_older_function_call() -> None:
    assert asked(
        messages=[
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "no json"}},
            {"role": "function", "name": "f", "content": [{"type": "text", "text": "r"}]},
        ]
    ) == [
        {"role": "assistant", "parts": [{"type": "tool_call", "name": "f", "arguments": "no json"}]},
        {"role": "function", "parts": [{"type": "tool_call_response", "response": [text("r")]}], "name": "f"},
    ]


def test_arguments_that_are_too_deep_or_too_long_stay_text() -> None:
    copier = Copier(500_000)
    for arguments in ("[" * 90_000, '"' + "x" * 200_000 + '"'):
        call = {"function": {"name": "f", "arguments": arguments}}
        (message,) = input_messages({"messages": [{"role": "assistant", "tool_calls": [call]}]}, copier)
        assert message["parts"] == [{"type": "tool_call", "name": "f", "arguments": arguments}]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", text("plain")),
        ({"type": "text", "text": "a"}, text("a")),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{HELLO}"}},
            {"type": "blob", "modality": "image", "mime_type": "image/png", **BLOB},
        ),
        (
            {"type": "image_url", "image_url": "https://example.test/a.png"},
            {"type": "uri", "modality": "image", "uri": "https://example.test/a.png"},
        ),
        ({"type": "image_url"}, {"type": "uri", "modality": "image"}),
        (
            {"type": "image_url", "image_url": {"url": "aGVsbG8g" * 100}},
            {
                "type": "blob",
                "modality": "image",
                "size": 600,
                "sha256": hashlib.sha256(b"hello " * 100).hexdigest(),
            },
        ),
        (
            {"type": "video_url", "video_url": {"url": "gs://a/b.mp4"}},
            {"type": "uri", "modality": "video", "uri": "gs://a/b.mp4"},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": HELLO, "format": "wav"}},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", **BLOB},
        ),
        ({"type": "input_audio", "input_audio": {"data": HELLO}}, {"type": "blob", "modality": "audio", **BLOB}),
        ({"type": "file", "file": {"file_id": "f-1"}}, {"type": "file", "file_id": "f-1"}),
        (
            {"type": "file", "file": {"file_data": HELLO, "format": "application/pdf", "filename": "x"}},
            {"type": "blob", "mime_type": "application/pdf", **BLOB},
        ),
        (
            {"type": "input_file", "file_url": "https://example.test/a", "mime_type": "text/csv"},
            {"type": "uri", "modality": "file", "uri": "https://example.test/a", "mime_type": "text/csv"},
        ),
        ({"type": "input_image", "file_id": "f"}, {"type": "file", "file_id": "f", "modality": "image"}),
        (
            {"type": "input_image", "image_url": "https://e.test/"},
            {"type": "uri", "modality": "image", "uri": "https://e.test/"},
        ),
        ({"type": "refusal", "refusal": "no"}, {"type": "refusal", "content": "no"}),
        ({"type": "mcp_call", "server": "s", "key": "sk-1"}, {"type": "mcp_call"}),
        ({"type": "container", "content": [{"type": "text", "text": "in"}]}, text("in")),
    ],
)
def test_parts(given: object, shown: object) -> None:
    assert parts(given) == [shown]


@pytest.mark.parametrize("given", [None, 3, {}, {"type": 3}, {"type": "text"}, {"type": "text", "text": 3}])
def test_parts_that_say_nothing(given: object) -> None:
    assert parts(given) == []


# --- responses ---------------------------------------------------------------------------------


def test_items() -> None:
    assert asked(
        input=[
            "plain",
            {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}, {"type": "other"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "raw"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "p"}]},
            {"type": "item_reference", "id": "x"},
            {"type": "message", "content": [{"type": "input_text", "text": "no role"}]},
        ]
    ) == [
        user(text("plain")),
        user(text("q")),
        {"role": "assistant", "parts": [text("a")]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "s"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "o"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "d", "name": "g", "arguments": "raw"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "d", "response": [text("p")]}]},
        user({"type": "item_reference"}),
        user(text("no role")),
    ]


# --- Anthropic's messages ----------------------------------------------------------------------


def test_blocks() -> None:
    assert parts(
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": HELLO}},
        {"type": "image", "source": {"type": "url", "url": "https://e.test/"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "doc"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t", "name": "f"},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]},
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
    ) == [
        text("a"),
        {"type": "blob", "modality": "image", "mime_type": "image/gif", **BLOB},
        {"type": "uri", "modality": "image", "uri": "https://e.test/"},
        text("doc"),
        {"type": "file", "file_id": "f", "modality": "document"},
        {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}},
        {"type": "tool_call", "id": "t", "name": "f"},
        {"type": "tool_call_response", "id": "t", "response": [text("r")]},
        {"type": "reasoning", "content": "hm"},
        {"type": "redacted_thinking"},
    ]


# --- Gemini's contents -------------------------------------------------------------------------


def test_contents() -> None:
    assert asked(
        contents=[
            {"role": "user", "parts": [{"text": "q"}, {"inlineData": {"mimeType": "image/png", "data": HELLO}}]},
            {"role": "model", "parts": [{"text": "t", "thought": True}, {"functionCall": {"name": "f", "args": {}}}]},
            {"parts": [{"function_response": {"name": "f", "response": {"r": 1}}}]},
            {"parts": [{"file_data": {"mime_type": "video/mp4", "file_uri": "gs://a"}}]},
            {"parts": [{"inline_data": {"data": b"hello"}}, {"executable": 1}]},
        ]
    ) == [
        user(text("q"), {"type": "blob", "modality": "image", "mime_type": "image/png", **BLOB}),
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "t"}, {"type": "tool_call", "name": "f", "arguments": {}}],
        },
        user({"type": "tool_call_response", "id": "f", "response": {"r": 1}}),
        user({"type": "uri", "modality": "video", "uri": "gs://a", "mime_type": "video/mp4"}),
        user({"type": "blob", "modality": "file", **BLOB}),
    ]


# --- instructions and tools --------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs",
    [
        {"instructions": "be brief"},
        {"system": [{"type": "text", "text": "be brief"}]},
        {"systemInstruction": {"parts": [{"text": "be brief"}]}},
        {"config": {"system_instruction": "be brief"}},
        {"config": SimpleNamespace(system_instruction={"parts": [{"text": "be brief"}]})},
    ],
)
def test_instructions(kwargs: dict[str, Any]) -> None:
    assert system_instructions(kwargs, Copier(100)) == [text("be brief")]


def test_no_instructions() -> None:
    assert system_instructions({"system": ""}, Copier(100)) == []
    assert system_instructions({}, Copier(100)) == []


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
F = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA}


@pytest.mark.parametrize(
    ("tools", "shown"),
    [
        ([{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}], [F]),
        ([F], [F]),
        ([{"name": "f", "description": "d", "input_schema": SCHEMA}], [F]),
        ([{"functionDeclarations": [{"name": "f", "description": "d", "parameters": SCHEMA}, {"name": "g"}]}],
         [F, {"type": "function", "name": "g"}]),
        ([{"type": "custom", "name": "f"}], [{"type": "function", "name": "f"}]),
        (
            [{"type": "mcp", "server_label": "s", "headers": {"Authorization": "Bearer k"}, "description": "d"}],
            [{"type": "mcp", "name": "s"}],
        ),
        ([{"type": "web_search"}], [{"type": "web_search"}]),
    ],
)  # fmt: skip
def test_tools(tools: list[Any], shown: list[Any]) -> None:
    assert tool_definitions({"tools": tools}, Copier(1000)) == shown
    assert tool_definitions({"config": {"tools": tools}}, Copier(1000)) == shown


def test_the_older_functions() -> None:
    assert tool_definitions({"functions": [{"name": "f"}]}, Copier(100)) == [{"type": "function", "name": "f"}]


# --- answers -----------------------------------------------------------------------------------


def answered(answer: object) -> list[Any]:
    return output_messages(answer, Copier(1000))


def test_choices() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = ModelResponse(
        choices=[
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"},
        ]
    )
    assert answered(answer) == [
        {"role": "assistant", "parts": [text("a")], "finish_reason": "stop"},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {}}],
            "finish_reason": "tool_call",
        },
    ]


def test_a_choice_with_media() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "thinking_blocks": [{"type": "thinking", "thinking": "hm"}],
        "images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{HELLO}"}}],
        "audio": {"id": "a", "data": HELLO, "transcript": "said"},
    }
    assert answered({"choices": [{"message": message, "finish_reason": "length"}]}) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", **BLOB},
                {"type": "blob", "modality": "audio", **BLOB, "transcript": "said"},
            ],
            "finish_reason": "length",
        }
    ]
    silent = {"role": "assistant", "audio": {"data": HELLO}}
    assert answered({"choices": [{"message": silent}]})[0]["parts"] == [{"type": "blob", "modality": "audio", **BLOB}]


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        ({"choices": [{"text": "t", "finish_reason": None}]}, [text("t")], "stop"),
        ({"choices": [{"message": {}, "finish_reason": "stop"}]}, [], "stop"),
        (
            {"type": "message", "content": [{"type": "text", "text": "t"}], "stop_reason": "end_turn"},
            [text("t")],
            "stop",
        ),
        (
            {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]}, 3],
             "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            [text("t")],
            "length",
        ),
        ({"candidates": [{"content": {"parts": [{"text": "t"}]}, "finishReason": "MAX_TOKENS"}]}, [text("t")],
         "length"),
        ({"candidates": [{"content": None, "finish_reason": SimpleNamespace(value="SAFETY")}]}, [], "content_filter"),
        ({"text": "heard"}, [text("heard")], "stop"),
        ({"data": [{"b64_json": HELLO}, {"url": "https://e.test/"}]},
         [{"type": "blob", "modality": "image", **BLOB},
          {"type": "uri", "modality": "image", "uri": "https://e.test/"}], "stop"),
    ],
)  # fmt: skip
def test_answers(answer: object, said: list[Any], reason: str) -> None:
    assert answered(answer) == [{"role": "assistant", "parts": said, "finish_reason": reason}]


@pytest.mark.parametrize("answer", [None, {}, {"data": [{"embedding": [0.1]}]}, {"results": [1]}, b"speech"])
def test_answers_without_words(answer: object) -> None:
    assert answered(answer) == []


def test_an_answer_of_the_responses_api() -> None:
    answer = litellm.ResponsesAPIResponse(
        id="r", created_at=1, status="completed",
        output=[{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
        parallel_tool_calls=True, tool_choice="auto", tools=[],
    )  # fmt: skip
    assert answered(answer) == [
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {}}],
            "finish_reason": "stop",
        }
    ]


@pytest.mark.parametrize(("given", "word"), [("eos", "eos"), ("STOP", "stop"), (None, "error"), (3, "error")])
def test_finish_reasons(given: object, word: str) -> None:
    assert finish_reason(given, "error") == word


# --- bounds ------------------------------------------------------------------------------------


def test_the_newest_messages_are_read_first() -> None:
    copier = Copier(10)

    messages = [{"role": "user", "content": c * 6} for c in "abc"]
    assert input_messages({"messages": messages}, copier) == [user(text("bbbb")), user(text("cccccc"))]
    assert copier.cut is True


def test_parts_beyond_the_budget_are_left_out() -> None:
    copier = Copier(3)

    assert input_messages({"messages": [{"role": "u", "content": ["abcdef", "g"]}]}, copier) == [
        {"role": "u", "parts": [text("abc")]}
    ]
    assert copier.cut is True
