"""What a span says, said again in the vocabularies that somebody asked for.

This module must not know litellm.
"""

from collections.abc import Mapping

from opentelemetry.trace import Span

from traced_router._attributes import Value
from traced_router._guard import Guard, fails_open
from traced_router.vocabularies import Said, Vocabulary


class Mirror:
    """Adds to spans what further vocabularies call what they say.

    Args:
        vocabularies: at least one.
        guard: where the faults of one go; the others, and the span, are as without it.
        limit: characters of a string. What is longer, and longer than what the span said itself (content has
            a limit of its own), is left out: half a JSON object is none.
    """

    __slots__ = ("_limit", "_vocabularies", "guard")

    def __init__(self, vocabularies: tuple[Vocabulary, ...], guard: Guard, limit: int) -> None:
        self._vocabularies = vocabularies
        self._limit = limit
        self.guard = guard

    def add(self, span: Span, said: Said) -> None:
        """Say what ``span`` has just ``said`` in every vocabulary."""
        words: dict[str, Value] = {}
        for vocabulary in self._vocabularies:
            words.update(self._words(vocabulary, said) or {})
        if words:
            span.set_attributes(words)

    @fails_open("vocabulary")
    def _words(self, vocabulary: Vocabulary, said: Said) -> Mapping[str, Value]:
        words, limit = vocabulary.mirror(said), self._limit
        if not any(len(word) > limit for word in words.values() if isinstance(word, str)):
            return words
        limit = max(limit, *(len(value) for value in said.attributes.values() if isinstance(value, str)), 0)
        return {key: word for key, word in words.items() if not isinstance(word, str) or len(word) <= limit}
