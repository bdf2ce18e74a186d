"""Why an attempt failed: class, category, the status that was really sent, the wait asked for.

litellm makes up statuses (500 for a refused connection, 408 for a timeout) and whole
``httpx.Response`` objects. The truth is further down the exception's chain, in the SDK's or
httpx's own exception. This module must not know OpenTelemetry.
"""

from ._facts import FailureFacts


def failure(exc: BaseException, outer: BaseException | None = None) -> FailureFacts:
    """The facts of a failure.

    ``outer`` is the exception that was being handled when the attempt began, usually the former
    attempt's: Python chains it below ``exc``, and its facts are not this attempt's.
    """
    return FailureFacts(error_type=type(exc).__name__)


def retry_after_seconds(headers: object, now: float) -> float | None:
    """Seconds that a provider asked to wait; ``now`` is the wall clock, seconds since 1970."""
    return None
