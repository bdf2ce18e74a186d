"""Strategies of ours in the router: who decides, what is reserved, what is heard, and what a fault does."""

import asyncio
import gc
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import litellm
import pytest
from litellm.types.router import RoutingGroup

from traced_router import (
    Candidate,
    ConfigurationError,
    Decision,
    ExplainedCandidate,
    Explanation,
    Outcome,
    ResilienceOptions,
    RoutingRequest,
    Ticket,
    TracedRouter,
    UnknownStrategyError,
)
from traced_router import _litellm as seams
from traced_router.testing import ANY, absent, assert_tree, event, of_type, span
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    DieMidStream,
    Hang,
    RateLimited,
    ServerError,
)

MESSAGES = [{"role": "user", "content": "hi"}]
SECONDS = of_type(float)


class Script:
    """Picks by a script of ids, the first candidate when that is over, and keeps what it hears."""

    name = "script"

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)
        self.picks: list[tuple[RoutingRequest, tuple[Candidate, ...]]] = []
        self.open: list[Ticket] = []
        self.ended: list[tuple[str, Outcome]] = []
        self.first_chunks: list[str] = []

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        self.picks.append((request, tuple(candidates)))
        known = [c.id for c in candidates]
        wanted = self.ids.pop(0) if self.ids else known[0]
        return Decision(wanted if wanted in known else known[0], "lowest_score", 1.5, "expected_seconds")

    def started(self, ticket: Ticket) -> None:
        self.open.append(ticket)

    def first_chunk(self, ticket: Ticket) -> None:
        self.first_chunks.append(ticket.id)

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        self.open.remove(ticket)
        self.ended.append((ticket.id, outcome))

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(id_, outcome.status) for id_, outcome in self.ended]


@pytest.fixture
def two(provider):
    return [provider.deployment("dep-a"), provider.deployment("dep-b")]


@pytest.fixture(params=["async", "sync"])
def chat(request):
    def call(router, model="gpt-4o", **kwargs: Any):
        if request.param == "async":
            return asyncio.run(router.acompletion(model, MESSAGES, **kwargs))
        return router.completion(model, MESSAGES, **kwargs)

    return call


def select(id, reason="lowest_score", strategy="script", *, events=(), excluded=(), group="gpt-4o", **attributes: Any):  # noqa: A002
    eligible = 2 - len(excluded)
    return span(
        f"router.select {group}",
        attributes={
            "traced_router.strategy.name": strategy,
            "traced_router.decision.reason": reason,
            "traced_router.candidates.total": 2,
            "traced_router.candidates.eligible": eligible,
            "litellm.deployment.id": id,
            **{f"traced_router.candidates.excluded.{reason}": 1 for reason in excluded},
            **attributes,
        },
        events=events,
    )


def attempt(id, error=None, **attributes: Any):  # noqa: A002
    return span(
        "chat gpt-4o-2024-08-06",
        status="ERROR" if error else "UNSET",
        attributes={"litellm.deployment.id": id, "error.type": error or absent, **attributes},
    )


def listed(ids, excluded):
    return event("traced_router.candidates", {"ids": tuple(ids), "excluded": tuple(excluded), "scores": ANY})


def test_an_object_decides_and_hears(chat, router, recorder, provider, two):
    strategy = Script("dep-b")

    chat(router(*two, routing_strategy=strategy), max_tokens=7)

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={"traced_router.strategy.name": "script", "traced_router.served.deployment_id": "dep-b"},
            children=[
                span(
                    "router.select gpt-4o",
                    exact_attributes=True,
                    attributes={
                        "traced_router.strategy.name": "script",
                        "traced_router.decision.reason": "lowest_score",
                        "traced_router.candidates.total": 2,
                        "traced_router.candidates.eligible": 2,
                        "traced_router.candidates.considered": 2,
                        "litellm.deployment.id": "dep-b",
                        "traced_router.chosen.score": 1.5,
                        "traced_router.chosen.rank_by": "expected_seconds",
                        "traced_router.decision.seconds": SECONDS,
                    },
                    events=(),
                ),
                attempt("dep-b"),
            ],
        ),
    )
    [(request, candidates)] = strategy.picks
    assert [c.id for c in candidates] == ["dep-a", "dep-b"]
    assert (request.model_group, request.operation, request.stream) == ("gpt-4o", "chat", False)
    assert (request.attempt, request.tried, request.max_output_tokens) == (1, frozenset(), 7)
    assert strategy.open == []
    [(id_, outcome)] = strategy.ended
    assert (id_, outcome.status) == ("dep-b", "ok")
    assert (outcome.input_tokens, outcome.output_tokens) == (11, 7)
    assert outcome.seconds > 0


@pytest.mark.parametrize(
    "name",
    [
        "bounded-hash",
        "cost-slo",
        "least-expected-completion",
        "least-in-flight",
        "p2c-peak-ewma",
        "prefix-affinity",
        "quota-aware",
        "weighted",
    ],
)
def test_every_installed_strategy_works_by_its_name(name, chat, router, recorder, two):
    made = router(*two, routing_strategy=name)

    for _ in range(3):
        chat(made)

    tree = span(
        "router.chat gpt-4o",
        attributes={"traced_router.strategy.name": name},
        children=[
            span("router.select gpt-4o", attributes={"traced_router.strategy.name": name}),
            span("chat gpt-4o-2024-08-06"),
        ],
    )
    for call in recorder.trees():
        assert_tree(call, tree)


class TestWhereItStands:
    def test_litellms_own_names_keep_litellms_own_code(self, chat, router, recorder, two):
        chat(router(*two, routing_strategy="simple-shuffle"))

        assert recorder.spans()[-1].attributes["traced_router.strategy.name"] == "simple-shuffle"

    def test_a_positional_argument(self, chat, recorder, provider, two):
        names = seams.constructor_parameters()
        import inspect

        defaults = inspect.signature(litellm.Router.__init__).parameters
        values = [two if n == "model_list" else defaults[n].default for n in names[: names.index("routing_strategy")]]

        made = TracedRouter(*values, Script("dep-b"), tracer_provider=recorder.provider)

        chat(made)
        assert recorder.spans()[-1].attributes["traced_router.strategy.name"] == "script"

    def test_a_routing_group_has_its_own(self, chat, router, recorder, provider, two):
        others = [provider.deployment("dep-c", group="other"), provider.deployment("dep-d", group="other")]
        one, another = Script("dep-b"), Script("dep-d")
        made = router(
            *two,
            *others,
            routing_strategy=one,
            routing_groups=[
                {"group_name": "g", "models": ["other"], "routing_strategy": another},
            ],
        )

        chat(made)
        chat(made, "other")

        assert [id_ for id_, _ in one.ended] == ["dep-b"]
        assert [id_ for id_, _ in another.ended] == ["dep-d"]

    def test_a_group_of_litellms_kind_and_one_with_its_strategy(self, chat, router, recorder, provider, two):
        others = [provider.deployment("dep-c", group="other"), provider.deployment("dep-d", group="other")]
        made = router(
            *two,
            *others,
            routing_strategy=Script(),
            routing_groups=[
                RoutingGroup(group_name="a", models=["other"], routing_strategy="least-busy"),
                RoutingGroup(group_name="b", models=["gpt-4o"], routing_strategy="least-in-flight"),
            ],
        )

        chat(made)
        chat(made, "other")

        selections = [s for s in recorder.spans() if s.name.startswith("router.select")]
        assert [s.attributes["traced_router.strategy.name"] for s in selections] == ["least-in-flight", "least-busy"]

    def test_a_call_brings_its_own(self, chat, router, recorder, two):
        made, strategy = router(*two), Script("dep-b", "dep-b")

        chat(made, routing_strategy=strategy)
        chat(made, routing_strategy=strategy)
        chat(made, routing_strategy="least-in-flight")

        assert [id_ for id_, _ in strategy.ended] == ["dep-b", "dep-b"]
        selections = [s for s in recorder.spans() if s.name.startswith("router.select")]
        assert [s.attributes["traced_router.strategy.name"] for s in selections] == [
            "script",
            "script",
            "least-in-flight",
        ]

    @pytest.mark.parametrize(
        ("entry", "arguments"),
        [
            ("text_completion", {"prompt": "hi"}),
            ("embedding", {"input": ["hi"]}),
            ("responses", {"input": "hi"}),
        ],
    )
    def test_every_entry_point_takes_it_and_no_provider_sees_it(self, entry, arguments, router, provider, two):
        if (
            entry != "responses"
            and not hasattr(litellm.Router, "get_discovered_model_info")
            and seams.ENGINE == "classic"
        ):
            pytest.skip("litellm 1.95 does not show a call's arguments to these picks")
        strategy = Script("dep-b")

        getattr(router(*two), entry)(model="gpt-4o", routing_strategy=strategy, **arguments)

        assert strategy.statuses == [("dep-b", "ok")]
        assert "routing_strategy" not in provider.requests[-1].body

    def test_a_call_asks_for_one_of_litellms(self, chat, router, recorder, two):
        strategy = Script()

        chat(router(*two, routing_strategy=strategy), routing_strategy="latency-based-routing")

        assert strategy.picks == []
        selection = next(s for s in recorder.spans() if s.name.startswith("router.select"))
        assert selection.attributes["traced_router.strategy.name"] == "latency-based-routing"

    def test_a_call_asks_for_what_nobody_has(self, chat, router, recorder, two):
        strategy = Script("dep-b")

        chat(router(*two, routing_strategy=strategy), routing_strategy="no-such")

        assert [id_ for id_, _ in strategy.ended] == ["dep-b"]

    @pytest.mark.filterwarnings("ignore:Router.update_settings is deprecated:DeprecationWarning")  # from 1.109 on
    def test_settings_change_it_while_it_runs(self, chat, router, recorder, two):
        made, strategy = router(*two), Script("dep-b")

        made.update_settings(routing_strategy=strategy)
        chat(made)
        made.update_settings(num_retries=1)
        chat(made)
        made.update_settings(routing_strategy="least-busy")
        chat(made)

        assert len(strategy.ended) == 2
        selections = [s for s in recorder.spans() if s.name.startswith("router.select")]
        assert selections[-1].attributes["traced_router.strategy.name"] == "least-busy"

    @pytest.mark.parametrize("given", ["least-expected", "", 7, object()])
    def test_what_is_none_is_refused_when_the_router_is_built(self, given, two):
        with pytest.raises(UnknownStrategyError, match=r"traced_router\.strategies"):
            TracedRouter(model_list=two, routing_strategy=given)

    def test_half_a_strategy_is_refused(self, two):
        class Half:
            def pick(self, request, candidates):
                raise NotImplementedError

        with pytest.raises(ConfigurationError, match="Half is no routing strategy: it has no name, started"):
            TracedRouter(model_list=two, routing_strategy=Half())

    def test_a_resilience_that_is_none(self, two):
        with pytest.raises(ConfigurationError, match="resilience='int'"):
            TracedRouter(model_list=two, resilience=3)

    def test_a_pick_without_a_call(self, router, recorder, two):
        strategy = Script("dep-b")

        found = router(*two, routing_strategy=strategy).get_available_deployment("gpt-4o", request_kwargs={})

        assert found["model_info"]["id"] == "dep-b"
        assert (strategy.open, strategy.ended, recorder.spans()) == ([], [], [])


class TestFaults:
    """A strategy that fails does not fail the request."""

    @pytest.fixture(autouse=True)
    def _expected(self, tracing_may_fail):
        pass

    @pytest.mark.parametrize(
        "answer",
        [None, "dep-a", Decision("no-such", "lowest_score"), ValueError("no")],
        ids=["none", "id", "unknown", "raises"],
    )
    def test_a_pick_that_cannot_be_used(self, answer, chat, router, recorder, two, caplog):
        class Wrong(Script):
            def pick(self, request, candidates):
                if isinstance(answer, Exception):
                    raise answer
                return answer

        strategy = Wrong()
        chat(router(*two, routing_strategy=strategy))

        assert_tree(
            recorder,
            span(
                "router.chat gpt-4o",
                attributes={"traced_router.outcome": "ok", "traced_router.strategy.name": "script"},
                children=[
                    select(ANY, "strategy_error_fallback", **{"traced_router.chosen.score": absent}),
                    span("chat gpt-4o-2024-08-06"),
                ],
            ),
        )
        assert (strategy.open, strategy.ended) == ([], [])
        assert "strategy 'script' failed in pick() with" in caplog.text

    @pytest.mark.parametrize("method", ["started", "first_chunk", "finished"])
    def test_a_learner_that_raises(self, method, chat, router, recorder, two):
        strategy = Script("dep-b")
        setattr(strategy, method, lambda *_: 1 / 0)
        made = router(*two, routing_strategy=strategy)

        answer = made.completion("gpt-4o", MESSAGES, stream=True)
        assert list(answer)

        assert recorder.spans()[-1].attributes["traced_router.outcome"] == "ok"

    def test_odd_facts_are_left_out(self, chat, router, recorder, two):
        class Odd(Script):
            def pick(self, request, candidates):
                return Decision(
                    "dep-a",
                    "lowest_score",
                    float("nan"),
                    attributes={"a": object(), "b": 2**70, "c": True, "name": "x", "d": "\ud800"},  # type: ignore[dict-item]
                )

        chat(router(*two, routing_strategy=Odd()))

        attributes = next(s for s in recorder.spans() if s.name.startswith("router.select")).attributes
        own = {k: v for k, v in attributes.items() if k.startswith("traced_router.strategy.")}
        assert own == {
            "traced_router.strategy.name": "script",
            "traced_router.strategy.c": True,
            "traced_router.strategy.d": "?",
        }
        assert "traced_router.chosen.score" not in attributes


class Scoring(Script):
    """Says what every candidate scores."""

    def __init__(self, scores: Any, *ids: str) -> None:
        super().__init__(*ids)
        self.said = scores
        self.asked: list[tuple[str, ...]] = []

    def scores(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Any:
        self.asked.append(tuple(c.id for c in candidates))
        return self.said(candidates) if callable(self.said) else self.said


THREE = {"dep-a": 4.0, "dep-b": 2.5, "dep-c": 3.25}


class TestScores:
    """Of all candidates, where they are listed."""

    @pytest.fixture
    def three(self, provider, two):
        return [*two, provider.deployment("dep-c")]

    async def test_each_is_listed_with_its_own(self, router, recorder, provider, three, waits):
        strategy = Scoring(THREE, "dep-a", "dep-b")
        provider.script("dep-a", [ServerError()])

        await router(*three, routing_strategy=strategy, num_retries=1, disable_cooldowns=True).acompletion(
            "gpt-4o", MESSAGES
        )

        assert_tree(
            recorder,
            span(
                "router.chat gpt-4o",
                children=[
                    select("dep-a", **{"traced_router.candidates.total": 3, "traced_router.candidates.eligible": 3}),
                    attempt("dep-a", "InternalServerError"),
                    select(
                        "dep-b",
                        excluded=["already_tried"],
                        events=[
                            event(
                                "traced_router.candidates",
                                {
                                    "ids": ("dep-b", "dep-c", "dep-a"),
                                    "scores": (1.5, 3.25, ANY),
                                    "excluded": ("", "", "already_tried"),
                                },
                            )
                        ],
                        **{"traced_router.candidates.total": 3, "traced_router.candidates.eligible": 2},
                    ),
                    attempt("dep-b"),
                ],
            ),
        )
        assert strategy.asked == [("dep-b", "dep-c")]

    def test_nobody_asks_where_nothing_is_listed(self, chat, router, recorder, three):
        strategy = Scoring(THREE)

        chat(router(*three, routing_strategy=strategy))

        assert strategy.asked == []

    def test_a_table_has_them(self, router, three):
        found = router(*three, routing_strategy=Scoring(THREE, "dep-b")).explain("gpt-4o", MESSAGES)

        assert str(found).splitlines() == [
            "gpt-4o: dep-b, by script, because lowest_score",
            "   deployment  expected_seconds  excluded",
            "→  dep-b       1.5",
            "   dep-c       3.25",
            "   dep-a       4",
        ]

    def test_of_more_than_are_listed_nobody_asks(self, router, provider):
        strategy = Scoring({})

        found = router(*(provider.deployment(f"dep-{i}") for i in range(17)), routing_strategy=strategy).explain(
            "gpt-4o", MESSAGES
        )

        assert (found.chosen_id, strategy.asked) == ("dep-0", [])

    @pytest.mark.usefixtures("tracing_may_fail")
    @pytest.mark.parametrize("wrong", [None, lambda _: 1 / 0], ids=["none", "raises"])
    def test_a_fault_costs_the_scores_and_no_more(self, wrong, chat, router, recorder, three, caplog):
        strategy = Scoring(wrong, "dep-c")

        chat(router(*three, routing_strategy=strategy, settings={"list_candidates": True}))

        table = {"ids": ("dep-c", "dep-a", "dep-b"), "scores": (1.5, ANY, ANY), "excluded": ("", "", "")}
        three_of_three = {"traced_router.candidates.total": 3, "traced_router.candidates.eligible": 3}
        assert_tree(
            recorder,
            span(
                "router.chat gpt-4o",
                children=[
                    select("dep-c", events=[event("traced_router.candidates", table)], **three_of_three),
                    attempt("dep-c"),
                ],
            ),
        )
        assert (strategy.open, strategy.statuses) == ([], [("dep-c", "ok")])
        assert "failed in scores() with" in caplog.text

    def test_what_is_no_score_is_left_out(self, router, three):
        odd = {"dep-a": "much", "dep-b": float("inf"), "dep-c": 7, "nobody": 1.0}

        found = router(*three, routing_strategy=Scoring(odd)).explain("gpt-4o", MESSAGES)

        assert {c.id: c.score for c in found.candidates} == {"dep-a": 1.5, "dep-c": 7.0, "dep-b": None}

    @pytest.mark.parametrize(
        ("name", "unit"),
        [
            ("bounded-hash", "hash"),
            ("cost-slo", "cost"),
            ("least-expected-completion", "expected_seconds"),
            ("least-in-flight", "inflight"),
            ("p2c-peak-ewma", "latency"),
            ("prefix-affinity", "expected_seconds"),
            ("quota-aware", "usage"),
            ("weighted", "weight"),
        ],
    )
    def test_each_installed_strategy_says_them(self, name, unit, chat, router, recorder, three):
        made = router(*three, routing_strategy=name, settings={"list_candidates": True})

        for _ in range(4):
            chat(made)
        found = made.explain("gpt-4o", MESSAGES)

        assert found.rank_by == unit
        assert sorted(c.id for c in found.candidates if c.score is not None) == ["dep-a", "dep-b", "dep-c"]
        if found.considered == 3:
            scores = [c.score for c in found.candidates]
            assert scores == sorted(scores)
        for selection in recorder.spans():
            if selection.name.startswith("router.select"):
                [listing] = selection.events
                assert all(map(math.isfinite, listing.attributes["scores"]))
                assert listing.attributes["ids"][0] == selection.attributes["litellm.deployment.id"]


class TestTheReservation:
    """Given back exactly once, where the attempt really ends."""

    async def test_each_way_out(self, router, recorder, provider, two):
        strategy = Script(*["dep-b"] * 9)
        made = router(*two, routing_strategy=strategy, resilience=False, disable_cooldowns=True)
        provider.script("dep-b", [Answer(), BadRequest(), RateLimited(), ServerError()])

        for _ in range(4):
            await asyncio.gather(made.acompletion("gpt-4o", MESSAGES), return_exceptions=True)

        assert strategy.open == []
        assert [s for _, s in strategy.statuses] == ["ok", "rejected", "rate_limited", "error"]
        assert [o.status_code for _, o in strategy.ended] == [None, 400, 429, 500]

    async def test_a_cancelled_call(self, router, recorder, provider, two):
        strategy = Script("dep-b")
        made = router(*two, routing_strategy=strategy)
        provider.script("dep-b", [Hang()])

        task = asyncio.create_task(made.acompletion("gpt-4o", MESSAGES))
        while not provider.hits("dep-b"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "cancelled")])

    async def test_a_stream_read_to_its_end(self, router, recorder, provider, two):
        strategy = Script("dep-b")
        stream = await router(*two, routing_strategy=strategy).acompletion("gpt-4o", MESSAGES, stream=True)

        first = await anext(stream)
        assert first
        assert (len(strategy.open), strategy.ended) == (1, [])
        async for _ in stream:
            pass

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "ok")])
        assert strategy.first_chunks == ["dep-b"]
        assert strategy.picks[0][0].stream is True
        assert 0 < strategy.ended[0][1].time_to_first_chunk <= strategy.ended[0][1].seconds

    async def test_a_stream_left_early(self, router, recorder, provider, two):
        strategy = Script("dep-b")
        stream = await router(*two, routing_strategy=strategy).acompletion("gpt-4o", MESSAGES, stream=True)

        await anext(stream)
        await stream.aclose()

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "cancelled")])

    async def test_a_stream_that_nobody_reads(self, router, recorder, provider, two):
        strategy = Script("dep-b")
        stream = await router(*two, routing_strategy=strategy).acompletion("gpt-4o", MESSAGES, stream=True)

        del stream
        gc.collect()

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "cancelled")])

    async def test_a_stream_that_dies_goes_on_elsewhere(self, router, recorder, provider, two):
        other = provider.deployment("dep-c", group="other")
        strategy = Script("dep-b")
        made = router(*two, other, routing_strategy=strategy, fallbacks=[{"gpt-4o": ["other"]}])
        provider.script("dep-b", [DieMidStream(after_chunks=0)])

        stream = await made.acompletion("gpt-4o", MESSAGES, stream=True)
        async for _ in stream:
            pass

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "error"), ("dep-c", "ok")])

    @pytest.mark.filterwarnings("ignore:coroutine 'acompletion' was never awaited:RuntimeWarning")  # on 1.95
    async def test_a_pick_that_comes_to_nothing(self, router, recorder, two, monkeypatch):
        strategy = Script("dep-b")
        made = router(*two, routing_strategy=strategy)

        async def refuse(*_: Any, **__: Any) -> None:
            raise litellm.RateLimitError("over the limit", "openai", "gpt-4o")

        monkeypatch.setattr(
            litellm.router.Router if seams.ENGINE == "classic" else seams.LOOP,
            "async_routing_strategy_pre_call_checks",
            refuse,
        )
        with pytest.raises(litellm.RateLimitError):
            await made.acompletion("gpt-4o", MESSAGES)

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "cancelled")])

    async def test_a_cache_hit(self, router, recorder, provider, two):
        strategy = Script("dep-b", "dep-b")
        made = router(*two, routing_strategy=strategy, cache_responses=True)

        await made.acompletion("gpt-4o", MESSAGES)
        await asyncio.sleep(0)
        await made.acompletion("gpt-4o", MESSAGES)

        assert strategy.open == []
        assert [s for _, s in strategy.statuses] in (["ok", "cached"], ["ok", "ok"])

    async def test_it_hears_without_an_sdk(self, provider, two):
        strategy = Script("dep-b")
        made = TracedRouter(model_list=two, routing_strategy=strategy)

        await made.acompletion("gpt-4o", MESSAGES)

        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "ok")])

    async def test_limits_of_the_providers_headers(self, router, recorder, provider, two):
        strategy = Script("dep-b")
        provider.script(
            "dep-b",
            [
                Answer(
                    headers={
                        "x-ratelimit-remaining-requests": "9",
                        "x-ratelimit-remaining-tokens": "800",
                        "x-ratelimit-reset-requests": "6s",
                    }
                )
            ],
        )

        await router(*two, routing_strategy=strategy).acompletion("gpt-4o", MESSAGES)

        [(_, outcome)] = strategy.ended
        assert outcome.ratelimit_remaining_requests == 9
        assert outcome.ratelimit_remaining_tokens == 800
        assert outcome.ratelimit_reset_seconds == 6


class Sharing(Script):
    """One whose state can be shared; keeps what it hears of its peers."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = asyncio.Event()

    def export_state(self):
        return {"dep-a": (1.0,)}

    def absorb_state(self, peers):
        if peers:
            self.hears.set()


class TestManyRouters:
    """What the others know arrives through the router's Redis, and the span says so."""

    async def test_two_that_share(self, router, recorder, two, server):
        strategies = [Sharing(), Sharing()]
        made = [router(*two, routing_strategy=s, redis_host="127.0.0.1", redis_port=server.port) for s in strategies]

        for one in made:
            await one.acompletion("gpt-4o", MESSAGES)
        await asyncio.gather(*(strategy.hears.wait() for strategy in strategies))
        recorder.clear()
        await made[0].acompletion("gpt-4o", MESSAGES)

        assert_tree(
            recorder,
            span(
                "router.chat gpt-4o",
                children=[
                    select(
                        "dep-a",
                        **{
                            "traced_router.strategy.state": "shared",
                            "traced_router.strategy.state_age_seconds": SECONDS,
                        },
                    ),
                    attempt("dep-a"),
                ],
            ),
        )
        tasks = [t for t in asyncio.all_tasks() if t.get_coro().__qualname__ == "_live"]
        for one in made:
            (one.retire if hasattr(one, "retire") else one.discard)()
        ended, running = await asyncio.wait(tasks, timeout=5)
        assert (len(ended), running) == (2, set())

    def test_a_synchronous_one_is_on_its_own(self, router, recorder, two, server):
        made = router(*two, routing_strategy=Sharing(), redis_host="127.0.0.1", redis_port=server.port)

        made.completion("gpt-4o", MESSAGES)

        selection = next(s for s in recorder.spans() if s.name.startswith("router.select"))
        assert selection.attributes["traced_router.strategy.state"] == "local"
        assert "traced_router.strategy.state_age_seconds" not in selection.attributes

    def test_without_a_redis_there_is_nothing_to_say(self, chat, router, recorder, two):
        chat(router(*two, routing_strategy=Sharing()))

        selection = next(s for s in recorder.spans() if s.name.startswith("router.select"))
        assert "traced_router.strategy.state" not in selection.attributes


class TestResilience:
    """Beside the strategy: it drops what is sick, and says so."""

    async def test_a_retry_goes_elsewhere(self, router, recorder, provider, two, waits):
        strategy = Script("dep-a", "dep-a")
        provider.script("dep-a", [ServerError()])

        await router(*two, routing_strategy=strategy, num_retries=1, disable_cooldowns=True).acompletion(
            "gpt-4o", MESSAGES
        )

        assert_tree(
            recorder,
            span(
                "router.chat gpt-4o",
                attributes={"traced_router.outcome": "ok_after_retry", "traced_router.retries.denied": absent},
                children=[
                    select("dep-a"),
                    attempt("dep-a", "InternalServerError"),
                    select(
                        "dep-b",
                        "only_candidate",
                        excluded=["already_tried"],
                        events=[listed(["dep-b", "dep-a"], ["", "already_tried"])],
                    ),
                    attempt("dep-b"),
                ],
            ),
        )
        assert strategy.picks[1][0].attempt == 2
        assert strategy.picks[1][0].tried == {"dep-a"}
        assert [c.id for c in strategy.picks[1][1]] == ["dep-b"]

    async def test_a_sick_one_is_ejected(self, router, recorder, provider, two):
        strategy = Script(*["dep-a"] * 9)
        made = router(*two, routing_strategy=strategy, disable_cooldowns=True)
        provider.script("dep-a", [ServerError()] * 3)

        for _ in range(4):
            await asyncio.gather(made.acompletion("gpt-4o", MESSAGES), return_exceptions=True)

        last = [s for s in recorder.spans() if s.name.startswith("router.select")][-1]
        assert last.attributes["traced_router.candidates.excluded.ejected"] == 1
        assert last.attributes["litellm.deployment.id"] == "dep-b"

    async def test_a_refusal_is_waited_out(self, router, recorder, provider, two):
        strategy = Script(*["dep-a"] * 9)
        made = router(*two, routing_strategy=strategy, disable_cooldowns=True)
        provider.script("dep-a", [RateLimited(retry_after=30)])

        for _ in range(2):
            await asyncio.gather(made.acompletion("gpt-4o", MESSAGES), return_exceptions=True)

        last = [s for s in recorder.spans() if s.name.startswith("router.select")][-1]
        assert last.attributes["traced_router.candidates.excluded.rate_limit"] == 1

    async def test_it_can_be_turned_off(self, router, recorder, provider, two, waits):
        strategy = Script("dep-a", "dep-a")
        made = router(*two, routing_strategy=strategy, resilience=False, num_retries=1, disable_cooldowns=True)
        provider.script("dep-a", [ServerError()])

        await made.acompletion("gpt-4o", MESSAGES)

        assert strategy.statuses == [("dep-a", "error"), ("dep-a", "ok")]

    @pytest.mark.parametrize("strategy", ["simple-shuffle", "latency-based-routing", "least-busy"])
    def test_for_litellms_own_strategies(self, strategy, chat, router, recorder, provider, two, waits):
        made = router(*two, routing_strategy=strategy, resilience=True, num_retries=3, disable_cooldowns=True)
        provider.script("dep-a", [ServerError()] * 9)
        random.seed(3)

        for _ in range(4):
            chat(made)

        selections = [s for s in recorder.spans() if s.name.startswith("router.select")]
        assert {s.attributes["traced_router.strategy.name"] for s in selections} == {strategy}
        again = [s for s in selections if "traced_router.candidates.excluded.already_tried" in s.attributes]
        assert again
        assert {s.attributes["litellm.deployment.id"] for s in again} == {"dep-b"}
        assert {s.attributes["traced_router.decision.reason"] for s in again} == {"only_candidate"}

    def test_it_is_off_for_litellms_own(self, chat, router, recorder, provider, two, waits):
        made = router(*two, num_retries=8, disable_cooldowns=True)
        provider.script("dep-a", [ServerError()] * 20)

        chat(made)

        assert not any("already_tried" in k for s in recorder.spans() for k in s.attributes)

    def test_the_retry_budget_refuses(self, chat, router, recorder, provider, two, waits):
        options = ResilienceOptions(retry_ratio=0.0, retries_per_second=0.1)  # one in ten seconds
        made = router(*two, routing_strategy=Script(), resilience=options, num_retries=3, disable_cooldowns=True)
        provider.script("dep-a", [ServerError()] * 9)
        provider.script("dep-b", [ServerError()] * 9)

        with pytest.raises(litellm.InternalServerError):
            chat(made)

        root = next(s for s in recorder.spans() if s.parent is None)
        assert root.attributes["traced_router.attempts"] == 2
        assert root.attributes["traced_router.retries.denied"] == 1
        assert sum(s.name == "router.backoff" for s in recorder.spans()) == len(waits)


class TestExplained:
    """The decision that would be taken now."""

    @pytest.fixture(params=["async", "sync"])
    def explain(self, request):
        def ask(made, *args: Any, **kwargs: Any):
            if request.param == "async":
                return asyncio.run(made.aexplain(*args, **kwargs))
            return made.explain(*args, **kwargs)

        return ask

    def test_it_says_who_and_why(self, explain, router, recorder, provider, two):
        strategy = Script("dep-b")

        found = explain(router(*two, routing_strategy=strategy), "gpt-4o", MESSAGES, max_tokens=9)

        assert found == Explanation(
            model_group="gpt-4o",
            strategy="script",
            reason="lowest_score",
            chosen_id="dep-b",
            rank_by="expected_seconds",
            candidates=(ExplainedCandidate("dep-b", 1.5, chosen=True), ExplainedCandidate("dep-a")),
            considered=2,
        )
        assert str(found).splitlines() == [
            "gpt-4o: dep-b, by script, because lowest_score",
            "   deployment  expected_seconds  excluded",
            "→  dep-b       1.5",
            "   dep-a",
        ]
        assert (strategy.open, strategy.ended) == ([], [])
        assert (recorder.spans(), provider.requests) == ([], [])

    def test_it_changes_nothing(self, explain, router, chat, recorder, two):
        made = router(*two, routing_strategy="weighted")

        for _ in range(8):
            explain(made, "gpt-4o", MESSAGES)
            chat(made)

        picks = [s.attributes["litellm.deployment.id"] for s in recorder.spans() if s.name.startswith("router.select")]
        assert Counter(picks) == {"dep-a": 4, "dep-b": 4}

    def test_it_says_when_not_all_were_looked_at(self, explain, router, provider, two):
        found = explain(
            router(*two, provider.deployment("dep-c"), routing_strategy="p2c-peak-ewma"), "gpt-4o", MESSAGES
        )

        assert found.considered == 2
        assert str(found).splitlines()[0] == (
            f"gpt-4o: {found.chosen_id}, by p2c-peak-ewma, because cold_start, 2 of 3 looked at"
        )

    def test_one_of_litellms(self, explain, router, two):
        found = explain(router(*two, routing_strategy="simple-shuffle"), "gpt-4o", MESSAGES)

        assert (found.strategy, found.reason, found.rank_by) == ("simple-shuffle", "tie_random", "random")
        assert {c.id: c.score for c in found.candidates} == {"dep-a": 0.5, "dep-b": 0.5}

    def test_another_strategy_for_this_call(self, explain, router, two):
        found = explain(router(*two), "gpt-4o", MESSAGES, routing_strategy=Script("dep-b"))

        assert (found.strategy, found.chosen_id) == ("script", "dep-b")

    def test_nobody_is_left(self, explain, router, two):
        blocked = [{**d, "model_info": {**d["model_info"], "blocked": True}} for d in two]

        found = explain(router(*blocked), "gpt-4o", MESSAGES)

        assert found.chosen_id is None
        assert found.error_type == "RouterRateLimitError"
        assert str(found).startswith("gpt-4o: nobody, by simple-shuffle, a call would raise RouterRateLimitError")

    async def test_inside_a_call(self, router, recorder, two):
        class Curious(Script):
            def started(self, ticket):
                super().started(ticket)
                found.append(made.explain("gpt-4o", MESSAGES))

        found, strategy = [], Curious("dep-b", "dep-a")
        made = router(*two, routing_strategy=strategy)

        await made.acompletion("gpt-4o", MESSAGES)

        assert [e.chosen_id for e in found] == ["dep-a"]
        assert_tree(recorder, span("router.chat gpt-4o", children=[select("dep-b"), attempt("dep-b")]))
        assert (strategy.open, strategy.statuses) == ([], [("dep-b", "ok")])
