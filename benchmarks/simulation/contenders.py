"""Who competes, by name, and the terms on which each does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from random import Random
from typing import Any

from traced_router.strategy import RoutingStrategy

from benchmarks.simulation import baselines
from benchmarks.simulation.resilience import ExcludeTried, Resilience
from benchmarks.simulation.servers import Server


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contender may be built from.

    Attributes:
        clock: virtual time.
        rng: its own random source.
        servers: the truth; only the oracle looks.
        store: what the routers of a fleet share, when they share.
    """

    clock: Callable[[], float]
    rng: Random
    servers: dict[str, Server]
    store: dict[str, Any]


Scope = Callable[[Callable[[], float], Random], AbstractContextManager[None]]
"""What is in force while a contender runs, given the clock and a random source."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A strategy and the terms on which it runs.

    Attributes:
        name: as printed.
        make: builds one for a run.
        kind: ``litellm``, ``baseline``, ``ours`` or ``limit``.
        cooldown: whether litellm's cooldown filters its candidates.
        resilience: builds the layer beside it, when it has one.
        configured: whether candidates carry the operator's weights and limits.
        scope: patches litellm for the length of a run.
    """

    name: str
    make: Callable[[Setting], RoutingStrategy]
    kind: str = "baseline"
    cooldown: bool = True
    resilience: Callable[[Setting], Resilience] | None = None
    configured: bool = False
    scope: Scope | None = None


def _simple(kind: Callable[[Random], RoutingStrategy]) -> Callable[[Setting], RoutingStrategy]:
    return lambda setting: kind(setting.rng)


def _no_resilience(setting: Setting) -> Resilience:  # noqa: ARG001
    return ExcludeTried()


BASELINES: Sequence[Contender] = (
    Contender("random", _simple(baselines.RandomPick)),
    Contender("round-robin", _simple(baselines.RoundRobin)),
    Contender("smooth-wrr", _simple(baselines.SmoothWeighted), configured=True),
    Contender("least-in-flight", _simple(baselines.LeastInFlight)),
    Contender("p2c", _simple(baselines.PowerOfTwo)),
    Contender("p2c-peak-ewma", lambda setting: baselines.PeakEwma(setting.rng, setting.clock)),
)
ORACLE = Contender(
    "oracle",
    lambda setting: baselines.Oracle(setting.servers, setting.clock),
    kind="limit",
    cooldown=False,
    resilience=_no_resilience,
)


def litellm_builtins() -> Sequence[Contender]:
    """litellm's own strategies; imports litellm, which takes seconds."""
    handlers = import_module("benchmarks.simulation.litellm_handlers")

    def builtin(name: str, make: Callable[[Setting], RoutingStrategy], *, configured: bool = False) -> Contender:
        scope = handlers.virtual_litellm
        return Contender(f"litellm {name}", make, kind="litellm", configured=configured, scope=scope)

    def cached(kind: Callable[..., RoutingStrategy], *args: float) -> Callable[[Setting], RoutingStrategy]:
        return lambda setting: kind(setting.store.setdefault("cache", handlers.DualCache()), *args)

    return (
        builtin("simple-shuffle", lambda _: handlers.SimpleShuffle()),
        builtin("weighted-shuffle", lambda _: handlers.SimpleShuffle(), configured=True),
        builtin("least-busy", cached(handlers.LeastBusy)),
        builtin("latency", cached(handlers.LowestLatency, 0.0)),
        builtin("latency-buffer-0.5", cached(handlers.LowestLatency, 0.5)),
        builtin("usage-v2", cached(handlers.UsageV2), configured=True),
    )


def load(target: str) -> Contender:
    """A user's own strategy, given as ``module:Class``.

    The class is built as ``Class(clock=…, rng=…)``; it runs with the project's resilience layer
    when there is one, and with tried deployments excluded otherwise.

    Raises:
        ValueError: ``target`` is not of that form.
    """
    module_name, _, class_name = target.partition(":")
    if not class_name:
        message = f"--strategy {target!r}: expected module:Class, such as my_package.mine:MyStrategy"
        raise ValueError(message)
    made: Callable[..., RoutingStrategy] = getattr(import_module(module_name), class_name)
    name = str(getattr(made, "name", class_name))
    return Contender(
        name,
        lambda setting: made(clock=setting.clock, rng=setting.rng),
        kind="ours",
        resilience=resilience_layer(),
        configured=name in ("weighted", "quota-aware"),
    )


def resilience_layer() -> Callable[[Setting], Resilience]:
    """The project's own layer, or the exclusion of tried deployments until there is one."""
    try:
        made: Callable[..., Resilience] = import_module("traced_router.resilience").Resilience
    except (ImportError, AttributeError):
        return _no_resilience
    return lambda setting: made(clock=setting.clock, rng=setting.rng)
