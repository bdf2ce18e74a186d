"""Ten minutes of mixed traffic with faults: nothing lost, nothing grown.

    python benchmarks/soak.py            # ten minutes
    python benchmarks/soak.py --quick    # half a minute

Sixteen callers of one router do all that callers do: they ask, embed, read streams, leave them half-way, drop them
unread, cancel, and call in batches. The providers, in a process of their own, change their weather ten times a second:
errors, refusals, broken connections, streams that die. Every span goes through a batch processor to an exporter that
counts, every request through a live check, every measurement to a meter.

It fails, and says so, when a span that started did not end or was not exported, when a request has no span of its own,
when providers were asked more often than there were attempts, when something is in flight or calls are kept alive after
the end, when tracing had a fault, when a trace broke its contract, or when memory or descriptors grew.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false

import argparse
import asyncio
import collections
import contextlib
import gc
import json
import logging
import multiprocessing
import os
import platform
import random
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from traced_router.testing import (
    Answer,
    Behaviour,
    DieMidStream,
    Drop,
    ErrorEventMidStream,
    FakeProvider,
    LiveCheck,
    LiveCheckLimits,
    Malformed,
    RateLimited,
    Recorder,
    ServerError,
)

SEED: Final = 20261121
CALLERS: Final = 16
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
GOOD: Final = Answer("one two three four five")
WEATHER: Final[Sequence[Behaviour]] = (
    *(GOOD,) * 6,
    Answer("slow", delay=0.02),
    ServerError(),
    ServerError(503),
    RateLimited(retry_after=0.05),
    Malformed(),
    Drop(),
    Drop(reset=True),
    DieMidStream(0, answer=GOOD),
    DieMidStream(2, answer=GOOD),
    ErrorEventMidStream(1, answer=GOOD),
)
CONDUCT: Final = frozenset({"cooldown", "retry_after", "cycle", "attempts"})
"""Rules of the live check that litellm's own loop breaks at times, with or without tracing."""

BYTES_PER_CALL: Final = 4096
"""Growth of the resident set after the first third that counts as growth, with :data:`BYTES_AT_LEAST`."""
BYTES_AT_LEAST: Final = 48 * 2**20
DESCRIPTORS: Final = 32
"""More open descriptors at the end than after the first third: connections come and go with the weather."""

ALIVE: Final = 256
"""Calls that may be remembered at the end: connections and timers keep the context in which they were made."""


# --- the providers' process ----------------------------------------------------------------------


def _provide(pipe: Connection, seed: int) -> None:
    """Fake deployments whose weather changes, until the pipe is closed."""
    rng, names = random.Random(seed), ("east", "west", "backup")
    with FakeProvider(default=GOOD) as provider:
        made = [provider.deployment(name, group="backup" if name == "backup" else "main") for name in names]
        made.append(provider.deployment("vectors", group="vectors", model="openai/text-embedding-3-small"))
        pipe.send(made)
        while not pipe.poll(0.1):
            for name in names:
                provider.default(name, rng.choice(WEATHER))
        with contextlib.suppress(OSError):  # nobody asks any more
            pipe.send(provider.hits())


# --- what is counted -----------------------------------------------------------------------------


class Counting(SpanProcessor, SpanExporter):
    """Counts spans when they start, when they end, and when they are exported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started = self.ended = self.exported = self.requests = self.attempts = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  # the SDK's signature
        """A span has started."""
        with self._lock:
            self.started += 1

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002  # as above
        """A span has ended."""
        with self._lock:
            self.ended += 1

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Spans have come out."""
        with self._lock:
            self.exported += len(spans)
            self.requests += sum("traced_router.streaming" in (span.attributes or {}) for span in spans)
            self.attempts += sum("litellm.deployment.attempt" in (span.attributes or {}) for span in spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002  # as above
        """Nothing to do."""
        return True


@dataclass
class Watch:
    """Memory, descriptors, and how late the event loop is, while it runs."""

    samples: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Calls made, bytes resident, descriptors open."""
    worst_stall: float = 0.0

    async def run(self, calls: Callable[[], int], every: float) -> None:
        """Look, until cancelled."""
        due = 0.0
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            self.worst_stall = max(self.worst_stall, time.perf_counter() - before - 0.01)
            if before >= due:
                due = before + every
                self.look(calls())

    def look(self, calls: int) -> None:
        """Take a sample."""
        self.samples.append((calls, _resident(), _descriptors()))

    def growth(self) -> tuple[int, float, int]:
        """After the first third: bytes, bytes per call, descriptors."""
        settled = self.samples[len(self.samples) // 3 :]
        (calls, resident, descriptors), (calls_last, resident_last, descriptors_last) = settled[0], settled[-1]
        grown = resident_last - resident
        return grown, grown / max(1, calls_last - calls), descriptors_last - descriptors


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize()


def _descriptors() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(directory))  # noqa: PTH208  # names alone are wanted
    return 0


def _alive() -> Mapping[str, int]:
    """Objects of calls that are still there when all calls are over."""
    gc.collect()
    kinds = {"Call", "Batch", "Attempt", "Selection", "Hop", "Scope", "CallWatch", "AttemptFollower", "Reservation"}
    found = (type(thing) for thing in gc.get_objects())
    return collections.Counter(k.__name__ for k in found if k.__name__ in kinds and k.__module__.startswith("traced_"))


# --- the callers ---------------------------------------------------------------------------------


@dataclass
class Traffic:
    """What the callers do, and how it ended."""

    router: Any
    rng: random.Random
    requests: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter[str])

    async def caller(self, until: float) -> None:
        """One call after the other."""
        ways: Sequence[tuple[Callable[[], Awaitable[object]], int]] = (
            (self._ask, 8),
            (self._embed, 2),
            (self._read, 6),
            (self._leave, 2),
            (self._drop, 1),
            (self._cancel, 2),
            (self._batch, 1),
        )
        calls, weights = zip(*ways, strict=True)
        while time.monotonic() < until:
            (way,) = self.rng.choices(calls, weights)
            try:
                await way()
                self.outcomes["ok"] += 1
            except Exception as error:  # noqa: BLE001  # callers get all kinds, and go on
                self.outcomes[type(error).__name__] += 1

    async def _ask(self) -> None:
        self.requests += 1
        await self.router.acompletion("main", MESSAGES)

    async def _embed(self) -> None:
        self.requests += 1
        await self.router.aembedding("vectors", ["hello"])

    async def _stream(self) -> Any:
        self.requests += 1
        return await self.router.acompletion("main", MESSAGES, stream=True)

    async def _read(self) -> None:
        async for _ in await self._stream():
            pass

    async def _leave(self) -> None:
        stream = await self._stream()
        with contextlib.suppress(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()

    async def _drop(self) -> None:
        await self._stream()

    async def _cancel(self) -> None:
        task = asyncio.ensure_future(self._read())
        done, _ = await asyncio.wait([task], timeout=self.rng.random() * 0.02)
        task.cancel()
        if not done:
            await asyncio.wait([task])

    async def _batch(self) -> None:
        self.requests += 2
        await self.router.abatch_completion(models=["main", "backup"], messages=MESSAGES)


@dataclass(frozen=True)
class Result:
    """What a soak came to."""

    seconds: float
    calls_per_second: float
    requests: int
    request_spans: int
    attempts: int
    spans_started: int
    spans_ended: int
    spans_exported: int
    bytes_grown: int
    bytes_per_call: float
    descriptors_grown: int
    worst_stall_seconds: float
    in_flight: float
    alive: Mapping[str, int]
    tracing_errors: float
    checked: int
    unchecked: int
    violations: Mapping[str, int]
    outcomes: Mapping[str, int]

    def problems(self, wire_hits: int) -> list[str]:
        """Why it failed; nothing when it did not. An attempt that was cancelled may not have come to its provider."""
        broken = {rule: count for rule, count in self.violations.items() if rule not in CONDUCT}
        grown = self.bytes_grown > BYTES_AT_LEAST and self.bytes_per_call > BYTES_PER_CALL
        found = {
            f"{self.spans_started} spans started, {self.spans_ended} ended": self.spans_started != self.spans_ended,
            f"{self.spans_ended} spans ended, {self.spans_exported} exported": self.spans_ended != self.spans_exported,
            f"{self.requests} requests, {self.request_spans} spans of them": self.requests != self.request_spans,
            f"{wire_hits} requests reached a provider, {self.attempts} attempts": wire_hits > self.attempts,
            f"{self.in_flight:g} attempts in flight": self.in_flight != 0,
            f"alive: {dict(self.alive)}": self.alive.get("Call", 0) > ALIVE,
            f"{self.tracing_errors:g} faults of tracing": self.tracing_errors != 0,
            f"traces broke their contract: {broken}": bool(broken),
            f"memory grew by {self.bytes_per_call:.0f} bytes a call": grown,
            f"{self.descriptors_grown} more descriptors": self.descriptors_grown > DESCRIPTORS,
            "no request was checked": self.checked == 0,
        }
        return [problem for problem, is_one in found.items() if is_one]


async def _soak(deployments: Sequence[Any], seconds: float) -> Result:
    from traced_router import TracedRouter

    counting, meters = Counting(), Recorder()
    check = LiveCheck(
        max_attempts=12,
        limits=LiveCheckLimits(checks_per_second=20),
        meter_provider=meters.meter_provider,
    )
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in (counting, check, BatchSpanProcessor(counting, max_queue_size=2**17, schedule_delay_millis=500)):
        provider.add_span_processor(processor)
    router = TracedRouter(
        model_list=list(deployments),
        num_retries=2,
        retry_after=0,
        fallbacks=[{"main": ["backup"]}],
        cooldown_time=0.2,
        routing_strategy="least-in-flight",
        tracer_provider=provider,
        meter_provider=meters.meter_provider,
    )
    traffic, watch = Traffic(router, random.Random(SEED)), Watch()
    started = time.monotonic()
    watching = asyncio.ensure_future(watch.run(lambda: traffic.requests, seconds / 60))
    await asyncio.gather(*(traffic.caller(started + seconds) for _ in range(CALLERS)))
    took = time.monotonic() - started
    watching.cancel()
    await asyncio.wait([watching])
    watch.look(traffic.requests)
    gc.collect()
    await asyncio.sleep(1)  # streams that were dropped are closed by tasks of the loop
    alive = dict(_alive())
    provider.force_flush()
    provider.shutdown()
    metrics, counts = meters.metrics(), check.counts
    grown, per_call, descriptors = watch.growth()
    return Result(
        seconds=took,
        calls_per_second=traffic.requests / took,
        requests=traffic.requests,
        request_spans=counting.requests,
        attempts=counting.attempts,
        spans_started=counting.started,
        spans_ended=counting.ended,
        spans_exported=counting.exported,
        bytes_grown=grown,
        bytes_per_call=per_call,
        descriptors_grown=descriptors,
        worst_stall_seconds=watch.worst_stall,
        in_flight=sum(abs(point.value or 0) for point in metrics.get("traced_router.inflight", ())),
        alive=alive,
        tracing_errors=sum(point.value or 0 for point in metrics.get("traced_router.tracing.errors", ())),
        checked=counts.checked,
        unchecked=counts.unchecked,
        violations=dict(counts.violations),
        outcomes=dict(traffic.outcomes),
    )


def main() -> int:
    """Soak, print, write; 1 when something was lost or grew."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--seconds", type=float, default=None, help="of traffic (600; 15 when quick)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where the JSON goes")
    chosen = parser.parse_args()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    logging.disable(logging.WARNING)
    seconds = chosen.seconds or (15.0 if chosen.quick else 600.0)
    here, there = multiprocessing.Pipe()
    providers = multiprocessing.get_context("spawn").Process(target=_provide, args=(there, SEED), daemon=True)
    providers.start()
    there.close()
    try:
        deployments = here.recv()
        logging.disable(logging.CRITICAL)  # litellm logs every failure, and all of this is failures
        result = asyncio.run(_soak(deployments, seconds))
        here.send("enough")
        wire_hits: int = here.recv()
    finally:
        here.close()
        providers.join()
    versions = {name: version(name) for name in ("litellm", "opentelemetry-sdk")}
    print(f"seed {SEED}, {CALLERS} callers, {versions | {'python': platform.python_version()}}")
    for name, value in asdict(result).items():
        print(f"{name:<22} {value:.3f}" if isinstance(value, float) else f"{name:<22} {value}")
    print(f"{'wire_hits':<22} {wire_hits}")
    problems = result.problems(wire_hits)
    print("\n".join(f"FAILED: {problem}" for problem in problems) or "nothing lost, nothing grown")
    chosen.out.mkdir(parents=True, exist_ok=True)
    written = {"seed": SEED, "versions": versions, "problems": problems, "wire_hits": wire_hits, **asdict(result)}
    (chosen.out / "soak.json").write_text(json.dumps(written, indent=2) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
