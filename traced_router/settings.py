"""What a router's tracing can be told, by keyword or by environment.

Read when a router is built, never at import. A keyword beats the environment.
"""

import difflib
import logging
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from traced_router.errors import ConfigurationError

PREFIX: Final = "TRACED_ROUTER_"

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The GenAI conventions' own variable, which all instrumentations share."""

logger: Final = logging.getLogger("traced_router")


class ContentCapture(StrEnum):
    """Where prompts and completions go: the GenAI conventions' four answers."""

    NO_CONTENT = "NO_CONTENT"
    SPAN_ONLY = "SPAN_ONLY"
    EVENT_ONLY = "EVENT_ONLY"
    SPAN_AND_EVENT = "SPAN_AND_EVENT"

    @property
    def on_span(self) -> bool:
        """Whether attempt spans carry content."""
        return self in {ContentCapture.SPAN_ONLY, ContentCapture.SPAN_AND_EVENT}

    @property
    def on_event(self) -> bool:
        """Whether a log record of each attempt carries it."""
        return self in {ContentCapture.EVENT_ONLY, ContentCapture.SPAN_AND_EVENT}


_FLAGS: Final = {"true": ContentCapture.SPAN_ONLY, "false": ContentCapture.NO_CONTENT, "": ContentCapture.NO_CONTENT}
"""What older instrumentations take for the same variable."""


def _capture(given: object) -> object:
    """A mode, however its letters are written; what is none is for pydantic to refuse."""
    text = str(given).strip()
    return _FLAGS.get(text.lower(), text.upper())


def _conventional_capture() -> ContentCapture:
    """What the conventions' variable asks for; it is not ours to refuse what others may understand."""
    given = os.environ.get(CAPTURE_VARIABLE, "")
    try:
        return ContentCapture(str(_capture(given)))
    except ValueError:
        logger.warning("%s=%r is not known; no content is captured", CAPTURE_VARIABLE, given[:64])
        return ContentCapture.NO_CONTENT


class TracedRouterSettings(BaseSettings):
    """Settings of one router, each also an environment variable ``TRACED_ROUTER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True)

    list_candidates: bool = False
    """Put the event ``traced_router.candidates`` on every selection, not only on those that follow a
    failure or find no deployment."""

    max_string_length: int = Field(default=1024, ge=64)
    """Characters that a string attribute keeps; at least 64."""

    vocabularies: tuple[str, ...] | str = ()
    """What spans say in the words of other backends too, by name; in the environment with commas between them."""

    routing_strategy: str | None = None
    """Strategy of a router that is built without ``routing_strategy=``: a name of litellm's or of an
    installed strategy. Without either, litellm's own default stays."""

    resilience: bool | None = None
    """Whether sick deployments are kept from callers, for a router that is built without ``resilience=``:
    true for litellm's strategies too, false for none. Without either, it is on for this package's strategies."""

    llm_spans: bool = True
    """Whether attempts are LLM spans. Turn it off where another instrumentation makes those: attempts are
    then ``INTERNAL``, and carry no ``gen_ai.*`` attribute, so that nothing is counted twice."""

    capture_content: Annotated[ContentCapture, BeforeValidator(_capture)] = Field(default_factory=_conventional_capture)
    """Where prompts, completions and tools go: ``NO_CONTENT``, ``SPAN_ONLY``, ``EVENT_ONLY`` or
    ``SPAN_AND_EVENT``; ``true`` is ``SPAN_ONLY``, ``false`` is ``NO_CONTENT``. When not set,
    ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` decides, and without that nothing is captured."""

    max_content_length: int = Field(default=32_768, ge=512)
    """Characters that each attribute with content keeps, as JSON; at least 512."""

    attributes: dict[str, bool | int | float | str | tuple[str, ...]] = Field(default_factory=dict)
    """Attributes that every request span gets: your own names for what this router is for. In the environment a
    JSON object. At most 32, and none of this package's own names."""

    metadata_attributes: tuple[str, ...] | str = ()
    """Keys of litellm's metadata that become ``traced_router.metadata.<key>`` on the request span, where their
    values are text, numbers, flags, or lists of text; in the environment with commas between them. At most 32."""

    retrying: bool | dict[str, Any] | None = None
    """Retry policies of a router that is built without ``retrying=``, by model group, with ``"*"`` for all
    others: each the fields of a :class:`~traced_router.retry.RetryPolicy`, or false for litellm's own
    retries; in the environment as JSON. Plain true is a ``RetryPolicy()`` for all."""

    deadline: float | dict[str, Any] | None = None
    """Deadlines of a router that is built without ``deadline=``: seconds for every call, or by model group,
    with ``"*"`` for all others: each seconds, or the fields of a :class:`~traced_router.deadline.Deadline`;
    in the environment as JSON."""

    hedging: bool | float | dict[str, Any] | None = None
    """Hedges of a router that is built without ``hedging=``: seconds after which every call that may be is sent a
    second time, or by model group, with ``"*"`` for all others: each seconds, the fields of a
    :class:`~traced_router.hedging.HedgePolicy`, true or false; in the environment as JSON. Off when not set."""

    sampling: float | dict[str, Any] | None = None
    """What :func:`traced_router.configure` keeps of traces: a share, 0 to 1, of those in which nothing went wrong
    and all others; or the fields of :class:`~traced_router.sampling.SamplingOptions`; in the environment as JSON.
    When not set, all are kept. A tracer provider of your own gets a
    :class:`~traced_router.sampling.SamplingProcessor` instead."""


def load(given: TracedRouterSettings | Mapping[str, object] | None = None) -> TracedRouterSettings:
    """The settings in force: ``given`` over the environment over the defaults.

    Raises:
        ConfigurationError: for a setting, or a variable with our prefix, that does not exist or
            cannot have its value.
    """
    if isinstance(given, TracedRouterSettings):
        return given
    if given is not None and not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"settings={type(given).__name__!r} object: give a TracedRouterSettings, "
            "a mapping of its fields, or nothing."
        )
    named = dict[str, Any](given or {})
    _refuse_unknown(named, os.environ)
    try:
        return TracedRouterSettings(**named)
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["input"], e["msg"], named) for e in error.errors())
    except ValueError as error:  # a variable that should be JSON and is not
        problems = str(error)
    raise ConfigurationError(f"These settings cannot be used: {problems}. See TracedRouterSettings for what can be.")


def _problem(place: tuple[int | str, ...], given: object, message: str, named: Mapping[str, object]) -> str:
    """What was given, by the name under which it was given, and what is allowed."""
    name = ".".join(map(str, place))
    source = name if place and place[0] in named else PREFIX + name.upper()
    return f"{source}={str(given)[:64]!r}: {message}"


def _refuse_unknown(given: Mapping[str, object], environment: Mapping[str, str]) -> None:
    fields = sorted(TracedRouterSettings.model_fields)
    for name in given:
        if name not in fields:
            raise ConfigurationError(f"There is no setting {name!r}.{_nearest(name, fields)}")
    variables = [PREFIX + f.upper() for f in fields]
    for name in environment:
        if name.upper().startswith(PREFIX) and name.upper() not in variables:
            raise ConfigurationError(f"There is no setting behind {name}.{_nearest(name.upper(), variables)}")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else f" There are: {', '.join(known)}."
