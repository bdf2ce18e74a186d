"""When a second attempt is sent, who wins, and what becomes of the one that lost: without litellm around it."""

import asyncio
import contextlib
import gc
import weakref

import litellm
import pytest
from opentelemetry.metrics import NoOpMeterProvider

from traced_router import ConfigurationError, HedgePolicy, _hedging, last_request
from traced_router import _litellm as seams
from traced_router._facts import AnswerFacts, AttemptFacts, CallFacts, DeploymentFacts
from traced_router._followers import AttemptFollower
from traced_router._guard import Guard
from traced_router._hedging import Hedging
from traced_router._repeatable import is_repeatable
from traced_router._streams import ReadAhead, give_up
from traced_router._tree import Tree
from traced_router._windows import Windows
from traced_router.hedging import hedge_of, hedges_of
from traced_router.testing import Recorder

# --- what can be asked for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        (None, None),
        (False, None),
        (True, HedgePolicy()),
        (2, HedgePolicy(delay=2)),
        ({"delay": 0.5, "ratio": 0.2}, HedgePolicy(delay=0.5, ratio=0.2)),
        (HedgePolicy(quantile=0.9), HedgePolicy(quantile=0.9)),
    ],
)
def test_what_a_group_can_be_given(given, policy):
    assert hedge_of(given) == policy
    assert hedges_of({"g": given}) == {"g": policy}
    assert hedges_of(given) == ({} if policy is None else {"*": policy})


def test_no_groups():
    assert hedges_of({}) == {}


@pytest.mark.parametrize("given", ["1", -1, float("nan"), float("inf"), {"delay": 1, "budget": 2}, {}, [1]])
def test_what_it_cannot(given):
    with pytest.raises(ConfigurationError):
        hedge_of(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"delay": -1},
        {"delay": "1"},
        {"delay": True},
        {"ratio": -0.1},
        {"ratio": None},
        {"per_second": float("inf")},
        {"quantile": 0},
        {"quantile": 1.0},
        {"warmup": 0},
        {"warmup": 1.5},
    ],
)
def test_values_that_cannot_be(fields):
    with pytest.raises(ConfigurationError, match=f"{next(iter(fields))}="):
        HedgePolicy(**fields)


# --- what may happen twice -----------------------------------------------------------------------


def aresponses():
    """An endpoint's provider function."""


def adelete_responses():
    """Another one."""


class Router:
    """One with a deployment that has a name."""

    model_id_to_deployment_index_map = ("dep-a",)
    model_names = ()


FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("function", "kwargs", "repeatable"),
    [
        ("_acompletion", {}, True),
        ("_acompletion", {"tools": [FUNCTION, {"type": "custom"}]}, True),
        ("_acompletion", {"tools": [{"name": "f", "input_schema": {}}, {"functionDeclarations": []}]}, True),
        ("_acompletion", {"tools": 5}, True),
        ("_acompletion", {"tools": [FUNCTION, {"type": "web_search"}]}, False),
        ("_acompletion", {"tools": [{"googleSearch": {}}]}, False),
        ("_acompletion", {"tools": ["f"]}, False),
        ("_acompletion", {"mcp_servers": [{"url": "https://example.com"}]}, False),
        ("_acompletion", {"store": True}, False),
        ("_acompletion", {"container": "c"}, False),
        ("_acompletion", {"specific_deployment": True}, False),
        ("_acompletion", {"model": "dep-a"}, False),
        ("_completion", {}, False),
        ("_aimage_generation", {}, False),
        ("anything", {"original_generic_function": aresponses, "store": False}, True),
        ("anything", {"original_generic_function": aresponses}, False),
        ("anything", {"original_generic_function": aresponses, "store": False, "background": True}, False),
        ("anything", {"original_generic_function": aresponses, "store": False, "conversation": "c"}, False),
        ("_acompletion", {"original_generic_function": adelete_responses}, False),
    ],
)
def test_what_may_happen_twice(function, kwargs, repeatable):
    assert is_repeatable(Router(), function, {"model": "g", **kwargs}) is repeatable


# --- what a router knows -------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def call(recorder):
    made = Tree(lambda: recorder.provider.get_tracer("test"), Guard(NoOpMeterProvider)).open_call(
        CallFacts("chat", "g")
    )
    yield made
    made.finish("ok")
    assert recorder.open_spans() == []


async def test_the_delay_is_what_most_attempts_take(call, clock):
    hedging, policy = Hedging(clock), HedgePolicy(warmup=20)
    delays = []
    for took in range(1, 41):
        race = hedging.race(call, "g", policy, "chat")
        delays.append(race.delay)
        clock.now += took
        race.finish(race.primary)
        clock.now += 1
        race.finish(race.primary)
        race.learn("answer")

    assert delays[:20] == [None] * 20
    assert delays[20] == 19  # the 95th percentile of 1, 2, …, 20
    assert delays[39] == 38
    assert hedging.race(call, "g", policy, "embeddings").delay is None
    assert hedging.race(call, "other", policy, "chat").delay is None
    assert hedging.race(call, "g", HedgePolicy(quantile=0.5), "chat").delay == 20
    assert hedging.race(call, "g", HedgePolicy(delay=3), "chat").delay == 3


async def test_what_says_nothing_of_providers_is_not_remembered(call, clock):
    """What litellm's cache answered; and what the hedge answered when the primary had failed."""
    hedging, policy = Hedging(clock), HedgePolicy(warmup=1)
    race = hedging.race(call, "g", policy, "chat")
    race.finish(race.primary)
    cached = litellm.ModelResponse()
    cached._hidden_params = {"cache_hit": True}
    race.learn(cached)
    race = hedging.race(call, "g", policy, "chat")
    race.hedge_begins()
    race.fails(race.primary)
    race.finish(_hedging.Entrant(race, "hedge"))
    race.learn("answer")

    assert hedging.race(call, "g", policy, "chat").delay is None


async def test_the_rest_of_very_many_groups_share_a_budget(call, clock):
    hedging, policy = Hedging(clock), HedgePolicy(delay=1, ratio=0, per_second=0.1)
    budgets = [hedging.race(call, f"g{number}", policy, "chat")._budget for number in range(10_000)]

    assert len({id(one) for one in budgets}) == len(hedging._budgets) == len(hedging._windows._windows) == 513
    assert [budgets[place].allow() for place in (0, 1, -2, -1)] == [True, True, True, False]


async def test_delays_of_the_calls_own_have_one_budget(call, clock):
    hedging = Hedging(clock)
    races = [hedging.race(call, "g", HedgePolicy(delay=d, ratio=0, per_second=0.1), "chat") for d in (1, 2)]

    assert [race._budget.allow() for race in races] == [True, False]


def test_a_window_forgets_the_oldest():
    window = Windows(4).of("g")
    for seconds in (9, 1, 2, 3, 4):
        window.add(seconds)

    assert window.quantile(0.95, 4) == 4
    assert window.quantile(0.01, 4) == 1
    assert window.quantile(0.95, 5) is None


# --- the race ------------------------------------------------------------------------------------


@pytest.fixture
def others(monkeypatch):
    """There is somebody else in the group."""

    async def there_are(_router, _kwargs, _taken):
        return True

    monkeypatch.setattr(seams, "others_in_group", there_are)


class Play:
    """An attempt function that does what each entrant is told to."""

    def __init__(self, call, **parts):
        self._call = call
        self._parts = parts
        self.asked = {}

    async def __call__(self, entrant, kwargs):
        self.asked[entrant.role] = kwargs
        beside = entrant.beginning()
        attempt = self._call.attempt(AttemptFacts(DeploymentFacts(id=entrant.role)), None, beside=beside)
        entrant.began(attempt, lambda: 0.25)
        entrant.began(attempt, lambda: 0.25)
        answer = await self._parts[entrant.role]()
        entrant.answered()
        attempt.succeed(AnswerFacts())
        return answer


async def never():
    await asyncio.Event().wait()


async def at_once():
    return "answer"


def attempts(recorder):
    return [
        {key.removeprefix("traced_router.hedge."): value for key, value in s.attributes.items() if ".hedge." in key}
        for s in recorder.spans()
        if s.name.startswith("chat")
    ]


POLICY = HedgePolicy(delay=0.0, ratio=0, per_second=10)


async def test_who_is_first_wins(call, recorder, others):
    play = Play(call, primary=never, hedge=at_once)

    assert await Hedging().race(call, "g", POLICY, "chat").run(None, play, {"metadata": {"a": 1}, "n": 1}) == "answer"

    assert play.asked["hedge"] == {"metadata": {"a": 1}, "n": 1, "_excluded_deployment_ids": ["primary"]}
    assert play.asked["hedge"]["metadata"] is not play.asked["primary"]["metadata"]
    assert attempts(recorder) == [
        {"role": "hedge", "outcome": "won", "delay": 0.0},
        {"role": "primary", "outcome": "lost", "estimated_cost": 0.25},
    ]
    assert len(asyncio.all_tasks()) == 1


async def test_a_loser_has_time_to_tidy_up(call, recorder, others):
    """It is cancelled once: a second time would leave its connection open."""
    tidy = []

    async def slowly():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(10):
                await asyncio.sleep(0)
            tidy.append(True)
            raise

    play = Play(call, primary=slowly, hedge=at_once)

    assert await Hedging().race(call, "g", POLICY, "chat").run(None, play, {}) == "answer"

    assert tidy == [True]


async def test_a_caller_who_does_not_wait_for_the_tidying_up(call, recorder, others):
    enough = asyncio.Event()

    async def stubborn():
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()
        raise RuntimeError

    hedging = Hedging()
    play = Play(call, primary=stubborn, hedge=stubborn)
    running = asyncio.ensure_future(hedging.race(call, "g", POLICY, "chat").run(None, play, {}))
    for _ in range(2):
        for _ in range(10):
            await asyncio.sleep(0)
        running.cancel()
    await asyncio.wait({running})

    assert running.cancelled()
    assert [a["outcome"] for a in attempts(recorder)] == ["lost", "lost"]
    stragglers = {*hedging._stragglers}
    assert len(stragglers) == 2
    enough.set()
    await asyncio.wait(stragglers)
    await asyncio.sleep(0)
    assert hedging._stragglers == set()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_ends_the_program_ends_it_where_the_caller_waits(call, recorder, others, kind):
    async def stops():
        raise kind

    play = Play(call, primary=never, hedge=stops)

    with pytest.raises(kind):
        await Hedging().race(call, "g", POLICY, "chat").run(None, play, {})

    assert len(asyncio.all_tasks()) == 1


async def test_an_error_is_not_kept_by_the_frames_that_it_leads_to(call, recorder, others):
    class OwnError(Exception):
        pass

    async def fails():
        raise OwnError

    gc.disable()
    try:
        with pytest.raises(OwnError) as raised:
            await Hedging().race(call, "g", HedgePolicy(), "chat").run(None, Play(call, primary=fails), {})
        error = weakref.ref(raised.value)
        del raised
        assert error() is None
    finally:
        gc.enable()


async def test_what_the_budget_refuses_stands_on_the_request(call, recorder, others):
    async def until_refused():
        while not call.ledger.hedges_denied:
            await asyncio.sleep(0)
        return "answer"

    policy = HedgePolicy(delay=0.0, ratio=0, per_second=0)
    assert await Hedging().race(call, "g", policy, "chat").run(None, Play(call, primary=until_refused), {}) == "answer"
    call.finish("ok")

    assert recorder.tree().attributes["traced_router.hedges.denied"] == 1
    assert last_request().hedges_denied == 1


@pytest.mark.parametrize("fails", [True, False])
async def test_a_loser_that_does_not_let_itself_be_cancelled(call, recorder, others, monkeypatch, fails):
    monkeypatch.setattr(_hedging, "_GRACE", 0.01)
    enough = asyncio.Event()

    async def stubborn():
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue
        if fails:
            raise RuntimeError
        raise asyncio.CancelledError

    hedging = Hedging()
    play = Play(call, primary=stubborn, hedge=at_once)

    assert await hedging.race(call, "g", POLICY, "chat").run(None, play, {}) == "answer"

    assert recorder.open_spans() == [call._span]
    (straggler,) = hedging._stragglers
    enough.set()
    await asyncio.wait({straggler})
    await asyncio.sleep(0)
    assert hedging._stragglers == set()


@pytest.mark.parametrize("streams", [True, False])
async def test_a_loser_that_answers_when_it_is_cancelled(call, recorder, others, streams):
    class Stream:
        closed = False

        async def __anext__(self): ...

        async def aclose(self):
            Stream.closed = True

    async def late():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Stream() if streams else "late"

    play = Play(call, primary=late, hedge=at_once)

    assert await Hedging().race(call, "g", POLICY, "chat").run(None, play, {}) == "answer"

    assert Stream.closed is streams
    assert [a["outcome"] for a in attempts(recorder)] == ["won", "lost"]


async def test_a_hedge_that_does_not_come_to_its_attempt(call, recorder, others):
    async def refused(entrant, kwargs):
        if entrant.role == "hedge":
            raise _hedging.WithdrawnError
        return await play(entrant, kwargs)

    answers = asyncio.Event()

    async def slowly():
        await answers.wait()
        return "answer"

    play = Play(call, primary=slowly)
    running = asyncio.ensure_future(Hedging().race(call, "g", POLICY, "chat").run(None, refused, {}))
    for _ in range(10):
        await asyncio.sleep(0)
    answers.set()

    assert await running == "answer"
    assert attempts(recorder) == [{}]


async def test_a_hedge_that_has_not_left_when_the_primary_fails(call, recorder, others):
    """It stays: there is nothing any more that it could run beside."""
    picking = asyncio.Event()

    async def attempting(entrant, kwargs):
        if entrant.role == "hedge":
            picking.set()
            await never()
        return await play(entrant, kwargs)

    async def fails():
        await picking.wait()
        raise RuntimeError

    play = Play(call, primary=fails)

    with pytest.raises(RuntimeError):
        await Hedging().race(call, "g", POLICY, "chat").run(None, attempting, {})

    assert len(asyncio.all_tasks()) == 1


async def test_a_litellm_that_cannot_be_asked_who_else_there_is(call, recorder, monkeypatch):
    """The primary is not to suffer from that."""

    async def broken(*_arguments):
        broke.set()
        raise RuntimeError

    async def slowly():
        await broke.wait()
        return "answer"

    broke = asyncio.Event()
    monkeypatch.setattr(seams, "others_in_group", broken)

    assert await Hedging().race(call, "g", POLICY, "chat").run(None, Play(call, primary=slowly), {}) == "answer"

    assert call.guard.faults == 1


class UntilThen:
    """Runs a coroutine until something holds, and throws it away then."""

    def __init__(self, coroutine, holds):
        self._coroutine = coroutine
        self._holds = holds

    def __await__(self):
        awaited = self._coroutine.send(None)
        while not self._holds():
            yield awaited
            awaited = self._coroutine.send(None)
        self._coroutine.close()


async def test_a_call_that_is_torn_down(call, recorder, others):
    play = Play(call, primary=never, hedge=never)
    race = Hedging().race(call, "g", POLICY, "chat")

    await UntilThen(race.run(None, play, {}), lambda: len(race._running) == 2)
    for _ in range(3):
        await asyncio.sleep(0)

    assert len(asyncio.all_tasks()) == 1
    call.finish("abandoned")
    assert recorder.open_spans() == []


# --- streams that are read ahead -----------------------------------------------------------------


class Chunks:
    """A stream of these; what is an exception is raised."""

    def __init__(self, *chunks):
        self._chunks = list(chunks)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._chunks:
            raise StopAsyncIteration
        chunk = self._chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self):
        self.closed = True


EMPTY = {"choices": [{"delta": {"role": "assistant"}}]}
CONTENT = {"choices": [{"delta": {"content": "a"}}]}


@pytest.fixture
def ahead(call):
    def make(*chunks):
        source = Chunks(*chunks)
        attempt = call.attempt(AttemptFacts(DeploymentFacts(id="d")), None)
        return ReadAhead(source, AttemptFollower(attempt, source))

    return make


async def read(stream):
    return [chunk async for chunk in stream]


async def test_nothing_is_lost_of_what_was_read_ahead(ahead):
    stream = ahead(EMPTY, CONTENT, EMPTY)

    assert isinstance(stream, Chunks)
    assert await stream.prime()
    assert len(stream._chunks) == 2
    assert await read(stream) == [EMPTY, CONTENT, EMPTY]
    assert await read(stream) == []


async def test_a_stream_without_content_is_read_to_its_end(ahead):
    stream = ahead(EMPTY, EMPTY)

    assert await stream.prime()
    assert await read(stream) == [EMPTY, EMPTY]
    assert await read(stream) == []


async def test_a_stream_that_does_not_come_to_the_point_is_not_read_for_ever(ahead):
    stream = ahead(*[EMPTY] * 100)

    assert await stream.prime()
    assert len(stream._chunks) == 64
    assert len(await read(stream)) == 100


async def test_a_stream_that_dies_does_so_where_it_is_read(ahead):
    error = ConnectionError()
    stream = ahead(EMPTY, error)

    assert not await stream.prime()
    assert await anext(stream) is EMPTY
    with pytest.raises(ConnectionError) as raised:
        await anext(stream)
    assert raised.value is error


async def test_a_stream_that_nobody_reads_gives_back_what_it_holds(ahead):
    stream = ahead(CONTENT, CONTENT)
    await stream.prime()
    given_back = []

    async def wrapped():
        try:
            async for chunk in stream:
                yield chunk
        finally:
            given_back.append(True)

    await give_up(wrapped(), stream)

    assert given_back == [True]


@pytest.mark.parametrize("other", [at_once, never], ids=["who answers", "whose stream dies, too"])
async def test_a_stream_that_dies_before_its_content_is_no_answer(call, recorder, others, other):
    """It is given to the caller only where nobody does better: what comes next is litellm's to say."""
    streams = {}

    async def attempting(entrant, kwargs):
        if entrant.role == "hedge" and other is at_once:
            return await play(entrant, kwargs)
        attempt = call.attempt(AttemptFacts(DeploymentFacts(id=entrant.role)), None, beside=entrant.beginning())
        entrant.began(attempt, lambda: None)
        if entrant.role == "primary":
            await begun.wait()
        else:
            begun.set()
        source = Dying(EMPTY, ConnectionError())
        streams[entrant.role] = entrant.stand_in(source, AttemptFollower(attempt, source))
        return streams[entrant.role]

    async def answers():
        begun.set()
        await died.wait()
        return "answer"

    class Dying(Chunks):
        async def __anext__(self):
            try:
                return await super().__anext__()
            except ConnectionError:
                died.set()
                raise

    begun, died = asyncio.Event(), asyncio.Event()
    play = Play(call, hedge=answers)
    race = Hedging().race(call, "g", POLICY, "chat")

    answer = await race.run(None, attempting, {})

    if other is at_once:
        assert answer == "answer"
        return
    assert answer is streams["primary"]
    assert race.winner is None
    assert await anext(answer) is EMPTY
    with pytest.raises(ConnectionError):
        await anext(answer)
