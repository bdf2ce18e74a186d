"""One simulated router: what stands between a caller, a strategy and the servers.

It behaves as litellm's router does with ``num_retries``: a failure is retried at once while the
group has a deployment that is not cooling down, and is the caller's otherwise. The strategy is
driven exactly as the contract says: ``pick``, ``started``, perhaps ``first_chunk``, and
``finished`` once, on every way out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks.simulation.loop import EventLoop
from benchmarks.simulation.metrics import Recorder
from benchmarks.simulation.resilience import Cooldown, Resilience
from benchmarks.simulation.servers import Job, Server
from benchmarks.simulation.workload import Call
from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, RoutingStrategy, Status, Ticket

GROUP = "group"


class NoDeploymentError(Exception):
    """A strategy finds nothing to pick, as litellm's usage-based one can: a failed attempt."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One call on its way through a router."""

    call: Call
    attempt: int = 0
    tried: frozenset[str] = frozenset()
    ticket: Ticket | None = None
    job: Job | None = None
    server: Server | None = None
    first_chunk: float | None = None
    over: bool = False


class SimulatedRouter:
    """Picks, retries and reports, in virtual time.

    Attributes:
        strategy: who picks.
        looking_at: the call that is being picked for; the oracle reads it.
    """

    def __init__(
        self,
        loop: EventLoop,
        servers: dict[str, Server],
        candidates: Callable[[], Sequence[Candidate]],
        strategy: RoutingStrategy,
        recorder: Recorder,
        *,
        cooldown: Cooldown | None = None,
        resilience: Resilience | None = None,
        num_retries: int = 2,
    ) -> None:
        self.strategy = strategy
        self.looking_at: Call | None = None
        self._loop = loop
        self._servers = servers
        self._candidates = candidates
        self._recorder = recorder
        self._cooldown = cooldown
        self._resilience = resilience
        self._num_retries = num_retries

    def arrive(self, call: Call) -> None:
        """A caller calls."""
        flight = _Flight(call)
        if call.patience is not None:
            self._loop.at(call.at + call.patience, self._cancel, flight)
        self._attempt(flight)

    def _attempt(self, flight: _Flight) -> None:
        flight.attempt += 1
        candidates = self._candidates()
        if self._cooldown is not None:
            candidates = self._cooldown.filter(candidates, self._loop.now)
            if not candidates:
                self._end(flight, "error")
                return
        call = flight.call
        request = RoutingRequest(
            model_group=GROUP,
            stream=call.stream,
            attempt=flight.attempt,
            tried=flight.tried,
            affinity=lambda: call.session,
            size=lambda: call.estimate,
        )
        if self._resilience is not None:
            candidates = self._resilience.filter(request, candidates).candidates
        self.looking_at = call
        try:
            decision = self.strategy.pick(request, candidates)
        except NoDeploymentError:
            self._retry(flight)
        else:
            self._send(flight, request, decision)

    def _send(self, flight: _Flight, request: RoutingRequest, decision: Decision) -> None:
        ticket = Ticket(decision.id, GROUP, self._loop.now, request)
        flight.ticket = ticket
        flight.server = self._servers[decision.id]
        self.strategy.started(ticket)
        if self._resilience is not None:
            self._resilience.started(ticket)
        self._recorder.picked(self._loop.now, decision.id)
        flight.job = Job(flight.call, flight, self._first_chunk if flight.call.stream else None, self._done)
        flight.server.submit(flight.job)

    def _first_chunk(self, job: Job) -> None:
        flight = cast("_Flight", job.owner)
        if flight.first_chunk is None and flight.ticket is not None:
            flight.first_chunk = self._loop.now
            self.strategy.first_chunk(flight.ticket)

    def _done(self, job: Job) -> None:
        flight = cast("_Flight", job.owner)
        if flight.over:
            return
        left_early = job.status == "ok" and flight.call.reads is not None
        status: Status = "cancelled" if left_early else job.status
        self._finish(flight, job, status)
        if status in ("ok", "cancelled"):
            self._end(flight, status)
        else:
            self._retry(flight)

    def _retry(self, flight: _Flight) -> None:
        """At once, as litellm does while the group has healthy deployments; never after a first chunk."""
        allowed = flight.attempt <= self._num_retries and flight.first_chunk is None
        if allowed and (self._resilience is None or self._resilience.allow_retry()):
            self._attempt(flight)
        else:
            self._end(flight, "error")

    def _finish(self, flight: _Flight, job: Job, status: Status) -> None:
        ticket = flight.ticket
        if ticket is None:
            return
        now = self._loop.now
        call = flight.call
        served = status in ("ok", "cancelled")
        limits = job.limits
        outcome = Outcome(
            status,
            now - ticket.started_at,
            now,
            time_to_first_chunk=None if flight.first_chunk is None else flight.first_chunk - ticket.started_at,
            input_tokens=call.input_tokens if served else None,
            cached_input_tokens=job.cached if served else None,
            output_tokens=call.output_tokens if status == "ok" else None,
            status_code=job.status_code if not served else None,
            retry_after=job.retry_after,
            ratelimit_remaining_requests=limits.remaining_requests if limits is not None else None,
            ratelimit_reset_seconds=limits.reset_seconds if limits is not None else None,
        )
        flight.ticket = None
        self.strategy.finished(ticket, outcome)
        if not served:
            flight.tried |= {ticket.id}
        if self._cooldown is not None:
            self._cooldown.finished(ticket, outcome)
        if self._resilience is not None:
            self._resilience.finished(ticket, outcome)

    def _cancel(self, flight: _Flight) -> None:
        """The caller loses patience, wherever the call is."""
        if flight.over:
            return
        if flight.job is not None and flight.server is not None:
            flight.server.cancel(flight.job)
            self._finish(flight, flight.job, "cancelled")
        self._end(flight, "cancelled")

    def _end(self, flight: _Flight, status: Status) -> None:
        flight.over = True
        flight.job = None  # they point at each other, and the collector is off during a run
        self._recorder.ended(flight.call, self._loop.now, status, flight.attempt, flight.first_chunk)
