"""``quota-aware``: the deployment with the most headroom under its rate limits.

Algorithm. The *utilisation* of a deployment is the larger of requests used / ``rpm`` and tokens used
/ ``tpm``, over the last sixty seconds; calls in flight count, with their estimated tokens, from
the moment they are sent, and are corrected when the provider has counted. Where the provider's
rate-limit headers say what is left, they are believed instead: counted down by what was sent since
(``_throttle``), up as they said it refills, and forgotten when they said that the limit is whole
again. The lowest utilisation gets the call; ties go to the fewest calls in flight, then by lot. A
429 closes a deployment until its Retry-After, or for half a second that doubles while 429s go on;
a closed one is picked only when all are, the one that opens first.

Why a sliding window: providers reset at the turn of their own minute, or refill continuously, and
do not tell which. A sliding minute is right for the second kind and safe for the first, where a
count by our own minute could send two minutes' worth around theirs.

Source. litellm's ``usage-based-routing-v2`` for the idea, without its cache calls and its token
counting; the token bucket of OpenAI's and Anthropic's rate limits; the AWS SDKs' adaptive retry
mode for limits that nobody tells.

Cost. 2–4 µs a pick at any number of candidates, an attempt 3–5 µs; 2 KB per deployment.

Needs to know. ``rpm`` and ``tpm`` of the candidates, or the providers' headers, or neither: then it
balances calls in flight until 429s show where the limits are. ``input_size`` where a ``tpm`` is given.

Use it when quotas are what limits you: many accounts or regions of hosted APIs. Not where quotas are
ample: it does not look at latency, and ``least-expected-completion`` answers sooner and knows 429s
and headers as well.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

from traced_router.strategy import AttributeValue, Candidate, Decision, Outcome, Reason, RoutingRequest, Ticket
from traced_router_strategies._choice import Choice, lowest_two, shortlist
from traced_router_strategies._inflight import InFlightStrategy
from traced_router_strategies._load import DecayedMean
from traced_router_strategies._table import Table
from traced_router_strategies._throttle import Meter, Throttle

_WINDOW: Final = 60
"""Seconds, one slot each."""

_CLOSED: Final = 1e6
"""Utilisation of a deployment that would refuse: any other comes first."""

_PER_CALL: Final = 1e-6
"""Utilisation that a call in flight counts, to tell deployments without limits from each other."""

_LOOK: Final = 0.25
"""Seconds for which a utilisation holds when nothing happens: windows slide and limits refill."""

_MEAN_CALLS: Final = 100.0


class _Window:
    """Requests and tokens of the last sixty seconds."""

    __slots__ = ("_requests", "_slot", "_tokens", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0.0
        self.tokens = 0.0
        self._slot = 0
        self._requests = [0.0] * _WINDOW
        self._tokens = [0.0] * _WINDOW

    def add(self, now: float, requests: float, tokens: float) -> None:
        """Used now."""
        self.slide(now)
        self.requests += requests
        self.tokens += tokens
        self._requests[self._slot % _WINDOW] += requests
        self._tokens[self._slot % _WINDOW] += tokens

    def slide(self, now: float) -> None:
        """Forget what is older than a minute."""
        slot = int(now)
        for passed in range(self._slot + 1, min(slot, self._slot + _WINDOW) + 1):
            place = passed % _WINDOW
            self.requests -= self._requests[place]
            self.tokens -= self._tokens[place]
            self._requests[place] = self._tokens[place] = 0.0
        self._slot = max(slot, self._slot)


class _Quota:
    """One deployment's limits. Not locked: its owner is.

    Attributes:
        window: what this router has used of them.
        throttle: what the provider says of them.
        used: utilisation, 0..1 and beyond.
        tightest: the limit that it is of, ``requests`` or ``tokens``.
        score: by which it is ranked.
        fresh_until: until when it holds if nothing happens.
        closed_for: seconds until the deployment lets calls through.
        inflight: calls of this router.
    """

    __slots__ = ("closed_for", "fresh_until", "inflight", "score", "throttle", "tightest", "used", "window")

    def __init__(self) -> None:
        self.window = _Window()
        self.throttle = Throttle()
        self.score = self.used = 0.0
        self.tightest = "requests"
        self.fresh_until = -inf
        self.closed_for = 0.0
        self.inflight = 0

    def refresh(self, candidate: Candidate, elsewhere: float, tokens: float, now: float) -> float:
        """The utilisation with one more call of so many tokens."""
        self.window.slide(now)
        throttle, window = self.throttle, self.window
        self.tightest, self.used = max(
            ("requests", _used(throttle.requests, candidate.rpm, window.requests + elsewhere, 1.0, now)),
            ("tokens", _used(throttle.tokens, candidate.tpm, window.tokens + elsewhere * tokens, tokens, now)),
            key=itemgetter(1),
        )
        self.score = self.used + _PER_CALL * (self.inflight + elsewhere)
        self.closed_for = throttle.opens_in(now, tokens) if throttle.armed else 0.0
        if self.closed_for > 0.0:
            self.score = _CLOSED + self.closed_for
        self.fresh_until = now + _LOOK
        return self.score


def _used(meter: Meter, configured: float | None, used: float, more: float, now: float) -> float:
    """Of one limit, 0..1 and beyond; the provider's word before the operator's; 0 when there is neither."""
    left = meter.left(now)
    if left is not None and meter.limit > 0.0:
        return 1.0 - (left - more) / meter.limit
    return (used + more) / configured if configured else 0.0


class _Slip(NamedTuple):
    """What is corrected when the call has ended."""

    quota: _Quota
    tokens: float
    meters: tuple[float, float]


class QuotaAware(InFlightStrategy):
    """The strategy; see the module.

    Args:
        clock: seconds, monotonic.
        rng: breaks ties, and draws whom to look at in large groups.
    """

    name = "quota-aware"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        super().__init__(clock=clock, rng=rng)
        self._quotas: Table[_Quota] = Table(spare=lambda quota: quota.inflight == 0)
        self._tokens = DecayedMean(_MEAN_CALLS)
        self._output = DecayedMean(_MEAN_CALLS)
        self._remembered: Sequence[int] = ()

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:  # noqa: ARG002 - as its interface has it
        """The deployment with the most headroom."""
        with self._lock:
            now = self.clock()
            positions = shortlist(len(candidates), self._remembered, self._rng)
            choice = lowest_two(self._utilisations(candidates, positions, now), self._rng)
            first = positions[choice.first]
            second = None if choice.second is None else positions[choice.second]
            self._remembered = (first, first if second is None else second)
            return self._decide(candidates, first, second, choice, len(positions))

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:  # noqa: ARG002 - as its interface has it
        """Utilisation, by id; without those that would refuse."""
        with self._lock:
            found = self._utilisations(candidates, range(len(candidates)), self.clock())
            return {one.id: score for one, score in zip(candidates, found, strict=True) if score < _CLOSED}

    def _utilisations(self, candidates: Sequence[Candidate], positions: Sequence[int], now: float) -> list[float]:
        known = self._quotas.states
        return [
            quota.score
            if (quota := known.get(candidates[i].id)) is not None and now < quota.fresh_until
            else self._refresh(candidates[i], now)
            for i in positions
        ]

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Sum up what the peers have in flight; it replaces the last sum."""
        super().absorb_state(peers)
        with self._lock:
            for quota in self._quotas.states.values():
                quota.fresh_until = -inf

    def _refresh(self, candidate: Candidate, now: float) -> float:
        quota = self._quotas.states.get(candidate.id) or self._quotas.add(candidate.id, _Quota())
        return quota.refresh(candidate, self._theirs.get(candidate.id, 0.0), max(1.0, self._tokens.value), now)

    def _decide(
        self, candidates: Sequence[Candidate], first: int, second: int | None, choice: Choice, considered: int
    ) -> Decision:
        id_ = candidates[first].id
        quota = self._quotas.states[id_]
        facts: dict[str, AttributeValue] = {
            "requests_last_minute": quota.window.requests,
            "tokens_last_minute": quota.window.tokens,
        }
        if quota.used > 0.0:
            facts["tightest_limit"] = quota.tightest
        if quota.closed_for > 0.0:
            facts["rate_limited_seconds"] = round(quota.closed_for, 3)
        reason: Reason = "tie_random" if choice.tied else "lowest_score"
        return Decision(
            id_,
            "only_candidate" if second is None else reason,
            choice.score if choice.score < _CLOSED else quota.used,
            "usage",
            None if second is None else candidates[second].id,
            None if choice.second_score is None or choice.second_score >= _CLOSED else choice.second_score,
            considered,
            self._mine.get(id_, 0),
            None,
            facts,
        )

    def _begin(self, ticket: Ticket) -> _Slip:
        quota = self._quotas.states.get(ticket.id)
        if quota is None:
            quota = self._quotas.add(ticket.id, _Quota())
        self._quotas.touch(ticket.id)
        request = ticket.request
        tokens = self._tokens.value
        if request.size is not None and request.input_size is not None:
            output = self._output.value
            if request.max_output_tokens is not None:
                output = min(output or request.max_output_tokens, request.max_output_tokens)
            tokens = request.input_size + output
        quota.inflight += 1
        quota.window.add(ticket.started_at, 1.0, tokens)
        quota.fresh_until = -inf
        return _Slip(quota, tokens, quota.throttle.started(ticket.started_at, tokens))

    def _learn(self, ticket: Ticket, outcome: Outcome, note: object) -> None:
        if not isinstance(note, _Slip):
            return
        quota, now = note.quota, outcome.finished_at
        quota.inflight -= 1
        quota.fresh_until = -inf
        quota.throttle.finished(outcome, ticket.started_at, note.meters)
        if outcome.input_tokens is not None and outcome.output_tokens is not None:
            tokens = float(outcome.input_tokens + outcome.output_tokens)
            self._tokens.observe(tokens)
            self._output.observe(outcome.output_tokens)
            quota.window.add(now, 0.0, tokens - note.tokens)
        elif outcome.status in ("rate_limited", "cached"):  # nothing was used
            quota.window.add(now, -1.0, -note.tokens)
