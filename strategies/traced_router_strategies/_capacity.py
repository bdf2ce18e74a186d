"""How many calls a deployment serves at once, found out from how long they take.

The model is a processor-sharing server (Kleinrock 1967) of capacity C, which is how batching
inference engines behave: with n calls in it, each is served at the rate min(1, C / n). Its
*virtual clock* runs at that rate (Parekh and Gallager 1993), so the service that a call has got
is the difference of two readings, whatever the load was meanwhile. C is unknown, so there is one
clock per capacity on a scale of powers of two, infinity included (an API without a queue). Under
the right one, service per unit of work is the deployment's pace and shows no trace of the load;
so the capacity under which it scatters least is believed, in proportion to its likelihood.

Nobody has to configure a batch size, a neighbour who fills half of a server halves its capacity,
and one of eight routers in front of it finds an eighth.
"""

from collections.abc import Sequence
from math import exp, inf, log
from typing import Final

CAPACITIES: Final[tuple[float, ...]] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, inf)
"""Capacities that are considered, calls."""

_SIZE: Final = len(CAPACITIES)
_KEEP: Final = 1.0 - 1.0 / 150.0
"""Forgetting per observation: about the last 150 count."""

_TEMPER: Final = 0.25
"""Share of an observation that is news: neighbouring calls saw the same load."""

_THRIFT: Final = 0.5
"""Log-odds against each doubling: where evidence is weak, a small capacity errs on the safe side (it spreads)."""

_GROUP_SAMPLES: Final = 10.0
"""Weight of what the group knows in the belief about one of its deployments, observations."""

_MAX_SQUARE: Final = 2.0
"""A squared log residual beyond this is cut: an outlier is not worth more."""

_FLOOR: Final = 1e-4
"""Keeps the logarithm of a variance finite."""


class Clocks:
    """One deployment's virtual clocks, one per capacity, in seconds of service.

    Attributes:
        readings: of now, in the order of :data:`CAPACITIES`.
        at: when they were last advanced.
    """

    __slots__ = ("at", "readings")

    def __init__(self, now: float) -> None:
        self.at = now
        self.readings = [0.0] * _SIZE

    def advance(self, now: float, inflight: int) -> float:
        """Bring the clocks to ``now`` through a time in which ``inflight`` calls were served; the seconds passed."""
        passed = now - self.at
        self.at = now
        if inflight <= 0 or passed <= 0.0:
            return 0.0
        share = passed / inflight
        self.readings = [
            reading + (passed if inflight <= capacity else share * capacity)
            for reading, capacity in zip(self.readings, CAPACITIES, strict=True)
        ]
        return passed


class Evidence:
    """Scatter of the log pace under each capacity: decayed sums of squares."""

    __slots__ = ("squares", "weight")

    def __init__(self) -> None:
        self.squares = [0.0] * _SIZE
        self.weight = 0.0

    def add(self, squares: Sequence[float]) -> None:
        """One observation: the squared log residual under each capacity."""
        self.squares = [
            _KEEP * old + (new if new < _MAX_SQUARE else _MAX_SQUARE)
            for old, new in zip(self.squares, squares, strict=True)
        ]
        self.weight = _KEEP * self.weight + 1.0

    def log_likelihood(self, at_most: float = inf) -> list[float]:
        """Of each capacity, counting at most so many observations; zeros without any."""
        if self.weight <= 0.0:
            return [0.0] * _SIZE
        factor = -0.5 * _TEMPER * min(self.weight, at_most)
        return [factor * log(square / self.weight + _FLOOR) for square in self.squares]


def believe(own: Evidence, group: Evidence) -> list[float]:
    """Probability of each capacity of one deployment, given its own evidence and its group's."""
    logs = [
        mine + shared - _THRIFT * index
        for index, (mine, shared) in enumerate(
            zip(own.log_likelihood(), group.log_likelihood(_GROUP_SAMPLES), strict=True)
        )
    ]
    best = max(logs)
    odds = [exp(value - best) for value in logs]
    total = sum(odds)
    return [odd / total for odd in odds]
