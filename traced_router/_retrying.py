"""The loop that a retry policy puts in the place of litellm's: one group's attempts in one call.

    async_function_with_retries ── run() ──> tenacity ── litellm's own method, told to retry nothing
                                                 └────── the wait, as a backoff span

litellm's method still makes each attempt, so whatever it does around one stays; what its loop does
between attempts is done here. tenacity keeps the state of a run on the object, by thread and not by
task, so what a user gives is a template and each turn runs a copy. The caller sees the exception
that a caller of litellm's would: never tenacity's ``RetryError``.

Beside the policy, three things end a turn: the call's deadline, the retry budget of the resilience
layer, and a group of which nothing is left while another one stands by.

An adapter: it knows litellm through ``_litellm``, and tells the tree.
"""

import asyncio
import dataclasses
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import tenacity
from tenacity import AsyncRetrying, RetryCallState, RetryError

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._facts import FailureFacts
from traced_router._policies import Policy
from traced_router._spans import Hop
from traced_router._tree import Call
from traced_router.retry import RetryPolicy

Attempt: TypeAlias = Callable[[dict[str, Any]], Awaitable[Any]]

_BLOCKING_SLEEPS: Final = (time.sleep, tenacity.nap.sleep)
"""What a synchronous policy sleeps with when it is told nothing else: it would stop the event loop."""


async def run(
    router: Any, call: Call, hop: Hop | None, policy: Policy, attempt: Attempt, kwargs: dict[str, Any]
) -> Any:
    """One group's turn.

    Args:
        router: litellm's.
        call: the call.
        hop: the fallback that it is in.
        policy: decides about retries.
        attempt: makes one, with the call's arguments; retries nothing.
        kwargs: these arguments.
    """
    turn = _Turn(router, call, hop, attempt, kwargs)
    call.repeats = 0
    try:
        return await (turn.ours(policy) if isinstance(policy, RetryPolicy) else turn.theirs(policy))(turn.attempt)
    except RetryError as gave_up:  # of answers that the policy wanted otherwise: the last one is as good as any
        return gave_up.last_attempt.result()
    except Exception as error:
        if call.repeats:
            seams.tell_retries(error, call.repeats)
        raise
    finally:
        call.repeats = None


class _Turn:
    """The attempts that one group makes for one call."""

    __slots__ = (
        "_attempt",
        "_call",
        "_error",
        "_failure",
        "_group",
        "_hop",
        "_kwargs",
        "_left",
        "_router",
        "_sleep",
        "_source",
    )

    def __init__(self, router: Any, call: Call, hop: Hop | None, attempt: Attempt, kwargs: dict[str, Any]) -> None:
        self._router = router
        self._call = call
        self._hop = hop
        self._attempt = attempt
        self._kwargs = kwargs
        self._error: Exception | None = None
        self._failure: FailureFacts | None = None
        self._left: seams.GroupLeft | None = None
        self._source = "policy"
        self._sleep: Callable[[float], object] = asyncio.sleep

    # --- the policy, for this turn -----------------------------------------------------------------

    def theirs(self, policy: AsyncRetrying) -> AsyncRetrying:
        """A copy of tenacity's policy that is this turn's own."""
        if policy.sleep not in _BLOCKING_SLEEPS:
            self._sleep = policy.sleep
        return policy.copy(
            sleep=self.sleep,
            stop=_either(policy.stop, self._stops),
            retry=_unless(policy.retry, _was_left),
            reraise=True,
            retry_error_cls=RetryError,
            retry_error_callback=self._noted(policy.retry_error_callback),
        )

    def _noted(self, substitute: Callable[[RetryCallState], Any] | None) -> Callable[[RetryCallState], Any] | None:
        """``substitute``, whose answer is the call's where all attempts were in vain."""
        if substitute is None:
            return None

        async def answers(state: RetryCallState) -> Any:
            answer = substitute(state)
            if inspect.isawaitable(answer):
                answer = await answer
            self._call.ledger.substituted = True
            return answer

        return answers

    def ours(self, policy: RetryPolicy) -> AsyncRetrying:
        """tenacity's form of our own policy."""
        self._sleep = policy.sleep

        def retries(state: RetryCallState) -> bool:
            failure = self._read(policy)
            return not _was_left(state) and failure is not None and policy.retries(failure.category, self._asked())

        def waits(state: RetryCallState) -> float:
            backoff, asked = policy.backoff(state.attempt_number), self._asked()
            self._source = "policy" if asked is None or asked < backoff else "retry_after"
            return backoff if self._source == "policy" else asked or 0.0

        def stops(state: RetryCallState) -> bool:
            return state.attempt_number >= policy.attempts or self._stops(state)

        return AsyncRetrying(sleep=self.sleep, stop=stops, wait=waits, retry=retries, reraise=True)

    def _read(self, policy: RetryPolicy | None = None) -> FailureFacts | None:
        """The last failure, read once."""
        if self._failure is None and self._error is not None:
            failure = _readers.failure(self._error, now=time.time if policy is None else policy.clock)
            if seams.is_none_available(self._error):
                asked = seams.cooldown_left(self._error)
                failure = dataclasses.replace(failure, category="rate_limit", retry_after=asked)
            self._failure = failure
        return self._failure

    def _asked(self) -> float | None:
        """Seconds that whoever is asked next wants to be left alone; nobody else's matter."""
        if self._failure is None or (self._left is not None and self._left.elsewhere):
            return None
        return self._failure.retry_after

    # --- the turn ----------------------------------------------------------------------------------

    async def attempt(self) -> Any:
        """One attempt."""
        self._error = self._failure = self._left = None
        try:
            answer = await self._attempt(self._kwargs)
        except Exception as error:
            self._error = error
            attempts = self._call.ledger.attempts
            failed = attempts[-1].deployment.id if attempts else None
            self._left = await seams.left_of_group(self._router, self._kwargs, failed, alone=self._call.alone)
            if self._call.countdown is not None:
                self._call.countdown.failed(error)
            raise
        return seams.with_retry_headers(answer, self._call.repeats or 0)

    def _stops(self, state: RetryCallState) -> bool:
        """Whether there is no use in another attempt, or no leave for it."""
        call = self._call
        if self._left is not None and self._left.hopeless:
            return True
        if call.countdown is not None and call.countdown.refuses(float(state.upcoming_sleep)):
            return True
        return not call.may_retry()

    async def sleep(self, seconds: float) -> None:
        """Wait before the next attempt, and get the call's arguments ready for it."""
        call, failure = self._call, self._read()
        if failure is not None and self._error is not None:
            call.lost(failure)
            self._kwargs = seams.log_retry(self._router, self._kwargs, self._error)
        if seconds > 0:
            call.backoff(seconds, self._source, None if failure is None else failure.retry_after, self._hop)
        try:
            waiting = self._sleep(seconds)
            if inspect.isawaitable(waiting):
                await waiting
        finally:
            call.end_backoff()
        call.repeats = (call.repeats or 0) + 1


# --- combining what tenacity is given ----------------------------------------------------------------

_Predicate: TypeAlias = Callable[[RetryCallState], Any]


def _was_left(state: RetryCallState) -> bool:
    """Whether the attempt was cancelled, or torn down: nothing that a retry could mend."""
    outcome = state.outcome
    return outcome is not None and outcome.failed and not isinstance(outcome.exception(), Exception)


def _either(theirs: _Predicate, ours: _Predicate) -> _Predicate:
    """``theirs``, or else ``ours``."""
    if _is_async(theirs):

        async def asks(state: RetryCallState) -> bool:
            return bool(await theirs(state)) or ours(state)

        return asks
    return lambda state: theirs(state) or ours(state)


def _unless(theirs: _Predicate, ours: _Predicate) -> _Predicate:
    """``theirs``, unless ``ours``."""
    if _is_async(theirs):

        async def asks(state: RetryCallState) -> bool:
            return not ours(state) and bool(await theirs(state))

        return asks
    return lambda state: not ours(state) and theirs(state)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
