"""What models stream, as server-sent events: one function per endpoint, from an :class:`Answer` to a :class:`Script`.

A stream is cut into *chunks*, the units that behaviours count: each has one piece of content,
and whatever the protocol wants before its first piece goes with it. So "die after two chunks" means
the same in every protocol. This module must know nothing of HTTP framing, of time or of gates.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from traced_router.testing._provider_behaviours import Answer
from traced_router.testing._provider_bodies import (
    Body,
    Call,
    anthropic_message,
    anthropic_reason,
    anthropic_usage,
    gemini_body,
    gemini_tools,
    openai_head,
    openai_tool_calls,
    openai_usage,
    responses_envelope,
    responses_items,
    responses_part,
)


@dataclass(frozen=True, slots=True)
class Script:
    """A stream, ready to be sent: the chunks in order, then what closes it."""

    chunks: tuple[bytes, ...]
    closing: bytes


def dumps(body: object) -> bytes:
    """JSON as providers send it: UTF-8, no spaces."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def data(body: object) -> bytes:
    """An event without a name."""
    return b"data: %b\n\n" % dumps(body)


def named(body: Body) -> bytes:
    """An event that is named after the body's own type."""
    return b"event: %b\n%b" % (str(body["type"]).encode(), data(body))


_DONE: Final = b"data: [DONE]\n\n"


def chat(call: Call, answer: Answer) -> Script:
    head = openai_head(call, answer, "chatcmpl", "chat.completion.chunk")
    deltas: list[dict[str, object]] = [{"content": piece} for piece in answer.pieces]
    if answer.tool_calls:
        deltas.append({"tool_calls": openai_tool_calls(answer.tool_calls)})
    if deltas:
        deltas[0] = {"role": "assistant", **deltas[0]}
    choices: list[dict[str, object]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last: dict[str, object] = {"index": 0, "delta": {}, "finish_reason": answer.reason}
    return _openai(call, answer, head, choices, last)


def text_completion(call: Call, answer: Answer) -> Script:
    head = openai_head(call, answer, "cmpl", "text_completion")
    choices: list[dict[str, object]] = [
        {"index": 0, "text": piece, "logprobs": None, "finish_reason": None} for piece in answer.pieces
    ]
    last: dict[str, object] = {"index": 0, "text": "", "logprobs": None, "finish_reason": answer.finish_reason}
    return _openai(call, answer, head, choices, last)


def _openai(
    call: Call, answer: Answer, head: Body, choices: list[dict[str, object]], last: dict[str, object]
) -> Script:
    """OpenAI sends usage in a chunk of its own, with no choices, and only to a client that asked."""
    options = call.request.get("stream_options")
    asked = isinstance(options, dict) and bool(cast("dict[str, object]", options).get("include_usage"))
    unknown: Body = {"usage": None} if asked and answer.usage else {}
    chunks = tuple(data({**head, "choices": [choice], **unknown}) for choice in choices)
    closing = data({**head, "choices": [last], **unknown})
    if unknown:
        closing += data({**head, "choices": [], **openai_usage(answer)})
    return Script(chunks, closing + _DONE)


class _Numbered:
    """OpenAI's responses events carry their place in the stream."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self, kind: str, fields: Mapping[str, object]) -> bytes:
        event = named({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return event


def responses(call: Call, answer: Answer) -> Script:
    event = _Numbered()
    response_id = call.new_id("resp", "_")
    begun = responses_envelope(call, answer, response_id, None)
    items = responses_items(answer)
    pending = event("response.created", {"response": begun}) + event("response.in_progress", {"response": begun})
    chunks: list[bytes] = []
    for index, item in enumerate(items):
        opening = {**item, "status": "in_progress", **({"content": ()} if "content" in item else {"arguments": ""})}
        pending += event("response.output_item.added", {"output_index": index, "item": opening})
        if "content" in item:
            parts, after = _responses_text(event, answer, index, item)
        else:
            parts, after = _responses_tool(event, index, item)
        for part in parts:
            chunks.append(pending + part)
            pending = b""
        pending += after + event("response.output_item.done", {"output_index": index, "item": item})
    finished = responses_envelope(call, answer, response_id, items)
    return Script(tuple(chunks), pending + event(f"response.{finished['status']}", {"response": finished}))


def _responses_text(event: _Numbered, answer: Answer, index: int, item: Body) -> tuple[list[bytes], bytes]:
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    before = event("response.content_part.added", {**place, "part": responses_part("")})
    parts = [event("response.output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in answer.pieces]
    after = event("response.output_text.done", {**place, "text": answer.full_text, "logprobs": []})
    after += event("response.content_part.done", {**place, "part": responses_part(answer.full_text)})
    if not parts:
        return [], before + after
    return [before + parts[0], *parts[1:]], after


def _responses_tool(event: _Numbered, index: int, item: Body) -> tuple[list[bytes], bytes]:
    place = {"item_id": item["id"], "output_index": index}
    delta = event("response.function_call_arguments.delta", {**place, "delta": item["arguments"]})
    fields = {**place, "name": item["name"], "arguments": item["arguments"]}
    return [delta], event("response.function_call_arguments.done", fields)


def anthropic(call: Call, answer: Answer) -> Script:
    """Content blocks open and close around their deltas: one block for the text, one for each tool call."""
    pending = named({"type": "message_start", "message": anthropic_message(call, answer, [])})
    chunks: list[bytes] = []
    if answer.pieces:
        pending += _block_start(0, {"type": "text", "text": ""}) + named({"type": "ping"})
        for piece in answer.pieces:
            chunks.append(pending + _block_delta(0, {"type": "text_delta", "text": piece}))
            pending = b""
        pending = _block_stop(0)
    if answer.tool_calls:
        for index, tool in enumerate(answer.tool_calls, 1 if answer.pieces else 0):
            pending += _block_start(index, {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}})
            pending += _block_delta(index, {"type": "input_json_delta", "partial_json": tool.arguments})
            pending += _block_stop(index)
        chunks.append(pending)
        pending = b""
    ending = {
        "type": "message_delta",
        "delta": {"stop_reason": anthropic_reason(answer), "stop_sequence": None},
        "usage": anthropic_usage(answer, answer.output_tokens),
    }
    return Script(tuple(chunks), pending + named(ending) + named({"type": "message_stop"}))


def _block_start(index: int, block: Body) -> bytes:
    return named({"type": "content_block_start", "index": index, "content_block": block})


def _block_delta(index: int, delta: Body) -> bytes:
    return named({"type": "content_block_delta", "index": index, "delta": delta})


def _block_stop(index: int) -> bytes:
    return named({"type": "content_block_stop", "index": index})


def gemini(call: Call, answer: Answer) -> Script:
    response_id = call.new_id("gemini")
    contents: list[list[Body]] = [[{"text": piece}] for piece in answer.pieces]
    if answer.tool_calls:
        contents.append(gemini_tools(answer.tool_calls))
    chunks = tuple(data(gemini_body(call, answer, response_id, parts, last=False)) for parts in contents)
    return Script(chunks, data(gemini_body(call, answer, response_id, [{"text": ""}], last=True)))
