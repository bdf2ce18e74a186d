"""Content of attempts, where a router was told to capture it: read, redacted, cut, and put where it may go.

    Capture (a router's) ── begin() ──> Content (an attempt's): asked(), chunk() or answered(), said(), emit()

Nothing here runs when content is off. A fault, a redactor's too, leaves content out and is counted.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from opentelemetry._logs import Logger, LoggerProvider
from opentelemetry.context import Context

from traced_router import _names as n
from traced_router._attributes import Value
from traced_router._content import Copier, fitted
from traced_router._guard import Guard, fails_open
from traced_router._metrics import INSTRUMENTATION
from traced_router._read_messages import Message, input_messages, output_messages, system_instructions, tool_definitions
from traced_router._read_streamed import StreamedMessages
from traced_router.settings import ContentCapture

Redactor: TypeAlias = Callable[[list[dict[str, Any]]], list[dict[str, Any]] | None]
"""Takes messages (``role``, ``parts``), and returns what may be shown of them; ``None`` shows nothing."""

EVENTS: Final = "event_name" in inspect.signature(Logger.emit).parameters
"""Whether this OpenTelemetry can emit events; its first versions with logs cannot."""

_SPARE: Final = 8
"""What is read is so many times the limit: a redactor sees what a cut would hide half of."""

_EVENT_KEYS: Final = (n.GEN_AI_PREFIX, n.SERVER_ADDRESS, n.SERVER_PORT, n.ERROR_TYPE)


class Capture:
    """What one router does with content.

    Args:
        mode: where content goes.
        limit: characters of JSON that one attribute keeps.
        redactor: sees all content before it goes anywhere.
        guard: where faults go.
        logs: the logger provider in force now.
    """

    __slots__ = ("_logger", "_logger_of", "_logs", "guard", "limit", "mode", "on_event", "on_span", "redactor")

    def __init__(
        self,
        mode: ContentCapture,
        limit: int,
        redactor: Redactor | None,
        guard: Guard,
        logs: Callable[[], LoggerProvider],
    ) -> None:
        self.guard = guard
        self.limit = limit
        self.redactor = redactor
        self.mode = mode
        self.on_span = mode.on_span
        self.on_event = mode.on_event and EVENTS
        self._logs = logs
        self._logger: Logger | None = None
        self._logger_of: object = None

    @property
    def readable(self) -> int:
        """Characters that are read of one attribute's content."""
        return _SPARE * self.limit

    def begin(self, kwargs: Mapping[str, object]) -> "Content":
        """An attempt begins, of a call with these arguments."""
        return Content(self, kwargs)

    def logger(self) -> Logger:
        """The logger in force now."""
        provider = self._logs()
        if self._logger is None or provider is not self._logger_of:
            self._logger = provider.get_logger(INSTRUMENTATION)
            self._logger_of = provider
        return self._logger


class Content:
    """The content of one attempt. Its methods do not raise."""

    __slots__ = ("_answer", "_capture", "_cut", "_kwargs", "_said", "_stream", "_values", "guard")

    def __init__(self, capture: Capture, kwargs: Mapping[str, object]) -> None:
        self.guard = capture.guard
        self._capture = capture
        self._kwargs: Mapping[str, object] = kwargs
        self._answer: object = None
        self._stream: StreamedMessages | None = None
        self._said: dict[str, Value] = {}
        self._values: dict[str, object] = {}
        self._cut = False

    def asked(self, attributes: Mapping[str, Value]) -> Mapping[str, Value]:
        """What the span says of the call's own content, beside its first ``attributes``."""
        kwargs, self._kwargs = self._kwargs, {}
        if self._capture.on_event:
            self._said.update(attributes)
        out: dict[str, Value] = {}
        for key, read, role in (
            (n.GEN_AI_INPUT_MESSAGES, input_messages, None),
            (n.GEN_AI_SYSTEM_INSTRUCTIONS, system_instructions, "system"),
            (n.GEN_AI_TOOL_DEFINITIONS, tool_definitions, "tool_definitions"),
        ):
            copier = Copier(self._capture.readable)
            out.update(self._shown(key, functools.partial(read, kwargs, copier), copier, role) or {})
        return out

    def chunk(self, chunk: object) -> None:
        """A stream has brought a chunk."""
        try:
            if self._stream is None:
                self._stream = StreamedMessages(self._capture.readable)
            self._stream.chunk(chunk)
        except Exception as fault:  # noqa: BLE001  # the chunk is on its way to the caller
            self.guard.report("content", fault)

    def answered(self, answer: object) -> None:
        """The provider has answered."""
        self._answer = answer

    def said(self, otherwise: str) -> Mapping[str, Value]:
        """What the span says of the answer; ``otherwise`` is the finish reason where it has none."""
        answer, self._answer = self._answer, None
        stream, self._stream = self._stream, None
        copier = Copier(self._capture.readable)

        def read() -> list[Message]:
            if stream is None:
                return [] if answer is None else output_messages(answer, copier, otherwise)
            messages = stream.messages(copier, otherwise)
            copier.cut = copier.cut or stream.cut
            return messages

        return self._shown(n.GEN_AI_OUTPUT_MESSAGES, read, copier, None) or {}

    @fails_open("content")
    def emit(self, attributes: Mapping[str, Value], context: Context, now: int) -> None:
        """The attempt ends with these ``attributes``: tell the event, if it has content."""
        if not self._values:
            return
        said = {**self._said, **attributes, **self._values}
        kept = {key: value for key, value in said.items() if key.startswith(_EVENT_KEYS)}
        self._capture.logger().emit(
            timestamp=now, context=context, event_name=n.DETAILS_EVENT, attributes=cast("Any", kept)
        )

    # --- what may be shown -------------------------------------------------------------------

    @fails_open("content")
    def _shown(
        self, key: str, read: Callable[[], list[Message]], copier: Copier, role: str | None
    ) -> Mapping[str, Value]:
        items = self._redacted(read(), role) or []
        if self._capture.redactor is not None:
            copier_of_redacted = Copier(self._capture.readable)
            items = cast("list[Message]", copier_of_redacted.value(items))
            copier.cut = copier.cut or copier_of_redacted.cut
        if not items:
            return {}
        value, text, cut = fitted(cast("list[object]", items), self._capture.limit)
        out: dict[str, Value] = {key: text} if value else {}
        values: dict[str, object] = {key: value} if value else {}
        if cut or copier.cut:
            out[n.TRUNCATED[key]] = values[n.TRUNCATED[key]] = True
        if self._capture.on_event:
            self._values.update(values)
        return out if self._capture.on_span else {}

    @fails_open("redactor")
    def _redacted(self, items: list[Message], role: str | None) -> list[Message]:
        """What the redactor leaves; what has no role of its own is shown to it as the parts of one message."""
        redactor = self._capture.redactor
        if redactor is None or not items:
            return items
        left = redactor(items if role is None else [{"role": role, "parts": items}])
        if left is None:
            return []
        if not isinstance(left, list):  # pyright: ignore[reportUnnecessaryIsInstance]  # it is the user's
            raise TypeError("a redactor returns a list of messages, or None")
        return left if role is None else [part for message in left for part in message["parts"]]
