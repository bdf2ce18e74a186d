"""``bounded-hash``: the same key meets the same deployment, unless that one has more than its share.

Algorithm. Deployments and keys are hashed onto a ring; a call goes to the first deployment
clockwise from its key that has room. *Room* is a bound on the load: with m calls in flight in
the group, no deployment of n takes more than ⌈c (m + 1) / n⌉ of them, c = 1.25 (in proportion to
the weights, where weights are configured). A call without a key goes to the emptier of two
drawn deployments.

Source. Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018);
HAProxy has it as ``hash-balance-factor``, Envoy as ``consistent_hashing_lb_config``. When a
deployment comes or goes, one key in n moves.

Cost. 2–4 µs a pick at any number of candidates, and a look at all of them when they change;
4 KB per deployment.

Needs to know. ``affinity_key``: the session, or a hash of the first messages.

Use it when a key has to meet the same deployment for reasons other than speed (stateful servers,
caches that cost money, debugging), and when several routers must agree without talking. Not where
deployments turn slow: it knows nothing of latency, and a slow one keeps its keys until it is full.
Not for caches that are there to save time: ``prefix-affinity`` and ``least-expected-completion``
weigh what they save.
"""

import random
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from math import ceil
from typing import Final

from traced_router.strategy import Candidate, Decision, Outcome, Reason, RoutingRequest, Ticket
from traced_router_strategies._inflight import InFlightStrategy
from traced_router_strategies._roster import Roster
from traced_router_strategies._table import Table

_POINTS: Final = 40
"""Of each deployment on the ring: shares of the keys differ by 1 / √40, which the bound evens out."""

_MOST_KNOWN: Final = 4096
"""Deployments on a ring, those that are away included; of a large group as many are kept as are there."""

_MAX_GROUPS: Final = 256


class _Ring:
    """The deployments of one group, on a circle of 64-bit numbers. Not locked: its owner is.

    Attributes:
        roster: the candidates of now; the ring keeps those that are away, so that they find their keys again.
        inflight: calls of the group in flight, this router's.
        elsewhere: those of other routers.
        shares: of the group's load, by position; they add up to 1. ``None`` when all are alike.
    """

    __slots__ = ("_known", "_owners", "_points", "elsewhere", "inflight", "roster", "shares")

    def __init__(self) -> None:
        self.roster = Roster()
        self.inflight = 0
        self.elsewhere = 0.0
        self.shares: list[float] | None = None
        self._known: dict[str, None] = {}  # in the order of their last use
        self._points: list[int] = []
        self._owners: dict[int, str] = {}

    def update(self, candidates: Sequence[Candidate]) -> None:
        """Put those on the ring that are new."""
        if not self.roster.update(candidates):
            return
        new: list[int] = []
        for candidate in candidates:
            if candidate.id in self._known:
                del self._known[candidate.id]
            else:
                new += self._join(candidate.id)
            self._known[candidate.id] = None
        if new:
            self._points += new
            self._points.sort()  # what was sorted before is left as it is: as fast as finding each its place
        if len(self._known) > max(_MOST_KNOWN, 2 * len(candidates)):
            self._forget()
        self.shares = _shares(candidates)

    def room(self, position: int, factor: float) -> int:
        """Calls that the deployment there may have in flight, one more call counted in."""
        share = 1.0 / len(self.roster.positions) if self.shares is None else self.shares[position]
        return ceil(factor * (self.inflight + self.elsewhere + 1.0) * share)

    def walk(self, key: str) -> Iterator[int]:
        """Positions of the candidates clockwise from the key, each once."""
        points, owners, find = self._points, self._owners, self.roster.find
        start, total = bisect(points, _hash(key)), len(points)
        met: set[str] = set()
        for step in range(total):
            owner = owners[points[(start + step) % total]]
            if owner not in met:
                met.add(owner)
                position = find(owner)
                if position is not None:
                    yield position

    def _join(self, id_: str) -> list[int]:
        """Its points, which it owns from now on."""
        points = [_hash(f"{id_}:{point}") for point in range(_POINTS)]
        points = [point for point in points if point not in self._owners]  # 64 bits: never twice, but a ring must hold
        self._owners.update(dict.fromkeys(points, id_))
        return points

    def _forget(self) -> None:
        """Those that have been away for longest, many at once: the ring is made anew, which takes milliseconds."""
        away = [id_ for id_ in self._known if id_ not in self.roster.positions]
        gone = set(away[: _MOST_KNOWN // 2])
        self._known = {id_: None for id_ in self._known if id_ not in gone}
        self._owners = {point: owner for point, owner in self._owners.items() if owner not in gone}
        self._points = sorted(self._owners)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _shares(candidates: Sequence[Candidate]) -> list[float] | None:
    """By weight, where any is configured; those without one count as the mean of the others."""
    known = [candidate.weight for candidate in candidates if candidate.weight is not None]
    if sum(known) <= 0.0:
        return None
    usual = sum(known) / len(known)
    weights = [usual if candidate.weight is None else candidate.weight for candidate in candidates]
    return [weight / sum(weights) for weight in weights]


class BoundedHash(InFlightStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: draws for calls without a key.
        factor: c above, more than 1: how much more than its share a deployment may have.
    """

    name = "bounded-hash"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        factor: float = 1.25,
    ) -> None:
        if factor <= 1.0:
            raise ValueError(f"factor must be more than 1, got {factor}: at 1 a full group has no room for one more")
        super().__init__(clock=clock, rng=rng)
        self._factor = factor
        self._rings: Table[_Ring] = Table(_MAX_GROUPS, spare=lambda ring: ring.inflight == 0)

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The first deployment clockwise that has room."""
        with self._lock:
            ring = self._ring(request.model_group)
            ring.update(candidates)
            key = request.affinity_key
            if key is None or len(candidates) == 1:
                return self._emptier_of_two(candidates)
            walk = ring.walk(key)
            home = position = next(walk)
            passed = 0
            while self._load(candidates[position].id) >= ring.room(position, self._factor):
                further = next(walk, None)
                if further is None:  # rounding: all are full, so nobody is fuller than at home
                    position, passed = home, 0
                    break
                position, passed = further, passed + 1
            runner_up = next(walk, None)
            return self._decide(ring, candidates, position, passed, runner_up)

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        """By id: how many come before it, clockwise from the key; without a key, its calls in flight."""
        with self._lock:
            key = request.affinity_key
            if key is None or len(candidates) == 1:
                return {one.id: self._load(one.id) for one in candidates}
            ring = self._ring(request.model_group)
            ring.update(candidates)
            return {candidates[position].id: float(passed) for passed, position in enumerate(ring.walk(key))}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Sum up what the peers have in flight; it replaces the last sum."""
        super().absorb_state(peers)
        with self._lock:
            for ring in self._rings.states.values():
                ring.elsewhere = sum(self._theirs.get(id_, 0.0) for id_ in ring.roster.positions)

    def _ring(self, group: str) -> _Ring:
        return self._rings.states.get(group) or self._rings.add(group, _Ring())

    def _decide(
        self, ring: _Ring, candidates: Sequence[Candidate], position: int, passed: int, runner_up: int | None
    ) -> Decision:
        chosen = candidates[position].id
        reason: Reason = "affinity_spill" if passed else "affinity_hit"
        return Decision(
            chosen,
            reason,
            float(passed),
            "hash",
            None if runner_up is None else candidates[runner_up].id,
            None if runner_up is None else passed + 1.0,
            passed + 1 + (runner_up is not None),
            self._mine.get(chosen, 0),
            None,
            {"bound_calls": ring.room(position, self._factor), "full_ones_passed": passed},
        )

    def _emptier_of_two(self, candidates: Sequence[Candidate]) -> Decision:
        """For a call without a key."""
        total, draw = len(candidates), self._rng.random
        first = int(draw() * total)
        chosen = candidates[first].id
        load = self._load(chosen)
        if total == 1:
            return Decision(chosen, "only_candidate", load, "inflight", None, None, 1, self._mine.get(chosen, 0))
        other = candidates[(first + 1 + int(draw() * (total - 1))) % total].id
        other_load = self._load(other)
        reason: Reason = "tie_random" if load == other_load else "lowest_score"
        if other_load < load:
            chosen, load, other, other_load = other, other_load, chosen, load
        inflight = self._mine.get(chosen, 0)
        return Decision(chosen, reason, load, "inflight", other, other_load, 2, inflight, None, {"key": False})

    def _begin(self, ticket: Ticket) -> _Ring:
        ring = self._ring(ticket.model_group)
        self._rings.touch(ticket.model_group)
        ring.inflight += 1
        return ring

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:  # noqa: ARG002 - as its interface has it
        if isinstance(note, _Ring):
            note.inflight -= 1
