"""The time line of a call: the wall clock is read once, and a monotonic clock moves it on."""

import pytest

from traced_router import _timeline
from traced_router._timeline import Timeline

WALL = 1_700_000_000_000_000_000


@pytest.fixture
def clocks(monkeypatch):
    """Lets the two clocks be read together, with these pauses around each reading of the wall clock."""

    def set_to(*pauses):
        monotonic = iter([t for i, pause in enumerate(pauses) for t in (i * 10**9, i * 10**9 + pause)])
        walls = iter(range(WALL, WALL + len(pauses)))
        monkeypatch.setattr(_timeline.time, "perf_counter_ns", lambda: next(monotonic))
        monkeypatch.setattr(_timeline.time, "time_ns", lambda: next(walls))

    return set_to


def test_a_wall_clock_that_jumps_is_not_seen():
    monotonic = 40
    line = Timeline(lambda: monotonic, lambda: (WALL, 40))
    assert line.now() == WALL
    monotonic = 43
    assert line.now() == WALL + 3


@pytest.mark.parametrize(
    ("pauses", "reading"),
    [
        ([49_999], 0),  # together
        ([50_000, 10], 1),  # somebody else's turn came in between: once more
        ([10**6, 10**6, 10**6], 2),  # a machine as busy as that gets no fourth
    ],
)
def test_the_clocks_are_read_together(clocks, pauses, reading):
    clocks(*pauses)
    line = Timeline(lambda: reading * 10**9 + pauses[reading])

    assert line.now() == WALL + reading
