"""Assert a whole tree of spans at once, and read in the failure what differs.

    assert_tree(
        recorder,
        span(
            "router.chat gpt-4o",
            kind="INTERNAL",
            attributes={"traced_router.outcome": "ok", "traced_router.time.provider": of_type(float)},
            children=[span("router.select gpt-4o", children=...), span("chat gpt-4o-2024-08-06", kind="CLIENT")],
        ),
    )

What is not named is not compared, except children: they are compared completely and in order,
unless ``children=...``. A value is compared with its Python type: ``True`` is not ``1``, ``1`` is
not ``1.0``.

This module must not know the contract: what a tree should look like is the test's to say.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from enum import Enum
from itertools import zip_longest
from types import EllipsisType
from typing import Final, TypeAlias, TypeVar, cast

from traced_router import _names as n
from traced_router.testing._recorder import Attributes, Event, Node, Recorder

# --- the vocabulary: matchers ----------------------------------------------------------------


class _Missing(Enum):
    """Stands for an attribute that is not there: ``None`` could be a value."""

    MISSING = "absent"


class Matcher(ABC):
    """Stands for a value in an expected span. Subclass it for a check of your own."""

    @abstractmethod
    def matches(self, value: object) -> bool:
        """Whether the recorded value will do; never asked about a missing one."""


class _Any(Matcher):
    def matches(self, value: object) -> bool:  # noqa: ARG002 - any
        return True

    def __repr__(self) -> str:
        return "ANY"


class _Absent(Matcher):
    def matches(self, value: object) -> bool:  # noqa: ARG002 - what is there is not absent
        return False

    def __repr__(self) -> str:
        return "absent"


@dataclass(frozen=True, slots=True)
class _OfType(Matcher):
    type: type

    def matches(self, value: object) -> bool:
        return type(value) is self.type

    def __repr__(self) -> str:
        return f"of_type({self.type.__name__})"


@dataclass(frozen=True, slots=True)
class _Approx(Matcher):
    number: float
    rel: float
    absolute: float

    def matches(self, value: object) -> bool:
        if not isinstance(value, int | float) or type(value) is not type(self.number):
            return False
        return math.isclose(value, self.number, rel_tol=self.rel, abs_tol=self.absolute)

    def __repr__(self) -> str:
        return f"approx({self.number!r})"


ANY: Final[Matcher] = _Any()
"""Any value, as long as there is one."""

absent: Final[Matcher] = _Absent()
"""The attribute must not be there."""


def of_type(type_: type) -> Matcher:
    """Any value of exactly this type: ``of_type(int)`` takes no ``True``."""
    return _OfType(type_)


def approx(number: float, *, rel: float = 1e-6, absolute: float = 1e-12) -> Matcher:
    """A number of the same type, within ``rel`` of the larger or ``absolute`` (as :func:`math.isclose`)."""
    return _Approx(number, rel, absolute)


# --- the vocabulary: spans and events --------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedEvent:
    """What :func:`event` makes."""

    name: str | Matcher
    attributes: Mapping[str, object]
    exact_attributes: bool


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedSpan:
    """What :func:`span` makes; ``None`` for events or children that are not compared."""

    name: str | Matcher
    kind: str | Matcher
    status: str | Matcher
    attributes: Mapping[str, object]
    exact_attributes: bool
    events: tuple[ExpectedEvent, ...] | None
    children: tuple["ExpectedSpan", ...] | None


def event(
    name: str | Matcher, attributes: Mapping[str, object] | None = None, *, exact_attributes: bool = False
) -> ExpectedEvent:
    """An event of an expected span, with the attributes that are compared."""
    return ExpectedEvent(name, attributes or {}, exact_attributes)


def span(
    name: str | Matcher,
    *,
    kind: str | Matcher = ANY,
    status: str | Matcher = ANY,
    attributes: Mapping[str, object] | None = None,
    exact_attributes: bool = False,
    events: Sequence[ExpectedEvent | str] | EllipsisType = ...,
    children: Sequence[ExpectedSpan] | EllipsisType = (),
) -> ExpectedSpan:
    """An expected span.

    ``kind`` and ``status`` are OpenTelemetry's names. ``attributes``: values or matchers; others on
    the span are ignored unless ``exact_attributes``. ``events``: all of them in order, a string is an
    event's name; not compared by default. ``children``: all of them in order, none by default;
    ``...`` does not compare them.
    """
    return ExpectedSpan(
        name=name,
        kind=kind,
        status=status,
        attributes=attributes or {},
        exact_attributes=exact_attributes,
        events=None
        if isinstance(events, EllipsisType)
        else tuple(event(e) if isinstance(e, str) else e for e in events),
        children=None if isinstance(children, EllipsisType) else tuple(children),
    )


# --- drawing ---------------------------------------------------------------------------------

_KEY_ATTRIBUTES: Final = (
    n.OUTCOME,
    n.DECISION_REASON,
    n.DEPLOYMENT_ID,
    n.DEPLOYMENT_REASON,
    n.FALLBACK_KIND,
    n.FALLBACK_ERROR_TYPE,
    n.ERROR_TYPE,
    n.HTTP_STATUS,
    n.BACKOFF_SECONDS,
)


_MAX_BRIEF: Final = 24


def render(node: Node, *, all_attributes: bool = False) -> str:
    """The tree as text: names, kinds, statuses and the attributes that tell the story, or all of them."""
    return "\n".join(_drawn(node, all_attributes=all_attributes))


def _drawn(node: Node, *, all_attributes: bool = False) -> Iterator[str]:
    yield _head(node) + ("" if all_attributes else _key_attributes(node))
    if all_attributes:
        below = "│  " if node.children else "   "
        yield from (f"{below}  {key} = {value!r}" for key, value in sorted(node.attributes.items()))
    for child, (branch, below) in zip(node.children, _branches(len(node.children)), strict=True):
        for prefix, line in zip_longest((branch,), _drawn(child, all_attributes=all_attributes), fillvalue=below):
            yield prefix + line


def _head(node: Node) -> str:
    return f"{node.name}  {node.kind} {node.status}{' (open)' if node.end_ns is None else ''}"


def _key_attributes(node: Node) -> str:
    shown = [
        f"{key.removeprefix('traced_router.').removeprefix('litellm.')}={_brief(node.attributes[key])}"
        for key in _KEY_ATTRIBUTES
        if key in node.attributes
    ]
    return f"  [{', '.join(shown)}]" if shown else ""


def _brief(value: object) -> str:
    """litellm's own deployment ids are 64 characters long."""
    text = str(value)
    return text if len(text) <= _MAX_BRIEF else f"{text[:_MAX_BRIEF]}…"


def _branches(count: int) -> Iterator[tuple[str, str]]:
    """For each of ``count`` children: what stands before its own line, and before the lines below it."""
    for left in reversed(range(count)):
        yield ("├─ ", "│  ") if left else ("└─ ", "   ")


# --- comparing -------------------------------------------------------------------------------

_Compared: TypeAlias = tuple[str, str | Matcher, str]
"""What is compared, the expected value, the recorded one."""


def assert_tree(actual: Node | Recorder, expected: ExpectedSpan) -> None:
    """Compare a tree with what it should be; of a recorder, its only tree.

    Raises:
        AssertionError: they differ. The message says in words where and how, and draws both trees
            in one, ``-`` before what was expected, ``+`` before what was recorded.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    tree = actual.tree() if isinstance(actual, Recorder) else actual
    comparison = _Comparison()
    comparison.pair(expected, tree)
    if comparison.words:
        raise AssertionError(comparison.message(tree))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the drawing a span stands, and where in the tree."""

    branch: str
    below: str
    path: tuple[str, ...]


@dataclass(slots=True)
class _Comparison:
    """Both trees drawn as one, row by row, and the differences in words."""

    rows: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    words: list[str] = field(default_factory=list[str])

    def message(self, tree: Node) -> str:
        count = len(self.words)
        first = next(index for index, (sign, _) in enumerate(self.rows) if sign != " ")
        drawn = [f"{sign} {text}" for sign, text in self.rows]
        drawn[first] += "    <-- first difference"
        return "\n".join(
            (
                f"the tree is not as expected: {count} difference{'s' if count > 1 else ''}",
                *(f"  {number}. {words}" for number, words in enumerate(self.words, 1)),
                "",
                "- expected, + recorded:",
                *drawn,
                "",
                "recorded:",
                render(tree),
            )
        )

    def pair(self, expected: ExpectedSpan, actual: Node) -> None:
        """Compare two whole trees."""
        self._span(expected, actual, _Place("", "", (actual.name,)))

    def _span(self, expected: ExpectedSpan, actual: Node, place: _Place) -> None:
        self._heads(expected, actual, place)
        self._attributes(expected, actual.attributes, place, "")
        if expected.events is not None:
            self._events(expected.events, actual.events, place)
        if expected.children is not None:
            self._children(expected.children, actual.children, place)

    def _heads(self, expected: ExpectedSpan, actual: Node, place: _Place) -> None:
        compared: list[_Compared] = [
            ("name", expected.name, actual.name),
            ("kind", expected.kind, actual.kind),
            ("status", expected.status, actual.status),
        ]
        wrong = [what for what in compared if not _same(what[1], what[2])]
        for what, wanted, found in wrong:
            self._differ(place, f"{what} is {found!r}, expected {wanted!r}")
        if wrong:
            name, kind, status = (_shown(wanted, found) for _, wanted, found in compared)
            self.rows.append(("-", f"{place.branch}{name}  {kind} {status}"))
        self.rows.append(("+" if wrong else " ", place.branch + _head(actual)))

    def _attributes(
        self, expected: ExpectedSpan | ExpectedEvent, actual: Attributes, place: _Place, where: str
    ) -> None:
        extra = [key for key in actual if key not in expected.attributes] if expected.exact_attributes else []
        wanted = {**dict.fromkeys(extra, absent), **expected.attributes}
        for key, want in sorted(wanted.items()):
            found = actual.get(key, _Missing.MISSING)
            if not _same(want, found):
                self._differ(place, f"{where}{key} is {_said(found)}, expected {_said(want)}")
                self.rows.append(("-", f"{place.below}    {where}{key} = {_said(want)}"))
                self.rows.append(("+", f"{place.below}    {where}{key} = {_said(found)}"))

    def _events(self, expected: Sequence[ExpectedEvent], actual: Sequence[Event], place: _Place) -> None:
        for want, found in _aligned(expected, actual):
            if want and found and _same(want.name, found.name):
                self._attributes(want, found.attributes, place, f"event {found.name}: ")
                continue
            for sign, one, words in (("-", want, "is missing"), ("+", found, "is not expected")):
                if one:
                    self._differ(place, f"event {_shown(one.name)} {words}")
                    self.rows.append((sign, f"{place.below}    event {_shown(one.name)}"))

    def _children(self, expected: Sequence[ExpectedSpan], actual: Sequence[Node], place: _Place) -> None:
        pairs = _aligned(expected, actual)
        for (want, found), (branch, below) in zip(pairs, _branches(len(pairs)), strict=True):
            there = _Place(place.below + branch, place.below + below, place.path)
            if want and found:
                self._span(want, found, replace(there, path=(*place.path, found.name)))
            elif want:
                self._alone("-", f"span {_shown(want.name)} is missing", _drawn_expected(want), there)
            else:
                extra = cast("Node", found)  # nothing is never paired with nothing
                self._alone("+", f"span {extra.name} is not expected", _drawn(extra), there)

    def _alone(self, sign: str, words: str, lines: Iterator[str], there: _Place) -> None:
        self._differ(there, words)
        for prefix, line in zip_longest((there.branch,), lines, fillvalue=there.below):
            self.rows.append((sign, prefix + line))

    def _differ(self, place: _Place, words: str) -> None:
        self.words.append(f"{' > '.join(place.path)}: {words}")


_E = TypeVar("_E", ExpectedSpan, ExpectedEvent)
_A = TypeVar("_A", Node, Event)


def _aligned(expected: Sequence[_E], actual: Sequence[_A]) -> list[tuple[_E | None, _A | None]]:
    """Who belongs with whom by name, in order; what has no partner stands alone."""
    names = [found.name for found in actual]
    opposite = names if len(names) == len(expected) else [""] * len(expected)
    wanted = [_shown(want.name, name) for want, name in zip(expected, opposite, strict=True)]
    pairs: list[tuple[_E | None, _A | None]] = []
    for _, i1, i2, j1, j2 in SequenceMatcher(a=wanted, b=names, autojunk=False).get_opcodes():
        pairs.extend(zip_longest(expected[i1:i2], actual[j1:j2]))
    return pairs


def _same(wanted: object, found: object) -> bool:
    """Equal in value and in Python type, all the way down; lists and tuples are alike: the SDK keeps tuples."""
    if found is _Missing.MISSING:
        return wanted is absent
    if isinstance(wanted, Matcher):
        return wanted.matches(found)
    ours, theirs = _items(wanted), _items(found)
    if ours is not None and theirs is not None:
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return type(wanted) is type(found) and wanted == found


def _items(value: object) -> Sequence[object] | None:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else None


def _said(value: object) -> str:
    """The value with its type, where the type is not plain from a matcher's name."""
    if value is _Missing.MISSING:
        return repr(absent)
    return repr(value) if isinstance(value, Matcher) else f"{value!r} ({type(value).__name__})"


def _shown(wanted: str | Matcher, found: str = "") -> str:
    """A part of a line: as recorded where that is what was wanted, so that only the difference stands out."""
    return found if found and _same(wanted, found) else str(wanted)


def _drawn_expected(expected: ExpectedSpan) -> Iterator[str]:
    yield "  ".join(filter(None, (_shown(expected.name), " ".join(_unless_any(expected.kind, expected.status)))))
    if expected.children is None:
        yield "└─ ..."
    children = expected.children or ()
    for child, (branch, below) in zip(children, _branches(len(children)), strict=True):
        for prefix, line in zip_longest((branch,), _drawn_expected(child), fillvalue=below):
            yield prefix + line


def _unless_any(*parts: str | Matcher) -> list[str]:
    return [str(part) for part in parts if part is not ANY]
