"""Attaching and detaching a context, for frames that may be torn down by someone else.

A coroutine that the event loop destroys is closed by whoever collects it, in another
:class:`contextvars.Context` than the one it was attached in. OpenTelemetry's ``detach`` then logs
"Failed to detach context"; there is nothing left to undo, so here it says nothing. This module
must not know litellm.
"""

from contextvars import Token
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

attach: Final = otel_context.attach
"""Make a context current; give the token to :func:`detach`."""


def detach(token: Token[Context]) -> None:
    """Make current again what was before, unless this runs in another context than the attach did."""
    if type(token) is not Token:
        otel_context.detach(token)
        return
    try:
        token.var.reset(token)
    except ValueError:
        return
