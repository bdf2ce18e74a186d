"""The script that measures what tracing costs: that it measures everything, and writes it down."""

import json

import pytest

from benchmarks import overhead
from benchmarks.overhead import CALLS, CONTENDERS, FLOORS, PLAIN, Plan


@pytest.mark.timeout(180)  # eight processes get ready
def test_a_run_measures_every_contender_and_writes_its_figures_and_a_plot(tmp_path, capsys, monkeypatch):
    plan = Plan(generations=1, compared=0.0, ended=0.0, rss_calls=20, rss_warm_up=20)
    monkeypatch.setattr(overhead, "QUICK", plan)
    monkeypatch.setattr(overhead, "READING", 0.0)
    overhead.main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "rounds by concurrency {1: 1, 20: 1}" in printed
    assert all(name in printed for name in CONTENDERS)
    written = json.loads((tmp_path / "overhead.json").read_text())
    assert {(f["contender"], f["concurrency"]) for f in written["figures"]} == {
        (n, c) for n in CONTENDERS for c in CALLS
    }
    assert all(f["cpu"]["value"] > 0 for f in written["figures"] if f["contender"] in {PLAIN, *FLOORS})
    assert set(written["ratios"]) == set(FLOORS)
    assert written["microseconds_per_chunk"]["value"] > 0
    assert "litellm" in written["versions"]
    assert (tmp_path / "overhead.png").stat().st_size > 0
