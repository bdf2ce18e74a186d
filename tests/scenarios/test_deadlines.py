"""Deadlines: over attempts, waits, fallbacks and streams, told to clients, and named when they are exceeded."""

import asyncio

import litellm
import openai
import pytest
from opentelemetry.trace import NoOpTracerProvider

from traced_router import ConfigurationError, Deadline, DeadlineExceeded, RetryPolicy, _countdown
from traced_router.strategy import Decision
from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Answer, Hang, RateLimited, ServerError, SlowFirstByte

MESSAGES = [{"role": "user", "content": "hi"}]
SOON = 0.4


@pytest.fixture(autouse=True, scope="module")
def _warm():
    """A first call takes what litellm and its clients take to be imported."""
    with FakeProvider() as provider:
        made = litellm.Router(model_list=[provider.deployment("dep-a")])
        made.completion(model="gpt-4o", messages=MESSAGES)
        made.text_completion(model="gpt-4o", prompt="hi")
        asyncio.run(_warm_asynchronous(made))
        (made.retire if hasattr(made, "retire") else made.discard)()


async def _warm_asynchronous(made):
    await made.acompletion(model="gpt-4o", messages=MESSAGES)
    for name in ("aresponses", "aembedding", "amoderation"):
        await getattr(made, name)(model="gpt-4o", input="hi")


class Clock:
    """Moves when somebody sleeps."""

    now = 100.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_countdown, "clock", made)
    return made


@pytest.fixture(params=["the client", "the timer"])
def ends(request, monkeypatch):
    """Who ends a call whose time is up, for certain; else it is whoever comes first."""
    if request.param == "the client":
        monkeypatch.setattr(_countdown, "_stepped", lambda seconds: seconds / 2)
        monkeypatch.setattr(_countdown, "_MARGIN", 0.7)
        return "Timeout"
    monkeypatch.setattr(_countdown.Countdown, "timeout", lambda _self: None)
    return "DeadlineExceeded"


class Highest:
    def uniform(self, _low, high):
        return high


SELECT = span("router.select gpt-4o")


def attempt(number, error=None, **attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        status="ERROR" if error else "UNSET",
        attributes={"traced_router.attempt.number": number, "error.type": error or absent, **attributes},
    )


# --- one attempt ---------------------------------------------------------------------------------


async def test_a_provider_that_hangs_is_left_in_time(provider, router, recorder, ends):
    provider.default("dep-a", Hang())

    with pytest.raises(litellm.Timeout) as failed:
        await router(provider.deployment("dep-a"), num_retries=3).acompletion("gpt-4o", MESSAGES, deadline=SOON)

    assert type(failed.value) is DeadlineExceeded
    assert (failed.value.seconds, failed.value.phase) == (pytest.approx(SOON), "total")
    assert type(failed.value.__cause__) is (litellm.Timeout if ends == "Timeout" else type(None))
    assert provider.hits() == 1
    assert "deadline" not in provider.requests[0].body
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "traced_router.deadline": SOON,
                "traced_router.deadline.first_chunk": absent,
                "error.type": "DeadlineExceeded",
                "traced_router.outcome": "error",
                "traced_router.attempts": 1,
            },
            children=[SELECT, attempt(1, ends, **{"traced_router.error.category": "timeout"})],
        ),
    )
    remaining = recorder.tree().children[1].attributes["traced_router.deadline.remaining"]
    assert 0.0 < remaining < SOON


@pytest.mark.parametrize("name", ["completion", "embedding", "text_completion"])
def test_a_synchronous_call_is_left_in_time_by_its_client(provider, router, recorder, name):
    provider.default("dep-a", Hang())
    asks = {"completion": {"messages": MESSAGES}, "embedding": {"input": ["hi"]}, "text_completion": {"prompt": "hi"}}

    with pytest.raises(DeadlineExceeded) as failed:
        getattr(router(provider.deployment("dep-a")), name)(model="gpt-4o", deadline=SOON, **asks[name])

    assert isinstance(failed.value.last_error, litellm.Timeout)
    assert provider.hits() == 1
    assert recorder.tree().attributes["error.type"] == "DeadlineExceeded"


@pytest.mark.parametrize("name", ["aresponses", "amoderation", "aembedding", "atext_completion"])
async def test_every_kind_of_call_has_a_deadline(provider, router, recorder, name):
    provider.default("dep-a", Hang())
    asks = {"prompt": "hi"} if name == "atext_completion" else {"input": "hi"}

    with pytest.raises(DeadlineExceeded):
        await getattr(router(provider.deployment("dep-a")), name)(model="gpt-4o", deadline=SOON, **asks)

    assert provider.hits() == 1
    assert recorder.tree().attributes["error.type"] == "DeadlineExceeded"


@pytest.mark.parametrize("name", ["acompletion", "aembedding"])
async def test_one_client_serves_many_calls(provider, router, monkeypatch, name):
    """litellm keeps clients by their timeout: exact ones would make a client, and a connection, for every call."""
    made = []
    init = openai.AsyncOpenAI.__init__

    def counted(self, *args, **kwargs):
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(openai.AsyncOpenAI, "__init__", counted)
    called = router(provider.deployment("dep-a"), deadline=59.0)
    asks = {"messages": MESSAGES} if name == "acompletion" else {"input": "hi"}

    for _ in range(5):
        await getattr(called, name)(model="gpt-4o", **asks)

    assert len(made) == 1


async def test_a_shorter_timeout_of_the_user_s_stays(provider, router, recorder):
    provider.default("dep-a", Hang())

    with pytest.raises(litellm.Timeout) as failed:
        await router(provider.deployment("dep-a", timeout=0.05)).acompletion("gpt-4o", MESSAGES, deadline=60)

    assert type(failed.value) is litellm.Timeout
    assert recorder.tree().attributes["error.type"] == "Timeout"


def test_the_shortest_timeout_of_a_group_stays_where_nobody_says_who_is_called(provider, router):
    provider.default("dep-a", Hang())
    made = router(
        provider.deployment("dep-a", timeout=0.05), provider.deployment("dep-b", group="claude", timeout=0.01)
    )

    with pytest.raises(litellm.Timeout) as failed:
        made.text_completion(model="gpt-4o", prompt="hi", deadline=60)

    assert type(failed.value) is litellm.Timeout
    provider.default("dep-a", Answer())
    made.text_completion(model="gpt-4o", prompt="hi", deadline=Deadline(first_chunk=60))


async def test_no_attempt_starts_when_there_is_no_time(provider, router, recorder):
    with pytest.raises(DeadlineExceeded) as failed:
        await router(provider.deployment("dep-a"), fallbacks=[{"gpt-4o": ["gpt-4o"]}]).acompletion(
            "gpt-4o", MESSAGES, deadline=0
        )

    assert failed.value.__cause__ is None
    assert provider.hits() == 0
    assert_tree(recorder, span("router.chat gpt-4o", status="ERROR", attributes={"traced_router.deadline": 0.0}))


async def test_no_attempt_starts_when_the_pick_took_all_the_time(provider, router, recorder, clock):
    class Slow:
        name = "slow"

        def pick(self, _request, candidates):
            clock.now += 10
            return Decision(candidates[0].id, "lowest_score")

        started = first_chunk = finished = lambda *_: None

    made = router(provider.deployment("dep-a"), routing_strategy=Slow(), num_retries=2)

    with pytest.raises(DeadlineExceeded):
        await made.acompletion("gpt-4o", MESSAGES, deadline=5)

    assert provider.hits() == 0
    assert_tree(recorder, span("router.chat gpt-4o", attributes={"traced_router.attempts": 0}, children=[SELECT]))


# --- waits and retries ---------------------------------------------------------------------------


async def test_litellm_does_not_wait_past_the_deadline(provider, router, recorder, waits, clock):
    provider.default("dep-a", RateLimited(retry_after=7))

    with pytest.raises(DeadlineExceeded) as failed:
        await router(provider.deployment("dep-a"), num_retries=3).acompletion("gpt-4o", MESSAGES, deadline=5)

    assert waits == []
    assert isinstance(failed.value.__cause__, litellm.RateLimitError)
    assert failed.value.last_error is failed.value.__cause__
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"error.type": "DeadlineExceeded"},
            children=[SELECT, attempt(1, "RateLimitError", **{"traced_router.deadline.remaining": 5.0})],
        ),
    )


async def test_without_a_retry_to_cut_short_the_error_is_the_provider_s(provider, router, waits, clock):
    """litellm waits after its last retry, too: that wait is left out."""
    provider.script("dep-a", [RateLimited(retry_after=1), RateLimited(retry_after=7)])

    with pytest.raises(litellm.RateLimitError):
        await router(provider.deployment("dep-a"), num_retries=1).acompletion("gpt-4o", MESSAGES, deadline=5)

    assert waits == [1.0]


@pytest.mark.parametrize("sync", [False, True])
def test_a_policy_does_not_wait_past_the_deadline(provider, router, recorder, clock, sync):
    provider.default("dep-a", ServerError())
    policy = RetryPolicy(attempts=9, base_wait=1.0, max_wait=1.0, rng=Highest(), sleep=clock.sleep)
    made = router(provider.deployment("dep-a"), retrying=policy, deadline=2.5)

    with pytest.raises(DeadlineExceeded) as failed:
        made.completion("gpt-4o", MESSAGES) if sync else asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert isinstance(failed.value.__cause__, litellm.InternalServerError)
    wait = span("router.backoff", attributes={"traced_router.backoff.seconds": 1.0})
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"error.type": "DeadlineExceeded", "traced_router.attempts": 3},
            children=[
                SELECT,
                attempt(1, "InternalServerError", **{"traced_router.deadline.remaining": 2.5}),
                wait,
                SELECT,
                attempt(2, "InternalServerError", **{"traced_router.deadline.remaining": 1.5}),
                wait,
                SELECT,
                attempt(3, "InternalServerError", **{"traced_router.deadline.remaining": 0.5}),
            ],
        ),
    )


# --- fallbacks -----------------------------------------------------------------------------------


async def test_a_fallback_gets_the_time_that_a_wait_would_have_taken(provider, router, recorder, waits, clock):
    provider.default("dep-a", RateLimited(retry_after=7))
    provider.default("dep-b", Answer())
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b", group="claude"),
        num_retries=3,
        fallbacks=[{"gpt-4o": ["claude"]}],
        deadline={"gpt-4o": 5, "claude": 1000},
    )

    await made.acompletion("gpt-4o", MESSAGES)

    assert waits == []
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="UNSET",
            attributes={"traced_router.outcome": "ok_after_fallback", "traced_router.deadline": 5.0},
            children=[
                SELECT,
                attempt(1, "RateLimitError"),
                span(
                    "router.fallback claude",
                    children=[
                        span("router.select claude"),
                        attempt(2, **{"traced_router.deadline.remaining": 5.0}),
                    ],
                ),
            ],
        ),
    )


async def test_no_fallback_starts_when_the_time_is_up(provider, router, recorder, ends):
    provider.default("dep-a", Hang())
    made = router(
        provider.deployment("dep-a"), provider.deployment("dep-b", group="claude"), fallbacks=[{"gpt-4o": ["claude"]}]
    )

    with pytest.raises(DeadlineExceeded):
        await made.acompletion("gpt-4o", MESSAGES, deadline=SOON)

    assert provider.hits("dep-b") == 0
    assert recorder.tree().attributes["traced_router.fallbacks"] == 0


async def test_an_earlier_error_of_a_provider_s_is_the_one_that_is_kept(provider, router, recorder, ends):
    provider.default("dep-a", ServerError())
    provider.default("dep-b", Hang())
    made = router(
        provider.deployment("dep-a"), provider.deployment("dep-b", group="claude"), fallbacks=[{"gpt-4o": ["claude"]}]
    )

    with pytest.raises(DeadlineExceeded) as failed:
        await made.acompletion("gpt-4o", MESSAGES, deadline=4 * SOON)  # two attempts, on a busy machine too

    assert isinstance(failed.value.last_error, litellm.InternalServerError)
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"error.type": "DeadlineExceeded"},
            children=[
                SELECT,
                attempt(1, "InternalServerError"),
                span(
                    "router.fallback claude",
                    status="ERROR",
                    children=[span("router.select claude"), attempt(2, ends)],
                ),
            ],
        ),
    )


# --- streams -------------------------------------------------------------------------------------


async def read(stream, into):
    async for chunk in stream:
        into.append(chunk.choices[0].delta.content or "")


async def test_a_stream_that_does_not_begin(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", SlowFirstByte(gate=gate))
    made = router(provider.deployment("dep-a"), deadline=Deadline(first_chunk=SOON, total=60))

    with pytest.raises(DeadlineExceeded) as failed:
        await read(await made.acompletion("gpt-4o", MESSAGES, stream=True), [])
    gate.open()

    assert (failed.value.phase, failed.value.seconds) == ("first_chunk", pytest.approx(SOON))
    assert str(failed.value) == "litellm.Timeout: no first chunk within the deadline of 0.4 s"
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            status="ERROR",
            attributes={
                "traced_router.deadline": 60.0,
                "traced_router.deadline.first_chunk": SOON,
                "error.type": "DeadlineExceeded",
            },
            children=[SELECT, attempt(1, "DeadlineExceeded", **{"traced_router.error.category": "timeout"})],
        ),
    )


async def test_a_stream_that_does_not_end(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    made = router(provider.deployment("dep-a"), deadline=Deadline(first_chunk=60, total=SOON))
    texts = []

    with pytest.raises(DeadlineExceeded) as failed:
        await read(await made.acompletion("gpt-4o", MESSAGES, stream=True), texts)
    gate.open()

    assert "".join(texts) == "a"
    assert failed.value.phase == "total"
    attributes = recorder.tree().attributes
    assert attributes["error.type"] == "DeadlineExceeded"
    assert attributes["traced_router.stream.outcome"] == "error"


async def test_a_stream_that_has_begun_may_take_longer_than_its_first_chunk(provider, router, recorder, clock):
    provider.default("dep-a", Answer("a b c"))
    texts = []
    stream = await router(provider.deployment("dep-a"), deadline=Deadline(first_chunk=2)).acompletion(
        "gpt-4o", MESSAGES, stream=True
    )
    async for chunk in stream:
        texts.append(chunk.choices[0].delta.content or "")
        clock.now += 10

    assert "".join(texts) == "a b c"
    assert recorder.tree().attributes["traced_router.outcome"] == "ok"


def test_a_synchronous_stream_is_not_read_past_its_deadline(provider, router, recorder, clock):
    provider.default("dep-a", Answer("a b c"))
    stream = router(provider.deployment("dep-a")).completion("gpt-4o", MESSAGES, stream=True, deadline=15)
    texts = []

    def reads():
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content or "")
            clock.now += 10

    with pytest.raises(DeadlineExceeded):
        reads()

    assert len(texts) == 2
    assert recorder.tree().attributes["traced_router.stream.outcome"] == "error"


def test_a_synchronous_stream_that_stops_is_left_by_its_client(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = router(provider.deployment("dep-a")).completion(
        "gpt-4o", MESSAGES, stream=True, deadline=Deadline(first_chunk=60, total=SOON)
    )

    with pytest.raises(DeadlineExceeded):
        list(stream)
    gate.open()

    assert recorder.tree().attributes["error.type"] == "DeadlineExceeded"


# --- where it is said, and who hears of it -------------------------------------------------------


async def test_a_call_s_own_deadline_comes_first(provider, router, recorder):
    provider.default("dep-a", Answer())
    made = router(provider.deployment("dep-a"), deadline=0)

    await made.acompletion("gpt-4o", MESSAGES, deadline=60)
    await made.acompletion("gpt-4o", MESSAGES, deadline=float("inf"))

    first, second = recorder.trees()
    assert first.attributes["traced_router.deadline"] == 60.0
    assert "traced_router.deadline.remaining" not in second.children[1].attributes


@pytest.mark.parametrize("keyword", [None, {"claude": 1}])
async def test_the_environment_says_it_too_and_a_keyword_beats_it(provider, router, recorder, monkeypatch, keyword):
    monkeypatch.setenv("TRACED_ROUTER_DEADLINE", '{"gpt-4o": {"total": 60}}')
    await router(provider.deployment("dep-a"), deadline=keyword).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().attributes.get("traced_router.deadline") == (60.0 if keyword is None else None)


async def test_seconds_in_the_environment_are_for_every_group(provider, router, recorder, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_DEADLINE", "60")
    await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().attributes["traced_router.deadline"] == 60.0


async def test_what_cannot_be_used_is_refused_before_anything_happens(provider, router, recorder):
    with pytest.raises(ConfigurationError, match=r"^deadline='soon': give seconds"):
        router(provider.deployment("dep-a"), deadline="soon")
    with pytest.raises(ConfigurationError, match=r"^deadline='soon': give seconds"):
        await router(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, deadline="soon")

    assert provider.hits() == 0
    assert recorder.traces() == []


async def test_a_strategy_hears_of_it_on_its_own_clock(provider, router, clock):
    heard = []

    class Listens:
        name = "listens"
        clock = staticmethod(lambda: 7000.0)

        def pick(self, request, candidates):
            heard.append(request.deadline)
            return Decision(candidates[0].id, "lowest_score")

        started = first_chunk = finished = lambda *_: None

    made = router(provider.deployment("dep-a"), routing_strategy=Listens())
    await made.acompletion("gpt-4o", MESSAGES, deadline=5)
    await made.acompletion("gpt-4o", MESSAGES)

    assert heard == [7005.0, None]


async def test_a_deadline_holds_where_nobody_records(provider, router, ends):
    provider.default("dep-a", Hang())
    made = router(provider.deployment("dep-a"), tracer_provider=NoOpTracerProvider())

    with pytest.raises(DeadlineExceeded):
        await made.acompletion("gpt-4o", MESSAGES, deadline=SOON)


async def test_members_of_a_batch_have_a_deadline_each(provider, router, recorder):
    provider.default("dep-a", Hang())
    provider.default("dep-b", Answer())
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b", group="claude"))

    late, answered = await made.abatch_completion(models=["gpt-4o", "claude"], messages=[MESSAGES[0]], deadline=SOON)

    assert type(late) is DeadlineExceeded
    assert type(answered) is litellm.ModelResponse


async def test_a_caller_who_leaves_before_the_deadline_is_a_caller_who_leaves(provider, router, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(hold_after_chunk=(0, gate)))
    made = router(provider.deployment("dep-a"))

    async def reads():
        await read(await made.acompletion("gpt-4o", MESSAGES, stream=True, deadline=60), [])

    reading = asyncio.ensure_future(reads())
    await gate.reached()
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open()

    assert recorder.tree().attributes["traced_router.outcome"] == "cancelled"
