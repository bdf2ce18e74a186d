"""The demo's calls: each one goes wrong, or right, in a way that a trace tells apart.

Every call is a small coroutine over the same router and the same fake providers; what the
providers do is said right beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from traced_router import TracedRouter
from traced_router.testing import (
    Answer,
    ContextWindowExceeded,
    DieMidStream,
    FakeProvider,
    Hang,
    RateLimited,
    ServerError,
)

MESSAGES: Final[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


@dataclass(frozen=True, slots=True)
class Story:
    """One call: what it is about, and how it is made."""

    title: str
    tell: Callable[[Any, FakeProvider], Awaitable[object]]


def router(provider: FakeProvider, **arguments: Any) -> Any:
    """A ``TracedRouter`` over groups of fake deployments; untyped, as litellm's own methods are."""
    return TracedRouter(
        model_list=[
            provider.deployment("gpt-east", group="gpt-4o", model="openai/gpt-4o", order=1),
            provider.deployment("gpt-west", group="gpt-4o", model="openai/gpt-4o", order=2),
            provider.deployment("solo", group="gpt-4o-mini", model="openai/gpt-4o-mini"),
            provider.deployment(
                "claude", group="claude-sonnet", model="anthropic/claude-sonnet-4-5", api_base=f"{provider.url}/claude"
            ),
            provider.deployment("mini-a", group="gpt-4.1-mini", model="openai/gpt-4.1-mini"),
            provider.deployment("mini-b", group="gpt-4.1-mini", model="openai/gpt-4.1-mini"),
            provider.deployment("long", group="long-context", model="openai/gpt-4.1"),
        ],
        fallbacks=[{"gpt-4o": ["claude-sonnet"]}],
        context_window_fallbacks=[{"gpt-4o-mini": ["long-context"]}],
        num_retries=1,
        cooldown_time=30,
        **arguments,
    )


async def _plain(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [Answer("Rayleigh scattering.", delay=0.08)])
    await router.acompletion("gpt-4o", MESSAGES)


async def _stream(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [Answer("Blue light scatters more than red.", delay=0.12, chunk_delay=0.03)])
    async for _ in await router.acompletion("gpt-4o", MESSAGES, stream=True):
        pass


async def _stream_left(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [Answer("Blue light scatters more than red.", chunk_delay=0.03)])
    stream = await router.acompletion("gpt-4o", MESSAGES, stream=True)
    await anext(stream)
    await stream.aclose()


async def _stream_dies(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [DieMidStream(after_chunks=0)])
    async for _ in await router.acompletion("gpt-4o", MESSAGES, stream=True):
        pass


async def _rate_limited(router: Any, provider: FakeProvider) -> None:
    provider.script("solo", [RateLimited(retry_after=1), Answer("Rayleigh scattering.", delay=0.05)])
    await router.acompletion("gpt-4o-mini", MESSAGES)


async def _context_window(router: Any, provider: FakeProvider) -> None:
    provider.script("solo", [ContextWindowExceeded()])
    await router.acompletion("gpt-4o-mini", MESSAGES)


async def _gives_up(router: Any, provider: FakeProvider) -> None:
    provider.script("claude", [ServerError(503), ServerError(503)])
    try:
        await router.acompletion("claude-sonnet", MESSAGES)
    except Exception:  # noqa: BLE001  # the trace tells; the demo goes on
        return


async def _cancelled(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [Hang()])
    try:
        await asyncio.wait_for(router.acompletion("gpt-4o", MESSAGES), timeout=0.3)
    except TimeoutError:
        return


async def _race(router: Any, provider: FakeProvider) -> None:
    provider.script("solo", [Answer("slow", delay=0.6)])
    provider.script("long", [Answer("fast", delay=0.05)])
    await router.abatch_completion_fastest_response(model="gpt-4o-mini, long-context", messages=MESSAGES)


async def _hedged(router: Any, provider: FakeProvider) -> None:
    provider.script("mini-a", [Answer("slow", delay=0.6)])  # the session's own deployment
    provider.script("mini-b", [Answer("fast", delay=0.05)])
    await router.acompletion(
        "gpt-4.1-mini", MESSAGES, hedging=0.1, routing_strategy="bounded-hash", litellm_session_id="sea"
    )


async def _falls_back(router: Any, provider: FakeProvider) -> None:
    provider.script("gpt-east", [ServerError(500)] * 2)
    provider.script("gpt-west", [ServerError(500)] * 2)
    await router.acompletion("gpt-4o", MESSAGES)


async def _none_left(router: Any, provider: FakeProvider) -> None:
    for deployment in ("mini-a", "mini-b"):
        provider.default(deployment, RateLimited(retry_after=30))
    for _ in range(2):
        try:
            await router.acompletion("gpt-4.1-mini", MESSAGES)
        except Exception:  # noqa: BLE001  # the trace tells; the demo goes on
            continue


STORIES: Final = (
    Story("A call that just works", _plain),
    Story("A stream, read to its end", _stream),
    Story("A stream that its reader closed after one chunk", _stream_left),
    Story("A rate limit, the wait that the provider asked for, and a second attempt", _rate_limited),
    Story("A prompt too long for one group goes to another", _context_window),
    Story("A race between two groups: the slower call is cancelled", _race),
    Story("A hedge: where the first attempt takes long, a second one is sent to another deployment", _hedged),
    Story("A caller that does not wait", _cancelled),
    Story("A stream that dies before it says anything is taken over", _stream_dies),
    Story("A group that fails, first one order and then the next, and the group after it", _falls_back),
    Story("A provider that stays down: the caller gets its error", _gives_up),
    Story("Both deployments of a group go into cooldown, and the next call finds none left", _none_left),
)
