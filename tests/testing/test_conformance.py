"""The checker keeps quiet on a valid trace of every scenario, and names exactly the rule that a mutation breaks."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, set_span_in_context

from traced_router import _names as n
from traced_router.testing import Recorder, Violation, check_trace
from traced_router.testing._conformance_rules import RULES

# --- spans by hand ---------------------------------------------------------------------------

_EPOCH = 1_700_000_000_000_000_000


def ns(seconds: float) -> int:
    return _EPOCH + round(seconds * 1e9)


@dataclass
class Spec:
    """A span to be: times in seconds from the trace's start."""

    name: str
    start: float
    end: float | None
    attributes: dict[str, Any]
    kind: SpanKind = SpanKind.INTERNAL
    status: StatusCode = StatusCode.UNSET
    description: str | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    children: list["Spec"] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def fail(self, error_type: str) -> "Spec":
        self.status = StatusCode.ERROR
        self.attributes[n.ERROR_TYPE] = error_type
        return self


def build(*specs: Spec) -> Recorder:
    recorder = Recorder()
    tracer = recorder.provider.get_tracer("by hand")

    def make(spec: Spec, parent: Any) -> None:
        span = tracer.start_span(
            spec.name, parent, spec.kind, spec.attributes, links=spec.links, start_time=ns(spec.start)
        )
        for child in spec.children:
            make(child, set_span_in_context(span))
        for name, attributes in spec.events:
            span.add_event(name, attributes)
        if spec.status is not StatusCode.UNSET:
            span.set_status(Status(spec.status, spec.description))
        if spec.end is not None:
            span.end(ns(spec.end))

    for spec in specs:
        make(spec, None)
    return recorder


def check(*specs: Spec, max_string: int = 1024) -> list[Violation]:
    return check_trace(build(*specs).trees(), max_string=max_string)


# --- the kinds of spans ----------------------------------------------------------------------


def request(start: float, end: float, *children: Spec, **attributes: Any) -> Spec:
    values = {
        n.TRACE_ID: "t-1",
        n.OPERATION: "chat",
        n.MODEL_GROUP: "gpt-4o",
        n.STRATEGY_NAME: "simple-shuffle",
        n.OUTCOME: "ok",
        n.RETRIES: 0,
        n.FALLBACKS: 0,
        n.STREAMING: False,
        n.TIME_CONSUMER: 0.0,
    }
    hops = [child for child in children if n.FALLBACK_TO in child.attributes]
    below = [*children, *(child for hop in hops for child in hop.children)]
    values[n.ATTEMPTS] = sum(n.ATTEMPT_NUMBER in child.attributes for child in below)
    values[n.TIME_SELECT] = length(below, n.DECISION_REASON)
    values[n.TIME_PROVIDER] = length(below, n.ATTEMPT_NUMBER)
    values[n.TIME_BACKOFF] = length(below, n.BACKOFF_SECONDS)
    values[n.TIME_OVERHEAD] = end - start - sum(values[key] for key in (n.TIME_SELECT, n.TIME_PROVIDER, n.TIME_BACKOFF))
    return Spec("router.chat gpt-4o", start, end, values | keys(attributes), children=list(children))


def length(specs: list[Spec], having: str) -> float:
    return sum((spec.end - spec.start for spec in specs if having in spec.attributes and spec.end), 0.0)


def keys(attributes: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments are names of ``_names``: ``OUTCOME="ok"``."""
    return {getattr(n, name): value for name, value in attributes.items()}


def selection(start: float, end: float, group: str, chosen: str, *, after_failure: bool = False) -> Spec:
    attributes = {
        n.STRATEGY_NAME: "simple-shuffle",
        n.DECISION_REASON: "weighted_random",
        n.CANDIDATES_TOTAL: 3,
        n.CANDIDATES_ELIGIBLE: 2,
        n.CANDIDATES_CONSIDERED: 2,
        n.CANDIDATES_EXCLUDED["cooldown"]: 1,
        n.DEPLOYMENT_ID: chosen,
        n.CHOSEN_SCORE: 0.5,
        n.CHOSEN_RANK_BY: "weight",
        n.RUNNER_UP_ID: "other",
        n.RUNNER_UP_SCORE: 1.0,
        n.DECISION_MARGIN: 0.5,
        n.DECISION_SECONDS: 0.001,
        f"{n.STRATEGY_PREFIX}temperature": 0.5,
    }
    candidates = {"ids": [chosen, "other", "cold"], "scores": [0.5, 1.0, 2.0], "excluded": ["", "", "cooldown"]}
    events = [(n.CANDIDATES_EVENT, candidates)] if after_failure else []
    return Spec(f"router.select {group}", start, end, attributes, events=events)


def attempt(
    start: float, end: float, number: int, in_hop: int, chosen: str, *, group: str = "gpt-4o", **more: Any
) -> Spec:
    reason = "retry" if in_hop > 1 else "initial" if number == 1 else "fallback"
    attributes = {
        n.TRACE_ID: "t-1",
        n.GEN_AI_OPERATION: "chat",
        n.GEN_AI_PROVIDER: "openai",
        n.GEN_AI_REQUEST_MODEL: f"{group}-2024",
        n.GEN_AI_REQUEST_TEMPERATURE: 0.0,
        n.GEN_AI_REQUEST_STOP: ("end",),
        n.SERVER_ADDRESS: "api.openai.com",
        n.SERVER_PORT: 443,
        n.DEPLOYMENT_ID: chosen,
        n.DEPLOYMENT_MODEL_GROUP: group,
        n.DEPLOYMENT_ATTEMPT: in_hop,
        n.DEPLOYMENT_REASON: reason,
        n.ATTEMPT_NUMBER: number,
    }
    return Spec(f"chat {group}-2024", start, end, attributes | keys(more), SpanKind.CLIENT)


def failed(spec: Spec, error_type: str = "RateLimitError", category: str = "rate_limit", status: int = 429) -> Spec:
    spec.attributes |= {n.ERROR_CATEGORY: category, n.HTTP_STATUS: status}
    return spec.fail(error_type)


def backoff(start: float, end: float) -> Spec:
    attributes = {n.BACKOFF_SECONDS: float(end - start), n.BACKOFF_SOURCE: "retry_after", n.BACKOFF_RETRY_AFTER: 2.0}
    return Spec("router.backoff", start, end, attributes)


def fallback(start: float, end: float, depth: int, left: str, to: str, *children: Spec) -> Spec:
    attributes = {
        n.FALLBACK_KIND: "model_group",
        n.FALLBACK_FROM: left,
        n.FALLBACK_TO: to,
        n.FALLBACK_DEPTH: depth,
        n.FALLBACK_ERROR_TYPE: "RateLimitError",
    }
    return Spec(f"router.fallback {to}", start, end, attributes, children=list(children))


# --- scenarios -------------------------------------------------------------------------------


def plain() -> Spec:
    return request(
        0,
        2,
        selection(0.1, 0.2, "gpt-4o", "a"),
        attempt(0.3, 1.9, 1, 1, "a", ATTEMPT_COST=0.25, GEN_AI_INPUT_TOKENS=10),
        SERVED_MODEL_GROUP="gpt-4o",
        SERVED_DEPLOYMENT_ID="a",
        TIME_WASTED=0.0,
        COST_TOTAL=0.25,
        COST_WASTED=0.0,
        SESSION_ID="s",
        USER_ID="u",
    )


def retry() -> Spec:
    first = failed(attempt(0.3, 2, 1, 1, "a", ATTEMPT_RETRY_AFTER=2.0))
    first.events.append((n.COOLDOWN_EVENT, {n.DEPLOYMENT_ID: "a", "seconds": 5.0, "reason": "RateLimitError"}))
    return request(
        0,
        7,
        selection(0.1, 0.2, "gpt-4o", "a"),
        first,
        backoff(2, 4),
        selection(4, 4.5, "gpt-4o", "b", after_failure=True),
        attempt(4.5, 6.5, 2, 2, "b"),
        OUTCOME="ok_after_retry",
        RETRIES=1,
        SERVED_MODEL_GROUP="gpt-4o",
        SERVED_DEPLOYMENT_ID="b",
        TIME_WASTED=3.7,
    )


def side_by_side() -> Spec:
    """litellm asks two deployments at once; that the first one failed is no reason for the second one."""
    second = attempt(0.6, 1.5, 2, 2, "b")
    second.attributes[n.DEPLOYMENT_REASON] = "initial"
    first = failed(attempt(0.5, 1, 1, 1, "a"))
    return request(0, 2, first, second, SERVED_MODEL_GROUP="gpt-4o", SERVED_DEPLOYMENT_ID="b", TIME_WASTED=0.5)


def hedged() -> Spec:
    """The second attempt was sent beside the first, and answered."""
    spec = side_by_side()
    primary, hedge = (child for child in spec.children if n.DEPLOYMENT_ATTEMPT in child.attributes)
    primary.attributes |= {n.HEDGE_ROLE: "primary", n.HEDGE_OUTCOME: "lost"}
    hedge.attributes |= {n.HEDGE_ROLE: "hedge", n.HEDGE_OUTCOME: "won", n.HEDGE_DELAY: 0.5}
    spec.attributes[n.HEDGES] = 1
    return spec


def empty_listing() -> Spec:
    """The one answer that litellm makes of nothing but failures."""
    spec = request(0, 2, failed(attempt(0.5, 1, 1, 1, "a")))
    spec.name = "router.list_batches gpt-4o"
    spec.attributes[n.OPERATION] = "list_batches"
    return spec


def two_fallbacks() -> Spec:
    """gpt-4o fails twice, claude fails, gemini serves: litellm waits after its last retry, too."""
    claude = fallback(
        5,
        7,
        1,
        "gpt-4o",
        "claude",
        selection(5, 5.5, "claude", "c", after_failure=True),
        failed(attempt(5.5, 7, 3, 1, "c", group="claude")),
    ).fail("RateLimitError")
    gemini = fallback(
        7,
        9,
        2,
        "claude",
        "gemini",
        selection(7, 7.5, "gemini", "g", after_failure=True),
        attempt(7.5, 9, 4, 1, "g", group="gemini"),
    )
    return request(
        0,
        9,
        selection(0, 0.5, "gpt-4o", "a"),
        failed(attempt(0.5, 1, 1, 1, "a")),
        backoff(1, 2),
        selection(2, 2.5, "gpt-4o", "b", after_failure=True),
        failed(attempt(2.5, 3, 2, 2, "b")),
        backoff(3, 5),
        claude,
        gemini,
        OUTCOME="ok_after_fallback",
        RETRIES=1,
        FALLBACKS=2,
        SERVED_MODEL_GROUP="gemini",
        SERVED_DEPLOYMENT_ID="g",
    )


def stream() -> Spec:
    served = attempt(0.5, 4, 1, 1, "a", GEN_AI_REQUEST_STREAM=True, GEN_AI_TIME_TO_FIRST_CHUNK=0.5)
    spec = request(
        0,
        4,
        selection(0, 0.5, "gpt-4o", "a"),
        served,
        STREAMING=True,
        STREAM_OUTCOME="exhausted",
        STREAM_CHUNKS=12,
        TIME_TO_FIRST_CHUNK=1.0,
        SERVED_MODEL_GROUP="gpt-4o",
        SERVED_DEPLOYMENT_ID="a",
    )
    spec.attributes |= {n.TIME_PROVIDER: 2.5, n.TIME_CONSUMER: 1.0}
    return spec


def left_stream() -> Spec:
    spec = stream()
    spec.attributes |= {n.OUTCOME: "abandoned", n.STREAM_OUTCOME: "closed"}
    return spec


def cancelled() -> Spec:
    """The caller cancels the second attempt: nobody failed, nobody served."""
    spec = retry()
    spec.attributes[n.OUTCOME] = "cancelled"
    spec.children[-1].attributes[n.ERROR_CATEGORY] = "cancelled"
    del spec.attributes[n.SERVED_MODEL_GROUP], spec.attributes[n.SERVED_DEPLOYMENT_ID]
    return spec


def no_deployment() -> Spec:
    pick = selection(0, 0.5, "gpt-4o", "a").fail("RouterRateLimitError")
    del pick.attributes[n.DEPLOYMENT_ID], pick.attributes[n.DECISION_REASON]
    pick.events.append((n.CANDIDATES_EVENT, {"ids": ["a"], "excluded": ["cooldown"]}))
    return request(0, 1, pick, OUTCOME="error").fail("RouterRateLimitError")


def failed_fallback() -> Spec:
    spec = two_fallbacks()
    spec.attributes[n.OUTCOME] = "error"
    del spec.attributes[n.SERVED_MODEL_GROUP], spec.attributes[n.SERVED_DEPLOYMENT_ID]
    gemini = spec.children[-1].fail("RateLimitError")
    failed(gemini.children[-1])
    return spec.fail("RateLimitError")


def batch() -> Spec:
    members = [plain(), plain()]
    attributes = {n.OPERATION: "chat", n.MODEL_GROUP: "gpt-4o,claude", n.BATCH_SIZE: 2}
    return Spec("router.batch gpt-4o,claude", 0, 2, attributes, children=members)


def cache_hit() -> Spec:
    spec = plain()
    spec.children[1].attributes |= {n.CACHE_HIT: True, n.ATTEMPT_COST: 0.0}
    spec.attributes[n.COST_TOTAL] = 0.0
    return spec


def among_others() -> Spec:
    """A web server's span above; below the attempt another instrumentation, an HTTP client, a nested router call."""
    spec = plain()
    other = {"gen_ai.usage.input_tokens": 10, "litellm.deployment.id": "a", "litellm_trace_id": "t-1"}
    spec.children[1].children = [
        Spec("chat gpt-4o", 0.3, 5, other, SpanKind.CLIENT),
        Spec("POST", 0.4, 1, {"http.request.method": "POST", "empty": ""}, SpanKind.CLIENT),
        request(0.4, 1),
    ]
    spec.children.append(Spec("router.map", 0, 9, {}))
    spec.attributes["app.tenant"] = ""
    return Spec("GET /", 1, 1.5, {}, SpanKind.SERVER, children=[spec])


def alias() -> Spec:
    """The caller asked for an alias; the group was found behind it."""
    spec = plain()
    spec.name, spec.attributes[n.MODEL_GROUP] = "router.chat best", "best"
    return spec


def long_group() -> Spec:
    """A mistyped group with no deployments: the name keeps 64 characters of it."""
    spec = no_deployment()
    spec.attributes[n.MODEL_GROUP] = "g" * 100
    spec.name = f"router.chat {'g' * 64}"
    return spec


def no_group() -> Spec:
    """A call that names no model."""
    spec = plain()
    del spec.attributes[n.MODEL_GROUP]
    spec.name = "router.chat"
    return spec


def silent_mirror() -> Spec:
    return request(0, 1, attempt(0, 1, 1, 1, "a"), SERVED_MODEL_GROUP="gpt-4o", SERVED_DEPLOYMENT_ID="a")


def draining_loser() -> Spec:
    """What outlives its request is a root with a link to it."""
    spec = attempt(0, 9, 2, 1, "b")
    spec.links.append(Link(SpanContext(1, 1, is_remote=False)))
    return spec


def partly_seen() -> Spec:
    spec = retry()
    spec.attributes |= {n.ENGINE: "rust", n.CAPABILITIES: ("selection=partial", "stream=none")}
    spec.children[3].events.clear()
    return spec


def too_early() -> Spec:
    """a asks for 5 s at 2 s, and is called again at 4.5 s; then b fails, and a is called in time."""
    first = failed(attempt(0.5, 2, 1, 1, "a", ATTEMPT_RETRY_AFTER=5.0))
    second = failed(attempt(4.5, 5, 2, 2, "a"))
    second.events.append((n.RETRY_AFTER_EVENT, {"retry_after": 5.0, "early": 2.5, "asked_by": 1}))
    picks = [selection(at, at + 0.5, "gpt-4o", "a", after_failure=at > 0) for at in (0, 4, 6.5)]
    third = attempt(7, 8, 3, 3, "a")
    served = {"SERVED_MODEL_GROUP": "gpt-4o", "SERVED_DEPLOYMENT_ID": "a"}
    spec = request(0, 8, picks[0], first, backoff(2, 4), picks[1], second, picks[2], third, RETRIES=2, **served)
    return with_keys(spec, OUTCOME="ok_after_retry", AMPLIFICATION=3, RETRY_AFTER_VIOLATIONS=1)


def with_keys(spec: Spec, **attributes: Any) -> Spec:
    spec.attributes |= keys(attributes)
    return spec


def in_a_circle() -> Spec:
    """gpt-4o fails, the rest of gpt-4o fails, claude fails, and gpt-4o is asked once more, by another name."""
    rest = fallback(
        1,
        2,
        1,
        "gpt-4o",
        "gpt-4o",
        selection(1, 1.5, "gpt-4o", "b", after_failure=True),
        failed(attempt(1.5, 2, 2, 1, "b")),
    )
    claude = fallback(
        2,
        3,
        2,
        "gpt-4o",
        "claude",
        selection(2, 2.5, "claude", "c", after_failure=True),
        failed(attempt(2.5, 3, 3, 1, "c", group="claude")),
    )
    again = fallback(
        3, 4, 3, "claude", "best", selection(3, 3.5, "gpt-4o", "a", after_failure=True), attempt(3.5, 4, 4, 1, "a")
    )
    again.events.append((n.CYCLE_EVENT, {"model_group": "best", "depth": 3, "visits": 2}))
    spec = request(
        0,
        4,
        selection(0, 0.5, "gpt-4o", "a"),
        failed(attempt(0.5, 1, 1, 1, "a")),
        with_keys(rest, FALLBACK_KIND="order", AMPLIFICATION=2).fail("RateLimitError"),
        claude.fail("RateLimitError"),
        with_keys(again, AMPLIFICATION=3),
    )
    served = {"SERVED_MODEL_GROUP": "gpt-4o", "SERVED_DEPLOYMENT_ID": "a"}
    return with_keys(spec, OUTCOME="ok_after_fallback", FALLBACKS=3, FALLBACK_CYCLES=1, AMPLIFICATION=3, **served)


SCENARIOS: list[Callable[[], Spec]] = [
    plain,
    retry,
    side_by_side,
    hedged,
    empty_listing,
    two_fallbacks,
    stream,
    left_stream,
    cancelled,
    no_deployment,
    failed_fallback,
    batch,
    cache_hit,
    among_others,
    alias,
    long_group,
    no_group,
    silent_mirror,
    draining_loser,
    partly_seen,
    too_early,
    in_a_circle,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_valid_trace_has_no_violation(scenario: Callable[[], Spec]):
    recorder = build(scenario())
    assert [str(violation) for violation in check_trace(recorder.trees())] == []
    assert check_trace(recorder.spans()) == []


def test_several_traces_at_once():
    assert check(plain(), retry(), batch()) == []


# --- mutations -------------------------------------------------------------------------------

Mutation = Callable[[Spec], None]
MUTATIONS: list[tuple[str, str, Callable[[], Spec], Mutation, str]] = []
"""Rule, span, scenario, mutation, a part of the message."""


def breaks(rule: str, scenario: Callable[[], Spec], span: str, says: str) -> Callable[[Mutation], Mutation]:
    def note(mutation: Mutation) -> Mutation:
        MUTATIONS.append((rule, span, scenario, mutation, says))
        return mutation

    return note


REQUEST = "router.chat gpt-4o"
ATTEMPT = "chat gpt-4o-2024"
SELECT = "router.select gpt-4o"


# the tree


@breaks("parent", retry, "router.backoff", "the backoff lies under 'chat gpt-4o-2024', an attempt; ")
def backoff_under_attempt(spec: Spec) -> None:
    wait = spec.children.pop(2)
    wait.start, wait.end = 1, 2
    spec.children[1].children.append(wait)


@breaks("parent", two_fallbacks, "router.fallback claude", "must be a request")
def nested_hop(spec: Spec) -> None:
    claude = spec.children[-2]
    claude.children.append(fallback(6, 6, 1, "gpt-4o", "claude"))


@breaks("ended", retry, "router.backoff", "has not ended")
def open_span(spec: Spec) -> None:
    spec.children[2].end = None


@breaks("forward_in_time", two_fallbacks, "router.backoff", "ends 1000000000 ns before it starts")
def ends_before_start(spec: Spec) -> None:
    spec.children[2].end = 0


@breaks("inside_parent", plain, SELECT, "starts 1000000000 ns before its parent 'router.chat gpt-4o'")
def starts_too_early(spec: Spec) -> None:
    spec.children[0].start = -1


@breaks("inside_parent", plain, ATTEMPT, "ends 1000000000 ns after its parent")
def ends_too_late(spec: Spec) -> None:
    spec.children[1].end = 3


@breaks("kind", plain, ATTEMPT, "kind is INTERNAL, expected CLIENT")
def attempt_kind(spec: Spec) -> None:
    spec.children[1].kind = SpanKind.INTERNAL


@breaks("kind", plain, REQUEST, "kind is SERVER, expected INTERNAL")
def request_kind(spec: Spec) -> None:
    spec.kind = SpanKind.SERVER


@breaks("name", plain, "router.completion gpt-4o", "expected 'router.chat gpt-4o'")
def request_name(spec: Spec) -> None:
    spec.name = "router.completion gpt-4o"


@breaks("name", long_group, "router.chat " + "g" * 100, "expected 'router.chat " + "g" * 64 + "'")
def long_name(spec: Spec) -> None:
    spec.name = "router.chat " + "g" * 100


@breaks("name", plain, "my chat", "expected 'chat gpt-4o-2024'")
def attempt_name(spec: Spec) -> None:
    spec.children[1].name = "my chat"


@breaks("name", two_fallbacks, "to claude", "expected 'router.fallback claude'")
def fallback_name(spec: Spec) -> None:
    spec.children[-2].name = "to claude"


@breaks("name", retry, "wait", "expected 'router.backoff'")
def backoff_name(spec: Spec) -> None:
    spec.children[2].name = "wait"


@breaks("name", alias, "router.select a", "expected 'router.select best' or 'router.select gpt-4o'")
def selection_name(spec: Spec) -> None:
    spec.children[0].name = "router.select a"


@breaks("name", two_fallbacks, SELECT, "expected 'router.select claude'")
def selection_name_in_hop(spec: Spec) -> None:
    spec.children[-2].children[0].name = SELECT


@breaks("name", batch, "router.batch gpt-4o", "expected 'router.batch gpt-4o,claude'")
def batch_name(spec: Spec) -> None:
    spec.name = "router.batch gpt-4o"


@breaks("hops_in_order", two_fallbacks, REQUEST, "'router.fallback claude' starts before the first hop is over")
def hop_before_first_is_over(spec: Spec) -> None:
    spec.children[-2].start = 4


@breaks(
    "hops_in_order", two_fallbacks, REQUEST, "the hops 'router.fallback claude' and 'router.fallback gemini' overlap"
)
def overlapping_hops(spec: Spec) -> None:
    spec.children[-2].end = 7.5


# status


@breaks("error_type", plain, REQUEST, "is OK, expected UNSET or ERROR")
def status_ok(spec: Spec) -> None:
    spec.status = StatusCode.OK


@breaks("error_type", retry, ATTEMPT, "ERROR without error.type")
def error_without_type(spec: Spec) -> None:
    del spec.children[1].attributes[n.ERROR_TYPE]


@breaks("error_type", plain, SELECT, "UNSET, but error.type is 'X'")
def type_without_error(spec: Spec) -> None:
    spec.children[0].attributes[n.ERROR_TYPE] = "X"


@breaks("no_exception_bodies", retry, ATTEMPT, "description that is not the exception's class name")
def description(spec: Spec) -> None:
    spec.children[1].description = "RateLimitError: your prompt was ..."


@breaks("no_exception_bodies", retry, ATTEMPT, "exception event")
def exception_event(spec: Spec) -> None:
    spec.children[1].events.append(("exception", {}))


@breaks("no_exception_bodies", retry, ATTEMPT, "attribute exception.message")
def exception_message(spec: Spec) -> None:
    spec.children[1].attributes["exception.message"] = "boom"


@breaks("no_exception_bodies", retry, ATTEMPT, "attribute exception.stacktrace")
def exception_trace(spec: Spec) -> None:
    spec.children[1].events.append(("log", {"exception.stacktrace": "..."}))


@breaks("request_status", plain, REQUEST, "status is ERROR, but traced_router.outcome is 'ok'")
def failed_but_ok(spec: Spec) -> None:
    spec.fail("X")


@breaks("request_status", no_deployment, REQUEST, "status is UNSET, but traced_router.outcome is 'error'")
def error_but_unset(spec: Spec) -> None:
    spec.status = StatusCode.UNSET
    del spec.attributes[n.ERROR_TYPE]


@breaks("failed_attempt", retry, ATTEMPT, "failed without traced_router.error.category")
def no_category(spec: Spec) -> None:
    del spec.children[1].attributes[n.ERROR_CATEGORY]


@breaks("failed_attempt", plain, ATTEMPT, "did not fail, but has http.response.status_code")
def status_code_of_success(spec: Spec) -> None:
    spec.children[1].attributes[n.HTTP_STATUS] = 200


@breaks("failed_attempt", plain, ATTEMPT, "did not fail, but has traced_router.error.category")
def category_of_success(spec: Spec) -> None:
    spec.children[1].attributes[n.ERROR_CATEGORY] = "other"


@breaks("hop_status", two_fallbacks, REQUEST, "'router.fallback claude' is UNSET, but another one was tried after it")
def earlier_hop_unset(spec: Spec) -> None:
    claude = spec.children[-2]
    claude.status = StatusCode.UNSET
    del claude.attributes[n.ERROR_TYPE]


@breaks("hop_status", failed_fallback, REQUEST, "'router.fallback gemini' is UNSET, but its last attempt failed")
def last_hop_unset(spec: Spec) -> None:
    gemini = spec.children[-1]
    gemini.status = StatusCode.UNSET
    del gemini.attributes[n.ERROR_TYPE]


# attributes in general


@breaks("required", plain, REQUEST, "traced_router.attempts is missing")
def missing(spec: Spec) -> None:
    del spec.attributes[n.ATTEMPTS]


@breaks("required", plain, ATTEMPT, "traced_router.attempt.number is missing")
def missing_number(spec: Spec) -> None:
    del spec.children[1].attributes[n.ATTEMPT_NUMBER]


@breaks("required", two_fallbacks, "router.fallback claude", "traced_router.fallback.to is missing")
def missing_target(spec: Spec) -> None:
    del spec.children[-2].attributes[n.FALLBACK_TO]


@breaks("known_attributes", plain, SELECT, "traced_router.mood is not an attribute of the contract")
def unknown(spec: Spec) -> None:
    spec.children[0].attributes["traced_router.mood"] = "good"


@breaks("known_attributes", plain, ATTEMPT, "traced_router.outcome does not belong on an attempt")
def misplaced(spec: Spec) -> None:
    spec.children[1].attributes[n.OUTCOME] = "ok"


@breaks("known_attributes", plain, SELECT, "litellm_trace_id does not belong on a selection")
def misplaced_trace_id(spec: Spec) -> None:
    spec.children[0].attributes[n.TRACE_ID] = "t-1"


@breaks("types", plain, REQUEST, "traced_router.retries is 0.0 (float); expected int")
def float_for_int(spec: Spec) -> None:
    spec.attributes[n.RETRIES] = 0.0


@breaks("types", plain, REQUEST, "traced_router.streaming is 0 (int); expected bool")
def int_for_bool(spec: Spec) -> None:
    spec.attributes[n.STREAMING] = 0


@breaks("types", plain, ATTEMPT, "gen_ai.request.stop_sequences is (1,) (tuple); expected tuple of str")
def numbers_for_strings(spec: Spec) -> None:
    spec.children[1].attributes[n.GEN_AI_REQUEST_STOP] = (1,)


@breaks("types", plain, SELECT, "expected str, int, float or bool")
def list_for_a_fact(spec: Spec) -> None:
    spec.children[0].attributes[f"{n.STRATEGY_PREFIX}temperature"] = ("warm",)


@breaks("types", plain, REQUEST, "is (1,) (tuple); expected str, int, float or bool")
def numbers_for_metadata(spec: Spec) -> None:
    spec.attributes[f"{n.METADATA_PREFIX}tags"] = (1,)


@breaks("types", plain, SELECT, "is nan; expected a finite number")
def not_a_number(spec: Spec) -> None:
    spec.children[0].attributes[n.CHOSEN_SCORE] = float("nan")


@breaks("values", plain, SELECT, "traced_router.chosen.rank_by is 'luck'; expected one of expected_seconds, ")
def unknown_value(spec: Spec) -> None:
    spec.children[0].attributes[n.CHOSEN_RANK_BY] = "luck"


@breaks("not_negative", plain, ATTEMPT, "gen_ai.usage.input_tokens is -1, less than 0")
def negative(spec: Spec) -> None:
    spec.children[1].attributes[n.GEN_AI_INPUT_TOKENS] = -1


@breaks("not_empty", plain, REQUEST, "session.id is ''")
def empty_string(spec: Spec) -> None:
    spec.attributes[n.SESSION_ID] = ""


@breaks("not_empty", plain, ATTEMPT, "gen_ai.request.stop_sequences is ()")
def empty_list(spec: Spec) -> None:
    spec.children[1].attributes[n.GEN_AI_REQUEST_STOP] = ()


@breaks("string_length", plain, REQUEST, "user.id has 1025 characters; the limit is 1024")
def long_string(spec: Spec) -> None:
    spec.attributes[n.USER_ID] = "u" * 1025


@breaks("string_length", plain, ATTEMPT, "gen_ai.request.stop_sequences has 1025 characters")
def long_string_in_list(spec: Spec) -> None:
    spec.children[1].attributes[n.GEN_AI_REQUEST_STOP] = ("end", "e" * 1025)


@breaks("tokens_only_on_attempts", plain, REQUEST, "gen_ai.usage.input_tokens stands on a request")
def usage_on_request(spec: Spec) -> None:
    spec.attributes[n.GEN_AI_INPUT_TOKENS] = 10


@breaks("tokens_only_on_attempts", plain, REQUEST, "llm.token_count.total stands on a request")
def usage_on_request_in_other_words(spec: Spec) -> None:
    spec.attributes["llm.token_count.total"] = 18


@breaks("tokens_only_on_attempts", two_fallbacks, "router.fallback claude", "gen_ai.request.model stands on a fallback")
def model_on_fallback(spec: Spec) -> None:
    spec.children[-2].attributes[n.GEN_AI_REQUEST_MODEL] = "claude-4"


@breaks("events", plain, REQUEST, "traced_router.candidates does not belong on a request")
def misplaced_event(spec: Spec) -> None:
    spec.events.append((n.CANDIDATES_EVENT, {}))


@breaks("events", plain, ATTEMPT, "traced_router.party does not belong on an attempt")
def unknown_event(spec: Spec) -> None:
    spec.children[1].events.append(("traced_router.party", {}))


# request


@breaks("counts", retry, REQUEST, "traced_router.attempts is 3, but there are 2 attempt spans")
def too_many_attempts(spec: Spec) -> None:
    spec.attributes[n.ATTEMPTS] = 3


@breaks("counts", retry, REQUEST, "traced_router.retries is 0, but there are 1 attempts that are a retry")
def too_few_retries(spec: Spec) -> None:
    spec.attributes[n.RETRIES] = 0


@breaks("counts", two_fallbacks, REQUEST, "traced_router.fallbacks is 1, but there are 2 fallback spans")
def too_few_fallbacks(spec: Spec) -> None:
    spec.attributes[n.FALLBACKS] = 1


@breaks("attempt_numbers", retry, REQUEST, "traced_router.attempt.number counts 1, 1 on ")
def same_number(spec: Spec) -> None:
    spec.children[-1].attributes[n.ATTEMPT_NUMBER] = 1


@breaks(
    "attempts_in_hop",
    two_fallbacks,
    REQUEST,
    "litellm.deployment.attempt counts 3 on 'chat gemini-2024'; expected 1 to 1",
)
def number_over_hops(spec: Spec) -> None:
    spec.children[-1].children[1].attributes[n.DEPLOYMENT_ATTEMPT] = 3


@breaks("fallback_depths", two_fallbacks, REQUEST, "traced_router.fallback.depth counts 1, 1 on ")
def same_depth(spec: Spec) -> None:
    spec.children[-1].attributes[n.FALLBACK_DEPTH] = 1


@breaks(
    "attempt_reasons", retry, REQUEST, "litellm.deployment.reason of 'chat gpt-4o-2024' is 'initial'; expected 'retry'"
)
def initial_twice(spec: Spec) -> None:
    spec.children[-1].attributes[n.DEPLOYMENT_REASON] = "initial"
    spec.attributes |= {n.RETRIES: 0, n.OUTCOME: "ok"}


@breaks("attempt_reasons", two_fallbacks, REQUEST, "is 'initial'; expected 'fallback'")
def initial_in_fallback(spec: Spec) -> None:
    spec.children[-1].children[1].attributes[n.DEPLOYMENT_REASON] = "initial"


@breaks("hedges", hedged, REQUEST, "is a hedge, but does not run beside a primary")
def hedge_of_nobody(spec: Spec) -> None:
    primary = next(child for child in spec.children if child.attributes.get(n.HEDGE_ROLE) == "primary")
    del primary.attributes[n.HEDGE_ROLE], primary.attributes[n.HEDGE_OUTCOME]


@breaks("hedges", hedged, REQUEST, "both 'chat gpt-4o-2024' and its primary have won")
def both_won(spec: Spec) -> None:
    primary = next(child for child in spec.children if child.attributes.get(n.HEDGE_ROLE) == "primary")
    primary.attributes[n.HEDGE_OUTCOME] = "won"


@breaks("counts", hedged, REQUEST, "traced_router.hedges is 2, but there are 1 attempts that are a hedge")
def one_hedge_too_many(spec: Spec) -> None:
    spec.attributes[n.HEDGES] = 2


@breaks("trace_ids", retry, REQUEST, "litellm_trace_id is 't-1', but 't-2' on 'chat gpt-4o-2024'")
def another_trace_id(spec: Spec) -> None:
    spec.children[-1].attributes[n.TRACE_ID] = "t-2"


@breaks("fallback_chain", two_fallbacks, REQUEST, "comes from 'gpt-4o', but the hop before it went to 'claude'")
def hop_from_the_start(spec: Spec) -> None:
    spec.children[-1].attributes[n.FALLBACK_FROM] = "gpt-4o"


@breaks("outcome", retry, REQUEST, "is 'ok'; its attempts and fallbacks make it 'ok_after_retry'")
def ok_after_all(spec: Spec) -> None:
    spec.attributes[n.OUTCOME] = "ok"


@breaks("outcome", plain, REQUEST, "is 'ok_after_fallback'; its attempts and fallbacks make it 'ok'")
def fallback_without_one(spec: Spec) -> None:
    spec.attributes[n.OUTCOME] = "ok_after_fallback"


@breaks("outcome", retry, REQUEST, "'ok_after_retry', but every attempt of the last hop failed")
def nobody_served(spec: Spec) -> None:
    failed(spec.children[-1])


@breaks("served", no_deployment, REQUEST, "traced_router.served.model_group is 'gpt-4o', but the request failed")
def served_on_error(spec: Spec) -> None:
    spec.attributes[n.SERVED_MODEL_GROUP] = "gpt-4o"


@breaks("served", plain, REQUEST, "traced_router.served.deployment_id is missing, but the request was answered")
def server_unknown(spec: Spec) -> None:
    del spec.attributes[n.SERVED_DEPLOYMENT_ID]


@breaks("served", retry, REQUEST, "traced_router.served.deployment_id is 'a'; the attempts that did not fail have 'b'")
def served_by_a_failed_one(spec: Spec) -> None:
    spec.attributes[n.SERVED_DEPLOYMENT_ID] = "a"


@breaks("time_split", plain, REQUEST, "add up to 2.021000 s, but the request took 2.000000 s")
def too_much_time(spec: Spec) -> None:
    spec.attributes[n.TIME_OVERHEAD] += 0.021


@breaks("time_wasted", retry, REQUEST, "traced_router.time.wasted is 6.0, more than provider and backoff together")
def too_much_waste(spec: Spec) -> None:
    spec.attributes[n.TIME_WASTED] = 6.0


@breaks("costs", plain, REQUEST, "traced_router.cost.total is missing, but 1 attempts have traced_router.attempt.cost")
def no_total(spec: Spec) -> None:
    del spec.attributes[n.COST_TOTAL], spec.attributes[n.COST_WASTED]


@breaks("costs", plain, REQUEST, "traced_router.cost.total is 1.0, but the attempts' costs add up to 0.25")
def wrong_total(spec: Spec) -> None:
    spec.attributes[n.COST_TOTAL] = 1.0


@breaks("costs", plain, REQUEST, "traced_router.cost.wasted is 0.5, more than traced_router.cost.total (0.25)")
def too_much_cost_wasted(spec: Spec) -> None:
    spec.attributes[n.COST_WASTED] = 0.5


@breaks("stream", plain, REQUEST, "traced_router.stream.chunks is there, but traced_router.streaming is not true")
def chunks_without_stream(spec: Spec) -> None:
    spec.attributes[n.STREAM_CHUNKS] = 1


@breaks("stream", stream, REQUEST, "traced_router.time_to_first_chunk is there, but traced_router.stream.chunks is 0")
def first_chunk_of_none(spec: Spec) -> None:
    spec.attributes[n.STREAM_CHUNKS] = 0


@breaks("stream", stream, REQUEST, "traced_router.stream.outcome is 'closed', but traced_router.outcome is 'ok'")
def closed_but_ok(spec: Spec) -> None:
    spec.attributes[n.STREAM_OUTCOME] = "closed"


@breaks("capabilities", plain, REQUEST, "traced_router.engine and traced_router.capabilities stand together")
def engine_alone(spec: Spec) -> None:
    spec.attributes[n.ENGINE] = "rust"


@breaks("capabilities", partly_seen, REQUEST, "holds 'stream=full'; expected a seam of request, ")
def full_capability(spec: Spec) -> None:
    spec.attributes[n.CAPABILITIES] = ("selection=none", "stream=full")


@breaks(
    "candidates_after_failure", retry, REQUEST, "follows a failed attempt without the event traced_router.candidates"
)
def no_candidates_after_failure(spec: Spec) -> None:
    spec.children[3].events.clear()


# batch


@breaks(
    "batch_size", batch, "router.batch gpt-4o,claude", "traced_router.batch.size is 3, but there are 2 member requests"
)
def member_missing(spec: Spec) -> None:
    spec.attributes[n.BATCH_SIZE] = 3


@breaks(
    "batch_size", batch, "router.batch gpt-4o,claude", "traced_router.batch.size is 1, but there are 2 member requests"
)
def member_too_many(spec: Spec) -> None:
    spec.attributes[n.BATCH_SIZE] = 1
    spec.fail("X")


# selection


@breaks("decision", no_deployment, SELECT, "the selection failed, but has litellm.deployment.id")
def failed_pick(spec: Spec) -> None:
    spec.children[0].attributes[n.DEPLOYMENT_ID] = "a"


@breaks("decision", no_deployment, SELECT, "the selection failed, but has traced_router.decision.reason")
def failed_with_reason(spec: Spec) -> None:
    spec.children[0].attributes[n.DECISION_REASON] = "external"


@breaks("decision", plain, SELECT, "litellm.deployment.id is there, but traced_router.decision.reason is missing")
def pick_without_reason(spec: Spec) -> None:
    del spec.children[0].attributes[n.DECISION_REASON]


@breaks("decision", plain, SELECT, "traced_router.decision.reason is there, but litellm.deployment.id is missing")
def reason_without_pick(spec: Spec) -> None:
    del spec.children[0].attributes[n.DEPLOYMENT_ID]


@breaks("only_candidate", plain, SELECT, "traced_router.decision.reason is 'only_candidate' with 2 eligible")
def only_of_two(spec: Spec) -> None:
    spec.children[0].attributes[n.DECISION_REASON] = "only_candidate"


@breaks("exclusions", plain, SELECT, "traced_router.candidates.excluded.tag is 0; only counts above zero are written")
def zero_excluded(spec: Spec) -> None:
    spec.children[0].attributes[n.CANDIDATES_EXCLUDED["tag"]] = 0


@breaks("exclusions", plain, SELECT, "4 candidates, 2 eligible, but the exclusions add up to 1")
def one_unaccounted(spec: Spec) -> None:
    spec.children[0].attributes[n.CANDIDATES_TOTAL] = 4


@breaks("exclusions", plain, SELECT, "traced_router.candidates.considered is 3, but only 2 were eligible")
def considered_the_excluded(spec: Spec) -> None:
    spec.children[0].attributes[n.CANDIDATES_CONSIDERED] = 3


@breaks("margin", plain, SELECT, "traced_router.decision.margin is 1.5; expected 0 to 1")
def wide_margin(spec: Spec) -> None:
    spec.children[0].attributes[n.DECISION_MARGIN] = 1.5


@breaks("strategy_facts", plain, SELECT, "it has 17 facts of the strategy; the limit is 16")
def many_facts(spec: Spec) -> None:
    spec.children[0].attributes |= {f"{n.STRATEGY_PREFIX}f{i}": i for i in range(16)}


def candidates(spec: Spec, **arrays: Any) -> None:
    spec.children[3].events = [(n.CANDIDATES_EVENT, {"ids": ["b"], "scores": [1.0], "excluded": [""]} | arrays)]


@breaks("candidates_event", retry, SELECT, "ids is (1,); expected an array of strings")
def ids_are_numbers(spec: Spec) -> None:
    candidates(spec, ids=[1])


@breaks("candidates_event", retry, SELECT, "ids is 'b'; expected an array of strings")
def ids_are_a_string(spec: Spec) -> None:
    candidates(spec, ids="b")


@breaks("candidates_event", retry, SELECT, "lists 17 candidates; the limit is 16")
def many_candidates(spec: Spec) -> None:
    candidates(spec, ids=["b"] * 17, scores=[1.0] * 17, excluded=[""] * 17)


@breaks("candidates_event", retry, SELECT, "does not list 'b', the chosen one")
def chosen_not_listed(spec: Spec) -> None:
    candidates(spec, ids=["a"])


@breaks("candidates_event", retry, SELECT, "scores is (1.0, 2.0); expected an array of 1, parallel to ids")
def not_parallel(spec: Spec) -> None:
    candidates(spec, scores=[1.0, 2.0])


@breaks("candidates_event", retry, SELECT, "excluded holds 'bored'")
def unknown_exclusion(spec: Spec) -> None:
    candidates(spec, excluded=["bored"])


@breaks("candidates_event", retry, SELECT, "scores holds 1")
def score_is_int(spec: Spec) -> None:
    candidates(spec, scores=[1])


# attempt, backoff


@breaks("first_chunk", plain, ATTEMPT, "gen_ai.response.time_to_first_chunk is there, but the attempt does not stream")
def first_chunk_without_stream(spec: Spec) -> None:
    spec.children[1].attributes[n.GEN_AI_TIME_TO_FIRST_CHUNK] = 0.5


@breaks("cache_hit", cache_hit, ATTEMPT, "cache hit, but traced_router.attempt.cost is 0.25; expected 0.0")
def hit_with_cost(spec: Spec) -> None:
    spec.children[1].attributes[n.ATTEMPT_COST] = spec.attributes[n.COST_TOTAL] = 0.25


@breaks("cooldown_event", plain, ATTEMPT, "on an attempt that did not fail")
def cooldown_of_success(spec: Spec) -> None:
    cooldown = {n.DEPLOYMENT_ID: "a", "seconds": 5.0, "reason": "X"}
    spec.children[1].events.append((n.COOLDOWN_EVENT, cooldown))


@breaks("cooldown_event", retry, ATTEMPT, "traced_router.cooldown: seconds is 5; expected a float")
def cooldown_in_ints(spec: Spec) -> None:
    spec.children[1].events[0][1]["seconds"] = 5


@breaks("cooldown_event", retry, ATTEMPT, "traced_router.cooldown: reason is ''; expected a str")
def cooldown_without_reason(spec: Spec) -> None:
    spec.children[1].events[0][1]["reason"] = ""


@breaks("server_address", plain, ATTEMPT, "server.address is more than a host")
def whole_url(spec: Spec) -> None:
    spec.children[1].attributes[n.SERVER_ADDRESS] = "https://key@api.openai.com/v1"


# storms


@breaks("amplification", too_early, REQUEST, "traced_router.amplification of 'router.chat gpt-4o' is 2; it had 3 ")
def calls_that_are_not_counted(spec: Spec) -> None:
    spec.attributes[n.AMPLIFICATION] = 2


@breaks("amplification", in_a_circle, REQUEST, "of 'router.fallback gpt-4o' is 3; it had 2 provider calls")
def calls_that_come_later(spec: Spec) -> None:
    spec.children[2].attributes[n.AMPLIFICATION] = 3


@breaks("amplification", cache_hit, REQUEST, "is 2; it had 0 provider calls")
def hits_that_are_counted(spec: Spec) -> None:
    spec.attributes[n.AMPLIFICATION] = 2


@breaks("amplification", plain, REQUEST, "is 1; it had 1 provider calls")
def a_single_call_is_none(spec: Spec) -> None:
    spec.attributes[n.AMPLIFICATION] = 1


@breaks("retry_after_event", too_early, REQUEST, "is 2.500 s too early, without the event traced_router.retry_after.")
def early_in_silence(spec: Spec) -> None:
    spec.children[4].events.clear()
    del spec.attributes[n.RETRY_AFTER_VIOLATIONS]


@breaks("retry_after_event", too_early, REQUEST, "'asked_by': 2}; it is not so")
def told_by_another(spec: Spec) -> None:
    spec.children[4].events[0][1]["asked_by"] = 2


@breaks("retry_after_event", too_early, REQUEST, "'early': 2.0, ")
def earlier_than_that(spec: Spec) -> None:
    spec.children[4].events[0][1]["early"] = 2.0


@breaks("retry_after_event", too_early, REQUEST, "on 'chat gpt-4o-2024' is {'retry_after': 5.0, 'early': 2.5")
def in_time(spec: Spec) -> None:
    spec.children[1].attributes[n.ATTEMPT_RETRY_AFTER] = 1.0


@breaks("retry_after_event", too_early, REQUEST, "traced_router.retry_after.violations is None, but there are 1 events")
def early_and_not_counted(spec: Spec) -> None:
    del spec.attributes[n.RETRY_AFTER_VIOLATIONS]


@breaks("fallback_cycle", in_a_circle, REQUEST, "'router.fallback gpt-4o' goes to a group that has failed, without ")
def no_rest_of_the_group(spec: Spec) -> None:
    spec.children[2].attributes[n.FALLBACK_KIND] = "model_group"


@breaks("fallback_cycle", in_a_circle, REQUEST, "'depth': 3, 'visits': 1}; it is not so")
def first_visit(spec: Spec) -> None:
    spec.children[4].events[0][1]["visits"] = 1


@breaks("fallback_cycle", in_a_circle, REQUEST, "'visits': 2}; it is not so")
def rest_of_the_group_is_no_circle(spec: Spec) -> None:
    event = (n.CYCLE_EVENT, {"model_group": "gpt-4o", "depth": 1, "visits": 2})
    spec.children[2].events.append(event)
    spec.attributes[n.FALLBACK_CYCLES] = 2


@breaks("fallback_cycle", in_a_circle, REQUEST, "traced_router.fallback.cycles is 2, but there are 1 events")
def more_circles(spec: Spec) -> None:
    spec.attributes[n.FALLBACK_CYCLES] = 2


@breaks("backoff", retry, "router.backoff", "traced_router.backoff.seconds is 0.0; a wait is longer than 0")
def no_wait(spec: Spec) -> None:
    spec.children[2].attributes[n.BACKOFF_SECONDS] = 0.0


@breaks("backoff", retry, "router.backoff", "is 'retry_after', but traced_router.backoff.retry_after is missing")
def asked_by_nobody(spec: Spec) -> None:
    del spec.children[2].attributes[n.BACKOFF_RETRY_AFTER]


@pytest.mark.parametrize(
    ("rule", "span", "scenario", "mutation", "says"),
    MUTATIONS,
    ids=[mutation.__name__ for *_, mutation, _ in MUTATIONS],
)
def test_a_mutation_gives_exactly_its_violation(
    rule: str, span: str, scenario: Callable[[], Spec], mutation: Mutation, says: str
):
    spec = scenario()
    mutation(spec)
    violations = check(spec)
    assert [(v.rule, v.span) for v in violations] == [(rule, span)], "\n".join(map(str, violations))
    assert says in violations[0].message


# --- what a mutation of one span cannot show -------------------------------------------------


def test_every_rule_has_a_mutation():
    elsewhere = {"one_trace"}
    assert {rule.__name__ for rule, _ in RULES} == {rule for rule, *_ in MUTATIONS} | elsewhere


def test_every_rule_cites_the_contract():
    assert [rule.__name__ for rule, _ in RULES if "§" not in (rule.__doc__ or "")] == []


def test_a_span_of_ours_that_is_a_root_is_an_orphan():
    (violation,) = check(backoff(0, 1))
    assert str(violation) == (
        "router.backoff: the backoff is a root; its parent must be a request or a fallback [parent]"
    )


def test_a_span_under_a_foreign_one_is_an_orphan():
    (violation,) = check(Spec("GET /", 0, 9, {}, children=[backoff(0, 1)]))
    assert violation.message.startswith("the backoff has a parent that is not one of the router's spans here")


def test_a_child_of_another_trace():
    root = build(plain()).tree()
    stray = replace(root.children[0], trace_id=root.trace_id + 1)
    violations = check_trace([replace(root, children=(stray, root.children[1]))])
    assert [(v.rule, v.span) for v in violations] == [("one_trace", SELECT)]


def test_the_limit_on_strings_is_the_callers():
    spec = plain()
    spec.attributes[n.USER_ID] = "u" * 1025
    assert check(spec, max_string=1025) == []


def test_a_small_limit_cuts_names_too():
    spec = request(0, 1, MODEL_GROUP="a-long-gro")
    spec.name = "router.cha"
    del spec.attributes[n.STRATEGY_NAME]
    assert check(spec, max_string=10) == []


def test_a_span_is_known_by_its_attributes_when_its_name_is_wrong():
    violations = check(Spec("oops", 0, 1, {n.DECISION_REASON: "external", n.DEPLOYMENT_ID: "a"}))
    assert [violation.rule for violation in violations] == ["parent"]


def test_a_request_is_known_by_its_name_when_its_operation_is_missing():
    spec = plain()
    del spec.attributes[n.OPERATION]
    assert [str(violation) for violation in check(spec)] == [
        "router.chat gpt-4o: traced_router.operation is missing [required]"
    ]


def test_a_selection_without_attempts_keeps_its_own_group():
    """After an alias nobody knows which group the pick was for."""
    spec = no_deployment()
    spec.children[0].name = "router.select somewhere-else"
    assert check(spec) == []


def test_wrong_types_do_not_break_the_other_rules():
    spec = plain()
    for span in (spec, *spec.children):
        for key, value in span.attributes.items():
            span.attributes[key] = 1 if isinstance(value, str) else "x"
    rules = {violation.rule for violation in check(spec)}
    assert rules == {"types"}


def test_a_broken_off_batch_may_have_started_fewer():
    spec = batch()
    spec.children.pop()
    spec.attributes[n.OUTCOME] = "cancelled"
    assert check(spec) == []


def test_a_span_given_twice_counts_once():
    recorder = build(retry())
    assert check_trace([*recorder.spans(), *recorder.trees()]) == []


def test_an_open_request_is_not_asked_for_its_duration():
    spec = plain()
    spec.end = None
    assert [violation.rule for violation in check(spec)] == ["ended"]


def test_finished_spans_alone_are_enough():
    assert check_trace(reversed(build(two_fallbacks()).spans())) == []
