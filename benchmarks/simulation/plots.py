"""Two pictures per world: how slow the slowest are, and where the traffic goes around the fault."""

# litellm and matplotlib are typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownMemberType=false

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.simulation.report import Results
from benchmarks.simulation.summary import QUANTILES, Summary, best
from benchmarks.simulation.worlds import World

SHOWN_BASELINES = ("plain p2c-peak-ewma", "plain least-in-flight")
SMOOTH = 3
"""Seconds over which plotted shares are averaged."""


def draw(results: Results, out: Path, note: str) -> Sequence[Path]:
    """One file per world; ``note`` is printed under each: seeds, versions."""
    return [_draw_world(world, summaries, out, note) for world, summaries in results.values()]


def _draw_world(world: World, summaries: Mapping[str, Summary], out: Path, note: str) -> Path:
    panels = 1 if world.watch is None else 2
    figure, axes = plt.subplots(1, panels, figsize=(7.0 * panels, 4.8), squeeze=False)
    shown = _shown(summaries)
    _tails(axes[0][0], world, shown)
    if panels == 2:
        _shares(axes[0][1], world, shown)
    figure.suptitle(f"{world.id}  {world.title}", fontsize=10)
    figure.text(0.01, 0.01, note, fontsize=6, color="0.4")
    figure.tight_layout(rect=(0.0, 0.02, 1.0, 0.98))
    path = out / f"strategies-{world.id}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _shown(summaries: Mapping[str, Summary]) -> Sequence[Summary]:
    """Ours, the limit, litellm's default and its best, and two baselines: more lines than that say less."""
    builtin = best(summaries, "litellm")
    return [
        summary
        for name, summary in summaries.items()
        if summary.contender.kind in ("ours", "limit", "reference")
        or summary is builtin
        or name in (*SHOWN_BASELINES, "litellm simple-shuffle")
    ]


def _style(summary: Summary) -> dict[str, Any]:
    width = {"ours": 2.0, "limit": 2.0, "reference": 1.5}.get(summary.contender.kind, 1.0)
    line = {"limit": "--", "reference": "--", "litellm": "-.", "baseline": ":"}.get(summary.contender.kind, "-")
    colour = {"limit": "black", "reference": "0.6"}.get(summary.contender.kind)
    return {"linewidth": width, "linestyle": line, "color": colour, "label": summary.contender.name}


def _tails(axes: Any, world: World, shown: Sequence[Summary]) -> None:
    for summary in shown:
        if summary.tail:
            axes.plot(summary.tail, [1.0 - share for share in QUANTILES], **_style(summary))
    axes.set(xscale="log", yscale="log", ylabel="share of calls that are slower")
    axes.set_xlabel("seconds to the first chunk" if world.target == "first_chunk" else "seconds to the answer")
    axes.axhline(0.01, color="0.8", linewidth=0.8)
    axes.grid(visible=True, which="major", color="0.92")
    axes.legend(fontsize=7)


def _shares(axes: Any, world: World, shown: Sequence[Summary]) -> None:
    watch = world.watch
    if watch is None:
        return
    for summary in shown:
        if summary.timeline is not None:
            shares = summary.timeline.shares
            smooth = [sum(shares[max(0, i - SMOOTH + 1) : i + 1]) / min(i + 1, SMOOTH) for i in range(len(shares))]
            axes.plot(range(len(shares)), smooth, **_style(summary))
    axes.axvspan(watch.start, watch.end, color="0.93")
    axes.set(xlim=(max(0.0, watch.start - 30.0), min(world.duration, watch.end + 60.0)), ylim=(0.0, None))
    axes.set(xlabel="seconds", ylabel=f"share of attempts sent to {watch.server}")
    axes.grid(visible=True, color="0.92")
