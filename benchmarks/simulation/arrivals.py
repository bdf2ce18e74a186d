"""When calls arrive: Poisson, with bursts, ramps and waves composed on top."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, pi, sin
from random import Random
from typing import Protocol


class Arrivals(Protocol):
    """A point process."""

    def times(self, duration: float, rng: Random) -> Iterator[float]:
        """Increasing times in ``[0, duration)``, seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Poisson arrivals whose rate is ``rate`` × a shape.

    Drawn by thinning (Lewis and Shedler 1979): candidates at the highest rate, each kept with
    probability rate(t) / highest.

    Attributes:
        rate: calls per second outside bursts.
        burst: factor on the rate while a burst lasts.
        burst_seconds: mean length of a burst (exponential).
        calm_seconds: mean time between bursts (exponential); infinite for none.
        wave: relative amplitude of a sinusoidal swing.
        wave_seconds: its period.
        ramp: factor on the rate that is reached, linearly, at the end.
    """

    rate: float
    burst: float = 1.0
    burst_seconds: float = 5.0
    calm_seconds: float = inf
    wave: float = 0.0
    wave_seconds: float = 120.0
    ramp: float = 1.0

    def times(self, duration: float, rng: Random) -> Iterator[float]:
        """Increasing times in ``[0, duration)``, seconds."""
        bursts = list(self._bursts(duration, rng))
        highest = self.rate * max(1.0, self.burst) * (1.0 + self.wave) * max(1.0, self.ramp)
        at = 0.0
        while (at := at + rng.expovariate(highest)) < duration:
            while bursts and bursts[0][1] < at:
                bursts.pop(0)
            bursting = bool(bursts) and bursts[0][0] <= at
            if rng.random() * highest < self._rate(at / duration, at, bursting=bursting):
                yield at

    def _rate(self, progress: float, at: float, *, bursting: bool) -> float:
        wave = 1.0 + self.wave * sin(2.0 * pi * at / self.wave_seconds)
        ramp = 1.0 + (self.ramp - 1.0) * progress
        return self.rate * wave * ramp * (self.burst if bursting else 1.0)

    def _bursts(self, duration: float, rng: Random) -> Iterator[tuple[float, float]]:
        if self.calm_seconds == inf:
            return
        at = rng.expovariate(1.0 / self.calm_seconds)
        while at < duration:
            end = at + rng.expovariate(1.0 / self.burst_seconds)
            yield at, end
            at = end + rng.expovariate(1.0 / self.calm_seconds)
