"""From litellm's and HTTP's objects to plain facts: pure functions that never raise.

One module per kind of object; this one only gathers their names. None of them knows
OpenTelemetry, and private litellm names are reached through :mod:`traced_router._litellm`.
"""

from traced_router._read_answer import answer
from traced_router._read_deployment import DeploymentReader, deployment
from traced_router._read_failure import failure
from traced_router._read_request import RequestValue, request_parameters
from traced_router._read_stream import StreamReader
from traced_router._retry_after import retry_after_seconds

__all__ = [
    "DeploymentReader",
    "RequestValue",
    "StreamReader",
    "answer",
    "deployment",
    "failure",
    "request_parameters",
    "retry_after_seconds",
]
