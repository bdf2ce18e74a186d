"""Building a router's tracing: arguments checked, litellm probed, what is missing said once.

An adapter; it runs when a router is built, or when a live one is adopted, and never in a call.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from litellm.router import Router
from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider

from traced_router import _litellm as seams
from traced_router import settings as settings_module
from traced_router._attributes import Limits
from traced_router._strategies import Configured, Resilient
from traced_router._tracing import RouterTracing
from traced_router.errors import ConfigurationError
from traced_router.resilience import ResilienceOptions
from traced_router.settings import TracedRouterSettings

_NO_STRATEGIES: Final = Configured()

logger: Final = logging.getLogger("traced_router")

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
    resilience: Resilient = None

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


def tracing(
    router: Any, arguments: Arguments, configured: Configured = _NO_STRATEGIES, *, foreign: bool = False
) -> RouterTracing:
    """The tracing of ``router``, the object whose class runs the loop.

    Args:
        router: litellm's router, or the core of a hosted one.
        arguments: the constructor's own.
        configured: the strategies of ours.
        foreign: whether the loop ignores Python overrides.
    """
    settings = settings_module.load(arguments.settings)
    made = RouterTracing(
        router,
        arguments.tracer_provider,
        arguments.meter_provider,
        Limits(string=settings.max_string_length, list_candidates=settings.list_candidates),
        seams.FOREIGN if foreign else seams.probe(seams.LOOP),
        "foreign" if foreign else seams.ENGINE,
        arguments.resilience,
    )
    made.strategies.configure(configured)
    made.watch_cooldowns(router)
    _say_what_is_missing(made)
    _say_what_writes_on_our_spans()
    return made


def adopt(router: Any) -> RouterTracing:
    """The tracing of a live router that has become a traced one; made at its first call, which must not fail."""
    try:
        return tracing(router, Arguments())
    except ConfigurationError as error:
        logger.warning("a router is traced with the default settings: %s", error)
        return tracing(router, Arguments(settings=TracedRouterSettings.model_construct()))


def _say_what_is_missing(made: RouterTracing) -> None:
    lacking = [f"{layer} ({level})" for layer, level in made.capabilities.items() if level != "full"]
    if lacking:
        logger.warning(
            "this litellm does not show all of a call; traces lack: %s. See TracedRouter.tracing_capabilities",
            ", ".join(lacking),
        )


def _say_what_writes_on_our_spans() -> None:
    if seams.otel_v1_writes_on_current_span():
        logger.warning(
            "litellm's callback 'otel' writes its attributes and its status onto the current span, which is now "
            "this router's; set USE_OTEL_LITELLM_REQUEST_SPAN=true, or LITELLM_OTEL_V2, or remove the callback"
        )


def signature(init: Callable[..., None]) -> inspect.Signature:
    """litellm's constructor arguments and ours: litellm's proxy reads which ones a router takes."""
    theirs = inspect.signature(Router.__init__)
    ours = [p for p in inspect.signature(init).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    parameters = [p for p in theirs.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    rest = [p for p in theirs.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    return theirs.replace(parameters=[*parameters, *ours, *rest])
