"""Retry storms as traces and metrics show them: coming back too early, circles, amplification, the budget.

The routers' time lines go by a clock that moves when the router waits: waits are as long as they say, and take no time.
"""

import asyncio
import importlib.metadata
import random
import sys
from collections import Counter

import litellm
import pytest
from litellm.caching.caching import Cache

from traced_router import RetryPolicy, last_request
from traced_router._timeline import Timeline
from traced_router.resilience import ResilienceOptions
from traced_router.testing import LiveCheck, absent, approx, assert_tree, event, span
from traced_router.testing._provider_behaviours import (
    Answer,
    ContextWindowExceeded,
    Drop,
    ErrorEventMidStream,
    RateLimited,
    ServerError,
)

MESSAGES = [{"role": "user", "content": "hi"}]
SECOND = 1_000_000_000
VERSION = tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])
KNOWS_WHOM_IT_HAS_TRIED = VERSION >= (1, 106)
RATE_LIMIT, SERVER = "RateLimitError", "InternalServerError"


class Clock:
    """Nanoseconds: they pass when the router waits, and a microsecond at every look."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1000
        return self.now

    async def sleep(self, seconds):
        self.now += round(seconds * SECOND)

    def timeline(self):
        return Timeline(self, lambda: (1_700_000_000 * SECOND, self.now))


@pytest.fixture
def clock(monkeypatch):
    """The routers' clock, which litellm's waits move; they are without its jitter."""
    made, sleep = Clock(), asyncio.sleep

    async def moves_the_clock(seconds, *args):
        if str(sys._getframe(1).f_globals.get("__name__")).startswith("litellm.router"):
            await made.sleep(seconds)
            seconds = 0
        return await sleep(seconds, *args)

    monkeypatch.setattr(litellm.utils, "JITTER", 0.0)
    monkeypatch.setattr(asyncio, "sleep", moves_the_clock)
    return made


@pytest.fixture
def made(router, recorder, clock):
    """Makes routers that are measured, and live by the clock."""

    def make(*deployments, **arguments):
        built = router(*deployments, meter_provider=recorder.meter_provider, **arguments)
        built._traced_router.tree._timeline = clock.timeline
        return built

    return make


def chat(router, group="a", **kwargs):
    return router.acompletion(group, MESSAGES, **kwargs)


def groups(provider, *names, **params):
    """One deployment each."""
    return [provider.deployment(f"dep-{name}", group=name, **params) for name in names]


def attempt(number, deployment, error=None, **rest):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "litellm.deployment.id": deployment,
            "traced_router.attempt.number": number,
            "error.type": error or absent,
        },
        **rest,
    )


def request(*children, outcome, error=None, **attributes):
    return span(
        "router.chat a",
        kind="INTERNAL",
        status="ERROR" if error else "UNSET",
        attributes={
            "traced_router.outcome": outcome,
            "error.type": error or absent,
            "traced_router.retry_after.violations": absent,
            "traced_router.fallback.cycles": absent,
            **attributes,
        },
        children=children,
    )


def hop(to, *children, from_, depth, error=None, kind="model_group", events=(), **attributes):
    return span(
        f"router.fallback {to}",
        kind="INTERNAL",
        status="ERROR" if error else "UNSET",
        exact_attributes=True,
        attributes={
            "traced_router.fallback.kind": kind,
            "traced_router.fallback.from": from_,
            "traced_router.fallback.to": to,
            "traced_router.fallback.depth": depth,
            "traced_router.fallback.error_type": SERVER,
            "error.type": error or absent,
            **attributes,
        },
        events=events,
        children=children,
    )


def too_early(asked, early, asked_by):
    said = {"retry_after": asked, "early": approx(early, absolute=1e-3), "asked_by": asked_by}
    return event("traced_router.retry_after.violated", said, exact_attributes=True)


def in_a_circle(group, depth, visits):
    said = {"model_group": group, "depth": depth, "visits": visits}
    return event("traced_router.fallback.cycle", said, exact_attributes=True)


def counted(recorder, name):
    """What the counter, or the sum of the histogram, ``name`` is, by the values of its attributes."""
    points = recorder.metrics().get(name, ())
    return {tuple(p.attributes.values()): p.value if p.count is None else p.sum for p in points}


SELECT = span("router.select a")
BACKOFF = span("router.backoff")


# --- coming back too early -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "asked", "early"),
    [
        (RateLimited(retry_after_ms=4000), 4.0, 3.5),
        (RateLimited(retry_after=90), 90.0, 89.5),
        (RateLimited(retry_after=2.5), 2.5, 2.0),
        (ServerError(503, headers={"x-ms-retry-after-ms": "700"}), 0.7, 0.2),
    ],
    ids=["milliseconds", "more than a minute", "a fraction", "Azure's"],
)
async def test_litellm_comes_back_too_early(provider, made, recorder, behaviour, asked, early):
    """Its own backoff is half a second here: it waits for whole seconds, up to sixty of them."""
    provider.script("dep-a", [behaviour, Answer()])
    await chat(made(*groups(provider, "a"), num_retries=1))

    assert provider.hits() == 2
    error = RATE_LIMIT if behaviour.code == 429 else "ServiceUnavailableError"
    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", error, events=()),
            BACKOFF,
            SELECT,
            attempt(2, "dep-a", events=[too_early(asked, early, 1)]),
            outcome="ok_after_retry",
            **{"traced_router.amplification": 2, "traced_router.retry_after.violations": 1},
        ),
    )
    (said,) = recorder.tree().children[-1].events
    assert said.time_ns == recorder.tree().children[-1].start_ns
    assert counted(recorder, "traced_router.retry_after.violations") == {("a", "dep-a"): 1}
    assert last_request().retry_after_violations == 1


@pytest.mark.parametrize("asked", [1, 60])
async def test_a_wait_that_is_obeyed_is_no_violation(provider, made, recorder, asked):
    provider.script("dep-a", [RateLimited(retry_after=asked), Answer()])
    await chat(made(*groups(provider, "a"), num_retries=1))

    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", RATE_LIMIT, events=()),
            span("router.backoff", attributes={"traced_router.backoff.seconds": float(asked)}),
            SELECT,
            attempt(2, "dep-a", events=()),
            outcome="ok_after_retry",
        ),
    )
    assert counted(recorder, "traced_router.retry_after.violations") == {}
    assert last_request().retry_after_violations == 0


@pytest.mark.parametrize("asked", [{"retry_after_ms": 4000}, {"retry_after": 45.5}, {"retry_after": 7}])
async def test_our_own_policy_never_comes_too_early(provider, made, recorder, clock, asked):
    provider.script("dep-a", [RateLimited(**asked), RateLimited(**asked), Answer()])
    policy = RetryPolicy(sleep=clock.sleep, rng=random.Random(7))
    await chat(made(*groups(provider, "a"), retrying=policy))

    tree = recorder.tree()
    assert [len(node.events) for node in tree.children if node.kind == "CLIENT"] == [0, 0, 0]
    assert tree.attributes["traced_router.amplification"] == 3
    assert "traced_router.retry_after.violations" not in tree.attributes


async def test_another_deployment_has_asked_for_nothing(provider, made, recorder):
    provider.script("dep-a", [RateLimited(retry_after=90)])
    pair = [provider.deployment("dep-a", group="a", weight=1), provider.deployment("dep-b", group="a", weight=0)]
    await chat(made(*pair, num_retries=1))

    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", RATE_LIMIT, events=["traced_router.cooldown"]),
            SELECT,
            attempt(2, "dep-b", events=()),
            outcome="ok_after_retry",
            **{"traced_router.amplification": 2},
        ),
    )


def test_a_synchronous_call_comes_too_early_alike(provider, made, recorder):
    provider.script("dep-a", [RateLimited(retry_after=90), ServerError(), Answer()])
    made(*groups(provider, "a"), num_retries=2).completion("a", MESSAGES)

    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", RATE_LIMIT, events=()),
            BACKOFF,
            SELECT,
            attempt(2, "dep-a", SERVER, events=[too_early(90.0, 89.5, 1)]),
            BACKOFF,
            SELECT,
            attempt(3, "dep-a", events=[too_early(90.0, 88.5, 1)]),
            outcome="ok_after_retry",
            **{"traced_router.amplification": 3, "traced_router.retry_after.violations": 2},
        ),
    )


# --- going in circles ----------------------------------------------------------------------------


async def test_by_another_name_a_group_is_the_same(provider, made, recorder):
    """litellm, from 1.106 on, remembers whom it has tried; of an alias it does not know."""
    provider.script("dep-a", [ServerError()])
    provider.script("dep-b", [ServerError()])
    built = made(*groups(provider, "a", "b"), model_group_alias={"same": "a"}, fallbacks=[{"a": ["b", "same"]}])
    await chat(built)

    assert provider.hits("dep-a") == 2
    assert provider.hits("dep-b") == 1
    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", SERVER),
            hop(
                "b",
                span("router.select b"),
                attempt(2, "dep-b", SERVER),
                from_="a",
                depth=1,
                error=SERVER,
            ),
            hop(
                "same",
                span("router.select same"),
                attempt(3, "dep-a"),
                from_="b",
                depth=2,
                events=[in_a_circle("same", 2, 2)],
            ),
            outcome="ok_after_fallback",
            **{"traced_router.fallback.cycles": 1, "traced_router.fallbacks": 2},
        ),
    )
    assert counted(recorder, "traced_router.fallback.cycles") == {("b", "same"): 1}
    assert last_request().fallback_cycles == 1


async def test_an_alias_goes_to_its_own_group(provider, made, recorder):
    provider.script("dep-a", [ServerError()])
    built = made(*groups(provider, "a"), model_group_alias={"same": "a"}, fallbacks=[{"same": ["a"]}])
    await chat(built, "same")

    (found,) = recorder.tree().find("router.fallback a")
    assert [(e.name, dict(e.attributes)) for e in found.events] == [
        ("traced_router.fallback.cycle", {"model_group": "a", "depth": 1, "visits": 2})
    ]


async def test_chains_that_lead_back(provider, made, recorder):
    """a falls back to b, and b to a: 1.95 goes round until it has made five hops."""
    for name in "ab":
        provider.default(f"dep-{name}", ServerError())
    built = made(*groups(provider, "a", "b"), fallbacks=[{"a": ["b"]}, {"b": ["a"]}])
    with pytest.raises(litellm.InternalServerError):
        await chat(built)

    tree = recorder.tree()
    hops = [node for node in tree.children if node.name.startswith("router.fallback")]
    circles = [node.events[0].attributes if node.events else None for node in hops]
    route = "" if KNOWS_WHOM_IT_HAS_TRIED else "abab"
    assert [node.attributes["traced_router.fallback.to"] for node in hops] == ["b", *route]
    assert circles == [
        None,
        *({"model_group": to, "depth": 2 + i, "visits": 2 + i // 2} for i, to in enumerate(route)),
    ]
    calls = Counter(["a", "b", *route])
    assert {name: provider.hits(f"dep-{name}") for name in "ab"} == calls
    assert tree.attributes.get("traced_router.fallback.cycles") == (len(route) or None)
    assert most_by_group(tree) == calls
    assert tree.attributes.get("traced_router.amplification") == (None if KNOWS_WHOM_IT_HAS_TRIED else 3)
    assert counted(recorder, "traced_router.amplification") == {(name,): n for name, n in calls.items()}
    assert last_request().amplification == calls


async def test_the_same_group_with_other_words(provider, made, recorder):
    """The caller's own fallback, for a prompt that is too long; it is a group that has failed all the same."""
    provider.script("dep-a", [ContextWindowExceeded()])
    shorter = [{"role": "user", "content": "h"}]
    await chat(made(*groups(provider, "a")), fallbacks=[{"model": "a", "messages": shorter}])

    (found,) = recorder.tree().find("router.fallback a")
    assert [e.attributes["visits"] for e in found.events] == [2]
    assert recorder.tree().attributes["traced_router.amplification"] == 2


@pytest.mark.parametrize("kind", ["order", "weighted"])
async def test_the_rest_of_a_group_is_no_circle(provider, made, recorder, kind):
    provider.script("dep-a", [ServerError()])
    levels = ({"order": 1}, {"order": 2}) if kind == "order" else ({"weight": 1}, {"weight": 0})
    pair = [provider.deployment(f"dep-{n}", group="a", **of) for n, of in zip("ab", levels, strict=True)]
    await chat(made(*pair, enable_weighted_failover=kind == "weighted"))

    assert_tree(
        recorder,
        request(
            SELECT,
            attempt(1, "dep-a", SERVER),
            hop("a", SELECT, attempt(2, "dep-b"), from_="a", depth=1, kind=kind, **{"traced_router.amplification": 2}),
            outcome="ok_after_fallback",
            **{"traced_router.amplification": 2},
        ),
    )
    assert counted(recorder, "traced_router.fallback.cycles") == {}
    assert counted(recorder, "traced_router.amplification") == {("a",): 2}


async def test_streams_that_die_on_their_way_go_in_circles_too(provider, made, recorder):
    dies = ErrorEventMidStream(0, ServerError(500, "boom"))
    provider.script("dep-a", [dies])
    provider.script("dep-b", [dies])
    built = made(
        *groups(provider, "a", "b"),
        model_group_alias={"same": "a"},
        fallbacks=[{"a": ["b"]}, {"b": ["same"]}],
    )
    async for _ in await chat(built, stream=True):
        pass

    first, second = (node for node in recorder.tree().children if node.name.startswith("router.fallback"))
    assert first.events == ()
    assert [(e.name, e.attributes["visits"]) for e in second.events] == [("traced_router.fallback.cycle", 2)]
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_fallback"


async def test_the_live_check_says_the_same(provider, made, recorder):
    check = LiveCheck(meter_provider=recorder.meter_provider)
    recorder.provider.add_span_processor(check)
    provider.script("dep-a", [RateLimited(retry_after=90), ServerError()])
    provider.script("dep-b", [ServerError(), ServerError()])
    built = made(
        *groups(provider, "a", "b"),
        num_retries=1,
        model_group_alias={"same": "a"},
        fallbacks=[{"a": ["b", "same"]}],
    )
    await chat(built)

    own = recorder.tree().attributes
    assert own["traced_router.retry_after.violations"] == 2
    assert check.counts.violations == {"retry_after": 2, "cycle": own["traced_router.fallback.cycles"]}


# --- amplification -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_amplification_is_what_the_providers_see(provider, made, recorder, seed):
    """Whatever goes wrong: by group, traces and metrics tell of as many calls as came over the wire."""
    rng = random.Random(seed)
    faults = [ServerError(), RateLimited(), RateLimited(retry_after=2), RateLimited(retry_after_ms=100), Drop()]
    names = [f"{group}{n}" for group in "abc" for n in range(2)]
    for name in names:
        steps = [rng.choice(faults) if rng.random() < 0.7 else Answer() for _ in range(60)]
        provider.script(f"dep-{name}", steps)
    built = made(
        *(provider.deployment(f"dep-{name}", group=name[0]) for name in names),
        num_retries=2,
        disable_cooldowns=True,
        fallbacks=[{"a": ["b", "c"]}, {"b": ["c"]}],
    )
    random.seed(seed)
    calls = [chat(built, rng.choice("abc"), stream=rng.random() < 0.3) for _ in range(24)]
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if hasattr(answer, "__aiter__"):
            _ = [chunk async for chunk in answer]

    trees = recorder.trees()
    assert len(trees) == 24
    hits = {group: provider.hits(f"dep-{group}0") + provider.hits(f"dep-{group}1") for group in "abc"}
    assert counted(recorder, "traced_router.amplification") == {(group,): n for group, n in hits.items()}
    by_trees, visits = Counter(), Counter()
    for tree in trees:
        for group, most in most_by_group(tree).items():
            by_trees[group] += most
            visits[group] += 1
    assert by_trees == hits
    points = recorder.metrics()["traced_router.amplification"]
    assert {p.attributes["traced_router.model_group"]: p.count for p in points} == visits
    assert sum(tree.attributes["traced_router.attempts"] for tree in trees) == provider.hits()


def most_by_group(tree):
    """What a trace says of each group: the largest number, or nothing where that is one."""
    turns = [tree, *(node for node in tree.children if node.name.startswith("router.fallback"))]
    found = {}
    for node in turns:
        group = node.attributes.get("traced_router.fallback.to", node.attributes.get("traced_router.model_group"))
        said = node.attributes.get("traced_router.amplification", int(any(c.kind == "CLIENT" for c in node.children)))
        found[group] = max(found.get(group, 0), said)
    return {group: most for group, most in found.items() if most}


async def test_what_the_cache_answers_calls_nobody(provider, made, recorder, monkeypatch):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    built = made(*groups(provider, "a"), cache_responses=True)
    for _ in range(3):
        built.completion("a", MESSAGES)

    assert provider.hits() == 1
    first, second, third = (tree.attributes for tree in recorder.trees())
    assert [tree["traced_router.attempts"] for tree in (first, second, third)] == [1, 1, 1]
    assert not any("traced_router.amplification" in tree for tree in (first, second, third))
    (point,) = recorder.metrics()["traced_router.amplification"]
    assert (point.sum, point.count) == (1, 1)
    assert last_request().amplification == {}


async def test_a_group_that_nobody_calls_is_not_amplified(provider, made, recorder):
    built = made(provider.deployment("dep-a", group="a", tags=["else"]), enable_tag_filtering=True)
    with pytest.raises(Exception, match="tag"):
        await chat(built, metadata={"tags": ["mine"]})

    assert "traced_router.amplification" not in recorder.tree().attributes
    assert "traced_router.amplification" not in recorder.metrics()


async def test_one_call_of_several_deployments_at_once_is_as_many(provider, made, recorder):
    pair = [provider.deployment(f"dep-{n}", group="g") for n in "ab"]
    await made(*pair).acreate_file(model="g", file=("b.jsonl", b"{}"), purpose="batch")

    assert provider.hits() == 2
    assert recorder.tree().attributes["traced_router.amplification"] == 2
    assert counted(recorder, "traced_router.amplification") == {("g",): 2}


async def test_the_buckets_are_those_of_small_numbers(provider, made, recorder):
    provider.script("dep-a", [ServerError()] * 3)
    await chat(made(*groups(provider, "a"), num_retries=3))
    await chat(made(*groups(provider, "a")))

    (point,) = recorder.metrics()["traced_router.amplification"]
    assert point.unit == "{attempt}"
    assert point.bounds == (1, 2, 3, 4, 5, 8, 13, 21, 34)
    assert point.bucket_counts == (1, 0, 0, 1, 0, 0, 0, 0, 0, 0)


# --- the budget ----------------------------------------------------------------------------------

ONE_RETRY = ResilienceOptions(retry_ratio=0.0, retries_per_second=0.1)
BUDGET = "traced_router.retry_budget"


def budget_of(node):
    return {k.removeprefix(f"{BUDGET}."): v for k, v in node.attributes.items() if k.startswith(BUDGET)}


@pytest.mark.parametrize("policy", [False, True], ids=["litellm's loop", "our policy"])
async def test_the_state_of_the_budget(provider, made, recorder, clock, policy):
    """One retry in ten seconds: the first failure has it, the next one is refused."""
    provider.default("dep-a", ServerError())
    retrying = RetryPolicy(attempts=4, sleep=clock.sleep) if policy else None
    with pytest.raises(litellm.InternalServerError):
        await chat(made(*groups(provider, "a"), num_retries=3, retrying=retrying, resilience=ONE_RETRY))

    tree = recorder.tree()
    assert provider.hits() == 2
    assert tree.attributes["traced_router.retries.denied"] == 1
    assert budget_of(tree) == {"left": 0, "calls": 1, "retries": 1}
    assert {type(value) for value in budget_of(tree).values()} == {int}
    assert counted(recorder, "traced_router.retries.denied") == {("a", "dep-a", SERVER): 1}
    assert counted(recorder, "traced_router.retries") == {("a", "dep-a", SERVER): 1}
    (left,) = recorder.metrics()["traced_router.retry_budget.left"]
    assert (left.attributes, left.count, left.sum, left.unit) == ({}, 2, 0, "{retry}")
    assert last_request().retry_budget_left == 0


async def test_a_retry_that_is_granted_shows_what_is_left(provider, made, recorder):
    provider.script("dep-a", [ServerError()])
    built = made(*groups(provider, "a"), num_retries=1, resilience=True)
    await chat(built)
    await chat(built)

    retried, other = recorder.trees()
    assert budget_of(retried) == {"left": 99, "calls": 1, "retries": 1}
    assert budget_of(other) == {}
    assert counted(recorder, "traced_router.retries.denied") == {}


@pytest.mark.parametrize("resilience", [None, ResilienceOptions(retry_budget=False)], ids=["no layer", "no budget"])
async def test_without_a_budget_there_is_no_state(provider, made, recorder, resilience):
    provider.script("dep-a", [ServerError()])
    await chat(made(*groups(provider, "a"), num_retries=1, resilience=resilience))

    assert recorder.tree().attributes["traced_router.retries"] == 1
    assert budget_of(recorder.tree()) == {}
    assert f"{BUDGET}.left" not in recorder.metrics()
    assert last_request().retry_budget_left is None


async def test_a_retry_that_is_refused_in_a_hop(provider, made, recorder):
    for name in "ab":
        provider.default(f"dep-{name}", ServerError())
    built = made(*groups(provider, "a", "b"), num_retries=1, resilience=ONE_RETRY, fallbacks=[{"a": ["b"]}])
    with pytest.raises(litellm.InternalServerError):
        await chat(built)

    assert (provider.hits("dep-a"), provider.hits("dep-b")) == (2, 1)
    assert counted(recorder, "traced_router.retries.denied") == {("b", "dep-b", SERVER): 1}
