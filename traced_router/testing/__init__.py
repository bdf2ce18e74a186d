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
from traced_router.testing._recorder import Event, Link, Node, Point, Recorder

__all__ = [
    "ANY",
    "Event",
    "ExpectedEvent",
    "ExpectedSpan",
    "Link",
    "Matcher",
    "Node",
    "Point",
    "Recorder",
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
