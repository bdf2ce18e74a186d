"""``least-in-flight``: the deployment with the fewest calls in flight, ties at random.

Algorithm. Count what was sent and has not ended; pick the lowest count. Ties are drawn: the first
of equals would get everything while a group is idle, as litellm's ``least-busy`` does. Of more
than 16 candidates, three drawn ones and the best two of the last pick are compared.

Source. Join the shortest queue (Winston 1977); with a sample, the power of d choices
(Mitzenmacher 2001). nginx and HAProxy call it ``least_conn`` and ``leastconn``.

Cost. 1–3 µs a pick at any number of candidates; a few bytes per deployment that has calls in
flight.

Needs to know. Nothing: neither latencies nor sizes nor configuration.

Use it when deployments are equally fast, or when there is too little traffic to learn from: slow
ones fill up and are left alone by themselves. Not when they differ much in speed (at low load
all look empty), and never without the resilience layer: a deployment that fails at once is
always the emptiest.
"""

from collections.abc import Mapping, Sequence

from traced_router.strategy import Candidate, Decision, Reason, RoutingRequest
from traced_router_strategies._choice import lowest_two, shortlist
from traced_router_strategies._inflight import InFlightStrategy


class LeastInFlight(InFlightStrategy):
    """The strategy; see the module."""

    name = "least-in-flight"
    _remembered: Sequence[int] = ()

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The emptiest deployment."""
        with self._lock:
            positions = shortlist(len(candidates), self._remembered, self._rng)
            looked_at = [candidates[position].id for position in positions]
            mine, theirs = self._mine, self._theirs
            loads = [float(mine.get(id_, 0)) for id_ in looked_at]
            if theirs:
                loads = [load + theirs.get(id_, 0.0) for load, id_ in zip(loads, looked_at, strict=True)]
            choice = lowest_two(loads, self._rng)
            chosen = looked_at[choice.first]
            second = None if choice.second is None else looked_at[choice.second]
            self._remembered = [positions[choice.first], positions[choice.second or 0]]
            reason: Reason = "tie_random" if choice.tied else "lowest_score"
            return Decision(
                chosen,
                "only_candidate" if second is None else reason,
                choice.score,
                "inflight",
                second,
                choice.second_score,
                len(looked_at),
                mine.get(chosen, 0),
                None,
                {"inflight_elsewhere": theirs.get(chosen, 0.0)} if theirs else {},
            )

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:  # noqa: ARG002 - as its interface has it
        """Calls in flight, by id."""
        with self._lock:
            return {one.id: self._load(one.id) for one in candidates}
