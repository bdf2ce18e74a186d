"""What every fault is followed by: one checker that nothing is left of it.

A test makes its routers with ``world``, plain ones beside traced ones, breaks something, and ends. Then no span is
open, none has ended twice, every trace keeps the contract, nothing is in flight, every reservation of a strategy has
been given back, no task and no thread is left, litellm's callback lists are as before, and OpenTelemetry has not logged
a line.
"""

import asyncio
import collections
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import litellm
import pytest

from traced_router import TracedRouter
from traced_router.strategy import Decision
from traced_router.testing import FakeProvider, Recorder, check_trace

_CALLBACKS = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
FIGURES = pytest.StashKey[collections.Counter[str]]()
"""How often what was done; said when the tests are over."""

_LITELLM_S_THREADS = ("ThreadPoolExecutor", "asyncio_", "litellm-logging", "AnyIO worker")
_TRACING = ("opentelemetry", "traced_router")


class Books:
    """A strategy that picks the first, and keeps account of what was reserved and given back."""

    name = "books"

    def __init__(self) -> None:
        self.open: collections.Counter[int] = collections.Counter()
        self.tickets: list[Any] = []
        self.ended_twice = 0

    def pick(self, _request: Any, candidates: Any) -> Decision:
        return Decision(candidates[0].id, "external")

    def started(self, ticket: Any) -> None:
        self.tickets.append(ticket)
        self.open[id(ticket)] += 1

    def first_chunk(self, ticket: Any) -> None: ...

    def finished(self, ticket: Any, _outcome: Any) -> None:
        self.open[id(ticket)] -= 1
        self.ended_twice += self.open[id(ticket)] < 0


class World:
    """Routers over one provider, and what is known of them."""

    def __init__(self, provider: FakeProvider, recorder: Recorder, figures: collections.Counter[str]) -> None:
        self.provider = provider
        self.recorder = recorder
        self.figures = figures
        self.books = Books()
        self.breaks_tracing = False
        """Whether something of ours fails: our guard says so, and counts it."""
        self.breaks_trees = False
        """Whether spans get lost on the way: then there is no whole trace."""
        self.lost: list[Any] = []
        """Spans that the SDK began and then failed to hand out: nobody can end them."""
        self.exporter_complains = False
        """Whether an exporter has something to say of its own."""
        self._made: list[Any] = []

    def traced(self, *deployments: Any, **arguments: Any) -> TracedRouter:
        arguments = {
            "num_retries": 0,
            "tracer_provider": self.recorder.provider,
            "meter_provider": self.recorder.meter_provider,
            "routing_strategy": self.books,
            "resilience": False,
            **arguments,
        }
        return self._keep(TracedRouter(model_list=list(deployments), **arguments))

    def plain(self, *deployments: Any, **arguments: Any) -> litellm.Router:
        return self._keep(litellm.Router(model_list=list(deployments), **{"num_retries": 0, **arguments}))

    def _keep(self, router: Any) -> Any:
        self._made.append(router)
        return router

    def close(self) -> None:
        for router in self._made:
            (router.retire if hasattr(router, "retire") else router.discard)()
        self._made.clear()

    def attempts(self) -> int:
        """Attempts in all traces; as many as requests came in, if none was cancelled on its way."""
        found = sum("litellm.deployment.attempt" in (span.attributes or {}) for span in self.recorder.spans())
        self.figures["attempts counted against hits"] += found
        return found

    def check(self) -> None:
        """Nothing is left of what has been done so far; can be asked as often as one likes."""
        assert [span for span in self.recorder.open_spans() if span not in self.lost] == []
        assert self.recorder.ended_twice() == []
        assert {ticket: held for ticket, held in self.books.open.items() if held} == {}
        assert self.books.ended_twice == 0
        metrics = self.recorder.metrics()
        assert [point for point in metrics.get("traced_router.inflight", ()) if point.value] == []
        assert self.breaks_tracing or "traced_router.tracing.errors" not in metrics
        self.figures["checks that nothing is left"] += 1
        if not self.breaks_trees:
            for spans in self.recorder.traces():
                self.figures["traces held against the contract"] += 1
                assert [str(violation) for violation in check_trace(spans)] == []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The figures, as the page about faults has them."""
    figures = config.stash.get(FIGURES, collections.Counter())
    for what, times in sorted(figures.items()):
        terminalreporter.write_line(f"{times:>8,} {what}")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made


@pytest.fixture
def world(
    provider: FakeProvider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(litellm, "cache", litellm.cache)
    made = World(provider, Recorder(), request.config.stash.setdefault(FIGURES, collections.Counter()))
    gc.freeze()  # litellm is a million objects: what is collected below is this test's
    threads = set(threading.enumerate())
    callbacks = {name: list(getattr(litellm, name)) for name in _CALLBACKS}
    yield made
    made.close()
    left = {name: [c for c in getattr(litellm, name) if "traced_router" in type(c).__module__] for name in _CALLBACKS}
    for name, before in callbacks.items():
        setattr(litellm, name, before)
    gc.collect()
    made.check()
    assert left == {name: [] for name in _CALLBACKS}
    new = [t.name for t in set(threading.enumerate()) - threads if not t.name.startswith(_LITELLM_S_THREADS)]
    assert new == []
    loud = [r for r in caplog.get_records("call") if r.name.startswith(_TRACING)]
    if made.breaks_tracing:
        loud = [r for r in loud if not r.name.startswith("traced_router")]
    if made.exporter_complains:
        loud = [r for r in loud if not r.name.startswith(("opentelemetry.sdk.", "opentelemetry.exporter."))]
    assert [r.getMessage() for r in loud] == []


@pytest.fixture
async def no_task_left(world: World) -> AsyncIterator[None]:
    """For tests that run in an event loop: no task of ours outlives them."""
    yield
    tasks = [repr(task.get_coro()) for task in asyncio.all_tasks()]
    assert [task for task in tasks if "traced_router" in task] == []


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the router asks to wait passes in one turn of the loop."""
    sleep = asyncio.sleep
    monkeypatch.setattr(litellm.utils, "JITTER", 0.0)
    monkeypatch.setattr(asyncio, "sleep", lambda _seconds, *args: sleep(0, *args))


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Puts a function in the place of ``litellm.acompletion``."""

    def put(function: Callable[..., Any]) -> None:
        monkeypatch.setattr(litellm, "acompletion", function)

    return put
