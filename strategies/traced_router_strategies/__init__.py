"""Routing strategies, one a file; ``traced_router.strategy`` has the interface that they keep to."""

from traced_router_strategies.least_expected_completion import LeastExpectedCompletion

__all__ = ["LeastExpectedCompletion"]
