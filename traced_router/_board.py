"""The board on which routers hang what they tell each other: one Redis hash per strategy and model group.

``[namespace:]traced_router:state:<strategy>:<group>`` holds one field per router, named by its
node id, and the hash as a whole expires 1.5 s after the last router wrote to it. Why a hash, and
not a key per router: peers are found without ``KEYS`` or ``SCAN`` and without a list of members
that could disagree with the messages; one exchange writes, reads and tidies up everything in one
pipeline; a new router is heard at the first exchange after its own; and in a Redis cluster a
group lies in one slot. Redis cannot let a single field expire (before 7.4), so a field that stays
the same is taken down by whoever reads it (:mod:`traced_router._sharing` says when), and when
nobody is left to read it, the hash expires. On a single Redis the pipeline is a transaction, so
that no hash is ever left without its expiry.

This module knows the commands of redis-py's clients. It must not know litellm, nor what a message says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["Board", "Exchange", "RedisBoard"]

_PREFIX: Final = "traced_router:state"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one router brings to the board.

    Attributes:
        node: the router.
        strategy: whose numbers these are.
        messages: by model group; ``None`` where there is nothing to say (any more).
        stale: fields to take down, by model group.
        expiry: seconds that a hash outlives its last message.
    """

    node: bytes
    strategy: str
    messages: Mapping[str, bytes | None]
    stale: Mapping[str, Sequence[bytes]]
    expiry: float


class Board(Protocol):
    """Where messages hang."""

    async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
        """Hang and take down, then read: the message of each node, by model group. Raises when that failed."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class RedisBoard:
    """A board in Redis.

    Args:
        client: redis-py's asynchronous client, for one Redis or for a cluster; it answers in bytes,
            belongs to the event loop that runs now, and nobody else uses it.
        cluster: whether it is for a cluster, which knows no transaction over several slots.
        namespace: what every key begins with.
    """

    def __init__(self, client: Any, *, cluster: bool = False, namespace: str | None = None) -> None:
        self._client = client
        self._cluster = cluster
        self._prefix = f"{namespace}:{_PREFIX}" if namespace else _PREFIX

    async def exchange(self, brought: Exchange) -> Mapping[str, Mapping[bytes, bytes]]:
        """One pipeline, whatever there is to say.

        A group whose key is not a hash of ours is left out. When Redis refuses every group
        (read-only, out of memory, not permitted), the first refusal is raised.
        """
        pipeline = self._client.pipeline(transaction=not self._cluster)
        ends: dict[str, int] = {}
        count = 0
        for group, message in brought.messages.items():
            key = f"{self._prefix}:{brought.strategy}:{group}"
            leaving = [*brought.stale.get(group, ()), *(() if message is not None else (brought.node,))]
            if message is not None:
                pipeline.hset(key, brought.node, message)
                pipeline.pexpire(key, round(brought.expiry * 1000))
                count += 2
            if leaving:
                pipeline.hdel(key, *leaving)
                count += 1
            pipeline.hgetall(key)
            count += 1
            ends[group] = count
        return _by_group(ends, await pipeline.execute(raise_on_error=False))

    async def close(self) -> None:
        """Close its connections."""
        await (self._client.aclose() if self._cluster else self._client.aclose(close_connection_pool=True))


def _by_group(ends: Mapping[str, int], replies: Sequence[object]) -> dict[str, Mapping[bytes, bytes]]:
    """Each group's reading, which is its last reply, unless Redis refused one of its commands."""
    found: dict[str, Mapping[bytes, bytes]] = {}
    refusal: Exception | None = None
    start = 0
    for group, end in ends.items():
        own, start = replies[start:end], end
        refused = next((reply for reply in own if isinstance(reply, Exception)), None)
        if refused is None:
            found[group] = own[-1]  # type: ignore[assignment]  # HGETALL's reply
        refusal = refusal or refused
    if refusal is not None and not found:
        raise refusal
    return found
