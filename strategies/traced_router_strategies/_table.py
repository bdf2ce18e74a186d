"""State kept per key, bounded: what has not been used for longest goes first.

Deployments come and go for as long as a router lives, sessions even more so. Nothing here may
grow with them.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Table(Generic[T]):
    """At most ``limit`` states. Not locked: its owner is.

    Args:
        limit: how many are kept.
        spare: whether a state may be dropped now; one that may not (calls in flight) is passed over,
            so that the limit can be exceeded by as many as are in use.

    Attributes:
        states: by key, the one unused for longest first. Looking is no use.
    """

    __slots__ = ("_limit", "_spare", "states")

    def __init__(self, limit: int = 4096, spare: Callable[[T], bool] | None = None) -> None:
        self._limit = limit
        self._spare = spare
        self.states: OrderedDict[str, T] = OrderedDict()

    def add(self, key: str, state: T) -> T:
        """Keep the state of a key that has none."""
        if len(self.states) >= self._limit:
            self._drop_one()
        self.states[key] = state
        return state

    def touch(self, key: str) -> None:
        """The state of that key is used: it is the last to go from now on."""
        self.states.move_to_end(key)

    def _drop_one(self) -> None:
        spare = self._spare
        for key, state in self.states.items():
            if spare is None or spare(state):
                del self.states[key]
                return
