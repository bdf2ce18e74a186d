"""Content by itself: copies within bounds, inline data as type, size and hash, and cuts that leave JSON."""

import base64
import hashlib
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traced_router._content import Copier, fitted, to_json

PNG = b"\x89PNG" * 40
ENCODED = base64.b64encode(PNG).decode()
DIGEST = hashlib.sha256(PNG).hexdigest()


class Open:
    """An object with fields, one of them its own business."""

    def __init__(self) -> None:
        self.name = "n"
        self._secret = "s"


class Closed:
    __slots__ = ()


# --- copying -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "copy"),
    [
        ("text", "text"),
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ((1, "a"), [1, "a"]),
        ({"a": [{"b": None}], 3: "no key of JSON's"}, {"a": [{"b": None}]}),
        (MappingProxyType({"_a": 1}), {"_a": 1}),
        (Open(), {"name": "n"}),
        (Closed(), "<Closed>"),
        (b"\x89PNG" * 40, {"type": "blob", "size": 160, "sha256": DIGEST}),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("naïve", "naïve"),
    ],
)
def test_values(given: object, copy: object) -> None:
    copier = Copier(100)

    assert copier.value(given) == copy
    assert copier.cut is False


@pytest.mark.parametrize("given", [2**70, float("nan"), float("inf")])
def test_numbers_that_json_has_not(given: float) -> None:
    copier = Copier(100)

    assert copier.value([given]) == [None]
    assert copier.cut is True


def test_what_contains_itself() -> None:
    loop: list[Any] = ["a"]
    loop.append(loop)
    copier = Copier(100)

    assert copier.value(loop) == ["a", None]
    assert copier.cut is True


def test_the_same_thing_twice_is_no_loop() -> None:
    shared = ["a"]
    copier = Copier(100)

    assert copier.value([shared, shared]) == [["a"], ["a"]]
    assert copier.cut is False


def test_what_is_nested_too_deep() -> None:
    deep: Any = "bottom"
    for _ in range(1000):
        deep = [deep]
    copier = Copier(100)

    assert to_json(copier.value(deep)) == "[" * 24 + "null" + "]" * 24
    assert copier.cut is True


def test_more_items_than_are_read() -> None:
    copier = Copier(100)

    assert len(copier.value(list(range(1_000_000)))) < 20_000  # type: ignore[arg-type]
    assert copier.cut is True


def test_more_text_than_is_read() -> None:
    copier = Copier(10)

    assert copier.value({"a": "123456", "b": "7" * 10_000_000, "c": "never"}) == {"a": "123456", "b": "7777"}
    assert copier.cut is True
    assert copier.spent is True


def test_a_long_string_leaves_room_for_others() -> None:
    copier = Copier(1000)

    assert copier.value(["a" * 10_000, "b" * 10_000, "c"]) == ["a" * 500, "b" * 250, "c"]
    assert copier.cut is True


def test_labels() -> None:
    copier = Copier(1000)

    assert copier.label("user") == "user"
    assert copier.label("x" * 300) == "x" * 256
    assert copier.label("") is None
    assert copier.label(3) is None


# --- inline data -------------------------------------------------------------------------------


def test_a_data_uri() -> None:
    assert Copier(100).blob(f"data:image/png;base64,{ENCODED}", None, "image") == {
        "type": "blob",
        "modality": "image",
        "mime_type": "image/png",
        "size": 160,
        "sha256": DIGEST,
    }


def test_a_data_uri_without_a_type() -> None:
    assert Copier(100).blob(f"data:;base64,{ENCODED}", "audio/wav")["mime_type"] == "audio/wav"


def test_base64_that_is_none() -> None:
    assert Copier(100).blob("abcde") == {
        "type": "blob",
        "size": 5,
        "sha256": hashlib.sha256(b"abcde").hexdigest(),
    }


def test_data_that_is_too_large_to_hash() -> None:
    copier = Copier(100)

    assert copier.blob("A" * 44_000_000) == {"type": "blob", "size": 33_000_000}
    assert copier.blob(bytes(34_000_000)) == {"type": "blob", "size": 34_000_000}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"data:image/png;base64,{ENCODED}", f"data:image/png;size=160;sha256={DIGEST}"),
        (f"data:;base64,{ENCODED}", f"data:;size=160;sha256={DIGEST}"),
        (f"see ![](data:image/png;base64,{ENCODED})!", f"see ![](data:image/png;size=160;sha256={DIGEST})!"),
        ("data:text/plain,hello", "data:text/plain,hello"),
        ("say base64, please", "say base64, please"),
    ],
)
def test_data_inside_text(text: str, shown: str) -> None:
    assert Copier(1000).text(text) == shown


def test_data_inside_text_that_is_too_large_to_hash() -> None:
    copier = Copier(100)
    copier.blob("A" * 33_000_000)

    assert copier.text("data:image/png;base64," + "A" * 1_000_000) == "data:image/png;size=750000"


# --- fitting -----------------------------------------------------------------------------------


def message(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def test_what_fits_is_left_alone() -> None:
    items: list[object] = [message("hello")]

    assert fitted(items, 512) == (items, to_json(items), False)


def test_the_longest_strings_are_cut_first() -> None:
    value, text, cut = fitted([message("s", "system"), message("l" * 10_000), message("m" * 100)], 512)

    assert cut is True
    assert len(text) == 512
    said = [m["parts"][0]["content"] for m in json.loads(text)]
    assert said == [
        "s",
        "l" * (512 - len(to_json([message("s", "system"), message(""), message("m" * 100)]))),
        "m" * 100,
    ]
    assert json.loads(text) == value


def test_what_has_to_be_escaped_is_longer_than_it_looks() -> None:
    _, text, cut = fitted([message('"' * 10_000)], 512)

    assert cut is True
    assert 400 < len(text) <= 512
    assert json.loads(text)[0]["parts"][0]["content"].strip('"') == ""


def test_of_many_messages_the_newest_stay() -> None:
    value, text, cut = fitted([message(f"{number:04} " + "x" * 100) for number in range(500)], 2048)

    assert cut is True
    assert len(text) <= 2048
    assert [m["parts"][0]["content"][:5] for m in json.loads(text)] == [f"{n:04} " for n in range(484, 500)]
    assert len(value) == 16


def test_of_many_parts_the_first_stay() -> None:
    parts = [{"type": "text", "content": "x" * 100} for _ in range(1000)]
    _, text, cut = fitted([{"role": "user", "parts": parts}], 512)

    assert cut is True
    assert len(json.loads(text)[0]["parts"]) == 4


def test_of_many_short_parts_as_many_stay_as_fit() -> None:
    parts = [{"type": "text", "content": "y"} for _ in range(1000)]
    _, text, cut = fitted([{"role": "user", "parts": parts}], 10_000)

    assert cut is True
    assert len(json.loads(text)[0]["parts"]) == 256


def test_deep_arguments_become_a_string() -> None:
    deep = {f"key-{n}": [n, None, {"more": list(range(20))}] for n in range(1000)}
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": deep}
    _, text, cut = fitted([{"role": "assistant", "parts": [call]}], 512)

    assert cut is True
    part = json.loads(text)[0]["parts"][0]
    assert (part["type"], part["id"], part["name"]) == ("tool_call", "c", "f")
    assert part["arguments"].startswith('{"key-0":[0,null')


def test_one_that_cannot_be_made_to_fit() -> None:
    assert fitted([{"x" * 600: 1}], 512) == ([], "[]", True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=60,
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(json_values, max_size=12), st.integers(0, 3000), st.integers(2, 600))
def test_whatever_comes_is_json_within_the_limit(items: list[object], characters: int, limit: int) -> None:
    copier = Copier(characters)
    copied = copier.value(items)
    assert isinstance(copied, list)

    value, text, cut = fitted(copied, limit)

    assert len(text) <= limit
    assert json.loads(text) == value
    assert cut is (value != copied)
    text.encode("utf-8")
