"""``least-expected-completion``: send each call where it will cost the least time. The recommended default.

Algorithm. For every deployment the cost of one more call is predicted, in seconds, and the
lowest wins:

* *pace*: seconds of service per unit of work, a mean of what calls took there lately, freed of
  the load they met and of their own size (``_pace``, ``_capacity``, ``_work``): the load by the
  virtual clock of a processor-sharing server whose capacity is learnt, the size by a linear
  model of tokens in, cached and out that is learnt too;
* × the *load* that the call will meet: what is in flight, against the learnt capacity; reserved
  at the pick, released where the attempt ends;
* + what the call *takes from others* where it has to share (marginal cost);
* × the *alarm*: completions that fell due and did not come (``_alarm``). A deployment that turns
  slow is left before its first slow answer arrives;
* + *failures*: failing seconds and one more try, times the odds of failing;
* × the *share of the work that is left* where the prompt's prefix is probably cached; and for the
  others something on top, since a miss displaces another prefix that will be missed (``_prefixes``);
* rate limits (``_throttle``): a deployment that would refuse comes last.

For a caller who streams, the time to the first chunk takes the place of the whole, with a tenth
of the rest. A deployment that lies idle because it was slow is tried again, one call at a time
(``_trials``). A new one gets a first call, and hardly another before it has answered that.

Up to 16 candidates are all looked at; of more, two at random, the two best of the last pick
(Mitzenmacher, Prabhakar and Shah 2002: memory is worth more than choice) and those that hold the
prompt's prefix.

Sources. Join the shortest expected delay for the greedy rule; Pigou 1920 for the marginal cost;
finagle's and tower's peak-EWMA for latency × load; Kleinrock 1967 for processor sharing;
NVIDIA Dynamo's and llm-d's routers for affinity as a term of the predicted work, not a rule.

Cost. A pick 3–4 µs at any number of candidates while nothing has changed (costs are kept until then),
up to 3 µs more where the prompt's prefix is looked up; a call in all, from its pick to what is learnt
at its end, 35–50 µs. Memory: 4 KB per deployment, 350 bytes per prompt prefix (16,384 at most).

Needs to know. Nothing is configured. It learns from every attempt's duration and status; it
learns sizes only where providers report tokens, and works without. ``affinity_key`` and
``input_size`` are asked for only while prefill is 5 % of the work or more.

Use it by default. Not with far fewer calls than one per deployment and minute: there is nothing to
learn from, and ``least-in-flight`` does as well. Prefer ``cost-slo`` when money matters more than
time, ``bounded-hash`` when the same key must meet the same deployment for reasons other than speed,
``weighted`` when traffic must follow given shares.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

from traced_router.strategy import Candidate, Decision, Reason, RoutingRequest
from traced_router_strategies._belief import CLOSED, Deployment
from traced_router_strategies._forecast import ForecastingStrategy, Room, Size, size_of

_CALM_SECONDS: Final = 5.0
"""A retry avoids deployments that refused somebody within this time: it has few lives left."""

_TYPICAL: Final = Size(1.0, 0.0, 0.0, {})


class _Ranked(NamedTuple):
    """The best two, with their costs."""

    best: Deployment
    cost: float
    second: Deployment | None
    second_cost: float


class LeastExpectedCompletion(ForecastingStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: draws samples and breaks ties.
        full_scan: up to so many candidates are all looked at.
        sample: of more, so many are drawn at random.
        spill: what a missed prefix costs the caches, on top of its own prefill and in units of it: it
            displaces another, which will be missed in turn.
    """

    name = "least-expected-completion"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        full_scan: int = 16,
        sample: int = 2,
        spill: float = 0.75,
    ) -> None:
        super().__init__(clock=clock, rng=rng)
        self._full_scan = full_scan
        self._sample = sample
        self._spill = spill

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The deployment where the call will cost the least time."""
        with self._lock:
            now = self.clock()
            room = self._room(request.model_group)
            refused = 0
            if request.attempt > 1:
                calm = self._calm(candidates, now)
                candidates, refused = calm, len(candidates) - len(calm)
            size = _size(room, request)
            indices: Sequence[int] = range(len(candidates))
            if len(indices) > self._full_scan:
                indices = self._shortlist(room, candidates, size)
            ranked = self._rank(room, candidates, indices, request.stream, now)
            if size.left:
                ranked = self._follow_prefix(ranked, candidates, size, request.stream)
            return _explain(ranked, size, len(indices), refused)

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        """Seconds that the call would cost, by id; without those that would refuse, and for a retry those that did."""
        with self._lock:
            now = self.clock()
            room = self._room(request.model_group)
            size = _size(room, request)
            elsewhere = self._elsewhere(size)
            believed = [
                self._believed(room, one.id, now)
                for one in (self._calm(candidates, now) if request.attempt > 1 else candidates)
            ]
            return {
                one.id: one.costs[request.stream] * size.left.get(one.id, elsewhere) * size.scale
                for one in believed
                if one.costs[request.stream] < CLOSED
            }

    def _elsewhere(self, size: Size) -> float:
        """What the cost is multiplied by where the prefix is not."""
        return 1.0 + self._spill * (1.0 - min(size.left.values())) if size.left else 1.0

    def _rank(
        self,
        room: Room,
        candidates: Sequence[Candidate],
        indices: Sequence[int],
        stream: bool,  # noqa: FBT001 - an index, on the hot path
        now: float,
    ) -> _Ranked:
        """The best two of those looked at. The hot loop: costs are kept, so this is all that most picks do."""
        known = self._deployments.states
        best = second = None
        cost = second_cost = inf
        ties = 0
        for index in indices:
            id_ = candidates[index].id
            deployment = known.get(id_) or self._meet(room, id_, now)
            if now >= deployment.fresh_until:
                deployment.refresh(now)
            deployment.index = index
            price = deployment.costs[stream]
            if price < cost:
                second, second_cost = best, cost
                best, cost = deployment, price
                ties = 1
            elif price == cost and deployment is not best:
                # Each of the equals ends up first with the same probability (reservoir sampling).
                ties += 1
                second, second_cost = deployment, price
                if self._rng.random() * ties < 1.0:
                    best, second = deployment, best
            elif price < second_cost and deployment is not best:
                second, second_cost = deployment, price
        if best is None:
            raise ValueError("there is no candidate to pick from: pass at least one")
        room.memory = (best.index, best.index if second is None else second.index)
        return _Ranked(best, cost, second, second_cost)

    def _follow_prefix(
        self,
        ranked: _Ranked,
        candidates: Sequence[Candidate],
        size: Size,
        stream: bool,  # noqa: FBT001 - as above
    ) -> _Ranked:
        """The best two, once the work that caches save is counted.

        Every deployment without the prefix gets dearer by the same factor, so the best two are among
        the best two of before and the holders.
        """
        left = size.left
        elsewhere = self._elsewhere(size)
        known, total = self._deployments.states, len(candidates)
        best, second = ranked.best, ranked.second
        cost, second_cost = ranked.cost, ranked.second_cost
        cost = inf if best.id in left else cost * elsewhere
        second_cost = inf if second is None or second.id in left else second_cost * elsewhere
        if second is not None and second_cost < cost:
            best, cost, second, second_cost = second, second_cost, best, cost
        for id_, share in left.items():
            holder = known.get(id_)
            if holder is None or holder.index >= total or candidates[holder.index].id != id_:
                continue
            price = holder.costs[stream] * share
            if price < cost:
                if holder is not best:
                    second, second_cost = best, cost
                best, cost = holder, price
            elif price < second_cost and holder is not best:
                second, second_cost = holder, price
        return _Ranked(best, cost, second, second_cost)

    def _calm(self, candidates: Sequence[Candidate], now: float) -> Sequence[Candidate]:
        """Those that did not refuse anybody lately, unless there are none."""
        known, since = self._deployments.states, now - _CALM_SECONDS
        calm = [one for one in candidates if one.id not in known or known[one.id].throttle.refused_at < since]
        return calm or candidates

    def _shortlist(self, room: Room, candidates: Sequence[Candidate], size: Size) -> Sequence[int]:
        """Some at random, the two best of the last pick, and those that hold the prefix."""
        total, draw = len(candidates), self._rng.random
        indices = [int(draw() * total) for _ in range(self._sample)]
        indices += [index for index in room.memory if index < total and index not in indices]
        for id_ in size.left:
            holder = self._deployments.states.get(id_)
            if holder is not None and holder.index < total and candidates[holder.index].id == id_:
                indices.append(holder.index)
        return indices


def _size(room: Room, request: RoutingRequest) -> Size:
    """Of the call, where sizes matter and are known."""
    if room.work.prefill_matters and (request.affinity is not None or request.size is not None):
        return size_of(room, request)
    return _TYPICAL


def _explain(ranked: _Ranked, size: Size, considered: int, refused: int) -> Decision:
    """Why this one."""
    best, cost, second, second_cost = ranked
    reason: Reason = best.reason
    seconds = best.seconds * size.scale
    facts = best.facts
    if size.left:
        share = size.left.get(best.id, 1.0)
        seconds *= share
        facts = {**facts, "work_left_share": round(share, 3)}
        if reason == "lowest_score":
            reason = "affinity_hit" if best.id in size.left else "affinity_spill"
    elif reason == "lowest_score" and second_cost == cost:
        reason = "tie_random"
    if refused:
        facts = {**facts, "refused_lately": refused}
    return Decision(
        best.id,
        "only_candidate" if second is None and not refused else reason,
        cost * size.scale if cost < CLOSED else seconds + best.closed_for,
        "expected_seconds",
        None if second is None else second.id,
        None if second is None or second_cost >= CLOSED else second_cost * size.scale,
        considered,
        best.inflight,
        seconds,
        facts,
    )
