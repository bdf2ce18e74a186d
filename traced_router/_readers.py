"""From litellm's and HTTP's objects to plain facts: pure functions that never raise.

One module per kind of object; this one only gathers their names. None of them knows
OpenTelemetry, and what is private in litellm is reached through :mod:`traced_router._litellm`.
"""

from traced_router._read_answer import answer
from traced_router._read_deployment import DeploymentReader, deployment
from traced_router._read_failure import failure
from traced_router._read_headers import Ratelimit, ratelimit, retry_after_seconds
from traced_router._read_request import RequestValue, request_parameters
from traced_router._read_stream import StreamReader

__all__ = [
    "DeploymentReader",
    "Ratelimit",
    "RequestValue",
    "StreamReader",
    "answer",
    "deployment",
    "failure",
    "ratelimit",
    "request_parameters",
    "retry_after_seconds",
]
