"""When a deployment that lies idle is worth a trial, although what is known of it says no.

A deployment that was better once is tried every few seconds, one call at a time, until a trial
finds it better: then the next may follow at once. One that never was better gets the benefit of
the doubt too, but all such trials of a group together are a small share of its calls: they cost
callers time.
"""

from typing import Final

HOPE: Final = 0.6
"""A deployment that was this much better once is worth a trial. What a trial is hoped to cost is this share of what
is usual: low enough to be picked before deployments that are known to be usual."""

TRIAL_SECONDS: Final = 5.0
"""Idle time before it is tried; with the time of a call, it is tried within 10 s of its recovery."""

_PATIENCE: Final = 12
"""Trials in vain after which they come no more often than :data:`_LATE_SHARE` allows."""

_LATE_SHARE: Final = 0.005
"""Share of a group's calls that such late trials of one deployment may be."""

_DOUBT_SECONDS: Final = 8.0
"""Idle time before a deployment that never was better is tried; it doubles with each trial in vain."""

_DOUBT_SHARE: Final = 0.003
"""Share of a group's calls that such trials may be."""

_LOOK_SECONDS: Final = 1.0
_LONGEST_GAP: Final = 60.0
"""Seconds; a night without calls says nothing of the traffic in the morning."""

_MOST_IN_VAIN: Final = 30
_SETTLED: Final = 4
"""Observations after which a baseline means something."""

FALL: Final = 0.05
RISE: Final = 0.005
"""The baseline follows improvements, and deteriorations so slowly that a fault is not taken for normal."""


class Allowance:
    """What a group may spend on trials.

    Attributes:
        between: mean seconds between its calls.
        doubt_at: when the next deployment that never was better may be tried.
    """

    __slots__ = ("_called_at", "between", "doubt_at")

    def __init__(self) -> None:
        self.between = 1.0
        self.doubt_at = 0.0
        self._called_at: float | None = None

    def called(self, now: float) -> None:
        """A call of the group leaves."""
        if self._called_at is not None:
            gap = min(_LONGEST_GAP, now - self._called_at)
            self.between += 0.02 * (gap - self.between)
        self._called_at = now

    @property
    def look(self) -> float:
        """Seconds after which what is hoped is worth another look."""
        return min(_LOOK_SECONDS, self.between)

    def spend(self, now: float) -> None:
        """A trial out of mere doubt."""
        self.doubt_at = now + self.between / _DOUBT_SHARE


class Trials:
    """Of one deployment. Not locked: its owner is.

    Attributes:
        baseline: the pace that it usually has, seconds per unit of work.
        idle_since: when it last had something to do.
    """

    __slots__ = ("_in_vain", "_mending", "baseline", "idle_since")

    def __init__(self, now: float) -> None:
        self.baseline = 0.0
        self.idle_since = now
        self._in_vain = 0
        self._mending = False

    def hope(
        self, cost: float, unit: float, typical: float, allowance: Allowance, now: float, *, failing: bool = False
    ) -> tuple[float, float]:
        """What a trial may be hoped to cost, and until when nothing changes about that.

        Args:
            cost: of a call, by all that is known.
            unit: work of a typical call.
            typical: pace at which the group serves its calls.
            allowance: of the group.
            now: the time.
            failing: it failed lately, which is part of the cost.
        """
        usual = self.baseline * unit
        if self._mending and usual < cost:
            due, hope = self.idle_since, usual
        elif usual < HOPE * cost:
            late = allowance.between / _LATE_SHARE if self._in_vain >= _PATIENCE else 0.0
            due, hope = self.idle_since + max(TRIAL_SECONDS, late), HOPE * usual
        elif failing and usual > 0.0:
            due, hope = self.idle_since + TRIAL_SECONDS, HOPE * usual
        elif typical * unit >= HOPE * cost:
            return cost, now + _LOOK_SECONDS  # others do no better, or little
        else:
            due = max(self.idle_since + _DOUBT_SECONDS * 2.0 ** min(self._in_vain, 8), allowance.doubt_at)
            hope = HOPE * typical * unit
        return (cost, due) if now < due else (min(cost, hope), now + allowance.look)

    def started(self, pace: float, allowance: Allowance, now: float) -> None:
        """A trial leaves."""
        if not self._mending and self.baseline >= HOPE * pace:
            allowance.spend(now)

    def ended(self, pace: float, before: float) -> None:
        """A trial found this pace, where that was believed."""
        self._mending = pace < HOPE * before or (self._mending and pace < before / HOPE)
        self._in_vain = 0 if self._mending else min(self._in_vain + 1, _MOST_IN_VAIN)

    def seen(self, pace: float, observations: int) -> None:
        """A call ended, and this is the pace that is believed now."""
        if observations <= _SETTLED:
            self.baseline = min(pace, self.baseline or pace)
        else:
            self.baseline += (RISE if pace > self.baseline else FALL) * (pace - self.baseline)
