"""What overrides do where no scenario of this litellm leads: outside of a call, and on other versions' ways."""

import inspect
from dataclasses import dataclass

import pytest
from opentelemetry import trace

from traced_router import TracedRouter
from traced_router import _litellm as seams
from traced_router._current import attach, detach
from traced_router._facts import AttemptFacts, CallFacts, DeploymentFacts
from traced_router._frame import Frame, with_frame
from traced_router._tracing import PULL
from traced_router.testing import Recorder

DEPLOYMENT = {
    "model_name": "g",
    "litellm_params": {"model": "openai/gpt-4o", "api_key": "k"},
    "model_info": {"id": "a"},
}


@pytest.fixture
def router():
    """What runs the loop of a router."""
    made = TracedRouter(model_list=[DEPLOYMENT], tracer_provider=Recorder().provider)
    return seams.core_of(made)


@pytest.fixture
def theirs(monkeypatch):
    """Replaces a method of litellm's by ``function``, or by one that says what it was given."""

    def replace(name, function=lambda *args, **kwargs: (args, kwargs)):
        async def coroutine(_self, *args, **kwargs):
            return function(*args, **kwargs)

        def plain(_self, *args, **kwargs):
            return function(*args, **kwargs)

        original = inspect.getattr_static(seams.LOOP, name)
        monkeypatch.setattr(seams.LOOP, name, coroutine if inspect.iscoroutinefunction(original) else plain)

    return replace


@pytest.mark.parametrize(
    "name",
    [
        "async_function_with_fallbacks",
        "async_function_with_fallbacks_common_utils",
        "async_function_with_retries",
        "function_with_fallbacks",
        "make_call",
        "_ageneric_api_call_with_fallbacks_helper",
        "_prompt_management_factory",
        "_update_kwargs_with_deployment",
        "routing_strategy_pre_call_checks",
        "async_routing_strategy_pre_call_checks",
        "_time_to_sleep_before_retry",
        "_common_checks_available_deployment",
        "_select_deployment_async",
        "_select_deployment_sync",
    ],
)
async def test_outside_of_a_traced_call_an_override_is_litellm_s_method(router, theirs, name):
    theirs(name)
    result = getattr(router, name)("one", model="g")
    if inspect.isawaitable(result):
        result = await result

    assert result == (("one",), {"model": "g"})


async def test_a_stream_that_its_group_tries_again_stays_in_its_hop(router, theirs):
    """1.95 does so from the reader's context, which knows the call alone."""
    call = router._traced_router.tree.open_call(CallFacts("chat", "g"))
    hop = call.hop("h", "model_group")
    theirs("async_function_with_fallbacks", lambda **_: trace.get_current_span().name)
    token = attach(with_frame(Frame(call, None, PULL), call.parent_context(None)))
    inside = await router.async_function_with_fallbacks(model="h", fallback_depth=1)
    hop.returned()
    outside = await router.async_function_with_fallbacks(model="g")
    detach(token)
    call.finish("ok")

    assert (inside, outside) == ("router.fallback h", "router.chat g")
    assert call.ledger.fallbacks == 1


async def test_litellm_s_own_loop_gives_up_where_it_would_wait_while_a_policy_decides(router, theirs):
    call = router._traced_router.tree.open_call(CallFacts("chat", "g"))
    call.repeats = 0
    failed = ValueError("failed")
    theirs("_time_to_sleep_before_retry", lambda **_: 1.5)
    token = attach(with_frame(Frame(call, None), call.parent_context(None)))
    with pytest.raises(ValueError, match="failed") as met:
        router._time_to_sleep_before_retry(e=failed, remaining_retries=1, num_retries=3)
    detach(token)
    call.finish("ok")

    assert met.value is failed


@dataclass(frozen=True)
class Taken:
    """What 1.109 has read of a stream before it wraps it."""

    chunk: object
    rest: object


class Stream:
    def __init__(self, *chunks):
        self._chunks = iter(chunks)

    def __aiter__(self):
        return self

    async def __anext__(self):
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def test_a_stream_is_followed_behind_the_chunk_that_litellm_has_read(router, theirs):
    call = router._traced_router.tree.open_call(CallFacts("chat", "g", streaming=True))
    attempt = call.attempt(AttemptFacts(DeploymentFacts("a")), None)
    stream = Stream("two")
    theirs("_acompletion_streaming_iterator")
    token = attach(attempt.context)
    args, kwargs = await router._acompletion_streaming_iterator(
        model_response=stream, first_chunk=Taken("one", stream), messages=[]
    )
    detach(token)

    assert args == ()
    assert kwargs["first_chunk"] == Taken("one", kwargs["model_response"])
    assert kwargs["model_response"] is not stream
    assert [chunk async for chunk in kwargs["first_chunk"].rest] == ["two"]
    assert attempt.done
    call.finish("ok")


def test_a_litellm_that_keeps_a_custom_strategy_elsewhere_keeps_it(router, theirs):
    theirs(seams.SET_CUSTOM_STRATEGY)
    getattr(router, seams.SET_CUSTOM_STRATEGY)(object())

    assert seams.SELECT_ASYNC not in vars(router)
    assert seams.SELECT_SYNC not in vars(router)


def test_a_mirror_is_read_off_the_class_as_what_stands_there(router):
    """Tools that read classes, mock among them, read every member."""
    assert getattr(type(router), seams.MIRROR_SYNC) is inspect.getattr_static(type(router), seams.MIRROR_SYNC)
