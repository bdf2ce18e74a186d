"""A litellm in which members that overrides hang on have moved: less is shown, that is said, and no call changes."""

import importlib
import sys

import litellm
import pytest

from traced_router.testing import assert_tree, span

MESSAGES = [{"role": "user", "content": "hi"}]

pytestmark = pytest.mark.skipif(
    hasattr(litellm.Router, "_core_class"), reason="a hosted router's class has what its core's class has"
)

GONE = (
    "aguardrail",
    "abatch_completion_fastest_response",
    "get_available_deployment_for_pass_through",
    "_filter_health_check_unhealthy_deployments",
    "_aanthropic_messages_streaming_iterator",  # nor does 1.95 have it
)


def product():
    return [name for name in sys.modules if name.partition(".")[0] == "traced_router" and ".testing" not in name]


@pytest.fixture
def traced(monkeypatch):
    """``TracedRouter``, loaded on a litellm without these."""
    for name in GONE:
        monkeypatch.delattr(litellm.Router, name, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in product():
            patch.delitem(sys.modules, name)
        loaded = importlib.import_module("traced_router._router").TracedRouter
        for name in product():
            del sys.modules[name]
    return loaded


async def test_what_is_left_is_traced(traced, provider, recorder, caplog):
    made = traced(model_list=[provider.deployment("dep-a")], tracer_provider=recorder.provider)
    answer = await made.acompletion("gpt-4o", MESSAGES)
    made.discard()

    assert type(answer) is litellm.ModelResponse
    assert [name for name in GONE if hasattr(traced, name)] == []
    assert made.tracing_capabilities == {
        "request": "full",
        "selection": "partial",
        "attempt": "full",
        "backoff": "full",
        "fallback": "full",
        "stream": "full",
    }
    (said,) = [r.getMessage() for r in caplog.records if r.name == "traced_router"]
    assert "traces lack: selection (partial)." in said
    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            attributes={
                "traced_router.engine": "classic",
                "traced_router.capabilities": ("selection=partial",),
                "traced_router.outcome": "ok",
            },
            children=[
                span("router.select gpt-4o", attributes={"litellm.deployment.id": "dep-a"}),
                span("chat gpt-4o-2024-08-06", kind="CLIENT"),
            ],
        ),
    )
