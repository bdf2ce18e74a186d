"""What is measured of a router's calls, whatever the traces' sampling.

    Metrics ── in_force() ──> Measures                  the instruments of the provider in force now
                                │ ── attempt() ──> Meter  one attempt: in flight until it has ended
                                │ ── selected(), backed_off(), asked_for_a_retry(), fell_back(), cooled_down(), ended()

The tree tells what happened and hands over the context of the span that it happened in, so that an
exemplar leads to it. Names are of the router's configuration, or ``_other``; a fault stays here.
This module knows OpenTelemetry's API and must not know litellm; nothing of a call's content, and
nothing that its caller made up, may get here.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, MeterProvider, UpDownCounter

from traced_router import _names as n
from traced_router._attributes import SECONDS, text
from traced_router._facts import AnswerFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router._guard import Guard, fails_open

if TYPE_CHECKING:
    from traced_router._ledger import Ledger
    from traced_router._spans import Attempt

INSTRUMENTATION: Final = "traced_router"

MAX_SETS: Final = 4096
"""Attribute sets that an instrument's are remembered of; then they are made anew."""
MAX_RESPONSE_MODELS: Final = 4
"""Names other than its own under which a model may answer; a provider can make up more."""
MAX_RESPONSE_MODEL: Final = 128
"""Characters of such a name."""

Keys: TypeAlias = Mapping[str, str]


class Names(Protocol):
    """The names that metrics may say."""

    def group(self, name: str | None) -> str | None:
        """A model group, as metrics may say it."""
        ...

    def group_of(self, deployment_id: str) -> str | None:
        """The group of a deployment."""
        ...

    def deployment(self, facts: DeploymentFacts) -> tuple[str | None, str | None, str | None]:
        """Id, provider and model of a deployment."""
        ...


class Metrics:
    """The measurements of one router.

    Args:
        provider: the meter provider in force now; asked at every call, so that one which is
            installed after the router was built works.
        names: what may be said.
        guard: where faults go.
    """

    __slots__ = ("_measures", "_names", "_provider", "_provider_of", "guard")

    def __init__(self, provider: Callable[[], MeterProvider], names: Names, guard: Guard) -> None:
        self._provider = provider
        self._names = names
        self.guard = guard
        self._measures: Measures | None = None
        self._provider_of: object = None

    @fails_open("metrics")
    def in_force(self) -> "Measures | None":
        """Where a call that begins now is measured; ``None`` when nobody measures."""
        provider = self._provider()
        if provider is not self._provider_of:
            self._measures = self._of(provider)
            self._provider_of = provider
        return self._measures

    def _of(self, provider: MeterProvider) -> "Measures | None":
        # The API's own providers stand for an SDK that nobody has installed.
        if type(provider).__module__.startswith("opentelemetry.metrics."):
            return None
        meter = provider.get_meter(INSTRUMENTATION)
        return None if isinstance(meter, metrics.NoOpMeter) else Measures(meter, self._names, self.guard)


class _Sets:
    """The attribute sets of one instrument, each made once."""

    __slots__ = ("_keys", "_made")

    def __init__(self, name: str) -> None:
        self._keys = n.METRICS[name].keys
        self._made: dict[tuple[str | None, ...], Keys] = {}

    def __call__(self, *values: str | None) -> Keys:
        """The set in which each key has its value; what is unknown is left out."""
        found = self._made.get(values)
        if found is None:
            if len(self._made) >= MAX_SETS:
                self._made.clear()
            found = {key: value for key, value in zip(self._keys, values, strict=True) if value is not None}
            self._made[values] = found
        return found


class _Histogram:
    """A histogram and its attribute sets."""

    __slots__ = ("of", "record")

    def __init__(self, meter: metrics.Meter, name: str) -> None:
        metric = n.METRICS[name]
        made: Histogram = meter.create_histogram(
            name, metric.unit, metric.doc, explicit_bucket_boundaries_advisory=metric.bounds
        )
        self.record = made.record
        self.of = _Sets(name)


class _Sum:
    """A counter, or one that goes down too, and its attribute sets."""

    __slots__ = ("add", "of")

    def __init__(self, meter: metrics.Meter, name: str) -> None:
        metric = n.METRICS[name]
        create = meter.create_counter if metric.kind == n.COUNTER else meter.create_up_down_counter
        made: Counter | UpDownCounter = create(name, metric.unit, metric.doc)
        self.add = made.add
        self.of = _Sets(name)


class Measures:
    """The instruments of one meter provider, for one router.

    Args:
        meter: makes them.
        names: what may be said.
        guard: where faults go.
    """

    __slots__ = (
        "_answered_as",
        "amplification",
        "attempts",
        "backoff",
        "budget",
        "cooldowns",
        "cost",
        "cycles",
        "denied",
        "early",
        "fallbacks",
        "first_chunk",
        "guard",
        "hedges",
        "inflight",
        "names",
        "operation",
        "prediction",
        "request",
        "retries",
        "selection",
        "tokens",
    )

    def __init__(self, meter: metrics.Meter, names: Names, guard: Guard) -> None:
        self.names = names
        self.guard = guard
        self.operation = _Histogram(meter, n.METRIC_OPERATION_DURATION)
        self.tokens = _Histogram(meter, n.METRIC_TOKEN_USAGE)
        self.first_chunk = _Histogram(meter, n.METRIC_TIME_TO_FIRST_CHUNK)
        self.request = _Histogram(meter, n.METRIC_REQUEST_DURATION)
        self.selection = _Histogram(meter, n.METRIC_SELECTION_DURATION)
        self.backoff = _Histogram(meter, n.METRIC_BACKOFF_DURATION)
        self.prediction = _Histogram(meter, n.METRIC_PREDICTION_RATIO)
        self.amplification = _Histogram(meter, n.METRIC_AMPLIFICATION)
        self.budget = _Histogram(meter, n.METRIC_RETRY_BUDGET_LEFT)
        self.attempts = _Sum(meter, n.METRIC_ATTEMPTS)
        self.retries = _Sum(meter, n.METRIC_RETRIES)
        self.cooldowns = _Sum(meter, n.METRIC_COOLDOWNS)
        self.fallbacks = _Sum(meter, n.METRIC_FALLBACKS)
        self.denied = _Sum(meter, n.METRIC_RETRIES_DENIED)
        self.early = _Sum(meter, n.METRIC_RETRY_AFTER_VIOLATIONS)
        self.cycles = _Sum(meter, n.METRIC_FALLBACK_CYCLES)
        self.hedges = _Sum(meter, n.METRIC_HEDGES)
        self.inflight = _Sum(meter, n.METRIC_INFLIGHT)
        self.cost = _Sum(meter, n.METRIC_COST)
        self._answered_as: dict[str, set[str]] = {}

    # --- of a call -------------------------------------------------------------------------------

    @fails_open("metrics")
    def selected(
        self,
        context: Context,
        group: str,
        strategy: str | None,
        decision: DecisionFacts | None,
        failure: FailureFacts | None,
        nanoseconds: int,
    ) -> None:
        """A pick is over: with a decision, with a failure, or because the caller left."""
        reason = None if decision is None or failure is not None else decision.reason
        error_type = None if failure is None else failure.error_type
        histogram = self.selection
        histogram.record(
            nanoseconds * SECONDS, histogram.of(self.names.group(group), strategy, reason, error_type), context
        )

    @fails_open("metrics")
    def backed_off(self, context: Context, group: str | None, source: str, nanoseconds: int) -> None:
        """A wait is over."""
        self.backoff.record(nanoseconds * SECONDS, self.backoff.of(self.names.group(group), source), context)

    @fails_open("metrics")
    def fell_back(
        self, context: Context, from_group: str | None, to_group: str, kind: str, *, in_a_circle: bool
    ) -> None:
        """A hop begins, to a group that has failed this request where it goes in a circle."""
        left, reached = self.names.group(from_group), self.names.group(to_group)
        self.fallbacks.add(1, self.fallbacks.of(left, reached, kind), context)
        if in_a_circle:
            self.cycles.add(1, self.cycles.of(left, reached), context)

    @fails_open("metrics")
    def asked_for_a_retry(
        self, context: Context, left: int, group: str | None, before: "Attempt | None", *, allowed: bool
    ) -> None:
        """The retry budget was asked for a retry of ``group``, and has ``left`` more."""
        self.budget.record(left, self.budget.of(), context)
        if not allowed:
            meter, error_type = (None, None) if before is None else (before.meter, before.error_type)
            who = (self.names.group(group), None) if meter is None else (meter.group, meter.id)
            self.denied.add(1, self.denied.of(*who, error_type), context)

    @fails_open("metrics")
    def hedged(self, context: Context, group: str | None, deployment_id: str | None, outcome: str) -> None:
        """A hedge has won or lost, or was not sent (``denied``)."""
        known = deployment_id if deployment_id is None or self.names.group_of(deployment_id) is not None else n.OTHER
        self.hedges.add(1, self.hedges.of(self.names.group(group), known, outcome), context)

    @fails_open("metrics")
    def cooled_down(self, context: Context | None, deployment_id: str, error_type: str | None) -> None:
        """A deployment has been put into cooldown."""
        group = self.names.group_of(deployment_id)
        known = n.OTHER if group is None else deployment_id
        self.cooldowns.add(1, self.cooldowns.of(group, known, error_type), context)

    @fails_open("metrics")
    def ended(
        self,
        context: Context,
        operation: str,
        group: str | None,
        strategy: str | None,
        ledger: "Ledger",
        how: str,
        nanoseconds: int,
    ) -> None:
        """A request is over, and with it is known who served it."""
        served = ledger.served(how)
        keys = self.request.of(operation, self.names.group(group), ledger.outcome(how, served), strategy)
        self.request.record(nanoseconds * SECONDS, keys, context)
        calls: dict[str | None, int] = {}
        for attempt in ledger.attempts:
            meter = attempt.meter
            if meter is None:
                continue
            if attempt.cost is not None:
                meter.cost(attempt.cost, "served" if attempt is served else "wasted")
            if not attempt.cached:
                calls[meter.group] = calls.get(meter.group, 0) + 1
        for of_group, count in calls.items():
            self.amplification.record(count, self.amplification.of(of_group), context)

    # --- of an attempt ---------------------------------------------------------------------------

    @fails_open("metrics")
    def attempt(
        self, attempt: "Attempt", operation: str, before: "Attempt | None", decision: DecisionFacts | None
    ) -> "Meter":
        """An attempt begins.

        Args:
            attempt: it.
            operation: of its call.
            before: the attempt that it repeats.
            decision: the pick that it may follow.
        """
        group = self.names.group(attempt.model_group)
        meter = Meter(self, attempt.context, group, operation, *self.names.deployment(attempt.deployment))
        if decision is not None and decision.chosen_id == attempt.deployment.id:
            meter.predicted, meter.strategy = decision.predicted_seconds, decision.strategy
        if before is not None and before.meter is not None:
            was = before.meter
            self.retries.add(1, self.retries.of(was.group, was.id, before.error_type), attempt.context)
        self.inflight.add(1, self.inflight.of(group, meter.id), attempt.context)
        return meter

    def response_model(self, model: str | None, said: str | None) -> str | None:
        """The model that a provider says answered, as metrics may say it."""
        if said is None or said == model:
            return said
        if model is None or model == n.OTHER:
            return n.OTHER
        name, known = text(said, MAX_RESPONSE_MODEL), self._answered_as.setdefault(model, set())
        if name not in known:
            if len(known) >= MAX_RESPONSE_MODELS:
                return n.OTHER
            known.add(name)
        return name


class Meter:
    """One attempt's measurements. It is in flight until :meth:`ended`, by the names that it began with."""

    __slots__ = (
        "_context",
        "_measures",
        "_model",
        "_operation",
        "_provider",
        "group",
        "guard",
        "id",
        "predicted",
        "strategy",
    )

    def __init__(
        self,
        measures: Measures,
        context: Context,
        group: str | None,
        operation: str,
        id_: str | None,
        provider: str | None,
        model: str | None,
    ) -> None:
        self.guard = measures.guard
        self.group = group
        self.id = id_
        self.predicted: float | None = None
        self.strategy: str | None = None
        self._measures = measures
        self._context = context
        self._operation = operation
        self._provider = provider
        self._model = model

    @fails_open("metrics")
    def ended(
        self,
        answer: AnswerFacts | None,
        error_type: str | None,
        nanoseconds: int,
        first_chunk_ns: int | None,
        answered_ns: int | None,
    ) -> None:
        """The attempt is over.

        Args:
            answer: what is known of its answer; of a stream that was left or died, too.
            error_type: of a failure.
            nanoseconds: the length of its span.
            first_chunk_ns: from its beginning to the first content of a stream.
            answered_ns: how long it kept its provider busy, when it has succeeded.
        """
        measures, context = self._measures, self._context
        measures.inflight.add(-1, measures.inflight.of(self.group, self.id), context)
        measures.attempts.add(1, measures.attempts.of(self.group, self.id, error_type), context)
        said = None if answer is None else measures.response_model(self._model, answer.response_model)
        who = (self._operation, self._provider, self._model, said)
        measures.operation.record(nanoseconds * SECONDS, measures.operation.of(*who, error_type), context)
        if first_chunk_ns is not None:
            measures.first_chunk.record(first_chunk_ns * SECONDS, measures.first_chunk.of(*who, error_type), context)
        if answer is None or answer.cache_hit:
            return
        if answer.input_tokens is not None:
            measures.tokens.record(answer.input_tokens, measures.tokens.of(*who, "input"), context)
        if answer.output_tokens is not None:
            measures.tokens.record(answer.output_tokens, measures.tokens.of(*who, "output"), context)
        if answered_ns is not None and self.predicted is not None and self.predicted >= SECONDS:  # a nanosecond
            ratio = answered_ns * SECONDS / self.predicted
            measures.prediction.record(ratio, measures.prediction.of(self.group, self.strategy), context)

    @fails_open("metrics")
    def came_early(self) -> None:
        """The attempt was earlier than its deployment had asked for."""
        measures = self._measures
        measures.early.add(1, measures.early.of(self.group, self.id), self._context)

    @fails_open("metrics")
    def cost(self, dollars: float, kind: str) -> None:
        """The request is over: what this attempt cost was ``served`` or ``wasted``."""
        measures = self._measures
        measures.cost.add(dollars, measures.cost.of(self.group, self.id, kind), self._context)
