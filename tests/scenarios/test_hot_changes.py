"""Deployments that come, change and go while calls run: a tree says what the call really met."""

import asyncio

import litellm
import pytest
from litellm.types.router import Deployment

from traced_router import Decision
from traced_router import _litellm as seams
from traced_router.testing import absent, assert_tree, of_type, span
from traced_router.testing._provider_behaviours import Answer, DieMidStream, RateLimited

pytestmark = pytest.mark.filterwarnings(r"ignore:Router\.\w+ is deprecated:DeprecationWarning")  # the tests' own

MESSAGES = [{"role": "user", "content": "hi"}]


def select(id=absent, **attributes):  # noqa: A002
    status = "ERROR" if id is absent else "UNSET"
    return span("router.select gpt-4o", status=status, attributes={"litellm.deployment.id": id, **attributes})


def attempt(id, reason="initial", error=absent):  # noqa: A002
    return span(
        "chat gpt-4o-2024-08-06",
        kind="CLIENT",
        status="UNSET" if error is absent else "ERROR",
        attributes={"litellm.deployment.id": id, "litellm.deployment.reason": reason, "error.type": error},
    )


def request(*children, status="UNSET", **attributes):
    named = {f"traced_router.{name}": value for name, value in attributes.items()}
    return span("router.chat gpt-4o", status=status, attributes=named, children=children)


class First:
    """A strategy of our interface: the first candidate, and who has it at the moment."""

    name = "first"

    def __init__(self):
        self.open = []

    def pick(self, _request, candidates):
        return Decision(candidates[0].id, "lowest_score")

    def started(self, ticket):
        self.open.append(ticket)

    def first_chunk(self, _ticket):
        pass

    def finished(self, ticket, _outcome):
        self.open.remove(ticket)


@pytest.fixture(params=["litellm's", "ours"])
def strategy(request):
    """Arguments for a router with a strategy of each kind; ours has to get all of its tickets back."""
    if request.param == "litellm's":
        yield {}
        return
    first = First()
    yield {"routing_strategy": first, "resilience": False}
    assert first.open == []


def others(made, provider):
    made.set_model_list([provider.deployment("dep-b")])


def nobody(made, _provider):
    made.set_model_list([])


def gone(made, _provider):
    made.delete_deployment(id="dep-a")


def moved(made, provider):
    """The same deployment, somewhere else."""
    changed = provider.deployment("dep-a")
    changed["litellm_params"]["api_base"] = provider.api_base("dep-b")
    made.upsert_deployment(Deployment(**changed))


CHANGES = pytest.mark.parametrize("change", [others, nobody, gone, moved])


@CHANGES
async def test_while_a_stream_is_open(provider, router, recorder, strategy, change):
    gate = provider.gate()
    provider.script("dep-a", [Answer(chunks=("a", "b"), hold_after_chunk=(1, gate))])
    made = router(provider.deployment("dep-a"), **strategy)
    stream = await made.acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    change(made, provider)
    gate.open()
    async for _ in stream:
        pass

    assert_tree(
        recorder,
        request(select("dep-a"), attempt("dep-a"), outcome="ok", **{"served.deployment_id": "dep-a"}),
    )


async def test_while_a_stream_that_dies_is_open(provider, router, recorder, strategy):
    """It goes on with a deployment that was not there when it began."""
    gate = provider.gate()
    provider.script("dep-a", [DieMidStream(0, answer=Answer(hold_after_chunk=(0, gate)))])
    made = router(provider.deployment("dep-a"), fallbacks=[{"gpt-4o": ["b"]}], **strategy)
    # From 1.109 on litellm returns when the first chunk is there.
    asked = asyncio.ensure_future(made.acompletion("gpt-4o", MESSAGES, stream=True))
    await gate.reached()
    made.set_model_list([provider.deployment("dep-b", group="b")])
    gate.open()
    async for _ in await asked:
        pass

    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt("dep-a", error=of_type(str)),
            span(
                "router.fallback b",
                status="UNSET",
                attributes={"error.type": absent},
                children=[
                    span("router.select b", attributes={"litellm.deployment.id": "dep-b"}),
                    attempt("dep-b", "fallback"),
                ],
            ),
            outcome="ok_after_fallback",
            **{"served.deployment_id": "dep-b"},
        ),
    )


@pytest.fixture
def between_attempts(monkeypatch):
    """Has something done to a router when it is about to try again."""

    def install(router, change):
        core = seams.core_of(router)
        wait = core._time_to_sleep_before_retry

        def then(*args, **kwargs):
            change()
            return wait(*args, **kwargs)

        monkeypatch.setattr(core, "_time_to_sleep_before_retry", then)

    return install


BACKOFF = span("router.backoff", attributes={"traced_router.backoff.source": "retry_after"})
FAILED = RateLimited(retry_after=3)


@pytest.mark.parametrize("way", ["acompletion", "completion"])
@pytest.mark.parametrize("change", [others, moved])
async def test_between_attempts(provider, router, recorder, waits, strategy, between_attempts, way, change):
    provider.default("dep-a", FAILED)
    made = router(provider.deployment("dep-a"), num_retries=1, disable_cooldowns=True, **strategy)
    between_attempts(made, lambda: change(made, provider))
    answer = getattr(made, way)("gpt-4o", MESSAGES)
    if way == "acompletion":
        await answer

    id = "dep-a" if change is moved else "dep-b"  # noqa: A001
    tree = recorder.tree()
    assert_tree(
        tree,
        request(
            select("dep-a"),
            attempt("dep-a", error="RateLimitError"),
            *[BACKOFF for child in tree.children if child.name == "router.backoff"],
            select(id),
            attempt(id, "retry"),
            outcome="ok_after_retry",
            **{"served.deployment_id": id},
        ),
    )
    assert (provider.hits("dep-a"), provider.hits("dep-b")) == (1, 1)


@pytest.mark.parametrize("change", [nobody, gone])
async def test_nobody_is_left_between_attempts(provider, router, recorder, waits, strategy, between_attempts, change):
    provider.default("dep-a", FAILED)
    made = router(provider.deployment("dep-a"), num_retries=1, disable_cooldowns=True, **strategy)
    between_attempts(made, lambda: change(made, provider))
    with pytest.raises(litellm.BadRequestError):
        await made.acompletion("gpt-4o", MESSAGES)

    assert_tree(
        recorder,
        request(
            select("dep-a"),
            attempt("dep-a", error="RateLimitError"),
            BACKOFF,
            select(**{"error.type": "BadRequestError"}),
            status="ERROR",
            outcome="error",
            **{"served.deployment_id": absent, "attempts": 1},
        ),
    )
    assert provider.hits() == 1
