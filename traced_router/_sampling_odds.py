"""By which chance a trace is kept, which one it is, and what a kept one stands for.

Two processes that see parts of one trace must choose alike, so the chance is in the trace's id:
the same bits, compared in the same way, as the SDK's ``TraceIdRatioBased``. A head sampler of that
kind and this share are then nested: what is kept of a share of 1 % is 1 % of everything, whether a
head sampler had let through all or the 10 % around it.

A head sampler that follows OpenTelemetry's consistent probability sampling says its threshold in
the tracestate (``ot=th:…``, https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
Then that scale counts: the share raises the threshold, and the spans that it kept say so.

This module must know nothing of the router's spans.
"""

import re
from typing import Final, NamedTuple

from opentelemetry.trace import SpanContext, TraceState

_ID_BITS: Final = 64
"""The low bits of a trace id, which ``TraceIdRatioBased`` looks at."""

_BITS: Final = 56
_ALL: Final = 1 << _BITS
_DIGITS: Final = _BITS // 4

_KEY: Final = "ot"
_THRESHOLD: Final = re.compile(r"(?:^|;)th:([0-9a-f]{1,14})(?=;|$)")
_RANDOM: Final = re.compile(r"(?:^|;)rv:([0-9a-f]{14})(?=;|$)")


class Odds(NamedTuple):
    """One trace's chance.

    Attributes:
        chosen: whether the share has it.
        share_weight: how many traces one stands for that the share has.
        always_weight: how many one stands for that is kept in any case: those that a head sampler
            left out.
        trace_state: what the spans that the share keeps say from now on, if that is news.
    """

    chosen: bool
    share_weight: float
    always_weight: float
    trace_state: TraceState | None = None


class Share:
    """A share of all traces, 0..1; ``head_ratio`` of them come here, where their tracestate does not say."""

    __slots__ = ("_bound", "_floor", "_head_ratio", "_share")

    def __init__(self, share: float, head_ratio: float) -> None:
        self._share = share
        self._head_ratio = head_ratio
        self._bound = round(share * (1 << _ID_BITS))
        self._floor = _ALL - round(share * _ALL)

    def odds(self, context: SpanContext, origin: int | None) -> Odds:
        """The chance of the trace of ``context``; ``origin`` is the trace that it repeats, whose fate it shares.

        Unless a head sampler was there: it chose the two one by one, so that is how they go on.
        """
        state = context.trace_state
        if state:
            odds = self._consistent(context.trace_id, state)
            if odds is not None:
                return odds
        head = self._head_ratio
        trace_id = context.trace_id if origin is None or head < 1.0 else origin
        chosen = trace_id & ((1 << _ID_BITS) - 1) < self._bound
        return Odds(chosen, _weight(min(self._share, head)), _weight(head))

    def _consistent(self, trace_id: int, state: TraceState) -> Odds | None:
        said = state.get(_KEY) or ""
        threshold = _THRESHOLD.search(said)
        if threshold is None:
            return None
        floor = int(threshold[1].ljust(_DIGITS, "0"), 16)
        random = _RANDOM.search(said)
        value = trace_id & (_ALL - 1) if random is None else int(random[1], 16)
        if value < floor:  # whoever sampled this did not go by the threshold
            return None
        head = (_ALL - floor) / _ALL
        if self._floor <= floor:
            return Odds(chosen=True, share_weight=_weight(head), always_weight=_weight(head))
        digits = f"{self._floor:0{_DIGITS}x}".rstrip("0")
        news = state.update(_KEY, said[: threshold.start(1)] + digits + said[threshold.end(1) :])
        return Odds(value >= self._floor, _weight(self._share), _weight(head), news)


def _weight(chance: float) -> float:
    return 1.0 / chance if chance else 1.0
