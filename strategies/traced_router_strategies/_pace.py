"""The pace of a deployment: seconds of service per unit of work, and how much to trust it.

A decayed mean whose gain adapts, as a Kalman filter's does: small while observations agree,
large after a surprise and at the beginning. One pace is kept per capacity that is considered
(see ``_capacity``), since each has its own notion of service; those that nobody believes are
updated now and then only.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Final

from traced_router_strategies._capacity import ALL, Belief, Clocks, Evidence

_SURPRISE: Final = 2.5
"""Standard deviations beyond which an observation is a surprise."""

_SURPRISE_GAIN: Final = 0.4
_BETTER: Final = -0.35
"""Log ratio below which a trial says that the deployment has recovered: then it is believed at once."""

_FADE_SECONDS: Final = 60.0
"""Without observations, what is known fades with this time constant."""

_LEAST_SAMPLES: Final = 12.0
_MOST_SAMPLES: Final = 48.0
_SAMPLES_PER_SCATTER: Final = 75.0
"""Length of the mean, observations: longer where they scatter more."""

_LIMIT: Final = 8.0
"""One observation moves a pace by no more than this factor."""

_FULL_AT_FIRST: Final = 8
_FULL_EVERY: Final = 4
"""All capacities are looked at in the first observations, then in one of four: neighbours saw the same load."""

_SLOW_GAIN: Final = 0.1
"""Of the slow mean of the logarithm, against which scatter is measured, per full observation."""


class Scatter:
    """Standard deviation of the log pace in one group: what the work model cannot explain."""

    __slots__ = ("sigma",)

    def __init__(self) -> None:
        self.sigma = 0.3

    def add(self, residual: float) -> None:
        """One log residual; the mean absolute deviation of a normal is 0.8 sigma."""
        self.sigma = max(0.08, self.sigma + 0.02 * (1.25 * min(1.5, abs(residual)) - self.sigma))

    @property
    def samples(self) -> float:
        """How many observations a mean should be made of."""
        return min(_MOST_SAMPLES, max(_LEAST_SAMPLES, _SAMPLES_PER_SCATTER * self.sigma))


class Pace:
    """Of one deployment. Not locked: its owner is.

    Attributes:
        means: seconds of service per unit of work, per capacity considered; empty before the first observation.
        samples: observations that the means are worth.
        seen: observations so far.
    """

    __slots__ = ("_seen_at", "_slow", "means", "samples", "seen")

    def __init__(self) -> None:
        self.means: list[float] = []
        self.samples = 0.0
        self.seen = 0
        self._seen_at = 0.0
        self._slow: list[float] = []

    def fresh(self, now: float, seconds: float = _FADE_SECONDS) -> float:
        """Observations that the means are worth now, fading with that time constant."""
        return self.samples * exp(-max(0.0, now - self._seen_at) / seconds)

    def observe(
        self,
        work: float,
        elapsed: float,
        clocks: Clocks,
        lost_before: Sequence[float],
        belief: Belief,
        *,
        now: float,
        scatter: Scatter,
        evidence: Evidence,
        trial: bool,
    ) -> None:
        """Learn from a call that ended.

        Args:
            work: how much it was.
            elapsed: how long it took.
            clocks: of the deployment, brought to now.
            lost_before: what they had lost when the call left.
            belief: about the capacity; it learns too.
            now: when the call ended.
            scatter: of the group.
            evidence: of the group, about capacities.
            trial: the call was sent to find out whether the deployment has recovered.
        """
        self.seen += 1
        full = self.seen <= _FULL_AT_FIRST or self.seen % _FULL_EVERY == 0
        looked_at = ALL if full else belief.alive
        observed = {j: clocks.service(elapsed, lost_before, j) / work for j in looked_at}
        if not self.means:
            self.means = [observed[j] for j in ALL]
            self._slow = [log(value) for value in self.means]
            self.samples, self._seen_at = 1.0, now
            return
        residual = log(observed[belief.main] / self.means[belief.main])
        surprise = abs(residual) > _SURPRISE * scatter.sigma
        self._move(observed, belief, self._gain(residual, scatter, surprise=surprise, trial=trial))
        scatter.add(residual)
        self.samples = min(self.fresh(now) + 1.0, scatter.samples)
        self._seen_at = now
        if full:
            self._weigh_capacities(observed, belief, evidence, surprise=surprise)

    def _gain(self, residual: float, scatter: Scatter, *, surprise: bool, trial: bool) -> float:
        if trial and residual < _BETTER:
            return 1.0
        gain = max(1.0 / scatter.samples, 1.0 / (self.samples + 1.0))
        return max(gain, _SURPRISE_GAIN) if surprise else gain

    def _move(self, observed: dict[int, float], belief: Belief, gain: float) -> None:
        means = self.means
        seldom = gain if self.seen <= _FULL_AT_FIRST else min(1.0, gain * _FULL_EVERY)
        for j, value in observed.items():
            mean = means[j]
            step = min(_LIMIT * mean, max(mean / _LIMIT, value)) - mean
            means[j] = mean + (gain if j in belief.alive else seldom) * step

    def _weigh_capacities(
        self, observed: dict[int, float], belief: Belief, evidence: Evidence, *, surprise: bool
    ) -> None:
        """Residuals against a mean too slow to follow the load: one that followed it would explain it away."""
        logs = [log(observed[j]) for j in ALL]
        residuals = [value - slow for value, slow in zip(logs, self._slow, strict=True)]
        gain = _SURPRISE_GAIN if surprise else max(_SLOW_GAIN, 1.0 / (self.seen + 1.0))
        self._slow = [slow + gain * residual for slow, residual in zip(self._slow, residuals, strict=True)]
        if not surprise:
            belief.add(residuals, evidence)
