"""Tools for tests of code that uses the router: traces in memory, whole-tree assertions, the contract's checker.

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
    "Malformed",
    "Matcher",
    "Node",
    "NotFound",
    "Point",
    "RateLimited",
    "Received",
    "Recorder",
    "ServerError",
    "SlowFirstByte",
    "Status",
    "ToolCall",
    "Unauthorized",
    "Violation",
    "absent",
    "approx",
    "assert_tree",
    "check_trace",
    "event",
    "of_type",
    "render",
    "span",
]
