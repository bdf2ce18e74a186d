"""A ready-made retry policy: how often, for which failures, and with which waits.

``TracedRouter(retrying=RetryPolicy())`` puts it in the place of litellm's retry loop; the loop is in
``_retrying``. This module is formulas over plain values: it must know neither litellm nor
OpenTelemetry nor tenacity.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from traced_router.errors import ConfigurationError

RETRYABLE: Final = ("rate_limit", "timeout", "connection", "server", "other")
"""Categories of failures (``traced_router.error.category``) that another attempt can mend.

The rest are the request's own fault, or the configuration's: what is too long, forbidden or not there
stays so.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, which waits as long as a provider asks.

    The wait before the n-th retry is drawn evenly from ``0`` to ``min(max_wait, base_wait * 2 ** (n - 1))``:
    "full jitter" of Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015. A
    deployment that asked to be left alone (``Retry-After``, ``retry-after-ms``) is not asked again
    before that.

    Attributes:
        attempts: of one model group in one call, the first one included.
        base_wait: seconds that the first wait is at most.
        max_wait: seconds that any wait of the policy's own is at most.
        max_retry_after: seconds that a provider may ask for; one that asks for more is given up.
        retry_on: categories of failures that are retried, some of :data:`RETRYABLE`.
        rng: draws the jitter; the global one when ``None``.
        clock: the wall clock, for a ``Retry-After`` that is a date.
        sleep: waits.

    Raises:
        ConfigurationError: for values that cannot be.
    """

    attempts: int = 3
    base_wait: float = 0.5
    max_wait: float = 8.0
    max_retry_after: float = 60.0
    retry_on: Collection[str] = ("rate_limit", "timeout", "connection", "server")
    rng: random.Random | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigurationError(f"attempts={self.attempts!r}: give a whole number, 1 or more.")
        for name in ("base_wait", "max_wait", "max_retry_after"):
            if not _is_duration(getattr(self, name)):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give seconds, 0 or more.")
        unknown = [self.retry_on] if isinstance(self.retry_on, str) else sorted({*self.retry_on} - {*RETRYABLE})
        if unknown:
            raise ConfigurationError(f"retry_on has {unknown}: give a list of some of {', '.join(RETRYABLE)}.")

    def retries(self, category: str, asked: float | None) -> bool:
        """Whether a failure is worth another attempt.

        Args:
            category: the failure's.
            asked: seconds that the provider asked to wait.
        """
        return category in self.retry_on and (asked is None or asked <= self.max_retry_after)

    def backoff(self, retry: int) -> float:
        """Seconds to wait before the n-th retry, ``retry`` from 1, where no provider asked for any."""
        doubled = math.ldexp(self.base_wait, min(retry - 1, _MAX_DOUBLINGS))
        return (self.rng or _GLOBAL).uniform(0.0, min(self.max_wait, doubled))


_GLOBAL: Final = random.Random()  # noqa: S311  # jitter is no secret
_MAX_DOUBLINGS: Final = 64


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
