"""The extent of one attempt function: from litellm's pick to the provider's answer.

litellm picks a deployment and calls the provider inside one function of the router
(``_acompletion``, ``_aembedding``, …), and shows neither moment. A :class:`Scope` is open while
such a function runs. Inside it, the router's own steps tell when litellm is really about to be
called, so that an error which the router raises before that makes no attempt; when the function
is over, its result or its error ends the attempt.

This module is an adapter: it knows litellm's objects through the readers, and tells the tree.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Token
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from opentelemetry.context import Context

from traced_router import _litellm as seams
from traced_router import _readers
from traced_router._capture import Capture, Content
from traced_router._current import attach, detach
from traced_router._facts import AttemptFacts, DeploymentFacts
from traced_router._frame import Frame, current_frame, with_frame
from traced_router._guard import fails_open
from traced_router._hedging import Entrant
from traced_router._interrupted import elsewhere, interrupts
from traced_router._propagation import TraceHeaders, headers_in, put_headers
from traced_router._read_candidate import input_cost
from traced_router._spans import Attempt, AttemptListener, Hop
from traced_router._streams import is_stream
from traced_router._tree import Call

_UNKNOWN: Final = DeploymentFacts()
_NO_PARAMETERS: Final[Mapping[str, object]] = MappingProxyType({})


class Promise(AttemptListener, Protocol):
    """Whoever picked a deployment, waiting for the attempt on it."""

    def answered(self, headers: object) -> None:
        """The provider has answered, with ``headers``."""
        ...


class Scope:
    """One attempt function that runs now.

    Args:
        call: the call it runs for.
        hop: the fallback it runs in.
        function: its name, which tells what litellm does before the provider is called.
        reader: knows deployments.
        model: what the function was called with: a group, or a deployment's id.
        asked: the call's arguments, as far as they are known already.
        capture: begins an attempt's content, where that is captured.
        beside: the scope in which others like this one run at the same time.
        entrant: what runs it, where a hedge may run beside it.
    """

    __slots__ = (
        "_ahead",
        "_asked",
        "_attempts",
        "_beside",
        "_capture",
        "_context",
        "_deployment",
        "_group",
        "_headers",
        "_kept",
        "_kwargs",
        "_listed",
        "_model",
        "_picked",
        "_promise",
        "_raw",
        "_reader",
        "_token",
        "call",
        "entrant",
        "function",
        "guard",
        "hop",
        "updated_once",
    )

    def __init__(
        self,
        call: Call,
        hop: Hop | None,
        function: str,
        reader: _readers.DeploymentReader,
        model: object = None,
        asked: Mapping[str, object] = _NO_PARAMETERS,
        capture: Capture | None = None,
        *,
        beside: object = None,
        entrant: Entrant | None = None,
    ) -> None:
        self.guard = call.guard
        self.call = call
        self.entrant = entrant
        self.hop = hop
        self.function = function
        self.updated_once = False
        self._model = model
        self._reader = reader
        self._ahead = False
        self._attempts: list[Attempt] = []
        self._asked = asked
        self._capture = capture
        self._beside = beside
        self._listed: Iterator[object] = iter(())
        self._deployment: DeploymentFacts = _UNKNOWN
        self._raw: Mapping[str, object] = _NO_PARAMETERS
        self._group: str | None = None
        self._headers: TraceHeaders | None = None
        self._picked = False
        self._kwargs: Mapping[str, object] = _NO_PARAMETERS
        self._promise: Promise | None = None
        self._kept: Promise | None = None

    # --- the extent --------------------------------------------------------------------------

    def enter(self) -> None:
        """The function starts."""
        self.call.end_backoff()
        self._context = with_frame(Frame(self.call, self.hop, self), self.call.parent_context(self.hop))
        self._token: Token[Context] = attach(self._context)

    def resume(self) -> None:
        """The provider is through: what litellm does next is no part of an attempt, unless that has a stream."""
        if not self.started:
            attach(self._context)

    def leave(self) -> None:
        """The function is over: whatever was attached inside it is undone with its own frame."""
        self._break_promise()
        detach(self._token)

    # --- what a strategy wants to hear -------------------------------------------------------

    def reserve(self, promise: Promise) -> None:
        """A strategy has picked, and counts on an attempt; an earlier pick that came to nothing is void."""
        self._break_promise()
        self._promise = promise

    def _break_promise(self) -> None:
        promise, self._promise = self._promise, None
        if promise is not None:
            if interrupts():
                elsewhere(promise.ended, None)
            else:
                promise.ended(None)

    # --- what the router's steps tell --------------------------------------------------------

    @fails_open("attempt")
    def picked(self, deployment: object, model_group: str | None, kwargs: object = None) -> None:
        """The router has picked ``deployment`` for a call with the parameters ``kwargs``."""
        if self.function in seams.START_AT_SELECTION:
            self._headers = put_headers(deployment, kwargs)
        if self._know(deployment):
            self._picked = True
            self._group = model_group
        if self.function in seams.START_AT_SELECTION:
            self.start()

    def filling(self, headers: TraceHeaders | None) -> None:
        """``headers`` are to say which attempt it is."""
        self._headers = headers

    @fails_open("attempt")
    def updated(self, router: object, deployment: object, kwargs: object) -> None:
        """The deployment's parameters are in the call's."""
        self.updated_once = True
        self.call.claimed = True
        if isinstance(kwargs, Mapping):
            self._kwargs = kwargs
        if not self._picked:
            self._know(deployment)
        if self.function in seams.START_AT_UPDATE or (
            self.function in seams.NO_CHECKS_BY_ID and seams.is_deployment_id(router, self._model)
        ):
            self.start()

    @fails_open("attempt")
    def checked(self, deployment: object) -> None:
        """The pre-call checks are through: litellm is called next, or has been ahead of them."""
        if self._ahead:
            self._ahead = False
            return
        if self.function in seams.SIDE_BY_SIDE:
            return
        if not self._picked:
            self._know(deployment)
        self.start()

    @fails_open("attempt")
    def about_to_call(self, kwargs: Mapping[str, object]) -> "ProviderCall":
        """The provider function behind an endpoint is called."""
        if not self.started:
            self.call.claimed = True
            self._kwargs = kwargs
            self._ahead = True
            self.start()
        return ProviderCall(self, self.resume)

    @fails_open("attempt")
    def beside(self, kwargs: Mapping[str, object]) -> "ProviderCall | None":
        """A provider function is called for one of several deployments at once: each call is a scope of its own.

        litellm leaves the others running when one has failed. One that is only called when its turn
        is over belongs nowhere in the tree any more.
        """
        if self.call.done or (self.hop is not None and self.hop.done):
            return None
        self.call.adopt_trace_id(kwargs.get(seams.TRACE_ID))
        deployment: object = seams.deployment_of_call(kwargs)
        if not kwargs.get("model_info"):
            deployment = next(self._listed, deployment)
        scope = Scope(self.call, self.hop, "", self._reader, capture=self._capture, beside=self)
        scope.enter()
        scope.picked(deployment, seams.group_of_call(kwargs))
        scope.filling(headers_in(kwargs))
        scope.about_to_call(kwargs)
        return ProviderCall(scope, scope.leave)

    @fails_open("attempt")
    def listed(self, deployments: Sequence[object]) -> None:
        """The router has looked up these deployments."""
        self._listed = iter(deployments)

    @fails_open("attempt")
    def no_such_group(self) -> None:
        """A group that was asked for does not exist: a prompt's model is called directly next."""
        if self.function == seams.PROMPT_MANAGEMENT and self.updated_once and not self._attempts:
            self.start()

    def _know(self, deployment: object) -> bool:
        if not isinstance(deployment, Mapping):
            return False
        self._raw = deployment
        self._deployment = self._reader.read(deployment)
        return True

    @fails_open("attempt")
    def start(self) -> None:
        """litellm is called now: the attempt's span is current from here to the end of the scope."""
        facts = AttemptFacts(self._deployment, self._group, _readers.request_parameters(self._kwargs))
        promise, self._promise = self._promise, None
        content = None if self._capture is None else self._content(self._capture)
        entrant = self.entrant
        beside = self._beside if entrant is None else entrant.beginning()
        attempt = self.call.attempt(facts, self.hop, self, promise, beside=beside, content=content)
        if attempt is not None:
            self._attempts.append(attempt)
            self._kept = promise
            if entrant is not None:
                entrant.began(attempt, partial(input_cost, self._raw, {**self._asked, **self._kwargs}))
            attach(attempt.context)
            if self._headers is not None:
                self._headers.fill(attempt.context)
        elif promise is not None:
            promise.ended(None)

    def _content(self, capture: Capture) -> Content | None:
        """The content of the attempt that begins, unless litellm is told to keep it back."""
        kwargs = {**self._asked, **self._kwargs}
        if not self.call.recording or seams.keeps_messages_back(kwargs, self._raw):
            return None
        return capture.begin(kwargs)

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt of this scope that has not ended."""
        return next((a for a in self._attempts if not a.done), None)

    @property
    def started(self) -> bool:
        """Whether an attempt of this scope is open."""
        return self.open_attempt is not None

    # --- the end -----------------------------------------------------------------------------

    @fails_open("attempt")
    def returned(self, result: object) -> None:
        """The function has returned ``result``; a stream keeps its attempt open."""
        if self._kept is not None:
            self._kept.answered(seams.headers_of(result))
        if is_stream(result):
            for attempt in self._attempts:
                attempt.answered = True
            return
        if self.entrant is not None and self._attempts:
            self.entrant.answered()
        for attempt in self._attempts:
            if not attempt.done:
                if attempt.content is not None:
                    attempt.content.answered(result)
                attempt.succeed(_readers.answer(result, attempt.deployment.id))

    @fails_open("attempt")
    def refused(self, answer: object) -> None:
        """The router throws the provider's ``answer`` away: the attempt fails, and is paid for."""
        attempt = self.open_attempt
        if attempt is not None:
            attempt.partial = partial(_readers.answer, answer, attempt.deployment.id)

    @fails_open("attempt")
    def raised(self, error: BaseException) -> None:
        """The function has raised ``error``."""
        if self._kept is not None:
            self._kept.answered(seams.provider_headers(error))
        for attempt in self._attempts:
            if attempt.done:
                continue
            if isinstance(error, Exception):
                attempt.fail(_readers.failure(error))
            else:
                attempt.left(cancelled=True)


class ProviderCall:
    """One call of a provider function that is seen from its beginning to its end.

    Args:
        scope: where its attempt is.
        over: what is to be done when the provider is through.
    """

    __slots__ = ("_over", "_scope")
    countdown = None

    def __init__(self, scope: Scope, over: Callable[[], None]) -> None:
        self._scope = scope
        self._over = over

    def returned(self, result: Any) -> Any:
        """The provider has answered, unless there is something to await yet: then its scope hears of the end."""
        if not inspect.isawaitable(result):
            self._scope.returned(result)
        self._over()
        return result

    def raised(self, error: BaseException) -> None:
        """The provider has failed, or was left."""
        self._scope.raised(error)
        self._over()


def current_scope() -> Scope | None:
    """The scope of the code that runs now."""
    frame = current_frame()
    return frame.owner if frame is not None and isinstance(frame.owner, Scope) else None
