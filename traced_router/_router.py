"""``TracedRouter``: litellm's router, with its seams bent around one trace per call.

Where a request enters: the public methods (``entry``) and the endpoints that litellm makes
(``factory_function``). Each override below stands where litellm does one thing that a trace
shows, tells :mod:`traced_router._tracing`, and hands on to litellm with ``super()``. Nothing is
decided here. Overrides take ``*args, **kwargs`` through: litellm's signatures grow.

The methods live in the class's own body, never in a mixin: from 1.109 on litellm moves them to a
generated core class, where ``self`` is that core. See ``_litellm`` for every name that is used.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# The names that loops in the class body leave behind are removed there: both tables have entries.
# pyright: reportPossiblyUnboundVariable=false, reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from litellm.router import Router
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.util.types import AttributeValue
from tenacity import BaseRetrying

from traced_router import _construction, _edges, _hosted, _picks, _readers, _retrying, _strategies
from traced_router import _litellm as seams
from traced_router._arguments import Arguments
from traced_router._around import argument
from traced_router._capture import Redactor
from traced_router._current import attach, detach
from traced_router._enrichment import OnRequestEnd
from traced_router._frame import Frame, Outside, current_frame, with_frame
from traced_router._guard import fails_open
from traced_router._hedging import Entrant, Race
from traced_router._litellm_filters import FILTERS
from traced_router._probe import probe_of
from traced_router._repeatable import is_repeatable
from traced_router._scope import Scope, current_scope
from traced_router._spans import Hop
from traced_router._streams import follow_attempt
from traced_router._tracing import PULL, FallbackPlan, Mirror, RouterTracing, hand_over, take_over
from traced_router._tree import Call
from traced_router.deadline import Deadline, of_group
from traced_router.explanation import Explanation
from traced_router.hedging import HedgePolicy
from traced_router.resilience import ResilienceOptions
from traced_router.retry import RetryPolicy
from traced_router.settings import TracedRouterSettings, load

Retrying: TypeAlias = RetryPolicy | BaseRetrying | bool
"""What retries: ours, tenacity's, or litellm's own loop (``False``)."""

_STATE: Final = "_traced_router"


def _tracing(router: Any) -> RouterTracing:
    """The tracing of ``router``: made when first asked for, so that a live router can be adopted."""
    state = router.__dict__.get(_STATE)
    if state is None:
        state = router.__dict__[_STATE] = _construction.adopt(router)
    return state  # type: ignore[no-any-return]  # what this module put there


def _above(router: Any, name: str) -> Callable[..., Any]:
    """litellm's own method, under the override of this class."""
    method: Callable[..., Any] = getattr(super(TracedRouter, router), name)
    provider = seams.SIDE_BY_SIDE.get(name)
    return method if provider is None else seams.seeing(method, provider, _edges.beside)


def _call() -> tuple[Call, Frame] | tuple[None, None]:
    """The traced call that the code which runs now belongs to, and where in it that stands."""
    frame = current_frame()
    if frame is not None and isinstance(frame.call, Call):
        return frame.call, frame
    return None, None


class TracedRouter(Router):
    """litellm's ``Router``, and one OpenTelemetry trace per call.

    Takes litellm's arguments, positional ones included, and:

    Args:
        tracer_provider: where spans go; the global provider at the time of each call when not given.
        meter_provider: where measurements go; likewise.
        logger_provider: where log records go; likewise.
        settings: see :class:`TracedRouterSettings`; each that is not given comes from the environment.
        resilience: keeps sick deployments from callers, see
            :class:`~traced_router.resilience.ResilienceOptions`. On for this package's own strategies
            when not given; options, or ``True``, turn it on for litellm's too, ``False`` turns it off.
        vocabularies: what spans say in the words of other backends too: ``openinference``, ``langfuse``,
            ``openllmetry``, ``llm_routing``; none when not given, here or in the settings.
        attributes: what every request span says besides, by your own names; those of the settings when not given.
        on_request_end: is told of every request that ends, sampled or not, with a
            :class:`~traced_router.summary.RequestSummary`. It runs in the call, so it should be quick; what it
            returns becomes attributes of the request span, and what it raises harms nobody.
        redactor: where content is captured, called with a list of messages (``role`` and ``parts``)
            before any of it goes out; returns what may be shown, ``None`` for nothing. Where it raises,
            nothing is shown.
        retrying: retries failed attempts instead of litellm's loop: a
            :class:`~traced_router.retry.RetryPolicy`, tenacity's ``AsyncRetrying`` or ``Retrying`` as a
            template, or these by model group with ``"*"`` for all others. A call's own ``retrying=`` comes
            first; ``False`` is litellm's loop.
        hedging: sends a second attempt to another deployment where the first takes long: a
            :class:`~traced_router.hedging.HedgePolicy`, seconds, ``True``, or these by model group with ``"*"``
            for all others. A call's own ``hedging=`` comes first. Off when not given.
        deadline: seconds that a call may take, or a :class:`~traced_router.deadline.Deadline`, or these by
            model group with ``"*"`` for all others. A call's own ``deadline=`` comes first.

    ``routing_strategy``, and that of a routing group or of a call, can also be the name of an
    installed strategy, or a :class:`~traced_router.strategy.RoutingStrategy` object.

    Raises:
        ConfigurationError: when one of these is not what it should be.
    """

    def __init__(
        self,
        *args: Any,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: TracedRouterSettings | Mapping[str, object] | None = None,
        resilience: ResilienceOptions | bool | None = None,
        vocabularies: Iterable[str] | str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        on_request_end: OnRequestEnd | None = None,
        redactor: Redactor | None = None,
        retrying: Retrying | Mapping[str, Retrying] | None = None,
        deadline: Deadline | float | Mapping[str, Deadline | float] | None = None,
        hedging: HedgePolicy | float | Mapping[str, HedgePolicy | float] | None = None,
        **kwargs: Any,
    ) -> None:
        in_force = load(settings)
        arguments = Arguments(
            tracer_provider,
            meter_provider,
            logger_provider,
            in_force,
            resilience,
            vocabularies,
            attributes,
            on_request_end,
            redactor,
            retrying,
            deadline,
            hedging,
        )
        arguments.check()
        args, named = _strategies.positional_as_named(args, kwargs)
        if in_force.routing_strategy is not None:
            named.setdefault(seams.ROUTING_STRATEGY, in_force.routing_strategy)
        kwargs, configured = _strategies.translate(named)
        if seams.ENGINE == "hosted":
            _hosted.build(self, args, kwargs, arguments, configured, _STATE)
        else:
            super().__init__(*args, **kwargs)
            self.__dict__[_STATE] = _construction.tracing(self, arguments, configured)

    @property
    def tracing_capabilities(self) -> Mapping[str, str]:
        """How much of each layer of a trace this litellm can show: ``full``, ``partial`` or ``none``."""
        return dict(_tracing(self).capabilities.items())

    def explain(self, model: str, messages: Any = None, **kwargs: Any) -> Explanation:
        """The decision that would be taken now for a synchronous call; nothing is called, nothing changes.

        Args:
            model: as in `completion`.
            messages: likewise.
            **kwargs: the call's other arguments: ``metadata``, ``routing_strategy``, ``max_tokens``, …

        Returns:
            who would be chosen, why, and why not the others. Where lots are drawn, a call draws anew.
        """
        peek = _peek(self, model, kwargs)
        try:
            return peek.returned(getattr(self, seams.SELECT_SYNC)(**_pick_arguments(model, messages, kwargs)))
        except Exception as error:  # noqa: BLE001  # what a call would raise is part of the answer
            return peek.raised(error)

    async def aexplain(self, model: str, messages: Any = None, **kwargs: Any) -> Explanation:
        """As :meth:`explain`, for an asynchronous call: litellm filters these by more."""
        peek = _peek(self, model, kwargs)
        try:
            return peek.returned(await getattr(self, seams.SELECT_ASYNC)(**_pick_arguments(model, messages, kwargs)))
        except Exception as error:  # noqa: BLE001  # as above
            return peek.raised(error)

    def _discard(self, *args: Any, **kwargs: Any) -> Any:
        _tracing(self).strategies.close()
        return getattr(super(), seams.DISCARD)(*args, **kwargs)

    vars()[seams.DISCARD] = _discard

    # --- where a request enters ------------------------------------------------------------------

    for _entry in seams.ENTRIES:
        if (_original := getattr(Router, _entry.name, None)) is not None:
            vars()[_entry.name] = _edges.entry(_entry, _original, _above, _tracing)
    for _name in seams.BATCHES:
        if (_original := getattr(Router, _name, None)) is not None:
            vars()[_name] = _edges.batch(_name, _original, _above, _tracing)

    def factory_function(self, original_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make an endpoint; litellm keeps it on the instance."""
        made = super().factory_function(_edges.provider(original_function), *args, **kwargs)
        call_type = argument("call_type", 0, args, kwargs, seams.ASSISTANTS)
        name = original_function.__name__ if call_type == seams.ASSISTANTS else call_type
        return _edges.endpoint(self, name, made, _tracing)

    def _update_settings(self, **kwargs: Any) -> Any:
        settings, configured = _strategies.translate(kwargs)
        result = getattr(super(), seams.UPDATE_SETTINGS)(**settings)
        _tracing(self).strategies.configure(configured, kwargs.__contains__)
        return result

    vars()[seams.UPDATE_SETTINGS] = _update_settings

    def _update_kwargs_before_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        _tracing(self).strategies.take_in(argument("kwargs", 1, args, kwargs) or {})
        result = super()._update_kwargs_before_fallbacks(*args, **kwargs)
        frame = current_frame()
        named = frame.call if frame is not None and isinstance(frame.call, Call) else frame
        if isinstance(named, Call | Outside):
            named.adopt_trace_id((argument("kwargs", 1, args, kwargs) or {}).get(seams.TRACE_ID))
        return result

    def function_with_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chain for a synchronous call: in a thread of its own when a loop is running here."""
        chain: Any = super().function_with_fallbacks
        hand_over(kwargs)
        return chain(*args, **kwargs)

    # --- the chain: hops, retries, attempts, waits -----------------------------------------------

    async def async_function_with_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """One group's turn: the call itself, or a fallback hop of it."""
        chain = super().async_function_with_fallbacks
        handed = take_over(kwargs)
        if handed is not None:
            return await _in_context(handed, self.async_function_with_fallbacks, args, kwargs)
        call, frame = _call()
        if call is None or frame is None:
            return await chain(*args, **kwargs)
        call.claimed = True
        call.alone = kwargs.get(seams.DISABLE_FALLBACKS) is True
        if frame.owner is PULL and call.open_hop is not None:  # its stream died, and its group tries again
            context = with_frame(Frame(call, call.open_hop), call.open_hop.span_context)
            return await _in_context(context, chain, args, kwargs)
        hop = _hop(call, self, frame.owner, kwargs) if kwargs.get(seams.FALLBACK_DEPTH) else None
        if hop is None:
            return await chain(*args, **kwargs)
        token = attach(with_frame(Frame(call, hop), hop.span_context))
        try:
            result = await chain(*args, **kwargs)
        except Exception as error:
            hop.fail(_readers.failure(error).error_type)
            raise
        finally:
            detach(token)
        hop.returned()
        return result

    async def async_function_with_fallbacks_common_utils(self, *args: Any, **kwargs: Any) -> Any:
        """A group has given up: what comes next?"""
        common_utils = super().async_function_with_fallbacks_common_utils
        handed = take_over(argument("kwargs", 7, args, kwargs) or {})
        if handed is not None:
            return await _in_context(handed, self.async_function_with_fallbacks_common_utils, args, kwargs)
        call, frame = _call()
        if call is None or frame is None:
            return await common_utils(*args, **kwargs)
        plan = _plan(call, frame, args, kwargs)
        error = argument("e", 0, args, kwargs)
        if call.countdown is not None and call.countdown.gives_up(error):
            raise error
        return await _in_context(
            with_frame(Frame(call, None, plan), call.parent_context(None)), common_utils, args, kwargs
        )

    async def async_function_with_retries(self, *args: Any, **kwargs: Any) -> Any:
        """A group's attempts."""
        turn = super().async_function_with_retries
        call, frame = _call()
        try:
            if call is not None and frame is not None and call.policies:
                policy = of_group(call.policies, seams.model_group_of(self, kwargs.get("model")))
                if policy is not None:
                    once = functools.partial(_once, turn, args)
                    return await _retrying.run(self, call, _hop_now(call, frame), policy, once, kwargs)
            return await turn(*args, **kwargs)
        finally:
            if call is not None:
                call.end_backoff()

    def _time_to_sleep_before_retry(self, *args: Any, **kwargs: Any) -> Any:
        error = argument("e", 0, args, kwargs)
        call, frame = _call()
        seconds = super()._time_to_sleep_before_retry(*args, **kwargs)
        if call is not None:
            _ask_leave(call, seconds, error, retry=argument("remaining_retries", 1, args, kwargs) != 0)
        if call is not None and frame is not None:
            _wait(call, _hop_now(call, frame), seconds, error)
        return seconds

    async def make_call(self, original_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One attempt function is about to run."""
        call, frame = _call()
        if call is None or frame is None:
            return await super().make_call(original_function, *args, **kwargs)
        if call.countdown is not None:
            call.countdown.check()
        if call.repeats is not None:
            seams.count_retries(kwargs, call.repeats)
        name, make, tracing, hop = (
            getattr(original_function, "__name__", ""),
            super().make_call,
            _tracing(self),
            frame.hop,
        )

        def attempting(entrant: Entrant | None, own: dict[str, Any]) -> Awaitable[Any]:
            model, capture = own.get("model"), tracing.capture
            scope = Scope(call, hop, name, tracing.reader, model, own, capture, entrant=entrant)
            return make(functools.partial(_in_scope, scope, original_function), *args, **own)

        race = _race(self, tracing, call, name, kwargs) if call.hedges else None
        return await (attempting(None, kwargs) if race is None else race.run(self, attempting, kwargs))

    def _should_raise_content_policy_error(self, *args: Any, **kwargs: Any) -> Any:
        refused = super()._should_raise_content_policy_error(*args, **kwargs)
        scope = current_scope() if refused else None
        if scope is not None:
            scope.refused(argument("response", 1, args, kwargs))
        return refused

    async def _ageneric_api_call_with_fallbacks_helper(self, *args: Any, **kwargs: Any) -> Any:
        # A stream that is tried again inside its group comes here without ``make_call``.
        helper = super()._ageneric_api_call_with_fallbacks_helper
        call, frame = _call()
        if call is None or frame is None:
            return await helper(*args, **kwargs)
        tracing, hop, name, around = _tracing(self), _hop_now(call, frame), seams.GENERIC_ATTEMPT, current_scope()
        entrant, model, capture = None if around is None else around.entrant, kwargs.get("model"), tracing.capture
        scope = Scope(call, hop, name, tracing.reader, model, kwargs, capture, entrant=entrant)
        return await _in_scope(scope, helper, *args, **kwargs)

    async def _acreate_file(self, *args: Any, **kwargs: Any) -> Any:
        return await _above(self, "_acreate_file")(*args, **kwargs)

    async def _prompt_management_factory(self, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            scope.function = seams.PROMPT_MANAGEMENT
        return await super()._prompt_management_factory(*args, **kwargs)

    def _get_model_list(self, *args: Any, **kwargs: Any) -> Any:
        # A prompt-management model asks for the group of the model that its prompt names, and calls
        # litellm right away when there is none.
        found = getattr(super(), seams.GET_MODEL_LIST)(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.listed(found or ())
            if not found:
                scope.no_such_group()
        return found

    vars()[seams.GET_MODEL_LIST] = _get_model_list

    def _update_kwargs_with_deployment(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._update_kwargs_with_deployment(*args, **kwargs)
        deployment, parameters = argument("deployment", 0, args, kwargs), argument("kwargs", 1, args, kwargs)
        _tracing(self).trace_headers(deployment, parameters)
        scope = current_scope()
        if scope is not None:
            if scope.entrant is not None:
                scope.entrant.admit(deployment, parameters)
            scope.updated(self, deployment, parameters)
            if scope.call.repeats is not None or scope.call.countdown is not None:
                _keep_in_time(scope.call, parameters)
        return result

    def routing_strategy_pre_call_checks(self, *args: Any, **kwargs: Any) -> Any:
        """The last thing before litellm is called, synchronously."""
        result = super().routing_strategy_pre_call_checks(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.checked(argument("deployment", 0, args, kwargs))
        return result

    async def async_routing_strategy_pre_call_checks(self, *args: Any, **kwargs: Any) -> Any:
        """The last thing before litellm is called."""
        result = await super().async_routing_strategy_pre_call_checks(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.checked(argument("deployment", 0, args, kwargs))
        return result

    # --- streams ---------------------------------------------------------------------------------

    async def _acompletion_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("model_response", args, kwargs)
        return await super()._acompletion_streaming_iterator(*args, **kwargs)

    def _completion_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("model_response", args, kwargs)
        # A stream that dies falls back in a new thread when a loop is running.
        hand_over(argument("initial_kwargs", 2, args, kwargs), pull=True)
        return super()._completion_streaming_iterator(*args, **kwargs)

    async def _aresponses_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("response", args, kwargs)
        return await super()._aresponses_streaming_iterator(*args, **kwargs)

    if hasattr(Router, "_aanthropic_messages_streaming_iterator"):

        async def _aanthropic_messages_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = _followed("response", args, kwargs)
            return await super()._aanthropic_messages_streaming_iterator(*args, **kwargs)

    # --- selections ------------------------------------------------------------------------------

    for _name in seams.PICKS:
        if (_original := getattr(Router, _name, None)) is not None:
            vars()[_name] = _picks.pick(_name, _original, _above, _tracing)
    for _step in FILTERS:
        if (_original := getattr(Router, _step.name, None)) is not None:
            vars()[_step.name] = _picks.filter_step(_step, _original, _above)
    del _entry, _name, _original, _step

    def _set_custom_strategy(self, *args: Any, **kwargs: Any) -> Any:
        # litellm sets the strategy's methods on the instance, where they hide the overrides.
        result = getattr(super(), seams.SET_CUSTOM_STRATEGY)(*args, **kwargs)
        for name in (seams.SELECT_ASYNC, seams.SELECT_SYNC):
            own = self.__dict__.get(name)
            if own is not None:
                setattr(
                    self,
                    name,
                    _picks.custom(
                        self, own, seams.name_of_custom(argument("CustomRoutingStrategy", 0, args, kwargs)), _tracing
                    ),
                )
        return result

    vars()[seams.SET_CUSTOM_STRATEGY] = _set_custom_strategy

    def _common_checks_available_deployment(self, *args: Any, **kwargs: Any) -> Any:
        probe = probe_of(self)
        if probe is None:
            return super()._common_checks_available_deployment(*args, **kwargs)
        try:
            group, deployments = result = super()._common_checks_available_deployment(*args, **kwargs)
        except Exception:
            probe.refused()
            raise
        probe.configured(group, deployments)
        return result

    async def _get_healthy(self, *args: Any, **kwargs: Any) -> Any:
        found = await getattr(super(), seams.HEALTHY_DEPLOYMENTS)(*args, **kwargs)
        probe = probe_of(self)
        if probe is not None:
            probe.filtered(found)
        return found

    vars()[seams.HEALTHY_DEPLOYMENTS] = _get_healthy

    def _get_routing_context(self, *args: Any, **kwargs: Any) -> Any:
        probe = probe_of(self)
        if probe is None:  # litellm wants to know for itself
            return super()._get_routing_context(*args, **kwargs)
        strategies = _tracing(self).strategies
        seat = strategies.seat(self, argument("model", 0, args, kwargs), argument("request_kwargs", 1, args, kwargs))
        if seat is not None:
            probe.routed(seat.name)
            return seams.OURS, seat
        strategy, selector = super()._get_routing_context(*args, **kwargs)
        probe.routed(strategy)
        if strategy == seams.SHUFFLE and strategies.guarding is not None:
            return seams.OURS, strategies.guarding
        return strategy, selector

    async def _select_deployment_async(self, *args: Any, **kwargs: Any) -> Any:
        probe = probe_of(self)
        if probe is None:
            return await super()._select_deployment_async(*args, **kwargs)
        with _picks.Choosing(self, probe, _tracing(self).strategies, kwargs, lasting=True) as choosing:
            if not choosing.decided:
                choosing.chose(await super()._select_deployment_async(*args, **choosing.kwargs))
        return choosing.chosen

    def _select_deployment_sync(self, *args: Any, **kwargs: Any) -> Any:
        probe = probe_of(self)
        if probe is None:
            return super()._select_deployment_sync(*args, **kwargs)
        with _picks.Choosing(self, probe, _tracing(self).strategies, kwargs, lasting=False) as choosing:
            if not choosing.decided:
                choosing.chose(super()._select_deployment_sync(*args, **choosing.kwargs))
        return choosing.chosen

    # --- time given back -------------------------------------------------------------------------

    if seams.MODEL_INFO_REPEATS:

        def get_router_model_info(self, *args: Any, **kwargs: Any) -> Any:
            """A deployment's limits and prices."""
            compute = functools.partial(super().get_router_model_info, *args, **kwargs)
            deployment = argument("deployment", 0, args, kwargs)
            return _tracing(self).model_infos.get(self, deployment, compute)

        async def _increment_deployment_usage(self, *args: Any, **kwargs: Any) -> Any:
            infos, deployment_id = _tracing(self).model_infos, str(kwargs.get("deployment_id"))
            if infos.is_unlimited(self, deployment_id):
                return None
            counted = await super()._increment_deployment_usage(*args, **kwargs)
            if counted is None and kwargs.get("total_tokens", 0) > 0 and kwargs.get("rpm_increment", 0) > 0:
                infos.found_unlimited(self, deployment_id)
            return counted

    # --- mirrors ---------------------------------------------------------------------------------

    async def _silent_experiment_acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return await _in_context(_mirrored(), super()._silent_experiment_acompletion, args, kwargs)

    class _MirrorThread:
        """``_silent_experiment_completion``: litellm runs it in a bare thread, where no context is left.

        Reading the method is the last thing that happens in the caller's context, so that is where
        the call which is mirrored is remembered. It can be replaced on an instance, like a method.
        """

        def __get__(self, router: Any, _owner: type | None = None) -> Any:
            if router is None:
                return self
            original = _above(router, seams.MIRROR_SYNC)
            context = _mirrored()

            @functools.wraps(original)
            def run(*args: Any, **kwargs: Any) -> Any:
                token = attach(context)
                try:
                    return original(*args, **kwargs)
                finally:
                    detach(token)

            return run

    vars()[seams.MIRROR_SYNC] = _MirrorThread()
    del _MirrorThread, _discard, _get_healthy, _get_model_list, _set_custom_strategy, _update_settings


def _peek(router: Any, model: str, kwargs: dict[str, Any]) -> _picks.Peek:
    """A look at what would be picked; a strategy object in ``kwargs`` is replaced by its name."""
    tracing = _tracing(router)
    tracing.strategies.take_in(kwargs)
    return _picks.Peek(tracing, router, model, kwargs)


def _pick_arguments(model: str, messages: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What litellm's picks take of a call's arguments; they change the request, so it is the caller's no more."""
    return {
        "model": model,
        "messages": messages,
        "input": kwargs.get("input"),
        "specific_deployment": kwargs.pop("specific_deployment", False),
        "request_kwargs": kwargs,
    }


@fails_open("fallback")
def _hop(call: Call, router: Any, plan: object, kwargs: Mapping[str, Any]) -> Hop | None:
    """The hop that starts now, of the kind that ``plan`` knows."""
    kind = plan.kind(kwargs) if isinstance(plan, FallbackPlan) else seams.PLAIN_FALLBACK
    target = seams.model_group_of(router, kwargs.get("model")) or ""
    return call.hop(target, kind, functools.partial(seams.group_behind, router))


@fails_open("fallback")
def _plan(call: Call, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> FallbackPlan:
    """What litellm falls back with, now that a group has failed; its hop, if it was one, is over."""
    error = argument("e", 0, args, kwargs)
    failure = _readers.failure(error)
    call.lost(failure)
    hop = _hop_now(call, frame)
    if hop is not None and not hop.done:
        hop.fail(failure.error_type)
    else:
        call.hop_failed(None, failure.error_type)
    return FallbackPlan(
        error,
        seams.fallback_groups(argument("model_group", 5, args, kwargs), argument("kwargs", 7, args, kwargs) or {}),
        argument("fallbacks", 2, args, kwargs),
        argument("context_window_fallbacks", 3, args, kwargs),
        argument("content_policy_fallbacks", 4, args, kwargs),
        frame.owner is PULL or seams.is_mid_stream(error),
    )


@fails_open("backoff")
def _wait(call: Call, hop: Hop | None, seconds: float, error: Any) -> None:
    """litellm is about to try again, because of ``error``, when ``seconds`` are over."""
    failure = _readers.failure(error)
    call.lost(failure)
    if seconds > 0:
        source = "retry_after" if seams.obeys_retry_after(error) else "exponential"
        call.backoff(seconds, source, failure.retry_after, hop)


def _ask_leave(call: Call, seconds: float, error: Exception, *, retry: bool) -> None:
    """Raise ``error``, as litellm does when it gives a group up, where it must not wait or try again.

    That is while a policy decides about retries, when the deadline comes before the end of the wait,
    and where the retry budget is used up.
    """
    if call.repeats is not None:
        raise error
    if call.countdown is not None:
        call.countdown.failed(error)
        if call.countdown.refuses(seconds, retry=retry):
            raise error
    if retry and not call.may_retry():
        raise error


async def _once(turn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One turn of litellm's loop that makes one attempt."""
    return await turn(*args, **{**kwargs, seams.NUM_RETRIES: 0})


def _keep_in_time(call: Call, kwargs: dict[str, Any]) -> None:
    """Tell the provider's client, which knows neither policies nor deadlines, what it may do by itself."""
    if call.countdown is not None:
        call.countdown.check()
    seams.forbid_repeats(kwargs)
    seconds = None if call.countdown is None else call.countdown.timeout()
    if seconds is not None:
        seams.limit_timeout(kwargs, seconds)


def _hop_now(call: Call, frame: Frame) -> Hop | None:
    """The hop that the code which runs now is in; a reader who pulls a stream does not know, the call does."""
    return call.open_hop if frame.owner is PULL else frame.hop


def _mirrored() -> otel_context.Context:
    """The context of a mirror of the call that runs now."""
    call, _ = _call()
    mirror = Mirror(None if call is None else call.span_context)
    return with_frame(Frame(None, owner=mirror), otel_context.get_current())


async def _in_context(
    context: otel_context.Context, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: Any
) -> Any:
    token = attach(context)
    try:
        return await function(*args, **kwargs)
    finally:
        detach(token)


async def _in_scope(scope: Scope, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run one attempt function: its picks and provider calls are this scope's."""
    scope.enter()
    try:
        result = function(*args, **kwargs)
        if isinstance(result, Awaitable):
            result = await result
    except BaseException as error:
        scope.raised(error)
        raise
    else:
        scope.returned(result)
        return result
    finally:
        scope.leave()


def _followed(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stream's wrapper, with the provider's stream followed for its attempt."""
    call, _ = _call()
    if call is None:
        return args, kwargs
    scope = current_scope()
    entrant = None if scope is None else scope.entrant
    attempt, stand = (None, None) if entrant is None else (entrant.open_attempt, entrant.stand_in)
    provided, taken = argument(name, 0, args, kwargs), kwargs.get(seams.FIRST_CHUNK)
    stream, first = follow_attempt(call, provided, taken, attempt, stand)
    if first is not None:
        kwargs = {**kwargs, seams.FIRST_CHUNK: first}
    return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, name: stream})


@fails_open("attempt")
def _race(router: Any, tracing: RouterTracing, call: Call, function: str, kwargs: Mapping[str, Any]) -> Race | None:
    """The race of an attempt that may be hedged."""
    group, hedges = seams.model_group_of(router, kwargs.get("model")), call.hedges or {}
    policy = of_group(hedges, group)
    if policy is None or group is None or not is_repeatable(router, function, kwargs):
        return None
    kind = (function, seams.endpoint_of(kwargs), kwargs.get("stream") is True)
    known = group if group in hedges else tracing.names.group(group)
    return tracing.hedging.race(call, known, policy, kind)


# litellm's proxy reads which arguments a router takes.
TracedRouter.__init__.__signature__ = _construction.signature(TracedRouter.__init__)  # type: ignore[attr-defined]

if seams.ENGINE == "hosted":
    _hosted.let_adopt(TracedRouter)
