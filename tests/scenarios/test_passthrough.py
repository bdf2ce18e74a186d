"""The pass-through endpoint: a provider's own path, answered whole or as a stream of bytes."""

import httpx
import pytest

from traced_router.testing import absent, assert_tree, span
from traced_router.testing._provider_behaviours import Answer, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def made(provider, router):
    pytest.importorskip("litellm.llms.vllm.passthrough.transformation")
    return router(provider.deployment("dep-a", model="hosted_vllm/gpt-4o"))


async def call(made, *, stream=False):
    body = {"model": "gpt-4o", "messages": MESSAGES} | ({"stream": True} if stream else {})
    return await made.allm_passthrough_route(
        model="gpt-4o", method="POST", endpoint="/chat/completions", json=body, stream=stream
    )


async def read(stream):
    return b"".join([piece async for piece in stream])


def tree(*, status="UNSET", error=absent, code=absent, **attributes):
    named = {f"traced_router.{name.replace('__', '.')}": value for name, value in attributes.items()}
    return span(
        "router.llm_passthrough_route gpt-4o",
        status=status,
        attributes={"traced_router.operation": "llm_passthrough_route", "error.type": error, **named},
        children=[
            span("router.select gpt-4o", attributes={"litellm.deployment.id": "dep-a"}),
            span(
                "llm_passthrough_route gpt-4o",
                kind="CLIENT",
                status=status,
                attributes={
                    "litellm.deployment.id": "dep-a",
                    "error.type": error,
                    "http.response.status_code": code,
                },
            ),
        ],
    )


async def test_a_whole_answer(provider, made, recorder):
    answer = await call(made)

    assert type(answer) is httpx.Response
    assert provider.requests[0].path.endswith("/chat/completions")
    assert_tree(recorder, tree(outcome="ok", attempts=1, streaming=False))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error(provider, made, recorder, stream):
    provider.default("dep-a", ServerError())
    with pytest.raises(httpx.HTTPStatusError):
        await read(await call(made, stream=stream))  # a stream of 1.95 asks when it is read

    assert_tree(recorder, tree(status="ERROR", error="HTTPStatusError", code=500, outcome="error", attempts=1))


async def test_a_stream_that_is_read(provider, made, recorder):
    provider.default("dep-a", Answer(chunks=("a", "b")))
    stream = await call(made, stream=True)
    assert recorder.open_spans() != []
    assert (await read(stream)).count(b"data: ") >= 2
    assert_tree(recorder, tree(outcome="ok", streaming=True, stream__outcome="exhausted", attempts=1))


async def test_a_stream_that_is_closed(provider, made, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await call(made, stream=True)
    await anext(stream)
    await stream.aclose()
    gate.open()

    assert_tree(recorder, tree(outcome="abandoned", stream__outcome="closed", stream__chunks=1))


async def test_a_stream_that_is_dropped(provider, made, recorder):
    gate = provider.gate()
    provider.default("dep-a", Answer(chunks=("a", "b"), hold_after_chunk=(1, gate)))
    stream = await call(made, stream=True)
    await anext(stream)
    del stream
    gate.open()
    recorder.wait_for_end(3)

    assert_tree(recorder, tree(outcome="abandoned", stream__outcome="abandoned", stream__chunks=1))
