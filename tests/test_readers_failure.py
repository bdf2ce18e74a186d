"""Failures: what a provider really sent, over real HTTP; and what exceptions of every kind amount to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import litellm
import openai
import pytest
from litellm import Router

from traced_router import _read_failure
from traced_router._facts import FailureFacts
from traced_router._readers import failure
from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import (
    BadRequest,
    Behaviour,
    ContentPolicy,
    ContextWindowExceeded,
    DieMidStream,
    Drop,
    Hang,
    Malformed,
    NotFound,
    RateLimited,
    ServerError,
    Status,
    Unauthorized,
)

MESSAGES = [{"role": "user", "content": "hi"}]
OPENAI, AZURE, ANTHROPIC, GEMINI, GROQ = (
    "openai/gpt-4o",
    "azure/gpt-4o",
    "anthropic/claude-sonnet-4-5",
    "gemini/gemini-2.5-flash",
    "groq/llama-3.1-8b-instant",  # litellm's own HTTP handler with OpenAI's protocol
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made
        made.release()


@pytest.fixture(autouse=True)
async def _close_connections() -> AsyncIterator[None]:
    """litellm keeps its clients for ever, and their sockets would be found open when the loop is gone."""
    yield
    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        transport = getattr(getattr(client, "client", None) or getattr(client, "_client", None), "_transport", None)
        if isinstance(transport, httpx.AsyncBaseTransport):
            await transport.aclose()


def router(provider: FakeProvider, model: str, *, retries: int = 0, **params: object) -> Router:
    if model.startswith("azure/"):
        params["api_version"] = "2024-06-01"
    made = provider.deployment("dep-a", model=model, max_retries=0, **params)
    return Router([made], num_retries=retries, retry_after=0, disable_cooldowns=True)


async def chat(made: Router) -> None:
    await made.acompletion("gpt-4o", MESSAGES)


async def stream(made: Router) -> None:
    async for _ in await made.acompletion("gpt-4o", MESSAGES, stream=True):
        pass


async def sync(made: Router) -> None:
    await asyncio.to_thread(made.completion, "gpt-4o", MESSAGES)


async def embedding(made: Router) -> None:
    await made.aembedding("gpt-4o", input=["hi"])


async def responses(made: Router) -> None:
    await made.aresponses(model="gpt-4o", input="hi")


async def failing(call: Callable[[Router], Any], made: Router) -> FailureFacts:
    with pytest.raises(Exception) as caught:  # of whatever kind
        await call(made)
    return failure(caught.value)


CALLS = [
    pytest.param(call, model, id=f"{model.partition('/')[0]}-{call.__name__}")
    for call, models in {
        chat: (OPENAI, AZURE, ANTHROPIC, GEMINI, GROQ),
        stream: (OPENAI, AZURE, ANTHROPIC, GEMINI),
        sync: (OPENAI, ANTHROPIC),
        embedding: (OPENAI, AZURE),
        responses: (OPENAI,),
    }.items()
    for model in models
]


class TestStatusesOverHttp:
    """litellm 1.106 alone makes 500 of a refused connection, 408 of a slow one, 422 of a malformed 200."""

    @pytest.mark.parametrize(("call", "model"), CALLS)
    @pytest.mark.parametrize(
        ("behaviour", "category"),
        [
            pytest.param(RateLimited(retry_after=7), "rate_limit", id="429"),
            pytest.param(ServerError(), "server", id="500"),
            pytest.param(ServerError(503), "server", id="503"),
            pytest.param(BadRequest(), "bad_request", id="400"),
            pytest.param(Unauthorized(), "auth", id="401"),
            pytest.param(Status(403), "auth", id="403"),
            pytest.param(NotFound(), "not_found", id="404"),
            pytest.param(Status(408), "timeout", id="408"),
        ],
    )
    async def test_sent(
        self, provider: FakeProvider, call: Callable[[Router], Any], model: str, behaviour: Status, category: str
    ) -> None:
        provider.default("dep-a", behaviour)
        facts = await failing(call, router(provider, model))
        wait = 7.0 if isinstance(behaviour, RateLimited) else None
        assert (facts.category, facts.status_code, facts.retry_after) == (category, behaviour.code, wait)
        assert type(facts.status_code) is int

    @pytest.mark.parametrize(("call", "model"), CALLS)
    async def test_connection_refused(self, provider: FakeProvider, call: Callable[[Router], Any], model: str) -> None:
        made = router(provider, model, api_base=provider.refusing_api_base("dep-a"))
        facts = await failing(call, made)
        assert (facts.category, facts.status_code, facts.retry_after) == ("connection", None, None)

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.parametrize(("call", "model"), CALLS)
    async def test_connection_dropped(
        self, provider: FakeProvider, call: Callable[[Router], Any], model: str, *, reset: bool
    ) -> None:
        provider.default("dep-a", Drop(reset=reset))
        facts = await failing(call, router(provider, model))
        assert (facts.category, facts.status_code) == ("connection", None)

    @pytest.mark.parametrize(("call", "model"), [c for c in CALLS if "gemini" not in str(c.id)])
    async def test_read_timeout(self, provider: FakeProvider, call: Callable[[Router], Any], model: str) -> None:
        provider.default("dep-a", Hang())
        facts = await failing(call, router(provider, model, timeout=0.2, stream_timeout=0.2))
        assert (facts.error_type, facts.category, facts.status_code) == ("Timeout", "timeout", None)

    @pytest.mark.parametrize("body", [None, {"foo": 1}])
    @pytest.mark.parametrize("model", [OPENAI, AZURE, ANTHROPIC, GEMINI, GROQ])
    @pytest.mark.parametrize("call", [chat, sync])
    async def test_malformed_200(
        self, provider: FakeProvider, call: Callable[[Router], Any], model: str, body: dict[str, int] | None
    ) -> None:
        provider.default("dep-a", Malformed() if body is None else Status(200, body=body))
        facts = await failing(call, router(provider, model))
        assert (facts.category, facts.status_code) == ("server", 200)

    @pytest.mark.parametrize("model", [OPENAI, AZURE, ANTHROPIC, GEMINI])
    async def test_death_in_mid_stream(self, provider: FakeProvider, model: str) -> None:
        provider.default("dep-a", DieMidStream(after_chunks=1))
        facts = await failing(stream, router(provider, model))
        assert facts.error_type != "MidStreamFallbackError"
        assert (facts.category, facts.status_code) == ("connection", None)

    @pytest.mark.parametrize(
        ("behaviour", "category"),
        [
            pytest.param(ContextWindowExceeded(), "context_window", id="context"),
            pytest.param(ContentPolicy(), "content_policy", id="policy"),
        ],
    )
    async def test_what_a_400_means(self, provider: FakeProvider, behaviour: Status, category: str) -> None:
        provider.default("dep-a", behaviour)
        facts = await failing(chat, router(provider, OPENAI))
        assert (facts.category, facts.status_code) == (category, 400)


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, GROQ])
@pytest.mark.parametrize("call", [chat, sync])
@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(Malformed(), ("server", 200, None), id="malformed"),
        pytest.param(Drop(), ("connection", None, None), id="drop"),
    ],
)
async def test_a_former_attempt_lends_nothing(
    provider: FakeProvider,
    call: Callable[[Router], Any],
    model: str,
    second: Behaviour,
    expected: tuple[str, int | None, float | None],
) -> None:
    """Python chains the first attempt's 429 below the second one's exception."""
    provider.script("dep-a", [RateLimited(retry_after=0), second])
    facts = await failing(call, router(provider, model, retries=1))
    assert (facts.category, facts.status_code, facts.retry_after) == expected


# --- exceptions made by hand -----------------------------------------------------------------


def made_up(kind: str, **more: Any) -> Exception:
    """One of litellm's exceptions, with all that it makes up."""
    return getattr(litellm, kind)(message="m", model="m", llm_provider="openai", **more)


def sent(status: int, headers: dict[str, str] | None = None) -> httpx.Response:
    """A response that went through an HTTP client."""
    handler = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=iter([b"{}"])))
    with httpx.Client(transport=handler) as client:
        return client.get("http://provider/v1")


def below(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def named(name: str, **members: object) -> Exception:
    """An exception of a class of this name, as another SDK has."""
    error: Exception = type(name, (Exception,), {})()
    for member, value in members.items():
        setattr(error, member, value)
    return error


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (made_up("RateLimitError"), "rate_limit"),
        (made_up("Timeout"), "timeout"),
        (made_up("AuthenticationError"), "auth"),
        (
            made_up("PermissionDeniedError", response=httpx.Response(403, request=httpx.Request("GET", "http://x"))),
            "auth",
        ),
        (made_up("ContextWindowExceededError"), "context_window"),
        (made_up("ContentPolicyViolationError"), "content_policy"),
        (made_up("BadRequestError"), "bad_request"),
        (made_up("UnsupportedParamsError"), "bad_request"),
        (made_up("NotFoundError"), "not_found"),
        (made_up("InternalServerError"), "server"),
        (made_up("ServiceUnavailableError"), "server"),
        (made_up("APIConnectionError"), "connection"),
        (litellm.APIError(500, "m", "openai", "m"), "server"),
        (asyncio.CancelledError(), "cancelled"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (httpx.ConnectError("m"), "connection"),
        (httpx.ReadTimeout("m"), "timeout"),
        (openai.APIConnectionError(request=httpx.Request("GET", "http://x")), "connection"),
        (openai.APITimeoutError(httpx.Request("GET", "http://x")), "timeout"),
        (named("ThrottlingException"), "rate_limit"),
        (named("AccessDeniedException"), "auth"),
        (named("ValidationException"), "bad_request"),
        (named("DeadlineExceeded"), "timeout"),
        (named("ServiceUnavailable"), "server"),
        (named("GuardrailRaisedException"), "content_policy"),
        (named("ClientError", response={"Error": {"Code": "ThrottlingException"}}), "rate_limit"),
        (named("ClientError", response={"Error": {"Code": "ModelErrorException"}}), "server"),
        (named("ClientError", response={"Error": {"Code": "Unheard"}}), "other"),
        (named("Anything", code="insufficient_quota"), "rate_limit"),
        (named("Anything", code=1), "other"),
        (named("Anything", status_code=504), "timeout"),
        (named("Anything", status_code=404), "not_found"),
        (named("Anything", status_code=409), "bad_request"),
        (named("Anything", status_code=529), "server"),
        (named("Anything", status_code=200), "server"),
        (named("Anything", status_code="x"), "other"),
        (named("Anything"), "other"),
        (ValueError("m"), "other"),
        (below(made_up("APIConnectionError"), ModuleNotFoundError("m")), "other"),
        (below(made_up("APIConnectionError"), named("InternalServerException")), "server"),
        (below(made_up("APIConnectionError"), httpx.ReadTimeout("m")), "timeout"),
        (below(made_up("InternalServerError"), ConnectionRefusedError()), "connection"),
        (below(named("RateLimitError"), ConnectionRefusedError()), "rate_limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_category(error: BaseException, category: str) -> None:
    assert failure(error) == FailureFacts(type(error).__name__, category)


LITELLMS = {
    "APIConnectionError": "connection",
    "APIError": "server",
    "APIResponseValidationError": "server",
    "AuthenticationError": "auth",
    "BadGatewayError": "server",
    "BadRequestError": "bad_request",
    "BlockedPiiEntityError": "content_policy",
    "BudgetExceededError": "rate_limit",
    "CallerCredentialAuthenticationError": "auth",
    "CallerCredentialRateLimitError": "rate_limit",
    "ContentPolicyViolationError": "content_policy",
    "ContextWindowExceededError": "context_window",
    "GuardrailRaisedException": "content_policy",
    "InternalServerError": "server",
    "InvalidRequestError": "bad_request",
    "JSONSchemaValidationError": "server",
    "LiteLLMUnknownProvider": "bad_request",
    "MidStreamFallbackError": "server",
    "ModifyResponseException": "content_policy",
    "NotFoundError": "not_found",
    "PaymentRequiredError": "auth",
    "PermissionDeniedError": "auth",
    "RateLimitError": "rate_limit",
    "RejectedRequestError": "content_policy",
    "SensitiveDataRouteException": "content_policy",
    "ServiceUnavailableError": "server",
    "Timeout": "timeout",
    "UnprocessableEntityError": "bad_request",
    "UnsupportedParamsError": "bad_request",
}
"""What each of litellm's exceptions means by itself; not every version has all of them."""


@pytest.mark.parametrize("name", [name for name in LITELLMS if hasattr(litellm.exceptions, name)])
def test_litellms_classes(name: str) -> None:
    kind: type[Exception] = getattr(litellm.exceptions, name)
    assert failure(kind.__new__(kind)) == FailureFacts(name, LITELLMS[name])


REAL = sent(429, {"retry-after": "3"})
INVENTED = httpx.Response(429, headers={"retry-after": "3"}, request=httpx.Request("GET", "http://x"))
BOTO = {"ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}}}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(openai.RateLimitError("m", response=INVENTED, body=None), 429, id="sdk"),
        pytest.param(httpx.HTTPStatusError("m", request=INVENTED.request, response=INVENTED), 429, id="httpx"),
        pytest.param(named("X", response=REAL), 429, id="any exception with a response off the wire"),
        pytest.param(named("X", response=INVENTED), None, id="any exception with an invented response"),
        pytest.param(made_up("RateLimitError"), None, id="litellm's"),
        pytest.param(below(made_up("BadRequestError"), named("X", response=sent(429))), 429, id="below litellm's"),
        pytest.param(named("ClientError", response=BOTO), 400, id="botocore"),
        pytest.param(named("ClientError", response={"Error": {}}), None, id="botocore without"),
        pytest.param(named("X", response=SimpleNamespace(status_code=502, elapsed=1.0)), 502, id="requests"),
        pytest.param(named("X", response=SimpleNamespace(status_code=9999, elapsed=1.0)), None, id="no status"),
        pytest.param(named("X", response=SimpleNamespace(status_code="502", elapsed=1.0)), None, id="text"),
        pytest.param(named("X", response="502"), None, id="no response"),
        pytest.param(
            below(openai.APIConnectionError(request=INVENTED.request), named("X", response=REAL)), None, id="transport"
        ),
    ],
)
def test_status(error: BaseException, status: int | None) -> None:
    assert failure(error).status_code == status


def test_status_of_aiohttp() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    error = aiohttp.ClientResponseError(SimpleNamespace(real_url="http://x"), (), status=503)
    assert failure(error) == FailureFacts("ClientResponseError", "server", 503)


def with_headers(headers: object) -> Exception:
    error = made_up("RateLimitError")
    error.litellm_response_headers = headers
    return error


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        pytest.param(with_headers({"retry-after": "2"}), 429, 2.0, id="litellm's copy"),
        pytest.param(with_headers({}), None, None, id="none"),
        pytest.param(with_headers(None), None, None, id="nothing"),
        pytest.param(with_headers({"retry-after": "soon"}), 429, None, id="garbage"),
        pytest.param(named("X", headers={"Retry-After": "4"}), None, 4.0, id="the exception's own"),
        pytest.param(below(made_up("RateLimitError"), named("X", response=REAL)), 429, 3.0, id="the cause's"),
    ],
)
def test_headers(error: BaseException, status: int | None, wait: float | None) -> None:
    facts = failure(error)
    assert (facts.status_code, facts.retry_after) == (status, wait)


def test_a_date_is_counted_from_now() -> None:
    error = named("X", headers={"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"})
    assert failure(error, now=lambda: 1_800_000_000.0).retry_after == 30.0


def mid_stream(original: Exception | None) -> Exception:
    kind: Any = litellm.exceptions.MidStreamFallbackError  # type: ignore[attr-defined]
    return kind(message="m", model="m", llm_provider="openai", original_exception=original)


def test_a_mid_stream_wrapper_stands_for_its_original() -> None:
    original = openai.RateLimitError("m", response=REAL, body=None)
    assert failure(mid_stream(original)) == FailureFacts("RateLimitError", "rate_limit", 429, 3.0)
    assert failure(mid_stream(mid_stream(original))).error_type == "RateLimitError"
    assert failure(mid_stream(None)).error_type == "MidStreamFallbackError"


def test_a_wrapper_round_itself_ends() -> None:
    error = mid_stream(None)
    error.original_exception = error  # type: ignore[attr-defined]
    assert failure(error).error_type == "MidStreamFallbackError"


def test_what_was_being_handled_before_is_not_looked_at() -> None:
    former = openai.RateLimitError("m", response=REAL, body=None)
    error = below(ValueError("m"), former)
    assert failure(error).status_code == 429
    assert failure(error, outer=former) == FailureFacts("ValueError", "other")


def test_chains_that_never_end() -> None:
    error = ValueError()
    error.__cause__, error.__context__ = error, below(KeyError(), error)
    assert failure(error) == FailureFacts("ValueError", "other")
    deep: BaseException = openai.RateLimitError("m", response=REAL, body=None)
    for _ in range(10_000):
        deep = below(ValueError(), deep)
    assert failure(deep).status_code is None


def exception_type(original_exception: BaseException) -> None:
    """As litellm's mapping is called, and as its parameter is."""
    raise made_up("RateLimitError") from None


def exception_type_of_litellms_own(original_exception: BaseException) -> None:
    raise original_exception


def mapping_of(code: Callable[..., Any], **known: object) -> Callable[..., Any]:
    """A function in the module where litellm maps exceptions."""
    space = {"__name__": "litellm.litellm_core_utils.exception_mapping_utils", **known}
    return type(exception_type)(code.__code__.replace(co_name="exception_type"), space)


def test_a_chain_that_was_overwritten_is_found_in_the_frame_of_the_mapping() -> None:
    raw = openai.RateLimitError("m", response=REAL, body=None)
    with pytest.raises(litellm.RateLimitError) as caught:
        mapping_of(exception_type, made_up=made_up)(raw)
    assert failure(caught.value) == FailureFacts("RateLimitError", "rate_limit", 429, 3.0)


def test_a_mapping_that_raised_what_it_was_given() -> None:
    raw = made_up("RateLimitError")
    with pytest.raises(litellm.RateLimitError):
        mapping_of(exception_type_of_litellms_own)(raw)
    assert failure(raw) == FailureFacts("RateLimitError", "rate_limit")


class Sullen(Exception):  # noqa: N818
    """Every property raises."""

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise RuntimeError


class Sulkier(Exception):  # noqa: N818
    """Even its place in a chain raises."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError


def test_exceptions_that_raise() -> None:
    assert failure(Sullen()) == FailureFacts("Sullen", "other")
    assert failure(Sulkier()) == FailureFacts("Sulkier")


@pytest.mark.parametrize("base", [ValueError, Sulkier, asyncio.CancelledError])
def test_a_long_name_is_cut(base: type[BaseException]) -> None:
    assert failure(type("x" * 1100, (base,), {})()).error_type == "x" * 1024


def test_a_fault_in_here_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_failure, "_failure", None)
    assert failure(ValueError("m")) == FailureFacts("ValueError", "other")


def test_no_message_is_kept() -> None:
    facts = failure(json.JSONDecodeError("secret prompt", "secret prompt", 0))
    assert "secret" not in repr(facts)
    assert facts.category == "server"
