"""The interface of a routing strategy: what it is given, what it answers, what it hears back.

A strategy decides. It does no I/O and no tracing, and it does not know litellm: what it needs
comes in as a :class:`RoutingRequest` and a sequence of :class:`Candidate`, what it has to say
goes out as a :class:`Decision`. Load balancers usually split the load metric from the picker
(tower's ``Load`` and ``p2c``, finagle's ``LoadMetric`` and ``Distributor``); here a
:class:`Ticket` carries the one to the other: it is handed out at the pick and given back,
exactly once, where the attempt really ends.

Times are seconds on the strategy's own clock, money is USD, sizes are tokens. ``None`` means
unknown, everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

Reason: TypeAlias = Literal[
    "only_candidate",
    "lowest_score",
    "tie_random",
    "weighted_random",
    "affinity_hit",
    "affinity_spill",
    "cold_start",
    "probe",
    "panic",
    "forced_specific",
    "strategy_error_fallback",
    "external",
]
"""Why a deployment was chosen."""

RankBy: TypeAlias = Literal["expected_seconds", "inflight", "latency", "weight", "cost", "hash", "usage", "random"]
"""What a score measures."""

Status: TypeAlias = Literal["ok", "cached", "rejected", "rate_limited", "timeout", "error", "cancelled"]
"""How an attempt ended; see :class:`Outcome`."""

AttributeValue: TypeAlias = str | int | float | bool

_NO_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may be picked: litellm's filters have already run.

    Attributes:
        id: the deployment's id; state is keyed by it.
        model_group: the group that the caller asked for.
        model: the provider's model, as litellm is configured (``openai/gpt-4o``).
        weight: the configured weight, in any unit; only ratios count.
        rpm: requests per minute that the deployment is configured for.
        tpm: tokens per minute that the deployment is configured for.
        input_cost_per_token: USD.
        output_cost_per_token: USD.
    """

    id: str
    model_group: str = ""
    model: str = ""
    weight: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """What is known of a call when a deployment is picked for it.

    ``affinity_key`` and ``input_size`` cost work, so they are computed when a strategy first
    reads them: a strategy that does not ask does not pay.

    Attributes:
        model_group: the group asked for.
        operation: ``chat``, ``embeddings``, …
        stream: whether the caller wants a stream.
        attempt: 1-based over the whole request.
        tried: ids of deployments that have failed this request.
        max_output_tokens: the caller's limit, tokens.
        deadline: when the answer is due, on the strategy's clock.
        affinity: makes :attr:`affinity_key`.
        size: makes :attr:`input_size`.
    """

    model_group: str = ""
    operation: str = "chat"
    stream: bool = False
    attempt: int = 1
    tried: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    deadline: float | None = None
    affinity: Callable[[], str | None] | None = None
    size: Callable[[], int | None] | None = None
    _memo: dict[str, str | int | None] = field(
        default_factory=dict[str, str | int | None], init=False, repr=False, compare=False
    )

    @property
    def affinity_key(self) -> str | None:
        """The session id, else a keyed hash of the first messages; requests that share it share a prefix."""
        if "affinity" not in self._memo:
            self._memo["affinity"] = self.affinity() if self.affinity is not None else None
        value = self._memo["affinity"]
        return value if isinstance(value, str) else None

    @property
    def input_size(self) -> int | None:
        """Estimated input tokens, from character counts; never a tokenizer's."""
        if "size" not in self._memo:
            self._memo["size"] = self.size() if self.size is not None else None
        value = self._memo["size"]
        return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Decision:
    """The pick, and why.

    Attributes:
        id: the chosen candidate's.
        reason: why it won.
        score: its score; lower is better.
        rank_by: what scores measure.
        runner_up_id: who came second.
        runner_up_score: with which score.
        considered: how many candidates were looked at.
        inflight: calls in flight on the chosen one, before this one.
        predicted_seconds: how long the strategy expects this attempt to take.
        attributes: the strategy's own facts; ``k`` becomes ``traced_router.strategy.<k>``,
            ``name`` is reserved, and at most 16 are kept.
    """

    id: str
    reason: Reason
    score: float | None = None
    rank_by: RankBy | None = None
    runner_up_id: str | None = None
    runner_up_score: float | None = None
    considered: int | None = None
    inflight: int | None = None
    predicted_seconds: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: _NO_ATTRIBUTES)


@dataclass(slots=True, eq=False)
class Ticket:
    """One reservation, from the pick to the end of the attempt. Compared by identity.

    Attributes:
        id: the candidate's.
        model_group: its group.
        started_at: on the strategy's clock.
        request: what the pick was made for.
        state: the strategy's own; nobody else touches it.
    """

    id: str
    model_group: str
    started_at: float
    request: RoutingRequest
    state: object = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    ``status`` is ``ok``; ``cached`` (litellm's cache answered: says nothing of the deployment);
    ``rejected`` (the request's own fault, such as a 400: nothing against the deployment);
    ``rate_limited``; ``timeout``; ``error``; or ``cancelled`` (the caller left: what was seen
    until then counts).

    Attributes:
        status: see above.
        seconds: duration of the attempt.
        time_to_first_chunk: seconds; streams only.
        input_tokens: as the provider counted.
        cached_input_tokens: of those, how many its prompt cache served.
        output_tokens: as the provider counted.
        status_code: HTTP status of a failure, when the provider sent one.
        retry_after: seconds that the provider asked to wait.
        ratelimit_remaining_requests: from the provider's headers.
        ratelimit_remaining_tokens: from the provider's headers.
        ratelimit_reset_seconds: until the limits reset.
        finished_at: on the strategy's clock.
    """

    status: Status
    seconds: float
    finished_at: float
    time_to_first_chunk: float | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    status_code: int | None = None
    retry_after: float | None = None
    ratelimit_remaining_requests: float | None = None
    ratelimit_remaining_tokens: float | None = None
    ratelimit_reset_seconds: float | None = None


@runtime_checkable
class RoutingStrategy(Protocol):
    """Picks deployments, and hears how the attempts went.

    Calls can come from several threads. A strategy that raises, or answers ``None`` or an id
    that was not among the candidates, does not fail the request: the pick falls back to
    litellm's ``simple-shuffle``.

    Three more members are used where a strategy has them:

    ``clock``
        a function that gives the seconds of its tickets and outcomes; :func:`time.monotonic` otherwise.
    ``peek``
        with the arguments of :meth:`pick`, answers what that would, without changing anything. A strategy
        whose :meth:`pick` itself changes what comes next needs it for ``TracedRouter.explain``.
    ``scores``
        with the arguments of :meth:`pick`, answers with a ``Mapping[str, float]``: what each candidate
        scores by its id, in the units of :class:`Decision`'s ``rank_by``, without changing anything. One that
        would not be taken at all has none. Asked before a pick whose candidates are listed (on the event
        ``traced_router.candidates`` and by ``TracedRouter.explain``), of at most sixteen of them.
    """

    name: str

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """Choose one of ``candidates``, which is never empty."""
        ...

    def started(self, ticket: Ticket) -> None:
        """The pick was taken: reserve. Called before the call leaves."""
        ...

    def first_chunk(self, ticket: Ticket) -> None:
        """The first chunk of a stream arrived. Streams only."""
        ...

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """The attempt is over. Exactly once per :meth:`started`, on every way out."""
        ...


@runtime_checkable
class SharedState(Protocol):
    """A strategy whose state can be shared between routers.

    Both methods are called off the path of any pick.
    """

    def export_state(self) -> Mapping[str, Sequence[float]]:
        """At most 16 numbers per candidate id: gauges rather than counters."""
        ...

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """What the peers exported last; replaces what was absorbed before."""
        ...
