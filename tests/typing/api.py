"""What users write against the public types. Checked by mypy and pyright, never run."""

import logging
import random
from collections.abc import Mapping, Sequence
from typing import assert_type

from litellm.router import Router
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

from traced_router import (
    Candidate,
    ConfigurationError,
    Decision,
    Outcome,
    RequestSummary,
    RoutingRequest,
    RoutingStrategy,
    SharedState,
    Telemetry,
    Ticket,
    TracedRouter,
    TracedRouterError,
    TracedRouterSettings,
    configure,
    last_request,
    logs,
)
from traced_router.sampling import KeepHintProcessor, KeepRules, SamplingBounds, SamplingOptions, SamplingProcessor


class Lottery:
    """A strategy needs no base class."""

    name = "lottery"

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        if request.stream and request.input_size is not None:
            return Decision(candidates[0].id, "cold_start", attributes={"input_size": request.input_size, "new": True})
        return Decision(self._rng.choice(candidates).id, "weighted_random", rank_by="random")

    def started(self, ticket: Ticket) -> None:
        ticket.state = ticket.started_at

    def first_chunk(self, ticket: Ticket) -> None: ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        assert_type(outcome.time_to_first_chunk, float | None)

    def export_state(self) -> Mapping[str, Sequence[float]]:
        return {"id": (1.0, 2.0)}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None: ...


strategy: RoutingStrategy = Lottery(rng=random.Random(1))
shared: SharedState = Lottery()

plain: Router = TracedRouter()
assert_type(configure("shop", resource_attributes={"team": "search"}).force_flush(timeout=5), bool)
telemetry: Telemetry = configure(sampling=0.01)
with_ids: logging.Filter = logs.CallIds(missing=None, fields=["litellm_trace_id"])
assert_type(logs.install().uninstall(), None)
assert_type(logs.current_ids(), dict[str, str])
router = TracedRouter(
    [{"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}}],
    num_retries=2,
    fallbacks=[{"gpt-4o": ["claude-sonnet"]}],
    tracer_provider=TracerProvider(),
    meter_provider=MeterProvider(),
    settings=TracedRouterSettings(list_candidates=True),
)
TracedRouter(routing_strategy="least-busy", settings={"max_string_length": 256})
TracedRouter(routing_strategy=strategy)


def on_end(summary: RequestSummary) -> Mapping[str, str | float | bool] | None:
    assert_type(summary.attempts[0].error_type, str | None)
    assert_type(summary.decisions[0].candidates[0].score, float | None)
    return {"app.saved": summary.outcome != "ok", "app.cost": summary.cost_total or 0.0}


TracedRouter(attributes={"app.team": "search", "app.tier": 1}, on_request_end=on_end)
TracedRouter(on_request_end=lambda summary: {"app.outcome": summary.outcome})
assert_type(last_request(), RequestSummary | None)

# A hook that would have to be awaited is refused.


async def awaited(summary: RequestSummary) -> None: ...


TracedRouter(on_request_end=awaited)  # type: ignore[arg-type]

# A candidate is a value: it does not change.
Candidate("id").weight = 2.0  # type: ignore[misc]

# A reason that the contract does not name is refused.
Decision("id", "gut_feeling")  # type: ignore[arg-type]

try:
    TracedRouter(settings={"no_such_setting": True})
except ConfigurationError as error:
    as_value: ValueError = error
    as_root: TracedRouterError = error

options = SamplingOptions(share=0.01, keep=KeepRules(slow_seconds=30), bounds=SamplingBounds(then="decide"))
sampling = SamplingProcessor(BatchSpanProcessor(ConsoleSpanExporter()), options, clock=lambda: 0.0)
assert_type(sampling.counts.kept_requests, Mapping[str, int])
processors: Sequence[SpanProcessor] = [sampling, KeepHintProcessor(SimpleSpanProcessor(ConsoleSpanExporter()))]
