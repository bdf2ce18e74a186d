"""Whose trace a call continues, and who continues its own: W3C trace context, in and out.

In: a caller can name the parent in litellm's way, a span in the call's metadata; without that the
current span counts, and without that the headers with which a request reached litellm's proxy.

Out: a deployment whose ``model_info`` says ``inject_trace_context: true`` is sent ``traceparent`` and
``tracestate`` of the attempt. The headers are a mapping of the call's own, put into its parameters
before litellm merges them with the deployment's, and filled when the attempt begins: so they name
its span, and no other call, retry or deployment ever sees them.

It is the W3C propagator, whatever the global one is: that one may send baggage too, which can hold
anything of the caller's. This module knows litellm only by what ``_litellm`` tells.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from traced_router import _litellm as seams

_W3C: Final = TraceContextTextMapPropagator()
_NAMES: Final = frozenset(_W3C.fields)


class TraceHeaders(dict[str, Any]):
    """A call's extra headers, of a deployment that asked for the trace's."""

    def fill(self, context: Context) -> None:
        """Add those of the span in ``context``; the trace's that came along are another's then."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, context)
        if carrier:
            for name in [name for name in self if name.lower() in _NAMES]:
                del self[name]
            self.update(carrier)


def put_headers(deployment: object, kwargs: object) -> TraceHeaders | None:
    """Put headers that can be filled into a call's parameters, if ``deployment`` asks for the trace's."""
    if not isinstance(deployment, Mapping) or not isinstance(kwargs, dict):
        return None
    parameters = cast("dict[str, Any]", kwargs)
    given = seams.headers_for(cast("Mapping[str, Any]", deployment), parameters)
    if given is None:
        return None
    headers = parameters[seams.headers_name(parameters)] = TraceHeaders(given)
    return headers


def headers_in(kwargs: Mapping[str, object]) -> TraceHeaders | None:
    """What :func:`put_headers` put there, still to be filled."""
    headers = kwargs.get(seams.headers_name(kwargs))
    return headers if isinstance(headers, TraceHeaders) else None


def parent_context(kwargs: Mapping[str, object]) -> Context | None:
    """The context that a call was told to start in; ``None`` for the current one."""
    given = seams.parent_span(kwargs)
    if isinstance(given, trace.Span) and given.get_span_context().is_valid:
        return trace.set_span_in_context(given)
    received = seams.received_headers(kwargs)
    if not received or trace.get_current_span().get_span_context().is_valid:
        return None
    return _W3C.extract({str(name).lower(): value for name, value in received.items()})
