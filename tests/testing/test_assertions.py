import re
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from traced_router.testing import (
    ANY,
    ExpectedSpan,
    Matcher,
    Recorder,
    absent,
    approx,
    assert_tree,
    event,
    of_type,
    render,
    span,
)


@pytest.fixture
def recorder() -> Recorder:
    """A request with a selection, a failed attempt with an event, and a hop with an attempt."""
    recorder = Recorder()
    tracer = recorder.provider.get_tracer("t")
    root = tracer.start_span("request", attributes={"traced_router.outcome": "ok", "n": 1, "f": 1.5, "b": True})
    below = set_span_in_context(root)
    tracer.start_span("select", below, attributes={"litellm.deployment.id": "a"}).end()
    call = tracer.start_span("call", below, SpanKind.CLIENT, attributes={"list": ["x", "y"], "error.type": "Boom"})
    call.add_event("cooldown", {"seconds": 5.0})
    call.set_status(StatusCode.ERROR)
    call.end()
    hop = tracer.start_span("hop", below)
    tracer.start_span("call", set_span_in_context(hop), SpanKind.CLIENT).end()
    hop.end()
    root.end()
    return recorder


def expected(**changes: Any) -> ExpectedSpan:
    """The whole tree; ``changes`` replace arguments of the first ``call``."""
    call: dict[str, Any] = {
        "name": "call",
        "kind": "CLIENT",
        "status": "ERROR",
        "attributes": {"list": ("x", "y"), "error.type": "Boom"},
        "exact_attributes": True,
        "events": [event("cooldown", {"seconds": 5.0}, exact_attributes=True)],
    }
    return span(
        "request",
        kind="INTERNAL",
        attributes={"n": 1, "f": 1.5, "b": True},
        children=[span("select"), span(**call | changes), span("hop", children=[span("call")])],
    )


def failure(recorder: Recorder, tree: ExpectedSpan) -> str:
    with pytest.raises(AssertionError) as raised:
        assert_tree(recorder, tree)
    return str(raised.value)


def differences(recorder: Recorder, tree: ExpectedSpan) -> list[str]:
    return re.findall(r"^  \d+\. (.*)$", failure(recorder, tree), re.MULTILINE)


def test_a_tree_as_expected(recorder: Recorder):
    assert_tree(recorder, expected())
    assert_tree(recorder.tree(), expected())


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("n", 1),
        ("n", ANY),
        ("n", of_type(int)),
        ("n", approx(1)),
        ("f", approx(1.5000001)),
        ("f", approx(1.0, rel=0.5)),
        ("f", approx(1.0, rel=0, absolute=0.5)),
        ("b", of_type(bool)),
        ("nowhere", absent),
    ],
)
def test_values_that_do(recorder: Recorder, attribute: str, value: object):
    assert_tree(recorder, span("request", attributes={attribute: value}, children=...))


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("n", 2, "n is 1 (int), expected 2 (int)"),
        ("n", True, "n is 1 (int), expected True (bool)"),
        ("n", 1.0, "n is 1 (int), expected 1.0 (float)"),
        ("n", "1", "n is 1 (int), expected '1' (str)"),
        ("b", 1, "b is True (bool), expected 1 (int)"),
        ("b", of_type(int), "b is True (bool), expected of_type(int)"),
        ("b", approx(1), "b is True (bool), expected approx(1)"),
        ("n", approx(1.0), "n is 1 (int), expected approx(1.0)"),
        ("f", approx(1.6), "f is 1.5 (float), expected approx(1.6)"),
        ("n", absent, "n is 1 (int), expected absent"),
        ("nowhere", ANY, "nowhere is absent, expected ANY"),
        ("nowhere", None, "nowhere is absent, expected None (NoneType)"),
    ],
)
def test_values_that_do_not(recorder: Recorder, attribute: str, value: object, words: str):
    tree = span("request", attributes={attribute: value}, children=...)
    assert differences(recorder, tree) == [f"request: {words}"]


@pytest.mark.parametrize("value", [["x", "y"], ("x", "y"), ["x", of_type(str)], ANY])
def test_sequences_that_do(recorder: Recorder, value: object):
    assert_tree(recorder, expected(attributes={"list": value}, exact_attributes=False))


@pytest.mark.parametrize("value", [["x"], ["y", "x"], ["x", 1], "xy"])
def test_sequences_that_do_not(recorder: Recorder, value: object):
    (words,) = differences(recorder, expected(attributes={"list": value}, exact_attributes=False))
    assert words.startswith("request > call: list is ('x', 'y') (tuple), expected ")


def test_a_matcher_of_ones_own(recorder: Recorder):
    class Even(Matcher):
        def matches(self, value: object) -> bool:
            return isinstance(value, int) and value % 2 == 0

        def __repr__(self) -> str:
            return "even"

    words = differences(recorder, span("request", attributes={"n": Even()}, children=...))
    assert words == ["request: n is 1 (int), expected even"]


def test_absent_is_no_value():
    assert not absent.matches("absent")
    assert repr(absent) == "absent"


# --- spans and events ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "UNSET"}, ["request > call: status is 'ERROR', expected 'UNSET'"]),
        ({"kind": "SERVER"}, ["request > call: kind is 'CLIENT', expected 'SERVER'"]),
        ({"name": "ring"}, ["request > call: name is 'call', expected 'ring'"]),
        ({"attributes": {"list": ANY}}, ["request > call: error.type is 'Boom' (str), expected absent"]),
        ({"events": []}, ["request > call: event cooldown is not expected"]),
        ({"events": ["cooldown", "more"]}, ["request > call: event more is missing"]),
        ({"events": [event(ANY), event(of_type(int))]}, ["request > call: event of_type(int) is missing"]),
        (
            {"events": ["other"]},
            ["request > call: event other is missing", "request > call: event cooldown is not expected"],
        ),
        (
            {"events": [event("cooldown", {"seconds": 5})]},
            ["request > call: event cooldown: seconds is 5.0 (float), expected 5 (int)"],
        ),
        (
            {"events": [event("cooldown", exact_attributes=True)]},
            ["request > call: event cooldown: seconds is 5.0 (float), expected absent"],
        ),
        ({"children": [span("deep")]}, ["request > call: span deep is missing"]),
    ],
)
def test_what_differs_on_a_span(recorder: Recorder, changes: dict[str, Any], words: list[str]):
    assert sorted(differences(recorder, expected(**changes))) == sorted(words)


def test_any_name_will_do(recorder: Recorder):
    assert_tree(recorder, expected(name=ANY, events=[event(ANY)]))


def test_events_and_children_are_not_compared_when_not_named(recorder: Recorder):
    assert_tree(recorder, expected(events=...))
    assert_tree(recorder, span("request", children=[span("select"), span("call"), span("hop", children=...)]))


def test_children_are_compared_completely(recorder: Recorder):
    tree = span("request", children=[span("select"), span("call")])
    assert differences(recorder, tree) == ["request: span hop is not expected"]


def test_children_are_compared_in_order(recorder: Recorder):
    tree = span("request", children=[span("call"), span("select"), span("hop", children=...)])
    assert differences(recorder, tree) == ["request: span select is not expected", "request: span select is missing"]


def test_a_missing_span_does_not_shift_the_others(recorder: Recorder):
    tree = span("request", children=[span("select"), span("wait"), span("call"), span("hop", children=...)])
    assert differences(recorder, tree) == ["request: span wait is missing"]


# --- drawing ---------------------------------------------------------------------------------


def test_the_whole_message(recorder: Recorder):
    tree = span(
        "request",
        attributes={"n": 2},
        children=[
            span("select"),
            span("wait", kind="INTERNAL", status="UNSET", children=[span(ANY, children=...), span("b")]),
            span("call", kind=ANY, status="UNSET", events=["cooldown", "gone"]),
        ],
    )
    assert failure(recorder, tree) == (
        "the tree is not as expected: 5 differences\n"
        "  1. request: n is 1 (int), expected 2 (int)\n"
        "  2. request: span wait is missing\n"
        "  3. request > call: status is 'ERROR', expected 'UNSET'\n"
        "  4. request > call: event gone is missing\n"
        "  5. request: span hop is not expected\n"
        "\n"
        "- expected, + recorded:\n"
        "  request  INTERNAL UNSET\n"
        "-     n = 2 (int)    <-- first difference\n"
        "+     n = 1 (int)\n"
        "  ├─ select  INTERNAL UNSET\n"
        "- ├─ wait  INTERNAL UNSET\n"
        "- │  ├─ ANY\n"
        "- │  │  └─ ...\n"
        "- │  └─ b\n"
        "- ├─ call  CLIENT UNSET\n"
        "+ ├─ call  CLIENT ERROR\n"
        "- │      event gone\n"
        "+ └─ hop  INTERNAL UNSET\n"
        "+    └─ call  CLIENT UNSET\n"
        "\n"
        "recorded:\n"
        "request  INTERNAL UNSET  [outcome=ok]\n"
        "├─ select  INTERNAL UNSET  [deployment.id=a]\n"
        "├─ call  CLIENT ERROR  [error.type=Boom]\n"
        "└─ hop  INTERNAL UNSET\n"
        "   └─ call  CLIENT UNSET"
    )


def test_one_difference_is_singular(recorder: Recorder):
    message = failure(recorder, span("ask", children=...))
    assert message.startswith("the tree is not as expected: 1 difference\n")
    assert "- ask  INTERNAL UNSET    <-- first difference\n+ request  INTERNAL UNSET\n" in message


def test_all_attributes_of_a_tree(recorder: Recorder):
    assert render(recorder.tree(), all_attributes=True) == (
        "request  INTERNAL UNSET\n"
        "│    b = True\n"
        "│    f = 1.5\n"
        "│    n = 1\n"
        "│    traced_router.outcome = 'ok'\n"
        "├─ select  INTERNAL UNSET\n"
        "│       litellm.deployment.id = 'a'\n"
        "├─ call  CLIENT ERROR\n"
        "│       error.type = 'Boom'\n"
        "│       list = ('x', 'y')\n"
        "└─ hop  INTERNAL UNSET\n"
        "   └─ call  CLIENT UNSET"
    )


def test_an_open_span_is_drawn_as_open():
    recorder = Recorder()
    lasting = recorder.provider.get_tracer("t").start_span("lasting")
    assert render(recorder.tree()) == "lasting  INTERNAL UNSET (open)"
    lasting.end()


def test_a_long_value_is_cut_in_the_short_form():
    recorder = Recorder()
    recorder.provider.get_tracer("t").start_span("a", attributes={"litellm.deployment.id": "0123456789" * 3}).end()
    assert render(recorder.tree()) == "a  INTERNAL UNSET  [deployment.id=012345678901234567890123…]"
    assert "0123456789" * 3 in render(recorder.tree(), all_attributes=True)
