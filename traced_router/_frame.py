"""Where the code that runs now stands in a tree: it travels in the OpenTelemetry context.

One context carries both the current span and the frame, so whatever carries the one into a task,
a thread or a callback carries the other. This module must not know litellm.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownMemberType=false

from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

if TYPE_CHECKING:
    from traced_router._spans import Hop
    from traced_router._tree import Batch, Call

_FRAME: Final = otel_context.create_key("traced_router.frame")


class Frame:
    """Where the code that runs now stands in a tree; travels in the OpenTelemetry context.

    ``owner`` is whatever an adapter wants to find again there; the tree does not look at it.
    """

    __slots__ = ("call", "hop", "owner")

    def __init__(self, call: "Call | Batch | None", hop: "Hop | None" = None, owner: object = None) -> None:
        self.call = call
        self.hop = hop
        self.owner = owner

    @property
    def trace_id(self) -> str | None:
        """``litellm_trace_id`` of the call, as far as it is known."""
        return None if self.call is None else self.call.known_trace_id


class Outside(Frame):
    """Where the code of a call stands that nobody records: there is no tree, but log records can name the call."""

    __slots__ = ("_trace_id",)

    def __init__(self, trace_id: str | None, owner: object = None) -> None:
        super().__init__(None, owner=owner)
        self._trace_id = trace_id

    @property
    def trace_id(self) -> str | None:
        """As the caller gave it, or litellm has made it since."""
        return self._trace_id

    def adopt_trace_id(self, trace_id: object) -> None:
        """litellm has made its id."""
        if self._trace_id is None and trace_id is not None:
            self._trace_id = str(trace_id)


def current_frame() -> Frame | None:
    """The frame of the code that runs now, if it runs inside a traced call."""
    return frame_of(otel_context.get_current())


def with_frame(frame: Frame, context: Context) -> Context:
    """``context``, but standing at ``frame``."""
    return otel_context.set_value(_FRAME, frame, context)


def standing(frame: Frame, span: Span, context: Context) -> Context:
    """``context``, but inside ``span`` and standing at ``frame``."""
    inside = trace.set_span_in_context(span, context)
    # A context is a dict that refuses changes because others may hold it. Nobody holds this one
    # yet, and to set the frame in a second copy would double the cost of the first.
    dict.__setitem__(inside, _FRAME, frame)
    return inside


def frame_of(context: Context) -> Frame | None:
    """The frame that ``context`` stands at."""
    frame = context.get(_FRAME)
    return frame if isinstance(frame, Frame) else None
