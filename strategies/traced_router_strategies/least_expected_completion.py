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
  others, as much on top as the miss costs the caches in general (``_prefixes``);
* rate limits (``_throttle``): a deployment that would refuse comes last.

For a caller who streams, the time to the first chunk takes the place of the whole, with a tenth
of the rest. A deployment that lies idle because it was slow is tried again, one call at a time
(``_trials``). A new one is taken to be as good as the others, while each call that it has not
answered yet counts twice.

Up to 16 candidates are all looked at; of more, three at random, the two best of the last pick
(Mitzenmacher, Prabhakar and Shah 2002: memory is worth more than choice) and those that hold the
prompt's prefix.

Sources. Join the shortest expected delay for the greedy rule; Pigou 1920 for the marginal cost;
finagle's and tower's peak-EWMA for latency × load; Kleinrock 1967 for processor sharing;
NVIDIA Dynamo's and llm-d's routers for affinity as a term of the predicted work, not a rule.

Cost. A pick 2–5 µs at any number of candidates (costs are kept until something changes them), an
attempt 10–20 µs for learning. Memory: under 3 KB per deployment, 100–200 bytes per prompt prefix
(16,384 at most).

Needs to know. Nothing is configured. It learns from every attempt's duration and status; it
learns sizes only where providers report tokens, and works without. ``affinity_key`` and
``input_size`` are asked for only while prefill is 5 % of the work or more.

Use it by default. Prefer ``cost-slo`` when money matters more than time, ``bounded-hash`` when
the same key must meet the same deployment for reasons other than speed, ``weighted`` when
traffic must follow given shares. With far fewer calls than one per deployment and minute there
is nothing to learn from: ``least-in-flight`` does as well.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

from traced_router.strategy import Candidate, Decision, Outcome, Reason, RoutingRequest, Ticket
from traced_router_strategies._belief import CLOSED, Deployment, Features, Flight, Group
from traced_router_strategies._peers import NOTHING, Heard, gather
from traced_router_strategies._prefixes import Prefixes
from traced_router_strategies._table import Table

_MAX_GROUPS: Final = 256
_CALM_SECONDS: Final = 5.0
"""A retry avoids deployments that refused somebody within this time: it has few lives left."""

_ECHO_GAIN: Final = 0.02
"""Of the means that tell how many calls of other routers there are to each of this one's."""


class _Room(Group):
    """A model group, as this strategy knows it."""

    __slots__ = ("memory", "prefixes")

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = Prefixes()
        self.memory: tuple[int, int] = (0, 0)


class _Boarding:
    """The ticket's state: a call in flight, until ``finished`` takes it."""

    __slots__ = ("deployment", "distance", "flight", "room")

    def __init__(self, room: _Room, deployment: Deployment, flight: Flight, distance: int | None) -> None:
        self.room = room
        self.deployment = deployment
        self.flight: Flight | None = flight
        self.distance = distance


class _Size(NamedTuple):
    """How large a call is, and where less of it is left to do.

    Attributes:
        scale: its work, against that of a typical call.
        left: share of the work that is left, by id of the deployments that hold its prefix.
        elsewhere: share for all others: 1, and what the miss costs the caches on top.
    """

    scale: float
    left: Mapping[str, float]
    elsewhere: float


_TYPICAL: Final = _Size(1.0, {}, 1.0)


class _Ranked(NamedTuple):
    """The best two, with their costs."""

    best: Deployment
    cost: float
    second: Deployment | None
    second_cost: float


class LeastExpectedCompletion:
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
        sample: int = 3,
        spill: float = 1.0,
    ) -> None:
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._full_scan = full_scan
        self._sample = sample
        self._spill = spill
        self._lock = threading.Lock()
        self._rooms: Table[_Room] = Table(_MAX_GROUPS)
        self._deployments: Table[Deployment] = Table(spare=lambda one: one.inflight == 0)
        self._heard: Mapping[str, Heard] = {}
        self._mine = self._theirs = 0.0

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The deployment where the call will cost the least time."""
        with self._lock:
            now = self._clock()
            room = self._rooms.states.get(request.model_group) or self._rooms.add(request.model_group, _Room())
            if request.attempt > 1:
                candidates = self._calm(candidates, now)
            size = _TYPICAL
            if room.work.prefill_matters and (request.affinity is not None or request.size is not None):
                size = self._size(room, request)
            indices: Sequence[int] = range(len(candidates))
            if len(indices) > self._full_scan:
                indices = self._shortlist(room, candidates, size)
            ranked = self._rank(room, candidates, indices, request.stream, now)
            if size.left:
                ranked = self._follow_prefix(ranked, candidates, size, request.stream)
            return self._explain(ranked, size, len(indices))

    def started(self, ticket: Ticket) -> None:
        """Reserve."""
        with self._lock:
            now = ticket.started_at
            room = self._rooms.states.get(ticket.model_group)
            if room is None:
                room = self._rooms.add(ticket.model_group, _Room())
            self._rooms.touch(ticket.model_group)
            room.allowance.called(now)
            deployment = self._deployments.states.get(ticket.id)
            if deployment is None:
                deployment = self._meet(room, ticket.id, now)
            self._deployments.touch(ticket.id)
            distance = None
            if room.work.prefill_matters and (key := ticket.request.affinity_key) is not None:
                distance = room.prefixes.sent(key, ticket.id)
            ticket.state = _Boarding(room, deployment, deployment.start(now), distance)

    def first_chunk(self, ticket: Ticket) -> None:
        """Learn how long a first chunk takes."""
        with self._lock:
            boarding = ticket.state
            if not isinstance(boarding, _Boarding) or boarding.flight is None:
                return
            model = boarding.room.work
            prompt = (ticket.request.input_size if model.prefill_matters else None) or model.mean_prompt
            cached = 0.0 if boarding.distance is None else prompt * boarding.room.prefixes.share(boarding.distance)
            work = model.until_first_chunk(prompt - cached, cached)
            boarding.deployment.first_chunk(boarding.flight, self._clock(), work)

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Release, and learn."""
        with self._lock:
            boarding = ticket.state
            if not isinstance(boarding, _Boarding) or boarding.flight is None:
                return
            flight, boarding.flight = boarding.flight, None
            boarding.deployment.end(flight, outcome, _features(boarding, outcome))

    def export_state(self) -> Mapping[str, Sequence[float]]:
        """Five gauges per deployment: see ``_peers.Heard``."""
        with self._lock:
            now = self._clock()
            return {one.id: one.gauges(now) for one in self._deployments.states.values()}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Take what the peers export into account until the next time."""
        with self._lock:
            now = self._clock()
            self._heard = gather(peers)
            if self._heard:
                mine = sum(one.inflight for one in self._deployments.states.values())
                theirs = sum(heard.inflight for heard in self._heard.values())
                self._mine += _ECHO_GAIN * (mine - self._mine)
                self._theirs += _ECHO_GAIN * (theirs - self._theirs)
            for one in self._deployments.states.values():
                one.hear(self._heard.get(one.id, NOTHING), self._echo(), now)

    # --- the pick ----------------------------------------------------------------------------

    def _rank(
        self,
        room: _Room,
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
        size: _Size,
        stream: bool,  # noqa: FBT001
    ) -> _Ranked:
        """The best two, once the work that caches save is counted.

        Every deployment without the prefix gets dearer by the same factor, so the best two are among
        the best two of before and the holders.
        """
        left, elsewhere = size.left, size.elsewhere
        known, total = self._deployments.states, len(candidates)
        prices: list[tuple[float, Deployment]] = []
        if ranked.best.id not in left:
            prices.append((ranked.cost * elsewhere, ranked.best))
        if ranked.second is not None and ranked.second.id not in left:
            prices.append((ranked.second_cost * elsewhere, ranked.second))
        for id_, share in left.items():
            holder = known.get(id_)
            if holder is not None and holder.index < total and candidates[holder.index].id == id_:
                prices.append((holder.costs[stream] * share, holder))
        prices.sort(key=_price)
        best_cost, best = prices[0]
        second_cost, second = prices[1] if len(prices) > 1 else (inf, None)
        return _Ranked(best, best_cost, second, second_cost)

    def _meet(self, room: _Room, id_: str, now: float) -> Deployment:
        """A deployment that is new here."""
        deployment = self._deployments.add(id_, Deployment(id_, room, now))
        deployment.hear(self._heard.get(id_, NOTHING), self._echo(), now)
        return deployment

    def _echo(self) -> float:
        """Calls of other routers to each of this one's, when they have fallen silent."""
        return 0.0 if self._heard or self._mine <= 0.0 else self._theirs / self._mine

    def _calm(self, candidates: Sequence[Candidate], now: float) -> Sequence[Candidate]:
        """Those that did not refuse anybody lately, unless there are none."""
        known, since = self._deployments.states, now - _CALM_SECONDS
        calm = [one for one in candidates if one.id not in known or known[one.id].throttle.refused_at < since]
        return calm or candidates

    def _size(self, room: _Room, request: RoutingRequest) -> _Size:
        """Of a call: asked for only where prefill is much of the work."""
        model = room.work
        base, fresh, cached, written = model.coefficients
        output = model.mean_output
        if request.max_output_tokens is not None:
            output = min(output, request.max_output_tokens)
        prompt = request.input_size or model.mean_prompt
        work = base + fresh * prompt + written * output
        scale = work / (base + fresh * model.mean_prompt + written * model.mean_output)
        key = request.affinity_key
        if key is None:
            return _Size(scale, {}, 1.0)
        left = room.prefixes.work_left(key, max(0.0, fresh - cached) * prompt / work)
        return _Size(scale, left, 1.0 + self._spill * (1.0 - min(left.values())) if left else 1.0)

    def _shortlist(self, room: _Room, candidates: Sequence[Candidate], size: _Size) -> Sequence[int]:
        """Some at random, the two best of the last pick, and those that hold the prefix."""
        total, draw = len(candidates), self._rng.random
        indices = [int(draw() * total) for _ in range(self._sample)]
        indices += [index for index in room.memory if index < total and index not in indices]
        for id_ in size.left:
            holder = self._deployments.states.get(id_)
            if holder is not None and holder.index < total and candidates[holder.index].id == id_:
                indices.append(holder.index)
        return indices

    def _explain(self, ranked: _Ranked, size: _Size, considered: int) -> Decision:
        """Why this one."""
        best, cost, second, second_cost = ranked
        reason: Reason = best.reason
        seconds = best.seconds * size.scale
        facts = best.facts
        if size.left:
            share = size.left.get(best.id, 1.0)
            seconds *= share
            facts = {**facts, "work_left": share}
            if reason == "lowest_score":
                reason = "affinity_hit" if best.id in size.left else "affinity_spill"
        elif reason == "lowest_score" and second_cost == cost:
            reason = "tie_random"
        return Decision(
            best.id,
            "only_candidate" if second is None else reason,
            cost * size.scale if cost < CLOSED else seconds + best.closed_for,
            "expected_seconds",
            None if second is None else second.id,
            None if second is None or second_cost >= CLOSED else second_cost * size.scale,
            considered,
            best.inflight,
            seconds,
            facts,
        )


def _price(priced: tuple[float, Deployment]) -> float:
    return priced[0]


def _features(boarding: _Boarding, outcome: Outcome) -> Features | None:
    """The tokens of a call, when they are known; and what its cached tokens say of the caches.

    Where the provider does not count cached tokens, those of a prefix that was sent there before are
    taken to be cached: what that saves, on average, is then learnt with the rest of the work.
    """
    prompt, cached = outcome.input_tokens, outcome.cached_input_tokens
    if outcome.status != "ok" or prompt is None or outcome.output_tokens is None:
        return None
    if cached is None:
        cached = 0 if boarding.distance is None else prompt
    elif boarding.distance is not None and prompt > 0:
        boarding.room.prefixes.learn(boarding.distance, min(1.0, cached / prompt))
    cached = min(cached, prompt)
    return (1.0, float(prompt - cached), float(cached), float(outcome.output_tokens))
