"""What makes one call's retries a storm: the same group over and over, in circles, earlier than it has asked for.

Plain functions and values: the tree writes down what they find, and the rules of
:mod:`traced_router.testing` check it by the same words. This module must know neither litellm nor
OpenTelemetry.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

LENIENCE: Final = 10_000_000
"""Nanoseconds by which a provider may be called too early: a date is as exact as whoever reads it is quick."""

_REST_OF_THE_GROUP: Final = frozenset({"order", "weighted", "mid_stream"})


class Early(NamedTuple):
    """An attempt on a deployment that has asked to be left alone for longer; ``by`` is in nanoseconds."""

    asked_by: int
    asked: float
    by: int


def nanoseconds_early(asked: float, asked_at: int, called_at: int) -> int:
    """By how much a deployment is called too early, that asked to be left alone; 0 where it is not.

    Args:
        asked: the seconds that it asked for.
        asked_at: when the attempt that was told so was over, in nanoseconds.
        called_at: when the next one began, on the same time line.
    """
    early = asked_at + int(asked * 1e9) - called_at
    return early if early > LENIENCE else 0


def stays(kind: str, from_group: str | None, target: str | None) -> bool:
    """Whether a fallback goes on in the group that has just failed, with other deployments of it."""
    return target == from_group and kind in _REST_OF_THE_GROUP


class Round:
    """The groups that one request has come to, which have failed it when it goes on.

    Args:
        behind: the group that a name is an alias of, or the name.
    """

    __slots__ = ("_behind", "_turns", "attempts")

    def __init__(self, behind: Callable[[str], str]) -> None:
        self._behind = behind
        self.attempts = 0
        """How many of the request's are known here."""
        self._turns: list[set[str]] = [set()]

    def called(self, groups: Iterable[str | None]) -> None:
        """The last turn was these groups': a router of requests is asked for by one name, and calls another."""
        self._turns[-1].update(self._behind(group) for group in groups if group)

    def arrives(self, target: str) -> int:
        """The request comes to ``target``: how often it has, this time included."""
        group = self._behind(target)
        visits = 1 + sum(group in turn for turn in self._turns)
        self._turns.append({group})
        return visits
