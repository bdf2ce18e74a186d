"""Finding routing strategies: by name, among the installed packages' entry points, or as objects.

The entry-point group is ``traced_router.strategies``; the name is what ``routing_strategy=`` takes,
and the object is a class whose constructor needs no argument. Nothing is imported before it is asked
for. This module must not know litellm.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from traced_router.errors import ConfigurationError
from traced_router.strategy import RoutingStrategy

GROUP: Final = "traced_router.strategies"


def available() -> dict[str, EntryPoint]:
    """The installed strategies, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def is_strategy(thing: object) -> bool:
    """Whether ``thing`` is a strategy object, or nearly one."""
    return not isinstance(thing, (str, type)) and callable(getattr(thing, "pick", None))


def load(name: str) -> RoutingStrategy:
    """A new strategy of that name.

    Raises:
        ConfigurationError: when it cannot be made.
    """
    point = available()[name]
    try:
        made: Any = point.load()()
    except Exception as error:
        raise ConfigurationError(
            f"routing_strategy={name!r}: the entry point {point.value!r} cannot be used "
            f"({type(error).__name__}: {error}). "
            "It must name a class whose constructor needs no arguments."
        ) from error
    return checked(made)


def checked(strategy: Any) -> RoutingStrategy:
    """``strategy``, if it has all that a strategy needs.

    Raises:
        ConfigurationError: naming what it lacks.
    """
    lacking = [m for m in ("pick", "started", "first_chunk", "finished") if not callable(getattr(strategy, m, None))]
    if not isinstance(getattr(strategy, "name", None), str):
        lacking.insert(0, "name")
    if lacking:
        raise ConfigurationError(
            f"{type(strategy).__name__} is no routing strategy: it has no {', '.join(lacking)}. "
            "See traced_router.RoutingStrategy for what one needs."
        )
    return strategy  # type: ignore[no-any-return]  # the protocol was checked just now
