"""The contract's promises about finished spans, one function each.

A rule takes one span of ours and yields, in plain words, what is wrong with it; its name is the
violation's ``rule``. :data:`RULES`, at the end, says on which spans each one is checked. The
paragraph of the contract that a rule checks is cited in its docstring: §1 the tree, §2 the
attributes, (1)-(8) the invariants of §1.

What the contract leaves open is decided leniently: a rule reports what contradicts the contract,
not what the contract does not say, and asks for an attribute only where the router must know it.

This module must not know litellm, nor how the spans were collected.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from opentelemetry.util.types import AttributeValue

from traced_router import _names as n
from traced_router._storms import nanoseconds_early, stays
from traced_router.testing._conformance_tree import OUR_PREFIXES, Ours
from traced_router.testing._recorder import Event
from traced_router.vocabularies import VOCABULARIES

Rule: TypeAlias = Callable[[Ours], Iterator[str]]

_TABLE: Final = {attribute.key: attribute for attribute in n.ATTRIBUTES}

# --- the tree: names, kinds, parents, times --------------------------------------------------

_HOPS: Final = (n.REQUEST, n.FALLBACK)


def parent(span: Ours) -> Iterator[str]:
    """§1, table "parent": hops are flat under the request, everything else lies in a hop; (4) no orphan."""
    if span.detached:
        return
    allowed = (n.REQUEST,) if span.kind == n.FALLBACK else _HOPS
    if span.parent is None:
        where = (
            "is a root" if span.node.parent_id is None else "has a parent that is not one of the router's spans here"
        )
        yield f"the {span.kind} {where}; its parent must be a {' or a '.join(allowed)}"
    elif span.parent.kind not in allowed:
        yield (
            f"the {span.kind} lies under {span.parent.node.name!r}, {_a(span.parent.kind)}; "
            f"its parent must be a {' or a '.join(allowed)}"
        )


def _a(kind: str) -> str:
    return f"an {kind}" if kind == n.ATTEMPT else f"a {kind}"


def one_trace(span: Ours) -> Iterator[str]:
    """§1 (4): a child shares its parent's trace."""
    if span.parent and span.parent.node.trace_id != span.node.trace_id:
        yield f"its trace id is {span.node.trace_id:032x}, its parent's is {span.parent.node.trace_id:032x}"


def ended(span: Ours) -> Iterator[str]:
    """§1 (2): every span that starts ends."""
    if span.node.end_ns is None:
        yield "the span has not ended"


def forward_in_time(span: Ours) -> Iterator[str]:
    """§1 (2): a span ends at or after its start."""
    if span.node.end_ns is not None and span.node.end_ns < span.node.start_ns:
        yield f"the span ends {span.node.start_ns - span.node.end_ns} ns before it starts"


def inside_parent(span: Ours) -> Iterator[str]:
    """§1 (4): a child lies inside its parent in time."""
    if span.parent is None:
        return
    inner, outer = span.node, span.parent.node
    if inner.start_ns < outer.start_ns:
        yield f"it starts {outer.start_ns - inner.start_ns} ns before its parent {outer.name!r}"
    if inner.end_ns is not None and outer.end_ns is not None and inner.end_ns > outer.end_ns:
        yield f"it ends {inner.end_ns - outer.end_ns} ns after its parent {outer.name!r}"


def kind(span: Ours) -> Iterator[str]:
    """§1, table "kind": attempts are CLIENT, all else INTERNAL; so is an attempt that is no LLM span."""
    expected = "CLIENT" if span.kind == n.ATTEMPT and not _leaves_llm_to_others(span) else "INTERNAL"
    if span.node.kind != expected:
        yield f"the {span.kind}'s kind is {span.node.kind}, expected {expected}"


def _leaves_llm_to_others(span: Ours) -> bool:
    """Whether another instrumentation makes the LLM spans: the setting ``llm_spans`` is off."""
    return span.node.kind == "INTERNAL" and not any(key.startswith(n.GEN_AI_PREFIX) for key in span.node.attributes)


def name(span: Ours) -> Iterator[str]:
    """§1, table "name": made of the span's own attributes, the group cut at 64 characters."""
    expected = [made[: span.max_string] for made in _expected_names(span)]
    if expected and span.node.name not in expected:
        yield f"the {span.kind} is named {span.node.name!r}, expected {' or '.join(map(repr, expected))}"


def _expected_names(span: Ours) -> Sequence[str]:
    """The names that the span's attributes allow; none when they do not say."""
    match span.kind:
        case n.REQUEST:
            return (
                [n.request_span(operation, span.text(n.MODEL_GROUP))] if (operation := span.text(n.OPERATION)) else ()
            )
        case n.BATCH:
            return [n.batch_span(span.text(n.MODEL_GROUP) or "")]
        case n.FALLBACK:
            return _made(n.fallback_span, span.text(n.FALLBACK_TO))
        case n.ATTEMPT:
            return _made(n.attempt_span, span.text(n.GEN_AI_OPERATION), span.text(n.GEN_AI_REQUEST_MODEL))
        case n.SELECTION:
            return _selection_names(span.parent)
        case _:
            return (n.BACKOFF_SPAN,)


def _made(make: Callable[..., str], *parts: str | None) -> Sequence[str]:
    return () if None in parts else (make(*parts),)


def _selection_names(hop: Ours | None) -> Sequence[str]:
    """A selection does not carry its group: the hop does, and after an alias the hop's attempts do."""
    if hop is None or not hop.picked_groups:
        return ()
    asked = hop.text(n.FALLBACK_TO if hop.kind == n.FALLBACK else n.MODEL_GROUP)
    return [n.selection_span(group) for group in (asked, *sorted(hop.picked_groups - {asked})) if group]


def hops_in_order(span: Ours) -> Iterator[str]:
    """§1, row "fallback": hops are flat and in order, so one starts when the one before it is over."""
    first = [*span.selections, *span.attempts, *span.backoffs]
    ends = [child.node.end_ns for child in first if child.node.end_ns is not None]
    if span.fallbacks and ends and max(ends) > span.fallbacks[0].node.start_ns:
        yield f"{span.fallbacks[0].node.name!r} starts before the first hop is over"
    for before, after in pairwise(span.fallbacks):
        if before.node.end_ns is not None and before.node.end_ns > after.node.start_ns:
            yield f"the hops {before.node.name!r} and {after.node.name!r} overlap"


# --- status ----------------------------------------------------------------------------------


def error_type(span: Ours) -> Iterator[str]:
    """§1 "Status", §2: ERROR spans say which exception, the others (UNSET, never OK) have none to tell."""
    if span.node.status not in {"UNSET", "ERROR"}:
        yield f"its status is {span.node.status}, expected UNSET or ERROR"
    elif span.failed and not span.has(n.ERROR_TYPE):
        yield f"its status is ERROR without {n.ERROR_TYPE}"
    elif not span.failed and span.has(n.ERROR_TYPE):
        yield f"its status is UNSET, but {n.ERROR_TYPE} is {span.text(n.ERROR_TYPE)!r}"


def no_exception_bodies(span: Ours) -> Iterator[str]:
    """§1 "Status": exceptions are not recorded with their body, provider bodies can hold prompts."""
    if span.node.status_description not in {None, "", span.text(n.ERROR_TYPE)}:
        yield "its status has a description that is not the exception's class name"
    if any(event.name == "exception" for event in span.node.events):
        yield "it has an exception event"
    for attributes in (span.node.attributes, *(event.attributes for event in span.node.events)):
        for key in ("exception.message", "exception.stacktrace"):
            if key in attributes:
                yield f"it has the attribute {key}"


def request_status(span: Ours) -> Iterator[str]:
    """§1 "Status": the request is ERROR exactly when the caller gets an exception."""
    outcome = span.text(n.OUTCOME)
    if outcome is not None and span.failed != (outcome == _ERROR):
        yield f"its status is {span.node.status}, but {n.OUTCOME} is {outcome!r}"


def failed_attempt(span: Ours) -> Iterator[str]:
    """§2 attempt: HTTP status and error category are a failed attempt's, but a cancelled one is UNSET (§1)."""
    if span.failed and not span.has(n.ERROR_CATEGORY):
        yield f"the attempt failed without {n.ERROR_CATEGORY}"
    for key in (n.ERROR_CATEGORY, n.HTTP_STATUS):
        if not span.failed and span.has(key) and span.text(key) != _CANCELLED:
            yield f"the attempt did not fail, but has {key}"


def hop_status(span: Ours) -> Iterator[str]:
    """§1, row "fallback": ERROR when the hop failed; a hop after which another was tried has failed."""
    left = span.text(n.OUTCOME) in {_CANCELLED, _ABANDONED}
    for hop in span.fallbacks:
        is_last = hop is span.fallbacks[-1]
        if not hop.failed and not is_last:
            yield f"the hop {hop.node.name!r} is UNSET, but another one was tried after it"
        elif not hop.failed and not left and hop.attempts and hop.attempts[-1].failed and not _won(hop):
            yield f"the hop {hop.node.name!r} is UNSET, but its last attempt failed"


def _won(hop: Ours) -> bool:
    """Whether the last attempt of ``hop`` failed beside one that answered."""
    return any(attempt.text(n.HEDGE_OUTCOME) == _WON for attempt in hop.attempts)


# --- attributes in general -------------------------------------------------------------------

_REQUIRED: Final = {
    n.REQUEST: (
        n.TRACE_ID,
        n.OPERATION,
        n.OUTCOME,
        n.ATTEMPTS,
        n.RETRIES,
        n.FALLBACKS,
        n.STREAMING,
        n.TIME_OVERHEAD,
    ),
    n.SELECTION: (),
    n.ATTEMPT: (
        n.TRACE_ID,
        n.GEN_AI_OPERATION,
        n.DEPLOYMENT_ATTEMPT,
        n.DEPLOYMENT_REASON,
        n.ATTEMPT_NUMBER,
    ),
    n.BACKOFF: (n.BACKOFF_SECONDS, n.BACKOFF_SOURCE),
    n.FALLBACK: (n.FALLBACK_KIND, n.FALLBACK_FROM, n.FALLBACK_TO, n.FALLBACK_DEPTH, n.FALLBACK_ERROR_TYPE),
    n.BATCH: (n.OPERATION,),
}
"""Keys that the router always knows; all others may be unknown, hence missing (§2)."""

_ENUMS: Final = {
    n.OUTCOME: n.OUTCOMES,
    n.STREAM_OUTCOME: n.STREAM_OUTCOMES,
    n.DECISION_REASON: n.REASONS,
    n.CHOSEN_RANK_BY: n.RANKINGS,
    n.DEPLOYMENT_REASON: n.ATTEMPT_REASONS,
    n.ERROR_CATEGORY: n.ERROR_CATEGORIES,
    n.BACKOFF_SOURCE: n.BACKOFF_SOURCES,
    n.FALLBACK_KIND: n.FALLBACK_KINDS,
    n.SAMPLING_REASON: n.SAMPLING_REASONS,
    n.HEDGE_ROLE: n.HEDGE_ROLES,
    n.HEDGE_OUTCOME: n.HEDGE_OUTCOMES,
}

_TIMES: Final = (n.TIME_SELECT, n.TIME_PROVIDER, n.TIME_BACKOFF, n.TIME_CONSUMER, n.TIME_OVERHEAD)
_AT_LEAST_ZERO: Final = frozenset(
    {
        *_TIMES,
        n.TIME_WASTED,
        n.TIME_TO_FIRST_CHUNK,
        n.ATTEMPTS,
        n.RETRIES,
        n.FALLBACKS,
        n.RETRY_BUDGET_LEFT,
        n.RETRY_BUDGET_CALLS,
        n.RETRY_BUDGET_RETRIES,
        n.STREAM_CHUNKS,
        n.COST_TOTAL,
        n.COST_WASTED,
        n.DECISION_SECONDS,
        n.CANDIDATES_TOTAL,
        n.CANDIDATES_ELIGIBLE,
        n.CANDIDATES_CONSIDERED,
        n.CHOSEN_INFLIGHT,
        n.ATTEMPT_COST,
        n.ATTEMPT_RETRY_AFTER,
        n.ATTEMPT_PREDICTED_SECONDS,
        n.GEN_AI_INPUT_TOKENS,
        n.GEN_AI_OUTPUT_TOKENS,
        n.GEN_AI_CACHE_READ_TOKENS,
        n.GEN_AI_REASONING_TOKENS,
        n.GEN_AI_TIME_TO_FIRST_CHUNK,
        n.BACKOFF_RETRY_AFTER,
        n.SAMPLING_WEIGHT,
        n.HEDGES,
        n.HEDGES_DENIED,
        n.HEDGE_DELAY,
        n.HEDGE_ESTIMATED_COST,
    }
)


def required(span: Ours) -> Iterator[str]:
    """§2: what the router itself decides or counts is never unknown."""
    for key in _REQUIRED[span.kind]:
        if not span.has(key) and not (key == n.GEN_AI_OPERATION and _leaves_llm_to_others(span)):
            yield f"{key} is missing"


def known_attributes(span: Ours) -> Iterator[str]:
    """§2: a key of ours that the contract does not have on this span does not exist."""
    for key in span.node.attributes:
        if key == n.TRACE_ID or key.startswith(OUR_PREFIXES):
            attribute = _attribute(key)
            if attribute is None:
                yield f"{key} is not an attribute of the contract"
            elif span.kind not in attribute.spans:
                yield f"{key} does not belong on {_a(span.kind)}"


def types(span: Ours) -> Iterator[str]:
    """§2, ``_names.ATTRIBUTES``: each value has exactly the declared Python type; numbers are finite."""
    for key, value in span.node.attributes.items():
        attribute = _attribute(key)
        if attribute is None or span.kind not in attribute.spans or _is_empty(value):
            continue
        lists = attribute.key == n.METADATA and isinstance(value, tuple) and _all_strings(value)
        if not (lists or _has_type(value, attribute.type)):
            wanted = "str, int, float or bool" if attribute.type is object else _TYPE_NAMES[attribute.type]
            yield f"{key} is {value!r} ({type(value).__name__}); expected {wanted}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{key} is {value!r}; expected a finite number"


def values(span: Ours) -> Iterator[str]:
    """§2: attributes with a fixed set of values hold one of them."""
    for key in span.node.attributes:
        value, allowed = span.text(key), _ENUMS.get(key)
        if value and allowed and value not in allowed:
            yield f"{key} is {value!r}; expected one of {', '.join(allowed)}"


def not_negative(span: Ours) -> Iterator[str]:
    """§2: times, costs, counts and tokens are never negative."""
    for key in span.node.attributes:
        value = span.number(key) if key in _AT_LEAST_ZERO else None
        if value is not None and value < 0:
            yield f"{key} is {value}, less than 0"


def not_empty(span: Ours) -> Iterator[str]:
    """§2: missing means unknown: an attribute is left out, never filled with an empty value."""
    for key, value in span.node.attributes.items():
        if _is_contracts(key) and _is_empty(value):
            yield f"{key} is {value!r}; what is unknown is left out"


def string_length(span: Ours) -> Iterator[str]:
    """§2, last paragraph: every string is cut at the limit in force; content has one of its own."""
    for key, value in span.node.attributes.items():
        if _is_contracts(key) and key not in n.CONTENT:
            for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
                if isinstance(text, str) and len(text) > span.max_string:
                    yield f"{key} has {len(text)} characters; the limit is {span.max_string}"


def tokens_only_on_attempts(span: Ours) -> Iterator[str]:
    """§2 request, attempt: usage and model stand on attempts only, or backends count tokens twice."""
    for key in span.node.attributes:
        if key == n.GEN_AI_REQUEST_MODEL or key.startswith("gen_ai.usage.") or key in _WORDS_OF_ATTEMPTS:
            yield f"{key} stands on {_a(span.kind)}; it belongs on attempts only"


_WORDS_OF_ATTEMPTS: Final = frozenset(
    word.key for vocabulary in VOCABULARIES.values() for word in vocabulary.NAMES if word.spans == (n.ATTEMPT,)
)
"""What other backends call models, tokens and cost; see :mod:`traced_router.vocabularies`."""


def events(span: Ours) -> Iterator[str]:
    """§2: each event of ours is a certain span's: cooldowns are an attempt's, candidates a selection's, and so on."""
    for event in span.node.events:
        if event.name.startswith(OUR_PREFIXES) and _EVENT_OF.get(event.name) != span.kind:
            yield f"the event {event.name} does not belong on {_a(span.kind)}"


_EVENT_OF: Final = {
    n.COOLDOWN_EVENT: n.ATTEMPT,
    n.RETRY_AFTER_EVENT: n.ATTEMPT,
    n.CANDIDATES_EVENT: n.SELECTION,
    n.CYCLE_EVENT: n.FALLBACK,
}


_FAMILIES: Final = ((n.STRATEGY_PREFIX, n.STRATEGY_FACTS), (n.METADATA_PREFIX, n.METADATA))
_TYPE_NAMES: Final = {str: "str", int: "int", float: "float", bool: "bool", tuple: "tuple of str"}


def _attribute(key: str) -> n.Attribute | None:
    family = next((_TABLE[name] for prefix, name in _FAMILIES if key.startswith(prefix)), None)
    return _TABLE.get(key, family)


def _is_contracts(key: str) -> bool:
    return key in _TABLE or key.startswith(OUR_PREFIXES)


def _has_type(value: AttributeValue, wanted: type) -> bool:
    if wanted is object:
        return type(value) in {str, int, float, bool}
    return type(value) is wanted and (not isinstance(value, tuple) or _all_strings(value))


def _all_strings(items: Iterable[AttributeValue]) -> bool:
    return all(type(item) is str for item in items)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | tuple) and not value)


# --- request ---------------------------------------------------------------------------------

_ERROR: Final = "error"
_CANCELLED: Final = "cancelled"
_ABANDONED: Final = "abandoned"
_OK: Final = "ok"
_OK_AFTER_RETRY: Final = "ok_after_retry"
_OK_AFTER_FALLBACK: Final = "ok_after_fallback"
_SAVED: Final = (_OK, _OK_AFTER_RETRY, _OK_AFTER_FALLBACK)
_ENDINGS: Final = {
    "exhausted": _SAVED,
    "closed": (_ABANDONED,),
    "abandoned": (_ABANDONED,),
    "cancelled": (_CANCELLED,),
    "error": (_ERROR,),
}
"""What a stream's end makes of the request."""


def counts(span: Ours) -> Iterator[str]:
    """§1 (3), §2 request: attempts, retries and fallbacks are the numbers of their spans."""
    retries = sum(attempt.text(n.DEPLOYMENT_REASON) == "retry" for attempt in span.all_attempts)
    hedges = sum(attempt.text(n.HEDGE_ROLE) == n.HEDGE for attempt in span.all_attempts)
    if hedges != (span.number(n.HEDGES) or 0):
        yield f"{n.HEDGES} is {span.number(n.HEDGES)}, but there are {hedges} attempts that are a hedge"
    for key, count, what in (
        (n.ATTEMPTS, len(span.all_attempts), "attempt spans"),
        (n.RETRIES, retries, "attempts that are a retry"),
        (n.FALLBACKS, len(span.fallbacks), "fallback spans"),
    ):
        value = span.number(key)
        if value is not None and value != count:
            yield f"{key} is {value}, but there are {count} {what}"


def attempt_numbers(span: Ours) -> Iterator[str]:
    """§2 attempt: 1-based over the whole request, in the order in which they started."""
    yield from _counted_up(span.all_attempts, n.ATTEMPT_NUMBER)


def attempts_in_hop(span: Ours) -> Iterator[str]:
    """§2 attempt: ``litellm.deployment.attempt`` is 1-based within the hop."""
    for hop in span.hops:
        yield from _counted_up(hop.attempts, n.DEPLOYMENT_ATTEMPT)


def fallback_depths(span: Ours) -> Iterator[str]:
    """§2 fallback: 1-based, in the order of the hops."""
    yield from _counted_up(span.fallbacks, n.FALLBACK_DEPTH)


def _counted_up(spans: Sequence[Ours], key: str) -> Iterator[str]:
    found = [number for span in spans if (number := span.number(key)) is not None]
    if len(found) == len(spans) and found != list(range(1, len(spans) + 1)):
        names = ", ".join(repr(span.node.name) for span in spans)
        yield f"{key} counts {', '.join(map(str, found))} on {names}; expected 1 to {len(spans)} in order"


def attempt_reasons(span: Ours) -> Iterator[str]:
    """§2 attempt: the first of a hop is ``initial``, in a fallback hop ``fallback``; the others are ``retry``.

    Unless they run beside the first, because litellm calls several deployments at once.
    """
    for hop in span.hops:
        first = "initial" if hop is span else "fallback"
        for index, attempt in enumerate(hop.attempts):
            reason = attempt.text(n.DEPLOYMENT_REASON)
            expected = "retry" if index else first
            if reason in n.ATTEMPT_REASONS and reason not in {expected, first if _overlaps(attempt, hop) else expected}:
                yield f"{n.DEPLOYMENT_REASON} of {attempt.node.name!r} is {reason!r}; expected {expected!r}"


def _overlaps(attempt: Ours, hop: Ours) -> bool:
    """Whether ``attempt`` starts while an earlier one of its hop runs."""
    earlier = hop.attempts[: hop.attempts.index(attempt)]
    return any(a.node.end_ns is None or a.node.end_ns > attempt.node.start_ns for a in earlier)


def hedges(span: Ours) -> Iterator[str]:
    """§2, hedges: one runs beside the attempt before it, its primary, and of the two at most one wins."""
    for hop in span.hops:
        for index, attempt in enumerate(hop.attempts):
            if attempt.text(n.HEDGE_ROLE) != n.HEDGE:
                continue
            pair = hop.attempts[max(0, index - 1) : index + 1]
            if [one.text(n.HEDGE_ROLE) for one in pair] != [n.PRIMARY, n.HEDGE] or not _overlaps(attempt, hop):
                yield f"{attempt.node.name!r} is a hedge, but does not run beside a primary"
            elif [one.text(n.HEDGE_OUTCOME) for one in pair] == [_WON, _WON]:
                yield f"both {attempt.node.name!r} and its primary have won"


_WON: Final = "won"


def trace_ids(span: Ours) -> Iterator[str]:
    """§2 request: ``litellm_trace_id`` is the same on the request and on every attempt."""
    mine = span.text(n.TRACE_ID)
    for attempt in span.all_attempts:
        theirs = attempt.text(n.TRACE_ID)
        if mine and theirs and mine != theirs:
            yield f"{n.TRACE_ID} is {mine!r}, but {theirs!r} on {attempt.node.name!r}"


def fallback_chain(span: Ours) -> Iterator[str]:
    """§2 fallback: ``.from`` is the group that has just failed, so each hop leaves where the last one arrived."""
    for before, after in pairwise(span.fallbacks):
        arrived, left = before.text(n.FALLBACK_TO), after.text(n.FALLBACK_FROM)
        if arrived and left and arrived != left:
            yield f"{after.node.name!r} comes from {left!r}, but the hop before it went to {arrived!r}"


def outcome(span: Ours) -> Iterator[str]:
    """§2 request: what saved the request is the last resort that was used."""
    value = span.text(n.OUTCOME)
    if value not in _SAVED:
        return
    retried = any(attempt.text(n.DEPLOYMENT_REASON) == "retry" for attempt in span.all_attempts)
    expected = _OK_AFTER_FALLBACK if span.fallbacks else _OK_AFTER_RETRY if retried else _OK
    if value != expected:
        yield f"{n.OUTCOME} is {value!r}; its attempts and fallbacks make it {expected!r}"
    if span.text(n.OPERATION) == "list_batches" or span.has(n.SUBSTITUTED):
        return  # litellm makes an empty list of it when every provider fails
    if (last := span.hops[-1].attempts) and all(attempt.failed for attempt in last):
        yield f"{n.OUTCOME} is {value!r}, but every attempt of the last hop failed"


def served(span: Ours) -> Iterator[str]:
    """§2 request: who answered: there when the caller got an answer, absent on error, an attempt that did not fail."""
    value, attempts = span.text(n.OUTCOME), span.all_attempts
    for key, on_attempt in (
        (n.SERVED_MODEL_GROUP, n.DEPLOYMENT_MODEL_GROUP),
        (n.SERVED_DEPLOYMENT_ID, n.DEPLOYMENT_ID),
    ):
        answered = [text for attempt in attempts if not attempt.failed and (text := attempt.text(on_attempt))]
        who = span.text(key)
        if value == _ERROR and span.has(key):
            yield f"{key} is {who!r}, but the request failed"
        elif value in _SAVED and not span.has(key) and answered:
            yield f"{key} is missing, but the request was answered"
        elif who and answered and who not in answered:
            yield f"{key} is {who!r}; the attempts that did not fail have {', '.join(map(repr, answered))}"


def time_split(span: Ours) -> Iterator[str]:
    """§2 request: select, provider, backoff, consumer and overhead add up to the duration (1 ms or 1 %)."""
    parts = [value for key in _TIMES if (value := span.number(key)) is not None]
    seconds = span.node.seconds
    if not parts or seconds is None:
        return
    if abs(sum(parts) - seconds) > max(0.001, 0.01 * seconds):
        yield f"the five times add up to {sum(parts):.6f} s, but the request took {seconds:.6f} s"


def time_wasted(span: Ours) -> Iterator[str]:
    """§2 request: wasted is a part of the provider's time and the backoff."""
    wasted = span.number(n.TIME_WASTED)
    spent = (span.number(n.TIME_PROVIDER) or 0.0) + (span.number(n.TIME_BACKOFF) or 0.0)
    if wasted is not None and wasted > spent + 1e-6:
        yield f"{n.TIME_WASTED} is {wasted}, more than provider and backoff together ({spent})"


def costs(span: Ours) -> Iterator[str]:
    """§2 request: the total is over all attempts, absent when no cost is known; wasted is a part of it."""
    known = [cost for attempt in span.all_attempts if (cost := attempt.number(n.ATTEMPT_COST)) is not None]
    total, wasted = span.number(n.COST_TOTAL), span.number(n.COST_WASTED)
    if total is None and known:
        yield f"{n.COST_TOTAL} is missing, but {len(known)} attempts have {n.ATTEMPT_COST}"
    elif total is not None and not math.isclose(total, sum(known), rel_tol=1e-6, abs_tol=1e-12):
        yield f"{n.COST_TOTAL} is {total}, but the attempts' costs add up to {sum(known)}"
    if wasted is not None and wasted > (total or 0.0) + 1e-12:
        yield f"{n.COST_WASTED} is {wasted}, more than {n.COST_TOTAL} ({total})"


def stream(span: Ours) -> Iterator[str]:
    """§2 request: stream attributes are a stream's, and its end agrees with the outcome."""
    for key in (n.STREAM_OUTCOME, n.STREAM_CHUNKS, n.TIME_TO_FIRST_CHUNK):
        if span.has(key) and not span.true(n.STREAMING):
            yield f"{key} is there, but {n.STREAMING} is not true"
    if span.has(n.TIME_TO_FIRST_CHUNK) and span.number(n.STREAM_CHUNKS) == 0:
        yield f"{n.TIME_TO_FIRST_CHUNK} is there, but {n.STREAM_CHUNKS} is 0"
    end, value = span.text(n.STREAM_OUTCOME), span.text(n.OUTCOME)
    if end in _ENDINGS and value in n.OUTCOMES and value not in _ENDINGS[end]:
        yield f"{n.STREAM_OUTCOME} is {end!r}, but {n.OUTCOME} is {value!r}"


_SEAMS: Final = (n.REQUEST, n.SELECTION, n.ATTEMPT, n.BACKOFF, n.FALLBACK, "stream")
_LEVELS: Final = ("partial", "none")


def _hides(request: Ours, seam: str) -> bool:
    return any(str(item).startswith(f"{seam}=") for item in _listed(request))


def _listed(request: Ours) -> Sequence[AttributeValue]:
    value = request.node.attributes.get(n.CAPABILITIES)
    return value if isinstance(value, tuple) else ()


def capabilities(span: Ours) -> Iterator[str]:
    """§2 request, §5: engine and capabilities stand together, and name seams that are not ``full``."""
    if span.has(n.ENGINE) != span.has(n.CAPABILITIES):
        yield f"{n.ENGINE} and {n.CAPABILITIES} stand together, or not at all"
    for item in _listed(span):
        seam, _, level = str(item).partition("=")
        if seam not in _SEAMS or level not in _LEVELS:
            yield f"{n.CAPABILITIES} holds {item!r}; expected a seam of {', '.join(_SEAMS)} with =partial or =none"


# --- storms ----------------------------------------------------------------------------------

_TURN_OF: Final = {n.REQUEST: n.MODEL_GROUP, n.FALLBACK: n.FALLBACK_TO}
"""Whose turn a hop is."""
_AMPLIFIED: Final = 2


def amplification(span: Ours) -> Iterator[str]:
    """§2 request, fallback: provider calls of the hop's group until its end; what the cache answered is none."""
    calls = [attempt for attempt in span.all_attempts if not attempt.true(n.CACHE_HIT)]
    for hop in span.hops:
        value, end = hop.number(n.AMPLIFICATION), hop.node.end_ns
        groups = {hop.text(_TURN_OF[hop.kind]), *(attempt.text(n.DEPLOYMENT_MODEL_GROUP) for attempt in hop.attempts)}
        of_groups = [attempt for attempt in calls if attempt.text(n.DEPLOYMENT_MODEL_GROUP) in groups]
        count = sum(end is None or attempt.node.start_ns <= end for attempt in of_groups)
        if value is not None and (value != count or value < _AMPLIFIED):
            yield f"{n.AMPLIFICATION} of {hop.node.name!r} is {value}; it had {count} provider calls"


def retry_after_event(span: Ours) -> Iterator[str]:
    """§2 attempt: it says that it is too early exactly when its deployment had asked to be left alone for longer."""
    asking = [attempt for attempt in span.all_attempts if attempt.has(n.ATTEMPT_RETRY_AFTER)]
    said = 0
    for attempt in span.all_attempts:
        told = next((one for one in reversed(asking) if _has_told(one, attempt)), None)
        early = 0 if told is None else _nanoseconds_early(told, attempt)
        found = attempt.events_named(n.RETRY_AFTER_EVENT)
        said += len(found)
        if early and not found and not attempt.true(n.CACHE_HIT):
            yield f"{attempt.node.name!r} is {early * 1e-9:.3f} s too early, without the event {n.RETRY_AFTER_EVENT}"
        for event in found:
            right = told is not None and event.number(n.RETRY_AFTER_ASKED_BY) == told.number(n.ATTEMPT_NUMBER)
            if not (right and early and math.isclose(event.number(n.RETRY_AFTER_EARLY) or 0.0, early * 1e-9)):
                yield f"{n.RETRY_AFTER_EVENT} on {attempt.node.name!r} is {dict(event.attributes)}; it is not so"
    yield from _as_many(span, n.RETRY_AFTER_VIOLATIONS, said, n.RETRY_AFTER_EVENT)


def _has_told(one: Ours, attempt: Ours) -> bool:
    """Whether ``attempt``, on the same deployment, could know what ``one`` was told."""
    own = attempt.text(n.DEPLOYMENT_ID)
    same = one is not attempt and own is not None and own == one.text(n.DEPLOYMENT_ID)
    return same and one.node.end_ns is not None and one.node.end_ns <= attempt.node.start_ns


def _nanoseconds_early(told: Ours, attempt: Ours) -> int:
    asked = told.number(n.ATTEMPT_RETRY_AFTER) or 0.0
    return nanoseconds_early(asked, told.node.end_ns or 0, attempt.node.start_ns)


def fallback_cycle(span: Ours) -> Iterator[str]:
    """§2 fallback: a hop to a group that has failed already says so; of an alias, no other span can tell."""
    failed = {group for group in (span.text(n.MODEL_GROUP), *span.picked_groups) if group}
    said = 0
    for hop in span.fallbacks:
        left, reached = hop.text(n.FALLBACK_FROM), hop.text(n.FALLBACK_TO)
        found = hop.events_named(n.CYCLE_EVENT)
        said += len(found)
        leaves = not stays(hop.text(n.FALLBACK_KIND) or "", left, reached)
        if leaves and reached in failed and not found:
            yield f"{hop.node.name!r} goes to a group that has failed, without the event {n.CYCLE_EVENT}"
        for event in found:
            if not (leaves and _is_cycle(event, hop)):
                yield f"{n.CYCLE_EVENT} on {hop.node.name!r} is {dict(event.attributes)}; it is not so"
        failed |= {group for group in (reached, *hop.picked_groups) if group}
    yield from _as_many(span, n.FALLBACK_CYCLES, said, n.CYCLE_EVENT)


def _is_cycle(event: Event, hop: Ours) -> bool:
    """Whether the event tells of its own hop."""
    depth, visits = event.attributes.get(n.CYCLE_DEPTH), event.attributes.get(n.CYCLE_VISITS)
    is_its_own = event.attributes.get(n.CYCLE_GROUP) == hop.text(n.FALLBACK_TO) and depth == hop.number(
        n.FALLBACK_DEPTH
    )
    return is_its_own and type(visits) is int and visits > 1


def _as_many(span: Ours, key: str, count: int, event_name: str) -> Iterator[str]:
    """The request's own count of what its children say."""
    value = span.number(key)
    if (value or 0) != count or value == 0:
        yield f"{key} is {value}, but there are {count} events {event_name}"


# --- batch -----------------------------------------------------------------------------------


def batch_size(span: Ours) -> Iterator[str]:
    """§1, row "batch"; (1): one request span per member; a batch that broke off may have started fewer."""
    size, members = span.number(n.BATCH_SIZE), len(span.requests)
    broken_off = span.failed or span.text(n.OUTCOME) in {_ERROR, _CANCELLED, _ABANDONED}
    if size is not None and (members > size or (members < size and not broken_off)):
        yield f"{n.BATCH_SIZE} is {size}, but there are {members} member requests"


# --- selection -------------------------------------------------------------------------------

_FORCED: Final = ("forced_specific", "strategy_error_fallback")
_ONLY: Final = "only_candidate"


def decision(span: Ours) -> Iterator[str]:
    """§2 selection, §4: a pick has its reason; a selection that failed has neither."""
    picked, reasoned = span.has(n.DEPLOYMENT_ID), span.has(n.DECISION_REASON)
    if span.failed and (picked or reasoned):
        yield f"the selection failed, but has {n.DEPLOYMENT_ID if picked else n.DECISION_REASON}"
    elif picked != reasoned:
        there, missing = (n.DEPLOYMENT_ID, n.DECISION_REASON)[:: 1 if picked else -1]
        yield f"{there} is there, but {missing} is missing"


def only_candidate(span: Ours) -> Iterator[str]:
    """§2 selection: ``only_candidate`` whenever one was eligible, unless forced or a strategy's error fallback."""
    eligible, reason = span.number(n.CANDIDATES_ELIGIBLE), span.text(n.DECISION_REASON)
    if eligible is None or reason is None or reason in _FORCED:
        return
    if (eligible == 1) != (reason == _ONLY):
        yield f"{n.DECISION_REASON} is {reason!r} with {eligible} eligible"


def exclusions(span: Ours) -> Iterator[str]:
    """§2 selection: total - eligible = the sum of the exclusions, which are never zero; considered <= eligible."""
    excluded = {key: value for key in n.CANDIDATES_EXCLUDED.values() if (value := span.number(key)) is not None}
    for key, value in excluded.items():
        if value <= 0:
            yield f"{key} is {value}; only counts above zero are written"
    total, eligible = span.number(n.CANDIDATES_TOTAL), span.number(n.CANDIDATES_ELIGIBLE)
    considered = span.number(n.CANDIDATES_CONSIDERED)
    if total is not None and eligible is not None and total - eligible != sum(excluded.values()):
        yield f"{total} candidates, {eligible} eligible, but the exclusions add up to {sum(excluded.values())}"
    if considered is not None and eligible is not None and considered > eligible:
        yield f"{n.CANDIDATES_CONSIDERED} is {considered}, but only {eligible} were eligible"


def margin(span: Ours) -> Iterator[str]:
    """§2 selection: (runner-up - chosen) / runner-up, 0 to 1."""
    value = span.number(n.DECISION_MARGIN)
    if value is not None and not 0 <= value <= 1:
        yield f"{n.DECISION_MARGIN} is {value}; expected 0 to 1"


def strategy_facts(span: Ours) -> Iterator[str]:
    """§2 selection: a strategy's own facts are at most 16."""
    facts = sum(key.startswith(n.STRATEGY_PREFIX) for key in span.node.attributes if key != n.STRATEGY_NAME)
    if facts > n.MAX_STRATEGY_FACTS:
        yield f"it has {facts} facts of the strategy; the limit is {n.MAX_STRATEGY_FACTS}"


def candidates_event(span: Ours) -> Iterator[str]:
    """§2 selection: parallel arrays of at most 16 entries, the chosen one among them."""
    for event in span.events_named(n.CANDIDATES_EVENT):
        ids = event.attributes.get(n.CANDIDATES_IDS)
        if not isinstance(ids, tuple) or not _all_strings(ids):
            yield f"{n.CANDIDATES_EVENT}: {n.CANDIDATES_IDS} is {ids!r}; expected an array of strings"
            continue
        if len(ids) > n.MAX_CANDIDATES_LISTED:
            yield f"{n.CANDIDATES_EVENT} lists {len(ids)} candidates; the limit is {n.MAX_CANDIDATES_LISTED}"
        chosen = span.text(n.DEPLOYMENT_ID)
        if chosen and chosen not in ids:
            yield f"{n.CANDIDATES_EVENT} does not list {chosen!r}, the chosen one"
        yield from _parallel(event, len(ids))


def _parallel(event: Event, length: int) -> Iterator[str]:
    reasons = event.attributes.get(n.CANDIDATES_EXCLUDED_BY)
    scores = event.attributes.get(n.CANDIDATES_SCORES, (None,) * length)
    for key, array, allowed in (
        (n.CANDIDATES_EXCLUDED_BY, reasons, _is_exclusion),
        (n.CANDIDATES_SCORES, scores, _is_score),
    ):
        if not isinstance(array, tuple) or len(array) != length:
            yield f"{event.name}: {key} is {array!r}; expected an array of {length}, parallel to {n.CANDIDATES_IDS}"
        elif odd := [item for item in array if not allowed(item)]:
            yield f"{event.name}: {key} holds {odd[0]!r}"


def _is_exclusion(item: object) -> bool:
    return item in ("", *n.EXCLUSIONS)


def _is_score(item: object) -> bool:
    return item is None or type(item) is float


def candidates_after_failure(span: Ours) -> Iterator[str]:
    """§2 selection: the candidates event is always there after a failure, unless selections are not wholly seen."""
    if _hides(span, n.SELECTION):
        return
    ends = [attempt.node.end_ns for attempt in span.all_attempts if attempt.failed and attempt.node.end_ns]
    earliest = min(ends, default=math.inf)
    for selection in (selection for hop in span.hops for selection in hop.selections):
        follows = earliest <= selection.node.start_ns
        if follows and selection.has(n.DEPLOYMENT_ID) and not selection.events_named(n.CANDIDATES_EVENT):
            yield f"{selection.node.name!r} follows a failed attempt without the event {n.CANDIDATES_EVENT}"


# --- attempt, backoff ------------------------------------------------------------------------


def first_chunk(span: Ours) -> Iterator[str]:
    """§2 attempt: the time to the first chunk is a stream's."""
    streams = span.true(n.GEN_AI_REQUEST_STREAM) or (span.request is not None and span.request.true(n.STREAMING))
    if span.has(n.GEN_AI_TIME_TO_FIRST_CHUNK) and not streams:
        yield f"{n.GEN_AI_TIME_TO_FIRST_CHUNK} is there, but the attempt does not stream"


def cache_hit(span: Ours) -> Iterator[str]:
    """§2 attempt: a cache hit is free."""
    cost = span.node.attributes.get(n.ATTEMPT_COST)
    if span.true(n.CACHE_HIT) and cost != 0:
        yield f"the attempt is a cache hit, but {n.ATTEMPT_COST} is {cost!r}; expected 0.0"


def cooldown_event(span: Ours) -> Iterator[str]:
    """§2 attempt: on the attempt whose failure put a deployment into cooldown: which one, how long, why."""
    for event in span.events_named(n.COOLDOWN_EVENT):
        if not span.failed:
            yield f"the event {n.COOLDOWN_EVENT} is on an attempt that did not fail"
        for key, wanted in ((n.DEPLOYMENT_ID, str), (n.COOLDOWN_SECONDS, float), (n.COOLDOWN_REASON, str)):
            value = event.attributes.get(key)
            if type(value) is not wanted or _is_empty(value):
                yield f"{n.COOLDOWN_EVENT}: {key} is {value!r}; expected a {wanted.__name__}"


def server_address(span: Ours) -> Iterator[str]:
    """§2 attempt: the host of ``api_base``; never its path, query or key."""
    address = span.text(n.SERVER_ADDRESS)
    if address and not set(address).isdisjoint("/?@ "):
        yield f"{n.SERVER_ADDRESS} is more than a host"


def backoff(span: Ours) -> Iterator[str]:
    """§1, row "backoff": only real waits; §2: a wait computed from ``retry_after`` shows what was asked for."""
    seconds = span.number(n.BACKOFF_SECONDS)
    if seconds is not None and seconds <= 0:
        yield f"{n.BACKOFF_SECONDS} is {seconds}; a wait is longer than 0"
    if span.text(n.BACKOFF_SOURCE) == "retry_after" and not span.has(n.BACKOFF_RETRY_AFTER):
        yield f"{n.BACKOFF_SOURCE} is 'retry_after', but {n.BACKOFF_RETRY_AFTER} is missing"


# --- the table -------------------------------------------------------------------------------

_ALL: Final = (n.REQUEST, n.SELECTION, n.ATTEMPT, n.BACKOFF, n.FALLBACK, n.BATCH)

RULES: Final[tuple[tuple[Rule, tuple[str, ...]], ...]] = (
    # the tree
    (parent, (n.SELECTION, n.ATTEMPT, n.BACKOFF, n.FALLBACK)),
    (one_trace, _ALL),
    (ended, _ALL),
    (forward_in_time, _ALL),
    (inside_parent, _ALL),
    (kind, _ALL),
    (name, _ALL),
    (hops_in_order, (n.REQUEST,)),
    # status
    (error_type, _ALL),
    (no_exception_bodies, _ALL),
    (request_status, (n.REQUEST, n.BATCH)),
    (failed_attempt, (n.ATTEMPT,)),
    (hop_status, (n.REQUEST,)),
    # attributes in general
    (required, _ALL),
    (known_attributes, _ALL),
    (types, _ALL),
    (values, _ALL),
    (not_negative, _ALL),
    (not_empty, _ALL),
    (string_length, _ALL),
    (tokens_only_on_attempts, (n.REQUEST, n.SELECTION, n.BACKOFF, n.FALLBACK, n.BATCH)),
    (events, _ALL),
    # request
    (counts, (n.REQUEST,)),
    (attempt_numbers, (n.REQUEST,)),
    (attempts_in_hop, (n.REQUEST,)),
    (fallback_depths, (n.REQUEST,)),
    (attempt_reasons, (n.REQUEST,)),
    (hedges, (n.REQUEST,)),
    (trace_ids, (n.REQUEST,)),
    (fallback_chain, (n.REQUEST,)),
    (outcome, (n.REQUEST,)),
    (served, (n.REQUEST,)),
    (time_split, (n.REQUEST,)),
    (time_wasted, (n.REQUEST,)),
    (costs, (n.REQUEST,)),
    (stream, (n.REQUEST,)),
    (capabilities, (n.REQUEST,)),
    (amplification, (n.REQUEST,)),
    (retry_after_event, (n.REQUEST,)),
    (fallback_cycle, (n.REQUEST,)),
    (candidates_after_failure, (n.REQUEST,)),
    # batch
    (batch_size, (n.BATCH,)),
    # selection
    (decision, (n.SELECTION,)),
    (only_candidate, (n.SELECTION,)),
    (exclusions, (n.SELECTION,)),
    (margin, (n.SELECTION,)),
    (strategy_facts, (n.SELECTION,)),
    (candidates_event, (n.SELECTION,)),
    # attempt, backoff
    (first_chunk, (n.ATTEMPT,)),
    (cache_hit, (n.ATTEMPT,)),
    (cooldown_event, (n.ATTEMPT,)),
    (server_address, (n.ATTEMPT,)),
    (backoff, (n.BACKOFF,)),
)
"""Every rule, with the spans on which it is checked."""
