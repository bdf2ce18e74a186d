"""Cancellation before the answer, wherever it comes: nothing stays open, nothing is an error."""

import asyncio
import gc

import litellm
import pytest

from traced_router import _litellm as seams
from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def request(*children, **attributes):
    return span(
        "router.chat gpt-4o",
        status="UNSET",
        attributes={
            "traced_router.outcome": "cancelled",
            "error.type": absent,
            "traced_router.served.deployment_id": absent,
            **attributes,
        },
        children=children,
    )


CANCELLED_ATTEMPT = span(
    "chat gpt-4o-2024-08-06",
    status="UNSET",
    attributes={"traced_router.error.category": "cancelled", "error.type": absent, "http.response.status_code": absent},
)


async def test_while_the_provider_thinks(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    task = asyncio.ensure_future(router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES))
    await gate.reached()
    await cancelled(task)

    assert_tree(recorder, request(span("router.select gpt-4o"), CANCELLED_ATTEMPT, **{"traced_router.attempts": 1}))


async def test_during_the_selection(provider, router, recorder, monkeypatch):
    reached = asyncio.Event()

    class Slow(litellm.integrations.custom_logger.CustomLogger):
        async def async_filter_deployments(self, model, healthy_deployments, *args, **kwargs):
            reached.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(litellm, "callbacks", [Slow()])
    task = asyncio.ensure_future(router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES))
    await reached.wait()
    await cancelled(task)

    assert_tree(
        recorder,
        request(
            span("router.select gpt-4o", status="UNSET", attributes={"litellm.deployment.id": absent}),
            **{"traced_router.attempts": 0},
        ),
    )
    assert provider.hits() == 0


@pytest.fixture
def at_the_last_check(monkeypatch):
    """Has a call cancelled between its pick and its provider: before litellm's last check, or after it."""

    def install(router, task, *, after):
        core = seams.core_of(router)
        check = core.async_routing_strategy_pre_call_checks

        async def checked(*args, **kwargs):
            if after:
                await check(*args, **kwargs)
            task[0].cancel()
            if not after:
                await asyncio.sleep(0)

        monkeypatch.setattr(core, "async_routing_strategy_pre_call_checks", checked)

    return install


@pytest.mark.filterwarnings("ignore:coroutine 'acompletion' was never awaited:RuntimeWarning")  # by 1.95 itself
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("limit", [None, 1])
async def test_between_pick_and_provider(provider, router, recorder, at_the_last_check, after, limit):
    """litellm's function is called when the check is over: only then is there an attempt, which is not sent."""
    made = router(provider.deployment("dep-a", max_parallel_requests=limit))
    task = []
    at_the_last_check(made, task, after=after)
    task.append(asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES)))
    with pytest.raises(asyncio.CancelledError):
        await task[0]

    attempts = [CANCELLED_ATTEMPT] if after else []
    assert_tree(
        recorder,
        request(
            span("router.select gpt-4o", status="UNSET", attributes={"litellm.deployment.id": "dep-a"}),
            *attempts,
            **{"traced_router.attempts": len(attempts)},
        ),
    )
    assert provider.hits() == 0


async def test_during_a_fallback(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-a", [ServerError()])
    provider.script("dep-b", [Answer(hold_before=gate)])
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="b"), fallbacks=[{"gpt-4o": ["b"]}])
    task = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES))
    await gate.reached()
    await cancelled(task)

    assert_tree(
        recorder,
        request(
            span("router.select gpt-4o"),
            span("chat gpt-4o-2024-08-06", status="ERROR"),
            span(
                "router.fallback b",
                status="UNSET",
                attributes={"error.type": absent},
                children=[span("router.select b"), CANCELLED_ATTEMPT],
            ),
        ),
    )


async def test_wait_for(provider, router, recorder):
    """A timeout of the caller's own is a cancellation to the router."""
    provider.script("dep-a", [Answer(hold_before=provider.gate())])
    made = router(provider.deployment("dep-a"))
    await made.acompletion("gpt-4o", MESSAGES, mock_response="warm")
    recorder.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.acompletion("gpt-4o", MESSAGES), 0.05)

    assert_tree(recorder, request(span("router.select gpt-4o"), CANCELLED_ATTEMPT))


async def test_an_embedding(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-e", [Answer(hold_before=gate)])
    made = router(provider.deployment("dep-e", group="e", model="openai/text-embedding-3-small"))
    task = asyncio.ensure_future(made.aembedding("e", ["hi"]))
    await gate.reached()
    await cancelled(task)

    tree = recorder.tree()
    assert tree.name == "router.embeddings e"
    assert tree.attributes["traced_router.outcome"] == "cancelled"
    assert tree.children[1].attributes["traced_router.error.category"] == "cancelled"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # 1.109's own: it wants the loop that is gone
def test_a_task_that_is_pending_when_its_loop_closes(provider, router, recorder, caplog, monkeypatch):
    """Whoever collects it closes its coroutines, in another context than theirs."""
    waiting = asyncio.Event()

    async def never(**_kwargs):
        waiting.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(litellm, "acompletion", never)
    made = router(provider.deployment("dep-a"))
    loop = asyncio.new_event_loop()
    task = loop.create_task(made.acompletion("gpt-4o", MESSAGES))
    loop.run_until_complete(waiting.wait())
    loop.close()
    del task
    gc.collect()

    assert "Failed to detach context" not in caplog.text
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={"traced_router.outcome": "abandoned", "error.type": absent},
            children=[span("router.select gpt-4o"), span("chat gpt-4o-2024-08-06", status="UNSET")],
        ),
    )


async def test_a_call_that_a_closed_generator_makes_fails_like_any_other(provider, router, recorder):
    """What its caller is handling is no part of it."""
    provider.script("dep-a", [ServerError()])
    made = router(provider.deployment("dep-a"))

    async def reader():
        try:
            yield
        finally:
            with pytest.raises(litellm.InternalServerError):
                await made.acompletion("gpt-4o", MESSAGES)

    opened = reader()
    await anext(opened)
    await opened.aclose()

    tree = recorder.tree()
    assert tree.attributes["traced_router.outcome"] == "error"
    assert tree.attributes["error.type"] == "InternalServerError"


async def test_calls_beside_a_cancelled_one_go_on(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = router(provider.deployment("dep-a"))
    tasks = [asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES, user=str(n))) for n in range(4)]
    await gate.reached(count=4)
    await cancelled(tasks[1])
    gate.open()
    await asyncio.gather(tasks[0], *tasks[2:])

    outcomes = {t.attributes["user.id"]: t.attributes["traced_router.outcome"] for t in recorder.trees()}
    assert outcomes == {"0": "ok", "1": "cancelled", "2": "ok", "3": "ok"}
