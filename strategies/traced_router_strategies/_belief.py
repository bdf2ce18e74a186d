"""What ``least-expected-completion`` believes of one deployment, and what a call there would cost.

Everything here is arithmetic on one deployment's history; comparing deployments is the
strategy's business. The cost is computed when something happened, or when time alone would
change it, and kept in between: a pick only reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Final

from traced_router.strategy import AttributeValue, Outcome, Reason
from traced_router_strategies._alarm import Alarm
from traced_router_strategies._capacity import CAPACITIES, Belief, Clocks, Evidence
from traced_router_strategies._load import DecayedMean
from traced_router_strategies._pace import Pace, Scatter
from traced_router_strategies._peers import NOTHING, Heard
from traced_router_strategies._throttle import Throttle
from traced_router_strategies._trials import FALL, HOPE, RISE, TRIAL_SECONDS, Allowance, Trials
from traced_router_strategies._work import Features, WorkModel

CLOSED: Final = 1e9
"""Cost of a deployment whose rate limit is used up: any other comes first."""

_LOOK_AT_LIMITS: Final = 0.005
"""Seconds between looks at a closed rate limit, at least; an open one closes by what is sent, not by time."""

_FAILURE_GAIN: Final = 0.2
_MAX_ODDS: Final = 50.0
"""Failures per success beyond which a deployment is no worse."""

_FORGIVEN: Final = 0.01
"""A failure rate below this is none."""

_TAIL: Final = 0.1
"""Weight of what follows the first chunk, when the caller waits for the first chunk."""

_TYPICAL_CALLS: Final = 50.0
_STRAGGLING: Final = 4.0
"""A call that takes this many times longer than expected is one of its own kind, once later ones were answered."""

_NEWS_SECONDS: Final = 3.0
"""Observations fade with this time constant where routers compare them: the freshest knows best."""

_USUAL_SECONDS: Final = 6.0
"""Time constant of the mean number of calls in flight, by which those of silent peers are guessed."""

_FOLLOW: Final = 0.4
"""How far the guess follows what is in flight now, rather than the mean."""

_FIRST_SURPRISE: Final = 2.0
_FIRST_GAIN: Final = 0.4
"""A first chunk that is this many times earlier or later than usual counts for so much at once."""


class Group:
    """What the deployments of one model group have in common.

    Attributes:
        work: how much work a call is.
        scatter: what the work model cannot explain.
        evidence: of the capacity, over all deployments.
        allowance: for trials.
        calibration: scatter of the logarithm of how long calls took, against what was predicted.
        typical: pace at which its calls are served at light load, seconds per unit of work.
    """

    __slots__ = ("allowance", "calibration", "evidence", "scatter", "typical", "work")

    def __init__(self) -> None:
        self.work = WorkModel()
        self.scatter = Scatter()
        self.calibration = Scatter()
        self.evidence = Evidence()
        self.allowance = Allowance()
        self.typical = DecayedMean(_TYPICAL_CALLS)


@dataclass(slots=True, eq=False)
class Flight:
    """One call on its way: what the deployment looked like when it left.

    Attributes:
        group: the call's.
        started_at: when it left.
        lost: what the deployment's clocks had lost.
        pace: what was believed.
        expected: seconds that a typical call was expected to take.
        meters: of the rate limits.
        trial: it was sent to find out whether the deployment has recovered.
        straggler: later ones were answered long before it: it says nothing of the deployment any more.
    """

    group: Group
    started_at: float
    lost: Sequence[float]
    pace: float
    expected: float
    meters: tuple[float, float]
    trial: bool
    straggler: bool = False


class Deployment:
    """One deployment. Not locked: its owner is.

    Attributes:
        id: the candidate's.
        index: where it was found last among the candidates.
        inflight: calls of this router in flight.
        costs: of sending one more typical call there, seconds: for a whole answer, and for a first chunk.
        seconds: that such a call would take.
        likely: the same with failures and tries again counted in, or what is hoped of a trial.
        reason: what the costs rest on: ``cold_start``, ``probe`` or ``lowest_score``.
        fresh_until: until when the costs hold if nothing happens.
        throttle: its rate limits.
        closed_for: seconds until they let a call through.
    """

    __slots__ = (
        "_alarm", "_belief", "_clocks", "_echo", "_facts", "_failure_rate", "_failure_seconds", "_first",
        "_first_samples", "_first_usual", "_flights", "_group", "_heard", "_lone", "_looked_at", "_mix", "_overdue",
        "_pace", "_stragglers", "_trials", "_unit", "_usual", "closed_for", "costs", "fresh_until", "id", "index",
        "inflight", "likely", "reason", "seconds", "throttle",
    )  # fmt: skip

    def __init__(self, id_: str, group: Group, now: float) -> None:
        self.id = id_
        self.index = 0
        self.inflight = 0
        self.throttle = Throttle()
        self.costs = (0.0, 0.0)
        self.seconds = 0.0
        self.likely = 0.0
        self.reason: Reason = "cold_start"
        self.fresh_until = -inf
        self._group = group
        self._clocks = Clocks(now)
        self._belief = Belief(group.evidence)
        self._pace = Pace()
        self._mix: list[tuple[float, float]] = []
        self._lone = 0.0
        self._unit = 1.0
        self._usual = 0.0
        self._alarm = Alarm()
        self._overdue = 1.0
        self._failure_rate = self._failure_seconds = 0.0
        self._flights: dict[Flight, None] = {}
        self._stragglers = 0
        self._first = self._first_samples = self._first_usual = 0.0
        self._trials = Trials(now)
        self._heard = NOTHING
        self._echo = 0.0
        self._facts: Mapping[str, AttributeValue] | None = None
        self._looked_at = now
        self.closed_for = 0.0

    # --- what happens to it ------------------------------------------------------------------

    def start(self, now: float) -> Flight:
        """A call is sent there."""
        self._advance(now)
        work = self._group.work
        meters = self.throttle.started(now, work.mean_prompt + work.mean_output)
        trial = self.reason == "probe" and self.inflight == 0
        if trial:
            self._trials.started(self._lone, self._group.allowance, now)
        self.inflight += 1
        self.fresh_until = -inf
        lost = tuple(self._clocks.lost)
        flight = Flight(self._group, now, lost, self._lone, self.likely, meters, trial)
        self._flights[flight] = None
        return flight

    def first_chunk(self, flight: Flight, now: float, work: float) -> None:
        """The first chunk of a call came, before which about that much work was done."""
        self._advance(now)
        service = self._clocks.service(now - flight.started_at, flight.lost, self._belief.main) / work
        if self._first_samples <= 0.0:
            self._first = self._first_usual = service
        else:
            gain = max(1.0 / flight.group.scatter.samples, 1.0 / (self._first_samples + 1.0))
            if flight.trial and service < self._first / _FIRST_SURPRISE:
                gain = 1.0
            elif not 1.0 / _FIRST_SURPRISE < service / self._first < _FIRST_SURPRISE:
                gain = max(gain, _FIRST_GAIN)
            self._first += gain * (service - self._first)
        self._first_usual += (FALL if self._first < self._first_usual else RISE) * (self._first - self._first_usual)
        self._first_samples += 1.0
        self.fresh_until = -inf

    def end(self, flight: Flight, outcome: Outcome, features: Features | None) -> None:
        """A call ended, however; ``features`` are its tokens, when they are known."""
        now = outcome.finished_at
        self._advance(now)
        self.inflight -= 1
        self.fresh_until = -inf
        del self._flights[flight]
        self._stragglers -= flight.straggler
        self.throttle.finished(outcome, flight.started_at, flight.meters)
        if outcome.status == "ok":
            self._succeed(flight, features, outcome.seconds, now)
        else:
            if outcome.status in ("error", "timeout"):
                self._fail(outcome.seconds)
            if outcome.status != "timeout" and self.seconds > 0.0:
                self._alarm.left(min(1.0, outcome.seconds / self.seconds))
        if self.inflight == 0:
            self._trials.idle_since = now

    def hear(self, heard: Heard, echo: float, now: float) -> None:
        """What other routers say now replaces what they said before.

        When they have fallen silent, ``echo`` is how many calls of theirs there were to each of this router's.
        """
        self._advance(now)
        self._heard = heard
        self._echo = echo
        self._alarm.compare_notes(heard.routers)
        if heard.inflight > 0.0:
            self._trials.idle_since = now
        self.fresh_until = -inf

    # --- what a call there would cost --------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Compute the costs anew, and until when they hold."""
        self._facts = None
        self._looked_at = now
        self._advance(now)
        self._unit = self._group.work.mean_work
        if self._mix:
            self._expect(now)
        else:
            self._guess(now)
        if self.throttle.armed:
            self.closed_for = wait = self.throttle.opens_in(now)
            if wait > 0.0:
                barrier = CLOSED * (1.0 + wait)
                self.costs = (self.costs[0] + barrier, self.costs[1] + barrier)
                self.fresh_until = min(self.fresh_until, now + max(wait, _LOOK_AT_LIMITS))

    @property
    def facts(self) -> Mapping[str, AttributeValue]:
        """What the costs rest on, for a reader of the trace."""
        if self._facts is None:
            self._facts = self._tell()
        return self._facts

    def gauges(self, now: float) -> tuple[float, ...]:
        """For other routers, in the order of :class:`Heard`."""
        seconds = self._loaded(self._crowd() + 1.0) * self._unit
        fresh = self._pace.fresh(now, _NEWS_SECONDS)
        return (float(self.inflight), seconds, fresh, self._alarm.expected, self._alarm.ended)

    def _tell(self) -> dict[str, AttributeValue]:
        facts: dict[str, AttributeValue] = {"samples": int(self._pace.samples)}
        if self._mix:
            facts["light_load_seconds"] = round(self._lone * self._unit, 4)
            facts["capacity_calls"] = min(1e6, CAPACITIES[self._belief.main])
            facts["overdue_ratio"] = round(self._overdue, 3)
        facts["failure_rate"] = round(self._failure_rate, 3)
        if self.reason == "probe":
            facts["idle_seconds"] = round(self._looked_at - self._trials.idle_since, 3)
        if self._heard.routers:
            facts["routers_heard"] = self._heard.routers
            facts["inflight_elsewhere"] = int(self._heard.inflight)
        if self.closed_for > 0.0:
            facts["rate_limited_seconds"] = round(self.closed_for, 3)
        return facts

    def _expect(self, now: float) -> None:
        """From experience."""
        crowd, heard, alarm = self._crowd(), self._heard, self._alarm
        loaded, lone, unit = self._loaded(crowd + 1.0), self._lone, self._unit
        if heard.weight > 0.0:
            fresh = self._pace.fresh(now, _NEWS_SECONDS)
            unit = (fresh * unit + heard.weight * heard.seconds / loaded) / (fresh + heard.weight)
        self._overdue = overdue = alarm.ratio(heard.expected, heard.ended)
        self.seconds = seconds = loaded * unit * overdue
        # What the call takes, and what it takes from the others: under processor sharing, a call that has to
        # share delays the others by about as much as they delay it (the marginal cost of congestion, Pigou 1920).
        crowding = 2.0 - lone / loaded
        cost = seconds * crowding
        group = self._group
        before_first = group.work.until_first_chunk(group.work.mean_prompt, 0.0)
        first = (self._first if self._first_samples > 0.0 else lone) * before_first * crowding * loaded / lone * overdue
        first += _TAIL * cost
        wasted = self._wasted(seconds)
        self.likely = seconds + wasted
        cost += wasted
        first += self._wasted(first)
        self.costs = (cost, first)
        self.reason = "lowest_score"
        if self.inflight or heard.inflight > 0.0:
            due_per_second = max(1.0, self.inflight) / (self._loaded(crowd) * unit)
            self.fresh_until = now + alarm.next_look(due_per_second)
            return
        hope, self.fresh_until = self._trials.hope(
            cost, unit, group.typical.value, group.allowance, now, failing=self._failure_rate > 0.0
        )
        if hope < cost:
            hope_first = first * hope / cost
            if self._first_samples > 0.0:
                hope_first = min(hope_first, HOPE * self._first_usual * before_first + _TAIL * hope)
            self.costs = (hope, hope_first)
            self.likely = hope
            self.reason = "probe"

    def _guess(self, now: float) -> None:
        """Nothing is known here yet: as others found it, else worth a first call, and no more while that is out."""
        crowd = self._crowd() + 1.0
        typical = self._group.typical.value
        self.fresh_until = now + self._group.allowance.look if typical else now  # what is typical may become known
        if self._heard.weight > 0.0:
            self.seconds = cost = self._heard.seconds
            self.reason = "lowest_score"
        else:
            pairs = zip(self._belief.odds, CAPACITIES, strict=True)
            load = sum(odd * max(1.0, crowd / capacity) for odd, capacity in pairs)
            self.seconds = (typical or 1.0) * self._unit * load
            cost = self.seconds * (crowd if self.inflight else HOPE)
            self.reason = "cold_start"
        if self._failure_rate > 0.0:
            forgotten_at = self._trials.idle_since + TRIAL_SECONDS
            if now < forgotten_at or self.inflight:
                cost += self._wasted(self.seconds)
            else:
                self.reason = "probe"
        self.likely = cost
        work = self._group.work
        share = work.until_first_chunk(work.mean_prompt, 0.0) / work.work(work.mean_prompt, 0.0, work.mean_output)
        self.costs = (cost, (share + _TAIL) * cost)

    def _wasted(self, seconds: float) -> float:
        """Seconds that failures cost a call which takes ``seconds`` when it does not fail: them, and as many tries."""
        rate = self._failure_rate
        return 0.0 if rate <= 0.0 else min(_MAX_ODDS, rate / (1.0 - rate + 1e-9)) * (self._failure_seconds + seconds)

    # --- learning ----------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Let time pass: the clocks run, and completions fall due."""
        crowd = self._crowd()
        passed = self._clocks.advance(now, crowd)
        self._usual += min(1.0, passed / _USUAL_SECONDS) * (self.inflight - self._usual)
        awaited = self.inflight - self._stragglers
        if awaited > 0 and self._mix and passed > 0.0:
            self._alarm.expected += passed * awaited / (self._loaded(crowd) * self._unit)

    def _succeed(self, flight: Flight, features: Features | None, elapsed: float, now: float) -> None:
        group, pace = flight.group, self._pace
        self._failure_rate *= 1.0 - _FAILURE_GAIN
        if self._failure_rate < _FORGIVEN:
            self._failure_rate = 0.0
        work = 1.0
        if features is not None:
            _, fresh, cached, output = features
            work = group.work.work(fresh, cached, output)
            group.work.count(work, fresh + cached, output)
        pace.observe(
            work,
            elapsed,
            self._clocks,
            flight.lost,
            self._belief,
            now=now,
            scatter=group.scatter,
            evidence=group.evidence,
            trial=flight.trial,
        )
        if flight.expected > 0.0:
            group.calibration.add(log(max(1e-9, elapsed) / flight.expected))
        if features is not None and pace.seen > 1:
            main = self._belief.main
            group.work.observe(features, self._clocks.service(elapsed, flight.lost, main) / pace.means[main])
        self._blend()
        group.typical.observe(self._lone)
        self._trials.seen(self._lone, pace.seen)
        if flight.trial:
            self._trials.ended(self._lone, flight.pace)
        if flight.trial or self.inflight == 0:
            self._alarm.clear()
        self._alarm.came()
        self._overtake(flight.started_at, now)

    def _overtake(self, started_at: float, now: float) -> None:
        """An answer to a call that left later says that older ones are long, rather than the deployment slow."""
        oldest = now - _STRAGGLING * self.seconds
        for flight in self._flights:
            if flight.started_at >= started_at or flight.started_at > oldest:
                break
            if not flight.straggler:
                flight.straggler = True
                self._stragglers += 1

    def _fail(self, seconds: float) -> None:
        self._failure_rate += _FAILURE_GAIN * (1.0 - self._failure_rate)
        gain = _FAILURE_GAIN if self._failure_seconds > 0.0 else 1.0
        self._failure_seconds += gain * (seconds - self._failure_seconds)

    def _blend(self) -> None:
        """The paces under the capacities that are believed, weighted by their probability."""
        odds, means = self._belief.odds, self._pace.means
        self._mix = [(odds[j] * means[j], CAPACITIES[j]) for j in self._belief.alive]
        self._lone = sum(weight for weight, _ in self._mix)
        self._unit = self._group.work.mean_work

    def _crowd(self) -> float:
        """Calls in it, everybody's."""
        inflight: float = self.inflight
        if self._echo > 0.0:
            inflight += self._echo * (self._usual + _FOLLOW * (self.inflight - self._usual))
        return inflight + self._heard.inflight

    def _loaded(self, crowd: float) -> float:
        """Seconds per unit of work with so many calls in it."""
        total = 0.0
        for weight, capacity in self._mix:
            total += weight if crowd <= capacity else weight * crowd / capacity
        return total
