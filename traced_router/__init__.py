"""litellm's router with one OpenTelemetry trace per call: every pick, attempt, wait and fallback, and why."""

from traced_router._router import TracedRouter
from traced_router.errors import ConfigurationError, TracedRouterError, UnknownStrategyError
from traced_router.settings import TracedRouterSettings
from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, RoutingStrategy, SharedState, Ticket

__all__ = [
    "Candidate",
    "ConfigurationError",
    "Decision",
    "Outcome",
    "RoutingRequest",
    "RoutingStrategy",
    "SharedState",
    "Ticket",
    "TracedRouter",
    "TracedRouterError",
    "TracedRouterSettings",
    "UnknownStrategyError",
]
