"""Tables for the terminal, and the same as JSON."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.simulation.summary import Summary, best, ratio
from benchmarks.simulation.worlds import World

Results = Mapping[str, tuple[World, Mapping[str, Summary]]]
"""By world, then by contender."""

UNTUNED = ("W1", "W2", "W3", "W4", "W5-alone", "W5-shared", "W5-dead")
"""The worlds whose worst ratio counts."""


def versions() -> dict[str, str]:
    """Of everything that a figure can depend on."""
    found = {"python": platform.python_version()}
    for name in ("litellm", "traced-router"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed (checkout)"
    return found


def world_table(world: World, summaries: Mapping[str, Summary]) -> str:
    """One line per contender."""
    builtin, limit = best(summaries, "litellm"), best(summaries, "limit")
    what = "time to first chunk" if world.target == "first_chunk" else "latency"
    header = (
        f"{'contender':<28}{'p50':>8}{'p95':>9}{'p99':>9}{'±':>9}{'/built-in':>11}{'/oracle':>9}"
        f"{'errors %':>10}{'retries':>9}{'leaves':>8}{'returns':>9}{'left':>6}"
    )
    lines = [f"\n{world.id}  {world.title}  ({what}, seconds)", header]
    lines += [_line(summary, builtin, limit) for summary in summaries.values()]
    return "\n".join(lines)


def _line(summary: Summary, builtin: Summary | None, limit: Summary | None) -> str:
    time = summary.timeline
    usual = time is not None and time.usual > 0.0
    return (
        f"{summary.contender.name:<28}"
        f"{summary.mean(lambda f: f.p50):8.2f}{summary.mean(lambda f: f.p95):9.2f}{summary.p99:9.2f}"
        f"{summary.spread(lambda f: f.p99):9.2f}"
        f"{_number(ratio(summary, builtin)):>11}{_number(ratio(summary, limit)):>9}"
        f"{100.0 * summary.errors:10.3f}{summary.mean(lambda f: f.retries):9.3f}"
        f"{_seconds(time.leaves) if usual and time is not None else '':>8}"
        f"{_seconds(time.returns) if usual and time is not None else '':>9}"
        f"{'?' if summary.left is None else summary.left:>6}"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _seconds(value: int | None) -> str:
    return "never" if value is None else f"{value} s"


def worst_table(results: Results) -> str:
    """The worst p99 / oracle of each contender over W1–W5."""
    rows = sorted(worst(results).items(), key=lambda row: row[1][0])
    worlds = ", ".join(key for key in results if key in UNTUNED)
    lines = [f"\nworst p99 / oracle of one untuned contender, over {worlds}"]
    lines += [f"{name:<28}{value:8.2f}  in {where}" for name, (value, where) in rows]
    return "\n".join(lines) if rows else ""


def worst(results: Results) -> dict[str, tuple[float, str]]:
    """By contender: the ratio, and the world."""
    found: dict[str, tuple[float, str]] = {}
    for key, (_, summaries) in results.items():
        limit = best(summaries, "limit")
        for name, summary in summaries.items():
            value = ratio(summary, limit)
            if key in UNTUNED and value is not None and summary.contender.kind not in ("limit", "reference"):
                found[name] = max(found.get(name, (0.0, "")), (value, key))
    return found


def as_json(results: Results, seeds: Sequence[int], command: str, **more: Any) -> dict[str, Any]:
    """All figures, with what is needed to make them again."""
    return {
        "command": command,
        "seeds": list(seeds),
        "versions": versions(),
        "worlds": {key: _world_json(world, summaries) for key, (world, summaries) in results.items()},
        "worst_over_oracle": {name: {"ratio": v, "world": w} for name, (v, w) in worst(results).items()},
        **more,
    }


def _world_json(world: World, summaries: Mapping[str, Summary]) -> dict[str, Any]:
    builtin, limit = best(summaries, "litellm"), best(summaries, "limit")
    return {
        "title": world.title,
        "target": world.target,
        "duration": world.duration,
        "best_builtin": builtin.contender.name if builtin else None,
        "contenders": {
            name: {
                "kind": summary.contender.kind,
                "calls": summary.calls,
                "p99": summary.p99,
                "p99_spread": summary.spread(lambda f: f.p99),
                "p99_over_builtin": ratio(summary, builtin),
                "p99_over_oracle": ratio(summary, limit),
                "errors": summary.errors,
                "left_in_flight": summary.left,
                "cpu_us_per_simulated_call": summary.cpu_per_call,
                "timeline": asdict(summary.timeline) if summary.timeline else None,
                "per_seed": [asdict(figures) for figures in summary.per_seed],
            }
            for name, summary in summaries.items()
        },
    }
