"""How long a call may take.

``TracedRouter(deadline=…)`` and ``router.acompletion(..., deadline=…)`` take seconds, or a
:class:`Deadline`. This module holds plain values; what runs down while a call runs is in
``_countdown``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard, TypeVar, cast

from traced_router.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Seconds that one call may take, over all attempts, waits and fallbacks.

    Attributes:
        total: until the caller has the whole answer, a stream's last chunk included.
        first_chunk: until the caller has a stream's first chunk; says nothing of a call without a stream.

    Raises:
        ConfigurationError: for values that cannot be, or when neither is given.
    """

    total: float | None = None
    first_chunk: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("total", "first_chunk"):
            value = getattr(self, name)
            if value is not None and not _is_seconds(value):
                raise ConfigurationError(f"{name}={value!r}: give seconds as a number, or nothing.")
        if self.total is None and self.first_chunk is None:
            raise ConfigurationError("A Deadline needs total=, first_chunk=, or both, in seconds.")


T = TypeVar("T")

EVERY_GROUP: Final = "*"
"""The key, in a mapping by model group, of what holds for all other groups."""

Deadlines: TypeAlias = Mapping[str, Deadline | None]
"""By model group."""


def deadline_of(given: object) -> Deadline | None:
    """What a call, or a group, was given: seconds, a :class:`Deadline`, or its fields as a mapping.

    Raises:
        ConfigurationError: it is none of these.
    """
    if given is None or isinstance(given, Deadline):
        return given
    if _is_seconds(given):
        return Deadline(total=float(cast("float", given)))
    if _is_fields(given):
        return Deadline(**cast("Mapping[str, float]", given))
    raise ConfigurationError(
        f"deadline={str(given)[:64]!r}: give seconds, a Deadline(total=…, first_chunk=…), or nothing."
    )


def deadlines_of(given: object) -> Deadlines:
    """What a router was given: one for all groups, or a mapping by group, with ``"*"`` for all others.

    Raises:
        ConfigurationError: it is neither.
    """
    if given is None:
        return {}
    if _is_mapping(given) and not _is_fields(given):
        return {str(group): deadline_of(one) for group, one in given.items()}
    return {EVERY_GROUP: deadline_of(given)}


def of_group(table: Mapping[str, T], group: str | None) -> T | None:
    """What a mapping by model group has for ``group``."""
    return table[group] if group is not None and group in table else table.get(EVERY_GROUP)


def _is_mapping(given: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(given, Mapping)


def _is_fields(given: object) -> bool:
    """Whether a mapping has the fields of a :class:`Deadline`, rather than model groups."""
    return _is_mapping(given) and {*given} <= {"total", "first_chunk"}


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
