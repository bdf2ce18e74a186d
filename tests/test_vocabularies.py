"""What spans say in the words of other backends: whole spans, and nothing counted twice."""

import json
import re
from datetime import UTC, datetime

import litellm
import pytest
from litellm.caching.caching import Cache
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import ConfigurationError, TracedRouter, TracedRouterSettings
from traced_router import _names as n
from traced_router.testing import (
    Answer,
    FakeProvider,
    RateLimited,
    Recorder,
    ToolCall,
    assert_tree,
    check_trace,
    span,
)
from traced_router.vocabularies import VOCABULARIES, Said, named
from traced_router.vocabularies._vocabulary import as_json

MESSAGES = [{"role": "user", "content": "hi"}]
MODEL = "gpt-4o-2024-08-06"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
BASE = {attribute.key for attribute in n.ATTRIBUTES}


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    assert made.open_spans() == []
    for spans in made.traces():
        assert [str(v) for v in check_trace(spans)] == []


@pytest.fixture
def provider():
    with FakeProvider() as made:
        yield made


@pytest.fixture
def make(recorder):
    made = []

    def make(*deployments, **arguments):
        defaults = {"num_retries": 0, "tracer_provider": recorder.provider}
        made.append(TracedRouter(model_list=list(deployments), **{**defaults, **arguments}))
        return made[-1]

    yield make
    for router in made:
        (router.retire if hasattr(router, "retire") else router.discard)()


def words(node):
    """What a span says beside what it would say without any vocabulary."""
    return {
        key: value
        for key, value in node.attributes.items()
        if key not in BASE and not key.startswith(n.STRATEGY_PREFIX)
    }


def everything(tree):
    return [tree, *(below for child in tree.children for below in everything(child))]


# --- which ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        ("", []),
        ("openinference", ["openinference"]),
        (" openinference, openinference,", ["openinference"]),
        (("openinference",), ["openinference"]),
    ],
)
def test_vocabularies_are_found_by_name_each_once(given, found):
    assert named(given) == tuple(VOCABULARIES[name] for name in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["openinferense"], "There is no vocabulary 'openinferense'. Did you mean openinference?"),
        ("klingon", "There is no vocabulary 'klingon'. There are: openinference"),
        ([7], "There is no vocabulary 7. There are: openinference"),
        (True, "vocabularies=True: give a list of names. There are: openinference"),
    ],
)
def test_what_there_is_not_is_refused_when_the_router_is_built(make, given, said):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make(vocabularies=given)


@pytest.mark.parametrize("value", ["openinference", '["openinference"]'])
def test_the_environment_names_them_too_and_the_keyword_beats_it(make, monkeypatch, value):
    monkeypatch.setenv("TRACED_ROUTER_VOCABULARIES", value)

    assert make()._traced_router.tree.mirror is not None
    assert make(vocabularies=[])._traced_router.tree.mirror is None


def test_settings_that_are_given_name_them_too(make):
    settings = TracedRouterSettings(vocabularies=("openinference",))

    assert make(settings=settings)._traced_router.tree.mirror is not None
    assert make(settings={"vocabularies": ["openinference"]})._traced_router.tree.mirror is not None


async def test_without_any_there_are_no_further_words(make, provider, recorder):
    await make(provider.deployment("a")).acompletion("gpt-4o", MESSAGES)

    assert [words(node) for node in everything(recorder.tree())] == [{}, {}, {}]


async def test_what_nobody_records_is_not_said(make, provider, monkeypatch):
    asked = []
    monkeypatch.setattr(VOCABULARIES["openinference"], "mirror", asked.append)
    for sampler in (ALWAYS_OFF, None):
        recorder = Recorder(sampler=sampler)
        router = make(
            provider.deployment("a"),
            tracer_provider=recorder.provider,
            meter_provider=recorder.meter_provider,
            vocabularies=["openinference"],
        )
        await router.acompletion("gpt-4o", MESSAGES)
        await router.abatch_completion(["gpt-4o"], MESSAGES)
        assert bool(asked) is (sampler is None)


async def test_a_vocabulary_that_fails_harms_nobody(make, provider, recorder, monkeypatch):
    def mirror(said):
        raise LookupError

    monkeypatch.setattr(VOCABULARIES["openinference"], "mirror", mirror)
    router = make(provider.deployment("a"), vocabularies=["openinference"])
    await router.acompletion("gpt-4o", MESSAGES)

    assert_tree(recorder, span("router.chat gpt-4o", children=[span("router.select gpt-4o"), span(f"chat {MODEL}")]))
    assert router._traced_router.guard.faults == 6


async def test_what_is_longer_than_the_limit_is_left_out_for_half_a_json_object_is_none(make, provider, recorder):
    router = make(
        provider.deployment("a"), vocabularies=["openinference"], settings=TracedRouterSettings(max_string_length=64)
    )
    await router.acompletion("gpt-4o", MESSAGES, stop=["x" * 60])

    attempt = recorder.tree().children[1]
    assert attempt.attributes["llm.model_name"] == MODEL
    assert "llm.invocation_parameters" not in attempt.attributes


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_vocabulary_uses_a_name_of_ours_or_one_twice(name):
    keys = [attribute.key for attribute in VOCABULARIES[name].NAMES]

    assert len(set(keys)) == len(keys)
    assert BASE.isdisjoint(keys)


@pytest.mark.parametrize("name", VOCABULARIES)
async def test_every_word_stands_in_the_table_of_its_vocabulary(make, provider, recorder, name):
    table = {attribute.key: attribute for attribute in VOCABULARIES[name].NAMES}
    await everything_happens(make, provider, [name])

    said = set()
    roles = {"router.select": n.SELECTION, "router.backoff": n.BACKOFF, "router.fallback": n.FALLBACK}
    for tree in recorder.trees():
        for node in everything(tree):
            first = node.name.split()[0]
            role = roles.get(first) or (n.ATTEMPT if node.kind == "CLIENT" else n.REQUEST)
            role = n.BATCH if first == "router.batch" else role
            for key, value in words(node).items():
                families = (family for family in table if family.endswith(".*") and key.startswith(family[:-1]))
                row = table.get(key) or table.get(next(families, "")) or pytest.fail(f"{key} stands in no table")
                assert role in row.spans, key
                assert type(value) is row.type, key
                said.add(row.key)
    assert said == set(table)


async def everything_happens(make, provider, vocabularies):
    """Calls that make every span and every attribute of an attempt."""
    deployments = [
        provider.deployment("a"),
        provider.deployment("b", group="backup"),
        provider.deployment("e", group="embed", model="openai/text-embedding-3-small"),
        provider.deployment("r", group="rank", model="cohere/rerank-v3.5"),
    ]
    provider.script("a", [RateLimited(retry_after=0.01), RateLimited(retry_after=0.01)])
    provider.default(
        "b",
        Answer(input_tokens=100, output_tokens=50, cached_tokens=60, reasoning_tokens=20),
    )
    router = make(
        *deployments,
        vocabularies=vocabularies,
        fallbacks=[{"gpt-4o": ["backup"]}],
        num_retries=1,
        retry_after=0,
        allowed_fails=100,
    )
    options = {"temperature": 0.5, "top_k": 3, "frequency_penalty": 0.1, "presence_penalty": 0.2, "stop": ["x"]}
    await router.acompletion(
        "gpt-4o", MESSAGES, user="me", litellm_session_id="s", drop_params=True, max_tokens=9, **options
    )
    async for _ in await router.acompletion("backup", MESSAGES, stream=True):
        pass
    await router.aembedding("embed", ["hi"], dimensions=8)
    await router.arerank("rank", query="q", documents=["d"])
    await router.abatch_completion(["gpt-4o"], MESSAGES)
    talking = make(
        provider.deployment("t", group="talk"), vocabularies=vocabularies, settings={"capture_content": "SPAN_ONLY"}
    )
    await talking.acompletion("talk", MESSAGES, tools=[WEATHER])


# --- OpenInference -----------------------------------------------------------------------------

OPENINFERENCE_CHAIN = {"openinference.span.kind": "CHAIN"}


async def test_openinference_of_a_call_that_a_fallback_saved(make, provider, recorder):
    provider.script("a", [RateLimited()])
    provider.default("b", Answer(input_tokens=100, output_tokens=50, cached_tokens=60, reasoning_tokens=20))
    router = make(
        provider.deployment("a"),
        provider.deployment("b", group="backup", model="azure/gpt-4o"),
        fallbacks=[{"gpt-4o": ["backup"]}],
        vocabularies=["openinference"],
    )
    await router.acompletion("gpt-4o", MESSAGES, temperature=0.5, stop=["x"], litellm_session_id="s", user="me")

    tree = recorder.tree()
    select, failed, fallback = tree.children
    again, served = fallback.children
    assert [words(node) for node in (tree, select, fallback, again)] == [OPENINFERENCE_CHAIN] * 4
    assert (tree.attributes["session.id"], tree.attributes["user.id"]) == ("s", "me")
    assert words(failed) == {
        "openinference.span.kind": "LLM",
        "llm.model_name": MODEL,
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.invocation_parameters": '{"temperature":0.5,"stop":["x"]}',
    }
    assert words(served) == {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.provider": "azure",
        "llm.system": "openai",
        "llm.invocation_parameters": '{"temperature":0.5,"stop":["x"]}',
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 50,
        "llm.token_count.total": 150,
        "llm.token_count.prompt_details.cache_read": 60,
        "llm.token_count.completion_details.reasoning": 20,
        "llm.cost.total": served.attributes["traced_router.attempt.cost"],
    }
    assert served.attributes["llm.cost.total"] > 0


async def test_openinference_names_the_model_that_answered(make, provider, recorder):
    provider.default("a", Answer(response_model="gpt-4o-elsewhere"))
    await make(provider.deployment("a"), vocabularies=["openinference"]).acompletion("gpt-4o", MESSAGES)

    assert recorder.tree().children[1].attributes["llm.model_name"] == "gpt-4o-elsewhere"


@pytest.mark.parametrize(
    ("method", "model", "arguments", "said"),
    [
        (
            "aembedding",
            "openai/text-embedding-3-small",
            {"input": ["hi"], "dimensions": 8},
            {
                "openinference.span.kind": "EMBEDDING",
                "embedding.model_name": "text-embedding-3-small",
                "embedding.invocation_parameters": '{"dimensions":8}',
                "llm.token_count.prompt": 11,
                "llm.token_count.total": 11,
                "llm.cost.total": pytest.approx(11 * 2e-8),
            },
        ),
        (
            "arerank",
            "cohere/rerank-v3.5",
            {"query": "q", "documents": ["d"]},
            {
                "openinference.span.kind": "RERANKER",
                "reranker.model_name": "rerank-v3.5",
                "llm.provider": "cohere",
                "llm.system": "cohere",
                "llm.cost.total": pytest.approx(0.002),
            },
        ),
        (
            "amoderation",
            "openai/omni-moderation-latest",
            {"input": "hi"},
            {
                "openinference.span.kind": "GUARDRAIL",
                "llm.model_name": "omni-moderation-latest",
                "llm.provider": "openai",
                "llm.system": "openai",
                "llm.cost.total": 0.0,
            },
        ),
    ],
)
async def test_openinference_of_other_kinds_of_attempt(make, provider, recorder, method, model, arguments, said):
    router = make(provider.deployment("a", group="g", model=model), vocabularies=["openinference"])
    await getattr(router, method)(model="g", **arguments)

    assert words(recorder.tree().children[-1]) == said


def test_openinference_of_an_attempt_that_names_no_model_and_an_unknown_provider():
    mirror = VOCABULARIES["openinference"].mirror

    assert mirror(Said(n.ATTEMPT, "list_files", {}, 0)) == OPENINFERENCE_CHAIN
    assert mirror(Said(n.ATTEMPT, "chat", {n.GEN_AI_REQUEST_MODEL: "m", n.GEN_AI_PROVIDER: "acme"}, 0)) == {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m",
        "llm.provider": "acme",
    }


async def test_openinference_counts_no_tokens_of_what_litellm_s_cache_answered(make, provider, recorder, monkeypatch):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    router = make(provider.deployment("a"), cache_responses=True, vocabularies=["openinference"])
    for _ in range(2):
        router.completion("gpt-4o", MESSAGES)

    paid, hit = (tree.children[1] for tree in recorder.trees())
    assert hit.attributes["traced_router.cache.hit"]
    assert hit.attributes["gen_ai.usage.input_tokens"] == 11
    assert [paid.attributes[key] for key in ("llm.token_count.prompt", "llm.token_count.total")] == [11, 18]
    assert paid.attributes["llm.cost.total"] > 0
    assert {key: value for key, value in words(hit).items() if key.startswith(("llm.token", "llm.cost"))} == {
        "llm.token_count.prompt": 0,
        "llm.token_count.completion": 0,
        "llm.token_count.total": 0,
        "llm.cost.total": 0.0,
    }


# --- the others --------------------------------------------------------------------------------


@pytest.fixture
async def saved(make, provider, recorder):
    """Makes a call that a fallback saved, and gives its spans: request, pick, failed, fallback, pick, served."""

    async def call(vocabulary, **parameters):
        provider.script("a", [RateLimited()])
        provider.default("b", Answer(input_tokens=100, output_tokens=50, cached_tokens=60, reasoning_tokens=20))
        router = make(
            provider.deployment("a", weight=1),
            provider.deployment("a-2", model="openai/gpt-4o-mini", weight=0),
            provider.deployment("b", group="backup", model="azure/gpt-4o"),
            fallbacks=[{"gpt-4o": ["backup"]}],
            vocabularies=[vocabulary],
        )
        stream = await router.acompletion("gpt-4o", MESSAGES, **parameters)
        if parameters.get("stream"):
            async for _ in stream:
                pass
        return everything(recorder.tree())

    return call


async def test_langfuse_of_a_call_that_a_fallback_saved(saved):
    request, select, failed, fallback, again, served = await saved(
        "langfuse", temperature=0.5, litellm_session_id="s", user="me"
    )

    assert words(request) == {
        "langfuse.observation.type": "chain",
        "langfuse.trace.name": "router.chat gpt-4o",
        "langfuse.session.id": "s",
        "langfuse.user.id": "me",
    }
    assert words(select) == words(again) == {"langfuse.observation.type": "span"}
    assert words(failed) == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.status_message": "RateLimitError",
        "langfuse.observation.model.name": MODEL,
        "langfuse.observation.model.parameters": '{"temperature":0.5}',
    }
    assert words(fallback) == {"langfuse.observation.type": "chain"}
    usage = {
        "input": 40,
        "input_cached_tokens": 60,
        "output": 30,
        "output_reasoning_tokens": 20,
        "total": 150,
    }
    cost = served.attributes["traced_router.attempt.cost"]
    details = {key: json.loads(value) for key, value in words(served).items() if key.endswith("_details")}
    assert details == {
        "langfuse.observation.usage_details": usage,
        "langfuse.observation.cost_details": {"total": cost},
    }
    assert sum(count for name, count in usage.items() if name != "total") == usage["total"]
    assert {key: value for key, value in words(served).items() if not key.endswith("_details")} == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "gpt-4o",
        "langfuse.observation.model.parameters": '{"temperature":0.5}',
    }


async def test_langfuse_says_when_the_first_chunk_came(saved):
    *_, served = await saved("langfuse", stream=True)

    came = datetime.fromisoformat(served.attributes["langfuse.observation.completion_start_time"])
    waited = (came - datetime.fromtimestamp(served.start_ns * 1e-9, UTC)).total_seconds()
    assert waited == pytest.approx(served.attributes["gen_ai.response.time_to_first_chunk"], abs=1e-5)


async def test_langfuse_keeps_the_name_of_a_caller_s_trace(make, provider, recorder):
    with recorder.provider.get_tracer("caller").start_as_current_span("answer a question"):
        await make(provider.deployment("a"), vocabularies=["langfuse"]).acompletion("gpt-4o", MESSAGES)

    (request,) = recorder.tree().children
    assert words(request) == {"langfuse.observation.type": "chain"}


@pytest.mark.parametrize(
    ("operation", "attributes", "said"),
    [
        ("list_files", {}, {"langfuse.observation.type": "span"}),
        (
            "embeddings",
            {n.GEN_AI_REQUEST_MODEL: "m"},
            {"langfuse.observation.type": "embedding", "langfuse.observation.model.name": "m"},
        ),
    ],
)
def test_langfuse_of_other_kinds_of_attempt(operation, attributes, said):
    assert VOCABULARIES["langfuse"].mirror(Said(n.ATTEMPT, operation, attributes, 0)) == said


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, None),
        ({n.GEN_AI_INPUT_TOKENS: 11}, {"input": 11, "total": 11}),
        ({n.GEN_AI_INPUT_TOKENS: 11, n.CACHE_HIT: True}, {"input": 0, "total": 0}),
        (
            {n.GEN_AI_INPUT_TOKENS: 5, n.GEN_AI_CACHE_READ_TOKENS: 9},  # a provider that counts the cache apart
            {"input": 0, "input_cached_tokens": 5, "total": 5},
        ),
    ],
)
def test_langfuse_adds_up_parts_that_do_not_overlap(counts, usage):
    said = VOCABULARIES["langfuse"].mirror(Said(n.ATTEMPT, "chat", counts, 0, 1))

    assert said == ({} if usage is None else {"langfuse.observation.usage_details": as_json(usage)})


async def test_openllmetry_of_a_call_that_a_fallback_saved(saved):
    request, select, failed, fallback, again, served = await saved(
        "openllmetry", frequency_penalty=0.1, presence_penalty=0.2, stop=["x"], litellm_session_id="s", user="me"
    )

    assert words(request) == {
        "traceloop.span.kind": "workflow",
        "traceloop.entity.name": "router.chat",
        "traceloop.workflow.name": "router.chat gpt-4o",
        "traceloop.association.properties.session_id": "s",
        "traceloop.association.properties.user_id": "me",
    }
    task = {"traceloop.span.kind": "task"}
    assert words(select) == words(again) == {**task, "traceloop.entity.name": "router.select"}
    assert words(fallback) == {**task, "traceloop.entity.name": "router.fallback"}
    asked = {
        "llm.request.type": "chat",
        "llm.frequency_penalty": 0.1,
        "llm.presence_penalty": 0.2,
        "llm.chat.stop_sequences": ("x",),
    }
    assert words(failed) == {**asked, "gen_ai.system": "openai"}
    assert words(served) == {
        **asked,
        "gen_ai.system": "azure.ai.openai",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 50,
        "gen_ai.usage.cache_read_input_tokens": 60,
        "gen_ai.usage.reasoning_tokens": 20,
        "llm.usage.total_tokens": 150,
        "llm.response.finish_reason": "stop",
    }


def test_openllmetry_of_an_attempt_that_is_nothing_it_knows():
    mirror = VOCABULARIES["openllmetry"].mirror

    assert mirror(Said(n.ATTEMPT, "list_files", {}, 0)) == {"llm.request.type": "unknown"}
    assert mirror(Said(n.ATTEMPT, "list_files", {}, 0, 1)) == {}


async def test_llm_routing_says_each_decision(saved):
    request, select, failed, fallback, again, served = await saved("llm_routing")

    assert [words(node) for node in (request, failed, fallback, served)] == [{}] * 4
    for node, model, count in ((select, MODEL, 2), (again, "gpt-4o", 1)):
        assert words(node) == {
            "llm.routing.strategy": "simple-shuffle",
            "llm.routing.selected_model": model,
            "llm.routing.model_count": count,
            "llm.routing.latency_ms": pytest.approx(node.seconds * 1000),
        }


async def test_llm_routing_of_a_decision_that_nobody_took(make, provider, recorder):
    router = make(provider.deployment("a"), vocabularies=["llm_routing"])
    with pytest.raises(litellm.BadRequestError):
        await router.acompletion("no such group", MESSAGES)

    (select,) = [node for node in everything(recorder.tree()) if node.name.startswith("router.select")]
    assert "llm.routing.selected_model" not in select.attributes
    assert select.attributes["llm.routing.latency_ms"] == pytest.approx(select.seconds * 1000)


async def test_several_vocabularies_stand_side_by_side(make, provider, recorder):
    router = make(provider.deployment("a"), vocabularies=["llm_routing", "openinference"])
    await router.acompletion("gpt-4o", MESSAGES)

    _, select, _ = everything(recorder.tree())
    assert set(words(select)) == {
        "openinference.span.kind",
        *(word.key for word in VOCABULARIES["llm_routing"].NAMES),
    }


# --- content -----------------------------------------------------------------------------------

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Is it"}, {"type": "text", "text": "raining?"}]},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Rome"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "dry"},
]
SPOKEN = (
    "llm.input_messages",
    "llm.output_messages",
    "llm.tools",
    "input.",
    "output.",
    "gen_ai.prompt",
    "gen_ai.completion",
)


@pytest.fixture
async def talked(make, provider, recorder):
    """Makes a call whose content is captured, and gives what its attempt says of that."""

    async def call(vocabulary, messages=CONVERSATION, capture="SPAN_ONLY", **arguments):
        provider.default("a", Answer("No", tool_calls=[ToolCall("umbrella", '{"open":false}', id="c2")]))
        router = make(
            provider.deployment("a"),
            vocabularies=[vocabulary],
            settings={"capture_content": capture},
            **arguments,
        )
        await router.acompletion("gpt-4o", messages, tools=[WEATHER])
        attempt = recorder.tree().children[-1]
        return attempt, {
            key: value
            for key, value in words(attempt).items()
            if key.startswith(("langfuse.observation.input", "langfuse.observation.output", *SPOKEN))
            and not key.startswith("gen_ai.usage")
        }

    return call


async def test_openinference_says_what_was_said_where_it_is_captured(talked):
    attempt, said = await talked("openinference")

    i, o = "llm.input_messages", "llm.output_messages"
    assert said == {
        "input.value": attempt.attributes["gen_ai.input.messages"],
        "input.mime_type": "application/json",
        f"{i}.0.message.role": "system",
        f"{i}.0.message.content": "Be brief.",
        f"{i}.1.message.role": "user",
        f"{i}.1.message.content": "Is it\nraining?",
        f"{i}.2.message.role": "assistant",
        f"{i}.2.message.tool_calls.0.tool_call.id": "c1",
        f"{i}.2.message.tool_calls.0.tool_call.function.name": "weather",
        f"{i}.2.message.tool_calls.0.tool_call.function.arguments": '{"in":"Rome"}',
        f"{i}.3.message.role": "tool",
        f"{i}.3.message.content": "dry",
        f"{i}.3.message.tool_call_id": "c1",
        "output.value": attempt.attributes["gen_ai.output.messages"],
        "output.mime_type": "application/json",
        f"{o}.0.message.role": "assistant",
        f"{o}.0.message.content": "No",
        f"{o}.0.message.tool_calls.0.tool_call.id": "c2",
        f"{o}.0.message.tool_calls.0.tool_call.function.name": "umbrella",
        f"{o}.0.message.tool_calls.0.tool_call.function.arguments": '{"open":false}',
        "llm.tools.0.tool.json_schema": as_json(json.loads(attempt.attributes["gen_ai.tool.definitions"])[0]),
    }


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("capture", ["NO_CONTENT", "EVENT_ONLY"])
async def test_no_vocabulary_says_what_the_span_does_not_say(talked, vocabulary, capture):
    attempt, said = await talked(vocabulary, capture=capture)

    assert said == {}
    assert "Rome" not in str(attempt.attributes)


async def test_a_long_conversation_is_said_whole_and_not_by_message(talked):
    attempt, said = await talked("openinference", [{"role": "user", "content": "x" * 400}] * 11)

    assert said["input.value"] == attempt.attributes["gen_ai.input.messages"]
    assert len(said["input.value"]) > 4400
    assert [key for key in said if key.startswith("llm.input_messages")] == []
    assert said["llm.output_messages.0.message.content"] == "No"


async def test_langfuse_says_what_was_said_where_it_is_captured(talked):
    attempt, said = await talked("langfuse")

    assert said == {
        "langfuse.observation.input": attempt.attributes["gen_ai.input.messages"],
        "langfuse.observation.output": attempt.attributes["gen_ai.output.messages"],
    }


async def test_openllmetry_says_what_was_said_where_it_is_captured(talked):
    _, said = await talked("openllmetry", CONVERSATION[2:])

    assert said == {
        "gen_ai.prompt.0.role": "assistant",
        "gen_ai.prompt.0.tool_calls.0.id": "c1",
        "gen_ai.prompt.0.tool_calls.0.name": "weather",
        "gen_ai.prompt.0.tool_calls.0.arguments": '{"in":"Rome"}',
        "gen_ai.prompt.1.role": "tool",
        "gen_ai.prompt.1.content": "dry",
        "gen_ai.prompt.1.tool_call_id": "c1",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "No",
        "gen_ai.completion.0.finish_reason": "tool_call",
        "gen_ai.completion.0.tool_calls.0.id": "c2",
        "gen_ai.completion.0.tool_calls.0.name": "umbrella",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"open":false}',
    }


def test_instructions_beside_the_messages_come_first():
    attributes = {
        n.GEN_AI_SYSTEM_INSTRUCTIONS: '[{"type":"text","content":"Be brief."}]',
        n.GEN_AI_INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
    }
    said = VOCABULARIES["openllmetry"].mirror(Said(n.ATTEMPT, "chat", attributes, 0, 0))

    assert said == {
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": "hi",
    }


def test_an_embedding_s_input_is_no_conversation():
    attributes = {n.GEN_AI_INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'}
    said = VOCABULARIES["openinference"].mirror(Said(n.ATTEMPT, "embeddings", attributes, 0, 0))

    assert said == {"input.value": attributes[n.GEN_AI_INPUT_MESSAGES], "input.mime_type": "application/json"}


def test_what_a_redactor_left_can_be_anything():
    odd = '["x",{"parts":7},{"role":7,"parts":["x",{"type":"text"},{"type":"tool_call_response","response":{"a":1}}]}]'
    said = VOCABULARIES["openllmetry"].mirror(Said(n.ATTEMPT, "chat", {n.GEN_AI_INPUT_MESSAGES: odd}, 0, 0))

    assert said == {"gen_ai.prompt.1.role": "7", "gen_ai.prompt.1.content": '{"a":1}'}
    assert VOCABULARIES["openllmetry"].mirror(Said(n.ATTEMPT, "chat", {n.GEN_AI_INPUT_MESSAGES: "{}"}, 0, 0)) == {}
