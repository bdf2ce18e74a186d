"""Tools for tests of code that uses the router: traces in memory, whole-tree assertions, the contract's checker.

Nothing here imports litellm, and nothing of the router itself needs this package.
"""

from traced_router.testing._conformance import Violation, check_trace
from traced_router.testing._recorder import Event, Link, Node, Point, Recorder

__all__ = ["Event", "Link", "Node", "Point", "Recorder", "Violation", "check_trace"]
