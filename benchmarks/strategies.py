"""What a strategy gains: worlds in virtual time, litellm's own strategies, baselines, ours, and the oracle.

Examples::

    PYTHONPATH=. python benchmarks/strategies.py --quick
    PYTHONPATH=. python benchmarks/strategies.py --world W1 --world W4 --strategy my_package.mine:MyStrategy
    PYTHONPATH=. python benchmarks/strategies.py --latencies mine.csv --strategy my_package.mine:MyStrategy
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # an import without the network
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "strategies")]

from benchmarks.simulation import recorded, report
from benchmarks.simulation.contenders import BASELINES, Contender, limits, litellm_builtins, load, ours
from benchmarks.simulation.holdouts import HOLDOUTS
from benchmarks.simulation.runner import calls_of, run
from benchmarks.simulation.summary import Summary, summarise
from benchmarks.simulation.worlds import WORLDS, World

QUICK_SCALE = 0.25
QUICK_SEEDS = 2
FULL_SEEDS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for, print it, and write it down."""
    began = time.monotonic()
    options = _parse(arguments)
    seeds = range(options.seeds or (QUICK_SEEDS if options.quick else FULL_SEEDS))
    contenders = _contenders(options)
    results: dict[str, tuple[World, Mapping[str, Summary]]] = {}
    note = f"seeds {seeds.start}-{seeds.stop - 1}; " + ", ".join(f"{k} {v}" for k, v in report.versions().items())
    print(note)
    for world in _worlds(options):
        results[world.id] = (world, _play(world, contenders, seeds, results))
        print(report.world_table(*results[world.id]), flush=True)
    print(report.worst_table(results))
    _write(results, seeds, note, options)
    print(f"{time.monotonic() - began:.0f} s")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", action="append", help="W1 … W8, W5 for its three, H1 … H7, or holdout; repeatable")
    parser.add_argument("--strategy", action="append", default=[], help="module:Class of your own; repeatable")
    parser.add_argument("--contender", action="append", help="only those whose name contains this; repeatable")
    parser.add_argument("--latencies", type=Path, help="recorded latencies: CSV or JSON lines")
    parser.add_argument("--rate", type=float, default=10.0, help="calls per second in the world of --latencies")
    parser.add_argument("--seeds", type=int, help=f"how many; {FULL_SEEDS}, or {QUICK_SEEDS} with --quick")
    parser.add_argument("--quick", action="store_true", help="shorter worlds, under a minute")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="for JSON and plots")
    parser.add_argument("--no-plots", action="store_true")
    return parser.parse_args(arguments)


def _worlds(options: argparse.Namespace) -> Sequence[World]:
    scale = QUICK_SCALE if options.quick else 1.0
    if options.latencies is not None and options.world is None:
        return [recorded.world(recorded.read(options.latencies), scale, options.rate)]
    known = {**WORLDS, **HOLDOUTS}
    asked = options.world or list(WORLDS)
    keys = list(HOLDOUTS) if "holdout" in asked else []
    keys += [key for name in asked for key in known if key == name or key.startswith(f"{name}-")]
    if not keys:
        raise SystemExit(f"--world {asked}: expected some of {', '.join(known)}, W5, holdout")
    return [known[key](scale) for key in keys]


def _contenders(options: argparse.Namespace) -> Sequence[Contender]:
    everyone = [*litellm_builtins(), *BASELINES, *ours(), *map(load, options.strategy), *limits()]
    wanted = options.contender
    if not wanted:
        return everyone
    return [c for c in everyone if c.kind == "limit" or any(part in c.name for part in wanted)]


def _play(
    world: World, contenders: Sequence[Contender], seeds: Sequence[int], results: report.Results
) -> Mapping[str, Summary]:
    calls = {seed: calls_of(world, seed) for seed in seeds}
    found: dict[str, Summary] = {}
    for contender in contenders:
        twin = results.get(TWINS.get((world.id, contender.kind), ""))
        if contender.first_chunk_only and world.target != "first_chunk":
            continue
        found[contender.name] = (
            twin[1][contender.name]
            if twin is not None
            else summarise([run(world, contender, seed, calls[seed]) for seed in seeds])
        )
    return found


TWINS = {
    ("W5-shared", "litellm"): "W1",  # one cache for all, without delay: as good as one router
    ("W5-dead", "litellm"): "W5-alone",
    ("W5-shared", "baseline"): "W5-alone",  # they have nothing to share
    ("W5-dead", "baseline"): "W5-alone",
    ("W5-alone", "limit"): "W1",  # it knows the servers anyway
    ("W5-shared", "limit"): "W1",
    ("W5-dead", "limit"): "W1",
}
"""Worlds in which a kind of contender does, call for call, what it did in another; not run twice."""


def _write(results: report.Results, seeds: Sequence[int], note: str, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "strategies.json"
    command = shlex.join(["python", *sys.argv])
    path.write_text(json.dumps(report.as_json(results, seeds, command, quick=options.quick), indent=1))
    written = [path]
    if not options.no_plots:
        from benchmarks.simulation import plots  # noqa: PLC0415 - takes a second and a library; not with --no-plots

        written += plots.draw(results, options.out, f"{command}; {note}")
    print("\nwritten:", ", ".join(str(path) for path in written))


if __name__ == "__main__":
    main()
