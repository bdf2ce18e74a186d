"""What a live request shows beyond the shape of its trace: whether the router kept its own rules.

Pure functions of one request's spans, and :class:`Cooldowns`, which remembers from one request to the next. They
report what litellm's own loop does wrong as well: for whoever watches, it is the same router.

This module must not know how the spans were collected.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from traced_router import _names as n
from traced_router.testing._conformance_tree import Ours

LENIENCE: Final = 50_000_000
"""Nanoseconds by which a time may be missed: two readings of a clock, and a pick that was under way."""

_MAX_COOLING: Final = 4096


def too_early(request: Ours) -> Iterator[str]:
    """A provider was called again before the time that it had asked for: the attempt says so itself."""
    for attempt in request.all_attempts:
        for event in attempt.events_named(n.RETRY_AFTER_EVENT):
            asked, early = event.number(n.RETRY_AFTER_ASKED) or 0.0, event.number(n.RETRY_AFTER_EARLY) or 0.0
            deployment = attempt.text(n.DEPLOYMENT_ID)
            yield f"{deployment} had asked to wait {asked:g} s, and was called again {early:.3f} s before that"


def in_circles(request: Ours) -> Iterator[str]:
    """A group that had failed this request was fallen back to: the hop says so itself."""
    for hop in request.fallbacks:
        for _ in hop.events_named(n.CYCLE_EVENT):
            yield f"{hop.text(n.FALLBACK_TO)} had failed, and was fallen back to"


def too_many(request: Ours, allowed: int) -> Iterator[str]:
    """More attempts than are allowed."""
    if len(request.all_attempts) > allowed:
        yield f"it took {len(request.all_attempts)} attempts; allowed are {allowed}"


class Cooldowns:
    """Who is in cooldown, from the events on attempts; bounded. For one thread at a time."""

    def __init__(self) -> None:
        self._cooling: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def hear(self, attempt: Ours) -> None:
        """Take note of the cooldowns that ``attempt`` brought about."""
        for event in attempt.node.events:
            seconds, name = event.attributes.get(n.COOLDOWN_SECONDS), event.attributes.get(n.DEPLOYMENT_ID)
            if event.name == n.COOLDOWN_EVENT and isinstance(seconds, int | float) and isinstance(name, str):
                self._cooling[name] = event.time_ns, event.time_ns + int(seconds * 1e9)
                self._cooling.move_to_end(name)
                if len(self._cooling) > _MAX_COOLING:
                    self._cooling.popitem(last=False)

    def broken(self, request: Ours) -> Iterator[str]:
        """Attempts of ``request`` on a deployment that was in cooldown when it was picked."""
        forced = any(one.text(n.DECISION_REASON) == "forced_specific" for hop in request.hops for one in hop.selections)
        for attempt in () if forced else request.all_attempts:
            deployment = attempt.text(n.DEPLOYMENT_ID) or ""
            since, until = self._cooling.get(deployment, (0, 0))
            if since + LENIENCE < attempt.node.start_ns < until - LENIENCE:
                left = (until - attempt.node.start_ns) / 1e9
                yield f"{deployment} was called with {left:.3f} s of its cooldown left"
