"""What tracing costs: CPU and wall time that a traced call adds to a plain one.

    python benchmarks/overhead.py            # all of it: 7 to 9 minutes, by how fast the memory check is
    python benchmarks/overhead.py --quick    # under a minute
    python benchmarks/overhead.py --check    # does the method find nothing where nothing is, and 50 µs where they are?
    python benchmarks/overhead.py --where    # which modules take the time of a traced call

One process per contender: litellm's routers charge each other when they share a process, because each adds its
callbacks to global lists. The processes are forked from one that has imported everything, so that code and
modules lie at the same places in all of them, and a few times in the run they are forked anew from another.

They take turns in blocks of some 20 milliseconds, in a new order in each round (seeded). What a contender adds is told
twice, each time with a 95 % bootstrap interval (``_paired.py``): undisturbed, the tenth percentile of its blocks
less that of the plain router's; and paired, the median ratio to the plain router's block of the same round. They agree
on a quiet machine; where they do not, it was none.

CPU time is that of the whole process: litellm logs a call in tasks and threads of its own, so a block ends when its
spans are exported and these have had a moment. Wall time is read before that. After the warm-up the heap is frozen, and
a collection precedes each block: a block has the garbage collector's work in the young generations, which grows with
what a call allocates, and no full collection, which grows with what the application has imported. Calls that are not
counted come first, because a process that waited for its turn has cold caches.

Contenders: the plain router; the plain router once more, the control, whose figure must be 0; the traced one,
recording into a batch processor whose exporter drops; the same with all metrics; the same with the sampler off; the
same without an SDK. The floor is the SDK alone, starting and ending the very spans that a traced call makes, with their
attributes; the metrics' floor makes the very measurements, too. A chunk of a stream is measured by itself.
No provider is asked: litellm's ``mock_response`` answers.
"""

# litellm and matplotlib are typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self, TextIO, cast

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # an import without the network
ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "strategies")]

from benchmarks._paired import Estimate, Round, Statistic, estimate, paired, ratio, undisturbed  # noqa: E402  # after the path

SEED: Final = 20261121
MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
ANSWER: Final = "The sky is blue because short waves scatter more."
CHUNKS: Final = 1_000
"""Chunks of a stream."""
STREAMS: Final = "chunks"
"""The process in which streams are read."""
PLAIN: Final = "plain"
CONTROL: Final = "control"
"""The plain router once more."""
BURNING: Final = "plain + 50 µs"
"""The plain router, after 50 µs of doing nothing."""
FLOORS: Final = {"floor": "traced", "metrics floor": "metrics"}
"""The floors, and which contenders stand on them."""
CONTENDERS: Final = (PLAIN, CONTROL, "traced", "metrics", "sampler off", "no sdk", *FLOORS)
TARGETS: Final = {"traced": 120, "metrics": 160, "sampler off": 20, "no sdk": 20}
"""Microseconds of CPU that they may add to a call."""
CALLS: Final = {1: 12, 20: 20}
"""Calls of a block, by concurrency."""
WARM_UP: Final = 100
"""Calls before the first block."""
UNCOUNTED: Final = 6
"""One in so many calls more comes before each block."""
SETTLING: Final = 0.001
"""Seconds that litellm's threads and tasks are given to come to an end."""


# --- a contender's process -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """What a block repeats, and what belongs to the block at its end."""

    call: Callable[[], Awaitable[object]]
    flush: Callable[[], object]


def _nothing() -> None:
    """What a contender without spans exports."""


def _router(contender: str, provider: Any) -> Any:
    """The router of ``contender``."""
    deployments = [
        {
            "model_name": "group",
            "litellm_params": {"model": "openai/gpt-4o", "api_key": "none", "api_base": "http://127.0.0.1:9/v1"},
            "model_info": {"id": f"deployment-{i}"},
        }
        for i in range(2)
    ]
    if contender in {PLAIN, CONTROL, BURNING}:
        from litellm.router import Router

        return Router(model_list=cast("Any", deployments), num_retries=0)
    from traced_router import TracedRouter

    if contender == "no sdk":
        return TracedRouter(model_list=deployments, num_retries=0)
    meters = _meter_provider() if contender == "metrics" else None
    return TracedRouter(model_list=deployments, num_retries=0, tracer_provider=provider, meter_provider=meters)


def _tracer_provider(*, sampled: bool = True) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    provider = TracerProvider() if sampled else TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(BatchSpanProcessor(_dropping_exporter()))
    return provider


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


async def _floor(*, metrics: bool) -> Work:
    """The SDK alone, making the spans of one call, and its measurements."""
    from opentelemetry import trace

    recorder = await _traced_call()
    spans = sorted(recorder.spans(), key=lambda s: s.start_time or 0)
    (name, kind, attributes), *children = [(s.name, s.kind, dict(s.attributes or {})) for s in spans]
    measure = _measurements(recorder) if metrics else None
    provider = _tracer_provider()
    tracer = provider.get_tracer("floor")

    async def call() -> None:
        request = tracer.start_span(name, None, kind, attributes)
        under = trace.set_span_in_context(request)
        for child_name, child_kind, child_attributes in children:
            tracer.start_span(child_name, under, child_kind, child_attributes).end()
        if measure is not None:
            measure(under)
        request.end()

    return Work(call, provider.force_flush)


async def _work(contender: str) -> dict[str, Work]:
    if contender in FLOORS:
        return {"call": await _floor(metrics=contender == "metrics floor")}
    if contender == STREAMS:
        return _streams()
    provider = _tracer_provider(sampled=contender != "sampler off")
    router = _router(contender, provider)

    async def call() -> object:
        return await router.acompletion("group", MESSAGES, mock_response=ANSWER)

    async def burning() -> object:
        until = time.thread_time_ns() + 50_000
        while time.thread_time_ns() < until:
            pass
        return await call()

    return {"call": Work(burning if contender == BURNING else call, provider.force_flush)}


def _streams() -> dict[str, Work]:
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

    return {"bare": Work(lambda: read(Stream()), _nothing), "followed": Work(followed, _nothing)}


async def _repeat(work: Work, calls: int, concurrency: int) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await work.call()

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def _block(work: Work, calls: int, concurrency: int) -> tuple[float, float]:
    """Microseconds of CPU and of wall time per call."""
    gc.collect()
    await _repeat(work, max(1, calls // UNCOUNTED), concurrency)
    work.flush()
    await asyncio.sleep(SETTLING)
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    await _repeat(work, calls, concurrency)
    wall = time.perf_counter_ns() - wall
    work.flush()
    await asyncio.sleep(SETTLING)
    return (time.process_time_ns() - cpu) / calls / 1_000, wall / calls / 1_000


async def _contend(contender: str, orders: TextIO) -> None:
    """Do the blocks that are ordered, one JSON object a line."""
    random.seed(SEED)
    works = await _work(contender)
    for work in works.values():
        await _repeat(work, WARM_UP, 1)
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": 1}), file=orders, flush=True)
    while line := await loop.run_in_executor(None, orders.readline):
        order = json.loads(line)
        cpu, wall = await _block(works[order["what"]], order["calls"], order["concurrency"])
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"cpu": cpu, "wall": wall, "rss": rss}), file=orders, flush=True)


def _fork(descriptors: Mapping[str, int]) -> None:
    """Import what any contender needs, and become the process of each."""
    for module in ("litellm.router", "opentelemetry.sdk.metrics.export", "traced_router.testing"):
        importlib.import_module(module)
    ends = {name: socket.socket(fileno=descriptor) for name, descriptor in descriptors.items()}
    for name, own in ends.items():
        if os.fork() == 0:
            for end in ends.values():
                if end is not own:
                    end.close()
            with own, own.makefile("rw") as orders:
                asyncio.run(_contend(name, orders))
            return
    for end in ends.values():
        end.close()
    for _ in ends:
        os.wait()


async def _where(calls: int) -> str:
    """Own time by module of a call that is recorded and measured, as the profiler sees it.

    The profiler charges every function that is called, so small functions look dearer than they are: the shares
    tell where to look, and the contenders what it costs.
    """
    import cProfile
    import pstats

    work = (await _work("metrics"))["call"]
    await _repeat(work, calls, 1)
    profile = cProfile.Profile()
    profile.enable()
    await _repeat(work, calls, 1)
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


class Processes:
    """A generation of contenders, from outside."""

    def __init__(self, contenders: Sequence[str], number: int) -> None:
        pairs = {name: socket.socketpair() for name in contenders}
        descriptors = {name: theirs.fileno() for name, (_, theirs) in pairs.items()}
        settings = {"LITELLM_LOG": "ERROR", "PYTHONHASHSEED": str(number)}
        self._process = subprocess.Popen(  # noqa: S603  # this script
            [sys.executable, __file__, "--contend", json.dumps(descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **settings},
            pass_fds=tuple(descriptors.values()),
        )
        self._orders: dict[str, TextIO] = {}
        for name, (own, theirs) in pairs.items():
            theirs.close()
            with own:
                self._orders[name] = own.makefile("rw")

    def __enter__(self) -> Self:
        """Wait until all are ready: they get ready at once."""
        for name in self._orders:
            self._answer(name)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for orders in self._orders.values():
            orders.close()
        self._process.wait()

    def _answer(self, name: str) -> Round:
        if line := self._orders[name].readline():
            return cast("Round", json.loads(line))
        raise RuntimeError(f"the process of {name!r} ended")

    def block(self, name: str, what: str, calls: int, concurrency: int) -> Round:
        """Have ``name`` make ``calls`` calls; µs per call, and its greatest resident set so far in bytes."""
        order = {"what": what, "calls": calls, "concurrency": concurrency}
        print(json.dumps(order), file=self._orders[name], flush=True)
        return self._answer(name)


Block = Callable[[], Round]
Rounds = list[dict[str, Round]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Microseconds that a contender adds to a plain call; of a floor and the plain router, what it takes."""

    contender: str
    concurrency: int
    cpu: Estimate
    cpu_paired: Estimate | None
    wall: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How long is measured, in seconds since the beginning."""

    generations: int
    compared: float
    """When the calls are compared."""
    ended: float
    """When the memory check ends, however many of its calls were made."""
    rss_calls: int
    rss_warm_up: int
    """Calls that come before those."""


FULL: Final = Plan(generations=8, compared=280.0, ended=520.0, rss_calls=100_000, rss_warm_up=5_000)
QUICK: Final = Plan(generations=1, compared=30.0, ended=50.0, rss_calls=2_000, rss_warm_up=1_000)
READING: Final = 2.0
"""Seconds that streams are read, in each generation."""


class Measurement:
    """The rounds of all generations."""

    def __init__(self, plan: Plan, contenders: Sequence[str]) -> None:
        self._plan, self._contenders = plan, contenders
        self._began = time.monotonic()
        self._dice = random.Random(SEED)
        self.calls: dict[int, list[Rounds]] = {concurrency: [] for concurrency in CALLS}
        self.chunks: list[Rounds] = []
        self.growth = (0.0, 0)
        """Bytes per call by which the greatest resident set grows, once it has warmed up, and in how many calls."""

    def run(self, *, more: bool) -> None:
        """Measure; ``more`` than calls: chunks, and the memory."""
        plan, streams = self._plan, (STREAMS,) if more else ()
        for number in range(plan.generations):
            with Processes((*self._contenders, *streams), SEED + number) as processes:
                self._compare(processes, plan.compared * (number + 1) / plan.generations)
                if more:
                    reads = {what: partial(processes.block, STREAMS, what, 4, 1) for what in ("bare", "followed")}
                    self.chunks.append(self._rounds(reads, self._elapsed() + READING))
                if more and number == plan.generations - 1:
                    self.growth = self._grow(partial(processes.block, "traced", "call", concurrency=20))

    def _compare(self, processes: Processes, until: float) -> None:
        now = self._elapsed()
        for i, (concurrency, calls) in enumerate(CALLS.items(), 1):
            blocks = {c: partial(processes.block, c, "call", calls, concurrency) for c in self._contenders}
            self.calls[concurrency].append(self._rounds(blocks, now + (until - now) * i / len(CALLS)))

    def _rounds(self, blocks: Mapping[str, Block], until: float) -> Rounds:
        found: Rounds = []
        while not found or self._elapsed() < until:
            order = self._dice.sample(list(blocks), len(blocks))
            found.append({name: blocks[name]() for name in order})
        return found

    def _grow(self, block: Callable[..., Round]) -> tuple[float, int]:
        plan, done = self._plan, 0
        before = after = block(calls=plan.rss_warm_up)["rss"]
        while not done or (done < plan.rss_calls and self._elapsed() < plan.ended):
            calls = min(plan.rss_calls - done, 1_000)
            after = block(calls=calls)["rss"]
            done += calls
        return (after - before) / done, done

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def rounds(self) -> dict[int, int]:
        """How many rounds there are, by concurrency."""
        return {concurrency: sum(map(len, found)) for concurrency, found in self.calls.items()}

    def figures(self) -> list[Figure]:
        """What each contender adds, at each concurrency."""
        return [_figure(name, c, found) for c, found in self.calls.items() for name in self._contenders]

    def ratios(self) -> dict[str, dict[int, Estimate]]:
        """What a contender adds as a multiple of its floor, by floor and concurrency."""
        return {
            floor: {
                c: _estimate(found, ratio(undisturbed(name, PLAIN), undisturbed(floor)))
                for c, found in self.calls.items()
            }
            for floor, name in FLOORS.items()
        }

    def chunk(self) -> Estimate:
        """Microseconds of CPU that a chunk of a followed stream adds."""
        return _estimate(self.chunks, undisturbed("followed", "bare")) / CHUNKS


def _only(what: str, found: Sequence[Rounds]) -> list[list[Round]]:
    return [[{name: block[what] for name, block in r.items()} for r in rounds] for rounds in found]


def _estimate(found: Sequence[Rounds], statistic: Statistic) -> Estimate:
    return estimate(_only("cpu", found), statistic, SEED)


def _figure(contender: str, concurrency: int, found: Sequence[Rounds]) -> Figure:
    by_itself = contender in {PLAIN, *FLOORS}
    own = undisturbed(contender) if by_itself else undisturbed(contender, PLAIN)
    beside = None if by_itself else _estimate(found, paired(contender, PLAIN))
    wall = own([r for rounds in _only("wall", found) for r in rounds])
    return Figure(contender, concurrency, _estimate(found, own), beside, wall)


def _table(figures: Sequence[Figure]) -> str:
    rows = [f"{'contender':<14} {'concurrency':>11} {'CPU µs':>20} {'paired':>20} {'wall µs':>8}"]
    for f in figures:
        what = "per call" if f.contender == PLAIN else "alone" if f.contender in FLOORS else "added"
        if f.contender in TARGETS:
            what += f", target {TARGETS[f.contender]}"
        beside = f.cpu_paired.told(0) if f.cpu_paired else ""
        rows.append(f"{f.contender:<14} {f.concurrency:>11} {f.cpu.told(0):>20} {beside:>20} {f.wall:>8.0f}  {what}")
    return "\n".join(rows)


def _plot(figures: Sequence[Figure], path: Path) -> bool:
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [f for f in figures if f.contender != PLAIN]
    chart, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for offset, concurrency in ((-0.2, 1), (0.2, 20)):
        own = [f for f in shown if f.concurrency == concurrency]
        positions = [i + offset for i in range(len(own))]
        errors = [[f.cpu.value - f.cpu.low for f in own], [f.cpu.high - f.cpu.value for f in own]]
        axes.barh(positions, [f.cpu.value for f in own], 0.36, xerr=errors, label=f"concurrency {concurrency}")
        axes.set_yticks(range(len(own)), [f.contender for f in own])
    axes.axvline(120, color="grey", linestyle=":", label="target, traced")
    axes.set_xlabel("CPU added to a call, µs (undisturbed, with 95 % intervals)")
    axes.invert_yaxis()
    axes.legend()
    chart.savefig(path, dpi=120)
    plt.close(chart)
    return True


def _versions() -> dict[str, str]:
    installed = {name: version(name) for name in ("litellm", "opentelemetry-sdk")}
    return installed | {"python": platform.python_version()}


def _report(measurement: Measurement, out: Path) -> None:
    """Print the figures and write them down."""
    figures, ratios, chunk = measurement.figures(), measurement.ratios(), measurement.chunk()
    growth, grown = measurement.growth
    print(_table(figures))
    for floor, name in FLOORS.items():
        print(f"{name} / {floor}: " + ", ".join(f"{r.told(2)} at concurrency {c}" for c, r in ratios[floor].items()))
    print(f"added per chunk of a stream: {chunk.told(2)} µs of CPU")
    print(f"resident set: {growth:+.1f} bytes per call in {grown:,} calls")
    out.mkdir(parents=True, exist_ok=True)
    result = {
        "seed": SEED,
        "versions": _versions(),
        "rounds": measurement.rounds(),
        "figures": [asdict(f) for f in figures],
        "ratios": {floor: {c: asdict(r) for c, r in found.items()} for floor, found in ratios.items()},
        "microseconds_per_chunk": asdict(chunk),
        "bytes_per_call": growth,
        "bytes_per_call_in_calls": grown,
    }
    (out / "overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    if not _plot(figures, out / "overhead.png"):
        print("no plot: matplotlib is not installed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one generation, and less time: under a minute")
    parser.add_argument(
        "--rss-calls", type=int, default=None, help="calls of the memory check (100,000; 2,000 when quick)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where the JSON and the plot go")
    parser.add_argument("--check", action="store_true", help="measure the method, with the plain router alone")
    parser.add_argument("--where", action="store_true", help="profile a traced call instead")
    parser.add_argument("--contend", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.contend:
        _fork(chosen.contend)
        return 0
    if chosen.where:
        print(asyncio.run(_where(200 if chosen.quick else 1_000)))
        return 0
    plan = QUICK if chosen.quick else FULL
    if chosen.rss_calls:
        plan = replace(plan, rss_calls=chosen.rss_calls)
    measurement = Measurement(plan, (PLAIN, CONTROL, BURNING) if chosen.check else CONTENDERS)
    measurement.run(more=not chosen.check)
    print(f"seed {SEED}, rounds by concurrency {measurement.rounds()} of blocks of {CALLS} calls, {_versions()}")
    if chosen.check:
        print(_table(measurement.figures()))
    else:
        _report(measurement, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
