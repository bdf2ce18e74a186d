"""One contender in one world with one seed."""

import gc
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from time import process_time
from typing import Any

from benchmarks.simulation.baselines import Oracle
from benchmarks.simulation.contenders import Contender, Setting
from benchmarks.simulation.fleet import Redis
from benchmarks.simulation.loop import EventLoop
from benchmarks.simulation.metrics import Recorder
from benchmarks.simulation.resilience import Cooldown
from benchmarks.simulation.router import GROUP, SimulatedRouter
from benchmarks.simulation.site import Site
from benchmarks.simulation.workload import Call, make_calls
from benchmarks.simulation.worlds import World
from traced_router.strategy import Candidate, RoutingRequest, RoutingStrategy


@dataclass(slots=True)
class Run:
    """A finished run.

    Attributes:
        calls: how many arrived.
        left_in_servers: calls in service after the last one ended: 0, or the simulator is wrong.
        left_in_strategy: what the strategy still believes to be in flight; ``None`` when it does not say.
        cpu_seconds: of this process, for the note under the table only.
    """

    world: World
    contender: Contender
    seed: int
    calls: int
    recorder: Recorder
    left_in_servers: int
    left_in_strategy: int | None
    cpu_seconds: float


def calls_of(world: World, seed: int) -> Sequence[Call]:
    """The calls of a world and a seed: the same for every contender."""
    rng = Random(f"{world.calls or world.id}:{seed}")
    return make_calls(world.arrivals, world.sizes, world.callers, world.duration, rng)


def run(world: World, contender: Contender, seed: int, calls: Sequence[Call] | None = None) -> Run:
    """Play the calls, and wait until the last of them has ended."""
    if calls is None:
        calls = calls_of(world, seed)
    began = process_time()
    loop = EventLoop()
    site = Site(loop, world, seed, configured=contender.configured)
    recorder = Recorder(world.watch.server if world.watch is not None else None)
    scope = contender.scope(loop.time, Random(f"litellm:{seed}")) if contender.scope is not None else nullcontext()
    with scope, _collector_off():
        routers = _routers(world, contender, seed, loop, site, recorder)
        for fault in world.faults:
            fault.install(site)
        if world.exchange is not None:
            redis = Redis(loop, world.exchange, lambda: recorder.calls_ended < len(calls))
            redis.connect([router.strategy for router in routers])
        _feed(loop, routers, calls)
        loop.run()
        left = _left([router.strategy for router in routers], site.everyone())
    in_servers = sum(server.inflight for server in site.servers.values())
    return Run(world, contender, seed, len(calls), recorder, in_servers, left, process_time() - began)


@contextmanager
def _collector_off() -> Generator[None, None, None]:
    """Runs make no cycles to speak of, and the garbage collector costs a third of their time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _feed(loop: EventLoop, routers: Sequence[SimulatedRouter], calls: Sequence[Call]) -> None:
    """One arrival schedules the next, so that the heap stays small."""
    upcoming = iter(calls)

    def arrive(call: Call | None) -> None:
        if (following := next(upcoming, None)) is not None:
            loop.at(following.at, arrive, following)
        if call is not None:
            routers[int(call.lane * len(routers))].arrive(call)

    arrive(None)


def _routers(
    world: World, contender: Contender, seed: int, loop: EventLoop, site: Site, recorder: Recorder
) -> Sequence[SimulatedRouter]:
    """As many as the world has; their store is one while they share, and one each when they do not."""
    store: dict[str, Any] = {}
    shared = world.exchange is not None and world.exchange.dead_from is None
    return [
        _router(contender, f"{contender.name}:{seed}:{lane}", store if shared else {}, loop, site, recorder)
        for lane in range(world.routers)
    ]


def _router(
    contender: Contender, seed: str, store: dict[str, Any], loop: EventLoop, site: Site, recorder: Recorder
) -> SimulatedRouter:
    setting = Setting(loop.time, Random(seed), site.servers, store)
    strategy = contender.make(setting)
    router = SimulatedRouter(
        loop,
        site.servers,
        site.candidates,
        strategy,
        recorder,
        cooldown=Cooldown(len(site.servers)) if contender.cooldown else None,
        resilience=contender.resilience(setting) if contender.resilience is not None else None,
    )
    if isinstance(strategy, Oracle):
        strategy.router = router
    return router


def _left(strategies: Sequence[RoutingStrategy], candidates: Sequence[Candidate]) -> int | None:
    """Calls that the strategies believe to be in flight, in sum.

    A strategy answers with ``inflight_left()`` when it has that; else it is asked to pick from each
    deployment alone, and says ``inflight`` in its decision.
    """
    total = 0
    for strategy in strategies:
        own = getattr(strategy, "inflight_left", None)
        if own is not None:
            total += int(own())
            continue
        for candidate in candidates:
            inflight = strategy.pick(RoutingRequest(GROUP), (candidate,)).inflight
            if inflight is None:
                return None
            total += inflight
    return total
