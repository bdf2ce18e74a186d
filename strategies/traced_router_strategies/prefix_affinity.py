"""``prefix-affinity``: the least outstanding work, where a cached prompt is less work.

Algorithm. Work is counted in seconds of a typical model: so much for a call, for each prompt token
that is not cached, for each that is, for each output token (``_work``). A deployment is ranked by

    pace × (work outstanding there + work that this call would be there)

and the lowest wins; *pace* is a decayed mean of what calls took there, per unit of work that was
outstanding when they left. A prompt whose prefix a deployment has is less work there (how much of
it is still cached is learnt from the providers' counts, ``_prefixes``), so sessions stay where they
were, until the queue there outweighs the prefill that is saved: affinity is a term of the
predicted work, not a rule.

Source. NVIDIA Dynamo's KV-aware router (prefill blocks to compute + blocks active); llm-d's and
vLLM production-stack's prefix-aware scorers; SGLang's cache-aware router, without its threshold.
Preble (Srivatsa et al. 2024) for exploiting and exploring at once.

Cost. 3–5 µs a pick at any number of candidates; 300 bytes per deployment, 100–200 per prefix
(16,384 at most).

Needs to know. ``affinity_key`` and ``input_size``; the providers' counts of cached tokens, if they
tell.

Use it for long shared prompts on deployments of one kind: agents, chat over documents, on
self-hosted engines. ``least-expected-completion`` has the same term, and also learns capacity, speed
and failures; this one is easier to follow, and surer where nothing can be learnt from latency.
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
from traced_router_strategies._work import WorkModel

_MEMORY: Final = 20.0
"""Calls over which a pace is averaged."""

_FAILED: Final = 4.0
"""A failure counts as a call this many times slower than usual."""

_FADE_SECONDS: Final = 8.0
"""A deployment that has had no call for so long is taken at the group's pace: it may have recovered."""

_MAX_GROUPS: Final = 256


class _Deployment:
    """One deployment. Not locked: its owner is."""

    __slots__ = ("id", "index", "outstanding", "pace", "seen_at")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.index = 0
        self.outstanding = 0.0
        self.pace = DecayedMean(_MEMORY)
        self.seen_at = -inf


class _Group:
    """What the deployments of a group share. Not locked: its owner is."""

    __slots__ = ("pace", "prefixes", "remembered", "work")

    def __init__(self) -> None:
        self.work = WorkModel()
        self.prefixes = Prefixes()
        self.pace = DecayedMean(5.0 * _MEMORY)
        self.remembered: Sequence[int] = ()


class _Sent(NamedTuple):
    """What is known again when the call has ended."""

    group: _Group
    deployment: _Deployment
    work: float
    ahead: float
    distance: int | None


class PrefixAffinity(InFlightStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: breaks ties, and draws whom to look at in large groups.
    """

    name = "prefix-affinity"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        super().__init__(clock=clock, rng=rng)
        self._groups: Table[_Group] = Table(_MAX_GROUPS)
        self._deployments: Table[_Deployment] = Table(spare=lambda one: one.outstanding <= 0.0)

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The deployment with the least work, this call included."""
        with self._lock:
            now = self._clock()
            group = self._group(request.model_group)
            prompt, _, whole = _size(group.work, request)
            left: dict[str, float] = {}
            if (key := request.affinity_key) is not None:
                _, fresh, cached, _ = group.work.coefficients
                left = group.prefixes.work_left(key, (fresh - cached) * prompt / whole)
            positions = self._positions(group, candidates, left)
            looked_at = [self._meet(candidates[position].id, position) for position in positions]
            paces = self._paces(looked_at, group.pace.value or 1.0, now)
            works = [one.outstanding + whole for one in looked_at]
            if left:
                works = [
                    work - whole * (1.0 - left.get(one.id, 1.0)) for work, one in zip(works, looked_at, strict=True)
                ]
            if theirs := self._theirs:
                works = [work + whole * theirs.get(one.id, 0.0) for work, one in zip(works, looked_at, strict=True)]
            scores = [work * pace for work, pace in zip(works, paces, strict=True)]
            choice = lowest_two(scores, self._rng)
            chosen = looked_at[choice.first]
            second = None if choice.second is None else looked_at[choice.second]
            group.remembered = (chosen.index, chosen.index if second is None else second.index)
            return self._decide(chosen, second, choice, left, any(one.id in left for one in looked_at), len(positions))

    def _decide(
        self,
        chosen: _Deployment,
        second: _Deployment | None,
        choice: Choice,
        left: dict[str, float],
        could_follow: bool,  # noqa: FBT001
        considered: int,
    ) -> Decision:
        facts: dict[str, AttributeValue] = {
            "outstanding_work": round(chosen.outstanding, 3),
            "pace": round(chosen.pace.value, 4),
            "work_left": round(left.get(chosen.id, 1.0), 3),
        }
        reason: Reason = "tie_random" if choice.tied else "lowest_score"
        if could_follow:
            reason = "affinity_hit" if chosen.id in left else "affinity_spill"
        elif chosen.pace.weight <= 0.0:
            reason = "cold_start"
        return Decision(
            chosen.id,
            "only_candidate" if second is None else reason,
            choice.score,
            "expected_seconds",
            None if second is None else second.id,
            choice.second_score,
            considered,
            self._mine.get(chosen.id, 0),
            choice.score if chosen.pace.weight > 0.0 else None,
            facts,
        )

    def _positions(self, group: _Group, candidates: Sequence[Candidate], left: Mapping[str, float]) -> Sequence[int]:
        total = len(candidates)
        if total <= FULL_SCAN:
            return range(total)
        known = self._deployments.states
        holders = [known[id_].index for id_ in left if id_ in known]
        return shortlist(total, (*group.remembered, *holders), self._rng)

    def _paces(self, looked_at: Sequence[_Deployment], typical: float, now: float) -> Sequence[float]:
        """Of those that have none yet the group's, of those that have been idle for long no worse than it."""
        since = now - _FADE_SECONDS
        return [
            one.pace.value if one.seen_at > since or one.outstanding > 0.0 else min(one.pace.value or typical, typical)
            for one in looked_at
        ]

    def _meet(self, id_: str, position: int) -> _Deployment:
        one = self._deployments.states.get(id_) or self._deployments.add(id_, _Deployment(id_))
        one.index = position
        return one

    def _group(self, name: str) -> _Group:
        return self._groups.states.get(name) or self._groups.add(name, _Group())

    def _begin(self, ticket: Ticket) -> _Sent:
        group = self._group(ticket.model_group)
        one = self._deployments.states.get(ticket.id) or self._deployments.add(ticket.id, _Deployment(ticket.id))
        self._deployments.touch(ticket.id)
        prompt, output, _ = _size(group.work, ticket.request)
        key = ticket.request.affinity_key
        distance = None if key is None else group.prefixes.sent(key, ticket.id)
        cached = 0.0 if distance is None else prompt * group.prefixes.share(distance)
        work = group.work.work(prompt - cached, cached, output)
        sent = _Sent(group, one, work, one.outstanding, distance)
        one.outstanding += work
        one.seen_at = ticket.started_at
        return sent

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:
        if not isinstance(note, _Sent):
            return
        group, one = note.group, note.deployment
        # Rounding must not pile up over millions of calls: nothing in flight is nothing outstanding.
        one.outstanding = max(0.0, one.outstanding - note.work) if ticket.id in self._mine else 0.0
        one.seen_at = outcome.finished_at
        pace = outcome.seconds / (note.ahead + note.work)
        if outcome.status == "ok":
            one.pace.observe(pace)
            group.pace.observe(pace)
            _count(group, note, outcome)
        elif outcome.status in ("error", "timeout", "rate_limited"):
            one.pace.observe(max(pace, _FAILED * (one.pace.value or group.pace.value or 1.0)))


def _size(model: WorkModel, request: RoutingRequest) -> tuple[float, float, float]:
    """Tokens in, tokens out, and the work of a call where nothing is cached."""
    prompt = float(request.input_size or model.mean_prompt)
    output = model.mean_output
    if request.max_output_tokens is not None:
        output = min(output, float(request.max_output_tokens))
    return prompt, output, model.work(prompt, 0.0, output)


def _count(group: _Group, note: _Sent, outcome: Outcome) -> None:
    """Sizes, and what was cached."""
    prompt, cached, output = outcome.input_tokens, outcome.cached_input_tokens, outcome.output_tokens
    if prompt is None or output is None:
        return
    group.work.count(note.work, prompt, output)
    if cached is not None and note.distance is not None and prompt > 0:
        group.prefixes.learn(note.distance, min(1.0, cached / prompt))
