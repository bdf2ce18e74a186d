"""A small HTTP/1.1 server in a thread of its own: connections, framing, limits, and its end.

It exists because a fake provider must break the rules that HTTP libraries keep: reset a
connection inside a chunk, say nothing for ever, and notice at once that a client has left. It must
not know what a language model is: it hands a :class:`Request` and a :class:`Reply` to a handler.

The server has its own thread and event loop, so that synchronous tests, asynchronous tests and
forked children all reach it by its address alone.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, cast

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes; a request with more is answered 413."""

_BUFFER: Final = 256 * 1024
"""Bytes of a request line with its headers at most, and the size of a read."""

_RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, zero seconds: close sends RST, and no FIN."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read whole.

    Attributes:
        method: upper case.
        target: path and query, as sent.
        headers: names in lower case, values as sent; repeated ones joined by ``", "``.
        body: the body, without its transfer coding.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class UnreadableError(Exception):
    """A request that cannot be read: the status to answer before the connection is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {_phrase(status)}")
        self.status = status


class Reply:
    """The way back to one client, for one request. Who waits in it is cancelled when the client leaves."""

    __slots__ = ("_chunked", "_writer")

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer, in one write."""
        await self._put(_head(status, {**headers, "content-length": str(len(body))}) + body)

    async def start(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        """The head alone: a body of ``length`` bytes follows, or chunks and :meth:`end` when that is ``None``."""
        self._chunked = length is None
        framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        await self._put(_head(status, {**headers, **framing}))

    async def write(self, data: bytes) -> None:
        """A part of the body; an empty one is nothing."""
        if data:
            await self._put(_chunk(data) if self._chunked else data)

    async def end(self, rest: bytes = b"") -> None:
        """The last part of the body and its end, in one write: who has the one has the other."""
        if self._chunked:
            await self._put((_chunk(rest) if rest else b"") + b"0\r\n\r\n")
        else:
            await self._put(rest)

    def hang_up(self, *, reset: bool) -> None:
        """End the connection here, inside the answer: with a reset, or in order after what was written."""
        if reset:
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        else:
            self._writer.close()

    async def _put(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


Handler: TypeAlias = Callable[[Request, Reply], Awaitable[None]]


class _Connection(asyncio.StreamReaderProtocol):
    """One client: its requests one after the other, and the moment that it leaves.

    Streams alone tell of a peer that has gone only to those who read. A handler that waits at a
    gate does not, so the protocol's own callbacks cancel it.
    """

    def __init__(self, handler: Handler, live: set[asyncio.Transport], idle: float) -> None:
        super().__init__(asyncio.StreamReader(_BUFFER), self._serve)
        self._handler = handler
        self._live = live
        self._idle = idle
        self._busy: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected = cast("asyncio.Transport", transport)
        self._live.add(self._connected)

    def eof_received(self) -> bool | None:
        super().eof_received()
        self._leave()
        return False  # a client that sends no more wants no answer either: close

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._live.discard(self._connected)
        self._leave()

    def _leave(self) -> None:
        if self._busy is not None:
            self._busy.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, TimeoutError):
            try:
                while not writer.transport.is_closing():
                    async with asyncio.timeout(self._idle):
                        request = await _read(reader, writer)
                    self._busy = cast("asyncio.Task[None]", asyncio.current_task())
                    await self._handler(request, Reply(writer))
                    self._busy = None
                    if request.headers.get("connection", "").lower() == "close":
                        break
            except UnreadableError as refusal:
                await Reply(writer).send(refusal.status, {"connection": "close"}, b"")
            finally:
                self._busy = None
                writer.close()


class HttpServer:
    """The thread, its loop and the listening socket. It can be started again when it was stopped."""

    def __init__(self, handler: Handler, *, port: int, idle: float) -> None:
        self._handler = handler
        self._wanted_port = port
        self._idle = idle
        self._live: set[asyncio.Transport] = set()
        self._thread: threading.Thread | None = None
        self._stopped: Future[None] = Future()
        self.port: int | None = None

    def start(self) -> None:
        """Listen on 127.0.0.1, and return when connections are taken.

        Raises:
            RuntimeError: it runs already.
            OSError: the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the fake provider runs already: stop() it first, or make a second one")
        listener = socket.create_server(("127.0.0.1", self._wanted_port), backlog=1024)
        listener.settimeout(0)
        self.port = listener.getsockname()[1]
        self._stopped = Future()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="fake-provider", daemon=True)
        self._thread.start()  # the kernel queues who comes before it accepts

    def stop(self) -> None:
        """Break every connection, close the socket and join the thread. Harmless when it does not run."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopped.set_result(None)
            thread.join()
            self.port = None

    def _run(self, listener: socket.socket) -> None:
        with (
            listener,
            asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
        ):  # whatever the tests' policy is
            runner.run(self._main(listener))

    async def _main(self, listener: socket.socket) -> None:
        """Serve until told to stop.

        ``asyncio.Server`` would do, but on Python 3.11 one that is closed while it accepts leaks the
        new connection, which then hangs: what was accepted must be known, to be ended.
        """
        loop = asyncio.get_running_loop()
        opening: set[asyncio.Task[object]] = set()

        def accept() -> None:
            with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # it has left already
                client, _ = listener.accept()
                client.settimeout(0)
                task = loop.create_task(loop.connect_accepted_socket(self._connection, client))
                opening.add(task)
                task.add_done_callback(opening.discard)

        loop.add_reader(listener, accept)
        await asyncio.wrap_future(self._stopped)
        loop.remove_reader(listener)
        await asyncio.gather(*opening, return_exceptions=True)
        while self._live:  # an aborted transport closes its socket, and says so, one turn of the loop later
            for transport in tuple(self._live):
                transport.abort()
            await asyncio.sleep(0)

    def _connection(self) -> _Connection:
        return _Connection(self._handler, self._live, self._idle)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise UnreadableError(431) from None
    line, *rest = head[:-4].decode("latin-1").split("\r\n")
    try:
        method, target, version = line.split(" ")
    except ValueError:
        raise UnreadableError(400) from None
    if version != "HTTP/1.1":
        raise UnreadableError(505)
    headers: dict[str, str] = {}
    for entry in rest:
        name, _, value = entry.partition(":")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await _read_length(reader, headers.get("content-length", "0"))
    return Request(method, target, headers, body)


async def _read_length(reader: asyncio.StreamReader, length: str) -> bytes:
    if not length.isdecimal():
        raise UnreadableError(400)
    if int(length) > MAX_BODY:
        raise UnreadableError(413)
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise UnreadableError(400) from None
        if len(body) + size > MAX_BODY:
            raise UnreadableError(413)
        body += (await reader.readexactly(size + 2))[:size]
        if size == 0:
            return bytes(body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 529 and its like are the providers' own
        return "Unassigned"
