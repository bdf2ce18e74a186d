"""Fallback hops: flat, in order, and each says where it came from, where it went and why."""

import litellm
import pytest

from traced_router.testing import absent, approx, assert_tree, span
from traced_router.testing._provider_behaviours import (
    Answer,
    BadRequest,
    ContentPolicy,
    ContextWindowExceeded,
    ServerError,
)

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(router, **kwargs):
    return router.acompletion("a", MESSAGES, **kwargs)


def groups(provider, *names):
    """One deployment each."""
    return [provider.deployment(f"dep-{name}", group=name) for name in names]


def failing(*names):
    return {f"dep-{name}": [ServerError()] for name in names}


def select(group, **kwargs):
    return span(f"router.select {group}", kind="INTERNAL", **kwargs)


def attempt(group, number, error=None, **attributes):
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "litellm.deployment.model_group": group,
            "litellm.deployment.id": f"dep-{group}",
            "litellm.deployment.attempt": 1,
            "litellm.deployment.reason": "initial" if number == 1 else "fallback",
            "traced_router.attempt.number": number,
            "error.type": error or absent,
            **attributes,
        },
    )


def hop(from_, to, depth, why, *children, kind="model_group", error=None, amplification=absent):
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
            "traced_router.fallback.error_type": why,
            "traced_router.amplification": amplification,
            "error.type": error or absent,
        },
        children=children or ...,
    )


def request(*children, outcome="ok_after_fallback", error=None, **attributes):
    return span(
        "router.chat a",
        kind="INTERNAL",
        status="ERROR" if error else "UNSET",
        attributes={"traced_router.outcome": outcome, "error.type": error or absent, **attributes},
        children=children,
    )


ISE = "InternalServerError"


async def test_a_fallback_saves_the_call(same, provider, recorder):
    outcome = await same(groups(provider, "a", "b"), failing("a"), chat, fallbacks=[{"a": ["b"]}])

    assert outcome.hits == {"dep-a": 1, "dep-b": 1}
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop("a", "b", 1, ISE, select("b", events=["traced_router.candidates"]), attempt("b", 2)),
            **{
                "traced_router.attempts": 2,
                "traced_router.retries": 0,
                "traced_router.fallbacks": 1,
                "traced_router.served.model_group": "b",
                "traced_router.served.deployment_id": "dep-b",
            },
        ),
    )


async def test_a_chain_of_targets_is_flat_and_in_order(same, provider, recorder):
    await same(groups(provider, "a", "b", "c"), failing("a", "b"), chat, fallbacks=[{"a": ["b", "c"]}])

    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop("a", "b", 1, ISE, select("b"), attempt("b", 2, ISE), error=ISE),
            hop("b", "c", 2, ISE, select("c"), attempt("c", 3)),
            **{"traced_router.fallbacks": 2, "traced_router.served.model_group": "c"},
        ),
    )


async def test_a_chain_of_a_chain_is_flat_and_in_order(same, provider, recorder):
    """litellm nests a > b > d; after b's own chain it goes on with a's."""
    await same(
        groups(provider, "a", "b", "c", "d"),
        failing("a", "b", "d"),
        chat,
        fallbacks=[{"a": ["b", "c"]}, {"b": ["d"]}],
    )

    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop("a", "b", 1, ISE, select("b"), attempt("b", 2, ISE), error=ISE),
            hop("b", "d", 2, ISE, select("d"), attempt("d", 3, ISE), error=ISE),
            hop("d", "c", 3, ISE, select("c"), attempt("c", 4)),
            **{"traced_router.fallbacks": 3, "traced_router.attempts": 4},
        ),
    )


async def test_when_every_hop_fails_the_caller_gets_litellm_s_error(same, provider, recorder):
    outcome = await same(
        groups(provider, "a", "b", "c"),
        {"dep-a": [ServerError()], "dep-b": [ServerError(503)], "dep-c": [BadRequest()]},
        chat,
        fallbacks=[{"a": ["b", "c"]}],
    )

    error = outcome.error.__name__
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop(
                "a",
                "b",
                1,
                ISE,
                select("b"),
                attempt("b", 2, "ServiceUnavailableError"),
                error="ServiceUnavailableError",
            ),
            hop(
                "b",
                "c",
                2,
                "ServiceUnavailableError",
                select("c"),
                attempt("c", 3, "BadRequestError"),
                error="BadRequestError",
            ),
            outcome="error",
            error=error,
        ),
    )


async def test_default_fallbacks_are_the_default_kind(same, provider, recorder):
    await same(groups(provider, "a", "b"), failing("a"), chat, default_fallbacks=["b"])

    assert_tree(
        recorder,
        request(select("a"), attempt("a", 1, ISE), hop("a", "b", 1, ISE, select("b"), attempt("b", 2), kind="default")),
    )


async def test_a_chain_of_its_own_beats_the_default(same, provider, recorder):
    await same(
        groups(provider, "a", "b", "c"),
        failing("a"),
        chat,
        fallbacks=[{"a": ["c"]}],
        default_fallbacks=["b"],
    )

    assert_tree(recorder, request(select("a"), attempt("a", 1, ISE), hop("a", "c", 1, ISE)))


@pytest.mark.parametrize(
    "fallbacks",
    [
        ["b"],
        [{"model": "b", "temperature": 0.5}],
        [{"a": ["b"]}],
    ],
    ids=["names", "requests", "chains"],
)
async def test_a_request_brings_its_own_fallbacks(same, provider, recorder, fallbacks):
    outcome = await same(groups(provider, "a", "b"), failing("a"), lambda r: chat(r, fallbacks=fallbacks))

    assert outcome.hits == {"dep-a": 1, "dep-b": 1}
    temperature = 0.5 if "temperature" in str(fallbacks) else absent
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop(
                "a",
                "b",
                1,
                ISE,
                select("b"),
                attempt("b", 2, **{"gen_ai.request.temperature": temperature}),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("behaviour", "argument", "kind", "error"),
    [
        (ContextWindowExceeded(), "context_window_fallbacks", "context_window", "ContextWindowExceededError"),
        (ContentPolicy(), "content_policy_fallbacks", "content_policy", "ContentPolicyViolationError"),
    ],
    ids=["context window", "content policy"],
)
async def test_an_error_with_fallbacks_of_its_own(same, provider, recorder, behaviour, argument, kind, error):
    await same(
        groups(provider, "a", "b", "c"),
        {"dep-a": [behaviour]},
        chat,
        fallbacks=[{"a": ["c"]}],
        **{argument: [{"a": ["b"]}]},
    )

    assert_tree(
        recorder,
        request(select("a"), attempt("a", 1, error), hop("a", "b", 1, error, select("b"), attempt("b", 2), kind=kind)),
    )


async def test_an_answer_that_a_content_filter_cut_is_paid_for_though_nobody_gets_it(same, provider, recorder):
    await same(
        groups(provider, "a", "b"),
        {"dep-a": [Answer(finish_reason="content_filter", input_tokens=100, output_tokens=50)]},
        chat,
        content_policy_fallbacks=[{"a": ["b"]}],
    )

    error, usual = "ContentPolicyViolationError", 11 * 2.5e-6 + 7 * 10e-6
    refused = {
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.response.finish_reasons": ("content_filter",),
        "traced_router.attempt.cost": approx(100 * 2.5e-6 + 50 * 10e-6),
    }
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, error, **refused),
            hop("a", "b", 1, error, select("b"), attempt("b", 2), kind="content_policy"),
            **{
                "traced_router.cost.total": approx(100 * 2.5e-6 + 50 * 10e-6 + usual),
                "traced_router.cost.wasted": approx(100 * 2.5e-6 + 50 * 10e-6),
            },
        ),
    )


async def test_an_error_without_fallbacks_of_its_own_takes_the_others(same, provider, recorder):
    await same(groups(provider, "a", "b"), {"dep-a": [ContextWindowExceeded()]}, chat, fallbacks=[{"a": ["b"]}])

    error = "ContextWindowExceededError"
    assert_tree(recorder, request(select("a"), attempt("a", 1, error), hop("a", "b", 1, error)))


async def test_order_levels_are_hops(same, provider, recorder):
    first = provider.deployment("dep-a", group="a", order=1)
    second = provider.deployment("dep-2", group="a", order=2)
    third = provider.deployment("dep-b", group="b")
    await same(
        [first, second, third], {"dep-a": [ServerError()], "dep-2": [ServerError()]}, chat, fallbacks=[{"a": ["b"]}]
    )

    assert_tree(
        recorder,
        request(
            select("a", attributes={"traced_router.candidates.total": 2}),
            attempt("a", 1, ISE),
            hop(
                "a",
                "a",
                1,
                ISE,
                select("a", attributes={"litellm.deployment.id": "dep-2"}),
                attempt("a", 2, ISE, **{"litellm.deployment.id": "dep-2"}),
                kind="order",
                error=ISE,
                amplification=2,
            ),
            hop("a", "b", 2, ISE, select("b"), attempt("b", 3)),
        ),
    )


async def test_weighted_failover_is_a_hop(same, provider, recorder):
    first = provider.deployment("dep-a", group="a", weight=1)
    second = provider.deployment("dep-2", group="a", weight=0)
    third = provider.deployment("dep-b", group="b")
    outcome = await same(
        [first, second, third],
        {"dep-a": [ServerError()], "dep-2": [ServerError()]},
        chat,
        enable_weighted_failover=True,
        fallbacks=[{"a": ["b"]}],
    )

    assert outcome.hits == {"dep-a": 1, "dep-2": 1, "dep-b": 1}
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop(
                "a",
                "a",
                1,
                ISE,
                select("a", attributes={"litellm.deployment.id": "dep-2"}),
                attempt("a", 2, ISE, **{"litellm.deployment.id": "dep-2"}),
                kind="weighted",
                error=ISE,
                amplification=2,
            ),
            hop("a", "b", 2, ISE, select("b"), attempt("b", 3)),
        ),
    )


async def test_fallbacks_can_be_disabled(same, provider, recorder):
    outcome = await same(
        groups(provider, "a", "b"), failing("a"), lambda r: chat(r, disable_fallbacks=True), fallbacks=[{"a": ["b"]}]
    )

    assert outcome.hits == {"dep-a": 1}
    assert_tree(recorder, request(select("a"), attempt("a", 1, ISE), outcome="error", error=ISE))


async def test_no_more_hops_than_allowed(same, provider, recorder):
    outcome = await same(
        groups(provider, "a", "b", "c", "d"),
        failing("a", "b", "c"),
        chat,
        fallbacks=[{"a": ["b"]}, {"b": ["c"]}, {"c": ["d"]}],
        max_fallbacks=2,
    )

    assert outcome.hits == {"dep-a": 1, "dep-b": 1, "dep-c": 1}
    tree = recorder.tree()
    assert [child.name for child in tree.children[2:]] == ["router.fallback b", "router.fallback c"]
    assert tree.attributes["traced_router.fallbacks"] == 2


@pytest.mark.parametrize(
    ("mock", "argument", "kind"),
    [
        ("mock_testing_fallbacks", "fallbacks", "model_group"),
        ("mock_testing_context_fallbacks", "context_window_fallbacks", "context_window"),
        ("mock_testing_content_policy_fallbacks", "content_policy_fallbacks", "content_policy"),
    ],
)
async def test_a_mock_error_is_a_hop_without_an_attempt_before_it(same, provider, recorder, mock, argument, kind):
    outcome = await same(
        groups(provider, "a", "b"), {}, lambda r: chat(r, **{mock: True}), **{argument: [{"a": ["b"]}]}
    )

    assert outcome.hits == {"dep-b": 1}
    (found,) = recorder.tree().children
    assert found.name == "router.fallback b"
    assert found.attributes["traced_router.fallback.kind"] == kind
    assert [child.name for child in found.children] == ["router.select b", "chat gpt-4o-2024-08-06"]
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_fallback"


async def test_a_hop_to_a_group_that_does_not_exist_fails_without_an_attempt(same, provider, recorder):
    outcome = await same(groups(provider, "a", "c"), failing("a"), chat, fallbacks=[{"a": ["nowhere", "c"]}])

    assert outcome.hits == {"dep-a": 1, "dep-c": 1}
    hops = recorder.tree().children[2:]
    assert [h.name for h in hops] == ["router.fallback nowhere", "router.fallback c"]
    assert [child.name for child in hops[0].children] == ["router.select nowhere"]
    assert hops[0].status == hops[0].children[0].status == "ERROR"


async def test_retries_inside_a_hop_are_counted_from_one(same, provider, recorder):
    await same(
        groups(provider, "a", "b"),
        {"dep-a": [ServerError()] * 2, "dep-b": [ServerError()]},
        chat,
        num_retries=1,
        fallbacks=[{"a": ["b"]}],
        retry_after=0,
    )

    tree = recorder.tree()
    attempts = tree.find("chat gpt-4o-2024-08-06")
    said = [
        (
            a.attributes["traced_router.attempt.number"],
            a.attributes["litellm.deployment.attempt"],
            a.attributes["litellm.deployment.reason"],
        )
        for a in attempts
    ]
    assert said[:3] == [(1, 1, "initial"), (2, 2, "retry"), (3, 1, "fallback")]
    assert tree.attributes["traced_router.retries"] == len(attempts) - 2


def test_a_synchronous_call_falls_back_alike(provider, router, recorder):
    provider.script("dep-a", [ServerError()])
    provider.script("dep-b", [ServerError()])
    made = router(*groups(provider, "a", "b", "c"), fallbacks=[{"a": ["b", "c"]}])
    answer = made.completion("a", MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert_tree(
        recorder,
        request(
            select("a"),
            attempt("a", 1, ISE),
            hop("a", "b", 1, ISE, select("b"), attempt("b", 2, ISE), error=ISE),
            hop("b", "c", 2, ISE, select("c"), attempt("c", 3)),
        ),
    )


async def test_the_trace_id_is_the_same_in_every_hop(provider, router, recorder):
    provider.script("dep-a", [ServerError()])
    made = router(*groups(provider, "a", "b"), fallbacks=[{"a": ["b"]}])
    await chat(made, litellm_trace_id="mine")

    tree = recorder.tree()
    carrying = [tree, *tree.find("chat gpt-4o-2024-08-06")]
    assert [node.attributes["litellm_trace_id"] for node in carrying] == ["mine"] * 3


async def test_the_answer_of_a_fallback_is_free_of_what_we_add(provider, router):
    """No private parameter of ours reaches a provider."""
    provider.script("dep-a", [ServerError()])
    provider.script("dep-b", [Answer("saved")])
    made = router(*groups(provider, "a", "b"), fallbacks=[{"a": ["b"]}])
    answer = await chat(made)

    assert answer.choices[0].message.content == "saved"
    assert [sorted(r.body) for r in provider.requests] == [["messages", "model"]] * 2
