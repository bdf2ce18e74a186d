"""``cost-slo``: the cheapest deployment that will answer in time, else the fastest.

Algorithm. For every deployment the time of one more call is predicted, as
``least-expected-completion`` does it, and made careful: the time within which nine of ten such
calls end, by the scatter that was seen. The call is *in time* where that is before the request's
deadline, else within the configured objective. Of those in time the cheapest is picked, by what
its tokens will cost there; equals go to the fastest. When none is in time, or none has a price,
the fastest is picked. A deployment without a price is taken to be dearer than any other.

Source. Cheapest feasible first, as in deadline-constrained scheduling (Yu, Buyya and Tham 2005);
FrugalGPT (Chen, Zaharia and Zou 2023) and RouteLLM for the aim, which they reach by choosing
models: here the models of a group are as good as each other, by assumption.

Cost. A pick 4–7 µs at any number of candidates while nothing has changed; a call in all, from its
pick to what is learnt at its end, 35–60 µs; memory as ``least-expected-completion``.

Needs to know. Prices of the candidates (USD per token); ``deadline``, or an objective that suits
the application; ``input_size`` and ``max_output_tokens`` make prices and predictions sharper.

Use it when deployments of a group differ in price, and answers sooner than the objective are worth
nothing: background work, batches, provisioned capacity beside pay-as-you-go. Not when every
second counts: it fills the cheap deployments up to the objective, by design.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import exp, inf
from operator import itemgetter
from typing import Final

from traced_router.strategy import AttributeValue, Candidate, Decision, RoutingRequest
from traced_router_strategies._belief import CLOSED, Deployment
from traced_router_strategies._choice import shortlist
from traced_router_strategies._forecast import ForecastingStrategy, Room, Size, size_of

_NINE_OF_TEN: Final = 1.28
"""Standard deviations of a normal below which nine of ten lie."""

_Option = tuple[float, float, Deployment]
"""A candidate: its price in USD (or its time, where time decides), its time, and what is believed of it."""

_PRICE_THEN_TIME: Final = itemgetter(0, 1)


class CostSLO(ForecastingStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: draws whom to look at in large groups, and breaks ties.
        objective: seconds within which an answer is in time, for requests without a deadline.
    """

    name = "cost-slo"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        objective: float = 10.0,
    ) -> None:
        super().__init__(clock=clock, rng=rng)
        self._objective = objective

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """The cheapest in time, else the fastest."""
        with self._lock:
            now = self.clock()
            room = self._room(request.model_group)
            size = size_of(room, request)
            budget = self._budget(request, now)
            indices = shortlist(len(candidates), room.memory, self._rng)
            in_time, fastest = self._weigh(room, candidates, indices, size, budget, now)
            ranked = in_time if in_time and in_time[0][0] < inf else fastest
            room.memory = (ranked[0][2].index, ranked[1][2].index if len(ranked) > 1 else ranked[0][2].index)
            return _explain(room, size, ranked, budget, len(in_time), len(indices), by_price=ranked is in_time)

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        """By id: USD of those in time, else seconds; without those that would refuse."""
        with self._lock:
            now = self.clock()
            room = self._room(request.model_group)
            budget = self._budget(request, now)
            in_time, fastest = self._weigh(
                room, candidates, range(len(candidates)), size_of(room, request), budget, now
            )
            ranked = in_time if in_time and in_time[0][0] < inf else fastest
            return {one.id: score for score, cost, one in ranked if score < inf and cost < CLOSED}

    def _budget(self, request: RoutingRequest, now: float) -> float:
        """Seconds that the call may take."""
        return self._objective if request.deadline is None else max(0.0, request.deadline - now)

    def _weigh(
        self, room: Room, candidates: Sequence[Candidate], indices: Sequence[int], size: Size, budget: float, now: float
    ) -> tuple[list[_Option], list[_Option]]:
        """Those in time by price, and all by time; the best two of each come first."""
        known, left, prompt, output = self._deployments.states, size.left, size.prompt, size.output
        limit = budget / (_careful(room) * size.scale)
        in_time: list[_Option] = []
        fastest: list[_Option] = []
        for index in indices:
            candidate = candidates[index]
            id_ = candidate.id
            deployment = known.get(id_) or self._meet(room, id_, now)
            if now >= deployment.fresh_until:
                deployment.refresh(now)
            deployment.index = index
            share = left.get(id_, 1.0) if left else 1.0
            cost = deployment.costs[0] * share
            fastest.append((cost, cost, deployment))
            if deployment.likely * share <= limit and cost < CLOSED:
                fed, written = candidate.input_cost_per_token, candidate.output_cost_per_token
                price = inf if fed is None and written is None else prompt * (fed or 0.0) + output * (written or 0.0)
                in_time.append((price, cost, deployment))
        in_time.sort(key=_PRICE_THEN_TIME)
        fastest.sort(key=_PRICE_THEN_TIME)
        return in_time, fastest


def _careful(room: Room) -> float:
    """How many times the predicted time nine of ten calls end within."""
    return exp(_NINE_OF_TEN * room.calibration.sigma)


def _explain(
    room: Room,
    size: Size,
    ranked: Sequence[_Option],
    budget: float,
    in_time: int,
    considered: int,
    *,
    by_price: bool,
) -> Decision:
    """Why this one."""
    score, _, chosen = ranked[0]
    seconds = chosen.seconds * size.scale * size.left.get(chosen.id, 1.0)
    reason = chosen.reason
    if reason == "probe" and by_price and seconds * _careful(room) <= budget:
        reason = "lowest_score"  # in time by what is known, not only by what is hoped
    second = ranked[1] if len(ranked) > 1 else None
    facts: dict[str, AttributeValue] = {
        **chosen.facts,
        "budget_seconds": budget,
        "p90_seconds": seconds * _careful(room),
        "candidates_in_time": in_time,
    }
    return Decision(
        chosen.id,
        "only_candidate" if considered == 1 else reason,
        score if score < CLOSED else seconds + chosen.closed_for,
        "cost" if by_price else "expected_seconds",
        None if second is None else second[2].id,
        None if second is None or second[0] >= CLOSED else second[0],
        considered,
        chosen.inflight,
        seconds,
        facts,
    )
