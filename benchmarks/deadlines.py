"""How well deadlines are kept: the wall time of calls that never get their answer, against their deadline.

    python benchmarks/deadlines.py            # about a minute
    python benchmarks/deadlines.py --quick    # fewer calls

Fake providers on loopback hang, trickle, refuse and ask for waits; a call's deadline is all that ends it. Each
kind of trouble is called one after the other, and then a few times at once; more would measure how long litellm
takes to map an exception, which is 10 to 30 ms of CPU each. A call counts from its beginning to its
exception; what it took longer than its deadline is the overrun. Calls that fail early, because a wait did not fit,
are none of these. The first calls of each kind are left out: they import and connect.

It exits with 1 when the worst overrun is more than 5 %; with ``--quick`` it only prints it.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from traced_router import Deadline, DeadlineExceeded, RetryPolicy, TracedRouter
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Answer, Behaviour, Hang, RateLimited, ServerError, SlowFirstByte

SECONDS: Final = 2.0
"""The deadline."""
ALLOWED: Final = 0.05
UNCOUNTED: Final = 2
"""Calls that come first: one ends by its client's timeout, one by the timer, and litellm imports what each needs."""
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
TRICKLE: Final = Answer(chunks=tuple("a long answer"), chunk_delay=0.2)

Call = Callable[[TracedRouter], Awaitable[None]]


async def _ask(router: TracedRouter) -> None:
    await cast("Any", router).acompletion("group", MESSAGES, deadline=SECONDS)


async def _read(router: TracedRouter) -> None:
    async for _ in await cast("Any", router).acompletion("group", MESSAGES, stream=True, deadline=SECONDS):
        pass


async def _begin(router: TracedRouter) -> None:
    deadline = Deadline(first_chunk=SECONDS, total=10 * SECONDS)
    async for _ in await cast("Any", router).acompletion("group", MESSAGES, stream=True, deadline=deadline):
        pass


async def _block(router: TracedRouter) -> None:
    await asyncio.to_thread(cast("Any", router).completion, "group", MESSAGES, deadline=SECONDS)


KINDS: Final[tuple[tuple[str, Behaviour, Behaviour, Call], ...]] = (
    ("hangs", Hang(), Hang(), _ask),
    ("hangs, synchronous", Hang(), Hang(), _block),
    ("asks for waits", RateLimited(retry_after=0.15), Hang(), _ask),
    ("fails, and its fallback hangs", ServerError(), Hang(), _ask),
    ("a stream that does not begin", SlowFirstByte(seconds=30), Hang(), _begin),
    ("a stream that trickles", TRICKLE, Hang(), _read),
)
"""A kind of trouble: what the group does, what its fallback does, and the call."""


async def _overrun(router: TracedRouter, call: Call) -> float:
    """By how much of it a call exceeded its deadline."""
    began = time.perf_counter()
    try:
        await call(router)
    except DeadlineExceeded:
        return (time.perf_counter() - began) / SECONDS - 1.0
    raise AssertionError("the call got its answer")


async def _measure(behaviour: Behaviour, fallback: Behaviour, call: Call, times: int, at_once: int) -> list[float]:
    with FakeProvider() as provider:
        provider.default("first", behaviour)
        provider.default("second", fallback)
        router = TracedRouter(
            [provider.deployment("first", group="group"), provider.deployment("second", group="other")],
            fallbacks=[{"group": ["other"]}],
            retrying=RetryPolicy(attempts=4, base_wait=0.1),
            disable_cooldowns=True,
        )
        for _ in range(UNCOUNTED):
            await _overrun(router, call)
        found = [await _overrun(router, call) for _ in range(times)]
        found += await asyncio.gather(*(_overrun(router, call) for _ in range(at_once)))
        provider.release()
        return found


async def _all(times: int, at_once: int) -> float:
    """The worst overrun of all kinds; each has its line."""
    worst = -1.0
    for name, behaviour, fallback, call in KINDS:
        found = await _measure(behaviour, fallback, call, times, at_once)
        print(f"{name:32} {statistics.median(found):>+9.1%} {max(found):>+9.1%}", flush=True)
        worst = max(worst, *found)
    await cast("Any", litellm).close_litellm_async_clients()
    return worst


def main() -> int:
    """Measure, print, and say whether deadlines are kept."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    quick = bool(parser.parse_args().quick)
    times, at_once = (1, 2) if quick else (4, 4)
    print(f"deadline {SECONDS:g} s; {times} calls one after the other, then {at_once} at once\n")
    print(f"{'trouble':32} {'median':>9} {'worst':>9}")
    worst = asyncio.run(_all(times, at_once))
    print(f"\nworst overrun {worst:+.1%}, allowed {ALLOWED:.0%}")
    return int(worst > ALLOWED and not quick)


if __name__ == "__main__":
    sys.exit(main())
