"""The fake provider's server: framing as clients of all sorts send it, its limits, its start and its end."""

import contextlib
import gc
import http.client
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from traced_router.testing._provider import FakeProvider
from traced_router.testing._provider_behaviours import Answer, Hang, Status
from traced_router.testing._provider_http import MAX_BODY

BODY = b'{"model":"m","messages":[]}'
PATH = "/dep-a/v1/chat/completions"
TOO_LARGE = f"413 {HTTPStatus(413).phrase}"
"""Python 3.13 has the phrase of RFC 9110, ``Content Too Large``."""


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def port_of(provider: FakeProvider) -> int:
    return int(provider.url.rpartition(":")[2])


@contextlib.contextmanager
def connected(provider: FakeProvider) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(provider), timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, body: bytes = BODY, **headers: str) -> http.client.HTTPResponse:
    connection.request("POST", PATH, body, {name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def exchange(provider: FakeProvider, raw: bytes) -> bytes:
    """All that comes back for these bytes until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port_of(provider)), timeout=10) as client:
        client.sendall(raw)
        received = b""
        with contextlib.suppress(ConnectionError):  # a server that did not read all of it resets
            while data := client.recv(65536):
                received += data
        return received


def post(*headers: str, body: bytes = BODY) -> bytes:
    """A request that asks the server to close, so that what follows it shows too."""
    lines = [f"POST {PATH} HTTP/1.1", "host: x", *headers, "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


class TestFraming:
    def test_a_connection_serves_many_requests(self, provider: FakeProvider) -> None:
        with connected(provider) as connection:
            statuses = []
            for _ in range(3):
                response = ask(connection)
                response.read()
                statuses.append(response.status)
            first = connection.sock
            ask(connection).read()
            assert connection.sock is first
        assert statuses == [200, 200, 200]

    def test_requests_can_come_before_the_answers(self, provider: FakeProvider) -> None:
        one = f"POST {PATH} HTTP/1.1\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY
        assert exchange(provider, one + post(f"content-length: {len(BODY)}")).count(b"HTTP/1.1 200 OK") == 2

    def test_the_connection_closes_when_the_client_says_so(self, provider: FakeProvider) -> None:
        assert exchange(provider, post(f"content-length: {len(BODY)}")).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_body_can_come_in_chunks(self, provider: FakeProvider) -> None:
        chunks = b"5;x=y\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n0\r\n\r\n"
        assert b" 200 OK" in exchange(provider, post("transfer-encoding: chunked", body=chunks))
        assert provider.requests[0].body == {"model": "m", "messages": []}

    def test_a_client_that_waits_for_the_go_ahead_gets_it(self, provider: FakeProvider) -> None:
        sent = exchange(provider, post("expect: 100-continue", f"content-length: {len(BODY)}"))
        assert sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")

    def test_a_large_body_arrives_whole(self, provider: FakeProvider) -> None:
        with connected(provider) as connection:
            assert ask(connection, b" " * 10_000_000).status == 200
        assert provider.requests[0].raw_size == 10_000_000

    def test_repeated_headers_are_joined(self, provider: FakeProvider) -> None:
        exchange(provider, post("x-a: 1", "X-A:  2 ", f"content-length: {len(BODY)}"))
        assert provider.requests[0].headers["x-a"] == "1, 2"

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"nonsense\r\n\r\n", "400 Bad Request"),
            (b"GET / HTTP/1.0\r\n\r\n", "505 HTTP Version Not Supported"),
            (post("content-length: -1"), "400 Bad Request"),
            (post(f"content-length: {MAX_BODY + 1}", body=b""), TOO_LARGE),
            (post("transfer-encoding: chunked", body=b"x\r\n"), "400 Bad Request"),
            (post("transfer-encoding: chunked", body=b"%x\r\n" % (MAX_BODY + 1)), TOO_LARGE),
            (post("x-long: " + "x" * 300_000), "431 Request Header Fields Too Large"),
        ],
    )
    def test_what_cannot_be_read_is_refused_and_the_connection_ends(
        self, provider: FakeProvider, raw: bytes, status: str
    ) -> None:
        assert (
            exchange(provider, raw).decode() == f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        assert provider.requests == []

    def test_a_target_that_is_no_path_is_not_found(self, provider: FakeProvider) -> None:
        assert b" 404 Not Found" in exchange(provider, b"OPTIONS * HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert provider.requests[0].deployment == ""

    def test_a_status_that_only_providers_know_has_a_phrase_too(self, provider: FakeProvider) -> None:
        provider.default("dep-a", Status(529))
        assert exchange(provider, post(f"content-length: {len(BODY)}")).startswith(b"HTTP/1.1 529 Unassigned\r\n")

    def test_a_connection_that_says_nothing_is_closed(self) -> None:
        with FakeProvider(idle_timeout=0.01) as provider:
            assert exchange(provider, b"") == b""
            assert exchange(provider, b"POST / HTTP/1.1\r\n") == b""

    def test_a_client_that_leaves_early_leaves_no_trace(self, provider: FakeProvider) -> None:
        with socket.create_connection(("127.0.0.1", port_of(provider))) as client:
            client.sendall(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
        assert b" 200 OK" in exchange(provider, post(f"content-length: {len(BODY)}"))
        assert provider.hits() == 1


class TestLife:
    def test_it_leaves_no_thread_no_socket_and_no_warning(self) -> None:
        provider = FakeProvider()
        with provider:
            thread = next(thread for thread in threading.enumerate() if thread.name == "fake-provider")
            port = port_of(provider)
            kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            ask(kept).read()
        assert not thread.is_alive()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(kept)
        kept.close()
        gc.collect()  # an unclosed socket or transport would warn here, and warnings are errors
        provider.stop()
        assert provider.hits() == 1

    @pytest.mark.parametrize("stuck", [Hang(), Answer(delay=1000.0)])
    def test_it_stops_while_requests_are_stuck(self, stuck: Hang | Answer) -> None:
        with FakeProvider() as provider, connected(provider) as connection:
            gate = provider.gate()
            provider.script("dep-a", [Answer(hold_before=gate)])
            provider.default("dep-a", stuck)
            connection.request("POST", PATH, BODY)
            with connected(provider) as other:
                gate.wait_reached()
                other.request("POST", PATH, BODY)
                provider.stop()
                with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                    other.getresponse()
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                connection.getresponse()
        assert not any(seen.finished for seen in provider.requests)
        gate.open()

    def test_it_can_start_again_and_keeps_its_scripts(self) -> None:
        provider = FakeProvider()
        provider.default("dep-a", Answer("again"))
        for _ in range(2):
            with provider, connected(provider) as connection:
                assert b"again" in ask(connection).read()
        assert provider.hits() == 2

    def test_it_starts_once(self, provider: FakeProvider) -> None:
        with pytest.raises(RuntimeError, match="runs already"):
            provider.start()

    def test_a_port_can_be_asked_for(self, provider: FakeProvider) -> None:
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            FakeProvider(port=port_of(provider)).start()
        port = port_of(provider)
        provider.stop()
        with FakeProvider(port=port) as second:
            assert port_of(second) == port

    def test_it_has_no_address_when_it_does_not_run(self) -> None:
        with pytest.raises(RuntimeError, match=r"does not run: use it in a `with`, or call start\(\) first"):
            FakeProvider().api_base("dep-a")

    def test_an_address_can_refuse_connections(self, provider: FakeProvider) -> None:
        refusing = provider.refusing_api_base("dep-a")
        assert provider.refusing_api_base("dep-a") == refusing
        host, port = refusing.removeprefix("http://").removesuffix("/dep-a/v1").split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))

    def test_a_forked_child_reaches_it(self, provider: FakeProvider) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12 on: a fork beside threads is what is tested
            child = os.fork()
        if child == 0:  # pragma: no cover - not measured in the child
            with connected(provider) as connection:
                os._exit(0 if ask(connection).status == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert provider.hits("dep-a") == 1

    def test_many_threads_are_served_and_counted(self, provider: FakeProvider) -> None:
        def work() -> None:
            with connected(provider) as connection:
                for _ in range(20):
                    ask(connection).read()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert provider.hits() == 160
        assert all(seen.finished for seen in provider.requests)
