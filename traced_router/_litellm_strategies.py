"""What litellm's own strategies rank by, read where they keep it: a part of ``_litellm``.

The same rule holds here: what is private in litellm is named in the modules ``_litellm*`` and
nowhere else; seen on 1.95.1, 1.106.2 and 1.109.1. Everything is read from memory right after the
strategy has picked, and nothing is written: no lock, no await, no Redis, no tokenizer. A number
that only Redis knows is not known.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias, cast

import litellm
from litellm.router_strategy import least_busy, lowest_cost, lowest_latency, simple_shuffle

Deployment: TypeAlias = Mapping[str, Any]

_NOTHING: Final[Mapping[str, Any]] = {}

# --- by lot ----------------------------------------------------------------------------------

SHUFFLE: Final = "simple-shuffle"

# On 1.95 the first deployment must have a weight, later any of them may.
_ANY_WEIGHT_COUNTS: Final = hasattr(simple_shuffle, "_metric_weight")
_METRICS: Final = ("weight", "rpm", "tpm")
_REQUEST_WEIGHTS: Final = "_router_weights"


def weights(deployments: Sequence[Deployment], group: str, request: Mapping[str, Any]) -> Sequence[float] | None:
    """The weights that ``simple_shuffle`` draws by; ``None`` when all deployments are alike to it."""
    if _REQUEST_WEIGHTS in request and _ANY_WEIGHT_COUNTS:
        own = (request[_REQUEST_WEIGHTS] or _NOTHING).get(group) or _NOTHING
        scoped = [own.get(str(d["model_info"].get("id")), 0.0) for d in deployments]
        if sum(scoped) > 0:
            return scoped
    for deployment in deployments if _ANY_WEIGHT_COUNTS else deployments[:1]:
        params = deployment["litellm_params"]
        if "weight" in params or "rpm" in params or "tpm" in params:
            return _configured_weights(deployments)
    return None


def _configured_weights(deployments: Sequence[Deployment]) -> Sequence[float] | None:
    for metric in _METRICS:
        if _ANY_WEIGHT_COUNTS or deployments[0]["litellm_params"].get(metric) is not None:
            found = [d["litellm_params"].get(metric) or 0.0 for d in deployments]
            if sum(found) > 0:
                return found
    return None


# --- by rank ---------------------------------------------------------------------------------


class Ranking(NamedTuple):
    """How a strategy ranks: by what, read how, and whether it leaves out who is over its own limits."""

    rank_by: str
    read: Callable[[Any, str, Sequence[Deployment], Mapping[str, Any]], Sequence[float] | None]
    limited: bool = True
    cold: bool = False


def over_limit(deployment: Deployment) -> bool:
    """Whether ``deployment`` has a limit of tokens or requests per minute that it can be over."""
    places = (deployment, deployment["litellm_params"], deployment["model_info"])
    return any(place.get(limit) is not None for place in places for limit in ("tpm", "rpm"))


def slack(selector: Any) -> float:
    """How far above the lowest a deployment may be and still be drawn: litellm's ``lowest_latency_buffer``."""
    arguments = getattr(selector, "routing_args", None)
    return float(getattr(arguments, "lowest_latency_buffer", 0.0) or 0.0)


def _memory(selector: Any) -> Mapping[str, Any]:
    # The strategy has just read it, and so has dropped what was too old.
    cache: Mapping[str, Any] = selector.router_cache.in_memory_cache.cache_dict
    return cache


def _in_redis(selector: Any) -> bool:
    return selector.router_cache.redis_cache is not None


# On 1.95 the counts of a group are one dict.
_COUNT_PER_KEY: Final = hasattr(least_busy, "_request_count_key")


def _inflight(
    selector: Any, group: str, deployments: Sequence[Deployment], _request: Mapping[str, Any]
) -> Sequence[float] | None:
    memory = _memory(selector)
    key = f"{group}_request_count"
    if not _COUNT_PER_KEY:
        counts = memory.get(key) or _NOTHING
        return [counts.get(d["model_info"]["id"]) or 0 for d in deployments]
    if _in_redis(selector):
        return None
    return [max(0, memory.get(f"{key}:{d['model_info']['id']}") or 0) for d in deployments]


def _tokens_of_group(
    selector: Any, group: str, deployments: Sequence[Deployment], _request: Mapping[str, Any]
) -> Sequence[float] | None:
    minute = datetime.now().strftime("%H-%M")  # noqa: DTZ005  # the strategy's own clock
    used = _memory(selector).get(f"{group}:tpm:{minute}") or _NOTHING
    return [used.get(d["model_info"]["id"]) or 0 for d in deployments]


def _tokens_of_deployment(
    selector: Any, _group: str, deployments: Sequence[Deployment], _request: Mapping[str, Any]
) -> Sequence[float] | None:
    memory = _memory(selector)
    minute = datetime.now(UTC).strftime("%H-%M")
    keys = [f"{d['model_info']['id']}:{d['litellm_params'].get('model')}:tpm:{minute}" for d in deployments]
    if _in_redis(selector) and not all(key in memory for key in keys):
        return None
    return [memory.get(key) or 0 for key in keys]


# 1.109 drops what cannot be a time, 1.106 knows percentiles; on 1.95 it is the mean of everything.
_usable: Final[Callable[[Sequence[float]], Sequence[float]]] = getattr(lowest_latency, "_usable_latency_samples", tuple)
_percentile: Final[Callable[[Sequence[float], float], float] | None] = getattr(
    lowest_latency, "_percentile_latency", None
)


def _latency(
    selector: Any, group: str, deployments: Sequence[Deployment], request: Mapping[str, Any]
) -> Sequence[float] | None:
    known = _memory(selector).get(f"{group}_map") or _NOTHING
    streams = request.get("stream") is True
    percentile = getattr(selector.routing_args, "ttft_percentile", None)
    found: list[float] = []
    for deployment in deployments:
        seen = known.get(deployment["model_info"]["id"]) or _NOTHING
        first = (
            _usable(seen.get("time_to_first_token_seconds") or seen.get("time_to_first_token") or ()) if streams else ()
        )
        samples = first or _usable(seen.get("latency_normalized") or seen.get("latency") or ())
        if first and percentile is not None and _percentile is not None:
            found.append(_percentile(first, percentile))
        else:
            found.append(sum(samples) / len(samples) if samples else 0.0)
    return found


# Later than 1.95 a deployment is also priced under its base model, and there first.
_BASE_MODEL_PRICES: Final = hasattr(lowest_cost, "_deployment_cost_map_rates")
_UNKNOWN_PRICE: Final = 5.0
_INPUT: Final = "input_cost_per_token"
_OUTPUT: Final = "output_cost_per_token"


def _cost(
    _selector: Any, _group: str, deployments: Sequence[Deployment], _request: Mapping[str, Any]
) -> Sequence[float] | None:
    return [_price(d) for d in deployments]


def _price(deployment: Deployment) -> float:
    """Input and output USD per token, added up; 5 USD a token stand for a price that litellm does not know."""
    params = deployment["litellm_params"]
    prices = cast("Mapping[object, Mapping[str, Any]]", cast("Any", litellm).model_cost)
    row = prices.get(params.get("model")) or _NOTHING
    if _BASE_MODEL_PRICES:
        base = prices.get(deployment["model_info"].get("base_model") or params.get("base_model")) or _NOTHING
        if base.get(_INPUT) is not None or base.get(_OUTPUT) is not None:
            row = base
    return sum(
        params.get(side) or (_UNKNOWN_PRICE if row.get(side) is None else row[side]) for side in (_INPUT, _OUTPUT)
    )


RANKINGS: Final[Mapping[str, Ranking]] = {
    "least-busy": Ranking("inflight", _inflight, limited=False),
    "usage-based-routing": Ranking("usage", _tokens_of_group),
    "usage-based-routing-v2": Ranking("usage", _tokens_of_deployment),
    "latency-based-routing": Ranking("latency", _latency, cold=True),
    "cost-based-routing": Ranking("cost", _cost),
}
"""The strategies that choose the lowest of something."""

# --- before the strategy ---------------------------------------------------------------------

_ROUTING_DECISION: Final = "routing_decision"

_ROUTED: Final = (
    "router_type",
    "router_model_name",
    "routed_model",
    "cause",
    "tier",
    "tier_label",
    "request_type",
    "score",
    "classifier_model",
    "classifier_cost",
    "classifier_confidence",
    "classifier_failure_reason",
    "escalated",
    "context_escalated",
    "conversation_continuing",
    "savings_baseline_model",
)
"""What is told of a decision, at most 16 and in this order. Keywords and signals stay out: they quote the prompt."""


def routed(request: Mapping[str, Any]) -> Mapping[str, str | int | float | bool]:
    """What an auto, complexity, quality or adaptive router says of the group that it chose; 1.95 says nothing."""
    for name in ("metadata", "litellm_metadata"):
        metadata = _mapping(request.get(name))
        if _ROUTING_DECISION in metadata:
            decision = _mapping(metadata[_ROUTING_DECISION])
            return {key: decision[key] for key in _ROUTED if isinstance(decision.get(key), str | int | float | bool)}
    return _NOTHING


def _mapping(thing: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", thing) if isinstance(thing, Mapping) else _NOTHING
