"""A router's tracing by itself: cooldowns, and how a call goes in and out."""

import litellm
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import TracedRouter
from traced_router import _litellm as seams
from traced_router._probe import probe_of
from traced_router.testing import Recorder

DEPLOYMENT = {
    "model_name": "g",
    "litellm_params": {"model": "openai/gpt-4o", "api_key": "k"},
    "model_info": {"id": "a"},
}


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def make(recorder):
    def made(**arguments):
        router = TracedRouter(model_list=[DEPLOYMENT], **{"tracer_provider": recorder.provider, **arguments})
        return getattr(router, "_core", router)

    return made


def tracing_of(router):
    return router.__dict__["_traced_router"]


@pytest.mark.parametrize("error", [None, LookupError()])
def test_a_call_that_nobody_records_leaves_no_context_behind(make, error):
    """Its span is handed on all the same, so that nothing below is sampled."""
    unsampled = Recorder(sampler=ALWAYS_OFF)
    router = make(tracer_provider=unsampled.provider)
    before = trace.get_current_span()
    edge = tracing_of(router).enter(router, "chat", "g", {})
    assert trace.get_current_span().get_span_context().is_valid
    assert not trace.get_current_span().is_recording()
    if error is None:
        assert edge.returned("answer") == "answer"
    else:
        edge.raised(error)

    assert trace.get_current_span() is before


def test_a_cooldown_outside_of_a_call_is_nobody_s(make, recorder):
    tracing_of(make()).cooled_down("a", 5, None)

    assert recorder.trees() == ()


def test_a_fault_in_what_hears_of_cooldowns_stays_with_us(make, monkeypatch):
    router = make()
    tracing = tracing_of(router)

    def failing(*_args):
        raise LookupError

    monkeypatch.setattr(type(tracing), "cooled_down", failing)
    cache = seams.state(router, "cooldown_cache")
    cache.add_deployment_to_cooldown("a", ValueError(), 500, 60.0)

    assert [name for name, _ in cache.get_active_cooldowns(["a"], None)] == ["a"]
    assert tracing.guard.faults == 1


def test_cooldowns_of_a_router_are_watched_once(make):
    router = make()
    add = seams.state(router, "cooldown_cache").add_deployment_to_cooldown
    tracing_of(router).watch_cooldowns(router)

    assert seams.state(router, "cooldown_cache").add_deployment_to_cooldown is add


@pytest.mark.parametrize("error", [None, LookupError])
async def test_a_batch_that_nobody_records_leaves_no_context_behind(make, monkeypatch, error):
    async def theirs(_self, *_args, **_kwargs):
        assert trace.get_current_span().get_span_context().is_valid
        if error is not None:
            raise error
        return "answers"

    monkeypatch.setattr(seams.LOOP, "abatch_completion", theirs)
    router = make(tracer_provider=Recorder(sampler=ALWAYS_OFF).provider)
    before = trace.get_current_span()
    if error is None:
        assert await router.abatch_completion(["g"], []) == "answers"
    else:
        with pytest.raises(error):
            await router.abatch_completion(["g"], [])

    assert trace.get_current_span() is before


def test_a_pick_for_its_own_sake_that_finds_nobody_is_over(make, recorder):
    router = make(routing_strategy="weighted")
    with pytest.raises(litellm.BadRequestError):
        getattr(router, seams.SELECT_SYNC)(model="no such group")
    assert probe_of(router) is None
    chosen = getattr(router, seams.SELECT_SYNC)(model="g")

    assert chosen["model_info"]["id"] == "a"
    assert recorder.trees() == ()
