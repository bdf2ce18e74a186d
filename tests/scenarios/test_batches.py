"""The three batch methods: one batch span over the requests of its members."""

import asyncio

import pytest

from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, BadRequest

MESSAGES = [{"role": "user", "content": "hi"}]


def groups(provider, *names):
    return [provider.deployment(f"dep-{name}", group=name) for name in names]


def member(group, **attributes):
    return span(
        f"router.chat {group}",
        kind="INTERNAL",
        attributes={"traced_router.model_group": group, **attributes},
        children=[span(f"router.select {group}"), span("chat gpt-4o-2024-08-06", kind="CLIENT")],
    )


def batch(name, size, *children, status="UNSET"):
    return span(
        f"router.batch {name}",
        kind="INTERNAL",
        status=status,
        attributes={
            "traced_router.operation": "chat",
            "traced_router.model_group": name,
            "traced_router.batch.size": size,
            "error.type": absent if status == "UNSET" else "BadRequestError",
        },
        children=children,
    )


async def test_several_models(provider, router, recorder):
    made = router(*groups(provider, "a", "b"))
    answers = await made.abatch_completion(models=["a", "b"], messages=MESSAGES)

    assert len(answers) == 2
    assert_tree(recorder, batch("a,b", 2, member("a"), member("b")))


async def test_several_models_and_several_prompts(provider, router, recorder):
    made = router(*groups(provider, "a", "b"))
    answers = await made.abatch_completion(models=["a", "b"], messages=[MESSAGES, MESSAGES])

    assert [len(answer) for answer in answers] == [2, 2]
    tree = recorder.tree()
    assert tree.attributes["traced_router.batch.size"] == 4
    assert sorted(child.name for child in tree.children) == [
        "router.chat a",
        "router.chat a",
        "router.chat b",
        "router.chat b",
    ]
    assert provider.hits() == 4


async def test_one_model_and_several_prompts(provider, router, recorder):
    made = router(*groups(provider, "a"))
    await made.abatch_completion_one_model_multiple_requests(model="a", messages=[MESSAGES] * 3)

    assert_tree(recorder, batch("a", 3, member("a"), member("a"), member("a")))


async def test_a_member_that_fails(provider, router, recorder):
    """litellm hands the exception out as an answer: the batch itself did not fail."""
    provider.script("dep-b", [BadRequest()])
    made = router(*groups(provider, "a", "b"))
    answers = await made.abatch_completion(models=["a", "b"], messages=MESSAGES)

    assert [type(answer).__name__ for answer in answers] == ["ModelResponse", "BadRequestError"]
    tree = recorder.tree()
    assert tree.status == "UNSET"
    assert [child.status for child in tree.children] == ["UNSET", "ERROR"]


async def test_the_losers_of_a_race_are_cancelled_and_the_batch_ends_last(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-b", Answer(hold_before=gate))
    made = router(*groups(provider, "a", "b"))
    answer = await made.abatch_completion_fastest_response(model="a,b", messages=MESSAGES)
    # Cancelled tasks unwind when the loop comes round to them.
    async with asyncio.timeout(5):
        while recorder.open_spans():
            await asyncio.sleep(0)

    assert answer.choices[0].message.content == "hello"
    tree = recorder.tree()
    assert_tree(
        tree,
        batch(
            "a,b",
            2,
            member("a", **{"traced_router.outcome": "ok"}),
            span("router.chat b", status="UNSET", attributes={"traced_router.outcome": "cancelled"}, children=...),
        ),
    )
    assert all(child.end_ns <= tree.end_ns for child in tree.children)


async def test_a_cancelled_batch(provider, router, recorder):
    gate = provider.gate()
    for name in "ab":
        provider.default(f"dep-{name}", Answer(hold_before=gate))
    made = router(*groups(provider, "a", "b"))
    task = asyncio.ensure_future(made.abatch_completion(models=["a", "b"], messages=MESSAGES))
    await gate.reached(count=2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    tree = recorder.tree()
    assert tree.status == "UNSET"
    assert [c.attributes["traced_router.outcome"] for c in tree.children] == ["cancelled", "cancelled"]


async def test_a_batch_under_the_caller_s_span(provider, router, recorder):
    tracer = recorder.provider.get_tracer("caller")
    made = router(*groups(provider, "a", "b"))
    with tracer.start_as_current_span("caller"):
        await made.abatch_completion(models=["a", "b"], messages=MESSAGES)

    assert_tree(recorder, span("caller", children=[batch("a,b", 2, member("a"), member("b"))]))


async def test_the_priority_queue(provider, router, recorder):
    """``priority=`` goes through ``schedule_acompletion``, which goes through ``acompletion``: one request."""
    made = router(*groups(provider, "a"))
    await made.acompletion("a", MESSAGES, priority=0)
    await made.schedule_acompletion("a", MESSAGES, priority=0)

    assert len(recorder.trees()) == 2
    for tree in recorder.trees():
        assert_tree(tree, member("a"))


def test_the_openai_client_s_own_shape(provider, router, recorder):
    made = router(*groups(provider, "a"))
    made.chat.completions.create(model="a", messages=MESSAGES)

    assert_tree(recorder, member("a"))


async def test_models_that_can_be_read_only_once(provider, router, recorder):
    made = router(*groups(provider, "a", "b"))
    answers = await made.abatch_completion(models=(name for name in ("a", "b")), messages=MESSAGES)

    assert len(answers) == 2
    nameless = {"traced_router.model_group": absent, "traced_router.batch.size": absent}
    assert_tree(recorder, span("router.batch", attributes=nameless, children=[member("a"), member("b")]))


@pytest.mark.parametrize("models", [None, 7, []], ids=repr)
async def test_a_batch_of_no_models_does_as_with_plain_router(same, provider, recorder, models):
    outcome = await same(
        groups(provider, "a"), {}, lambda r: r.abatch_completion(models=models, messages=MESSAGES), num_retries=0
    )

    tree = recorder.tree()
    assert tree.name == "router.batch"
    assert tree.status == ("ERROR" if outcome.error else "UNSET")
    assert "traced_router.model_group" not in tree.attributes
