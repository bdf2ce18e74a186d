"""Retry policies by themselves: formulas, what can be given, and why tenacity's objects are only templates."""

import asyncio
import random
import time

import pytest
import tenacity
from tenacity import AsyncRetrying, Retrying, stop_after_attempt, wait_fixed

from traced_router import ConfigurationError, RetryPolicy
from traced_router._policies import policies_of, policy_of
from traced_router.deadline import of_group
from traced_router.retry import RETRYABLE

# --- the ready-made policy -----------------------------------------------------------------------


class Highest(random.Random):
    """Draws the upper end of every range, and keeps the lower ones."""

    def __init__(self):
        super().__init__()
        self.lower = set()

    def uniform(self, a, b):
        self.lower.add(a)
        return b


def test_waits_double_up_to_the_longest_and_are_drawn_from_zero():
    rng = Highest()
    policy = RetryPolicy(base_wait=0.5, max_wait=3.0, rng=rng)

    assert [policy.backoff(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert policy.backoff(10_000) == 3.0
    assert rng.lower == {0.0}


def test_full_jitter_is_even():
    policy = RetryPolicy(base_wait=1.0, max_wait=8.0, rng=random.Random(7))

    drawn = [policy.backoff(3) for _ in range(4000)]

    assert 0.0 <= min(drawn) < 0.01
    assert 3.99 < max(drawn) <= 4.0
    assert sum(drawn) / len(drawn) == pytest.approx(2.0, abs=0.07)  # 4 standard errors of a uniform mean


def test_without_a_generator_of_its_own_it_draws_all_the_same():
    assert 0.0 <= RetryPolicy().backoff(1) <= 0.5


def test_what_another_attempt_can_mend_is_retried():
    policy = RetryPolicy()

    assert [c for c in RETRYABLE if policy.retries(c, None)] == ["rate_limit", "timeout", "connection", "server"]
    for category in ("bad_request", "auth", "context_window", "content_policy", "not_found", "cancelled", "other"):
        assert not policy.retries(category, None)


def test_a_provider_may_ask_for_so_much_and_no_more():
    policy = RetryPolicy(max_retry_after=30)

    assert policy.retries("rate_limit", 30.0)
    assert not policy.retries("rate_limit", 30.1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"attempts": 0}, "attempts=0: give a whole number, 1 or more."),
        ({"attempts": True}, "attempts=True: give a whole number, 1 or more."),
        ({"attempts": 2.5}, "attempts=2.5: give a whole number, 1 or more."),
        ({"base_wait": -1}, "base_wait=-1: give seconds, 0 or more."),
        ({"max_wait": float("inf")}, "max_wait=inf: give seconds, 0 or more."),
        ({"max_retry_after": "60"}, "max_retry_after='60': give seconds, 0 or more."),
        (
            {"retry_on": ("timeout", "auth")},
            "retry_on has ['auth']: give a list of some of rate_limit, timeout, connection, server, other.",
        ),
        (
            {"retry_on": "timeout"},
            "retry_on has ['timeout']: give a list of some of rate_limit, timeout, connection, server, other.",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused(fields, said):
    with pytest.raises(ConfigurationError) as refused:
        RetryPolicy(**fields)

    assert str(refused.value) == said


# --- what can be given ---------------------------------------------------------------------------


def test_a_policy_is_given_in_many_forms():
    ours, theirs = RetryPolicy(attempts=2), AsyncRetrying()

    assert policy_of(ours) is ours
    assert policy_of(theirs) is theirs
    assert policy_of(given=True) == RetryPolicy()
    assert policy_of(given=False) is policy_of(None) is None
    assert policy_of({"attempts": 5, "retry_on": ["server"]}) == RetryPolicy(attempts=5, retry_on=["server"])


def test_a_synchronous_policy_is_made_asynchronous():
    stop, wait, before = stop_after_attempt(2), wait_fixed(1), print
    made = policy_of(Retrying(stop=stop, wait=wait, before=before, before_sleep=before, sleep=time.sleep))

    assert isinstance(made, AsyncRetrying)
    assert (made.stop, made.wait, made.before, made.before_sleep) == (stop, wait, before, before)
    assert made.sleep is time.sleep


def test_policies_are_by_group():
    by_group = policies_of({"gpt-4o": RetryPolicy(attempts=4), "claude": False, "*": True})

    assert of_group(by_group, "gpt-4o") == RetryPolicy(attempts=4)
    assert of_group(by_group, "claude") is None
    assert of_group(by_group, "other") == of_group(by_group, None) == RetryPolicy()
    assert policies_of(None) == policies_of(given=False) == {}
    assert of_group(policies_of(RetryPolicy(attempts=9)), "any") == RetryPolicy(attempts=9)


@pytest.mark.parametrize("given", [3, "fast", {"*": {"atempts": 3}}, {"gpt-4o": 5}, tenacity.retry])
def test_what_is_no_policy_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^retrying="):
        policies_of(given)


# --- why templates -------------------------------------------------------------------------------


async def test_tenacity_s_state_is_per_thread_and_not_per_task():
    """Two tasks that share an instance take each other's next step: an error is lost, and its task gets ``None``."""

    async def lets_others_run(_state):
        await asyncio.sleep(0)

    async def fails():
        raise LookupError

    shared = AsyncRetrying(stop=stop_after_attempt(2), after=lets_others_run, reraise=True)
    together = await asyncio.gather(*(shared(fails) for _ in range(4)), return_exceptions=True)
    copies = await asyncio.gather(*(shared.copy()(fails) for _ in range(4)), return_exceptions=True)

    assert [type(outcome) for outcome in together] != [LookupError] * 4
    assert [type(outcome) for outcome in copies] == [LookupError] * 4
