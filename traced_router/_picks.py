"""Around litellm's picks: one selection span each, and what every filter step dropped.

An adapter: it knows the router's methods that pick and filter, and tells the probe and the tree.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._around import Observer, argument, around
from traced_router._current import attach, detach
from traced_router._edges import Above
from traced_router._frame import Frame, current_frame
from traced_router._litellm_filters import Filter
from traced_router._probe import Probe, enter, leave, probe_of
from traced_router._scope import Scope
from traced_router._spans import Selection
from traced_router._tree import Call

_NOTHING: Final[Mapping[str, Any]] = {}


class Pick:
    """One selection, around litellm's own pick."""

    __slots__ = ("_entered", "_group", "_probe", "_scope", "_selection", "_token")

    def __init__(self, frame: Frame, selection: Selection, probe: Probe, group: str | None) -> None:
        self._group = group
        self._probe = probe
        self._scope = frame.owner if isinstance(frame.owner, Scope) else None
        self._selection = selection
        self._token = attach(selection.context)
        self._entered = enter(probe)

    def returned(self, result: Any) -> Any:
        """litellm has picked the deployment ``result``."""
        leave(self._entered)
        detach(self._token)
        self._selection.end(self._probe.decide(result))
        if self._scope is not None:
            self._scope.picked(result, self._group)
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
    router: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], strategy: str | None = None
) -> Pick | None:
    """A pick begins; ``None`` outside a traced call, and inside another pick of the same call.

    ``strategy`` names one that does the whole pick itself.
    """
    frame = current_frame()
    call = frame.call if frame is not None else None
    # litellm's asynchronous pick hands on to its synchronous one for some strategies: one pick.
    if frame is None or not isinstance(call, Call) or isinstance(frame.owner, Probe):
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
            listing=call.limits.list_candidates or call.failed,
        )
        selection = call.select(group, frame.hop, probe)
        return None if selection is None else Pick(frame, selection, probe, group)
    except Exception as fault:  # noqa: BLE001  # the pick goes on, untraced
        call.guard.report("selection", fault)
        return None


def pick(name: str, original: Callable[..., Any], above: Above) -> Callable[..., Any]:
    """An override of one of the router's methods that pick."""

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return begin_pick(args[0], args[1:], kwargs)

    return around(call, begin, original)


def custom(router: Any, select: Callable[..., Any], strategy: str) -> Callable[..., Any]:
    """A user's own strategy (``set_custom_routing_strategy``), as a selection."""

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return begin_pick(router, args, kwargs, strategy)

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
