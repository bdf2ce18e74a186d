"""What exceptions' class names, providers' error codes and HTTP statuses mean, as categories of the contract.

Names rather than classes: botocore, google and anthropic may not be installed, and litellm's own
classes share their names with the OpenAI SDK's. This module must know neither litellm nor OpenTelemetry.
"""

from http import HTTPStatus
from typing import Final

SPECIFIC: Final[dict[str, str]] = {
    # These say more than a status: Bedrock throttles with 400, Gemini refuses a key with 400.
    "CancelledError": "cancelled",
    "ContextWindowExceededError": "context_window",
    "ContentPolicyViolationError": "content_policy",
    "ContentFilterFinishReasonError": "content_policy",
    "GuardrailRaisedException": "content_policy",
    "BlockedPiiEntityError": "content_policy",
    "RejectedRequestError": "content_policy",
    "ModifyResponseException": "content_policy",
    "SensitiveDataRouteException": "content_policy",
    "BudgetExceededError": "rate_limit",
    "RouterRateLimitError": "rate_limit",
    "RouterRateLimitErrorBasic": "rate_limit",
    "RateLimitError": "rate_limit",
    "ThrottlingException": "rate_limit",
    "TooManyRequestsException": "rate_limit",
    "ServiceQuotaExceededException": "rate_limit",
    "ResourceExhausted": "rate_limit",
    "TooManyRequests": "rate_limit",
    "Timeout": "timeout",
    "APITimeoutError": "timeout",
    "TimeoutException": "timeout",
    "TimeoutError": "timeout",
    "ModelTimeoutException": "timeout",
    "ModelErrorException": "server",  # Bedrock: 424, which is the model's fault and not the request's
    "DeadlineExceeded": "timeout",
    "AuthenticationError": "auth",
    "PermissionDeniedError": "auth",
    "PaymentRequiredError": "auth",
    "AccessDeniedException": "auth",
    "UnrecognizedClientException": "auth",
    "ExpiredTokenException": "auth",
    "NoCredentialsError": "auth",
    "GoogleAuthError": "auth",
    "Unauthenticated": "auth",
    "Forbidden": "auth",
}

GENERIC: Final[dict[str, str]] = {
    # litellm uses these for want of a better one too, so a real status comes first.
    "NotFoundError": "not_found",
    "ResourceNotFoundException": "not_found",
    "NotFound": "not_found",
    "BadRequestError": "bad_request",
    "UnprocessableEntityError": "bad_request",
    "ValidationException": "bad_request",
    "InvalidArgument": "bad_request",
    "InternalServerError": "server",
    "ServiceUnavailableError": "server",
    "BadGatewayError": "server",
    "APIResponseValidationError": "server",
    "InternalServerException": "server",
    "ServiceUnavailableException": "server",
    "ServiceUnavailable": "server",
    "JSONDecodeError": "server",
    "APIConnectionError": "connection",
    "APIError": "server",  # the SDKs' base class; raised as it is, it is an error event in a stream
}

CODES: Final[dict[str, str]] = {
    # What providers write beside a status: OpenAI, Azure, and Bedrock in its header or botocore's answer.
    "context_length_exceeded": "context_window",
    "content_policy_violation": "content_policy",
    "content_filter": "content_policy",
    "moderation_blocked": "content_policy",
    "invalid_prompt": "content_policy",
    "ResponsibleAIPolicyViolation": "content_policy",
    "rate_limit_exceeded": "rate_limit",
    "insufficient_quota": "rate_limit",
    "invalid_api_key": "auth",
    "model_not_found": "not_found",
    "DeploymentNotFound": "not_found",
    **{name: kind for name, kind in SPECIFIC.items() if name.endswith("Exception")},
}

_TRANSPORT: Final = frozenset(
    {
        "APIConnectionError",  # openai, anthropic; their APITimeoutError is one
        "TransportError",  # httpx
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",  # aiohttp
        "HTTPClientError",  # botocore
        "ChunkedEncodingError",  # requests
        "ConnectionError",  # the builtin, requests, botocore
        "TimeoutError",  # the builtin, which is asyncio's too
        "Timeout",  # requests
        "SSLError",
        "gaierror",
    }
)


def category(error: BaseException, names: dict[str, str]) -> str | None:
    """The category of the first class in an exception's ancestry that ``names`` has."""
    return next((names[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in names), None)


def is_transport(error: BaseException) -> bool:
    """Whether a client says that no whole response came.

    litellm's own exceptions do not count: it raises ``APIConnectionError`` for whatever it cannot map.
    """
    kind = type(error)
    return not str(kind.__module__).startswith("litellm.") and any(k.__name__ in _TRANSPORT for k in kind.__mro__)


def is_timeout(error: BaseException) -> bool:
    """Whether a transport's exception is one of time."""
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


def category_by_status(status: int | None) -> str:
    """What a status means by itself. A 2xx of a failed attempt is an answer that nobody could read."""
    if status is None:
        return "other"
    return _STATUSES.get(status) or ("bad_request" if is_client_error(status) else "server")


def is_client_error(status: int) -> bool:
    """Whether a status is a 4xx."""
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR


_STATUSES: Final = {
    401: "auth",
    402: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    429: "rate_limit",
    504: "timeout",
    524: "timeout",  # Cloudflare's word for 504
}
