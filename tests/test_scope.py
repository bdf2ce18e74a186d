"""When an attempt begins and ends, from the steps of litellm's router around it."""

import io

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from traced_router._facts import CallFacts
from traced_router._guard import Guard
from traced_router._readers import DeploymentReader
from traced_router._scope import Scope, is_stream
from traced_router._tree import Tree
from traced_router.testing import Recorder, absent, assert_tree, span

DEPLOYMENT = {
    "model_name": "g",
    "litellm_params": {"model": "openai/gpt-4o", "api_base": "http://there:8080/v1"},
    "model_info": {"id": "a"},
}
IS_A = {"litellm.deployment.id": "a", "server.address": "there", "server.port": 8080}


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def guard():
    return Guard(NoOpMeterProvider)


@pytest.fixture
def call(recorder, guard):
    return Tree(lambda: recorder.provider.get_tracer("tests"), guard).open_call(CallFacts("chat", "g"))


@pytest.fixture
def play(recorder, call):
    """Plays steps to the scope of an attempt function, which then returns; its attempts as they were recorded."""

    def run(function, *steps):
        scope = Scope(call, None, function, DeploymentReader(), "g")
        scope.enter()
        for name, *arguments in steps:
            getattr(scope, name)(*arguments)
        scope.returned({"id": "answer-1"})
        scope.leave()
        call.finish("ok")
        return recorder.tree()

    return run


def one(name="chat gpt-4o", **attributes):
    return span("router.chat g", children=[span(name, kind="CLIENT", attributes=attributes)])


def test_an_attempt_begins_after_the_checks(play):
    tree = play(
        "_acompletion",
        ("picked", DEPLOYMENT, "g"),
        ("updated", object(), DEPLOYMENT, {"max_tokens": 5}),
        ("checked", DEPLOYMENT),
    )

    assert_tree(tree, one(**IS_A, **{"gen_ai.request.max_tokens": 5, "litellm.deployment.model_group": "g"}))


@pytest.mark.parametrize(
    "steps",
    [
        [("updated", object(), DEPLOYMENT, {}), ("checked", None)],
        [("updated", object(), None, {}), ("checked", DEPLOYMENT)],
        [("picked", None, "g"), ("updated", object(), None, {}), ("checked", DEPLOYMENT)],
    ],
)
def test_a_deployment_is_known_from_the_first_step_that_names_it(play, steps):
    assert_tree(play("_acompletion", *steps), one(**IS_A))


def test_steps_that_name_nobody_make_an_attempt_all_the_same(play):
    """The number of attempts is the number of calls of a provider, whatever is known of them."""
    tree = play("_acompletion", ("picked", None, None), ("updated", object(), None, None), ("checked", None))

    assert_tree(tree, one("chat g", **dict.fromkeys(IS_A, absent)))


def test_an_error_before_the_checks_makes_no_attempt(play):
    assert play("_acompletion", ("picked", DEPLOYMENT, "g"), ("updated", object(), DEPLOYMENT, {})).children == ()


def test_a_provider_function_that_runs_ahead_of_its_checks_is_one_attempt(play):
    """1.95 starts some as a coroutine, and checks before it awaits it."""
    tree = play("_ageneric", ("picked", DEPLOYMENT, "g"), ("about_to_call", {"top_p": 0.5}), ("checked", DEPLOYMENT))

    assert_tree(tree, one(**IS_A, **{"gen_ai.request.top_p": 0.5}))


def test_text_completion_has_no_step_after_the_pick(play):
    assert_tree(play("text_completion", ("picked", DEPLOYMENT, "g")), one(**IS_A))


def test_functions_that_call_side_by_side_begin_no_attempt_themselves(play):
    assert play("_acreate_file", ("picked", DEPLOYMENT, "g"), ("checked", DEPLOYMENT)).children == ()


def test_a_span_that_cannot_be_made_leaves_the_promise_void(guard, call, monkeypatch):
    class Promise:
        def __init__(self):
            self.heard = []

        def ended(self, end):
            self.heard.append(end)

    def failing(*_args):
        raise LookupError

    promise = Promise()
    scope = Scope(call, None, "_acompletion", DeploymentReader())
    scope.enter()
    scope.reserve(promise)
    monkeypatch.setattr(type(call), "start_span", failing)
    scope.checked(DEPLOYMENT)
    assert not scope.started
    scope.returned({})
    scope.leave()

    assert promise.heard == [None]
    assert guard.faults == 1
    monkeypatch.undo()
    call.finish("ok")


@pytest.mark.parametrize(
    ("result", "is_one"),
    [(iter(()), True), (io.BytesIO(b"speech"), False), ({}, False), ([], False), ((c for c in "ab"), True)],
    ids=["iterator", "file", "dict", "list", "generator"],
)
def test_what_a_caller_pulls_chunks_from(result, is_one):
    assert is_stream(result) is is_one


def test_an_answer_of_no_attempt_of_ours_can_be_refused(play, guard):
    """A provider was called and paid for, but its attempt had not come about: a fault of ours, for instance."""
    tree = play("_acompletion", ("refused", {"id": "answer-1"}))

    assert_tree(tree, span("router.chat g"))
    assert guard.faults == 0
