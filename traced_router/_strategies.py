"""Which strategy decides for which call of one router: the request's, its routing group's, or the router's.

litellm itself is always configured with strategies of its own: where one of ours decides, it is told
``simple-shuffle``, and :mod:`traced_router._router` answers for it at the last step of a pick.

An adapter; it must not know OpenTelemetry.
"""

import weakref
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, Self, TypeAlias

from traced_router import _litellm as seams
from traced_router import _registry
from traced_router._guard import Guard, fails_open
from traced_router._log_lines import StrategyFaults
from traced_router._seat import Seat
from traced_router.errors import UnknownStrategyError
from traced_router.resilience import Resilience, ResilienceOptions
from traced_router.strategy import RoutingStrategy

_MAX_OF_REQUESTS: Final = 64

Resilient: TypeAlias = ResilienceOptions | bool | None
"""The constructor's argument: ``None`` is on for strategies of ours alone; options, or ``True``, for litellm's too."""


class Configured(NamedTuple):
    """The strategies of ours in a router's configuration; ``groups`` by the routing group's name."""

    default: RoutingStrategy | None = None
    groups: Mapping[str, RoutingStrategy] = {}


def resolve(given: object) -> RoutingStrategy | None:
    """The strategy of ours that ``given`` stands for; ``None`` when it is litellm's.

    Raises:
        UnknownStrategyError: nobody has it.
        ConfigurationError: it is none, or it cannot be made.
    """
    if _registry.is_strategy(given):
        return _registry.checked(given)
    name = getattr(given, "value", given)
    if name is None or name in seams.STRATEGIES or name == seams.PRIORITY:
        return None
    known = _registry.available()
    if not isinstance(name, str) or name not in known:
        raise UnknownStrategyError(given, {*seams.STRATEGIES, *known})
    return _registry.load(name)


def translate(settings: Mapping[str, Any]) -> tuple[dict[str, Any], Configured]:
    """Arguments as litellm takes them, and what they said of strategies of ours.

    Args:
        settings: of the router's constructor, or of ``update_settings``.

    Raises:
        UnknownStrategyError: see :func:`resolve`.
        ConfigurationError: likewise.
    """
    out = dict(settings)
    default = resolve(out.get(seams.ROUTING_STRATEGY))
    if default is not None:
        out[seams.ROUTING_STRATEGY] = seams.SHUFFLE
    groups: dict[str, RoutingStrategy] = {}
    if out.get(seams.ROUTING_GROUPS):
        out[seams.ROUTING_GROUPS] = [_translate_group(group, groups) for group in out[seams.ROUTING_GROUPS]]
    return out, Configured(default, groups)


def _translate_group(group: object, found: dict[str, RoutingStrategy]) -> object:
    settings = seams.group_as_mapping(group)
    ours = resolve(settings.get(seams.ROUTING_STRATEGY))
    if ours is None:
        return group
    found[str(settings.get("group_name"))] = ours
    return {**settings, seams.ROUTING_STRATEGY: seams.SHUFFLE}


class Handle(str):
    """A strategy object in a call's arguments, as its name."""

    __slots__ = ("seat",)
    seat: Seat

    def __new__(cls, seat: Seat) -> Self:
        """The name of the strategy in ``seat``, which leads back to it."""
        made = super().__new__(cls, seat.name)
        made.seat = seat
        return made

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


class Strategies:
    """The strategies of ours in one router.

    Args:
        guard: where faults go.
        resilience: where the resilience layer is on.
        router: the router; held weakly.
    """

    def __init__(self, guard: Guard, resilience: Resilient = None, router: object = None) -> None:
        self._router: Callable[[], object] = (lambda: None) if router is None else weakref.ref(router)
        self.guard = guard
        self._faults = StrategyFaults(guard)
        options = resilience if isinstance(resilience, ResilienceOptions) else None
        self.resilience = None if resilience is False else Resilience(options)
        self.guarding = Seat(None, self.resilience, guard) if resilience else None
        """Stands before litellm's own strategies, where the resilience layer is on for them."""
        self.default: Seat | None = None
        self._groups: dict[str, Seat] = {}
        self._of_requests: dict[object, Seat | None] = {}
        self._known: Mapping[str, object] | None = None

    @property
    def active(self) -> bool:
        """Whether a strategy wants to hear of every call."""
        return self.default is not None or bool(self._groups) or self.guarding is not None

    def configure(self, configured: Configured, changed: Callable[[str], bool] = lambda _: True) -> None:
        """From now on these decide.

        Args:
            configured: what decides.
            changed: tells whether a setting was given at all.
        """
        if changed(seams.ROUTING_STRATEGY):
            _close(self.default)
            self.default = None if configured.default is None else self._seat(configured.default)
        if changed(seams.ROUTING_GROUPS):
            _close(*self._groups.values())
            self._groups = {name: self._seat(strategy) for name, strategy in configured.groups.items()}

    def _seat(self, strategy: RoutingStrategy) -> Seat:
        return Seat(strategy, self.resilience, self.guard, self._router())

    def close(self) -> None:
        """The router is given up."""
        _close(self.default, *self._groups.values(), *self._of_requests.values())

    # --- of a call -----------------------------------------------------------------------------

    @fails_open("strategy")
    def seat(self, router: object, model: str, request: Mapping[str, Any] | None) -> Seat | None:
        """The strategy of ours that picks for ``model``; ``None`` when one of litellm's does."""
        asked = None if request is None else request.get(seams.ROUTING_STRATEGY)
        if asked is not None:
            if seams.can_override(asked):
                return None
            own = self._asked_for(asked)
            if own is not None:
                return own
        if self._groups:
            group = seams.routing_group_of(router, model)
            if group is not None:
                return self._groups.get(group)
        return self.default

    def asks(self, request: Mapping[str, Any]) -> bool:
        """Whether a call brings a strategy of ours with it, or may do so."""
        asked = request.get(seams.ROUTING_STRATEGY)
        return asked is not None and not seams.can_override(asked)

    def take_in(self, request: MutableMapping[str, Any]) -> None:
        """Replace a strategy object in a call's arguments by its name: litellm logs and copies those."""
        asked = request.get(seams.ROUTING_STRATEGY)
        if asked is None or isinstance(asked, str):
            return
        seat = self._asked_for(asked)
        if seat is not None:
            request[seams.ROUTING_STRATEGY] = Handle(seat)

    def _asked_for(self, asked: object) -> Seat | None:
        """The seat of the strategy that a call asks for; ``None`` when it is none of ours."""
        if isinstance(asked, Handle):
            return asked.seat
        if isinstance(asked, str):
            return self._by_name(asked)
        if not _registry.is_strategy(asked):
            return None
        return self._remembered(id(asked), lambda: self._seat(_registry.checked(asked)))

    def _by_name(self, name: str) -> Seat | None:
        for seat in (self.default, *self._groups.values()):
            if seat is not None and seat.name == name:
                return seat
        if self._known is None:
            self._known = _registry.available()
        if name not in self._known:
            return None
        return self._remembered(name, lambda: self._seat(_registry.load(name)))

    def _remembered(self, key: object, make: Callable[[], Seat]) -> Seat | None:
        """The seat of a request's strategy: kept, so that what it learns is of use to the next request."""
        if key not in self._of_requests:
            if len(self._of_requests) >= _MAX_OF_REQUESTS:
                _close(*self._of_requests.values())
                self._of_requests.clear()
            try:
                self._of_requests[key] = make()
            except Exception as fault:  # noqa: BLE001  # a call must not fail for it
                self._faults.tell(key if isinstance(key, str) else "a call's own", "load", fault)
                if not isinstance(key, str):
                    return None  # nothing keeps the object, and the next one may have its id
                self._of_requests[key] = None
        return self._of_requests[key]


def _close(*seats: Seat | None) -> None:
    for seat in seats:
        if seat is not None:
            seat.close()


def positional_as_named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A constructor's arguments with the strategy and the groups among those that are named."""
    names = seams.constructor_parameters()
    at = min(names.index(name) for name in (seams.ROUTING_STRATEGY, seams.ROUTING_GROUPS))
    return args[:at], {**dict(zip(names[at:], args[at:], strict=False)), **kwargs}
