"""What ``TracedRouter`` takes beside litellm's own arguments, and what of it can be used.

This module must not know litellm.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.util.types import AttributeValue

from traced_router._capture import Redactor
from traced_router._enrichment import OnRequestEnd, check_attributes, check_hook
from traced_router._policies import policies_of
from traced_router.deadline import deadlines_of
from traced_router.errors import ConfigurationError
from traced_router.hedging import hedges_of
from traced_router.resilience import ResilienceOptions
from traced_router.settings import TracedRouterSettings

_PROVIDERS: Final = (
    ("tracer_provider", "get_tracer", trace.TracerProvider),
    ("meter_provider", "get_meter", metrics.MeterProvider),
    ("logger_provider", "get_logger", LoggerProvider),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The constructor's own arguments."""

    tracer_provider: trace.TracerProvider | None = None
    meter_provider: metrics.MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    settings: TracedRouterSettings | Mapping[str, object] | None = None
    resilience: ResilienceOptions | bool | None = None
    vocabularies: Iterable[str] | str | None = None
    attributes: Mapping[str, AttributeValue] | None = None
    on_request_end: OnRequestEnd | None = None
    redactor: Redactor | None = None
    retrying: object = None
    deadline: object = None
    hedging: object = None

    def check(self) -> None:
        """Raise :class:`ConfigurationError` for what cannot be used."""
        for name, method, kind in _PROVIDERS:
            given = getattr(self, name)
            if given is not None and not callable(getattr(given, method, None)):
                raise ConfigurationError(
                    f"{name}={type(given).__name__!r} object: give an OpenTelemetry {kind.__name__} "
                    f"(with a {method}() method), or nothing to use the global one."
                )
        if not isinstance(self.resilience, ResilienceOptions | bool | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"resilience={type(self.resilience).__name__!r} object: give ResilienceOptions, True, False, "
                "or nothing to have it on for this package's strategies alone."
            )
        if self.attributes is not None:
            check_attributes(self.attributes)
        check_hook(self.on_request_end)
        redactor: object = self.redactor
        if redactor is not None and (not callable(redactor) or inspect.iscoroutinefunction(redactor)):
            raise ConfigurationError(
                f"redactor={type(redactor).__name__!r} object: give a plain function that takes a list of "
                "messages and returns what may be shown of them, or nothing."
            )
        for given in (self, self.settings):
            policies_of(getattr(given, "retrying", None))
            deadlines_of(getattr(given, "deadline", None))
            hedges_of(getattr(given, "hedging", None))
