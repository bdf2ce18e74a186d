"""Readers answer whatever they are shown, and what they say fits an attribute."""

import math
from dataclasses import fields as fields_of
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traced_router import _read_candidate, _readers
from traced_router._read_sse import EventReader
from traced_router._values import MAX_TEXT

bounded = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def fits(value: object) -> bool:
    """Whether an exporter can carry ``value``."""
    if type(value) is str:
        return 0 < len(value) <= MAX_TEXT and bool(value.encode("utf-8"))
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is tuple:
        return all(type(item) is str and fits(item) for item in value)
    return value is None or type(value) is bool


def all_fit(facts: Any) -> bool:
    return all(fits(getattr(facts, field.name)) for field in fields_of(facts))


def a_body(odd: Any) -> Any:
    usage = odd.shaped(
        odd.fields(
            "prompt_tokens_details",
            "completion_tokens_details",
            "input_tokens_details",
            **dict.fromkeys(
                (
                    "prompt_tokens",
                    "completion_tokens",
                    "input_tokens",
                    "output_tokens",
                    "cache_read_input_tokens",
                    "cache_creation_input_tokens",
                    "promptTokenCount",
                    "candidatesTokenCount",
                    "thoughtsTokenCount",
                    "totalTokenCount",
                ),
                odd.number,
            ),
        )
    )
    choice = odd.shaped(odd.fields("finish_reason", "finishReason", "index", "delta", "text"))
    return odd.fields(
        "meta",
        "data",
        "output",
        "incomplete_details",
        id=odd.text,
        responseId=odd.text,
        model=odd.text,
        modelVersion=odd.text,
        stop_reason=odd.text,
        status=odd.text | st.sampled_from(["completed", "incomplete", "failed"]),
        type=st.sampled_from(["message", "response.completed", "x.delta"]),
        choices=st.lists(choice, max_size=3),
        candidates=st.lists(choice, max_size=3),
        usage=usage,
        usageMetadata=usage,
        response=odd.shaped(odd.fields("status", "output", usage=usage, id=odd.text)),
        _hidden_params=odd.fields(
            "response_cost",
            "cache_hit",
            "model_id",
            "usage",
            "custom_llm_provider",
            "litellm_model_name",
            "provider_response_model",
            "additional_headers",
        ),
    )


@bounded
@given(data=st.data())
def test_an_answer(odd, data):
    answer = _readers.answer(data.draw(odd.shaped(a_body(odd)) | odd.value), data.draw(odd.value))

    assert all_fit(answer), answer
    for count in (answer.input_tokens, answer.output_tokens, answer.cache_read_tokens, answer.reasoning_tokens):
        assert count is None or count >= 0
    assert answer.cost is None or answer.cost >= 0


@bounded
@given(data=st.data())
def test_a_stream_of_anything(odd, data):
    chunk = odd.shaped(a_body(odd)) | odd.value
    reader = _readers.StreamReader()
    content = [reader.chunk(each) for each in data.draw(st.lists(chunk, max_size=5))]
    stream = data.draw(odd.value)

    assert set(content) <= {True, False}
    for complete in (False, True):
        facts = reader.finish(stream, complete=complete)
        assert all_fit(facts), facts


START = b'data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":9}}}\n\n'
END = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}\n\n'
BETWEEN = st.sampled_from(
    [
        b'data: {"type":"content_block_delta","delta":{"text":"hi"}}\n\n',
        b'data: {"type": [}\n\n',
        b": a comment\n\n",
        b"data: [DONE]\n\n",
        b"\xff\xfe\r\n",
        b"\n",
    ]
)


@bounded
@given(
    between=st.lists(BETWEEN, max_size=5),
    after=st.lists(BETWEEN, max_size=2),
    cuts=st.lists(st.integers(1, 80)),
)
def test_a_stream_of_bytes_says_the_same_however_it_is_cut(between, after, cuts):
    """litellm hands bytes on as they come off the wire."""
    events = [START, *between, END, *after]
    rest, reader = b"".join(events), EventReader()
    for cut in cuts:
        reader.chunk(rest[:cut])
        rest = rest[cut:]
    reader.chunk(rest)

    body = reader.body()
    assert (body["id"], body["stop_reason"], body["usage"]) == (
        "m",
        "end_turn",
        {"input_tokens": 9, "output_tokens": 4},
    )


@bounded
@given(data=st.data())
def test_headers(odd, data):
    names = st.sampled_from(
        [
            "retry-after",
            "Retry-After-Ms",
            "x-ms-retry-after-ms",
            "llm_provider-retry-after",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-tokens",
            "anthropic-ratelimit-tokens-reset",
            "anthropic-ratelimit-requests-remaining",
        ]
    )
    words = st.sampled_from(["6m0s", "1e400", "-3", "Fri, 31 Dec 9999 23:59:59 GMT", "2026-01-01T00:00:00Z", "9" * 20])
    headers = data.draw(st.dictionaries(names | odd.text, words | odd.scalar, max_size=5) | odd.value)
    wait = _readers.retry_after_seconds(headers, 1.8e9)

    assert wait is None or 0.0 <= wait <= 366 * 86400.0
    for limit in _readers.ratelimit(headers, 1.8e9):
        assert limit is None or (limit >= 0.0 and math.isfinite(limit))


PARAMETERS = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "n",
    "stop",
    "stream",
    "encoding_format",
    "dimensions",
)


@bounded
@given(data=st.data())
def test_a_request(odd, data):
    kwargs = data.draw(odd.shaped(odd.fields(*PARAMETERS)))
    said = _readers.request_parameters(kwargs)

    assert all(key.startswith("gen_ai.") and fits(value) for key, value in said.items()), said


@bounded
@given(data=st.data())
def test_what_a_strategy_hears_of_a_request(odd, data):
    """Of plain data: a strategy that is asked about what raises has failed, and the pick falls back."""
    message = st.dictionaries(st.sampled_from(["role", "content", "text", "input"]), odd.plain, max_size=3)
    messages = data.draw(st.lists(message, max_size=3) | odd.plain)
    named = st.sampled_from(["metadata", "litellm_session_id", "input", "prompt", "max_tokens"])
    kwargs = data.draw(st.dictionaries(named, odd.plain, max_size=3))

    key = _read_candidate.affinity_key(kwargs, messages)
    size = _read_candidate.input_size(kwargs, messages)
    longest = _read_candidate.max_output_tokens(kwargs)

    assert key is None or isinstance(key, str)
    assert size is None or size >= 0
    assert longest is None or longest >= 0


@bounded
@given(data=st.data())
def test_a_deployment(odd, data):
    urls = st.sampled_from(["http://[::1", "https://a:99999/x", "//", "http://user:secret@h/p?q", "os.environ/X"])
    params = odd.fields("custom_llm_provider", model=odd.text, api_base=urls | odd.text, base_url=urls)
    one = data.draw(odd.shaped(odd.fields("model_name", litellm_params=params, model_info=odd.fields("id"))))
    facts = _readers.DeploymentReader().read(one)

    assert all_fit(facts), facts
    assert "secret" not in repr(facts)


def an_exception(odd: Any) -> Any:
    kinds = {
        name: type(name, (Exception,), {"__str__": lambda _self: 1 / 0}) for name in ("Timeout", "ü" * 1100, "Boom")
    }
    response = odd.shaped(odd.fields("headers", "Error", "status_code", "request"))
    return st.builds(
        lambda kind, members: _with(kind(), members),
        st.sampled_from([ValueError, TimeoutError, ConnectionError, *kinds.values()]),
        odd.fields("status_code", "code", "litellm_response_headers", "headers", "llm_provider", response=response),
    )


def _with(error: Exception, members: dict[str, Any]) -> Exception:
    vars(error).update(members)
    return error


@bounded
@given(data=st.data())
def test_a_failure(odd, data):
    chain = data.draw(st.lists(an_exception(odd), min_size=1, max_size=4))
    links = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=5))
    for one, other, cause in links:  # in circles, too
        if one < len(chain) and other < len(chain):
            vars(chain[one])  # an exception takes its context by itself; here it is set
            chain[one].__context__ = chain[other]
            if cause:
                chain[one].__cause__ = chain[other]
    facts = _readers.failure(chain[0], now=lambda: 1.8e9)

    assert all_fit(facts), facts
    assert facts.retry_after is None or facts.retry_after >= 0
