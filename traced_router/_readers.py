"""From litellm's and HTTP's objects to plain facts: pure functions that never raise.

One module per kind of object; this one only gathers their names. None of them knows
OpenTelemetry, and private litellm names are reached through :mod:`traced_router._litellm`.
"""

from ._read_answer import answer
from ._read_deployment import DeploymentReader, deployment
from ._read_failure import failure, retry_after_seconds
from ._read_request import RequestValue, request_parameters
from ._read_stream import StreamReader

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
