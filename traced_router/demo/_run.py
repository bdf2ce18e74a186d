"""Running the demo: providers up, one call after the other, each trace printed when it is complete."""

import asyncio
import logging
import os
import random
from typing import Any, Final, TextIO

import litellm
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from traced_router.demo._calls import STORIES, router
from traced_router.demo._draw import Ink, draw
from traced_router.testing import FakeProvider

_SEED: Final = 7
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def run(out: TextIO, *, as_json: bool) -> int:
    """Tell every story; 0 when all were told."""
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)
    litellm.suppress_debug_info = True
    memory = InMemorySpanExporter()
    tracing = TracerProvider(resource=Resource.create({"service.name": "traced-router-demo"}))
    tracing.add_span_processor(SimpleSpanProcessor(memory))
    exported = _export_too(tracing)
    ink = Ink(on=not as_json and out.isatty() and "NO_COLOR" not in os.environ)
    with FakeProvider() as provider:
        asyncio.run(_tell(out, provider, tracing, memory, ink, as_json=as_json))
    tracing.shutdown()
    if not as_json:
        print(_closing(exported), file=out)
    return 0


async def _tell(
    out: TextIO,
    provider: FakeProvider,
    tracing: TracerProvider,
    memory: InMemorySpanExporter,
    ink: Ink,
    *,
    as_json: bool,
) -> None:
    random.seed(_SEED)
    await _warm_up(provider)
    for number, story in enumerate(STORIES, 1):
        # A router a story: a cooldown of the one before is not this one's.
        calls = router(provider, tracer_provider=tracing)
        await story.tell(calls, provider)
        await asyncio.sleep(0.02)  # a cancelled member of a race ends after the race
        provider.release()
        _give_up(calls)
        spans = memory.get_finished_spans()
        memory.clear()
        if as_json:
            for span in sorted(spans, key=lambda s: s.start_time or 0):
                print(span.to_json(indent=None), file=out)
            continue
        print(f"{ink.faint(f'{number:2}')} {ink.strong(story.title)}", file=out)
        traces = {s.get_span_context().trace_id: None for s in sorted(spans, key=lambda s: s.start_time or 0)}  # type: ignore[union-attr]
        for trace_id in traces:
            of_trace = [s for s in spans if s.get_span_context().trace_id == trace_id]  # type: ignore[union-attr]
            print(*(f"   {line}" for line in draw(of_trace, ink)), sep="\n", file=out)
        print(file=out)


async def _warm_up(provider: FakeProvider) -> None:
    """litellm imports and builds clients at the first call of a kind: keep that out of the pictures."""
    calls = router(provider)
    for stream in (False, True):
        answer = await calls.acompletion("long-context", [{"role": "user", "content": "warm up"}], stream=stream)
        if stream:
            async for _ in answer:
                pass
    _give_up(calls)


def _export_too(tracing: TracerProvider) -> str | None:
    """Export over OTLP as well when an endpoint is set; what became of it."""
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found,unused-ignore]
            OTLPSpanExporter,  # in the extra `otlp`
        )
    except ImportError:
        return (
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed: pip install 'traced-router[otlp]'."
        )
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return f"These traces were exported to {endpoint}."


def _closing(exported: str | None) -> str:
    return exported or "Set OTEL_EXPORTER_OTLP_ENDPOINT to see these traces in your own backend."


def _give_up(router: Any) -> None:
    """litellm calls it ``retire`` from 1.109 on, and warns of the old name."""
    (router.retire if hasattr(router, "retire") else router.discard)()
