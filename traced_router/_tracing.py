"""One router's tracing: what its overrides share, and how a call goes in and out.

    edge (public method) ── enter() ──> Edge: the request span, and the scope of a call that
                                        bypasses litellm's chain
    chain of overrides   ── scopes, hops, selections, waits ──> the tree
    edge                 <── returned() / raised() ──

An adapter between :mod:`traced_router._router`, which knows where litellm can be hooked, and the
tree, which knows spans.
"""

import asyncio
import functools
import itertools
import logging
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, Tracer

from traced_router import _litellm as seams
from traced_router import _log_lines, _readers
from traced_router._arguments import Arguments
from traced_router._attributes import Limits
from traced_router._capture import Capture
from traced_router._configured import Configured
from traced_router._countdown import Countdown
from traced_router._current import attach, detach
from traced_router._enrichment import Enrichment
from traced_router._facts import CallFacts
from traced_router._frame import Frame, Outside, current_frame, with_frame
from traced_router._guard import Guard, fails_open
from traced_router._hedging import Hedging
from traced_router._log_lines import logger
from traced_router._metrics import INSTRUMENTATION, Metrics
from traced_router._model_info import ModelInfos
from traced_router._policies import Policies, policies_of
from traced_router._propagation import parent_context, put_headers
from traced_router._scope import Scope, current_scope
from traced_router._spans import Attempt
from traced_router._strategies import Strategies
from traced_router._streams import follow, is_stream
from traced_router._summaries import remember
from traced_router._tree import Batch, Call, Tree, Unrecorded
from traced_router._values import wording
from traced_router.deadline import Deadlines, deadlines_of, of_group
from traced_router.hedging import Hedges, hedges_of
from traced_router.settings import ContentCapture, TracedRouterSettings
from traced_router.vocabularies import named

PULL: Final = object()
"""Owner of the frame that is current while the caller pulls a stream."""

HANDED: Final = "_traced_router_context"
"""A private parameter of a call, between two of our own overrides."""


RETRYING: Final = "retrying"
DEADLINE: Final = "deadline"
HEDGING: Final = "hedging"
"""Arguments of a call that are ours."""


class Wishes(NamedTuple):
    """What a call is to do about failures, how long it may take, and when it is hedged; all by model group."""

    policies: Policies
    deadlines: Deadlines
    hedges: Hedges


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a call that outlives it: a root of its own, linked to the call."""

    origin: SpanContext | None


@dataclass(frozen=True, slots=True)
class FallbackPlan:
    """What litellm falls back with, from one failure: enough to tell the kind of each hop."""

    error: BaseException | None
    groups: tuple[str, ...]
    fallbacks: object
    context_window_fallbacks: object
    content_policy_fallbacks: object
    mid_stream: bool

    def kind(self, hop: Mapping[str, object]) -> str:
        """The kind of the hop that is called with ``hop``."""
        if self.mid_stream:
            return "mid_stream"
        if hop.get("model") in self.groups:  # litellm leaves these two in a hop to another group, too
            if hop.get(seams.TARGET_ORDER) is not None:
                return "order"
            if hop.get(seams.EXCLUDED_IDS):
                return "weighted"
        return self._to_another_group()

    def _to_another_group(self) -> str:
        if seams.is_inline_fallbacks(self.fallbacks):
            return seams.PLAIN_FALLBACK
        if seams.is_context_window(self.error) and self.context_window_fallbacks is not None:
            return "context_window"
        if seams.is_content_policy(self.error) and self.content_policy_fallbacks is not None:
            return "content_policy"
        return seams.PLAIN_FALLBACK if seams.specific_fallback(self.fallbacks, self.groups) else "default"


class RouterTracing:
    """The tracing of one router.

    Args:
        router: whose tracing this is, litellm's or the core of a hosted one; held weakly.
        arguments: the constructor's own; where there is no provider, the global one at the time of each call counts.
        settings: in force for this router.
        capabilities: how much of each layer the core underneath can show.
        engine: that core's name.
    """

    def __init__(
        self,
        router: object,
        arguments: Arguments,
        settings: TracedRouterSettings,
        capabilities: Mapping[seams.Layer, seams.Level],
        engine: str,
    ) -> None:
        self._tracer_provider = arguments.tracer_provider
        self._meter_provider = arguments.meter_provider
        self._tracer: Tracer | None = None
        self._tracer_of: object = None
        self._cooling: dict[str, float] = {}
        self._cooling_lock = threading.Lock()
        self.capabilities = capabilities
        self.guard = Guard(self._meters)
        self.reader = _readers.DeploymentReader()
        self.names = Configured(router, self.reader)
        self.metrics = Metrics(self._meters, self.names, self.guard)
        lacking = tuple(f"{layer}={level}" for layer, level in capabilities.items() if level != "full")
        self.tree = Tree(
            self._current_tracer,
            self.guard,
            measures=self.metrics.in_force,
            limits=Limits(settings.max_string_length, settings.list_candidates, settings.llm_spans),
            engine=engine if lacking else None,
            capabilities=lacking,
            on_end=arguments.on_request_end,
            vocabularies=named(settings.vocabularies if arguments.vocabularies is None else arguments.vocabularies),
        )
        resilience = settings.resilience if arguments.resilience is None else arguments.resilience
        self.capture = self._capture(arguments, settings)
        self.strategies = Strategies(self.guard, resilience, router)
        self.model_infos = ModelInfos()
        self._enrichment = Enrichment(
            settings.attributes if arguments.attributes is None else arguments.attributes,
            settings.metadata_attributes,
            settings.max_string_length,
        )
        self.policies = policies_of(settings.retrying if arguments.retrying is None else arguments.retrying)
        self._deadlines = deadlines_of(settings.deadline if arguments.deadline is None else arguments.deadline)
        self.hedges = hedges_of(settings.hedging if arguments.hedging is None else arguments.hedging)
        self.hedging = Hedging()

    def _capture(self, arguments: Arguments, settings: TracedRouterSettings) -> Capture | None:
        """What is done with content; ``None`` when it is off, as it is where others make the LLM spans."""
        mode = settings.capture_content
        if mode is ContentCapture.NO_CONTENT or not settings.llm_spans:
            return None
        given = arguments.logger_provider
        return Capture(
            mode, settings.max_content_length, arguments.redactor, self.guard, lambda: given or get_logger_provider()
        )

    def _meters(self) -> metrics.MeterProvider:
        return self._meter_provider or metrics.get_meter_provider()

    def _current_tracer(self) -> Tracer:
        provider = self._tracer_provider or trace.get_tracer_provider()
        if self._tracer is None or provider is not self._tracer_of:
            self._tracer = provider.get_tracer(INSTRUMENTATION)
            self._tracer_of = provider
            self.tree.open_ends.before_all_so_far()
        return self._tracer

    # --- in ------------------------------------------------------------------------------------

    def take(self, kwargs: MutableMapping[str, Any]) -> "Wishes | None":
        """What a call says of retries, deadlines and hedges, which no provider must see, over what the router says.

        Raises:
            ConfigurationError: it cannot be used.
        """
        retrying, deadline, hedging = kwargs.pop(RETRYING, None), kwargs.pop(DEADLINE, None), kwargs.pop(HEDGING, None)
        said = retrying is not None or deadline is not None or hedging is not None
        if not (said or self.policies or self._deadlines or self.hedges):
            return None
        return Wishes(
            self.policies if retrying is None else policies_of(retrying),
            self._deadlines if deadline is None else deadlines_of(deadline),
            self.hedges if hedging is None else hedges_of(hedging),
        )

    @fails_open("request")
    def enter(
        self,
        router: object,
        operation: str,
        model: object,
        kwargs: Mapping[str, object],
        wishes: "Wishes | None" = None,
        *,
        blocking: bool = False,
    ) -> "Edge | UnrecordedEdge | None":
        """A public method is called; ``None`` when it is part of a call that is traced already."""
        frame = current_frame()
        if frame is not None and isinstance(frame.call, Call) and self._delegates(frame.call, operation):
            return None
        links, context = self._origin(frame, kwargs)
        facts = self._facts(router, operation, model, kwargs)
        countdown: Countdown | None = None
        deadline = None if wishes is None else of_group(wishes.deadlines, facts.model_group)
        if deadline is not None:
            countdown = Countdown(deadline, facts.model_group, streaming=facts.streaming, blocking=blocking)
            facts = facts._replace(
                deadline=_seconds(deadline.total), deadline_first_chunk=_seconds(deadline.first_chunk)
            )
        call = self.tree.open_call(
            facts,
            links=links,
            context=context,
            follow=self.strategies.active or self.strategies.asks(kwargs) or wishes is not None,
        )
        if call is None:
            return None
        if isinstance(call, Unrecorded):
            return UnrecordedEdge(call.context)
        if wishes is not None:
            call.policies, call.countdown, call.hedges = wishes.policies, countdown, wishes.hedges
        return Edge(call, Scope(call, None, operation, self.reader, asked=kwargs, capture=self.capture))

    def _delegates(self, call: Call, operation: str) -> bool:
        # ``acompletion`` hands on to ``schedule_acompletion`` and back before anything happens;
        # later, the same method called again is another call (a classifier's, a plugin's).
        return not call.claimed and call.operation == operation and call.belongs_to(self.tree)

    def _origin(self, frame: Frame | None, kwargs: Mapping[str, object]) -> tuple[Sequence[Link], Context | None]:
        """What a call that comes in is linked to, and the context it starts in: its caller's when ``None``."""
        if frame is None:
            return (), self._parent(kwargs)
        if isinstance(frame.owner, Mirror):
            origin = frame.owner.origin
        elif isinstance(frame.call, Call) and _is_late(frame.call):
            origin = frame.call.span_context
        else:
            return (), None
        root = trace.set_span_in_context(trace.INVALID_SPAN, otel_context.get_current())
        return (() if origin is None else (Link(origin),)), with_frame(Frame(None), root)

    @fails_open("propagation")
    def _parent(self, kwargs: Mapping[str, object]) -> Context | None:
        return parent_context(kwargs)

    @fails_open("propagation")
    def trace_headers(self, deployment: object, kwargs: object) -> None:
        """The deployment's parameters are in the call's: it may want to be told of the trace."""
        headers = put_headers(deployment, kwargs)
        scope = current_scope()
        if scope is not None:
            scope.filling(headers)
        elif headers is not None:  # not sampled, and so it will not be there
            headers.fill(otel_context.get_current())

    def _facts(self, router: object, operation: str, model: object, kwargs: Mapping[str, object]) -> CallFacts:
        if kwargs.get("specific_deployment") is True:
            group = seams.group_of_provider_model(router, model) or seams.model_group_of(router, model)
        else:
            group = seams.model_group_of(router, model)
        default = self.strategies.default
        return CallFacts(
            operation,
            group,
            trace_id=_given(kwargs, seams.TRACE_ID),
            strategy=seams.routing_strategy(router) if default is None else default.name,
            streaming=kwargs.get("stream") is True,
            session_id=_given(kwargs, seams.SESSION_ID),
            attributes=self._enrichment.of(functools.partial(seams.metadata_of, kwargs)),
            user_id=_given(kwargs, "user"),
        )

    @fails_open("batch")
    def enter_batch(
        self, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> "Batch | Unrecorded | None":
        """A batch method is called."""
        model_groups, size = seams.batch_members(args, kwargs)
        links, context = self._origin(current_frame(), kwargs)
        return self.tree.open_batch(
            operation, model_groups, size, links=links, context=context, follow=self.strategies.active
        )

    # --- cooldowns -----------------------------------------------------------------------------

    def cooled_down(self, deployment_id: object, seconds: object, error: object) -> None:
        """litellm has put a deployment into cooldown; it says so again while one lasts, also from other threads."""
        now = time.monotonic()
        key = str(deployment_id)
        lasts = float(seconds) if isinstance(seconds, int | float) else 0.0
        with self._cooling_lock:
            fresh = self._cooling.get(key, 0.0) <= now
            self._cooling = {k: until for k, until in self._cooling.items() if until > now}
            self._cooling[key] = now + lasts
        if not fresh:
            return
        attempt, measures = self._attempt_now(), self.metrics.in_force()
        logs = logger.isEnabledFor(logging.WARNING) and not self._in_another_s_call()
        if attempt is None and measures is None and not logs:
            return
        failure = _readers.failure(error) if isinstance(error, BaseException) else None
        if attempt is not None:
            attempt.cooled_down(key, lasts, "other" if failure is None else failure.category)
        if measures is not None:
            context = None if attempt is None else attempt.context
            measures.cooled_down(context, key, None if failure is None else failure.error_type)
        if logs:
            _log_lines.cooled_down(self.guard, attempt, key, lasts, failure)

    def _attempt_now(self) -> Attempt | None:
        frame = current_frame()
        if frame is None or not isinstance(frame.call, Call) or not frame.call.belongs_to(self.tree):
            return None  # litellm's callbacks are global: a router hears of failures of another one's calls, too
        return (frame.owner.open_attempt if isinstance(frame.owner, Scope) else None) or frame.call.open_attempt

    def _in_another_s_call(self) -> bool:
        """Whether a call of another router runs here, which says for itself whom it has cooled down."""
        frame = current_frame()
        if isinstance(frame, Outside):
            return frame.owner is not self.tree
        return frame is not None and isinstance(frame.call, Call) and not frame.call.belongs_to(self.tree)

    def watch_cooldowns(self, router: object) -> None:
        """Hear of cooldowns through the router's own cache of them."""
        cache = seams.state(router, "cooldown_cache")
        add = getattr(cache, seams.ADD_COOLDOWN, None)
        if add is None or getattr(add, "traced_router", False):
            return
        hear = _weak_method(self)

        def added(*args: Any, **kwargs: Any) -> Any:
            result = add(*args, **kwargs)
            hear(*seams.cooldown_arguments(args, kwargs))
            return result

        added.traced_router = True  # type: ignore[attr-defined]  # so that it is not wrapped twice
        setattr(cache, seams.ADD_COOLDOWN, added)


def _is_late(call: Call) -> bool:
    """Whether what runs now is a callback of litellm's, for which ``call``, or its attempt, is over.

    Callbacks inherit the context of the attempt. Synchronous ones may start just before it ends.
    """
    span = trace.get_current_span()
    if getattr(span, "end_time", None) is not None:  # the SDK's; the API has no word for it
        return True
    attempt = call.open_attempt
    return attempt is not None and span is trace.get_current_span(attempt.context) and seams.in_callback_thread()


def _given(kwargs: Mapping[str, object], name: str) -> str | None:
    """A call's own id as text; an empty one says nothing."""
    return wording(kwargs.get(name))


def _seconds(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else float(value)


def _weak_method(tracing: RouterTracing) -> Callable[[object, object, object], None]:
    reference = weakref.ref(tracing)

    def hear(deployment_id: object, seconds: object, error: object) -> None:
        heard = reference()
        if heard is not None:
            try:
                heard.cooled_down(deployment_id, seconds, error)
            except Exception as fault:  # noqa: BLE001  # litellm is in the middle of handling a failure
                heard.guard.report("cooldown", fault)

    return hear


class UnrecordedEdge:
    """A public call that nobody records: only its context is current."""

    __slots__ = ("_token",)
    countdown = None

    def __init__(self, context: Context) -> None:
        self._token: Token[Context] = attach(context)

    def returned(self, result: Any) -> Any:
        """The call has its answer."""
        detach(self._token)
        remember(None)
        return result

    def raised(self, _error: BaseException) -> None:
        """The call has failed."""
        detach(self._token)
        remember(None)


class Edge:
    """A public call, from the moment it comes in until the caller has the whole answer."""

    __slots__ = ("_call", "_handled", "_scope")

    def __init__(self, call: Call, scope: Scope) -> None:
        self._handled = sys.exception()
        self._call = call
        self._scope = scope
        scope.enter()

    @property
    def countdown(self) -> Countdown | None:
        """How long the call may take."""
        return self._call.countdown

    def returned(self, result: Any) -> Any:
        """The call has its answer, or the stream of it; what the caller is to get."""
        self._scope.returned(result)
        self._scope.leave()
        if not is_stream(result):
            self._call.finish("ok")
            return result
        self._call.streams()
        return follow(result, self._call, _pull_context(self._call))

    def raised(self, error: BaseException) -> None:
        """The call has failed, or was left."""
        error = _torn_down(error, self._handled) or error
        self._scope.raised(error)
        self._scope.leave()
        if isinstance(error, asyncio.CancelledError):
            self._call.finish("cancelled")
        elif isinstance(error, Exception):
            self._call.finish("error", _readers.failure(error))
        else:
            self._call.finish("abandoned")


def _torn_down(error: BaseException, handled: BaseException | None) -> GeneratorExit | None:
    """What closed the coroutine that ``error`` comes from, if that is what happened: then no caller gets it.

    From 1.109 on litellm trips over the context, or the loop, that is gone by then, and raises anew.

    Args:
        error: what came out of the coroutine.
        handled: what its caller was handling when it called; that came from elsewhere.
    """
    own = itertools.takewhile(lambda met: met is not handled, itertools.islice(_contexts(error), _MAX_CHAIN))
    return next((met for met in own if isinstance(met, GeneratorExit)), None)


def _contexts(error: BaseException) -> Iterator[BaseException]:
    while (context := error.__context__) is not None:
        yield context
        error = context


_MAX_CHAIN: Final = 24
"""Exceptions looked at, one having come up while another was handled."""


def _pull_context(call: Call) -> Context:
    """What is current while the caller pulls a stream, where no attempt is: a fallback may start here."""
    return with_frame(Frame(call, None, PULL), call.parent_context(None))


def hand_over(kwargs: MutableMapping[str, Any], *, pull: bool = False) -> None:
    """Put the current frame into a call's own parameters, for a thread that starts without a context.

    ``pull``: not this frame, but the one in which the stream of this call will be pulled.
    """
    frame = current_frame()
    if frame is not None and isinstance(frame.call, Call):
        kwargs[HANDED] = _pull_context(frame.call) if pull else otel_context.get_current()


def take_over(kwargs: MutableMapping[str, Any]) -> Context | None:
    """Take what :func:`hand_over` put there; it must not reach a provider."""
    handed = kwargs.pop(HANDED, None)
    return handed if isinstance(handed, Context) else None
