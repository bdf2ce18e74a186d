"""The one place that knows what is private in litellm, or may move, and where it was seen.

litellm moves its router: one class up to 1.108 ("classic"), a facade over a Python core at 1.109
("hosted"), a facade over a Rust core from 1.110 on. When litellm changes, this is the file to
change: it names every member of the router that :mod:`traced_router._router` overrides, says in
which versions it was seen, and probes them when a router is built. A seam that is missing takes
its layer of the trace with it, and is said; it never raises. Seen on 1.95.1, 1.106.2 and 1.109.1
unless a line says otherwise. It must not know OpenTelemetry.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import dataclasses
import inspect
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import FrameType, FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import httpx
import litellm
from litellm.exceptions import ContentPolicyViolationError, ContextWindowExceededError
from litellm.router import Router
from litellm.router_strategy.simple_shuffle import simple_shuffle as _shuffle
from litellm.router_utils import fallback_event_handlers
from litellm.types.router import RoutingStrategy

from traced_router._values import wording

# --- engines ---------------------------------------------------------------------------------

Engine: TypeAlias = Literal["classic", "hosted"]

_CORE_PREFIX: Final = "_core_"


def _engine() -> Engine:
    return "hosted" if hasattr(Router, "_core_class") else "classic"


ENGINE: Final[Engine] = _engine()
"""Which router this litellm has: the hosted one makes a core, and a subclass's methods move onto it."""


def member(name: str) -> str:
    """What ``name`` is called inside the router.

    The hosted core keeps the members that it deprecates under ``_core_<name>``, and calls those;
    reading the old name warns at every request.
    """
    core = _CORE_PREFIX + name
    return core if ENGINE == "hosted" and hasattr(getattr(Router, "_core_class", None), core) else name


LOOP: Final[type] = getattr(Router, "_core_class", Router)
"""The class whose methods run the router's loop."""

SELECT_ASYNC: Final = member("async_get_available_deployment")
SELECT_SYNC: Final = member("get_available_deployment")
SELECT_PASS_THROUGH_ASYNC: Final = member("async_get_available_deployment_for_pass_through")
SELECT_PASS_THROUGH_SYNC: Final = member("get_available_deployment_for_pass_through")
HEALTHY_DEPLOYMENTS: Final = member("async_get_healthy_deployments")
SET_CUSTOM_STRATEGY: Final = member("set_custom_routing_strategy")
GET_MODEL_LIST: Final = member("get_model_list")

PICKS: Final = (SELECT_ASYNC, SELECT_SYNC, SELECT_PASS_THROUGH_ASYNC, SELECT_PASS_THROUGH_SYNC)
"""The router's methods that pick a deployment."""

# --- seams -----------------------------------------------------------------------------------

Layer: TypeAlias = Literal["request", "selection", "attempt", "backoff", "fallback", "stream"]
Level: TypeAlias = Literal["full", "partial", "none"]

LAYERS: Final[tuple[Layer, ...]] = ("request", "selection", "attempt", "backoff", "fallback", "stream")


@dataclass(frozen=True, slots=True)
class Seam:
    """A member of the router that an override hangs on, and the parameters that it reads.

    A seam that is not ``vital`` makes its layer partial when it is gone; a vital one makes it
    vanish. ``since`` is the first version that has it, of those looked at.
    """

    name: str
    layer: Layer
    parameters: tuple[str, ...] = ()
    vital: bool = False
    since: str = "1.95"


SEAMS: Final = (
    Seam("factory_function", "request", ("original_function", "call_type"), vital=True),
    Seam("_update_kwargs_before_fallbacks", "request", ("model", "kwargs")),
    Seam("function_with_fallbacks", "request"),
    Seam(SELECT_ASYNC, "selection", ("model", "request_kwargs"), vital=True),
    Seam(SELECT_SYNC, "selection", ("model", "request_kwargs"), vital=True),
    Seam(SELECT_PASS_THROUGH_ASYNC, "selection", ("model", "request_kwargs")),
    Seam(SELECT_PASS_THROUGH_SYNC, "selection", ("model", "request_kwargs")),
    Seam(SET_CUSTOM_STRATEGY, "selection"),
    Seam("_get_routing_context", "selection", ("model", "request_kwargs")),
    Seam("_common_checks_available_deployment", "selection", ("model",)),
    Seam("_filter_pass_through_deployments", "selection", ("healthy_deployments",)),
    Seam("_filter_cooldown_deployments", "selection", ("healthy_deployments",)),
    Seam("_filter_blocked_deployments", "selection", ("healthy_deployments",)),
    Seam("_async_filter_health_check_unhealthy_deployments", "selection", ("healthy_deployments",)),
    Seam("_filter_health_check_unhealthy_deployments", "selection", ("healthy_deployments",)),
    Seam("async_callback_filter_deployments", "selection", ("healthy_deployments",)),
    Seam("_pre_call_checks", "selection", ("healthy_deployments",)),
    Seam("_filter_by_routing_plugin_candidates", "selection", ("healthy_deployments",)),
    Seam(HEALTHY_DEPLOYMENTS, "selection", ("model", "request_kwargs")),
    Seam("_select_deployment_async", "selection", ("strategy", "selector", "healthy_deployments")),
    Seam("_select_deployment_sync", "selection", ("strategy", "selector", "healthy_deployments")),
    Seam("make_call", "attempt", ("original_function",), vital=True),
    Seam("_update_kwargs_with_deployment", "attempt", ("deployment", "kwargs")),
    Seam("routing_strategy_pre_call_checks", "attempt", ("deployment",), vital=True),
    Seam("async_routing_strategy_pre_call_checks", "attempt", ("deployment",), vital=True),
    Seam("_ageneric_api_call_with_fallbacks_helper", "attempt", ("original_generic_function",)),
    Seam("_should_raise_content_policy_error", "attempt", ("response",)),
    Seam("_prompt_management_factory", "attempt"),
    Seam("_acreate_file", "attempt"),
    Seam("async_function_with_retries", "backoff", vital=True),
    Seam("_time_to_sleep_before_retry", "backoff", ("e",), vital=True),
    Seam("async_function_with_fallbacks", "fallback", vital=True),
    Seam("async_function_with_fallbacks_common_utils", "fallback", ("e", "kwargs"), vital=True),
    Seam("_acompletion_streaming_iterator", "stream", ("model_response",)),
    Seam("_completion_streaming_iterator", "stream", ("model_response", "initial_kwargs")),
    Seam("_aresponses_streaming_iterator", "stream", ("response",)),
    Seam("_aanthropic_messages_streaming_iterator", "stream", ("response",), since="1.106"),
    Seam("_silent_experiment_acompletion", "request"),
    Seam("_silent_experiment_completion", "request"),
)


def probe(core: type) -> Mapping[Layer, Level]:
    """How much of each layer ``core``, the class that runs the router's loop, can show."""
    levels: dict[Layer, Level] = dict.fromkeys(LAYERS, "full")
    for seam in SEAMS:
        if not _holds(core, seam):
            worse: Level = "none" if seam.vital else "partial"
            levels[seam.layer] = "none" if "none" in (worse, levels[seam.layer]) else "partial"
    return levels


def _holds(core: type, seam: Seam) -> bool:
    if seam.since != "1.95" and not hasattr(core, seam.name):
        return True  # older litellm than the seam: there is nothing to be seen there
    function = inspect.getattr_static(core, seam.name, None)
    if function is None:
        return False
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return True
    return all(name in known for name in seam.parameters)


FOREIGN: Final[Mapping[Layer, Level]] = {
    "request": "full",
    "selection": "none",
    "attempt": "full",
    "backoff": "full",
    "fallback": "none",
    "stream": "partial",
}
"""What is left on a core whose loop ignores Python overrides: its host's ``invoke`` and ``sleep``."""

# --- entry points ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A public method of the router: where its group stands among positional arguments, and its name.

    ``says`` is the argument after that, with the call's words, where none of the router's steps is given it.
    """

    name: str
    operation: str
    model_at: int = 0
    model: str = "model"
    says: str | None = None


ENTRIES: Final = (
    Entry("completion", "chat"),
    Entry("acompletion", "chat"),
    Entry("schedule_acompletion", "chat"),
    Entry("text_completion", "text_completion", says="prompt"),
    Entry("atext_completion", "text_completion"),
    Entry("aadapter_completion", "adapter_completion", 1),
    Entry("embedding", "embeddings"),
    Entry("aembedding", "embeddings"),
    Entry("image_generation", "image_generation", 1),
    Entry("aimage_generation", "image_generation", 1),
    Entry("atranscription", "transcription", 1),
    Entry("aspeech", "speech"),
    Entry("arerank", "rerank"),
    Entry("acreate_file", "create_file"),
    Entry("acreate_batch", "create_batch"),
    Entry("aretrieve_batch", "retrieve_batch"),
    Entry("acancel_batch", "cancel_batch"),
    Entry("alist_batches", "list_batches"),
    Entry("avector_store_create", "vector_store_create"),
    Entry("aguardrail", "guardrail", model="guardrail_name"),
)

BATCHES: Final = (
    "abatch_completion",
    "abatch_completion_one_model_multiple_requests",
    "abatch_completion_fastest_response",
)

# litellm's call names whose operation is not simply the name without its leading ``a``.
_OPERATIONS: Final[Mapping[str, str]] = {
    "aresponses": "chat",
    "responses": "chat",
    "anthropic_messages": "chat",
    "avector_store_search": "retrieval",
    "vector_store_search": "retrieval",
    "_arealtime": "realtime",
    "_aresponses_websocket": "responses_websocket",
    "a_add_message": "add_message",
    "aadapter_generate_content": "generate_content",
    "agenerate_content_stream": "generate_content",
    "generate_content_stream": "generate_content",
}


def operation_of(call_name: str) -> str:
    """``gen_ai.operation.name`` of a call that ``factory_function`` makes.

    The conventions' name where they have one, else litellm's call name without its leading ``a``.
    """
    known = _OPERATIONS.get(call_name)
    if known is not None:
        return known
    return call_name[1:] if call_name[:1] == "a" else call_name


ASSISTANTS: Final = "assistants"
"""``call_type`` of the eight endpoints that are told apart by their function's name alone."""

PLAIN_FALLBACK: Final = "model_group"

START_AT_UPDATE: Final = frozenset({"_arerank"})
"""Attempt functions without pre-call checks: litellm is called right after the deployment's parameters are in."""

START_AT_SELECTION: Final = frozenset({"text_completion"})
"""Attempt functions that do not even do that (sync text completion)."""

NO_CHECKS_BY_ID: Final = frozenset({"_completion"})
"""Attempt functions that skip the pre-call checks when the model is a deployment's id."""

SIDE_BY_SIDE: Final[Mapping[str, str]] = {
    "_acreate_file": "acreate_file",
    "aretrieve_batch": "aretrieve_batch",
    "alist_batches": "alist_batches",
}
"""Attempt functions that call a provider function for several deployments at once, and by which name they call it.

Two of the three keep what a provider raised to themselves.
"""


def seeing(method: Callable[..., Any], provider: str, observed: Callable[[Any], Any]) -> Callable[..., Any]:
    """``method`` of the router, which finds an ``observed`` function where it looks for ``litellm.<provider>``.

    The method is litellm's own code, with its module's names as they are at this moment. A hosted
    core asks its host for provider functions, and is left as it is.
    """
    function = getattr(method, "__func__", None)
    if ENGINE == "hosted" or not isinstance(function, FunctionType) or "litellm" not in function.__globals__:
        return method
    names = {**function.__globals__, "litellm": _Seen(function.__globals__["litellm"], provider, observed)}
    seen = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    seen.__kwdefaults__ = function.__kwdefaults__
    return MethodType(seen, cast("Any", method).__self__)


class _Seen:
    """``litellm``, but for one function."""

    __slots__ = ("_litellm", "_observed", "_provider")

    def __init__(self, module: object, provider: str, observed: Callable[[Any], Any]) -> None:
        self._litellm = module
        self._provider = provider
        self._observed = observed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._litellm, name)
        return self._observed(found) if name == self._provider else found


STREAM_HOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "FallbackStreamWrapper": ("_async_generator", "completion_stream"),
    "SyncFallbackStreamWrapper": ("_sync_generator", "completion_stream"),
    "FallbackResponsesStreamWrapper": ("_async_generator",),
    "FallbackAwareAnthropicMessagesStream": ("_async_generator",),
    "HiddenParamsAsyncIteratorWrapper": ("inner", "_inner"),  # ``_inner`` alone up to 1.95
}
"""Stream objects, by class, that hand on what they pull from, and the attributes that hold that.

They are made anew for each call, some with their class, and are read by the router's callers only.
Pulling from something else keeps such an object what it was. 1.95 has no wrapper for Anthropic.
"""


def held_by(stream: object) -> tuple[str, ...]:
    """The attributes in which ``stream`` holds what it pulls from; none when it makes its chunks itself."""
    names = STREAM_HOLDERS.get(type(stream).__name__, ())
    return tuple(name for name in names if stream.__dict__.get(name) is not None)


CONVERTED: Final = "completion_stream"
"""Where a :func:`converter_in` holds the chat stream that it converts."""


def converter_in(stream: object) -> Any:
    """What turns a chat stream into text chunks one by one, and loses their usage; ``None`` when nothing does."""
    for found in (stream, *(getattr(stream, name) for name in held_by(stream))):
        if type(found).__name__ == "TextCompletionStreamWrapper":
            return found
    return None


FIRST_CHUNK: Final = "first_chunk"
"""The chunk that litellm has read before it wraps a chat stream, and the rest of that stream (1.109)."""


def first_chunk(taken: Any) -> tuple[object, object]:
    """The chunk, ``None`` when the stream ended without one, and what the rest is read from."""
    return taken.chunk, taken.rest


def with_rest(taken: Any, rest: object) -> Any:
    """The same chunk, and another rest."""
    return dataclasses.replace(taken, rest=rest)


GENERIC_ATTEMPT: Final = "_ageneric_api_call_with_fallbacks_helper"
PROMPT_MANAGEMENT: Final = "_prompt_management_factory"
MIRROR_SYNC: Final = "_silent_experiment_completion"

FALLBACK_DEPTH: Final = "fallback_depth"
DISABLE_FALLBACKS: Final = "disable_fallbacks"
TARGET_ORDER: Final = "_target_order"
EXCLUDED_IDS: Final = "_excluded_deployment_ids"
RETRY_SKIPPED_IDS: Final = "_retry_skipped_deployment_ids"
TRACE_ID: Final = "litellm_trace_id"
SESSION_ID: Final = "litellm_session_id"


def batch_members(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[str], int | None]:
    """The groups that a batch method goes to, and how many requests it makes of them.

    Models that can be read only once are litellm's to read.
    """
    models = kwargs.get("models", kwargs.get("model", args[0] if args else None))
    messages = kwargs.get("messages", args[1] if len(args) > 1 else None)
    if isinstance(models, str):
        groups = [m.strip() for m in models.split(",")]
    elif isinstance(models, Collection):
        groups = [str(m) for m in cast("Collection[object]", models)]
    else:
        return [], None
    several = isinstance(messages, list) and all(isinstance(m, list) for m in cast("list[object]", messages))
    return groups, len(groups) * (len(cast("list[object]", messages)) if several else 1)


def obeys_retry_after(error: object) -> bool:
    """Whether litellm waits as long as a provider asked: for whole seconds, and for up to a minute.

    The headers are those that ``_time_to_sleep_before_retry`` reads, the rule ``calculate_retry_after``'s.
    """
    headers = getattr(error, "litellm_response_headers", getattr(getattr(error, "response", None), "headers", None))
    read = getattr(litellm.utils, "_get_retry_after_from_exception_header", None)
    seconds = None if headers is None or read is None else read(headers)
    return isinstance(seconds, int) and 0 < seconds <= 60  # noqa: PLR2004  # litellm's own limit


# --- cores -----------------------------------------------------------------------------------


def attach_core(router: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], host: Any) -> None:
    """Build the core of a hosted router on ``host``: what ``Router.__init__`` does with litellm's own."""
    from litellm import router as facade

    hosted = cast("Any", facade)
    config = hosted.build_router_config(hosted.router_arguments(*args, **kwargs))
    router._attach(hosted.make_core(config, host, type(router)._core_class))  # noqa: SLF001  # that is what this module is for


def core_of(router: Any) -> Any:
    """What runs the router's loop: the hosted router's core, or the router itself."""
    return router.__dict__.get("_core", router)


INITIALIZE_ENDPOINTS: Final = "initialize_router_endpoints"
"""Makes the endpoints of a router anew."""


def take_host(core: Any, host: Any) -> None:
    """Put ``host`` where ``core`` has litellm's own, which keeps nothing."""
    if type(core._host) is host_base():  # noqa: SLF001  # that is what this module is for
        core._host = host  # noqa: SLF001  # that is what this module is for


def core_class_of(facade: type) -> Any:
    """The class that litellm made of the methods of ``facade``, a hosted router's."""
    return cast("Any", facade)._core_class  # noqa: SLF001  # that is what this module is for


def runs_overrides(core: object, facade: type) -> bool:
    """Whether ``core`` is of the class that carries the overrides of ``facade``."""
    return isinstance(core, core_class_of(facade))


def host_base() -> type:
    """The class of hosts that a hosted router's core reaches litellm through."""
    if ENGINE == "classic":
        return object
    from litellm.router_python_host import PythonHost  # type: ignore[import-not-found]  # from 1.109

    return cast("type", PythonHost)


NO_PROVIDER: Final = frozenset(
    {
        "calculate_retry_after",
        "get_llm_provider",
        "get_model_info",
        "get_supported_openai_params",
        "register_model",
        "should_retry",
        "token_counter",
    }
)
"""What a host is asked to invoke that calls no provider."""

ENDPOINTS: Final = (
    "aanthropic_messages",
    "agenerate_content",
    "agenerate_content_stream",
    "aimage_edit",
    "amoderation",
    "anthropic_messages",
    "aocr",
    "aresponses",
    "asearch",
    "generate_content",
    "ocr",
    "responses",
    "search",
)
"""The endpoints, made by ``factory_function`` elsewhere, that are traced at the edge of a foreign core."""


def deployment_of_call(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The deployment, as far as a provider call's own parameters tell it."""
    return {"litellm_params": kwargs, "model_info": kwargs.get("model_info") or {}}


def group_of_call(kwargs: Mapping[str, Any]) -> str | None:
    """The group that a provider call is made for."""
    for name in ("metadata", "litellm_metadata"):
        metadata = kwargs.get(name)
        if isinstance(metadata, Mapping) and metadata.get("model_group") is not None:
            return str(metadata["model_group"])
    return None


# --- trace context ---------------------------------------------------------------------------

_METADATA: Final = ("metadata", "litellm_metadata")
_PARENT_SPAN: Final = "litellm_parent_otel_span"
"""A key of a call's metadata; the proxy and litellm's own callbacks use it. A deep copy has text there."""

_INJECT: Final = "inject_trace_context"
"""A flag of a deployment's ``model_info``: what litellm does not know in ``litellm_params``, it sends."""

_ORIGINAL_ID: Final = "original_model_id"
"""Says in a deployment's ``model_info`` that it is a copy of this one: litellm makes one for a caller's key or host."""


def headers_name(kwargs: Mapping[str, object]) -> str:
    """The parameter in which a call's headers are sent: a rerank's has a name of its own."""
    return "headers" if "documents" in kwargs and "query" in kwargs else "extra_headers"


def metadata_of(kwargs: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """A call's metadata, under either of litellm's names."""
    for name in _METADATA:
        found = kwargs.get(name)
        if isinstance(found, Mapping):
            yield cast("Mapping[str, object]", found)


def parent_span(kwargs: Mapping[str, object]) -> object:
    """The span that a caller gave as the parent of a call, if any."""
    return next((m[_PARENT_SPAN] for m in metadata_of(kwargs) if m.get(_PARENT_SPAN) is not None), None)


def received_headers(kwargs: Mapping[str, object]) -> Mapping[object, str]:
    """The headers of the HTTP request that a call comes from, in the proxy."""
    request = kwargs.get("proxy_server_request")
    headers = cast("Mapping[str, object]", request).get("headers") if isinstance(request, Mapping) else None
    return cast("Mapping[object, str]", headers) if isinstance(headers, Mapping) else {}


def headers_for(deployment: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The extra headers of a call, when its deployment wants to be told of the trace; else ``None``.

    A caller's headers replace those of the deployment. A caller who names a host sends the call elsewhere.
    """
    info: Mapping[str, Any] = deployment.get("model_info") or {}
    if info.get(_INJECT) is not True or info.get(_ORIGINAL_ID) is not None:
        return None
    params = deployment["litellm_params"]
    for name in ("api_base", "base_url"):
        if kwargs.get(name) not in (None, params.get(name)):
            return None
    name = headers_name(kwargs)
    given = (kwargs if name in kwargs else params).get(name)
    if name == "headers":
        given = given or _untyped.headers  # which are for calls that have none
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}


# --- content ---------------------------------------------------------------------------------

NO_LOG: Final = "no-log"
"""A call's own word that nothing may log it."""


def keeps_messages_back(kwargs: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """Whether litellm is told not to log what this call says: globally, by its deployment, metadata, headers or itself.

    Where litellm cannot tell, nothing is shown.
    """
    try:
        from litellm.litellm_core_utils.initialize_dynamic_callback_params import (
            initialize_standard_callback_dynamic_params,
        )
        from litellm.litellm_core_utils.redact_messages import should_redact_message_logging

        given = {**(deployment.get("litellm_params") or {}), **kwargs}
        if given.get(NO_LOG) is True and _untyped.global_disable_no_log_param is not True:
            return True
        said = initialize_standard_callback_dynamic_params(given)
        return bool(should_redact_message_logging({"litellm_params": given, "standard_callback_dynamic_params": said}))
    except Exception:  # noqa: BLE001  # a call must not fail for it, nor be shown against its will
        return True


# --- callbacks -------------------------------------------------------------------------------


def in_callback_thread() -> bool:
    """Whether this is a thread in which litellm runs synchronous callbacks: they start before their call returns."""
    pool = getattr(litellm.utils, "executor", None)
    return threading.current_thread() in getattr(pool, "_threads", ())


# --- the router's own state ------------------------------------------------------------------

_MISSING: Final = object()


def state(router: object, name: str, default: object = None) -> Any:
    """An attribute of the router, read where the engine keeps it, so that no old name warns."""
    if ENGINE == "hosted":
        found = getattr(router, _CORE_PREFIX + name, _MISSING)
        if found is not _MISSING:
            return found
    return getattr(router, name, default)


def model_group_of(router: object, model: object) -> str | None:
    """The group that a caller's ``model`` stands for: a deployment's id becomes its group's name."""
    if not isinstance(model, str) or not model:
        return wording(model)
    if not is_deployment_id(router, model):
        return model
    index = state(router, "model_id_to_deployment_index_map")[model]
    return str(state(router, "model_list")[index].get("model_name") or model)


def is_deployment_id(router: object, model: object) -> bool:
    """Whether ``model`` names a deployment rather than a group."""
    return (
        isinstance(model, str)
        and model in (state(router, "model_id_to_deployment_index_map") or ())
        and not (GROUPS_FIRST and model in (state(router, "model_names") or ()))
    )


def _groups_first() -> bool:
    code = getattr(getattr(LOOP, "_completion", None), "__code__", None)
    return any(name.endswith("model_names") for name in getattr(code, "co_names", ()))


GROUPS_FIRST: Final = _groups_first()
"""Whether a name that is a group's and a deployment's id at once stands for the group; up to 1.95 it is the id."""


def is_configured_group(router: object, name: str) -> bool:
    """Whether the router's configuration has a group, or an alias of one, of this name."""
    if name in (state(router, "model_names") or ()):
        return True
    groups = state(router, "routing_groups")
    if groups is None:  # up to 1.95
        groups = state(router, "_routing_groups")
    aliases, teams = state(router, "model_group_alias"), state(router, "team_public_model_names")
    return any(name in (names or ()) for names in (aliases, teams, groups))


def group_behind(router: object, name: str) -> str:
    """The group that ``name`` is an alias of; ``name`` itself where it is none."""
    aliases = state(router, "model_group_alias")
    found = aliases.get(name, name) if isinstance(aliases, dict) else name
    return str(found.get("model", name) if isinstance(found, dict) else found)


def configured_deployment(router: object, deployment_id: str) -> Mapping[str, Any] | None:
    """The deployment of this id that the configuration has."""
    copies: set[str] = set()
    wanted: Any = deployment_id
    # 1.95 adds a deployment for each key that a caller brings along, and copies such a copy when it picks one:
    # with the same key once more, that is a copy of itself, and nobody knows the original.
    while wanted not in copies:
        found = _deployment(router, wanted)
        if found is None:
            return None
        copies.add(wanted)
        wanted = found["model_info"].get(_ORIGINAL_ID)
        if wanted is None:
            return found
    return None


def _deployment(router: object, deployment_id: str) -> Mapping[str, Any] | None:
    deployments: Any = state(router, "model_list") or ()
    indices = state(router, "model_id_to_deployment_index_map")
    if indices is None:  # a core that is no Python
        return next((d for d in deployments if d["model_info"]["id"] == deployment_id), None)
    return deployments[indices[deployment_id]] if deployment_id in indices else None


def group_of_provider_model(router: object, model: object) -> str | None:
    """The group of the deployment that ``specific_deployment=True`` asks for by its provider's model."""
    for deployment in state(router, "model_list") or ():
        if deployment.get("litellm_params", {}).get("model") == model:
            return str(deployment.get("model_name"))
    return None


def routing_strategy(router: object) -> str | None:
    """The router's own strategy, as a name."""
    strategy = state(router, "routing_strategy")
    return None if strategy is None else str(getattr(strategy, "value", strategy))


def name_of_custom(strategy: object) -> str:
    """The name of a strategy that replaces the router's picks: litellm's own for its own, else its class's."""
    kind = strategy if isinstance(strategy, type) else type(strategy)
    return "lar1" if kind.__module__ == "litellm.router_strategy.lar1_routing" else kind.__name__


def fallback_groups(model_group: str | None, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups whose chains litellm looks for when ``model_group`` has failed.

    A hop that fails goes on with the chain of the group that it came from, from 1.106 on.
    """
    lookup = getattr(fallback_event_handlers, "fallback_lookup_groups", None)
    if lookup is not None:
        return cast("tuple[str, ...]", lookup(kwargs, model_group))
    return () if model_group is None else (model_group,)


def specific_fallback(fallbacks: object, groups: tuple[str, ...]) -> bool:
    """Whether ``fallbacks`` has a chain for one of ``groups`` itself, not only the ``*`` that fits all."""
    if not isinstance(fallbacks, list):
        return False
    own = [f for f in fallbacks if not (isinstance(f, dict) and "*" in f)]
    lookup = fallback_event_handlers.get_fallback_model_group
    return any(lookup(fallbacks=own, model_group=group)[0] is not None for group in groups)


STRATEGIES: Final = frozenset({*(s.value for s in RoutingStrategy), "simple-shuffle", "lar1"})
"""The routing strategies that litellm has of its own."""


def otel_v1_writes_on_current_span() -> bool:
    """Whether litellm's first OpenTelemetry callback is on, and would write on whatever span is current."""
    if _true("USE_OTEL_LITELLM_REQUEST_SPAN") or _true("LITELLM_OTEL_V2"):
        return False
    callbacks = [*litellm.callbacks, *litellm.success_callback, *litellm.failure_callback]
    return any(c == "otel" or type(c).__module__ == "litellm.integrations.opentelemetry" for c in callbacks)


def _true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in {"1", "true"}


def is_inline_fallbacks(fallbacks: object) -> bool:
    """Whether a caller gave targets themselves (``["b"]`` or ``[{"model": "b", …}]``) rather than chains."""
    if not isinstance(fallbacks, list):
        return False
    return any(isinstance(f, str) or (isinstance(f, dict) and "model" in f) for f in cast("list[object]", fallbacks))


def is_context_window(error: object) -> bool:
    """Whether litellm sends ``error`` to the context-window fallbacks."""
    return isinstance(error, ContextWindowExceededError)


def is_content_policy(error: object) -> bool:
    """Whether litellm sends ``error`` to the content-policy fallbacks."""
    return isinstance(error, ContentPolicyViolationError)


def is_mid_stream(error: object) -> bool:
    """Whether ``error`` says that a stream died on its way."""
    return type(error).__name__ == "MidStreamFallbackError"


ADD_COOLDOWN: Final = "add_deployment_to_cooldown"
"""The method of the router's cooldown cache that puts a deployment into cooldown."""


def cooldown_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[object, object, object]:
    """Deployment id, seconds and error of a call of that method."""
    named: dict[str, Any] = dict(
        zip(("model_id", "original_exception", "exception_status", "cooldown_time"), args, strict=False)
    )
    named.update(kwargs)
    return named.get("model_id"), named.get("cooldown_time"), named.get("original_exception")


# --- time given back -------------------------------------------------------------------------

MODEL_INFO_REPEATS: Final = ENGINE == "classic" and hasattr(Router, "_increment_deployment_usage")
"""Whether the router works the same model info out again and again, each time as a new dict.

1.106 does, twice a call, in ``_increment_deployment_usage``; it answers with nothing when a deployment
has no limits, and when there is nothing to count. 1.95 hands out the dict that litellm caches, and
1.109 does not ask.
"""

# --- strategies of ours ----------------------------------------------------------------------

OURS: Final = "traced-router"
"""What the router is told its strategy is called where one of ours picks; none of litellm's own."""

SHUFFLE: Final = "simple-shuffle"
"""What the router is configured with where one of ours picks: its asynchronous picks work with it."""

ROUTING_STRATEGY: Final = "routing_strategy"
"""An argument of the constructor, of ``update_settings`` and of a call; a field of a routing group."""

ROUTING_GROUPS: Final = "routing_groups"
"""An argument of the constructor and of ``update_settings``: mappings, or litellm's ``RoutingGroup``."""

UPDATE_SETTINGS: Final = member("update_settings")
DISCARD: Final = member("discard")

PRIORITY: Final = "priority"
"""What a routing group alone can have for a strategy, from 1.106 on: its models in order."""


def can_override(strategy: object) -> bool:
    """Whether litellm itself obeys ``strategy`` in a call's arguments."""
    name = getattr(strategy, "value", strategy)
    return isinstance(name, str) and name in getattr(LOOP, "_OVERRIDABLE_ROUTING_STRATEGIES", STRATEGIES)


def constructor_parameters() -> list[str]:
    """The names of the router's constructor arguments, in order."""
    return [name for name in inspect.signature(Router.__init__).parameters if name != "self"]


def group_as_mapping(group: object) -> Mapping[str, Any]:
    """A routing group as the mapping that it can be made of again."""
    dump = getattr(group, "model_dump", None)
    return cast("Mapping[str, Any]", dump(exclude_none=True) if callable(dump) else group)


def simple_shuffle(
    router: Any, deployments: Sequence[Mapping[str, Any]], model: str, request: Mapping[str, Any]
) -> Any:
    """litellm's own pick by weight."""
    given = {
        "llm_router_instance": router,  # up to 1.95
        "resolve_model_alias": getattr(router, "get_model_from_alias", None),
        "healthy_deployments": list(deployments),
        "model": model,
        "request_kwargs": request,
    }
    return _untyped_shuffle(**{name: value for name, value in given.items() if name in _SHUFFLE_TAKES})


_untyped_shuffle: Final = cast("Any", _shuffle)
_SHUFFLE_TAKES: Final = frozenset(inspect.signature(_shuffle).parameters)


def prices(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of a deployment's prices: its own, else those of litellm's map."""
    params: Mapping[str, Any] = deployment.get("litellm_params") or {}
    info: Mapping[str, Any] = deployment.get("model_info") or {}
    for own in (params, info):
        if own.get("input_cost_per_token") is not None:
            return own
    costs = cast("Mapping[str, Mapping[str, Any]]", litellm.model_cost)
    model = str(params.get("model", ""))
    return costs.get(model) or costs.get(model.partition("/")[2]) or {}


def session_of(kwargs: Mapping[str, Any]) -> str | None:
    """The session that a call belongs to, when it says one."""
    found = kwargs.get(SESSION_ID)
    for name in ("metadata", "litellm_metadata"):
        metadata = kwargs.get(name)
        if found is None and isinstance(metadata, Mapping):
            found = cast("Mapping[str, Any]", metadata).get("session_id")
    return None if found is None else str(found)


def routing_group_of(router: Any, model: str) -> str | None:
    """The name of the routing group that decides for ``model``: the group itself, or the one that it is in."""
    resolve: Any = state(router, "get_model_from_alias")  # 1.95 looks for the name as it is given
    model = (None if resolve is None else resolve(model=model)) or model
    groups = state(router, "routing_groups") or state(router, "_routing_groups") or {}  # the latter up to 1.95
    if model in groups and model not in (state(router, "model_names") or ()):
        return model
    return cast("str | None", (state(router, "_model_to_group") or {}).get(model))


# --- objects ---------------------------------------------------------------------------------
# What is private in litellm's answers, streams and exceptions. Nothing here raises on odd objects.

_NOTHING: Final[Mapping[str, object]] = {}
_untyped: Final = cast("Any", litellm)
"""litellm where its own types are unknown to a strict checker."""


def fields(thing: object) -> Mapping[str, object]:
    """The fields of an answer or a part of one, without pydantic's slow look-up of a missing name."""
    try:
        if isinstance(thing, dict):
            return cast("dict[str, object]", thing)
        own = thing.__dict__
        extra = getattr(thing, "__pydantic_extra__", None)
        found = {**own, **extra} if extra else own
    except Exception:  # noqa: BLE001  # no dict, or an object that hides what it has
        return _NOTHING
    return found


def hidden_params(thing: object) -> Mapping[str, object]:
    """``_hidden_params`` of an answer, a chunk or a stream: private in pydantic, a field, or an entry of a dict."""
    try:
        private = cast("object", getattr(thing, "__pydantic_private__", None))
    except Exception:  # noqa: BLE001  # an object that hides what it has
        return _NOTHING
    hidden = fields(cast("object", private) if isinstance(private, dict) else thing).get("_hidden_params")
    return _NOTHING if hidden is None else fields(hidden)


def headers_of(answer: object) -> object:
    """The provider's response headers, as litellm keeps them with an answer or a stream."""
    return hidden_params(answer).get("additional_headers")


def guess_provider(model: str, api_base: str | None) -> tuple[str, str | None]:
    """The model without its prefix, and litellm's name of its provider, if it knows one.

    litellm prints a list of providers when it does not, unless it is told to be quiet.
    """
    quiet = litellm.suppress_debug_info
    litellm.suppress_debug_info = True
    try:
        name, provider, *_ = litellm.get_llm_provider(model=model, api_base=api_base)
    except Exception:  # noqa: BLE001  # it raises BadRequestError, and more on odd names
        return model, None
    finally:
        litellm.suppress_debug_info = quiet
    return name, provider


def mid_stream_original(error: BaseException) -> BaseException | None:
    """What a stream died of, when ``error`` is the wrapper that tells litellm's router to fall back."""
    if not any(kind.__name__ == "MidStreamFallbackError" for kind in type(error).__mro__):
        return None
    original = getattr(error, "original_exception", None)
    return original if isinstance(original, BaseException) else None


def provider_headers(error: BaseException) -> object:
    """The provider's response headers that ``exception_type`` has put on the exception that it raises."""
    return getattr(error, "litellm_response_headers", None)


def mapped_from(error: BaseException) -> BaseException | None:
    """The provider's exception that litellm made ``error`` from, as the frame of its mapping still holds it."""
    for frame in _frames(error):
        if frame.f_code.co_name == "exception_type":
            original = frame.f_locals.get("original_exception")
            if isinstance(original, BaseException) and original is not error:
                return original
    return None


def responses_seen(error: BaseException) -> list[object]:
    """HTTP responses that the frames below litellm's router held when ``error`` was raised, innermost first."""
    seen: list[object] = []
    for frame in _frames(error):
        for value in list(frame.f_locals.values()):
            package = str(type(value).__module__).partition(".")[0]
            if package in ("httpx", "httpx2", "requests"):
                seen.append(value)
            elif package == "openai":  # LegacyAPIResponse, APIResponse, AsyncAPIResponse
                seen.append(getattr(value, "http_response", None))
    return seen[::-1]


def was_parsed(error: BaseException) -> bool:
    """Whether a frame held a body that the OpenAI SDK had parsed, which it does of a 2xx only; the response is gone."""
    return any(
        str(type(value).__module__).startswith("openai.types.")
        for frame in _frames(error)
        for value in list(frame.f_locals.values())
    )


def is_former_attempt(error: BaseException) -> bool:
    """Whether the router has caught ``error``: then an earlier attempt died of it, and this one came after.

    Python sets ``__context__`` to what is being handled, and litellm retries and falls back inside
    its ``except`` blocks. A traceback grows towards the frame that catches, so that one is first.
    """
    caught = error.__traceback__
    return caught is not None and _module(caught.tb_frame).startswith(_ROUTERS)


_ROUTERS: Final = ("litellm.router", "traced_router.")


def _frames(error: BaseException) -> Iterator[FrameType]:
    """The frames of a traceback that belong to a client: litellm's below the router, an SDK's, httpx's."""
    step = error.__traceback__
    while step is not None:
        module = _module(step.tb_frame)
        if module.startswith(("litellm.", "openai.", "httpx")) and not module.startswith(_ROUTERS):
            yield step.tb_frame
        step = step.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


# ... of streams


def stream_layers(stream: object) -> list[object]:
    """A stream and what it wraps, outermost first: litellm wraps a provider's stream up to four times."""
    layers: list[object] = []
    while stream is not None and len(layers) < _MAX_LAYERS:
        layers.append(stream)
        own = fields(stream)
        stream = next((inner for name in _INNER if (inner := own.get(name)) is not None), None)
    return layers


_MAX_LAYERS: Final = 6
_INNER: Final = ("inner", "_inner", "_source_iterator", "completion_stream")
"""Of text completions (1.106 on, and 1.95), of anthropic's messages (1.106 on), and of most."""


def provider_chunks(layers: Iterable[object]) -> list[object] | None:
    """The chunks that litellm keeps of a chat stream, with the usage that it strips from those that it hands out.

    ``CustomStreamWrapper.chunks`` has what the provider sent, and not litellm's own estimate of the
    tokens, which it adds to the last chunk's ``_hidden_params`` (1.95, 1.109; zeros on 1.106).
    """
    for layer in layers:
        chunks = fields(layer).get("chunks")
        if isinstance(chunks, list):
            return cast("list[object]", chunks)
    return None


def completed_response(layers: Iterable[object]) -> object:
    """The response of a responses stream that has been read to its end."""
    for layer in layers:
        event = fields(layer).get("completed_response")
        if event is not None:
            return fields(event).get("response")
    return None


# ... of the cache


def from_cache(hidden: Mapping[str, object]) -> bool:
    """Whether litellm's cache answered; a text completion's answer has nothing but the key of it (1.95)."""
    return hidden.get("cache_hit") is True or bool(hidden.get("cache_key"))


# ... of prices


def is_free(hidden: Mapping[str, object], *names: object) -> bool:
    """Whether litellm knows the price of a call, and it is nothing.

    litellm's cost of a model that it has no price of is 0.0 too (seen on 1.95.1 to 1.109.1): a router
    registers each deployment in ``litellm.model_cost`` under its id, with a price only if it has one.
    """
    name = hidden.get("litellm_model_name")
    for key in (hidden.get("model_id"), name, *names):
        if not isinstance(key, str):
            continue
        for spelling in (key, key.partition("/")[2]):
            known = _known_price(fields(_untyped.model_cost.get(spelling)))
            if known is not None:
                return known == 0
    return False


def _known_price(entry: Mapping[str, object]) -> float | None:
    prices = [v for k in _PRICES if isinstance(v := entry.get(k), int | float)]
    return max(prices) if prices else None


_PRICES: Final = (
    "input_cost_per_token",
    "output_cost_per_token",
    "input_cost_per_second",
    "output_cost_per_second",
    "input_cost_per_character",
    "output_cost_per_character",
    "input_cost_per_query",
    "input_cost_per_image",
    "output_cost_per_image",
    "ocr_cost_per_page",
)


def as_response(usage: object, model: str | None, model_id: object) -> object:
    """A chat completion with this usage, for litellm to compute the cost of."""
    response = _untyped.ModelResponse(model=model, usage=usage)
    response._hidden_params = {"model_id": model_id}  # noqa: SLF001  # that is what this module is for
    return cast("object", response)


def cost_of_stream(layers: Iterable[object], response: object) -> object:
    """What litellm computes for a stream that amounts to ``response``, custom prices included.

    litellm does so at the end of its success handler, which runs later, in a task. Its calculator
    also knows base models, tiers and regions. Where no stream leads to it (anthropic's messages),
    the price is looked up by name.
    """
    for layer in layers:
        own = fields(layer)
        logging = own.get("logging_obj") or own.get("litellm_logging_obj")
        if logging is not None:
            known = cast("Any", logging)  # its method is public from 1.106 on
            calculate = getattr(known, "response_cost_calculator", None) or known._response_cost_calculator  # noqa: SLF001  # that is what this module is for
            return cast("object", calculate(result=response))
    return cost_by_name(response)


def cost_by_name(response: object) -> object:
    """The cost of a response by its model's name and its deployment's custom price; ``None`` when litellm has none."""
    owner = hidden_params(response).get("model_id")
    entry = fields(_untyped.model_cost.get(owner)) if isinstance(owner, str) else _NOTHING
    if not entry:
        return None  # whose deployment it is, and at which price, is not known
    try:
        return cast(
            "object",
            _untyped.completion_cost(
                completion_response=response,
                model=fields(response).get("model"),
                custom_pricing=_known_price(entry) is not None,
                router_model_id=owner,
                base_model=entry.get("base_model"),
            ),
        )
    except Exception:  # noqa: BLE001  # it raises for a model that it has no price of
        return None


def anthropic_usage(usage: Mapping[str, object]) -> object:
    """anthropic's own usage as litellm's, cache writes and reads included."""
    count = _untyped.AnthropicConfig().calculate_usage
    return cast("object", count(usage_object=dict(usage), reasoning_content=None))


def plain_usage(
    input_tokens: int | None, output_tokens: int | None, cached: int | None, reasoning: int | None
) -> object:
    """Token counts as litellm's usage."""
    counts = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": (input_tokens or 0) + (output_tokens or 0),
        "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
        "reasoning_tokens": reasoning,
    }
    return cast("object", _untyped.Usage(**counts))


# --- shared state ----------------------------------------------------------------------------


def redis_of(router: object) -> Any | None:
    """litellm's Redis cache of a router, when it has one; the proxy gives it one after it has built the router."""
    return getattr(state(router, "cache"), "redis_cache", None)


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """A client of redis-py's, and how the cache that it was made for uses it."""

    client: Any
    cluster: bool
    namespace: str | None


def open_redis(cache: Any) -> RedisAccess:
    """A client of our own for the running event loop, set up as litellm sets up the cache's.

    Not ``cache.init_async_client()``: it keeps clients by the id of their loop, which the next loop can
    have too, for ten minutes, which leaves the connections of the former one open; from a cluster's
    it always answers with the first loop's (1.95.1); and it may decode answers, which ours are not text.
    """
    from litellm._redis import get_redis_async_client, get_redis_connection_pool
    from redis.asyncio import RedisCluster

    settings = {**cache.redis_kwargs, "decode_responses": False}
    client = get_redis_async_client(connection_pool=get_redis_connection_pool(**settings), **settings)
    return RedisAccess(client, isinstance(client, RedisCluster), cache.namespace)


# --- retries and deadlines -------------------------------------------------------------------

NUM_RETRIES: Final = "num_retries"
"""What a call tells litellm's retry loop; 0 leaves one attempt (1.95 asks a retry policy all the same)."""


class _NoRepeats(int):
    """Zero that counts as given: for embeddings litellm takes 0 for "not said", and two repeats instead."""

    def __bool__(self) -> bool:
        return True


_NO_REPEATS: Final = _NoRepeats(0)


def forbid_repeats(kwargs: MutableMapping[str, Any]) -> None:
    """Keep a provider's own client from repeating a request by itself.

    Up to 1.106 image generation does not hand this on to the client, and moderation never does.
    """
    kwargs["max_retries"] = _NO_REPEATS


def limit_timeout(kwargs: MutableMapping[str, Any], seconds: float) -> None:
    """Make ``seconds`` the longest that a client may take to connect and to read; what was shorter stays."""
    given = kwargs.get("timeout")
    if isinstance(given, httpx.Timeout):
        parts = {name: getattr(given, name) for name in ("connect", "read", "write", "pool")}
        kwargs["timeout"] = httpx.Timeout(**{n: seconds if p is None else min(p, seconds) for n, p in parts.items()})
        return
    try:
        kwargs["timeout"] = seconds if given is None else min(float(given), seconds)
    except (TypeError, ValueError):
        kwargs["timeout"] = seconds


def limit_unseen(router: object, model: object, kwargs: MutableMapping[str, Any], seconds: float | None) -> None:
    """As :func:`limit_timeout`, and :func:`forbid_repeats`, before it is known which deployment is called.

    The shortest timeout that one of them may have then stays for all.
    """
    forbid_repeats(kwargs)
    if seconds is None:
        return
    group = model_group_of(router, model)
    asked = (kwargs.get("timeout"), state(router, "timeout"))
    theirs = (d["litellm_params"].get("timeout") for d in state(router, "model_list") if d["model_name"] == group)
    numbers = [float(given) for given in (*asked, *theirs) if isinstance(given, int | float)]
    kwargs["timeout"] = min([seconds, *numbers])


def count_retries(kwargs: Mapping[str, Any], retries: int) -> None:
    """Put the number of retries so far where litellm's logging looks for it."""
    metadata = kwargs.get("litellm_metadata", kwargs.get("metadata"))
    if isinstance(metadata, dict):
        metadata["attempted_retries"] = retries


def with_retry_headers(answer: Any, retries: int) -> Any:
    """``answer``, with the number of retries in its headers, as litellm's own loop puts it there."""
    if retries == 0 or _add_retry_headers is None:
        return answer
    return _add_retry_headers(response=answer, attempted_retries=retries)


_add_retry_headers: Final = getattr(sys.modules[LOOP.__module__], "add_retry_headers_to_response", None)
"""As the loop's own module imports it: from elsewhere since 1.109."""


def tell_retries(error: Exception, retries: int) -> None:
    """Put the number of retries on an exception, as litellm's own loop does when it gives up."""
    if type(error) in _untyped.LITELLM_EXCEPTION_TYPES:
        cast("Any", error).num_retries = retries


def log_retry(router: Any, kwargs: dict[str, Any], error: Exception) -> dict[str, Any]:
    """The arguments of the next attempt: with the failed one in their metadata, and who is not asked again."""
    kwargs = getattr(router, member("log_retry"))(kwargs=kwargs, e=error)
    skip = getattr(router, "_deployment_ids_to_skip_on_retry", None)  # from 1.106 on
    skipped = None if skip is None else skip(exception=error, already_skipped=kwargs.get(RETRY_SKIPPED_IDS))
    return {**kwargs, RETRY_SKIPPED_IDS: skipped} if skipped else kwargs


class GroupLeft(NamedTuple):
    """What a failure leaves of a group.

    ``elsewhere``: the next attempt goes to another deployment. ``hopeless``: all of them are in
    cooldown, and another group stands by.
    """

    elsewhere: bool
    hopeless: bool


async def _healthy(router: Any, kwargs: Mapping[str, Any]) -> "Sequence[Any] | None":
    """The deployments of a call's group that are not in cooldown; ``None`` where litellm cannot tell."""
    try:
        healthy, _ = await router._async_get_healthy_deployments(model=kwargs.get("model"), parent_otel_span=None)  # noqa: SLF001  # that is what this module is for
    except Exception:  # noqa: BLE001  # it raises where there is no such group
        return None
    return cast("Sequence[Any]", healthy)


async def left_of_group(
    router: Any, kwargs: Mapping[str, Any], failed: str | None, *, alone: bool = False
) -> GroupLeft | None:
    """What the failure of the deployment ``failed`` leaves of its group; ``None`` where litellm cannot tell.

    ``alone``: the call has disabled fallbacks, which its arguments no longer say here.
    """
    healthy = await _healthy(router, kwargs)
    if healthy is None:
        return None
    ids = {deployment["model_info"]["id"] for deployment in healthy}
    most = kwargs.get("max_fallbacks", state(router, "max_fallbacks"))
    last = isinstance(most, int) and (kwargs.get(FALLBACK_DEPTH) or 0) >= most
    fallbacks = None if alone or last else kwargs.get("fallbacks", state(router, "fallbacks"))
    return GroupLeft(bool(ids) and failed is not None and failed not in ids, not ids and _stands_by(fallbacks, kwargs))


def _stands_by(fallbacks: object, kwargs: Mapping[str, Any]) -> bool:
    """Whether litellm would go on to another group; in a fallback, only to one of its group's own."""
    if specific_fallback(fallbacks, (str(kwargs.get("model")),)):
        return True
    return (
        not kwargs.get(FALLBACK_DEPTH)
        and isinstance(fallbacks, list)
        and bool(fallbacks)
        and (
            is_inline_fallbacks(fallbacks)
            or any(isinstance(f, dict) and "*" in f for f in cast("list[object]", fallbacks))
        )
    )


def is_none_available(error: object) -> bool:
    """Whether the router found no deployment to ask, because of cooldowns or limits."""
    return type(error).__name__ in {"RouterRateLimitError", "RouterRateLimitErrorBasic"}


def cooldown_left(error: object) -> float | None:
    """Seconds until a deployment is out of cooldown, when such an error says so."""
    seconds = getattr(error, "cooldown_time", None)
    return float(seconds) if isinstance(seconds, int | float) else None


# --- a second attempt beside the first -------------------------------------------------------

REPEATABLE: Final = frozenset({"_acompletion", "_atext_completion", "_aembedding", "_arerank"})
"""Attempt functions that change nothing at the provider, whatever they are asked (but see ``_repeatable``)."""

REPEATABLE_ENDPOINTS: Final = frozenset(
    {"aresponses", "anthropic_messages", "agenerate_content", "agenerate_content_stream"}
)
"""Likewise, provider functions of endpoints."""


def endpoint_of(kwargs: Mapping[str, Any]) -> str | None:
    """The name of the provider function that an endpoint is to call."""
    return getattr(kwargs.get("original_generic_function"), "__name__", None)


async def others_in_group(router: Any, kwargs: Mapping[str, Any], taken: Collection[str]) -> bool:
    """Whether a call's group has a deployment beside ``taken`` that is not in cooldown, of the same order."""
    healthy = await _healthy(router, kwargs) or ()
    eligible = healthy if _in_order is None else _in_order(list(healthy), target_order=kwargs.get(TARGET_ORDER))
    return any(deployment["model_info"]["id"] not in taken for deployment in eligible)


_in_order: Final = getattr(
    _untyped.utils, "get_order_filtered_deployments", getattr(_untyped.utils, "_get_order_filtered_deployments", None)
)
"""litellm's filter by order; private up to 1.95."""


def arguments_beside(kwargs: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """A call's arguments for a second attempt that runs at the same time, and keeps away from ``taken``.

    litellm writes into a call's metadata whom it calls, and logs by it; a logging object serves one attempt.
    """
    own: dict[str, Any] = {**kwargs, EXCLUDED_IDS: sorted({*(kwargs.get(EXCLUDED_IDS) or ()), *taken})}
    for name in _METADATA:
        metadata = own.get(name)
        if isinstance(metadata, dict):
            own[name] = {**cast("dict[str, Any]", metadata)}
    for name in ("litellm_logging_obj", "litellm_call_id", "standard_logging_object"):
        own.pop(name, None)
    return own
