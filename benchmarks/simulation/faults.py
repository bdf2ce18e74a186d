"""What goes wrong, and when: installed on the event loop before the first call arrives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.simulation.loop import Scheduler
from benchmarks.simulation.servers import Server


class Site(Protocol):
    """What a fault can touch."""

    @property
    def loop(self) -> Scheduler:
        """The clock."""
        ...

    @property
    def servers(self) -> dict[str, Server]:
        """By id, those that have not joined yet too."""
        ...

    def join(self, server_id: str) -> None:
        """The deployment is among the candidates from now on."""
        ...

    def leave(self, server_id: str) -> None:
        """The deployment is not among the candidates any more; calls in it are served."""
        ...


class Fault(Protocol):
    """A change of the world at a set time."""

    def install(self, site: Site) -> None:
        """Schedule it."""
        ...


@dataclass(frozen=True, slots=True)
class Slow:
    """A server becomes ``factor`` × slower from ``start`` until ``end``."""

    server: str
    factor: float
    start: float
    end: float

    def install(self, site: Site) -> None:
        """Schedule both ends."""
        server = site.servers[self.server]
        site.loop.at(self.start, server.slow, self.factor)
        site.loop.at(self.end, server.slow, 1.0)


@dataclass(frozen=True, slots=True)
class Flapping:
    """A server is slow for ``slow`` seconds, then well for ``well`` seconds, over and over."""

    server: str
    factor: float
    start: float
    end: float
    slow: float = 8.0
    well: float = 8.0

    def install(self, site: Site) -> None:
        """Schedule every turn."""
        at = self.start
        while at < self.end:
            Slow(self.server, self.factor, at, min(self.end, at + self.slow)).install(site)
            at += self.slow + self.well


@dataclass(frozen=True, slots=True)
class Ramp:
    """A server degrades step by step to ``factor`` and stays there until ``end``."""

    server: str
    factor: float
    start: float
    full: float
    end: float
    steps: int = 20

    def install(self, site: Site) -> None:
        """Schedule every step."""
        server = site.servers[self.server]
        for step in range(1, self.steps + 1):
            progress = step / self.steps
            at = self.start + (self.full - self.start) * progress
            site.loop.at(at, server.slow, 1.0 + (self.factor - 1.0) * progress)
        site.loop.at(self.end, server.slow, 1.0)


@dataclass(frozen=True, slots=True)
class Join:
    """A deployment is added at ``at``; until then it is not a candidate."""

    server: str
    at: float

    def install(self, site: Site) -> None:
        """Hide it, and schedule its arrival."""
        site.leave(self.server)
        site.loop.at(self.at, _named(site.join, self.server))


@dataclass(frozen=True, slots=True)
class Leave:
    """A deployment is removed at ``at``."""

    server: str
    at: float

    def install(self, site: Site) -> None:
        """Schedule its end."""
        site.loop.at(self.at, _named(site.leave, self.server))


def _named(change: Callable[[str], None], server_id: str) -> Callable[[object], None]:
    return lambda _: change(server_id)
