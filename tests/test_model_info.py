"""Model info that is remembered is what litellm would have worked out."""

import copy
from contextlib import suppress

import litellm
import pytest
from litellm.types.router import Deployment

from traced_router import TracedRouter
from traced_router import _litellm as seams

pytestmark = pytest.mark.skipif(not seams.MODEL_INFO_REPEATS, reason="this litellm works it out once, or shares it")


def deployment(name="d1", model="openai/gpt-4o", **info):
    return {"model_name": "g", "litellm_params": {"model": model, "api_key": "k"}, "model_info": {"id": name, **info}}


@pytest.fixture
def computed(monkeypatch):
    """How often litellm itself has worked one out."""
    calls = []
    original = litellm.Router.get_router_model_info

    def counted(self, *args, **kwargs):
        calls.append(kwargs.get("deployment"))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(litellm.Router, "get_router_model_info", counted)
    return calls


@pytest.fixture
def prices():
    """litellm's price map, put back afterwards."""
    before = copy.deepcopy(litellm.model_cost)
    yield
    litellm.model_cost.clear()
    litellm.model_cost.update(before)
    litellm.get_model_info.cache_clear()


def both(router, name="d1"):
    """What the router answers, and what litellm would."""
    made = router.get_deployment(model_id=name)
    plain = super(TracedRouter, router)
    return (
        router.get_router_model_info(deployment=made, received_model_name="g"),
        plain.get_router_model_info(deployment=made, received_model_name="g"),
    )


def test_it_is_worked_out_once(computed):
    router = TracedRouter(model_list=[deployment(), deployment("d2", "openai/gpt-4o-mini")])
    computed.clear()
    for _ in range(3):
        for name in ("d1", "d2"):
            router.get_router_model_info(deployment=router.get_deployment(model_id=name), received_model_name="g")
    assert len(computed) == 2


def test_each_answer_is_the_callers_own(computed):
    router = TracedRouter(model_list=[deployment(tiers=[{"above": 1}])])
    first, plain = both(router)
    assert first == plain
    first["tiers"][0]["above"] = 2
    first["supported_openai_params"].clear()
    first["max_tokens"] = None
    second, plain = both(router)
    assert second == plain
    assert second is not first


def test_a_change_of_the_deployment_counts(computed):
    router = TracedRouter(model_list=[deployment(max_input_tokens=7)])
    assert both(router)[0]["max_input_tokens"] == 7

    router.model_list[0]["model_info"]["max_input_tokens"] = 8
    assert both(router)[0]["max_input_tokens"] == 8

    router.model_list[0]["litellm_params"]["model"] = "openai/gpt-4o-mini"
    again, plain = both(router)
    assert again == plain
    assert again["key"] == "gpt-4o-mini"

    router.upsert_deployment(Deployment(**deployment(max_input_tokens=9)))
    assert both(router)[0]["max_input_tokens"] == 9


def test_a_change_of_the_prices_counts(prices):
    router = TracedRouter(model_list=[deployment()])
    both(router)
    litellm.register_model({"gpt-4o": {**litellm.model_cost["gpt-4o"], "input_cost_per_token": 0.5}})
    again, plain = both(router)
    assert again == plain
    assert again["input_cost_per_token"] == 0.5


def test_what_the_router_discovers_counts(monkeypatch):
    router = TracedRouter(model_list=[deployment()])
    both(router)
    monkeypatch.setattr(router, "get_discovered_model_info", lambda _: {"max_tokens": 11})
    again, plain = both(router)
    assert again == plain
    assert again["max_tokens"] == 11


@pytest.mark.parametrize(
    "odd",
    [
        deployment(model="openai/*"),
        deployment(model="azure/mine"),
        deployment(model="openai/no-such-model", base_model="gpt-4o"),
        deployment(name="d1", lock=pytest),  # a module cannot be copied in depth
    ],
    ids=["wildcard", "azure", "no price", "no copy"],
)
def test_what_is_out_of_the_ordinary_goes_to_litellm(odd, computed):
    router = TracedRouter(model_list=[deployment()])
    computed.clear()
    for _ in range(2):
        with suppress(Exception):  # litellm knows no price of some
            router.get_router_model_info(deployment=odd, received_model_name="openai/gpt-4o")
    assert len(computed) == 2


def test_an_id_instead_of_a_deployment(computed):
    router = TracedRouter(model_list=[deployment()])
    assert router.get_router_model_info(deployment=None, received_model_name="g", id="d1")["key"] == "gpt-4o"


def test_there_is_an_end_to_what_is_remembered(monkeypatch):
    monkeypatch.setattr("traced_router._model_info._MAX_DEPLOYMENTS", 2)
    router = TracedRouter(model_list=[deployment(f"d{i}") for i in range(4)])
    for i in range(4):
        again, plain = both(router, f"d{i}")
        assert again == plain
    assert len(router._traced_router.model_infos._known) == 2


class TestLimits:
    """That a deployment has no limits is found out once."""

    @pytest.fixture
    def asked(self, monkeypatch):
        """How often litellm itself has looked."""
        asked = []
        original = litellm.Router._increment_deployment_usage

        async def counted(self, **kwargs):
            asked.append(kwargs["deployment_id"])
            return await original(self, **kwargs)

        monkeypatch.setattr(litellm.Router, "_increment_deployment_usage", counted)
        return asked

    @staticmethod
    async def count(router, tokens=7, times=1):
        return await router._increment_deployment_usage(
            deployment_id="d1",
            deployment_name="g",
            model_group="g",
            total_tokens=tokens,
            rpm_increment=times,
            parent_otel_span=None,
        )

    async def test_once_is_enough(self, asked):
        router = TracedRouter(model_list=[deployment()])
        assert [await self.count(router) for _ in range(3)] == [None] * 3
        assert asked == ["d1"]

    async def test_a_limit_is_always_counted(self, asked):
        router = TracedRouter(model_list=[deployment(rpm=3)])
        keys = [await self.count(router) for _ in range(2)]
        assert None not in keys
        assert asked == ["d1"] * 2

    async def test_one_that_gets_a_limit(self, asked):
        router = TracedRouter(model_list=[deployment()])
        await self.count(router)
        router.model_list[0]["litellm_params"]["tpm"] = 1000
        assert await self.count(router) is not None

    async def test_one_whose_price_entry_gets_a_limit(self, asked, prices):
        router = TracedRouter(model_list=[deployment()])
        await self.count(router)
        litellm.register_model({"gpt-4o": {**litellm.model_cost["gpt-4o"], "rpm": 5}})
        await self.count(router)
        assert asked == ["d1"] * 2

    async def test_one_of_which_something_is_discovered(self, asked, monkeypatch):
        router = TracedRouter(model_list=[deployment()])
        await self.count(router)
        monkeypatch.setattr(router, "get_discovered_model_info", lambda _: {"rpm": 5})
        assert await self.count(router) is not None

    async def test_nothing_to_count_says_nothing(self, asked):
        router = TracedRouter(model_list=[deployment()])
        for _ in range(2):
            await self.count(router, tokens=0, times=0)
        assert asked == ["d1"] * 2

    async def test_one_that_is_gone(self, asked):
        router = TracedRouter(model_list=[deployment("other")])
        for _ in range(2):
            assert await self.count(router) is None
        assert asked == ["d1"] * 2

    async def test_there_is_an_end_to_these_too(self, monkeypatch):
        monkeypatch.setattr("traced_router._model_info._MAX_DEPLOYMENTS", 1)
        router = TracedRouter(model_list=[deployment(), deployment("d2")])
        infos = router._traced_router.model_infos
        infos.found_unlimited(router, "d1")
        infos.found_unlimited(router, "d2")
        assert (infos.is_unlimited(router, "d1"), infos.is_unlimited(router, "d2")) == (False, True)
