"""Whole calls with odd parameters, answers, errors and chunks, beside plain ``litellm.Router``.

The provider is a stub in the place of litellm's own functions: whatever it returns or raises goes through all of
the router. What the caller sees is the same, every trace keeps the contract, and nothing of ours has failed.
"""

import asyncio
import gc
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traced_router import TracedRouter
from traced_router._names import ATTRIBUTES
from traced_router.testing import Recorder, check_trace

bounded = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
LIMIT = 64
MODELS = [
    {
        "model_name": group,
        "litellm_params": {"model": "openai/gpt-4o", "api_key": "k"},
        "model_info": {"id": f"{group}-1"},
    }
    for group in ("a", "b")
]


# --- the stub ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stream:
    """Chunks, and how they end: with an error, or not."""

    chunks: list[Any]
    error: Exception | None = None


@dataclass
class Stub:
    """Plays one step a call, and the last of them for ever."""

    steps: list[Any] = field(default_factory=list)
    calls: int = 0

    def play(self, steps: list[Any]) -> None:
        self.steps, self.calls = steps, 0

    async def __call__(self, **_kwargs: Any) -> Any:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, Exception):
            step.__context__ = step.__cause__ = step.__traceback__ = None  # it is raised once more than it knows
            raise step
        return _streamed(step) if isinstance(step, Stream) else step


async def _streamed(stream: Stream) -> Any:
    for chunk in stream.chunks:
        yield chunk
    if stream.error is not None:
        raise stream.error


class Pair:
    """A plain router and a traced one over the same stub, in one event loop."""

    def __init__(self, stub: Stub, loop: asyncio.AbstractEventLoop) -> None:
        arguments: Any = {"num_retries": 1, "retry_after": 0, "fallbacks": [{"a": ["b"]}], "disable_cooldowns": True}
        self.stub, self.loop, self.recorder = stub, loop, Recorder()
        self.plain = litellm.Router(model_list=MODELS, **arguments)
        self.traced = TracedRouter(
            model_list=MODELS,
            tracer_provider=self.recorder.provider,
            meter_provider=self.recorder.meter_provider,
            settings={"max_string_length": LIMIT, "list_candidates": True, "vocabularies": "openinference"},
            **arguments,
        )

    def same(self, steps: list[Any], call: Any) -> None:
        """Both show the caller the same; the traced one leaves a trace that keeps the contract."""
        seen = []
        for router in (self.plain, self.traced):
            self.stub.play(steps)
            seen.append((*self.loop.run_until_complete(_outcome(call, router)), self.stub.calls))
        plain, traced = seen
        assert traced[0] is plain[0] or type(traced[0]) is type(plain[0])
        assert traced[1:] == plain[1:]
        self.check()

    def check(self) -> None:
        spans = self.recorder.spans()
        assert self.recorder.open_spans() == []
        assert self.recorder.ended_twice() == []
        assert [str(v) for v in check_trace(spans, max_string=LIMIT)] == []
        for span in spans:
            for carrier in (span.attributes, *(event.attributes for event in span.events)):
                for key, value in (carrier or {}).items():
                    _can_be_exported(key, value)
        assert "traced_router.tracing.errors" not in self.recorder.metrics()
        self.recorder.clear()


_TYPES = {attribute.key: attribute.type for attribute in ATTRIBUTES}


def _can_be_exported(key: str, value: Any) -> None:
    key.encode()
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str):
            assert len(one) <= LIMIT, key
            one.encode()
        elif isinstance(one, int):
            assert -(2**63) <= one < 2**63, key
        else:
            assert isinstance(one, float), key
    if key in _TYPES:
        assert type(value) is _TYPES[key], key


async def _outcome(call: Any, router: Any) -> tuple[Any, Any, list[Any]]:
    """What came back, the type of what was raised, and the chunks that were read."""
    chunks: list[Any] = []
    result = None
    try:
        result = await call(router)
        if hasattr(type(result), "__aiter__"):
            async for chunk in result:
                chunks.append(id(chunk))  # noqa: PERF401  # those before an error count
    except Exception as error:
        return result, type(error), chunks
    return result, None, chunks


@pytest.fixture(scope="module")
def pair():
    stub, loop = Stub(), asyncio.new_event_loop()
    patch = pytest.MonkeyPatch()
    sleep = asyncio.sleep
    patch.setattr(asyncio, "sleep", lambda _seconds, *args: sleep(0, *args))
    for name in ("acompletion", "aembedding"):
        patch.setattr(litellm, name, stub)
    made = Pair(stub, loop)
    yield made
    patch.undo()
    for router in (made.plain, made.traced):
        (router.retire if hasattr(router, "retire") else router.discard)()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()


# --- what it plays -----------------------------------------------------------------------------


def answers(odd: Any) -> Any:
    hidden = odd.fields("response_cost", "cache_hit", "model_id", "usage", "additional_headers")
    return st.one_of(
        odd.fields("id", "model", "choices", "usage", "created"),
        odd.fields("id", "model", "choices", "usage").map(lambda body: SimpleNamespace(**body)),
        st.builds(_response, st.fixed_dictionaries({"id": odd.text, "model": odd.text}), hidden),
        st.just(litellm.ModelResponse()),
        odd.plain,
    )


def _response(body: dict[str, Any], hidden: dict[str, Any]) -> Any:
    made = litellm.ModelResponse(**{key: value for key, value in body.items() if value.isascii()})
    made._hidden_params = hidden
    return made


def errors(odd: Any) -> Any:
    ours = st.sampled_from(
        [
            litellm.RateLimitError,
            litellm.InternalServerError,
            litellm.BadRequestError,
            litellm.ContextWindowExceededError,
            litellm.ContentPolicyViolationError,
            litellm.Timeout,
        ]
    )
    members = odd.fields("code", "headers", "litellm_response_headers", "response_extra")
    provider = st.builds(
        lambda kind, extra: _with(kind("m", llm_provider="openai", model="gpt-4o"), extra), ours, members
    )
    other = st.sampled_from([ValueError, KeyError, TimeoutError, ConnectionError, UnicodeError])
    return provider | st.builds(lambda kind, extra: _with(kind("m"), extra), other, members)


def _with(error: Exception, members: dict[str, Any]) -> Exception:
    vars(error).update(members)
    return error


def streams(odd: Any) -> Any:
    chunk = st.one_of(
        odd.plain.filter(lambda value: value is not None),
        odd.fields("choices", "usage", "id", "type", "response"),
        odd.fields("choices", "usage", "id").map(lambda body: SimpleNamespace(**body)),
        st.binary(max_size=20),
    )
    return st.builds(Stream, st.lists(chunk, max_size=3), st.none() | errors(odd))


PARAMETERS = (
    "temperature",
    "max_tokens",
    "top_p",
    "seed",
    "n",
    "stop",
    "dimensions",
    "litellm_session_id",
    "litellm_trace_id",
    "user",
    "extra_headers",
)


def parameters(odd: Any) -> Any:
    some = st.dictionaries(st.sampled_from(PARAMETERS), odd.plain, max_size=3)
    metadata = st.dictionaries(st.sampled_from(["tags", "session_id", "trace_id", "note"]), odd.plain, max_size=2)
    return st.builds(lambda one, other: {**one, **({"metadata": other} if other else {})}, some, metadata)


MESSAGES = [{"role": "user", "content": "hi"}]


@bounded
@given(data=st.data())
def test_odd_answers_and_errors(pair, odd, data):
    steps = data.draw(st.lists(answers(odd) | errors(odd), min_size=1, max_size=4))
    pair.same(steps, lambda router: router.acompletion("a", MESSAGES))


@bounded
@given(data=st.data())
def test_odd_streams(pair, odd, data):
    steps = data.draw(st.lists(streams(odd) | errors(odd), min_size=1, max_size=3))
    pair.same(steps, lambda router: router.acompletion("a", MESSAGES, stream=True))


@bounded
@given(data=st.data())
def test_odd_parameters(pair, odd, data):
    given_ = data.draw(parameters(odd))
    steps = data.draw(st.lists(errors(odd), max_size=1))
    pair.same([*steps, litellm.ModelResponse()], lambda router: router.acompletion("a", MESSAGES, **_copy(given_)))


def _copy(parameters: dict[str, Any]) -> dict[str, Any]:
    metadata = parameters.get("metadata")
    return {**parameters, "metadata": dict(metadata)} if metadata else parameters


@bounded
@given(data=st.data())
def test_odd_models_and_prompts(pair, odd, data):
    model = data.draw(st.sampled_from(["a", "b"]) | odd.text | odd.plain)
    messages = data.draw(
        st.lists(st.dictionaries(st.sampled_from(["role", "content"]), odd.plain), max_size=2) | odd.plain
    )
    pair.same([litellm.ModelResponse()], lambda router: router.acompletion(model, messages))
    pair.same([litellm.EmbeddingResponse()], lambda router: router.aembedding(model, messages))
