"""Who competes, by name, and the terms on which each does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from random import Random
from typing import Any

from benchmarks.simulation import baselines
from benchmarks.simulation.resilience import ExcludeTried, Resilience
from benchmarks.simulation.servers import Server
from traced_router.resilience import Resilience as ResilienceLayer
from traced_router.strategy import RoutingStrategy


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contender may be built from.

    Attributes:
        clock: virtual time.
        rng: its own random source.
        servers: the truth; only the oracle looks.
        store: what the routers of a fleet share, when they share.
        faithful: litellm's own cache, slow as it is, because cost is measured.
    """

    clock: Callable[[], float]
    rng: Random
    servers: dict[str, Server]
    store: dict[str, Any]
    faithful: bool = False


Scope = Callable[[Callable[[], float], Random], AbstractContextManager[None]]
"""What is in force while a contender runs, given the clock and a random source."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A strategy and the terms on which it runs.

    Attributes:
        name: as printed.
        make: builds one for a run.
        kind: ``litellm``, ``baseline``, ``ours``, ``limit`` (what ratios are taken to) or ``reference``.
        cooldown: whether litellm's cooldown filters its candidates.
        resilience: builds the layer beside it, when it has one.
        configured: whether candidates carry the operator's weights and limits.
        scope: patches litellm for the length of a run.
        first_chunk_only: makes sense only where callers wait for the first chunk.
        cls: the strategy's class, for a real router.
    """

    name: str
    make: Callable[[Setting], RoutingStrategy]
    kind: str = "baseline"
    cooldown: bool = True
    resilience: Callable[[Setting], Resilience] | None = None
    configured: bool = False
    scope: Scope | None = None
    first_chunk_only: bool = False
    cls: Callable[..., RoutingStrategy] | None = None


def _simple(kind: Callable[[Random], RoutingStrategy]) -> Callable[[Setting], RoutingStrategy]:
    return lambda setting: kind(setting.rng)


def _no_resilience(setting: Setting) -> Resilience:  # noqa: ARG001 - as its interface has it
    return ExcludeTried()


BASELINES: Sequence[Contender] = (
    Contender("plain random", _simple(baselines.RandomPick)),
    Contender("plain round-robin", _simple(baselines.RoundRobin)),
    Contender("plain smooth-wrr", _simple(baselines.SmoothWeighted), configured=True),
    Contender("plain least-in-flight", _simple(baselines.LeastInFlight)),
    Contender("plain p2c", _simple(baselines.PowerOfTwo)),
    Contender("plain p2c-peak-ewma", lambda setting: baselines.PeakEwma(setting.rng, setting.clock)),
)


def limits() -> Sequence[Contender]:
    """The oracle; the one that looks at the first chunk alone; and one that heeds the others, beside the contest."""

    def oracle(name: str, kind: str = "limit", *, first_chunk: bool = False, considerate: bool = False) -> Contender:
        def make(setting: Setting) -> RoutingStrategy:
            return baselines.Oracle(
                setting.servers, setting.clock, first_chunk_first=first_chunk, considerate=considerate
            )

        return Contender(name, make, kind=kind, cooldown=False, resilience=_no_resilience, first_chunk_only=first_chunk)

    return (
        oracle("oracle"),
        oracle("oracle-first-chunk", first_chunk=True),
        oracle("oracle-considerate", "reference", considerate=True),
    )


def litellm_builtins() -> Sequence[Contender]:
    """Litellm's own strategies; imports litellm, which takes seconds."""
    handlers = import_module("benchmarks.simulation.litellm_handlers")

    def builtin(name: str, make: Callable[[Setting], RoutingStrategy], *, configured: bool = False) -> Contender:
        scope = handlers.virtual_litellm
        return Contender(f"litellm {name}", make, kind="litellm", configured=configured, scope=scope)

    def cached(kind: Callable[..., RoutingStrategy], *args: float) -> Callable[[Setting], RoutingStrategy]:
        def make(setting: Setting) -> RoutingStrategy:
            if "cache" not in setting.store:
                setting.store["cache"] = handlers.DualCache() if setting.faithful else handlers.QuietCache()
            return kind(setting.store["cache"], *args)

        return make

    return (
        builtin("simple-shuffle", lambda _: handlers.SimpleShuffle()),
        builtin("weighted-shuffle", lambda _: handlers.SimpleShuffle(), configured=True),
        builtin("least-busy", cached(handlers.LeastBusy)),
        builtin("latency", cached(handlers.LowestLatency, 0.0)),
        builtin("latency-buffer-0.5", cached(handlers.LowestLatency, 0.5)),
        builtin("usage-v2", cached(handlers.UsageV2), configured=True),
    )


def ours() -> Sequence[Contender]:
    """The strategies of this project: every class in ``traced_router_strategies`` that can pick."""
    try:
        package = import_module("traced_router_strategies")
    except ImportError:
        return ()
    found: dict[str, type] = {}
    for module in iter_modules(package.__path__):
        for kind in vars(import_module(f"{package.__name__}.{module.name}")).values():
            if isinstance(kind, type) and kind.__module__.startswith(package.__name__) and _is_strategy(kind):
                found[str(vars(kind)["name"])] = kind
    return [_ours(name, kind) for name, kind in sorted(found.items())]


def _is_strategy(kind: type) -> bool:
    return isinstance(vars(kind).get("name"), str) and callable(getattr(kind, "pick", None))


def load(target: str) -> Contender:
    """A user's own strategy, given as ``module:Class``.

    Raises:
        ValueError: ``target`` is not of that form.
    """
    module_name, _, class_name = target.partition(":")
    if not class_name:
        raise ValueError(f"--strategy {target!r}: expected module:Class, such as my_package.mine:MyStrategy")
    made = getattr(import_module(module_name), class_name)
    return _ours(str(getattr(made, "name", class_name)), made)


def _ours(name: str, made: Callable[..., RoutingStrategy]) -> Contender:
    """Built as ``Class(clock=…, rng=…)``, with the project's resilience layer beside it."""
    return Contender(
        name,
        lambda setting: made(clock=setting.clock, rng=setting.rng),
        kind="ours",
        resilience=_resilience_layer,
        configured=name in CONFIGURED,
        cls=made,
    )


def _resilience_layer(setting: Setting) -> Resilience:
    return ResilienceLayer(clock=setting.clock, rng=setting.rng)


CONFIGURED = ("weighted", "quota-aware", "bounded-hash")
"""Those of ours that read an operator's weights and limits; the others get candidates without."""
