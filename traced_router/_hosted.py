"""A router whose core ignores Python: what is left are its edges and its host.

litellm's hosted router reaches everything outside its core through a host object: provider
functions through ``invoke(op)``, waits through ``sleep(seconds)``. With litellm's Python core the
overrides of ``_router`` tell everything, and this host stays out of the way. With a core that
runs no override of ours (the announced Rust core, a stub), the public methods are put on the
facade, the host tells attempts and waits, and the rest is said to be missing.

An adapter: it knows litellm's host and tells the tree.
"""

# litellm is typed in part; mypy, strict too, watches where that spreads.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from traced_router import _construction
from traced_router import _litellm as seams
from traced_router._arguments import Arguments
from traced_router._around import Observer, argument, around
from traced_router._edges import beside
from traced_router._frame import current_frame
from traced_router._scope import ProviderCall, Scope
from traced_router._strategies import Configured
from traced_router._tracing import RouterTracing
from traced_router._tree import Call

_BASE: Final[Any] = seams.host_base()


class TracingHost(_BASE):  # type: ignore[misc]  # a class of litellm's from 1.109 on, else object
    """The host of a hosted router."""

    __slots__ = ("_tracing",)

    def __init__(self) -> None:
        self._tracing: RouterTracing | None = None

    def listen(self, tracing: RouterTracing) -> None:
        """From now on this host tells attempts and waits."""
        self._tracing = tracing

    def invoke(self, op: str) -> Callable[..., Any]:
        """The litellm function named ``op``; calling a provider's is an attempt."""
        function: Callable[..., Any] = super().invoke(op)
        if op in seams.NO_PROVIDER:
            return function
        return beside(function) if op in seams.SIDE_BY_SIDE.values() else around(function, self._begin)

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait before the next attempt."""
        wait: Awaitable[None] = super().sleep(seconds)
        call = self._call()
        return wait if call is None or seconds <= 0 else _backoff(call, seconds, wait)

    def _call(self) -> Call | None:
        """The traced call that runs now, when it is for this host to tell."""
        frame = current_frame()
        call = frame.call if frame is not None else None
        return call if self._tracing is not None and isinstance(call, Call) else None

    def _begin(self, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        call = self._call()
        if call is None or self._tracing is None:
            return None
        call.adopt_trace_id(kwargs.get(seams.TRACE_ID))
        scope = Scope(call, None, "", self._tracing.reader, capture=self._tracing.capture)
        scope.enter()
        scope.picked(seams.deployment_of_call(kwargs), seams.group_of_call(kwargs))
        scope.about_to_call(kwargs)
        return ProviderCall(scope, scope.leave)


async def _backoff(call: Call, seconds: float, wait: Awaitable[None]) -> None:
    call.backoff(seconds, "exponential", None, None)
    try:
        await wait
    finally:
        call.end_backoff()


def build(
    facade: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    arguments: Arguments,
    configured: Configured,
    state: str,
) -> None:
    """Build a hosted router: its core on our host, and its tracing under ``state``."""
    host = TracingHost()
    seams.attach_core(facade, args, kwargs, host)
    core = seams.core_of(facade)
    foreign = not seams.runs_overrides(core, type(facade))
    tracing = _construction.tracing(core, arguments, configured, foreign=foreign)
    core.__dict__[state] = tracing
    if foreign:
        facade.__dict__["tracing_capabilities"] = dict(tracing.capabilities)
        host.listen(tracing)
        for entry in seams.ENTRIES:
            _put_edge(facade, tracing, entry.name, entry.operation, (entry.model, entry.model_at))
        for name in seams.ENDPOINTS:
            _put_edge(facade, tracing, name, seams.operation_of(name), None)


def let_adopt(kind: Any) -> None:
    """Let a live router become a ``kind``: its class is its facade's, so its core has yet to follow.

    Whoever adopts a router calls ``initialize_router_endpoints`` next, and calls it on the facade.
    """
    name = seams.INITIALIZE_ENDPOINTS

    def initialize(self: Any, *args: Any, **kwargs: Any) -> Any:
        core = seams.core_of(self)
        if core is self:  # a core's class has its facade's among its bases
            return getattr(super(kind, self), name)(*args, **kwargs)
        if not seams.runs_overrides(core, type(self)):
            core.__class__ = seams.core_class_of(type(self))
            seams.take_host(core, TracingHost())
        return getattr(core, name)(*args, **kwargs)

    type.__setattr__(kind, name, initialize)  # an ordinary assignment goes to the core's class


def _put_edge(facade: Any, tracing: RouterTracing, name: str, operation: str, model: tuple[str, int] | None) -> None:
    """Trace one public method of ``facade`` from outside: its core runs none of the overrides."""
    method = getattr(facade, name, None)
    if not callable(method):
        return

    core = seams.core_of(facade)  # reading a facade's old members warns

    blocking = not inspect.iscoroutinefunction(method)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        group = kwargs.get("model") if model is None else argument(*model, args, kwargs)
        return tracing.enter(core, operation, group, kwargs, tracing.take(kwargs), blocking=blocking)

    facade.__dict__[name] = around(method, begin)
