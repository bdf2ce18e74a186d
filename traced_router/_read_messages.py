"""What a call says and what it is answered, as the GenAI conventions' messages.

Reads the four formats that litellm's calls have (OpenAI's chat and its responses, Anthropic's messages,
Gemini's contents) and prompts, inputs and queries that are plain strings. What it does not know keeps its
type and loses the rest: an unknown field can hold a key. This module must not know OpenTelemetry.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from traced_router._content import Copier
from traced_router._litellm import fields
from traced_router._values import listed

Part: TypeAlias = dict[str, object]
Message: TypeAlias = dict[str, Any]

_REASONS: Final[Mapping[str, str]] = {
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "safety": "content_filter",
    "refusal": "content_filter",
    "failed": "error",
}
"""Providers' finish reasons, in lower case, that the conventions call something else."""

_MAX_ARGUMENTS: Final = 100_000
"""Characters of a tool call's arguments that are parsed; longer ones stay a string."""


def finish_reason(given: object, otherwise: str = "stop") -> str:
    """A finish reason in the conventions' words."""
    if not isinstance(given, str) or not given:
        return otherwise
    lower = given[:64].lower()
    return _REASONS.get(lower, lower)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


# --- what a call says ------------------------------------------------------------------------


def input_messages(kwargs: Mapping[str, object], copier: Copier) -> list[Message]:
    """The messages of a call; the newest come first into a budget that is too small for all."""
    raw: list[object] = []
    for name in ("messages", "contents", "input", "prompt", "query"):
        value = kwargs.get(name)
        if value is not None:
            raw = listed(value) if _is_list(value) else [value]
            break
    if raw and all(isinstance(item, int) for item in raw[:8]):
        return [_user(_tokens(raw))]
    out: list[Message] = []
    for item in [*raw, *listed(kwargs.get("documents"))][::-1]:
        if copier.spent:
            copier.cut = True
            break
        message = _message(item, copier, "user")
        if message is not None:
            out.append(message)
    return out[::-1]


def system_instructions(kwargs: Mapping[str, object], copier: Copier) -> list[Part]:
    """The instructions that a call gives beside its messages."""
    for source in (kwargs, fields(kwargs.get("config"))):
        for name in ("instructions", "system", "systemInstruction", "system_instruction"):
            given = source.get(name)
            if given is not None:
                return list(_parts(_contents(given), copier))
    return []


def tool_definitions(kwargs: Mapping[str, object], copier: Copier) -> list[Part]:
    """The tools that a call offers: functions whole, of others (which can hold keys) type and name."""
    given: list[object] = []
    for source in (kwargs, fields(kwargs.get("config"))):
        given = given or listed(source.get("tools")) or listed(source.get("functions"))
    out: list[Part] = []
    for tool in given:
        own = fields(tool)
        declared = own.get("functionDeclarations") or own.get("function_declarations")
        out.extend(_tool(one, copier) for one in (listed(declared) or [tool]))
    return out


def _tool(tool: object, copier: Copier) -> Part:
    own = fields(tool)
    function = fields(own.get("function")) or own
    schema = function.get("parameters", function.get("input_schema"))
    kind = copier.label(own.get("type"))
    out: Part = {"type": "function" if kind in {None, "custom"} or schema is not None else kind}
    name = copier.label(function.get("name") or own.get("server_label"))
    if name is not None:
        out["name"] = name
    if out["type"] == "function":
        description = function.get("description")
        if isinstance(description, str):
            out["description"] = copier.text(description)
        if schema is not None:
            out["parameters"] = copier.value(schema)
    return out


def _user(*parts: Part) -> Message:
    return {"role": "user", "parts": list(parts)}


def _tokens(ids: list[object]) -> Part:
    return {"type": "token_ids", "count": len(ids)}


# --- what it is answered ---------------------------------------------------------------------


def output_messages(answer: object, copier: Copier, otherwise: str = "stop") -> list[Message]:
    """The messages of an answer of any kind, each with its finish reason.

    Args:
        answer: what litellm returned.
        copier: copies.
        otherwise: the finish reason where the answer has none.
    """
    body = fields(answer)
    choices = listed(body.get("choices"))
    if choices:
        return [_choice(fields(choice), copier, otherwise) for choice in choices]
    candidates = listed(body.get("candidates"))
    if candidates:
        return [_candidate(fields(candidate), copier, otherwise) for candidate in candidates]
    parts = list(_answer_parts(body, copier))
    if not parts:
        return []
    reason = body.get("stop_reason") or fields(body.get("incomplete_details")).get("reason") or body.get("status")
    return [{"role": "assistant", "parts": parts, "finish_reason": finish_reason(reason, otherwise)}]


def _answer_parts(body: Mapping[str, object], copier: Copier) -> Iterator[Part]:
    if body.get("type") == "message":  # anthropic's
        yield from _parts(_contents(body.get("content")), copier)
    elif "output" in body:  # a response's
        for item in listed(body["output"]):
            yield from (_message(item, copier, "assistant") or {"parts": ()})["parts"]
    elif isinstance(body.get("text"), str):  # a transcript
        yield _text(body["text"], copier)
    else:
        for item in listed(body.get("data")):  # images, and not the vectors of embeddings
            own = fields(item)
            if own.get("b64_json"):
                yield copier.blob(str(own["b64_json"]), None, "image")
            elif own.get("url"):
                yield _media("image", own["url"], copier)


def _choice(choice: Mapping[str, object], copier: Copier, otherwise: str) -> Message:
    message = choice.get("message")
    if message is None:
        made: Message = {"role": "assistant", "parts": list(_parts([choice.get("text")], copier))}
    else:
        made = _message(message, copier, "assistant") or {"role": "assistant", "parts": []}
    return {**made, "finish_reason": finish_reason(choice.get("finish_reason"), otherwise)}


def _candidate(candidate: Mapping[str, object], copier: Copier, otherwise: str) -> Message:
    parts = list(_parts(_contents(candidate.get("content")), copier))
    reason = candidate.get("finishReason") or candidate.get("finish_reason")
    reason = getattr(reason, "value", reason)
    return {"role": "assistant", "parts": parts, "finish_reason": finish_reason(reason, otherwise)}


# --- one message -----------------------------------------------------------------------------

_TOOL_ROLES: Final = frozenset({"tool", "function"})
_ROLES: Final[Mapping[object, str]] = {"model": "assistant"}
_ITEMS: Final[Mapping[object, str]] = {
    "function_call": "assistant",
    "custom_tool_call": "assistant",
    "reasoning": "assistant",
    "function_call_output": "tool",
    "custom_tool_call_output": "tool",
}
"""Items of the responses API that are no messages, and whose they are."""


def _message(raw: object, copier: Copier, role: str) -> Message | None:
    if isinstance(raw, str):
        return {"role": role, "parts": [_text(raw, copier)]}
    if _is_list(raw):
        items = listed(raw)
        whole = items and all(isinstance(item, int) for item in items[:8])
        return _user(_tokens(items)) if whole else {"role": role, "parts": list(_parts(items, copier))}
    own = fields(raw)
    if not own:
        return None
    kind = own.get("type")
    if own.get("role") is None and (kind is not None or "content" not in own):
        found = {"role": _ITEMS.get(kind, role), "parts": list(_parts([raw] if "parts" not in own else [own], copier))}
        return found if found["parts"] else None
    given = copier.label(own.get("role"))
    made: Message = {"role": _ROLES.get(given, given or role), "parts": list(_message_parts(own, copier))}
    name = copier.label(own.get("name"))
    if name is not None:
        made["name"] = name
    return made


def _message_parts(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
    if own.get("role") in _TOOL_ROLES:
        yield _response(own.get("tool_call_id"), own.get("content"), copier)
        return
    reasoning = own.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        yield {"type": "reasoning", "content": copier.text(reasoning)}
    else:
        yield from _parts(listed(own.get("thinking_blocks")), copier)
    yield from _parts(_contents(own.get("content")) or _contents(own.get("parts")), copier)
    refusal = own.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield {"type": "refusal", "content": copier.text(refusal)}
    yield from _parts(listed(own.get("images")), copier)
    if own.get("audio") is not None:
        yield _audio(fields(own["audio"]), copier)
    for call in listed(own.get("tool_calls")):
        function = fields(fields(call).get("function"))
        yield tool_call(fields(call).get("id"), function.get("name"), function.get("arguments"), copier)
    if own.get("function_call") is not None:
        function = fields(own["function_call"])
        yield tool_call(None, function.get("name"), function.get("arguments"), copier)


def _contents(given: object) -> list[object]:
    """What a message says, as a list of parts."""
    if given is None or given == "":
        return []
    if _is_list(given):
        return listed(given)
    own = fields(given)
    return listed(own["parts"]) if "parts" in own else [given]


def _text(value: object, copier: Copier) -> Part:
    return {"type": "text", "content": copier.text(value if isinstance(value, str) else "")}


def _audio(own: Mapping[str, object], copier: Copier) -> Part:
    part = copier.blob(str(own.get("data") or ""), None, "audio")
    if isinstance(own.get("transcript"), str):
        part["transcript"] = copier.text(str(own["transcript"]))
    return part


def tool_call(call_id: object, name: object, arguments: object, copier: Copier) -> Part:
    """A tool that is to be called; its arguments parsed, where they are JSON."""
    part: Part = {"type": "tool_call"}
    for key, value in (("id", copier.label(call_id)), ("name", copier.label(name))):
        if value is not None:
            part[key] = value
    if arguments is not None:
        part["arguments"] = copier.value(_parsed(arguments))
    return part


def _parsed(arguments: object) -> object:
    if isinstance(arguments, str) and len(arguments) <= _MAX_ARGUMENTS:
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
    return arguments


def _response(call_id: object, content: object, copier: Copier) -> Part:
    part: Part = {"type": "tool_call_response"}
    label = copier.label(call_id)
    if label is not None:
        part["id"] = label
    part["response"] = list(_parts(listed(content), copier)) if _is_list(content) else copier.value(content)
    return part


# --- one part --------------------------------------------------------------------------------


def _parts(raw: list[object], copier: Copier) -> Iterator[Part]:
    for item in raw:
        if copier.spent:
            copier.cut = True
            return
        if isinstance(item, str):
            yield _text(item, copier)
        elif item is not None:
            yield from _part(fields(item), copier)


def _part(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
    kind = own.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is not None:
        yield from read(own, copier)
        return
    for name, gemini in _GEMINI.items():
        if own.get(name) is not None:
            yield gemini(own[name], copier)
            return
    if isinstance(own.get("text"), str):
        yield {"type": "reasoning" if own.get("thought") is True else "text", "content": copier.text(str(own["text"]))}
    elif own.get("content") is not None or own.get("parts") is not None:
        yield from _parts(_contents(own.get("content") or own.get("parts")), copier)
    else:
        label = copier.label(kind)
        if label is not None:
            yield {"type": label}


def _media(modality: str, given: object, copier: Copier, mime_type: object = None) -> Part:
    """An image or the like: by its address, or inline."""
    url = given if isinstance(given, str) else fields(given).get("url")
    if not isinstance(url, str):
        return {"type": "uri", "modality": modality}
    if url[:5] == "data:" or (len(url) > _MAX_INLINE and "://" not in url[:32]):
        return copier.blob(url, mime_type, modality)
    part: Part = {"type": "uri", "modality": modality, "uri": copier.text(url)}
    label = copier.label(mime_type)
    if label is not None:
        part["mime_type"] = label
    return part


_MAX_INLINE: Final = 512
"""Characters of an address without a scheme; what is longer is base64 that forgot to say so."""


def _source(modality: str, own: Mapping[str, object], copier: Copier) -> Part:
    """Anthropic's images and documents."""
    source = fields(own.get("source"))
    if source.get("type") == "text":
        return _text(source.get("data"), copier)
    if source.get("data") is not None:
        return copier.blob(str(source["data"]), source.get("media_type"), modality)
    if source.get("file_id") is not None:
        return _file(source, copier, modality)
    return _media(modality, source.get("url"), copier)


def _file(own: Mapping[str, object], copier: Copier, modality: str | None = None) -> Part:
    """A file: inline, by its id, or by its address."""
    mime_type = own.get("format") or own.get("mime_type")
    part: Part
    if own.get("file_data") is not None:
        part = copier.blob(str(own["file_data"]), mime_type, modality)
    elif own.get("file_id") is not None:
        part = {"type": "file", "file_id": copier.label(own["file_id"]) or ""}
    else:
        part = _media(modality or "file", own.get("file_url"), copier, mime_type)
    return part if modality is None else {**part, "modality": modality}


def _input_image(own: Mapping[str, object], copier: Copier) -> Part:
    if own.get("file_id") is not None:
        return _file(own, copier, "image")
    return _media("image", own.get("image_url"), copier)


def _input_audio(own: Mapping[str, object], copier: Copier) -> Part:
    given = fields(own.get("input_audio"))
    form = given.get("format")
    return copier.blob(str(given.get("data") or ""), f"audio/{form}" if isinstance(form, str) else None, "audio")


def _reasoning(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
    """A reasoning item of the responses API: its summary, or its text."""
    for piece in listed(own.get("content")) or listed(own.get("summary")):
        said = fields(piece).get("text")
        if isinstance(said, str):
            yield {"type": "reasoning", "content": copier.text(said)}


def _output_message(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
    yield from _parts(_contents(own.get("content")), copier)


def _said(name: str, kind: str = "text") -> "_Read":
    def read(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
        value = own.get(name)
        if isinstance(value, str):
            yield {"type": kind, "content": copier.text(value)}

    return read


def _one(make: Callable[[Mapping[str, object], Copier], Part]) -> "_Read":
    def read(own: Mapping[str, object], copier: Copier) -> Iterator[Part]:
        yield make(own, copier)

    return read


_Read: TypeAlias = Callable[[Mapping[str, object], Copier], Iterator[Part]]

_READERS: Final[Mapping[str, _Read]] = {
    "text": _said("text"),
    "input_text": _said("text"),
    "output_text": _said("text"),
    "refusal": _said("refusal", "refusal"),
    "thinking": _said("thinking", "reasoning"),
    "reasoning": _reasoning,
    "message": _output_message,
    "image_url": _one(lambda own, copier: _media("image", own.get("image_url"), copier)),
    "video_url": _one(lambda own, copier: _media("video", own.get("video_url"), copier)),
    "input_image": _one(_input_image),
    "input_audio": _one(_input_audio),
    "input_file": _one(_file),
    "file": _one(lambda own, copier: _file(fields(own.get("file")), copier)),
    "image": _one(lambda own, copier: _source("image", own, copier)),
    "document": _one(lambda own, copier: _source("document", own, copier)),
    "tool_use": _one(lambda own, copier: tool_call(own.get("id"), own.get("name"), own.get("input"), copier)),
    "tool_result": _one(lambda own, copier: _response(own.get("tool_use_id"), own.get("content"), copier)),
    "function_call": _one(
        lambda own, copier: tool_call(own.get("call_id"), own.get("name"), own.get("arguments"), copier)
    ),
    "custom_tool_call": _one(
        lambda own, copier: tool_call(own.get("call_id"), own.get("name"), own.get("input"), copier)
    ),
    "function_call_output": _one(lambda own, copier: _response(own.get("call_id"), own.get("output"), copier)),
    "custom_tool_call_output": _one(lambda own, copier: _response(own.get("call_id"), own.get("output"), copier)),
}
"""Parts that say their type: OpenAI's and Anthropic's."""


def _gemini_blob(given: object, copier: Copier) -> Part:
    own = fields(given)
    mime_type = own.get("mimeType") or own.get("mime_type")
    data = own.get("data")
    return copier.blob(data if isinstance(data, bytes) else str(data or ""), mime_type, _modality(mime_type))


def _gemini_file(given: object, copier: Copier) -> Part:
    own = fields(given)
    mime_type = own.get("mimeType") or own.get("mime_type")
    return _media(_modality(mime_type), own.get("fileUri") or own.get("file_uri"), copier, mime_type)


def _modality(mime_type: object) -> str:
    return mime_type.partition("/")[0][:32] if isinstance(mime_type, str) else "file"


def _gemini_call(given: object, copier: Copier) -> Part:
    own = fields(given)
    return tool_call(own.get("id"), own.get("name"), own.get("args"), copier)


def _gemini_response(given: object, copier: Copier) -> Part:
    own = fields(given)
    return _response(own.get("id") or own.get("name"), own.get("response"), copier)


_GEMINI: Final[Mapping[str, Callable[[object, Copier], Part]]] = {
    "inlineData": _gemini_blob,
    "inline_data": _gemini_blob,
    "fileData": _gemini_file,
    "file_data": _gemini_file,
    "functionCall": _gemini_call,
    "function_call": _gemini_call,
    "functionResponse": _gemini_response,
    "function_response": _gemini_response,
}
"""Parts that are told by the field they have: Gemini's."""


def part_of(raw: object, copier: Copier) -> list[Part]:
    """A part that comes whole, as in a stream."""
    return list(_parts([raw], copier))
