"""Which endpoint a path is: the one table from the end of a path to what it answers.

Only the end counts, so that every prefix a client may put before it (``/v1``, a version, Azure's
``/openai/deployments/…``) reaches the same endpoint.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from traced_router.testing import _provider_bodies as bodies
from traced_router.testing import _provider_errors as errors
from traced_router.testing import _provider_resources as resources
from traced_router.testing import _provider_streams as streams
from traced_router.testing._provider_behaviours import Answer, Status

BodyMaker: TypeAlias = Callable[[bodies.Call, Answer], "bodies.Body | bytes"]
StreamMaker: TypeAlias = Callable[[bodies.Call, Answer], streams.Script]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a family of endpoints says that something went wrong: as a body, and inside a stream."""

    error: Callable[[Status], bodies.Body]
    error_event: Callable[[Status], bytes]


OPENAI: Final = Protocol(errors.openai_error, errors.openai_error_event)
RESPONSES: Final = Protocol(errors.openai_error, errors.responses_error_event)
ANTHROPIC: Final = Protocol(errors.anthropic_error, errors.anthropic_error_event)
GEMINI: Final = Protocol(errors.gemini_error, errors.gemini_error_event)
MESSAGE: Final = Protocol(errors.message_error, errors.openai_error_event)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What an endpoint answers.

    Attributes:
        body: the answer in one piece: a JSON value, or bytes with ``content_type``.
        stream: the answer as events; ``None`` where nothing is streamed.
        always_streams: the path alone asks for a stream, not the body's ``stream``.
        content_type: of ``body``.
    """

    protocol: Protocol
    body: BodyMaker
    stream: StreamMaker | None = None
    always_streams: bool = False
    content_type: str = "application/json"

    def streams(self, request: bodies.Body) -> bool:
        """Whether this request is to be answered in events."""
        return self.stream is not None and (self.always_streams or request.get("stream") is True)


_TABLE: Final[tuple[tuple[str, str, Endpoint], ...]] = (
    ("POST", "/chat/completions", Endpoint(OPENAI, bodies.chat, streams.chat)),
    ("POST", "/completions", Endpoint(OPENAI, bodies.text_completion, streams.text_completion)),
    ("POST", "/embeddings", Endpoint(OPENAI, bodies.embeddings)),
    ("POST", "/responses(/compact)?", Endpoint(RESPONSES, bodies.responses, streams.responses)),
    ("(GET|POST)", "/responses/[^/]+(/cancel)?", Endpoint(RESPONSES, bodies.responses)),
    ("POST", "/messages", Endpoint(ANTHROPIC, bodies.anthropic, streams.anthropic)),
    ("POST", "/messages/count_tokens", Endpoint(ANTHROPIC, bodies.anthropic_count)),
    ("POST", ":generateContent", Endpoint(GEMINI, bodies.gemini)),
    ("POST", ":streamGenerateContent", Endpoint(GEMINI, bodies.gemini, streams.gemini, always_streams=True)),
    ("POST", "/model/[^/]+/converse", Endpoint(MESSAGE, bodies.bedrock)),
    ("POST", "/images/(generations|edits|variations)", Endpoint(OPENAI, resources.images)),
    ("POST", "/audio/(transcriptions|translations)", Endpoint(OPENAI, resources.transcription)),
    ("POST", "/audio/speech", Endpoint(OPENAI, resources.speech, content_type="audio/mpeg")),
    ("POST", "/moderations", Endpoint(OPENAI, resources.moderations)),
    ("POST", "/rerank", Endpoint(MESSAGE, resources.rerank)),
    ("GET", "/models", Endpoint(OPENAI, resources.models)),
    ("POST", "/files", Endpoint(OPENAI, resources.file)),
    ("GET", "/files", Endpoint(OPENAI, resources.listing(resources.file))),
    ("GET", "/files/[^/]+/content", Endpoint(OPENAI, resources.file_content, content_type="application/octet-stream")),
    ("GET", "/files/[^/]+", Endpoint(OPENAI, resources.file)),
    ("POST", "/batches(/[^/]+/cancel)?", Endpoint(OPENAI, resources.batch)),
    ("GET", "/batches/[^/]+", Endpoint(OPENAI, resources.batch)),
    ("GET", "/batches", Endpoint(OPENAI, resources.listing(resources.batch))),
    ("POST", "/vector_stores/[^/]+/search", Endpoint(OPENAI, resources.vector_store_search)),
    ("GET", "/vector_stores", Endpoint(OPENAI, resources.listing(resources.vector_store))),
    ("POST", "/vector_stores(/[^/]+)?", Endpoint(OPENAI, resources.vector_store)),
    ("GET", "/vector_stores/[^/]+", Endpoint(OPENAI, resources.vector_store)),
    ("DELETE", "/(files|responses|vector_stores)/[^/]+", Endpoint(OPENAI, resources.deleted)),
)
_PATTERNS: Final = tuple((re.compile(f"{method} .*{path}"), endpoint) for method, path, endpoint in _TABLE)


NOWHERE: Final = Endpoint(OPENAI, resources.models)
"""No endpoint: it has a protocol, to say so in."""


@functools.lru_cache(maxsize=1024)
def find(method: str, path: str) -> Endpoint:
    """The endpoint of a path without its query, or :data:`NOWHERE`."""
    line = f"{method} {path.rstrip('/')}"
    return next((endpoint for pattern, endpoint in _PATTERNS if pattern.fullmatch(line)), NOWHERE)
