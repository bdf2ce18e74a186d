"""How each protocol says that something went wrong: as the body of a status, and as an event inside a stream.

This module must know nothing of HTTP framing and of when a fault happens.
"""

from collections.abc import Mapping
from typing import Final, cast

from traced_router.testing._provider_behaviours import Status
from traced_router.testing._provider_bodies import Body
from traced_router.testing._provider_streams import data, named

_SERVER: Final = 500

_ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_OPENAI_TYPES: Final = {
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
    529: "server_error",
}
_GOOGLE_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def _error_type(status: Status, own: Mapping[int, str]) -> str:
    if status.type is not None:
        return status.type
    return own.get(status.code, "invalid_request_error" if status.code < _SERVER else "api_error")


def openai_error(status: Status) -> Body:
    kind = _error_type(status, _OPENAI_TYPES)
    return {"error": {"message": status.message, "type": kind, "param": None, "code": status.error_code}}


def anthropic_error(status: Status) -> Body:
    return {"type": "error", "error": {"type": _error_type(status, _ERROR_TYPES), "message": status.message}}


def gemini_error(status: Status) -> Body:
    name = _GOOGLE_STATUS.get(status.code, "INTERNAL")
    return {"error": {"code": status.code, "message": status.message, "status": name}}


def message_error(status: Status) -> Body:
    """Cohere's, and Bedrock's, which has the error's name in the header ``x-amzn-errortype``."""
    return {"message": status.message}


def openai_error_event(status: Status) -> bytes:
    """OpenAI has no status to send any more: the ``code`` says it, as litellm and its like read it."""
    body = openai_error(status)
    error = cast("dict[str, object]", body["error"])
    return data({"error": {**error, "code": status.error_code or status.code}})


def responses_error_event(status: Status) -> bytes:
    code = status.error_code or "server_error"
    return named({"type": "error", "code": code, "message": status.message, "param": None, "sequence_number": 0})


def anthropic_error_event(status: Status) -> bytes:
    return named(anthropic_error(status))


def gemini_error_event(status: Status) -> bytes:
    return data(gemini_error(status))
