"""What a strategy gains: worlds in virtual time, litellm's own strategies, baselines, ours, and the oracle.

Examples::

    PYTHONPATH=. python benchmarks/strategies.py --quick
    PYTHONPATH=. python benchmarks/strategies.py --world W1 --world W4 --strategy my_package.mine:MyStrategy
    PYTHONPATH=. python benchmarks/strategies.py --latencies mine.csv --strategy my_package.mine:MyStrategy

Sections: W1 … W5 and W8 are worlds; W6 and W7 what a pick costs; e2e the real routers in virtual time.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # an import without the network
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "strategies")]

from benchmarks.simulation import pick_cost, recorded, report, tables, targets  # noqa: E402 - after the path
from benchmarks.simulation.contenders import BASELINES, Contender, limits, litellm_builtins, load, ours  # noqa: E402 - as above
from benchmarks.simulation.holdouts import HOLDOUTS  # noqa: E402 - as above
from benchmarks.simulation.runner import calls_of, run  # noqa: E402 - as above
from benchmarks.simulation.summary import Summary, summarise  # noqa: E402 - as above
from benchmarks.simulation.worlds import WORLDS, World  # noqa: E402 - as above

QUICK_SCALE = 0.2
QUICK_SEEDS = 2
FULL_SEEDS = 5
QUICK_GROUPS = (8, 512)
SLOW = ("W5-dead", "W3-long", "W8-long", "W7", "e2e")
"""Sections that a quick run does without."""
DEFAULT = "least-expected-completion"
"""The strategy that goes through the real routers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for, print it, and write it down."""
    began = time.monotonic()
    options = _parse(arguments)
    seeds = range(options.seeds or (QUICK_SEEDS if options.quick else FULL_SEEDS))
    contenders = _contenders(options)
    sections = _sections(options)
    note = f"seeds {seeds.start}-{seeds.stop - 1}; " + ", ".join(f"{k} {v}" for k, v in report.versions().items())
    print(note)
    results = _play_worlds(_worlds(options, sections), contenders, seeds)
    more = _costs(sections, contenders, options)
    evidence = targets.Evidence(results, more.pop("costs", {}))
    shown = [contender.name for contender in contenders if contender.kind == "ours"]
    if shown and not set(sections).isdisjoint(WORLDS):
        print(targets.targets_table(evidence, shown))
        more["targets"] = targets.targets_json(evidence, shown)
    _write(results, seeds, note, options, more)
    print(f"{time.monotonic() - began:.0f} s, of which {time.process_time():.0f} s of CPU")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", action="append", help="W1 … W8, e2e, H1 … H7, or holdout; repeatable")
    parser.add_argument("--strategy", action="append", default=[], help="module:Class of your own; repeatable")
    parser.add_argument("--contender", action="append", help="only those whose name contains this; repeatable")
    parser.add_argument("--latencies", type=Path, help="recorded latencies: CSV or JSON lines")
    parser.add_argument("--rate", type=float, default=10.0, help="calls per second in the world of --latencies")
    parser.add_argument("--seeds", type=int, help=f"how many; {FULL_SEEDS}, or {QUICK_SEEDS} with --quick")
    parser.add_argument("--quick", action="store_true", help="shorter worlds, no real routers; under a minute")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="for JSON and plots")
    parser.add_argument("--no-plots", action="store_true")
    return parser.parse_args(arguments)


def _sections(options: argparse.Namespace) -> Sequence[str]:
    """What was asked for, spelled out."""
    if options.world is None and options.latencies is not None:
        return ["recorded"]
    known = [*WORLDS, "W6", "W7", "e2e", *HOLDOUTS]
    usual = ["W6", *(key for key in WORLDS if not (options.quick and key in SLOW)), *(() if options.quick else SLOW)]
    asked = [*(options.world or usual)]
    if "holdout" in asked:
        asked += HOLDOUTS
    if "W5" in asked:
        asked += [key for key in WORLDS if key.startswith("W5-")]
    keys = [key for key in known if key in asked]
    if not keys:
        raise SystemExit(f"--world {asked}: expected some of {', '.join(known)}, W5, holdout")
    return keys


def _worlds(options: argparse.Namespace, sections: Sequence[str]) -> Sequence[World]:
    scale = QUICK_SCALE if options.quick else 1.0
    if "recorded" in sections:
        return [recorded.world(recorded.read(options.latencies), scale, options.rate)]
    known = {**WORLDS, **HOLDOUTS}
    return [known[key](scale) for key in sections if key in known]


def _contenders(options: argparse.Namespace) -> Sequence[Contender]:
    named = [*litellm_builtins(), *BASELINES, *ours(), *map(load, options.strategy), *limits()]
    everyone = list({contender.name: contender for contender in named}.values())  # the user's own, of two of a name
    wanted = [*(options.contender or ()), *(load(target).name for target in options.strategy)]
    if not options.contender:
        return everyone
    return [c for c in everyone if c.kind in ("limit", "reference") or any(part in c.name for part in wanted)]


def _play_worlds(worlds: Sequence[World], contenders: Sequence[Contender], seeds: Sequence[int]) -> report.Results:
    results: dict[str, tuple[World, Mapping[str, Summary]]] = {}
    for world in worlds:
        results[world.id] = (world, _play(world, contenders, seeds, results))
        print(report.world_table(*results[world.id]), flush=True)
    print(tables.fleet_table(results))
    print(report.worst_table(results))
    return results


def _play(
    world: World, contenders: Sequence[Contender], seeds: Sequence[int], results: report.Results
) -> Mapping[str, Summary]:
    calls = {seed: calls_of(world, seed) for seed in seeds}
    found: dict[str, Summary] = {}
    for contender in contenders:
        if not _takes_part(contender, world):
            continue
        twin = results.get(TWINS.get((world.id, contender.kind), ""))
        found[contender.name] = (
            twin[1][contender.name]
            if twin is not None
            else summarise([run(world, contender, seed, calls[seed]) for seed in seeds])
        )
    return found


def _takes_part(contender: Contender, world: World) -> bool:
    if contender.first_chunk_only and world.target != "first_chunk":
        return False
    return not world.counts_only or contender.kind in ("ours", "limit") or contender.name == "litellm least-busy"


TWINS = {
    ("W5-shared", "litellm"): "W1",  # one cache for all, without delay: as good as one router
    ("W5-dead", "litellm"): "W5-alone",
    ("W5-shared", "baseline"): "W5-alone",  # they have nothing to share
    ("W5-dead", "baseline"): "W5-alone",
    **{
        (f"W5-{how}", kind): "W1"  # it knows the servers anyway
        for how in ("alone", "shared", "dead")
        for kind in ("limit", "reference")
    },
}
"""Worlds in which a kind of contender does, call for call, what it did in another; not run twice."""


def _costs(sections: Sequence[str], contenders: Sequence[Contender], options: argparse.Namespace) -> dict[str, Any]:
    """The sections that are not worlds."""
    found: dict[str, Any] = {}
    if "W6" in sections:
        sizes = QUICK_GROUPS if options.quick else pick_cost.SIZES
        found["costs"] = costs = pick_cost.pick_costs(contenders, sizes)
        print(tables.pick_table(costs), flush=True)
        found["pick_cost_us"] = {name: {n: asdict(c) for n, c in by.items()} for name, by in costs.items()}
    if {"W7", "e2e"} & set(sections):
        found.update(_real(sections, contenders, options))
    return found


def _real(sections: Sequence[str], contenders: Sequence[Contender], options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.simulation import real_routers

    wanted = {DEFAULT, *(load(target).name for target in options.strategy)}
    chosen = {c.name: c.cls for c in contenders if c.cls is not None and c.name in wanted}
    found: dict[str, Any] = {}
    if "W7" in sections:
        by_group, by_prompt = real_routers.router_pick_rows(chosen)
        head = "through the whole router: CPU / longest stall of one pick, µs, by"
        print(tables.router_table(f"W6  {head} number of deployments", by_group), flush=True)
        print(tables.router_table(f"W7  {head} KB of prompt (8 deployments)", by_prompt), flush=True)
        found["router_pick_us"] = {"by_deployments": by_group, "by_prompt_kilobytes": by_prompt}
    if "e2e" in sections:
        rows = real_routers.end_to_end_rows(contenders, chosen, seed=0, scale=0.4 if options.quick else 1.0)
        print(tables.end_to_end_table(rows), flush=True)
        found["end_to_end"] = [asdict(row) for row in rows]
    return found


def _write(
    results: report.Results, seeds: Sequence[int], note: str, options: argparse.Namespace, more: dict[str, Any]
) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "strategies.json"
    command = shlex.join(["python", *sys.argv])
    path.write_text(json.dumps(report.as_json(results, seeds, command, quick=options.quick, **more), indent=1))
    written = [path]
    if not options.no_plots:
        from benchmarks.simulation import plots

        written += plots.draw(results, options.out, f"{command}; {note}")
    print("\nwritten:", ", ".join(str(path) for path in written))


if __name__ == "__main__":
    main()
