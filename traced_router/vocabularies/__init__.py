"""What other backends call the facts of a trace: one module each, found by name.

OpenTelemetry's GenAI conventions are what a trace is written in. A vocabulary says some of it
again, in the words that a backend looks for.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from traced_router.errors import ConfigurationError
from traced_router.vocabularies import langfuse, llm_routing, openinference, openllmetry
from traced_router.vocabularies._vocabulary import Said, Vocabulary

__all__ = ["VOCABULARIES", "Said", "Vocabulary", "named"]

VOCABULARIES: Final[Mapping[str, Vocabulary]] = MappingProxyType(
    {
        "openinference": openinference,
        "langfuse": langfuse,
        "openllmetry": openllmetry,
        "llm_routing": llm_routing,
    }
)
"""Every vocabulary by its name."""


def named(names: Iterable[str] | str) -> tuple[Vocabulary, ...]:
    """The vocabularies of these names, each once; a string has commas between them.

    Raises:
        ConfigurationError: for a name that there is not.
    """
    if isinstance(names, str):
        names = filter(None, map(str.strip, names.split(",")))
    elif not isinstance(names, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"vocabularies={names!r}: give a list of names. {_there_are()}")
    found: dict[str, Vocabulary] = {}
    for name in names:
        vocabulary = VOCABULARIES.get(name)
        if vocabulary is None:
            near = difflib.get_close_matches(str(name), VOCABULARIES, n=1)
            hint = f"Did you mean {near[0]}?" if near else _there_are()
            raise ConfigurationError(f"There is no vocabulary {name!r}. {hint}")
        found[name] = vocabulary
    return tuple(found.values())


def _there_are() -> str:
    return f"There are: {', '.join(VOCABULARIES)}."
