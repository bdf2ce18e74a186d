"""A decision, for people: one that would be taken now, or one of a request that has ended.

The first is what :meth:`traced_router.TracedRouter.explain` answers, the others are in a
:class:`~traced_router.summary.RequestSummary`.

This module must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from traced_router.strategy import AttributeValue

_NONE: Final[Mapping[str, AttributeValue]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """One deployment of the group.

    Attributes:
        id: the deployment's.
        score: what the strategy ranks by, where it says so; see `Explanation.rank_by`.
        excluded: why it was left out, as ``traced_router.candidates.excluded.*`` names it; ``None``
            when it was not.
        chosen: whether it would be called.
    """

    id: str
    score: float | None = None
    excluded: str | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be decided now, or was; ``str()`` makes a table of it.

    Attributes:
        model_group: the group asked for.
        strategy: the strategy in force.
        reason: why the chosen one won, as ``traced_router.decision.reason``.
        chosen_id: the deployment that would be called, or was; ``None`` when there is none.
        rank_by: what scores measure. Lower is better, except where lots were drawn (``weighted_random``,
            or ``rank_by`` is ``random``): there a score is the chance to be drawn, 0 to 1.
        candidates: the chosen one first, then by score, then the excluded ones. Of a request that has ended, all
            of them where a router has an ``on_request_end``; else those that a filter or a strategy named.
        considered: how many candidates the strategy looked at; where that is not all, a score that was not
            looked at can be better than the chosen one's.
        predicted_seconds: how long the strategy expects the attempt to take.
        attributes: the strategy's own facts.
        error_type: the exception that a call would raise when there is nobody to choose.
    """

    model_group: str | None = None
    strategy: str | None = None
    reason: str | None = None
    chosen_id: str | None = None
    rank_by: str | None = None
    candidates: tuple[ExplainedCandidate, ...] = ()
    considered: int | None = None
    predicted_seconds: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: _NONE)
    error_type: str | None = None

    def __str__(self) -> str:
        head = f"{self.model_group}: {self.chosen_id or 'nobody'}"
        told = [f"{name} {value}" for name, value in (("by", self.strategy), ("because", self.reason)) if value]
        if self.predicted_seconds is not None:
            told.append(f"in about {self.predicted_seconds:.3g} s")
        eligible = sum(one.excluded is None for one in self.candidates)
        if self.considered is not None and self.considered < eligible:
            told.append(f"{self.considered} of {eligible} looked at")
        if self.error_type is not None:
            told.append(f"a call would raise {self.error_type}")
        rows = [("", "deployment", self.rank_by or "score", "excluded"), *map(_row, self.candidates)]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        facts = [
            f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
            for name, value in self.attributes.items()
        ]
        return "\n".join([", ".join([head, *told]), *table, *facts])


def _row(candidate: ExplainedCandidate) -> tuple[str, str, str, str]:
    return (
        "→" if candidate.chosen else "",
        candidate.id,
        "" if candidate.score is None else f"{candidate.score:.4g}",
        candidate.excluded or "",
    )
