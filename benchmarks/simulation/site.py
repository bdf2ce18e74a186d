"""The servers of one run, and which of them are candidates now."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from benchmarks.simulation.loop import Scheduler
from benchmarks.simulation.router import GROUP
from benchmarks.simulation.servers import PrefixCache, Server
from benchmarks.simulation.worlds import ServerSpec, World
from traced_router.strategy import Candidate


class Site:
    """Built from a world's specifications; faults change it as time goes by.

    Attributes:
        loop: the clock.
        servers: by id.
    """

    def __init__(self, loop: Scheduler, world: World, seed: int, *, configured: bool) -> None:
        self.loop = loop
        self.servers = {spec.id: _build(loop, spec, seed) for spec in world.servers}
        self._known = {spec.id: _candidate(spec, configured=configured) for spec in world.servers}
        self._candidates = tuple(self._known.values())

    def candidates(self) -> Sequence[Candidate]:
        """Those of now."""
        return self._candidates

    def everyone(self) -> Sequence[Candidate]:
        """Those of any time."""
        return tuple(self._known.values())

    def join(self, server_id: str) -> None:
        """A deployment is added."""
        self._candidates = (*self._candidates, self._known[server_id])

    def leave(self, server_id: str) -> None:
        """A deployment is removed; calls in it are served."""
        self._candidates = tuple(candidate for candidate in self._candidates if candidate.id != server_id)


def _candidate(spec: ServerSpec, *, configured: bool) -> Candidate:
    candidate = Candidate(spec.id, GROUP, "openai/sim")
    return replace(candidate, weight=spec.weight, rpm=spec.rpm) if configured else candidate


def _build(loop: Scheduler, spec: ServerSpec, seed: int) -> Server:
    rng = Random(f"{seed}:{spec.id}")
    cache = PrefixCache(spec.cache) if spec.cache else None
    gates = [make(rng) for make in spec.gates]
    return Server(
        loop, spec.id, speed=spec.speed, capacity=spec.capacity, gates=gates, cache=cache, service=spec.service
    )
