"""What routers tell each other of a deployment: gauges out, one sum in."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_GAUGES: Final = 5
_MOST: Final = 1e9
"""No gauge is more than that, or less than 0."""


class Heard(NamedTuple):
    """What other routers say of a deployment, summed up.

    Attributes:
        routers: how many say something.
        inflight: their calls in flight there.
        seconds: that one more call would take there, as they find; weighted mean.
        weight: of that mean, fresh observations.
        expected: completions that fell due lately, in sum.
        ended: completions that came, in sum.
    """

    routers: int = 0
    inflight: float = 0.0
    seconds: float = 0.0
    weight: float = 0.0
    expected: float = 0.0
    ended: float = 0.0


NOTHING: Final = Heard()


def plausible(number: float) -> bool:
    """Whether a peer can have meant it; NaN is not."""
    return 0.0 <= number <= _MOST


def gather(peers: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Heard]:
    """Sum up what other routers exported, by candidate id; what is too short or no gauge is another version's."""
    heard: dict[str, Heard] = {}
    for state in peers:
        for id_, gauge in state.items():
            if len(gauge) < _GAUGES or not all(map(plausible, gauge[:_GAUGES])):
                continue
            inflight, seconds, fresh, expected, ended = gauge[:_GAUGES]
            so_far = heard.get(id_, NOTHING)
            weight = so_far.weight + fresh
            heard[id_] = Heard(
                so_far.routers + 1,
                so_far.inflight + inflight,
                (so_far.seconds * so_far.weight + seconds * fresh) / weight if weight > 0.0 else 0.0,
                weight,
                so_far.expected + expected,
                so_far.ended + ended,
            )
    return heard
