"""What a stream said of itself: a look at each chunk, and the sum of it at the end.

A look is cheap (about half a microsecond), because it happens for every chunk, between the provider
and the caller. It keeps references, never text. This module must not know OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Any, Final

from traced_router._facts import AnswerFacts
from traced_router._litellm import fields
from traced_router._read_sse import EventReader
from traced_router._stream_end import Seen, stream_answer
from traced_router._values import listed

_CONTENT: Final = (
    "content",
    "tool_calls",
    "reasoning_content",
    "function_call",
    "audio",
    "images",
    "thinking_blocks",
    "refusal",
)
"""Members of a delta that a reader waits for; a role is none."""

_MAX_CHOICES: Final = 64


class StreamReader:
    """Reads one stream: :meth:`chunk` for each chunk, then :meth:`finish`. For one thread at a time."""

    __slots__ = ("_events", "_first", "_last", "_reasons", "_response", "_usage")

    def __init__(self) -> None:
        self._first: object = None  # the first chunk with content
        self._last: object = None
        self._usage: object = None
        self._reasons: dict[object, object] = {}  # by choice
        self._response: object = None  # of a responses stream's last event that had one
        self._events: EventReader | None = None  # of a stream of bytes

    # --- each chunk --------------------------------------------------------------------------

    def chunk(self, chunk: object) -> bool:
        """Look at one chunk, and say whether it has content. It does not raise."""
        kind = type(chunk)
        try:
            if kind is bytes or kind is str:
                return self._event(chunk)
            content = self._mapping(chunk) if kind is dict else self._object(chunk)
        except Exception:  # noqa: BLE001  # a chunk can be any object
            return False
        self._last = chunk
        if content and self._first is None:
            self._first = chunk
        return content

    def _object(self, chunk: Any) -> bool:
        own = chunk.__dict__
        choices = own.get("choices")
        if choices is None:
            return self._responses_event(own)
        usage = own.get("usage")
        if usage is None and (extra := chunk.__pydantic_extra__):
            usage = extra.get("usage")
        if usage is not None:
            self._usage = usage
        content = False
        for choice in choices:
            # litellm's StreamingChoices and Delta have their fields as pydantic's extras (1.95 to 1.109).
            of = choice.__dict__ or choice.__pydantic_extra__
            reason = of.get("finish_reason")
            if reason is not None:
                self._ended(of.get("index"), reason)
            delta = of.get("delta")
            if of.get("text") or (delta is not None and _has_content(delta)):
                content = True
        return content

    def _ended(self, choice: object, reason: object) -> None:
        if len(self._reasons) < _MAX_CHOICES:
            self._reasons[choice] = reason

    def _responses_event(self, own: Mapping[str, object]) -> bool:
        response = own.get("response")
        if response is not None:  # when it is created, in progress, and over
            self._response = response
        kind = own.get("type")
        return isinstance(kind, str) and kind.endswith(".delta")

    def _mapping(self, chunk: Any) -> bool:
        """A chunk that is a dict: chat's, Gemini's, or a responses event."""
        choices = listed(chunk.get("choices") or chunk.get("candidates"))
        if not choices:
            return self._responses_event(chunk)
        self._usage = chunk.get("usage") or chunk.get("usageMetadata") or self._usage
        content = False
        for place, choice in enumerate(choices):
            of = fields(choice)
            reason = of.get("finish_reason") or of.get("finishReason")
            if reason is not None:
                self._ended(of.get("index", place), reason)
            if of.get("text") or of.get("content") or any(map(fields(of.get("delta")).get, _CONTENT)):
                content = True
        return content

    def _event(self, raw: Any) -> bool:
        if self._events is None:
            self._events = EventReader()
        return self._events.chunk(raw if type(raw) is bytes else raw.encode("utf-8", "replace"))

    # --- the end -----------------------------------------------------------------------------

    def finish(self, stream: object, *, complete: bool = True, deployment_id: object = None) -> AnswerFacts:
        """The facts of a stream that is over. It does not raise, and can be asked again.

        Args:
            stream: litellm's wrapper, or what it wraps; ``None`` when it is gone.
            complete: whether it was read to its end. One that was left has no output tokens and no
                cost, unless its last words had come.
            deployment_id: whose stream it is, for the price where the stream does not say (1.95).
        """
        try:
            body = None if self._events is None else self._events.body()
            first = self._last if self._first is None else self._first
            seen = Seen(first, self._last, self._usage, self._reasons, self._response, body)
            return stream_answer(seen, stream, complete=complete, deployment_id=deployment_id)
        except Exception:  # noqa: BLE001  # a stream can be any object
            return AnswerFacts()


def _has_content(delta: Any) -> bool:
    extra = delta.__pydantic_extra__
    if extra and extra.get("content"):
        return True
    return any(map(fields(delta).get, _CONTENT))
