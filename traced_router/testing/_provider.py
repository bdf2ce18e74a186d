"""A fake provider: many deployments behind one loopback server, doing exactly what a test says.

Tests, demos and load runs of a router need providers that fail on cue, hang until told and say
afterwards what they were asked. :class:`FakeProvider` is that, over real HTTP, so that a router's
clients, pools, timeouts and stream parsers are all really run. It is deterministic (ids count up, nothing is
random, nothing sleeps unless asked to) and bounded (body size, log length, idle connections).

This module must not know the router, litellm or OpenTelemetry: it is what they are tested against.
"""

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Final, Self, cast
from urllib.parse import quote, unquote

from traced_router.testing._provider_behaviours import Answer, Behaviour, NotFound, Step
from traced_router.testing._provider_bodies import Call
from traced_router.testing._provider_endpoints import NOWHERE, find
from traced_router.testing._provider_exchange import Exchange
from traced_router.testing._provider_gate import PATIENCE, Gate
from traced_router.testing._provider_http import HttpServer, Reply, Request
from traced_router.testing._provider_log import Log, Received

_KEPT_BODY: Final = 1024 * 1024
_MODEL_IN_PATH: Final = re.compile(r"/(?:models?|deployments)/([^/:]+)")
_MODEL_IN_FORM: Final = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)')


class FakeProvider:
    """An HTTP server on 127.0.0.1 that plays the providers of many deployments.

    A path's first segment names the deployment, its end the endpoint: OpenAI's, Anthropic's
    messages, Gemini's, Bedrock's Converse and Cohere's rerank. Each request takes the next step of its
    deployment's script, then its default.

    All of it can be used from any thread, and while requests are under way::

        with FakeProvider() as provider:
            provider.script("dep-a", [RateLimited(retry_after=1), Answer("hello")])
            router = Router(model_list=[provider.deployment("dep-a", group="gpt-4o")])
            ...
            assert provider.hits("dep-a") == 2
    """

    def __init__(
        self,
        *,
        default: Behaviour | None = None,
        port: int = 0,
        keep_requests: int = 10_000,
        idle_timeout: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a provider that does not listen yet.

        Args:
            default: what a deployment does that was told nothing; an :class:`Answer` if ``None``.
            port: TCP port; 0 takes a free one, anew at every start.
            keep_requests: how many of the last requests ``requests`` shows; ``hits`` counts all.
            idle_timeout: seconds after which a connection is closed that does not complete a request; by
                default longer than litellm's clients keep theirs (120), so that none is closed as it is used again.
            clock: for ``Received.at``.
        """
        self._server = HttpServer(self._handle, port=port, idle=idle_timeout)
        self._lock = threading.Lock()
        self._fallback: Behaviour = Answer() if default is None else _checked(default)
        self._defaults: dict[str, Behaviour] = {}
        self._scripts: dict[str, deque[Behaviour]] = {}
        self._numbers: Counter[str] = Counter()
        self._hanging = Gate()
        self._log = Log(keep_requests)
        self._clock = clock
        self._closed_port: socket.socket | None = None

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, and return when connections are taken; :meth:`stop` must follow.

        Raises:
            RuntimeError: it runs already.
            OSError: ``port`` is taken.
        """
        self._server.start()
        return self

    def stop(self) -> None:
        """Break every connection and leave no thread and no socket. The log can still be read."""
        self._server.stop()
        if self._closed_port is not None:
            self._closed_port.close()
            self._closed_port = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- addresses -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``.

        Raises:
            RuntimeError: it does not run, so it has no port.
        """
        if self._server.port is None:
            raise RuntimeError("the fake provider does not run: use it in a `with`, or call start() first")
        return f"http://127.0.0.1:{self._server.port}"

    def api_base(self, deployment: str) -> str:
        """The ``api_base`` of a deployment: ``http://127.0.0.1:PORT/dep-a/v1``."""
        return f"{self.url}/{quote(deployment, safe='')}/v1"

    def refusing_api_base(self, deployment: str) -> str:
        """An ``api_base`` at which connections are refused: a port that is held, so nobody else can listen on it."""
        with self._lock:
            if self._closed_port is None:
                self._closed_port = socket.socket()
                self._closed_port.bind(("127.0.0.1", 0))
            port: int = self._closed_port.getsockname()[1]
        return f"http://127.0.0.1:{port}/{quote(deployment, safe='')}/v1"

    def deployment(
        self,
        deployment: str,
        *,
        group: str = "gpt-4o",
        model: str = "openai/gpt-4o-2024-08-06",
        **litellm_params: object,
    ) -> dict[str, object]:
        """An entry of litellm's ``model_list`` that leads here.

        Args:
            deployment: its name here, and its id in litellm.
            group: litellm's ``model_name``.
            model: with the provider's prefix, as litellm wants it.
            litellm_params: more of them, or others than ``api_base`` and ``api_key`` have here.
        """
        base = self.api_base(deployment)
        return {
            "model_name": group,
            "litellm_params": {"model": model, "api_base": base, "api_key": "sk-fake", **litellm_params},
            "model_info": {"id": deployment},
        }

    # -- behaviour -----------------------------------------------------------------------------

    def script(self, deployment: str, steps: Iterable[Behaviour]) -> None:
        """What the deployment's next requests get, one step each; replaces what was left of an earlier script.

        Raises:
            TypeError: a step is no behaviour.
        """
        script = deque(_checked(step) for step in steps)
        with self._lock:
            self._scripts[deployment] = script

    def default(self, deployment: str, behaviour: Behaviour) -> None:
        """What the deployment does when its script is over.

        Raises:
            TypeError: it is no behaviour.
        """
        with self._lock:
            self._defaults[deployment] = _checked(behaviour)

    def remaining(self, deployment: str) -> int:
        """How many steps of the deployment's script are left."""
        with self._lock:
            return len(self._scripts.get(deployment, ()))

    def gate(self) -> Gate:
        """A new gate, for ``hold_before`` and ``hold_after_chunk``."""
        return Gate()

    def release(self) -> None:
        """Let go of every request that hangs now (:class:`Hang`); later ones hang again."""
        with self._lock:
            released, self._hanging = self._hanging, Gate()
        released.open()

    # -- what came in --------------------------------------------------------------------------

    @property
    def requests(self) -> list[Received]:
        """What came in, oldest first, each as it stands now."""
        return self._log.requests()

    def hits(self, deployment: str | None = None) -> int:
        """How many requests came in, for one deployment or for all."""
        return self._log.hits(deployment)

    def clear(self) -> None:
        """Forget what came in. Scripts, defaults and the numbers of ids stay."""
        self._log.clear()

    def wait_idle(self, timeout: float = PATIENCE) -> None:
        """Block until no request is being answered: then ``finished`` is final, for clients that left too.

        Raises:
            TimeoutError: some still were after ``timeout`` seconds.
        """
        self._log.open.wait(lambda count: count == 0, timeout, "all requests to end")

    async def idle(self, timeout: float = PATIENCE) -> None:  # noqa: ASYNC109 - a test says how long
        """As :meth:`wait_idle`, for an async test."""
        await self._log.open.until(lambda count: count == 0, timeout, "all requests to end")

    # -- the server's side ---------------------------------------------------------------------

    async def _handle(self, request: Request, reply: Reply) -> None:
        """Answer one request. Runs on the server's loop, and is cancelled when the client leaves."""
        path = request.target.partition("?")[0]
        deployment = unquote(path.split("/", 2)[1]) if path.startswith("/") else ""
        endpoint = find(request.method, path)
        body = _json(request.body)
        asked = _fields(body)
        stream = endpoint.streams(asked)
        received = Received(
            deployment=deployment,
            method=request.method,
            path=request.target,
            headers=MappingProxyType(request.headers),
            body=body if len(request.body) <= _KEPT_BODY else None,
            raw_size=len(request.body),
            stream=stream,
            status=None,
            finished=False,
            at=self._clock(),
        )
        call = Call(path, _model(path, asked, request.body), asked, self._number)
        entry = self._log.add(received)
        exchange = Exchange(endpoint, call, reply, entry, streams=stream)
        self._log.open.add(1)
        try:
            if endpoint is NOWHERE:
                await exchange.play(NotFound(message=f"the fake provider has no endpoint {path}"), self._hanging)
            else:
                await exchange.play(*self._next(deployment))
        except (ConnectionError, asyncio.CancelledError):
            entry.finished = False
            raise
        finally:
            self._log.open.add(-1)

    def _number(self, prefix: str) -> int:
        self._numbers[prefix] += 1
        return self._numbers[prefix]

    def _next(self, deployment: str) -> tuple[Behaviour, Gate]:
        """The next step of a deployment, and the gate at which it hangs if it does."""
        with self._lock:
            script = self._scripts.get(deployment)
            step = script.popleft() if script else self._defaults.get(deployment, self._fallback)
            return step, self._hanging


def _checked(behaviour: Behaviour) -> Behaviour:
    """Complain where the mistake is: the server's thread, where it would show, is far from the test."""
    if not isinstance(cast("object", behaviour), Step):
        raise TypeError(f"expected a behaviour such as Answer() or RateLimited(), got {behaviour!r}")
    return behaviour


def _json(raw: bytes) -> object:
    """The value of a JSON body, or ``None``: a multipart form is not one, and a broken body is no reason to fail."""
    try:
        return cast("object", json.loads(raw)) if raw else None
    except ValueError:
        return None


def _fields(body: object) -> Mapping[str, object]:
    return cast("dict[str, object]", body) if isinstance(body, dict) else {}


def _model(path: str, body: Mapping[str, object], raw: bytes) -> str:
    """The model asked for: in the body, in the path (Gemini, Azure) or in a multipart form (audio, image edits)."""
    named = body.get("model")
    if isinstance(named, str):
        return named
    if in_path := _MODEL_IN_PATH.search(path):
        return unquote(in_path[1])
    in_form = _MODEL_IN_FORM.search(raw)
    return in_form[1].decode() if in_form else ""
