"""Routers that are made, used once and dropped: what is left of them.

    python benchmarks/routers.py            # 10,000 plain and 10,000 traced ones: some minutes
    python benchmarks/routers.py --quick    # 500 of each

Each kind has a process of its own, each router two deployments, a strategy and the resilience layer, and each
makes one call whose answer is mocked. The first tenth is left out: it fills litellm's caches. What is printed is
the rest: how long one takes, and how memory, objects, descriptors, threads and litellm's callbacks have grown.

It exits with 1 when a traced router leaves more behind than a plain one does: more than a kilobyte, a tenth of an
object, or any descriptor, thread or callback.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import argparse
import asyncio
import gc
import logging
import multiprocessing
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

ROUTERS: Final = 10_000
QUICK: Final = 500
BYTES: Final = 1024
"""Per router, more than a plain one: what counts as a leak. A router is some hundred kilobytes."""
OBJECTS: Final = 0.1
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
DEPLOYMENTS: Final[Any] = [
    {
        "model_name": "group",
        "litellm_params": {"model": "openai/gpt-4o-2024-08-06", "api_key": "sk-fake", "mock_response": "hello"},
        "model_info": {"id": name},
    }
    for name in ("one", "two")
]


@dataclass(frozen=True)
class Left:
    """What routers of one kind have left behind, and how long one took to make, use and drop."""

    milliseconds: float
    bytes_each: float
    objects_each: float
    descriptors: int
    threads: int
    callbacks: int


@dataclass(frozen=True)
class _Sample:
    resident: int
    objects: int
    descriptors: int
    threads: int
    callbacks: int


def _sample() -> _Sample:
    import litellm

    gc.collect()
    lists = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
    return _Sample(
        int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize(),
        len(gc.get_objects()),
        sum(1 for _ in Path("/proc/self/fd").iterdir()),
        threading.active_count(),
        sum(len(getattr(litellm, name)) for name in lists),
    )


def _plain() -> Any:
    from litellm.router import Router

    return Router(model_list=DEPLOYMENTS)


def _traced() -> Any:
    from traced_router import TracedRouter

    return TracedRouter(model_list=DEPLOYMENTS, routing_strategy="least-expected-completion", resilience=True)


KINDS: Final[dict[str, Callable[[], Any]]] = {"plain": _plain, "traced": _traced}


async def _make_and_drop(make: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        router = make()
        await router.acompletion("group", MESSAGES)
        (router.retire if hasattr(router, "retire") else router.discard)()
    return time.perf_counter() - started


async def _measure(kind: str, count: int) -> Left:
    logging.disable(logging.CRITICAL)
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())  # spans are made, and go nowhere
    make, counted = KINDS[kind], count - count // 10
    await _make_and_drop(make, count // 10)
    before = _sample()
    seconds = await _make_and_drop(make, counted)
    after = _sample()
    return Left(
        seconds / counted * 1000,
        (after.resident - before.resident) / counted,
        (after.objects - before.objects) / counted,
        after.descriptors - before.descriptors,
        after.threads - before.threads,
        after.callbacks - before.callbacks,
    )


def _run(kind: str, count: int) -> Left:
    return asyncio.run(_measure(kind, count))


def problems(plain: Left, traced: Left) -> list[str]:
    """What traced routers leave behind and plain ones do not."""
    found = {
        "memory": traced.bytes_each > plain.bytes_each + BYTES,
        "objects": traced.objects_each > plain.objects_each + OBJECTS,
        "descriptors": traced.descriptors > plain.descriptors,
        "threads": traced.threads > plain.threads,
        "callbacks": traced.callbacks > plain.callbacks,
    }
    return [what for what, is_one in found.items() if is_one]


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} of each kind")
    chosen = parser.parse_args()
    count = QUICK if chosen.quick else ROUTERS
    versions = " ".join(f"{name} {version(name)}" for name in ("litellm", "opentelemetry-sdk"))
    print(f"{count} of each kind, {versions}, Python {platform.python_version()}")
    left: dict[str, Left] = {}
    for kind in KINDS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            left[kind] = pool.apply(_run, (kind, count))
    print(f"{'':<14}" + "".join(f"{kind:>10}" for kind in KINDS))
    for name in asdict(left["plain"]):
        print(f"{name:<14}" + "".join(f"{getattr(left[kind], name):>10.2f}" for kind in KINDS))
    grown = problems(left["plain"], left["traced"])
    print("\n".join(f"FAILED: {what} grew" for what in grown) or "traced routers leave no more behind than plain ones")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
