"""When a hedge helps, and when it hurts: the waits of callers with and without one, on idle and on busy servers.

    python benchmarks/hedging.py            # some five minutes
    python benchmarks/hedging.py --quick    # a few seconds each, too short for a p99

Two servers on loopback answer four chat completions at a time each; the rest queue. A call takes 100 ms, and two in a
hundred take ten times as long. Callers arrive at random, as many a second as keep the servers busy for the share of
their time that the table says. The same arrivals meet every way of hedging. A wait counts from the arrival to the
answer; the first calls are left out, while the group's 95th percentile is not known.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import argparse
import asyncio
import contextlib
import json
import os
import random
import time
import warnings
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from traced_router import HedgePolicy, TracedRouter

SERVERS: Final = 2
WORKERS: Final = 4
SERVICE: Final = 0.1
SLOW: Final = 0.02
TIMES_SLOWER: Final = 10
MEAN: Final = SERVICE * (1 - SLOW + SLOW * TIMES_SLOWER)
UNCOUNTED: Final = 60
SEED: Final = 20261121
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]

LOADS: Final = (0.2, 0.5, 0.85)
"""Shares of their time that the servers are busy, without hedges."""

WAYS: Final[tuple[tuple[str, HedgePolicy | None], ...]] = (
    ("none", None),
    ("p95, budget 10 %", HedgePolicy()),
    ("p50, no budget", HedgePolicy(quantile=0.5, ratio=10.0)),
)

_BODY: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class Server:
    """Answers so many at a time. A call that is cancelled in the queue costs nothing; one that has begun is finished.

    Args:
        seed: decides which calls are slow.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._workers = asyncio.Semaphore(WORKERS)
        self.calls = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.calls += 1
                async with self._workers:
                    if reader.at_eof():
                        break
                    slow = self._rng.random() < SLOW
                    await asyncio.sleep(SERVICE * (TIMES_SLOWER if slow else 1))
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def _servers() -> AsyncGenerator[tuple[list[Server], list[dict[str, Any]]]]:
    """Servers, and the deployments on them."""
    made = [Server(SEED + number) for number in range(SERVERS)]
    async with contextlib.AsyncExitStack() as stack:
        deployments: list[dict[str, Any]] = []
        for number, server in enumerate(made):
            listening = await stack.enter_async_context(await asyncio.start_server(server.serve, "127.0.0.1", 0))
            port = listening.sockets[0].getsockname()[1]
            params = {"model": "openai/gpt-4o", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
            info = {"id": f"server-{number}"}
            deployments.append({"model_name": "group", "litellm_params": params, "model_info": info})
        yield made, deployments


async def _waits(policy: HedgePolicy | None, load: float, seconds: float) -> tuple[list[float], float]:
    """How long each caller waited, and calls that the servers got per caller."""
    async with _servers() as (servers, deployments):
        router = TracedRouter(deployments, num_retries=0, routing_strategy="least-in-flight")
        rng = random.Random(SEED)
        waits: list[float] = []

        async def call() -> None:
            began = time.perf_counter()
            await router.acompletion("group", MESSAGES, hedging=policy or False)
            waits.append(time.perf_counter() - began)

        for _ in range(UNCOUNTED):
            await call()
        waits.clear()
        before = sum(server.calls for server in servers)
        rate = load * SERVERS * WORKERS / MEAN
        loop = asyncio.get_running_loop()
        at, calls = loop.time(), set[asyncio.Task[None]]()
        for _ in range(round(rate * seconds)):
            at += rng.expovariate(rate)
            await asyncio.sleep(at - loop.time())
            calls.add(asyncio.create_task(call()))
        await asyncio.gather(*calls)
        sent = sum(server.calls for server in servers) - before
        cast("Any", router).discard()
        await cast("Any", litellm).close_litellm_async_clients()
        return sorted(waits), sent / len(waits)


def main() -> None:
    """Measure every way at every load, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds each")
    seconds = 3.0 if parser.parse_args().quick else 30.0
    # litellm makes a provider's coroutine in another thread: one that is cancelled meanwhile is never awaited.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    print("milliseconds from arrival to answer, and calls sent per call\n")
    print(f"{'load':>5}  {'hedging':18} {'p50':>8} {'p95':>8} {'p99':>8} {'mean':>8}  {'sent':>5}")
    for load in LOADS:
        for name, policy in WAYS:
            waits, sent = asyncio.run(_waits(policy, load, seconds))
            shown = [waits[int(share * (len(waits) - 1))] for share in (0.5, 0.95, 0.99)]
            columns = " ".join(f"{1000 * value:8.0f}" for value in (*shown, sum(waits) / len(waits)))
            print(f"{load:5.0%}  {name:18} {columns}  {sent:5.2f}", flush=True)


if __name__ == "__main__":
    main()
