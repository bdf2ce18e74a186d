"""Strategies, vocabularies and callbacks that mean harm: the caller gets what plain Router would have given."""

import itertools
from types import SimpleNamespace

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from traced_router.strategy import Decision
from traced_router.testing import Answer, DieMidStream, ServerError

MESSAGES = [{"role": "user", "content": "hi"}]


class Hostile:
    """A strategy that does one of these things, and is good otherwise."""

    name = "hostile"

    def __init__(self, **harm):
        for name, does in harm.items():
            setattr(self, name, does)

    def pick(self, _request, candidates):
        return Decision(candidates[0].id, "external")

    def started(self, ticket): ...

    def first_chunk(self, ticket): ...

    def finished(self, ticket, outcome): ...


class HostileError(Exception):
    """Its own fault."""


def raising(*_args, **_kwargs):
    raise HostileError


def decides(**facts):
    return lambda _request, candidates: Decision(candidates[0].id, **{"reason": "external", **facts})


def mutating(_request, candidates):
    for one in candidates:
        object.__setattr__(one, "weight", "heavy")
        object.__setattr__(one, "model_group", None)
    return Decision(candidates[0].id, "external")


class Unending(dict):
    """Attributes without end."""

    def items(self):
        return ((str(n), n) for n in itertools.count())


HARM = {
    "raises": {"pick": raising},
    "raises when it starts": {"started": raising},
    "raises at the first chunk": {"first_chunk": raising},
    "raises at the end": {"finished": raising},
    "says nothing": {"pick": lambda *_: None},
    "says no decision": {"pick": lambda *_: SimpleNamespace(id="dep-a", reason="external")},
    "picks nobody": {"pick": lambda *_: Decision(None, "external")},
    "picks who is not there": {"pick": lambda *_: Decision("nobody", "external")},
    "picks what cannot be hashed": {"pick": lambda *_: Decision([], "external")},
    "mutates its candidates": {"pick": mutating},
    "has a reason of its own": {"pick": decides(reason="because")},
    "has no reason": {"pick": decides(reason=None)},
    "has a reason that cannot be hashed": {"pick": decides(reason=["because"])},
    "ranks by what nobody knows": {"pick": decides(rank_by={"luck": 1}, score=float("nan"))},
    "counts nonsense": {"pick": decides(considered=-1, inflight=2**70, runner_up_id=7, runner_up_score="high")},
    "considered more than there were": {"pick": decides(considered=99)},
    "predicts the impossible": {"pick": decides(predicted_seconds=float("-inf"))},
    "says too much": {"pick": decides(attributes={f"k{n}": "x" * 100_000 for n in range(1000)})},
    "never stops": {"pick": decides(attributes=Unending(k=1))},
    "says objects": {"pick": decides(attributes={"o": object(), ("t",): 1, "": 2, "n": None, "l": [1]})},
    "says no mapping": {"pick": decides(attributes=[("a", 1)])},
    "scores nonsense": {"scores": lambda *_: {"dep-a": "best"}, "pick": decides(score=1.0)},
    "raises when it scores": {"scores": raising, "pick": decides(score=1.0)},
}


def deployments(provider):
    return [provider.deployment("dep-a", group="a"), provider.deployment("dep-b", group="b")]


ARGUMENTS = {"num_retries": 1, "retry_after": 0, "fallbacks": [{"a": ["b"]}], "disable_cooldowns": True}


async def seen_by_callers(router, provider):
    provider.clear()
    provider.default("dep-a", Answer("one two"))
    seen = []
    for script in ([], [ServerError()] * 2, [DieMidStream(0)] * 2):
        provider.script("dep-a", script)
        answer = await router.acompletion("a", MESSAGES)
        provider.script("dep-a", script)
        stream = await router.acompletion("a", MESSAGES, stream=True)
        words = [chunk.choices[0].delta.content for chunk in [chunk async for chunk in stream]]
        seen.append((answer.choices[0].message.content, words))
    with pytest.raises(Exception) as raised:
        await router.acompletion("nobody", MESSAGES)
    return seen, type(raised.value), provider.hits()


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("harm", HARM)
async def test_a_strategy_that(world, harm):
    world.breaks_tracing = True
    plain = await seen_by_callers(world.plain(*deployments(world.provider), **ARGUMENTS), world.provider)
    strategy = Hostile(**HARM[harm])
    settings = {"list_candidates": True}
    made = world.traced(*deployments(world.provider), routing_strategy=strategy, settings=settings, **ARGUMENTS)

    assert await seen_by_callers(made, world.provider) == plain


# --- vocabularies ------------------------------------------------------------------------------

WORDS = {
    "raises": raising,
    "says nothing": lambda _said: None,
    "says no mapping": lambda _said: [("a", 1)],
}


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("mirror", WORDS)
async def test_a_vocabulary_that(world, mirror, monkeypatch):
    world.breaks_tracing = True
    plain = await seen_by_callers(world.plain(*deployments(world.provider), **ARGUMENTS), world.provider)
    monkeypatch.setattr("traced_router.vocabularies.openinference.mirror", WORDS[mirror])
    made = world.traced(*deployments(world.provider), vocabularies=["openinference"], **ARGUMENTS)

    assert await seen_by_callers(made, world.provider) == plain


# --- hooks -------------------------------------------------------------------------------------

HOOKS = {
    "is told, and raises": {"on_request_end": raising},
    "is told, and says no mapping": {"on_request_end": lambda _summary: [("a", 1)]},
    "is told, and says objects": {"on_request_end": lambda _summary: {"o": object(), "": 1, "n": None}},
    "is told, and never stops": {"on_request_end": lambda _summary: Unending(k=1)},
    "is told, and asks for spans": {"on_request_end": lambda _summary: {"traced_router.outcome": "ok"}},
    "redacts, and raises": {"redactor": raising},
    "redacts, and says nothing": {"redactor": lambda _messages: None},
    "redacts, and says objects": {"redactor": lambda _messages: [object()]},
    "redacts in place": {"redactor": lambda messages: messages.clear()},
}


@pytest.mark.usefixtures("soon", "no_task_left")
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_that(world, hook):
    world.breaks_tracing = True
    plain = await seen_by_callers(world.plain(*deployments(world.provider), **ARGUMENTS), world.provider)
    settings = {"capture_content": "SPAN_ONLY"}
    made = world.traced(*deployments(world.provider), settings=settings, **HOOKS[hook], **ARGUMENTS)

    assert await seen_by_callers(made, world.provider) == plain


# --- litellm's callbacks -----------------------------------------------------------------------


class Callback(CustomLogger):
    """Raises wherever litellm calls it."""

    async def async_filter_deployments(self, *_args, **_kwargs):
        raise HostileError

    async def async_pre_routing_hook(self, *_args, **_kwargs):
        raise HostileError

    def log_pre_api_call(self, *_args):
        raise HostileError

    async def async_log_success_event(self, *_args):
        raise HostileError

    async def async_log_failure_event(self, *_args):
        raise HostileError


async def outcome(router):
    try:
        return type(await router.acompletion("a", MESSAGES))
    except Exception as error:
        return type(error)


@pytest.mark.usefixtures("soon", "no_task_left")
async def test_a_callback_that_raises(world, monkeypatch):
    plain, traced = (
        make(*deployments(world.provider), num_retries=1, fallbacks=[{"a": ["b"]}])
        for make in (world.plain, world.traced)
    )
    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, Callback()])

    assert await outcome(traced) == await outcome(plain)
