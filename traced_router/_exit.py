"""What is still open when the interpreter exits: it ends before the tracer provider shuts down.

``atexit`` runs first what was registered last, and a provider registers its shutdown when it is
made. All of ``weakref.finalize`` has one place there, taken by whoever used it first, and a library
may have done so before the provider was made: then an open stream would end after the shutdown,
which loses its spans and prints the SDK's complaint. This module must not know OpenTelemetry.
"""

import atexit
import functools
import os
import weakref
from collections.abc import Callable


class OpenEnds:
    """The ways to end what is open."""

    __slots__ = ("__weakref__", "_at_exit", "_open")

    def __init__(self) -> None:
        self._open: dict[Callable[[], None], int] = {}
        self._at_exit = functools.partial(_end, weakref.ref(self))
        weakref.finalize(self, atexit.unregister, self._at_exit).atexit = False

    def before_all_so_far(self) -> None:
        """At exit, end before whatever has asked to run there until now."""
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def add(self, end: Callable[[], None]) -> None:
        """``end`` is to be called at exit."""
        self._open[end] = os.getpid()

    def discard(self, end: Callable[[], None]) -> None:
        """What ``end`` would end is over."""
        self._open.pop(end, None)

    def end(self) -> None:
        """End what this process has opened; what a fork has inherited is for the parent to end."""
        for end, process in list(self._open.items()):
            if process == os.getpid():
                end()


def _end(reference: weakref.ref[OpenEnds]) -> None:
    ends = reference()
    if ends is not None:
        ends.end()
