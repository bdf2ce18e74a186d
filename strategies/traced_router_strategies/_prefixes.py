"""Which deployments have the prefix of a prompt in their cache, as far as one can know from outside.

A deployment that served a call of the same session keeps its prefix until others displace it.
How many others that takes is the deployment's secret, so it is learnt: the *distance* of a
prefix is how many other prefixes have entered the deployment since (its LRU stack distance,
Mattson 1970), and what share of the prompt was still cached at that distance is what the
providers' counts of cached tokens say.
"""

from typing import Final

from traced_router_strategies._table import Table

_MAX_PREFIXES: Final = 16_384
_MAX_HOLDERS: Final = 3
"""Deployments remembered per prefix, the latest ones."""

_BUCKETS: Final = 16
"""Of the distance, by powers of two."""

_KEEP: Final = 0.98
"""Forgetting of a bucket's share, per observation."""


class Prefixes:
    """The prefixes of one group. Not locked: its owner is."""

    __slots__ = ("_cached", "_entered", "_holders", "_weights")

    def __init__(self) -> None:
        self._holders: Table[dict[str, int]] = Table(dict[str, int], limit=_MAX_PREFIXES)
        self._entered: Table[list[int]] = Table(lambda: [0])
        # One observation of a full hit to begin with: the first holder is worth a try.
        self._cached = [1.0] * _BUCKETS
        self._weights = [1.0] * _BUCKETS

    def holders(self, key: str) -> dict[str, float] | None:
        """The share of the prompt that is probably cached, by id of those that may have it."""
        holders = self._holders.peek(key)
        if not holders:
            return None
        return {id_: self.share(self._distance(id_, stamp)) for id_, stamp in holders.items()}

    def share(self, distance: int) -> float:
        """Of a prompt that is cached at that distance, 0..1."""
        bucket = min(distance.bit_length(), _BUCKETS - 1)
        return self._cached[bucket] / self._weights[bucket]

    def sent(self, key: str, id_: str) -> int | None:
        """A call with that prefix goes there; at what distance it finds the prefix, ``None`` if it is new there."""
        holders = self._holders.use(key)
        entered = self._entered.use(id_)
        stamp = holders.pop(id_, None)
        distance = None if stamp is None else entered[0] - stamp
        if distance is None:
            entered[0] += 1
        holders[id_] = entered[0]
        if len(holders) > _MAX_HOLDERS:
            del holders[next(iter(holders))]
        return distance

    def learn(self, distance: int, share: float) -> None:
        """The provider said how much of the prompt was cached."""
        bucket = min(distance.bit_length(), _BUCKETS - 1)
        self._cached[bucket] = _KEEP * self._cached[bucket] + share
        self._weights[bucket] = _KEEP * self._weights[bucket] + 1.0

    def _distance(self, id_: str, stamp: int) -> int:
        entered = self._entered.peek(id_)
        return max(0, entered[0] - stamp) if entered is not None else 0
