"""The pace of a deployment: seconds of service per unit of work, and how much to trust it.

A decayed mean whose gain adapts, as a Kalman filter's does: small while observations agree,
large after a time without any, after a surprise, and at the beginning. One pace is kept per
capacity that is considered (see ``_capacity``), since each has its own notion of service.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Final

_SURPRISE: Final = 2.5
"""Standard deviations beyond which an observation is a surprise."""

_SURPRISE_GAIN: Final = 0.4
_TRIAL_GAIN: Final = 0.9
_TRIAL_BETTER: Final = -0.35
"""Log ratio below which a trial says that the deployment has recovered."""

_FORGET_SECONDS: Final = 10.0
"""Without observations, what is known fades with this time constant."""

_LEAST_SAMPLES: Final = 12.0
_MOST_SAMPLES: Final = 48.0
_SAMPLES_PER_SCATTER: Final = 75.0
"""Length of the mean, observations: longer where they scatter more."""

_LIMIT: Final = 8.0
"""One observation moves a pace by no more than this factor."""

_SLOW_KEEP: Final = 0.97
"""Forgetting of the slow mean of the logarithm, against which scatter is measured."""


class Scatter:
    """Standard deviation of the log pace of one group: what the work model cannot explain."""

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
        means: seconds of service per unit of work, per capacity considered.
        samples: observations that the means are worth; 0 before the first.
        seen_at: when the last observation was made.
    """

    __slots__ = ("_seen", "_slow", "means", "samples", "seen_at")

    def __init__(self, now: float) -> None:
        self.means: list[float] = []
        self.samples = 0.0
        self.seen_at = now
        self._seen = 0
        self._slow: list[float] = []

    def observe(
        self, observed: Sequence[float], believed: int, now: float, scatter: Scatter, *, idle: float, trial: bool
    ) -> list[float] | None:
        """Learn from a call that ended.

        Args:
            observed: its service per unit of work, per capacity; positive.
            believed: index of the capacity that is believed most.
            now: when it ended.
            scatter: of the group.
            idle: seconds that the deployment had nothing to do before the call.
            trial: the call was sent to find out whether the deployment has recovered.

        Returns:
            The squared log residuals per capacity, as evidence of the capacity, when they are any.
        """
        if self.samples <= 0.0:
            self.means = list(observed)
            self._slow = [log(value) for value in observed]
            self.samples, self.seen_at = 1.0, now
            return None
        residual = log(observed[believed] / self.means[believed])
        gain = max(1.0 / scatter.samples, 1.0 / (self.samples + 1.0), 1.0 - exp(-idle / _FORGET_SECONDS))
        surprise = abs(residual) > _SURPRISE * scatter.sigma
        if surprise:
            gain = max(gain, _SURPRISE_GAIN)
        if trial and residual < _TRIAL_BETTER:
            gain = _TRIAL_GAIN
        scatter.add(residual)
        for j, value in enumerate(observed):
            mean = self.means[j]
            self.means[j] = mean + gain * (min(_LIMIT * mean, max(mean / _LIMIT, value)) - mean)
        faded = self.samples * exp(-max(0.0, now - self.seen_at) / _FORGET_SECONDS)
        self.samples = min(faded + 1.0, scatter.samples)
        self.seen_at = now
        return self._scatter_around_slow(observed, surprise=surprise)

    def _scatter_around_slow(self, observed: Sequence[float], *, surprise: bool) -> list[float] | None:
        """Residuals against a mean too slow to follow the load: one that followed it would explain it away."""
        logs = [log(value) for value in observed]
        residuals = [value - slow for value, slow in zip(logs, self._slow, strict=True)]
        self._seen += 1
        keep = 1.0 - _SURPRISE_GAIN if surprise else min(_SLOW_KEEP, 1.0 - 1.0 / (self._seen + 1.0))
        self._slow = [value - keep * residual for value, residual in zip(logs, residuals, strict=True)]
        return None if surprise else [residual * residual for residual in residuals]
