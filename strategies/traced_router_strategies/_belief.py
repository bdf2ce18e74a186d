"""What ``least-expected-completion`` believes of one deployment, and what a call there would cost.

Everything here is arithmetic on one deployment's history; comparing deployments is the
strategy's business. The cost is computed when something happened, or when time alone would
change it, and kept in between: a pick only reads it.
"""

from math import inf
from typing import Final

from traced_router.strategy import AttributeValue, Outcome
from traced_router_strategies._capacity import CAPACITIES, Clocks, Evidence, believe
from traced_router_strategies._pace import Pace, Scatter
from traced_router_strategies._throttle import Throttle
from traced_router_strategies._work import WorkModel

_ALARM_CALLS: Final = 5.0
"""Completions over which expected and real ones are compared: the memory of the alarm."""

_ALARM_PRIOR: Final = 2.0
"""Completions of each kind that are taken for granted: one late call is no alarm."""

_ALARM_MARGIN: Final = 0.25
"""Excess of expected over real completions that is noise."""

_FAILURE_GAIN: Final = 0.2
_MAX_ODDS: Final = 50.0
"""Failures per success beyond which a deployment is no worse."""

_BASELINE_FALL: Final = 0.2
_BASELINE_RISE: Final = 0.005
"""The baseline follows improvements fast, and deteriorations so slowly that a fault is not taken for normal."""

_WORTH_A_TRIAL: Final = 0.7
"""A baseline below this share of the present belief is worth a trial."""

_CHRONIC_SECONDS: Final = 30.0
"""So long after its last call, a deployment is given the benefit of the doubt, whatever its history."""

_UNLIKELY: Final = 0.02
"""Capacities less probable than this are left out of a prediction."""

_STEP: Final = 0.05
"""Relative change of a cost, by time alone, that is worth computing it again."""

_SHORTEST_STEP: Final = 0.001
_CLOSED_STEP: Final = 0.05
CLOSED: Final = 1e9
"""Cost of a deployment whose rate limit is used up: any other comes first."""

_TAIL: Final = 0.1
"""Weight of what follows the first chunk, when the caller waits for the first chunk."""

_EVIDENCE_EVERY: Final = 4
"""Observations between updates of the belief about the capacity."""


class Group:
    """What the deployments of one model group have in common.

    Attributes:
        work: how much work a call is.
        scatter: what the work model cannot explain.
        evidence: of the capacity, over all deployments.
        typical: seconds that a typical call takes at light load, where it is served now; 0 before the first.
        trial_after: seconds without a call after which a deployment that was better once is tried again.
    """

    __slots__ = ("evidence", "scatter", "trial_after", "typical", "work")

    def __init__(self) -> None:
        self.work = WorkModel()
        self.scatter = Scatter()
        self.evidence = Evidence()
        self.typical = 0.0
        self.trial_after = 8.0


class Flight:
    """One call on its way: the ticket's state."""

    __slots__ = ("distance", "group", "idle", "key", "open", "readings", "sent", "started_at", "trial")

    def __init__(self, group: Group, readings: list[float], started_at: float, sent: int) -> None:
        self.group = group
        self.readings = readings
        self.started_at = started_at
        self.sent = sent
        self.idle = 0.0
        self.trial = False
        self.open = True
        self.key: str | None = None
        self.distance: int | None = None


class Deployment:
    """One deployment. Not locked: its owner is.

    Attributes:
        id: the candidate's.
        inflight: calls of this router in flight.
        peers: calls of other routers in flight, as last heard.
        costs: of sending one more call there, seconds: for a whole answer, and for a first chunk.
        seconds: that such a call would take.
        label: ``cold_start``, ``probe`` or ``lowest_score``: what the cost rests on.
        fresh_until: until when the cost holds if nothing happens.
        closed_for: seconds until the rate limit opens, as of the last look.
    """

    __slots__ = (
        "_baseline", "_clocks", "_ended", "_evidence", "_expected", "_failure_rate", "_failure_seconds",
        "_first", "_first_samples", "_idle_since", "_lone", "_mix", "_odds", "_overdue", "_pace", "_seen", "_unit",
        "closed_for", "costs", "fresh_until", "id", "inflight", "label", "peers", "seconds", "throttle",
    )  # fmt: skip

    def __init__(self, id_: str, now: float) -> None:
        self.id = id_
        self.inflight = 0
        self.peers = 0.0
        self.throttle = Throttle()
        self.costs = (0.0, 0.0)
        self.seconds = 0.0
        self.label: str = "cold_start"
        self.fresh_until = -inf
        self.closed_for = 0.0
        self._clocks = Clocks(now)
        self._pace = Pace(now)
        self._evidence = Evidence()
        self._odds: list[float] | None = None
        self._mix: list[tuple[float, float]] = []
        self._lone = 0.0
        self._unit = 1.0
        self._expected = self._ended = 0.0
        self._overdue = 1.0
        self._failure_rate = self._failure_seconds = 0.0
        self._baseline = 0.0
        self._first = self._first_samples = 0.0
        self._idle_since = now
        self._seen = 0

    # --- what happens to it ------------------------------------------------------------------

    def start(self, group: Group, now: float) -> Flight:
        """A call is sent there."""
        self._advance(now)
        self.throttle.started(now)
        flight = Flight(group, self._clocks.readings, now, self.throttle.sent)
        if self.inflight == 0:
            flight.idle = now - self._idle_since
            flight.trial = self.label == "probe"
        self.inflight += 1
        self.fresh_until = -inf
        return flight

    def first_chunk(self, flight: Flight, now: float, work: float) -> None:
        """The first chunk of a call came, before which that much work was done."""
        self._advance(now)
        if self._pace.samples <= 0.0 or work <= 0.0:
            return
        believed = self._believed(flight.group)
        pace = max(1e-9, self._clocks.readings[believed] - flight.readings[believed]) / work
        if self._first_samples <= 0.0:
            self._first = pace
        else:
            gain = max(1.0 / flight.group.scatter.samples, 1.0 / (self._first_samples + 1.0))
            if flight.trial or pace > 2.0 * self._first or pace < 0.5 * self._first:
                gain = max(gain, 0.4)
            self._first += gain * (min(pace, 8.0 * self._first) - self._first)
        self._first_samples += 1.0
        self.fresh_until = -inf

    def end(self, flight: Flight, outcome: Outcome) -> None:
        """A call ended, however."""
        now = outcome.finished_at
        self._advance(now)
        self.inflight -= 1
        self.fresh_until = -inf
        self.throttle.finished(outcome, flight.started_at, flight.sent)
        if outcome.status == "ok":
            self._succeed(flight, outcome)
        elif outcome.status in ("error", "timeout"):
            self._fail(outcome)
        else:
            self._leave(outcome)
        if self.inflight == 0:
            self._idle_since = now

    def hear_of_peers(self, inflight: float, now: float) -> None:
        """Other routers have so many calls in flight there."""
        self._advance(now)
        self.peers = inflight
        self.fresh_until = -inf

    # --- what a call there would cost --------------------------------------------------------

    def refresh(self, group: Group, now: float) -> None:
        """Compute the costs anew, and until when they hold."""
        self._advance(now)
        crowd = self.inflight + self.peers + 1.0
        self._unit = group.work.mean_work
        if self._pace.samples > 0.0:
            self._expect(group, crowd, now)
        else:
            self._guess(group, crowd)
        if self.throttle.armed:
            self.closed_for = self.throttle.opens_in(now)
            if self.closed_for > 0.0:
                barrier = CLOSED * (1.0 + self.closed_for)
                self.costs = (self.costs[0] + barrier, self.costs[1] + barrier)
            self.fresh_until = min(self.fresh_until, now + _CLOSED_STEP)

    def facts(self, group: Group) -> dict[str, AttributeValue]:
        """What the cost rests on, for a reader of the trace."""
        odds = self._odds or believe(self._evidence, group.evidence)
        facts: dict[str, AttributeValue] = {
            "samples": round(self._pace.samples, 1),
            "light_load_seconds": self._lone * self._unit,
            "capacity": min(CAPACITIES[max(range(len(odds)), key=odds.__getitem__)], 1e6),
            "overdue": self._overdue,
            "failure_rate": self._failure_rate,
        }
        if self.peers:
            facts["inflight_peers"] = self.peers
        if self.closed_for > 0.0:
            facts["rate_limited_seconds"] = self.closed_for
        return facts

    def gauges(self) -> tuple[float, ...]:
        """For other routers: calls in flight, seconds at light load, samples, failure rate."""
        return (float(self.inflight), self._lone * self._unit, self._pace.samples, self._failure_rate)

    def _expect(self, group: Group, crowd: float, now: float) -> None:
        """From experience."""
        loaded, lone, unit = self._loaded(crowd), self._lone, self._unit
        self._overdue = overdue = max(
            1.0, (self._expected + _ALARM_PRIOR) / (self._ended + _ALARM_PRIOR) - _ALARM_MARGIN
        )
        self.seconds = loaded * unit * overdue
        # What the call takes, and what it takes from the others: under processor sharing a call that slows
        # itself down by queueing slows the others down by as much again (marginal cost, Pigou 1920).
        cost = (2.0 * loaded - lone) * unit * overdue
        first = self._first if self._first_samples > 0.0 else lone
        first *= group.work.until_first_chunk(group.work.mean_prompt, 0.0) * (2.0 * loaded / lone - 1.0) * overdue
        first += _TAIL * cost
        if self._failure_rate > 0.0:
            odds = min(_MAX_ODDS, self._failure_rate / (1.0 - self._failure_rate + 1e-9))
            cost += odds * (self._failure_seconds + self.seconds)
            first += odds * (self._failure_seconds + first)
        self.costs = (cost, first)
        self.label = "lowest_score"
        if self.inflight == 0:
            self._doubt(group, cost, first, now)
        else:
            step = _STEP * (self._ended + _ALARM_PRIOR) * self._loaded(crowd - 1.0) * unit / self.inflight
            self.fresh_until = now + max(_SHORTEST_STEP, step)

    def _doubt(self, group: Group, cost: float, first: float, now: float) -> None:
        """Nothing is in flight: what is known ages, and is believed less than what could be."""
        idle = now - self._idle_since
        hope, self.fresh_until = cost, self._idle_since + group.trial_after
        if idle >= group.trial_after:
            self.fresh_until = self._idle_since + _CHRONIC_SECONDS
            if self._baseline < _WORTH_A_TRIAL * cost:
                hope = self._baseline
        if idle >= _CHRONIC_SECONDS:
            self.fresh_until = inf
            hope = min(hope, group.typical)
        if hope < cost:
            self.costs = (hope, first * hope / cost)
            self.label = "probe"

    def _guess(self, group: Group, crowd: float) -> None:
        """Nothing is known yet: as good as the others, but every call that is out unanswered counts twice."""
        typical = group.typical or 1.0
        odds = believe(self._evidence, group.evidence)
        load = sum(odd * max(1.0, crowd / capacity) for odd, capacity in zip(odds, CAPACITIES, strict=True))
        self.seconds = typical * load
        cost = self.seconds * crowd
        share = group.work.until_first_chunk(group.work.mean_prompt, 0.0) / self._unit
        self.costs = (cost, (min(1.0, share) + _TAIL) * cost)
        self.label = "cold_start"
        self.fresh_until = inf

    # --- learning ----------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Let time pass: the clocks run, and completions fall due."""
        inflight = self.inflight
        crowd = inflight + self.peers
        passed = self._clocks.advance(now, crowd)
        if passed and self._mix and inflight:
            self._expected += passed * inflight / (self._loaded(crowd) * self._unit)

    def _succeed(self, flight: Flight, outcome: Outcome) -> None:
        group, now = flight.group, outcome.finished_at
        self._failure_rate *= 1.0 - _FAILURE_GAIN
        if self._failure_rate < 0.01:  # noqa: PLR2004 - as good as none
            self._failure_rate = 0.0
        features, work = _measure(group.work, outcome)
        group.work.count(work, outcome.input_tokens or 0.0, outcome.output_tokens or 0.0)
        served = [max(1e-9, end - start) for end, start in zip(self._clocks.readings, flight.readings, strict=True)]
        believed = self._believed(group)
        squares = self._pace.observe(
            [service / work for service in served], believed, now, group.scatter, idle=flight.idle, trial=flight.trial
        )
        if features is not None and self._pace.samples > 1.0:
            group.work.observe(features, served[believed] / self._pace.means[believed])
        if squares is not None:
            self._evidence.add(squares)
            group.evidence.add(squares)
            self._seen += 1
            if self._seen % _EVIDENCE_EVERY == 0:
                self._odds = believe(self._evidence, group.evidence)
        self._blend(group)
        light = self._lone * group.work.mean_work
        group.typical = light if group.typical <= 0.0 else group.typical + 0.02 * (light - group.typical)
        if self._baseline <= 0.0:
            self._baseline = light
        else:
            self._baseline += (_BASELINE_RISE if light > self._baseline else _BASELINE_FALL) * (light - self._baseline)
        if flight.trial:
            self._expected = self._ended
        self._tick(1.0)

    def _fail(self, outcome: Outcome) -> None:
        self._failure_rate += _FAILURE_GAIN * (1.0 - self._failure_rate)
        gain = 1.0 if self._failure_seconds <= 0.0 else _FAILURE_GAIN
        self._failure_seconds += gain * (outcome.seconds - self._failure_seconds)
        self._leave(outcome)

    def _leave(self, outcome: Outcome) -> None:
        """It ended without an answer: due as much as it was, it is not missing."""
        if outcome.status != "timeout" and self.seconds > 0.0:
            self._tick(min(1.0, outcome.seconds / self.seconds), forget=False)

    def _tick(self, completion: float, *, forget: bool = True) -> None:
        keep = 1.0 - 1.0 / _ALARM_CALLS if forget else 1.0
        self._expected *= keep
        self._ended = keep * self._ended + completion

    def _believed(self, group: Group) -> int:
        odds = self._odds or believe(self._evidence, group.evidence)
        return max(range(len(odds)), key=odds.__getitem__)

    def _blend(self, group: Group) -> None:
        """The paces under the probable capacities, weighted by their probability."""
        odds = self._odds or believe(self._evidence, group.evidence)
        self._mix = [
            (odd * mean, capacity)
            for odd, mean, capacity in zip(odds, self._pace.means, CAPACITIES, strict=True)
            if odd > _UNLIKELY
        ]
        self._lone = sum(weight for weight, _ in self._mix)

    def _loaded(self, crowd: float) -> float:
        """Seconds per unit of work with so many calls in it."""
        total = 0.0
        for weight, capacity in self._mix:
            total += weight if crowd <= capacity else weight * crowd / capacity
        return total


def _measure(model: WorkModel, outcome: Outcome) -> tuple[tuple[float, float, float, float] | None, float]:
    """The features of a call that ended, when its tokens are known, and its work."""
    if outcome.output_tokens is None or outcome.input_tokens is None:
        return None, 1.0
    cached = float(min(outcome.cached_input_tokens or 0, outcome.input_tokens))
    fresh = outcome.input_tokens - cached
    return (1.0, fresh, cached, float(outcome.output_tokens)), model.work(fresh, cached, outcome.output_tokens)
