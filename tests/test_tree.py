"""The tree of a call by itself: what ends first counts, and whatever is open ends with its call."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router._attributes import Limits
from traced_router._current import attach, detach
from traced_router._facts import AnswerFacts, AttemptFacts, CallFacts, DecisionFacts, DeploymentFacts, FailureFacts
from traced_router._frame import frame_of
from traced_router._guard import Guard
from traced_router._timeline import Timeline
from traced_router._tree import Batch, Call, Tree, Unrecorded
from traced_router.testing import Recorder, absent, assert_tree, check_trace, span

MS = 1_000_000


class Clock:
    """Every look at it is a millisecond later."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += MS
        return self.now


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def guard():
    return Guard(NoOpMeterProvider)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tree(recorder, guard, clock):
    return Tree(
        lambda: recorder.provider.get_tracer("tests"), guard, timeline=lambda: Timeline(clock, lambda: (clock(), 0))
    )


@pytest.fixture(autouse=True)
def _no_faults(guard, recorder):
    yield
    assert guard.faults == 0
    assert recorder.ended_twice() == []


def attempt_of(call, name="a", hop=None, **kwargs):
    return call.attempt(AttemptFacts(DeploymentFacts(name, "gpt")), hop, **kwargs)


# --- attempts ----------------------------------------------------------------------------------

ENDS = {
    "succeed": (
        lambda a: a.succeed(AnswerFacts("id-1")),
        "UNSET",
        {"gen_ai.response.id": "id-1", "error.type": absent},
    ),
    "fail": (lambda a: a.fail(FailureFacts("Boom", "server", 500)), "ERROR", {"error.type": "Boom"}),
    "left": (lambda a: a.left(), "UNSET", {"error.type": absent, "traced_router.error.category": absent}),
    "cancelled": (lambda a: a.left(cancelled=True), "UNSET", {"traced_router.error.category": "cancelled"}),
    "over": (lambda a: a.over(), "UNSET", {"error.type": absent, "gen_ai.response.id": absent}),
}


class Listener:
    def __init__(self):
        self.heard = []

    def first_chunk(self):
        self.heard.append("first chunk")

    def ended(self, end):
        self.heard.append(end)


@pytest.mark.parametrize("later", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_the_first_end_of_an_attempt_counts(tree, recorder, first, later):
    end, status, attributes = ENDS[first]
    listener = Listener()
    call = tree.open_call(CallFacts("chat", "g"))
    attempt = attempt_of(call, listener=listener)
    end(attempt)
    ENDS[later][0](attempt)
    call.finish("ok")

    assert attempt.done
    assert len(listener.heard) == 1
    assert listener.heard[0].cancelled is (first in ("left", "cancelled"))
    assert_tree(
        recorder,
        span("router.chat g", children=[span("chat gpt", kind="CLIENT", status=status, attributes=attributes)]),
    )


def test_the_first_chunk_with_content_is_the_first(tree, recorder):
    listener = Listener()
    call = tree.open_call(CallFacts("chat", "g", streaming=True))
    attempt = attempt_of(call, listener=listener)
    for _ in range(3):
        attempt.first_content()
    attempt.succeed(AnswerFacts())
    call.finish("ok", stream_outcome="exhausted")

    assert listener.heard[:-1] == ["first chunk"]
    assert listener.heard[-1].time_to_first_chunk == 0.001
    (node,) = recorder.tree().children
    assert node.attributes["gen_ai.response.time_to_first_chunk"] == 0.001


# --- selections and hops -----------------------------------------------------------------------


@pytest.mark.parametrize("failure", [None, FailureFacts("Boom")])
def test_a_call_ends_what_is_open_under_it(tree, recorder, failure):
    """A pick that a cancellation interrupts, and what it would have said afterwards."""
    call = tree.open_call(CallFacts("chat", "g"))
    hop = call.hop("h", "model_group")
    selection = call.select("h", hop)
    attempt_of(call, hop=hop)
    call.backoff(1.0, "exponential", None, hop)
    call.finish("cancelled" if failure is None else "error", failure)
    selection.end(DecisionFacts(strategy="late", reason="lowest_score", chosen_id="a"))
    hop.fail("TooLate")
    hop.end("TooLate")
    call.finish("ok")

    status, error = ("UNSET", absent) if failure is None else ("ERROR", "Boom")
    assert call.done
    assert_tree(
        recorder,
        span(
            "router.chat g",
            status=status,
            attributes={"traced_router.outcome": "cancelled" if failure is None else "error", "error.type": error},
            children=[
                span(
                    "router.fallback h",
                    status=status,
                    attributes={"error.type": error, "traced_router.fallback.from": "g"},
                    children=[
                        span(
                            "router.select h",
                            status=status,
                            attributes={"error.type": error, "traced_router.decision.reason": absent},
                        ),
                        span("chat gpt", kind="CLIENT", status=status, attributes={"error.type": error}),
                        span("router.backoff", attributes={"traced_router.backoff.seconds": 1.0}),
                    ],
                )
            ],
        ),
    )


def test_a_hop_of_a_call_without_a_group_comes_from_nowhere(tree, recorder):
    call = tree.open_call(CallFacts("chat"))
    call.hop("b", "default").fail("Boom")
    call.hop("c", "default").returned()
    call.finish("ok")

    first, second = recorder.tree().children
    assert "traced_router.fallback.from" not in first.attributes
    assert "traced_router.fallback.error_type" not in first.attributes
    assert second.attributes["traced_router.fallback.from"] == "b"
    assert second.attributes["traced_router.fallback.error_type"] == "Boom"


def test_a_core_that_shows_less_is_said(recorder, guard):
    made = Tree(
        lambda: recorder.provider.get_tracer("tests"), guard, engine="foreign", capabilities=("selection=none",)
    )
    made.open_call(CallFacts("chat", "g", strategy="s", session_id="x" * 2000)).finish("ok")

    attributes = recorder.tree().attributes
    assert attributes["traced_router.engine"] == "foreign"
    assert attributes["traced_router.capabilities"] == ("selection=none",)
    assert len(attributes["session.id"]) == 1024


# --- storms ------------------------------------------------------------------------------------


def asked(seconds, error="Busy"):
    return FailureFacts(error, "rate_limit", 429, retry_after=seconds)


def told(node):
    return [tuple(event.attributes.values()) for event in node.events]


def attempts_in(recorder):
    return recorder.tree().find("chat gpt")


def test_the_last_word_of_a_deployment_counts(tree, recorder, clock):
    call = tree.open_call(CallFacts("chat", "g"))
    attempt_of(call).fail(asked(60.0))
    attempt_of(call, "b").fail(asked(90.0))
    attempt_of(call).fail(FailureFacts("Boom", "server", 500))
    attempt_of(call).fail(asked(2.0))
    clock.now += 2000 * MS
    attempt_of(call).fail(asked(0.0))
    attempt_of(call).succeed(AnswerFacts())
    call.finish("ok")

    early = [told(node) for node in attempts_in(recorder)]
    assert early == [[], [], [(60.0, approx_seconds(60), 1)], [(60.0, approx_seconds(60), 1)], [], []]
    assert recorder.tree().attributes["traced_router.retry_after.violations"] == 2


def approx_seconds(seconds):
    return pytest.approx(seconds, abs=0.02)


@pytest.mark.parametrize(("lacking", "found"), [(10, 0), (12, 1)])
def test_a_hundredth_of_a_second_is_no_matter(tree, recorder, clock, lacking, found):
    call = tree.open_call(CallFacts("chat", "g"))
    attempt_of(call).fail(asked(1.0))
    clock.now += (1000 - lacking) * MS
    attempt_of(call).succeed(AnswerFacts())
    call.finish("ok")

    assert len(attempts_in(recorder)[1].events) == found


def test_who_is_unknown_runs_beside_or_comes_from_the_cache_is_not_too_early(tree, recorder):
    call = tree.open_call(CallFacts("chat", "g"))
    beside = object()
    first, second = (attempt_of(call, beside=beside) for _ in range(2))
    first.fail(asked(60.0))
    second.fail(asked(60.0))
    attempt_of(call).succeed(AnswerFacts(cost=0.0, cache_hit=True))
    for _ in range(2):
        attempt_of(call, None).fail(asked(60.0))
    call.finish("error", FailureFacts("Busy"))

    assert check_trace(recorder.spans()) == []

    assert [node.events for node in attempts_in(recorder)] == [()] * 5
    assert recorder.tree().attributes["traced_router.amplification"] == 4
    assert "traced_router.retry_after.violations" not in recorder.tree().attributes


def test_hops_go_round(tree, recorder):
    """The group that was asked for is a router of requests, and calls another."""
    call = tree.open_call(CallFacts("chat", "smart"))
    call.attempt(AttemptFacts(DeploymentFacts("a", "gpt"), "tier"), None).fail(FailureFacts("Boom"))
    for target, kind in (
        ("b", "default"),
        ("b", "order"),
        ("tier", "default"),
        ("smart", "default"),
        ("b", "weighted"),
    ):
        call.hop_failed(None, "Boom")
        call.hop(target, kind).fail("Boom")
    call.finish("error", FailureFacts("Boom"))

    hops = recorder.tree().children[1:]
    assert [told(hop) for hop in hops] == [[], [], [("tier", 3, 2)], [("smart", 4, 2)], [("b", 5, 2)]]
    assert recorder.tree().attributes["traced_router.fallback.cycles"] == 3


def test_a_request_of_no_group_goes_round_where_it_has_been(tree, recorder):
    call = tree.open_call(CallFacts("list_files"))
    for target in ("", "b", "b"):
        call.hop(target, "default").fail("Boom")
    call.finish("error", FailureFacts("Boom"))

    assert [len(hop.events) for hop in recorder.tree().children] == [0, 0, 1]


def test_amplification_is_of_a_group(tree, recorder):
    call = tree.open_call(CallFacts("chat", "g"))
    attempt_of(call).fail(FailureFacts("Boom"))
    attempt_of(call).fail(FailureFacts("Boom"))
    empty = call.hop("nobody", "model_group")
    empty.fail("Boom")
    other = call.hop("h", "model_group")
    call.attempt(AttemptFacts(DeploymentFacts("b", "gpt"), "h"), other).fail(FailureFacts("Boom"))
    other.fail("Boom")
    again = call.hop("g", "model_group")
    attempt_of(call, hop=again).succeed(AnswerFacts())
    again.returned()
    call.finish("ok")

    nodes = [recorder.tree(), *(node for node in recorder.tree().children if node.name.startswith("router.fallback"))]
    assert [node.attributes.get("traced_router.amplification") for node in nodes] == [3, None, None, 3]


# --- batches -----------------------------------------------------------------------------------


def test_a_batch_lasts_as_long_as_its_last_call(tree, recorder):
    batch = tree.open_batch("chat", ["a", "b"], 2)
    token = attach(batch.context)
    calls = [tree.open_call(CallFacts("chat", group)) for group in "ab"]
    detach(token)
    calls[0].finish("ok")
    batch.returned()
    assert [s.name for s in recorder.open_spans()] == ["router.batch a,b", "router.chat b"]
    calls[1].finish("cancelled")

    assert_tree(
        recorder,
        span(
            "router.batch a,b",
            attributes={"traced_router.batch.size": 2},
            children=[span("router.chat a"), span("router.chat b")],
        ),
    )


@pytest.mark.parametrize(
    ("error", "status", "said", "outcome"),
    [
        (ValueError("secret"), "ERROR", "ValueError", absent),
        (asyncio.CancelledError(), "UNSET", absent, "cancelled"),
        (GeneratorExit(), "UNSET", absent, "abandoned"),
    ],
)
def test_a_batch_that_fails_as_a_whole(tree, recorder, error, status, said, outcome):
    """One that was left before its members began has none, and says why."""
    tree.open_batch("chat", ["a"], 1).returned(error)

    attributes = {"error.type": said, "traced_router.outcome": outcome}
    assert_tree(recorder, span("router.batch a", status=status, attributes=attributes))
    assert check_trace(recorder.spans()) == []


def test_a_batch_that_was_destroyed_ends_once(tree, recorder):
    batch = tree.open_batch("chat", ["a"], 1)
    batch.returned(GeneratorExit())
    token = attach(batch.context)
    late = tree.open_call(CallFacts("chat", "a"))
    detach(token)
    late.finish("cancelled")

    assert [s.name for s in recorder.spans()] == ["router.batch a", "router.chat a"]


def test_a_call_that_is_over_does_not_wait(tree, recorder):
    call = tree.open_call(CallFacts("chat", "a"))
    call.finish("abandoned")
    call.backoff(1.0, "exponential", None, None)

    assert [s.name for s in recorder.spans()] == ["router.chat a"]
    assert recorder.open_spans() == []


@pytest.mark.parametrize("how", ["ok", "error", "cancelled", "abandoned"])
def test_a_call_that_an_exporter_makes_ends_with_its_attempts(tree, recorder, how):
    """It may hold a lock, so what is abandoned ends elsewhere; nothing stays open."""
    exporter: dict[str, Any] = {"__name__": "opentelemetry.sdk.anywhere"}
    exec("def within(function, *args, **kwargs):\n    function(*args, **kwargs)\n", exporter)  # noqa: S102  # of that module
    call = tree.open_call(CallFacts("chat", "a"))
    attempt = attempt_of(call)
    exporter["within"](attempt.left, cancelled=how == "cancelled")
    assert not attempt.done
    exporter["within"](call.finish, how, FailureFacts("ValueError") if how == "error" else None)

    recorder.wait_for_end(2)
    assert attempt.done


# --- what nobody records -----------------------------------------------------------------------


def test_what_is_not_sampled_hands_its_span_on_and_hides_the_call_around_it(guard, tree):
    unsampled = Recorder(sampler=ALWAYS_OFF)
    made = Tree(lambda: unsampled.provider.get_tracer("tests"), guard)
    around = tree.open_call(CallFacts("chat", "g"))
    inside = attempt_of(around).context
    for opened in (
        made.open_call(CallFacts("chat", "g"), context=inside),
        made.open_batch("chat", ["g"], 1, context=inside),
    ):
        assert type(opened) is Unrecorded
        assert frame_of(opened.context).call is None
        span_context = trace.get_current_span(opened.context).get_span_context()
        assert span_context.trace_id == around.span_context.trace_id
        assert not span_context.trace_flags.sampled
    around.finish("ok")

    assert unsampled.spans() == []


def test_a_call_that_a_strategy_wants_to_hear_of_is_followed_all_the_same(guard):
    unsampled = Recorder(sampler=ALWAYS_OFF)
    made = Tree(lambda: unsampled.provider.get_tracer("tests"), guard)
    listener = Listener()
    call = made.open_call(CallFacts("chat", "g"), follow=True)
    assert type(made.open_batch("chat", ["g"], 1, follow=True)) is Batch
    assert type(call) is Call
    assert not call.recording
    attempt_of(call, listener=listener).succeed(AnswerFacts(input_tokens=3))
    call.finish("ok")

    assert [end.answer.input_tokens for end in listener.heard] == [3]


# --- what fuzzing found ------------------------------------------------------------------------


def test_every_string_is_cut_at_the_limit(recorder, guard):
    """Names of classes and providers, and the strings of lists, too."""
    long, cut = "x" * 100, "x" * 64
    tree = Tree(lambda: recorder.provider.get_tracer("tests"), guard, limits=Limits(64))
    call = tree.open_call(CallFacts("chat", "g"))
    call.select("g", None).end(None, FailureFacts(long))
    failed = call.attempt(AttemptFacts(DeploymentFacts("a", "gpt", long), "g", {"gen_ai.request.stop": (long,)}), None)
    failed.fail(FailureFacts(long))
    call.hop_failed("g", long)
    hop = call.hop("h", "model_group")
    attempt_of(call, hop=hop).succeed(AnswerFacts(finish_reasons=(long, "stop")))
    hop.fail(long)
    call.finish("error", FailureFacts(long))

    error = {"error.type": cut}
    assert_tree(
        recorder,
        span(
            "router.chat g",
            attributes=error,
            children=[
                span("router.select g", attributes=error),
                span(
                    "chat gpt",
                    attributes={"gen_ai.provider.name": cut, "gen_ai.request.stop": (cut,), **error},
                ),
                span(
                    "router.fallback h",
                    attributes={"traced_router.fallback.error_type": cut, **error},
                    children=[span("chat gpt", attributes={"gen_ai.response.finish_reasons": (cut, "stop")})],
                ),
            ],
        ),
    )


def test_a_strategy_s_empty_facts_are_left_out(recorder, tree):
    call = tree.open_call(CallFacts("chat", "g"))
    call.select("g", None).end(DecisionFacts(reason="external", attributes={"": 1, "said": "", "known": 2}))
    call.finish("ok")

    (selection,) = recorder.tree().children
    assert {k: v for k, v in selection.attributes.items() if k.startswith("traced_router.strategy.")} == {
        "traced_router.strategy.known": 2
    }
