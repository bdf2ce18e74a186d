from traced_router_strategies.least_expected_completion import LeastExpectedCompletion
__all__ = ["LeastExpectedCompletion"]
