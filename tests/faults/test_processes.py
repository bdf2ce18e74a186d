"""Processes that fork, spawn, and end with open streams: in an interpreter of their own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from traced_router.testing import Answer

COMMON = """
    import asyncio, json, os, sys
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
    from traced_router import TracedRouter

    def made():
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(formatter=lambda span: f"{os.getpid()} {span.name}\\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return TracedRouter(
            model_list=json.loads(os.environ["DEPLOYMENTS"]), num_retries=0, tracer_provider=provider,
            routing_strategy="least-in-flight",
        )

    MESSAGES = [{"role": "user", "content": "hi"}]
"""
FORK_AND_EXIT = """
    router = made()
    asyncio.run(router.acompletion("gpt-4o", MESSAGES))
    child = os.fork()
    asyncio.run(router.acompletion("gpt-4o", MESSAGES))
    sys.stdout.flush()
    held = []

    async def open_streams():
        for reads in range(3):
            stream = await router.acompletion("gpt-4o", MESSAGES, stream=True)
            for _ in range(reads):
                await anext(stream)
            held.append(stream)

    if child:
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(open_streams())
"""
FORK_WITH_AN_OPEN_STREAM = """
    import logging

    logging.getLogger("asyncio").disabled = True  # its loop ends with tasks of litellm's in it, on 1.95
    router = made()
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(router.acompletion("gpt-4o", MESSAGES, stream=True))
    loop.run_until_complete(anext(stream))
    child = os.fork()
    if not child:
        asyncio.run(router.acompletion("gpt-4o", MESSAGES))
        sys.exit()  # with the stream, which is its parent's
    assert os.waitpid(child, 0)[1] == 0

    async def rest():
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["two ", "three", None]

    loop.run_until_complete(rest())
    loop.close()
"""
SPAWN = """
    import multiprocessing

    def call():
        asyncio.run(made().acompletion("gpt-4o", MESSAGES))

    if __name__ == "__main__":
        call()
        child = multiprocessing.get_context("spawn").Process(target=call)
        child.start()
        child.join()
        assert child.exitcode == 0
"""
SPANS = ["chat gpt-4o-2024-08-06", "router.chat gpt-4o", "router.select gpt-4o"]


@pytest.mark.timeout(200)  # litellm is imported twice
@pytest.mark.parametrize(
    ("script", "calls"),
    [
        pytest.param(
            FORK_AND_EXIT,
            6,
            id="forks, and ends with open streams",
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
        ),
        pytest.param(
            FORK_WITH_AN_OPEN_STREAM,
            2,
            id="forks with an open stream",
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
        ),
        pytest.param(SPAWN, 2, id="spawns"),
    ],
)
def test_a_process_that(provider, tmp_path, script, calls):
    provider.default("dep-a", Answer("one two three"))
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(COMMON) + textwrap.dedent(script), "utf-8")
    environment = {**os.environ, "DEPLOYMENTS": json.dumps([provider.deployment("dep-a")]), "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, str(file)], env=environment, capture_output=True, text=True, check=False, timeout=180
    )

    said = [line for line in done.stderr.splitlines() if " - LiteLLM" not in line]
    assert (done.returncode, said) == (0, [])
    spans = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert sorted(name for _, name in spans) == sorted(SPANS * calls)
    assert len({process for process, _ in spans}) == 2
