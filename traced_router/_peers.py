"""What one router tells the others of a strategy's state, and what of theirs counts.

How old a message is, is measured from when this router first saw it, on its own clock: hosts whose
wall clocks differ still hear each other. The time in the message decides only whether the very first
one of a node counts, so that what a crashed router left behind is not taken for news.

Plain functions and values: when to talk, and through what, is decided in :mod:`traced_router._sharing`.
This module must not know litellm, Redis, an event loop or any strategy.
"""

import random
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from traced_router._board import Exchange
from traced_router._log_lines import logger
from traced_router.shared_state import NodeState, pack, unpack
from traced_router.strategy import SharedState

__all__ = ["EXPIRY", "LONGEST_PAUSE", "PERIOD", "Groups", "Report", "Shareable", "Talk"]

PERIOD: Final = 0.25
"""Seconds between exchanges, ± 10 %, so that routers that were started together drift apart."""

EXPIRY: Final = 1.5
"""Seconds that a message counts, and that what was heard is believed."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts while Redis is away, at most."""

WHERE: Final = "shared_state"
"""Where faults are reported from."""

Groups: TypeAlias = Callable[[], Mapping[str, Collection[str]]]
"""The ids of the candidates of each model group."""

Report: TypeAlias = Callable[[str, BaseException], None]
"""Takes note of a fault of our own or of the strategy, and where it was."""


class Shareable(SharedState, Protocol):
    """A strategy with a name, whose state can be shared."""

    name: str


class Talk:
    """What is told and heard, from one exchange to the next.

    Args:
        strategy: gives its gauges and takes its peers'.
        groups: which candidates belong to which model group, asked before each exchange.
        report: where faults go; nothing here raises.
        clock: seconds, monotonic; those of :meth:`state` too.
        wall: seconds since the epoch.
        rng: spreads exchanges over time; the system's by default, which no fork repeats.
    """

    def __init__(
        self,
        strategy: Shareable,
        groups: Groups,
        *,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.report = report
        self.rng = rng if rng is not None else random.SystemRandom()
        self._strategy = strategy
        self._groups = groups
        self._clock = clock
        self._wall = wall
        self._peers = _Peers()
        self._heard_at: float | None = None
        self._oldest = 0.0
        self._failures = 0
        self._lost = False
        self.node = b""
        self.rename()

    def rename(self) -> None:
        """Be another node: a name is random, and unique among peers."""
        self.node = secrets.token_hex(8).encode()

    def seconds_left(self) -> float:
        """How long what was heard will be believed; negative when it no longer is, 0 when nothing was."""
        return 0.0 if self._heard_at is None else self._heard_at + EXPIRY - self._clock()

    def state(self, now: float) -> tuple[Literal["local", "shared"], float | None]:
        """See :meth:`traced_router._sharing.Sharing.state`."""
        heard_at, oldest = self._heard_at, self._oldest
        if heard_at is None or now - heard_at > EXPIRY:
            return "local", None
        return "shared", max(0.0, now - oldest)

    def brings(self) -> Exchange | None:
        """What to take to the board; ``None`` when there are no groups, or they cannot be told."""
        try:
            exported = self._strategy.export_state()
            wall = self._wall()
            messages: dict[str, bytes | None] = {}
            for group, ids in self._groups().items():
                gauges = {id_: exported[id_] for id_ in ids if id_ in exported}
                state = NodeState(self.node.decode(), group, self._strategy.name, wall, gauges)
                messages[group] = pack(state) if gauges else None
        except Exception as fault:  # noqa: BLE001  # the strategy's, or a group that has no name
            self.report(WHERE, fault)
            return None
        return Exchange(self.node, self._strategy.name, messages, self._peers.stale, EXPIRY) if messages else None

    def hears(self, found: Mapping[str, Mapping[bytes, bytes]]) -> float:
        """Pass on what was read; answers the pause until the next exchange."""
        now = self._clock()
        try:
            self._peers.read(found, self.node, self._strategy.name, now, self._wall())
            self._strategy.absorb_state(self._peers.gauges(now))
        except Exception as fault:  # noqa: BLE001  # the strategy's
            self.report(WHERE, fault)
        else:
            self._oldest, self._heard_at = self._peers.oldest(now), now
        if self._lost:
            logger.info("Redis answers again: strategy %s shares its state with other routers", self._strategy.name)
        self._lost, self._failures = False, 0
        return PERIOD * self.rng.uniform(0.9, 1.1)

    def misses(self, failure: Exception) -> float:
        """Go on without; answers the pause until the next attempt."""
        if self.seconds_left() < 0.0:
            self.forget()
        if self._heard_at is None and not self._lost:
            self._lost = True
            # The type says enough: the message can hold an address or a user's name.
            logger.warning(
                "Redis does not answer (%s): strategy %s decides by this router's own state until it does",
                type(failure).__name__,
                self._strategy.name,
            )
        pause = min(LONGEST_PAUSE, PERIOD * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        return pause * self.rng.uniform(0.5, 1.0)

    def forget(self) -> None:
        """Nobody else counts any more."""
        self._heard_at = None
        self._peers.clear()
        try:
            self._strategy.absorb_state([])
        except Exception as fault:  # noqa: BLE001  # the strategy's
            self.report(WHERE, fault)


@dataclass(frozen=True, slots=True)
class _Notice:
    """A node's message about one group: since when it hangs there, and its gauges, if they count."""

    raw: bytes
    since: float
    gauges: Mapping[str, Sequence[float]] | None


class _Peers:
    """What hangs on the board beside our own, and for how long it has been the same.

    ``stale`` are the nodes that have said nothing new for too long, by group: gone, or never one of ours.
    """

    def __init__(self) -> None:
        self.stale: dict[str, list[bytes]] = {}
        self._notices: dict[tuple[str, bytes], _Notice] = {}

    def read(
        self, found: Mapping[str, Mapping[bytes, bytes]], own: bytes, strategy: str, now: float, wall: float
    ) -> None:
        """Take note of all that hangs there now."""
        notices: dict[tuple[str, bytes], _Notice] = {}
        for group, messages in found.items():
            for node, raw in messages.items():
                if node == own:
                    continue
                last = self._notices.get((group, node))
                if last is None or last.raw != raw:
                    state = unpack(raw)
                    if state is not None and (state.group, state.strategy) != (group, strategy):
                        state = None
                    news = state is not None and (last is not None or state.age(wall) <= EXPIRY)
                    last = _Notice(raw, now, state.candidates if state is not None and news else None)
                notices[group, node] = last
        self._notices = notices
        self.stale = {}
        for (group, node), notice in notices.items():
            if now - notice.since > EXPIRY:
                self.stale.setdefault(group, []).append(node)

    def clear(self) -> None:
        """Nothing was seen for so long that what hangs there next has not been watched: it may be new."""
        self._notices, self.stale = {}, {}

    def gauges(self, now: float) -> list[Mapping[str, Sequence[float]]]:
        """Those that count, one mapping per node: what two groups say of one candidate counts once."""
        nodes: dict[bytes, dict[str, Sequence[float]]] = {}
        for (_, node), notice in self._notices.items():
            if notice.gauges is not None and now - notice.since <= EXPIRY:
                nodes.setdefault(node, {}).update(notice.gauges)
        return list(nodes.values())

    def oldest(self, now: float) -> float:
        """When the oldest of those came in."""
        counting = (n.since for n in self._notices.values() if n.gauges is not None and now - n.since <= EXPIRY)
        return min(counting, default=now)
