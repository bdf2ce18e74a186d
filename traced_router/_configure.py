"""One line for applications that have no OpenTelemetry SDK set up: ``traced_router.configure()``.

The environment decides, in OpenTelemetry's own variables; what is set up already is left alone. This is the
only place that sets global providers, and a convenience: nothing else in this package may need it, and what it
imports is imported when somebody asks for it. This module must not know litellm; of its loggers it knows the names.
"""

import functools
import importlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from traced_router import _names as n
from traced_router import settings
from traced_router._log_lines import logger
from traced_router.errors import ConfigurationError
from traced_router.logs import CallIds
from traced_router.sampling import SamplingOptions, SamplingProcessor, options_of

NONE: Final = "none"
DISABLED: Final = "disabled"
EXISTING: Final = "existing"

_OTLP: Final = "otlp"
_CONSOLE: Final = "console"
_HTTP: Final = "otlp_proto_http"
_GRPC: Final = "otlp_proto_grpc"
_PROTOCOLS: Final[Mapping[str, str]] = {"http/protobuf": _HTTP, "grpc": _GRPC}
_EXTRAS: Final[Mapping[str, str]] = {_HTTP: "otlp", _GRPC: "otlp-grpc"}

_UNHEARD: Final = (
    "LiteLLM",
    "LiteLLM Proxy",
    "LiteLLM Router",
    "aiohttp",
    "anthropic",
    "botocore",
    "httpcore",
    "httpx",
    "openai",
    "opentelemetry",
    "requests",
    "urllib3",
)
"""Loggers whose records are not exported: they write of provider calls, with URLs, keys in URLs, and messages; and
those of the export itself, each of whose failures would be exported next."""


class _Signal(NamedTuple):
    """What OpenTelemetry calls one of the three."""

    name: str
    provider: Callable[[], object]

    @property
    def exporters(self) -> str:
        return f"OTEL_{self.name.upper()}_EXPORTER"

    def otlp(self, what: str) -> tuple[str, str]:
        """The variables of an exporter's setting, the more special one first."""
        return f"OTEL_EXPORTER_OTLP_{self.name.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"


_SIGNALS: Final = (
    _Signal("traces", trace.get_tracer_provider),
    _Signal("metrics", metrics.get_meter_provider),
    _Signal("logs", _logs.get_logger_provider),
)


class Telemetry:
    """What :func:`traced_router.configure` has set up, and the way to end it.

    Attributes:
        traces: where they go: the names of exporters, such as ``otlp_proto_http`` or ``console``, joined by commas;
            ``existing`` when there was a provider, which was left alone; ``none``; or ``disabled``.
        metrics: likewise.
        logs: likewise.
    """

    __slots__ = ("_providers", "_unlisten", "logs", "metrics", "traces")

    def __init__(
        self, where: Mapping[str, str], providers: Sequence[Any] = (), unlisten: Callable[[], None] | None = None
    ) -> None:
        self.traces, self.metrics, self.logs = (where[signal.name] for signal in _SIGNALS)
        self._providers = tuple(providers)
        self._unlisten = unlisten

    def __repr__(self) -> str:
        return f"Telemetry(traces={self.traces!r}, metrics={self.metrics!r}, logs={self.logs!r})"

    def force_flush(self, timeout: float = 30.0) -> bool:
        """Export what waits to be exported.

        Args:
            timeout: seconds, for all of it.

        Returns:
            whether that worked in time.
        """
        ends = time.monotonic() + timeout
        done = True
        for provider in self._providers:
            left = max(0, int((ends - time.monotonic()) * 1000))
            try:
                done = provider.force_flush(left) is not False and done
            except Exception as error:  # noqa: BLE001  # the SDK says so of a metric reader that came too late
                logger.warning("exporting failed with %s", type(error).__name__)
                done = False
        return done

    def shutdown(self) -> None:
        """Export what waits, and end: a second time does nothing. The end of the process does it, too."""
        providers, self._providers = self._providers, ()
        unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            unlisten()
        for provider in providers:
            provider.shutdown()


_lock: Final = threading.Lock()
_made: list[Telemetry] = []
"""What was set up, at most one: the providers are the process's, and can be set once."""


def configure(
    service_name: str | None = None,
    *,
    resource_attributes: Mapping[str, str | bool | int | float] | None = None,
    sampling: SamplingOptions | float | None = None,
) -> Telemetry:
    """Set up OpenTelemetry's SDK for traces, metrics and logs, as its environment variables say.

    ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where to, ``OTEL_EXPORTER_OTLP_PROTOCOL`` how (``http/protobuf`` or ``grpc``;
    the first when unset); without any endpoint all is printed. A signal whose provider is set up already is left
    alone, and so is everything when this was called before.

    Args:
        service_name: ``service.name``; beats ``OTEL_SERVICE_NAME``.
        resource_attributes: more of the resource; beats ``OTEL_RESOURCE_ATTRIBUTES``.
        sampling: what is kept of traces: a share of those in which nothing went wrong, and all others; or
            :class:`~traced_router.sampling.SamplingOptions`. Beats ``TRACED_ROUTER_SAMPLING``; without either, all.

    Returns:
        what was set up, with ``force_flush()`` and ``shutdown()``.

    Raises:
        ConfigurationError: an exporter is not installed, or there is none of that name; or ``sampling`` cannot be
            used. Nothing is set up then.
    """
    with _lock:
        if _made:
            logger.info("configure() was called before: nothing is changed")
            return _made[0]
        kept = options_of(settings.load().sampling if sampling is None else sampling)
        telemetry = _set_up(service_name, dict(resource_attributes or {}), kept)
        if {telemetry.traces, telemetry.metrics, telemetry.logs} - {NONE, DISABLED, EXISTING}:
            _made.append(telemetry)
        return telemetry


def _set_up(service_name: str | None, attributes: dict[str, Any], sampling: SamplingOptions | None) -> Telemetry:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        logger.info("OTEL_SDK_DISABLED is set: no telemetry")
        return Telemetry({signal.name: DISABLED for signal in _SIGNALS})
    where: dict[str, str] = {}
    exporters: dict[str, list[tuple[str, Any]]] = {}
    for signal in _SIGNALS:
        # The API's stand-in for a provider that nobody has set.
        if not type(signal.provider()).__name__.lstrip("_").startswith("Proxy"):
            where[signal.name] = EXISTING
            logger.info("%s have a provider already, which is left alone", signal.name)
            continue
        names = _exporter_names(signal, os.environ)
        where[signal.name] = ",".join(names) or NONE
        if names:
            exporters[signal.name] = [(name, _load(signal, name)) for name in names]
    if not exporters:
        return Telemetry(where)
    listen = _listener() if "logs" in exporters else None
    made = _providers(exporters, _resource(service_name, attributes), sampling)
    if "traces" in made:
        trace.set_tracer_provider(made["traces"])
    if "metrics" in made:
        metrics.set_meter_provider(made["metrics"])
    if listen is None:
        return Telemetry(where, list(made.values()))
    _logs.set_logger_provider(made["logs"])
    return Telemetry(where, list(made.values()), _listen(listen))


def _resource(service_name: str | None, attributes: dict[str, Any]) -> Resource:
    return Resource.create({**attributes, **({} if service_name is None else {SERVICE_NAME: service_name})})


# --- which exporters -------------------------------------------------------------------------


def _exporter_names(signal: _Signal, environment: Mapping[str, str]) -> list[str]:
    """The exporters of a signal, as the environment says: none twice."""
    said = _value(environment, signal.exporters)
    if said is None:
        if _value(environment, *signal.otlp("ENDPOINT")) is not None:
            said = _OTLP
        else:  # what goes nowhere is printed; but not one signal when another has an endpoint
            elsewhere = any(_value(environment, *other.otlp("ENDPOINT")) for other in _SIGNALS)
            said = NONE if elsewhere else _CONSOLE
    names = [name.strip() for name in said.split(",")]
    protocol = _value(environment, *signal.otlp("PROTOCOL")) or "http/protobuf"
    if _OTLP in names and protocol not in _PROTOCOLS:
        raise ConfigurationError(
            f"OTLP's protocol for {signal.name} is {protocol!r} ({' or '.join(signal.otlp('PROTOCOL'))}). "
            f"Give one of {', '.join(_PROTOCOLS)}."
        )
    known = (_PROTOCOLS[protocol] if name == _OTLP else name for name in names)
    return list(dict.fromkeys(name for name in known if name not in {"", NONE}))


def _value(environment: Mapping[str, str], *names: str) -> str | None:
    """The first that is set; an empty variable is not."""
    return next((value for name in names if (value := environment.get(name, "").strip())), None)


def _load(signal: _Signal, name: str) -> Any:
    """The class of an exporter."""
    group = f"opentelemetry_{signal.name}_exporter"
    installed = entry_points(group=group)
    try:
        return installed[name].load()
    except (KeyError, ImportError) as error:
        extra = _EXTRAS.get(name)
        if extra is not None:
            raise ConfigurationError(
                f"{signal.name} are to go to the exporter {name!r}, which is not installed: "
                f"pip install 'traced-router[{extra}]'."
            ) from error
        raise ConfigurationError(
            f"{signal.exporters} names the exporter {name!r}, which is not installed. "
            f"There are: {', '.join(sorted({_OTLP, NONE, *installed.names}))}."
        ) from error


# --- the providers ---------------------------------------------------------------------------


def _providers(
    exporters: Mapping[str, list[tuple[str, Any]]], resource: Resource, sampling: SamplingOptions | None
) -> dict[str, Any]:
    makers: Mapping[str, Callable[[list[tuple[str, Any]], Resource], Any]] = {
        "traces": functools.partial(_tracing, sampling),
        "metrics": _metering,
        "logs": _logging,
    }
    made: dict[str, Any] = {}
    try:
        for name, of_signal in exporters.items():
            made[name] = makers[name](of_signal, resource)
    except BaseException:  # an exporter whose certificate, say, is not there: nothing of this stays
        for provider in made.values():
            provider.shutdown()
        raise
    return made


def _tracing(sampling: SamplingOptions | None, exporters: list[tuple[str, Any]], resource: Resource) -> Any:
    provider = TracerProvider(resource=resource)
    for name, exporter in exporters:
        # What is printed is printed where it happens.
        processor = (SimpleSpanProcessor if name == _CONSOLE else BatchSpanProcessor)(exporter())
        provider.add_span_processor(processor if sampling is None else SamplingProcessor(processor, sampling))
    return provider


def _metering(exporters: list[tuple[str, Any]], resource: Resource) -> Any:
    # Prometheus is pulled: its exporter is a reader.
    readers = [
        made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made)
        for made in (exporter() for _, exporter in exporters)
    ]
    return MeterProvider(readers, resource=resource)


def _logging(exporters: list[tuple[str, Any]], resource: Resource) -> Any:
    provider = sdk_logs.LoggerProvider(resource=resource)
    for name, exporter in exporters:
        processor = SimpleLogRecordProcessor if name == _CONSOLE else BatchLogRecordProcessor
        provider.add_log_record_processor(processor(exporter()))
    return provider


# --- log records -----------------------------------------------------------------------------


def _listener() -> Callable[[], Callable[[], None]]:
    """What puts a handler on the root logger, for the global provider, and gives back what undoes that."""
    try:
        importlib.import_module("opentelemetry.instrumentation.logging.handler")
    except ImportError:
        # The SDK had one before that package had, and deprecates it since.
        handler: Any = getattr(sdk_logs, "LoggingHandler", None)
        if handler is None:
            raise ConfigurationError(
                "logs are to be exported, which takes opentelemetry-instrumentation-logging: "
                "pip install 'traced-router[otlp]', or set OTEL_LOGS_EXPORTER=none."
            ) from None
        return functools.partial(_listen_with, handler)
    return _instrument


def _listen_with(kind: Callable[[], logging.Handler]) -> Callable[[], None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = kind()
    root = logging.getLogger()
    root.addHandler(handler)
    return lambda: root.removeHandler(handler)


def _instrument() -> Callable[[], None]:
    instrumentor = importlib.import_module("opentelemetry.instrumentation.logging").LoggingInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return lambda: None  # its handler finds the provider by itself
    instrumentor.instrument()
    return instrumentor.uninstrument  # type: ignore[no-any-return]  # that package is not typed


def _listen(listen: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """Export what the root logger hears, but for what is not meant to be; what undoes that."""
    root = logging.getLogger()
    before = root.handlers[:]
    undo = listen()
    for handler in root.handlers:
        if handler not in before:
            handler.addFilter(_unless_unheard)
            handler.addFilter(CallIds(missing=None, fields=[n.TRACE_ID]))
            # At the end of the process the provider has ended before logging does, and this handler's
            # flush starts a thread, which Python 3.12 refuses then, with a traceback.
            handler.flushOnClose = False  # type: ignore[attr-defined]  # logging asks whether it is there
    return undo


def _unless_unheard(record: logging.LogRecord) -> bool:
    return not any(record.name == name or record.name.startswith(f"{name}.") for name in _UNHEARD)
