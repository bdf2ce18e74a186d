"""Set-up that must come before litellm is imported, and the services that tests start themselves."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or `import litellm` waits for the network


class RedisServer:
    """A redis-server on loopback, ours alone."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.options = {"dir": str(directory), "bind": "127.0.0.1", "save": "", **options}
        self.port = _free_port()
        self.start()

    def start(self) -> None:
        options = {**self.options, "port": str(self.port)}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert any("Ready to accept connections" in line for line in self.process.stdout)

    def stop(self) -> None:
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def _free_port() -> int:
    """A port that nobody uses; a cluster's node has another one, 10,000 above it."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if port < 50_000:
            return port


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path, **getattr(request, "param", {}))
    yield server
    server.stop()
