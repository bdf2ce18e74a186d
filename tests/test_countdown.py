"""A deadline that runs down, on a clock that the test moves."""

import asyncio
import copy

import httpx
import litellm
import pytest

from traced_router import ConfigurationError, Deadline, DeadlineExceeded, TracedRouterError, _countdown
from traced_router import _litellm as seams
from traced_router._countdown import Countdown
from traced_router.deadline import deadline_of, deadlines_of


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_countdown, "clock", made)
    return made


def counting(deadline=None, *, streaming=False, blocking=False, **fields):
    return Countdown(deadline or Deadline(**fields), "gpt-4o", streaming=streaming, blocking=blocking)


# --- what is left --------------------------------------------------------------------------------


def test_time_runs_down(clock):
    countdown = counting(total=5)
    assert (countdown.remaining, countdown.expired) == (5.0, False)
    clock.now += 4
    assert countdown.remaining == 1.0
    assert 0.98 <= countdown.timeout() <= 1.0
    clock.now += 2
    assert (countdown.remaining, countdown.expired) == (0.0, True)
    assert 0.00098 <= countdown.timeout() <= 0.001  # some clients take 0 for no limit


def test_the_first_chunk_has_a_time_of_its_own(clock):
    countdown = counting(first_chunk=2, total=30, streaming=True)
    assert countdown.remaining == 2.0
    assert 29.4 <= countdown.timeout() <= 30.0  # a client cannot tell the first chunk from others; the timer does
    clock.now += 1.5
    countdown.first_chunk()
    assert countdown.remaining == 28.5


def test_where_no_timer_reaches_the_client_gets_the_nearest_deadline(clock):
    assert 1.96 <= counting(first_chunk=2, total=30, streaming=True, blocking=True).timeout() <= 2.0
    assert 0.98 <= counting(first_chunk=2, total=1, streaming=True, blocking=True).timeout() <= 1.0


def test_what_clients_are_told_comes_in_steps(clock):
    """litellm makes a client, with connections of its own, for each timeout."""
    told = set()
    for _ in range(10_000):
        clock.now += 0.0001
        told.add(counting(total=10 + clock.now % 1).timeout())

    assert len(told) <= 6


def test_without_a_stream_there_is_no_first_chunk(clock):
    countdown = counting(first_chunk=2)
    assert countdown.remaining is countdown.timeout() is None
    assert not countdown.refuses(1e9)
    countdown.check()


def test_an_endless_deadline_is_none(clock):
    assert counting(total=float("inf")).remaining is None


def test_a_wait_that_leaves_no_time_is_refused(clock):
    countdown = counting(total=5)
    assert not countdown.refuses(4.8)
    assert not countdown.cut_short
    assert countdown.refuses(4.9, retry=False)  # what it left would be no time for an attempt
    assert not countdown.cut_short
    assert countdown.refuses(5.0)
    assert countdown.cut_short


# --- what comes out ------------------------------------------------------------------------------


def test_nothing_starts_late(clock):
    countdown, last = counting(total=5), LookupError()
    countdown.check()
    countdown.failed(last)
    clock.now += 5

    with pytest.raises(DeadlineExceeded) as exceeded:
        countdown.check()

    error = exceeded.value
    assert (error.seconds, error.phase, error.last_error, error.__cause__) == (5.0, "total", last, last)
    assert str(error) == "litellm.Timeout: no answer within the deadline of 5 s; the last error was LookupError"
    assert (error.model, error.status_code) == ("gpt-4o", 408)
    assert isinstance(error, litellm.Timeout)
    assert isinstance(error, TracedRouterError)


def test_the_error_can_be_copied_and_pickled(clock):
    error = copy.copy(DeadlineExceeded(2.0, "first_chunk", None, None))

    assert (error.seconds, error.phase, error.last_error) == (2.0, "first_chunk", None)
    assert str(error) == "litellm.Timeout: no first chunk within the deadline of 2 s"


def test_the_last_part_is_too_late_to_start_anything(clock):
    countdown = counting(total=100)
    clock.now += 97
    countdown.check()
    clock.now += 0.5
    assert (countdown.too_late, countdown.expired) == (True, False)
    with pytest.raises(DeadlineExceeded):
        countdown.check()
    assert countdown.call(lambda: 7) == 7  # a stream that runs is read to the end of its time


def test_a_client_that_gives_up_in_the_last_part_does_so_for_the_deadline(clock):
    countdown, error = counting(total=100), litellm.Timeout("late", "gpt-4o", "openai")
    clock.now += 98

    def fails(error):
        raise error

    with pytest.raises(DeadlineExceeded) as exceeded:
        countdown.call(lambda: fails(error))
    assert exceeded.value.__cause__ is error
    with pytest.raises(LookupError):
        countdown.call(lambda: fails(LookupError()))


def test_a_failure_after_the_end_is_not_the_last_error(clock):
    countdown = counting(total=5)
    clock.now += 5
    countdown.failed(LookupError())
    assert countdown.last is None


def test_what_comes_in_time_stays_what_it_is(clock):
    countdown, error = counting(total=5), LookupError()

    def fails():
        raise error

    assert countdown.call(lambda: 7) == 7
    with pytest.raises(LookupError) as raised:
        countdown.call(fails)
    assert raised.value is error


def test_what_fails_late_failed_for_it(clock):
    countdown = counting(total=5)

    def fails():
        clock.now += 5
        raise LookupError

    with pytest.raises(DeadlineExceeded) as exceeded:
        countdown.call(fails)
    assert isinstance(exceeded.value.__cause__, LookupError)
    with pytest.raises(DeadlineExceeded):
        countdown.call(fails)


@pytest.mark.parametrize("over", [StopIteration, StopAsyncIteration])
async def test_the_end_of_a_stream_is_no_failure(clock, over):
    countdown = counting(total=5)

    def ends():
        clock.now += 5
        raise over

    with pytest.raises(over):
        countdown.call(ends)


async def test_an_answer_in_time(clock):
    async def answers():
        return 7

    assert await counting(total=5).within(answers()) == 7
    assert await counting(first_chunk=5).within(answers()) == 7


async def test_a_retry_cut_short_is_the_deadline_s_failure(clock):
    countdown, error = counting(total=5), LookupError()

    async def fails():
        countdown.failed(error)
        countdown.refuses(7)
        raise error

    with pytest.raises(DeadlineExceeded) as exceeded:
        await countdown.within(fails())
    assert exceeded.value.__cause__ is error


async def test_the_timer_ends_what_hangs(clock):
    clock.now += 0
    countdown = counting(total=0)

    with pytest.raises(DeadlineExceeded) as exceeded:
        await countdown.within(asyncio.Event().wait())

    assert countdown.struck
    assert exceeded.value.last_error is exceeded.value.__cause__ is None


async def test_an_error_of_its_own_is_raised_as_it_is(clock):
    countdown = counting(total=0)

    async def late():
        countdown.check()

    with pytest.raises(DeadlineExceeded) as exceeded:
        await countdown.within(late())
    assert exceeded.value.__cause__ is None


async def test_a_timeout_of_somebody_else_s_is_theirs(clock):
    async def times_out():
        raise TimeoutError

    with pytest.raises(TimeoutError) as raised:
        await counting(total=5).within(times_out())
    assert type(raised.value) is TimeoutError


# --- what can be given ---------------------------------------------------------------------------


def test_a_deadline_is_given_in_many_forms():
    assert deadline_of(3) == Deadline(total=3.0)
    assert deadline_of(Deadline(first_chunk=1)) == Deadline(first_chunk=1)
    assert deadline_of({"total": 30, "first_chunk": 2}) == Deadline(total=30, first_chunk=2)
    assert deadline_of(None) is None
    assert deadlines_of(None) == {}
    assert deadlines_of(3) == {"*": Deadline(total=3.0)}
    assert deadlines_of({"total": 3}) == {"*": Deadline(total=3)}
    assert deadlines_of({"gpt-4o": 3, "*": {"first_chunk": 1}, "slow": None}) == {
        "gpt-4o": Deadline(total=3.0),
        "*": Deadline(first_chunk=1),
        "slow": None,
    }


@pytest.mark.parametrize("given", ["soon", True, float("nan"), {"gpt-4o": "soon"}, {"total": "soon"}, {}, [3]])
def test_what_is_no_deadline_is_refused(given):
    with pytest.raises(ConfigurationError):
        deadlines_of(given)


# --- what a client is told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, 3.0),
        (10, 3.0),
        (2, 2.0),
        ("1.5", 1.5),
        ("a while", 3.0),
        (httpx.Timeout(10, connect=1), httpx.Timeout(3, connect=1)),
        (httpx.Timeout(None, read=2), httpx.Timeout(3, read=2)),
    ],
)
def test_what_is_left_is_the_longest_timeout(given, told):
    kwargs = {"timeout": given}
    seams.limit_timeout(kwargs, 3.0)
    assert kwargs == {"timeout": told}
