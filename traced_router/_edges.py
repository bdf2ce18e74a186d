"""Where a request enters and leaves: the public methods, the batches, the endpoints litellm makes.

An adapter; see :mod:`traced_router._tracing` for what an edge does.
"""

from collections.abc import Callable, Mapping
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

    def call(router: Any, *args: Any, **kwargs: Any) -> Any:
        return above(router, entry.name)(*args, **kwargs)

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        model = argument(entry.model, entry.model_at + 1, args, kwargs)
        if entry.says is not None and len(args) > _SAID_AT:
            kwargs = {**kwargs, entry.says: args[_SAID_AT]}
        return tracing_of(args[0]).enter(args[0], entry.operation, model, kwargs)

    return around(call, begin, original)


def endpoint(router: Any, name: str, made: Callable[..., Any], tracing_of: TracingOf) -> Callable[..., Any]:
    """The edge of an endpoint that litellm made with ``factory_function``; it keeps it on the instance."""
    operation = seams.operation_of(name)

    def begin(_args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        return tracing_of(router).enter(router, operation, kwargs.get("model"), kwargs)

    return around(made, begin)


def provider(function: Callable[..., Any]) -> Callable[..., Any]:
    """The provider function behind an endpoint: calling it is the attempt."""

    def begin(_args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        scope = current_scope()
        return None if scope is None else scope.about_to_call(kwargs)

    return around(function, begin)


def beside(function: Callable[..., Any]) -> Callable[..., Any]:
    """A provider function that litellm calls for several deployments at once: each call is an attempt."""

    def begin(_args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        scope = current_scope()
        return None if scope is None else scope.beside(kwargs)

    return around(function, begin)


class _BatchEdge:
    """A batch method that runs."""

    __slots__ = ("_batch", "_token")

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

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observer | None:
        opened = tracing_of(args[0]).enter_batch("chat", args[1:], kwargs)
        return None if opened is None else _BatchEdge(opened)

    return around(call, begin, original)
