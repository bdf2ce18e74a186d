"""Retries and the waits between them: as many, as long and as litellm would without us."""

import asyncio

import litellm
import pytest

from traced_router.testing import absent, assert_tree, event, span
from traced_router.testing._provider_behaviours import Answer, BadRequest, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(router):
    return router.acompletion("gpt-4o", MESSAGES)


def attempt(number, reason, error=None, **attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "traced_router.attempt.number": number,
            "litellm.deployment.attempt": number,
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


async def test_a_retry_saves_the_call(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a")], {"dep-a": [RateLimited(retry_after=3), Answer()]}, chat, num_retries=2
    )

    assert outcome.waits == (3.0,)
    assert outcome.hits == {"dep-a": 2}
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={
                "traced_router.outcome": "ok_after_retry",
                "traced_router.attempts": 2,
                "traced_router.retries": 1,
                "traced_router.fallbacks": 0,
                "traced_router.served.deployment_id": "dep-a",
                "error.type": absent,
            },
            children=[
                span("router.select gpt-4o", events=()),
                attempt(
                    1,
                    "initial",
                    "RateLimitError",
                    **{"traced_router.attempt.retry_after": 3.0, "http.response.status_code": 429},
                ),
                backoff(3.0, "retry_after", 3.0),
                span(
                    "router.select gpt-4o",
                    events=[event("traced_router.candidates", {"ids": ("dep-a",), "excluded": ("",)})],
                ),
                attempt(2, "retry"),
            ],
        ),
    )
    tree = recorder.tree()
    waited = tree.children[2].seconds
    assert tree.attributes["traced_router.time.backoff"] == pytest.approx(waited)
    assert tree.attributes["traced_router.time.wasted"] == pytest.approx(waited + tree.children[1].seconds, abs=1e-3)


async def test_exhausted_retries_wait_once_more_and_raise_the_last_error(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a")],
        {"dep-a": [RateLimited(retry_after=1), ServerError(), ServerError(503)]},
        chat,
        num_retries=2,
        retry_after=0,
    )

    assert outcome.error is litellm.ServiceUnavailableError
    assert outcome.details["num_retries"] == 2
    assert outcome.waits == (1.0, 1.0, 2.0)
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "error.type": "ServiceUnavailableError",
                "traced_router.outcome": "error",
                "traced_router.attempts": 3,
                "traced_router.retries": 2,
                "traced_router.served.deployment_id": absent,
            },
            children=[
                span("router.select gpt-4o"),
                attempt(1, "initial", "RateLimitError"),
                backoff(1.0, "retry_after", 1.0),
                span("router.select gpt-4o"),
                attempt(2, "retry", "InternalServerError"),
                backoff(1.0, "exponential"),
                span("router.select gpt-4o"),
                attempt(3, "retry", "ServiceUnavailableError"),
                backoff(2.0, "exponential"),
            ],
        ),
    )


@pytest.mark.parametrize(
    ("behaviour", "asked"),
    [
        (RateLimited(retry_after=90), 90.0),
        (RateLimited(retry_after=0.25), 0.25),
        (RateLimited(retry_after_ms=20), 0.02),
    ],
    ids=["more than a minute", "a fraction of a second", "milliseconds"],
)
async def test_a_wait_that_litellm_does_not_obey_says_so(same, provider, recorder, behaviour, asked):
    outcome = await same([provider.deployment("dep-a")], {"dep-a": [behaviour]}, chat, num_retries=1, retry_after=0)

    assert outcome.waits == (0.5,)
    (waited,) = recorder.tree().find("router.backoff")
    assert waited.attributes["traced_router.backoff.seconds"] == 0.5
    assert waited.attributes["traced_router.backoff.source"] == "exponential"
    assert waited.attributes["traced_router.backoff.retry_after"] == asked


async def test_the_router_s_own_minimum_is_exponential_backoff(same, provider, recorder):
    outcome = await same([provider.deployment("dep-a")], {"dep-a": [ServerError()]}, chat, num_retries=1, retry_after=4)

    assert outcome.waits == (4.0,)
    (waited,) = recorder.tree().find("router.backoff")
    assert waited.attributes["traced_router.backoff.seconds"] == 4.0
    assert waited.attributes["traced_router.backoff.source"] == "exponential"


async def test_another_healthy_deployment_is_tried_at_once(same, provider, recorder):
    """Two deployments: litellm does not wait, so there is no backoff span."""
    outcome = await same(
        [provider.deployment("dep-a", weight=1), provider.deployment("dep-b", weight=0)],
        {"dep-a": [ServerError()] * 3},
        chat,
        num_retries=2,
        allowed_fails=100,
    )

    assert outcome.waits == ()
    tree = recorder.tree()
    assert outcome.hits == {"dep-a": 3}
    assert [child.name for child in tree.children] == ["router.select gpt-4o", "chat gpt-4o-2024-08-06"] * 3
    assert tree.attributes["traced_router.retries"] == 2


async def test_a_deployment_s_own_number_of_retries_counts(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a", num_retries=2)], {"dep-a": [ServerError()] * 5}, chat, num_retries=0
    )

    assert outcome.error is litellm.InternalServerError
    tree = recorder.tree()
    assert tree.attributes["traced_router.attempts"] == outcome.hits["dep-a"]
    assert len(tree.find("chat gpt-4o-2024-08-06")) == outcome.hits["dep-a"]
    assert len(tree.find("router.backoff")) == len(outcome.waits)


async def test_a_request_s_own_number_of_retries_counts(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a")],
        {"dep-a": [ServerError()] * 5},
        lambda router: router.acompletion("gpt-4o", MESSAGES, num_retries=1),
        num_retries=3,
        retry_after=0,
    )

    assert outcome.hits == {"dep-a": 2}
    assert recorder.tree().attributes["traced_router.retries"] == 1


async def test_a_retry_policy_decides_by_kind_of_error(same, provider, recorder):
    outcome = await same(
        [provider.deployment("dep-a")],
        {"dep-a": [BadRequest(), BadRequest(), Answer()]},
        chat,
        retry_policy=litellm.RetryPolicy(BadRequestErrorRetries=2),
    )

    assert outcome.hits == {"dep-a": 3}
    tree = recorder.tree()
    assert tree.attributes["traced_router.outcome"] == "ok_after_retry"
    assert len(tree.find("router.backoff")) == len(outcome.waits) == 2


async def test_an_error_that_is_not_retried_is_not(same, provider, recorder):
    outcome = await same([provider.deployment("dep-a")], {"dep-a": [BadRequest()]}, chat, num_retries=3)

    assert outcome.hits == {"dep-a": 1}
    assert outcome.waits == ()
    assert [child.name for child in recorder.tree().children] == ["router.select gpt-4o", "chat gpt-4o-2024-08-06"]


def test_a_synchronous_call_retries_alike(provider, router, recorder, waits):
    provider.script("dep-a", [RateLimited(retry_after=2), Answer()])
    router(provider.deployment("dep-a"), num_retries=1).completion("gpt-4o", MESSAGES)

    assert waits == [2.0]
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_retry"},
            children=[
                span("router.select gpt-4o"),
                attempt(1, "initial", "RateLimitError"),
                backoff(2.0, "retry_after", 2.0),
                span("router.select gpt-4o"),
                attempt(2, "retry"),
            ],
        ),
    )


async def test_the_wait_of_a_cancelled_call_ends_with_it(provider, router, recorder, monkeypatch):
    """The sleep itself is cancelled: nothing comes after it that could end its span."""
    sleeping = asyncio.Event()
    sleep = asyncio.sleep

    async def long(seconds, *args):
        if seconds == 33.0:
            sleeping.set()
            return await asyncio.Event().wait()
        return await sleep(seconds, *args)

    monkeypatch.setattr(litellm.utils, "JITTER", 0.0)
    monkeypatch.setattr(asyncio, "sleep", long)
    provider.script("dep-a", [RateLimited(retry_after=33)])
    task = asyncio.ensure_future(chat(router(provider.deployment("dep-a"), num_retries=1)))
    await sleeping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={"traced_router.outcome": "cancelled", "traced_router.attempts": 1, "error.type": absent},
            children=[
                span("router.select gpt-4o"),
                attempt(1, "initial", "RateLimitError"),
                backoff(33.0, "retry_after", 33.0),
            ],
        ),
    )
