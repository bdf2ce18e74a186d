"""Prompt-management models: a deployment is picked for the prompt, and then the model that the prompt names."""

import datetime as dt

import litellm
import pytest
from litellm.integrations.custom_prompt_management import CustomPromptManagement
from litellm.utils import Rules, function_setup

from traced_router.testing import assert_tree, of_type, span
from traced_router.testing._provider_behaviours import Answer, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


class Prompts(CustomPromptManagement):
    """Every prompt is for one model."""

    def __init__(self, model):
        super().__init__()
        self._model = model

    def get_chat_completion_prompt(self, model, messages, non_default_params, *_args, **_kwargs):
        return self._model, [{"role": "user", "content": "from the prompt"}], non_default_params


@pytest.fixture
def made(provider, router, monkeypatch):
    def make(model):
        monkeypatch.setattr(litellm, "callbacks", [Prompts(model)])
        prompted = provider.deployment("dep-p", group="prompted", model="langfuse/anything", prompt_id="p-1")
        return router(prompted, provider.deployment("dep-a", group="gpt-4o"))

    return make


async def call(router, **arguments):
    """As litellm's proxy does: without its logging object the router loses its own function and raises KeyError."""
    start = dt.datetime.now(dt.UTC)
    logging, _ = function_setup("acompletion", Rules(), start, model="prompted", messages=MESSAGES, litellm_call_id="c")
    return await router.acompletion("prompted", MESSAGES, litellm_logging_obj=logging, litellm_call_id="c", **arguments)


async def test_a_prompt_that_names_a_group(provider, made, recorder):
    await call(made("gpt-4o"))

    assert provider.requests[0].body["messages"][0]["content"] == "from the prompt"
    assert_tree(
        recorder,
        span(
            "router.chat prompted",
            attributes={"traced_router.attempts": 1, "traced_router.served.deployment_id": "dep-a"},
            children=[
                span("router.select prompted", attributes={"litellm.deployment.id": "dep-p"}),
                span("router.select gpt-4o", attributes={"litellm.deployment.id": "dep-a"}),
                span("chat gpt-4o-2024-08-06", kind="CLIENT"),
            ],
        ),
    )


async def test_a_prompt_that_names_a_model_of_no_group(provider, made, recorder):
    await call(made("openai/gpt-4o-mini"))

    assert provider.hits("dep-p") == 1
    tree = recorder.tree()
    assert [child.name for child in tree.children if child.kind == "INTERNAL"] == ["router.select prompted"]
    assert len([child for child in tree.children if child.kind == "CLIENT"]) == 1


STREAMED = span(
    "router.chat prompted",
    status="UNSET",
    attributes={
        "traced_router.attempts": 1,
        "traced_router.served.deployment_id": "dep-a",
        "traced_router.stream.outcome": "exhausted",
    },
    children=[
        span("router.select prompted", attributes={"litellm.deployment.id": "dep-p"}),
        span("router.select gpt-4o", attributes={"litellm.deployment.id": "dep-a"}),
        span(
            "chat gpt-4o-2024-08-06",
            kind="CLIENT",
            status="UNSET",
            attributes={"gen_ai.response.time_to_first_chunk": of_type(float), "gen_ai.usage.output_tokens": 7},
        ),
    ],
)


async def test_a_stream(provider, made, recorder):
    provider.default("dep-p", Answer(chunks=("a", "b")))  # litellm asks the second model at the first one's address
    stream = await call(made("gpt-4o"), stream=True, stream_options={"include_usage": True})
    assert isinstance(stream, litellm.CustomStreamWrapper)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert "".join(texts) == "ab"
    assert_tree(recorder, STREAMED)


async def test_a_stream_that_is_tried_again(provider, made, recorder, waits):
    """litellm asks for the prompt once."""
    provider.script("dep-p", [ServerError()])
    stream = await call(made("gpt-4o"), stream=True, num_retries=1)
    async for _ in stream:
        pass

    names = [child.name for child in recorder.tree().children if child.name != "router.backoff"]
    assert names == ["router.select prompted", *["router.select gpt-4o", "chat gpt-4o-2024-08-06"] * 2]
    assert recorder.tree().attributes["traced_router.outcome"] == "ok_after_retry"
