"""What a run leaves behind, and the figures made of it."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from benchmarks.simulation.workload import Call
from traced_router.strategy import Status


@dataclass(slots=True)
class Recorder:
    """Raw facts of one run.

    Attributes:
        watched: the server whose picks are kept apart.
        latencies: seconds, of calls that were answered.
        first_chunks: seconds from the call to its first chunk, streams only.
        picks: when each attempt was sent.
        watched_picks: those sent to the watched server.
        ends: how often each status ended a call.
        endings: how often each call ended: once, or the simulator is wrong.
        attempts: over all calls.
        calls_ended: so far.
    """

    watched: str | None = None
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    first_chunks: "array[float]" = field(default_factory=lambda: array("d"))
    picks: "array[float]" = field(default_factory=lambda: array("d"))
    watched_picks: "array[float]" = field(default_factory=lambda: array("d"))
    ends: dict[Status, int] = field(default_factory=dict[Status, int])
    endings: dict[int, int] = field(default_factory=dict[int, int])
    attempts: int = 0
    calls_ended: int = 0

    def picked(self, now: float, server_id: str) -> None:
        """An attempt leaves."""
        self.picks.append(now)
        if server_id == self.watched:
            self.watched_picks.append(now)

    def ended(self, call: Call, now: float, status: Status, attempts: int, first_chunk: float | None) -> None:
        """A call is over."""
        self.calls_ended += 1
        self.ends[status] = self.ends.get(status, 0) + 1
        self.endings[call.index] = self.endings.get(call.index, 0) + 1
        self.attempts += attempts
        if status == "ok":
            self.latencies.append(now - call.at)
        if first_chunk is not None:
            self.first_chunks.append(first_chunk - call.at)


@dataclass(frozen=True, slots=True)
class Figures:
    """One run in numbers: seconds, and shares of the calls.

    Attributes:
        p50: of what the world's callers wait for: the whole answer, or its first chunk.
        errors: share of calls whose caller saw an error.
        cancelled: share of calls whose caller left.
        retries: attempts beyond the first, per call.
        other_p50: of the other of the two, in worlds of streams.
        left: calls believed to be in flight at the end.
    """

    p50: float
    p95: float
    p99: float
    mean: float
    errors: float
    cancelled: float
    retries: float
    other_p50: float | None
    other_p99: float | None
    left: int | None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(share * len(ordered) - 1e-9) - 1)]


def figures(recorder: Recorder, calls: int, left: int | None, target: str) -> Figures:
    """The numbers of a run."""
    whole, first = sorted(recorder.latencies), sorted(recorder.first_chunks)
    main, other = (first, whole) if target == "first_chunk" else (whole, first)
    total = max(1, calls)
    return Figures(
        p50=percentile(main, 0.50),
        p95=percentile(main, 0.95),
        p99=percentile(main, 0.99),
        mean=sum(main) / max(1, len(main)),
        errors=recorder.ends.get("error", 0) / total,
        cancelled=recorder.ends.get("cancelled", 0) / total,
        retries=(recorder.attempts - calls) / total,
        other_p50=percentile(other, 0.50) if other else None,
        other_p99=percentile(other, 0.99) if other else None,
        left=left,
    )
