"""The watched server's share of the traffic over time: when it was left, and when it was come back to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.simulation.metrics import Recorder
from benchmarks.simulation.worlds import Watch

BEFORE = 30
"""Seconds before the fault from which the usual share is taken."""
RARE = 0.02
"""Below this usual share, leaving and coming back mean nothing."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Shares per second, pooled over the seeds.

    Attributes:
        shares: of the attempts of each second since the start, those that went to the watched server.
        usual: share in the half minute before the fault.
        leaves: whole seconds from the fault until the share is under half the usual, for three seconds on average.
        returns: likewise, from the end of the fault until it is above half again. ``None``: never.
    """

    shares: Sequence[float]
    usual: float
    leaves: int | None
    returns: int | None


def timeline(recorders: Sequence[Recorder], watch: Watch, duration: float) -> Timeline:
    """Pool the seeds."""
    seconds = int(duration)
    every = _histogram((at for recorder in recorders for at in recorder.picks), seconds)
    watched = _histogram((at for recorder in recorders for at in recorder.watched_picks), seconds)
    start, end = int(watch.start), int(watch.end)
    usual = _share(watched, every, max(0, start - BEFORE), start)
    rolling = [_share(watched, every, second, min(second + 3, seconds)) for second in range(seconds)]
    shares = [_share(watched, every, second, second + 1) for second in range(seconds)]
    leaves = returns = None
    if usual >= RARE:
        leaves = next((s - start for s in range(start, end) if max(shares[s], rolling[s]) < usual / 2), None)
        returns = next((s - end for s in range(end, seconds - 2) if rolling[s] >= usual / 2), None)
    return Timeline(shares, usual, leaves, returns if leaves is not None else None)


def _histogram(times: Iterable[float], seconds: int) -> list[int]:
    counts = [0] * seconds
    for at in times:
        if at < seconds:
            counts[int(at)] += 1
    return counts


def _share(watched: Sequence[int], every: Sequence[int], start: int, end: int) -> float:
    return sum(watched[start:end]) / max(1, sum(every[start:end]))
