"""Whether the garbage collector came in the midst of work that may hold a lock.

It can come wherever memory is taken, and what it throws away may be a stream, or a coroutine, whose
request ends with it. To end one is to end spans and measurements, and to tell a strategy: all of
these take locks, which are not reentrant, and a thread that has one already would wait for itself.
This module must know neither litellm nor OpenTelemetry, but for the names of modules.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Final

_HOLD_LOCKS: Final = (
    "opentelemetry.sdk.",
    "opentelemetry.exporter.",
    "logging.",
    "queue.",
    "traced_router_strategies.",
    "traced_router._seat.",  # around a strategy of anybody's
    "traced_router._sharing.",
    "traced_router.resilience.",
    "traced_router._capture.",  # around a redactor
)


def interrupts() -> bool:
    """Whether what asks runs on top of such work."""
    frame = inspect.currentframe()
    while frame is not None:
        if f"{frame.f_globals.get('__name__')}.".startswith(_HOLD_LOCKS):
            return True
        frame = frame.f_back
    return False


def elsewhere(function: Callable[..., object], *args: object) -> None:
    """Call ``function`` in a thread of its own."""
    threading.Thread(target=function, args=args, name="traced_router", daemon=True).start()
