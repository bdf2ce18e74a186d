"""A deployment as its attempts name it."""

from typing import Any

import litellm
import pytest

from traced_router import _read_deployment
from traced_router._facts import DeploymentFacts
from traced_router._readers import DeploymentReader, deployment


def configured(model: object = "openai/gpt-4o", /, *, id_: object = "dep-a", **params: object) -> dict[str, Any]:
    return {"model_name": "g", "litellm_params": {"model": model, **params}, "model_info": {"id": id_}}


@pytest.mark.parametrize(
    ("given", "model", "provider"),
    [
        (configured("openai/gpt-4o"), "gpt-4o", "openai"),
        (configured("gpt-4o"), "gpt-4o", "openai"),
        (configured("claude-sonnet-4-5"), "claude-sonnet-4-5", "anthropic"),
        (configured("azure/my-dep"), "my-dep", "azure.ai.openai"),
        (configured("azure_ai/mistral-large"), "mistral-large", "azure.ai.inference"),
        (configured("bedrock/us-east-1/anthropic.claude-v2"), "us-east-1/anthropic.claude-v2", "aws.bedrock"),
        (configured("bedrock/converse/anthropic.claude-v2"), "anthropic.claude-v2", "aws.bedrock"),
        (configured("openai/responses/gpt-4o"), "gpt-4o", "openai"),
        (configured("openrouter/anthropic/claude"), "anthropic/claude", "openrouter"),
        (configured("vertex_ai/gemini-2.0-flash"), "gemini-2.0-flash", "gcp.vertex_ai"),
        (configured("gemini/gemini-2.0-flash"), "gemini-2.0-flash", "gcp.gemini"),
        (configured("cohere_chat/command-r"), "command-r", "cohere"),
        (configured("cohere/command-r"), "command-r", "cohere"),
        (configured("watsonx/ibm/granite"), "ibm/granite", "ibm.watsonx.ai"),
        (configured("mistral/mistral-small-latest"), "mistral-small-latest", "mistral_ai"),
        (configured("codestral/codestral-latest"), "codestral-latest", "mistral_ai"),
        (configured("groq/llama-3.1-8b-instant"), "llama-3.1-8b-instant", "groq"),
        (configured("deepseek/deepseek-chat"), "deepseek-chat", "deepseek"),
        (configured("perplexity/sonar"), "sonar", "perplexity"),
        (configured("xai/grok-2"), "grok-2", "x_ai"),
        (configured("text-completion-openai/davinci-002"), "davinci-002", "openai"),
        (configured("meta/llama", custom_llm_provider="hosted_vllm"), "meta/llama", "hosted_vllm"),
        (configured("openai/gpt-4o", custom_llm_provider="openai"), "gpt-4o", "openai"),
        (configured("anthropic/claude", custom_llm_provider="openai"), "anthropic/claude", "openai"),
        (configured("vertex/x", custom_llm_provider="vertex_ai_beta"), "vertex/x", "gcp.vertex_ai"),
        (configured("llama-3", api_base="https://api.groq.com/openai/v1"), "llama-3", "groq"),
        (configured("nobody-knows-it"), "nobody-knows-it", None),
        (configured("no-such-provider/x"), "no-such-provider/x", None),
        (configured("openai/"), "openai/", "openai"),
        (configured("openai/", custom_llm_provider="openai"), "openai/", "openai"),
        (configured(None), None, None),
        (configured(None, custom_llm_provider="azure"), None, "azure.ai.openai"),
        (configured(["x"]), None, None),
        (configured(""), None, None),
        ({}, None, None),
        ({"litellm_params": None, "model_info": 3}, None, None),
    ],
)
def test_model_and_provider(
    given: dict[str, Any], model: str | None, provider: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = deployment(given)
    assert (facts.model, facts.provider) == (model, provider)
    assert capsys.readouterr().out == ""  # litellm prints when it is asked for a provider that it does not know
    assert litellm.suppress_debug_info in (False, True)


@pytest.mark.parametrize(
    ("base", "address", "port"),
    [
        ("https://api.openai.com/v1", "api.openai.com", 443),
        ("http://10.0.0.1", "10.0.0.1", 80),
        ("https://user:secret@Host.example:8443/openai?key=secret#x", "host.example", 8443),
        ("http://[::1]:11434/api", "::1", 11434),
        ("wss://host", "host", 443),
        ("localhost:4000", "localhost", 4000),
        ("localhost", "localhost", 443),
        ("ftp://host/x", "host", None),
        ("http://host:99999/", None, None),
        ("http://host:abc/", None, None),
        ("http://[::1", None, None),
        ("http://", None, None),
        ("https://a b/", None, None),
        ("https://h\ud800st/", None, None),
        ("os.environ/AZURE_API_BASE", None, None),
        ("   ", None, None),
        (42, None, None),
        (None, None, None),
    ],
)
def test_server(base: object, address: str | None, port: int | None) -> None:
    facts = deployment(configured(api_base=base))
    assert (facts.server_address, facts.server_port) == (address, port)
    assert deployment(configured(base_url=base)) == facts


def test_api_base_comes_before_base_url() -> None:
    assert deployment(configured(api_base="http://a", base_url="http://b")).server_address == "a"


@pytest.mark.parametrize(("id_", "expected"), [("dep", "dep"), (7, "7"), (None, None), ("", None)])
def test_id(id_: object, expected: str | None) -> None:
    assert deployment(configured(id_=id_)).id == expected


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_odd_deployments_have_no_facts() -> None:
    assert deployment(None) == DeploymentFacts()
    assert deployment(configured(id_=Unprintable())) == DeploymentFacts()


class TestReader:
    def test_reads_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reader = DeploymentReader()
        first = reader.read(configured())
        monkeypatch.setattr(_read_deployment, "deployment", None)
        assert reader.read(configured()) is first

    @pytest.mark.parametrize(
        "changed",
        [
            configured("openai/gpt-4o-mini"),
            configured(api_base="http://b"),
            configured(base_url="http://b"),
            configured(custom_llm_provider="hosted_vllm"),
            configured(id_="dep-b"),
        ],
    )
    def test_sees_a_change(self, changed: dict[str, Any]) -> None:
        reader = DeploymentReader()
        assert reader.read(configured()) != reader.read(changed)
        assert reader.read(changed) == deployment(changed)

    def test_is_bounded(self) -> None:
        reader = DeploymentReader(limit=2)
        for i in range(5):
            assert reader.read(configured(id_=i)).id == str(i)
        assert len(reader._known) <= 2

    @pytest.mark.parametrize("odd", [None, {}, configured(["unhashable"]), {"litellm_params": {}, "model_info": {}}])
    def test_reads_odd_ones_without_memory(self, odd: object) -> None:
        reader = DeploymentReader()
        assert reader.read(odd) == deployment(odd)
        assert reader._known == {}
