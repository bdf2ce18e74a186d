"""The one place where a fault of our own ends: logged once, counted, and never raised.

Tracing must not change a call (contract, invariant 6), so every function that an adapter calls
on the tree goes through :func:`fails_open`. What the caller's own call raises never passes
here: adapters re-raise it untouched. This module must not know litellm.
"""

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from opentelemetry import metrics

from traced_router import _names
from traced_router._log_lines import logger, way_to

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """Counts the faults of one router's tracing, and logs the first of each place."""

    __slots__ = ("_counter", "_counter_of", "_provider", "_seen", "faults")

    def __init__(self, provider: Callable[[], metrics.MeterProvider]) -> None:
        self._provider = provider
        self._counter: metrics.Counter | None = None
        self._counter_of: object = None
        self._seen: set[str] = set()
        self.faults = 0

    def report(self, where: str, fault: BaseException) -> None:
        """Take note of ``fault``, raised in ``where``. Never raises."""
        if where not in self._seen:
            self._seen.add(where)
            with contextlib.suppress(Exception):  # an application's filter raises into whoever logs
                # The type and the place say enough: a message can hold what the caller sent.
                logger.error(
                    "tracing failed in %s with %s; the call goes on, and further faults there are only counted",
                    where,
                    type(fault).__name__,
                )
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("tracing failed there:\n%s", way_to(fault))
        self.count(where)

    def count(self, where: str) -> None:
        """Count a fault in ``where`` that is logged elsewhere. Never raises."""
        self.faults += 1
        try:
            self._count(where)
        except Exception:  # noqa: BLE001  # a broken meter provider is the last thing that may raise here
            with contextlib.suppress(Exception):
                logger.debug("counting a tracing fault failed")

    def _count(self, where: str) -> None:
        provider = self._provider()
        if self._counter is None or self._counter_of is not provider:
            metric = _names.METRICS[_names.TRACING_ERRORS]
            self._counter = provider.get_meter("traced_router").create_counter(metric.name, metric.unit, metric.doc)
            self._counter_of = provider
        self._counter.add(1, {_names.TRACING_WHERE: where})


class Guarded(Protocol):
    """Whatever has a guard."""

    @property
    def guard(self) -> Guard:
        """Where its faults go."""
        ...


G = TypeVar("G", bound=Guarded)


def fails_open(
    where: str,
) -> Callable[[Callable[Concatenate[G, P], T]], Callable[Concatenate[G, P], T | None]]:
    """Make a method answer ``None`` where it would have raised, and report the fault as ``where``."""

    def decorate(method: Callable[Concatenate[G, P], T]) -> Callable[Concatenate[G, P], T | None]:
        @functools.wraps(method)
        def guarded(self: G, *args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return method(self, *args, **kwargs)
            except Exception as fault:  # noqa: BLE001  # failing open is this function's purpose
                self.guard.report(where, fault)
                return None

        return guarded  # type: ignore[return-value]  # functools.wraps() loses the first parameter's name

    return decorate
