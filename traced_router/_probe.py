"""What one selection saw: who was a candidate, who was dropped by which filter, who was picked.

An adapter: it stands in the OpenTelemetry context while litellm picks, the router's filter steps
tell it their input and output, and at the end it says a :class:`DecisionFacts`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from traced_router import _litellm as seams
from traced_router._facts import DecisionFacts

_LIMITS: Final = frozenset({"rate_limit", "context_window"})


def deployment_id(deployment: object) -> str | None:
    """The id of a deployment."""
    if isinstance(deployment, Mapping):
        info: Any = deployment.get("model_info")
        if isinstance(info, Mapping) and info.get("id") is not None:
            return str(info["id"])
    return None


def _ids(deployments: object) -> list[str]:
    if isinstance(deployments, Mapping):
        deployments = [deployments]
    if not isinstance(deployments, Iterable):
        return []
    return [i for i in map(deployment_id, deployments) if i is not None]


class Probe:
    """Collects what one selection does.

    Args:
        router: the router that picks.
        request_kwargs: the call's own, as the pick gets them.
        specific: whether the caller forced a deployment.
        clock: seconds; times the strategy.
    """

    __slots__ = (
        "_clock",
        "_eligible",
        "_excluded",
        "_ids",
        "_kwargs",
        "_last",
        "_router",
        "_specific",
        "_started",
        "_strategy",
    )

    def __init__(
        self,
        router: object,
        request_kwargs: Mapping[str, object],
        *,
        specific: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._router = router
        self._kwargs = dict(request_kwargs)
        self._specific = specific
        self._clock = clock
        self._strategy: str | None = None
        self._ids: list[str] = []
        self._last: list[str] = []
        self._eligible: list[str] = []
        self._excluded: dict[str, str] = {}
        self._started: float | None = None

    def configured(self, deployments: object) -> None:
        """The deployments of the group; one alone, not in a list, was forced."""
        self._ids = _ids(deployments)
        self._last = self._ids
        if isinstance(deployments, Mapping):
            self._specific = True

    def filtered(self, reason: str, before: object, after: object) -> None:
        """A filter step let ``after`` of ``before`` through."""
        left = set(_ids(after))
        for i in _ids(before):
            if i not in left:
                self._excluded.setdefault(i, reason)
        self._last = [i for i in self._last if i in left]

    def healthy(self, deployments: object) -> None:
        """What all filters left."""
        self._eligible = _ids(deployments)

    def routed(self, strategy: object, _selector: object) -> None:
        """The strategy in force for this pick, and the object of litellm's that applies it."""
        if isinstance(strategy, str):
            self._strategy = strategy

    def choosing(self, deployments: object) -> None:
        """The strategy is asked now."""
        self._eligible = _ids(deployments)
        self._started = self._clock()

    def decide(self, chosen: object) -> DecisionFacts:
        """The decision, explained; ``chosen`` is ``None`` when no pick came about."""
        chosen_id = deployment_id(chosen)
        eligible = self._eligible or self._last
        if chosen is None:
            eligible = []
        reason = None
        if chosen_id is not None:
            reason = "forced_specific" if self._specific else "only_candidate" if len(eligible) == 1 else "external"
        for i in self._ids:
            if i not in eligible:
                self._excluded.setdefault(i, "other")
        return DecisionFacts(
            strategy=self._strategy or seams.routing_strategy(self._router),
            reason=reason,
            chosen_id=chosen_id,
            total=len(self._ids) or None,
            eligible=len(eligible) if self._ids else None,
            excluded={i: r for i, r in self._excluded.items() if i in set(self._ids)},
            seconds=None if self._started is None else self._clock() - self._started,
            ids=self._ids,
        )
