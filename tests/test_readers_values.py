"""What comes of odd values."""

import enum
import math
from types import SimpleNamespace

import pytest

from traced_router._values import MAX_TEXT, MAX_TEXTS, amount, count, integer, listed, number, peek, text, texts


class Word(str, enum.Enum):  # noqa: UP042  # as litellm's are: its str() is no value
    STOP = "stop"


class Number(enum.IntEnum):
    THREE = 3


class Sly(int):
    def __float__(self) -> float:
        raise RuntimeError


class Raising:
    @property
    def name(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("gpt-4o", "gpt-4o", id="plain"),
        pytest.param("modèle-é", "modèle-é", id="not ascii"),
        pytest.param("a\ud800b", "a?b", id="lone surrogate"),
        pytest.param("x" * (MAX_TEXT + 1), "x" * MAX_TEXT, id="too long"),
        pytest.param("é" * (MAX_TEXT + 1), "é" * MAX_TEXT, id="too long and not ascii"),
        pytest.param(Word.STOP, "stop", id="str enum"),
        pytest.param("", None, id="empty"),
        pytest.param(b"x", None, id="bytes"),
        pytest.param(None, None, id="none"),
        pytest.param(1, None, id="int"),
    ],
)
def test_text(value: object, expected: str | None) -> None:
    found = text(value)
    assert found == expected
    assert found is None or type(found) is str
    assert found is None or found.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ("a",)),
        (["a", 1, None, "", "b"], ("a", "b")),
        (("a",), ("a",)),
        (["x"] * (MAX_TEXTS + 1), ("x",) * MAX_TEXTS),
        ({"a"}, ()),
        (None, ()),
        ("", ()),
    ],
)
def test_texts(value: object, expected: tuple[str, ...]) -> None:
    assert texts(value) == expected


@pytest.mark.parametrize(
    ("value", "whole", "counted"),
    [
        (3, 3, 3),
        (0, 0, 0),
        (-3, -3, None),
        pytest.param(Number.THREE, 3, 3, id="int enum"),
        (2**63 - 1, 2**63 - 1, 2**63 - 1),
        (2**63, None, None),
        (-(2**63) - 1, None, None),
        (True, None, None),
        (3.0, None, None),
        pytest.param("3", None, None, id="digits"),
        (None, None, None),
    ],
)
def test_integer_and_count(value: object, whole: int | None, counted: int | None) -> None:
    assert integer(value) == whole
    assert count(value) == counted
    assert type(integer(value)) is type(whole)
    assert type(count(value)) is type(counted)


@pytest.mark.parametrize(
    ("value", "real", "positive"),
    [
        (0.5, 0.5, 0.5),
        pytest.param(1, 1.0, 1.0, id="int"),
        (0, 0.0, 0.0),
        (-0.5, -0.5, None),
        (-1, -1.0, None),
        (math.nan, None, None),
        (math.inf, None, None),
        (-math.inf, None, None),
        (10**400, None, None),
        (Sly(1), None, None),
        (True, None, None),
        pytest.param("1", None, None, id="digits"),
        (None, None, None),
    ],
)
def test_number_and_amount(value: object, real: float | None, positive: float | None) -> None:
    assert number(value) == real
    assert amount(value) == positive
    assert type(number(value)) is type(real)
    assert type(amount(value)) is type(positive)


def test_peek() -> None:
    assert peek({"a": 1}, "a") == 1
    assert peek({"a": 1}, "b") is None
    assert peek(SimpleNamespace(a=1), "a") == 1
    assert peek(SimpleNamespace(a=1), "b") is None
    assert peek(Raising(), "name") is None
    assert peek(None, "a") is None


def test_listed() -> None:
    assert listed([1]) == [1]
    assert listed((1, 2)) == [1, 2]
    assert listed("ab") == []
    assert listed(None) == []
