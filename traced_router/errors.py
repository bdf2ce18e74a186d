"""What goes wrong when a router is built, in the words of whoever built it.

Every error here says what was given, what is allowed, and what to do. Nothing is raised later:
a call that comes in is never refused by tracing.
"""

import difflib
from collections.abc import Iterable


class TracedRouterError(Exception):
    """The root of this package's errors."""


class ConfigurationError(TracedRouterError, ValueError):
    """An argument of :class:`traced_router.TracedRouter`, or a setting, that cannot be used."""


class UnknownStrategyError(ConfigurationError):
    """A routing strategy that neither litellm nor an installed package has."""

    def __init__(self, given: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(given), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"routing_strategy={given!r} is not known.{hint} Give one of {', '.join(names)}, "
            "or a strategy object; a strategy of your own needs an entry point in the group "
            "'traced_router.strategies'."
        )
