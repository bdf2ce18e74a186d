"""What models answer, as JSON values: one function per endpoint, from an :class:`Answer` to a body.

The bodies are as small as they can be while clients still parse them. Shapes are those of the
public API references of OpenAI, Anthropic (Messages), Google (``generateContent``) and Amazon
(``Converse``). This module must know nothing of HTTP, of streams or of faults.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from traced_router.testing._provider_behaviours import Answer, ToolCall

Body: TypeAlias = Mapping[str, object]

CREATED: Final = 1_700_000_000
"""Unix seconds of everything that was ever created here: answers are the same on every run."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as an endpoint sees it.

    Attributes:
        path: without its query.
        model: the model asked for; ``""`` when none was named.
        request: the JSON body; empty when there was none.
        number: the next number of an id, by its prefix.
    """

    path: str
    model: str
    request: Body
    number: Callable[[str], int]

    def new_id(self, prefix: str, separator: str = "-") -> str:
        return f"{prefix}{separator}{self.number(prefix)}"

    def answering_model(self, answer: Answer) -> str:
        return self.model if answer.response_model is None else answer.response_model


def chat(call: Call, answer: Answer) -> Body:
    message: dict[str, object] = {"role": "assistant", "content": answer.full_text or None}
    if answer.tool_calls:
        message["tool_calls"] = openai_tool_calls(answer.tool_calls)
    return {
        **openai_head(call, answer, "chatcmpl", "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": answer.reason}],
        **openai_usage(answer),
    }


def text_completion(call: Call, answer: Answer) -> Body:
    choice = {"index": 0, "text": answer.full_text, "logprobs": None, "finish_reason": answer.finish_reason}
    return {**openai_head(call, answer, "cmpl", "text_completion"), "choices": [choice], **openai_usage(answer)}


def openai_head(call: Call, answer: Answer, prefix: str, kind: str) -> Body:
    model = call.answering_model(answer)
    return {"id": call.new_id(prefix), "object": kind, "created": CREATED, "model": model}


def openai_tool_calls(calls: Sequence[ToolCall]) -> list[Body]:
    return [
        {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def openai_usage(answer: Answer) -> Body:
    """``{"usage": …}``, or nothing when the answer reports none."""
    if not answer.usage:
        return {}
    usage: dict[str, object] = {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    if answer.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
    if answer.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    return {"usage": usage}


def embeddings(call: Call, answer: Answer) -> Body:
    asked = call.request.get("input")
    count = len(cast("list[object]", asked)) if isinstance(asked, list) else 1
    vector = [round(0.1 * (place + 1), 3) for place in range(answer.dimensions)]
    body: dict[str, object] = {
        "object": "list",
        "model": call.answering_model(answer),
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)],
    }
    if answer.usage:
        body["usage"] = {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens}
    return body


def responses(call: Call, answer: Answer) -> Body:
    return responses_envelope(call, answer, call.new_id("resp", "_"), responses_items(answer))


def responses_items(answer: Answer) -> list[Body]:
    """The output of a finished response: the message when there is text, and the tool calls."""
    items: list[Body] = []
    if answer.full_text or not answer.tool_calls:
        content = [responses_part(answer.full_text)]
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content})
    items += [
        {
            "id": f"fc_{index + 1}",
            "type": "function_call",
            "status": "completed",
            "call_id": tool.id,
            "name": tool.name,
            "arguments": tool.arguments,
        }
        for index, tool in enumerate(answer.tool_calls)
    ]
    return items


def responses_part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": ()}


def responses_envelope(call: Call, answer: Answer, response_id: str, items: list[Body] | None) -> Body:
    """A response object; without ``items`` it is one that has only just begun."""
    cut = answer.finish_reason == "length" and items is not None
    usage: Body | None = None
    if answer.usage and items is not None:
        usage = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens or 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens or 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return {
        "id": response_id,
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress" if items is None else "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": None,
        "metadata": {},
        "model": call.answering_model(answer),
        "output": items or [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }


_ANTHROPIC_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_GEMINI_REASONS: Final = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}


def anthropic(call: Call, answer: Answer) -> Body:
    content: list[Body] = []
    if answer.full_text or not answer.tool_calls:
        content.append({"type": "text", "text": answer.full_text})
    content += [
        {"type": "tool_use", "id": tool.id, "name": tool.name, "input": json.loads(tool.arguments)}
        for tool in answer.tool_calls
    ]
    return anthropic_message(call, answer, content)


def anthropic_message(call: Call, answer: Answer, content: list[Body]) -> Body:
    """A message; without content it is one that has only just begun."""
    return {
        "id": call.new_id("msg", "_"),
        "type": "message",
        "role": "assistant",
        "model": call.answering_model(answer),
        "content": content,
        "stop_reason": anthropic_reason(answer) if content else None,
        "stop_sequence": None,
        "usage": anthropic_usage(answer, output_tokens=answer.output_tokens if content else 1),
    }


def anthropic_reason(answer: Answer) -> str:
    return _ANTHROPIC_REASONS.get(answer.reason, answer.reason)


def anthropic_usage(answer: Answer, output_tokens: int) -> Body:
    """Anthropic counts the cached part beside ``input_tokens``, not in it; its clients need at least zeros."""
    if not answer.usage:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = answer.cached_tokens
    usage: dict[str, object] = {"input_tokens": answer.input_tokens - (cached or 0), "output_tokens": output_tokens}
    if cached is not None:
        usage["cache_read_input_tokens"] = cached
        usage["cache_creation_input_tokens"] = 0
    return usage


def anthropic_count(_call: Call, answer: Answer) -> Body:
    return {"input_tokens": answer.input_tokens}


def gemini(call: Call, answer: Answer) -> Body:
    parts: list[Body] = []
    if answer.full_text or not answer.tool_calls:
        parts.append({"text": answer.full_text})
    parts += gemini_tools(answer.tool_calls)
    return gemini_body(call, answer, call.new_id("gemini"), parts, last=True)


def gemini_tools(calls: Sequence[ToolCall]) -> list[Body]:
    return [{"functionCall": {"name": call.name, "args": json.loads(call.arguments)}} for call in calls]


def gemini_body(call: Call, answer: Answer, response_id: str, parts: list[Body], *, last: bool) -> Body:
    candidate: dict[str, object] = {"index": 0, "content": {"role": "model", "parts": parts}}
    body: dict[str, object] = {
        "candidates": [candidate],
        "modelVersion": call.answering_model(answer),
        "responseId": response_id,
    }
    if last:
        candidate["finishReason"] = _GEMINI_REASONS.get(answer.reason, answer.reason)
        body["usageMetadata"] = _gemini_usage(answer)
    return body


def _gemini_usage(answer: Answer) -> Body:
    """Gemini counts thoughts beside the candidates' tokens, not in them; its clients need at least zeros."""
    if not answer.usage:
        return {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
    usage: dict[str, object] = {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": answer.output_tokens - (answer.reasoning_tokens or 0),
        "totalTokenCount": answer.input_tokens + answer.output_tokens,
    }
    if answer.cached_tokens is not None:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    if answer.reasoning_tokens is not None:
        usage["thoughtsTokenCount"] = answer.reasoning_tokens
    return usage


_BEDROCK_REASONS: Final = {**_ANTHROPIC_REASONS, "content_filter": "content_filtered"}


def bedrock(_call: Call, answer: Answer) -> Body:
    """What Bedrock's ``Converse`` answers; it has no id."""
    content: list[Body] = []
    if answer.full_text or not answer.tool_calls:
        content.append({"text": answer.full_text})
    content += [
        {"toolUse": {"toolUseId": tool.id, "name": tool.name, "input": json.loads(tool.arguments)}}
        for tool in answer.tool_calls
    ]
    usage = {
        "inputTokens": answer.input_tokens - (answer.cached_tokens or 0),
        "outputTokens": answer.output_tokens,
        "totalTokens": answer.input_tokens + answer.output_tokens,
        "cacheReadInputTokens": answer.cached_tokens or 0,
    }
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _BEDROCK_REASONS.get(answer.reason, answer.reason),
        "usage": usage if answer.usage else {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
        "metrics": {"latencyMs": 1},
    }
