"""What is measured of a call: exact instruments, attributes and values, whatever becomes of the call and of its trace.

Every scenario is counted twice: by what it writes down itself, and by the spans of its trace, which must agree.
"""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import litellm
import pytest
from litellm.caching.caching import Cache
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import Candidate, Decision, Outcome, RoutingRequest, Ticket, TracedRouter, _readers
from traced_router import _names as n
from traced_router._facts import DeploymentFacts
from traced_router.resilience import ResilienceOptions
from traced_router.testing import Node, Recorder
from traced_router.testing._provider_behaviours import (
    Answer,
    DieMidStream,
    RateLimited,
    ServerError,
)

MESSAGES = [{"role": "user", "content": "hi"}]
MODEL = "gpt-4o-2024-08-06"
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}
COST = 11 * 0.001 + 7 * 0.01
"""Of the provider's usual answer: 11 tokens in, 7 out."""

Keys = frozenset[tuple[str, object]]


def keys(**named: object) -> Keys:
    """An attribute set; ``None`` is not in it."""
    return frozenset((NAMED[name], value) for name, value in named.items() if value is not None)


NAMED = {
    "group": "traced_router.model_group",
    "id": "litellm.deployment.id",
    "error": "error.type",
    "operation": "traced_router.operation",
    "outcome": "traced_router.outcome",
    "strategy": "traced_router.strategy.name",
    "reason": "traced_router.decision.reason",
    "kind": "traced_router.cost.kind",
    "source": "traced_router.backoff.source",
    "from_": "traced_router.fallback.from",
    "to": "traced_router.fallback.to",
    "hop": "traced_router.fallback.kind",
    "gen_ai": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "said": "gen_ai.response.model",
    "type": "gen_ai.token.type",
    "where": "traced_router.tracing.where",
}


def measured(recorder: Recorder) -> dict[str, dict[Keys, float]]:
    """What each instrument holds: a counter's value, how often a histogram was written, the sum of tokens and calls."""
    return {
        name: {
            frozenset(p.attributes.items()): p.sum
            if name in {"gen_ai.client.token.usage", "traced_router.amplification"}
            else p.value
            if p.count is None
            else p.count
            for p in points
        }
        for name, points in recorder.metrics().items()
    }


# --- the second count: by the spans --------------------------------------------------------------


def counted(trees: Sequence[Node]) -> dict[str, dict[Keys, float]]:
    """What the instruments should hold, by the spans of these calls."""
    counts: dict[str, Counter[Keys]] = {}

    def count(name: str, by: Keys, amount: float = 1) -> None:
        counts.setdefault(name, Counter())[by] += amount

    for request in (node for tree in trees for node in tree.walk() if n.OUTCOME in node.attributes):
        said = request.attributes
        group, strategy = said.get(n.MODEL_GROUP), said.get(n.STRATEGY_NAME)
        count(
            "traced_router.request.duration",
            keys(operation=said[n.OPERATION], group=group, outcome=said[n.OUTCOME], strategy=strategy),
        )
        wasted = said.get(n.COST_WASTED, 0.0)
        for hop in (request, *(c for c in request.children if n.FALLBACK_KIND in c.attributes)):
            if hop is not request:
                _hop(count, hop)
            target = hop.attributes.get(n.FALLBACK_TO, group)
            before: Node | None = None
            for child in hop.children:
                own = child.attributes
                if child.name.startswith("router.select"):
                    reason = None if n.ERROR_TYPE in own else own.get(n.DECISION_REASON)
                    count(
                        "traced_router.selection.duration",
                        keys(
                            group=child.name.removeprefix("router.select "),
                            strategy=own.get(n.STRATEGY_NAME, strategy),
                            reason=reason,
                            error=own.get(n.ERROR_TYPE),
                        ),
                    )
                elif child.name == "router.backoff":
                    count("traced_router.backoff.duration", keys(group=target, source=own[n.BACKOFF_SOURCE]))
                elif child.kind == "CLIENT":
                    served = bool(wasted == 0 and said[n.OUTCOME] != "error")
                    _attempt(count, child, before, strategy, served=served)
                    before = child
    return {name: dict(found) for name, found in counts.items()}


def _hop(count: Callable[..., None], hop: Node) -> None:
    said = hop.attributes
    count(
        "traced_router.fallbacks",
        keys(from_=said[n.FALLBACK_FROM], to=said[n.FALLBACK_TO], hop=said[n.FALLBACK_KIND]),
    )
    for _ in (happened for happened in hop.events if happened.name == n.CYCLE_EVENT):
        count("traced_router.fallback.cycles", keys(from_=said[n.FALLBACK_FROM], to=said[n.FALLBACK_TO]))


def _place(attempt: Node, error: object) -> Keys:
    said = attempt.attributes
    return keys(group=said.get(n.DEPLOYMENT_MODEL_GROUP), id=said.get(n.DEPLOYMENT_ID), error=error)


def _event(count: Callable[..., None], attempt: Node, name: str) -> None:
    if name == n.COOLDOWN_EVENT:
        count("traced_router.cooldowns", _place(attempt, attempt.attributes.get(n.ERROR_TYPE)))
    elif name == n.RETRY_AFTER_EVENT:
        count("traced_router.retry_after.violations", _place(attempt, None))


def _attempt(count: Callable[..., None], attempt: Node, before: Node | None, strategy: object, *, served: bool) -> None:
    said = attempt.attributes
    error = said.get(n.ERROR_TYPE)
    count("traced_router.attempts", _place(attempt, error))
    if n.CACHE_HIT not in said:
        count("traced_router.amplification", keys(group=said.get(n.DEPLOYMENT_MODEL_GROUP)))
    count("traced_router.inflight", _place(attempt, None), 0)
    if said[n.DEPLOYMENT_REASON] == "retry":
        assert before is not None
        count("traced_router.retries", _place(before, before.attributes.get(n.ERROR_TYPE)))
    for happened in attempt.events:
        _event(count, attempt, happened.name)
    who = {
        "gen_ai": said[n.GEN_AI_OPERATION],
        "provider": said.get(n.GEN_AI_PROVIDER),
        "model": said.get(n.GEN_AI_REQUEST_MODEL),
        "said": said.get(n.GEN_AI_RESPONSE_MODEL),
    }
    count("gen_ai.client.operation.duration", keys(**who, error=error))
    if n.GEN_AI_TIME_TO_FIRST_CHUNK in said:
        count("gen_ai.client.operation.time_to_first_chunk", keys(**who, error=error))
    if n.CACHE_HIT not in said:
        for key, type_ in ((n.GEN_AI_INPUT_TOKENS, "input"), (n.GEN_AI_OUTPUT_TOKENS, "output")):
            if key in said:
                count("gen_ai.client.token.usage", keys(**who, type=type_), said[key])
    if said.get(n.ATTEMPT_PREDICTED_SECONDS, 0.0) >= 1e-9 and error is None:
        count("traced_router.prediction.ratio", keys(group=said[n.DEPLOYMENT_MODEL_GROUP], strategy=strategy))
    if n.ATTEMPT_COST in said:
        kind = "served" if served else "wasted"
        cost_of = keys(group=said[n.DEPLOYMENT_MODEL_GROUP], id=said[n.DEPLOYMENT_ID], kind=kind)
        count("traced_router.cost", cost_of, said[n.ATTEMPT_COST])


def approximately(found: Mapping[str, Mapping[Keys, float]]) -> dict[str, Any]:
    return {name: pytest.approx(dict(values)) for name, values in found.items()}


@pytest.fixture
def made(router: Callable[..., TracedRouter], recorder: Recorder) -> Iterator[Callable[..., TracedRouter]]:
    """Makes routers that are measured; nothing is in flight afterwards, and the trace says the same as the metrics."""

    def make(*deployments: dict[str, Any], **arguments: Any) -> TracedRouter:
        return router(*deployments, **{"meter_provider": recorder.meter_provider, **arguments})

    yield make
    gc.collect()
    found = measured(recorder)
    assert set(found.get("traced_router.inflight", {}).values()) <= {0}
    if recorder.trees():
        assert found == approximately(counted(recorder.trees()))


def deployment(provider: Any, id_: str, group: str = "gpt-4o", **params: Any) -> dict[str, Any]:
    return provider.deployment(id_, group=group, **PRICES, **params)


def chat(router: TracedRouter, **kwargs: Any) -> Any:
    return router.acompletion("gpt-4o", MESSAGES, **kwargs)


WHO = MappingProxyType({"gen_ai": "chat", "provider": "openai", "model": MODEL})


# --- the instruments -----------------------------------------------------------------------------


async def test_a_call_that_succeeds(provider, made, recorder):
    await chat(made(deployment(provider, "dep-a")))

    a = {"group": "gpt-4o", "id": "dep-a"}
    assert measured(recorder) == approximately({
        "gen_ai.client.operation.duration": {keys(**WHO, said=MODEL): 1},
        "gen_ai.client.token.usage": {
            keys(**WHO, said=MODEL, type="input"): 11,
            keys(**WHO, said=MODEL, type="output"): 7,
        },
        "traced_router.request.duration": {
            keys(operation="chat", group="gpt-4o", outcome="ok", strategy="simple-shuffle"): 1
        },
        "traced_router.selection.duration": {
            keys(group="gpt-4o", strategy="simple-shuffle", reason="only_candidate"): 1
        },
        "traced_router.attempts": {keys(**a): 1},
        "traced_router.amplification": {keys(group="gpt-4o"): 1},
        "traced_router.inflight": {keys(**a): 0},
        "traced_router.cost": {keys(**a, kind="served"): COST},
    })  # fmt: skip


async def test_durations_are_those_of_the_spans(provider, made, recorder):
    await chat(made(deployment(provider, "dep-a")))

    found, tree = recorder.metrics(), recorder.tree()
    for name, node in {
        "traced_router.request.duration": tree,
        "traced_router.selection.duration": tree.children[0],
        "gen_ai.client.operation.duration": tree.children[1],
    }.items():
        (point,) = found[name]
        assert point.sum == pytest.approx(node.seconds), name


async def test_instruments_are_what_the_table_says(provider, made, recorder):
    """Kinds, units, descriptions and buckets, as the SDK got them."""
    reader = InMemoryMetricReader()
    provider.script("dep-a", [RateLimited()])
    router = made(
        deployment(provider, "dep-a"),
        deployment(provider, "dep-b", group="b"),
        fallbacks=[{"gpt-4o": ["b"]}],
        meter_provider=MeterProvider([reader], shutdown_on_exit=False),
        tracer_provider=TracerProvider(sampler=ALWAYS_OFF),
    )
    await chat(router)

    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert scope.scope.name == "traced_router"
    assert {m.name for m in scope.metrics} == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "traced_router.request.duration",
        "traced_router.selection.duration",
        "traced_router.attempts",
        "traced_router.amplification",
        "traced_router.inflight",
        "traced_router.fallbacks",
        "traced_router.cost",
    }
    for found in scope.metrics:
        meant = n.METRICS[found.name]
        assert (found.unit, found.description) == (meant.unit, meant.doc)
        monotonic = getattr(found.data, "is_monotonic", None)
        assert {None: n.HISTOGRAM, True: n.COUNTER, False: n.UP_DOWN_COUNTER}[monotonic] == meant.kind
        for point in found.data.data_points:
            assert set(point.attributes) <= set(meant.keys)
            if meant.kind == n.HISTOGRAM:
                assert tuple(point.explicit_bounds) == meant.bounds


def test_the_table_has_the_conventions_boundaries():
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert n.METRICS["gen_ai.client.operation.duration"].bounds == seconds
    assert n.METRICS["gen_ai.client.operation.time_to_first_chunk"].bounds == seconds
    assert n.METRICS["gen_ai.client.token.usage"].bounds == tokens


# --- ways through a call -------------------------------------------------------------------------


async def test_a_retry(provider, made, recorder, waits):
    provider.script("dep-a", [RateLimited(retry_after=1)])
    await chat(made(deployment(provider, "dep-a"), num_retries=1))

    found = measured(recorder)
    a = {"group": "gpt-4o", "id": "dep-a"}
    assert found["traced_router.attempts"] == {keys(**a): 1, keys(**a, error="RateLimitError"): 1}
    assert found["traced_router.retries"] == {keys(**a, error="RateLimitError"): 1}
    assert found["traced_router.backoff.duration"] == {keys(group="gpt-4o", source="retry_after"): 1}
    assert found["gen_ai.client.operation.duration"] == {
        keys(**WHO, said=MODEL): 1,
        keys(**WHO, error="RateLimitError"): 1,
    }
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="gpt-4o", outcome="ok_after_retry", strategy="simple-shuffle"): 1
    }
    (wait,) = recorder.metrics()["traced_router.backoff.duration"]
    assert wait.sum == pytest.approx(recorder.tree().find("router.backoff")[0].seconds)


async def test_a_retry_counts_against_the_deployment_that_made_it_necessary(provider, made, recorder, waits):
    router = made(
        deployment(provider, "dep-a", weight=1),
        deployment(provider, "dep-b", weight=0),
        num_retries=1,
        cooldown_time=60,
    )
    provider.script("dep-a", [RateLimited()])
    await chat(router)

    found = measured(recorder)
    a = {"group": "gpt-4o", "id": "dep-a", "error": "RateLimitError"}
    assert found["traced_router.retries"] == {keys(**a): 1}
    assert found["traced_router.cooldowns"] == {keys(**a): 1}
    assert found["traced_router.attempts"] == {keys(**a): 1, keys(group="gpt-4o", id="dep-b"): 1}


async def test_a_fallback(provider, made, recorder, waits):
    provider.script("dep-a", [ServerError(), ServerError()])
    provider.script("dep-b", [ServerError()])
    router = made(
        deployment(provider, "dep-a"),
        deployment(provider, "dep-b", group="b"),
        num_retries=1,
        fallbacks=[{"gpt-4o": ["b"]}],
    )
    await chat(router)

    found = measured(recorder)
    assert found["traced_router.fallbacks"] == {keys(from_="gpt-4o", to="b", hop="model_group"): 1}
    assert found["traced_router.backoff.duration"] == {
        keys(group="gpt-4o", source="exponential"): 2,
        keys(group="b", source="exponential"): 1,
    }
    assert found["traced_router.cost"] == approximately({"": {keys(group="b", id="dep-b", kind="served"): COST}})[""]
    assert found["traced_router.selection.duration"] == {
        keys(group="gpt-4o", strategy="simple-shuffle", reason="only_candidate"): 2,
        keys(group="b", strategy="simple-shuffle", reason="only_candidate"): 2,
    }


async def test_all_fail(provider, made, recorder):
    provider.default("dep-a", ServerError())
    provider.default("dep-b", ServerError())
    router = made(
        deployment(provider, "dep-a"), deployment(provider, "dep-b", group="b"), fallbacks=[{"gpt-4o": ["b"]}]
    )
    with pytest.raises(litellm.InternalServerError):
        await chat(router)

    found = measured(recorder)
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="gpt-4o", outcome="error", strategy="simple-shuffle"): 1
    }
    assert found["traced_router.attempts"] == {
        keys(group="gpt-4o", id="dep-a", error="InternalServerError"): 1,
        keys(group="b", id="dep-b", error="InternalServerError"): 1,
    }
    assert "gen_ai.client.token.usage" not in found
    assert "traced_router.cost" not in found


async def test_no_deployment_is_left(provider, made, recorder):
    router = made(deployment(provider, "dep-a", tags=["else"]), enable_tag_filtering=True)
    with pytest.raises(Exception, match="tag"):
        await chat(router, metadata={"tags": ["mine"]})

    found = measured(recorder)
    (failed,) = found["traced_router.selection.duration"]
    assert dict(failed)["error.type"] == recorder.tree().children[0].attributes["error.type"]
    assert "traced_router.decision.reason" not in dict(failed)
    assert "traced_router.attempts" not in found


async def test_a_cancelled_call(provider, made, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    task = asyncio.ensure_future(chat(made(deployment(provider, "dep-a"))))
    await gate.reached()
    a = keys(group="gpt-4o", id="dep-a")
    assert measured(recorder)["traced_router.inflight"] == {a: 1}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    found = measured(recorder)
    assert found["traced_router.inflight"] == {a: 0}
    assert found["traced_router.attempts"] == {a: 1}
    assert found["gen_ai.client.operation.duration"] == {keys(**WHO): 1}
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="gpt-4o", outcome="cancelled", strategy="simple-shuffle"): 1
    }


FOUR = Answer(chunks=("a", "b", "c", "d"))


async def test_a_stream_that_is_read(provider, made, recorder):
    provider.default("dep-a", FOUR)
    stream = await chat(made(deployment(provider, "dep-a")), stream=True, stream_options={"include_usage": True})
    assert measured(recorder)["traced_router.inflight"] == {keys(group="gpt-4o", id="dep-a"): 1}
    async for _ in stream:
        pass

    found = measured(recorder)
    assert found["gen_ai.client.operation.time_to_first_chunk"] == {keys(**WHO, said=MODEL): 1}
    assert found["gen_ai.client.token.usage"] == {
        keys(**WHO, said=MODEL, type="input"): 11,
        keys(**WHO, said=MODEL, type="output"): 7,
    }
    (first,) = recorder.metrics()["gen_ai.client.operation.time_to_first_chunk"]
    attempt = recorder.tree().children[1]
    assert first.sum == pytest.approx(attempt.attributes["gen_ai.response.time_to_first_chunk"])


@pytest.mark.parametrize("way", ["left", "dropped", "never read", "cancelled"])
async def test_a_stream_that_is_not(provider, made, recorder, way):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b", "c"), hold_after_chunk=(2, gate)))
    stream = await chat(made(deployment(provider, "dep-a")), stream=True)
    if way != "never read":
        await anext(stream)
    if way == "left":
        await stream.aclose()
    elif way == "cancelled":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async for _ in stream:
                    pass
    del stream
    gc.collect()

    found = measured(recorder)
    outcome = "cancelled" if way == "cancelled" else "abandoned"
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="gpt-4o", outcome=outcome, strategy="simple-shuffle"): 1
    }
    assert found["traced_router.attempts"] == {keys(group="gpt-4o", id="dep-a"): 1}
    if way != "never read":  # 1.109 reads ahead
        assert found["gen_ai.client.operation.time_to_first_chunk"] == {keys(**WHO, said=MODEL): 1}


async def test_a_stream_that_dies_and_goes_on_elsewhere(provider, made, recorder):
    provider.script("dep-a", [DieMidStream(after_chunks=0)])
    provider.default("dep-b", FOUR)
    router = made(
        deployment(provider, "dep-a"), deployment(provider, "dep-b", group="b"), fallbacks=[{"gpt-4o": ["b"]}]
    )
    async for _ in await chat(router, stream=True):
        pass

    found = measured(recorder)
    (hop,) = found["traced_router.fallbacks"]  # 1.109 reads ahead, and falls back before the caller has the stream
    assert hop in {keys(from_="gpt-4o", to="b", hop=kind) for kind in ("mid_stream", "model_group")}
    assert len(found["traced_router.attempts"]) == 2


def test_a_synchronous_call(provider, made, recorder, waits):
    provider.script("dep-a", [ServerError()])
    made(deployment(provider, "dep-a"), num_retries=1).completion("gpt-4o", MESSAGES)

    found = measured(recorder)
    assert found["traced_router.retries"] == {keys(group="gpt-4o", id="dep-a", error="InternalServerError"): 1}


def test_a_cache_hit_has_no_tokens_and_no_cost(provider, made, recorder, monkeypatch):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    router = made(deployment(provider, "dep-a"), cache_responses=True)
    for _ in range(2):
        router.completion("gpt-4o", MESSAGES)

    assert provider.hits() == 1
    found = measured(recorder)
    assert found["traced_router.attempts"] == {keys(group="gpt-4o", id="dep-a"): 2}
    assert found["gen_ai.client.token.usage"] == {
        keys(**WHO, said=MODEL, type="input"): 11,
        keys(**WHO, said=MODEL, type="output"): 7,
    }
    assert list(found["traced_router.cost"].values()) == [pytest.approx(COST)]


async def test_a_batch_and_its_losers(provider, made, recorder):
    gate = provider.gate()
    provider.default("dep-b", Answer(hold_before=gate))
    router = made(deployment(provider, "dep-a", group="a"), deployment(provider, "dep-b", group="b"))
    await router.abatch_completion_fastest_response(model="a,b", messages=MESSAGES)
    async with asyncio.timeout(5):
        while recorder.open_spans():
            await asyncio.sleep(0)

    assert measured(recorder)["traced_router.request.duration"] == {
        keys(operation="chat", group="a", outcome="ok", strategy="simple-shuffle"): 1,
        keys(operation="chat", group="b", outcome="cancelled", strategy="simple-shuffle"): 1,
    }


async def test_embeddings(provider, made, recorder):
    model = "text-embedding-3-small"
    router = made(provider.deployment("dep-e", group="e", model=f"openai/{model}"))
    await router.aembedding("e", ["hi"])

    found = measured(recorder)
    who = {"gen_ai": "embeddings", "provider": "openai", "model": model, "said": model}
    assert found["gen_ai.client.operation.duration"] == {keys(**who): 1}
    assert found["gen_ai.client.token.usage"] == {keys(**who, type="input"): 11}
    assert found["traced_router.request.duration"] == {
        keys(operation="embeddings", group="e", outcome="ok", strategy="simple-shuffle"): 1
    }


async def test_a_call_without_a_group_on_several_deployments_at_once(provider, made, recorder):
    router = made(deployment(provider, "dep-a"), deployment(provider, "dep-b", group="b"))
    await router.aretrieve_batch(batch_id="batch-1")

    found = measured(recorder)
    (asked,) = found["traced_router.request.duration"]
    assert "traced_router.model_group" not in dict(asked)
    assert sum(found["traced_router.attempts"].values()) == 2
    assert "traced_router.retries" not in found


# --- what a strategy foresaw ---------------------------------------------------------------------


class Forecast:
    """Predicts half a second, or what it is told."""

    name = "forecast"

    def __init__(self, seconds: float | None = 0.5) -> None:
        self._seconds = seconds

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        return Decision(candidates[0].id, "lowest_score", predicted_seconds=self._seconds)

    def started(self, ticket: Ticket) -> None: ...

    def first_chunk(self, ticket: Ticket) -> None: ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None: ...


RATIO = "traced_router.prediction.ratio"


async def test_a_forecast_and_what_came(provider, made, recorder, waits):
    provider.script("dep-a", [ServerError()])
    router = made(deployment(provider, "dep-a"), routing_strategy=Forecast(), num_retries=1, resilience=False)
    await chat(router)

    (point,) = recorder.metrics()[RATIO]
    assert dict(point.attributes) == {"traced_router.model_group": "gpt-4o", "traced_router.strategy.name": "forecast"}
    assert (point.unit, point.count, point.bounds) == ("1", 1, n.METRICS[RATIO].bounds)
    assert point.sum == pytest.approx(recorder.tree().children[-1].seconds / 0.5)


@pytest.mark.parametrize("seconds", [None, 0.0, 1e-320, -1.0])
async def test_no_forecast(provider, made, recorder, seconds):
    await chat(made(deployment(provider, "dep-a"), routing_strategy=Forecast(seconds)))

    assert RATIO not in recorder.metrics()


# --- the collector -------------------------------------------------------------------------------


class Locked:
    """A meter whose instruments take one lock, as an SDK's do; and an SDK's collection, in which memory is freed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inflight = 0.0
        code = "def collect(lock, held):\n    with lock:\n        held.clear()\n"
        sdk: dict[str, Any] = {"__name__": "opentelemetry.sdk.metrics.anywhere"}
        exec(code, sdk)  # noqa: S102  # a function of that module
        self.collect = partial(sdk["collect"], self.lock)

    def get_meter(self, *_: Any, **__: Any) -> "Locked":
        return self

    def _create(self, name: str, *_: Any, **__: Any) -> Any:
        meter = self

        class Instrument:
            def add(self, amount: float, *_: Any) -> None:
                with meter.lock:
                    if name == "traced_router.inflight":
                        meter.inflight += amount

            record = add

        return Instrument()

    create_counter = create_up_down_counter = create_histogram = _create


def test_a_stream_that_is_collected_in_the_midst_of_an_export(provider, router, recorder):
    """The thread that exports holds a lock which measuring needs: whoever waits for it there waits forever."""
    provider.default("dep-a", FOUR)
    meters = Locked()
    made = router(deployment(provider, "dep-a"), meter_provider=meters)
    held = [made.completion("gpt-4o", MESSAGES, stream=True)]
    assert meters.inflight == 1
    meters.collect(held)

    recorder.wait_for_end(3)
    assert recorder.tree().attributes["traced_router.outcome"] == "abandoned"
    assert meters.inflight == 0


# --- names ---------------------------------------------------------------------------------------


async def test_an_unknown_group_is_other(provider, made, recorder):
    router = made(deployment(provider, "dep-a"))
    for i in range(3):
        with pytest.raises(litellm.BadRequestError):
            await router.acompletion(f"mistyped-{i}", MESSAGES)

    found = measured(recorder)
    recorder.clear()
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="_other", outcome="error", strategy="simple-shuffle"): 3
    }
    assert [dict(s)["traced_router.model_group"] for s in found["traced_router.selection.duration"]] == ["_other"]


async def test_an_alias_is_a_configured_name(provider, made, recorder):
    router = made(deployment(provider, "dep-a"), model_group_alias={"smart": "gpt-4o"})
    await router.acompletion("smart", MESSAGES)

    (asked,) = measured(recorder)["traced_router.request.duration"]
    assert dict(asked)["traced_router.model_group"] == "smart"


async def test_a_wildcard_s_model_is_the_caller_s_and_not_said(provider, made, recorder):
    router = made(provider.deployment("dep-w", group="openai/*", model="openai/*"))
    for i in range(3):
        await router.acompletion(f"openai/own-{i}", MESSAGES)

    found = measured(recorder)
    recorder.clear()
    said = {"gen_ai": "chat", "provider": "openai", "model": "_other", "said": "_other"}
    assert found["gen_ai.client.operation.duration"] == {keys(**said): 3}
    assert found["traced_router.attempts"] == {keys(group="_other", id="dep-w"): 3}


async def test_a_provider_that_makes_up_names(provider, made, recorder):
    router = made(deployment(provider, "dep-a"))
    provider.script("dep-a", [Answer(response_model=f"{MODEL}-{i}") for i in (0, 1, 2, 3, 4, 5, 0)])
    for _ in range(8):
        await chat(router)

    found = measured(recorder)["gen_ai.client.operation.duration"]
    recorder.clear()
    said = {dict(by)["gen_ai.response.model"]: times for by, times in found.items()}
    assert said == {f"{MODEL}-0": 2, f"{MODEL}-1": 1, f"{MODEL}-2": 1, f"{MODEL}-3": 1, "_other": 2, MODEL: 1}


@pytest.mark.filterwarnings(r"ignore:Router\.\w+ is deprecated:DeprecationWarning")  # the test's own
async def test_a_deployment_that_is_gone_leaves_by_the_name_it_came_with(provider, made, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    router = made(deployment(provider, "dep-a"), deployment(provider, "dep-b", group="b"))
    task = asyncio.ensure_future(chat(router))
    await gate.reached()
    router.delete_deployment(id="dep-a")
    gate.open()
    await task
    a = keys(group="gpt-4o", id="dep-a")
    assert measured(recorder)["traced_router.inflight"] == {a: 0}
    recorder.clear()

    names = router._traced_router.metrics._names
    assert names.deployment(DeploymentFacts("dep-a", MODEL, "openai")) == ("_other", "_other", "_other")
    assert names.deployment(DeploymentFacts()) == (None, None, None)
    router._traced_router.cooled_down("dep-a", 60.0, None)
    assert measured(recorder)["traced_router.cooldowns"] == {keys(id="_other"): 1}
    recorder.clear()


# --- whatever becomes of the trace ---------------------------------------------------------------


@pytest.fixture
def unseen() -> Recorder:
    """Records no span at all."""
    return Recorder(ALWAYS_OFF)


@pytest.mark.parametrize("tracing", ["sampled out", "no SDK"])
async def test_without_a_trace(provider, made, recorder, waits, tracing):
    provider.script("dep-a", [RateLimited()])
    router = made(
        deployment(provider, "dep-a"),
        num_retries=1,
        tracer_provider=TracerProvider(sampler=ALWAYS_OFF) if tracing == "sampled out" else None,
    )
    await chat(router)

    assert recorder.trees() == ()
    found = measured(recorder)
    a = {"group": "gpt-4o", "id": "dep-a"}
    assert found["traced_router.attempts"] == {keys(**a): 1, keys(**a, error="RateLimitError"): 1}
    assert found["traced_router.retries"] == {keys(**a, error="RateLimitError"): 1}
    assert found["gen_ai.client.token.usage"] == {
        keys(**WHO, said=MODEL, type="input"): 11,
        keys(**WHO, said=MODEL, type="output"): 7,
    }
    assert found["traced_router.cost"] == {keys(**a, kind="served"): pytest.approx(COST)}
    assert found["traced_router.request.duration"] == {
        keys(operation="chat", group="gpt-4o", outcome="ok_after_retry", strategy="simple-shuffle"): 1
    }


@pytest.mark.parametrize(
    "provider_of_meters", [None, metrics.NoOpMeterProvider(), "disabled"], ids=["proxy", "no-op", "disabled"]
)
async def test_without_an_sdk_nothing_is_followed(provider, monkeypatch, provider_of_meters):
    ran: list[str] = []
    monkeypatch.setattr(_readers, "answer", lambda *_: ran.append("answer"))
    if provider_of_meters == "disabled":
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        provider_of_meters = MeterProvider(shutdown_on_exit=False)
    router = TracedRouter(model_list=[deployment(provider, "dep-a")], meter_provider=provider_of_meters)
    await chat(router)

    assert ran == []
    assert router._traced_router.metrics.in_force() is None
    router._traced_router.cooled_down("dep-a", 60.0, None)


async def test_a_provider_that_is_installed_late(provider, router, recorder, monkeypatch):
    made = router(deployment(provider, "dep-a"))
    await chat(made)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: recorder.meter_provider)
    await chat(made)
    await chat(made)

    assert measured(recorder)["traced_router.attempts"] == {keys(group="gpt-4o", id="dep-a"): 2}


async def test_a_call_ends_where_it_began(provider, router, recorder, monkeypatch):
    """A provider that is replaced while a call runs: what is in flight comes down where it went up."""
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    later = Recorder()
    now = [recorder.meter_provider]
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: now[0])
    task = asyncio.ensure_future(chat(router(deployment(provider, "dep-a"))))
    await gate.reached()
    now[0] = later.meter_provider
    gate.open()
    await task

    assert measured(recorder)["traced_router.inflight"] == {keys(group="gpt-4o", id="dep-a"): 0}
    assert later.metrics() == {}


async def test_two_routers_share_the_instruments(provider, made, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    tasks = [asyncio.ensure_future(chat(made(deployment(provider, "dep-a")), user=str(i))) for i in range(2)]
    await gate.reached(count=2)
    a = keys(group="gpt-4o", id="dep-a")
    assert measured(recorder)["traced_router.inflight"] == {a: 2}
    gate.open()
    await asyncio.gather(*tasks)

    assert measured(recorder)["traced_router.attempts"] == {a: 2}


# --- exemplars -----------------------------------------------------------------------------------


async def test_exemplars_lead_to_the_span_that_was_measured(provider, made, recorder, waits):
    reader = InMemoryMetricReader()
    router = made(
        deployment(provider, "dep-a"),
        deployment(provider, "dep-b", group="b"),
        num_retries=1,
        fallbacks=[{"gpt-4o": ["b"]}],
        meter_provider=MeterProvider([reader], shutdown_on_exit=False),
    )
    provider.script("dep-a", [RateLimited(), ServerError()])
    await chat(router)

    (tree,) = recorder.trees()
    spans = {node.span_id: node.name for node in tree.walk()}
    linked: dict[str, set[str]] = {}
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            for exemplar in point.exemplars:
                assert exemplar.trace_id == tree.trace_id
                linked.setdefault(metric.name, set()).add(spans[exemplar.span_id].split()[0])
    assert linked == {
        "gen_ai.client.operation.duration": {"chat"},
        "gen_ai.client.token.usage": {"chat"},
        "traced_router.request.duration": {"router.chat"},
        "traced_router.selection.duration": {"router.select"},
        "traced_router.attempts": {"chat"},
        "traced_router.amplification": {"router.chat"},
        "traced_router.retries": {"chat"},
        "traced_router.inflight": {"chat"},
        "traced_router.cost": {"chat"},
        "traced_router.fallbacks": {"router.fallback"},
        "traced_router.backoff.duration": {"router.backoff"},
    }
    recorder.clear()


# --- faults --------------------------------------------------------------------------------------


class BrokenError(Exception):
    """A fault in somebody's telemetry."""


class Broken:
    """Works until somebody measures; a meter and its instruments in one. ``faulty`` instruments raise."""

    def __init__(self, *faulty: str) -> None:
        self._faulty = faulty
        self.added: Counter[str] = Counter()

    def get_meter(self, *_: Any, **__: Any) -> "Broken":
        if not self._faulty:
            raise BrokenError
        return self

    def _create(self, name: str, *_: Any, **__: Any) -> Any:
        meter = self

        class Instrument:
            def add(self, amount: float, *_: Any) -> None:
                if name in meter._faulty:
                    raise BrokenError
                meter.added[name] += amount

            record = add

        return Instrument()

    create_counter = create_up_down_counter = create_histogram = _create


@pytest.mark.usefixtures("tracing_may_fail")
@pytest.mark.parametrize("faulty", [(), *((name,) for name in n.METRICS)], ids=lambda names: "".join(names) or "meter")
async def test_a_broken_meter_never_reaches_the_caller(provider, router, recorder, waits, faulty):
    provider.script("dep-a", [RateLimited(retry_after=1), ServerError()])
    provider.script("dep-b", [ServerError()])
    meters = Broken(*faulty)
    made = router(
        deployment(provider, "dep-a"),
        deployment(provider, "dep-b", group="b"),
        num_retries=1,
        model_group_alias={"again": "gpt-4o"},
        fallbacks=[{"gpt-4o": ["b", "again"]}],
        meter_provider=meters,
        routing_strategy=Forecast(),
        resilience=ResilienceOptions(retry_ratio=0.0, retries_per_second=0.1),
    )
    answer = await chat(made, stream=True, stream_options={"include_usage": True})
    async for _ in answer:
        pass

    assert provider.hits() == 4
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_fallback"
    assert meters.added["traced_router.inflight"] == 0
    faults = made._traced_router.guard.faults
    harmless = faulty in {
        ("traced_router.cooldowns",),
        ("traced_router.hedges",),
        ("traced_router.tracing.errors",),
        ("traced_router.live_check.violations",),
    }
    assert (faults == 0) if harmless else (faults >= 1)
    if faulty != ("traced_router.tracing.errors",) and faulty:
        assert meters.added["traced_router.tracing.errors"] == faults


async def test_many_attribute_sets_are_forgotten_and_made_anew(provider, made, recorder, monkeypatch):
    from traced_router import _metrics

    monkeypatch.setattr(_metrics, "MAX_SETS", 1)
    router = made(deployment(provider, "dep-a"), deployment(provider, "dep-b", group="b"))
    for group in ("gpt-4o", "b", "gpt-4o"):
        await router.acompletion(group, MESSAGES)

    assert measured(recorder)["traced_router.attempts"] == {
        keys(group="gpt-4o", id="dep-a"): 2,
        keys(group="b", id="dep-b"): 1,
    }
