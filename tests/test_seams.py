"""What is read of litellm where its versions differ, and what becomes of a trace where a seam is gone."""

import copy
from pathlib import Path
from types import SimpleNamespace

import litellm
import pytest

from traced_router import _litellm as seams
from traced_router._litellm import Seam

FULL = dict.fromkeys(seams.LAYERS, "full")

CORE = litellm.Router if seams.ENGINE == "classic" else seams.LOOP


# --- the probe ---------------------------------------------------------------------------------


def test_everything_is_there_on_a_litellm_that_is_supported():
    assert seams.probe(seams.LOOP) == FULL


def hiding(*names):
    """A class like litellm's, without these."""
    there = (s.name for s in seams.SEAMS if s.name not in names and hasattr(CORE, s.name))
    return type("Lacking", (), {name: getattr(CORE, name) for name in there})


@pytest.mark.parametrize(
    ("gone", "lacking"),
    [
        ("_update_kwargs_with_deployment", {"attempt": "partial"}),
        ("make_call", {"attempt": "none"}),
        ("_get_routing_context", {"selection": "partial"}),
        ("async_function_with_retries", {"backoff": "none"}),
    ],
)
def test_a_member_that_is_gone_takes_its_layer_with_it(gone, lacking):
    assert seams.probe(hiding(gone)) == {**FULL, **lacking}


def test_of_two_that_are_gone_the_worse_counts():
    for gone in (("make_call", "_acreate_file"), ("_acreate_file", "make_call")):
        assert seams.probe(hiding(*gone)) == {**FULL, "attempt": "none"}


def test_a_seam_that_this_litellm_is_too_old_for_is_not_missed():
    assert seams.probe(hiding("_aanthropic_messages_streaming_iterator")) == FULL


class Members:
    """Ways in which a member can take an error."""

    def as_it_was(self, e):
        """Unused."""

    def renamed(self, error):
        """Unused."""

    def takes_anything(self, **kwargs):
        """Unused."""

    @staticmethod
    def static(e):
        """Unused."""

    silent = type  # it does not say what it takes
    gone = None


@pytest.mark.parametrize(
    ("member", "holds"),
    [
        ("as_it_was", True),
        ("renamed", False),
        ("takes_anything", True),
        ("static", True),
        ("silent", True),
        ("gone", False),
    ],
)
def test_a_parameter_that_is_gone_is_missed(member, holds):
    assert seams._holds(Members, Seam(member, "backoff", ("e",))) is holds


# --- where versions differ ---------------------------------------------------------------------


def test_names_of_a_router_s_own_state():
    router = SimpleNamespace(model_names={"g"}, routing_strategy=None)

    assert seams.state(router, "model_names") == {"g"}
    assert seams.state(router, "no_such_name", 7) == 7
    assert seams.routing_strategy(router) is None


def test_the_group_that_a_name_stands_for():
    router = SimpleNamespace(
        model_names={"g"},
        model_list=[{"model_name": "g", "litellm_params": {"model": "openai/gpt-4o"}}, {}],
        model_id_to_deployment_index_map={"a": 0, "b": 1},
    )
    read = {name: seams.model_group_of(router, name) for name in ("g", "a", "b", "typo", None, "", 7)}

    assert read == {"g": "g", "a": "g", "b": "b", "typo": "typo", None: None, "": None, 7: "7"}
    assert [seams.is_deployment_id(router, name) for name in ("g", "a", "typo", 7)] == [False, True, False, False]
    assert seams.group_of_provider_model(router, "openai/gpt-4o") == "g"
    assert seams.group_of_provider_model(router, "openai/gpt-4") is None


@pytest.mark.parametrize("indexed", [True, False])
def test_the_deployment_behind_copies_of_it(indexed):
    """litellm 1.95 copies a deployment for a caller's key, and a copy once more when it picks that."""
    of = {"plain": None, "copy": "plain", "again": "copy", "itself": "itself", "round": "about", "about": "round"}
    made = [{"model_info": {"id": name, "original_model_id": original}} for name, original in of.items()]
    index = {name: at for at, name in enumerate(of)} if indexed else None
    router = SimpleNamespace(model_list=made, model_id_to_deployment_index_map=index)

    found = {name: seams.configured_deployment(router, name) for name in (*of, "gone")}
    known = dict.fromkeys(("plain", "copy", "again"), made[0])
    assert found == {**known, "itself": None, "round": None, "about": None, "gone": None}


@pytest.mark.parametrize(("first", "group"), [(True, "a"), (False, "g")])
def test_a_name_that_is_a_group_s_and_a_deployment_s(monkeypatch, first, group):
    monkeypatch.setattr(seams, "GROUPS_FIRST", first)
    router = SimpleNamespace(
        model_names={"g", "a"}, model_list=[{"model_name": "g"}], model_id_to_deployment_index_map={"a": 0}
    )

    assert seams.model_group_of(router, "a") == group
    assert seams.is_deployment_id(router, "a") is not first


def test_groups_whose_fallbacks_litellm_looks_for(monkeypatch):
    """Up to 1.95 it has no function that says."""
    monkeypatch.delattr(seams.fallback_event_handlers, "fallback_lookup_groups", raising=False)

    assert seams.fallback_groups("g", {}) == ("g",)
    assert seams.fallback_groups(None, {}) == ()


@pytest.mark.parametrize(
    ("fallbacks", "specific"),
    [
        ([{"g": ["h"]}], True),
        ([{"*": ["h"]}], False),
        ([{"other": ["h"]}, {"*": ["h"]}], False),
        (None, False),
        ([], False),
    ],
)
def test_a_chain_of_a_group_s_own(fallbacks, specific):
    assert seams.specific_fallback(fallbacks, ("g",)) is specific


@pytest.mark.parametrize(
    ("router", "groups"),
    [
        ({"routing_groups": {"pair": 1}}, ["pair", None]),
        ({"_routing_groups": {"pair": 1}}, ["pair", None]),  # up to 1.95
        ({"_routing_groups": {"pair": 1}, "model_names": {"pair"}}, [None, None]),  # a model of that name comes first
        ({"_model_to_group": {"a": "pair"}}, [None, "pair"]),
        ({}, [None, None]),
    ],
)
def test_the_routing_group_that_decides(router, groups):
    assert [seams.routing_group_of(SimpleNamespace(**router), name) for name in ("pair", "a")] == groups


@pytest.mark.parametrize("groups", ["routing_groups", "_routing_groups"], ids=["now", "up to 1.95"])
def test_groups_of_a_router_s_configuration(groups):
    router = SimpleNamespace(model_names={"g"}, model_group_alias={"alias": "g"}, **{groups: {"pair": object()}})
    read = {name: seams.is_configured_group(router, name) for name in ("g", "alias", "pair", "made up")}

    assert read == {"g": True, "alias": True, "pair": True, "made up": False}


@pytest.mark.skipif(seams.ENGINE == "hosted", reason="a hosted core asks its host")
def test_a_method_that_does_not_go_to_litellm_is_left_as_it_is():
    for method in (Path().exists, len):
        assert seams.seeing(method, "alist_batches", str) is method


# --- retries in the place of litellm's ------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"metadata": None}, {"litellm_metadata": "odd", "metadata": {}}])
def test_retries_are_counted_where_there_is_a_place_for_it(kwargs):
    before = copy.deepcopy(kwargs)
    seams.count_retries(kwargs, 2)

    assert kwargs == before


async def test_what_is_left_of_a_group_that_litellm_does_not_find():
    class Lost:
        async def _async_get_healthy_deployments(self, **_):
            raise ValueError("no such group")

    assert await seams.left_of_group(Lost(), {"model": "g"}, "a") is None
