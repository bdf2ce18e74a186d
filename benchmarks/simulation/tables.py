"""Tables of the sections that are not worlds: the fleet against one router, pick costs, the real routers."""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulation.pick_cost import PickCost
from benchmarks.simulation.report import Results

FLEETS = ("W5-alone", "W5-shared", "W5-dead")


@dataclass(frozen=True, slots=True)
class Checked:
    """One world through a real router, beside the simulation of the same calls.

    Attributes:
        real: p50, p95, p99 in seconds, and the share of errors.
        simulated: the same; ``None`` where the simulator has no such contender.
        cpu_per_call: microseconds, real router.
    """

    world: str
    router: str
    real: tuple[float, float, float, float]
    simulated: tuple[float, float, float, float] | None
    cpu_per_call: float


def fleet_table(results: Results) -> str:
    """p99 of eight routers over that of one."""
    shown = [key for key in FLEETS if key in results]
    if "W1" not in results or not shown:
        return ""
    lines = ["\nW5  p99 of eight routers / one", f"{'contender':<28}" + "".join(f"{key:>12}" for key in shown)]
    for name, one in results["W1"][1].items():
        ratios = [results[key][1][name].p99 / one.p99 for key in shown]
        lines.append(f"{name:<28}" + "".join(f"{value:12.3f}" for value in ratios))
    return "\n".join(lines)


def pick_table(costs: Mapping[str, Mapping[int, PickCost]]) -> str:
    """CPU per pick by the size of the group."""
    sizes = list(next(iter(costs.values()), {}))
    lines = [
        "\nW6  CPU of one pick by number of deployments, µs (in brackets: with its reservation and its end)",
        f"{'contender':<28}" + "".join(f"{size:>20}" for size in sizes),
    ]
    for name, by_size in costs.items():
        cells = [f"{cost.pick:.1f} ({cost.cycle:.1f})" for cost in by_size.values()]
        lines.append(f"{name:<28}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def router_table(title: str, rows: Mapping[str, Mapping[float, tuple[float, float]]]) -> str:
    """CPU and stall of a pick through the whole router."""
    columns = list(next(iter(rows.values()), {}))
    lines = [f"\n{title}", f"{'router':<36}" + "".join(f"{column:>18g}" for column in columns)]
    for name, by_column in rows.items():
        cells = [f"{cpu:.0f} / {stall:.0f}" for cpu, stall in by_column.values()]
        lines.append(f"{name:<36}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def end_to_end_table(rows: Sequence[Checked]) -> str:
    """The real routers, and the simulation of the same calls under each."""
    lines = [
        "\nend to end: real routers in virtual time, and the simulation of the same calls",
        f"{'world, router':<40}{'p50':>8}{'p95':>8}{'p99':>8}{'errors %':>10}{'CPU ms/call':>13}",
    ]
    for row in rows:
        lines.append(_checked(f"{row.world} {row.router}", row.real) + f"{row.cpu_per_call / 1000.0:13.2f}")
        if row.simulated is not None:
            lines.append(_checked("   simulated", row.simulated))
    return "\n".join(lines)


def _checked(label: str, figures: tuple[float, float, float, float]) -> str:
    p50, p95, p99, errors = figures
    return f"{label:<40}{p50:8.2f}{p95:8.2f}{p99:8.2f}{100.0 * errors:10.3f}"
