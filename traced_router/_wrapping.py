"""A span processor around another one: one step at a time, from any thread, and never an exception.

The steps of a processor that keeps state must not run side by side, nor inside each other. A lock
does for threads; but the garbage collector can end a dropped stream's spans at any line, also at
one that holds the lock, in the same thread. So a step that is begun inside another one waits in
line, and whoever is inside takes it. The lock is reentrant for that reason only.

What a step hands on leaves after the lock is given back: an exporter may take its time. This
module must not know litellm, nor why spans are kept or dropped.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, ParamSpec, TypeAlias, TypeVar, cast

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from traced_router._guard import Guard

WHERE: Final = "sampling"

P = ParamSpec("P")
T = TypeVar("T")

Step: TypeAlias = Callable[[list[ReadableSpan]], None]
"""Changes the state, and adds what goes to the wrapped processor."""


class Wrapping(SpanProcessor):
    """Hands everything to ``processor``; what becomes of ended spans is a subclass's business."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._guard = Guard(metrics.get_meter_provider)
        self._lock = threading.RLock()
        self._line: deque[Step] = deque()
        self._inside = False
        self._shut = False
        if hasattr(os, "register_at_fork"):  # not on Windows
            wrapping = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forked(wrapping()))

    @property
    def faults(self) -> int:
        """Exceptions of the wrapped processor, and of ours: the first is logged, none is raised."""
        return self._guard.faults

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span has started."""
        self._guarded(lambda: self._processor.on_start(span, parent_context))

    def _on_ending(self, span: Span) -> None:
        """A span is about to end; the SDK has this since 1.36, and calls it experimental."""
        ending = cast("Callable[[Span], None] | None", getattr(self._processor, "_on_ending", None))
        if ending is not None:
            self._guarded(lambda: ending(span))

    def shutdown(self) -> None:
        """End this processor and the wrapped one. Only the first time counts."""
        if not self._shut:
            self._do(self._finish)
            self._guarded(self._processor.shutdown)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped processor; whether it could within the time."""
        self._do(self._flush)
        return bool(self._guarded(lambda: self._processor.force_flush(timeout_millis)))

    def _finish(self, out: list[ReadableSpan]) -> None:  # noqa: ARG002  # a step
        self._shut = True

    def _flush(self, out: list[ReadableSpan]) -> None:
        """Nothing waits."""

    def _do(self, step: Step) -> None:
        """Take ``step`` when its turn comes: now, or inside the step that runs in this thread."""
        out: list[ReadableSpan] = []
        with self._lock:
            self._line.append(step)
            while self._line and not self._inside:
                self._inside = True
                try:
                    while self._line:
                        self._guarded(self._line.popleft(), out)
                finally:
                    self._inside = False
        for span in out:
            self._guarded(self._processor.on_end, span)

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return call(*args, **kwargs)
        except Exception as fault:  # noqa: BLE001  # telemetry fails open
            self._guard.report(WHERE, fault)
            return None

    def after_fork(self) -> None:
        """Begin anew in a child process: what waits is its parent's, and nobody here can give the lock back."""
        self._lock = threading.RLock()
        self._line.clear()
        self._inside = False


def _forked(wrapping: Wrapping | None) -> None:
    if wrapping is not None:
        wrapping.after_fork()
