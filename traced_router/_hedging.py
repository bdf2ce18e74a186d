"""Two attempts at one answer: the first, and after a delay a second one on another deployment.

    make_call ── Race.run() ──> primary ── attempt function ──> its attempt
                           └──> hedge ──── attempt function ──> its attempt, beside the first

Whoever has an answer first wins: an answer, or a stream's first chunk with content. The other one is
cancelled, and over before the winner's answer is handed on. An attempt that fails loses; while the other
one runs, nobody hears of it but litellm. Where both fail, the primary's error is what a call without hedges
would have raised.

This module knows litellm through ``_litellm``, and tells the tree who won. It must not know spans.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from traced_router import _litellm as seams
from traced_router import _names as n
from traced_router._followers import AttemptFollower
from traced_router._guard import fails_open
from traced_router._retry_budget import RetryBudget
from traced_router._spans import Attempt
from traced_router._streams import ReadAhead, follow_converted, give_up, is_stream
from traced_router._tree import Call
from traced_router._windows import Window, Windows
from traced_router.hedging import HedgePolicy

_WINDOW: Final = 256
_MAX_KEYS: Final = 512
"""Groups, by what is asked of them, that have a window (some 10 kB) and a budget of their own; the rest share one."""
_GRACE: Final = 0.1
"""Seconds that the winner's answer waits for a loser which does not let itself be cancelled."""

Attempting: TypeAlias = Callable[["Entrant", dict[str, Any]], Awaitable[Any]]
"""Runs the attempt function once, with these arguments."""


class WithdrawnError(Exception):
    """The hedge was about to go where the primary is: it does not leave."""


class Stop:
    """What ends more than a call: it is raised where the caller waits."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Hedging:
    """What one router knows for its hedges: how long attempts take, and how many hedges have been sent.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._windows = Windows(_WINDOW, _MAX_KEYS)
        self._budgets: dict[tuple[str | None, float, float] | None, RetryBudget] = {}
        self._stragglers: set[asyncio.Task[Any]] = set()

    def race(self, call: Call, group: str | None, policy: HedgePolicy, kind: object) -> "Race":
        """One call's attempt in ``group``; ``kind`` tells apart what takes differently long.

        The calls' own delays have one budget: who gives each another one may not hedge them all.
        """
        key: tuple[str | None, float, float] | None = (group, policy.ratio, policy.per_second)
        with self._lock:
            if key not in self._budgets and len(self._budgets) >= _MAX_KEYS:
                key = None
            budget = self._budgets.get(key)
            if budget is None:
                budget = RetryBudget(ratio=policy.ratio, per_second=policy.per_second, clock=self.clock)
                self._budgets[key] = budget
            window = self._windows.of((group, kind))
            delay = window.quantile(policy.quantile, policy.warmup) if policy.delay is None else float(policy.delay)
        budget.call()
        return Race(self, call, budget, window, delay)

    def took(self, window: Window, seconds: float) -> None:
        """A first attempt has taken ``seconds``, or longer: then a hedge was faster."""
        with self._lock:
            window.add(seconds)

    def outlives(self, task: "asyncio.Task[Any]") -> None:
        """Nobody waits for a loser any longer; the event loop alone would not keep it."""
        self._stragglers.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: "asyncio.Task[Any]") -> None:
        self._stragglers.discard(task)
        if not task.cancelled():
            task.exception()  # nobody wants to know, and asyncio would complain


class Entrant:
    """One of the two, with the attempts that it makes (one, but for what litellm repeats inside a group)."""

    __slots__ = ("_attempts", "_estimate", "_race", "begun", "failed", "guard", "role", "stream")

    def __init__(self, race: "Race", role: str) -> None:
        self.guard = race.call.guard
        self._race = race
        self._attempts: list[Attempt] = []
        self._estimate: Callable[[], float | None] | None = None
        self.role = role
        self.failed = False
        """Whether it gets no answer."""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when an attempt begins."""
        self.stream: ReadAhead | None = None
        """What its attempt reads, where that is a stream that is read ahead."""

    @property
    def delay(self) -> float | None:
        """Seconds after the primary, of a hedge."""
        return self._race.delay if self.role == n.HEDGE else None

    @property
    def outcome(self) -> str | None:
        """Who won, as far as this one is concerned; ``None`` where there was no race."""
        if not self._race.hedged:
            return None
        return "won" if self._race.winner is self else "lost"

    @property
    def estimated_cost(self) -> float | None:
        """USD of its prompt, estimated."""
        return None if self._estimate is None else self._estimate()

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that has not ended."""
        return next((one for one in self._attempts if not one.done), None)

    @property
    def deployments(self) -> frozenset[str]:
        """Where it has gone."""
        return frozenset(one.deployment.id for one in self._attempts if one.deployment.id is not None)

    def admit(self, deployment: Mapping[str, Any], kwargs: dict[str, Any]) -> None:
        """Raise :class:`WithdrawnError` if the hedge is about to go where the primary is.

        A pick of litellm's takes out of ``kwargs`` whom it kept away from; a user's own does not.
        """
        if self.role == n.HEDGE:
            kwargs.pop(seams.EXCLUDED_IDS, None)
            if deployment["model_info"]["id"] in self._race.primary.deployments:
                raise WithdrawnError

    def beginning(self) -> object:
        """An attempt is about to begin; what it runs beside."""
        return self._race.hedge_begins() if self.role == n.HEDGE else None

    def began(self, attempt: Attempt, estimate: Callable[[], float | None]) -> None:
        """An attempt begins; ``estimate`` tells what its prompt costs."""
        self._attempts.append(attempt)
        self._estimate = estimate
        attempt.hedge = self
        if not self.begun.done():
            self.begun.set_result(None)
            if self.role == n.PRIMARY:
                self._race.starts()

    def answered(self) -> None:
        """It has an answer."""
        self._race.finish(self)

    def stands(self, beside: object) -> None:
        """Its attempts run beside ``beside`` now, or beside nobody."""
        for attempt in self._attempts:
            attempt.beside = beside

    def leave(self) -> None:
        """It has lost: whatever it still has open is over."""
        for attempt in self._attempts:
            attempt.left(cancelled=True)

    def stand_in(self, stream: Any, follower: AttemptFollower) -> ReadAhead:
        """What stands for the stream that its attempt reads."""
        self.stream = ReadAhead(stream, follower)
        return self.stream

    async def run(self, attempting: Attempting, kwargs: dict[str, Any]) -> Any:
        """Its answer; of a stream, when the first chunk with content is there."""
        try:
            return await self._run(attempting, kwargs)
        except (KeyboardInterrupt, SystemExit) as error:  # from a task it would pass the caller by, and end the loop
            self.answered()
            return Stop(error)
        except BaseException:
            self._race.fails(self)
            raise

    async def _run(self, attempting: Attempting, kwargs: dict[str, Any]) -> Any:
        answer = await attempting(self, kwargs)
        if self.stream is None:
            self._follow(answer)
        try:
            if self.stream is None or await self.stream.prime():
                self.answered()
            else:
                self._race.fails(self)
        except asyncio.CancelledError:
            await self.give_up(answer)
            raise
        return answer

    @fails_open("stream")
    def _follow(self, answer: object) -> None:
        """The answer may turn a chat stream, which no wrapper of the router's follows, into something else."""
        attempt = self.open_attempt
        if attempt is not None and is_stream(answer):
            follow_converted(answer, attempt, self.stand_in)

    def rest(self) -> None:
        """The race is over: nothing that was asked or answered is kept for it."""
        self.stream = self._estimate = None

    async def give_up(self, answer: object) -> None:
        """Close an answer that nobody is going to read."""
        self.leave()
        if is_stream(answer):
            await give_up(answer, self.stream)


class Race:
    """One call's attempt, and the hedge beside it, if there is to be one.

    Args:
        hedging: the router's.
        call: the call.
        budget: how many hedges may be sent.
        window: how long such attempts have taken.
        delay: seconds until the hedge; ``None`` where that is not known yet.
    """

    __slots__ = (
        "_budget",
        "_hedging",
        "_running",
        "_started",
        "_took",
        "_window",
        "call",
        "delay",
        "hedged",
        "primary",
        "winner",
    )

    def __init__(self, hedging: Hedging, call: Call, budget: RetryBudget, window: Window, delay: float | None) -> None:
        self._hedging = hedging
        self.call = call
        self._budget = budget
        self._window = window
        self._started = hedging.clock()
        self._running: dict[asyncio.Task[Any], Entrant] = {}
        self._took: float | None = None
        self.delay = delay
        self.hedged = False
        """Whether there are two."""
        self.winner: Entrant | None = None
        self.primary = Entrant(self, n.PRIMARY)

    # --- what entrants tell ------------------------------------------------------------------------

    def hedge_begins(self) -> "Race":
        """The hedge leaves: from now on two run beside each other."""
        self.hedged = True
        self.primary.stands(self)
        return self

    def starts(self) -> None:
        """The primary calls its provider: from here on the time counts."""
        self._started = self._hedging.clock()

    def finish(self, winner: Entrant) -> None:
        """``winner`` has an answer: the other one gets no further."""
        if self.winner is not None:
            return
        self.winner = winner
        winner.stands(None)
        if not self.primary.failed:
            self._took = self._hedging.clock() - self._started
        self._cancel_all_but(winner)

    def fails(self, loser: Entrant) -> None:
        """``loser`` gets no answer. Where the primary fails before the hedge has left, litellm is to retry, or not."""
        loser.failed = True
        if loser is self.primary and not self.hedged:
            self._cancel_all_but(loser)

    def _cancel_all_but(self, one: Entrant) -> None:
        for task, entrant in self._running.items():
            if entrant is not one:
                _cancel(task)

    def learn(self, answer: object) -> None:
        """Remember how long it took to ``answer``, unless that says nothing of providers."""
        if self._took is not None and not seams.from_cache(seams.hidden_params(answer)):
            self._hedging.took(self._window, self._took)

    # --- the race ----------------------------------------------------------------------------------

    async def run(self, router: Any, attempting: Attempting, kwargs: dict[str, Any]) -> Any:
        """The answer of whoever is first.

        Args:
            router: litellm's.
            attempting: runs the attempt function.
            kwargs: the call's arguments.
        """
        first = self._start(self.primary, attempting, kwargs)
        try:
            if self.delay is not None and await self._is_late(first, self.delay):
                others = await self._others(router, kwargs)
                if others is not None and not first.done():
                    self._start(Entrant(self, n.HEDGE), attempting, others)
            task = await self._first_answer() or first
            losers = [one for one in self._running if one is not task]
            for loser in losers:
                _cancel(loser)
            await self._drop(losers, _GRACE)
        except GeneratorExit:  # nobody may wait here any more
            for one in self._running:
                with contextlib.suppress(RuntimeError):  # the event loop may be closed
                    one.cancel()
            raise
        except BaseException:
            for one in self._running:
                one.cancel()
            await self._drop([*self._running], None)
            raise
        finally:
            for entrant in self._running.values():
                entrant.rest()
            self._running.clear()
        try:
            answer = task.result()
        finally:
            del first, task, losers  # an error leads to this frame, and they lead to the error
        if isinstance(answer, Stop):
            raise answer.error
        self.learn(answer)
        return answer

    def _start(self, entrant: Entrant, attempting: Attempting, kwargs: dict[str, Any]) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(entrant.run(attempting, kwargs))
        self._running[task] = entrant
        return task

    async def _is_late(self, first: "asyncio.Task[Any]", delay: float) -> bool:
        """Whether the primary has called its provider, and has no answer ``delay`` seconds later."""
        await asyncio.wait({first, self.primary.begun}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            await asyncio.wait({first}, timeout=delay)
        return not first.done()

    async def _others(self, router: Any, kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The hedge's arguments; ``None`` where there is no time, nobody else, or no leave to send one."""
        if self.call.countdown is not None and self.call.countdown.too_late:
            return None
        taken = self.primary.deployments
        try:
            if not await seams.others_in_group(router, kwargs, taken):
                return None
        except Exception as fault:  # noqa: BLE001  # the primary is still running
            self.call.guard.report("hedge", fault)
            return None
        if not self._budget.allow():
            self.call.hedge_denied()
            return None
        return seams.arguments_beside(kwargs, taken)

    async def _first_answer(self) -> "asyncio.Task[Any] | None":
        """Who has an answer first; ``None`` when nobody has one."""
        waiting = set(self._running)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if self._running[task] is self.winner:
                    return task
        return None

    async def _drop(self, tasks: "Sequence[asyncio.Task[Any]]", patience: float | None) -> None:
        """Wait ``patience`` seconds for these, which are cancelled, and see that nothing of them stays."""
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=patience)
        finally:
            for task in tasks:
                self._running[task].leave()
                if not task.done():
                    self._hedging.outlives(task)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                await self._running[task].give_up(task.result())


def _cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel ``task``, once: it may take time to tidy up."""
    if not task.cancelling():
        task.cancel()
