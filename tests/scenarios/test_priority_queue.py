"""Calls that wait in the priority queue: the wait is the request's own, and no pick is made before its end."""

import asyncio

import litellm
import pytest

from traced_router import _litellm as seams
from traced_router.testing import absent, assert_tree, span

MESSAGES = [{"role": "user", "content": "hi"}]

WAYS = pytest.mark.parametrize("way", ["acompletion", "schedule_acompletion"])


class Queue:
    """A router's queue, in which nobody's turn comes before it is opened."""

    def __init__(self, router, monkeypatch):
        self.polled = asyncio.Event()
        self.open = False
        scheduler = seams.state(seams.core_of(router), "scheduler")
        poll = scheduler.poll

        async def watched(*args, **kwargs):
            self.polled.set()
            return self.open and await poll(*args, **kwargs)

        monkeypatch.setattr(scheduler, "poll", watched)


@pytest.fixture
def queued(provider, router, monkeypatch):
    def make(**arguments):
        made = router(provider.deployment("dep-a"), **arguments)
        return made, Queue(made, monkeypatch)

    return make


@WAYS
async def test_a_call_that_gets_its_turn(queued, recorder, way):
    made, queue = queued()
    waiting = asyncio.ensure_future(getattr(made, way)("gpt-4o", MESSAGES, priority=3))
    await queue.polled.wait()
    assert [node.name for node in recorder.tree().walk()] == ["router.chat gpt-4o"]
    queue.open = True
    await waiting

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok", "traced_router.attempts": 1},
            children=[
                span("router.select gpt-4o", attributes={"traced_router.candidates.eligible": 1}),
                span("chat gpt-4o-2024-08-06", kind="CLIENT"),
            ],
        ),
    )


@WAYS
async def test_a_call_that_is_cancelled_in_the_queue(provider, queued, recorder, way):
    made, queue = queued()
    waiting = asyncio.ensure_future(getattr(made, way)("gpt-4o", MESSAGES, priority=3))
    await queue.polled.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={"traced_router.outcome": "cancelled", "traced_router.attempts": 0, "error.type": absent},
            children=[],
        ),
    )
    assert provider.hits() == 0


@WAYS
async def test_a_call_whose_turn_does_not_come(provider, queued, recorder, way):
    made, _ = queued(timeout=0.02)
    with pytest.raises(litellm.Timeout):
        await getattr(made, way)("gpt-4o", MESSAGES, priority=3)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={"traced_router.outcome": "error", "traced_router.attempts": 0, "error.type": "Timeout"},
            children=[],
        ),
    )
    assert provider.hits() == 0
