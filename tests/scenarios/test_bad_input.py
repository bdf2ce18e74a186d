"""Odd requests never break a call or a span; wrong arguments are said when a router is built."""

import pytest

from traced_router import ConfigurationError, TracedRouter, TracedRouterError, UnknownStrategyError
from traced_router.testing import assert_tree, span

MESSAGES = [{"role": "user", "content": "hi"}]


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "logger_provider"])
def test_a_provider_that_is_none(provider, name):
    with pytest.raises(ConfigurationError, match=rf"{name}='str' object: give an OpenTelemetry \w+Provider"):
        TracedRouter(model_list=[provider.deployment("dep-a")], **{name: "otlp"})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"list_candidate": True}, "no setting 'list_candidate'. Did you mean list_candidates?"),
        ({"max_string_length": 3}, "max_string_length='3': .*64"),
        ({"list_candidates": "perhaps"}, "list_candidates='perhaps': .*bool"),
        ("list_candidates", "settings='str' object: give a TracedRouterSettings"),
    ],
)
def test_settings_that_cannot_be_used(provider, settings, says):
    with pytest.raises(ConfigurationError, match=says):
        TracedRouter(model_list=[provider.deployment("dep-a")], settings=settings)


def test_a_variable_that_does_not_exist(provider, monkeypatch):
    monkeypatch.setenv("TRACED_ROUTER_LIST_CANDIDATE", "1")
    with pytest.raises(ConfigurationError, match=r"TRACED_ROUTER_LIST_CANDIDATE.* TRACED_ROUTER_LIST_CANDIDATES"):
        TracedRouter(model_list=[provider.deployment("dep-a")])


def test_a_strategy_that_does_not_exist(provider):
    with pytest.raises(UnknownStrategyError, match="Did you mean 'least-busy'") as caught:
        TracedRouter(model_list=[provider.deployment("dep-a")], routing_strategy="least-bussy")

    assert isinstance(caught.value, TracedRouterError)
    assert isinstance(caught.value, ValueError)


def test_an_argument_that_litellm_does_not_know(provider):
    with pytest.raises(TypeError, match="nonsense"):
        TracedRouter(model_list=[provider.deployment("dep-a")], nonsense=1)


# --- requests ----------------------------------------------------------------------------------


async def ok(made, recorder, *args, **kwargs):
    await made.acompletion(*args, **kwargs)
    tree = recorder.tree()
    assert tree.attributes["traced_router.outcome"] == "ok"
    return tree


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # aiohttp's own advice
async def test_a_prompt_of_ten_megabytes(provider, router, recorder):
    made = router(provider.deployment("dep-a"))
    tree = await ok(made, recorder, "gpt-4o", [{"role": "user", "content": "x" * 10_000_000}])

    assert sum(len(repr(dict(node.attributes))) for node in tree.walk()) < 10_000


class Odd:
    """An object whose text is an error."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def odd_values():
    looped = {}
    looped["self"] = looped
    return {
        "lone surrogates": {"user": "\ud800x", "litellm_trace_id": "t\udfff"},
        "a number for a user": {"user": 7},
        "numbers for ids": {"litellm_trace_id": 7, "litellm_session_id": 8},
        "a list for a session": {"litellm_session_id": ["a"]},
        "long ids": {"litellm_trace_id": "t" * 100_000, "user": "u" * 100_000},
        "metadata that holds itself": {"metadata": looped},
        "odd parameters": {"temperature": float("nan"), "stop": [], "seed": 2**40},
        "empty strings": {"user": "", "litellm_trace_id": "", "litellm_session_id": ""},
    }


@pytest.mark.parametrize("name", odd_values())
async def test_an_odd_request_does_as_with_plain_router(same, provider, recorder, name):
    outcome = await same(
        [provider.deployment("dep-a")], {}, lambda r: r.acompletion("gpt-4o", MESSAGES, **odd_values()[name])
    )

    tree = recorder.tree()
    assert tree.name == "router.chat gpt-4o"
    assert tree.status == ("ERROR" if outcome.error else "UNSET")
    attempts = [node for node in tree.walk() if node.kind == "CLIENT"]
    assert len(attempts) >= sum(outcome.hits.values())


@pytest.mark.parametrize("model", ["m" * 100_000, "\ud800", "", 7, None, ["gpt-4o"]], ids=lambda m: repr(m)[:12])
async def test_an_odd_model_does_as_with_plain_router(same, provider, recorder, model):
    outcome = await same([provider.deployment("dep-a")], {}, lambda r: r.acompletion(model, MESSAGES))

    assert outcome.error is not None
    tree = recorder.tree()
    assert len(tree.name) <= len("router.chat ") + 64
    assert tree.status == "ERROR"


@pytest.mark.parametrize("name", ["litellm_trace_id", "litellm_session_id", "user"])
async def test_an_object_without_text_as_an_id(same, provider, recorder, name):
    outcome = await same(
        [provider.deployment("dep-a")], {}, lambda r: r.acompletion("gpt-4o", MESSAGES, **{name: Odd()})
    )

    tree = recorder.tree()
    assert tree.status == ("ERROR" if outcome.error else "UNSET")
    assert "session.id" not in tree.attributes
    assert "user.id" not in tree.attributes
    assert tree.attributes["litellm_trace_id"]


async def test_missing_arguments_are_litellm_s_to_complain_of(provider, router, recorder):
    with pytest.raises(TypeError, match="messages"):
        await router(provider.deployment("dep-a")).acompletion("gpt-4o")

    assert_tree(recorder, span("router.chat gpt-4o", status="ERROR", attributes={"error.type": "TypeError"}))


async def test_a_long_group_is_cut_in_names(provider, router, recorder):
    group = "g" * 500
    await router(provider.deployment("dep-a", group=group)).acompletion(group, MESSAGES)

    assert_tree(
        recorder,
        span(
            "router.chat " + "g" * 64,
            attributes={"traced_router.model_group": group},
            children=[span("router.select " + "g" * 64), span("chat gpt-4o-2024-08-06")],
        ),
    )


async def test_strings_are_cut_at_the_limit_in_force(provider, router, recorder):
    made = router(provider.deployment("dep-a"), settings={"max_string_length": 64})
    await made.acompletion("gpt-4o", MESSAGES, user="u" * 100)

    assert recorder.tree().attributes["user.id"] == "u" * 64


async def test_who_served_is_cut_and_can_be_encoded_too(provider, router, recorder):
    group = "\ud800" + "g" * 100_000
    deployment = provider.deployment("dep-a", group=group)
    deployment["model_info"] = {"id": "d" * 100_000}
    await router(deployment).acompletion(group, MESSAGES)

    attributes = recorder.tree().attributes
    assert attributes["traced_router.served.model_group"] == "?" + "g" * 1023
    assert attributes["traced_router.served.deployment_id"] == "d" * 1024
