"""The sections that need real routers: end to end in virtual time, and pick costs through the whole router."""

import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any
from unittest.mock import patch

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.simulation import end_to_end, router_picks
from benchmarks.simulation.contenders import Contender
from benchmarks.simulation.metrics import figures
from benchmarks.simulation.runner import run
from benchmarks.simulation.tables import Checked
from benchmarks.simulation.worlds import World, w1, w3
from traced_router import TracedRouter
from traced_router._timeline import Timeline
from traced_router.resilience import Resilience

SCALES: Mapping[str, tuple[Callable[[float], World], float]] = {"W1": (w1, 0.25), "W3": (w3, 0.075)}
"""Shorter than the simulation: a call through litellm costs milliseconds."""
PLAIN = {
    "simple-shuffle": "litellm simple-shuffle",
    "least-busy": "litellm least-busy",
    "latency-based-routing": "litellm latency",
}
"""litellm's name of a strategy, and its contender's."""


def traced_router(made: Callable[..., Any]) -> end_to_end.MakeRouter:
    """``TracedRouter`` with a strategy object on the loop's clock."""

    def make(models: list[dict[str, Any]], clock: Callable[[], float], rng: Random) -> Any:
        # The router builds the resilience layer itself, on a clock that was bound before time became virtual.
        with patch.dict(vars(Resilience)["__init__"].__kwdefaults__, {"clock": clock}):
            return TracedRouter(model_list=models, routing_strategy=made(clock=clock, rng=rng), num_retries=2)

    return make


def traced_builtin(strategy: str) -> end_to_end.MakeRouter:
    """``TracedRouter`` with litellm's own strategy: tracing must change nothing."""
    return lambda models, _clock, _rng: TracedRouter(model_list=models, routing_strategy=strategy, num_retries=2)


def end_to_end_rows(
    contenders: Sequence[Contender], ours: Mapping[str, Callable[..., Any]], seed: int, scale: float
) -> Sequence[Checked]:
    """W1 and W3 through litellm's router with litellm's strategies, and through ours with ours."""
    makers = {f"litellm.Router {name}": (end_to_end.plain_router(name), PLAIN[name]) for name in PLAIN}
    makers["TracedRouter least-busy"] = (traced_builtin("least-busy"), PLAIN["least-busy"])
    makers.update({f"TracedRouter {name}": (traced_router(made), name) for name, made in ours.items()})
    by_name = {contender.name: contender for contender in contenders}
    rows: list[Checked] = []
    for world_of, own_scale in SCALES.values():
        world = world_of(own_scale * scale)
        for label, (make, name) in makers.items():
            rows.append(_check(world, label, make, by_name.get(name), seed))
    return rows


def play(world: World, make: end_to_end.MakeRouter, seed: int) -> end_to_end.EndToEnd:
    """All calls of a world through one router; durations are virtual, those that strategies are told too."""
    # ``TracedRouter`` bound the clock of its time lines before time became virtual.
    with patch.object(Timeline.__init__, "__defaults__", (_nanoseconds, _wall_and_virtual)):
        return end_to_end.play(world, make, seed)


def _nanoseconds() -> int:
    return int(time.perf_counter() * 1e9)


def _wall_and_virtual() -> tuple[int, int]:
    return time.time_ns(), _nanoseconds()


def _check(world: World, label: str, make: end_to_end.MakeRouter, contender: Contender | None, seed: int) -> Checked:
    played = play(world, make, seed)
    real = figures(played.recorder, played.calls, played.left_in_servers, world.target)
    simulated = None
    if contender is not None:
        result = run(world, contender, seed)
        same = figures(result.recorder, result.calls, None, world.target)
        simulated = (same.p50, same.p95, same.p99, same.errors)
    return Checked(world.id, label, (real.p50, real.p95, real.p99, real.errors), simulated, played.cpu_per_call)


_Picks = Mapping[str, Mapping[float, tuple[float, float]]]


def router_pick_rows(ours: Mapping[str, Callable[..., Any]]) -> tuple[_Picks, _Picks]:
    """By number of deployments, and by kilobytes of prompt: CPU and longest stall, microseconds."""
    makers = router_picks.contenders(
        {f"TracedRouter {name}": _untraced(made) for name, made in ours.items()}
        | {f"  recording {name}": _recording(made) for name, made in ours.items()}
    )
    by_group = {n: {float(k): (p.cpu, p.stall) for k, p in router_picks.by_group(m).items()} for n, m in makers.items()}
    by_prompt = {n: {k: (p.cpu, p.stall) for k, p in router_picks.by_prompt(m).items()} for n, m in makers.items()}
    return by_group, by_prompt


def _untraced(made: Callable[..., Any]) -> router_picks.MakeRouter:
    """Without an SDK: what the seat, the resilience layer and the strategy cost."""
    return lambda models: TracedRouter(model_list=models, routing_strategy=made())


def _recording(made: Callable[..., Any]) -> router_picks.MakeRouter:
    """With the decision on a span that is recorded."""
    return lambda models: TracedRouter(
        model_list=models, routing_strategy=made(), tracer_provider=TracerProvider(shutdown_on_exit=False)
    )
