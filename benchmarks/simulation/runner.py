"""One contender in one world with one seed."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from random import Random
from time import perf_counter

from traced_router.strategy import Candidate

from benchmarks.simulation.baselines import Oracle
from benchmarks.simulation.contenders import Contender, Setting
from benchmarks.simulation.loop import EventLoop
from benchmarks.simulation.metrics import Recorder
from benchmarks.simulation.resilience import Cooldown
from benchmarks.simulation.router import GROUP, SimulatedRouter
from benchmarks.simulation.servers import PrefixCache, Server
from benchmarks.simulation.workload import Call, make_calls
from benchmarks.simulation.worlds import ServerSpec, World


@dataclass(slots=True)
class Run:
    """A finished run.

    Attributes:
        seconds: wall clock, for the note under the table only.
    """

    world: World
    contender: str
    seed: int
    calls: int
    recorder: Recorder
    left_in_servers: int
    left_in_strategy: int | None
    seconds: float


class Site:
    """The servers of one run, and which of them are candidates now."""

    def __init__(self, loop: EventLoop, world: World, seed: int, *, configured: bool) -> None:
        self.loop = loop
        self._specs = {spec.id: spec for spec in world.servers}
        self.servers = {spec.id: _build(loop, spec, seed) for spec in world.servers}
        self._configured = configured
        self._present = list(self._specs)
        self._candidates = self._list()

    def candidates(self) -> Sequence[Candidate]:
        """Those of now."""
        return self._candidates

    def join(self, server_id: str) -> None:
        """A deployment is added."""
        self._present.append(server_id)
        self._candidates = self._list()

    def leave(self, server_id: str) -> None:
        """A deployment is removed."""
        self._present.remove(server_id)
        self._candidates = self._list()

    def _list(self) -> Sequence[Candidate]:
        plain = [Candidate(key, GROUP, "openai/sim") for key in self._present]
        if not self._configured:
            return plain
        return [replace(c, weight=self._specs[c.id].weight, rpm=self._specs[c.id].rpm) for c in plain]


def _build(loop: EventLoop, spec: ServerSpec, seed: int) -> Server:
    rng = Random(f"{seed}:{spec.id}")
    cache = PrefixCache(spec.cache) if spec.cache else None
    return Server(loop, spec.id, spec.speed, spec.capacity, [make(rng) for make in spec.gates], cache)


def calls_of(world: World, seed: int) -> Sequence[Call]:
    """The calls of a world and a seed: the same for every contender."""
    rng = Random(f"{world.id}:{seed}")
    return make_calls(world.arrivals, world.sizes, world.callers, world.duration, rng)


def run(world: World, contender: Contender, seed: int, calls: Sequence[Call]) -> Run:
    """Play the calls, and wait until the last of them has ended."""
    began = perf_counter()
    loop = EventLoop()
    site = Site(loop, world, seed, configured=contender.configured)
    recorder = Recorder()
    scope = contender.scope(loop.time, Random(f"litellm:{seed}")) if contender.scope else nullcontext()
    with scope:
        routers = [_router(world, contender, seed, lane, site, recorder) for lane in range(world.routers)]
        for fault in world.faults:
            fault.install(site)
        _feed(loop, routers, calls)
        loop.run()
    left = sum(server.inflight for server in site.servers.values())
    return Run(world, contender.name, seed, len(calls), recorder, left, None, perf_counter() - began)


def _feed(loop: EventLoop, routers: Sequence[SimulatedRouter], calls: Sequence[Call]) -> None:
    """One arrival schedules the next, so that the heap stays small."""
    upcoming = iter(calls)

    def arrive(call: Call | None) -> None:
        if (following := next(upcoming, None)) is not None:
            loop.at(following.at, arrive, following)
        if call is not None:
            routers[int(call.lane * len(routers))].arrive(call)

    arrive(None)


def _router(
    world: World, contender: Contender, seed: int, lane: int, site: Site, recorder: Recorder
) -> SimulatedRouter:
    setting = Setting(site.loop.time, Random(f"{contender.name}:{seed}:{lane}"), site.servers, {})
    strategy = contender.make(setting)
    router = SimulatedRouter(
        site.loop,
        site.servers,
        site.candidates,
        strategy,
        recorder,
        cooldown=Cooldown(len(world.servers)) if contender.cooldown else None,
        resilience=contender.resilience(setting) if contender.resilience is not None else None,
    )
    if isinstance(strategy, Oracle):
        strategy.router = router
    return router
