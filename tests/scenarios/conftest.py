"""What every scenario has: a recorder, a provider over real HTTP, and routers that are checked afterwards."""

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

from traced_router import TracedRouter
from traced_router.testing import Recorder, check_trace
from traced_router.testing._provider import FakeProvider

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    gc.collect()
    assert made.open_spans() == ()
    for spans in made.traces():
        assert [str(v) for v in check_trace(spans)] == []


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No scenario may make OpenTelemetry or our own guard complain."""
    caplog.set_level(logging.WARNING)
    yield
    loud = [r for r in caplog.get_records("call") if r.name.startswith(("opentelemetry", "traced_router"))]
    assert [r.getMessage() for r in loud if r.levelno >= logging.ERROR] == []


@pytest.fixture
def router(recorder: Recorder) -> Iterator[Callable[..., TracedRouter]]:
    """Makes routers that retry nothing and wait for nothing unless told so, and drops them afterwards."""
    made: list[TracedRouter] = []

    def make(*deployments: dict[str, Any], **arguments: Any) -> TracedRouter:
        arguments.setdefault("num_retries", 0)
        arguments.setdefault("tracer_provider", recorder.provider)
        built = TracedRouter(model_list=list(deployments), **arguments)
        made.append(built)
        return built

    before = {name: list(getattr(litellm, name)) for name in _CALLBACKS}
    yield make
    for built in made:
        built.discard()
    for name, callbacks in before.items():
        setattr(litellm, name, callbacks)


_CALLBACKS = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
