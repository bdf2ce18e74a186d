"""Around litellm's picks: one selection span each, and what every filter step dropped.

An adapter: it knows the router's methods that pick and filter, and tells the probe and the tree.
"""

from collections.abc import Callable, Mapping
from typing import Any

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._around import Observer, argument, around
from traced_router._current import attach, detach
from traced_router._edges import Above
from traced_router._frame import Frame, current_frame
from traced_router._probe import Probe
from traced_router._scope import Scope
from traced_router._spans import Selection
from traced_router._tree import Call


class Pick:
    """One selection, around litellm's own pick."""

    __slots__ = ("_call", "_group", "_probe", "_scope", "_selection", "_token")

    def __init__(
        self, router: Any, call: Call, frame: Frame, selection: Selection, probe: Probe, group: str | None
    ) -> None:
        self._call = call
        self._group = group
        self._probe = probe
        self._scope = frame.owner if isinstance(frame.owner, Scope) else None
        self._selection = selection
        self._token = attach(selection.context)

    def returned(self, deployment: Any) -> Any:
        """litellm has picked."""
        detach(self._token)
        try:
            self._selection.end(self._probe.decide(deployment))
            if self._scope is not None:
                self._scope.picked(deployment, self._group)
        except Exception as fault:  # noqa: BLE001  # the pick stands
            self._call.guard.report("selection", fault)
        return deployment

    def raised(self, error: BaseException) -> None:
        """litellm found no deployment, or was interrupted."""
        detach(self._token)
        try:
            if isinstance(error, Exception):
                self._selection.end(self._probe.decide(None), _readers.failure(error))
        except Exception as fault:  # noqa: BLE001  # the caller gets litellm's error
            self._call.guard.report("selection", fault)
        self._selection.end(None)


def begin_pick(router: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pick | None:
    """A pick begins; ``None`` outside a traced call, and inside another pick of the same call."""
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
        probe = Probe(router, kwargs.get("request_kwargs") or {}, specific=specific)
        selection = call.select(group, frame.hop, probe)
        return None if selection is None else Pick(router, call, frame, selection, probe, group)
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


def custom(router: Any, select: Callable[..., Any]) -> Callable[..., Any]:
    """A user's own strategy (``set_custom_routing_strategy``), as a selection."""

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return begin_pick(router, args, kwargs)

    return around(select, begin)


def current_probe() -> Probe | None:
    """The probe of the pick that runs now."""
    frame = current_frame()
    return frame.owner if frame is not None and isinstance(frame.owner, Probe) else None


class _Step:
    """One filter step, on its way."""

    __slots__ = ("_before", "_probe", "_reason")

    def __init__(self, probe: Probe, reason: str, before: Any) -> None:
        self._probe = probe
        self._reason = reason
        # Some steps drop in place.
        self._before = list(before) if isinstance(before, list) else before

    def returned(self, left: Any) -> Any:
        """What the step let through."""
        self._probe.filtered(self._reason, self._before, left)
        return left

    def raised(self, error: BaseException) -> None:
        """The step refused the whole group."""
        if isinstance(error, Exception):
            self._probe.filtered(self._reason, self._before, ())


def filter_step(
    name: str, original: Callable[..., Any], above: Above, reason: str, position: int
) -> Callable[..., Any]:
    """An override of one filter step: what went in (its argument at ``position``), what came out."""

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        probe = current_probe()
        if probe is None:
            return None
        return _Step(probe, reason, argument("healthy_deployments", position + 1, args, kwargs))

    return around(call, begin, original)
