"""``least-expected-completion``: send the call where it will cost the least time. (docstring to be written)"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final

from traced_router.strategy import AttributeValue, Candidate, Decision, Outcome, Reason, RoutingRequest, Ticket
from traced_router_strategies._belief import CLOSED, Deployment, Flight, Group
from traced_router_strategies._prefixes import Prefixes
from traced_router_strategies._table import Table

_FULL_SCAN: Final = 16
_SAMPLE: Final = 3
_CALM_SECONDS: Final = 5.0
_AFFINE_SHARE: Final = 0.03
_SPILL: Final = 1.0
_TRIAL_SHARE: Final = 0.005
_TRIAL_SECONDS: Final = (4.0, 8.0)


class _Room(Group):
    __slots__ = ("arrived_at", "between", "known", "memory", "prefixes")

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = Prefixes()
        self.arrived_at = 0.0
        self.between = 1.0
        self.memory: list[int] = []


class LeastExpectedCompletion:
    name = "least-expected-completion"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        spill: float = _SPILL,
        sample: int = _SAMPLE,
        full_scan: int = _FULL_SCAN,
    ) -> None:
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._lock = threading.Lock()
        self._spill = spill
        self._sample = sample
        self._full_scan = full_scan
        self._rooms: Table[_Room] = Table(_Room, limit=256)
        self._deployments: dict[str, Deployment] = {}
        self._peers: dict[str, float] = {}

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        with self._lock:
            now = self._clock()
            room = self._rooms.states.get(request.model_group) or self._rooms.use(request.model_group)
            if request.attempt > 1:
                candidates = self._calm(candidates, now)
            factors = self._affinity(room, request) if request.affinity is not None else None
            if len(candidates) > self._full_scan:
                candidates = self._shortlist(room, candidates, factors)
            return self._rank(room, request, candidates, now, factors)

    def _rank(self, room, request, candidates, now, factors):
        known = self._deployments
        stream = request.stream
        best = second = None
        best_cost = second_cost = inf
        spill = factors[""] if factors is not None else 1.0
        for candidate in candidates:
            deployment = known.get(candidate.id)
            if deployment is None or now >= deployment.fresh_until:
                deployment = self._refresh(room, candidate.id, now)
            cost = deployment.costs[stream]
            if factors is not None:
                cost *= factors.get(candidate.id, spill)
            if cost < best_cost:
                second, second_cost = best, best_cost
                best, best_cost = deployment, cost
            elif cost < second_cost or second is None:
                second, second_cost = deployment, cost
        reason = best.label
        if second is None:
            reason = "only_candidate"
        elif second_cost == best_cost:
            ties = [known[c.id] for c in candidates if known[c.id].costs[stream] * (1 if factors is None else factors.get(c.id, spill)) == best_cost]
            best = ties[int(self._rng.random() * len(ties))]
            second = ties[0] if ties[0] is not best else ties[1]
            if reason == "lowest_score": reason = "tie_random"
        elif factors is not None:
            reason = "affinity_hit" if best.id in factors else "affinity_spill"
        if best_cost >= CLOSED: best_cost -= CLOSED
        return Decision(
            best.id, reason, best_cost, "expected_seconds",
            None if second is None else second.id, None if second is None else second_cost,
            len(candidates), best.inflight, best.seconds, {},
        )

    def _refresh(self, room, id_, now):
        deployment = self._deployments.get(id_)
        if deployment is None:
            deployment = self._deployments[id_] = Deployment(id_, now)
            deployment.peers = self._peers.get(id_, 0.0)
        deployment.refresh(room, now)
        return deployment

    def _calm(self, candidates, now):
        known = self._deployments
        calm = [c for c in candidates if (d := known.get(c.id)) is None or now - d.throttle.refused_at > _CALM_SECONDS]
        return calm or candidates

    def _affinity(self, room, request):
        work = room.work
        key = request.affinity_key
        if key is None: return None
        holders = room.prefixes.holders(key)
        if not holders: return None
        prompt = request.input_size or work.mean_prompt
        output = work.mean_output
        missed = work.work(prompt, 0., output)
        most = 0.
        factors = {}
        for id_, share in holders.items():
            saved = 1 - work.work(prompt*(1-share), prompt*share, output)/missed
            factors[id_] = max(.02, 1-saved)
            most = max(most, saved)
        factors[""] = 1 + self._spill*most
        return factors

    def _shortlist(self, room, candidates, factors):
        n = len(candidates); rnd = self._rng.random
        picked = {int(rnd()*n) for _ in range(self._sample)}
        return [candidates[i] for i in picked]

    def started(self, ticket: Ticket) -> None:
        with self._lock:
            now = ticket.started_at
            room = self._rooms.use(ticket.model_group)
            deployment = self._deployments.get(ticket.id)
            if deployment is None:
                deployment = self._refresh(room, ticket.id, now)
            ticket.state = flight = deployment.start(room, now)
            gap = now - room.arrived_at
            room.arrived_at = now
            room.between += .02 * (gap - room.between)
            room.trial_after = min(8., max(4., room.between / _TRIAL_SHARE))
            key = ticket.request.affinity_key
            if key is not None:
                flight.key = key
                flight.distance = room.prefixes.sent(key, ticket.id)

    def first_chunk(self, ticket: Ticket) -> None:
        with self._lock:
            flight = ticket.state
            now = self._clock()
            work = flight.group.work
            prompt = ticket.request.input_size or work.mean_prompt
            self._deployments[ticket.id].first_chunk(flight, now, work.until_first_chunk(prompt, 0.))

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        with self._lock:
            flight = ticket.state
            self._deployments[ticket.id].end(flight, outcome)
            if flight.distance is not None and outcome.cached_input_tokens is not None and outcome.input_tokens:
                flight.group.prefixes.learn(flight.distance, outcome.cached_input_tokens/outcome.input_tokens)

    def export_state(self):
        with self._lock:
            return {d.id: d.gauges() for d in self._deployments.values()}

    def absorb_state(self, peers):
        total = {}
        for p in peers:
            for k, v in p.items(): total[k] = total.get(k, 0.) + v[0]
        with self._lock:
            now = self._clock()
            self._peers = total
            for d in self._deployments.values():
                d.hear_of_peers(total.get(d.id, 0.), now)
