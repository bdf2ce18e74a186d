"""The same worlds through the real routers: ``litellm.Router`` and ``TracedRouter`` on a loop in virtual time.

Calls go through ``acompletion`` with everything that litellm does around it; only the provider is
simulated: a custom one, which awaits the simulated server. What comes out is set beside the pure
simulation of the same calls, so that each checks the other.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import process_time
from typing import Any, cast

import litellm
from litellm.exceptions import InternalServerError, RateLimitError
from litellm.llms.custom_llm import CustomLLM
from litellm.router import Router
from litellm.types.utils import Choices, Message, ModelResponse, Usage

from benchmarks.simulation import virtual_loop
from benchmarks.simulation.metrics import Recorder
from benchmarks.simulation.router import GROUP
from benchmarks.simulation.runner import calls_of
from benchmarks.simulation.servers import Job, Server
from benchmarks.simulation.site import Site
from benchmarks.simulation.workload import Call
from benchmarks.simulation.worlds import World

PROVIDER = "simulated"
MakeRouter = Callable[[list[dict[str, Any]], Callable[[], float], Random], Any]
"""A router for a model list, given virtual time and a random source."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """A finished run.

    Attributes:
        cpu_per_call: microseconds of this process per call, router and simulation.
    """

    recorder: Recorder
    calls: int
    left_in_servers: int
    cpu_per_call: float


class _AsyncioScheduler:
    """The servers' clock is the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        return self._loop.time()

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> None:
        self._loop.call_at(when, action, argument)


class SimulatedProvider(CustomLLM):
    """Awaits the simulated server that the deployment stands for."""

    def __init__(self, servers: Mapping[str, Server], calls: Sequence[Call], recorder: Recorder) -> None:
        super().__init__()
        self._servers = servers
        self._calls = calls
        self._recorder = recorder

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:  # noqa: ARG002 - as its interface has it
        """One attempt; ``messages`` holds the number of the call, and ``model`` the id of the server."""
        server = self._servers[kwargs["model"].rpartition("/")[2]]
        messages = kwargs["messages"]
        call = self._calls[int(messages[0]["content"])]
        kwargs["logging_obj"].pre_call(input=messages, api_key="", additional_args={})  # as litellm's own providers do
        loop = asyncio.get_running_loop()
        self._recorder.picked(loop.time(), server.id)
        over: asyncio.Future[Job] = loop.create_future()
        job = Job(call, None, None, lambda done: None if over.done() else over.set_result(done))
        server.submit(job)
        try:
            await over
        except asyncio.CancelledError:
            server.cancel(job)
            raise
        return _answer(job, kwargs["model"])


def _answer(job: Job, model: str) -> ModelResponse:
    if job.status == "rate_limited":
        raise RateLimitError("simulated 429", llm_provider=PROVIDER, model=model)
    if job.status != "ok":
        raise InternalServerError("simulated 500", llm_provider=PROVIDER, model=model)
    prompt, completion = job.call.input_tokens, job.call.output_tokens
    response = ModelResponse(choices=[Choices(message=Message(content="ok"))], model=model)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    setattr(response, "usage", usage)  # noqa: B010 - a field that litellm does not declare
    return response


def plain_router(strategy: str) -> MakeRouter:
    """``litellm.Router`` with one of litellm's strategies."""
    return lambda models, _clock, _rng: Router(model_list=models, routing_strategy=cast("Any", strategy), num_retries=2)


def play(world: World, make: MakeRouter, seed: int) -> EndToEnd:
    """All calls of a world through one router."""
    calls = calls_of(world, seed)
    recorder = Recorder(world.watch.server if world.watch is not None else None)
    before = _callbacks()
    random.seed(seed)  # litellm's shuffle draws from the global source
    began = process_time()
    try:
        left = virtual_loop.run(lambda loop: _play(loop, world, make, seed, calls, recorder))
    finally:
        _restore(before)
    return EndToEnd(recorder, len(calls), left, (process_time() - began) / max(1, len(calls)) * 1e6)


async def _play(
    loop: virtual_loop.VirtualTimeLoop,
    world: World,
    make: MakeRouter,
    seed: int,
    calls: Sequence[Call],
    recorder: Recorder,
) -> int:
    site = Site(_AsyncioScheduler(loop), world, seed, configured=False)
    for fault in world.faults:
        fault.install(site)
    provider = SimulatedProvider(site.servers, calls, recorder)
    litellm.custom_provider_map = [{"provider": PROVIDER, "custom_handler": provider}]
    _price(site.servers)
    router = make([_deployment(server_id) for server_id in site.servers], loop.time, Random(seed))
    tasks: list[asyncio.Task[None]] = []
    for call in calls:
        await asyncio.sleep(call.at - loop.time())
        tasks.append(loop.create_task(_call(loop, router, call, recorder)))
    await asyncio.gather(*tasks)
    router.discard()
    return sum(server.inflight for server in site.servers.values())


async def _call(loop: virtual_loop.VirtualTimeLoop, router: Any, call: Call, recorder: Recorder) -> None:
    messages = [{"role": "user", "content": str(call.index)}]
    try:
        await router.acompletion(model=GROUP, messages=messages)
    except (InternalServerError, RateLimitError):
        recorder.ended(call, loop.time(), "error", 1, None)
    else:
        recorder.ended(call, loop.time(), "ok", 1, None)


def _deployment(server_id: str) -> dict[str, Any]:
    params = {"model": f"{PROVIDER}/{server_id}", "api_key": "none", "api_base": f"http://{server_id}"}
    return {"model_name": GROUP, "litellm_params": params, "model_info": {"id": server_id}}


def _price(server_ids: Iterable[str]) -> None:
    """Give the simulated models a price: litellm spends 5 ms a call on explaining a cost of nothing."""
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "litellm_provider": PROVIDER, "mode": "chat"}
    litellm.register_model({f"{PROVIDER}/{server_id}": price for server_id in server_ids})


_LISTS = ("callbacks", "success_callback", "failure_callback", "input_callback")
_ASYNC_LISTS = ("_async_success_callback", "_async_failure_callback")


def _callbacks() -> Mapping[str, list[Any]]:
    """litellm's global lists, to which every router adds itself."""
    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)  # it prints every simulated failure
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    return {name: list(getattr(litellm, name)) for name in (*_LISTS, *_ASYNC_LISTS)}


def _restore(before: Mapping[str, list[Any]]) -> None:
    for name, entries in before.items():
        getattr(litellm, name)[:] = entries
    litellm.custom_provider_map = []
