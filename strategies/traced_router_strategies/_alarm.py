"""An alarm for a deployment that has stopped answering in time, from the answers that are missing.

While n calls are in flight and each is expected to take T seconds, n / T completions fall due per
second. What fell due is compared with what came, over the last few completions: the ratio rises
within a fraction of T of a slowdown, before a single slow answer is there to be measured, and
without end when nothing answers any more. It is Little's law, read as a test.
"""

from typing import Final

_MEMORY: Final = 5.0
"""Completions over which the two are compared."""

_LEAST_MEMORY: Final = 1.25
"""The same where many routers compare notes, completions of each."""

_PRIOR: Final = 2.0
"""Completions of each kind that are taken for granted: one late call is no alarm."""

_MARGIN: Final = 0.2
"""Excess of the ratio over 1 that is noise."""

_NEWS: Final = 0.05
"""Relative change of the ratio that is worth a new look."""

_SHORTEST: Final = 0.005
"""Seconds between looks: no answer is missing for less."""


class Alarm:
    """Of one deployment. Not locked: its owner is.

    Attributes:
        expected: completions that fell due, decayed with each that came.
        ended: completions that came, likewise.
    """

    __slots__ = ("_keep", "ended", "expected")

    def __init__(self) -> None:
        self.expected = 0.0
        self.ended = 0.0
        self._keep = 1.0 - 1.0 / _MEMORY

    def compare_notes(self, routers: int) -> None:
        """So many other routers watch the same deployment: each needs to remember less."""
        self._keep = 1.0 - 1.0 / max(_LEAST_MEMORY, _MEMORY / (1.0 + routers))

    def came(self) -> None:
        """A call was answered."""
        self.expected *= self._keep
        self.ended = self._keep * self.ended + 1.0

    def left(self, due: float) -> None:
        """A call went without an answer; as far as it was due (0..1), it is not missing."""
        self.ended += due

    def clear(self) -> None:
        """Nothing is missing any more."""
        self.expected = min(self.expected, self.ended)

    def ratio(self, others_expected: float, others_ended: float) -> float:
        """How many times slower than believed the deployment must be; 1 when nothing is missing."""
        expected, ended = self.expected + others_expected, self.ended + others_ended
        return max(1.0, (expected + _PRIOR) / (ended + _PRIOR) - _MARGIN)

    def next_look(self, per_second: float) -> float:
        """Seconds until the ratio can have changed by :data:`_NEWS`, when so many completions fall due per second."""
        ended = self.ended + _PRIOR
        due = max(_NEWS * ended, (1.0 + _MARGIN) * ended - self.expected - _PRIOR)
        return max(_SHORTEST, due / per_second)
