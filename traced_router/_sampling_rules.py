"""The rules: what makes a trace worth keeping, whatever the dice say.

Whether a rule holds depends on the trace, and on the requests before it, and never on the chance
by which ordinary traces are kept: so every trace that a rule holds for is kept, and stands for itself.
This module must not know traces that are open, nor a chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from traced_router import _names as n
from traced_router._sampling_spans import RequestFacts, SpanFacts
from traced_router._windows import Windows
from traced_router.errors import ConfigurationError

_WINDOW: Final = 1000
"""Requests of a group that a quantile is taken of."""

_LOWEST_QUANTILE: Final = 0.5
_HIGHEST_QUANTILE: Final = 1 - 1 / _WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRules:
    """What is always kept; each rule has its own switch.

    Attributes:
        errors: a span of the trace has the status ERROR. Failures below a request that a retry or a
            fallback saved are left to the next two.
        retries: a request was retried.
        fallbacks: a request fell back.
        cooldowns: a call put a deployment into cooldown.
        slow_seconds: a request took at least as long; ``None`` is off. The time that a stream
            waited for its reader does not count.
        slow_quantile: a request took longer than this share, 0.5 to 0.999, of the last 1,000 that
            were answered for the same operation and model group; ``None`` is off. It holds for nobody
            before there were enough of them: 100 for 0.99.
        wasted_cost: the trace's requests wasted more than this, in USD; ``None`` is off.
    """

    errors: bool = True
    retries: bool = True
    fallbacks: bool = True
    cooldowns: bool = True
    slow_seconds: float | None = None
    slow_quantile: float | None = 0.99
    wasted_cost: float | None = None

    def __post_init__(self) -> None:
        if self.slow_seconds is not None and not self.slow_seconds > 0:
            raise ConfigurationError(f"slow_seconds={self.slow_seconds!r}: give seconds, more than 0, or None.")
        quantile = self.slow_quantile
        if quantile is not None and not _LOWEST_QUANTILE <= quantile <= _HIGHEST_QUANTILE:
            raise ConfigurationError(
                f"slow_quantile={quantile!r}: give a share from {_LOWEST_QUANTILE} to {_HIGHEST_QUANTILE}, or None."
            )
        if self.wasted_cost is not None and not self.wasted_cost >= 0:
            raise ConfigurationError(f"wasted_cost={self.wasted_cost!r}: give USD, at least 0, or None.")


class Judge:
    """Applies the rules. Not thread-safe."""

    __slots__ = ("_durations", "_rules")

    def __init__(self, rules: KeepRules) -> None:
        self._rules = rules
        self._durations = Windows(_WINDOW)

    def reason(self, facts: Sequence[SpanFacts]) -> str | None:
        """Why these spans of one trace are kept, the gravest of several reasons; ``None``: no rule holds."""
        rules = self._rules
        requests = [fact.request for fact in facts if fact.request is not None]
        slow = [self._is_slow(request) for request in requests]
        limit = rules.wasted_cost
        holds = (
            (n.SAMPLED_ERROR, rules.errors and _has_error(facts)),
            (n.SAMPLED_FALLBACK, rules.fallbacks and any(fact.fell_back for fact in facts)),
            (n.SAMPLED_RETRY, rules.retries and any(fact.retried for fact in facts)),
            (n.SAMPLED_COOLDOWN, rules.cooldowns and any(fact.cooled_down for fact in facts)),
            (n.SAMPLED_SLOW, any(slow)),
            (n.SAMPLED_WASTED_COST, limit is not None and sum(request.wasted for request in requests) > limit),
        )
        return next((reason for reason, does in holds if does), None)

    def _is_slow(self, request: RequestFacts) -> bool:
        limit = self._rules.slow_seconds
        slow = limit is not None and request.seconds >= limit
        quantile = self._rules.slow_quantile
        if quantile is not None:
            window = self._durations.of(request.group)
            usual = window.quantile(quantile, round(1 / (1 - quantile)))
            slow = slow or (usual is not None and request.seconds > usual)
            if request.answered:  # what failed at once would make the answers of a normal day look slow
                window.add(request.seconds)
        return slow


def _has_error(facts: Sequence[SpanFacts]) -> bool:
    failed = [fact for fact in facts if fact.error]
    if not failed or any(fact.request is not None for fact in failed):
        return bool(failed)
    saved = {fact.context.span_id for fact in facts if fact.saved}
    above = {fact.context.span_id: fact.parent_id for fact in facts}
    return any(not _is_below(fact.context.span_id, saved, above) for fact in failed)


def _is_below(span_id: int, saved: set[int], above: dict[int, int | None]) -> bool:
    """Whether a span of ``saved`` is above. Each span on the way is taken out of ``above``, and is saved as well."""
    way: list[int] = []
    at: int | None = span_id
    while at is not None and at not in saved:
        way.append(at)
        at = above.pop(at, None)
    if at is None:
        return False
    saved.update(way)
    return True
