"""litellm's own code under virtual time: its strategy classes, and its whole router."""

import asyncio
import datetime as dt
import time

import pytest
from traced_router_strategies import LeastInFlight

from benchmarks.simulation import end_to_end, real_routers, virtual_loop
from benchmarks.simulation.contenders import litellm_builtins
from benchmarks.simulation.runner import run
from benchmarks.simulation.worlds import w1, w2, w3, w8

BUILTINS = {contender.name: contender for contender in litellm_builtins()}


@pytest.mark.parametrize("name", BUILTINS)
def test_every_builtin_conserves_calls(name):
    for world in (w1(0.02), w2(0.02), w3(0.01)):
        result = run(world, BUILTINS[name], seed=1)
        assert set(result.recorder.endings.values()) == {1}
        assert len(result.recorder.endings) == result.calls
        assert result.left_in_servers == 0


@pytest.mark.parametrize("name", BUILTINS)
def test_every_builtin_is_decided_by_the_seed(name):
    first, again = (run(w1(0.03), BUILTINS[name], seed=5) for _ in range(2))
    assert first.recorder.latencies == again.recorder.latencies


def test_least_busy_counts_back_to_nothing():
    assert run(w3(0.02), BUILTINS["litellm least-busy"], seed=0).left_in_strategy == 0


def test_least_busy_keeps_what_its_callers_cancelled():
    result = run(w8(0.02), BUILTINS["litellm least-busy"], seed=0)
    assert result.left_in_strategy is not None
    assert result.left_in_strategy > 0


def test_the_clocks_are_back_after_a_run():
    before = (time.time, dt.datetime)
    run(w1(0.01), BUILTINS["litellm latency"], seed=0)
    assert (time.time, dt.datetime) == before


def test_a_virtual_loop_sleeps_without_waiting():
    async def main(loop: virtual_loop.VirtualTimeLoop) -> list[float]:
        async def wake(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return loop.time()

        woken = await asyncio.gather(wake(3600.0), wake(10.0))
        inline = await loop.run_in_executor(None, lambda: loop.time() + 1.0)
        return [*woken, inline]

    assert virtual_loop.run(main) == pytest.approx([3600.0, 10.0, 3601.0])


def test_a_virtual_loop_takes_the_clocks_along():
    async def main(_: virtual_loop.VirtualTimeLoop) -> tuple[float, float, float]:
        moments = time.time(), time.monotonic(), dt.datetime.now(dt.UTC)
        await asyncio.sleep(90.0)
        later = time.time(), time.monotonic(), dt.datetime.now(dt.UTC)
        return later[0] - moments[0], later[1] - moments[1], (later[2] - moments[2]).total_seconds()

    assert virtual_loop.run(main) == pytest.approx((90.0, 90.0, 90.0))


def test_an_error_in_an_executor_reaches_whoever_awaits():
    async def main(loop: virtual_loop.VirtualTimeLoop) -> None:
        await loop.run_in_executor(None, int, "no number")

    with pytest.raises(ValueError, match="no number"):
        virtual_loop.run(main)


def test_tracing_changes_no_routing():
    world = w3(0.01)
    plain, traced = (
        end_to_end.play(world, make("least-busy"), seed=0)
        for make in (end_to_end.plain_router, real_routers.traced_builtin)
    )
    assert list(traced.recorder.latencies) == list(plain.recorder.latencies)
    assert list(traced.recorder.picks) == list(plain.recorder.picks)


def test_the_simulated_router_does_what_the_real_one_does():
    """least-busy leaves nothing to chance, so the two agree call for call."""
    world = w1(0.02)
    real = end_to_end.play(world, end_to_end.plain_router("least-busy"), seed=0)
    simulated = run(world, BUILTINS["litellm least-busy"], seed=0)
    assert real.left_in_servers == 0
    assert list(real.recorder.latencies) == pytest.approx(list(simulated.recorder.latencies))


def test_a_strategy_hears_of_virtual_durations():
    heard = []

    class Listening(LeastInFlight):
        def finished(self, ticket, outcome):
            super().finished(ticket, outcome)
            heard.append((outcome.finished_at - ticket.started_at, outcome.seconds))

    real_routers.play(w1(0.01), real_routers.traced_router(Listening), seed=0)
    assert len(heard) > 20
    assert sum(seconds for _, seconds in heard) > 20.0
    assert [seconds for _, seconds in heard] == pytest.approx([between for between, _ in heard])
