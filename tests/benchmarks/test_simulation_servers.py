"""Processor sharing, gates and caches against textbook answers."""

import math
from collections.abc import Sequence
from random import Random

import pytest

from benchmarks.simulation.gates import Failing, MinuteQuota, TokenBucket
from benchmarks.simulation.loop import EventLoop
from benchmarks.simulation.servers import Job, PrefixCache, Server, Standard
from benchmarks.simulation.workload import Call


class Seconds:
    """A call's work is its output tokens, in seconds; a tenth of it comes before the first chunk."""

    def work(self, call: Call, cached: int) -> tuple[float, float]:
        return 0.1 * call.output_tokens, float(call.output_tokens) - cached


def call(
    seconds: int, *, at: float = 0.0, session: str | None = None, tokens: int = 100, reads: float | None = None
) -> Call:
    return Call(0, at, tokens, seconds, 1.0, tokens, 0.0, session=session, stream=reads is not None, reads=reads)


def serve(server: Server, loop: EventLoop, jobs: Sequence[tuple[float, int]]) -> list[float]:
    """When jobs of ``(arrival, seconds of work)`` end, in their order."""
    ends = [math.nan] * len(jobs)

    def submit(index: int) -> None:
        job = Job(call(jobs[index][1]), index, None, done)
        server.submit(job)

    def done(job: Job) -> None:
        index = job.owner
        assert isinstance(index, int)
        ends[index] = loop.now

    for index, (at, _) in enumerate(jobs):
        loop.at(at, submit, index)
    loop.run()
    return ends


def shared(loop: EventLoop, capacity: float = 1.0, speed: float = 1.0) -> Server:
    return Server(loop, "d", speed=speed, capacity=capacity, service=Seconds())


def test_two_jobs_share_a_server_of_one():
    loop = EventLoop()
    # Both at half rate until the short one has had its 1 s at t = 2; the long one has 1 s left, alone.
    assert serve(shared(loop), loop, [(0.0, 2), (0.0, 1)]) == pytest.approx([3.0, 2.0])


def test_a_late_arrival_slows_the_one_in_service():
    loop = EventLoop()
    # A alone for 1 s, then both at half rate: B (1 s) ends at 3, when A has 3 - 1 - 1 = 1 s left.
    assert serve(shared(loop), loop, [(0.0, 3), (1.0, 1)]) == pytest.approx([4.0, 3.0])


def test_below_its_batch_capacity_a_server_does_not_share():
    loop = EventLoop()
    assert serve(shared(loop, capacity=2.0), loop, [(0.0, 2), (0.0, 1)]) == pytest.approx([2.0, 1.0])


def test_beyond_its_capacity_each_gets_capacity_over_n():
    loop = EventLoop()
    assert serve(shared(loop, capacity=2.0), loop, [(0.0, 2)] * 4) == pytest.approx([4.0] * 4)


def test_an_api_without_a_queue_never_shares():
    loop = EventLoop()
    assert serve(shared(loop, capacity=math.inf, speed=2.0), loop, [(0.0, 3)] * 9) == pytest.approx([6.0] * 9)


def test_turning_slow_stretches_what_is_left_of_calls_in_service():
    loop = EventLoop()
    server = shared(loop)
    loop.at(1.0, server.slow, 2.0)
    loop.at(3.0, server.slow, 1.0)
    # 1 s done by t = 1, one more by t = 3, the last two at full speed.
    assert serve(server, loop, [(0.0, 4)]) == pytest.approx([5.0])


def test_a_cancelled_job_gives_its_share_back():
    loop = EventLoop()
    server = shared(loop)
    job = Job(call(2), None, None, lambda _: pytest.fail("a cancelled job is not done"))
    loop.at(0.0, server.submit, job)
    loop.at(1.0, server.cancel, job)
    # Half a second done by t = 1, the rest alone.
    assert serve(server, loop, [(0.0, 2)]) == pytest.approx([2.5])
    assert server.inflight == 0


def reference(jobs: Sequence[tuple[float, int]], capacity: float) -> list[float]:
    """Processor sharing the slow way: between events, take each job's share off what it has left."""
    left = [float(seconds) for _, seconds in jobs]
    ends = [math.nan] * len(jobs)
    now = 0.0
    while any(math.isnan(end) for end in ends):
        inside = [i for i, (at, _) in enumerate(jobs) if at <= now and math.isnan(ends[i])]
        rate = min(1.0, capacity / len(inside)) if inside else 0.0
        arrivals = [at - now for at, _ in jobs if at > now]
        step = min([left[i] / rate for i in inside] + arrivals)
        for i in inside:
            left[i] -= step * rate
            if left[i] < 1e-9:
                ends[i] = now + step
        now += step
    return ends


@pytest.mark.parametrize("seed", range(20))
def test_any_load_ends_as_the_slow_way_says(seed):
    rng = Random(seed)
    jobs = [(round(rng.uniform(0.0, 20.0), 3), rng.randint(1, 8)) for _ in range(30)]
    capacity = float(rng.randint(1, 5))
    loop = EventLoop()
    server = shared(loop, capacity)
    assert serve(server, loop, jobs) == pytest.approx(reference(jobs, capacity))
    assert server.inflight == 0


def test_the_first_chunk_comes_after_the_first_part_of_the_work():
    loop = EventLoop()
    server = shared(loop)
    seen: list[tuple[str, float]] = []
    server.submit(
        Job(call(10), None, lambda _: seen.append(("first", loop.now)), lambda _: seen.append(("end", loop.now)))
    )
    loop.run()
    assert seen == [("first", pytest.approx(1.0)), ("end", pytest.approx(10.0))]


def test_a_reader_who_breaks_off_ends_the_work_early():
    loop = EventLoop()
    ends: list[float] = []
    shared(loop).submit(Job(call(10, reads=0.5), None, None, lambda _: ends.append(loop.now)))
    loop.run()
    assert ends == [pytest.approx(1.0 + 0.5 * 9.0)]


def test_standard_work_is_the_formula_of_the_workloads():
    first, total = Standard().work(Call(0, 0.0, 1000, 100, 2.0, 1000, 0.0), 400)
    assert first == pytest.approx(2.0 * (0.25 + 0.00015 * 600))
    assert total == pytest.approx(2.0 * (0.25 + 0.00015 * 600 + 0.012 * 100))


def test_a_prefix_cache_forgets_the_least_recently_used():
    cache = PrefixCache(2, share=0.9)
    first, second, third = (call(1, session=name) for name in "abc")
    assert [cache.use(one) for one in (first, second, first, third)] == [0, 0, 90, 0]
    assert (cache.peek(first), cache.peek(second)) == (90, 0)


def test_a_token_bucket_refuses_until_it_has_refilled():
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.refuse(0.0) for _ in range(3)] == [None] * 3
    refusal = bucket.refuse(0.0)
    assert refusal is not None
    assert (refusal.status, refusal.status_code, refusal.retry_after) == ("rate_limited", 429, pytest.approx(0.5))
    assert (bucket.open(0.4), bucket.open(0.5)) == (0.0, 1.0)
    assert bucket.refuse(0.5) is None


def test_a_minute_quota_comes_back_when_the_minute_turns():
    quota = MinuteQuota(2)
    assert [quota.refuse(50.0) is None for _ in range(3)] == [True, True, False]
    refusal = quota.refuse(50.0)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(10.0)
    assert quota.refuse(60.0) is None


def test_a_failing_server_fails_as_often_as_it_should_and_only_while_it_is_on():
    gate = Failing(0.3, Random(1), windows=[(10.0, 20.0)])
    assert all(gate.refuse(5.0) is None for _ in range(100))
    failed = sum(gate.refuse(15.0) is not None for _ in range(10_000))
    assert failed == pytest.approx(3000, abs=150)  # three standard deviations are 137


def test_a_failure_half_way_takes_room_until_it_is_told():
    loop = EventLoop()
    server = Server(loop, "d", gates=[Failing(1.0, Random(3), half_way=True)], service=Seconds())
    job = Job(call(10), None, None, lambda _: None)
    server.submit(job)
    assert server.inflight == 1
    loop.run()
    assert server.inflight == 0
    assert (job.status, job.status_code) == ("error", 500)
    assert 0.0 < loop.now < 10.0
