"""The calls of one run: made once per world and seed, and the same for every contender."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from random import Random

from benchmarks.simulation.arrivals import Arrivals
from benchmarks.simulation.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a caller, with all that chance decides about it.

    Attributes:
        index: its place in the list.
        at: when it arrives, seconds.
        input_tokens: true size of the prompt.
        output_tokens: true size of the answer.
        noise: factor on the work, whatever server does it.
        estimate: input tokens as a router would guess them from characters.
        lane: 0..1, which router of a fleet it reaches.
        session: calls of one session share a prefix.
        stream: whether the caller reads a stream.
        patience: seconds after which the caller cancels.
        reads: share of the answer after which the caller breaks off the stream.
        draw: 0..1, a die for whoever needs one that does not depend on the contender.
    """

    index: int
    at: float
    input_tokens: int
    output_tokens: int
    noise: float
    estimate: int
    lane: float
    session: str | None = None
    stream: bool = False
    patience: float | None = None
    reads: float | None = None
    draw: float = 0.0


@dataclass(frozen=True, slots=True)
class Callers:
    """How the callers behave.

    Attributes:
        stream: share of calls that are streams.
        cancel: share of calls whose caller loses patience.
        patience: mean of the (exponential) patience of those, seconds.
        break_early: share of streams that are left before their end.
        noise: sigma of the lognormal noise on the work.
        estimate_error: sigma of the lognormal error of an estimate from characters.
    """

    stream: float = 0.0
    cancel: float = 0.0
    patience: float = 2.0
    break_early: float = 0.0
    noise: float = 0.15
    estimate_error: float = 0.15


def make_calls(arrivals: Arrivals, sizes: Sizes, callers: Callers, duration: float, rng: Random) -> Sequence[Call]:
    """All calls that arrive in ``duration`` seconds."""
    return [
        _behave(
            Call(
                index=index,
                at=at,
                input_tokens=size.input_tokens,
                output_tokens=size.output_tokens,
                noise=exp(rng.gauss(0.0, callers.noise)),
                estimate=max(1, round(size.input_tokens * exp(rng.gauss(0.0, callers.estimate_error)))),
                lane=rng.random(),
                session=size.session,
                draw=rng.random(),
            ),
            callers,
            rng,
        )
        for index, (at, size) in enumerate((at, sizes.draw(rng, at)) for at in arrivals.times(duration, rng))
    ]


def _behave(call: Call, callers: Callers, rng: Random) -> Call:
    """The same call, by a caller who streams, cancels or breaks off."""
    stream = rng.random() < callers.stream
    patience = rng.expovariate(1.0 / callers.patience) if rng.random() < callers.cancel else None
    reads = rng.random() if stream and rng.random() < callers.break_early else None
    if not stream and patience is None:
        return call
    return replace(call, stream=stream, patience=patience, reads=reads)
