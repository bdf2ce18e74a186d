"""A core whose loop runs no Python override, as litellm announces one: what its host tells is traced."""

import asyncio
import logging

import litellm
import pytest

from traced_router.testing import ANY, absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, BadRequest, Hang, RateLimited, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


class StubCore:
    """Picks the first deployment, and does all the rest itself: it knows the host's ``invoke`` and ``sleep`` only."""

    def __init__(self, config, host):
        arguments = dict(config.arguments)
        self.host = host
        self.model_list = arguments["model_list"]
        self.model_names = {d["model_name"] for d in self.model_list}
        self.num_retries = arguments.get("num_retries") or 0
        self.routing_strategy = "simple-shuffle"

    async def _loop(self, op, model, **kwargs):
        deployment = next(d for d in self.model_list if d["model_name"] == model)
        for left in reversed(range(self.num_retries + 1)):
            try:
                return await self.host.invoke(op)(
                    **deployment["litellm_params"],
                    **kwargs,
                    model_info=deployment["model_info"],
                    metadata={"model_group": model},
                    litellm_trace_id="made-by-the-core",
                )
            except Exception:
                if not left:
                    raise
                await self.host.sleep(0.001)

    async def acompletion(self, model, messages, **kwargs):
        return await self._loop("acompletion", model, messages=messages, **kwargs)

    async def aembedding(self, model, input, **kwargs):  # noqa: A002  # litellm's name
        return await self._loop("aembedding", model, input=input, **kwargs)

    async def aresponses(self, **kwargs):
        return await self._loop("aresponses", kwargs.pop("model"), **kwargs)

    async def aretrieve_batch(self, model, **kwargs):
        """Asks all deployments at once, as litellm does, and keeps to itself what they raise."""
        answers = await asyncio.gather(
            *(
                self.host.invoke("aretrieve_batch")(
                    **d["litellm_params"], **kwargs, model_info=d["model_info"], metadata={"model_group": model}
                )
                for d in self.model_list
            ),
            return_exceptions=True,
        )
        return next(a for a in answers if not isinstance(a, BaseException))

    def retire(self):
        """Nothing to give back."""


@pytest.fixture
def foreign(monkeypatch, hosted, recorder):
    from litellm import router as facade

    monkeypatch.setattr(facade, "make_core", lambda config, host, _core_class=None: StubCore(config, host))

    def make(*deployments, **arguments):
        return hosted.TracedRouter(model_list=list(deployments), tracer_provider=recorder.provider, **arguments)

    return make


def request(name, *children, **attributes):
    return span(
        f"router.{name}",
        kind="INTERNAL",
        attributes={
            "traced_router.engine": "foreign",
            "traced_router.capabilities": ("selection=none", "fallback=none", "stream=partial"),
            **attributes,
        },
        children=children,
    )


def attempt(name="chat gpt-4o-2024-08-06", error=None, **attributes):
    return span(
        name,
        kind="CLIENT",
        status="ERROR" if error else "UNSET",
        attributes={
            "error.type": error or absent,
            "litellm.deployment.id": "dep-a",
            "litellm.deployment.model_group": "gpt-4o",
            "litellm_trace_id": "made-by-the-core",
            "gen_ai.provider.name": "openai",
            "server.address": "127.0.0.1",
            **attributes,
        },
    )


BACKOFF = span(
    "router.backoff",
    kind="INTERNAL",
    attributes={"traced_router.backoff.seconds": 0.001, "traced_router.backoff.source": "exponential"},
)


async def test_what_is_measured(provider, foreign, recorder):
    provider.script("dep-a", [RateLimited()])
    made = foreign(provider.deployment("dep-a"), num_retries=1, meter_provider=recorder.meter_provider)
    await made.acompletion("gpt-4o", MESSAGES)

    found = {
        name: {
            (p.attributes.get("litellm.deployment.id"), p.attributes.get("error.type")): p.count or p.value
            for p in points
        }
        for name, points in recorder.metrics().items()
        if name.startswith("traced_router.")
    }
    assert set(found.pop("traced_router.cost")) == {("dep-a", None)}
    assert found == {
        "traced_router.attempts": {("dep-a", "RateLimitError"): 1, ("dep-a", None): 1},
        "traced_router.amplification": {(None, None): 1},
        "traced_router.retries": {("dep-a", "RateLimitError"): 1},
        "traced_router.inflight": {("dep-a", None): 0},
        "traced_router.backoff.duration": {(None, None): 1},
        "traced_router.request.duration": {(None, None): 1},
    }
    assert {p.attributes["traced_router.model_group"] for p in recorder.metrics()["traced_router.attempts"]} == {
        "gpt-4o"
    }


async def test_request_attempts_and_waits(provider, foreign, recorder):
    provider.script("dep-a", [RateLimited(), Answer("hello", input_tokens=5, output_tokens=6)])
    answer = await foreign(provider.deployment("dep-a"), num_retries=1).acompletion("gpt-4o", MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert provider.hits() == 2
    assert_tree(
        recorder,
        request(
            "chat gpt-4o",
            attempt(error="RateLimitError", **{"http.response.status_code": 429}),
            BACKOFF,
            attempt(**{"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 6}),
            **{
                "traced_router.outcome": "ok_after_retry",
                "traced_router.attempts": 2,
                "traced_router.retries": 1,
                "litellm_trace_id": "made-by-the-core",
                "traced_router.served.deployment_id": "dep-a",
            },
        ),
    )


async def test_an_error_is_the_core_s_own(provider, foreign, recorder):
    provider.script("dep-a", [ServerError()])
    with pytest.raises(litellm.InternalServerError):
        await foreign(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        request(
            "chat gpt-4o",
            attempt(error="InternalServerError"),
            **{"traced_router.outcome": "error", "error.type": "InternalServerError"},
        ),
    )


async def test_a_cancelled_call(provider, foreign, recorder):
    gate = provider.gate()
    provider.script("dep-a", [Answer(hold_before=gate)])
    task = asyncio.ensure_future(foreign(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert recorder.tree().attributes["traced_router.outcome"] == "cancelled"


async def test_a_stream(provider, foreign, recorder):
    provider.script("dep-a", [Answer("a b c")])
    stream = await foreign(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "a b c"
    assert_tree(
        recorder,
        request(
            "chat gpt-4o",
            attempt(),
            **{"traced_router.stream.outcome": "exhausted", "traced_router.streaming": True},
        ),
    )


async def test_other_entry_points(provider, foreign, recorder):
    made = foreign(provider.deployment("dep-a"))
    await made.aembedding("gpt-4o", ["hi"])
    await made.aresponses(model="gpt-4o", input="hi")

    first, second = recorder.trees()
    assert_tree(first, request("embeddings gpt-4o", attempt("embeddings gpt-4o-2024-08-06")))
    assert_tree(second, request("chat gpt-4o", attempt()))


async def test_calls_side_by_side(provider, foreign, recorder):
    provider.script("dep-b", [BadRequest()])
    made = foreign(provider.deployment("dep-a"), provider.deployment("dep-b"))
    await made.aretrieve_batch(model="gpt-4o", batch_id="batch-1", custom_llm_provider="openai")

    name = "retrieve_batch gpt-4o-2024-08-06"
    other = {"litellm.deployment.id": "dep-b", "litellm_trace_id": ANY}
    assert_tree(
        recorder,
        request(
            "retrieve_batch gpt-4o",
            attempt(name, litellm_trace_id=ANY),
            attempt(name, error="BadRequestError", **other),
            **{"traced_router.attempts": 2, "traced_router.retries": 0, "traced_router.outcome": "ok"},
        ),
    )


async def test_a_call_outside_of_a_router_is_none_of_ours(provider, foreign, recorder):
    made = foreign(provider.deployment("dep-a"))
    await made.__dict__["_core"].acompletion("gpt-4o", MESSAGES)

    assert recorder.trees() == ()


def test_what_is_missing_is_said_once(provider, foreign, caplog):
    made = foreign(provider.deployment("dep-a"))

    said = [r for r in caplog.records if r.name == "traced_router"]
    assert [r.levelno for r in said] == [logging.WARNING]
    assert "selection (none), fallback (none), stream (partial)" in said[0].getMessage()
    assert made.tracing_capabilities == {
        "request": "full",
        "selection": "none",
        "attempt": "full",
        "backoff": "full",
        "fallback": "none",
        "stream": "partial",
    }


@pytest.mark.usefixtures("tracing_may_fail")
async def test_a_fault_in_tracing_changes_nothing(provider, monkeypatch, foreign, hosted, recorder):
    def failing(*_args):
        raise LookupError

    monkeypatch.setattr(hosted.module("_readers"), "answer", failing)
    answer = await foreign(provider.deployment("dep-a")).acompletion("gpt-4o", MESSAGES)

    assert type(answer) is litellm.ModelResponse
    assert recorder.open_spans() == []
    recorder.clear()  # such a trace cannot keep the contract


async def test_a_retry_policy_has_no_effect_and_a_deadline_has(provider, foreign, recorder, caplog):
    provider.default("dep-a", Hang())
    made = foreign(provider.deployment("dep-a"), retrying=True, deadline=0.4)

    with pytest.raises(litellm.Timeout):
        await made.acompletion("gpt-4o", MESSAGES)

    assert "this litellm's core retries by itself and asks no Python: retrying= has no effect" in caplog.messages
    assert recorder.tree().attributes["error.type"] == "DeadlineExceeded"


async def test_hedges_have_no_effect(provider, foreign, recorder, caplog):
    made = foreign(provider.deployment("dep-a"), provider.deployment("dep-b"), hedging=0)

    await made.acompletion("gpt-4o", MESSAGES)

    assert "this litellm's core calls providers by itself and asks no Python: hedging= has no effect" in caplog.messages
    assert provider.hits() == 1
