"""What is open when the interpreter exits."""

import atexit
import gc
import os
import weakref

import pytest

from traced_router import _exit
from traced_router._exit import OpenEnds


@pytest.fixture
def hooks(monkeypatch):
    """What is registered to run at exit, in the order of registration."""
    weakref.finalize(OpenEnds(), int)  # the first one of a process has itself registered
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", lambda hook: hook in registered and registered.remove(hook))
    return registered


def test_what_is_open_is_ended_once(hooks):
    ended = []
    ends = OpenEnds()
    ends.before_all_so_far()
    ends.add(lambda: ended.append("a"))
    over = lambda: ended.append("b")  # noqa: E731
    ends.add(over)
    ends.discard(over)
    ends.discard(over)
    for hook in hooks:
        hook()

    assert ended == ["a"]


def test_it_runs_before_whatever_was_there_so_far(hooks):
    ends = OpenEnds()
    ends.before_all_so_far()
    atexit.register(print)
    ends.before_all_so_far()

    assert hooks[0] is print
    assert len(hooks) == 2


def test_nothing_is_left_of_a_router_that_is_gone(hooks):
    ends = OpenEnds()
    ends.before_all_so_far()
    (hook,) = hooks
    del ends
    gc.collect()
    hook()

    assert hooks == []


def test_what_a_fork_has_inherited_is_not_its_own(monkeypatch):
    ended = []
    ends = OpenEnds()
    ends.add(lambda: ended.append("the parent's"))
    here = os.getpid()
    monkeypatch.setattr(_exit.os, "getpid", lambda: here + 1)
    ends.add(lambda: ended.append("the fork's"))
    ends.end()

    assert ended == ["the fork's"]
