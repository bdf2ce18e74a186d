"""Routing strategies, one a file; ``traced_router.strategy`` has the interface that they keep to."""

from traced_router_strategies.bounded_hash import BoundedHash
from traced_router_strategies.cost_slo import CostSLO
from traced_router_strategies.least_expected_completion import LeastExpectedCompletion
from traced_router_strategies.least_in_flight import LeastInFlight
from traced_router_strategies.p2c_peak_ewma import P2CPeakEwma
from traced_router_strategies.prefix_affinity import PrefixAffinity
from traced_router_strategies.quota_aware import QuotaAware
from traced_router_strategies.weighted import Weighted

__all__ = [
    "BoundedHash",
    "CostSLO",
    "LeastExpectedCompletion",
    "LeastInFlight",
    "P2CPeakEwma",
    "PrefixAffinity",
    "QuotaAware",
    "Weighted",
]
