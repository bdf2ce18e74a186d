import io
import json

import pytest

from traced_router.demo import main
from traced_router.demo._calls import STORIES
from traced_router.demo._draw import Ink


def test_the_demo_tells_every_story_in_plain_text_when_it_is_piped(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert main(["demo"]) == 0
    said = capsys.readouterr().out
    for story in STORIES:
        assert story.title in said
    assert "\x1b" not in said
    for outcome in ("ok_after_retry", "ok_after_fallback", "cancelled", "abandoned", "error", "cooldown!"):
        assert outcome in said


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
