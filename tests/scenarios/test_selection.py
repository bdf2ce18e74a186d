"""Why this deployment: candidates, exclusions, choice and scores, of every strategy, asynchronous and synchronous."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.router_strategy import least_busy, lowest_latency, simple_shuffle
from litellm.types.router import AllowedFailsPolicy, CustomRoutingStrategyBase, RoutingGroup

from traced_router import _litellm as seams
from traced_router.testing import ANY, absent, approx, assert_tree, event, of_type, span
from traced_router.testing._provider_behaviours import Answer, RateLimited, ServerError, Unauthorized

MESSAGES = [{"role": "user", "content": "hi"}]

SECONDS = of_type(float)


NEWER = hasattr(simple_shuffle, "_metric_weight")
"""Whether this litellm is newer than 1.95."""


@pytest.fixture(params=["async", "sync"])
def chat(request):
    """Makes one call of a router, and what it raised."""

    def call(router, model="gpt-4o", messages=MESSAGES, **kwargs: Any):
        random.seed(7)
        if request.param == "async":
            return asyncio.run(router.acompletion(model, messages, **kwargs))
        return router.completion(model, messages, **kwargs)

    call.is_async = request.param == "async"
    return call


def select(*, error=None, events=(), group="gpt-4o", **attributes: Any):
    """A selection with exactly these attributes, the prefix left out; ``excluded`` is a dict of its own."""
    excluded = attributes.pop("excluded", {})
    facts = attributes.pop("facts", {})
    named = {f"traced_router.{name.replace('__', '.')}": value for name, value in attributes.items() if name != "id"}
    named.setdefault("traced_router.strategy.name", "simple-shuffle")
    if "id" in attributes:
        named["litellm.deployment.id"] = attributes["id"]
    if error is not None:
        named["error.type"] = error
    named |= {f"traced_router.candidates.excluded.{reason}": count for reason, count in excluded.items()}
    named |= {f"traced_router.strategy.{name}": value for name, value in facts.items()}
    return span(
        f"router.select {group}",
        kind="INTERNAL",
        status="ERROR" if error else "UNSET",
        exact_attributes=True,
        attributes=named,
        events=events,
    )


def picked(total, eligible, reason, id, **attributes: Any):  # noqa: A002
    return select(
        candidates__total=total,
        candidates__eligible=eligible,
        candidates__considered=attributes.pop("considered", eligible),
        decision__reason=reason,
        id=id,
        **attributes,
    )


def listed(ids, excluded, scores=absent):
    """The event with the candidates; scores only where they are known."""
    return event(
        "traced_router.candidates",
        {"ids": tuple(ids), "excluded": tuple(excluded), "scores": scores},
        exact_attributes=True,
    )


def nobody(total, error, ids, excluded, **attributes: Any):
    """A selection without a choice."""
    counts = {reason: excluded.count(reason) for reason in set(excluded) - {""}}
    return select(
        error=error,
        candidates__total=total,
        candidates__eligible=total - len(ids),
        excluded=counts,
        events=[listed(ids, excluded)],
        **attributes,
    )


def attempt(id=..., status="UNSET"):  # noqa: A002
    return span(
        "chat gpt-4o-2024-08-06",
        status=status,
        attributes={} if id is ... else {"litellm.deployment.id": id},
    )


def request(*children: Any, name="gpt-4o", **attributes: Any):
    return span(f"router.chat {name}", attributes=attributes, children=list(children))


def shuffle(chat):
    """What is known of a choice by lot: how long it took shows only where litellm hands it its list."""
    return {"decision__seconds": SECONDS} if chat.is_async else {}


def in_core(router):
    return seams.core_of(router)


def cache(router):
    """The router's cache, where the counters of its strategies are."""
    return seams.state(in_core(router), "cache")


def cool_down(router, *ids: str):
    for model_id in ids:
        seams.state(in_core(router), "cooldown_cache").add_deployment_to_cooldown(
            model_id=model_id, original_exception=Exception("too many"), exception_status=429, cooldown_time=60.0
        )


# --- by lot ----------------------------------------------------------------------------------


def test_a_choice_among_equals(provider, router, recorder, chat):
    chat(router(provider.deployment("dep-a"), provider.deployment("dep-b")))

    chosen = recorder.tree().children[1].attributes["litellm.deployment.id"]
    assert_tree(
        recorder,
        request(
            picked(2, 2, "tie_random", chosen, chosen__rank_by="random", chosen__score=0.5, **shuffle(chat)),
            attempt(chosen),
            **{"traced_router.strategy.name": "simple-shuffle"},
        ),
    )


@pytest.mark.parametrize("metric", ["weight", "rpm", "tpm"])
def test_a_weighted_choice(provider, router, recorder, chat, metric):
    chat(router(provider.deployment("dep-a", **{metric: 9000}), provider.deployment("dep-b", **{metric: 1000})))

    chosen = recorder.tree().children[1].attributes["litellm.deployment.id"]
    assert_tree(
        recorder,
        request(
            picked(
                2,
                2,
                "weighted_random",
                chosen,
                chosen__rank_by="weight",
                chosen__score={"dep-a": 0.9, "dep-b": 0.1}[chosen],
                **shuffle(chat),
            ),
            attempt(chosen),
        ),
    )


def test_a_weight_of_zero_never_wins(provider, router, recorder, chat):
    made = router(
        provider.deployment("dep-a", weight=1),
        provider.deployment("dep-b", weight=0),
        settings={"list_candidates": True},
    )
    chat(made)

    assert_tree(
        recorder,
        request(
            picked(
                2,
                2,
                "weighted_random",
                "dep-a",
                chosen__rank_by="weight",
                chosen__score=1.0,
                events=[listed(["dep-a", "dep-b"], ["", ""], (1.0, 0.0))],
                **shuffle(chat),
            ),
            attempt("dep-a"),
        ),
    )


def test_weights_of_the_request(provider, router, recorder, chat):
    if not NEWER:
        pytest.skip("1.95 knows no weights of a request")
    chat(
        router(provider.deployment("dep-a"), provider.deployment("dep-b")),
        _router_weights={"gpt-4o": {"dep-a": 0, "dep-b": 3}},
    )

    assert_tree(
        recorder,
        request(
            picked(2, 2, "weighted_random", "dep-b", chosen__rank_by="weight", chosen__score=1.0, **shuffle(chat)),
            attempt("dep-b"),
        ),
    )


def test_only_one(provider, router, recorder, chat):
    chat(router(provider.deployment("dep-a"), provider.deployment("dep-z", group="other")))

    assert_tree(recorder, request(picked(1, 1, "only_candidate", "dep-a", **shuffle(chat)), attempt("dep-a")))


def test_a_deployment_by_its_id_is_forced(provider, router, recorder, chat):
    chat(router(provider.deployment("dep-a"), provider.deployment("dep-b")), "dep-b")

    assert_tree(
        recorder, request(picked(1, 1, "forced_specific", "dep-b", considered=absent), attempt("dep-b"), name="gpt-4o")
    )


def test_ids_that_are_not_strings(provider, router, recorder, chat):
    deployments = [provider.deployment("dep-a"), provider.deployment("dep-b")]
    deployments[0]["model_info"]["id"], deployments[1]["model_info"]["id"] = 1, 2
    made = router(*deployments)
    cool_down(made, "1")
    chat(made)

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "2", excluded={"cooldown": 1}, **shuffle(chat)), attempt("2")),
    )


# --- exclusions ------------------------------------------------------------------------------


def test_cooldown(provider, router, recorder, chat):
    made = router(*(provider.deployment(f"dep-{x}") for x in "abc"), settings={"list_candidates": True})
    cool_down(made, "dep-b", "dep-c")
    chat(made)

    assert_tree(
        recorder,
        request(
            picked(
                3,
                1,
                "only_candidate",
                "dep-a",
                excluded={"cooldown": 2},
                events=[listed(["dep-a", "dep-b", "dep-c"], ["", "cooldown", "cooldown"])],
                **shuffle(chat),
            ),
            attempt("dep-a"),
        ),
    )


def test_everything_in_cooldown(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    cool_down(made, "dep-a", "dep-b")
    with pytest.raises(ValueError, match="No deployments available"):
        chat(made)

    assert_tree(
        recorder,
        request(nobody(2, "RouterRateLimitError", ["dep-a", "dep-b"], ["cooldown", "cooldown"])),
    )


def test_blocked(provider, router, recorder, chat):
    deployments = [provider.deployment("dep-a"), provider.deployment("dep-b")]
    deployments[0]["model_info"]["blocked"] = True
    chat(router(*deployments))

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"blocked": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_a_forced_one_that_is_blocked(provider, router, recorder, chat):
    deployment = provider.deployment("dep-a")
    deployment["model_info"]["blocked"] = True
    with pytest.raises(litellm.ServiceUnavailableError):
        chat(router(deployment), "dep-a")

    assert_tree(recorder, request(nobody(1, "ServiceUnavailableError", ["dep-a"], ["blocked"])))


def test_unhealthy(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"), enable_health_check_routing=True)
    seams.state(in_core(made), "health_state_cache").set_deployment_health_states(
        {"dep-a": {"is_healthy": False, "timestamp": time.time(), "reason": "500"}}
    )
    chat(made)

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"unhealthy": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_cooldown_is_waived_when_health_checks_drive_it(provider, router, recorder, chat):
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        enable_health_check_routing=True,
        allowed_fails_policy=AllowedFailsPolicy(RateLimitErrorAllowedFails=1),
    )
    cool_down(made, "dep-a", "dep-b")
    chat(made)

    chosen = recorder.tree().children[1].attributes["litellm.deployment.id"]
    assert_tree(
        recorder,
        request(
            picked(2, 2, "tie_random", chosen, chosen__rank_by="random", chosen__score=0.5, **shuffle(chat)),
            attempt(chosen),
        ),
    )


def _window(deployment, tokens):
    deployment["model_info"]["max_input_tokens"] = tokens
    return deployment


LONG = [{"role": "user", "content": "word " * 100}]


def test_context_window(provider, router, recorder, chat):
    made = router(
        _window(provider.deployment("dep-a"), 20),
        _window(provider.deployment("dep-b"), 100_000),
        enable_pre_call_checks=True,
    )
    chat(made, messages=LONG)

    assert_tree(
        recorder,
        request(
            picked(2, 1, "only_candidate", "dep-b", excluded={"context_window": 1}, **shuffle(chat)), attempt("dep-b")
        ),
    )


def test_no_context_window_is_large_enough(provider, router, recorder, chat):
    made = router(
        _window(provider.deployment("dep-a"), 20),
        _window(provider.deployment("dep-b"), 30),
        enable_pre_call_checks=True,
    )
    with pytest.raises(litellm.ContextWindowExceededError):
        chat(made, messages=LONG)

    assert_tree(
        recorder,
        request(nobody(2, "ContextWindowExceededError", ["dep-a", "dep-b"], ["context_window"] * 2)),
    )


def _rpm_used(router, **used: int):
    cache(router).set_cache(
        key=f"gpt-4o:rpm:{datetime.now(UTC).strftime('%H-%M')}",
        value={name.replace("_", "-"): count for name, count in used.items()},
        local_only=True,
    )


needs_rpm_check = pytest.mark.skipif(
    seams.ENGINE == "hosted", reason="1.109 leaves requests per minute to the strategies"
)


@needs_rpm_check
def test_rate_limit_of_pre_call_checks(provider, router, recorder, chat):
    made = router(
        _window(provider.deployment("dep-a", rpm=2), 100_000),
        provider.deployment("dep-b"),
        enable_pre_call_checks=True,
    )
    _rpm_used(made, dep_a=2)
    chat(made)

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"rate_limit": 1}, **shuffle(chat)), attempt("dep-b")),
    )


@needs_rpm_check
def test_all_over_their_requests_per_minute(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a", rpm=2), provider.deployment("dep-b", rpm=1), enable_pre_call_checks=True)
    _rpm_used(made, dep_a=2, dep_b=5)
    with pytest.raises(ValueError, match="No deployments available"):
        chat(made)

    assert_tree(recorder, request(nobody(2, "RouterRateLimitErrorBasic", ["dep-a", "dep-b"], ["rate_limit"] * 2)))


def test_another_region(provider, router, recorder, chat):
    made = router(
        _window(provider.deployment("dep-a", region_name="us"), 100_000),
        provider.deployment("dep-b", region_name="eu"),
        provider.deployment("dep-c"),
        enable_pre_call_checks=True,
    )
    chat(made, allowed_model_region="eu")

    assert_tree(
        recorder,
        request(picked(3, 1, "only_candidate", "dep-b", excluded={"other": 2}, **shuffle(chat)), attempt("dep-b")),
    )


def test_a_parameter_that_a_model_does_not_know(provider, router, recorder, chat):
    made = router(
        _window(provider.deployment("dep-a", model="nlp_cloud/dolphin"), 100_000),
        provider.deployment("dep-b"),
        enable_pre_call_checks=True,
    )
    chat(made, response_format={"type": "json_object"})

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"other": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_order(provider, router, recorder, chat):
    chat(router(provider.deployment("dep-a", order=2), provider.deployment("dep-b", order=1)))

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"order": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_two_reasons_are_told_apart_by_who_came_first(provider, router, recorder, chat):
    made = router(
        provider.deployment("dep-a", order=1),
        provider.deployment("dep-b", order=2),
        provider.deployment("dep-c", order=3),
    )
    cool_down(made, "dep-a")
    chat(made)

    assert_tree(
        recorder,
        request(
            picked(3, 1, "only_candidate", "dep-b", excluded={"cooldown": 1, "order": 1}, **shuffle(chat)),
            attempt("dep-b"),
        ),
    )


def test_another_team_s(provider, router, recorder, chat):
    deployments = [provider.deployment("dep-a"), provider.deployment("dep-b")]
    deployments[0]["model_info"]["team_id"] = "red"
    if not chat.is_async:
        pytest.skip("the synchronous pick has no team filter")
    chat(router(*deployments))

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"team": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_without_web_search(provider, router, recorder, chat):
    deployments = [provider.deployment("dep-a"), provider.deployment("dep-b")]
    deployments[0]["model_info"]["supports_web_search"] = False
    if not chat.is_async:
        pytest.skip("the synchronous pick does not look at web search")
    chat(router(*deployments), tools=[{"type": "web_search"}])

    assert_tree(
        recorder,
        request(picked(2, 1, "only_candidate", "dep-b", excluded={"other": 1}, **shuffle(chat)), attempt("dep-b")),
    )


def test_tags(provider, router, recorder):
    made = router(
        provider.deployment("dep-a", tags=["free"]),
        provider.deployment("dep-b", tags=["paid"]),
        enable_tag_filtering=True,
    )
    asyncio.run(made.acompletion("gpt-4o", MESSAGES, metadata={"tags": ["paid"]}))

    assert_tree(
        recorder,
        request(
            picked(2, 1, "only_candidate", "dep-b", excluded={"tag": 1}, decision__seconds=SECONDS), attempt("dep-b")
        ),
    )


def test_no_deployment_has_the_tag(provider, router, recorder):
    made = router(provider.deployment("dep-a", tags=["free"]), enable_tag_filtering=True)
    with pytest.raises(ValueError, match="tags"):
        asyncio.run(made.acompletion("gpt-4o", MESSAGES, metadata={"tags": ["paid"]}))

    assert_tree(recorder, request(nobody(1, "ValueError", ["dep-a"], ["tag"])))


class _Dropping(CustomLogger):
    """A callback that drops deployments, or refuses them all."""

    def __init__(self, *ids: str, error: Exception | None = None) -> None:
        super().__init__()
        self._ids = ids
        self._error = error

    async def async_filter_deployments(self, model, healthy_deployments, *_args: Any, **_kwargs: Any):
        assert model == "gpt-4o"
        if self._error is not None:
            raise self._error
        return [d for d in healthy_deployments if d["model_info"]["id"] not in self._ids]


def test_a_callback_drops_one(provider, router, recorder, monkeypatch):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, _Dropping("dep-a")])
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(
        recorder,
        request(
            picked(2, 1, "only_candidate", "dep-b", excluded={"other": 1}, decision__seconds=SECONDS), attempt("dep-b")
        ),
    )


def test_a_callback_refuses(provider, router, recorder, monkeypatch):
    made = router(provider.deployment("dep-a"))
    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, _Dropping(error=RuntimeError("budget"))])
    with pytest.raises(RuntimeError, match="budget"):
        asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(recorder, request(nobody(1, "RuntimeError", ["dep-a"], ["other"])))


def test_an_unknown_group(provider, router, recorder, chat):
    with pytest.raises(litellm.BadRequestError):
        chat(router(provider.deployment("dep-a")), "gpt-5")

    assert_tree(recorder, request(nobody(0, "BadRequestError", [], [], group="gpt-5"), name="gpt-5"))


# --- across attempts -------------------------------------------------------------------------


def test_weighted_failover_leaves_out_who_was_tried(provider, router, recorder):
    made = router(
        provider.deployment("dep-a", weight=1),
        provider.deployment("dep-b", weight=0),
        provider.deployment("dep-c", weight=0),
        enable_weighted_failover=True,
    )
    provider.default("dep-a", ServerError())
    cool_down(made, "dep-c")
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(
        recorder,
        request(
            picked(
                3,
                2,
                "weighted_random",
                "dep-a",
                chosen__rank_by="weight",
                chosen__score=1.0,
                excluded={"cooldown": 1},
                decision__seconds=SECONDS,
            ),
            attempt("dep-a", status="ERROR"),
            span(
                "router.fallback gpt-4o",
                attributes={"traced_router.fallback.kind": "weighted"},
                children=[
                    picked(
                        3,
                        1,
                        "only_candidate",
                        "dep-b",
                        excluded={"cooldown": 1, "already_tried": 1},
                        decision__seconds=SECONDS,
                        events=[listed(["dep-b", "dep-a", "dep-c"], ["", "already_tried", "cooldown"])],
                    ),
                    attempt("dep-b"),
                ],
            ),
        ),
    )


def test_weighted_failover_until_nobody_is_left(provider, router, recorder):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"), enable_weighted_failover=True)
    provider.default("dep-a", ServerError())
    provider.default("dep-b", ServerError())
    with pytest.raises(litellm.InternalServerError):
        asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    last = recorder.tree().find("router.select gpt-4o")[-1]
    if last.status == "ERROR":
        assert last.attributes["traced_router.candidates.eligible"] == 0
        assert last.attributes["traced_router.candidates.excluded.already_tried"] == 2
    else:
        assert last.attributes["traced_router.candidates.excluded.already_tried"] == 1


def test_order_fallback_goes_down_the_orders(provider, router, recorder):
    made = router(provider.deployment("dep-a", order=1), provider.deployment("dep-b", order=2))
    provider.default("dep-a", ServerError())
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(
        recorder,
        request(
            picked(2, 1, "only_candidate", "dep-a", excluded={"order": 1}, decision__seconds=SECONDS),
            attempt("dep-a", status="ERROR"),
            span(
                "router.fallback gpt-4o",
                attributes={"traced_router.fallback.kind": "order"},
                children=[
                    picked(
                        2,
                        1,
                        "only_candidate",
                        "dep-b",
                        excluded={"order": 1},
                        decision__seconds=SECONDS,
                        events=[listed(["dep-b", "dep-a"], ["", "order"])],
                    ),
                    attempt("dep-b"),
                ],
            ),
        ),
    )


def test_a_retry_lists_the_candidates_with_their_chances(provider, router, recorder, chat):
    made = router(
        provider.deployment("dep-a", weight=3),
        provider.deployment("dep-b", weight=0),
        num_retries=1,
        disable_cooldowns=True,
    )
    provider.script("dep-a", [RateLimited(), Answer()])
    chat(made)

    assert provider.hits("dep-a") == 2
    first, second = recorder.tree().find("router.select gpt-4o")
    assert first.events == ()
    (told,) = second.events
    assert dict(told.attributes) == {"ids": ("dep-a", "dep-b"), "excluded": ("", ""), "scores": (1.0, 0.0)}


def test_a_retry_skips_who_refused(provider, router, recorder, chat):
    if not NEWER:
        pytest.skip("1.95 skips nobody")
    made = router(
        provider.deployment("dep-a", weight=1),
        provider.deployment("dep-b", weight=0),
        num_retries=1,
        disable_cooldowns=True,
    )
    provider.default("dep-a", Unauthorized())
    chat(made)

    first, second = recorder.tree().find("router.select gpt-4o")
    assert first.attributes["litellm.deployment.id"] == "dep-a"
    assert second.attributes["litellm.deployment.id"] == "dep-b"
    assert second.attributes["traced_router.candidates.eligible"] == 1
    assert second.attributes["traced_router.candidates.excluded.already_tried"] == 1


# --- by rank ---------------------------------------------------------------------------------


@pytest.fixture
def ranked(provider, router):
    """Makes a router of a strategy with deployments a, b, …, each with its own parameters."""

    def make(strategy, *parameters: Any, **arguments: Any):
        deployments = [provider.deployment(f"dep-{'abcdef'[i]}", **p) for i, p in enumerate(parameters)]
        return router(*deployments, routing_strategy=strategy, **arguments)

    return make


def known(total, reason, id, strategy, **attributes: Any):  # noqa: A002
    """A choice of a strategy that ranks, none excluded."""
    return picked(
        total,
        total,
        reason,
        id,
        strategy__name=strategy,
        decision__seconds=SECONDS,
        **attributes,
    )


def busy(router, **counts: int):
    """That many calls are in flight."""
    found = {name.replace("_", "-"): count for name, count in counts.items()}
    if not hasattr(least_busy, "_request_count_key"):
        cache(router).set_cache(key="gpt-4o_request_count", value=found)
        return
    for name, count in found.items():
        cache(router).set_cache(key=f"gpt-4o_request_count:{name}", value=count, local_only=True)


def test_least_busy(ranked, recorder, chat):
    made = ranked("least-busy", {}, {}, {}, settings={"list_candidates": True})
    busy(made, dep_a=4, dep_b=1, dep_c=2)
    chat(made)

    assert_tree(
        recorder,
        request(
            known(
                3,
                "lowest_score",
                "dep-b",
                "least-busy",
                chosen__rank_by="inflight",
                chosen__score=1.0,
                chosen__inflight=1,
                runner_up__id="dep-c",
                runner_up__score=2.0,
                decision__margin=0.5,
                events=[listed(["dep-b", "dep-c", "dep-a"], ["", "", ""], (1.0, 2.0, 4.0))],
            ),
            attempt("dep-b"),
            **{"traced_router.strategy.name": "least-busy"},
        ),
    )


def test_least_busy_of_equals(ranked, recorder, chat):
    chat(ranked("least-busy", {}, {}))

    assert_tree(
        recorder,
        request(
            known(
                2,
                "tie_random",
                "dep-a",
                "least-busy",
                chosen__rank_by="inflight",
                chosen__score=0.0,
                chosen__inflight=0,
                runner_up__id="dep-b",
                runner_up__score=0.0,
            ),
            attempt("dep-a"),
        ),
    )


def test_the_excluded_have_scores_too(ranked, recorder, chat):
    made = ranked("least-busy", {}, {}, {}, settings={"list_candidates": True})
    busy(made, dep_a=4, dep_b=1, dep_c=2)
    cool_down(made, "dep-b")
    chat(made)

    assert_tree(
        recorder,
        request(
            picked(
                3,
                2,
                "lowest_score",
                "dep-c",
                strategy__name="least-busy",
                excluded={"cooldown": 1},
                chosen__rank_by="inflight",
                chosen__score=2.0,
                chosen__inflight=2,
                runner_up__id="dep-a",
                runner_up__score=4.0,
                decision__margin=0.5,
                decision__seconds=SECONDS,
                events=[listed(["dep-c", "dep-a", "dep-b"], ["", "", "cooldown"], (2.0, 4.0, 1.0))],
            )
            if NEWER
            # On 1.95 the least busy of the whole group is looked for; when it may not be called, lots are drawn.
            else span("router.select gpt-4o", attributes={"traced_router.decision.reason": ANY}),
            attempt(),
        ),
    )


def used(router, *, v2=False, **tokens: int):
    """So many tokens were used in this minute, and in the next should it begin."""
    now = datetime.now(UTC if v2 else None)  # as the strategy has it
    found = {name.replace("_", "-"): count for name, count in tokens.items()}
    for minute in (now.strftime("%H-%M"), (now + timedelta(minutes=1)).strftime("%H-%M")):
        if v2:
            for name, count in found.items():
                key = f"{name}:openai/gpt-4o-2024-08-06:tpm:{minute}"
                cache(router).set_cache(key=key, value=count, local_only=True)
        else:
            cache(router).set_cache(key=f"gpt-4o:tpm:{minute}", value=dict(found))


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2"])
def test_usage(ranked, recorder, chat, strategy):
    made = ranked(strategy, {}, {}, {})
    used(made, v2=strategy.endswith("v2"), dep_a=500, dep_b=100, dep_c=400)
    chat(made)

    assert_tree(
        recorder,
        request(
            known(
                3,
                "lowest_score",
                "dep-b",
                strategy,
                chosen__rank_by="usage",
                chosen__score=100.0,
                runner_up__id="dep-c",
                runner_up__score=400.0,
                decision__margin=0.75,
            ),
            attempt("dep-b"),
        ),
    )


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2"])
def test_usage_leaves_out_who_is_over_its_limit(ranked, recorder, chat, strategy):
    made = ranked(strategy, {"tpm": 50}, {"tpm": 90_000}, {})
    used(made, v2=strategy.endswith("v2"), dep_a=60, dep_b=100, dep_c=400)
    chat(made)

    assert_tree(
        recorder,
        request(
            known(
                3,
                "lowest_score",
                "dep-b",
                strategy,
                chosen__rank_by="usage",
                chosen__score=100.0,
                runner_up__id="dep-c",
                runner_up__score=400.0,
                decision__margin=0.75,
            ),
            attempt("dep-b"),
        ),
    )


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2", "latency-based-routing"])
def test_all_over_their_limits(ranked, recorder, chat, strategy):
    made = ranked(strategy, {"tpm": 1}, {"tpm": 1})
    with pytest.raises((ValueError, litellm.RateLimitError)) as raised:
        chat(made)

    select_span = nobody(
        2,
        type(raised.value).__name__,
        ["dep-a", "dep-b"],
        ["rate_limit", "rate_limit"],
        strategy__name=strategy,
        decision__seconds=SECONDS,
    )
    assert_tree(recorder, request(select_span))


def measured(router, **latencies: Any):
    """These latencies were measured: seconds, or seconds and those to the first token."""
    key = "latency_normalized" if hasattr(lowest_latency, "_usable_latency_samples") else "latency"
    first = "time_to_first_token_seconds" if NEWER else "time_to_first_token"
    found = {}
    for name, (samples, firsts) in latencies.items():
        found[name.replace("_", "-")] = {key: samples} | ({first: firsts} if firsts else {})
    cache(router).set_cache(key="gpt-4o_map", value=found)


def test_latency(ranked, recorder, chat):
    made = ranked("latency-based-routing", {}, {}, {})
    measured(made, dep_a=([0.5, 1.5], ()), dep_b=([0.2, 0.6], ()), dep_c=([0.8], ()))
    chat(made)

    assert_tree(
        recorder,
        request(
            known(
                3,
                "lowest_score",
                "dep-b",
                "latency-based-routing",
                chosen__rank_by="latency",
                chosen__score=approx(0.4),
                runner_up__id="dep-c",
                runner_up__score=approx(0.8),
                decision__margin=approx(0.5),
            ),
            attempt("dep-b"),
        ),
    )


def test_latency_of_streams_is_that_of_their_first_token(ranked, recorder, chat):
    made = ranked("latency-based-routing", {}, {})
    measured(made, dep_a=([0.1], [2.0]), dep_b=([5.0], [0.5, 1.5]))
    stream = chat(made, stream=True)
    if not chat.is_async:
        list(stream)
    del stream

    (told,) = recorder.tree().find("router.select gpt-4o")
    assert told.attributes["litellm.deployment.id"] == "dep-b"
    assert told.attributes["traced_router.chosen.score"] == 1.0
    assert told.attributes["traced_router.runner_up.score"] == 2.0
    assert told.attributes["traced_router.decision.reason"] == "lowest_score"


def test_latency_of_a_percentile(ranked, recorder, chat):
    if not NEWER:
        pytest.skip("1.95 takes the mean")
    made = ranked("latency-based-routing", {}, {}, routing_strategy_args={"ttft_percentile": 0.5})
    measured(made, dep_a=([0.1], [0.4, 9.0]), dep_b=([5.0], [0.5, 0.6]))
    stream = chat(made, stream=True)
    if not chat.is_async:
        list(stream)
    del stream

    (told,) = recorder.tree().find("router.select gpt-4o")
    assert told.attributes["litellm.deployment.id"] == "dep-a"
    assert told.attributes["traced_router.chosen.score"] == 0.4
    assert told.attributes["traced_router.runner_up.score"] == 0.5


def test_latency_within_the_buffer_is_drawn(ranked, recorder, chat):
    made = ranked("latency-based-routing", {}, {}, {}, routing_strategy_args={"lowest_latency_buffer": 0.5})
    measured(made, dep_a=([1.0], ()), dep_b=([1.2], ()), dep_c=([9.0], ()))
    chat(made)

    (told,) = recorder.tree().find("router.select gpt-4o")
    chosen = told.attributes["litellm.deployment.id"]
    other = {"dep-a": "dep-b", "dep-b": "dep-a"}[chosen]
    scores = {"dep-a": 1.0, "dep-b": 1.2}
    assert told.attributes["traced_router.decision.reason"] == "tie_random"
    assert told.attributes["traced_router.chosen.score"] == scores[chosen]
    assert told.attributes["traced_router.runner_up.id"] == other
    assert told.attributes["traced_router.runner_up.score"] == scores[other]
    assert 0 <= told.attributes["traced_router.decision.margin"] <= 1


def test_a_deployment_that_was_never_measured_starts_cold(ranked, recorder, chat):
    made = ranked("latency-based-routing", {}, {})
    measured(made, dep_a=([0.5], ()))
    chat(made)

    assert_tree(
        recorder,
        request(
            known(
                2,
                "cold_start",
                "dep-b",
                "latency-based-routing",
                chosen__rank_by="latency",
                chosen__score=0.0,
                runner_up__id="dep-a",
                runner_up__score=0.5,
                decision__margin=1.0,
            ),
            attempt("dep-b"),
        ),
    )


def test_cost(ranked, recorder):
    made = ranked(
        "cost-based-routing",
        {"input_cost_per_token": 2e-6, "output_cost_per_token": 6e-6},
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6},
        {},
        {"model": "gpt-4o-mini"},
        settings={"list_candidates": True},
    )
    prices = litellm.model_cost["gpt-4o-mini"]
    mini = prices["input_cost_per_token"] + prices["output_cost_per_token"]
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert mini < 4e-6
    assert_tree(
        recorder,
        request(
            known(
                4,
                "lowest_score",
                "dep-d",
                "cost-based-routing",
                chosen__rank_by="cost",
                chosen__score=approx(mini),
                runner_up__id="dep-b",
                runner_up__score=approx(4e-6),
                decision__margin=approx(1 - mini / 4e-6),
                events=[
                    event(
                        "traced_router.candidates",
                        {"ids": ("dep-d", "dep-b", "dep-a", "dep-c"), "excluded": ("",) * 4, "scores": of_type(tuple)},
                    )
                ],
            ),
            span("chat gpt-4o-mini"),
        ),
    )
    (told,) = recorder.tree().find("router.select gpt-4o")
    assert told.events[0].attributes["scores"] == pytest.approx((mini, 4e-6, 8e-6, 10.0))


def test_the_price_of_the_base_model(ranked, recorder):
    if not NEWER:
        pytest.skip("1.95 looks at the model alone")
    made = ranked("cost-based-routing", {"base_model": "gpt-4o"}, {"base_model": "gpt-4o-mini"})
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    (told,) = recorder.tree().find("router.select gpt-4o")
    prices = litellm.model_cost["gpt-4o-mini"]
    assert told.attributes["litellm.deployment.id"] == "dep-b"
    assert told.attributes["traced_router.chosen.score"] == pytest.approx(
        prices["input_cost_per_token"] + prices["output_cost_per_token"]
    )


def test_cost_is_not_for_synchronous_calls(ranked, recorder):
    made = ranked("cost-based-routing", {})
    with pytest.raises(ValueError, match="No deployments available"):
        made.completion("gpt-4o", MESSAGES)

    (told,) = recorder.tree().find("router.select gpt-4o")
    assert told.status == "ERROR"
    assert told.attributes["traced_router.candidates.eligible"] == 0


# --- which strategy --------------------------------------------------------------------------


def test_a_strategy_of_the_request(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    busy(made, dep_a=3)
    chat(made, routing_strategy="least-busy")

    assert_tree(
        recorder,
        request(
            known(
                2,
                "lowest_score",
                "dep-b",
                "least-busy",
                chosen__rank_by="inflight",
                chosen__score=0.0,
                chosen__inflight=0,
                runner_up__id="dep-a",
                runner_up__score=3.0,
                decision__margin=1.0,
            ),
            attempt("dep-b"),
            **{"traced_router.strategy.name": "least-busy"},
        ),
    )


def test_the_strategy_of_a_routing_group(provider, router, recorder, chat):
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b"),
        routing_groups=[RoutingGroup(group_name="busy", models=["gpt-4o"], routing_strategy="least-busy")],
    )
    busy(made, dep_a=3)
    chat(made)

    (told,) = recorder.tree().find("router.select gpt-4o")
    assert told.attributes["traced_router.strategy.name"] == "least-busy"
    assert told.attributes["litellm.deployment.id"] == "dep-b"
    assert told.attributes["traced_router.runner_up.score"] == 3.0
    assert recorder.tree().attributes["traced_router.strategy.name"] == "least-busy"


class _Last(CustomRoutingStrategyBase):
    """A user's own strategy: the last deployment there is."""

    def __init__(self, router: Any) -> None:
        self._router = router

    async def async_get_available_deployment(self, model, *_args: Any, **kwargs: Any):
        return self.get_available_deployment(model, **kwargs)

    def get_available_deployment(self, model, *_args: Any, **_kwargs: Any):
        return [d for d in seams.state(in_core(self._router), "model_list") if d["model_name"] == model][-1]


def test_a_strategy_of_the_user_s(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a"), provider.deployment("dep-b"))
    # 1.109 calls it a plugin, and warns of the old name.
    getattr(made, "register_plugin" if hasattr(made, "register_plugin") else "set_custom_routing_strategy")(_Last(made))
    chat(made)

    assert_tree(
        recorder,
        request(
            select(strategy__name="_Last", decision__reason="external", id="dep-b"),
            attempt("dep-b"),
            **{"traced_router.strategy.name": "_Last"},
        ),
    )


def test_lar1(provider, router, recorder):
    deployments = [provider.deployment(f"dep-{x}") for x in "abc"]
    deployments[1]["model_info"]["type"] = "cloud-smart"
    made = router(*deployments, routing_strategy="lar1")
    cool_down(made, "dep-c")
    asyncio.run(made.acompletion("gpt-4o", MESSAGES, metadata={"lar1": {"evidence": ["UNVERIFIED"]}}))

    assert_tree(
        recorder,
        request(
            picked(3, 2, "external", "dep-b", considered=absent, strategy__name="lar1", excluded={"cooldown": 1}),
            attempt("dep-b"),
            **{"traced_router.strategy.name": "lar1"},
        ),
    )


def test_a_complexity_router_says_which_group_it_chose(provider, router, recorder):
    if not NEWER:
        pytest.skip("1.95 says nothing of its choice")
    marker = {
        "model_name": "smart",
        "litellm_params": {
            "model": "auto_router/complexity_router",
            "complexity_router_config": {
                "tiers": {"SIMPLE": "small", "MEDIUM": "small", "COMPLEX": "gpt-4o", "REASONING": "gpt-4o"}
            },
            "complexity_router_default_model": "gpt-4o",
        },
    }
    made = router(marker, provider.deployment("dep-a", group="small"), provider.deployment("dep-b"))
    asyncio.run(made.acompletion("smart", MESSAGES))

    told = recorder.tree().find("router.select smart")[0]
    facts = {k.removeprefix("traced_router.strategy."): v for k, v in told.attributes.items() if ".strategy." in k}
    assert facts["name"] == "simple-shuffle"
    assert facts["router_type"] == "complexity"
    assert facts["routed_model"] == "small"
    assert facts["tier"] == "SIMPLE"
    assert len(facts) <= 17
    assert "hi" not in facts.values()
    assert told.attributes["litellm.deployment.id"] == "dep-a"
    assert told.attributes["traced_router.candidates.total"] == 1


class _Narrowing:
    """A routing plugin."""

    def __init__(self, *models: str) -> None:
        self._models = models

    async def run(self, context):
        context.candidate_models = list(self._models)
        return context


def test_a_plugin_narrows(provider, router, recorder):
    made = router(
        provider.deployment("dep-a"),
        provider.deployment("dep-b", model="openai/small"),
        plugins=[_Narrowing("openai/small")],
    )
    asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(
        recorder,
        request(
            picked(2, 1, "only_candidate", "dep-b", excluded={"plugin": 1}, decision__seconds=SECONDS),
            span("chat small"),
        ),
    )


def test_a_plugin_leaves_nobody(provider, router, recorder):
    made = router(provider.deployment("dep-a"), plugins=[_Narrowing()])
    with pytest.raises(ValueError, match="routing-plugin"):
        asyncio.run(made.acompletion("gpt-4o", MESSAGES))

    assert_tree(recorder, request(nobody(1, "ValueError", ["dep-a"], ["plugin"])))


def test_an_alias(provider, router, recorder, chat):
    chat(router(provider.deployment("dep-a"), model_group_alias={"best": "gpt-4o"}), "best")

    assert_tree(
        recorder,
        request(picked(1, 1, "only_candidate", "dep-a", group="best", **shuffle(chat)), attempt(), name="best"),
    )


def test_provider_budget_routing_picks_nobody(provider, router, recorder, chat):
    """litellm knows the name, but has no code behind it: budgets are a callback's, whatever the strategy."""
    with pytest.raises(ValueError, match="No deployments available"):
        chat(router(provider.deployment("dep-a"), routing_strategy="provider-budget-routing"))

    assert_tree(
        recorder,
        request(
            nobody(
                1,
                "RouterRateLimitError",
                ["dep-a"],
                ["other"],
                strategy__name="provider-budget-routing",
                decision__seconds=SECONDS,
            )
        ),
    )


def test_a_deployment_by_its_provider_s_model_is_forced(provider, router, recorder, chat):
    made = router(provider.deployment("dep-a", order=2), provider.deployment("dep-b", order=1))
    chat(made, "openai/gpt-4o-2024-08-06", specific_deployment=True)

    assert_tree(
        recorder,
        request(
            picked(2, 1, "forced_specific", "dep-b", considered=absent, excluded={"order": 1}, **shuffle(chat)),
            attempt("dep-b"),
        ),
    )


def test_many_at_once_do_not_mix(provider, router, recorder):
    made = router(
        provider.deployment("dep-a"), provider.deployment("dep-b"), provider.deployment("dep-z", group="other")
    )
    cool_down(made, "dep-b")

    async def play():
        await asyncio.gather(*(made.acompletion(("gpt-4o", "other")[i % 2], MESSAGES) for i in range(10)))

    asyncio.run(play())

    for tree in recorder.trees():
        group = tree.attributes["traced_router.model_group"]
        told = tree.children[0].attributes
        assert told["litellm.deployment.id"] == {"gpt-4o": "dep-a", "other": "dep-z"}[group]
        assert told["traced_router.candidates.total"] == {"gpt-4o": 2, "other": 1}[group]
        assert told.get("traced_router.candidates.excluded.cooldown") == {"gpt-4o": 1, "other": None}[group]
