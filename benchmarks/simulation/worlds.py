"""The worlds of WORKLOADS.md §B, composed of parts: who calls, what answers, what goes wrong.

Where WORKLOADS.md leaves a number open it is chosen so that litellm's best built-in stands to the
oracle as research saw it (W1 1.44, W2 1.30, W4 2.01): the arrival rates above all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from random import Random

from benchmarks.simulation.arrivals import Arrivals, Poisson
from benchmarks.simulation.faults import Fault, Slow
from benchmarks.simulation.fleet import Exchange
from benchmarks.simulation.gates import Failing, Gate, TokenBucket
from benchmarks.simulation.servers import Service, Standard
from benchmarks.simulation.sizes import Lognormal, Sessions, Sizes
from benchmarks.simulation.workload import Callers

MakeGate = Callable[[Random], Gate]


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A deployment to be built.

    Attributes:
        id: the deployment's id.
        speed: seconds per second of work: 0.7 is fast, 2.5 slow.
        capacity: batch capacity; infinite for an API without a queue.
        gates: rate limits and failures, made anew for each run.
        cache: how many sessions' prefixes it keeps; 0 for no cache.
        service: how much work a call is.
        weight: what an operator would configure; contenders that read weights are given it.
        rpm: likewise, calls per minute.
    """

    id: str
    speed: float = 1.0
    capacity: float = 16.0
    gates: Sequence[MakeGate] = ()
    cache: int = 0
    service: Service = field(default_factory=Standard)
    weight: float | None = None
    rpm: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """The server whose share of traffic is followed, and when its fault starts and ends."""

    server: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class World:
    """All that a run needs, but a seed and a contender.

    Attributes:
        id: W1, W2, …
        title: what it is like.
        duration: seconds in which calls arrive.
        routers: how many router processes the calls are spread over.
        exchange: how they share state, when they do.
        calls: which calls arrive: worlds of one name (and seed) have the same ones; its id, when empty.
        target: what its callers wait for, ``latency`` or ``first_chunk``.
        counts_only: run for the sake of rare events, by our own, the limit, and litellm's least-busy alone.
    """

    id: str
    title: str
    duration: float
    servers: Sequence[ServerSpec]
    arrivals: Arrivals
    sizes: Sizes = field(default_factory=Lognormal)
    callers: Callers = field(default_factory=Callers)
    faults: Sequence[Fault] = ()
    watch: Watch | None = None
    routers: int = 1
    exchange: Exchange | None = None
    calls: str = ""
    target: str = "latency"
    counts_only: bool = False


SPEEDS = (1.3, 0.85, 2.5, 1.0, 0.7, 2.0, 1.15, 1.6)
"""In no order: litellm's least-busy prefers the first of equals."""
QUOTAS = (6.5, 4.0, 6.5, 3.0, 3.0, 5.0, 5.0, 5.0)
"""Calls per second of the hosted ones: the fast have no more than the slow."""
FAST = "d4"
BURST = 2.2
LONG = 1000.0
"""Seconds of the worlds that count rare events: over 100,000 calls in five seeds."""


def self_hosted(speeds: Sequence[float] = SPEEDS) -> list[ServerSpec]:
    """Queueing servers of these speeds."""
    return [ServerSpec(f"d{i}", speed, weight=round(10.0 / speed, 1)) for i, speed in enumerate(speeds)]


def hosted(speeds: Sequence[float] = SPEEDS, quotas: Sequence[float] = QUOTAS) -> list[ServerSpec]:
    """APIs without queues; quotas in calls per second, and ten seconds of them in a burst."""
    return [
        replace(spec, capacity=inf, gates=[partial(_bucket, quota)], weight=quota, rpm=quota * 60.0)
        for spec, quota in zip(self_hosted(speeds), quotas, strict=True)
    ]


def bursty(rate: float) -> Poisson:
    """Poisson arrivals with bursts of × 2.2: five seconds, every forty or so."""
    return Poisson(rate, burst=BURST, burst_seconds=5.0, calm_seconds=35.0)


def slow_minute(server: str, factor: float, scale: float) -> tuple[Sequence[Fault], Watch]:
    """A server is slow for a minute of five."""
    start, end = 100.0 * scale, 160.0 * scale
    return [Slow(server, factor, start, end)], Watch(server, start, end)


def _bucket(quota: float, rng: Random) -> Gate:  # noqa: ARG001 - a bucket leaves nothing to chance
    return TokenBucket(quota, quota * 10.0)


def black_hole(rng: Random) -> Gate:
    """Answers 500 in 30 ms, always."""
    return Failing(1.0, rng, delay=0.03)


def flaky(probability: float) -> MakeGate:
    """Fails some of the calls, part of the way."""
    return partial(_flaky, probability)


def _flaky(probability: float, rng: Random) -> Gate:
    return Failing(probability, rng, half_way=True)


def w1(scale: float = 1.0) -> World:
    """Queueing servers near capacity (48 % on average, above 90 % in bursts); the fast one turns 6 × slow."""
    faults, watch = slow_minute(FAST, 6.0, scale)
    title = "self-host: 8 queueing servers near capacity, the fast one 6 x slow for 60 s"
    return World("W1", title, 300.0 * scale, self_hosted(), bursty(18.0), faults=faults, watch=watch)


def w2(scale: float = 1.0) -> World:
    """APIs without queues and with token buckets; one turns 8 × slow."""
    faults, watch = slow_minute("d1", 8.0, scale)
    title = "hosted: 8 APIs without queues, token-bucket 429s, one 8 x slow for 60 s"
    return World("W2", title, 300.0 * scale, hosted(), bursty(18.0), faults=faults, watch=watch)


def w3(scale: float = 1.0) -> World:
    """As W1 without its fault; one answers 500 in 30 ms, one fails 30 %."""
    gates: dict[str, Sequence[MakeGate]] = {"d6": [black_hole], "d7": [flaky(0.3)]}
    servers = [replace(spec, gates=gates.get(spec.id, ())) for spec in self_hosted()]
    title = "black hole: as W1, one answers 500 in 30 ms, one fails 30 %"
    return World("W3", title, 300.0 * scale, servers, bursty(18.0))


def w4(scale: float = 1.0) -> World:
    """Long prompts in sessions, prefix caches; one turns 5 × slow."""
    faults, watch = slow_minute("d1", 5.0, scale)
    servers = [replace(spec, cache=110) for spec in self_hosted()]
    title = "prefix: long prompts, 600 sessions, prefix caches of 110, one 5 x slow for 60 s"
    arrivals = bursty(17.0)
    return World("W4", title, 300.0 * scale, servers, arrivals, sizes=Sessions(), faults=faults, watch=watch)


def w5(how: str, scale: float = 1.0) -> World:
    """W1, the same calls, through eight routers: ``alone``, ``shared``, or ``dead`` from a quarter on."""
    exchange = {"alone": None, "shared": Exchange(), "dead": Exchange(dead_from=75.0 * scale)}[how]
    title = f"fleet: W1 through 8 routers, {how}"
    return replace(w1(scale), id=f"W5-{how}", title=title, routers=8, exchange=exchange, calls="W1")


def w8(scale: float = 1.0) -> World:
    """As W1, all streams; a tenth of the callers lose patience, a tenth break off."""
    title = "streams: as W1, 10 % of the callers cancel, 10 % break off"
    callers = Callers(stream=1.0, cancel=0.1, break_early=0.1)
    return replace(w1(scale), id="W8", title=title, callers=callers, target="first_chunk")


def long(make: Callable[[float], World], scale: float = 1.0) -> World:
    """The same world for long enough to see what is rare; its fault, when it has one, comes once."""
    world = make(scale)
    return replace(
        world, id=f"{world.id}-long", title=f"{world.title}, longer", duration=LONG * scale, counts_only=True
    )


WORLDS: dict[str, Callable[[float], World]] = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5-alone": partial(w5, "alone"),
    "W5-shared": partial(w5, "shared"),
    "W5-dead": partial(w5, "dead"),
    "W8": w8,
    "W3-long": partial(long, w3),
    "W8-long": partial(long, w8),
}
"""By id; the argument scales every duration."""
