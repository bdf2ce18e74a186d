"""Worlds of our own to hold out, so that a strategy is not fitted to W1–W8: never tune on these."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random

from benchmarks.simulation.arrivals import Poisson
from benchmarks.simulation.faults import Fault, Flapping, Join, Leave, Ramp, Slow
from benchmarks.simulation.gates import Gate, MinuteQuota
from benchmarks.simulation.sizes import Lognormal, Mixture
from benchmarks.simulation.worlds import FAST, SPEEDS, Watch, World, bursty, hosted, self_hosted, slow_minute


def sizes(scale: float = 1.0) -> World:
    """A group of thirty, a third of them slow, with small batches and short answers."""
    speeds = [SPEEDS[i % 8] * (1.0 + 0.02 * i) for i in range(30)]
    servers = [replace(spec, capacity=6.0) for spec in self_hosted(speeds)]
    faults, watch = slow_minute("d12", 6.0, scale)
    short = Lognormal(300.0, 0.7, 60.0, 0.9)
    title = "30 servers with batches of 6, short answers; a fast one 6 x slow"
    return World("H1", title, 240.0 * scale, servers, bursty(36.0), sizes=short, faults=faults, watch=watch)


def pair(scale: float = 1.0) -> World:
    """Only two servers, one twice as fast, which turns 4 × slow."""
    faults, watch = slow_minute("d0", 4.0, scale)
    servers = self_hosted((0.8, 1.6))
    return World(
        "H2", "2 servers; the faster one 4 x slow", 300.0 * scale, servers, bursty(3.2), faults=faults, watch=watch
    )


def flapping(scale: float = 1.0) -> World:
    """Two servers flap between well and 6 × slow."""
    faults: list[Fault] = [
        Flapping(FAST, 6.0, 60.0 * scale, 240.0 * scale, slow=8.0, well=8.0),
        Flapping("d3", 6.0, 60.0 * scale, 240.0 * scale, slow=15.0, well=5.0),
    ]
    watch = Watch(FAST, 60.0 * scale, 240.0 * scale)
    return World("H3", "two servers flap", 300.0 * scale, self_hosted(), bursty(16.0), faults=faults, watch=watch)


def ramps(scale: float = 1.0) -> World:
    """The fast server degrades little by little, while the traffic grows."""
    faults = [Ramp(FAST, 8.0, 60.0 * scale, 160.0 * scale, 220.0 * scale)]
    arrivals = Poisson(14.0, burst=1.5, burst_seconds=8.0, calm_seconds=30.0, wave=0.25, ramp=1.6)
    watch = Watch(FAST, 60.0 * scale, 220.0 * scale)
    title = "the fast one degrades to 8 x slow over 100 s, traffic grows by 60 %"
    return World("H4", title, 300.0 * scale, self_hosted(), arrivals, faults=faults, watch=watch)


def minute_quotas(scale: float = 1.0) -> World:
    """APIs with quotas per calendar minute, half of which say nothing in their headers."""
    quotas = (240, 300, 240, 120, 120, 180, 180, 360)
    servers = [
        replace(spec, gates=[partial(_minute, calls, i % 2 == 0)], rpm=float(calls), weight=float(calls))
        for i, (spec, calls) in enumerate(zip(hosted(), quotas, strict=True))
    ]
    return World("H5", "quotas per calendar minute, half of them untold", 300.0 * scale, servers, bursty(16.0))


def _minute(calls: int, tells: bool, rng: Random) -> Gate:  # noqa: ARG001, FBT001 - bound by position
    return MinuteQuota(calls, tells=tells)


def bimodal(scale: float = 1.0) -> World:
    """Chat and long documents side by side."""
    both = Mixture([(0.85, Lognormal(300.0, 0.6, 80.0, 0.6)), (0.15, Lognormal(25_000.0, 0.4, 500.0, 0.5))])
    faults, watch = slow_minute(FAST, 6.0, scale)
    title = "bimodal: 85 % chat, 15 % long documents; the fast one 6 x slow"
    return World("H6", title, 300.0 * scale, self_hosted(), bursty(11.0), sizes=both, faults=faults, watch=watch)


def changing(scale: float = 1.0) -> World:
    """Wrong weights; two deployments join, one leaves, and one of the new ones turns slow."""
    servers = [replace(spec, weight=round(spec.speed * 4.0, 1)) for spec in self_hosted()]
    faults: list[Fault] = [
        Join(FAST, 80.0 * scale),
        Join("d1", 120.0 * scale),
        Leave("d3", 200.0 * scale),
        Slow(FAST, 6.0, 160.0 * scale, 200.0 * scale),
    ]
    watch = Watch(FAST, 160.0 * scale, 200.0 * scale)
    title = "weights the wrong way round; the two fastest join late, one leaves"
    return World("H7", title, 300.0 * scale, servers, bursty(13.0), faults=faults, watch=watch)


HOLDOUTS: dict[str, Callable[[float], World]] = {
    "H1": sizes,
    "H2": pair,
    "H3": flapping,
    "H4": ramps,
    "H5": minute_quotas,
    "H6": bimodal,
    "H7": changing,
}
"""By id; the argument scales every duration."""
