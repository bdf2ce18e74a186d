"""The worlds of WORKLOADS.md §B, composed of parts: who calls, what answers, what goes wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from benchmarks.simulation.arrivals import Arrivals, Poisson
from benchmarks.simulation.faults import Fault, Slow
from benchmarks.simulation.gates import Failing, Gate, TokenBucket
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
        weight: what an operator would configure; contenders that read weights are given it.
        rpm: likewise, calls per minute.
    """

    id: str
    speed: float = 1.0
    capacity: float = 16.0
    gates: Sequence[MakeGate] = ()
    cache: int = 0
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


SPEEDS = (0.7, 0.85, 1.0, 1.15, 1.3, 1.6, 2.0, 2.5)
BURST = 2.2


def self_hosted(speeds: Sequence[float] = SPEEDS) -> Sequence[ServerSpec]:
    """Queueing servers of these speeds, the fastest one first."""
    return [ServerSpec(f"d{i}", speed, weight=round(10.0 / speed, 1)) for i, speed in enumerate(speeds)]


def bursty(rate: float) -> Poisson:
    """Poisson arrivals with bursts of × 2.2: five seconds, every forty or so."""
    return Poisson(rate, burst=BURST, burst_seconds=5.0, calm_seconds=35.0)


def w1(scale: float = 1.0) -> World:
    """Queueing servers near capacity; the fast one turns 6 × slow for a minute."""
    duration = 300.0 * scale
    start = 100.0 * scale
    return World(
        "W1",
        "self-host: 8 queueing servers near capacity, the fast one 6 x slow for 60 s",
        duration,
        self_hosted(),
        bursty(30.0),
        faults=[Slow("d0", 6.0, start, start + 60.0)],
        watch=Watch("d0", start, start + 60.0),
    )


def w2(scale: float = 1.0) -> World:
    """APIs without queues and with token buckets; one turns 8 × slow."""
    duration = 300.0 * scale
    start = 100.0 * scale
    return World(
        "W2",
        "hosted: 8 APIs without queues, token-bucket 429s, one 8 x slow for 60 s",
        duration,
        hosted(SPEEDS, (4.0, 5.0, 4.0, 6.0, 8.0, 6.0, 6.0, 8.0)),
        bursty(18.0),
        faults=[Slow("d1", 8.0, start, start + 60.0)],
        watch=Watch("d1", start, start + 60.0),
    )


def hosted(speeds: Sequence[float], rates: Sequence[float]) -> Sequence[ServerSpec]:
    """APIs of these speeds with token buckets of these rates (calls per second, 10 s worth of burst)."""
    return [
        ServerSpec(
            f"d{i}",
            speed,
            capacity=float("inf"),
            gates=[partial(_bucket, rate, rate * 10.0)],
            weight=rate,
            rpm=rate * 60.0,
        )
        for i, (speed, rate) in enumerate(zip(speeds, rates, strict=True))
    ]


def _bucket(rate: float, burst: float, rng: Random) -> Gate:  # noqa: ARG001 - a bucket leaves nothing to chance
    return TokenBucket(rate, burst)


def _black_hole(rng: Random) -> Gate:
    return Failing(1.0, rng, delay=0.03)


def _flaky(probability: float, rng: Random) -> Gate:
    return Failing(probability, rng, half_way=True)


def w3(scale: float = 1.0) -> World:
    """As W1, without its fault; one answers 500 in 30 ms, one fails 30 %."""
    gates: dict[str, Sequence[MakeGate]] = {"d3": [_black_hole], "d5": [partial(_flaky, 0.3)]}
    servers = [
        ServerSpec(spec.id, spec.speed, spec.capacity, gates.get(spec.id, ()), weight=spec.weight)
        for spec in self_hosted()
    ]
    return World(
        "W3",
        "black hole: as W1, one answers 500 in 30 ms, one fails 30 %",
        300.0 * scale,
        servers,
        bursty(24.0),
    )


def w4(scale: float = 1.0) -> World:
    """Long prompts in sessions, prefix caches; one turns 5 × slow."""
    duration = 300.0 * scale
    start = 100.0 * scale
    servers = [ServerSpec(s.id, s.speed, s.capacity, cache=110, weight=s.weight) for s in self_hosted()]
    return World(
        "W4",
        "prefix: long prompts, 600 sessions, prefix caches of 110, one 5 x slow for 60 s",
        duration,
        servers,
        bursty(28.0),
        sizes=Sessions(),
        faults=[Slow("d1", 5.0, start, start + 60.0)],
        watch=Watch("d1", start, start + 60.0),
    )


WORLDS: dict[str, Callable[[float], World]] = {"W1": w1, "W2": w2, "W3": w3, "W4": w4}
"""By id; the argument scales the duration."""
