"""What came in, as a test reads it afterwards or while it still waits at a gate."""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from traced_router.testing._provider_gate import Tally


@dataclass(frozen=True, slots=True)
class Received:
    """One request, and how it was answered so far.

    Attributes:
        deployment: the path's first segment.
        method: upper case.
        path: as sent, with its query.
        headers: names in lower case, values as received.
        body: the parsed JSON; ``None`` when there was none, it was no JSON (a multipart form), or
            it was larger than the provider keeps.
        raw_size: bytes of the body.
        stream: whether an answer in events was asked for.
        status: the status sent; ``None`` as long as no byte was.
        finished: the whole answer was written while the client was there. ``False`` while it is
            under way, when the client left and when the fault was to break the connection.
        at: seconds on the provider's clock, when the request had been read.
    """

    deployment: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: object
    raw_size: int
    stream: bool
    status: int | None
    finished: bool
    at: float


class Entry:
    """A request in the log while it is answered: the server's thread writes, snapshots are read."""

    __slots__ = ("_received", "finished", "status")

    def __init__(self, received: Received) -> None:
        self._received = received
        self.status: int | None = None
        self.finished = False

    def snapshot(self) -> Received:
        return replace(self._received, status=self.status, finished=self.finished)


class Log:
    """The last ``keep`` requests, the number of all, and how many are still being answered."""

    def __init__(self, keep: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._hits: Counter[str] = Counter()
        self.open = Tally()

    def add(self, received: Received) -> Entry:
        entry = Entry(received)
        with self._lock:
            self._entries.append(entry)
            self._hits[received.deployment] += 1
        return entry

    def requests(self) -> list[Received]:
        with self._lock:
            entries = tuple(self._entries)
        return [entry.snapshot() for entry in entries]

    def hits(self, deployment: str | None) -> int:
        with self._lock:
            return self._hits.total() if deployment is None else self._hits[deployment]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._hits.clear()
