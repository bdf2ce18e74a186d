"""Load metrics: what a deployment's past says of its latency, in one number."""

from math import exp


class PeakEwma:
    """A decayed mean that follows a rise at once and a fall slowly (finagle's ``PeakEwma``).

    Attributes:
        value: as of ``at``, in the unit of what is observed.
        at: time of the last observation, seconds.
    """

    __slots__ = ("at", "value")

    def __init__(self, value: float, at: float) -> None:
        self.value = value
        self.at = at

    def observe(self, value: float, now: float, decay: float) -> None:
        """One observation; ``decay`` is the time constant of the fall, seconds."""
        keep = exp(min(0.0, self.at - now) / decay)
        faded = keep * self.value
        self.value = value if value > faded else faded + (1.0 - keep) * value
        self.at = max(now, self.at)


class DecayedMean:
    """A mean in which the last ``length`` observations count, more or less.

    Attributes:
        value: the mean; 0 before the first observation.
        weight: observations that it is worth.
    """

    __slots__ = ("_length", "value", "weight")

    def __init__(self, length: float) -> None:
        self._length = length
        self.value = 0.0
        self.weight = 0.0

    def observe(self, value: float) -> None:
        """One observation."""
        self.weight = min(self.weight + 1.0, self._length)
        self.value += (value - self.value) / self.weight
