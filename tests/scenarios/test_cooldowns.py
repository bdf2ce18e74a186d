"""Cooldowns: an event on the attempt that caused one, and what selections see of them afterwards."""

import asyncio
import threading
from contextlib import suppress

import litellm
import pytest
from opentelemetry.trace import SpanKind

from traced_router import _litellm as seams
from traced_router import _router
from traced_router.testing import absent, assert_tree, event, span
from traced_router.testing._provider_behaviours import RateLimited, ServerError, Unauthorized

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(router):
    return router.acompletion("gpt-4o", MESSAGES)


def pair(provider, **params):
    """Two deployments, of which the first is always picked while it is there."""
    return [provider.deployment("dep-a", weight=1, **params), provider.deployment("dep-b", weight=0, **params)]


def cooled(seconds=60.0, reason="rate_limit"):
    return event(
        "traced_router.cooldown",
        {"litellm.deployment.id": "dep-a", "seconds": seconds, "reason": reason},
        exact_attributes=True,
    )


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(RateLimited(), "rate_limit"), (Unauthorized(), "auth")],
    ids=["rate limit", "auth"],
)
async def test_the_event_is_on_the_attempt_that_caused_it(same, provider, recorder, behaviour, reason):
    await same(pair(provider), {"dep-a": [behaviour]}, chat, num_retries=1, cooldown_time=60)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_retry"},
            children=[
                span("router.select gpt-4o"),
                span("chat gpt-4o-2024-08-06", status="ERROR", events=[cooled(60.0, reason)]),
                span(
                    "router.select gpt-4o",
                    attributes={
                        "litellm.deployment.id": "dep-b",
                        "traced_router.candidates.total": 2,
                        "traced_router.candidates.eligible": 1,
                        "traced_router.candidates.excluded.cooldown": 1,
                        "traced_router.decision.reason": "only_candidate",
                    },
                ),
                span("chat gpt-4o-2024-08-06", status="UNSET", events=()),
            ],
        ),
    )


async def test_the_provider_s_own_wait_is_the_cooldown_s_length(provider, router, recorder, waits):
    provider.script("dep-a", [RateLimited(retry_after=7)])
    await chat(router(*pair(provider), num_retries=1, cooldown_time=60))

    (happened,) = recorder.tree().children[1].events
    assert happened.attributes["seconds"] == 7.0


async def test_only_the_fresh_transition_is_said(provider, router, recorder):
    """Two calls fail on one deployment at once: it is cooled down once, and litellm says so twice."""
    gate = provider.gate()
    provider.script("dep-a", [RateLimited(hold_before=gate), RateLimited(hold_before=gate)])
    made = router(*pair(provider), cooldown_time=60)
    running = [asyncio.ensure_future(chat(made)) for _ in range(2)]
    await gate.reached(count=2)
    gate.open()
    await asyncio.gather(*running, return_exceptions=True)

    events = [e.name for tree in recorder.trees() for node in tree.walk() for e in node.events]
    assert events.count("traced_router.cooldown") == 1


def test_a_synchronous_call_says_it_alike(provider, router, recorder, waits):
    provider.script("dep-a", [RateLimited()])
    router(*pair(provider), num_retries=1, cooldown_time=60).completion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            children=[
                span("router.select gpt-4o"),
                span("chat gpt-4o-2024-08-06", status="ERROR", events=[cooled()]),
                span("router.select gpt-4o", attributes={"traced_router.candidates.excluded.cooldown": 1}),
                span("chat gpt-4o-2024-08-06", status="UNSET", events=()),
            ],
        ),
    )


async def test_with_every_deployment_in_cooldown_nothing_is_called(provider, router, recorder):
    provider.script("dep-a", [RateLimited()])
    provider.script("dep-b", [RateLimited()])
    made = router(*pair(provider), cooldown_time=60)
    for _ in range(2):
        with pytest.raises(Exception, match="Rate limit"):
            await chat(made)
    recorder.clear()
    provider.clear()
    with pytest.raises(Exception) as caught:
        await chat(made)

    assert provider.hits() == 0
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={"error.type": type(caught.value).__name__, "traced_router.attempts": 0},
            children=[
                span(
                    "router.select gpt-4o",
                    status="ERROR",
                    attributes={
                        "error.type": type(caught.value).__name__,
                        "litellm.deployment.id": absent,
                        "traced_router.candidates.total": 2,
                        "traced_router.candidates.eligible": 0,
                        "traced_router.candidates.excluded.cooldown": 2,
                    },
                    events=[
                        event(
                            "traced_router.candidates",
                            {"ids": ("dep-a", "dep-b"), "excluded": ("cooldown", "cooldown")},
                        )
                    ],
                )
            ],
        ),
    )


async def test_a_group_without_cooldowns_says_none(provider, router, recorder, waits):
    provider.script("dep-a", [RateLimited()])
    await chat(router(*pair(provider), num_retries=1, disable_cooldowns=True))

    assert [e.name for node in recorder.tree().walk() for e in node.events] == ["traced_router.candidates"]


async def test_failures_below_the_limit_cool_nothing_down(provider, router, recorder, waits):
    provider.script("dep-a", [ServerError(), ServerError()])
    made = router(*pair(provider), num_retries=1, allowed_fails=5)
    with pytest.raises(Exception, match="error"):
        await chat(made)

    events = [e.name for node in recorder.tree().walk() for e in node.events]
    assert "traced_router.cooldown" not in events


async def test_another_router_with_the_same_deployments_says_nothing(router, provider, recorder):
    """litellm's callbacks are global: the other router puts its own deployment of that id into cooldown as well."""
    made, other = (router(*pair(provider), disable_cooldowns=False) for _ in range(2))
    provider.script("dep-a", [RateLimited()])
    with pytest.raises(litellm.RateLimitError):
        await chat(made)
    await asyncio.sleep(0)

    (attempt,) = [s for s in recorder.spans() if s.kind is SpanKind.CLIENT]
    assert [e.name for e in attempt.events] == ["traced_router.cooldown"]
    assert other


def test_a_transition_that_two_threads_tell_is_one(router, provider, monkeypatch):
    """litellm tells of one failure from its loop and from its threads, at the same time."""
    made = router(provider.deployment("dep-a"))
    tracing = _router._tracing(seams.core_of(made))
    told = []
    monkeypatch.setattr(tracing, "_attempt_now", lambda: told.append(1))
    both = threading.Barrier(2)

    class Looked(dict):
        """Waits for the other thread to look too, for as long as that can take."""

        def get(self, key, default=None):
            with suppress(threading.BrokenBarrierError):
                both.wait(0.2)
            return super().get(key, default)

    tracing._cooling = Looked()
    threads = [threading.Thread(target=tracing.cooled_down, args=("dep-a", 60.0, None)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [1]
