"""What the strategies that predict have in common: beliefs about deployments, kept up to date.

The loop of a call is ``started``, perhaps ``first_chunk``, ``finished``; what is learnt from it
is in ``_belief``. Between routers, gauges are exchanged (``_peers``).
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from traced_router.strategy import Outcome, RoutingRequest, Ticket
from traced_router_strategies._belief import Deployment, Flight, Group
from traced_router_strategies._peers import NOTHING, Heard, gather
from traced_router_strategies._prefixes import Prefixes
from traced_router_strategies._table import Table
from traced_router_strategies._work import Features

_MAX_GROUPS: Final = 256
_ECHO_GAIN: Final = 0.02
"""Of the means that tell how many calls of other routers there are to each of this one's."""


class Room(Group):
    """A model group, with its prompts' prefixes.

    Attributes:
        prefixes: who holds which.
        memory: where the best two of the last pick were among the candidates.
    """

    __slots__ = ("memory", "prefixes")

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = Prefixes()
        self.memory: tuple[int, int] = (0, 0)


class Size(NamedTuple):
    """How large a call is, and where less of it is left to do.

    Attributes:
        scale: its work, against that of a typical call.
        prompt: tokens.
        output: tokens.
        left: share of the work that is left, by id of the deployments that may hold its prefix.
    """

    scale: float
    prompt: float
    output: float
    left: Mapping[str, float]


_NOWHERE: Final[Mapping[str, float]] = {}


class _Boarding:
    """The ticket's state: a call in flight, until ``finished`` takes it."""

    __slots__ = ("deployment", "distance", "flight", "room")

    def __init__(self, room: Room, deployment: Deployment, flight: Flight, distance: int | None) -> None:
        self.room = room
        self.deployment = deployment
        self.flight: Flight | None = flight
        self.distance = distance


class ForecastingStrategy:
    """A strategy that predicts; it adds ``pick``.

    Args:
        clock: seconds, monotonic.
        rng: random source.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self.clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._lock = threading.Lock()
        self._rooms: Table[Room] = Table(_MAX_GROUPS)
        self._deployments: Table[Deployment] = Table(spare=lambda one: one.inflight == 0)
        self._heard: Mapping[str, Heard] = {}
        self._mine = self._theirs = 0.0

    def started(self, ticket: Ticket) -> None:
        """Reserve."""
        with self._lock:
            now = ticket.started_at
            room = self._room(ticket.model_group)
            self._rooms.touch(ticket.model_group)
            room.allowance.called(now)
            deployment = self._deployments.states.get(ticket.id) or self._meet(room, ticket.id, now)
            self._deployments.touch(ticket.id)
            distance = None
            if room.work.prefill_matters and (key := ticket.request.affinity_key) is not None:
                distance = room.prefixes.sent(key, ticket.id)
            ticket.state = _Boarding(room, deployment, deployment.start(now), distance)

    def first_chunk(self, ticket: Ticket) -> None:
        """Learn how long a first chunk takes."""
        with self._lock:
            boarding = ticket.state
            if not isinstance(boarding, _Boarding) or boarding.flight is None:
                return
            model = boarding.room.work
            prompt = (ticket.request.input_size if model.prefill_matters else None) or model.mean_prompt
            cached = 0.0 if boarding.distance is None else prompt * boarding.room.prefixes.share(boarding.distance)
            work = model.until_first_chunk(prompt - cached, cached)
            boarding.deployment.first_chunk(boarding.flight, self.clock(), work)

    def finished(self, ticket: Ticket, outcome: Outcome) -> None:
        """Release, and learn."""
        with self._lock:
            boarding = ticket.state
            if not isinstance(boarding, _Boarding) or boarding.flight is None:
                return
            flight, boarding.flight = boarding.flight, None
            boarding.deployment.end(flight, outcome, _features(boarding, outcome))

    def export_state(self) -> Mapping[str, Sequence[float]]:
        """Five gauges per deployment: see ``_peers.Heard``."""
        with self._lock:
            now = self.clock()
            return {one.id: one.gauges(now) for one in self._deployments.states.values()}

    def absorb_state(self, peers: Sequence[Mapping[str, Sequence[float]]]) -> None:
        """Take what the peers export into account until the next time."""
        with self._lock:
            now = self.clock()
            self._heard = gather(peers)
            if self._heard:
                mine = sum(one.inflight for one in self._deployments.states.values())
                theirs = sum(heard.inflight for heard in self._heard.values())
                self._mine += _ECHO_GAIN * (mine - self._mine)
                self._theirs += _ECHO_GAIN * (theirs - self._theirs)
            for one in self._deployments.states.values():
                one.hear(self._heard.get(one.id, NOTHING), self._echo(), now)

    def _room(self, group: str) -> Room:
        return self._rooms.states.get(group) or self._rooms.add(group, Room())

    def _meet(self, room: Room, id_: str, now: float) -> Deployment:
        """A deployment that is new here."""
        deployment = self._deployments.add(id_, Deployment(id_, room, now))
        deployment.hear(self._heard.get(id_, NOTHING), self._echo(), now)
        return deployment

    def _believed(self, room: Room, id_: str, now: float) -> Deployment:
        """What is believed of a deployment, as of now."""
        deployment = self._deployments.states.get(id_) or self._meet(room, id_, now)
        if now >= deployment.fresh_until:
            deployment.refresh(now)
        return deployment

    def _echo(self) -> float:
        """Calls of other routers to each of this one's, when they have fallen silent."""
        return 0.0 if self._heard or self._mine <= 0.0 else self._theirs / self._mine


def size_of(room: Room, request: RoutingRequest) -> Size:
    """Of a call that has not been sent; what is unknown is taken to be as usual."""
    model = room.work
    base, fresh, cached, written = model.coefficients
    output = model.mean_output
    if request.max_output_tokens is not None:
        output = min(output, request.max_output_tokens)
    prompt = request.input_size or model.mean_prompt
    work = base + fresh * prompt + written * output
    scale = work / (base + fresh * model.mean_prompt + written * model.mean_output)
    key = request.affinity_key
    left = _NOWHERE if key is None else room.prefixes.work_left(key, max(0.0, fresh - cached) * prompt / work)
    return Size(scale, prompt, output, left)


def _features(boarding: _Boarding, outcome: Outcome) -> Features | None:
    """The tokens of a call, when they are known; and what its cached tokens say of the caches.

    Where the provider does not count cached tokens, those of a prefix that was sent there before are
    taken to be cached: what that saves, on average, is then learnt with the rest of the work.
    """
    prompt, cached = outcome.input_tokens, outcome.cached_input_tokens
    if outcome.status != "ok" or prompt is None or outcome.output_tokens is None:
        return None
    if cached is None:
        cached = 0 if boarding.distance is None else prompt
    elif boarding.distance is not None and prompt > 0:
        boarding.room.prefixes.learn(boarding.distance, min(1.0, cached / prompt))
    cached = min(cached, prompt)
    return (1.0, float(prompt - cached), float(cached), float(outcome.output_tokens))
