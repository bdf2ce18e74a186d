"""The one driver around a function of litellm's, written twice: for coroutines and for plain calls.

What happens around the call is an :class:`Observer`'s; it is made when the call comes in, and
hears how it ended. Everything else that stands around litellm shares these two functions.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias


class Limit(Protocol):
    """Stands around a call that may take only so long; both give what the call gives, or raise."""

    def within(self, awaitable: Awaitable[Any], /) -> Awaitable[Any]:
        """What ``awaitable`` gives."""
        ...

    def call(self, function: Callable[[], Any], /) -> Any:
        """What ``function`` gives."""
        ...


class Observer(Protocol):
    """Hears how one call ended. Neither method raises."""

    @property
    def countdown(self) -> Limit | None:
        """How long the call may take, if somebody limits that."""
        ...

    def returned(self, result: Any, /) -> Any:
        """The call has returned ``result``; what its caller is to get."""
        ...

    def raised(self, error: BaseException, /) -> None:
        """The call has raised ``error``, which goes on to its caller untouched."""
        ...


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Observer | None]
"""Looks at a call that comes in, before it goes on; ``None`` when nobody wants to know.

It takes out of the call's arguments what is not litellm's.
"""


def around(function: Callable[..., Any], begin: Begin, like: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """``function``, with an observer around each call.

    Args:
        function: what is called; its result is awaited when ``like`` is a coroutine function.
        begin: makes the observer of a call.
        like: whose name, signature and kind the result has; ``function`` when ``None``.
    """
    template = function if like is None else like

    if inspect.iscoroutinefunction(template):

        @functools.wraps(template)
        async def observed_async(*args: Any, **kwargs: Any) -> Any:
            observer = begin(args, kwargs)
            if observer is None:
                return await function(*args, **kwargs)
            try:
                countdown = observer.countdown
                awaitable = function(*args, **kwargs)
                result = await (awaitable if countdown is None else countdown.within(awaitable))
            except BaseException as error:
                observer.raised(error)
                raise
            return observer.returned(result)

        return observed_async

    @functools.wraps(template)
    def observed(*args: Any, **kwargs: Any) -> Any:
        observer = begin(args, kwargs)
        if observer is None:
            return function(*args, **kwargs)
        try:
            countdown = observer.countdown
            if countdown is None:
                result = function(*args, **kwargs)
            else:
                result = countdown.call(functools.partial(function, *args, **kwargs))
        except BaseException as error:
            observer.raised(error)
            raise
        return observer.returned(result)

    return observed


def argument(name: str, at: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], default: Any = None) -> Any:
    """A call's argument, given by position or by name."""
    return args[at] if len(args) > at else kwargs.get(name, default)
