"""litellm's real strategy classes, driven under virtual time.

Their selection and their log callbacks are called as litellm's router calls them; nothing of their
logic is written again here. Their clock (``time``, ``datetime``), their random source and their
tokenizer are replaced for the length of a run, in the modules that :func:`virtual_litellm` names
and nowhere else. The tokenizer's answer is the call's true size, which flatters them: counting
costs them nothing here.

A fleet that shares state shares one in-memory cache: a Redis without delay, the best case for them.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import os
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # an import without the network

from litellm.caching import in_memory_cache
from litellm.caching.dual_cache import DualCache
from litellm.exceptions import RateLimitError, Timeout
from litellm.router_strategy import least_busy, lowest_latency, lowest_tpm_rpm_v2, simple_shuffle
from litellm.types.utils import ModelResponse, Usage

from benchmarks.simulation.router import NoDeploymentError
from traced_router.strategy import Candidate, Decision, Outcome, RoutingRequest, Ticket

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "openai/sim"

_T = TypeVar("_T")
_Json = dict[str, Any]


def run_now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: _T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("a strategy of litellm waited for something: it cannot run in virtual time")


class _VirtualTime:
    """Stands in for ``time`` and for ``datetime.datetime`` in a patched module."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def time(self) -> float:
        return EPOCH.timestamp() + self._clock()

    def now(self, tz: tzinfo | None = None) -> datetime:
        moment = EPOCH + timedelta(seconds=self._clock())
        return moment if tz is not None else moment.replace(tzinfo=None)


def _count(*, messages: object, text: str | None) -> int:  # noqa: ARG001 - litellm's signature
    """Stands in for ``token_counter``: the text is the size of the call, in digits."""
    return int(text or 0)


@contextmanager
def virtual_litellm(clock: Callable[[], float], rng: Random) -> Generator[None, None, None]:
    """Litellm's strategies read this clock and draw from this source until the block ends."""
    time = _VirtualTime(clock)
    with ExitStack() as stack:
        for module, name, value in (
            (in_memory_cache, "time", SimpleNamespace(time=time.time)),
            (lowest_latency, "datetime", time),
            (lowest_latency, "random", rng),
            (lowest_latency, "token_counter", _count),
            (lowest_tpm_rpm_v2, "get_utc_datetime", lambda: time.now(UTC)),
            (lowest_tpm_rpm_v2, "random", rng),
            (lowest_tpm_rpm_v2, "token_counter", _count),
            (simple_shuffle, "random", rng),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield


class QuietCache(DualCache):
    """litellm's cache without Redis, less the debug line that it formats, and drops, at every access.

    The line holds the whole latency map: four fifths of a simulated pick. Pick costs (W6) are
    measured on the original.
    """

    async def async_get_cache(self, key: str, *_: object, **kwargs: Any) -> Any:
        """From memory."""
        kwargs.pop("parent_otel_span", None)
        kwargs.pop("local_only", None)
        return await self.in_memory_cache.async_get_cache(key, **kwargs)  # type: ignore[no-untyped-call]

    async def async_set_cache(self, key: str, value: object, local_only: bool = False, **kwargs: Any) -> None:  # noqa: ARG002, FBT001, FBT002 - litellm's signature
        """To memory."""
        await self.in_memory_cache.async_set_cache(key, value, **kwargs)  # type: ignore[no-untyped-call]


class LitellmStrategy:
    """What the four have in common: litellm's dictionaries in, a decision out."""

    name = "litellm"

    def __init__(self) -> None:
        self._deployments: dict[Candidate, _Json] = {}

    def pick(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Decision:
        """Ask litellm."""
        try:
            chosen = self._select(request, [self._deployment(candidate) for candidate in candidates])
        except RateLimitError as error:
            raise NoDeploymentError(str(error)) from error
        if chosen is None:
            raise NoDeploymentError("litellm's strategy returned no deployment")
        return Decision(str(chosen["model_info"]["id"]), "external")

    def started(self, ticket: Ticket) -> None:
        """Nothing, for most of them."""

    def first_chunk(self, ticket: Ticket) -> None:
        """Litellm learns of it at the end."""

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Nothing, for a shuffle."""

    def _select(self, request: RoutingRequest, deployments: list[_Json]) -> Mapping[str, Any] | None:
        raise NotImplementedError

    def _deployment(self, candidate: Candidate) -> _Json:
        known = self._deployments.get(candidate)
        if known is None:
            settings = {"weight": candidate.weight, "rpm": candidate.rpm, "tpm": candidate.tpm}
            params = {key: value for key, value in settings.items() if value is not None}
            known = self._deployments[candidate] = {
                "model_name": candidate.model_group,
                "litellm_params": {"model": MODEL, "api_base": f"http://{candidate.id}", **params},
                "model_info": {"id": candidate.id},
            }
        return known


class SimpleShuffle(LitellmStrategy):
    """litellm's default; weighted when the candidates carry weights."""

    name = "litellm simple-shuffle"

    def _select(self, request: RoutingRequest, deployments: list[_Json]) -> Mapping[str, Any] | None:  # noqa: ARG002 - as its interface has it
        return simple_shuffle.simple_shuffle(lambda _: None, deployments, "group", None)


def _size(request: RoutingRequest) -> str:
    return str(request.input_size or 0)


def _call_kwargs(ticket: Ticket) -> _Json:
    return {
        "litellm_params": {"metadata": {"model_group": ticket.model_group}, "model_info": {"id": ticket.id}},
        "stream": ticket.request.stream,
    }


class LeastBusy(LitellmStrategy):
    """litellm's count of calls in flight."""

    name = "litellm least-busy"

    def __init__(self, cache: DualCache) -> None:
        super().__init__()
        self._cache = cache
        self._handler = least_busy.LeastBusyLoggingHandler(cache)

    def _select(self, request: RoutingRequest, deployments: list[_Json]) -> Mapping[str, Any] | None:  # noqa: ARG002 - as its interface has it
        return run_now(self._handler.async_get_available_deployments("group", deployments))

    def started(self, ticket: Ticket) -> None:
        """As litellm does before the call leaves."""
        self._handler.log_pre_api_call(MODEL, None, _call_kwargs(ticket))

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """One less; litellm logs nothing for a call that its caller cancelled, so that one is never given back."""
        if outcome.status == "cancelled":
            return
        log = self._handler.async_log_success_event if outcome.status == "ok" else self._handler.async_log_failure_event
        run_now(log(_call_kwargs(ticket), None, ticket.started_at, outcome.finished_at))

    def inflight_left(self) -> int:
        """What it still believes to be in flight, on the deployments that it has seen."""
        return sum(
            int(self._cache.get_cache(f"group_request_count:{candidate.id}") or 0) for candidate in self._deployments
        )


class LowestLatency(LitellmStrategy):
    """litellm's mean of the last ten latencies per output token."""

    name = "litellm latency"

    def __init__(self, cache: DualCache, buffer: float = 0.0) -> None:
        super().__init__()
        self._handler = lowest_latency.LowestLatencyLoggingHandler(cache, {"lowest_latency_buffer": buffer})
        self._response = ModelResponse()

    def _select(self, request: RoutingRequest, deployments: list[_Json]) -> Mapping[str, Any] | None:
        kwargs = {"metadata": {}, "stream": request.stream}
        chosen: Mapping[str, Any] | None = run_now(
            self._handler.async_get_available_deployments("group", deployments, None, _size(request), kwargs)
        )
        return chosen

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Its latency, when it succeeded; a penalty, when it timed out."""
        kwargs = _call_kwargs(ticket)
        start, end = ticket.started_at, outcome.finished_at
        if outcome.status == "ok":
            if outcome.time_to_first_chunk is not None:
                kwargs["completion_start_time"] = start + outcome.time_to_first_chunk
            run_now(self._handler.async_log_success_event(kwargs, self._answer(outcome), start, end))
        elif outcome.status == "timeout":
            kwargs["exception"] = Timeout("simulated", MODEL, "openai")
            run_now(self._handler.async_log_failure_event(kwargs, None, start, end))

    def _answer(self, outcome: Outcome) -> ModelResponse:
        prompt, completion = outcome.input_tokens or 0, outcome.output_tokens or 0
        usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
        setattr(self._response, "usage", usage)  # noqa: B010 - litellm sets it in the same way
        return self._response


class _UsageHandler(lowest_tpm_rpm_v2.LowestTPMLoggingHandler_v2):
    """Without its task that pushes counters to Redis: there is none, and no event loop."""

    def setup_sync_task(self, default_sync_interval: float | None) -> None:
        """Nothing to sync with."""


class UsageV2(LitellmStrategy):
    """litellm's fewest tokens in this minute."""

    name = "litellm usage-v2"

    def __init__(self, cache: DualCache) -> None:
        super().__init__()
        self._handler = _UsageHandler(cache)

    def _select(self, request: RoutingRequest, deployments: list[_Json]) -> Mapping[str, Any] | None:
        chosen: _Json = run_now(
            self._handler.async_get_available_deployments("group", deployments, None, _size(request))
        )
        run_now(self._handler.async_pre_call_check(chosen, None))
        return chosen

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Its tokens, when it succeeded."""
        if outcome.status != "ok":
            return
        kwargs = _call_kwargs(ticket)
        kwargs["standard_logging_object"] = {
            "model_group": ticket.model_group,
            "model_id": ticket.id,
            "hidden_params": {"litellm_model_name": MODEL},
            "total_tokens": (outcome.input_tokens or 0) + (outcome.output_tokens or 0),
        }
        run_now(self._handler.async_log_success_event(kwargs, None, ticket.started_at, outcome.finished_at))
        self._handler.redis_increment_operation_queue.clear()
