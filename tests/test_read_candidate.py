"""What a strategy is given of litellm's deployments and of a call's parameters."""

import hashlib

import litellm
import pytest

from traced_router import _read_candidate as reader
from traced_router.strategy import Candidate

SYSTEM = {"role": "system", "content": "be brief"}
USER = {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": "x"}]}


def key(text):
    return hashlib.blake2b(text.encode(), key=b"traced_router.affinity", digest_size=16).hexdigest()


def test_a_deployment():
    deployment = {
        "model_name": "g",
        "litellm_params": {
            "model": "openai/gpt-4o",
            "weight": 2,
            "rpm": 60,
            "input_cost_per_token": 0.5,
            "output_cost_per_token": 1,
        },
        "model_info": {"id": "a", "rpm": 5, "tpm": 1000},
    }

    assert reader.candidate(deployment, "g") == Candidate("a", "g", "openai/gpt-4o", 2.0, 60.0, 1000.0, 0.5, 1.0)


def test_prices_of_a_deployment_s_own_come_first_and_litellm_s_map_last():
    known = litellm.model_cost["gpt-4o"]
    info = {"model_info": {"id": "a", "input_cost_per_token": 0.25}}

    assert reader.candidate({"litellm_params": {"model": "openai/gpt-4o"}, **info}, "g").input_cost_per_token == 0.25
    made = reader.candidate({"litellm_params": {"model": "openai/gpt-4o"}}, "g")
    assert made.input_cost_per_token == known["input_cost_per_token"]
    assert made.output_cost_per_token == known["output_cost_per_token"]


@pytest.mark.parametrize("nothing", [{}, {"litellm_params": None, "model_info": None}])
def test_a_deployment_that_says_nothing(nothing):
    assert reader.candidate(nothing, "g") == Candidate("", "g", "")
    assert reader.deployment_id(nothing) == ""


@pytest.mark.parametrize(
    ("kwargs", "limit"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, 5),
        ({"max_tokens": None, "max_completion_tokens": 6}, 6),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": "many"}, None),
        ({}, None),
    ],
)
def test_the_caller_s_limit(kwargs, limit):
    assert reader.max_output_tokens(kwargs) == limit


@pytest.mark.parametrize(
    ("kwargs", "messages", "found"),
    [
        ({"litellm_session_id": "s"}, [USER], "s"),
        ({"metadata": {"session_id": 7}}, [USER], "7"),
        ({}, [SYSTEM, USER, {"role": "assistant", "content": "hello"}], key("be briefhi")),
        ({"input": "hi"}, None, key("hi")),
        ({"prompt": ["one", "two"]}, None, key("onetwo")),
        ({}, [{"role": "user", "content": "x" * 5000}], key("x" * 4096)),
        ({}, [{"role": "system", "content": "x" * 4096}, USER], key("x" * 4096)),
        ({}, [SYSTEM, {"role": "assistant", "content": None}], key("be brief")),
        ({}, [], None),
        ({}, None, None),
        ({"input": 7}, None, None),
    ],
    ids=[
        "session", "session in metadata", "up to the first of the user", "input", "several prompts", "cut", "used up",
        "nobody's turn", "no messages", "nothing", "no text",
    ],
)  # fmt: skip
def test_what_requests_of_one_conversation_share(kwargs, messages, found):
    assert reader.affinity_key(kwargs, messages) == found


@pytest.mark.parametrize(
    ("kwargs", "messages", "tokens"),
    [
        ({}, [SYSTEM, USER], 2),  # 10 characters
        ({"input": ["abcd", "efgh"]}, None, 2),
        ({"prompt": "abcdefg"}, None, 1),
        ({}, [{"role": "user", "content": [{"content": [{"text": "abcd"}]}]}], 1),
        ({}, [], None),
        ({}, None, None),
    ],
)
def test_the_size_of_a_prompt_is_estimated(kwargs, messages, tokens):
    assert reader.input_size(kwargs, messages) == tokens


def test_a_prompt_that_never_ends_is_read_as_deep_as_prompts_are_nested():
    message = {"text": "abcd"}
    message["content"] = [message]

    assert reader.input_size({}, [message]) == 3
