"""Errors as providers really send them, through litellm over HTTP: bodies and codes of their public references."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import litellm
import pytest
from litellm import Router

from traced_router._facts import FailureFacts
from traced_router._readers import failure
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import ErrorEventMidStream, Status

MESSAGES = [{"role": "user", "content": "hi"}]
MODELS: Mapping[str, str] = {
    "openai": "openai/gpt-4o",
    "azure": "azure/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "bedrock": "bedrock/converse/anthropic.claude-3-haiku-20240307-v1:0",
}
NO_BOTO = importlib.util.find_spec("boto3") is None


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made


@pytest.fixture(autouse=True)
async def _close_connections() -> AsyncIterator[None]:
    """litellm keeps its clients for ever, and their sockets would be found open when the loop is gone."""
    yield
    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        transport = getattr(getattr(client, "client", None) or getattr(client, "_client", None), "_transport", None)
        if isinstance(transport, httpx.AsyncBaseTransport):
            await transport.aclose()


def router(provider: FakeProvider, name: str) -> Router:
    params: dict[str, object] = {"max_retries": 0}
    if name == "azure":
        params["api_version"] = "2024-06-01"
    if name == "bedrock":
        params |= {"aws_access_key_id": "a", "aws_secret_access_key": "s", "aws_region_name": "us-east-1"}
        del params["max_retries"]
    made = provider.deployment("dep-a", model=MODELS[name], **params)
    return Router([made], num_retries=0, disable_cooldowns=True)


@dataclass(frozen=True)
class Case:
    provider: str
    name: str
    status: int
    body: Mapping[str, object]
    category: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: float | None = None


def openai(name: str, status: int, category: str, message: str, kind: str, code: str | None, **more: Any) -> Case:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Case("openai", name, status, body, category, **more)


def azure(name: str, status: int, category: str, code: str, message: str, **more: Any) -> Case:
    return Case("azure", name, status, {"error": {"code": code, "message": message}}, category, **more)


def anthropic(name: str, status: int, category: str, kind: str, message: str, **more: Any) -> Case:
    return Case(
        "anthropic", name, status, {"type": "error", "error": {"type": kind, "message": message}}, category, **more
    )


def bedrock(name: str, status: int, category: str, kind: str, message: str) -> Case:
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return Case("bedrock", name, status, {"message": message}, category, headers)


INVALID = "invalid_request_error"
CASES = [
    openai("key", 401, "auth", "Incorrect API key provided: sk-x.", INVALID, "invalid_api_key"),
    openai(
        "country", 403, "auth", "Country not supported", "request_forbidden", "unsupported_country_region_territory"
    ),
    openai("model", 404, "not_found", "The model `x` does not exist", INVALID, "model_not_found"),
    openai(
        "rate",
        429,
        "rate_limit",
        "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 1, Used 1, Requested 1.",
        "tokens",
        "rate_limit_exceeded",
        headers={"retry-after-ms": "412", "retry-after": "1"},
        retry_after=0.412,
    ),
    openai("quota", 429, "rate_limit", "You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
    openai(
        "context",
        400,
        "context_window",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        INVALID,
        "context_length_exceeded",
    ),
    openai(
        "context in other words",
        400,
        "context_window",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        INVALID,
        "context_length_exceeded",
    ),
    openai(
        "image",
        400,
        "content_policy",
        "Your request was rejected as a result of our safety system.",
        "image_generation_user_error",
        "moderation_blocked",
    ),
    openai(
        "prompt",
        400,
        "content_policy",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        INVALID,
        "invalid_prompt",
    ),
    openai("value", 400, "bad_request", "Invalid value for 'temperature'", INVALID, "invalid_value"),
    openai("conflict", 409, "bad_request", "Conflict", INVALID, None),
    openai("unprocessable", 422, "bad_request", "Unprocessable", INVALID, None),
    openai("server", 500, "server", "The server had an error processing your request.", "server_error", None),
    openai("gateway", 502, "server", "Bad gateway", "server_error", None),
    openai(
        "overloaded",
        503,
        "server",
        "The engine is currently overloaded, please try again later",
        "server_error",
        None,
        headers={"retry-after": "3"},
        retry_after=3.0,
    ),
    openai("gateway time", 504, "timeout", "upstream request timeout", "server_error", None),
    openai("cloudflare", 524, "timeout", "origin time-out", "server_error", None),
    azure("key", 401, "auth", "401", "Access denied due to invalid subscription key or wrong API endpoint."),
    azure("role", 403, "auth", "PermissionDenied", "The principal lacks the required data action."),
    azure("deployment", 404, "not_found", "DeploymentNotFound", "The API deployment for this resource does not exist."),
    azure("resource", 404, "not_found", "404", "Resource not found"),
    azure("time", 408, "timeout", "Timeout", "The operation was timeout."),
    azure(
        "rate",
        429,
        "rate_limit",
        "429",
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-06-01 have exceeded "
        "token rate limit of your current OpenAI S0 pricing tier. Please retry after 86 seconds.",
        headers={"retry-after": "86", "retry-after-ms": "86000"},
        retry_after=86.0,
    ),
    azure(
        "no capacity",
        429,
        "rate_limit",
        "NoCapacity",
        "The system is currently experiencing high demand.",
        headers={"x-ms-retry-after-ms": "1500"},
        retry_after=1.5,
    ),
    azure("server", 500, "server", "InternalServerError", "Backend returned unexpected response."),
    azure("unavailable", 503, "server", "ServiceUnavailable", "The service is temporarily unable to process."),
    Case(
        "azure",
        "filtered",
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy. Please modify your prompt and retry.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
                },
            }
        },
        "content_policy",
    ),
    Case(
        "azure",
        "filtered in other words",
        400,
        {"error": {"message": "Blocked.", "type": None, "param": "prompt", "code": "content_filter", "status": 400}},
        "content_policy",
    ),
    anthropic("key", 401, "auth", "authentication_error", "invalid x-api-key"),
    anthropic("billing", 402, "auth", "billing_error", "There is an issue with your billing."),
    anthropic("permission", 403, "auth", "permission_error", "Your API key does not have permission."),
    anthropic("model", 404, "not_found", "not_found_error", "model: claude-0"),
    anthropic("size", 413, "bad_request", "request_too_large", "Request exceeds the maximum size"),
    anthropic("context", 400, "context_window", INVALID, "prompt is too long: 210000 tokens > 200000 maximum"),
    anthropic("policy", 400, "content_policy", INVALID, "Output blocked by content filtering policy"),
    anthropic("credit", 400, "bad_request", INVALID, "Your credit balance is too low to access the Anthropic API."),
    anthropic("value", 400, "bad_request", INVALID, "messages: at least one message is required"),
    anthropic(
        "rate",
        429,
        "rate_limit",
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
        headers={"retry-after": "17"},
        retry_after=17.0,
    ),
    anthropic("server", 500, "server", "api_error", "Internal server error"),
    anthropic("time", 504, "timeout", "timeout_error", "The request timed out while processing."),
    anthropic("overloaded", 529, "server", "overloaded_error", "Overloaded"),
    bedrock("rate", 429, "rate_limit", "ThrottlingException", "Too many requests, please wait before trying again."),
    bedrock("rate as 400", 400, "rate_limit", "ThrottlingException", "Your request rate is too high."),
    bedrock("quota", 400, "rate_limit", "ServiceQuotaExceededException", "Your request exceeds the service quota."),
    bedrock("access", 403, "auth", "AccessDeniedException", "You don't have access to the model."),
    bedrock("token", 403, "auth", "ExpiredTokenException", "The security token included in the request is expired"),
    bedrock(
        "key", 403, "auth", "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
    bedrock(
        "model", 404, "not_found", "ResourceNotFoundException", "This model version has reached the end of its life."
    ),
    bedrock("time", 408, "timeout", "ModelTimeoutException", "The model took too long."),
    bedrock("model error", 424, "server", "ModelErrorException", "The request failed due to an error of the model."),
    bedrock("context", 400, "context_window", "ValidationException", "Input is too long for requested model."),
    bedrock("value", 400, "bad_request", "ValidationException", "The provided model identifier is invalid."),
    bedrock("server", 500, "server", "InternalServerException", "The system encountered an unexpected error."),
    bedrock("unavailable", 503, "server", "ServiceUnavailableException", "Bedrock is unable to process your request."),
]


async def chat(made: Router) -> None:
    await made.acompletion("gpt-4o", MESSAGES)


async def sync(made: Router) -> None:
    await asyncio.to_thread(made.completion, "gpt-4o", MESSAGES)


async def stream(made: Router) -> None:
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        pass


async def failing(call: Callable[[Router], Any], made: Router) -> FailureFacts:
    with pytest.raises(Exception) as caught:  # of whatever kind
        await call(made)
    return failure(caught.value)


@pytest.mark.parametrize("call", [chat, sync])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.provider}-{case.name}".replace(" ", "-"))
async def test_bodies(provider: FakeProvider, call: Callable[[Router], Any], case: Case) -> None:
    if case.provider == "bedrock" and NO_BOTO:
        pytest.skip("litellm signs requests to Bedrock with boto3")
    provider.default("dep-a", Status(case.status, body=case.body, headers=case.headers))
    facts = await failing(call, router(provider, case.provider))
    assert (facts.category, facts.status_code, facts.retry_after) == (case.category, case.status, case.retry_after)


@pytest.mark.parametrize(
    ("name", "error", "category"),
    [
        ("openai", Status(429, "Rate limit reached", type="requests", error_code="rate_limit_exceeded"), "rate_limit"),
        ("openai", Status(400, "Too long", type=INVALID, error_code="context_length_exceeded"), "context_window"),
        ("azure", Status(400, "Filtered", type="", error_code="content_filter"), "content_policy"),
        ("openai", Status(500, "The server had an error", type="server_error"), "server"),
        ("anthropic", Status(529, "Overloaded", type="overloaded_error"), "server"),
        ("anthropic", Status(500, "Internal server error", type="api_error"), "server"),
    ],
)
async def test_events_in_a_stream(provider: FakeProvider, name: str, error: Status, category: str) -> None:
    """The status was 200 by then."""
    provider.default("dep-a", ErrorEventMidStream(1, error=error))
    facts = await failing(stream, router(provider, name))
    assert (facts.category, facts.retry_after) == (category, None)
