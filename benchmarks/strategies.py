"""What a strategy gains: worlds in virtual time, litellm's own strategies, baselines, ours, and the oracle.

    PYTHONPATH=. python benchmarks/strategies.py --world W1 --strategy my_package.mine:MyStrategy --seeds 2 --quick
"""

import argparse
import sys
from pathlib import Path
from statistics import mean

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "strategies")]

from benchmarks.simulation.contenders import BASELINES, ORACLE, Contender, litellm_builtins, load
from benchmarks.simulation.metrics import percentile
from benchmarks.simulation.runner import calls_of, run
from benchmarks.simulation.worlds import WORLDS


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", action="append", choices=list(WORLDS))
    parser.add_argument("--strategy", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    contenders: list[Contender] = [*litellm_builtins(), *BASELINES, *map(load, options.strategy), ORACLE]
    for key in options.world or list(WORLDS):
        world = WORLDS[key](0.6 if options.quick else 1.0)
        print(f"\n{key} {world.title}")
        calls = {seed: calls_of(world, seed) for seed in range(options.seeds)}
        for contender in contenders:
            rows = []
            for seed in range(options.seeds):
                result = run(world, contender, seed, calls[seed])
                ordered = sorted(result.recorder.latencies)
                errors = result.recorder.ends.get("error", 0) / result.calls
                rows.append(
                    [*(percentile(ordered, q) for q in (0.5, 0.95, 0.99)), 100 * errors, result.calls / result.seconds]
                )
            p50, p95, p99, errors, speed = map(mean, zip(*rows, strict=True))
            print(f"{contender.name:28s} p50 {p50:6.2f} p95 {p95:6.2f} p99 {p99:6.2f} err {errors:6.3f}% {speed:8.0f} calls/s")


if __name__ == "__main__":
    main()
