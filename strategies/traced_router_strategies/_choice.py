"""Choosing among candidates: the lowest score, ties at random, and whom to look at in a large group."""

import random
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

FULL_SCAN: Final = 16
"""Up to so many candidates are all looked at."""

SAMPLE: Final = 3
"""Of more, so many are drawn at random, beside those that were best at the last pick."""


class Choice(NamedTuple):
    """Positions of the lowest two scores, and the scores.

    Attributes:
        second: ``None`` when there is only one.
        tied: the first was drawn among equals.
    """

    first: int
    score: float
    second: int | None
    second_score: float | None
    tied: bool


def lowest_two(scores: list[float], rng: random.Random) -> Choice:
    """The lowest two of the scores, which are used up; equals in random order."""
    score = min(scores)
    ties = scores.count(score)
    first = scores.index(score)
    for _ in range(int(rng.random() * ties) if ties > 1 else 0):
        first = scores.index(score, first + 1)
    if len(scores) == 1:
        return Choice(first, score, None, None, tied=False)
    scores[first] = inf
    second_score = min(scores)
    second = scores.index(second_score)
    if second == first:  # all others are infinite, too
        second = 0 if first else 1
    return Choice(first, score, second, second_score, ties > 1)


def shortlist(total: int, remembered: Iterable[int], rng: random.Random) -> Sequence[int]:
    """Positions to look at: all of few, of many a sample and those remembered.

    A little memory is worth more than more choice (Mitzenmacher, Prabhakar and Shah 2002).
    """
    if total <= FULL_SCAN:
        return range(total)
    draw = rng.random
    positions = {int(draw() * total) for _ in range(SAMPLE)}
    positions.update(position for position in remembered if position < total)
    if len(positions) == 1:  # the same one three times: a choice needs another
        positions.add((next(iter(positions)) + 1) % total)
    return list(positions)
