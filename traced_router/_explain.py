"""Why one of several was chosen, from the numbers that a strategy ranked them by.

Pure: it gets numbers and answers with a reason. It must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple


class Choice(NamedTuple):
    """How the chosen one won. ``runner_up`` is an index into what was ranked."""

    reason: str
    score: float | None = None
    runner_up: int | None = None
    runner_up_score: float | None = None


UNEXPLAINED: Final = Choice("external")
"""The numbers that are known do not lead to the choice that was made: none of them is told."""


def drawn(weights: Sequence[float] | None, count: int, chosen: int) -> Choice:
    """A choice by lot among ``count``. Its score is the chance that the chosen one had.

    Args:
        weights: of each; ``None`` when all were alike.
        count: how many there were.
        chosen: the index of the one drawn.
    """
    if weights is None:
        return Choice("tie_random", 1.0 / count)
    return Choice("weighted_random", weights[chosen] / sum(weights))


def lowest(
    scores: Sequence[float],
    chosen: int,
    *,
    slack: float = 0.0,
    left_out: Callable[[int], bool] | None = None,
    cold: bool = False,
) -> Choice:
    """A choice of the lowest score, at random among those that count as equally low.

    Args:
        scores: of each; the lowest wins.
        chosen: the index of the one that won.
        slack: what is at most that share above the lowest counts as equally low.
        left_out: whether the strategy may have left out the one at an index, as over its own
            limits. That it did is seen from the choice: a better score did not win.
        cold: a score of 0 is no measurement, but the lack of one.
    """
    own = least = scores[chosen]
    second: int | None = None
    for i, score in enumerate(scores):
        if i == chosen:
            continue
        if score * (1.0 + slack) < own:
            if left_out is None or not left_out(i):
                return UNEXPLAINED
            continue
        least = min(least, score)
        if second is None or score < scores[second]:
            second = i
    if cold and own == 0.0:
        reason = "cold_start"
    elif second is not None and scores[second] <= least * (1.0 + slack):
        reason = "tie_random"
    else:
        reason = "lowest_score"
    return Choice(reason, float(own), second, None if second is None else float(scores[second]))
