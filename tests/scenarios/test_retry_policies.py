"""Retries by a policy: tenacity's, or the ready-made one, in the place of litellm's own loop."""

import asyncio
from email.utils import formatdate
from types import SimpleNamespace

import litellm
import openai
import pytest
import tenacity
from tenacity import AsyncRetrying, Retrying, retry_if_result, stop_after_attempt, wait_fixed

from traced_router import ConfigurationError, RetryPolicy
from traced_router.resilience import ResilienceOptions
from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    ContentPolicy,
    ContextWindowExceeded,
    Drop,
    NotFound,
    RateLimited,
    ServerError,
    Unauthorized,
)

MESSAGES = [{"role": "user", "content": "hi"}]


class Sleeps:
    """Sleeps for no time, and keeps what it was asked for."""

    def __init__(self):
        self.asked = []

    async def __call__(self, seconds):
        self.asked.append(seconds)
        await asyncio.sleep(0)


class Highest:
    """Draws the upper end of every range."""

    def uniform(self, _low, high):
        return high


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def ours(sleeps):
    """Makes ready-made policies whose waits can be told beforehand, and take no time."""

    def make(**fields):
        return RetryPolicy(**{"rng": Highest(), "sleep": sleeps, **fields})

    return make


def theirs(sleeps, attempts=3, **fields):
    return AsyncRetrying(sleep=sleeps, stop=stop_after_attempt(attempts), wait=wait_fixed(2), **fields)


def attempt(number, reason, error=None, in_hop=None, **attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "traced_router.attempt.number": number,
            "litellm.deployment.attempt": in_hop or number,
            "litellm.deployment.reason": reason,
            "error.type": error or absent,
            **attributes,
        },
    )


def backoff(seconds, source, retry_after=absent):
    return span(
        "router.backoff",
        kind="INTERNAL",
        status="UNSET",
        exact_attributes=True,
        attributes={
            "traced_router.backoff.seconds": seconds,
            "traced_router.backoff.source": source,
            "traced_router.backoff.retry_after": retry_after,
        },
    )


SELECT = span("router.select gpt-4o")


# --- tenacity's ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["acompletion", "completion", "completion in a running loop"])
@pytest.mark.parametrize("policy_class", [AsyncRetrying, Retrying])
def test_a_policy_of_tenacity_s_retries(provider, router, recorder, sleeps, kind, policy_class):
    provider.script("dep-a", [ServerError(), RateLimited(retry_after=7), Answer()])
    policy = policy_class(sleep=sleeps, stop=stop_after_attempt(4), wait=wait_fixed(2))
    made = router(provider.deployment("dep-a"), retrying=policy, num_retries=5)

    async def inside():
        if kind == "acompletion":
            return await made.acompletion("gpt-4o", MESSAGES)
        return made.completion("gpt-4o", MESSAGES)

    answer = made.completion("gpt-4o", MESSAGES) if kind == "completion" else asyncio.run(inside())

    assert provider.hits() == 3
    assert sleeps.asked == [2, 2]
    assert answer._hidden_params["additional_headers"]["x-litellm-attempted-retries"] == 2
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={
                "traced_router.outcome": "ok_after_retry",
                "traced_router.attempts": 3,
                "traced_router.retries": 2,
                "traced_router.served.deployment_id": "dep-a",
            },
            children=[
                SELECT,
                attempt(1, "initial", "InternalServerError"),
                backoff(2.0, "policy"),
                SELECT,
                attempt(2, "retry", "RateLimitError"),
                backoff(2.0, "policy", 7.0),
                SELECT,
                attempt(3, "retry"),
            ],
        ),
    )


@pytest.mark.parametrize(
    "litellms_own",
    [
        {"num_retries": 5},
        {"retry_policy": litellm.RetryPolicy(InternalServerErrorRetries=5)},
        {"model_group_retry_policy": {"gpt-4o": litellm.RetryPolicy(InternalServerErrorRetries=5)}},
    ],
    ids=["the router's", "a retry policy", "a group's retry policy"],
)
@pytest.mark.parametrize("call", ["acompletion", "aembedding", "atext_completion"])
async def test_no_other_layer_multiplies_the_attempts(provider, router, recorder, sleeps, litellms_own, call):
    provider.default("dep-a", ServerError())
    deployment = provider.deployment("dep-a", num_retries=4, max_retries=4)
    made = router(deployment, retrying=theirs(sleeps), **litellms_own)
    asks = {
        "acompletion": {"messages": MESSAGES},
        "aembedding": {"input": ["hi"]},
        "atext_completion": {"prompt": "hi"},
    }

    with pytest.raises(litellm.InternalServerError) as failed:
        await getattr(made, call)(model="gpt-4o", num_retries=6, **asks[call])

    assert provider.hits() == 3
    assert all("retrying" not in request.body for request in provider.requests)
    assert failed.value.num_retries == 2
    tree = recorder.tree()
    assert tree.attributes["traced_router.attempts"] == 3
    assert tree.attributes["traced_router.retries"] == 2


async def test_the_caller_gets_litellm_s_exception_and_never_tenacity_s(provider, router, sleeps):
    provider.default("dep-a", RateLimited())
    made = router(provider.deployment("dep-a"), retrying=theirs(sleeps, reraise=False))

    with pytest.raises(litellm.RateLimitError) as failed:
        await made.acompletion("gpt-4o", MESSAGES)

    assert type(failed.value) is litellm.RateLimitError


async def test_the_user_s_callbacks_are_called(provider, router, recorder, sleeps):
    heard = []

    def hears(name):
        return lambda state: heard.append((name, state.attempt_number))

    async def hears_later(state):
        heard.append(("before_sleep", state.upcoming_sleep))

    def gives_up(state):
        heard.append(("retry_error_callback", type(state.outcome.exception())))
        return "a substitute"

    provider.default("dep-a", ServerError())
    policy = theirs(
        sleeps,
        attempts=2,
        before=hears("before"),
        after=hears("after"),
        before_sleep=hears_later,
        retry_error_callback=gives_up,
    )
    answer = await router(provider.deployment("dep-a"), retrying=policy).acompletion("gpt-4o", MESSAGES)

    assert answer == "a substitute"
    assert heard == [
        ("before", 1),
        ("after", 1),
        ("before_sleep", 2.0),
        ("before", 2),
        ("after", 2),
        ("retry_error_callback", litellm.InternalServerError),
    ]
    attributes = recorder.tree().attributes
    assert attributes["traced_router.attempts"] == 2
    assert attributes["traced_router.substituted"] is True
    assert "traced_router.served.deployment_id" not in attributes


async def test_predicates_may_be_asynchronous(provider, router, sleeps):
    async def retries(state):
        return state.outcome.failed

    async def stops(state):
        return state.attempt_number == 3

    provider.default("dep-a", ServerError())
    policy = AsyncRetrying(sleep=sleeps, stop=stops, retry=retries)

    with pytest.raises(litellm.InternalServerError):
        await router(provider.deployment("dep-a"), retrying=policy).acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 3


async def test_a_substitute_may_be_asynchronous(provider, router, recorder, sleeps):
    async def gives_up(_state):
        return "a substitute"

    provider.default("dep-a", ServerError())
    policy = theirs(sleeps, attempts=1, retry_error_callback=gives_up)

    assert await router(provider.deployment("dep-a"), retrying=policy).acompletion("gpt-4o", MESSAGES) == "a substitute"
    assert recorder.tree().attributes["traced_router.substituted"] is True


def test_a_sleep_that_is_not_awaited_is_called(provider, router):
    asked = []
    provider.script("dep-a", [ServerError(), Answer()])
    policy = Retrying(sleep=asked.append, wait=wait_fixed(3))

    router(provider.deployment("dep-a"), retrying=policy).completion("gpt-4o", MESSAGES)

    assert asked == [3]


async def test_a_synchronous_policy_does_not_stop_the_event_loop(provider, router, monkeypatch):
    asked = []

    async def sleep(seconds):
        asked.append(seconds)

    monkeypatch.setattr("traced_router._retrying.asyncio", SimpleNamespace(sleep=sleep))
    provider.script("dep-a", [ServerError(), Answer()])

    await router(provider.deployment("dep-a"), retrying=Retrying(wait=wait_fixed(3))).acompletion("gpt-4o", MESSAGES)

    assert asked == [3]


async def test_a_group_that_does_not_exist_is_no_matter_of_a_policy(provider, router, recorder, sleeps, ours):
    made = router(provider.deployment("dep-a"), retrying=ours())

    with pytest.raises(litellm.BadRequestError):
        await made.acompletion("gpt-5o", MESSAGES)

    assert sleeps.asked == []


async def test_answers_can_be_refused_and_the_last_one_stands(provider, router, recorder, sleeps):
    provider.script("dep-a", [Answer("one"), Answer("two"), Answer("three")])
    policy = theirs(sleeps, attempts=2, retry=retry_if_result(lambda _answer: True))

    answer = await router(provider.deployment("dep-a"), retrying=policy).acompletion("gpt-4o", MESSAGES)

    assert answer.choices[0].message.content == "two"
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_retry", "traced_router.attempts": 2},
            children=[SELECT, attempt(1, "initial"), backoff(2.0, "policy"), SELECT, attempt(2, "retry")],
        ),
    )


async def test_one_policy_serves_many_calls_at_once(provider, router, sleeps):
    """Each runs a copy: tenacity's own state would mix them, see tests/test_retrying.py."""

    async def lets_others_run(_state):
        await asyncio.sleep(0)

    provider.default("dep-a", ServerError())
    provider.default("dep-b", Answer())
    policy = theirs(sleeps, after=lets_others_run, before=lets_others_run)
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="claude"), retrying=policy)

    outcomes = await asyncio.gather(
        *(made.acompletion(group, MESSAGES) for _ in range(6) for group in ("gpt-4o", "claude")), return_exceptions=True
    )

    assert [type(o) for o in outcomes] == [litellm.InternalServerError, litellm.ModelResponse] * 6
    assert provider.hits("dep-a") == 18
    assert provider.hits("dep-b") == 6


async def test_a_cancelled_attempt_is_not_retried(provider, router, recorder, sleeps):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_after_chunk=(0, gate)))
    policy = theirs(sleeps, retry=tenacity.retry_if_not_exception_type(LookupError))
    made = router(provider.deployment("dep-a"), retrying=policy)
    task = asyncio.ensure_future(_first_chunk(made))
    await gate.reached()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()

    assert provider.hits() == 1
    assert recorder.tree().attributes["traced_router.outcome"] == "cancelled"


async def _first_chunk(made):
    async for chunk in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        return chunk


# --- with fallbacks, cooldowns, streams ----------------------------------------------------------


async def test_litellm_s_fallbacks_stay_and_each_group_has_its_policy(provider, router, recorder, sleeps, ours):
    provider.default("dep-a", ServerError())
    provider.script("dep-b", [ServerError(), Answer()])
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b", group="claude"),
        retrying={"gpt-4o": theirs(sleeps, attempts=2), "claude": ours(base_wait=1.0)},
        fallbacks=[{"gpt-4o": ["claude"]}],
    )

    await made.acompletion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_fallback", "traced_router.attempts": 4},
            children=[
                SELECT,
                attempt(1, "initial", "InternalServerError"),
                backoff(2.0, "policy"),
                SELECT,
                attempt(2, "retry", "InternalServerError"),
                span(
                    "router.fallback claude",
                    children=[
                        span("router.select claude"),
                        attempt(3, "fallback", "InternalServerError", in_hop=1),
                        backoff(1.0, "policy"),
                        span("router.select claude"),
                        attempt(4, "retry", in_hop=2),
                    ],
                ),
            ],
        ),
    )


async def test_a_stream_that_dies_before_its_content_is_retried_by_the_policy(provider, router, sleeps, ours):
    provider.script("dep-a", [ServerError(), Answer("a b c")])
    made = router(provider.deployment("dep-a"), retrying=ours())

    chunks = [chunk async for chunk in await made.acompletion("gpt-4o", MESSAGES, stream=True)]

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a b c"
    assert provider.hits() == 2


async def test_the_next_attempt_does_not_go_where_the_cooldown_is(provider, router, recorder, sleeps, ours):
    """dep-a asks for ten seconds, and litellm cools it down; nobody has to wait for dep-b."""
    provider.default("dep-a", RateLimited(retry_after=10))
    provider.default("dep-b", Answer())
    made = router(
        provider.deployment("dep-a", weight=1), provider.deployment("dep-b", weight=0), retrying=ours(base_wait=1.0)
    )

    await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits("dep-a") == provider.hits("dep-b") == 1
    assert sleeps.asked == [1.0]
    (waited,) = recorder.tree().find("router.backoff")
    assert waited.attributes["traced_router.backoff.source"] == "policy"
    assert waited.attributes["traced_router.backoff.retry_after"] == 10.0


async def test_a_group_of_which_nothing_is_left_waits_for_its_cooldown(provider, router, recorder, sleeps, ours):
    """litellm's own loop would give up here; a policy without a fallback asks again."""
    provider.default("dep-a", RateLimited(retry_after=30))
    provider.default("dep-b", RateLimited(retry_after=30))
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"), retrying=ours(attempts=4))

    with pytest.raises(ValueError, match="No deployments available"):
        await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 2
    assert sleeps.asked[1:] == [30.0, pytest.approx(30.0, abs=1.0)]
    assert recorder.tree().attributes["traced_router.attempts"] == 2


async def test_a_group_of_which_nothing_is_left_gives_way_to_another(provider, router, recorder, sleeps, ours):
    provider.default("dep-a", RateLimited(retry_after=30))
    provider.default("dep-b", RateLimited(retry_after=30))
    provider.default("dep-c", Answer())
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        provider.deployment("dep-c", group="claude"),
        retrying=ours(attempts=5),
        fallbacks=[{"gpt-4o": ["claude"]}],
    )

    await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits("dep-a") == provider.hits("dep-b") == provider.hits("dep-c") == 1
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_fallback"


@pytest.mark.parametrize("kind", ["acompletion", "completion"])
@pytest.mark.parametrize("says", [{"disable_fallbacks": True}, {"max_fallbacks": 0}], ids="".join)
async def test_a_group_waits_for_its_cooldown_where_the_call_wants_no_other(
    provider, router, recorder, sleeps, ours, kind, says
):
    """litellm takes disable_fallbacks out of the arguments before the retries begin."""
    provider.script("dep-a", [RateLimited(retry_after=30)])
    provider.script("dep-b", [RateLimited(retry_after=30)])
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        provider.deployment("dep-c", group="claude"),
        retrying=ours(attempts=4),
        fallbacks=[{"gpt-4o": ["claude"]}],
    )

    with pytest.raises(ValueError, match="No deployments available"):
        answer = getattr(made, kind)("gpt-4o", MESSAGES, **says)
        await answer

    assert (provider.hits("dep-a"), provider.hits("dep-b"), provider.hits("dep-c")) == (1, 1, 0)
    assert sleeps.asked[1:] == [30.0, pytest.approx(30.0, abs=1.0)]
    await made.acompletion("gpt-4o", MESSAGES)
    assert provider.hits("dep-c") == 1


async def test_a_retry_budget_is_honoured(provider, router, recorder, sleeps, ours):
    provider.default("dep-a", ServerError())
    resilience = ResilienceOptions(retry_ratio=0.0, retries_per_second=0.0)
    made = router(provider.deployment("dep-a"), retrying=ours(attempts=5), resilience=resilience)

    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES)

    tree = recorder.tree()
    assert provider.hits() == 1
    assert tree.attributes["traced_router.retries.denied"] == 1


# --- the ready-made policy -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "waited", "source"),
    [
        (RateLimited(retry_after=9), 9.0, "retry_after"),
        (RateLimited(retry_after=0.25), 1.0, "policy"),
        (RateLimited(retry_after_ms=2500), 2.5, "retry_after"),
        (RateLimited(headers={"retry-after": formatdate(1_000_040, usegmt=True)}), 40.0, "retry_after"),
        (ServerError(503, headers={"retry-after": "4"}), 4.0, "retry_after"),
        (ServerError(), 1.0, "policy"),
        (Drop(), 1.0, "policy"),
    ],
    ids=["seconds", "less than the backoff", "milliseconds", "a date", "of a 503", "none", "a lost connection"],
)
async def test_a_provider_that_asks_is_waited_for(provider, router, recorder, sleeps, ours, behaviour, waited, source):
    provider.script("dep-a", [behaviour, Answer()])
    policy = ours(base_wait=1.0, clock=lambda: 1_000_000.0)

    await router(provider.deployment("dep-a"), retrying=policy).acompletion("gpt-4o", MESSAGES)

    assert sleeps.asked == [waited]
    (wait,) = recorder.tree().find("router.backoff")
    assert wait.attributes["traced_router.backoff.seconds"] == waited
    assert wait.attributes["traced_router.backoff.source"] == source


@pytest.mark.parametrize(
    "behaviour",
    [BadRequest(), Unauthorized(), NotFound(), ContextWindowExceeded(), ContentPolicy(), RateLimited(retry_after=61)],
    ids=lambda b: type(b).__name__,
)
async def test_what_no_retry_can_mend_is_not_retried(provider, router, sleeps, ours, behaviour):
    provider.default("dep-a", behaviour)

    with pytest.raises(openai.APIStatusError) as failed:
        await router(provider.deployment("dep-a"), retrying=ours()).acompletion("gpt-4o", MESSAGES)

    assert type(failed.value).__module__ == "litellm.exceptions"
    assert provider.hits() == 1
    assert sleeps.asked == []


async def test_attempts_run_out_with_the_last_error(provider, router, recorder, ours):
    provider.script("dep-a", [ServerError(), ServerError(), ServerError(503)])

    with pytest.raises(litellm.ServiceUnavailableError) as failed:
        await router(provider.deployment("dep-a"), retrying=ours(base_wait=1.0)).acompletion("gpt-4o", MESSAGES)

    assert failed.value.num_retries == 2
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "error.type": "ServiceUnavailableError",
                "traced_router.attempts": 3,
                "traced_router.retries": 2,
            },
            children=[
                SELECT,
                attempt(1, "initial", "InternalServerError"),
                backoff(1.0, "policy"),
                SELECT,
                attempt(2, "retry", "InternalServerError"),
                backoff(2.0, "policy"),
                SELECT,
                attempt(3, "retry", "ServiceUnavailableError"),
            ],
        ),
    )


async def test_a_wait_of_no_time_has_no_span(provider, router, recorder, ours):
    provider.script("dep-a", [ServerError(), Answer()])

    await router(provider.deployment("dep-a"), retrying=ours(base_wait=0)).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().find("router.backoff") == ()


# --- where it is said ----------------------------------------------------------------------------


async def test_a_call_s_own_policy_comes_first(provider, router, sleeps, ours):
    provider.default("dep-a", ServerError())
    made = router(provider.deployment("dep-a"), retrying=ours(attempts=5))

    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES, retrying=ours(attempts=2))

    assert provider.hits() == 2
    assert "retrying" not in provider.requests[0].body


async def test_a_call_can_ask_for_litellm_s_own_loop(provider, router, recorder, sleeps, waits, ours):
    provider.default("dep-a", ServerError())
    made = router(provider.deployment("dep-a"), retrying=ours(attempts=5), num_retries=1)

    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES, retrying=False)

    assert provider.hits() == 2
    assert sleeps.asked == []
    assert {w.attributes["traced_router.backoff.source"] for w in recorder.tree().find("router.backoff")} == {
        "exponential"
    }


async def test_a_group_without_a_policy_keeps_litellm_s_loop(provider, router, sleeps, waits, ours):
    provider.default("dep-a", ServerError())
    made = router(provider.deployment("dep-a"), retrying={"claude": ours()}, num_retries=1)

    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 2
    assert sleeps.asked == []


@pytest.mark.parametrize("keyword", [None, False])
async def test_the_environment_says_it_too_and_a_keyword_beats_it(provider, router, monkeypatch, keyword):
    monkeypatch.setenv("TRACED_ROUTER_RETRYING", '{"gpt-4o": {"attempts": 2, "base_wait": 0}}')
    provider.default("dep-a", ServerError())
    made = router(provider.deployment("dep-a"), retrying=keyword)

    with pytest.raises(litellm.InternalServerError):
        await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == (2 if keyword is None else 1)


async def test_what_cannot_be_used_is_refused_before_anything_happens(provider, router, recorder):
    with pytest.raises(ConfigurationError, match=r"^retrying='str' object: give a RetryPolicy"):
        router(provider.deployment("dep-a"), retrying="often")
    made = router(provider.deployment("dep-a"))
    with pytest.raises(ConfigurationError, match=r"^retrying='int' object"):
        await made.acompletion("gpt-4o", MESSAGES, retrying=3)

    assert provider.hits() == 0
    assert recorder.traces() == []


async def test_a_policy_works_where_nobody_records(provider, router, sleeps, ours):
    from opentelemetry.trace import NoOpTracerProvider

    provider.script("dep-a", [ServerError(), Answer()])
    made = router(provider.deployment("dep-a"), retrying=ours(), tracer_provider=NoOpTracerProvider())

    await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 2


async def test_a_policy_works_where_the_tracer_is_broken(provider, router, sleeps, ours, tracing_may_fail):
    class Broken:
        def get_tracer(self, *_args, **_kwargs):
            raise LookupError

    provider.script("dep-a", [ServerError(), Answer()])
    made = router(provider.deployment("dep-a"), retrying=ours(), tracer_provider=Broken())

    await made.acompletion("gpt-4o", MESSAGES)

    assert provider.hits() == 2
