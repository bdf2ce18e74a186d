"""Tools for tests of code that uses the router: traces in memory, whole-tree assertions, the contract's checker.

And for authors of routing strategies: a clock and a desk to write tests with, a checker of what every
strategy owes the router, and a tiny world.

Nothing here imports litellm, and nothing of the router itself needs this package.
"""

from traced_router.testing._assertions import (
    ANY,
    ExpectedEvent,
    ExpectedSpan,
    Matcher,
    absent,
    approx,
    assert_tree,
    event,
    of_type,
    render,
    span,
)
from traced_router.testing._conformance import Violation, check_trace
from traced_router.testing._live_check import LiveCheck, LiveCheckCounts, LiveCheckLimits
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    Behaviour,
    ContentPolicy,
    ContextWindowExceeded,
    DieMidStream,
    Drop,
    ErrorEventMidStream,
    Hang,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    SlowFirstByte,
    Status,
    ToolCall,
    Unauthorized,
)
from traced_router.testing._provider_gate import Gate
from traced_router.testing._provider_log import Received
from traced_router.testing._recorder import Event, Link, Node, Point, Recorder
from traced_router.testing._strategy_kit import (
    Said,
    StrategyDesk,
    StrategyFactory,
    VirtualClock,
    make_candidates,
    make_request,
)
from traced_router.testing._strategy_rules import StrategyViolation, check_strategy
from traced_router.testing._strategy_world import PhaseReport, WorldReport, try_strategy

__all__ = [
    "ANY",
    "Answer",
    "BadRequest",
    "Behaviour",
    "ContentPolicy",
    "ContextWindowExceeded",
    "DieMidStream",
    "Drop",
    "ErrorEventMidStream",
    "Event",
    "ExpectedEvent",
    "ExpectedSpan",
    "FakeProvider",
    "Gate",
    "Hang",
    "Link",
    "LiveCheck",
    "LiveCheckCounts",
    "LiveCheckLimits",
    "Malformed",
    "Matcher",
    "Node",
    "NotFound",
    "PhaseReport",
    "Point",
    "RateLimited",
    "Received",
    "Recorder",
    "Said",
    "ServerError",
    "SlowFirstByte",
    "Status",
    "StrategyDesk",
    "StrategyFactory",
    "StrategyViolation",
    "ToolCall",
    "Unauthorized",
    "Violation",
    "VirtualClock",
    "WorldReport",
    "absent",
    "approx",
    "assert_tree",
    "check_strategy",
    "check_trace",
    "event",
    "make_candidates",
    "make_request",
    "of_type",
    "render",
    "span",
    "try_strategy",
]
