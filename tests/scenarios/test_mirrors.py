"""``silent_model``: a copy of a call that outlives it is a trace of its own, linked to the call."""

import asyncio

from traced_router.testing import assert_tree, span
from traced_router.testing._provider_behaviours import Answer

MESSAGES = [{"role": "user", "content": "hi"}]


def check(recorder):
    by_name = {tree.name: tree for tree in recorder.trees()}
    assert sorted(by_name) == ["router.chat a", "router.chat shadow"]
    call, mirror = by_name["router.chat a"], by_name["router.chat shadow"]
    assert mirror.parent_id is None
    assert mirror.trace_id != call.trace_id
    assert [(link.trace_id, link.span_id) for link in mirror.links] == [(call.trace_id, call.span_id)]
    assert call.links == ()
    for tree, group in ((call, "a"), (mirror, "shadow")):
        assert_tree(
            tree,
            span(
                f"router.chat {group}",
                attributes={"traced_router.attempts": 1, "traced_router.served.deployment_id": f"dep-{group}"},
                children=[span(f"router.select {group}"), span("chat gpt-4o-2024-08-06", kind="CLIENT")],
            ),
        )


def deployments(provider):
    return [
        provider.deployment("dep-a", group="a", silent_model="shadow"),
        provider.deployment("dep-shadow", group="shadow"),
    ]


async def test_an_asynchronous_mirror_that_ends_after_its_call(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-shadow", [Answer(hold_before=gate)])
    await router(*deployments(provider)).acompletion("a", MESSAGES)
    await gate.reached()
    gate.open()
    async with asyncio.timeout(5):
        while recorder.open_spans():
            await asyncio.sleep(0.001)

    check(recorder)


def test_a_synchronous_mirror_in_a_bare_thread(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-shadow", [Answer(hold_before=gate)])
    router(*deployments(provider)).completion("a", MESSAGES)
    gate.wait_reached()
    gate.open()
    recorder.wait_for_end(6)

    check(recorder)


async def test_a_mirror_of_a_synchronous_call_inside_a_loop(provider, router, recorder):
    gate = provider.gate()
    provider.script("dep-shadow", [Answer(hold_before=gate)])
    router(*deployments(provider)).completion("a", MESSAGES)
    await gate.reached()
    gate.open()
    await asyncio.to_thread(recorder.wait_for_end, 6)

    check(recorder)


async def test_a_mirror_under_the_caller_s_span_is_a_root_all_the_same(provider, router, recorder):
    tracer = recorder.provider.get_tracer("caller")
    with tracer.start_as_current_span("caller"):
        await router(*deployments(provider)).acompletion("a", MESSAGES)
    await asyncio.to_thread(recorder.wait_for_end, 7)

    assert sorted(tree.name for tree in recorder.trees()) == ["caller", "router.chat shadow"]
