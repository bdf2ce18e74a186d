"""Where a strategy sits in litellm's router: at the last step of a pick.

litellm's filters have run. The seat turns what they left into candidates, lets the resilience layer
drop what is sick, asks the strategy, and reserves. The reservation travels with the attempt and is
given back where that ends, exactly once. A strategy that fails does not fail the request: the pick
falls back to litellm's ``simple-shuffle``, says so, and is counted.

A seat without a strategy is litellm's own ``simple-shuffle`` behind the resilience layer.

An adapter: it knows litellm's deployments, and strategies by their interface. It must not know
OpenTelemetry.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from traced_router import _litellm as seams
from traced_router import _read_candidate, _readers
from traced_router._facts import AttemptEnd, DecisionFacts
from traced_router._guard import Guard
from traced_router._log_lines import StrategyFaults
from traced_router._names import MAX_CANDIDATES_LISTED, RANKINGS, REASONS
from traced_router._probe import Probe
from traced_router._read_headers import Ratelimit
from traced_router._sharing import sharing_of
from traced_router._spans import Hop
from traced_router._tree import Call
from traced_router._values import amount, count, number, text
from traced_router.resilience import Eligible, Resilience
from traced_router.strategy import (
    AttributeValue,
    Candidate,
    Decision,
    Outcome,
    RoutingRequest,
    RoutingStrategy,
    Status,
    Ticket,
)

_MAX_GROUPS: Final = 256
_STATUSES: Final[Mapping[str, Status]] = {
    "rate_limit": "rate_limited",
    "timeout": "timeout",
    "bad_request": "rejected",
    "context_window": "rejected",
    "content_policy": "rejected",
    "cancelled": "cancelled",
}
_NO_LIMITS: Final = Ratelimit()
_REASONS: Final = frozenset(REASONS)
_RANKINGS: Final = frozenset(RANKINGS)

STATE: Final = "state"
"""``shared`` or ``local``: a fact of strategies whose state can be shared, where the router has a Redis."""
STATE_AGE: Final = "state_age_seconds"
_NO_STATE: Final[Mapping[str, AttributeValue]] = {}
_NO_SCORES: Final[Mapping[str, float]] = {}


class Wanted(NamedTuple):
    """What a pick is made for."""

    router: Any
    model_group: str
    deployments: Sequence[Mapping[str, Any]]
    request: Mapping[str, Any]
    messages: object
    probe: Probe
    lasting: bool = True
    """Whether the event loop that runs here, if one does, lasts longer than the pick."""


class _Group(NamedTuple):
    """The candidates made of the deployments that litellm gave last."""

    deployments: list[Mapping[str, Any]]
    candidates: tuple[Candidate, ...]
    places: Mapping[str, int]


class Seat:
    """One strategy in one router.

    Args:
        strategy: decides; ``None`` for litellm's ``simple-shuffle``.
        resilience: drops what is sick, first; ``None`` when it is off.
        guard: where faults go, the strategy's own included.
        router: where it sits; held weakly.
    """

    __slots__ = ("_clock", "_faults", "_groups", "_guard", "_resilience", "_sharing", "name", "strategy")

    def __init__(
        self, strategy: RoutingStrategy | None, resilience: Resilience | None, guard: Guard, router: object = None
    ) -> None:
        self.strategy = strategy
        self.name = seams.SHUFFLE if strategy is None else strategy.name
        self._resilience = resilience
        self._guard = guard
        self._faults = StrategyFaults(guard)
        self._clock: Callable[[], float] = getattr(strategy, "clock", time.monotonic)
        self._groups: dict[str, _Group] = {}
        groups = self._groups  # the task that shares refers to these, and to nothing else of the seat
        self._sharing = sharing_of(
            router, strategy, lambda: {name: group.places for name, group in groups.items()}, report=guard.report
        )

    def close(self) -> None:
        """The router is given up: nothing is shared any more."""
        if self._sharing is not None:
            self._sharing.close()

    # --- the pick ------------------------------------------------------------------------------

    def pick(self, wanted: Wanted) -> Any:
        """One of the deployments that litellm's filters left."""
        try:
            return self._pick(wanted)
        except Exception as fault:  # noqa: BLE001  # nothing here may fail a request
            self._guard.report("strategy", fault)
            return seams.simple_shuffle(wanted.router, wanted.deployments, wanted.model_group, wanted.request)

    def _pick(self, wanted: Wanted) -> Any:
        group = self._group(wanted)
        request = _request(wanted, self._clock)
        eligible = self._eligible(request, group)
        if self.strategy is None:
            return self._shuffle(wanted, group, request, eligible)
        if self._sharing is not None and not wanted.probe.peeking:
            self._sharing.ensure(start=wanted.lasting)
        scores = self._scores(self.strategy, request, eligible) if wanted.probe.listing else _NO_SCORES
        decision, seconds = self._decide(self.strategy, request, eligible, group, peeking=wanted.probe.peeking)
        if decision is None:
            facts = DecisionFacts(strategy=self.name, reason="strategy_error_fallback", seconds=seconds)
            wanted.probe.decided(facts, wanted.deployments, eligible.excluded)
            return self._shuffle(wanted, group, request, eligible)
        facts = _facts(self.name, decision, eligible, seconds, self._state(wanted.router))
        if scores:
            facts = facts._replace(scores=scores)
        wanted.probe.decided(facts, wanted.deployments, eligible.excluded)
        self._reserve(wanted.probe, decision.id, request, self.strategy)
        return wanted.deployments[group.places[decision.id]]

    def _decide(
        self, strategy: RoutingStrategy, request: RoutingRequest, eligible: Eligible, group: _Group, *, peeking: bool
    ) -> tuple[Decision | None, float]:
        """The strategy's answer, if it has one that can be used, and how long it took."""
        pick = getattr(strategy, "peek", strategy.pick) if peeking else strategy.pick
        started = time.perf_counter()
        try:
            decision = _checked(pick(request, eligible.candidates), eligible, group)
        except Exception as fault:  # noqa: BLE001  # a strategy must not fail a request
            self._faults.tell(self.name, "pick", fault)
            decision = None
        return decision, time.perf_counter() - started

    def _scores(self, strategy: RoutingStrategy, request: RoutingRequest, eligible: Eligible) -> Mapping[str, float]:
        """What the strategy says that each scores, as far as it says so; of few, as no more are listed."""
        ask = getattr(strategy, "scores", None)
        if ask is None or len(eligible.candidates) > MAX_CANDIDATES_LISTED:
            return _NO_SCORES
        try:
            said: Mapping[str, object] = ask(request, eligible.candidates)
            read = {one.id: number(said.get(one.id)) for one in eligible.candidates}
        except Exception as fault:  # noqa: BLE001  # the decision stands without them
            self._faults.tell(self.name, "scores", fault)
            return _NO_SCORES
        return {id_: score for id_, score in read.items() if score is not None}

    def _state(self, router: object) -> Mapping[str, AttributeValue]:
        """Whether the strategy hears of other routers, where there is a way to, and how old that is."""
        if self._sharing is None or seams.redis_of(router) is None:
            return _NO_STATE
        where, age = self._sharing.state(time.monotonic())
        return {STATE: where} if age is None else {STATE: where, STATE_AGE: age}

    def _shuffle(self, wanted: Wanted, group: _Group, request: RoutingRequest, eligible: Eligible) -> Any:
        left = _left(wanted, group, eligible)
        chosen = seams.simple_shuffle(wanted.router, left, wanted.model_group, wanted.request)
        self._reserve(wanted.probe, _read_candidate.deployment_id(chosen), request, None)
        return chosen

    # --- before and after a pick of litellm's own ------------------------------------------------

    def narrow(self, wanted: Wanted) -> Sequence[Mapping[str, Any]]:
        """The deployments that the resilience layer leaves to a strategy of litellm's."""
        try:
            group = self._group(wanted)
            return _left(wanted, group, self._eligible(_request(wanted, self._clock), group))
        except Exception as fault:  # noqa: BLE001  # litellm goes on with all of them
            self._guard.report("strategy", fault)
            return wanted.deployments

    def took(self, wanted: Wanted, chosen: Mapping[str, Any]) -> None:
        """A strategy of litellm's has chosen."""
        try:
            self._reserve(wanted.probe, _read_candidate.deployment_id(chosen), _request(wanted, self._clock), None)
        except Exception as fault:  # noqa: BLE001  # as above
            self._guard.report("strategy", fault)

    def _eligible(self, request: RoutingRequest, group: _Group) -> Eligible:
        if self._resilience is None:
            return Eligible(group.candidates)
        return self._resilience.filter(request, group.candidates)

    def _group(self, wanted: Wanted) -> _Group:
        given = wanted.deployments if isinstance(wanted.deployments, list) else list(wanted.deployments)
        known = self._groups.get(wanted.model_group)
        if known is not None and known.deployments == given:  # by identity, as long as litellm hands out its own
            return known
        candidates = tuple(_read_candidate.candidate(d, wanted.model_group) for d in given)
        made = _Group(list(given), candidates, {c.id: i for i, c in enumerate(candidates)})
        if len(self._groups) >= _MAX_GROUPS:
            self._groups.clear()
        self._groups[wanted.model_group] = made
        return made

    # --- the reservation -----------------------------------------------------------------------

    def _reserve(
        self, probe: Probe, deployment_id: str, request: RoutingRequest, strategy: RoutingStrategy | None
    ) -> None:
        scope = probe.scope
        if scope is None:
            return  # nobody is going to call: a pick for its own sake
        tickets: list[tuple[RoutingStrategy | Resilience, Ticket, Callable[[], float]]] = []
        if strategy is not None:
            ticket = Ticket(deployment_id, request.model_group, self._clock(), request)
            if self._started(strategy, ticket):
                tickets.append((strategy, ticket, self._clock))
        if self._resilience is not None:
            ticket = Ticket(deployment_id, request.model_group, self._resilience.clock(), request)
            if self._started(self._resilience, ticket):
                tickets.append((self._resilience, ticket, self._resilience.clock))
            scope.call.allow_retry = self._resilience.allow_retry
            scope.call.retry_budget = self._resilience.retry_budget
        if tickets:
            scope.reserve(Reservation(tickets, self._faults, scope.call, scope.hop))

    def _started(self, learner: RoutingStrategy | Resilience, ticket: Ticket) -> bool:
        try:
            learner.started(ticket)
        except Exception as fault:  # noqa: BLE001  # the pick stands
            _tell(self._faults, learner, "started", fault)
            return False
        return True


def _checked(answer: Any, eligible: Eligible, group: _Group) -> Decision:
    if isinstance(answer, Decision) and answer.id in group.places and answer.id not in eligible.excluded:
        return answer
    raise TypeError("a strategy's pick() must answer with a Decision for one of its candidates")


class Reservation:
    """The tickets of one pick, on their way: the attempt's listener. They are given back once."""

    __slots__ = ("_call", "_faults", "_hop", "_limits", "_tickets")

    def __init__(
        self,
        tickets: Sequence[tuple[RoutingStrategy | Resilience, Ticket, Callable[[], float]]],
        faults: StrategyFaults,
        call: Call,
        hop: Hop | None,
    ) -> None:
        self._tickets = tickets
        self._faults = faults
        self._call = call
        self._hop = hop
        self._limits = _NO_LIMITS

    def answered(self, headers: object) -> None:
        """The provider has answered, with ``headers``."""
        if isinstance(headers, Mapping):
            named = cast("Mapping[object, object]", headers)
            if any("ratelimit" in str(name) for name in named):
                self._limits = _readers.ratelimit(named, time.time())

    def first_chunk(self) -> None:
        """The first chunk with content has come."""
        for learner, ticket, _ in self._tickets:
            if not isinstance(learner, Resilience):
                try:
                    learner.first_chunk(ticket)
                except Exception as fault:  # noqa: BLE001  # the stream goes on
                    self._faults.tell(learner.name, "first_chunk", fault, self._call, self._hop)

    def ended(self, end: AttemptEnd | None) -> None:
        """The attempt is over, or never left (``None``)."""
        tickets, self._tickets = self._tickets, ()
        for learner, ticket, clock in tickets:
            try:
                learner.finished(ticket, _outcome(end, clock(), self._limits))
            except Exception as fault:  # noqa: BLE001  # the call is over; nothing may change for it
                _tell(self._faults, learner, "finished", fault, self._call, self._hop)


def _tell(
    faults: StrategyFaults,
    learner: RoutingStrategy | Resilience,
    step: str,
    fault: Exception,
    call: Call | None = None,
    hop: Hop | None = None,
) -> None:
    """``learner`` has raised ``fault``: a strategy, or the layer beside it, which is our own."""
    if isinstance(learner, Resilience):
        faults.guard.report("strategy", fault)
    else:
        faults.tell(learner.name, step, fault, call, hop)


def _left(wanted: Wanted, group: _Group, eligible: Eligible) -> Sequence[Mapping[str, Any]]:
    """The deployments of those that are left; what is not goes with its reason."""
    if not eligible.excluded:
        return wanted.deployments
    left = [wanted.deployments[group.places[c.id]] for c in eligible.candidates]
    wanted.probe.narrowed(wanted.deployments, left, eligible.excluded)
    return left


def _request(wanted: Wanted, clock: Callable[[], float]) -> RoutingRequest:
    kwargs, scope = wanted.request, wanted.probe.scope
    call = None if scope is None else scope.call
    remaining = None if call is None or call.countdown is None else call.countdown.remaining
    return RoutingRequest(
        model_group=wanted.model_group,
        operation="chat" if call is None else call.operation,
        stream=kwargs.get("stream") is True,
        attempt=1 if call is None else len(call.ledger.attempts) + 1,
        tried=frozenset() if call is None else call.tried(),
        deadline=None if remaining is None else clock() + remaining,
        max_output_tokens=_read_candidate.max_output_tokens(kwargs),
        affinity=lambda: _read_candidate.affinity_key(kwargs, wanted.messages),
        size=lambda: _read_candidate.input_size(kwargs, wanted.messages),
    )


def _facts(
    name: str, decision: Decision, eligible: Eligible, seconds: float, state: Mapping[str, AttributeValue]
) -> DecisionFacts:
    """What a strategy says of its decision, as far as it makes sense: nobody checks a stranger's code but this."""
    reason = _one_of(_REASONS, decision.reason) or "external"
    if eligible.panic:
        reason = "panic"
    elif decision.id in eligible.probes:
        reason = "probe"
    considered = count(decision.considered)
    return DecisionFacts(
        strategy=name,
        reason=reason,
        chosen_id=decision.id,
        considered=None if considered is None or considered > len(eligible.candidates) else considered,
        score=number(decision.score),
        rank_by=_one_of(_RANKINGS, decision.rank_by),
        inflight=count(decision.inflight),
        runner_up_id=text(decision.runner_up_id),
        runner_up_score=number(decision.runner_up_score),
        seconds=seconds,
        predicted_seconds=amount(decision.predicted_seconds),
        attributes={**state, **_said(decision.attributes)} if state else _said(decision.attributes),
    )


def _one_of(words: frozenset[str], word: object) -> str | None:
    return word if isinstance(word, str) and word in words else None


def _said(attributes: object) -> Mapping[str, AttributeValue]:
    return cast("Mapping[str, AttributeValue]", attributes) if isinstance(attributes, Mapping) else _NO_STATE


def _outcome(end: AttemptEnd | None, now: float, limits: Ratelimit) -> Outcome:
    if end is None:
        return Outcome("cancelled", 0.0, now)
    answer, failure = end.answer, end.failure
    return Outcome(
        status=_status(end),
        seconds=end.seconds,
        finished_at=now,
        time_to_first_chunk=end.time_to_first_chunk,
        input_tokens=None if answer is None else answer.input_tokens,
        cached_input_tokens=None if answer is None else answer.cache_read_tokens,
        output_tokens=None if answer is None else answer.output_tokens,
        status_code=None if failure is None else failure.status_code,
        retry_after=None if failure is None else failure.retry_after,
        ratelimit_remaining_requests=limits.remaining_requests,
        ratelimit_remaining_tokens=limits.remaining_tokens,
        ratelimit_reset_seconds=limits.reset_seconds,
    )


def _status(end: AttemptEnd) -> Status:
    if end.failure is not None:
        return _STATUSES.get(end.failure.category, "error")
    if end.cancelled or end.answer is None:
        return "cancelled"
    return "cached" if end.answer.cache_hit else "ok"
