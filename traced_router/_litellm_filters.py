"""How litellm narrows a group down before its strategy is asked: a part of ``_litellm``.

The same rule holds here: what is private in litellm is named in the modules ``_litellm*`` and
nowhere else; seen on 1.95.1, 1.106.2 and 1.109.1. Most steps are methods of the router, which are
overridden (``_litellm.FILTERS``). What happens between them is worked out here, from the same
facts that litellm looks at, and only once a deployment is missing.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

import litellm
from litellm.types.router import RouterErrors

from traced_router import _litellm as seams

Deployment: TypeAlias = Mapping[str, Any]
Deployments: TypeAlias = Sequence[Deployment]

_NOTHING: Final[Mapping[str, Any]] = {}

# --- the steps that can be overridden --------------------------------------------------------

Reason: TypeAlias = str | Callable[[Deployment], str]
"""Why a deployment was dropped, or what tells it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A step that drops deployments.

    Attributes:
        name: the router's method; its list of deployments is ``healthy_deployments``.
        place: where it stands in the order of the steps, from 1; 0 when that differs.
        reason: why what it drops is dropped.
        why: makes what tells the reason of each, where they differ, of the router and the arguments.
        unseen: why something is gone since the step before; empty when nothing stands between.
    """

    name: str
    place: int
    reason: str
    why: Callable[[object, Mapping[str, Any]], Reason] | None = None
    unseen: Reason = ""


# --- the group -------------------------------------------------------------------------------

_INDEX: Final = "model_name_to_deployment_indices"
_MARKER: Final = "auto_router/"


def group_size(router: object, group: str) -> int:
    """How many deployments of that name the router has; an auto router's own entry may be among them."""
    return len(seams.state(router, _INDEX, _NOTHING).get(group, ()))


def group_members(router: object, group: str | None) -> list[Deployment]:
    """The deployments of that name, without the entries that only stand for an auto router."""
    configured = seams.state(router, "model_list", ())
    members = [configured[i] for i in seams.state(router, _INDEX, _NOTHING).get(group, ())]
    return [d for d in members if not str(d["litellm_params"].get("model")).startswith(_MARKER)]


def unseen_before_health(deployment: Deployment) -> str:
    """Why a deployment is gone before the health check: another team's, or unfit for the call (web search)."""
    info = deployment["model_info"]
    return "team" if info.get("team_id") is not None or info.get("access_groups") else "other"


# --- order, and what was tried ---------------------------------------------------------------


def _utility(name: str) -> Callable[..., Any]:
    """A function of ``litellm.utils`` that had an underscore on 1.95."""
    return cast("Callable[..., Any]", getattr(litellm.utils, name, None) or getattr(litellm.utils, f"_{name}"))


_by_order: Final = _utility("get_order_filtered_deployments")
_by_id: Final = _utility("get_excluded_filtered_deployments")


def of_order(deployments: Deployments, target: object) -> Deployments:
    """Those of the order that is asked for, or of the lowest there is."""
    if target is None:
        for deployment in deployments:
            if "order" in deployment["litellm_params"] or "order" in deployment["model_info"]:
                break
        else:
            return deployments
    return cast("Deployments", _by_order(deployments, target_order=target))


def not_tried(deployments: Deployments, ids: object) -> Deployments:
    """Those whose ids are not among ``ids``."""
    return cast("Deployments", _by_id(deployments, excluded_deployment_ids=ids))


# --- pre-call checks -------------------------------------------------------------------------


def _has_parameter(method: str, name: str) -> bool:
    function = getattr(seams.LOOP, method, None)
    return function is not None and name in inspect.signature(function).parameters


# 1.109 leaves requests per minute to the strategies.
_RPM_IS_CHECKED: Final = not _has_parameter("_pre_call_checks", "request_deployments")


def pre_call_reason(router: object, arguments: Mapping[str, Any]) -> Callable[[Deployment], str]:
    """Tells why ``_pre_call_checks``, called with ``arguments``, dropped a deployment.

    litellm looks at the context window first, then at requests per minute, region and
    parameters. Where it did not hand over how many tokens it counted (synchronous calls, 1.95),
    they are not counted again: a prompt of fewer bytes than the window has tokens fits, any other is
    taken to be why.
    """
    group = str(arguments.get("model"))
    request: Mapping[str, Any] = arguments.get("request_kwargs") or _NOTHING
    tokens: int | None = arguments.get("input_token_count")
    region = request.get("allowed_model_region")

    def reason(deployment: Deployment) -> str:
        window = _window(router, group, deployment)
        if window is not None and tokens is not None and tokens > window:
            return "context_window"
        if _over_rpm(router, group, deployment):
            return "rate_limit"
        if window is None or tokens is not None or (region is not None and region != _region(deployment)):
            return "other"
        return (
            "context_window" if _bytes(arguments.get("messages")) + _bytes(arguments.get("input")) > window else "other"
        )

    return reason


def _window(router: object, group: str, deployment: Deployment) -> int | None:
    info = seams.state(router, "get_router_model_info")(deployment=deployment, received_model_name=group)
    window = info.get("max_input_tokens")
    return window if isinstance(window, int) else None


def _over_rpm(router: object, group: str, deployment: Deployment) -> bool:
    limit = deployment["litellm_params"].get("rpm")
    if not _RPM_IS_CHECKED or not isinstance(limit, int):
        return False
    if seams.routing_strategy(router) == "usage-based-routing-v2":
        return False
    memory = seams.state(router, "cache").in_memory_cache.cache_dict
    model_id = deployment["model_info"]["id"]
    of_group = memory.get(f"{group}:rpm:{datetime.now(UTC).strftime('%H-%M')}") or _NOTHING
    return limit <= max(memory.get(model_id) or 0, of_group.get(model_id) or 0)


def _region(deployment: Deployment) -> object:
    return deployment["litellm_params"].get("region_name")


def _bytes(content: object) -> int:
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode("utf-8", "replace"))
    if isinstance(content, Mapping):
        return sum(map(_bytes, cast("Iterable[object]", content.values())))
    if isinstance(content, list | tuple):
        return sum(map(_bytes, cast("Iterable[object]", content)))
    return 0


# --- the steps, in order ---------------------------------------------------------------------

FILTERS: Final = (
    Filter("_filter_pass_through_deployments", 0, "other"),
    Filter("_filter_health_check_unhealthy_deployments", 1, "unhealthy", unseen=unseen_before_health),
    Filter("_async_filter_health_check_unhealthy_deployments", 1, "unhealthy", unseen=unseen_before_health),
    Filter("_filter_cooldown_deployments", 2, "cooldown"),
    Filter("_filter_blocked_deployments", 3, "blocked"),
    Filter("async_callback_filter_deployments", 4, "other"),
    Filter("_pre_call_checks", 5, "context_window", why=pre_call_reason),
    Filter("_filter_by_routing_plugin_candidates", 6, "plugin", unseen="tag"),
)
"""The synchronous pick skips callbacks, tags and plugins."""


def is_blocked(deployment: Deployment) -> bool:
    """Whether an administrator paused the deployment."""
    return (deployment.get("model_info") or _NOTHING).get("blocked") is True


def says_nobody_is_left(error: Exception) -> bool:
    """Whether ``error`` is litellm's way to say that no deployment is left to choose from."""
    return RouterErrors.no_deployments_available.value in str(error)


def says_tags_refuse(error: Exception) -> bool:
    """Whether ``error`` is tag routing's way to say so."""
    return RouterErrors.no_deployments_with_tag_routing.value in str(error)
