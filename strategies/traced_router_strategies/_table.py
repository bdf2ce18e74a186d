"""State kept per key, bounded: what has not been used for longest goes first.

Deployments come and go for as long as a router lives, sessions even more so. Nothing here may
grow with them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Table(Generic[T]):
    """At most ``limit`` states, made on demand. Not locked: its owner is.

    Args:
        make: makes the state of a key that is new.
        limit: how many are kept.
        spare: whether a state may be dropped now; one that may not (calls in flight) is passed over,
            so that the limit can be exceeded by as many as are in use.
    """

    __slots__ = ("_limit", "_make", "_spare", "states")

    def __init__(self, make: Callable[[], T], *, limit: int = 4096, spare: Callable[[T], bool] | None = None) -> None:
        self._make = make
        self._limit = limit
        self._spare = spare
        self.states: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        """How many states there are."""
        return len(self.states)

    def __iter__(self) -> Iterator[str]:
        """Keys, the one unused for longest first."""
        return iter(self.states)

    def peek(self, key: str) -> T | None:
        """The state of ``key``, if it has one; this is no use of it."""
        return self.states.get(key)

    def use(self, key: str) -> T:
        """The state of ``key``, made when there is none, and the last to go from now on."""
        state = self.states.get(key)
        if state is not None:
            self.states.move_to_end(key)
            return state
        if len(self.states) >= self._limit:
            self._drop_one()
        state = self.states[key] = self._make()
        return state

    def _drop_one(self) -> None:
        spare = self._spare
        for key, state in self.states.items():
            if spare is None or spare(state):
                del self.states[key]
                return
