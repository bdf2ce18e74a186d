import threading
from collections.abc import Iterator

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.export import Metric
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, set_span_in_context

from traced_router.testing import Event, Node, Point, Recorder
from traced_router.testing._recorder import _point, node_of


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def names(spans: list[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def test_finished_spans_come_in_the_order_in_which_they_ended(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        assert recorder.spans() == []
        assert names(recorder.open_spans()) == ["outer", "inner"]
    assert names(recorder.spans()) == ["inner", "outer"]
    assert recorder.open_spans() == []
    assert recorder.ended_twice() == []


def test_a_second_end_is_seen_and_changes_nothing(recorder: Recorder, caplog: pytest.LogCaptureFixture):
    span = recorder.provider.get_tracer("t").start_span("twice")
    span.end(5)
    span.end(6)
    span.end(7)
    assert recorder.ended_twice() == ["twice", "twice"]
    assert [one.end_time for one in recorder.spans()] == [5]
    assert len(caplog.records) == 2  # the SDK's own warning


def test_traces_are_grouped_in_start_order_and_leave_out_open_spans(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    a = tracer.start_span("a")
    b = tracer.start_span("b")
    below_a = tracer.start_span("below a", set_span_in_context(a))
    tracer.start_span("open", set_span_in_context(a))
    for span in (below_a, b, a):
        span.end()
    assert [names(trace) for trace in recorder.traces()] == [["a", "below a"], ["b"]]


def test_a_tree_holds_everything_of_its_spans(recorder: Recorder):
    tracer = recorder.provider.get_tracer("scope")
    context = SpanContext(7, 8, is_remote=False)
    root = tracer.start_span("root", kind=SpanKind.SERVER, start_time=1, links=[Link(context, {"why": "x"})])
    below = set_span_in_context(root)
    late = tracer.start_span("late", below, start_time=20)
    first = tracer.start_span("first", below, start_time=10, attributes={"numbers": [1, 2]})
    second = tracer.start_span("second", below, start_time=10)
    first.add_event("said", {"n": 1}, 11)
    first.set_status(Status(StatusCode.ERROR, "Boom"))
    for span in (second, first, late, root):
        span.end(2_000_000_020)
    tree = recorder.tree()
    assert [node.name for node in tree.walk()] == ["root", "first", "second", "late"]
    assert (tree.kind, tree.status, tree.scope, tree.parent_id) == ("SERVER", "UNSET", "scope", None)
    assert [(link.trace_id, link.span_id, link.attributes) for link in tree.links] == [(7, 8, {"why": "x"})]
    node = tree.children[0]
    assert (node.status, node.status_description, node.parent_id) == ("ERROR", "Boom", tree.span_id)
    assert node.attributes == {"numbers": (1, 2)}
    assert node.events == (Event("said", {"n": 1}, 11),)
    assert node.trace_id == tree.trace_id == root.get_span_context().trace_id
    assert (node.start_ns, node.end_ns, node.seconds) == (10, 2_000_000_020, 2.00000001)
    assert tree.find("late") == (tree.children[2],)


def test_a_node_cannot_be_changed(recorder: Recorder):
    recorder.provider.get_tracer("t").start_span("a", attributes={"k": 1}).end()
    node = recorder.tree()
    with pytest.raises(AttributeError):
        node.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        node.attributes["k"] = 2  # type: ignore[index]
    assert len({node, node}) == 1


def test_open_spans_are_in_the_tree(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    root = tracer.start_span("root")
    tracer.start_span("child", set_span_in_context(root)).end()
    tree = recorder.tree()
    assert (tree.end_ns, tree.seconds) == (None, None)
    assert tree.children[0].end_ns is not None
    root.end()
    assert recorder.tree().end_ns is not None


def test_a_span_of_a_remote_caller_is_a_root_that_keeps_its_parent_id(recorder: Recorder):
    remote = set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True)))
    recorder.provider.get_tracer("t").start_span("here", remote).end()
    assert (recorder.tree().parent_id, recorder.tree().trace_id) == (2, 1)


def test_tree_wants_exactly_one(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    with pytest.raises(AssertionError, match="expected one root span, recorded 0: none"):
        recorder.tree()
    tracer.start_span("a").end()
    tracer.start_span("b").end()
    with pytest.raises(AssertionError, match="expected one root span, recorded 2: 'a', 'b'"):
        recorder.tree()
    assert [tree.name for tree in recorder.trees()] == ["a", "b"]


def test_clear_forgets_spans_that_are_still_open(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    tracer.start_span("done").end()
    lasting = tracer.start_span("open")
    recorder.clear()
    lasting.end()
    assert recorder.spans() == recorder.open_spans() == recorder.ended_twice() == []
    assert recorder.trees() == ()


def test_the_sampler_is_the_callers():
    recorder = Recorder(ALWAYS_OFF)
    recorder.provider.get_tracer("t").start_span("a").end()
    assert recorder.trees() == ()


def test_waiting_for_spans_of_another_thread(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    waiting = threading.Event()

    def work() -> None:
        waiting.wait(5)
        tracer.start_span("a").end()
        tracer.start_span("b").end()

    thread = threading.Thread(target=work)
    thread.start()
    waiting.set()
    assert names(recorder.wait_for_end(2, timeout=5)) == ["a", "b"]
    thread.join()
    assert names(recorder.wait_for_end(2, timeout=0)) == ["a", "b"]


def test_waiting_in_vain_says_what_is_open(recorder: Recorder):
    tracer = recorder.provider.get_tracer("t")
    with pytest.raises(TimeoutError, match=r"0 of 1 spans ended within 0 s; still open: none"):
        recorder.wait_for_end(1, timeout=0)
    tracer.start_span("a")
    tracer.start_span("b").end()
    with pytest.raises(TimeoutError, match=r"1 of 2 spans ended within 0 s; still open: 'a'"):
        recorder.wait_for_end(2, timeout=0)


def test_a_span_without_a_context_is_a_node_all_the_same():
    node = node_of(ReadableSpan("bare"))
    assert (node.trace_id, node.span_id, node.scope, node.start_ns, node.end_ns) == (0, 0, "", 0, None)
    assert isinstance(node, Node)


# --- metrics ---------------------------------------------------------------------------------


def test_metrics_of_every_kind(recorder: Recorder):
    meter = recorder.meter_provider.get_meter("m")
    counter = meter.create_counter("calls", "{call}")
    level = meter.create_up_down_counter("level")
    duration = meter.create_histogram("duration", "s", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    assert recorder.metrics() == {}
    counter.add(2, {"k": "a"})
    counter.add(3, {"k": "b"})
    level.add(4)
    duration.record(0.5, {"k": "a"})
    duration.record(3.0, {"k": "a"})
    assert recorder.metrics() == {
        "calls": [Point({"k": "a"}, "{call}", value=2), Point({"k": "b"}, "{call}", value=3)],
        "level": [Point({}, "", value=4)],
        "duration": [
            Point({"k": "a"}, "s", count=2, sum=3.5, min=0.5, max=3.0, bounds=(1.0, 2.0), bucket_counts=(1, 0, 1))
        ],
    }


def test_metrics_add_up_however_often_they_are_read(recorder: Recorder):
    meter = recorder.meter_provider.get_meter("m")
    counter = meter.create_counter("calls")
    level = meter.create_up_down_counter("level")
    duration = meter.create_histogram("duration", explicit_bucket_boundaries_advisory=[1.0])
    for value in (3, 1, 2):
        counter.add(value)
        level.add(value)
        duration.record(value)
        recorder.metrics()
    assert recorder.metrics() == {
        "calls": [Point({}, "", value=6)],
        "level": [Point({}, "", value=6)],
        "duration": [Point({}, "", count=3, sum=6, min=1, max=3, bounds=(1.0,), bucket_counts=(1, 2))],
    }


def test_clear_forgets_what_was_counted_and_keeps_levels(recorder: Recorder):
    meter = recorder.meter_provider.get_meter("m")
    counter = meter.create_counter("calls")
    level = meter.create_up_down_counter("level")
    counter.add(1)
    level.add(5)
    recorder.clear()
    level.add(-2)
    counter.add(7)
    assert recorder.metrics() == {"calls": [Point({}, "", value=7)], "level": [Point({}, "", value=3)]}


def test_a_gauge_shows_its_last_value(recorder: Recorder):
    readings = iter([1.0, 2.0])

    def read(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(next(readings))

    recorder.meter_provider.get_meter("m").create_observable_gauge("heat", [read])
    recorder.metrics()
    assert recorder.metrics() == {"heat": [Point({}, "", value=2.0)]}


def test_an_unknown_kind_of_point_is_refused():
    metric = Metric("odd", None, None, data=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metric 'odd' has a str; only numbers and explicit buckets are known"):
        _point(metric, "exponential")
