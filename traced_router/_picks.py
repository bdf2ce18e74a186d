"""Around litellm's picks: one selection span each, and what every filter step dropped.

An adapter: it knows the router's methods that pick and filter, and tells the probe and the tree.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._around import Observer, argument, around
from traced_router._current import attach, detach
from traced_router._edges import Above, TracingOf
from traced_router._facts import DecisionFacts
from traced_router._frame import Frame, current_frame
from traced_router._litellm_filters import Filter
from traced_router._probe import Probe, enter, leave, probe_of
from traced_router._scope import Scope
from traced_router._seat import Seat, Wanted
from traced_router._spans import Selection
from traced_router._strategies import Strategies
from traced_router._summaries import explained
from traced_router._tracing import RouterTracing
from traced_router._tree import Call
from traced_router.explanation import Explanation

_NOTHING: Final[Mapping[str, Any]] = {}


class BarePick:
    """A pick outside a call: no span, but a strategy of ours decides it all the same."""

    __slots__ = ("_entered",)
    countdown = None

    def __init__(self, probe: Probe) -> None:
        self._entered = enter(probe)

    def returned(self, result: Any) -> Any:
        """litellm has picked the deployment ``result``."""
        leave(self._entered)
        return result

    def raised(self, _error: BaseException) -> None:
        """litellm found no deployment, or was interrupted."""
        leave(self._entered)


class Pick:
    """One selection, around litellm's own pick.

    ``reader`` knows the chosen deployment's model, where some vocabulary asks for it.
    """

    __slots__ = ("_entered", "_group", "_probe", "_reader", "_scope", "_selection", "_token")
    countdown = None

    def __init__(
        self,
        frame: Frame,
        selection: Selection,
        probe: Probe,
        group: str | None,
        reader: _readers.DeploymentReader | None,
    ) -> None:
        self._group = group
        self._reader = reader
        self._probe = probe
        self._scope = frame.owner if isinstance(frame.owner, Scope) else None
        self._selection = selection
        self._token = attach(selection.context)
        self._entered = enter(probe)

    def returned(self, result: Any) -> Any:
        """litellm has picked the deployment ``result``."""
        leave(self._entered)
        detach(self._token)
        decision = self._probe.decide(result)
        if self._reader is not None and decision is not None:
            decision = decision._replace(chosen_model=self._reader.read(result).model)
        self._selection.end(decision)
        if self._scope is not None:
            self._scope.picked(result, self._group, self._probe.request)
        return result

    def raised(self, error: BaseException) -> None:
        """litellm found no deployment, or was interrupted."""
        leave(self._entered)
        detach(self._token)
        if isinstance(error, Exception):
            self._selection.end(self._probe.failed(error), _readers.failure(error))
        else:
            self._selection.end(None)


def begin_pick(
    tracing: RouterTracing,
    router: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    strategy: str | None = None,
) -> Pick | BarePick | None:
    """A pick begins; ``None`` inside another pick, and when nobody wants to know.

    ``strategy`` names one that does the whole pick itself.
    """
    outer = probe_of(router)
    if outer is not None and outer.peeking:
        return None
    frame = current_frame()
    call = frame.call if frame is not None else None
    if frame is None or not isinstance(call, Call):
        return None if outer is not None else _begin_bare(tracing, router, args, kwargs)
    # litellm's asynchronous pick hands on to its synchronous one for some strategies: one pick.
    if isinstance(frame.owner, Probe):
        return None
    try:
        model = argument("model", 0, args, kwargs)
        specific = argument("specific_deployment", 4, args, kwargs) is True
        group = seams.group_of_provider_model(router, model) if specific else None
        group = group or seams.model_group_of(router, model)
        call.claimed = True
        probe = Probe(
            router,
            call.guard,
            group,
            kwargs.get("request_kwargs") or _NOTHING,
            specific=specific,
            strategy=strategy,
            listing=call.limits.list_candidates or call.failed or call.told,
            scope=frame.owner if isinstance(frame.owner, Scope) else None,
        )
        selection = call.select(group, frame.hop, probe)
        reader = None if tracing.tree.mirror is None else tracing.reader
        return None if selection is None else Pick(frame, selection, probe, group, reader)
    except Exception as fault:  # noqa: BLE001  # the pick goes on, untraced
        call.guard.report("selection", fault)
        return None


def _begin_bare(
    tracing: RouterTracing, router: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> BarePick | None:
    if not tracing.strategies.active:
        return None
    group = argument("model", 0, args, kwargs)
    return BarePick(Probe(router, tracing.guard, group, kwargs.get("request_kwargs") or _NOTHING))


def pick(name: str, original: Callable[..., Any], above: Above, tracing_of: TracingOf) -> Callable[..., Any]:
    """An override of one of the router's methods that pick."""

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return begin_pick(tracing_of(args[0]), args[0], args[1:], kwargs)

    return around(call, begin, original)


def custom(router: Any, select: Callable[..., Any], strategy: str, tracing_of: TracingOf) -> Callable[..., Any]:
    """A user's own strategy (``set_custom_routing_strategy``), as a selection."""

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return begin_pick(tracing_of(router), router, args, kwargs, strategy)

    return around(select, begin)


def filter_step(step: Filter, original: Callable[..., Any], above: Above) -> Callable[..., Any]:
    """An override of one filter step: how many went in, how many came out.

    It runs up to eight times in a pick, so it does without an observer.
    """
    name, unseen = step.name, bool(step.unseen)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def step_async(router: Any, *args: Any, **kwargs: Any) -> Any:
            probe = probe_of(router)
            if probe is None:
                return await above(router, name)(*args, **kwargs)
            if unseen:
                probe.enters(step, kwargs.get("healthy_deployments"))
            try:
                left = await above(router, name)(*args, **kwargs)
            except Exception:
                probe.passed(step, (), kwargs)
                raise
            probe.passed(step, left, kwargs)
            return left

        return step_async

    @functools.wraps(original)
    def step_sync(router: Any, *args: Any, **kwargs: Any) -> Any:
        probe = probe_of(router)
        if probe is None:
            return above(router, name)(*args, **kwargs)
        if unseen:
            probe.enters(step, kwargs.get("healthy_deployments"))
        try:
            left = above(router, name)(*args, **kwargs)
        except Exception:
            probe.passed(step, (), kwargs)
            raise
        probe.passed(step, left, kwargs)
        return left

    return step_sync


# --- what would be picked ------------------------------------------------------------------------


class Peek:
    """A pick for its own sake: it changes nothing, makes no span, and says why."""

    __slots__ = ("_entered", "_group", "_probe")

    def __init__(self, tracing: RouterTracing, router: Any, model: object, request: Mapping[str, Any]) -> None:
        self._group = seams.model_group_of(router, model)
        self._probe = Probe(router, tracing.guard, self._group, request, listing=True, peeking=True)
        self._entered = enter(self._probe)

    def returned(self, result: Any) -> Explanation:
        """litellm would pick the deployment ``result``."""
        leave(self._entered)
        return self._explained(self._probe.decide(result), None)

    def raised(self, error: Exception) -> Explanation:
        """litellm would find no deployment."""
        leave(self._entered)
        return self._explained(self._probe.failed(error), type(error).__name__)

    def _explained(self, facts: DecisionFacts | None, error_type: str | None) -> Explanation:
        return explained(self._group, facts, error_type)


# --- the strategy --------------------------------------------------------------------------------


class Choosing:
    """litellm's last step, in which a strategy chooses: one of ours, or litellm's behind the resilience layer.

    Args:
        router: the router that picks.
        probe: of the pick.
        strategies: of that router.
        kwargs: of litellm's method, all named.
        lasting: whether the event loop that runs here lasts longer than the pick.
    """

    __slots__ = ("_guarding", "_probe", "_wanted", "chosen", "decided", "kwargs")

    def __init__(
        self, router: Any, probe: Probe, strategies: Strategies, kwargs: Mapping[str, Any], *, lasting: bool
    ) -> None:
        messages = kwargs.get("messages")
        self._wanted = Wanted(
            router,
            kwargs["model"],
            kwargs["healthy_deployments"],
            kwargs.get("request_kwargs") or _NOTHING,
            kwargs.get("input") if messages is None else messages,
            probe,
            lasting,
        )
        self._probe = probe
        self._guarding: Seat | None = None
        self.kwargs = kwargs
        self.chosen: Any = None
        seat = kwargs.get("selector")
        self.decided = isinstance(seat, Seat)
        """Whether one of ours has chosen."""
        if isinstance(seat, Seat):
            self.chosen = seat.pick(self._wanted)
            return
        if strategies.guarding is not None:
            self._guarding = strategies.guarding
            self.kwargs = {**kwargs, "healthy_deployments": self._guarding.narrow(self._wanted)}
        probe.choosing(self.kwargs)

    def chose(self, deployment: Any) -> None:
        """A strategy of litellm's has chosen; ``None`` when it found nobody."""
        self.chosen = deployment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.decided:
            return
        chosen: Any = self.chosen
        self._probe.chose(chosen)
        if self._guarding is not None and chosen is not None:
            self._guarding.took(self._wanted, chosen)
