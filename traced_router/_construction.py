"""Building a router's tracing: settings read, litellm probed, what is missing said once.

An adapter; it runs when a router is built, or when a live one is adopted, and never in a call.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

import inspect
from collections.abc import Callable
from typing import Any, Final

from litellm.router import Router

from traced_router import _litellm as seams
from traced_router import settings as settings_module
from traced_router._arguments import Arguments
from traced_router._log_lines import logger
from traced_router._strategies import Configured
from traced_router._tracing import RouterTracing
from traced_router.errors import ConfigurationError
from traced_router.settings import TracedRouterSettings

_NO_STRATEGIES: Final = Configured()


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
    made = RouterTracing(
        router,
        arguments,
        settings_module.load(arguments.settings),
        seams.FOREIGN if foreign else seams.probe(seams.LOOP),
        "foreign" if foreign else seams.ENGINE,
    )
    made.strategies.configure(configured)
    made.watch_cooldowns(router)
    _say_what_is_missing(made)
    _say_that_events_are_missing(made)
    if foreign and made.policies:
        logger.warning("this litellm's core retries by itself and asks no Python: retrying= has no effect")
    if foreign and made.hedges:
        logger.warning("this litellm's core calls providers by itself and asks no Python: hedging= has no effect")
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


def _say_that_events_are_missing(made: RouterTracing) -> None:
    if made.capture is not None and made.capture.on_event != made.capture.mode.on_event:
        logger.warning("this OpenTelemetry is too old to emit events, so content does not go there")


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
