"""What is measured of a call: exact instruments, attributes and values, whatever becomes of the call and of its trace.

Every scenario is counted twice: by what it writes down itself, and by the spans of its trace, which must agree.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from traced_router import TracedRouter
from traced_router import _names as n
from traced_router.testing import Node, Recorder

MESSAGES = [{"role": "user", "content": "hi"}]
MODEL = "gpt-4o-2024-08-06"
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.01}
COST = 11 * 0.001 + 7 * 0.01
"""Of the provider's usual answer: 11 tokens in, 7 out."""

Keys = frozenset[tuple[str, object]]


def keys(**named: object) -> Keys:
    """An attribute set; ``None`` is not in it."""
    return frozenset((NAMED[name], value) for name, value in named.items() if value is not None)


NAMED = {
    "group": "traced_router.model_group",
    "id": "litellm.deployment.id",
    "error": "error.type",
    "operation": "traced_router.operation",
    "outcome": "traced_router.outcome",
    "strategy": "traced_router.strategy.name",
    "reason": "traced_router.decision.reason",
    "kind": "traced_router.cost.kind",
    "source": "traced_router.backoff.source",
    "from_": "traced_router.fallback.from",
    "to": "traced_router.fallback.to",
    "hop": "traced_router.fallback.kind",
    "gen_ai": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "said": "gen_ai.response.model",
    "type": "gen_ai.token.type",
    "where": "traced_router.tracing.where",
}


def measured(recorder: Recorder) -> dict[str, dict[Keys, float]]:
    """What each instrument holds: a counter's value, how often a histogram was written, and the sum of tokens."""
    return {
        name: {
            frozenset(p.attributes.items()): p.sum
            if name == "gen_ai.client.token.usage"
            else p.value
            if p.count is None
            else p.count
            for p in points
        }
        for name, points in recorder.metrics().items()
    }


# --- the second count: by the spans --------------------------------------------------------------


def counted(trees: Sequence[Node]) -> dict[str, dict[Keys, float]]:
    """What the instruments should hold, by the spans of these calls."""
    counts: dict[str, Counter[Keys]] = {}

    def count(name: str, by: Keys, amount: float = 1) -> None:
        counts.setdefault(name, Counter())[by] += amount

    for request in (node for tree in trees for node in tree.walk() if n.OUTCOME in node.attributes):
        said = request.attributes
        group, strategy = said.get(n.MODEL_GROUP), said.get(n.STRATEGY_NAME)
        count(
            "traced_router.request.duration",
            keys(operation=said[n.OPERATION], group=group, outcome=said[n.OUTCOME], strategy=strategy),
        )
        wasted = said.get(n.COST_WASTED, 0.0)
        for hop in (request, *(c for c in request.children if n.FALLBACK_KIND in c.attributes)):
            if hop is not request:
                _hop(count, hop)
            target = hop.attributes.get(n.FALLBACK_TO, group)
            before: Node | None = None
            for child in hop.children:
                own = child.attributes
                if child.name.startswith("router.select"):
                    reason = None if n.ERROR_TYPE in own else own.get(n.DECISION_REASON)
                    count(
                        "traced_router.selection.duration",
                        keys(
                            group=child.name.removeprefix("router.select "),
                            strategy=own.get(n.STRATEGY_NAME, strategy),
                            reason=reason,
                            error=own.get(n.ERROR_TYPE),
                        ),
                    )
                elif child.name == "router.backoff":
                    count("traced_router.backoff.duration", keys(group=target, source=own[n.BACKOFF_SOURCE]))
                elif child.kind == "CLIENT":
                    _attempt(count, child, before, served=bool(wasted == 0 and said[n.OUTCOME] != "error"))
                    before = child
    return {name: dict(found) for name, found in counts.items()}


def _hop(count: Callable[..., None], hop: Node) -> None:
    said = hop.attributes
    count(
        "traced_router.fallbacks",
        keys(from_=said[n.FALLBACK_FROM], to=said[n.FALLBACK_TO], hop=said[n.FALLBACK_KIND]),
    )


def _place(attempt: Node, error: object) -> Keys:
    said = attempt.attributes
    return keys(group=said.get(n.DEPLOYMENT_MODEL_GROUP), id=said.get(n.DEPLOYMENT_ID), error=error)


def _attempt(count: Callable[..., None], attempt: Node, before: Node | None, *, served: bool) -> None:
    said = attempt.attributes
    error = said.get(n.ERROR_TYPE)
    count("traced_router.attempts", _place(attempt, error))
    count("traced_router.inflight", _place(attempt, None), 0)
    if said[n.DEPLOYMENT_REASON] == "retry":
        assert before is not None
        count("traced_router.retries", _place(before, before.attributes.get(n.ERROR_TYPE)))
    for happened in attempt.events:
        if happened.name == n.COOLDOWN_EVENT:
            count("traced_router.cooldowns", _place(attempt, error))
    who = {
        "gen_ai": said[n.GEN_AI_OPERATION],
        "provider": said.get(n.GEN_AI_PROVIDER),
        "model": said.get(n.GEN_AI_REQUEST_MODEL),
        "said": said.get(n.GEN_AI_RESPONSE_MODEL),
    }
    count("gen_ai.client.operation.duration", keys(**who, error=error))
    if n.GEN_AI_TIME_TO_FIRST_CHUNK in said:
        count("gen_ai.client.operation.time_to_first_chunk", keys(**who, error=error))
    if n.CACHE_HIT not in said:
        for key, type_ in ((n.GEN_AI_INPUT_TOKENS, "input"), (n.GEN_AI_OUTPUT_TOKENS, "output")):
            if key in said:
                count("gen_ai.client.token.usage", keys(**who, type=type_), said[key])
    if n.ATTEMPT_COST in said:
        kind = "served" if served else "wasted"
        cost_of = keys(group=said[n.DEPLOYMENT_MODEL_GROUP], id=said[n.DEPLOYMENT_ID], kind=kind)
        count("traced_router.cost", cost_of, said[n.ATTEMPT_COST])


def approximately(found: Mapping[str, Mapping[Keys, float]]) -> dict[str, Any]:
    return {name: pytest.approx(dict(values)) for name, values in found.items()}


@pytest.fixture
def made(router: Callable[..., TracedRouter], recorder: Recorder) -> Iterator[Callable[..., TracedRouter]]:
    """Makes routers that are measured; nothing is in flight afterwards, and the trace says the same as the metrics."""

    def make(*deployments: dict[str, Any], **arguments: Any) -> TracedRouter:
        return router(*deployments, **{"meter_provider": recorder.meter_provider, **arguments})

    yield make
    gc.collect()
    found = measured(recorder)
    assert set(found.get("traced_router.inflight", {}).values()) <= {0}
    if recorder.trees():
        assert found == approximately(counted(recorder.trees()))


def deployment(provider: Any, id_: str, group: str = "gpt-4o", **params: Any) -> dict[str, Any]:
    return provider.deployment(id_, group=group, **PRICES, **params)


def chat(router: TracedRouter, **kwargs: Any) -> Any:
    return router.acompletion("gpt-4o", MESSAGES, **kwargs)


WHO = MappingProxyType({"gen_ai": "chat", "provider": "openai", "model": MODEL})


# --- the instruments -----------------------------------------------------------------------------


async def test_a_call_that_succeeds(provider, made, recorder):
    await chat(made(deployment(provider, "dep-a")))

    a = {"group": "gpt-4o", "id": "dep-a"}
    assert measured(recorder) == approximately({
        "gen_ai.client.operation.duration": {keys(**WHO, said=MODEL): 1},
        "gen_ai.client.token.usage": {
            keys(**WHO, said=MODEL, type="input"): 11,
            keys(**WHO, said=MODEL, type="output"): 7,
        },
        "traced_router.request.duration": {
            keys(operation="chat", group="gpt-4o", outcome="ok", strategy="simple-shuffle"): 1
        },
        "traced_router.selection.duration": {
            keys(group="gpt-4o", strategy="simple-shuffle", reason="only_candidate"): 1
        },
        "traced_router.attempts": {keys(**a): 1},
        "traced_router.inflight": {keys(**a): 0},
        "traced_router.cost": {keys(**a, kind="served"): COST},
    })  # fmt: skip


async def test_durations_are_those_of_the_spans(provider, made, recorder):
    await chat(made(deployment(provider, "dep-a")))

    found, tree = recorder.metrics(), recorder.tree()
    for name, node in {
        "traced_router.request.duration": tree,
        "traced_router.selection.duration": tree.children[0],
        "gen_ai.client.operation.duration": tree.children[1],
    }.items():
        (point,) = found[name]
        assert point.sum == pytest.approx(node.seconds), name
