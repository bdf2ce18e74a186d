"""One line to start: what is set up, where it goes, and what is left alone."""

import importlib.util
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util._once import Once

import traced_router
from traced_router import ConfigurationError, Telemetry, TracedRouter, _configure
from traced_router.sampling import SamplingOptions
from traced_router.testing import FakeProvider, RateLimited

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
MESSAGES = [{"role": "user", "content": "the secret question"}]

HAS_HANDLER = importlib.util.find_spec("opentelemetry.instrumentation.logging.handler") is not None


@pytest.fixture(autouse=True)
def _nothing_is_set_up(monkeypatch):
    """No provider, no variable, no handler; and the process as it was, afterwards."""
    for name in [n for n in os.environ if n.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics_api, "_METER_PROVIDER", None)
    monkeypatch.setattr(metrics_api, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics_api, "_PROXY_METER_PROVIDER", metrics_api._ProxyMeterProvider())
    monkeypatch.setattr(logs_api, "_LOGGER_PROVIDER", None)
    monkeypatch.setattr(logs_api, "_LOGGER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_configure, "_made", [])
    monkeypatch.setattr(logging, "basicConfig", logging.basicConfig)  # the instrumentation wraps these for good
    monkeypatch.setattr(logging.config, "dictConfig", logging.config.dictConfig)
    monkeypatch.setattr(logging.config, "fileConfig", logging.config.fileConfig)
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    end()
    assert logging.getLogger().handlers == handlers
    logging.getLogger().setLevel(level)


def end():
    """What was set up, before what it exports to is gone."""
    for made in _configure._made:
        made.shutdown()


class Receiver:
    """What an OTLP backend has received."""

    def __init__(self):
        self.requests = []
        self.paths = []

    def of(self, kind):
        return [r for r in self.requests if isinstance(r, kind)]

    def resources(self):
        parts = [
            part.resource
            for request in self.requests
            for part in (
                *getattr(request, "resource_spans", ()),
                *getattr(request, "resource_metrics", ()),
                *getattr(request, "resource_logs", ()),
            )
        ]
        return [{a.key: a.value.string_value for a in part.attributes} for part in parts]

    def spans(self):
        return [
            s
            for request in self.of(trace_pb.ExportTraceServiceRequest)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for s in scope.spans
        ]

    def metrics(self):
        return {
            m.name
            for request in self.of(metrics_pb.ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for m in scope.metrics
        }

    def records(self):
        return [
            (scope.scope.name, record)
            for request in self.of(logs_pb.ExportLogsServiceRequest)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


@pytest.fixture
def http():
    """A receiver of OTLP over HTTP."""
    received = Receiver()
    kinds = {
        "/v1/traces": trace_pb.ExportTraceServiceRequest,
        "/v1/metrics": metrics_pb.ExportMetricsServiceRequest,
        "/v1/logs": logs_pb.ExportLogsServiceRequest,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.paths.append(self.path)
            received.requests.append(kinds[self.path].FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_port}"
    yield received
    end()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def rpc():
    """A receiver of OTLP over gRPC."""
    received = Receiver()

    def service(servicer, response):
        class Service(servicer):
            def Export(self, request, context):  # noqa: N802  # its name in the protocol
                received.requests.append(request)
                return response()

        return Service()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_grpc.add_TraceServiceServicer_to_server(
        service(trace_grpc.TraceServiceServicer, trace_pb.ExportTraceServiceResponse), server
    )
    metrics_grpc.add_MetricsServiceServicer_to_server(
        service(metrics_grpc.MetricsServiceServicer, metrics_pb.ExportMetricsServiceResponse), server
    )
    logs_grpc.add_LogsServiceServicer_to_server(
        service(logs_grpc.LogsServiceServicer, logs_pb.ExportLogsServiceResponse), server
    )
    received.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield received
    end()
    server.stop(None).wait()


def said(telemetry):
    return telemetry.traces, telemetry.metrics, telemetry.logs


async def one_call():
    """A call that falls back, as a newcomer would make it."""
    with FakeProvider() as provider:
        provider.script("dep-a", [RateLimited(message="the secret answer")])
        router = TracedRouter(
            model_list=[provider.deployment("dep-a"), provider.deployment("dep-b", group="b")],
            fallbacks=[{"gpt-4o": ["b"]}],
            num_retries=0,
        )
        await router.acompletion("gpt-4o", MESSAGES, litellm_trace_id="lite")
        (router.retire if hasattr(router, "retire") else router.discard)()


# --- where it goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "exporter"), [(None, "otlp_proto_http"), ("grpc", "otlp_proto_grpc")])
async def test_everything_goes_to_the_endpoint(request, monkeypatch, protocol, exporter):
    received = request.getfixturevalue("rpc" if protocol == "grpc" else "http")
    monkeypatch.setenv(ENDPOINT, received.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,team=env")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from the environment")
    if protocol:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    telemetry = traced_router.configure("shop", resource_attributes={"team": "search"})
    logging.getLogger().setLevel(logging.INFO)
    await one_call()
    logging.getLogger("shop").info("served")

    assert said(telemetry) == (exporter,) * 3
    assert telemetry.force_flush()
    names = {span.name for span in received.spans()}
    assert {"router.chat gpt-4o", "router.select gpt-4o", "router.fallback b", "chat gpt-4o-2024-08-06"} <= names
    assert {"traced_router.request.duration", "traced_router.fallbacks"} <= received.metrics()
    (hop,) = (span for span in received.spans() if span.name == "router.fallback b")
    lines = dict(received.records())
    assert set(lines) == {"traced_router", "shop"}
    ours = lines["traced_router"]
    assert ours.body.string_value == "fallback from 'gpt-4o' to 'b' (model_group) after RateLimitError"
    assert (ours.trace_id, ours.span_id, ours.severity_text) == (hop.trace_id, hop.span_id, "INFO")
    fields = {a.key: a.value.string_value for a in ours.attributes}
    assert fields["litellm_trace_id"] == "lite"
    assert fields["traced_router.fallback.to"] == "b"
    assert not {"trace_id", "span_id"} & set(fields)  # a record has them of its own
    for resource in received.resources():
        assert resource["service.name"] == "shop"
        assert (resource["deployment.environment.name"], resource["team"]) == ("test", "search")
    sent = b"".join(r.SerializeToString() for r in received.requests)
    assert b"the secret" not in sent


def test_each_signal_can_have_an_endpoint_of_its_own(http, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{http.url}/v1/traces")
    telemetry = traced_router.configure()
    trace.get_tracer("tests").start_span("one").end()

    assert said(telemetry) == ("otlp_proto_http", "none", "none")
    assert telemetry.force_flush()
    assert http.paths == ["/v1/traces"]
    assert "Proxy" in type(metrics.get_meter_provider()).__name__


def test_each_signal_can_have_a_protocol_of_its_own(http, rpc, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    monkeypatch.setenv(ENDPOINT, rpc.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{http.url}/v1/traces")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    telemetry = traced_router.configure()
    trace.get_tracer("tests").start_span("one").end()
    logging.getLogger("shop").warning("said")

    assert said(telemetry) == ("otlp_proto_http", "none", "otlp_proto_grpc")
    assert telemetry.force_flush()
    assert [span.name for span in http.spans()] == ["one"]
    assert [name for name, _ in rpc.records()] == ["shop"]


def printed(script, **environment):
    """What a process of its own prints: where printing goes is settled when the SDK is imported."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("OTEL_")} | environment
    start = "import logging, traced_router\nfrom opentelemetry import metrics, trace\n"
    command = [sys.executable, "-W", "error", "-c", start + script]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert ended.stderr == ""
    return ended.stdout


def test_without_an_endpoint_all_is_printed_at_the_end_of_the_process_at_the_latest():
    shown = printed(
        "print(traced_router.configure('shop'))\n"
        "trace.get_tracer('tests').start_span('one').end()\n"
        "print('and then')\n"
        "metrics.get_meter('tests').create_counter('many').add(1)\n"
        "logging.getLogger('shop').warning('said')\n"
    )

    first, span, rest = shown.partition("\n")[0], *shown.partition("\n")[2].split("and then")
    assert first == "Telemetry(traces='console', metrics='console', logs='console')"
    assert json.loads(span)["name"] == "one"  # where it happened
    assert '"body": "said"' in rest
    assert '"name": "many"' in rest
    assert '"service.name": "shop"' in rest


def test_the_environment_can_name_several_exporters(http):
    shown = printed(
        "telemetry = traced_router.configure()\n"
        "trace.get_tracer('tests').start_span('one').end()\n"
        "telemetry.shutdown()\n"
        "print(telemetry)\n",
        OTEL_EXPORTER_OTLP_ENDPOINT=http.url,
        OTEL_TRACES_EXPORTER=" console, otlp , otlp_proto_http,",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert shown.endswith("Telemetry(traces='console,otlp_proto_http', metrics='none', logs='none')\n")
    assert '"name": "one"' in shown
    assert [span.name for span in http.spans()] == ["one"]


def test_an_exporter_that_is_pulled_is_a_reader(monkeypatch):
    reader = InMemoryMetricReader()
    monkeypatch.setattr(_configure, "_load", lambda _signal, name: {"prometheus": lambda: reader}[name])
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    for name in ("TRACES", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")
    telemetry = traced_router.configure()

    assert said(telemetry) == ("none", "prometheus", "none")
    metrics.get_meter("tests").create_counter("many").add(1)
    (resource,) = reader.get_metrics_data().resource_metrics
    assert [metric.name for scope in resource.scope_metrics for metric in scope.metrics] == ["many"]


@pytest.mark.parametrize("by_keyword", [True, False])
def test_traces_are_sampled_when_somebody_says_so(http, monkeypatch, by_keyword):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{http.url}/v1/traces")
    if by_keyword:
        monkeypatch.setenv("TRACED_ROUTER_SAMPLING", "1.0")  # the keyword beats it
        telemetry = traced_router.configure(sampling=SamplingOptions(share=0.0, others="sample"))
    else:
        monkeypatch.setenv("TRACED_ROUTER_SAMPLING", '{"share": 0.0, "others": "sample"}')
        telemetry = traced_router.configure()
    tracer = trace.get_tracer("tests")
    tracer.start_span("fine").end()
    failed = tracer.start_span("failed")
    failed.set_status(trace.StatusCode.ERROR)
    failed.end()

    assert telemetry.force_flush()
    assert [span.name for span in http.spans()] == ["failed"]


def test_a_share_that_is_none_is_refused_and_nothing_is_set_up():
    with pytest.raises(ConfigurationError, match="share=2: give a share of the traces"):
        traced_router.configure(sampling=2)

    assert "Proxy" in type(trace.get_tracer_provider()).__name__


# --- what is left alone ----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_disabled_nothing_is_set_up(monkeypatch, value):
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    telemetry = traced_router.configure()

    assert said(telemetry) == ("disabled",) * 3
    assert (telemetry.force_flush(), telemetry.shutdown()) == (True, None)
    assert "Proxy" in type(trace.get_tracer_provider()).__name__


def test_none_of_anything_is_nothing(monkeypatch):
    for name in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")

    assert said(traced_router.configure()) == ("none",) * 3
    assert "Proxy" in type(trace.get_tracer_provider()).__name__


def test_providers_that_are_there_are_left_alone(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "traced_router")
    tracing, metering = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(metering)
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    telemetry = traced_router.configure("shop")
    telemetry.shutdown()

    assert said(telemetry) == ("existing", "existing", "none")
    assert trace.get_tracer_provider() is tracing
    assert metrics.get_meter_provider() is metering
    assert [r.getMessage() for r in caplog.records] == [
        f"{signal} have a provider already, which is left alone" for signal in ("traces", "metrics")
    ]
    tracing.shutdown()
    metering.shutdown()


def test_a_second_call_changes_nothing(http, monkeypatch):
    monkeypatch.setenv(ENDPOINT, http.url)
    first = traced_router.configure("shop")
    providers = trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
    handlers = logging.getLogger().handlers[:]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    second = traced_router.configure("another")

    assert second is first
    assert (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()) == providers
    assert logging.getLogger().handlers == handlers
    assert repr(first) == "Telemetry(traces='otlp_proto_http', metrics='otlp_proto_http', logs='otlp_proto_http')"


def test_it_can_be_ended_twice(http, monkeypatch, caplog):
    monkeypatch.setenv(ENDPOINT, http.url)
    telemetry = traced_router.configure()
    trace.get_tracer("tests").start_span("one").end()
    telemetry.shutdown()
    telemetry.shutdown()

    assert [span.name for span in http.spans()] == ["one"]
    assert telemetry.force_flush()
    assert caplog.records == []


def test_what_cannot_be_flushed_is_said(caplog):
    class Late:
        def force_flush(self, _milliseconds):
            raise TimeoutError

    class Failing:
        def force_flush(self, _milliseconds):
            return False

    class Quiet:
        """As the SDK's logger provider of some versions, whose answer is nothing."""

        def __init__(self):
            self.given = None

        def force_flush(self, milliseconds):
            self.given = milliseconds

    where, quiet = dict.fromkeys(("traces", "metrics", "logs"), "console"), Quiet()

    assert Telemetry(where, [quiet]).force_flush()
    assert not Telemetry(where, [Late(), quiet]).force_flush()
    assert not Telemetry(where, [Failing(), quiet]).force_flush(0)
    assert quiet.given == 0
    assert [r.getMessage() for r in caplog.records] == ["exporting failed with TimeoutError"]


# --- what is not there -----------------------------------------------------------------------


class Installed(dict):
    """Entry points of a group."""

    @property
    def names(self):
        return set(self)


class Missing:
    """An entry point whose module lacks what it needs."""

    def load(self):
        raise ModuleNotFoundError("grpc")


@pytest.mark.parametrize(
    ("variables", "installed", "words"),
    [
        ({ENDPOINT: "http://there"}, {}, "pip install 'traced-router[otlp]'"),
        (
            {ENDPOINT: "http://there", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            {"otlp_proto_grpc": Missing()},
            "pip install 'traced-router[otlp-grpc]'",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            {"console": None},
            "OTEL_TRACES_EXPORTER names the exporter 'zipkin', which is not installed. There are: console, none, otlp.",
        ),
        (
            {ENDPOINT: "http://there", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            {},
            "OTEL_EXPORTER_OTLP_PROTOCOL). Give one of http/protobuf, grpc.",
        ),
    ],
    ids=["http", "grpc", "unknown", "protocol"],
)
def test_what_is_not_there_is_said_and_nothing_is_set_up(monkeypatch, variables, installed, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_configure, "entry_points", lambda **_: Installed(installed))
    with pytest.raises(ConfigurationError) as refused:
        traced_router.configure()

    assert words in str(refused.value)
    assert "Proxy" in type(trace.get_tracer_provider()).__name__
    assert _configure._made == []


def test_an_exporter_that_cannot_be_made_leaves_nothing_behind(monkeypatch):
    ended = []

    class Provider(TracerProvider):
        def shutdown(self):
            ended.append(self)
            super().shutdown()

    def failing():
        raise FileNotFoundError

    load = _configure._load
    monkeypatch.setattr(_configure, "TracerProvider", Provider)
    monkeypatch.setattr(_configure, "_load", lambda s, name: failing if s.name == "metrics" else load(s, name))
    with pytest.raises(FileNotFoundError):
        traced_router.configure()

    assert len(ended) == 1
    assert "Proxy" in type(trace.get_tracer_provider()).__name__


# --- log records -----------------------------------------------------------------------------


@pytest.fixture
def logs_alone(http, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{http.url}/v1/logs")
    return http


def test_what_is_said_of_provider_calls_below_the_router_stays_here(logs_alone):
    before = logging.getLogger().handlers[:]
    telemetry = traced_router.configure()
    (added,) = (handler for handler in logging.getLogger().handlers if handler not in before)
    assert not added.flushOnClose
    for name in ("LiteLLM", "LiteLLM Router", "httpx", "openai._base_client", "opentelemetry.sdk", "httpxyz", "shop"):
        logging.getLogger(name).critical("said")
    telemetry.shutdown()
    logging.getLogger("shop").critical("nobody listens")

    assert [name for name, _ in logs_alone.records()] == ["httpxyz", "shop"]


@pytest.mark.skipif(not HAS_HANDLER, reason="this opentelemetry-instrumentation-logging has no handler")
def test_an_instrumentation_that_is_there_exports_them(logs_alone):
    instrumentor = LoggingInstrumentor()
    instrumentor.instrument()
    telemetry = traced_router.configure()
    logging.getLogger("shop").warning("once")
    telemetry.force_flush()
    telemetry.shutdown()
    still = instrumentor.is_instrumented_by_opentelemetry
    instrumentor.uninstrument()

    assert still
    assert [name for name, _ in logs_alone.records()] == ["shop"]


@pytest.mark.skipif(not HAS_HANDLER, reason="this opentelemetry-instrumentation-logging has no handler")
def test_an_instrumentation_that_comes_later_does_not_export_them_twice(logs_alone, caplog):
    telemetry = traced_router.configure()
    LoggingInstrumentor().instrument()
    logging.getLogger("shop").warning("once")
    telemetry.shutdown()

    assert [name for name, _ in logs_alone.records()] == ["shop"]
    assert not LoggingInstrumentor().is_instrumented_by_opentelemetry


def test_the_sdk_s_own_handler_does_where_there_is_no_other(logs_alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.logging.handler", None)
    telemetry = traced_router.configure()
    logging.getLogger("shop").warning("once")
    telemetry.shutdown()

    assert [name for name, _ in logs_alone.records()] == ["shop"]


def test_where_there_is_no_handler_at_all_it_is_said_and_nothing_is_set_up(logs_alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.logging.handler", None)
    monkeypatch.delattr(sdk_logs, "LoggingHandler")
    with pytest.raises(ConfigurationError, match=r"pip install 'traced-router\[otlp\]', or set OTEL_LOGS_EXPORTER"):
        traced_router.configure()

    assert "Proxy" in type(_logs.get_logger_provider()).__name__


# --- the import ------------------------------------------------------------------------------


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    script = "import sys, traced_router; print([m for m in sys.modules if m.startswith(('opentel', 'traced_router'))])"
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert shown == "['traced_router']\n"


def test_nothing_else_needs_it():
    package = Path(traced_router.__file__).parent
    naming = [p.name for p in package.rglob("*.py") if re.search(r"\b_configure\b", p.read_text("utf-8"))]

    assert naming == ["__init__.py"]
