"""Ids on log records, by themselves: what is found, what is missing, and who else puts ids there."""

import contextvars
import io
import json
import logging
import logging.config
import logging.handlers
import queue
import threading

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from traced_router import _names, logs
from traced_router._current import attach, detach
from traced_router._facts import AttemptFacts, CallFacts, DeploymentFacts, FailureFacts
from traced_router._frame import Outside, with_frame
from traced_router._guard import Guard
from traced_router._log_lines import QUIET_SECONDS, StrategyFaults, cooled_down
from traced_router._tree import Tree
from traced_router.testing import Recorder, VirtualClock

PLAIN = "%(trace_id)s %(span_id)s %(litellm_trace_id)s %(message)s"
SPAN = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
TRACE_ID, SPAN_ID = f"{0xABC:032x}", f"{0xDEF:016x}"


class Json(logging.Formatter):
    """All that a record has beside what every record has."""

    def format(self, record):
        plain = vars(logging.LogRecord("", 0, "", 0, "", (), None))
        return json.dumps({k: v for k, v in vars(record).items() if k not in plain} | {"message": record.getMessage()})


class Log:
    """A logger of our own, with one handler, and what it wrote."""

    def __init__(self):
        self._written = io.StringIO()
        self.handler = logging.StreamHandler(self._written)
        self.logger = logging.getLogger("tests.logs")
        self.handler.setFormatter(logging.Formatter(PLAIN))

    @property
    def lines(self):
        return self._written.getvalue().splitlines()

    @property
    def fields(self):
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def log():
    made = Log()
    made.logger.setLevel(logging.INFO)
    made.logger.propagate = False
    made.logger.addHandler(made.handler)
    yield made
    made.logger.handlers.clear()
    made.logger.propagate = True
    made.logger.setLevel(logging.NOTSET)


@pytest.fixture
def inside():
    """Inside a span, as if by somebody else's tracing, and a call that nobody records."""
    context = trace.set_span_in_context(trace.NonRecordingSpan(SPAN), otel_context.Context())
    token = attach(with_frame(Outside("lite"), context))
    yield
    detach(token)


@pytest.fixture
def instrumentor(monkeypatch):
    """The other one that puts ids on records; without its handler, which is for exporting."""
    monkeypatch.setenv("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION", "false")
    factory = logging.getLogRecordFactory()
    made = LoggingInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()
    assert logging.getLogRecordFactory() is factory


# --- a filter on a handler -------------------------------------------------------------------


def test_inside_a_call_a_plain_line_has_the_ids(log, inside):
    log.handler.addFilter(logs.CallIds())
    log.logger.info("said")

    assert log.lines == [f"{TRACE_ID} {SPAN_ID} lite said"]


def test_outside_of_everything_a_plain_line_is_a_line_all_the_same(log):
    log.handler.addFilter(logs.CallIds())
    log.logger.info("said")

    assert log.lines == ["- - - said"]


def test_in_a_structured_line_what_is_missing_can_be_left_out(log):
    log.handler.setFormatter(Json())
    log.handler.addFilter(logs.CallIds(missing=None))
    log.logger.info("said")

    assert log.fields == [{"message": "said"}]


def test_what_the_caller_says_is_meant(log, inside):
    log.handler.addFilter(logs.CallIds())
    log.logger.info("said", extra={"trace_id": "mine"})
    log.logger.info("said", extra={"trace_id": "my", "span_id": "own", "litellm_trace_id": "ids"})

    assert log.lines == [f"mine {SPAN_ID} lite said", "my own ids said"]


def test_some_fields_can_be_enough(log, inside):
    log.handler.setFormatter(Json())
    log.handler.addFilter(logs.CallIds(fields=["litellm_trace_id"]))
    log.logger.info("said")

    assert log.fields == [{"litellm_trace_id": "lite", "message": "said"}]


def test_a_configuration_can_name_it(log, inside):
    written = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "filters": {"ids": {"()": "traced_router.logs.CallIds", "missing": ""}},
            "formatters": {"plain": {"format": PLAIN}},
            "handlers": {
                "out": {
                    "class": "logging.StreamHandler",
                    "stream": written,
                    "filters": ["ids"],
                    "formatter": "plain",
                }
            },
            "loggers": {"tests.logs": {"handlers": ["out"], "level": "INFO", "propagate": False}},
        }
    )
    log.logger.info("said")

    assert written.getvalue() == f"{TRACE_ID} {SPAN_ID} lite said\n"


def test_a_queue_s_record_has_the_ids_of_who_wrote_it(log, inside):
    """A filter runs where the line is written, not where the queue is emptied."""
    waiting = queue.SimpleQueue()
    log.logger.removeHandler(log.handler)
    handler = logging.handlers.QueueHandler(waiting)
    handler.addFilter(logs.CallIds())
    log.logger.addHandler(handler)
    log.logger.info("said")
    listener = threading.Thread(target=lambda: log.handler.handle(waiting.get()))
    listener.start()
    listener.join()

    assert log.lines == [f"{TRACE_ID} {SPAN_ID} lite said"]


@pytest.mark.parametrize("carried", [True, False])
def test_a_thread_has_them_that_was_given_the_context(log, inside, carried):
    log.handler.addFilter(logs.CallIds())
    context = contextvars.copy_context() if carried else contextvars.Context()
    thread = threading.Thread(target=context.run, args=(log.logger.info, "said"))
    thread.start()
    thread.join()

    assert log.lines == [f"{TRACE_ID} {SPAN_ID} lite said" if carried else "- - - said"]


def test_a_span_that_fails_costs_the_ids_and_not_the_line(log):
    class Broken(trace.NonRecordingSpan):
        def get_span_context(self):
            raise LookupError

    log.handler.addFilter(logs.CallIds())
    with trace.use_span(Broken(SPAN)):
        log.logger.info("said")

    assert log.lines == ["- - - said"]


def test_whoever_logs_without_logging_can_ask_for_them(inside):
    assert logs.current_ids() == {"trace_id": TRACE_ID, "span_id": SPAN_ID, "litellm_trace_id": "lite"}
    token = attach(otel_context.Context())
    assert logs.current_ids() == {}
    detach(token)


# --- for the whole process -------------------------------------------------------------------


def test_installed_they_are_on_every_record_until_they_are_not(log, inside):
    make = logging.Logger.makeRecord
    log.handler.setFormatter(Json())
    installation = logs.install()
    log.logger.info("with")
    installation.uninstall()
    log.logger.info("without")
    installation.uninstall()

    ids = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "litellm_trace_id": "lite"}
    assert log.fields == [{**ids, "message": "with"}, {"message": "without"}]
    assert logging.Logger.makeRecord is make


def test_installed_they_leave_the_caller_its_own(log, inside):
    """A record factory that sets a field makes Python refuse an ``extra`` of that name."""
    installation = logs.install()
    log.logger.info("said", extra={"trace_id": "mine"})
    installation.uninstall()

    assert log.lines == [f"mine {SPAN_ID} lite said"]


def test_two_installations_do_the_work_of_one(log, inside):
    make = logging.Logger.makeRecord
    first, second = logs.install(missing="none"), logs.install()
    log.logger.info("twice")
    first.uninstall()
    log.logger.info("once")
    second.uninstall()
    log.handler.setFormatter(Json())
    log.logger.info("no more")

    assert log.lines == [
        f"{TRACE_ID} {SPAN_ID} lite twice",
        f"{TRACE_ID} {SPAN_ID} lite once",
        '{"message": "no more"}',
    ]
    logging.Logger.makeRecord = make


# --- with opentelemetry-instrumentation-logging ----------------------------------------------


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_in_whatever_order_the_two_come_and_go(log, inside, instrumentor, ours_first, ours_leaves_first):
    make = logging.Logger.makeRecord
    log.handler.setFormatter(Json())
    if ours_first:
        installation = logs.install()
        instrumentor.instrument(inject_trace_context=True)
    else:
        instrumentor.instrument(inject_trace_context=True)
        installation = logs.install()
    log.logger.info("both")
    if ours_leaves_first:
        installation.uninstall()
        log.logger.info("theirs")
        instrumentor.uninstrument()
    else:
        instrumentor.uninstrument()
        log.logger.info("ours")
        installation.uninstall()
    log.logger.info("none")

    ours = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "litellm_trace_id": "lite"}
    theirs = {"otelTraceID": TRACE_ID, "otelSpanID": SPAN_ID, "otelTraceSampled": True, "otelServiceName": ""}
    assert log.fields == [
        {**ours, **theirs, "message": "both"},
        {**theirs, "message": "theirs"} if ours_leaves_first else {**ours, "message": "ours"},
        {"message": "none"},
    ]
    assert logging.Logger.makeRecord is make


def test_what_they_have_found_is_taken_over(log, instrumentor):
    """Even elsewhere: a record that comes out of a queue has the ids that it was made with."""
    instrumentor.instrument(inject_trace_context=True)
    log.handler.addFilter(logs.CallIds())
    with trace.use_span(trace.NonRecordingSpan(SPAN)):
        record = log.logger.makeRecord("tests.logs", logging.INFO, "", 0, "said", (), None)
    log.logger.handle(record)
    log.logger.info("outside")

    assert log.lines == [f"{TRACE_ID} {SPAN_ID} - said", "- - - outside"]


# --- our own lines ---------------------------------------------------------------------------


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def guard(recorder):
    return Guard(lambda: recorder.meter_provider)


def tree(recorder, guard, **arguments):
    return Tree(lambda: recorder.provider.get_tracer("tests"), guard, **arguments)


def own(caplog):
    """Our own lines: level, text, and the fields that we gave."""
    known = {field for fields in _names.LINES.values() for field in fields}
    return [
        (r.levelname, r.getMessage(), {k: v for k, v in vars(r).items() if k in known})
        for r in caplog.records
        if r.name == "traced_router"
    ]


def test_our_logger_is_quiet_until_somebody_listens():
    ours = logging.getLogger("traced_router")

    assert {type(handler) for handler in ours.handlers} == {logging.NullHandler}
    assert (ours.level, ours.propagate, ours.filters) == (logging.NOTSET, True, [])


def test_a_fallback_is_a_line(recorder, guard, caplog):
    caplog.set_level(logging.INFO, "traced_router")
    caplog.handler.addFilter(ids := logs.CallIds())
    call = tree(recorder, guard).open_call(CallFacts("chat", "from\nhere" + "e" * 99, "lite"))
    call.hop_failed(None, "RateLimitError")
    hop = call.hop("there", "model_group")
    caplog.handler.removeFilter(ids)

    fields = {
        "traced_router.fallback.from": "from\nhere" + "e" * 99,
        "traced_router.fallback.to": "there",
        "traced_router.fallback.kind": "model_group",
        "traced_router.fallback.depth": 1,
        "traced_router.fallback.error_type": "RateLimitError",
        "litellm_trace_id": "lite",
    }
    text = f"fallback from {('from' + chr(10) + 'here' + 'e' * 55)!r} to 'there' (model_group) after RateLimitError"
    assert own(caplog) == [("INFO", text, fields)]
    span = trace.get_current_span(hop.span_context).get_span_context()
    (record,) = caplog.records
    assert (record.trace_id, record.span_id) == (f"{span.trace_id:032x}", f"{span.span_id:016x}")
    assert set(fields) == set(_names.LINES["fallback"])
    call.finish("ok")


def test_a_line_that_nobody_wants_costs_no_more_than_asking(recorder, guard, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "traced_router")
    monkeypatch.setattr(logging.Logger, "makeRecord", None)
    call = tree(recorder, guard).open_call(CallFacts("chat", "a"))
    call.hop("b", "default")
    call.finish("ok")

    assert guard.faults == 0


def test_a_call_that_has_no_id_yet_gets_none_for_a_line(guard, caplog):
    """litellm makes it a moment later, and spans must say the same."""
    unsampled = Recorder(sampler=ALWAYS_OFF)
    caplog.set_level(logging.INFO, "traced_router")
    call = tree(unsampled, guard).open_call(CallFacts("chat", None), follow=True)
    call.hop("b", "default")
    call.adopt_trace_id("lite")

    assert own(caplog) == [
        (
            "INFO",
            "fallback from unknown to 'b' (default) after None",
            {
                "traced_router.fallback.to": "b",
                "traced_router.fallback.kind": "default",
                "traced_router.fallback.depth": 1,
            },
        )
    ]
    assert call.trace_id == "lite"


def test_a_cooldown_is_a_line_in_its_attempt(recorder, guard, caplog):
    caplog.handler.addFilter(ids := logs.CallIds())
    call = tree(recorder, guard).open_call(CallFacts("chat", "g", "lite"))
    attempt = call.attempt(AttemptFacts(call_deployment("a"), "g"), None)
    cooled_down(guard, attempt, "a", 5.0, FailureFacts("RateLimitError", "rate_limit", 429))
    cooled_down(guard, None, "b", 2.5, None)
    caplog.handler.removeFilter(ids)

    fields = {
        "litellm.deployment.id": "a",
        "traced_router.model_group": "g",
        "traced_router.cooldown.seconds": 5.0,
        "traced_router.cooldown.reason": "rate_limit",
        "error.type": "RateLimitError",
        "litellm_trace_id": "lite",
    }
    alone = {
        "litellm.deployment.id": "b",
        "traced_router.cooldown.seconds": 2.5,
        "traced_router.cooldown.reason": "other",
        "litellm_trace_id": "-",
    }
    assert own(caplog) == [
        ("WARNING", "deployment 'a' cools down for 5 s (rate_limit)", fields),
        ("WARNING", "deployment 'b' cools down for 2.5 s (other)", alone),
    ]
    span = trace.get_current_span(attempt.context).get_span_context()
    assert [r.span_id for r in caplog.records] == [f"{span.span_id:016x}", "-"]
    assert set(fields) == set(_names.LINES["cooldown"])
    call.finish("ok")


def call_deployment(name):
    return DeploymentFacts(name, "gpt")


def raised():
    """As a strategy does that looks up what it was given."""
    try:
        {}["a secret"]
    except KeyError as fault:
        return fault


def test_a_strategy_s_faults_are_said_once_a_minute_and_counted_each_time(recorder, guard, caplog):
    clock = VirtualClock()
    faults = StrategyFaults(guard, clock)
    for _ in range(3):
        faults.tell("own", "pick", raised())
    clock.advance(QUIET_SECONDS)
    faults.tell("own", "pick", raised())
    faults.tell("own", "load", raised())

    line = raised().__traceback__.tb_lineno
    at = f"test_logs.py:{line}"
    fields = {
        "traced_router.strategy.name": "own",
        "traced_router.strategy_error.step": "pick",
        "error.type": "KeyError",
        "traced_router.strategy_error.at": at,
        "traced_router.strategy_error.suppressed": 0,
    }
    failed = f"failed in pick() with KeyError at {at}; simple-shuffle picks instead"
    assert own(caplog) == [
        ("ERROR", f"strategy 'own' {failed}", fields),
        (
            "ERROR",
            f"strategy 'own' {failed} (2 more since the last line)",
            {**fields, "traced_router.strategy_error.suppressed": 2},
        ),
        (
            "ERROR",
            f"strategy 'own' failed in load() with KeyError at {at}; the router's own strategy picks instead",
            {**fields, "traced_router.strategy_error.step": "load"},
        ),
    ]
    assert guard.faults == 5
    (point,) = recorder.metrics()["traced_router.tracing.errors"]
    assert (point.attributes, point.value) == ({"traced_router.tracing.where": "strategy"}, 5)
    assert {*fields, "litellm_trace_id"} == set(_names.LINES["strategy"])


def test_what_a_strategy_fails_to_learn_is_a_warning_in_its_call(recorder, guard, caplog):
    caplog.handler.addFilter(ids := logs.CallIds())
    call = tree(recorder, guard).open_call(CallFacts("chat", "g", "lite"))
    hop = call.hop("there", "model_group")
    StrategyFaults(guard).tell("own", "finished", raised(), call, hop)
    StrategyFaults(guard).tell("own", "finished", LookupError("never raised"), call)
    caplog.handler.removeFilter(ids)

    assert [(level, text.partition(" at ")[2]) for level, text, _ in own(caplog)] == [
        ("WARNING", f"test_logs.py:{raised().__traceback__.tb_lineno}"),
        ("WARNING", "unknown"),
    ]
    spans = [trace.get_current_span(hop.span_context).get_span_context(), call.span_context]
    assert [r.span_id for r in caplog.records] == [f"{s.span_id:016x}" for s in spans]
    assert {r.litellm_trace_id for r in caplog.records} == {"lite"}
    call.finish("ok")


def test_where_a_strategy_fails_is_there_for_who_looks_closer_and_why_is_not(guard, caplog):
    caplog.set_level(logging.DEBUG, "traced_router")
    StrategyFaults(guard).tell("own", "finished", raised())

    assert [r.levelname for r in caplog.records] == ["WARNING", "DEBUG"]
    assert "in raised" in caplog.records[1].getMessage()
    assert "KeyError" not in caplog.records[1].getMessage()


def test_a_fault_that_nobody_wants_to_hear_of_is_counted(guard, caplog):
    caplog.set_level(logging.CRITICAL, "traced_router")
    StrategyFaults(guard).tell("own", "finished", raised())

    assert (caplog.records, guard.faults) == ([], 1)


def test_a_filter_of_the_application_s_that_fails_costs_the_line_alone(recorder, guard, monkeypatch):
    """Python lets it raise into whoever logs; here into the middle of a call."""

    def failing(record):
        raise LookupError

    ours = logging.getLogger("traced_router")
    monkeypatch.setattr(ours, "level", logging.DEBUG)
    monkeypatch.setattr(ours, "filters", [failing])
    monkeypatch.setattr(guard, "_provider", None)
    ours.manager._clear_cache()
    call = tree(recorder, guard).open_call(CallFacts("chat", "a"))
    before = otel_context.get_current()
    hop = call.hop("b", "default")
    call.finish("ok")
    ours.manager._clear_cache()

    assert (hop.target, guard.faults) == ("b", 1)
    assert otel_context.get_current() is before


# --- calls that nobody records ---------------------------------------------------------------


@pytest.mark.parametrize(("given", "known"), [(None, "made"), ("mine", "mine")])
def test_a_call_that_nobody_records_has_an_id_for_the_log(guard, given, known):
    unsampled = Recorder(sampler=ALWAYS_OFF)
    call = tree(unsampled, guard).open_call(CallFacts("chat", "a", given))
    token = attach(call.context)
    before = logs.current_ids()
    frame = logs.current_frame()
    frame.adopt_trace_id(None)
    frame.adopt_trace_id("made")
    ids = logs.current_ids()
    detach(token)

    assert before.get("litellm_trace_id") == given
    assert ids["litellm_trace_id"] == known
    assert ids["trace_id"] != "-"


def test_a_batch_has_no_id_of_its_own(recorder, guard):
    batch = tree(recorder, guard).open_batch("chat", ["a"], 1)
    token = attach(batch.context)
    ids = logs.current_ids()
    detach(token)
    batch.returned()

    assert set(ids) == {"trace_id", "span_id"}


def test_without_an_sdk_litellm_s_id_is_there_alone():
    token = attach(with_frame(Outside("lite"), otel_context.Context()))
    ids = logs.current_ids()
    detach(token)

    assert ids == {"litellm_trace_id": "lite"}
