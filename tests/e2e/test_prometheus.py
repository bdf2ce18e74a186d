"""Every query of the metrics page, asked of a real Prometheus: the answers are the numbers of what happened.

Counts are compared with what the calls below say, times with what the SDK measured in the same process.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import litellm
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from traced_router import ResilienceOptions, TracedRouter
from traced_router.testing import Answer, FakeProvider, Gate, RateLimited

exporter = pytest.importorskip(
    "opentelemetry.exporter.prometheus", reason="opentelemetry-exporter-prometheus is not installed"
)
from prometheus_client import start_http_server  # noqa: E402  # comes with the exporter

pytestmark = pytest.mark.timeout(180)

PAGE = Path(__file__).parent.parent.parent / "docs" / "guides" / "metrics.md"
MESSAGES = [{"role": "user", "content": "hi"}]
BUSY = RateLimited(retry_after=0.05)
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}
PRICE = 11 * 0.001 + 7 * 0.01
ROUNDS = 2
SHUFFLE, LEC = "simple-shuffle", "least-expected-completion"
NAN = math.nan


class Calls:
    """Three routers that are measured, and what is called of them."""

    def __init__(self, provider: FakeProvider, meter_provider: MeterProvider) -> None:
        def deployment(name: str, group: str, **params: Any) -> dict[str, Any]:
            return provider.deployment(name, group=group, **PRICES, **params)

        self.provider = provider
        self.router = TracedRouter(
            model_list=[
                deployment("east", "chat"),
                deployment("west", "backup"),
                deployment("pair-1", "pair", weight=1),
                deployment("pair-2", "pair", weight=0),
            ],
            fallbacks=[{"chat": ["backup"]}],
            content_policy_fallbacks=[{"chat": ["backup"]}],
            num_retries=1,
            cooldown_time=60,
            meter_provider=meter_provider,
        )
        self.stormy = TracedRouter(
            model_list=[deployment("south", "storm")],
            model_group_alias={"again": "storm"},
            fallbacks=[{"storm": ["again"]}],
            num_retries=2,
            resilience=ResilienceOptions(retry_ratio=1.0, retries_per_second=0.0, eject=False),
            meter_provider=meter_provider,
        )
        self.quick = TracedRouter(
            model_list=[deployment("north", "quick")], routing_strategy=LEC, meter_provider=meter_provider
        )

    async def one_round(self) -> None:
        """Eight calls: two are answered at once, one is retried, two fall back, one fails, one has a forecast.

        And one is a storm: it is retried too early, is not retried again, and goes in a circle.
        """
        call = self.router.acompletion
        await call("chat", MESSAGES)
        self.provider.script("east", [BUSY])
        await call("chat", MESSAGES)
        self.provider.script("east", [BUSY, BUSY])
        await call("chat", MESSAGES)
        self.provider.script("east", [Answer(finish_reason="content_filter")])
        await call("chat", MESSAGES)
        async for _ in await call("chat", MESSAGES, stream=True, stream_options={"include_usage": True}):
            pass
        self.provider.script("east", [BUSY, BUSY])
        self.provider.script("west", [BUSY, BUSY])
        with pytest.raises(litellm.RateLimitError):
            await call("chat", MESSAGES)
        await self.quick.acompletion("quick", MESSAGES)
        self.provider.script("south", [RateLimited(retry_after=90), RateLimited(retry_after=90)])
        await self.stormy.acompletion("storm", MESSAGES)

    async def stay_in_flight(self, gate: Gate) -> Any:
        """A call that lasts until the gate opens."""
        self.provider.script("east", [Answer(hold_after_chunk=(1, gate))])
        stream = await self.router.acompletion("chat", MESSAGES, stream=True)
        await anext(stream)
        return stream

    async def cool_down(self) -> None:
        """A call whose first deployment is put into cooldown; the counter of these begins with it."""
        self.provider.script("pair-1", [BUSY])
        await self.router.acompletion("pair", MESSAGES)


class Measured:
    """The SDK's own histograms: what came to them since another reading."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        data = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        self._points = {
            (metric.name, frozenset(point.attributes.items())): point
            for metric in metrics
            for point in metric.data.data_points
            if hasattr(point, "bucket_counts")
        }

    def since(self, before: "Measured", name: str, **keys: str) -> tuple[Sequence[float], Sequence[int], float]:
        """Bounds, counts and sum of the histogram ``name``, where the attributes that end in ``keys`` are so."""
        bounds, counts, total = (), [], 0.0
        for (metric, attributes), point in self._points.items():
            own = {key.removesuffix(".name").rpartition(".")[2]: value for key, value in attributes}
            if metric != name or any(own.get(key) != value for key, value in keys.items()):
                continue
            earlier = before._points.get((metric, attributes))
            old = earlier.bucket_counts if earlier else [0] * len(point.bucket_counts)
            bounds = point.explicit_bounds
            counts = [c + new - o for c, new, o in zip(counts or [0] * len(old), point.bucket_counts, old, strict=True)]
            total += point.sum - (earlier.sum if earlier else 0)
        assert counts, (name, keys)
        return bounds, counts, total


def quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """As Prometheus has it: evenly spread inside a bucket."""
    rank, below = q * sum(counts), 0
    for lower, upper, count in zip((0, *bounds), (*bounds, bounds[-1]), counts, strict=True):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return NAN


def expected(now: Measured, before: Measured, rate: float) -> Iterator[tuple[str, Mapping[Any, float], float]]:
    """The answer to each query, under its heading, by the values of its labels, and how exact it is.

    ``rate`` is what one event a round makes per second.
    """
    exact, measured = 1e-6, 0.15  # at the edge of its data, Prometheus guesses for each bucket by itself

    def of(q: float, name: str, **keys: str) -> float:
        bounds, counts, _ = now.since(before, name, **keys)
        return quantile(q, bounds, counts)

    request, operation = "traced_router.request.duration", "gen_ai.client.operation.duration"
    model = "gpt-4o-2024-08-06"

    which = "Which deployment fails?"
    yield which, {"east": 6 / 9, "west": 2 / 4, "south": 2 / 3, "north": 0, "pair-1": NAN, "pair-2": NAN}, exact
    limited, refused = "RateLimitError", "ContentPolicyViolationError"
    failures = {(limited, "east"): 5 * rate, (refused, "east"): rate, (limited, "west"): 2 * rate}
    yield which, {**failures, (limited, "south"): 2 * rate, (limited, "pair-1"): 0}, exact
    yield which, {"chat": 1 / 6}, exact

    wait = "How long do callers wait?"
    yield wait, {**{g: of(0.95, request, model_group=g) for g in ("chat", "quick", "storm")}, "pair": NAN}, measured
    yield wait, {("openai", model): of(0.95, operation, model=model)}, measured
    yield wait, {model: of(0.95, "gen_ai.client.operation.time_to_first_chunk")}, measured

    save = "How much does the router save?"
    yield save, {(): 5 / 8}, exact
    yield save, {(): 4 / 8}, exact
    retried = {(limited, "east"): 3 * rate, (limited, "west"): rate, (limited, "south"): rate}
    yield save, {**retried, (limited, "pair-1"): 0}, exact
    hops = {("chat", "model_group", "backup"): 2 * rate, ("chat", "content_policy", "backup"): rate}
    yield save, {**hops, ("storm", "model_group", "again"): rate}, exact
    *_, waited = now.since(before, "traced_router.backoff.duration")
    yield save, {(): waited / (8 * ROUNDS)}, exact

    yield from (("Is it a retry storm?", right, exact) for right in storms(rate))

    wasted = "What is wasted?"
    yield wasted, {"east": 3600 * PRICE * rate}, exact
    yield wasted, {(): 1 / 8}, exact

    yield "Who is in cooldown now?", {"pair-1": 1}, exact

    idle = {("west", "backup"): 0, ("north", "quick"): 0, ("pair-1", "pair"): 0, ("pair-2", "pair"): 0}
    idle |= {("south", "storm"): 0, ("south", "again"): 0}
    yield "What is going on now?", {("east", "chat"): 1, **idle}, exact

    better = "Which strategy is better?"
    yield better, {s: of(0.95, request, strategy=s) for s in (SHUFFLE, LEC)}, measured
    yield better, {SHUFFLE: 5 / 7}, exact
    yield better, {s: of(0.99, "traced_router.selection.duration", strategy=s) for s in (SHUFFLE, LEC)}, measured
    reasons = {("only_candidate", SHUFFLE): 16 * rate, ("only_candidate", LEC): rate, ("weighted_random", SHUFFLE): 0}
    yield better, reasons, exact

    knows = "Does a strategy know what it is doing?"
    bounds, counts, _ = now.since(before, "traced_router.prediction.ratio")
    near = sum(count for bound, count in zip(bounds, counts, strict=False) if 0.8 < bound <= 1.25)
    yield knows, {LEC: quantile(0.5, bounds, counts)}, measured
    yield knows, {LEC: near / sum(counts)}, measured

    yield "Is measuring itself well?", {}, exact


def storms(rate: float) -> Iterator[Mapping[Any, float]]:
    """The answers about storms."""
    yield {"chat": 9 / 6, "backup": 4 / 3, "quick": 1, "storm": 2, "again": 1, "pair": NAN}
    yield {"chat": 3 / 6, "backup": 1 / 3, "quick": 0, "storm": 1, "again": 0, "pair": NAN}
    yield {"storm": rate}
    yield {(): 0}
    yield {"south": 2 * rate}
    yield {("storm", "again"): rate}


def queries() -> list[tuple[str, str]]:
    """Every query of the page, under its heading."""
    page = PAGE.read_text("utf-8")
    found = re.finditer(r"^### (?P<heading>.*)$|^```promql\n(?P<query>(?:.*\n)*?)```$", page, re.MULTILINE)
    under, heading = [], ""
    for match in found:
        heading = match["heading"] or heading
        if match["query"]:
            under.append((heading, match["query"]))
    return under


def by_labels(vector: Sequence[Mapping[str, Any]]) -> dict[Any, float]:
    """An instant vector by the values of its labels, in the order of their names; by the value of a single one."""
    found = {}
    for sample in vector:
        values = tuple(value for _, value in sorted(sample["metric"].items()))
        found[values[0] if len(values) == 1 else values] = float(sample["value"][1])
    return found


async def test_prometheus_answers_every_query_of_the_page(prometheus, scraped, eventually):
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader, exporter.PrometheusMetricReader()])

    def ask(query: str, at: float | None = None) -> dict[Any, float]:
        arguments = {"query": query} if at is None else {"query": query, "time": str(at)}
        return by_labels(prometheus.get("/api/v1/query", **arguments)["data"]["result"])

    with FakeProvider() as provider:
        calls, gate = Calls(provider, meter_provider), Gate()
        stream = await calls.stay_in_flight(gate)
        await calls.quick.acompletion("quick", MESSAGES)  # from here on there are forecasts
        await calls.one_round()
        before = Measured(reader)
        server, thread = start_http_server(scraped, "127.0.0.1")
        eventually(lambda: ask("sum(traced_router_attempts_total)"))
        for _ in range(ROUNDS):
            await calls.one_round()
        now = Measured(reader)
        await calls.cool_down()
        eventually(lambda: ask("sum(count_over_time(traced_router_cooldowns_total[1m])) > 2"))
        at = time.time()
        rate = ask('sum(rate(traced_router_retries_total{litellm_deployment_id="west"}[5m]))', at)[()]
        assert rate == pytest.approx(ROUNDS / 300, rel=0.5)  # the rest is how Prometheus extrapolates

        answers = [(heading, ask(query, at)) for heading, query in queries()]
        server.shutdown()
        server.server_close()
        thread.join()
        gate.open()
        await stream.aclose()
    meter_provider.shutdown()

    numbers = list(expected(now, before, rate))
    assert [heading for heading, _ in answers] == [heading for heading, *_ in numbers]
    for (heading, answer), (_, right, exactness) in zip(answers, numbers, strict=True):
        assert answer == pytest.approx(dict(right), rel=exactness, nan_ok=True), heading
