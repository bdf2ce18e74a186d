"""A litellm deployment as its attempts name it: model, provider, host.

Made once per deployment and cached, because ``api_base`` has to be parsed and litellm asked
for the provider of a bare model name. This module must not know OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from traced_router._facts import DeploymentFacts
from traced_router._litellm import guess_provider
from traced_router._values import text

_CONVENTIONS: Final[Mapping[str, str]] = {
    # GenAI semantic conventions 1.38, well-known values of gen_ai.provider.name.
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "text-completion-codestral": "mistral_ai",
    "text-completion-openai": "openai",
    "xai": "x_ai",
}

_PORTS: Final[Mapping[str, int]] = {"https": 443, "wss": 443, "http": 80, "ws": 80}


def server(api_base: object) -> tuple[str | None, int | None]:
    """Host and port of a URL; never its path, query or user."""
    base = text(api_base)
    if base is None:
        return None, None
    try:
        parts = urlsplit(base if "://" in base else f"https://{base}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None, None
    if not host or any(c.isspace() for c in host):
        return None, None
    return host, port if port is not None else _PORTS.get(parts.scheme)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def deployment(deployment: Mapping[str, object]) -> DeploymentFacts:
    """The facts of a litellm deployment, ``{"model_name", "litellm_params", "model_info"}``."""
    try:
        return _deployment(deployment)
    except Exception:  # noqa: BLE001 - a deployment can be any object of the user's
        return DeploymentFacts()


def _deployment(deployment: Mapping[str, object]) -> DeploymentFacts:
    params = _mapping(deployment.get("litellm_params"))
    id_ = _mapping(deployment.get("model_info")).get("id")
    name = text(params.get("model"))
    provider = text(params.get("custom_llm_provider"))
    base = params.get("api_base") or params.get("base_url")
    address, port = server(base)
    model, provider = _split(name, provider, text(base))
    return DeploymentFacts(
        id=None if id_ is None else text(str(id_)),
        model=model,
        provider=None if provider is None else _CONVENTIONS.get(provider, provider),
        server_address=address,
        server_port=port,
    )


def _split(name: str | None, provider: str | None, base: str | None) -> tuple[str | None, str | None]:
    if name is None:
        return None, provider
    if provider is not None:
        return name.removeprefix(f"{provider}/"), provider
    return guess_provider(name, base) or (name, None)


class DeploymentReader:
    """Reads each deployment once: a hot change of its model or base is seen."""

    def __init__(self, limit: int = 4096) -> None:
        """Keep at most ``limit`` deployments, then start over."""
        self._limit = limit
        self._known: dict[tuple[object, ...], DeploymentFacts] = {}

    def read(self, candidate: Mapping[str, object]) -> DeploymentFacts:
        """The facts of a deployment, from memory when nothing that they depend on has changed."""
        try:
            params = candidate["litellm_params"]
            key = (
                candidate["model_info"]["id"],  # type: ignore[index]
                params["model"],  # type: ignore[index]
                params.get("api_base"),  # type: ignore[attr-defined]
                params.get("base_url"),  # type: ignore[attr-defined]
                params.get("custom_llm_provider"),  # type: ignore[attr-defined]
            )
            facts = self._known.get(key)
        except Exception:  # noqa: BLE001 - an odd deployment is read without the cache
            return deployment(candidate)
        if facts is None:
            facts = deployment(candidate)
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[key] = facts
        return facts
