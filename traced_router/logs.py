"""The ids of a call on the log records that are written while it runs.

Three fields: ``trace_id`` and ``span_id`` of the current span, in OpenTelemetry's hexadecimal form, whoever made that
span; and ``litellm_trace_id`` of the router's call around it. They are found in the OpenTelemetry context, so they are
right wherever that goes: in tasks, in threads that were given the context, and while a stream is pulled. Between two
pulls nothing of a call is current, and a record has the ids of whatever the stream's reader is in.

Put :class:`CallIds` on a handler, or :func:`install` them for the whole process. Where
``opentelemetry-instrumentation-logging`` has put its ids on a record already, those are taken over.

Nothing here needs an SDK: without one there are no spans, and ``litellm_trace_id`` is there alone.
"""

import logging
from collections.abc import Callable, Collection
from typing import Any, Final

from opentelemetry import trace

from traced_router import _names as n
from traced_router._frame import current_frame

__all__ = ["FIELDS", "CallIds", "Installation", "current_ids", "install"]

FIELDS: Final = (n.LOG_TRACE_ID, n.LOG_SPAN_ID, n.TRACE_ID)
"""``trace_id``, ``span_id``, ``litellm_trace_id``."""

MISSING: Final = "-"
"""What a field says that has no value, unless told otherwise: no backend takes it for an id."""

# What opentelemetry-instrumentation-logging sets, all of them or none; "0" when there is no span.
_THEIR_TRACE_ID: Final = "otelTraceID"
_THEIR_SPAN_ID: Final = "otelSpanID"
_THEIR_MISSING: Final = "0"


def current_ids() -> dict[str, str]:
    """The ids of the code that runs now, by field; those that there are. For whoever logs without :mod:`logging`."""
    return {**_span_ids(), **_call_id()}


def _span_ids() -> dict[str, str]:
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {n.LOG_TRACE_ID: trace.format_trace_id(span.trace_id), n.LOG_SPAN_ID: trace.format_span_id(span.span_id)}


def _call_id() -> dict[str, str]:
    frame = current_frame()
    trace_id = None if frame is None else frame.trace_id
    return {} if trace_id is None else {n.TRACE_ID: trace_id}


class CallIds(logging.Filter):
    """Puts ids on the records that come by, and lets all of them pass; for a handler.

    A field that a record has already stays as it is: what the caller said with ``extra`` is meant.

    Args:
        missing: what a field says that has no value, so that a ``%(trace_id)s`` in a format always finds
            one; ``None`` leaves the field out, for structured formatters.
        fields: which of :data:`FIELDS`.
    """

    def __init__(self, missing: str | None = MISSING, fields: Collection[str] = FIELDS) -> None:
        super().__init__()
        self._missing = missing
        self._fields = tuple(fields)

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the ids on ``record``."""
        said = record.__dict__
        lacking = [field for field in self._fields if field not in said]
        if lacking:
            ids = _ids_for(said)
            for field in lacking:
                value = ids.get(field, self._missing)
                if value is not None:
                    said[field] = value
        return True


def _ids_for(said: dict[str, Any]) -> dict[str, str]:
    """The ids for a record that says this much already."""
    try:
        if _THEIR_TRACE_ID not in said or _THEIR_SPAN_ID not in said:
            return current_ids()
        if said[_THEIR_TRACE_ID] == _THEIR_MISSING:
            return _call_id()
        return {n.LOG_TRACE_ID: said[_THEIR_TRACE_ID], n.LOG_SPAN_ID: said[_THEIR_SPAN_ID], **_call_id()}
    except Exception:  # noqa: BLE001  # somebody else's span must not break a line of the application's log
        return {}


class Installation:
    """Ids on every record of the process, until :meth:`uninstall`."""

    def __init__(self, ids: CallIds) -> None:
        self._active = True
        before: Callable[..., logging.LogRecord] = logging.Logger.makeRecord

        def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            if self._active:
                ids.filter(record)
            return record

        self._before, self._instead = before, make_record
        _make_records_with(make_record)

    def uninstall(self) -> None:
        """Make records as before; where somebody has put more around this since, it stays there and does nothing."""
        self._active = False
        if logging.Logger.makeRecord is self._instead:
            _make_records_with(self._before)


def _make_records_with(make: Callable[..., logging.LogRecord]) -> None:
    logging.Logger.makeRecord = make  # type: ignore[method-assign]  # the one place that every record comes through


def install(missing: str | None = MISSING, fields: Collection[str] = FIELDS) -> Installation:
    """Put ids on every record that the process's loggers make, whatever their handlers; see :class:`CallIds`.

    This stands around :meth:`logging.Logger.makeRecord`, behind the record factory, and not in its place: what a
    factory sets, Python lets no ``extra`` repeat, and a line with a ``trace_id`` of its own would raise
    :class:`KeyError`. So it does not matter either when somebody else sets a factory or takes it away.

    Returns:
        what undoes it.
    """
    return Installation(CallIds(missing, fields))
