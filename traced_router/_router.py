"""``TracedRouter``: litellm's router, with its seams bent around one trace per call.

Where a request enters: the public methods (``_entry``) and the endpoints that litellm makes
(``factory_function``). Each override below stands where litellm does one thing that a trace
shows, tells :mod:`traced_router._tracing`, and hands on to litellm with ``super()``. Nothing is
decided here. Overrides take ``*args, **kwargs`` through: litellm's signatures grow.

The methods live in the class's own body, never in a mixin: from 1.109 on litellm moves them to a
generated core class, where ``self`` is that core. See ``_litellm`` for every name that is used.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import litellm
from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider

from traced_router import _construction, _hosted, _readers
from traced_router import _litellm as seams
from traced_router._current import attach, detach
from traced_router._probe import Probe
from traced_router._scope import Scope, current_scope
from traced_router._tracing import (
    PULL,
    FallbackPlan,
    Mirror,
    RouterTracing,
    follow_attempt,
    hand_over,
    take_over,
)
from traced_router._tree import Batch, Call, Frame, Selection, current_frame, with_frame
from traced_router.settings import TracedRouterSettings

_STATE: Final = "_traced_router"


def _tracing(router: Any) -> RouterTracing:
    """The tracing of ``router``: made when first asked for, so that a live router can be adopted."""
    state = router.__dict__.get(_STATE)
    if state is None:
        state = _construction.tracing(router, _construction.Arguments())
        router.__dict__[_STATE] = state
    return state  # type: ignore[no-any-return]


def _call() -> tuple[Call, Frame] | tuple[None, None]:
    """The traced call that the code which runs now belongs to."""
    frame = current_frame()
    if frame is not None and isinstance(frame.call, Call):
        return frame.call, frame
    return None, None


def _argument(name: str, at: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[at] if len(args) > at else kwargs.get(name)


# --- where a request enters ----------------------------------------------------------------------


def _entry(entry: seams.Entry) -> Callable[..., Any]:
    """An override of one public method: the request's edge."""
    original = getattr(litellm.Router, entry.name)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def edge_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            method = getattr(super(TracedRouter, self), entry.name)
            edge = _tracing(self).enter(self, entry.operation, _argument("model", entry.model_at, args, kwargs), kwargs)
            if edge is None:
                return await method(*args, **kwargs)
            try:
                result = await method(*args, **kwargs)
            except BaseException as error:
                edge.raised(error)
                raise
            return edge.returned(result)

        return edge_async

    @functools.wraps(original)
    def edge_sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        method = getattr(super(TracedRouter, self), entry.name)
        edge = _tracing(self).enter(self, entry.operation, _argument("model", entry.model_at, args, kwargs), kwargs)
        if edge is None:
            return method(*args, **kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            edge.raised(error)
            raise
        return edge.returned(result)

    return edge_sync


def _batch(name: str) -> Callable[..., Any]:
    """An override of one ``abatch_*`` method: its members' requests are children of its span."""
    original = getattr(litellm.Router, name)

    @functools.wraps(original)
    async def batch(self: Any, *args: Any, **kwargs: Any) -> Any:
        method = getattr(super(TracedRouter, self), name)
        groups, size = seams.batch_members(args, kwargs)
        opened = _tracing(self).enter_batch("chat", groups, size)
        if opened is None:
            return await method(*args, **kwargs)
        token = attach(opened.context)
        try:
            result = await method(*args, **kwargs)
        except BaseException as error:
            detach(token)
            if isinstance(opened, Batch):
                opened.returned(error)
            raise
        detach(token)
        if isinstance(opened, Batch):
            opened.returned()
        return result

    return batch


def _endpoint(router: Any, name: str, endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The edge of an endpoint that litellm made with ``factory_function``."""
    operation = seams.operation_of(name)

    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def edge_async(*args: Any, **kwargs: Any) -> Any:
            edge = _tracing(router).enter(router, operation, kwargs.get("model"), kwargs)
            if edge is None:
                return await endpoint(*args, **kwargs)
            try:
                result = await endpoint(*args, **kwargs)
            except BaseException as error:
                edge.raised(error)
                raise
            return edge.returned(result)

        return edge_async

    @functools.wraps(endpoint)
    def edge_sync(*args: Any, **kwargs: Any) -> Any:
        edge = _tracing(router).enter(router, operation, kwargs.get("model"), kwargs)
        if edge is None:
            return endpoint(*args, **kwargs)
        try:
            result = endpoint(*args, **kwargs)
        except BaseException as error:
            edge.raised(error)
            raise
        return edge.returned(result)

    return edge_sync


def _provider(function: Callable[..., Any]) -> Callable[..., Any]:
    """The provider function behind an endpoint: calling it is the attempt."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def attempt_async(*args: Any, **kwargs: Any) -> Any:
            scope = current_scope()
            if scope is not None:
                scope.about_to_call(kwargs)
            return await function(*args, **kwargs)

        return attempt_async

    @functools.wraps(function)
    def attempt_sync(*args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            scope.about_to_call(kwargs)
        return function(*args, **kwargs)

    return attempt_sync


# --- selections ------------------------------------------------------------------------------------


class _Pick:
    """One selection, around litellm's own pick."""

    __slots__ = ("_group", "_probe", "_scope", "_selection", "_token")

    def __init__(self, router: Any, call: Call, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        model = _argument("model", 0, args, kwargs)
        specific = _argument("specific_deployment", 4, args, kwargs) is True
        group = seams.group_of_provider_model(router, model) if specific else None
        call.claimed = True
        self._group = group or seams.model_group_of(router, model)
        self._probe = Probe(router, kwargs.get("request_kwargs") or {}, specific=specific)
        self._scope = frame.owner if isinstance(frame.owner, Scope) else None
        self._selection: Selection | None = call.select(self._group, frame.hop, self._probe)
        self._token = attach(self._selection.context) if self._selection is not None else None

    def picked(self, deployment: object) -> None:
        """litellm has picked."""
        if self._token is not None and self._selection is not None:
            detach(self._token)
            self._selection.end(self._probe.decide(deployment))
        if self._scope is not None:
            self._scope.picked(deployment, self._group)

    def failed(self, error: BaseException) -> None:
        """litellm found no deployment, or was interrupted."""
        if self._token is not None and self._selection is not None:
            detach(self._token)
            if isinstance(error, Exception):
                self._selection.end(self._probe.decide(None), _readers.failure(error))
            else:
                self._selection.end(None)


def _pick(router: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Pick | None:
    call, frame = _call()
    # litellm's asynchronous pick hands on to its synchronous one for some strategies: one pick.
    if call is None or frame is None or isinstance(frame.owner, Probe):
        return None
    try:
        return _Pick(router, call, frame, args, kwargs)
    except Exception as fault:  # noqa: BLE001  # the pick goes on, untraced
        call.guard.report("selection", fault)
        return None


def _select_async(name: str) -> Callable[..., Any]:
    async def select(self: Any, *args: Any, **kwargs: Any) -> Any:
        pick = _pick(self, args, kwargs)
        method = getattr(super(TracedRouter, self), name)
        if pick is None:
            return await method(*args, **kwargs)
        try:
            deployment = await method(*args, **kwargs)
        except BaseException as error:
            pick.failed(error)
            raise
        pick.picked(deployment)
        return deployment

    return _like(name, select)


def _select_sync(name: str) -> Callable[..., Any]:
    def select(self: Any, *args: Any, **kwargs: Any) -> Any:
        pick = _pick(self, args, kwargs)
        method = getattr(super(TracedRouter, self), name)
        if pick is None:
            return method(*args, **kwargs)
        try:
            deployment = method(*args, **kwargs)
        except BaseException as error:
            pick.failed(error)
            raise
        pick.picked(deployment)
        return deployment

    return _like(name, select)


def _selector(router: Any, select: Callable[..., Any]) -> Callable[..., Any]:
    """A user's own strategy (``set_custom_routing_strategy``), as a selection."""
    if inspect.iscoroutinefunction(select):

        @functools.wraps(select)
        async def select_async(*args: Any, **kwargs: Any) -> Any:
            pick = _pick(router, args, kwargs)
            if pick is None:
                return await select(*args, **kwargs)
            try:
                deployment = await select(*args, **kwargs)
            except BaseException as error:
                pick.failed(error)
                raise
            pick.picked(deployment)
            return deployment

        return select_async

    @functools.wraps(select)
    def select_sync(*args: Any, **kwargs: Any) -> Any:
        pick = _pick(router, args, kwargs)
        if pick is None:
            return select(*args, **kwargs)
        try:
            deployment = select(*args, **kwargs)
        except BaseException as error:
            pick.failed(error)
            raise
        pick.picked(deployment)
        return deployment

    return select_sync


def _probe() -> Probe | None:
    frame = current_frame()
    return frame.owner if frame is not None and isinstance(frame.owner, Probe) else None


def _filter(name: str, reason: str) -> Callable[..., Any]:
    """An override of one filter step: what went in, what came out."""

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        left = getattr(super(TracedRouter, self), name)(*args, **kwargs)
        probe = _probe()
        if probe is not None:
            probe.filtered(reason, kwargs.get("healthy_deployments", args[0] if args else None), left)
        return left

    return _like(name, step)


def _filter_async(name: str, reason: str) -> Callable[..., Any]:
    async def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        left = await getattr(super(TracedRouter, self), name)(*args, **kwargs)
        probe = _probe()
        if probe is not None:
            probe.filtered(reason, kwargs.get("healthy_deployments", args[0] if args else None), left)
        return left

    return _like(name, step)


def _like(name: str, override: Callable[..., Any]) -> Callable[..., Any]:
    """``override`` under the name and signature of what it overrides."""
    original = getattr(litellm.Router, name, None)
    if not callable(original):
        override.__name__ = name
        return override
    return functools.wraps(original)(override)


# --- mirrors ---------------------------------------------------------------------------------------


class _MirrorThread:
    """``_silent_experiment_completion``: litellm runs it in a bare thread, where no context is left.

    Reading the method is the last thing that happens in the caller's context, so that is where the
    call which is mirrored is remembered. It can be replaced on an instance, as any method can.
    """

    def __get__(self, router: Any, _owner: type | None = None) -> Any:
        if router is None:
            return self
        original = getattr(super(TracedRouter, router), seams.MIRROR_SYNC)
        mirror = _mirror()

        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            token = attach(_mirrored(mirror))
            try:
                return original(*args, **kwargs)
            finally:
                detach(token)

        return run


def _mirror() -> Mirror:
    call, _ = _call()
    return Mirror(None if call is None else call.span_context)


def _mirrored(mirror: Mirror) -> Any:
    from opentelemetry import context as otel_context

    return with_frame(Frame(None, owner=mirror), otel_context.get_current())


class TracedRouter(litellm.Router):
    """litellm's ``Router``, and one OpenTelemetry trace per call.

    Takes litellm's arguments, positional ones included, and:

    Args:
        tracer_provider: where spans go; the global provider at the time of each call when not given.
        meter_provider: where measurements go; likewise.
        logger_provider: where log records go; likewise.
        settings: see :class:`TracedRouterSettings`; from the environment when not given.

    Raises:
        ConfigurationError: when one of these is not what it should be.
    """

    def __init__(
        self,
        *args: Any,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: TracedRouterSettings | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = _construction.Arguments(tracer_provider, meter_provider, logger_provider, settings)
        arguments.check()
        _construction.check_strategy(kwargs.get("routing_strategy"))
        if seams.ENGINE == "hosted":
            host = _hosted.TracingHost()
            seams.attach_core(self, args, kwargs, host)
            core = seams.core_of(self)
            tracing = _construction.tracing(core, arguments)
            core.__dict__[_STATE] = tracing
            if not seams.runs_overrides(core, type(self)):
                _hosted.take_over(self, host, tracing)
        else:
            super().__init__(*args, **kwargs)
            self.__dict__[_STATE] = _construction.tracing(self, arguments)

    @property
    def tracing_capabilities(self) -> Mapping[str, str]:
        """How much of each layer of a trace this litellm can show: ``full``, ``partial`` or ``none``."""
        return dict(_tracing(self).capabilities)

    for _entry_point in seams.ENTRIES:
        if hasattr(litellm.Router, _entry_point.name):
            vars()[_entry_point.name] = _entry(_entry_point)
    for _name in seams.BATCHES:
        if hasattr(litellm.Router, _name):
            vars()[_name] = _batch(_name)
    del _entry_point, _name

    def factory_function(self, original_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make an endpoint; litellm keeps it on the instance."""
        endpoint = super().factory_function(_provider(original_function), *args, **kwargs)
        call_type = _argument("call_type", 0, args, kwargs) or "assistants"
        name = original_function.__name__ if call_type == "assistants" else call_type
        return _endpoint(self, name, endpoint)

    def _update_kwargs_before_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._update_kwargs_before_fallbacks(*args, **kwargs)
        call, _ = _call()
        if call is not None:
            call.adopt_trace_id((_argument("kwargs", 1, args, kwargs) or {}).get(seams.TRACE_ID))
        return result

    def function_with_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chain for a synchronous call: in a thread of its own when a loop is running here."""
        hand_over(kwargs)
        return super().function_with_fallbacks(*args, **kwargs)

    # --- the chain: hops, retries, attempts, waits ----------------------------------------------

    async def async_function_with_fallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """One group's turn: the call itself, or a fallback hop of it."""
        handed = take_over(kwargs)
        token = None if handed is None else attach(handed)
        try:
            call, frame = _call()
            depth = kwargs.get(seams.FALLBACK_DEPTH) or 0
            if call is None or frame is None or not depth:
                if call is not None:
                    call.claimed = True
                return await super().async_function_with_fallbacks(*args, **kwargs)
            plan = frame.owner if isinstance(frame.owner, FallbackPlan) else None
            target = seams.model_group_of(self, kwargs.get("model")) or ""
            hop = call.hop(target, "model_group" if plan is None else plan.kind(kwargs), depth)
            if hop is None:
                return await super().async_function_with_fallbacks(*args, **kwargs)
            inner = attach(with_frame(Frame(call, hop), hop.span_context))
            try:
                result = await super().async_function_with_fallbacks(*args, **kwargs)
            except Exception as error:
                hop.fail(_readers.failure(error).error_type)
                raise
            finally:
                detach(inner)
            hop.returned()
            return result
        finally:
            if token is not None:
                detach(token)

    async def async_function_with_fallbacks_common_utils(self, *args: Any, **kwargs: Any) -> Any:
        """A group has given up: what comes next?"""
        handed = take_over(_argument("kwargs", 7, args, kwargs) or {})
        token = None if handed is None else attach(handed)
        try:
            call, frame = _call()
            if call is None or frame is None:
                return await super().async_function_with_fallbacks_common_utils(*args, **kwargs)
            error = _argument("e", 0, args, kwargs)
            plan = FallbackPlan(
                error,
                _argument("model_group", 5, args, kwargs),
                _argument("fallbacks", 2, args, kwargs),
                _argument("context_window_fallbacks", 3, args, kwargs),
                _argument("content_policy_fallbacks", 4, args, kwargs),
                frame.owner is PULL or seams.is_mid_stream(error),
            )
            error_type = _readers.failure(error).error_type
            if frame.hop is not None and not frame.hop.done:
                frame.hop.fail(error_type)
            else:
                call.hop_failed(None, error_type)
            inner = attach(with_frame(Frame(call, None, plan), call.parent_context(None)))
            try:
                return await super().async_function_with_fallbacks_common_utils(*args, **kwargs)
            finally:
                detach(inner)
        finally:
            if token is not None:
                detach(token)

    async def async_function_with_retries(self, *args: Any, **kwargs: Any) -> Any:
        """A group's attempts."""
        try:
            return await super().async_function_with_retries(*args, **kwargs)
        finally:
            call, _ = _call()
            if call is not None:
                call.end_backoff()

    def _time_to_sleep_before_retry(self, *args: Any, **kwargs: Any) -> Any:
        seconds = super()._time_to_sleep_before_retry(*args, **kwargs)
        call, frame = _call()
        if call is not None and frame is not None and seconds > 0:
            asked = _readers.failure(_argument("e", 0, args, kwargs)).retry_after
            source = "retry_after" if seams.obeys_retry_after(asked) else "exponential"
            call.backoff(seconds, source, asked, frame.hop)
        return seconds

    async def make_call(self, original_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One attempt function is about to run."""
        call, frame = _call()
        if call is None or frame is None:
            return await super().make_call(original_function, *args, **kwargs)
        scope = Scope(
            call, frame.hop, getattr(original_function, "__name__", ""), _tracing(self).reader, kwargs.get("model")
        )

        async def attempt(*args: Any, **kwargs: Any) -> Any:
            return await _in_scope(scope, original_function, args, kwargs)

        return await super().make_call(attempt, *args, **kwargs)

    async def _ageneric_api_call_with_fallbacks_helper(self, *args: Any, **kwargs: Any) -> Any:
        # A stream that is tried again inside its group comes here without ``make_call``.
        helper = super()._ageneric_api_call_with_fallbacks_helper
        call, frame = _call()
        if call is None or frame is None:
            return await helper(*args, **kwargs)
        scope = Scope(call, frame.hop, seams.GENERIC_ATTEMPT, _tracing(self).reader, kwargs.get("model"))
        return await _in_scope(scope, helper, args, kwargs)

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
        if scope is not None and scope.function == seams.PROMPT_MANAGEMENT and scope.updated_once and not found:
            scope.start()
        return found

    vars()[seams.GET_MODEL_LIST] = _get_model_list
    del _get_model_list

    def _update_kwargs_with_deployment(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._update_kwargs_with_deployment(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.updated(self, _argument("deployment", 0, args, kwargs), _argument("kwargs", 1, args, kwargs))
        return result

    def routing_strategy_pre_call_checks(self, *args: Any, **kwargs: Any) -> Any:
        """The last thing before litellm is called, synchronously."""
        result = super().routing_strategy_pre_call_checks(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.checked(_argument("deployment", 0, args, kwargs))
        return result

    async def async_routing_strategy_pre_call_checks(self, *args: Any, **kwargs: Any) -> Any:
        """The last thing before litellm is called."""
        result = await super().async_routing_strategy_pre_call_checks(*args, **kwargs)
        scope = current_scope()
        if scope is not None:
            scope.checked(_argument("deployment", 0, args, kwargs))
        return result

    # --- streams ----------------------------------------------------------------------------------

    async def _acompletion_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("model_response", args, kwargs)
        return await super()._acompletion_streaming_iterator(*args, **kwargs)

    def _completion_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("model_response", args, kwargs)
        # A stream that dies falls back in a new thread when a loop is running.
        hand_over(_argument("initial_kwargs", 2, args, kwargs))
        return super()._completion_streaming_iterator(*args, **kwargs)

    async def _aresponses_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _followed("response", args, kwargs)
        return await super()._aresponses_streaming_iterator(*args, **kwargs)

    if hasattr(litellm.Router, "_aanthropic_messages_streaming_iterator"):

        async def _aanthropic_messages_streaming_iterator(self, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = _followed("response", args, kwargs)
            return await super()._aanthropic_messages_streaming_iterator(*args, **kwargs)

    # --- selections -------------------------------------------------------------------------------

    vars()[seams.SELECT_ASYNC] = _select_async(seams.SELECT_ASYNC)
    vars()[seams.SELECT_SYNC] = _select_sync(seams.SELECT_SYNC)
    vars()[seams.SELECT_PASS_THROUGH_ASYNC] = _select_async(seams.SELECT_PASS_THROUGH_ASYNC)
    vars()[seams.SELECT_PASS_THROUGH_SYNC] = _select_sync(seams.SELECT_PASS_THROUGH_SYNC)

    def _set_custom_strategy(self, *args: Any, **kwargs: Any) -> Any:
        # litellm sets the strategy's methods on the instance, where they hide the overrides.
        result = getattr(super(), seams.SET_CUSTOM_STRATEGY)(*args, **kwargs)
        for name in (seams.SELECT_ASYNC, seams.SELECT_SYNC):
            own = self.__dict__.get(name)
            if own is not None:
                setattr(self, name, _selector(self, own))
        return result

    vars()[seams.SET_CUSTOM_STRATEGY] = _set_custom_strategy
    del _set_custom_strategy

    def _common_checks_available_deployment(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._common_checks_available_deployment(*args, **kwargs)
        probe = _probe()
        if probe is not None:
            probe.configured(result[1])
        return result

    _filter_cooldown_deployments = _filter("_filter_cooldown_deployments", "cooldown")
    _filter_blocked_deployments = _filter("_filter_blocked_deployments", "blocked")
    _filter_health_check_unhealthy_deployments = _filter("_filter_health_check_unhealthy_deployments", "unhealthy")
    _async_filter_health_check_unhealthy_deployments = _filter_async(
        "_async_filter_health_check_unhealthy_deployments", "unhealthy"
    )
    async_callback_filter_deployments = _filter_async("async_callback_filter_deployments", "other")
    _pre_call_checks = _filter("_pre_call_checks", "context_window")
    _filter_by_routing_plugin_candidates = _filter("_filter_by_routing_plugin_candidates", "plugin")

    async def _get_healthy(self, *args: Any, **kwargs: Any) -> Any:
        found = await getattr(super(), seams.HEALTHY_DEPLOYMENTS)(*args, **kwargs)
        probe = _probe()
        if probe is not None:
            probe.healthy(found)
        return found

    vars()[seams.HEALTHY_DEPLOYMENTS] = _get_healthy
    del _get_healthy

    def _get_routing_context(self, *args: Any, **kwargs: Any) -> Any:
        strategy, selector = super()._get_routing_context(*args, **kwargs)
        probe = _probe()
        if probe is not None:
            probe.routed(strategy)
        return strategy, selector

    async def _select_deployment_async(self, *args: Any, **kwargs: Any) -> Any:
        probe = _probe()
        if probe is not None:
            probe.choosing(kwargs.get("healthy_deployments"))
        return await super()._select_deployment_async(*args, **kwargs)

    def _select_deployment_sync(self, *args: Any, **kwargs: Any) -> Any:
        probe = _probe()
        if probe is not None:
            probe.choosing(kwargs.get("healthy_deployments"))
        return super()._select_deployment_sync(*args, **kwargs)

    # --- mirrors ----------------------------------------------------------------------------------

    async def _silent_experiment_acompletion(self, *args: Any, **kwargs: Any) -> Any:
        token = attach(_mirrored(_mirror()))
        try:
            return await super()._silent_experiment_acompletion(*args, **kwargs)
        finally:
            detach(token)

    vars()[seams.MIRROR_SYNC] = _MirrorThread()


async def _in_scope(
    scope: Scope, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
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


def _followed(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stream's wrapper, with the provider's stream followed for its attempt."""
    call, _ = _call()
    if call is None:
        return args, kwargs
    if args:
        return (follow_attempt(call, args[0]), *args[1:]), kwargs
    return args, {**kwargs, name: follow_attempt(call, kwargs.get(name))}


setattr(
    TracedRouter.__init__, "__signature__", _construction.signature(TracedRouter.__init__)
)  # litellm's proxy reads which arguments a router takes
