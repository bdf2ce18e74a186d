"""Which retry policy is in force for which call: the call's own, its group's, or the router's.

``None`` stands for litellm's own loop. This module must know neither litellm nor OpenTelemetry.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from tenacity import AsyncRetrying, BaseRetrying

from traced_router.deadline import EVERY_GROUP
from traced_router.errors import ConfigurationError
from traced_router.retry import RetryPolicy

Policy: TypeAlias = RetryPolicy | AsyncRetrying
"""What the loop runs: ours, or a template of tenacity's that is copied for each turn."""

Policies: TypeAlias = Mapping[str, Policy | None]
"""By model group."""

INHERIT: Final = object()
"""What stands for a call's own policy where it gave none."""


def policy_of(given: object) -> Policy | None:
    """What a call, or a group, was given.

    ``True`` is a :class:`RetryPolicy` as it comes, ``False`` and ``None`` are litellm's own loop, and a
    mapping has the fields of a :class:`RetryPolicy`.

    Raises:
        ConfigurationError: it is no policy.
    """
    if given is None or given is False:
        return None
    if given is True:
        return RetryPolicy()
    if isinstance(given, RetryPolicy):
        return given
    if isinstance(given, BaseRetrying):
        return _asynchronous(given)
    if isinstance(given, Mapping):
        try:
            return RetryPolicy(**cast("Mapping[str, Any]", given))
        except TypeError as error:
            raise ConfigurationError(f"retrying={str(cast('object', given))[:64]}: {error}.") from None
    raise ConfigurationError(
        f"retrying={type(given).__name__!r} object: give a RetryPolicy, tenacity's AsyncRetrying or Retrying, "
        "a mapping of these by model group, True for RetryPolicy(), or False for litellm's own retries."
    )


def policies_of(given: object) -> Policies:
    """What a router was given: one for all groups, or a mapping by group, with ``"*"`` for all others.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(given, Mapping):
        return {str(group): policy_of(one) for group, one in cast("Mapping[object, object]", given).items()}
    policy = policy_of(given)
    return {} if policy is None else {EVERY_GROUP: policy}


def _asynchronous(policy: BaseRetrying) -> AsyncRetrying:
    """``policy`` for an event loop: litellm runs the attempts of synchronous calls in one, too."""
    if isinstance(policy, AsyncRetrying):
        return policy
    return AsyncRetrying(
        sleep=cast("Any", policy.sleep),
        stop=policy.stop,
        wait=policy.wait,
        retry=policy.retry,
        before=policy.before,
        after=policy.after,
        before_sleep=policy.before_sleep,
        retry_error_callback=policy.retry_error_callback,
    )
