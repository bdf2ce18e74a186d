"""The targets of WORKLOADS.md §B, and how far a strategy is from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulation.pick_cost import PickCost
from benchmarks.simulation.report import Results, worst
from benchmarks.simulation.summary import Summary, best, ratio

Costs = Mapping[str, Mapping[int, PickCost]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been measured."""

    results: Results
    costs: Costs

    def of(self, world: str, name: str) -> Summary | None:
        """A contender in a world, when both were run."""
        return self.results[world][1].get(name) if world in self.results else None

    def over(self, world: str, name: str, kind: str) -> float | None:
        """Its p99 over the best of a kind."""
        summary = self.of(world, name)
        return None if summary is None else ratio(summary, best(self.results[world][1], kind))


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and the most that it may be."""

    figure: str
    most: float
    measure: Callable[[Evidence, str], float | None]
    digits: int = 2


def _over(world: str, kind: str) -> Callable[[Evidence, str], float | None]:
    return lambda evidence, name: evidence.over(world, name, kind)


def _errors(evidence: Evidence, name: str) -> float | None:
    summary = evidence.of("W3-long", name) or evidence.of("W3", name)
    return None if summary is None else summary.errors * 100.0


def _worst(evidence: Evidence, name: str) -> float | None:
    return worst(evidence.results).get(name, (None, ""))[0]


def _slowest(which: str) -> Callable[[Evidence, str], float | None]:
    """The longest over the worlds with a slow box; infinite when it never happened."""

    def measure(evidence: Evidence, name: str) -> float | None:
        timelines = [s.timeline for key in ("W1", "W2", "W4") if (s := evidence.of(key, name)) is not None]
        seconds = [getattr(timeline, which) for timeline in timelines if timeline is not None]
        return max((float("inf") if s is None else float(s) for s in seconds), default=None)

    return measure


def _pick(size: int) -> Callable[[Evidence, str], float | None]:
    def measure(evidence: Evidence, name: str) -> float | None:
        cost = evidence.costs.get(name, {}).get(size)
        return None if cost is None else cost.pick

    return measure


def _fleet(evidence: Evidence, name: str) -> float | None:
    """Eight routers that share, over one, as a percentage more."""
    fleet, alone = evidence.of("W5-shared", name), evidence.of("W1", name)
    return None if fleet is None or alone is None else (fleet.p99 / alone.p99 - 1.0) * 100.0


def _left(evidence: Evidence, name: str) -> float | None:
    summary = evidence.of("W8-long", name) or evidence.of("W8", name)
    return None if summary is None or summary.left is None else float(summary.left)


TARGETS: Sequence[Target] = (
    Target("W1 p99 / best built-in", 0.65, _over("W1", "litellm")),
    Target("W1 p99 / oracle", 1.05, _over("W1", "limit")),
    Target("W2 p99 / best built-in", 0.85, _over("W2", "litellm")),
    Target("W2 p99 / oracle", 1.10, _over("W2", "limit")),
    Target("W3 errors seen by callers, %", 0.0, _errors, digits=3),
    Target("W4 p99 / best built-in", 0.52, _over("W4", "litellm")),
    Target("W4 p99 / oracle", 1.05, _over("W4", "limit")),
    Target("worst p99 / oracle, W1–W5", 1.15, _worst),
    Target("seconds to leave a slow box", 1.0, _slowest("leaves"), digits=0),
    Target("seconds to come back", 10.0, _slowest("returns"), digits=0),
    Target("CPU per pick at N = 8, µs", 5.0, _pick(8), digits=1),
    Target("CPU per pick at N = 512, µs", 5.0, _pick(512), digits=1),
    Target("8 routers / 1 router, p99, % more", 3.0, _fleet, digits=1),
    Target("in-flight left over in W8, calls", 0.0, _left, digits=0),
)


def targets_table(evidence: Evidence, names: Sequence[str]) -> str:
    """A row per target, a column per strategy; ``!`` marks a miss."""
    lines = [f"\n{'target':<36}{'≤':>8}" + "".join(f"{name[:22]:>24}" for name in names)]
    for target in TARGETS:
        cells = [_cell(target, target.measure(evidence, name)) for name in names]
        lines.append(f"{target.figure:<36}{target.most:>8g}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def _cell(target: Target, value: float | None) -> str:
    if value is None:
        return "–"
    text = "never" if value == float("inf") else f"{value:.{target.digits}f}"
    return text if value <= target.most else f"{text} !"


def targets_json(evidence: Evidence, names: Sequence[str]) -> Mapping[str, Mapping[str, float | str | None]]:
    """By target: the bound, and each strategy's figure."""
    return {
        target.figure: {"most": target.most, **{name: _plain(target.measure(evidence, name)) for name in names}}
        for target in TARGETS
    }


def _plain(value: float | None) -> float | str | None:
    return "never" if value == float("inf") else value
