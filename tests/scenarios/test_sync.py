"""Synchronous calls: without a loop, inside a running one, from threads; the context is the caller's."""

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import litellm
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

from traced_router import TracedRouter
from traced_router.testing import Recorder, assert_tree, render, span
from traced_router.testing._provider_behaviours import Answer, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]

PLAIN = span(
    "router.chat gpt-4o",
    kind="INTERNAL",
    status="UNSET",
    children=[span("router.select gpt-4o", kind="INTERNAL"), span("chat gpt-4o-2024-08-06", kind="CLIENT")],
)


def test_without_a_loop(provider, router, recorder):
    answer = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert_tree(recorder, PLAIN)
    attempt = recorder.tree().children[1]
    assert attempt.attributes["litellm_trace_id"] == recorder.tree().attributes["litellm_trace_id"]


def test_a_group_with_the_name_of_its_deployment(provider, router, recorder):
    """litellm 1.95 takes the name for the deployment's, and leaves the checks out that come before its call."""
    made = router(provider.deployment("gpt-4o"))
    made.completion("gpt-4o", MESSAGES)
    assert_tree(recorder, PLAIN)


async def test_inside_a_running_loop(provider, router, recorder):
    """litellm runs the chain in a fresh thread with an empty context."""
    tracer = recorder.provider.get_tracer("caller")
    with tracer.start_as_current_span("caller") as caller:
        router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES)
        assert trace.get_current_span() is caller

    assert_tree(recorder, span("caller", children=[PLAIN]))


async def test_a_fallback_inside_a_running_loop(provider, router, recorder):
    provider.script("dep-a", [ServerError()])
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="b"), fallbacks=[{"gpt-4o": ["b"]}])
    made.completion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.outcome": "ok_after_fallback"},
            children=[
                span("router.select gpt-4o"),
                span("chat gpt-4o-2024-08-06", status="ERROR"),
                span("router.fallback b", children=[span("router.select b"), span("chat gpt-4o-2024-08-06")]),
            ],
        ),
    )
    assert [sorted(r.body) for r in provider.requests] == [["messages", "model"]] * 2


async def test_what_is_private_to_us_does_not_reach_a_callback(provider, router):
    """Nor does it stay in what the caller passed in."""
    metadata = {"mine": 1}
    router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, metadata=metadata)

    assert not any("traced_router" in str(key) for key in metadata)
    assert not any("traced_router" in str(key) for key in provider.requests[0].body)


def test_from_threads_every_call_keeps_its_own_caller(provider, router, recorder):
    tracer = recorder.provider.get_tracer("caller")
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = router(provider.deployment("dep-a"))

    def call(number):
        with tracer.start_as_current_span(f"caller {number}"):
            made.completion("gpt-4o", MESSAGES, user=str(number))

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(call, number) for number in range(8)]
        gate.wait_reached(count=8)
        gate.open()
        for future in running:
            future.result()

    trees = recorder.trees()
    assert len(trees) == 8
    for tree in trees:
        assert [child.name for child in tree.children] == ["router.chat gpt-4o"]
        assert tree.children[0].attributes["user.id"] == tree.name.removeprefix("caller ")
        assert_tree(tree.children[0], PLAIN)


def test_a_thread_s_context_is_left_as_it_was(provider, router):
    made = router(provider.deployment("dep-a"))
    left: list[object] = []

    def call():
        before = otel_context.get_current()
        made.completion("gpt-4o", MESSAGES)
        left.extend([before, otel_context.get_current()])

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert left[0] == left[1]


def test_several_loops_one_after_another(provider, router, recorder):
    made = router(provider.deployment("dep-a"))
    for _ in range(3):
        asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert [tree.name for tree in recorder.trees()] == ["router.chat gpt-4o"] * 3
    for tree in recorder.trees():
        assert_tree(tree, PLAIN)


def test_several_loops_at_once(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_before=gate))
    made = router(provider.deployment("dep-a"))
    threads = [threading.Thread(target=lambda: asyncio.run(made.acompletion("gpt-4o", MESSAGES))) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.wait_reached(count=3)
    gate.open()
    for thread in threads:
        thread.join()

    trees = recorder.trees()
    assert len(trees) == 3
    for tree in trees:
        assert_tree(tree, PLAIN)


def test_a_synchronous_call_in_a_loop_in_a_thread_of_a_loop(provider, router, recorder):
    """A nested loop: async → thread → sync call → litellm's own loop."""
    made = router(provider.deployment("dep-a"))
    tracer = recorder.provider.get_tracer("caller")

    async def outer():
        with tracer.start_as_current_span("caller"):
            await asyncio.to_thread(made.completion, "gpt-4o", MESSAGES)

    asyncio.run(outer())

    assert_tree(recorder, span("caller", children=[PLAIN]))


def test_an_empty_context_makes_a_root(provider, router, recorder):
    tracer = recorder.provider.get_tracer("caller")
    made = router(provider.deployment("dep-a"))
    with tracer.start_as_current_span("caller"):
        contextvars.Context().run(made.completion, "gpt-4o", MESSAGES)

    assert sorted(tree.name for tree in recorder.trees()) == ["caller", "router.chat gpt-4o"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_traces_of_its_own(provider, router, recorder):
    made = router(provider.deployment("dep-a"))
    tracer = recorder.provider.get_tracer("caller")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        try:
            with tracer.start_as_current_span("child"):
                made.completion("gpt-4o", MESSAGES, mock_response="hello")
            (tree,) = recorder.trees()
            said = [tree.name, *[c.name for c in tree.children], *[c.name for c in tree.children[0].children]]
            os.write(writing, repr(said).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)

    assert said == repr(["child", "router.chat gpt-4o", "router.select gpt-4o", "chat gpt-4o-2024-08-06"])
    assert recorder.trees() == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("way", ["acompletion", "completion"])
def test_a_provider_that_is_made_in_a_forked_child_counts(provider, monkeypatch, way):
    """As in a server that loads its application before it forks its workers."""
    made = TracedRouter(model_list=[provider.deployment("dep-a")], num_retries=0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        try:
            child_s = Recorder()
            monkeypatch.setattr(trace, "get_tracer_provider", lambda: child_s.provider)
            answer = getattr(made, way)("gpt-4o", MESSAGES)
            if way == "acompletion":
                asyncio.run(answer)
            os.write(writing, render(child_s.tree()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)

    assert [line.split("  ")[0].strip("├└─ ") for line in said.splitlines()] == [
        "router.chat gpt-4o",
        "router.select gpt-4o",
        "chat gpt-4o-2024-08-06",
    ]
    assert provider.hits("dep-a") == 1
