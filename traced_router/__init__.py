"""litellm's router with one OpenTelemetry trace per call: every pick, attempt, wait and fallback, and why."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from traced_router._configure import Telemetry, configure
    from traced_router._countdown import DeadlineExceeded
    from traced_router._router import TracedRouter
    from traced_router._summaries import last_request
    from traced_router.deadline import Deadline
    from traced_router.errors import ConfigurationError, TracedRouterError, UnknownStrategyError
    from traced_router.explanation import ExplainedCandidate, Explanation
    from traced_router.hedging import HedgePolicy
    from traced_router.resilience import ResilienceOptions
    from traced_router.retry import RetryPolicy
    from traced_router.settings import TracedRouterSettings
    from traced_router.strategy import (
        Candidate,
        Decision,
        Outcome,
        RoutingRequest,
        RoutingStrategy,
        SharedState,
        Ticket,
    )
    from traced_router.summary import AttemptSummary, RequestSummary

__all__ = [
    "AttemptSummary",
    "Candidate",
    "ConfigurationError",
    "Deadline",
    "DeadlineExceeded",
    "Decision",
    "ExplainedCandidate",
    "Explanation",
    "HedgePolicy",
    "Outcome",
    "RequestSummary",
    "ResilienceOptions",
    "RetryPolicy",
    "RoutingRequest",
    "RoutingStrategy",
    "SharedState",
    "Telemetry",
    "Ticket",
    "TracedRouter",
    "TracedRouterError",
    "TracedRouterSettings",
    "UnknownStrategyError",
    "configure",
    "last_request",
]

# litellm takes seconds to import: a strategy, a test tool or the command line must not wait for it.
_HOMES: Final = {
    "TracedRouter": "traced_router._router",
    "Telemetry": "traced_router._configure",
    "configure": "traced_router._configure",
    "ConfigurationError": "traced_router.errors",
    "TracedRouterError": "traced_router.errors",
    "UnknownStrategyError": "traced_router.errors",
    "TracedRouterSettings": "traced_router.settings",
    "Deadline": "traced_router.deadline",
    "DeadlineExceeded": "traced_router._countdown",
    "HedgePolicy": "traced_router.hedging",
    "RetryPolicy": "traced_router.retry",
    "ResilienceOptions": "traced_router.resilience",
    "AttemptSummary": "traced_router.summary",
    "RequestSummary": "traced_router.summary",
    "last_request": "traced_router._summaries",
    "Explanation": "traced_router.explanation",
    "ExplainedCandidate": "traced_router.explanation",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "traced_router.strategy")), name)
    globals()[name] = value
    return value
