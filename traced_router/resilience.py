"""What keeps a sick deployment from hurting callers, whatever strategy ranks the rest.

Four parts, each with its own switch in :class:`ResilienceOptions`:

``already_tried``
    A retry goes elsewhere than the attempts that failed this request.
``ejected``
    Outlier ejection, as Envoy's and finagle's failure accrual do it: a moving average of
    failures above a threshold takes a deployment out, for a time that doubles with every
    relapse. Then it is *half-open*: one probe at a time may go there; a success closes the
    case, a failure ejects again. When more than half of a group is ejected, the ejections say
    more about the caller's network than about the deployments, and are ignored: *panic*.
``rate_limit``
    A 429 puts a deployment aside for as long as the provider asked (Retry-After), else for a
    short time that doubles while 429s go on.
retry budget
    Retries may add 20 % to the calls of the last ten seconds, and 10 a second.

Where nothing is left, the least bad is kept rather than nothing: a deployment that this request
tried before one that is rate limited, that before one that is ejected.

It sits between the filters and the strategy, and must know neither, nor litellm, nor
OpenTelemetry. A filter with nothing to exclude costs under 1 µs, and state exists only for
deployments that are, or lately were, in trouble.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from traced_router._retry_budget import RetryBudget, RetryBudgetSnapshot
from traced_router.strategy import Candidate, Outcome, RoutingRequest, Ticket

__all__ = [
    "DeploymentHealth",
    "Eligible",
    "Exclusion",
    "Resilience",
    "ResilienceOptions",
    "ResilienceSnapshot",
    "RetryBudgetSnapshot",
]

Exclusion: TypeAlias = Literal["already_tried", "ejected", "rate_limit"]
"""Why a deployment is left out; the names of the contract."""

_TRIED: Final = 1
_LIMITED: Final = 2
_EJECTED: Final = 4
"""Bits, worse ones higher: the candidates with the lowest sum are kept."""

_REASONS: Final[tuple[Exclusion, ...]] = (
    "already_tried",  # no bit: never looked up
    "already_tried",
    "rate_limit",
    "rate_limit",
    "ejected",
    "ejected",
    "ejected",
    "ejected",
)
"""By sum of bits: the worst one names the exclusion."""

_NOTHING: Final[Mapping[str, Exclusion]] = MappingProxyType({})
_NOBODY: Final[frozenset[str]] = frozenset()

_JITTER: Final = 0.2
"""Share by which an ejection is shortened at random, so that many routers do not probe at once."""

_CLEAN: Final = 0.01
"""A failure rate below this is forgotten, and the deployment's state with it."""

_MAX_IN_TROUBLE: Final = 4096
"""Deployments whose state is kept at once; the one longest in trouble goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceOptions:
    """What is on, and how strict. Times are in seconds.

    Attributes:
        exclude_tried: a retry avoids what this request already tried.
        eject: outlier ejection.
        failure_rate: eject at this moving average of failures, 0..1.
        smoothing: weight of the newest outcome in that average, 0..1; at 0.25, three failures
            in a row eject a deployment that had never failed.
        ejection: length of a first ejection.
        max_ejection: longest ejection, and so the longest time before a recovered deployment
            is tried again.
        probe_timeout: after how long a probe that has not ended stops barring the next one.
        panic: ignore ejections when more than this share of the candidates is ejected, 0..1.
        rate_limits: put a deployment aside after a 429.
        penalty: how long after a first 429 without Retry-After.
        max_penalty: longest such penalty.
        max_retry_after: longest Retry-After that is believed.
        retry_budget: limit retries over all requests.
        retry_ratio: retries granted per call of the last ten seconds.
        retries_per_second: retries granted in any case.
    """

    exclude_tried: bool = True
    eject: bool = True
    failure_rate: float = 0.5
    smoothing: float = 0.25
    ejection: float = 1.0
    max_ejection: float = 10.0
    probe_timeout: float = 10.0
    panic: float = 0.5
    rate_limits: bool = True
    penalty: float = 1.0
    max_penalty: float = 8.0
    max_retry_after: float = 60.0
    retry_budget: bool = True
    retry_ratio: float = 0.2
    retries_per_second: float = 10.0


@dataclass(frozen=True, slots=True)
class Eligible:
    """What is left to rank, and why the rest is not.

    Attributes:
        candidates: never empty, in the order given.
        excluded: reason by candidate id.
        panic: ejections were ignored because too many were ejected.
        probes: of the candidates, those on trial after an ejection.
    """

    candidates: Sequence[Candidate]
    excluded: Mapping[str, Exclusion] = field(default_factory=lambda: _NOTHING)
    panic: bool = False
    probes: frozenset[str] = _NOBODY


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """What is held against one deployment.

    Attributes:
        state: ``closed`` is the healthy one, as in a circuit.
        failure_rate: moving average, 0..1.
        ejections: in a row, each twice as long as the one before.
        ejected_seconds: until it is half-open.
        limited_seconds: until its 429 is forgotten.
    """

    state: Literal["closed", "ejected", "half_open"]
    failure_rate: float
    ejections: int
    ejected_seconds: float
    limited_seconds: float


@dataclass(frozen=True, slots=True)
class ResilienceSnapshot:
    """The whole layer at one moment; a deployment that is not named is healthy."""

    deployments: Mapping[str, DeploymentHealth]
    retry_budget: RetryBudgetSnapshot


class _Health:
    """One deployment in trouble. Guarded by the layer's lock."""

    __slots__ = (
        "closed_at",
        "ejected_at",
        "ejected_until",
        "ejections",
        "failure_rate",
        "limited_until",
        "limits",
        "probe",
        "probe_until",
    )

    def __init__(self) -> None:
        self.failure_rate = 0.0
        self.ejections = 0
        self.ejected_at: float | None = None  # None: closed
        self.ejected_until = 0.0
        self.closed_at = -math.inf
        self.probe: Ticket | None = None
        self.probe_until = 0.0
        self.limits = 0
        self.limited_until = 0.0

    def bars(self, now: float) -> bool:
        """Whether the deployment is ejected, or on trial with its probe still out."""
        if self.ejected_at is None:
            return False
        return now < self.ejected_until or (self.probe is not None and now < self.probe_until)

    def state(self, now: float) -> Literal["closed", "ejected", "half_open"]:
        if self.ejected_at is None:
            return "closed"
        return "ejected" if now < self.ejected_until else "half_open"


class Resilience:
    """The layer: :meth:`filter` before a pick, :meth:`started` and :meth:`finished` around an attempt.

    Safe from several threads. The ticket's ``started_at`` and the clock must agree.

    Args:
        options: what is on.
        clock: seconds, monotonic.
        rng: spreads the ends of ejections.
    """

    def __init__(
        self,
        options: ResilienceOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.options = options if options is not None else ResilienceOptions()
        self.clock = clock
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - spreads probes, guards no secret
        self._lock = threading.Lock()
        self._health: dict[str, _Health] = {}
        self._budget = RetryBudget(
            ratio=self.options.retry_ratio, per_second=self.options.retries_per_second, clock=clock
        )

    def filter(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Eligible:
        """Leave out what should not be picked now; never everything."""
        tried = request.tried if self.options.exclude_tried else _NOBODY
        if not tried and not self._health:
            return Eligible(candidates)
        marks, panic, probes = self._judge(candidates, tried)
        least = min(marks)
        kept = [candidate for candidate, mark in zip(candidates, marks, strict=True) if mark == least]
        excluded: dict[str, Exclusion] = {
            candidate.id: _REASONS[mark] for candidate, mark in zip(candidates, marks, strict=True) if mark != least
        }
        return Eligible(kept, excluded, panic, probes.difference(excluded))

    def started(self, ticket: Ticket) -> None:
        """An attempt leaves; on a deployment on trial it is the probe."""
        if ticket.request.attempt == 1:
            self._budget.call()
        if ticket.id not in self._health:
            return
        with self._lock:
            health = self._health.get(ticket.id)
            if health is None or health.ejected_at is None:
                return
            now = self.clock()
            if now >= health.ejected_until and not health.bars(now):
                health.probe = ticket
                health.probe_until = now + self.options.probe_timeout

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """An attempt ended; ``cached``, ``rejected`` and ``cancelled`` say nothing of the deployment."""
        failed = outcome.status in ("error", "timeout")
        limited = outcome.status == "rate_limited"
        if not (failed or limited) and ticket.id not in self._health:
            return
        with self._lock:
            health = self._health.get(ticket.id) or self._admit(ticket.id)
            was_probe = health.probe is ticket
            if was_probe:
                health.probe = None
            if limited:
                self._limit(health, ticket, outcome)
            elif failed:
                self._fail(health, ticket, was_probe=was_probe)
            elif outcome.status == "ok":
                self._succeed(health, ticket)
            self._forget_if_clean(ticket.id, health)

    def allow_retry(self) -> bool:
        """Whether one more retry may be sent; a refusal is counted in the snapshot."""
        return not self.options.retry_budget or self._budget.allow()

    def retry_budget(self) -> RetryBudgetSnapshot | None:
        """What the retry budget has seen; ``None`` where there is none."""
        return self._budget.snapshot() if self.options.retry_budget else None

    def snapshot(self) -> ResilienceSnapshot:
        """Everything that is held against anyone, for an explanation."""
        with self._lock:
            now = self.clock()
            deployments = {
                id_: DeploymentHealth(
                    state=health.state(now),
                    failure_rate=health.failure_rate,
                    ejections=health.ejections,
                    ejected_seconds=max(0.0, health.ejected_until - now) if health.ejected_at is not None else 0.0,
                    limited_seconds=max(0.0, health.limited_until - now),
                )
                for id_, health in self._health.items()
            }
        return ResilienceSnapshot(deployments, self._budget.snapshot())

    def _judge(self, candidates: Sequence[Candidate], tried: frozenset[str]) -> tuple[list[int], bool, frozenset[str]]:
        """Each candidate's bits, whether this is a panic, and who is on trial."""
        marks: list[int] = []
        probes: set[str] = set()
        ejected = 0
        with self._lock:
            now = self.clock()
            for candidate in candidates:
                mark = _TRIED if candidate.id in tried else 0
                health = self._health.get(candidate.id)
                if health is not None:
                    if now < health.limited_until:
                        mark |= _LIMITED
                    if health.bars(now):
                        mark |= _EJECTED
                        ejected += 1
                    elif health.ejected_at is not None:
                        probes.add(candidate.id)
                marks.append(mark)
        panic = ejected > self.options.panic * len(marks) or ejected == len(marks)
        if panic:
            marks = [mark & ~_EJECTED for mark in marks]
        return marks, panic, frozenset(probes)

    def _admit(self, id_: str) -> _Health:
        if len(self._health) >= _MAX_IN_TROUBLE:
            del self._health[next(iter(self._health))]
        health = self._health[id_] = _Health()
        return health

    def _limit(self, health: _Health, ticket: Ticket, outcome: Outcome) -> None:
        """A 429. Those of attempts that left before the last one was known are the same event."""
        options = self.options
        if not options.rate_limits:
            return
        now = self.clock()
        if outcome.retry_after is not None:
            penalty = min(max(0.0, outcome.retry_after), options.max_retry_after)
        elif ticket.started_at < health.limited_until:
            return
        else:
            penalty = min(options.penalty * 2.0**health.limits, options.max_penalty)
            health.limits = min(health.limits + 1, 30)
        health.limited_until = max(health.limited_until, now + penalty)

    def _fail(self, health: _Health, ticket: Ticket, *, was_probe: bool) -> None:
        health.failure_rate += self.options.smoothing * (1.0 - health.failure_rate)
        if not self.options.eject:
            return
        now = self.clock()
        if health.ejected_at is None:
            if health.failure_rate >= self.options.failure_rate:
                self._eject(health, now)
        elif was_probe or (now >= health.ejected_until and ticket.started_at > health.ejected_at):
            self._eject(health, now)

    def _eject(self, health: _Health, now: float) -> None:
        options = self.options
        if health.ejected_at is None and now - health.closed_at > 2.0 * options.max_ejection:
            health.ejections = 0  # well for long enough: the next illness is a new one
        seconds = min(options.ejection * 2.0**health.ejections, options.max_ejection)
        health.ejections = min(health.ejections + 1, 30)
        health.ejected_at = now
        health.ejected_until = now + seconds * (1.0 - _JITTER * self._rng.random())
        health.probe = None

    def _succeed(self, health: _Health, ticket: Ticket) -> None:
        health.failure_rate -= self.options.smoothing * health.failure_rate
        if ticket.started_at >= health.limited_until:
            health.limits = 0
        if health.ejected_at is not None and ticket.started_at > health.ejected_at:
            health.ejected_at = None
            health.closed_at = self.clock()
            # Half way: a relapse is ejected after two failures rather than three.
            health.failure_rate = min(health.failure_rate, self.options.failure_rate / 2.0)

    def _forget_if_clean(self, id_: str, health: _Health) -> None:
        now = self.clock()
        if (
            health.ejected_at is None
            and health.failure_rate < _CLEAN
            and health.limits == 0
            and now >= health.limited_until
            and now - health.closed_at > 2.0 * self.options.max_ejection
        ):
            del self._health[id_]
