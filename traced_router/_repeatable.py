"""Which calls may be sent twice: those that change nothing but the bill.

An adapter: it knows the names of litellm's functions and of the providers' parameters.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from traced_router import _litellm as seams

_CALLER_S_OWN: Final = frozenset({"function", "custom"})
"""Types of tools that the caller runs, if anybody does; all others may be run where the model is."""

_DECLARATIONS: Final = frozenset({"functionDeclarations", "function_declarations"})
_STORES: Final = "aresponses"


def is_repeatable(router: object, function: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether the attempt ``function`` may run twice at once, on two deployments, with ``kwargs``."""
    if kwargs.get("specific_deployment") or seams.is_deployment_id(router, kwargs.get("model")):
        return False
    endpoint = seams.endpoint_of(kwargs)
    if (function not in seams.REPEATABLE) if endpoint is None else (endpoint not in seams.REPEATABLE_ENDPOINTS):
        return False
    return not _keeps_something(kwargs, unless_told=endpoint == _STORES) and not _runs_tools(kwargs)


def _keeps_something(kwargs: Mapping[str, Any], *, unless_told: bool) -> bool:
    """Whether the provider keeps what is said: OpenAI's responses are kept ``unless_told`` otherwise."""
    store = kwargs.get("store")
    return bool(unless_told if store is None else store) or bool(
        kwargs.get("background") or kwargs.get("conversation") or kwargs.get("container")
    )


def _runs_tools(kwargs: Mapping[str, Any]) -> bool:
    """Whether the provider may run tools itself, which can do anything."""
    tools = kwargs.get("tools")
    if kwargs.get("mcp_servers"):
        return True
    return isinstance(tools, Iterable) and not all(_is_the_caller_s(tool) for tool in cast("Iterable[object]", tools))


def _is_the_caller_s(tool: object) -> bool:
    if not isinstance(tool, Mapping):
        return False
    named = cast("Mapping[str, object]", tool)
    return named["type"] in _CALLER_S_OWN if "type" in named else "name" in named or {*named} <= _DECLARATIONS
