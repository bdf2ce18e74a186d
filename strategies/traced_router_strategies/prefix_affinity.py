"""``prefix-affinity``: the shortest predicted time, where a cached prompt is less work.

Algorithm. A call is so much work: a constant, so much for each prompt token that is not cached, for
each that is, for each output token (``_work``, with its prior for coefficients). For each deployment

    pace × (calls in flight + 6) / (calls in flight when the pace was learnt + 6) × work there

is predicted, in seconds, and the lowest wins; *pace* is a decayed mean of seconds per unit of work.
A prompt whose prefix a deployment has is less work there (how much of it is still cached is
learnt from the providers' counts, ``_prefixes``), so sessions stay where they were, until the queue
there outweighs the prefill that is saved: affinity is a term of the predicted work, not a rule. A
miss is charged once more in part, since it displaces another prefix that will be missed in turn. One
that lies idle because it was slow is tried again, one call at a time (``_trials``); its usual share
comes back as sessions are driven out of where their prefixes are now, which takes longer.

Source. NVIDIA Dynamo's KV-aware router (prefill to compute + load); llm-d's and vLLM
production-stack's prefix-aware scorers; SGLang's cache-aware router, without its threshold;
Preble (Srivatsa et al. 2024) for exploiting and exploring at once. The 6 softens the load as a
batch does; it was fitted by simulation (``benchmarks/strategies.py``).

Cost. A pick 5–9 µs at any number of candidates while nothing has changed; a call in all 13–23 µs. 550
bytes per deployment, 350 per prefix (16,384 at most).

Needs to know. ``affinity_key`` and ``input_size``; the providers' counts of cached tokens, if they
tell.

Use it for long shared prompts: agents, chat over documents, on self-hosted engines, when the
decision should be simple to follow. Not when speed is all that counts: ``least-expected-completion``
has the same term; it also learns the capacity of the deployments and what calls cost, sees missing
answers, and is faster in every world that we have measured.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

from traced_router.strategy import AttributeValue, Candidate, Decision, Outcome, Reason, RoutingRequest, Ticket
from traced_router_strategies._choice import FULL_SCAN, Choice, lowest_two, shortlist
from traced_router_strategies._inflight import InFlightStrategy
from traced_router_strategies._load import DecayedMean
from traced_router_strategies._prefixes import Prefixes
from traced_router_strategies._table import Table
from traced_router_strategies._trials import HOPE, Allowance, Trials
from traced_router_strategies._work import WorkModel

_SOFTENING: Final = 6.0
_MEMORY: Final = 20.0
"""Calls over which a pace is averaged."""

_FAILED: Final = 4.0
"""A failure counts as a call this many times slower than usual."""

_BETTER: Final = 0.7
"""A trial that found a pace below this share of what was believed shows a recovery."""

_IN_USE: Final = 2.0
"""Calls of other routers that say that it is in use there; a single one may be a trial of theirs."""

_MAX_GROUPS: Final = 256


class _Group:
    """What the deployments of a group share. Not locked: its owner is."""

    __slots__ = ("allowance", "pace", "prefixes", "remembered", "work")

    def __init__(self) -> None:
        self.allowance = Allowance()
        self.work = WorkModel()
        self.prefixes = Prefixes()
        self.pace = DecayedMean(5.0 * _MEMORY)
        self.remembered: Sequence[int] = ()


class _Deployment:
    """One deployment. Not locked: its owner is.

    Attributes:
        index: where it was found last among the candidates.
        inflight: calls of this router in flight.
        expected: seconds per unit of work with one more call.
        score: the same, or what is hoped of a trial; by that it is ranked.
        fresh_until: until when the score holds if nothing happens.
    """

    __slots__ = (
        "_crowd", "_failed", "_seen", "_trials", "expected", "fresh_until", "id", "index", "inflight", "pace", "score",
        "trial",
    )  # fmt: skip

    def __init__(self, id_: str, now: float) -> None:
        self.id = id_
        self.index = 0
        self.inflight = 0
        self.pace = DecayedMean(_MEMORY)
        self.score = self.expected = 0.0
        self.fresh_until = -inf
        self.trial = False
        self._crowd = DecayedMean(_MEMORY)
        self._failed = False
        self._seen = 0
        self._trials = Trials(now)

    def refresh(self, group: _Group, elsewhere: float, now: float) -> None:
        """Compute the score anew."""
        crowd = self.inflight + elsewhere + 1.0
        self.fresh_until = inf
        self.trial = False
        if self.pace.weight <= 0.0:  # worth a first call, after which every one that is out counts twice
            load = crowd / _alone(1.0, crowd) if self.inflight else HOPE
            usual = group.pace.value
            self.score = (usual or 1.0) * load
            self.fresh_until = now + group.allowance.look if usual else now  # what is usual may become known
            return
        lone = self._lone
        load = 1.0 / _alone(1.0, crowd)
        self.score = self.expected = lone * load
        if self.inflight == 0 and (elsewhere <= 0.0 or elsewhere >= _IN_USE):
            hope, self.fresh_until = self._trials.hope(
                lone, 1.0, group.pace.value, group.allowance, now, failing=self._failed
            )
            self.trial = hope < lone
            self.score = hope * load

    def started(self, group: _Group, now: float) -> float | None:
        """A call leaves; the pace that was believed of a lone call, when this is a trial."""
        before = self._lone if self.trial and self.inflight == 0 else None
        if before is not None:
            self._trials.started(before, group.allowance, now)
        group.allowance.called(now)
        self.inflight += 1
        self.fresh_until = -inf
        return before

    def answered(self, pace: float, crowd: float, before: float | None) -> None:
        """A call of that pace was answered, which met so many others; ``before`` as :meth:`started` said."""
        self._failed = False
        self._seen += 1
        if before is not None:
            lone = _alone(pace, crowd)
            self._trials.ended(lone, before)
            if lone < _BETTER * before:
                self.pace.weight = self._crowd.weight = 0.0  # it has recovered: what was known before does not count
        self._observe(pace, crowd)
        self._trials.seen(self._lone, self._seen)

    def failed(self, pace: float, crowd: float) -> None:
        """A call failed, and counts as one of that pace."""
        self._failed = True
        self._observe(pace, crowd)

    def _observe(self, pace: float, crowd: float) -> None:
        self.pace.observe(pace)
        self._crowd.observe(crowd)

    @property
    def _lone(self) -> float:
        """The pace of a call that meets no others."""
        return _alone(self.pace.value, self._crowd.value)

    def ended(self, now: float) -> None:
        """A call is not in flight any more."""
        self.inflight -= 1
        self._trials.idle_since = now
        self.fresh_until = -inf


def _alone(pace: float, crowd: float) -> float:
    """What a pace that was met among so many calls, itself included, would be without the others."""
    return pace * (1.0 + _SOFTENING) / (crowd + _SOFTENING)


class _Sent(NamedTuple):
    """What is known again when the call has ended."""

    group: _Group
    deployment: _Deployment
    crowd: float
    distance: int | None
    before: float | None


class PrefixAffinity(InFlightStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: breaks ties, and draws whom to look at in large groups.
        spill: what a missed prefix costs the caches, on top of its own prefill and in units of it.
    """

    name = "prefix-affinity"

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None, spill: float = 0.75
    ) -> None:
        super().__init__(clock=clock, rng=rng)
        self._spill = spill
        self._groups: Table[_Group] = Table(_MAX_GROUPS)
        self._deployments: Table[_Deployment] = Table(spare=lambda one: one.inflight == 0)

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The deployment where the call will end first."""
        with self._lock:
            now = self.clock()
            group = self._group(request.model_group)
            work, left = _size(group, request)
            positions = self._positions(group, candidates, left)
            looked_at = [self._look(group, candidates[position].id, position, now) for position in positions]
            choice = lowest_two(self._paces(looked_at, left), self._rng)
            chosen = looked_at[choice.first]
            second = None if choice.second is None else looked_at[choice.second]
            group.remembered = (chosen.index, chosen.index if second is None else second.index)
            could_follow = bool(left) and any(one.id in left for one in looked_at)
            return _decide(chosen, second, choice, left if could_follow else None, work, len(positions))

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        """Seconds that the call would take, by id, with what a missed prefix costs."""
        with self._lock:
            now = self.clock()
            group = self._group(request.model_group)
            work, left = _size(group, request)
            looked_at = [self._look(group, one.id, position, now) for position, one in enumerate(candidates)]
            return {one.id: pace * work for one, pace in zip(looked_at, self._paces(looked_at, left), strict=True)}

    def _paces(self, looked_at: Sequence[_Deployment], left: Mapping[str, float]) -> list[float]:
        """Seconds per unit of work, those saved by cached prefixes counted in."""
        if not left:
            return [one.score for one in looked_at]
        elsewhere = 1.0 + self._spill * (1.0 - min(left.values()))
        return [one.score * left.get(one.id, elsewhere) for one in looked_at]

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Sum up what the peers have in flight; it replaces the last sum."""
        super().absorb_state(peers)
        with self._lock:
            for one in self._deployments.states.values():
                one.fresh_until = -inf

    def _positions(self, group: _Group, candidates: Sequence[Candidate], left: Mapping[str, float]) -> Sequence[int]:
        total = len(candidates)
        if total <= FULL_SCAN:
            return range(total)
        known = self._deployments.states
        holders = [known[id_].index for id_ in left if id_ in known]
        return shortlist(total, (*group.remembered, *holders), self._rng)

    def _look(self, group: _Group, id_: str, position: int, now: float) -> _Deployment:
        one = self._deployments.states.get(id_) or self._deployments.add(id_, _Deployment(id_, now))
        if now >= one.fresh_until:
            one.refresh(group, self._theirs.get(id_, 0.0), now)
        one.index = position
        return one

    def _group(self, name: str) -> _Group:
        return self._groups.states.get(name) or self._groups.add(name, _Group())

    def _begin(self, ticket: Ticket) -> _Sent:
        group = self._group(ticket.model_group)
        self._groups.touch(ticket.model_group)
        now = ticket.started_at
        one = self._deployments.states.get(ticket.id) or self._deployments.add(ticket.id, _Deployment(ticket.id, now))
        self._deployments.touch(ticket.id)
        key = ticket.request.affinity_key
        distance = None if key is None else group.prefixes.sent(key, ticket.id)
        before = one.started(group, now)
        return _Sent(group, one, one.inflight + self._theirs.get(ticket.id, 0.0), distance, before)

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:
        if not isinstance(note, _Sent):
            return
        group, one = note.group, note.deployment
        crowd = (note.crowd + one.inflight + self._theirs.get(ticket.id, 0.0)) / 2.0
        one.ended(outcome.finished_at)
        if outcome.status == "ok":
            pace = outcome.seconds / _measure(group, note, outcome)
            one.answered(pace, crowd, note.before)
            group.pace.observe(_alone(pace, crowd))
        elif outcome.status in ("error", "timeout", "rate_limited"):
            usual = one.pace.value or (group.pace.value or 1.0) / _alone(1.0, crowd)
            one.failed(max(outcome.seconds / group.work.mean_work, _FAILED * usual), crowd)


def _size(group: _Group, request: RoutingRequest) -> tuple[float, Mapping[str, float]]:
    """The work of a call, and the share of it that is left where its prefix may be cached, by id."""
    base, fresh, cached, written = group.work.coefficients
    prompt = request.input_size or group.work.mean_prompt
    work = base + fresh * prompt + written * group.work.mean_output
    key = request.affinity_key
    return work, {} if key is None else group.prefixes.work_left(key, (fresh - cached) * prompt / work)


def _decide(
    chosen: _Deployment,
    second: _Deployment | None,
    choice: Choice,
    left: Mapping[str, float] | None,
    work: float,
    considered: int,
) -> Decision:
    facts: dict[str, AttributeValue] = {"work_units": round(work, 4)}
    reason: Reason = "tie_random" if choice.tied else "lowest_score"
    share = 1.0
    if left is not None:
        reason = "affinity_hit" if chosen.id in left else "affinity_spill"
        share = left.get(chosen.id, 1.0)
        facts["work_left_share"] = round(share, 3)
    known = chosen.pace.weight > 0.0
    if chosen.trial:
        reason = "probe"
    if known:
        facts["seconds_per_unit"] = round(chosen.pace.value, 4)
    else:
        reason = "cold_start"
    return Decision(
        chosen.id,
        "only_candidate" if second is None else reason,
        choice.score * work,
        "expected_seconds",
        None if second is None else second.id,
        None if choice.second_score is None else choice.second_score * work,
        considered,
        chosen.inflight,
        chosen.expected * work * share if known else None,
        facts,
    )


def _measure(group: _Group, note: _Sent, outcome: Outcome) -> float:
    """The work of a call that ended; its sizes, and what was cached, are learnt."""
    prompt, cached, output = outcome.input_tokens, outcome.cached_input_tokens, outcome.output_tokens
    if prompt is None or output is None:
        return group.work.mean_work
    if cached is None:
        cached = 0 if note.distance is None else prompt
    elif note.distance is not None and prompt > 0:
        group.prefixes.learn(note.distance, min(1.0, cached / prompt))
    cached = min(cached, prompt)
    work = group.work.work(prompt - cached, cached, output)
    group.work.count(work, prompt, output)
    return work
