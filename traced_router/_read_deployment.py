"""A litellm deployment as its attempts name it: model, provider, host.

Read once per deployment and remembered, because ``api_base`` has to be parsed, and litellm asked
whose a bare model name is. This module must not know OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from traced_router._facts import DeploymentFacts
from traced_router._litellm import guess_provider
from traced_router._values import text

_CONVENTIONS: Final[Mapping[str, str]] = {
    # GenAI semantic conventions 1.38, the well-known values of gen_ai.provider.name.
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
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
    "anthropic_text": "anthropic",
    "xai": "x_ai",
}
_PORTS: Final[Mapping[str, int]] = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_MAX_KNOWN: Final = 4096


def deployment(configured: object) -> DeploymentFacts:
    """The facts of one of a router's deployments: ``{"model_name", "litellm_params", "model_info"}``."""
    try:
        return _deployment(_mapping(configured))
    except Exception:  # noqa: BLE001  # a deployment can have any object in it
        return DeploymentFacts()


def _deployment(configured: Mapping[str, object]) -> DeploymentFacts:
    params = _mapping(configured.get("litellm_params"))
    base = _url(params.get("api_base")) or _url(params.get("base_url"))
    model, provider = _model(text(params.get("model")), text(params.get("custom_llm_provider")), base)
    address, port = _server(base)
    return DeploymentFacts(
        id=_id(_mapping(configured.get("model_info")).get("id")),
        model=model,
        provider=None if provider is None else _CONVENTIONS.get(provider, provider),
        server_address=address,
        server_port=port,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _url(value: object) -> str | None:
    """A URL that can be parsed, or the name of a secret that nobody has looked up yet: then it is ``None``."""
    if not isinstance(value, str) or not value.isascii() or value.startswith("os.environ/"):
        return None
    return text(value)


def _id(value: object) -> str | None:
    return None if value is None else text(value if isinstance(value, str) else str(value))


def _model(name: str | None, provider: str | None, base: str | None) -> tuple[str | None, str | None]:
    """The model without its provider's prefix, and litellm's name of the provider."""
    if name is None:
        return None, provider
    model = name.removeprefix(f"{provider}/")
    if provider is None:
        model, provider = guess_provider(name, base)
    for route in _ROUTES:
        model = model.removeprefix(route)
    return text(model) or name, text(provider)


_ROUTES: Final = ("responses/", "converse/", "invoke/")
"""What stands between the provider and the model to say which of the provider's interfaces is called."""


def _server(base: str | None) -> tuple[str | None, int | None]:
    """Host and port of a URL; never its path, query or user."""
    if base is None:
        return None, None
    try:
        parts = urlsplit(base if "://" in base else f"//{base}", scheme="https")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None, None
    if not host or not _HOST.issuperset(host):
        return None, None
    return host, _PORTS.get(parts.scheme) if port is None else port


_HOST: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_:%")
"""What a host name or an IP address is made of, after ``urlsplit`` has put it in lower case."""


class DeploymentReader:
    """Reads each deployment once, and again when what its facts are made of has changed."""

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int = _MAX_KNOWN) -> None:
        """Remember ``limit`` deployments, then start over."""
        self._limit = limit
        self._known: dict[tuple[object, ...], DeploymentFacts] = {}

    def read(self, configured: Any) -> DeploymentFacts:
        """The facts of a deployment."""
        try:
            params = configured["litellm_params"]
            get = params.get
            key = (
                configured["model_info"]["id"],
                params["model"],
                get("api_base"),
                get("base_url"),
                get("custom_llm_provider"),
            )
            facts = self._known.get(key)
        except Exception:  # noqa: BLE001  # an odd deployment is read without the memory
            return deployment(configured)
        if facts is None:
            facts = deployment(configured)
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[key] = facts
        return facts
