"""Where a request enters and leaves: the public methods, the batches, the endpoints litellm makes.

An adapter; see :mod:`traced_router._tracing` for what an edge does.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

from traced_router import _litellm as seams
from traced_router._around import Observer, argument, around
from traced_router._current import attach, detach
from traced_router._scope import current_scope
from traced_router._tracing import RouterTracing
from traced_router._tree import Batch, Unrecorded


class Above(Protocol):
    """litellm's own method of a router, under an override of ours."""

    def __call__(self, router: Any, name: str) -> Callable[..., Any]:
        """The method ``name`` of ``router`` that comes after ours."""
        ...


TracingOf = Callable[[Any], RouterTracing]


_SAID_AT: Final = 2
"""Where a call's words are among its positional arguments, after the router and the model."""


def entry(entry: seams.Entry, original: Callable[..., Any], above: Above, tracing_of: TracingOf) -> Callable[..., Any]:
    """An override of one public method."""
    blocking = not inspect.iscoroutinefunction(original)

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, entry.name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        model = argument(entry.model, entry.model_at + 1, args, kwargs)
        tracing = tracing_of(args[0])
        wishes = tracing.take(kwargs)
        said = {**kwargs, entry.says: args[_SAID_AT]} if entry.says is not None and len(args) > _SAID_AT else kwargs
        edge = tracing.enter(args[0], entry.operation, model, said, wishes, blocking=blocking)
        if entry.name in seams.START_AT_SELECTION and edge is not None and edge.countdown is not None:
            seams.limit_unseen(args[0], model, kwargs, edge.countdown.timeout())
        return edge

    return around(call, begin, original)


def endpoint(router: Any, name: str, made: Callable[..., Any], tracing_of: TracingOf) -> Callable[..., Any]:
    """The edge of an endpoint that litellm made with ``factory_function``; it keeps it on the instance."""
    operation = seams.operation_of(name)
    blocking = not inspect.iscoroutinefunction(made)

    def begin(_args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        tracing = tracing_of(router)
        return tracing.enter(router, operation, kwargs.get("model"), kwargs, tracing.take(kwargs), blocking=blocking)

    return around(made, begin)


def provider(function: Callable[..., Any]) -> Callable[..., Any]:
    """The provider function behind an endpoint: calling it is the attempt."""

    def begin(_args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        scope = current_scope()
        return None if scope is None else scope.about_to_call(kwargs)

    return around(function, begin)


def beside(function: Callable[..., Any]) -> Callable[..., Any]:
    """A provider function that litellm calls for several deployments at once: each call is an attempt."""

    def begin(_args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        scope = current_scope()
        return None if scope is None else scope.beside(kwargs)

    return around(function, begin)


class _BatchEdge:
    """A batch method that runs; each member has a deadline of its own."""

    __slots__ = ("_batch", "_token")
    countdown = None

    def __init__(self, batch: Batch | Unrecorded) -> None:
        self._batch = batch
        self._token = attach(batch.context)

    def returned(self, result: Any) -> Any:
        """All members that the caller waits for have answered."""
        detach(self._token)
        if isinstance(self._batch, Batch):
            self._batch.returned()
        return result

    def raised(self, error: BaseException) -> None:
        """The batch has failed as a whole, or was left."""
        detach(self._token)
        if isinstance(self._batch, Batch):
            self._batch.returned(error)


def batch(name: str, original: Callable[..., Any], above: Above, tracing_of: TracingOf) -> Callable[..., Any]:
    """An override of one ``abatch_*`` method: its members' requests are children of its span."""

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observer | None:
        opened = tracing_of(args[0]).enter_batch("chat", args[1:], kwargs)
        return None if opened is None else _BatchEdge(opened)

    return around(call, begin, original)
