"""Which deployments have the prefix of a prompt in their cache, as far as one can know from outside.

A deployment that served a call of the same session keeps its prefix until others displace it.
How many others that takes is the deployment's secret, so it is learnt: the *distance* of a
prefix is how many other prefixes have entered the deployment since (its LRU stack distance,
Mattson 1970), and what share of the prompt was still cached at that distance is what the
providers' counts of cached tokens say.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from traced_router_strategies._table import Table

_MAX_PREFIXES: Final = 16_384
_MAX_HOLDERS: Final = 3
"""Deployments remembered per prefix, the latest ones."""

_BUCKETS: Final = 16
"""Of the distance, by powers of two."""

_KEEP: Final = 0.98
"""Forgetting of a bucket's share, per observation."""

_LEAST_LEFT: Final = 0.02
"""Share of the work that is left, at the least, where everything is cached."""

T = TypeVar("T")


class Prefixes:
    """The prefixes of one group. Not locked: its owner is."""

    __slots__ = ("_cached", "_entered", "_holders", "_shares", "_weights")

    def __init__(self) -> None:
        self._holders: Table[dict[str, int]] = Table(_MAX_PREFIXES)
        self._entered: Table[list[int]] = Table()
        # One observation of a full hit to begin with: the first holder is worth a try.
        self._cached = [1.0] * _BUCKETS
        self._weights = [1.0] * _BUCKETS
        self._shares = [1.0] * _BUCKETS

    def work_left(self, key: str, prefill: float) -> dict[str, float]:
        """Share of a call's work that is left, by id of the deployments that may hold its prefix.

        Args:
            key: of the prefix.
            prefill: share of the work that a cached prompt saves, 0..1.
        """
        holders = self._holders.states.get(key)
        if not holders:
            return {}
        entered, shares = self._entered.states, self._shares
        left: dict[str, float] = {}
        for id_, stamp in holders.items():
            distance = entered[id_][0] - stamp if id_ in entered else 1 << _BUCKETS
            left[id_] = max(_LEAST_LEFT, 1.0 - prefill * shares[min(distance.bit_length(), _BUCKETS - 1)])
        return left

    def share(self, distance: int) -> float:
        """Of a prompt that is probably cached at that distance, 0..1."""
        return self._shares[min(distance.bit_length(), _BUCKETS - 1)]

    def sent(self, key: str, id_: str) -> int | None:
        """A call with that prefix goes there; at what distance it finds the prefix, ``None`` if it is new there."""
        holders = _use(self._holders, key, dict[str, int])
        entered = _use(self._entered, id_, lambda: [0])
        stamp = holders.pop(id_, None)
        distance = None if stamp is None else max(0, entered[0] - stamp)
        if distance is None:
            entered[0] += 1
        holders[id_] = entered[0]
        if len(holders) > _MAX_HOLDERS:
            del holders[next(iter(holders))]
        return distance

    def learn(self, distance: int, share: float) -> None:
        """The provider said how much of the prompt was cached, 0..1."""
        bucket = min(distance.bit_length(), _BUCKETS - 1)
        self._cached[bucket] = _KEEP * self._cached[bucket] + share
        self._weights[bucket] = _KEEP * self._weights[bucket] + 1.0
        self._shares[bucket] = self._cached[bucket] / self._weights[bucket]


def _use(table: Table[T], key: str, make: Callable[[], T]) -> T:
    """The state of a key, made when there is none, and used."""
    state = table.states.get(key)
    if state is None:
        return table.add(key, make())
    table.touch(key)
    return state
