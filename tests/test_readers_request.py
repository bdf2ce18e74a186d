"""The ``gen_ai.request.*`` attributes of a call."""

from collections.abc import Iterator, Mapping

import pytest

from traced_router._readers import RequestValue, request_parameters


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"max_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"max_completion_tokens": 6}, {"gen_ai.request.max_tokens": 6}),
        ({"max_output_tokens": 7}, {"gen_ai.request.max_tokens": 7}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"gen_ai.request.max_tokens": 5}),
        ({"max_tokens": None, "max_completion_tokens": 6}, {"gen_ai.request.max_tokens": 6}),
        ({"max_tokens": True}, {}),
        ({"max_tokens": "5"}, {}),
        ({"max_tokens": 2**70}, {}),
        ({"temperature": 0}, {"gen_ai.request.temperature": 0.0}),
        ({"temperature": 0.2, "top_p": 1}, {"gen_ai.request.temperature": 0.2, "gen_ai.request.top_p": 1.0}),
        ({"temperature": float("nan"), "top_p": "x", "top_k": False}, {}),
        ({"top_k": 40}, {"gen_ai.request.top_k": 40.0}),
        (
            {"frequency_penalty": -0.5, "presence_penalty": 1},
            {"gen_ai.request.frequency_penalty": -0.5, "gen_ai.request.presence_penalty": 1.0},
        ),
        ({"seed": -1}, {"gen_ai.request.seed": -1}),
        ({"n": 1}, {}),
        ({"n": 2}, {"gen_ai.request.choice.count": 2}),
        ({"n": None}, {}),
        ({"stop": "END"}, {"gen_ai.request.stop_sequences": ("END",)}),
        ({"stop": ["a", "b\ud800", 3]}, {"gen_ai.request.stop_sequences": ("a", "b?")}),
        ({"stop": []}, {}),
        ({"stop": {"a": 1}}, {}),
        ({"stream": True}, {"gen_ai.request.stream": True}),
        ({"stream": False}, {}),
        ({"stream": "yes"}, {}),
        ({"encoding_format": "base64"}, {"gen_ai.request.encoding_formats": ("base64",)}),
        ({"encoding_format": 1}, {}),
        ({"dimensions": 256}, {"gen_ai.embeddings.dimension.count": 256}),
        ({"model": "g", "messages": [{"role": "user", "content": "secret"}], "tools": [], "metadata": {}}, {}),
        ({}, {}),
    ],
)
def test_parameters(kwargs: Mapping[str, object], expected: dict[str, RequestValue]) -> None:
    found = request_parameters(kwargs)
    assert found == expected
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in expected.items()}


class Sullen(Mapping[str, object]):
    """Has ``temperature``, and will say no more."""

    def __getitem__(self, name: str) -> object:
        if name == "temperature":
            return 1.0
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __contains__(self, name: object) -> bool:
        return True


def test_a_mapping_that_raises() -> None:
    assert request_parameters(Sullen()) == {}
