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

from collections.abc import Iterable, Sequence
from math import exp, inf, log
from typing import Final

CAPACITIES: Final[tuple[float, ...]] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, inf)
"""Capacities that are considered, calls."""

ALL: Final = tuple(range(len(CAPACITIES)))
"""Their indices."""

_FINITE: Final = CAPACITIES[:-1]

_KEEP: Final = 1.0 - 1.0 / 40.0
"""Forgetting per observation: about the last 40 count."""

_THRIFT: Final = 0.5
"""Log-odds against each doubling: where evidence is weak, a small capacity errs on the safe side (it spreads)."""

_GROUP_SAMPLES: Final = 3.0
"""Weight of what the group knows in the belief about one of its deployments, observations."""

_MAX_SQUARE: Final = 2.0
"""A squared log residual beyond this is cut: an outlier is not worth more."""

_FLOOR: Final = 1e-4
"""Keeps the logarithm of a variance finite."""

_UNLIKELY: Final = 0.02
"""Capacities less probable than this are not believed at all."""


class Clocks:
    """One deployment's virtual clocks, one per capacity, kept as what each has lost against real time.

    Attributes:
        lost: seconds that the clocks of the finite capacities have stood still, in the order of :data:`CAPACITIES`.
    """

    __slots__ = ("_at", "lost")

    def __init__(self, now: float) -> None:
        self._at = now
        self.lost = [0.0] * len(CAPACITIES)

    def advance(self, now: float, crowd: float) -> float:
        """Bring the clocks to ``now`` through a time in which ``crowd`` calls were served; the seconds passed."""
        passed = now - self._at
        self._at = now
        if crowd > 1.0:
            lost = self.lost
            for j, capacity in enumerate(_FINITE):
                if capacity >= crowd:
                    break
                lost[j] += passed * (1.0 - capacity / crowd)
        return passed

    def service(self, elapsed: float, lost_before: Sequence[float], index: int) -> float:
        """Seconds of service that a call got in ``elapsed`` seconds under one capacity; positive."""
        return max(1e-9, elapsed - self.lost[index] + lost_before[index])


class Evidence:
    """Scatter of the log pace under each capacity: decayed sums of squares."""

    __slots__ = ("_squares", "_weight")

    def __init__(self) -> None:
        self._squares = [0.0] * len(CAPACITIES)
        self._weight = 0.0

    def add(self, residuals: Iterable[float]) -> None:
        """One observation: the log residual under each capacity."""
        self._squares = [
            _KEEP * old + min(_MAX_SQUARE, new * new) for old, new in zip(self._squares, residuals, strict=True)
        ]
        self._weight = _KEEP * self._weight + 1.0

    def log_likelihood(self, at_most: float = inf) -> list[float]:
        """Of each capacity, counting at most so many observations; zeros without any."""
        weight = self._weight
        if weight <= 0.0:
            return [0.0] * len(CAPACITIES)
        factor = -0.5 * min(weight, at_most)
        return [factor * log(square / weight + _FLOOR) for square in self._squares]


class Belief:
    """Which capacities one deployment may have.

    Attributes:
        odds: probability of each of :data:`CAPACITIES`; they add up to 1.
        alive: indices of those that are believed at all.
        main: index of the most probable one.
    """

    __slots__ = ("_own", "alive", "main", "odds")

    def __init__(self, group: Evidence) -> None:
        self._own = Evidence()
        self.odds: Sequence[float] = ()
        self.alive: Sequence[int] = ()
        self.main = 0
        self._weigh(group)

    def add(self, residuals: Sequence[float], group: Evidence) -> None:
        """One observation, which is the group's as well."""
        self._own.add(residuals)
        group.add(residuals)
        self._weigh(group)

    def _weigh(self, group: Evidence) -> None:
        pairs = zip(self._own.log_likelihood(), group.log_likelihood(_GROUP_SAMPLES), strict=True)
        logs = [own + shared - _THRIFT * j for j, (own, shared) in enumerate(pairs)]
        best = max(logs)
        odds = [exp(value - best) for value in logs]
        total = sum(odds)
        self.odds = [odd / total for odd in odds]
        self.alive = [j for j, odd in enumerate(self.odds) if odd > _UNLIKELY]
        self.main = logs.index(best)
