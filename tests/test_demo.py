import io
import json
import runpy
import sys
from types import ModuleType

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from traced_router import demo
from traced_router._facts import AnswerFacts, AttemptFacts, CallFacts, DeploymentFacts, FailureFacts
from traced_router._guard import Guard
from traced_router._tree import Tree
from traced_router.demo import main
from traced_router.demo._calls import STORIES
from traced_router.demo._draw import Ink, draw
from traced_router.demo._run import _export_too
from traced_router.testing import Recorder


def test_the_demo_tells_every_story_in_plain_text_when_it_is_piped(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert main(["demo"]) == 0
    said = capsys.readouterr().out
    for story in STORIES:
        assert story.title in said
    assert "\x1b" not in said
    for outcome in ("ok_after_retry", "ok_after_fallback", "cancelled", "abandoned", "error", "cooldown!"):
        assert outcome in said
    assert "mini-a  initial  primary lost  cancelled" in said
    assert "mini-b  initial  hedge won" in said


def test_the_demo_prints_its_spans_as_json(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--json"]) == 0
    spans = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"router.chat gpt-4o", "router.backoff", "router.batch gpt-4o-mini,long-context"} <= {
        s["name"] for s in spans
    }


def test_a_terminal_gets_colours_and_a_pipe_none():
    assert Ink(on=True).bad("x") == "\x1b[31mx\x1b[0m"
    assert Ink(on=False).bad("x") == "x"
    assert io.StringIO().isatty() is False


def test_a_storm_is_drawn_in_red():
    recorder = Recorder()
    call = Tree(lambda: recorder.provider.get_tracer("tests"), Guard(NoOpMeterProvider)).open_call(
        CallFacts("chat", "g")
    )
    for _ in range(2):
        call.attempt(AttemptFacts(DeploymentFacts("a", "gpt")), None).fail(FailureFacts("Busy", retry_after=60.0))
    call.hop_failed("g", "Busy")
    call.hop("g", "default").fail("Busy")
    call.finish("error", FailureFacts("Busy"))
    *_, attempt, hop = draw(recorder.spans(), Ink(on=True))

    assert attempt.endswith("\x1b[31mtoo early!\x1b[0m")
    assert hop.endswith("after Busy  \x1b[31min a circle!\x1b[0m")


def test_an_answer_of_the_cache_is_drawn_as_one():
    recorder = Recorder()
    call = Tree(lambda: recorder.provider.get_tracer("tests"), Guard(NoOpMeterProvider)).open_call(
        CallFacts("chat", "g")
    )
    call.attempt(AttemptFacts(DeploymentFacts("a", "gpt")), None).succeed(
        AnswerFacts(input_tokens=3, cost=0.0, cache_hit=True)
    )
    call.finish("ok")
    _, line = draw(recorder.spans(), Ink(on=False))

    assert line.startswith("└─ chat gpt")
    assert line.endswith("  a  initial  cache hit  3 + 0 tokens  $0.000000")


EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_traces_go_to_an_endpoint_that_is_set_too(monkeypatch, variable):
    exported = InMemorySpanExporter()
    module = ModuleType(EXPORTER)
    vars(module)["OTLPSpanExporter"] = lambda: exported
    monkeypatch.setitem(sys.modules, EXPORTER, module)
    monkeypatch.setenv(variable, "http://there:4318")
    tracing = TracerProvider(shutdown_on_exit=False)
    said = _export_too(tracing)
    with tracing.get_tracer("tests").start_as_current_span("one"):
        pass
    tracing.force_flush()

    assert said == "These traces were exported to http://there:4318."
    assert [span.name for span in exported.get_finished_spans()] == ["one"]
    tracing.shutdown()


def test_an_exporter_that_is_not_installed_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://there:4318")

    assert "pip install 'traced-router[otlp]'" in _export_too(TracerProvider(shutdown_on_exit=False))


def test_the_module_runs_too(monkeypatch):
    monkeypatch.setattr(demo, "main", lambda: 3)
    with pytest.raises(SystemExit) as left:
        runpy.run_module("traced_router.demo", run_name="__main__")

    assert left.value.code == 3
