"""A contender in a world over all seeds, and how it compares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from benchmarks.simulation.contenders import Contender
from benchmarks.simulation.metrics import Figures, figures
from benchmarks.simulation.runner import Run
from benchmarks.simulation.timeline import Timeline, timeline

QUANTILES = [1.0 - 10.0 ** (-step / 50.0) for step in range(1, 201)]
"""Where the plotted distributions are sampled: up to 1 - 1e-4, evenly on a logarithmic scale."""
FEW_ERRORS = 0.01
"""A built-in whose callers see more errors than this is not the best, however fast the rest of its answers."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All runs of one contender in one world.

    Attributes:
        per_seed: figures in the order of the seeds.
        tail: latencies at :data:`QUANTILES`, pooled.
        cpu_per_call: microseconds of this process per simulated call, everything included.
    """

    contender: Contender
    per_seed: Sequence[Figures]
    tail: Sequence[float]
    timeline: Timeline | None
    calls: int
    cpu_per_call: float

    def mean(self, figure: Callable[[Figures], float]) -> float:
        """Over the seeds."""
        return fmean(map(figure, self.per_seed))

    def spread(self, figure: Callable[[Figures], float]) -> float:
        """Standard deviation over the seeds; 0 of one."""
        return stdev(map(figure, self.per_seed)) if len(self.per_seed) > 1 else 0.0

    @property
    def p99(self) -> float:
        """Mean over the seeds, seconds."""
        return self.mean(lambda f: f.p99)

    @property
    def errors(self) -> float:
        """Share of all calls whose caller saw an error."""
        return self.mean(lambda f: f.errors)

    @property
    def left(self) -> int | None:
        """Calls believed to be in flight at the end, over all seeds."""
        known = [f.left for f in self.per_seed if f.left is not None]
        return sum(known) if len(known) == len(self.per_seed) else None


def summarise(runs: Sequence[Run]) -> Summary:
    """Runs of one contender in one world."""
    world = runs[0].world
    calls = sum(run.calls for run in runs)
    pooled = sorted(
        seconds
        for run in runs
        for seconds in (run.recorder.first_chunks if world.target == "first_chunk" else run.recorder.latencies)
    )
    watch = world.watch
    return Summary(
        runs[0].contender,
        [figures(run.recorder, run.calls, run.left_in_strategy, world.target) for run in runs],
        [pooled[int(share * len(pooled))] for share in QUANTILES] if pooled else [],
        timeline([run.recorder for run in runs], watch, world.duration) if watch is not None else None,
        calls,
        sum(run.cpu_seconds for run in runs) / max(1, calls) * 1e6,
    )


def best(summaries: Mapping[str, Summary], kind: str) -> Summary | None:
    """The lowest p99 of a kind, among those whose callers see few errors."""
    of_kind = [s for s in summaries.values() if s.contender.kind == kind]
    sound = [s for s in of_kind if s.errors <= FEW_ERRORS]
    return min(sound or of_kind, key=lambda s: s.p99, default=None)


def ratio(summary: Summary, reference: Summary | None) -> float | None:
    """P99 over the reference's."""
    return summary.p99 / reference.p99 if reference is not None and reference.p99 else None
