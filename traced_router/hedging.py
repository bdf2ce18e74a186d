"""Hedging: a second attempt on another deployment, where the first one takes long.

``TracedRouter(hedging=…)`` and ``router.acompletion(..., hedging=…)`` take a :class:`HedgePolicy`, or one
by model group. It is off unless asked for: see the guide for when it hurts. This module holds plain
values; what races is in ``_hedging``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias, TypeGuard, cast

from traced_router.deadline import EVERY_GROUP
from traced_router.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """When a second attempt is sent beside the first, and how many may be.

    The delay is that of a hedged request in Dean and Barroso, *The Tail at Scale*, Communications of the ACM
    56(2), 2013: the second one is sent when the first has taken longer than the 95th percentile, which costs
    some 5 % more calls. The budget holds where that no longer is so: when a whole group has become slow.

    Attributes:
        delay: seconds from the first attempt to the second; ``None`` for the group's own ``quantile``.
        quantile: of the seconds that the group's last 256 first attempts took: to their answer, or to a
            stream's first chunk with content.
        warmup: attempts that must be known before there is a quantile; nothing is hedged until then.
        ratio: hedges that may be sent per call, over the last ten seconds.
        per_second: hedges per second that may be sent in any case, likewise.

    Raises:
        ConfigurationError: for values that cannot be.
    """

    delay: float | None = None
    quantile: float = 0.95
    warmup: int = 20
    ratio: float = 0.1
    per_second: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("delay", "ratio", "per_second"):
            value = getattr(self, name)
            if not (name == "delay" and value is None) and not (_is_number(value) and value >= 0):
                raise ConfigurationError(f"{name}={value!r}: give a number, 0 or more.")
        if not _is_number(self.quantile) or not 0 < self.quantile < 1:
            raise ConfigurationError(f"quantile={self.quantile!r}: give a number between 0 and 1.")
        if type(self.warmup) is not int or self.warmup < 1:
            raise ConfigurationError(f"warmup={self.warmup!r}: give a whole number, 1 or more.")


Hedges: TypeAlias = Mapping[str, HedgePolicy | None]
"""By model group."""


def hedge_of(given: object) -> HedgePolicy | None:
    """What a call, or a group, was given: seconds of delay, a :class:`HedgePolicy`, its fields, or a flag.

    Raises:
        ConfigurationError: it is none of these.
    """
    if given is None or given is False:
        return None
    if given is True:
        return HedgePolicy()
    if isinstance(given, HedgePolicy):
        return given
    if _is_number(given):
        return HedgePolicy(delay=given)
    if _is_fields(given):
        return HedgePolicy(**cast("Mapping[str, Any]", given))
    raise ConfigurationError(
        f"hedging={str(given)[:64]!r}: give a HedgePolicy(…), seconds of delay, True for HedgePolicy(), False for "
        "none, or a mapping of these by model group."
    )


def hedges_of(given: object) -> Hedges:
    """What a router was given: one for all groups, or a mapping by group, with ``"*"`` for all others.

    Raises:
        ConfigurationError: it is neither.
    """
    if _is_mapping(given) and not _is_fields(given):
        return {str(group): hedge_of(one) for group, one in given.items()}
    policy = hedge_of(given)
    return {} if policy is None else {EVERY_GROUP: policy}


_FIELDS: Final = frozenset(field.name for field in fields(HedgePolicy))


def _is_mapping(given: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(given, Mapping)


def _is_fields(given: object) -> bool:
    """Whether a mapping has the fields of a :class:`HedgePolicy`, rather than model groups."""
    return _is_mapping(given) and bool(given) and {*given} <= _FIELDS


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
