"""What is in flight where: handles that release themselves, once, on every way out.

When does a call complete? Where its attempt really ends: with its answer, its exception, its
cancellation or the end of its stream, in which moment the router calls ``finished``. The ticket
carries the handle from ``started`` to there; a second release does nothing, so a count cannot
fall below what is true. A deployment with nothing in flight has no entry: what is kept is
bounded by what is in flight.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from traced_router.strategy import Outcome, Ticket
from traced_router_strategies._peers import plausible


class Reservation:
    """One call in flight. Not locked: the counts' owner is.

    Attributes:
        note: what the strategy wants to know again when the call has ended.
    """

    __slots__ = ("_counts", "_id", "note")

    def __init__(self, counts: dict[str, int], id_: str) -> None:
        self._counts: dict[str, int] | None = counts
        self._id = id_
        self.note: object = None
        counts[id_] = counts.get(id_, 0) + 1

    def release(self) -> bool:
        """Give the place back; ``False`` when it was given back before."""
        counts, self._counts = self._counts, None
        if counts is None:
            return False
        counts[self._id] -= 1
        if counts[self._id] == 0:
            del counts[self._id]
        return True


class InFlightStrategy:
    """What every strategy here has: a clock, lots to draw, a lock, and what is in flight where.

    A strategy adds ``pick``, and ``_learn`` when it learns. Its in-flight counts are shared between
    routers: each exports its own, and adds up those of its peers.

    Args:
        clock: seconds, monotonic.
        rng: random source.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self.clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._lock = threading.Lock()
        self._mine: dict[str, int] = {}
        self._theirs: Mapping[str, float] = {}

    def started(self, ticket: Ticket) -> None:
        """Reserve."""
        with self._lock:
            ticket.state = reservation = Reservation(self._mine, ticket.id)
            reservation.note = self._begin(ticket)

    def first_chunk(self, ticket: Ticket) -> None:
        """Nothing to learn from it here."""

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Release, and learn."""
        with self._lock:
            reservation = ticket.state
            if isinstance(reservation, Reservation) and reservation.release():
                self._learn(ticket, outcome, reservation.note)

    def export_state(self) -> Mapping[str, Sequence[float]]:
        """One gauge per deployment: calls in flight."""
        with self._lock:
            return {id_: (float(count),) for id_, count in self._mine.items()}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Sum up what the peers have in flight; it replaces the last sum."""
        theirs: dict[str, float] = {}
        for state in peers:
            for id_, gauge in state.items():
                if gauge and plausible(gauge[0]):
                    theirs[id_] = theirs.get(id_, 0.0) + gauge[0]
        with self._lock:
            self._theirs = theirs

    def _begin(self, ticket: Ticket) -> object:  # noqa: ARG002 - as its interface has it
        """A call leaves; what is returned is noted on its reservation. The lock is held."""
        return None

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:
        """A call ended. The lock is held."""

    def _load(self, id_: str) -> float:
        """Calls in flight there, everybody's."""
        return self._mine.get(id_, 0) + self._theirs.get(id_, 0.0)
