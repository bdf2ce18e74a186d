"""Why an attempt failed: class, category, the status that was really sent, the wait asked for.

litellm makes up statuses (500 for a refused connection, 408 for a read that timed out, 422 for a
200 that it could not parse) and whole ``httpx.Response`` objects to go with them. The truth is
further down the exception's chain, so this module walks it, outermost first, to the first exception
that settles the matter: one with a response that came off a wire, or one that says that none came.

This module must not know OpenTelemetry, and reads no message of an exception: it can hold a prompt.
"""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final, cast

from traced_router._facts import FailureFacts
from traced_router._failure_names import (
    CODES,
    GENERIC,
    SPECIFIC,
    category,
    category_by_status,
    is_client_error,
    is_timeout,
    is_transport,
)
from traced_router._litellm import (
    is_former_attempt,
    mapped_from,
    mid_stream_original,
    provider_headers,
    responses_seen,
    was_parsed,
)
from traced_router._read_headers import retry_after_seconds
from traced_router._values import integer, peek, text

_MAX_CHAIN: Final = 24
"""Exceptions looked at: a provider's failure is seven deep on litellm 1.106, mapping and aiohttp included."""


def failure(
    exc: BaseException, *, outer: BaseException | None = None, now: Callable[[], float] = time.time
) -> FailureFacts:
    """The facts of a failed attempt.

    Args:
        exc: what the attempt raised.
        outer: what was being handled when the attempt began (``sys.exc_info()[1]``), usually the former
            attempt's exception: Python chains it below ``exc``, and its status is not this attempt's.
        now: the wall clock, seconds since 1970, for a ``Retry-After`` that is a date.
    """
    try:
        return _failure(exc, outer, now)
    except Exception:  # noqa: BLE001  # an exception can have any properties
        return FailureFacts(error_type=_named(exc))


def _failure(exc: BaseException, outer: BaseException | None, now: Callable[[], float]) -> FailureFacts:
    root = _root(exc)
    if isinstance(root, CancelledError):
        return FailureFacts(_named(root), "cancelled")
    chain = list(_chain(root, outer))
    settled = _settled(chain)
    if settled is None and (lost := mapped_from(root)) is not None:
        # A sync call's exception is raised anew while another is handled, which overwrites its chain.
        chain += _chain(lost, outer)
        settled = _settled(chain)
    status = _status(root, chain, settled)
    return FailureFacts(
        error_type=_named(root),
        category=_category(chain, settled, status),
        status_code=status,
        retry_after=_retry_after(chain, now),
    )


def _named(error: BaseException) -> str:
    return text(type(error).__name__) or "Exception"


# --- the chain -------------------------------------------------------------------------------


def _root(exc: BaseException) -> BaseException:
    """The exception that a mid-stream wrapper stands for."""
    for _ in range(_MAX_CHAIN):
        inner = mid_stream_original(exc)
        if inner is None:
            break
        exc = inner
    return exc


def _chain(root: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """``root`` and what it came from, without ``outer`` and former attempts' exceptions."""
    seen = {id(outer)}
    todo: list[BaseException] = [root]
    while todo and len(seen) <= _MAX_CHAIN:
        error = todo.pop()
        if id(error) in seen or (error is not root and _is_foreign(error, root)):
            continue
        seen.add(id(error))
        yield error
        todo.extend(e for e in (error.__context__, error.__cause__) if e is not None)


def _is_foreign(error: BaseException, root: BaseException) -> bool:
    """Whether ``error`` is a former attempt's, and not the wrapper that carried ``root`` through the router."""
    return is_former_attempt(error) and mid_stream_original(error) is not root


def _settled(chain: list[BaseException]) -> BaseException | None:
    """The first exception that has a real response, or that says that there is none."""
    return next((e for e in chain if _sent_status(peek(e, "response"), e) is not None or is_transport(e)), None)


# --- the status ------------------------------------------------------------------------------


def _status(root: BaseException, chain: list[BaseException], settled: BaseException | None) -> int | None:
    if settled is not None:
        return _sent_status(peek(settled, "response"), settled)
    for error in reversed(chain):
        # An answer that could not be parsed: nobody keeps the response but the frames that held it.
        for response in responses_seen(error):
            if (status := _sent_status(response)) is not None:
                return status
    if any(was_parsed(error) for error in chain):
        return HTTPStatus.OK.value  # the only 2xx that an OpenAI API answers with
    # litellm copies a response's headers here (exception_mapping_utils, 1.80 to 1.109): with none, no response.
    return _http_status(peek(root, "status_code")) if provider_headers(root) else None


def _sent_status(response: object, error: BaseException | None = None) -> int | None:
    """The status of a response that came off a wire; ``None`` when it is somebody's invention."""
    if response is None:
        # aiohttp.ClientResponseError has no response, but the status itself.
        return _http_status(peek(error, "status")) if _package(error) == "aiohttp" else None
    if isinstance(response, dict):
        # botocore: {"Error": …, "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": …}}
        return _http_status(peek(peek(cast("object", response), "ResponseMetadata"), "HTTPStatusCode"))
    if _package(error) not in _SDKS and peek(response, "elapsed") is None:
        # httpx's client sets `elapsed` when it has read a response, and a response without it raises there.
        return None
    return _http_status(peek(response, "status_code"))


_SDKS: Final = frozenset({"openai", "anthropic", "httpx", "httpx2"})
"""Packages whose own exceptions carry a response only when one came."""


def _package(thing: object) -> str:
    return str(type(thing).__module__).partition(".")[0]


def _http_status(value: object) -> int | None:
    status = integer(value)
    return status if status in _STATUSES else None


_STATUSES: Final = range(100, 600)


# --- the category ----------------------------------------------------------------------------


def _category(chain: list[BaseException], settled: BaseException | None, status: int | None) -> str:
    root = chain[0]
    specific = category(root, SPECIFIC) or _said(chain)
    if specific is not None:
        return specific
    if status is not None:
        generic = category(root, GENERIC) if is_client_error(status) else None
        return "not_found" if generic == "not_found" else category_by_status(status)
    if settled is not None:
        return "timeout" if is_timeout(settled) else "connection"
    return _unsettled(chain)


def _said(chain: list[BaseException]) -> str | None:
    """By the code that the provider gave its error: an identifier, never its message."""
    for error in chain:
        for code in _codes(error):
            if isinstance(code, str) and (kind := CODES.get(code.partition(":")[0])) is not None:
                return kind
    return None


def _codes(error: BaseException) -> Iterator[object]:
    yield peek(error, "code")  # the OpenAI SDK's, of a body or of an event in a stream; litellm's keep it
    response = peek(error, "response")
    yield peek(peek(response, "Error"), "Code")  # botocore: {"Error": {"Code": "ThrottlingException", …}, …}
    headers = peek(response, "headers")
    if isinstance(headers, Mapping):  # "ThrottlingException:http://internal.amazon.com/coral/…"
        yield cast("Mapping[str, object]", headers).get("x-amzn-errortype")


def _unsettled(chain: list[BaseException]) -> str:
    """Neither a response nor a transport's error: by name, and then by litellm's own status."""
    generic = category(chain[0], GENERIC)
    if generic == "connection" and len(chain) > 1:
        # litellm's APIConnectionError is also its word for anything that it cannot map.
        below = (category(e, SPECIFIC) or category(e, GENERIC) for e in chain[1:])
        return next((c for c in below if c not in (None, "connection")), "other") or "other"
    return generic or category_by_status(_http_status(peek(chain[0], "status_code")))


# --- the wait --------------------------------------------------------------------------------


def _retry_after(chain: list[BaseException], now: Callable[[], float]) -> float | None:
    for error in chain:
        for headers in (peek(peek(error, "response"), "headers"), provider_headers(error), peek(error, "headers")):
            if (seconds := retry_after_seconds(headers, now())) is not None:
                return seconds
    return None
