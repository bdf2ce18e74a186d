"""What a run leaves behind, and the figures made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from traced_router.strategy import Status

from benchmarks.simulation.workload import Call


@dataclass(slots=True)
class Recorder:
    """Raw facts of one run.

    Attributes:
        latencies: seconds, of calls that were answered.
        first_chunks: seconds from the call to its first chunk, streams only.
        picks: when each attempt was sent, and where.
        ends: how often each status ended a call.
        endings: how often each call ended; every one of them must be 1.
        attempts: over all calls.
    """

    latencies: list[float] = field(default_factory=list[float])
    first_chunks: list[float] = field(default_factory=list[float])
    picks: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    ends: dict[Status, int] = field(default_factory=dict[Status, int])
    endings: dict[int, int] = field(default_factory=dict[int, int])
    attempts: int = 0

    def picked(self, now: float, server_id: str) -> None:
        """An attempt leaves."""
        self.picks.append((now, server_id))

    def ended(self, call: Call, now: float, status: Status, attempts: int, first_chunk: float | None) -> None:
        """A call is over."""
        self.ends[status] = self.ends.get(status, 0) + 1
        self.endings[call.index] = self.endings.get(call.index, 0) + 1
        self.attempts += attempts
        if status == "ok":
            self.latencies.append(now - call.at)
        if first_chunk is not None:
            self.first_chunks.append(first_chunk - call.at)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; 0 of none."""
    if not values:
        return 0.0
    return values[min(len(values) - 1, max(0, round(share * len(values) + 0.5) - 1))]
