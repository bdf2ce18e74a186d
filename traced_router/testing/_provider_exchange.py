"""One request and the ways to answer it: behaviours turned into bytes, pauses and broken connections.

Here alone behaviours, endpoints and HTTP meet. The log is told before the bytes that a client
could act on: a test that has its answer finds ``finished`` already true.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, assert_never

from traced_router.testing._provider_behaviours import (
    Act,
    Answer,
    Behaviour,
    DieMidStream,
    Drop,
    ErrorEventMidStream,
    Hang,
    Malformed,
    SlowFirstByte,
    Status,
)
from traced_router.testing._provider_bodies import Call
from traced_router.testing._provider_endpoints import Endpoint
from traced_router.testing._provider_gate import Gate
from traced_router.testing._provider_http import Reply
from traced_router.testing._provider_log import Entry
from traced_router.testing._provider_streams import Script, dumps

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream; charset=utf-8"


class Exchange:
    """One request being answered, until it is or the client leaves."""

    __slots__ = ("_call", "_endpoint", "_entry", "_reply", "_streams")

    def __init__(self, endpoint: Endpoint, call: Call, reply: Reply, entry: Entry, *, streams: bool) -> None:
        self._endpoint = endpoint
        self._call = call
        self._reply = reply
        self._entry = entry
        self._streams = streams

    async def play(self, behaviour: Behaviour, hanging: Gate) -> None:
        """Do what the behaviour says; a hanging one waits at ``hanging``."""
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.hold_before is not None:
            await behaviour.hold_before.passage()
        if isinstance(behaviour, Hang):
            await hanging.passage()
            await self.play(behaviour.then, hanging)
        else:
            await self._respond(behaviour)

    async def _respond(self, behaviour: Act) -> None:
        match behaviour:
            case Answer():
                await self._answer(behaviour)
            case Status():
                await self._status(behaviour)
            case Malformed():
                await self._malformed(behaviour)
            case Drop():
                self._reply.hang_up(reset=behaviour.reset)
            case DieMidStream():
                await self._die(behaviour)
            case ErrorEventMidStream():
                await self._turn_into_error(behaviour)
            case SlowFirstByte():
                await self._slow(behaviour)
            case _:
                assert_never(behaviour)

    async def _answer(self, answer: Answer) -> None:
        if script := self._script(answer):
            await self._start(_EVENTS, answer.headers)
            await self._chunks(script, answer, len(script.chunks))
            await self._end(script.closing)
        else:
            content_type, body = self._whole(answer)
            await self._send(200, content_type, answer.headers, body)

    async def _status(self, status: Status) -> None:
        """An HTTP status with a body in the endpoint's protocol, or the one that was given."""
        body = self._endpoint.protocol.error(status) if status.body is None else status.body
        content = body.encode() if isinstance(body, str) else dumps(body)
        await self._send(status.code, _JSON, status.all_headers, content)

    async def _malformed(self, behaviour: Malformed) -> None:
        """200 with garbage, as a body or as an event."""
        garbage = behaviour.garbage.encode()
        if self._streams:
            await self._start(_EVENTS, {})
            await self._end(b"data: %b\n\n" % garbage)
        else:
            await self._send(200, _JSON, {}, garbage)

    async def _slow(self, behaviour: SlowFirstByte) -> None:
        """The head, then a wait, then the rest."""
        answer = behaviour.answer
        if script := self._script(answer):
            await self._start(_EVENTS, answer.headers)
            await _pause(behaviour)
            await self._chunks(script, answer, len(script.chunks))
            await self._end(script.closing)
        else:
            content_type, body = self._whole(answer)
            await self._start(content_type, answer.headers, len(body))
            await _pause(behaviour)
            await self._end(body)

    async def _die(self, behaviour: DieMidStream) -> None:
        """A part of the answer, then the end of the connection."""
        answer = behaviour.answer
        if script := self._script(answer):
            await self._start(_EVENTS, answer.headers)
            await self._chunks(script, answer, behaviour.after_chunks)
        else:
            content_type, body = self._whole(answer)
            await self._start(content_type, answer.headers, len(body))
            await self._reply.write(body[: len(body) // 2] if behaviour.after_chunks else b"")
        self._reply.hang_up(reset=behaviour.reset)

    async def _turn_into_error(self, behaviour: ErrorEventMidStream) -> None:
        """A part of a stream, then the protocol's error event."""
        answer = behaviour.answer
        script = self._script(answer)
        if script is None:
            await self._status(behaviour.error)
            return
        await self._start(_EVENTS, answer.headers)
        await self._chunks(script, answer, behaviour.after_chunks)
        await self._end(self._endpoint.protocol.error_event(behaviour.error))

    def _script(self, answer: Answer) -> Script | None:
        maker = self._endpoint.stream if self._streams else None
        return None if maker is None else maker(self._call, answer)

    def _whole(self, answer: Answer) -> tuple[str, bytes]:
        """Content type and body of an answer in one piece."""
        body = self._endpoint.body(self._call, answer)
        return self._endpoint.content_type, body if isinstance(body, bytes) else dumps(body)

    async def _chunks(self, script: Script, answer: Answer, count: int) -> None:
        """The first ``count`` chunks, at the pace and with the stops that the answer says."""
        await _stop_at(answer.hold_after_chunk, 0)
        for number, chunk in enumerate(script.chunks[:count], 1):
            if number > 1 and answer.chunk_delay:
                await asyncio.sleep(answer.chunk_delay)
            await self._reply.write(chunk)
            await _stop_at(answer.hold_after_chunk, number)

    async def _start(self, content_type: str, headers: Mapping[str, str], length: int | None = None) -> None:
        self._entry.status = 200
        await self._reply.start(200, self._headers(content_type, headers), length)

    async def _end(self, rest: bytes) -> None:
        self._entry.finished = True
        await self._reply.end(rest)

    async def _send(self, code: int, content_type: str, headers: Mapping[str, str], body: bytes) -> None:
        self._entry.status = code
        self._entry.finished = True
        await self._reply.send(code, self._headers(content_type, headers), body)

    def _headers(self, content_type: str, headers: Mapping[str, str]) -> dict[str, str]:
        return {"content-type": content_type, "x-request-id": self._call.new_id("req"), **headers}


async def _stop_at(hold: tuple[int, Gate] | None, number: int) -> None:
    if hold is not None and hold[0] == number:
        await hold[1].passage()


async def _pause(behaviour: SlowFirstByte) -> None:
    await asyncio.sleep(behaviour.seconds)
    if behaviour.gate is not None:
        await behaviour.gate.passage()
