"""What every routing strategy owes the router, one rule a function: :func:`check_strategy`.

A rule takes a :class:`Bench`, plays the router's part, and yields in plain words what is wrong; its
name is the violation's ``rule``. What an exception says is a violation, too. :data:`_BASICS` come
first: while they are broken, the others would only repeat them.

The rules hold for strategies of any kind: they ask for what the interface promises
(:mod:`traced_router.strategy`), and not for a good choice; for that there is
:func:`traced_router.testing.try_strategy`.

This module must not know any strategy, nor litellm.
"""

import gc
import random
import sys
import threading
import traceback
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext
from cProfile import Profile
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isclose, isfinite, nan
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, TypeAlias, cast, get_args, overload

from traced_router.strategy import (
    Candidate,
    Decision,
    Outcome,
    RankBy,
    Reason,
    RoutingRequest,
    SharedState,
    Status,
    Ticket,
)
from traced_router.testing._strategy_kit import StrategyDesk, StrategyFactory, make_candidates, make_request
from traced_router.testing._strategy_world import traffic

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
_SIZES: Final = (1, 2, 3, 8, 17, 64)
_MOST_FACTS: Final = 16
_MOST_NUMBERS: Final = 16
_MOST_MESSAGES: Final = 5
_THREADS: Final = 8
_YES_OR_NO: Final = (True, False)
_SHORT: Final = 60
_LARGE_GROUP: Final = 512
_RECOVERY_SECONDS: Final = 10.0
_STAMPEDE: Final = 3.0
"""Times its share that a deployment may get of a cold start's calls."""


@dataclass(frozen=True, slots=True)
class StrategyViolation:
    """One thing that a strategy owes the router and does not do: the rule's name, and what is wrong."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Bench:
    """What a rule works with: the strategy's factory, and how far to go."""

    factory: StrategyFactory
    ids: int
    most_operations: int

    def desk(self, seed: int = 1) -> StrategyDesk:
        return StrategyDesk(self.factory, seed=seed)


Rule: TypeAlias = Callable[[Bench], Iterator[str]]


def check_strategy(
    factory: StrategyFactory, *, ids: int = 100_000, most_operations: int = 16 * _LARGE_GROUP, patience: float = 60.0
) -> list[StrategyViolation]:
    """What a strategy does against its interface; an empty list when it keeps it.

    Takes some seconds, most of them to see whether state is bounded.

    Args:
        factory: the strategy's class, or whatever makes one when called with ``clock`` and ``rng``.
        ids: deployments and sessions that come and go. A strategy that keeps state of half as many
            or more passes for one that forgets nothing.
        most_operations: candidates read and functions called that a pick among 512 may need. The
            default allows to look at each of them; a strategy that looks at a sample needs 20 to 300.
        patience: seconds of real time until a rule that does not come back counts as one that blocks.
    """
    bench = Bench(factory, ids, most_operations)
    found: list[StrategyViolation] = []
    for number, rule in enumerate(_RULES):
        if found and number == len(_BASICS):
            break
        messages: list[str] = []
        thread = threading.Thread(target=partial(_apply, rule, bench, messages), daemon=True)
        thread.start()
        thread.join(patience)
        if thread.is_alive():
            messages.append(f"it did not come back within {patience:g} s: a strategy must not wait for anything")
        found += [StrategyViolation(rule.__name__, message) for message in messages]
        if thread.is_alive():
            break
    return found


def _apply(rule: Rule, bench: Bench, messages: list[str]) -> None:
    try:
        for message in rule(bench):
            if message not in messages:
                messages.append(message)
            if len(messages) == _MOST_MESSAGES:
                return
    except Exception as error:  # noqa: BLE001 - it is what the rule is there to find
        messages.append(_raised(error))


def _raised(error: Exception) -> str:
    here = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(here)]
    where = f" in {frames[0].name}, line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    return f"it raised {error!r}{where}"


# --- basics ----------------------------------------------------------------------------------


def has_the_interface(bench: Bench) -> Iterator[str]:
    """A name, and four methods; made with ``clock`` and ``rng``."""
    strategy = bench.desk().strategy
    for method in ("pick", "started", "first_chunk", "finished"):
        if not callable(getattr(strategy, method, None)):
            yield f"it has no method {method}()"
    name: object = getattr(strategy, "name", None)
    if not isinstance(name, str) or not name:
        yield f"its name is {name!r}, expected a string that is not empty"
    shares = [callable(getattr(strategy, method, None)) for method in ("export_state", "absorb_state")]
    if any(shares) and not all(shares):
        yield "it has one of export_state() and absorb_state(), which only make sense together"


def picks_one_of_the_candidates(bench: Bench) -> Iterator[str]:
    """A decision, for groups of any size, requests of any kind, and candidates that say much or nothing."""
    for like in (
        Candidate("", weight=2.0, rpm=600.0, tpm=6e5, input_cost_per_token=1e-6, output_cost_per_token=4e-6),
        Candidate(""),
        Candidate("", weight=0.0, rpm=0.0, tpm=0.0, input_cost_per_token=0.0, output_cost_per_token=0.0),
    ):
        for size in _SIZES:
            desk, group = bench.desk(), make_candidates(size, like=like)
            for turn in range(24):
                request = _varied(turn, group, desk.clock.now)
                given = group.copy()
                decision = desk.pick(given, request)
                yield from _wrong(decision, group, desk)
                if given != group:
                    yield "pick() changed the list of candidates that it was given"
                if not _is_pick(decision, group):
                    return
                ticket = desk.start(decision.id, request)
                desk.clock.advance(0.2)
                desk.first_chunk(ticket)
                desk.finish(ticket, input_tokens=2000, cached_input_tokens=1000, output_tokens=100)


def _varied(turn: int, group: Sequence[Candidate], now: float) -> RoutingRequest:
    return make_request(
        f"s{turn % 5}" if turn % 3 else None,
        4000 if turn % 2 else None,
        stream=turn % 4 == 0,
        tried=[group[0].id] if turn % 6 == 0 else (),
        max_output_tokens=500 if turn % 5 == 0 else None,
        deadline=now + turn - 4 if turn % 7 == 0 else None,
    )


def _is_pick(decision: object, group: Sequence[Candidate]) -> bool:
    return isinstance(decision, Decision) and decision.id in {one.id for one in group}


def _wrong(decision: Decision, group: Sequence[Candidate], desk: StrategyDesk) -> Iterator[str]:
    """What is wrong about a decision."""
    ids = {one.id for one in group}
    if not isinstance(cast("object", decision), Decision):
        yield f"pick() answered {decision!r}, expected a Decision"
        return
    if decision.id not in ids:
        yield f"pick() chose {decision.id!r}, which is none of the candidates"
        return
    if decision.reason not in get_args(Reason):
        yield f"reason is {decision.reason!r}, expected one of {', '.join(get_args(Reason))}"
    elif decision.reason == "only_candidate" and len(group) > 1:
        yield "reason is 'only_candidate' although there were others"
    if decision.rank_by is not None and decision.rank_by not in get_args(RankBy):
        yield f"rank_by is {decision.rank_by!r}, expected one of {', '.join(get_args(RankBy))}"
    yield from _wrong_numbers(decision, len(group))
    yield from _wrong_runner_up(decision, ids)
    if decision.inflight is not None and decision.inflight != (truth := desk.inflight(decision.id)):
        yield f"inflight is {decision.inflight} where {truth} calls are in flight"
    yield from _wrong_facts(decision)


def _wrong_numbers(decision: Decision, total: int) -> Iterator[str]:
    for name in ("score", "runner_up_score", "predicted_seconds"):
        value = getattr(decision, name)
        if value is not None and not (isinstance(value, int | float) and isfinite(value)):
            yield f"{name} is {value!r}, expected a finite number or None"
    if decision.considered is not None and not 1 <= decision.considered <= total:
        yield f"considered is {decision.considered}, of {total} candidates"


def _wrong_runner_up(decision: Decision, ids: set[str]) -> Iterator[str]:
    if decision.runner_up_id is None:
        return
    if decision.runner_up_id == decision.id:
        yield "the runner-up is the chosen one"
    elif decision.runner_up_id not in ids:
        yield f"the runner-up is {decision.runner_up_id!r}, which is none of the candidates"
    if (
        decision.score is not None
        and decision.runner_up_score is not None
        and decision.runner_up_score < decision.score
    ):
        yield "the runner-up's score is lower than the chosen one's: lower is better"


def _wrong_facts(decision: Decision) -> Iterator[str]:
    if len(decision.attributes) > _MOST_FACTS:
        yield f"there are {len(decision.attributes)} attributes, of which {_MOST_FACTS} are kept"
    for key, value in decision.attributes.items():
        if key == "name":
            yield "an attribute is called 'name', which is reserved"
        if type(value) not in (str, int, float, bool):
            yield f"attribute {key!r} is a {type(value).__name__}, expected str, int, float or bool"


def scores_as_it_picks(bench: Bench) -> Iterator[str]:
    """What it says that each candidate scores fits what it picks, and asking changes nothing."""
    group = [
        replace(one, weight=1.0 + turn, input_cost_per_token=1e-6 * (1 + turn % 3))
        for turn, one in enumerate(make_candidates(8))
    ]
    picks: list[list[str]] = []
    for asking in _YES_OR_NO:
        desk, draw = bench.desk(seed=3), random.Random(5)  # noqa: S311 - the calls shall repeat themselves
        ask = getattr(desk.strategy, "scores", None)
        if ask is None:
            return
        picks.append([])
        for turn in range(240):
            request = _varied(turn, group, desk.clock.now)
            said = ask(request, group.copy()) if asking else None
            decision = desk.pick(group, request)
            if asking:
                yield from _wrong_scores(said, decision, {one.id for one in group})
            picks[-1].append(decision.id)
            desk.start(decision.id, request)
            desk.clock.advance(0.2 * draw.random())
            if turn % 12 > draw.randrange(12):
                desk.finish(draw.choice(desk.open), draw.choice(("ok", "ok", "error")), output_tokens=100)
    if picks[0] != picks[1]:
        yield "other picks follow when scores() is asked than when it is not: it must not change anything"


def _wrong_scores(said: object, decision: Decision, ids: set[str]) -> Iterator[str]:
    if not isinstance(said, Mapping):
        yield f"scores() answered {said!r}, expected a mapping"
        return
    scores = cast("Mapping[object, object]", said)
    for id_ in scores.keys() - ids:
        yield f"scores() has {id_!r}, which is none of the candidates"
    numbers = [value for value in scores.values() if isinstance(value, int | float) and isfinite(value)]
    if len(numbers) < len(scores):
        yield f"scores() has {_short(list(scores.values()))}, expected finite numbers"
        return
    own = cast("float | None", scores.get(decision.id))
    if own is None or (decision.score is not None and not isclose(own, decision.score, abs_tol=1e-12)):
        yield f"scores() has {own} for the chosen one, whose score is {decision.score}"
        return
    won = decision.reason in ("lowest_score", "tie_random") and decision.considered in (None, len(ids))
    if won and min(numbers) < own:
        yield f"reason is {decision.reason!r}, and scores() has a lower one than the chosen one's"


# --- over a life -----------------------------------------------------------------------------


def repeats_itself(bench: Bench) -> Iterator[str]:
    """The same clock and the same seed give the same picks: no other clock, no other lots, nothing shared."""

    def picks() -> list[str]:
        desk, group = bench.desk(seed=3), make_candidates(20)
        draw = random.Random(5)  # noqa: S311 - the calls shall repeat themselves
        gap = partial(draw.expovariate, 10.0)
        return [sent.id for sent in traffic(desk, group, 20.0, gap, lambda _: (draw.uniform(0.1, 1.0), "ok"))]

    first, second = picks(), picks()
    if first != second:
        turn = next(turn for turn, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
        yield f"two plays with one seed part at pick {turn + 1}: {first[turn]!r}, and then {second[turn]!r}"


def counts_what_is_in_flight(bench: Bench) -> Iterator[str]:
    """Calls that start and end in any order leave nothing behind."""
    desk, group = bench.desk(), make_candidates(3)
    draw = random.Random(1)  # noqa: S311 - the calls shall repeat themselves
    for _ in range(600):
        if draw.choice(_YES_OR_NO) and desk.open:
            desk.clock.advance(draw.random())
            ticket = draw.choice(desk.open)
            if draw.choice(_YES_OR_NO):
                desk.first_chunk(ticket)
            desk.finish(ticket, draw.choice(_STATUSES))
        else:
            desk.send(group, make_request(f"s{draw.randrange(9)}", stream=draw.choice(_YES_OR_NO)))
        yield from _miscounts(desk, group, "while calls start and end")
    for ticket in desk.open:
        desk.finish(ticket, "cancelled")
    yield from _miscounts(desk, group, "when all calls have ended")


def _miscounts(desk: StrategyDesk, group: Sequence[Candidate], when: str) -> Iterator[str]:
    for one in group:
        said, truth = desk.pick([one]).inflight, desk.inflight(one.id)
        if said is not None and said != truth:
            yield f"{when}, inflight is wrong: {said} for {truth}"


def bears_deployments_that_come_and_go(bench: Bench) -> Iterator[str]:
    """A call can end after its deployment has gone; one that is new, or back, is used."""
    desk = bench.desk()
    before, after = make_candidates(6)[:4], make_candidates(6)[2:]
    for turn in range(8):
        desk.serve(before, 0.3, request=make_request(f"s{turn}"))
    old = [desk.start(one.id) for one in before]
    for one in old:
        desk.clock.advance(0.3)
        decision = desk.pick(after)
        if not _is_pick(decision, after):
            yield f"it chose {decision.id!r}, which has gone"
        desk.first_chunk(one)
        desk.finish(one)
    yield from _miscounts(desk, before, "when calls ended after their deployment had gone")
    used = {desk.serve(after, 0.3, request=make_request(f"s{turn}")) for turn in range(200)}
    if not {one.id for one in after[2:]} <= used:
        yield "a deployment that joined the group got none of the next 200 calls"


def bears_any_end(bench: Bench) -> Iterator[str]:
    """Any status, one that is not known yet too, and numbers that no provider should send."""
    group = make_candidates(3)
    odd: tuple[Outcome, ...] = (
        Outcome("ok", 0.0, 0.0),
        Outcome("ok", 1.0, 0.0, input_tokens=0, cached_input_tokens=50, output_tokens=0),
        Outcome("ok", 1e9, 0.0, input_tokens=10**9, cached_input_tokens=0, output_tokens=10**9),
        Outcome("ok", 1.0, 0.0, time_to_first_chunk=5.0, output_tokens=-1),
        Outcome("rate_limited", 0.1, 0.0, status_code=429, retry_after=-5.0),
        Outcome("rate_limited", 0.1, 0.0, status_code=429, retry_after=1e9),
        Outcome("ok", 0.1, 0.0, ratelimit_remaining_requests=-1.0, ratelimit_reset_seconds=-1.0),
        Outcome("error", 0.1, 0.0, status_code=999),
        Outcome(cast("Status", "not known yet"), 0.5, 0.0),
    )
    for outcome in (*(Outcome(status, 0.1, 0.0) for status in _STATUSES), *odd):
        desk = bench.desk()
        for turn in range(30):
            ticket = desk.send(group, make_request(f"s{turn % 4}", 100, stream=turn % 2 == 0))
            desk.clock.advance(0.1)
            if turn % 2 == 0:
                desk.first_chunk(ticket)
            desk.end(ticket, replace(outcome, finished_at=desk.clock.now))
            yield from _wrong(desk.pick(group), group, desk)


def keeps_bounded_state(bench: Bench) -> Iterator[str]:
    """Deployments, groups and sessions come and go for ever; what is kept of them does not grow for ever."""
    desk = bench.desk()
    sizes: list[int] = []
    for half in range(2):
        for turn in range(half * bench.ids // 2, (half + 1) * bench.ids // 2):
            group = "stays" if turn % 4 else f"g{turn // 8}"
            pair = [Candidate(f"{group}-d{turn}", group), Candidate(f"{group}-e{turn % 8}", group)]
            desk.serve(pair, 0.01, request=make_request(f"s{turn}", 3000, group=group), input_tokens=3000)
        sizes.append(_size(desk.strategy, (desk.clock,)))
    if sizes[1] - sizes[0] > bench.ids // 8:
        yield (
            f"it kept {sizes[0]} objects and entries after {bench.ids // 2} ids of deployments and sessions, and "
            f"{sizes[1]} after {bench.ids}: state must be bounded"
        )


_SIZED: Final = (dict, list, set, frozenset, tuple, deque, bytearray, array)


def _size(root: object, ignored: Sequence[object]) -> int:
    """Objects that can be reached from it, and the entries of containers among them."""
    seen = {id(one) for one in ignored}
    todo: list[object] = [root]
    size = 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType):
            continue
        seen.add(id(one))
        size += 1
        if isinstance(one, _SIZED):
            size += len(cast("Sized", one))
        # A function refers to its whole module; what it keeps is in its closure.
        todo.extend(one.__closure__ or () if isinstance(one, FunctionType) else gc.get_referents(one))
    return size


def bears_threads(bench: Bench) -> Iterator[str]:
    """Eight threads pick, start and finish at once."""
    desk, group = bench.desk(), make_candidates(5)
    faults: list[str] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311 - the calls shall repeat themselves
        mine: list[Ticket] = []
        try:
            for turn in range(200):
                mine.append(desk.send(group, make_request(f"s{turn % 9}", stream=turn % 2 == 0)))
                if turn % 3:
                    ticket = mine.pop(draw.randrange(len(mine)))
                    desk.first_chunk(ticket)
                    desk.finish(ticket, draw.choice(_STATUSES))
            for ticket in mine:
                desk.finish(ticket, "cancelled")
        except Exception as error:  # noqa: BLE001 - it is what the rule is there to find
            faults.append(_raised(error))

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns a thousand times as often
    try:
        threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    yield from faults
    yield from _miscounts(desk, group, "when the calls of eight threads have ended")


class _Counted(Sequence[Candidate]):
    """Candidates that count how often one of them is read."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self.reads = 0

    def __len__(self) -> int:
        return len(self._candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        found = self._candidates[index]
        self.reads += len(found) if isinstance(found, Sequence) else 1
        return found

    def __iter__(self) -> Iterator[Candidate]:
        for candidate in self._candidates:
            self.reads += 1
            yield candidate


def picks_without_looking_too_long(bench: Bench) -> Iterator[str]:
    """A pick among many does not need more operations than allowed; counted, since clocks differ."""
    desk, group = bench.desk(), _Counted(make_candidates(_LARGE_GROUP))
    profiler = Profile(subcalls=False)
    picks, warm_up = 50, 500
    for turn in range(warm_up + picks):
        request = make_request(f"s{turn % 9}", 100)
        if turn == warm_up:
            group.reads = 0
        with profiler if turn >= warm_up else nullcontext():
            decision = desk.pick(group, request)
        ticket = desk.start(decision.id, request)
        desk.clock.advance(0.1)
        desk.finish(ticket)
    operations = (sum(entry.callcount for entry in profiler.getstats()) + group.reads) // picks
    if operations > bench.most_operations:
        yield (
            f"a pick among {_LARGE_GROUP} candidates takes {operations} operations (candidates read, functions "
            f"called), and {bench.most_operations} are allowed"
        )


def tries_again_what_has_recovered(bench: Bench) -> Iterator[str]:
    """A deployment that failed, or was slow, for half a minute gets a call within 10 s of its recovery."""
    for fault, seconds, status in (("failing", 0.1, "error"), ("slow", 4.0, "ok")):
        desk, group = bench.desk(), make_candidates(3)
        gap = partial(random.Random(1).expovariate, 5.0)  # noqa: S311 - the calls shall repeat themselves
        ends_at = desk.clock.now + 40.0

        def behave(
            ticket: Ticket, desk: StrategyDesk = desk, ends_at: float = ends_at, bad: Any = (seconds, status)
        ) -> tuple[float, Status]:
            sick = ticket.id == "a" and ends_at - 30.0 <= desk.clock.now < ends_at
            return cast("tuple[float, Status]", bad) if sick else (0.2, "ok")

        sent = list(traffic(desk, group, 40.0 + _RECOVERY_SECONDS, gap, behave))
        if not any(one.id == "a" and one.at >= ends_at for one in sent):
            yield (
                f"a deployment that was {fault} for 30 s was not picked in the {_RECOVERY_SECONDS:g} s after its "
                f"recovery, in which {sum(one.at >= ends_at for one in sent)} calls went elsewhere"
            )


def starts_without_a_stampede(bench: Bench) -> Iterator[str]:
    """A burst of calls into a group that nobody knows is spread over it."""
    desk, group = bench.desk(), make_candidates(8)
    calls = 400
    for turn in range(calls):
        desk.send(group, make_request(f"s{turn}"))
    counts = {one.id: desk.inflight(one.id) for one in group}
    fullest, most = max(counts.items(), key=lambda pair: pair[1])
    if most > _STAMPEDE * calls / len(group):
        yield f"of {calls} calls at once into eight deployments that are all alike, {fullest!r} got {most}"
    unused = sum(not got for got in counts.values())
    if unused:
        yield f"of {calls} calls at once into eight deployments that are all alike, {unused} got none"


# --- state that is shared --------------------------------------------------------------------


def exports_few_numbers(bench: Bench) -> Iterator[str]:
    """At most sixteen finite numbers per id."""
    desk, group = bench.desk(), make_candidates(4)
    if not isinstance(desk.strategy, SharedState):
        return
    for turn in range(60):
        desk.serve(group, 0.1 + turn % 3, request=make_request(f"s{turn % 7}", 100), output_tokens=10)
        desk.send(group)
    exported = cast("object", desk.strategy.export_state())
    if not isinstance(exported, Mapping):
        yield f"export_state() answered {exported!r}, expected a mapping"
        return
    for id_, numbers in cast("Mapping[object, object]", exported).items():
        if not isinstance(id_, str) or not isinstance(numbers, Sequence):
            yield f"export_state() has {id_!r}: {numbers!r}, expected an id and numbers"
            continue
        values = cast("Sequence[object]", numbers)
        if len(values) > _MOST_NUMBERS:
            yield f"export_state() has {len(values)} numbers per id, of which {_MOST_NUMBERS} are sent"
        if not all(isinstance(value, int | float) and isfinite(value) for value in values):
            yield f"export_state() has {values!r}, expected finite numbers"


_GARBAGE: Final[tuple[Mapping[str, Sequence[float]], ...]] = (
    {},
    {"a": ()},
    {"a": (1.0,)},
    {"a": (nan,) * 16, "b": (inf,) * 16, "c": (-inf,) * 16},
    {"a": (-1.0,) * 16, "b": (1e308,) * 16},
    {"a": (0.0,) * 16, "nobody": (1.0,) * 16},
    {f"x{i}": (3.0,) * 40 for i in range(200)},
)


def bears_what_peers_say(bench: Bench) -> Iterator[str]:
    """Peers may run another version, or another program: a pick stays a pick; what they said last counts."""
    if not isinstance(bench.desk().strategy, SharedState):
        return
    group = make_candidates(4)
    for said in (*([one] for one in _GARBAGE), [*_GARBAGE]):
        desk = bench.desk()
        for turn in range(40):
            cast("SharedState", desk.strategy).absorb_state(said)
            yield from (f"after peers said {_short(said)}: {wrong}" for wrong in _wrong(desk.pick(group), group, desk))
            desk.serve(group, 0.2, request=make_request(f"s{turn % 7}", 100))
        cast("SharedState", desk.strategy).absorb_state([])
        yield from (
            f"after peers said {_short(said)} and fell silent: {wrong}"
            for wrong in _wrong(desk.pick(group), group, desk)
        )


def _short(said: object) -> str:
    text = repr(said)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def replaces_what_peers_said(bench: Bench) -> Iterator[str]:
    """Absorbing the same state again changes nothing: gauges, not counters."""
    group = make_candidates(4)
    picks: list[object] = []
    for times in (1, 3):
        desk, peer = bench.desk(), bench.desk(seed=2)
        if not isinstance(desk.strategy, SharedState) or not isinstance(peer.strategy, SharedState):
            return
        for _ in range(50):
            peer.start("a")
        for _ in range(times):
            desk.strategy.absorb_state([peer.strategy.export_state()])
        picks.append([(one.id, one.score) for one in (desk.pick(group), desk.pick(group[:1]))])
    if picks[0] != picks[1]:
        yield "absorb_state() with the same state again changes the picks: it replaces what was absorbed before"


_BASICS: Final[tuple[Rule, ...]] = (has_the_interface, picks_one_of_the_candidates)

_RULES: Final[tuple[Rule, ...]] = (
    *_BASICS,
    scores_as_it_picks,
    repeats_itself,
    counts_what_is_in_flight,
    bears_deployments_that_come_and_go,
    bears_any_end,
    bears_threads,
    picks_without_looking_too_long,
    tries_again_what_has_recovered,
    starts_without_a_stampede,
    exports_few_numbers,
    bears_what_peers_say,
    replaces_what_peers_said,
    keeps_bounded_state,
)
