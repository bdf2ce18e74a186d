"""A real Phoenix and a real Prometheus, each a process of ours on loopback, with its data in a directory of ours."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import litellm
import pytest

HERE = Path(__file__).parent
PHOENIX = HERE.parent.parent / ".venv-e2e-phoenix"
PATIENCE = 60
"""Seconds in which a backend starts, or shows what it was sent."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Backend:
    """A server that answers with JSON."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        return httpx.get(self.url + path, params=query, timeout=PATIENCE).raise_for_status().json()

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return httpx.post(self.url + path, json=body, timeout=PATIENCE).raise_for_status().json()


@pytest.fixture(autouse=True, scope="session")
def _steady() -> Iterator[None]:
    """litellm's waits before retries are as long as they have to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm.utils, "JITTER", 0.0)
        yield


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Asks again until there is an answer: what another process does has no event."""

    def wait(ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (answer := ask()):
            assert time.monotonic() < deadline, f"{PATIENCE} seconds were not enough"
            time.sleep(0.05)
        return answer

    return wait


def running(command: list[str], url: str, ready: str, log: Path, **environment: str) -> Iterator[Backend]:
    """The server that ``command`` starts, from when it is ready until nobody needs it any more."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(url + ready):
            assert process.poll() is None, f"it did not start:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"it does not answer:\n{log.read_text()}"
            time.sleep(0.1)
        yield Backend(url)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    python = PHOENIX / "bin" / "python"
    if not (PHOENIX / "bin" / "phoenix").exists():
        why = PHOENIX / "why.txt"
        errors = [line for line in why.read_text().splitlines() if line.startswith("ERROR")] if why.exists() else []
        pytest.skip(f"Phoenix is not installed: {errors[-1] if errors else 'see `make e2e`'}")
    directory, port = tmp_path_factory.mktemp("phoenix"), free_port()
    yield from running(
        [str(python), str(HERE / "phoenix_on_loopback.py"), "serve"],
        f"http://127.0.0.1:{port}",
        "/healthz",
        directory / "log",
        PHOENIX_WORKING_DIR=str(directory),
        PHOENIX_SQL_DATABASE_URL=f"sqlite:///{directory}/phoenix.db",
        PHOENIX_HOST="127.0.0.1",
        PHOENIX_PORT=str(port),
        PHOENIX_GRPC_PORT=str(free_port()),
        PHOENIX_TELEMETRY_ENABLED="false",
        PHOENIX_ALLOW_EXTERNAL_RESOURCES="false",
        PHOENIX_DISABLE_AGENT_ASSISTANT="true",
    )


@pytest.fixture
def scraped() -> int:
    """A port for the metrics of this process."""
    return free_port()


@pytest.fixture
def prometheus(tmp_path: Path, scraped: int) -> Iterator[Backend]:
    """Scrapes ``scraped`` four times a second."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        "scrape_configs": [{"job_name": "router", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    yield from running(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={address}",
        ],
        f"http://{address}",
        "/-/ready",
        tmp_path / "log",
    )
