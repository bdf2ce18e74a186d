"""A router whose core ignores Python: what is left are its edges and its host.

litellm's hosted router reaches everything outside its core through a host object: provider
functions through ``invoke(op)``, waits through ``sleep(seconds)``. With litellm's Python core the
overrides of ``_router`` tell everything, and this host stays out of the way. With a core that
runs no override of ours (the announced Rust core, a stub), the public methods are put on the
facade, the host tells attempts and waits, and the rest is said to be missing.

An adapter: it knows litellm's host and tells the tree.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from traced_router import _litellm as seams
from traced_router._scope import Scope
from traced_router._tracing import RouterTracing
from traced_router._tree import Call, current_frame

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
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def attempt_async(*args: Any, **kwargs: Any) -> Any:
                scope = self._scope(kwargs)
                if scope is None:
                    return await function(*args, **kwargs)
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    scope.raised(error)
                    raise
                else:
                    scope.returned(result)
                    return result
                finally:
                    scope.leave()

            return attempt_async

        @functools.wraps(function)
        def attempt_sync(*args: Any, **kwargs: Any) -> Any:
            scope = self._scope(kwargs)
            if scope is None:
                return function(*args, **kwargs)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                scope.raised(error)
                raise
            else:
                scope.returned(result)
                return result
            finally:
                scope.leave()

        return attempt_sync

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait before the next attempt."""
        wait: Awaitable[None] = super().sleep(seconds)
        frame = current_frame()
        call = frame.call if frame is not None else None
        if self._tracing is None or not isinstance(call, Call) or seconds <= 0:
            return wait
        return _backoff(call, seconds, wait)

    def _scope(self, kwargs: Mapping[str, Any]) -> Scope | None:
        """An attempt that has started, or nothing where nobody listens."""
        frame = current_frame()
        call = frame.call if frame is not None else None
        if self._tracing is None or not isinstance(call, Call):
            return None
        call.claimed = True
        scope = Scope(call, None, "", self._tracing.reader)
        scope.enter()
        call.adopt_trace_id(kwargs.get(seams.TRACE_ID))
        scope.picked(seams.deployment_of_call(kwargs), seams.group_of_call(kwargs))
        scope.about_to_call(kwargs)
        return scope


async def _backoff(call: Call, seconds: float, wait: Awaitable[None]) -> None:
    call.backoff(seconds, "exponential", None, None)
    try:
        await wait
    finally:
        call.end_backoff()


def take_over(facade: Any, host: TracingHost, tracing: RouterTracing) -> None:
    """Trace ``facade`` from its edges and its host: its core runs none of the overrides."""
    host.listen(tracing)
    for entry in seams.ENTRIES:
        _replace(facade, tracing, entry.name, entry.operation, entry.model_at)
    for name in seams.ENDPOINTS:
        _replace(facade, tracing, name, seams.operation_of(name), None)


def _replace(facade: Any, tracing: RouterTracing, name: str, operation: str, model_at: int | None) -> None:
    method = getattr(facade, name, None)
    if not callable(method):
        return

    def model_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if model_at is not None and len(args) > model_at:
            return args[model_at]
        return kwargs.get("model")

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def edge_async(*args: Any, **kwargs: Any) -> Any:
            edge = tracing.enter(facade, operation, model_of(args, kwargs), kwargs)
            if edge is None:
                return await method(*args, **kwargs)
            try:
                result = await method(*args, **kwargs)
            except BaseException as error:
                edge.raised(error)
                raise
            return edge.returned(result)

        facade.__dict__[name] = edge_async
        return

    @functools.wraps(method)
    def edge_sync(*args: Any, **kwargs: Any) -> Any:
        edge = tracing.enter(facade, operation, model_of(args, kwargs), kwargs)
        if edge is None:
            return method(*args, **kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            edge.raised(error)
            raise
        return edge.returned(result)

    facade.__dict__[name] = edge_sync
