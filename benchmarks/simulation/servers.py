"""Deployments: processor-sharing servers, with gates in front and a prefix cache inside.

A server of batch capacity C with n calls in it serves each at rate ``min(1, C / n) / slowness``
seconds of work per second: up to C calls it does not matter how many there are, beyond C they
share. C infinite is an API without a queue. Progress is kept in the server's own virtual time (as
in generalised processor sharing, Parekh and Gallager 1993), so that an event costs O(log n).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Protocol

from benchmarks.simulation.gates import Gate, Limits, Refusal
from benchmarks.simulation.loop import Scheduler
from benchmarks.simulation.workload import Call
from traced_router.strategy import Status


class Service(Protocol):
    """How much work a call is, in seconds at speed 1."""

    def work(self, call: Call, cached: int) -> tuple[float, float]:
        """Until the first chunk, and until the end; ``cached`` prompt tokens need no prefill."""
        ...


@dataclass(frozen=True, slots=True)
class Standard:
    """WORKLOADS.md §B: seconds fixed, per prompt token, per output token, all times the call's noise."""

    base: float = 0.25
    prompt: float = 0.00015
    output: float = 0.012

    def work(self, call: Call, cached: int) -> tuple[float, float]:
        """Until the first chunk, and until the end."""
        first = self.base + self.prompt * (call.input_tokens - cached)
        return first * call.noise, (first + self.output * call.output_tokens) * call.noise


@dataclass(slots=True, eq=False)
class Job:
    """One attempt on one server.

    Attributes:
        owner: whose it is; the server does not look.
        on_first: called when the first chunk is there (streams only).
        on_done: called once, when the attempt is over.
        status: how it ended.
        cached: prompt tokens that the prefix cache served.
        alive: not over yet.
        serving: in service (a refusal on its way back is alive, but takes no room).
    """

    call: Call
    owner: object
    on_first: Callable[["Job"], None] | None
    on_done: Callable[["Job"], None]
    status: Status = "ok"
    status_code: int | None = None
    retry_after: float | None = None
    limits: Limits | None = None
    cached: int = 0
    alive: bool = True
    serving: bool = False


class PrefixCache:
    """The sessions whose prefix a server has kept: least recently used ones go first."""

    __slots__ = ("_kept", "capacity", "share")

    def __init__(self, capacity: int, share: float = 0.95) -> None:
        self.capacity = capacity
        self.share = share
        self._kept: OrderedDict[str, None] = OrderedDict()

    def peek(self, call: Call) -> int:
        """Prompt tokens that would be served from the cache."""
        return int(call.input_tokens * self.share) if call.session in self._kept else 0

    def use(self, call: Call) -> int:
        """The same, and the session is the most recently used from now on."""
        cached = self.peek(call)
        if call.session is not None:
            self._kept[call.session] = None
            self._kept.move_to_end(call.session)
            if len(self._kept) > self.capacity:
                self._kept.popitem(last=False)
        return cached


class Server:
    """One deployment.

    Attributes:
        id: the deployment's id.
        speed: seconds per second of work when nothing is wrong: 0.7 is fast, 2.5 slow.
        slowness: what is wrong with it now, as a factor on ``speed``.
        capacity: batch capacity.
        inflight: calls in service.
        work: how much work a call is, see :class:`Service`.
    """

    __slots__ = (
        "_at", "_due", "_jobs", "_loop", "_order", "_progress", "_rate",
        "cache", "capacity", "gates", "id", "inflight", "slowness", "speed", "work",
    )  # fmt: skip

    def __init__(
        self,
        loop: Scheduler,
        server_id: str,
        *,
        speed: float = 1.0,
        capacity: float = 16.0,
        gates: Sequence[Gate] = (),
        cache: PrefixCache | None = None,
        service: Service | None = None,
    ) -> None:
        self.id = server_id
        self.speed = speed
        self.slowness = 1.0
        self.capacity = capacity
        self.gates = list(gates)
        self.cache = cache
        self.work = (service or Standard()).work
        self.inflight = 0
        self._loop = loop
        self._at = 0.0
        self._progress = 0.0
        self._rate = 1.0 / speed
        self._due = inf
        self._order = count()
        self._jobs: list[tuple[float, int, Job, bool]] = []

    def submit(self, job: Job) -> None:
        """Serve the job, or refuse it."""
        now = self._loop.now
        part = 1.0
        for gate in self.gates:
            refusal = gate.refuse(now)
            job.limits = gate.limits(now) or job.limits
            if refusal is None:
                continue
            _mark(job, refusal)
            if refusal.share is None:
                self._loop.at(now + refusal.delay, self._tell, job)
                return
            part = refusal.share
            break
        job.cached = self.cache.use(job.call) if self.cache is not None else 0
        first, total = self.work(job.call, job.cached)
        if job.call.reads is not None:
            total = first + (total - first) * job.call.reads
        self._enter(job, first, total * part)

    def cancel(self, job: Job) -> None:
        """The caller has left: the work stops. The job's ``on_done`` is not called."""
        if job.alive:
            job.alive = False
            if job.serving:
                job.serving = False
                self._leave()

    def slow(self, slowness: float) -> None:
        """Become slower, or well again, for calls in service too."""
        self._advance()
        self.slowness = slowness
        self._share()

    def expected_seconds(self, call: Call, *, first_chunk: bool = False) -> float:
        """What the call, or its first chunk, would take here at the load of now: for the oracle."""
        cached = self.cache.peek(call) if self.cache is not None else 0
        crowd = max(1.0, (self.inflight + 1) / self.capacity)
        first, total = self.work(call, cached)
        return (first if first_chunk else total) * crowd * self.speed * self.slowness

    def imposed_seconds(self, call: Call) -> float:
        """By how much the call would delay those in service, in sum: beyond capacity, a new call slows all."""
        if self.inflight + 1 <= self.capacity:
            return 0.0
        cached = self.cache.peek(call) if self.cache is not None else 0
        return self.inflight / self.capacity * self.work(call, cached)[1] * self.speed * self.slowness

    def open(self, now: float) -> float:
        """Probability that a call is served rather than refused: for the oracle."""
        chance = 1.0
        for gate in self.gates:
            chance *= gate.open(now)
        return chance

    def _tell(self, job: Job) -> None:
        if job.alive:
            job.alive = False
            job.on_done(job)

    def _enter(self, job: Job, first: float, total: float) -> None:
        self._advance()
        job.serving = True
        self.inflight += 1
        if job.on_first is not None and first < total:
            heappush(self._jobs, (self._progress + first, next(self._order), job, False))
        heappush(self._jobs, (self._progress + total, next(self._order), job, True))
        self._share()

    def _leave(self) -> None:
        self._advance()
        self.inflight -= 1
        self._share()

    def _advance(self) -> None:
        now = self._loop.now
        self._progress += (now - self._at) * self._rate
        self._at = now

    def _share(self) -> None:
        """The rate for as many calls as there are now, and when the next of them is due."""
        crowd = self.inflight / self.capacity
        self._rate = rate = 1.0 / (self.speed * self.slowness * (max(1.0, crowd)))
        jobs = self._jobs
        while jobs and not jobs[0][2].alive:
            heappop(jobs)
        if not jobs:
            self._due = inf
            return
        left = jobs[0][0] - self._progress
        due = self._at + (left / rate if left > 0.0 else 0.0)
        if due < self._due:  # a later one waits for the event that is set: _wake looks again
            self._due = due
            self._loop.at(due, self._wake, due)

    def _wake(self, due: float) -> None:
        """Deliver what is due. An event that came too early (the server has slowed down since) is set anew."""
        if due != self._due:
            return
        self._due = inf
        self._advance()
        jobs = self._jobs
        done: list[tuple[Job, bool]] = []
        while jobs and (not jobs[0][2].alive or jobs[0][0] <= self._progress + 1e-9):
            _, _, job, last = heappop(jobs)
            if job.alive:
                done.append((job, last))
                if last:
                    job.alive = job.serving = False
                    self.inflight -= 1
        self._share()
        for job, last in done:
            if last:
                job.on_done(job)
            elif job.on_first is not None:
                job.on_first(job)


def _mark(job: Job, refusal: Refusal) -> None:
    job.status = refusal.status
    job.status_code = refusal.status_code
    job.retry_after = refusal.retry_after
