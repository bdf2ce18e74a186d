"""What a selection is told of, step by step: reasons, numbers, odd deployments; and that it never breaks a pick."""

import asyncio
import random
from datetime import UTC, datetime
from types import SimpleNamespace

import litellm
import pytest
from litellm.types.router import RouterErrors
from opentelemetry import metrics

from traced_router import TracedRouter, _picks, _probe, _router
from traced_router import _litellm as seams
from traced_router import _litellm_filters as filters
from traced_router import _litellm_strategies as strategies
from traced_router._attributes import candidates
from traced_router._current import attach, detach
from traced_router._explain import UNEXPLAINED, Choice, drawn, lowest
from traced_router._facts import CallFacts, DecisionFacts
from traced_router._frame import Frame, with_frame
from traced_router._guard import Guard
from traced_router._probe import Probe
from traced_router.testing import Recorder

HEALTH, COOLDOWN, BLOCKED, CALLBACKS, CHECKS, PLUGINS = (
    next(f for f in filters.FILTERS if f.place == place) for place in range(1, 7)
)


def deployment(name, model="gpt-4o", *, info=None, **params):
    return {"model_name": "g", "litellm_params": {"model": model, **params}, "model_info": {"id": name, **(info or {})}}


A, B, C = deployment("a"), deployment("b"), deployment("c")


@pytest.fixture
def guard():
    return Guard(metrics.get_meter_provider)


def clock():
    return 1.0


@pytest.fixture
def probe(guard):
    """Makes the probe of a pick of the group ``g``."""

    def make(*deployments, request=None, router=None, **kwargs):
        made = Probe(router or SimpleNamespace(), guard, "g", request or {}, clock=clock, **kwargs)
        if deployments:
            made.configured("g", list(deployments))
        return made

    return make


# --- reasons from numbers --------------------------------------------------------------------


def test_lots():
    assert drawn(None, 4, 2) == Choice("tie_random", 0.25)
    assert drawn([3, 1], 2, 1) == Choice("weighted_random", 0.25)


@pytest.mark.parametrize(
    ("scores", "chosen", "kwargs", "choice"),
    [
        ([3], 0, {}, Choice("lowest_score", 3.0)),
        ([3, 1, 2], 1, {}, Choice("lowest_score", 1.0, 2, 2.0)),
        ([1, 1, 2], 1, {}, Choice("tie_random", 1.0, 0, 1.0)),
        ([3, 1, 2], 0, {}, UNEXPLAINED),
        ([3, 1, 2], 2, {"left_out": lambda i: i == 1}, Choice("lowest_score", 2.0, 0, 3.0)),
        ([3, 1, 2], 2, {"left_out": lambda _: False}, UNEXPLAINED),
        ([1.0, 1.2, 9.0], 1, {"slack": 0.5}, Choice("tie_random", 1.2, 0, 1.0)),
        ([1.0, 1.2, 9.0], 0, {"slack": 0.1}, Choice("lowest_score", 1.0, 1, 1.2)),
        ([0, 5], 0, {"cold": True}, Choice("cold_start", 0.0, 1, 5.0)),
        ([4, 5], 0, {"cold": True}, Choice("lowest_score", 4.0, 1, 5.0)),
    ],
    ids=str,
)
def test_the_lowest(scores, chosen, kwargs, choice):
    assert lowest(scores, chosen, **kwargs) == choice


def test_any_choice_of_the_lowest_is_explained():
    lots = random.Random(3)
    for _ in range(300):
        scores = [lots.choice([0, 1, 2, 3]) for _ in range(lots.randint(1, 9))]
        chosen = lots.choice([i for i, score in enumerate(scores) if score == min(scores)])
        choice = lowest(scores, chosen)
        assert choice.reason == ("tie_random" if scores.count(min(scores)) > 1 else "lowest_score")
        others = [score for i, score in enumerate(scores) if i != chosen]
        assert choice.runner_up_score == min(others, default=None)


# --- who is gone, and why --------------------------------------------------------------------


def test_nothing_is_compared_while_the_number_stays(probe):
    made = probe(A, B)
    made.passed(COOLDOWN, [C, C], {})
    facts = made.failed(RuntimeError())
    assert (facts.total, facts.eligible, facts.excluded) == (2, 2, {})


def test_each_step_has_its_reason(probe):
    d = deployment("d", info={"team_id": "red"})
    made = probe(A, B, C, d)
    made.enters(HEALTH, [A, B, C])
    made.passed(HEALTH, [A, B, C], {})
    made.passed(COOLDOWN, [A, B], {})
    made.enters(PLUGINS, [A])
    made.passed(PLUGINS, [A], {})
    made.routed("simple-shuffle")
    made.filtered([A])
    facts = made.decide(A)
    assert facts.excluded == {"b": "tag", "c": "cooldown", "d": "team"}
    assert (facts.reason, facts.total, facts.eligible, facts.considered) == ("only_candidate", 4, 1, 1)
    assert facts.seconds == 0.0


def test_a_step_that_is_asked_again_for_another_end_is_not_heard(probe):
    made = probe(A, B)
    made.passed(BLOCKED, [A, B], {})
    made.passed(COOLDOWN, [A], {})
    made.enters(HEALTH, [A])
    made.filtered([A, B])
    assert made.decide(A).eligible == 2


def test_who_comes_back_is_not_excluded(probe):
    made = probe(A, B)
    made.passed(COOLDOWN, [], {})
    made.passed(BLOCKED, [A], {})
    made.filtered([A])
    assert made.decide(A).excluded == {"b": "cooldown"}


def test_what_no_filter_tells(probe):
    """1.109 has steps between the plugins and the order that nobody sees."""
    made = probe(A, B, C, request={seams.EXCLUDED_IDS: ["b"]})
    made.filtered([A])
    assert made.decide(A).excluded == {"b": "already_tried", "c": "other"}


def test_a_retry_that_would_skip_everybody_skips_nobody(probe):
    made = probe(A, B, request={seams.RETRY_SKIPPED_IDS: ("a", "b")})
    made.routed("simple-shuffle")
    facts = made.decide(A)
    assert (facts.eligible, facts.excluded, facts.seconds) == (2, {}, None)


def test_a_synchronous_pick_after_a_retry(probe):
    made = probe(A, B, request={seams.RETRY_SKIPPED_IDS: ("a",)}, listing=True)
    facts = made.decide(B)
    assert (facts.reason, facts.excluded, facts.ids) == ("only_candidate", {"a": "already_tried"}, ["a", "b"])


def test_the_one_chosen_is_never_excluded(probe):
    """litellm's steps may have changed; the choice is a fact."""
    made = probe(deployment("a", order=2), deployment("b", order=1))
    chosen = deployment("a", order=2)
    facts = made.decide(chosen)
    assert facts.chosen_id == "a"
    assert (facts.total, facts.eligible, facts.excluded) == (2, 2, {})
    assert facts.reason == "external"


def test_a_choice_from_elsewhere(probe):
    made = probe(A, B)
    made.routed("simple-shuffle")
    made.filtered([A, B])
    facts = made.decide(C)
    assert (facts.chosen_id, facts.total, facts.eligible, facts.reason) == ("c", None, None, "external")


def test_a_shuffle_of_what_was_swapped(probe):
    made = probe(A, B)
    made.routed("simple-shuffle")
    made.filtered([B, C])
    assert made.decide(A).reason == "external"


def test_a_strategy_that_answers_with_no_deployment(probe):
    made = probe(strategy="Mine")
    made.routed("simple-shuffle")
    facts = made.decide(None)
    assert (facts.strategy, facts.reason, facts.total) == ("Mine", None, None)


def test_a_forced_deployment(probe):
    made = probe()
    made.configured("g", A)
    made.filtered(A)
    facts = made.decide(A)
    assert (facts.reason, facts.total, facts.eligible) == ("forced_specific", 1, 1)


@pytest.mark.parametrize(("info", "reason"), [({"blocked": True}, "blocked"), ({}, "other")])
def test_a_forced_deployment_that_may_not_be_called(probe, info, reason):
    made = probe()
    made.configured("g", deployment("a", info=info))
    assert made.failed(litellm.ServiceUnavailableError("paused", "", "")).excluded == {"a": reason}


NOBODY = ValueError(f"{RouterErrors.no_deployments_available.value}, Try again in 5 seconds.")


def test_a_fault_of_the_strategy_excludes_nobody(probe):
    made = probe(A, B)
    made.filtered([A, B])
    facts = made.failed(TypeError("weights"))
    assert (facts.eligible, facts.excluded, facts.ids) == (2, {}, ["a", "b"])


def test_nobody_after_the_last_filters(probe):
    made = probe(deployment("a", order=1), deployment("b", order=2), request={seams.EXCLUDED_IDS: ["a"]})
    facts = made.failed(NOBODY)
    assert (facts.eligible, facts.excluded) == (0, {"a": "already_tried", "b": "order"})


def test_nobody_for_a_reason_that_is_not_known(probe):
    made = probe(A)
    made.filtered([A])
    assert made.failed(NOBODY).excluded == {"a": "other"}


def test_nothing_is_known_before_the_group_is(probe):
    facts = probe().failed(RuntimeError("a hook"))
    assert (facts.total, facts.eligible, facts.excluded, facts.ids) == (None, None, {}, [])


# --- the group -------------------------------------------------------------------------------


def router_of(*deployments, **state):
    return SimpleNamespace(
        model_list=list(deployments),
        model_name_to_deployment_indices={"g": list(range(len(deployments)))},
        **state,
    )


def test_a_group_that_is_the_caller_s_in_part(probe):
    made = probe(router=router_of(A, B, deployment("x", "auto_router/complexity_router")))
    made.configured("g", [A])
    facts = made.decide(A)
    assert (facts.total, facts.eligible, facts.excluded) == (2, 1, {"b": "team"})


def test_a_group_of_another_name(probe):
    made = probe(router=router_of(A, B, C))
    made.configured("g", [deployment("x")])
    assert made.decide(deployment("x")).total == 1


def test_a_group_that_is_not_the_caller_s(probe):
    made = probe(router=router_of(A, B))
    made.refused()
    facts = made.failed(litellm.BadRequestError("no", "", ""))
    assert (facts.total, facts.eligible, facts.excluded) == (2, 0, {"a": "team", "b": "team"})


def test_why_one_is_gone_before_the_health_check():
    assert filters.unseen_before_health(deployment("a", info={"access_groups": ["x"]})) == "team"
    assert filters.unseen_before_health(A) == "other"


# --- pre-call checks -------------------------------------------------------------------------


def checking(windows, *, rpm=None, strategy="simple-shuffle"):
    memory = {} if rpm is None else {f"g:rpm:{datetime.now(UTC).strftime('%H-%M')}": rpm}
    return SimpleNamespace(
        get_router_model_info=lambda deployment, received_model_name: {  # noqa: ARG005
            "max_input_tokens": windows.get(deployment["model_info"]["id"])
        },
        cache=SimpleNamespace(in_memory_cache=SimpleNamespace(cache_dict=memory)),
        routing_strategy=strategy,
    )


@pytest.fixture
def _rpm(monkeypatch):
    monkeypatch.setattr(filters, "_RPM_IS_CHECKED", True)


@pytest.mark.usefixtures("_rpm")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"input_token_count": 20}, "context_window"),
        ({"input_token_count": 5}, "other"),
        ({"messages": [{"content": "x" * 11}]}, "context_window"),
        ({"messages": [{"content": "x" * 9}]}, "other"),
        ({"messages": [{"content": "é" * 9}]}, "context_window"),
        ({"input": ["x" * 6, ("y" * 6, 3)]}, "context_window"),
        ({"input": "x" * 11, "request_kwargs": {"allowed_model_region": "eu"}}, "other"),
    ],
)
def test_why_pre_call_checks_dropped_one(arguments, reason):
    tell = filters.pre_call_reason(checking({"a": 10}), {"model": "g", **arguments})
    assert tell(A) == reason


@pytest.mark.usefixtures("_rpm")
def test_requests_per_minute():
    over, under = deployment("a", rpm=2), deployment("b", rpm=9)
    tell = filters.pre_call_reason(checking({"a": 10}, rpm={"a": 2, "b": 2}), {"model": "g", "messages": []})
    assert (tell(over), tell(under), tell(C)) == ("rate_limit", "other", "other")


@pytest.mark.usefixtures("_rpm")
def test_usage_based_routing_counts_by_itself():
    tell = filters.pre_call_reason(checking({}, rpm={"a": 9}, strategy="usage-based-routing-v2"), {"model": "g"})
    assert tell(deployment("a", rpm=2)) == "other"


def test_requests_per_minute_that_are_not_checked(monkeypatch):
    monkeypatch.setattr(filters, "_RPM_IS_CHECKED", False)
    tell = filters.pre_call_reason(checking({}, rpm={"a": 9}), {"model": "g"})
    assert tell(deployment("a", rpm=2)) == "other"


def test_a_step_whose_reasons_cannot_be_told(probe, guard):
    made = probe(A, B, C)
    made.passed(CHECKS, [A], {})
    assert guard.faults == 1
    assert made.decide(A).excluded == {"b": "other", "c": "other"}


# --- what strategies know --------------------------------------------------------------------


def selector(memory, *, redis=None, **arguments):
    cache = SimpleNamespace(in_memory_cache=SimpleNamespace(cache_dict=memory), redis_cache=redis)
    return SimpleNamespace(router_cache=cache, routing_args=SimpleNamespace(**arguments))


def read(strategy, chooser, *deployments, **request):
    return strategies.RANKINGS[strategy].read(chooser, "g", deployments, request)


def test_counts_of_each_deployment(monkeypatch):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", True)
    memory = {"g_request_count:a": 2, "g_request_count:b": -1}
    assert read("least-busy", selector(memory), A, B, C) == [2, 0, 0]
    assert read("least-busy", selector(memory, redis=object()), A, B) is None


def test_counts_of_the_group(monkeypatch):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", False)
    assert read("least-busy", selector({"g_request_count": {"a": 2}}), A, B) == [2, 0]
    assert read("least-busy", selector({}), A, B) == [0, 0]


def test_usage_that_only_redis_knows():
    minute = datetime.now(UTC).strftime("%H-%M")
    memory = {f"a:gpt-4o:tpm:{minute}": 7}
    assert read("usage-based-routing-v2", selector(memory, redis=object()), A) == [7]
    assert read("usage-based-routing-v2", selector(memory, redis=object()), A, B) is None
    assert read("usage-based-routing-v2", selector(memory), A, B) == [7, 0]


def test_latencies(monkeypatch):
    memory = {"g_map": {"a": {"latency": [1.0, 3.0], "time_to_first_token_seconds": [0.5, 0.1]}}}
    assert read("latency-based-routing", selector(memory), A, B) == [2.0, 0.0]
    assert read("latency-based-routing", selector(memory), A, B, stream=True) == [0.3, 0.0]
    monkeypatch.setattr(strategies, "_percentile", lambda samples, share: (max(samples), share)[0])
    assert read("latency-based-routing", selector(memory, ttft_percentile=0.9), A, stream=True) == [0.5]
    monkeypatch.setattr(strategies, "_percentile", None)
    assert read("latency-based-routing", selector(memory, ttft_percentile=0.9), A, stream=True) == [0.3]


@pytest.mark.parametrize("newer", [True, False])
def test_prices(monkeypatch, newer):
    monkeypatch.setattr(strategies, "_BASE_MODEL_PRICES", newer)
    monkeypatch.setattr(
        litellm,
        "model_cost",
        {"big": {"input_cost_per_token": 1.0, "output_cost_per_token": 2.0}, "half": {"output_cost_per_token": 4.0}},
    )
    base = deployment("d", "big", base_model="half")
    own = deployment("e", "big", input_cost_per_token=0.5)
    assert read("cost-based-routing", None, deployment("a", "big"), C, base, own) == [
        3.0,
        10.0,
        9.0 if newer else 3.0,
        2.5,
    ]


@pytest.mark.parametrize("newer", [True, False])
def test_weights(monkeypatch, newer):
    monkeypatch.setattr(strategies, "_ANY_WEIGHT_COUNTS", newer)
    heavy, rpm = deployment("a", weight=3), deployment("b", rpm=5)
    assert strategies.weights([A, B], "g", {}) is None
    assert strategies.weights([heavy, A], "g", {}) == [3, 0.0]
    assert strategies.weights([A, heavy], "g", {}) == ([0.0, 3] if newer else None)
    assert strategies.weights([rpm, heavy], "g", {}) == ([0.0, 3] if newer else [5, 0.0])
    assert strategies.weights([deployment("a", weight=0), A], "g", {}) is None
    request = {"_router_weights": {"g": {"b": 1}}}
    assert strategies.weights([A, B], "g", request) == ([0.0, 1] if newer else None)
    assert strategies.weights([A, B], "h", request) is None
    assert strategies.weights([A, B], "g", {"_router_weights": None}) is None


def test_what_an_auto_router_says():
    decision = {"tier": "SIMPLE", "score": 0.5, "escalated": False, "matched_keyword": "secret", "cause": ["x"]}
    said = {"tier": "SIMPLE", "score": 0.5, "escalated": False}
    assert strategies.routed({"metadata": {"routing_decision": decision}}) == said
    assert strategies.routed({"metadata": None, "litellm_metadata": {"routing_decision": decision}}) == said
    assert strategies.routed({"metadata": {"routing_decision": None}}) == {}
    assert strategies.routed({"metadata": "odd", "litellm_metadata": []}) == {}


def test_at_most_sixteen_facts_of_an_auto_router():
    assert len(strategies._ROUTED) <= 16


# --- the choice ------------------------------------------------------------------------------


def asked(made, strategy, memory, *deployments, chosen, **kwargs):
    made.choosing(
        {
            "healthy_deployments": list(deployments),
            "strategy": strategy,
            "selector": selector(memory, **kwargs),
            "model": "g",
        }
    )
    made.chose(chosen)
    return made.decide(chosen)


def test_a_choice_that_the_numbers_do_not_explain(probe, monkeypatch):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", False)
    facts = asked(probe(A, B), "least-busy", {"g_request_count": {"a": 5}}, A, B, chosen=A)
    assert (facts.reason, facts.rank_by, facts.score, facts.scores) == ("external", "inflight", None, {})


def test_numbers_that_are_not_known(probe, monkeypatch):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", True)
    facts = asked(probe(A, B), "least-busy", {}, A, B, chosen=A, redis=object())
    assert (facts.reason, facts.rank_by, facts.score, facts.inflight) == ("external", "inflight", None, None)


def test_a_strategy_that_nobody_knows(probe):
    facts = asked(probe(A, B), "astrology", {}, A, B, chosen=B)
    assert (facts.reason, facts.rank_by, facts.considered) == ("external", None, 2)


def test_a_copy_of_a_deployment_is_the_deployment(probe, monkeypatch):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", False)
    facts = asked(probe(A, B), "least-busy", {"g_request_count": {"a": 5}}, A, B, chosen=dict(B))
    assert (facts.reason, facts.chosen_id, facts.runner_up_id) == ("lowest_score", "b", "a")


@pytest.mark.parametrize("memory", [None, {"g_request_count": 7}, {"g_request_count": {"a": "many"}}], ids=str)
def test_a_broken_cache_explains_nothing_and_breaks_nothing(probe, guard, monkeypatch, memory):
    monkeypatch.setattr(strategies, "_COUNT_PER_KEY", False)
    facts = asked(probe(A, B), "least-busy", memory, A, B, chosen=A)
    assert guard.faults == 1
    assert (facts.reason, facts.chosen_id, facts.eligible) == ("external", "a", 2)


@pytest.mark.parametrize("odd", [{}, {"model_info": None}, {"model_info": {}, "litellm_params": {}}], ids=str)
def test_odd_deployments(probe, odd):
    made = probe(A, odd)
    made.routed("simple-shuffle")
    made.passed(COOLDOWN, [odd], {})
    made.filtered([odd])
    facts = made.decide(odd)
    assert (facts.eligible, facts.excluded, facts.reason) == (1, {"a": "cooldown"}, "only_candidate")


@pytest.mark.parametrize("method", ["configured", "enters", "passed", "filtered", "choosing", "decide", "failed"])
def test_nothing_odd_gets_out(probe, method):
    made = probe(A, B)
    arguments = {
        "configured": ("g", 5),
        "enters": (HEALTH, 5),
        "passed": (COOLDOWN, 5, {}),
        "filtered": (5,),
        "choosing": ({},),
        "decide": ({"model_info": 5},),
        "failed": (_Unspeakable(),),
    }
    getattr(made, method)(*arguments[method])


class _Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise ValueError


# --- a strategy of ours ----------------------------------------------------------------------


def test_a_strategy_of_ours(probe):
    made = probe(A, B, C, deployment("d"), listing=True)
    made.passed(COOLDOWN, [A, B, C], {})
    said = DecisionFacts(
        strategy="ours",
        reason="lowest_score",
        score=1.0,
        rank_by="expected_seconds",
        runner_up_id="b",
        runner_up_score=2.0,
        attributes={"x": 1},
    )
    made.decided(said, [A, B, C], {"c": "ejected"})
    made.chose(A)
    facts = made.decide(A)
    assert (facts.strategy, facts.reason, facts.total, facts.eligible, facts.considered) == (
        "ours",
        "lowest_score",
        4,
        2,
        2,
    )
    assert facts.excluded == {"c": "ejected", "d": "cooldown"}
    assert facts.scores == {"a": 1.0, "b": 2.0}
    assert facts.attributes == {"x": 1}


def test_a_strategy_of_ours_with_one_left(probe):
    made = probe(A, B)
    made.filtered([A, B])
    made.decided(DecisionFacts(reason="lowest_score", considered=1), [A, B], {"b": "ejected"})
    facts = made.decide(A)
    assert (facts.reason, facts.considered, facts.scores) == ("only_candidate", 1, {})


def test_a_strategy_of_ours_that_failed(probe):
    made = probe(A)
    made.decided(DecisionFacts(reason="strategy_error_fallback"), [A], {})
    assert made.decide(A).reason == "strategy_error_fallback"


# --- the event -------------------------------------------------------------------------------


def test_the_best_come_first_and_a_missing_score_is_nan():
    decision = DecisionFacts(
        chosen_id="b", ids=["a", "b", "c", "d"], scores={"a": 2.0, "b": 3.0}, excluded={"d": "cooldown"}
    )
    listed = candidates(decision, 1024)
    assert listed["ids"] == ["b", "a", "c", "d"]
    assert listed["excluded"] == ["", "", "", "cooldown"]
    assert [repr(score) for score in listed["scores"]] == ["3.0", "2.0", "nan", "nan"]


def test_the_best_chance_comes_first():
    decision = DecisionFacts(ids=["a", "b"], scores={"a": 0.2, "b": 0.8}, reason="weighted_random")
    assert candidates(decision, 1024)["ids"] == ["b", "a"]


def test_at_most_sixteen_are_listed_with_the_chosen_one_among_them():
    decision = DecisionFacts(chosen_id="39", ids=[str(i) for i in range(40)])
    listed = candidates(decision, 1024)
    assert len(listed["ids"]) == 16
    assert listed["ids"][0] == "39"
    assert "scores" not in listed


def test_ids_are_cut_and_can_be_sent():
    decision = DecisionFacts(ids=["x" * 40, "\ud800"])
    assert candidates(decision, 8)["ids"] == ["x" * 8, "?"]


# --- around litellm's picks ------------------------------------------------------------------


@pytest.fixture
def traced():
    """A router, and a call of it that runs."""
    recorder = Recorder()
    made = TracedRouter(
        model_list=[
            {"model_name": "g", "litellm_params": {"model": "openai/x", "api_key": "k"}, "model_info": {"id": "a"}},
            {
                "model_name": "g",
                "litellm_params": {"model": "openai/x", "api_key": "k"},
                "model_info": {"id": "b"},
            },
        ],
        tracer_provider=recorder.provider,
    )
    core = seams.core_of(made)
    # Set later: 1.95 would make a route for it, with packages that only its proxy needs.
    seams.state(core, "model_list")[1]["litellm_params"]["use_in_pass_through"] = True
    call = core.__dict__["_traced_router"].tree.open_call(CallFacts("chat", "g"))
    token = attach(with_frame(Frame(call), call.parent_context(None)))
    yield SimpleNamespace(core=core, recorder=recorder, call=call)
    detach(token)
    call.finish("ok")
    (getattr(made, "retire", None) or made.discard)()


@pytest.mark.parametrize("how", ["async", "sync"])
def test_only_deployments_for_pass_through(traced, how):
    if how == "async":
        pick = getattr(traced.core, seams.SELECT_PASS_THROUGH_ASYNC)
        chosen = asyncio.run(pick(model="g", request_kwargs={}))
    else:
        chosen = getattr(traced.core, seams.SELECT_PASS_THROUGH_SYNC)(model="g", request_kwargs={})

    (told,) = [s for s in traced.recorder.spans() if s.name == "router.select g"]
    assert chosen["model_info"]["id"] == "b"
    assert told.attributes["traced_router.candidates.total"] == 2
    assert told.attributes["traced_router.candidates.eligible"] == 1
    assert told.attributes["traced_router.candidates.excluded.other"] == 1


def test_the_steps_of_another_router_are_not_this_pick_s(traced):
    made = Probe(SimpleNamespace(), traced.call.guard, "g", {})
    token = _probe.enter(made)
    try:
        assert traced.core._filter_blocked_deployments([A]) == [A]
        assert asyncio.run(traced.core._async_filter_health_check_unhealthy_deployments([A])) == [A]
        assert _probe.probe_of(traced.core) is None
    finally:
        _probe.leave(token)


def test_a_pick_that_is_torn_down_in_another_context(traced):
    async def begun():
        return _picks.begin_pick(_router._tracing(traced.core), traced.core, (), {"model": "g"})

    pick = asyncio.run(begun())
    pick.raised(asyncio.CancelledError())
    (told,) = [s for s in traced.recorder.spans() if s.name == "router.select g"]
    assert told.attributes == {}
    assert _probe.probe_of(traced.core) is None


def test_a_fault_at_the_beginning_leaves_the_pick_alone(traced, monkeypatch):
    monkeypatch.setattr(seams, "model_group_of", lambda *_: 1 / 0)
    assert getattr(traced.core, seams.SELECT_SYNC)(model="g", request_kwargs={})["model_name"] == "g"
    assert traced.call.guard.faults == 1
    assert [s.name for s in traced.recorder.spans()] == []
