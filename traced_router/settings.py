"""What a router's tracing can be told, by keyword or by environment.

Read when a router is built, never at import. A keyword beats the environment.
"""

import difflib
import os
from collections.abc import Mapping

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from traced_router.errors import ConfigurationError

PREFIX = "TRACED_ROUTER_"


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
    _refuse_unknown(given or {}, os.environ)
    try:
        return TracedRouterSettings(**dict(given or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"These settings cannot be used: {problems}.") from None


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
