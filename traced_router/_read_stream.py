"""What a stream said of itself, chunk by chunk and at its end.

This module must not know OpenTelemetry.
"""

from traced_router._facts import AnswerFacts
from traced_router._litellm import fields, hidden_params
from traced_router._read_answer import answer, usage_tokens


class StreamReader:
    """Watches one stream: cheap per chunk, the work is done once at the end."""

    __slots__ = ("_first", "_last", "_usage")

    def __init__(self) -> None:
        """A reader for one stream."""
        self._first: object = None
        self._last: object = None
        self._usage: object = None

    def chunk(self, chunk: object) -> bool:
        """Look at one chunk; whether it has content."""
        try:
            return self._chunk(chunk)
        except Exception:  # noqa: BLE001 - a chunk can be any object
            return False

    def _chunk(self, chunk: object) -> bool:
        self._last = chunk
        of = fields(chunk)
        usage = of.get("usage")
        if usage is not None:
            self._usage = usage
        choices = of.get("choices")
        content = bool(choices) and any(fields(fields(choices[0]).get("delta")).values())  # type: ignore[index]
        if content and self._first is None:
            self._first = chunk
        return content

    def finish(self, stream: object, *, complete: bool = True) -> AnswerFacts:
        """The facts of the stream, which is over; ``complete`` when it was read to its end."""
        try:
            base = answer(self._last)
            usage = usage_tokens(self._usage or hidden_params(self._last).get("usage"))
            return AnswerFacts(
                response_id=base.response_id,
                response_model=base.response_model,
                finish_reasons=base.finish_reasons,
                input_tokens=usage[0],
                output_tokens=usage[1],
                cache_read_tokens=usage[2],
                reasoning_tokens=usage[3],
                cache_hit=base.cache_hit,
            )
        except Exception:  # noqa: BLE001 - a stream can be any object
            return AnswerFacts()
