"""How large calls are: lognormal, bimodal, and sessions whose prompts share a prefix."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from random import Random
from typing import NamedTuple, Protocol


class Size(NamedTuple):
    """Tokens in, tokens out, and the session when there is one."""

    input_tokens: int
    output_tokens: int
    session: str | None = None


class Sizes(Protocol):
    """A distribution of sizes."""

    def draw(self, rng: Random, at: float) -> Size:
        """The size of the call that arrives at ``at``."""
        ...


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Independent lognormal prompts and answers, given by median and sigma of the logarithm."""

    input_median: float = 600.0
    input_sigma: float = 0.9
    output_median: float = 120.0
    output_sigma: float = 0.7

    def draw(self, rng: Random, at: float) -> Size:  # noqa: ARG002 - stationary
        """The size of one call."""
        return Size(
            max(1, round(self.input_median * exp(rng.gauss(0.0, self.input_sigma)))),
            max(1, round(self.output_median * exp(rng.gauss(0.0, self.output_sigma)))),
        )


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of several distributions, by weight: bimodal prompts, for one."""

    parts: Sequence[tuple[float, Sizes]]

    def draw(self, rng: Random, at: float) -> Size:
        """The size of one call."""
        total = list(accumulate(weight for weight, _ in self.parts))
        return self.parts[bisect(total, rng.random() * total[-1])][1].draw(rng, at)


class Sessions:
    """Long prompts that belong to sessions of unequal popularity (Zipf), each with its own prompt size.

    The prompt of a session is its prefix: what a server has cached of it, it need not prefill again.
    """

    def __init__(self, sessions: int = 600, zipf: float = 0.6, prompt: Lognormal | None = None, seed: int = 0) -> None:
        self._prompt = prompt or Lognormal(12_000.0, 0.5, 100.0, 0.6)
        rng = Random(seed)
        self._prefix = [self._prompt.draw(rng, 0.0).input_tokens for _ in range(sessions)]
        self._total = list(accumulate((rank + 1) ** -zipf for rank in range(sessions)))

    def draw(self, rng: Random, at: float) -> Size:
        """The size of one call of one session."""
        session = bisect(self._total, rng.random() * self._total[-1])
        size = self._prompt.draw(rng, at)
        return Size(self._prefix[session], size.output_tokens, f"s{session}")
