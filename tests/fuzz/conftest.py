"""Odd values and odd objects: what no caller and no provider should send, and some do.

Examples are the same on every run: each module's ``settings`` are derandomised.
"""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or `import litellm` waits for the network


class Raising:
    """Every attribute of it raises, and so does its text."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        return "Raising()"


class LyingDict(dict[Any, Any]):
    """A dict that says nothing about itself without raising."""

    def get(self, *_args: Any) -> Any:
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError


TEXT = st.one_of(
    st.sampled_from(["", "a", "\ud800", "ü" * 1100, "x" * 5000, "\x00", "nan", "inf", "-1", "9" * 400, "null"]),
    st.text(st.characters(codec=None), max_size=20),
)
NUMBER = st.one_of(
    st.sampled_from([0, 1, -1, True, 2**63, -(2**63) - 1, 10**400, 2**63 - 1, 0.0, -0.5, float("nan"), 1e308]),
    st.integers(),
    st.floats(),
)
PLAIN = st.none() | NUMBER | TEXT
SCALAR = st.one_of(st.none(), NUMBER, TEXT, st.binary(max_size=8), st.builds(Raising), st.just(object))


class Odd:
    """Strategies for odd things."""

    text = TEXT
    number = NUMBER
    scalar = SCALAR
    plain = st.recursive(
        PLAIN,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
        max_leaves=4,
    )
    value = st.recursive(
        SCALAR,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner),
            st.dictionaries(TEXT, inner, max_size=3),
            st.builds(SimpleNamespace, a=inner),
        ),
        max_leaves=4,
    )

    @classmethod
    def fields(cls, *keys: str, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        """A dict that may have these keys, each with an odd value or, where one is given, with one that fits."""
        optional = dict.fromkeys(keys, cls.value) | {key: known[key] | cls.value for key in known}
        return st.fixed_dictionaries({}, optional=optional)

    @staticmethod
    def shaped(body: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
        """The same as a dict, as an object, or as a dict that lies."""
        return st.one_of(body, body.map(lambda b: SimpleNamespace(**b)), body.map(LyingDict))


@pytest.fixture(scope="session")
def odd() -> type[Odd]:
    return Odd
