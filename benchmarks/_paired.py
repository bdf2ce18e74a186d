"""Figures from rounds of short blocks on a machine that others disturb, and how far they can be trusted.

In a round every contender does one block. A disturbance (somebody on the other half of a core, caches that somebody
else filled) adds to a block and never takes away, and comes and goes within seconds. Two statistics answer to that:

- *undisturbed*: the tenth percentile of a contender's blocks, which leaves the disturbed ones out;
- *paired*: the median of the ratios of two contenders' blocks within the rounds, as neighbours in time share much of a
  disturbance. It includes what is rare by nature, and says in shares of a call what the other says in time.

On a quiet machine they agree. What neither sees is luck that a process keeps for life, with where its memory lies; so
there are several generations of processes, and the interval counts how far they agree.

This module must not know what is measured.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Round = Mapping[str, float]
"""What a block of each contender cost."""
Statistic = Callable[[Sequence[Round]], float]

RESAMPLES: Final = 500
OUTSIDE: Final = 0.025
"""What is left out of an interval at either end: it is one of 95 %."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its bootstrap interval."""

    value: float
    low: float
    high: float

    def __truediv__(self, divisor: float) -> "Estimate":
        """The same in another unit."""
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)

    def told(self, digits: int) -> str:
        """The figure, and its interval in brackets."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def undisturbed(contender: str, base: str | None = None) -> Statistic:
    """What a block of ``contender`` costs when nobody disturbs it; with ``base``, how much more than one of that."""
    if base is None:
        return lambda rounds: _tenth([r[contender] for r in rounds])
    own, other = undisturbed(contender), undisturbed(base)
    return lambda rounds: own(rounds) - other(rounds)


def paired(contender: str, base: str) -> Statistic:
    """How much more a block of ``contender`` costs than its neighbour, at the speed of an undisturbed ``base``."""
    unit = undisturbed(base)
    return lambda rounds: (statistics.median(r[contender] / r[base] for r in rounds) - 1) * unit(rounds)


def ratio(above: Statistic, below: Statistic) -> Statistic:
    """One figure as a multiple of another."""
    return lambda rounds: above(rounds) / below(rounds)


def estimate(generations: Sequence[Sequence[Round]], statistic: Statistic, seed: int) -> Estimate:
    """``statistic`` of all rounds, between the percentiles of a bootstrap in two stages.

    Generations are drawn with replacement, and then as many rounds of each as it has: rounds of the same processes
    are not independent (Davison and Hinkley, Bootstrap Methods and their Application, section 3.8).
    """
    dice = random.Random(seed)
    drawn = sorted(
        statistic([r for rounds in dice.choices(generations, k=len(generations)) for r in _redrawn(rounds, dice)])
        for _ in range(RESAMPLES)
    )
    outside = math.floor(RESAMPLES * OUTSIDE)
    return Estimate(statistic([r for rounds in generations for r in rounds]), drawn[outside], drawn[-1 - outside])


def _redrawn(rounds: Sequence[Round], dice: random.Random) -> list[Round]:
    return dice.choices(rounds, k=len(rounds))


def _tenth(values: list[float]) -> float:
    return sorted(values)[len(values) // 10]
