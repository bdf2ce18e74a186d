"""What a real Phoenix shows of a call is what happened: the tree, what each step is, and what was paid, once."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.caching.caching import Cache
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from traced_router import TracedRouter
from traced_router.testing import Answer, FakeProvider, RateLimited, Recorder

pytestmark = pytest.mark.timeout(180)

MESSAGES = [{"role": "user", "content": "hi"}]
BUSY = RateLimited(retry_after=0.01)
LONG = {"input_tokens": 100, "output_tokens": 50, "cached_tokens": 60, "reasoning_tokens": 20}

GPT = 11 * 2.5e-6 + 7 * 10e-6
"""USD for the provider's usual answer of 11 tokens in and 7 out, by the price of gpt-4o; below by Claude Sonnet's."""
CLAUDE = 11 * 3e-6 + 7 * 15e-6
GPT_LONG = 40 * 2.5e-6 + 60 * 1.25e-6 + 50 * 10e-6

SAVED = """\
CHAIN router.chat gpt-4o
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06 ERROR
  CHAIN router.backoff
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06 ERROR
  CHAIN router.backoff
  CHAIN router.fallback backup
    CHAIN router.select backup
    LLM chat claude-sonnet-4-5
"""
WASTED = """\
CHAIN router.chat gpt-4o
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06 ERROR
  CHAIN router.fallback backup
    CHAIN router.select backup
    LLM chat claude-sonnet-4-5
"""
FAILED = """\
CHAIN router.chat gpt-4o ERROR
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06 ERROR
  CHAIN router.backoff
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06 ERROR
  CHAIN router.backoff
  CHAIN router.fallback backup ERROR
    CHAIN router.select backup
    LLM chat claude-sonnet-4-5 ERROR
    CHAIN router.backoff
    CHAIN router.select backup
    LLM chat claude-sonnet-4-5 ERROR
    CHAIN router.backoff
"""
PLAIN = """\
CHAIN router.chat gpt-4o
  CHAIN router.select gpt-4o
  LLM chat gpt-4o-2024-08-06
"""
EMBEDDING = """\
CHAIN router.embeddings vectors
  CHAIN router.select vectors
  EMBEDDING embeddings text-embedding-3-small
"""

HAPPENED = [  # in the order of the calls: the tree, the tokens in and out that were paid for, and the price
    (SAVED, 11, 7, CLAUDE),
    (PLAIN, 100, 50, GPT_LONG),
    (WASTED, 100 + 11, 50 + 7, GPT_LONG + CLAUDE),
    (FAILED, 0, 0, 0),
    (EMBEDDING, 0, 0, 0),  # Phoenix adds up, and prices, LLM spans only
    (PLAIN, 11, 7, GPT),
    (PLAIN, 0, 0, 0),  # from litellm's cache
]


async def make_calls(provider: FakeProvider, recorder: Recorder) -> None:
    """What `HAPPENED` says."""
    arguments: dict[str, Any] = {"tracer_provider": recorder.provider, "vocabularies": ["openinference"]}
    backup = provider.deployment("west", group="backup", model="anthropic/claude-sonnet-4-5")
    vectors = provider.deployment("east-vectors", group="vectors", model="openai/text-embedding-3-small")
    router = TracedRouter(
        model_list=[provider.deployment("east"), backup, vectors],
        fallbacks=[{"gpt-4o": ["backup"]}],
        content_policy_fallbacks=[{"gpt-4o": ["backup"]}],
        num_retries=1,
        **arguments,
    )
    provider.script("east", [BUSY, BUSY, Answer(**LONG), Answer(finish_reason="content_filter", **LONG), BUSY, BUSY])
    await router.acompletion("gpt-4o", MESSAGES, user="somebody", litellm_session_id="a session")
    async for _ in await router.acompletion("gpt-4o", MESSAGES, stream=True, stream_options={"include_usage": True}):
        pass
    await router.acompletion("gpt-4o", MESSAGES)
    provider.script("west", [BUSY, BUSY])
    with pytest.raises(litellm.RateLimitError):
        await router.acompletion("gpt-4o", MESSAGES)
    await router.aembedding("vectors", ["hi"])
    caching = TracedRouter(model_list=[provider.deployment("south")], cache_responses=True, **arguments)
    for _ in range(2):
        caching.completion("gpt-4o", MESSAGES)


@pytest.fixture(scope="module")
def recorder(phoenix, eventually):
    """Everything that happened, which Phoenix was sent too, and has."""
    made = Recorder()
    made.provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{phoenix.url}/v1/traces")))
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as provider:
        patch.setattr(litellm, "cache", Cache(type="local"))
        asyncio.run(make_calls(provider, made))
    eventually(lambda: len(shown(phoenix)) == len(made.spans()))
    return made


def shown(phoenix) -> list[dict[str, Any]]:
    return phoenix.get("/v1/projects/default/spans", limit="1000")["data"]


def drawn(spans: Iterable[Mapping[str, Any]], parent: str | None = None, depth: int = 0) -> str:
    """The tree of one trace, as Phoenix has it."""
    children = sorted((s for s in spans if s["parent_id"] == parent), key=lambda s: s["start_time"])
    return "".join(
        f"{'  ' * depth}{s['span_kind']} {s['name']}{' ERROR' if s['status_code'] == 'ERROR' else ''}\n"
        + drawn(spans, s["context"]["span_id"], depth + 1)
        for s in children
    )


PAID = """
query ($trace: ID!) {
  projects { edges { node {
    tokenCountPrompt tokenCountCompletion tokenCountTotal costSummary { total { cost } }
    trace(traceId: $trace) {
      session { sessionId } costSummary { total { cost } }
      rootSpan { cumulativeTokenCountPrompt cumulativeTokenCountCompletion cumulativeTokenCountTotal }
    }
  } } }
}
"""


def paid(phoenix, trace_id: str) -> dict[str, Any]:
    """What Phoenix adds up, over the project and over a trace."""
    answer = phoenix.post("/graphql", {"query": PAID, "variables": {"trace": trace_id}})
    assert "errors" not in answer, answer["errors"]
    ((edge),) = answer["data"]["projects"]["edges"]
    return edge["node"]


def test_phoenix_finds_the_calls_that_were_saved_as_the_guide_says(phoenix, recorder):
    page = (Path(__file__).parent.parent.parent / "docs" / "guides" / "phoenix.md").read_text("utf-8")
    (condition,) = re.findall(r"`(attributes\[[^`]*)`", page)
    spans = "spans(first: 99, filterCondition: $condition) { edges { node { name } } }"
    query = f"query ($condition: String!) {{ projects {{ edges {{ node {{ {spans} }} }} }} }}"
    answer = phoenix.post("/graphql", {"query": query, "variables": {"condition": condition}})
    ((project),) = answer["data"]["projects"]["edges"]

    assert [edge["node"]["name"] for edge in project["node"]["spans"]["edges"]] == ["router.chat gpt-4o"] * 2


def test_phoenix_shows_what_happened(phoenix, eventually, recorder):
    traces = [f"{tree.trace_id:032x}" for tree in recorder.trees()]
    spans = shown(phoenix)

    assert [drawn([s for s in spans if s["context"]["trace_id"] == trace]) for trace in traces] == [
        tree for tree, *_ in HAPPENED
    ]
    assert {s["context"]["span_id"]: (s["name"], s["parent_id"]) for s in spans} == {
        f"{s.context.span_id:016x}": (s.name, None if s.parent is None else f"{s.parent.span_id:016x}")
        for s in recorder.spans()
    }

    total = sum(cost for *_, cost in HAPPENED)
    project = eventually(
        lambda: (found := paid(phoenix, traces[0]))["costSummary"]["total"]["cost"] == pytest.approx(total) and found
    )
    prompt, completion = sum(row[1] for row in HAPPENED), sum(row[2] for row in HAPPENED)
    assert (project["tokenCountPrompt"], project["tokenCountCompletion"]) == (prompt, completion)
    assert project["tokenCountTotal"] == prompt + completion
    assert project["trace"]["session"] == {"sessionId": "a session"}

    for trace, tree, (_, prompt, completion, cost) in zip(traces, recorder.trees(), HAPPENED, strict=True):
        found = paid(phoenix, trace)["trace"]
        assert found["rootSpan"] == {
            "cumulativeTokenCountPrompt": prompt,
            "cumulativeTokenCountCompletion": completion,
            "cumulativeTokenCountTotal": prompt + completion,
        }
        assert (found["costSummary"]["total"]["cost"] or 0) == pytest.approx(cost)
        if cost:
            assert tree.attributes["traced_router.cost.total"] == pytest.approx(cost)
