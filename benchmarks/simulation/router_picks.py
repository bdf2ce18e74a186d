"""W6 and W7 through the whole router: CPU of one pick, filters, strategy and tracing included.

``async_get_available_deployment`` is timed from inside real ``acompletion`` calls with a mocked
answer. It does not yield while it works in memory, so its wall time is how long the event loop stood
still for one pick.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, thread_time
from typing import Any, cast

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # an import without the network

from litellm.router import Router

from benchmarks.simulation.router import GROUP

GROUP_SIZES = (2, 8, 32, 128, 512)
PROMPT_KILOBYTES = (0.1, 10.0, 100.0, 400.0)
USUAL_GROUP = 8
USUAL_KILOBYTES = 1.0
CALLS = 24
WARM_UP = 4
BUILTINS = ("simple-shuffle", "least-busy", "latency-based-routing", "usage-based-routing-v2")

MakeRouter = Callable[[list[dict[str, Any]]], Any]


@dataclass(frozen=True, slots=True)
class RouterPick:
    """Microseconds of one pick.

    Attributes:
        cpu: median.
        stall: the longest that the event loop stood still.
    """

    cpu: float
    stall: float


def builtin(strategy: str) -> MakeRouter:
    """``litellm.Router`` with one of litellm's strategies."""
    return lambda models: Router(model_list=models, routing_strategy=cast("Any", strategy))


def contenders(ours: Mapping[str, MakeRouter]) -> Mapping[str, MakeRouter]:
    """litellm's strategies in litellm's router, and ours in ours."""
    return {**{f"litellm {name}": builtin(name) for name in BUILTINS}, **ours}


def by_group(make: MakeRouter, sizes: Sequence[int] = GROUP_SIZES) -> Mapping[int, RouterPick]:
    """W6: by number of deployments."""
    return {size: measure(make, size, USUAL_KILOBYTES) for size in sizes}


def by_prompt(make: MakeRouter, kilobytes: Sequence[float] = PROMPT_KILOBYTES) -> Mapping[float, RouterPick]:
    """W7: by size of the prompt."""
    return {size: measure(make, USUAL_GROUP, size) for size in kilobytes}


def measure(make: MakeRouter, deployments: int, kilobytes: float, calls: int = CALLS) -> RouterPick:
    """One router, one group, one prompt."""
    return asyncio.run(_measure(make, deployments, kilobytes, calls))


async def _measure(make: MakeRouter, deployments: int, kilobytes: float, calls: int) -> RouterPick:
    router = make([_deployment(index) for index in range(deployments)])
    cpu: list[float] = []
    wall: list[float] = []
    original = router.async_get_available_deployment

    async def timed(*args: Any, **kwargs: Any) -> Any:
        began, began_cpu = perf_counter(), thread_time()
        try:
            return await original(*args, **kwargs)
        finally:
            cpu.append(thread_time() - began_cpu)
            wall.append(perf_counter() - began)

    router.async_get_available_deployment = timed
    messages = [{"role": "user", "content": "many words " * int(kilobytes * 1000 / 11)}]
    for _ in range(WARM_UP + calls):
        await router.acompletion(model=GROUP, messages=messages, mock_response="ok")
    router.discard()
    return RouterPick(cpu=median(cpu[WARM_UP:]) * 1e6, stall=max(wall[WARM_UP:]) * 1e6)


def _deployment(index: int) -> dict[str, Any]:
    return {
        "model_name": GROUP,
        "litellm_params": {"model": "openai/gpt-4o", "api_key": "none", "api_base": f"http://d{index}"},
        "model_info": {"id": f"d{index}"},
    }
