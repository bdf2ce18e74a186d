"""What a fake deployment does with a request, as plain values.

A behaviour is data: it is made in a test, handed to ``FakeProvider.script`` or ``.default`` and
played by the server, and the same value can be played any number of times. Nothing here knows
HTTP framing or what a provider's body looks like; all of it is frozen, so behaviours can be shared
between tests and derived with :func:`dataclasses.replace`. Times are seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from traced_router.testing._provider_gate import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all behaviours share: what happens between the request's last byte and the first byte back.

    Attributes:
        delay: seconds to wait before anything else.
        hold_before: a gate to wait at, after ``delay``.
    """

    delay: float = 0.0
    hold_before: Gate | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call in an answer. ``arguments`` is JSON text, as providers send it."""

    name: str
    arguments: str = "{}"
    id: str = "call-1"


@dataclass(frozen=True, slots=True)
class Answer(Step):
    """A good answer, in whatever shape the endpoint asks for.

    A stream is sent in *chunks*: one per piece of text, then one for the tool calls if there are
    any, then the closing events, which are not counted. What a protocol sends before its first
    piece (a role, ``message_start``) goes out together with that piece.

    Attributes:
        text: the completion; also the transcript, the speech's bytes, the document found.
        chunks: the pieces of a streamed text; ``None`` cuts ``text`` after its spaces. An empty
            piece makes a chunk that has a role and no content, as OpenAI's first chunk has.
        chunk_delay: seconds before every chunk but the first.
        hold_after_chunk: ``(n, gate)``: wait at the gate when ``n`` chunks are out; 0 is after the
            headers. Streams only.
        input_tokens: all of the prompt, the cached part included, whatever the protocol counts.
        output_tokens: all of the completion, reasoning included.
        cached_tokens: the part of the input that came from the provider's cache; ``None`` says nothing of it.
        reasoning_tokens: the part of the output that was reasoning; ``None`` says nothing of it.
        usage: whether usage is reported at all. OpenAI's chat and text streams report it only to a
            client that asks with ``stream_options.include_usage``, as the real one does.
        response_model: the model that the answer names; ``None`` repeats the one asked for.
        finish_reason: in OpenAI's words; ``stop`` becomes ``tool_calls`` when there are any.
        tool_calls: tool calls, after the text; with ``text=""`` they are all there is.
        dimensions: length of an embedding.
        headers: extra response headers.
    """

    text: str = "hello"
    chunks: Sequence[str] | None = None
    chunk_delay: float = field(default=0.0, kw_only=True)
    hold_after_chunk: tuple[int, Gate] | None = field(default=None, kw_only=True)
    input_tokens: int = field(default=11, kw_only=True)
    output_tokens: int = field(default=7, kw_only=True)
    cached_tokens: int | None = field(default=None, kw_only=True)
    reasoning_tokens: int | None = field(default=None, kw_only=True)
    usage: bool = field(default=True, kw_only=True)
    response_model: str | None = field(default=None, kw_only=True)
    finish_reason: str = field(default="stop", kw_only=True)
    tool_calls: Sequence[ToolCall] = field(default=(), kw_only=True)
    dimensions: int = field(default=3, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)

    @property
    def pieces(self) -> Sequence[str]:
        """The text as a stream sends it. Text that is empty is one empty piece, or none beside tool calls."""
        if self.chunks is not None:
            return self.chunks
        if not self.text:
            return () if self.tool_calls else ("",)
        words = self.text.split(" ")
        return [word + " " for word in words[:-1]] + ([words[-1]] if words[-1] else [])

    @property
    def full_text(self) -> str:
        """The text that a reader of the whole answer has, streamed or not."""
        return self.text if self.chunks is None else "".join(self.chunks)

    @property
    def reason(self) -> str:
        """The finish reason, in OpenAI's words."""
        return "tool_calls" if self.tool_calls and self.finish_reason == "stop" else self.finish_reason


@dataclass(frozen=True, slots=True)
class Status(Step):
    """An HTTP answer with this status: most often an error, in the shape that the endpoint's protocol has.

    Attributes:
        code: the HTTP status.
        message: the error's message.
        type: the error's type (OpenAI's and Anthropic's ``error.type``); ``None`` takes the usual one for ``code``.
        error_code: OpenAI's ``error.code``.
        body: the whole body instead: a mapping is sent as JSON, text as it is.
        headers: extra response headers.
    """

    code: int
    message: str = "the fake provider was told to fail"
    type: str | None = field(default=None, kw_only=True)
    error_code: str | None = field(default=None, kw_only=True)
    body: Mapping[str, object] | str | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)

    @property
    def all_headers(self) -> Mapping[str, str]:
        """``headers`` and those that the kind of error brings along."""
        return self.headers


@dataclass(frozen=True, slots=True)
class RateLimited(Status):
    """429, with what the provider asks the client to wait, when it asks.

    Attributes:
        retry_after: ``Retry-After``: seconds, or text (an HTTP date) as it is.
        retry_after_ms: ``retry-after-ms``, which OpenAI and Azure send beside it.
    """

    code: int = 429
    message: str = "Rate limit reached for requests"
    retry_after: float | str | None = field(default=None, kw_only=True)
    retry_after_ms: int | None = field(default=None, kw_only=True)

    @property
    def all_headers(self) -> Mapping[str, str]:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.retry_after_ms is not None:
            headers["retry-after-ms"] = str(self.retry_after_ms)
        return headers


@dataclass(frozen=True, slots=True)
class ServerError(Status):
    """The provider's own fault: 500, or 502, 503, 504, 529 by ``code``."""

    code: int = 500
    message: str = "The server had an error"


@dataclass(frozen=True, slots=True)
class BadRequest(Status):
    """400: the request's own fault."""

    code: int = 400
    message: str = "Invalid value for 'temperature'"


# Clients know the next two by words alone, and each provider has its own: the messages have all of them.


@dataclass(frozen=True, slots=True)
class ContextWindowExceeded(Status):
    """400 with the words by which clients know that the prompt was too long."""

    code: int = 400
    message: str = "This model's maximum context length is 128000: too many tokens, the prompt is too long."
    error_code: str | None = field(default="context_length_exceeded", kw_only=True)


@dataclass(frozen=True, slots=True)
class ContentPolicy(Status):
    """400 with the words by which clients know that the content was refused."""

    code: int = 400
    message: str = "Invalid prompt: violating our usage policy. Output blocked by content filtering policy."
    error_code: str | None = field(default="content_policy_violation", kw_only=True)


@dataclass(frozen=True, slots=True)
class Unauthorized(Status):
    """401: the key is not known."""

    code: int = 401
    message: str = "Incorrect API key provided"
    error_code: str | None = field(default="invalid_api_key", kw_only=True)


@dataclass(frozen=True, slots=True)
class NotFound(Status):
    """404: the model is not known."""

    code: int = 404
    message: str = "The model does not exist"
    error_code: str | None = field(default="model_not_found", kw_only=True)


@dataclass(frozen=True, slots=True)
class Malformed(Step):
    """200 with a body that is not JSON; a stream gets it as its only event."""

    garbage: str = '{"id": "chatcmpl-broken", "choices": [{'


@dataclass(frozen=True, slots=True)
class Hang(Step):
    """No byte until ``FakeProvider.release()``, then ``then``; the end of the server ends it too."""

    then: "Behaviour" = field(default_factory=Answer)


@dataclass(frozen=True, slots=True)
class Drop(Step):
    """The connection ends before any byte of an answer: in order, or with a reset."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class DieMidStream(Step):
    """The connection ends inside the body: headers, ``after_chunks`` chunks of ``answer``, then nothing.

    What was sent just before a connection breaks may be lost in the client's own buffers. Where the
    number of chunks that the client saw matters, give ``answer`` a ``hold_after_chunk`` at the
    same count and open the gate when the client has them.

    Attributes:
        after_chunks: 0 is after the headers; more than there are is before the closing events. An
            answer that is not streamed dies before its body at 0, else in the middle of it.
        reset: end with a TCP reset, else in order but without the body's end.
        answer: what was being answered.
    """

    after_chunks: int = 1
    reset: bool = True
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True, slots=True)
class ErrorEventMidStream(Step):
    """A stream that turns into the protocol's error event, then ends in order.

    A request that is not a stream gets the same error as an HTTP status.

    Attributes:
        after_chunks: chunks of ``answer`` before the error.
        error: status, type and message of the error. The default is ``overloaded_error`` (529) to
            Anthropic's protocol, and a server error to the others.
        answer: what was being answered.
    """

    after_chunks: int = 1
    error: Status = field(default_factory=lambda: ServerError(529, "Overloaded"))
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True, slots=True)
class SlowFirstByte(Step):
    """Headers at once, the first byte of the body only after ``seconds`` or when ``gate`` opens."""

    seconds: float = 0.0
    gate: Gate | None = None
    answer: Answer = field(default_factory=Answer)


Act: TypeAlias = Answer | Status | Malformed | Drop | DieMidStream | ErrorEventMidStream | SlowFirstByte
"""What a fake deployment does when it does something."""

Behaviour: TypeAlias = Act | Hang
"""All that a fake deployment can do."""
