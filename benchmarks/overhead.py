"""What tracing costs: CPU and wall time that a traced call adds to a plain one.

    python benchmarks/overhead.py            # all of it, under 10 minutes
    python benchmarks/overhead.py --quick    # about a minute
    python benchmarks/overhead.py --where    # which modules take the time of a traced call

One process per contender, stepped in turn, block by block: litellm's routers charge each other
when they share a process, because each adds its callbacks to global lists. A figure is the median
of the differences between a contender's block and the plain router's block beside it, with the
quartiles of those differences as its spread.

Contenders: the plain router; the traced one, recording into a batch processor whose exporter
drops; the same with all metrics; the same with the sampler off; the same without an SDK. The floor is
the SDK alone, starting and ending the very spans that a traced call makes, with their attributes; the
metrics' floor makes the very measurements, too. A chunk of a stream is measured by itself.
"""

# litellm and matplotlib are typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

SEED: Final = 20261121
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
ANSWER: Final = "The sky is blue because short waves scatter more."
CHUNKS: Final = 1_000
"""Chunks of a stream."""
STREAMS: Final = "chunks"
"""The process in which streams are read."""
FLOORS: Final = ("floor", "metrics floor")
FLOORED: Final = ("traced", "metrics")
"""The contenders that stand on them."""


# --- a contender's process -----------------------------------------------------------------------


def _router(contender: str) -> Any:
    """The router of ``contender``."""
    deployments = [
        {
            "model_name": "group",
            "litellm_params": {"model": "openai/gpt-4o", "api_key": "none", "api_base": "http://127.0.0.1:9/v1"},
            "model_info": {"id": f"deployment-{i}"},
        }
        for i in range(2)
    ]
    if contender == "plain":
        from litellm.router import Router

        return Router(model_list=cast("Any", deployments), num_retries=0)
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from traced_router import TracedRouter

    if contender == "no sdk":
        return TracedRouter(model_list=deployments, num_retries=0)
    meters = _meter_provider() if contender == "metrics" else None
    provider = TracerProvider(sampler=ALWAYS_OFF) if contender == "sampler off" else TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_dropping_exporter()))
    return TracedRouter(model_list=deployments, num_retries=0, tracer_provider=provider, meter_provider=meters)


def _meter_provider() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider([InMemoryMetricReader()])


def _dropping_exporter() -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Drop(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:  # noqa: ARG002  # that is the point
            return SpanExportResult.SUCCESS

    return Drop()


async def _traced_call() -> Any:
    """The recorder of one traced call."""
    from traced_router import TracedRouter
    from traced_router.testing import Recorder

    recorder = Recorder()
    router = TracedRouter(
        model_list=[{"model_name": "group", "litellm_params": {"model": "openai/gpt-4o", "api_key": "none"}}],
        num_retries=0,
        tracer_provider=recorder.provider,
        meter_provider=recorder.meter_provider,
    )
    await router.acompletion("group", MESSAGES, mock_response=ANSWER)
    return recorder


def _measurements(recorder: Any) -> Callable[[Any], None]:
    """What makes the measurements of one call anew, in a context."""
    from traced_router._names import COUNTER, HISTOGRAM, METRICS

    meter = _meter_provider().get_meter("floor")
    made: list[tuple[Callable[..., None], float, dict[str, Any]]] = []
    for name, points in recorder.metrics().items():
        metric = METRICS[name]
        for point in points:
            keys = dict(point.attributes)
            if metric.kind == HISTOGRAM:
                histogram = meter.create_histogram(name, explicit_bucket_boundaries_advisory=metric.bounds)
                made.append((histogram.record, point.sum, keys))
            elif metric.kind == COUNTER:
                made.append((meter.create_counter(name).add, point.value, keys))
            else:
                add = meter.create_up_down_counter(name).add
                made += [(add, 1, keys), (add, -1, keys)]

    def measure(context: Any) -> None:
        for write, amount, keys in made:
            write(amount, keys, context)

    return measure


async def _floor(*, metrics: bool) -> Callable[[], Awaitable[object]]:
    """The SDK alone, making the spans of one call, and its measurements."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    recorder = await _traced_call()
    spans = sorted(recorder.spans(), key=lambda s: s.start_time or 0)
    (name, kind, attributes), *children = [(s.name, s.kind, dict(s.attributes or {})) for s in spans]
    measure = _measurements(recorder) if metrics else None
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_dropping_exporter()))
    tracer = provider.get_tracer("floor")

    async def call() -> None:
        request = tracer.start_span(name, None, kind, attributes)
        under = trace.set_span_in_context(request)
        for child_name, child_kind, child_attributes in children:
            tracer.start_span(child_name, under, child_kind, child_attributes).end()
        if measure is not None:
            measure(under)
        request.end()

    return call


async def _calls(contender: str) -> dict[str, Callable[[], Awaitable[object]]]:
    if contender in FLOORS:
        return {"call": await _floor(metrics=contender == "metrics floor")}
    if contender == STREAMS:
        return _streams()
    router = _router(contender)

    async def call() -> object:
        return await router.acompletion("group", MESSAGES, mock_response=ANSWER)

    return {"call": call}


def _streams() -> dict[str, Callable[[], Awaitable[object]]]:
    """Reading a stream of litellm's chunks, bare and followed for its attempt and its request.

    A chunk that comes through the whole router costs 170 µs, and the noise of that is larger than what is
    measured here. So the stream is an iterator that does nothing else; what follows it is the router's own.
    """
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from traced_router._facts import AttemptFacts, CallFacts, DeploymentFacts
    from traced_router._followers import AttemptFollower, CallWatch
    from traced_router._guard import Guard
    from traced_router._spans import Attempt
    from traced_router._streams import stand_in
    from traced_router._tree import Call, Tree

    chunks = [ModelResponseStream(choices=[StreamingChoices(delta=Delta(content="ten"))]) for _ in range(CHUNKS)]
    tracer = TracerProvider().get_tracer("chunks")
    tree = Tree(lambda: tracer, Guard(NoOpMeterProvider))

    class Stream:
        def __init__(self) -> None:
            self._left = iter(chunks)

        def __aiter__(self) -> "Stream":
            return self

        async def __anext__(self) -> object:
            for chunk in self._left:
                return chunk
            raise StopAsyncIteration

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    def followed() -> Awaitable[None]:
        call, stream = tree.open_call(CallFacts("chat", "group")), Stream()
        assert isinstance(call, Call)
        attempt: Attempt | None = call.attempt(AttemptFacts(DeploymentFacts("deployment-0")), None)
        assert attempt is not None
        inner = stand_in(stream, AttemptFollower(attempt, stream))
        return read(stand_in(inner, CallWatch(call, attempt.context)))

    return {"bare": lambda: read(Stream()), "followed": followed}


async def _block(call: Callable[[], Awaitable[object]], calls: int, concurrency: int) -> tuple[float, float]:
    """CPU and wall seconds per call."""
    gc.collect()
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await call()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    await asyncio.sleep(0)
    return (time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls


async def _contend(contender: str) -> None:
    """Do the blocks that come in on standard input, one JSON object a line."""
    random.seed(SEED)
    calls = await _calls(contender)
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": contender}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        cpu, wall = await _block(calls[order["what"]], order["calls"], order["concurrency"])
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"cpu": cpu, "wall": wall, "rss": rss}), flush=True)


async def _where(calls: int) -> str:
    """Own time by module of a call that is recorded and measured, as the profiler sees it.

    The profiler charges every function that is called, so small functions look dearer than they are: the shares
    tell where to look, and the contenders what it costs.
    """
    import cProfile
    import pstats

    call = (await _calls("metrics"))["call"]
    await _block(call, calls, 1)
    profile = cProfile.Profile()
    profile.enable()
    await _block(call, calls, 1)
    profile.disable()
    taken: dict[str, float] = {}
    for (file, _, _), (_, _, own, _, _) in cast("Any", pstats.Stats(profile)).stats.items():
        part = _part(Path(file))
        taken[part] = taken.get(part, 0.0) + 1e6 * own / calls
    rows = sorted(taken.items(), key=lambda row: -row[1])
    return "\n".join([f"{'module':<36} {'own µs per call':>16}", *(f"{p:<36} {t:>16.0f}" for p, t in rows if t >= 1.0)])


def _part(file: Path) -> str:
    """What of a traced call the functions of ``file`` are."""
    parts = file.with_suffix("").parts
    if "traced_router" in parts:
        return "traced_router." + ".".join(parts[parts.index("traced_router") + 1 :])
    if "opentelemetry" in parts:
        return ".".join(parts[parts.index("opentelemetry") :][:2])
    return "litellm" if "litellm" in parts else "Python and the rest"


# --- the one that compares -----------------------------------------------------------------------


class Contender:
    """A contender's process, from outside."""

    def __init__(self, name: str) -> None:
        self.name = name
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        self._process = subprocess.Popen(  # noqa: S603  # this script
            [sys.executable, __file__, "--contend", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def wait(self) -> None:
        """Until it is ready: they all get ready at once."""
        self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return cast("dict[str, float]", json.loads(line))
        raise RuntimeError(f"the process of {self.name!r} ended")

    def block(self, what: str, calls: int, concurrency: int) -> dict[str, float]:
        """Have it make ``calls`` calls; seconds per call, and its greatest resident set so far in bytes."""
        assert self._process.stdin is not None
        print(
            json.dumps({"what": what, "calls": calls, "concurrency": concurrency}), file=self._process.stdin, flush=True
        )
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Figure:
    """Microseconds that a contender adds to a plain call: median and quartiles of paired differences."""

    contender: str
    concurrency: int
    cpu: float
    cpu_low: float
    cpu_high: float
    wall: float


def _compare(contenders: Sequence[Contender], concurrency: int, blocks: int, calls: int) -> list[Figure]:
    pairs: dict[str, list[tuple[float, float]]] = {c.name: [] for c in contenders}
    for contender in contenders:
        contender.block("call", calls, concurrency)
    for _ in range(blocks):
        plain = contenders[0].block("call", calls, concurrency)
        pairs["plain"].append((plain["cpu"], plain["wall"]))
        for contender in contenders[1:]:
            own = contender.block("call", calls, concurrency)
            base = (0.0, 0.0) if contender.name in FLOORS else (plain["cpu"], plain["wall"])
            pairs[contender.name].append((own["cpu"] - base[0], own["wall"] - base[1]))
    return [_figure(name, concurrency, found) for name, found in pairs.items()]


def _figure(name: str, concurrency: int, found: Sequence[tuple[float, float]]) -> Figure:
    cpu = [1e6 * c for c, _ in found]
    low, _, high = statistics.quantiles(cpu, n=4) if len(cpu) > 1 else (cpu[0],) * 3
    return Figure(name, concurrency, statistics.median(cpu), low, high, 1e6 * statistics.median(w for _, w in found))


def _per_chunk(streams: Contender, blocks: int, calls: int) -> float:
    """Microseconds of CPU that a chunk of a followed stream adds."""
    added = []
    for _ in range(blocks):
        bare, followed = (streams.block(what, calls, 1)["cpu"] for what in ("bare", "followed"))
        added.append(1e6 * (followed - bare) / CHUNKS)
    return statistics.median(added)


def _growth(traced: Contender, calls: int) -> float:
    """Bytes per call by which the greatest resident set grows, once it has warmed up."""
    before = traced.block("call", calls // 20, 20)["rss"]
    return (traced.block("call", calls, 20)["rss"] - before) / calls


def _table(figures: Sequence[Figure]) -> str:
    rows = [f"{'contender':<14} {'concurrency':>11} {'CPU µs':>9} {'spread':>15} {'wall µs':>9}"]
    for f in figures:
        what = "per call" if f.contender == "plain" else "added" if f.contender not in FLOORS else "alone"
        spread = f"{f.cpu_low:.0f} … {f.cpu_high:.0f}"
        rows.append(f"{f.contender:<14} {f.concurrency:>11} {f.cpu:>9.0f} {spread:>15} {f.wall:>9.0f}  {what}")
    return "\n".join(rows)


def _plot(figures: Sequence[Figure], path: Path) -> bool:
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [f for f in figures if f.contender != "plain"]
    chart, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for offset, concurrency in ((-0.2, 1), (0.2, 20)):
        own = [f for f in shown if f.concurrency == concurrency]
        positions = [i + offset for i in range(len(own))]
        errors = [[f.cpu - f.cpu_low for f in own], [f.cpu_high - f.cpu for f in own]]
        axes.barh(positions, [f.cpu for f in own], 0.36, xerr=errors, label=f"concurrency {concurrency}")
        axes.set_yticks(range(len(own)), [f.contender for f in own])
    axes.axvline(120, color="grey", linestyle=":", label="target, traced")
    axes.set_xlabel("CPU added to a call, µs (median and quartiles of paired blocks)")
    axes.invert_yaxis()
    axes.legend()
    chart.savefig(path, dpi=120)
    plt.close(chart)
    return True


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer blocks: about a minute")
    parser.add_argument(
        "--rss-calls", type=int, default=None, help="calls of the memory check (100,000; 2,000 when quick)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where the JSON and the plot go")
    parser.add_argument("--where", action="store_true", help="profile a traced call instead")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contend:
        asyncio.run(_contend(chosen.contend))
        return 0
    if chosen.where:
        print(asyncio.run(_where(200 if chosen.quick else 1_000)))
        return 0
    blocks, calls = (5, 40) if chosen.quick else (25, 80)
    names = ("plain", "traced", "metrics", "sampler off", "no sdk", *FLOORS)
    *contenders, streams = [Contender(name) for name in (*names, STREAMS)]
    try:
        for contender in (*contenders, streams):
            contender.wait()
        figures = [f for concurrency in (1, 20) for f in _compare(contenders, concurrency, blocks, calls)]
        chunk = _per_chunk(streams, blocks, 4)
        growth = _growth(contenders[1], chosen.rss_calls or (2_000 if chosen.quick else 100_000))
    finally:
        for contender in (*contenders, streams):
            contender.stop()
    cpu = {(f.contender, f.concurrency): f.cpu for f in figures}
    ratios = {
        floor: {c: cpu[name, c] / cpu[floor, c] for c in (1, 20)} for floor, name in zip(FLOORS, FLOORED, strict=True)
    }
    versions = {name: version(name) for name in ("litellm", "opentelemetry-sdk")} | {
        "python": platform.python_version()
    }
    print(f"seed {SEED}, {blocks} blocks of {calls} calls, {versions}")
    print(_table(figures))
    for floor, name in zip(FLOORS, FLOORED, strict=True):
        print(f"{name} / {floor}: " + ", ".join(f"{r:.2f} at concurrency {c}" for c, r in ratios[floor].items()))
    print(f"added per chunk of a stream: {chunk:.2f} µs of CPU")
    print(f"resident set: {growth:+.1f} bytes per call")
    chosen.out.mkdir(parents=True, exist_ok=True)
    result = {
        "seed": SEED,
        "versions": versions,
        "figures": [asdict(f) for f in figures],
        "ratio_to_floor": ratios["floor"],
        "ratio_to_metrics_floor": ratios["metrics floor"],
        "microseconds_per_chunk": chunk,
        "bytes_per_call": growth,
    }
    (chosen.out / "overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    if not _plot(figures, chosen.out / "overhead.png"):
        print("no plot: matplotlib is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
