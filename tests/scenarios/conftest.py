"""What every scenario has: a recorder, a provider over real HTTP, and routers that are checked afterwards."""

import asyncio
import gc
import inspect
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import litellm
import pytest

from traced_router import TracedRouter
from traced_router.testing import Node, Recorder, check_trace
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Behaviour

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    gc.freeze()  # litellm is a million objects: what is collected below is this test's
    yield made
    gc.collect()
    assert made.open_spans() == []
    assert made.ended_twice() == []
    for spans in made.traces():
        assert [str(v) for v in check_trace(spans)] == []
    for root in made.trees():
        for node in root.walk():
            if node.name.startswith("router.") and "traced_router.time.overhead" in node.attributes:
                check_times(node)


def check_times(request: Node) -> None:
    """A request's time is divided without remainder, and each part is as long as the spans that show it."""
    part = {name: float(request.attributes[f"traced_router.time.{name}"]) for name in TIMES}
    assert sum(part.values()) == pytest.approx(length(request), abs=1e-9)
    assert min(part.values()) >= 0.0
    own = list(within(request))
    assert part["select"] == pytest.approx(sum(length(n) for n in own if n.name.startswith("router.select")), abs=1e-9)
    assert part["backoff"] == pytest.approx(sum(length(n) for n in own if n.name == "router.backoff"), abs=1e-9)
    attempts = sorted((n for n in own if "litellm.deployment.attempt" in n.attributes), key=lambda n: n.start_ns)
    if all(before.end_ns <= after.start_ns for before, after in itertools.pairwise(attempts)):
        waited = sum(map(length, attempts))
        assert part["provider"] - 1e-9 <= waited <= part["provider"] + part["consumer"] + 1e-9


TIMES = ("select", "provider", "backoff", "consumer", "overhead")


def length(node: Node) -> float:
    return (node.end_ns - node.start_ns) * 1e-9


def within(request: Node) -> Iterator[Node]:
    """What hangs under a request, without the requests in it."""
    for child in request.children:
        if "traced_router.time.overhead" not in child.attributes:
            yield child
            yield from within(child)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made


@pytest.fixture
def tracing_may_fail() -> None:
    """For scenarios that break tracing on purpose: our guard's lines are expected."""


@pytest.fixture(autouse=True)
def _quiet(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No scenario may make OpenTelemetry or our own guard complain."""
    caplog.set_level(logging.WARNING)
    yield
    if "tracing_may_fail" in request.fixturenames:
        return
    loud = [r for r in caplog.get_records("call") if r.name.startswith(("opentelemetry", "traced_router"))]
    assert [r.getMessage() for r in loud if r.levelno >= logging.ERROR] == []


@pytest.fixture
def router(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TracedRouter]]:
    """Makes routers that retry nothing and wait for nothing unless told so, and drops them afterwards."""
    made: list[TracedRouter] = []
    monkeypatch.setattr(litellm, "cache", litellm.cache)  # one that a router sets up goes with its test

    def make(*deployments: dict[str, Any], **arguments: Any) -> TracedRouter:
        arguments.setdefault("num_retries", 0)
        arguments.setdefault("tracer_provider", recorder.provider)
        built = TracedRouter(model_list=list(deployments), **arguments)
        made.append(built)
        return built

    before = {name: list(getattr(litellm, name)) for name in _CALLBACKS}
    yield make
    for built in made:
        (built.retire if hasattr(built, "retire") else built.discard)()
    for name, callbacks in before.items():
        setattr(litellm, name, callbacks)


_CALLBACKS = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")


# --- as with plain Router --------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What litellm's router asked to wait, without its jitter, and without waiting for it."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def shortened(seconds: float, *args: Any) -> Any:
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        if not caller.startswith("litellm.router"):
            return await sleep(seconds, *args)
        if seconds:
            asked.append(seconds)
        return await sleep(min(seconds, 0.001), *args)

    monkeypatch.setattr(litellm.utils, "JITTER", 0.0)
    monkeypatch.setattr(asyncio, "sleep", shortened)
    return asked


@dataclass(frozen=True)
class Outcome:
    """What a caller sees of a call, what the providers see of it, and how long it would have waited."""

    result: type | None
    error: type | None
    message: str
    details: Mapping[str, object]
    hits: Mapping[str, int]
    waits: tuple[float, ...]


class Same:
    """Plays one script to a plain router and to a traced one, and checks that nobody sees a difference."""

    def __init__(self, make: Callable[..., TracedRouter], provider: FakeProvider, waits: list[float]) -> None:
        self._make = make
        self._provider = provider
        self._waits = waits

    async def __call__(
        self,
        deployments: Sequence[Mapping[str, Any]],
        script: Mapping[str, Sequence[Behaviour]],
        call: Callable[[Any], Any],
        **arguments: Any,
    ) -> Outcome:
        """``call(router)`` on both; the outcome, which was the same."""
        arguments.setdefault("num_retries", 0)
        plain = await self._play(script, call, litellm.Router(model_list=list(deployments), **arguments))
        traced = await self._play(script, call, self._make(*deployments, **arguments))
        assert traced == plain
        return traced

    async def _play(
        self, script: Mapping[str, Sequence[Behaviour]], call: Callable[[Any], Any], router: litellm.Router
    ) -> Outcome:
        self._provider.clear()
        self._waits.clear()
        for deployment, steps in script.items():
            self._provider.script(deployment, steps)
        result, error = None, None
        try:
            result = call(router)
            if inspect.isawaitable(result):
                result = await result
        except Exception as raised:
            error = raised
        hits = {name: self._provider.hits(name) for name in {r.deployment for r in self._provider.requests}}
        return Outcome(
            None if error else type(result),
            type(error) if error else None,
            str(error or ""),
            {
                name: getattr(error, name, None)
                for name in ("status_code", "num_retries", "max_retries", "llm_provider")
            },
            hits,
            tuple(self._waits),
        )


@pytest.fixture
def same(router: Callable[..., TracedRouter], provider: FakeProvider, waits: list[float]) -> Same:
    return Same(router, provider, waits)
