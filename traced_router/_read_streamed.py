"""The messages of a stream, put together from its chunks while its reader reads.

For streams whose content is captured, and no others: what is kept here is text. A stream that is left or
dies has said what it had said until then. This module must not know OpenTelemetry.
"""

import json
from collections.abc import Mapping
from typing import Final, cast

from traced_router._content import Copier
from traced_router._litellm import fields
from traced_router._read_messages import Message, Part, finish_reason, output_messages, part_of, tool_call
from traced_router._values import listed

_MAX_CHOICES: Final = 64
_MAX_BLOCKS: Final = 512
_MAX_LINE: Final = 1 << 20


class _Block:
    """A piece of a message that comes bit by bit: text, reasoning, a tool call; or a part that came whole."""

    __slots__ = ("id", "kind", "name", "pieces", "whole")

    def __init__(self, kind: str, whole: Part | None = None) -> None:
        self.kind = kind
        self.whole = whole
        self.pieces: list[str] = []
        self.id: object = None
        self.name: object = None

    def part(self, copier: Copier) -> Part:
        """The part that it has become."""
        said = "".join(self.pieces)
        if self.whole is not None:
            return self.whole
        if self.kind == "tool_call":
            return tool_call(self.id, self.name, said or None, copier)
        return {"type": self.kind, "content": copier.text(said)}


class StreamedMessages:
    """Puts one stream together: :meth:`chunk` for each chunk, then :meth:`messages`.

    Args:
        characters: of text that are kept at most.
    """

    __slots__ = ("_choices", "_left", "_reasons", "_response", "_rest", "_whole", "cut")

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._whole = Copier(characters)
        self._choices: dict[object, dict[object, _Block]] = {}
        self._reasons: dict[object, object] = {}
        self._response: object = None
        self._rest = b""
        self.cut = False

    def chunk(self, chunk: object) -> None:
        """Take in one chunk: an object of litellm's, a dict, or a piece of a stream of bytes."""
        if isinstance(chunk, bytes | str):
            self._events(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk)
        else:
            self._event(fields(chunk))

    def messages(self, copier: Copier, otherwise: str) -> list[Message]:
        """What has been said; ``otherwise`` is the finish reason of a message that has none."""
        if self._rest:
            self._events(b"\n")
        whole = [] if self._response is None else output_messages(self._response, copier, otherwise)
        if whole:
            return whole
        self.cut = self.cut or self._whole.cut
        out: list[Message] = []
        for choice, blocks in self._choices.items():
            parts = [block.part(copier) for block in blocks.values()]
            reason = self._reasons.get(choice, self._reasons.get(None))
            out.append({"role": "assistant", "parts": parts, "finish_reason": finish_reason(reason, otherwise)})
        return out

    # --- bytes -------------------------------------------------------------------------------

    def _events(self, raw: bytes) -> None:
        lines = (self._rest + raw).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE:
            self._rest, self.cut = b"", True
        for line in lines:
            if line.startswith(b"data:"):
                try:
                    event: object = json.loads(line[5:])
                except (ValueError, RecursionError):
                    continue
                self._event(cast("dict[str, object]", event) if isinstance(event, dict) else {})

    # --- events ------------------------------------------------------------------------------

    def _event(self, event: Mapping[str, object]) -> None:
        choices = event.get("choices")
        if choices is not None:
            for place, choice in enumerate(listed(choices)):
                self._choice(fields(choice), place)
            return
        if "candidates" in event:
            for place, candidate in enumerate(listed(event["candidates"])):
                self._candidate(fields(candidate), place)
            return
        response = event.get("response")
        if response is not None and listed(fields(response).get("output")):
            self._response = response
        kind = getattr(event.get("type"), "value", event.get("type"))
        if isinstance(kind, str):
            if kind.startswith("response."):
                self._responses(kind, event)
            else:
                self._anthropic(kind, event)

    def _choice(self, choice: Mapping[str, object], place: int) -> None:
        """OpenAI's: a delta, or the text of a text completion."""
        index = choice.get("index", place)
        if choice.get("finish_reason") is not None:
            self._reasons[index] = choice["finish_reason"]
        delta = fields(choice.get("delta"))
        self._add(index, "reasoning", "reasoning", delta.get("reasoning_content"))
        self._add(index, "text", "text", delta.get("content") or choice.get("text"))
        self._add(index, "refusal", "refusal", delta.get("refusal"))
        for at, image in enumerate(listed(delta.get("images"))):
            self._put(index, ("image", at), image)
        for at, call in enumerate(listed(delta.get("tool_calls"))):
            own = fields(call)
            self._add_call(index, own.get("index", at), own.get("id"), fields(own.get("function")))
        if delta.get("function_call") is not None:
            self._add_call(index, 0, None, fields(delta["function_call"]))

    def _add_call(self, choice: object, at: object, call_id: object, function: Mapping[str, object]) -> None:
        called = (call_id, function.get("name"))
        self._add(choice, ("tool_call", at), "tool_call", function.get("arguments"), called)

    def _candidate(self, candidate: Mapping[str, object], place: int) -> None:
        """Gemini's: parts of text, and others that come whole."""
        index = candidate.get("index") or place
        reason = candidate.get("finishReason") or candidate.get("finish_reason")
        if reason is not None:
            self._reasons[index] = getattr(reason, "value", reason)
        for part in listed(fields(candidate.get("content")).get("parts")):
            own = fields(part)
            said = own.get("text")
            if isinstance(said, str):
                kind = "reasoning" if own.get("thought") is True else "text"
                self._add(index, kind, kind, said)
            else:
                self._put(index, len(self._choices.get(index, ())), part)

    def _anthropic(self, kind: str, event: Mapping[str, object]) -> None:
        at = ("block", event.get("index"))
        delta = fields(event.get("delta"))
        if kind == "content_block_start":
            given = fields(event.get("content_block"))
            if given.get("type") in {"tool_use", "server_tool_use"}:
                self._add(0, at, "tool_call", "", (given.get("id"), given.get("name")))
            else:
                self._add(0, at, "text", given.get("text"))
        elif kind == "content_block_delta":
            self._add(0, at, "reasoning", delta.get("thinking"))
            self._add(0, at, "text", delta.get("text") or delta.get("partial_json"))
        elif kind == "message_delta" and delta.get("stop_reason") is not None:
            self._reasons[0] = delta["stop_reason"]

    def _responses(self, kind: str, event: Mapping[str, object]) -> None:
        at = (event.get("output_index"), event.get("content_index", event.get("summary_index")))
        if kind == "response.output_item.added":
            item = fields(event.get("item"))
            if item.get("type") == "function_call":
                called = (item.get("call_id"), item.get("name"))
                self._add(0, (event.get("output_index"), None), "tool_call", item.get("arguments"), called)
        elif kind in _DELTAS:
            self._add(0, at, _DELTAS[kind], event.get("delta"))

    # --- what is kept ------------------------------------------------------------------------

    def _blocks(self, choice: object, key: object) -> dict[object, _Block] | None:
        """The blocks of a choice, if there is room for one more."""
        blocks = self._choices.get(choice)
        if blocks is None:
            if len(self._choices) >= _MAX_CHOICES:
                self.cut = True
                return None
            blocks = self._choices[choice] = {}
        if key not in blocks and len(blocks) >= _MAX_BLOCKS:
            self.cut = True
            return None
        return blocks

    def _add(
        self, choice: object, key: object, kind: str, said: object, called: tuple[object, object] = (None, None)
    ) -> None:
        """Add a bit to a block, which starts with its first; a tool call can start with none."""
        text = said if isinstance(said, str) else ""
        blocks = self._blocks(choice, key) if text or kind == "tool_call" else None
        if blocks is None:
            return
        block = blocks.setdefault(key, _Block(kind))
        block.id, block.name = called[0] or block.id, called[1] or block.name
        kept = text[: self._left]
        self._left -= len(kept)
        self.cut = self.cut or len(kept) < len(text)
        if kept:
            block.pieces.append(kept)

    def _put(self, choice: object, key: object, given: object) -> None:
        """Add a part that came whole."""
        blocks = self._blocks(choice, key)
        if blocks is None:
            return
        for part in part_of(given, self._whole)[:1]:
            blocks[key] = _Block("whole", part)


_DELTAS: Final[Mapping[str, str]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool_call",
}
"""Events of a responses stream that bring a bit of something."""
