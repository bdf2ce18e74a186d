"""The script: what it prints and writes, and a user's own latencies."""

import json

import pytest

from benchmarks import strategies
from benchmarks.simulation import recorded
from benchmarks.simulation.contenders import BASELINES
from benchmarks.simulation.pick_cost import pick_costs
from benchmarks.simulation.runner import run

TINY = ["--quick", "--seeds", "1", "--contender", "plain random"]


def test_a_run_prints_a_table_and_writes_figures_and_plots(tmp_path, capsys):
    strategies.main(["--world", "W1", *TINY, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "W1  self-host" in printed
    assert "seeds 0-0; python" in printed
    figures = json.loads((tmp_path / "strategies.json").read_text())
    contenders = figures["worlds"]["W1"]["contenders"]
    assert set(contenders) == {"plain random", "oracle", "oracle-considerate"}
    assert contenders["oracle"]["p99_over_oracle"] == 1.0
    assert figures["seeds"] == [0]
    assert "litellm" in figures["versions"]
    assert (tmp_path / "strategies-W1.png").stat().st_size > 0


def test_a_users_strategy_joins(tmp_path, capsys):
    target = "tests_simulation_mine:Mine"
    (tmp_path / "tests_simulation_mine.py").write_text(
        "from benchmarks.simulation.baselines import LeastInFlight\n"
        "class Mine(LeastInFlight):\n"
        "    name = 'mine'\n"
        "    def __init__(self, *, clock, rng):\n"
        "        super().__init__(rng)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        arguments = ["--world", "W1", *TINY, "--strategy", target, "--no-plots", "--out", str(tmp_path)]
        strategies.main(arguments)
    assert "W1 p99 / oracle" in capsys.readouterr().out
    figures = json.loads((tmp_path / "strategies.json").read_text())
    assert set(figures["worlds"]["W1"]["contenders"]) == {"plain random", "mine", "oracle", "oracle-considerate"}


def test_an_unknown_world_is_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match="W5-shared"):
        strategies.main(["--world", "W99"])


CSV = "deployment,seconds,input_tokens,output_tokens\na,1.0,100,50\na,2.0,100,50\nb,8.0,1000,500\n"
JSONL = '{"deployment": "a", "seconds": 1.5}\n\n{"deployment": "b", "seconds": 3}\n'


def test_recorded_latencies_with_sizes_become_a_world(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(CSV)
    world = recorded.world(recorded.read(path), scale=0.1)
    assert [spec.id for spec in world.servers] == ["a", "b"]
    result = run(world, BASELINES[0], seed=0)
    assert result.recorder.ends == {"ok": result.calls}


def test_recorded_latencies_without_sizes_are_resampled_as_they_are(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(JSONL)
    result = run(recorded.world(recorded.read(path), scale=0.1), BASELINES[0], seed=0)
    assert {round(seconds, 6) for seconds in result.recorder.latencies} == {1.5, 3.0}


@pytest.mark.parametrize("text", ["deployment\na\n", "deployment,seconds\na,fast\n", "deployment,seconds\n"])
def test_a_bad_recording_says_what_was_expected(tmp_path, text):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected deployment,seconds"):
        recorded.read(path)


def test_pick_costs_are_measured_for_every_size():
    costs = pick_costs(BASELINES[:1], sizes=(2, 4))
    assert set(costs["plain random"]) == {2, 4}
    assert all(cost.pick > 0.0 and cost.cycle > 0.0 for cost in costs["plain random"].values())
