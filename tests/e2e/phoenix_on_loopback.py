"""Starts Phoenix so that nobody outside this machine can reach it; run by the Python that Phoenix is installed for.

`PHOENIX_HOST` is for its HTTP alone: its OTLP port for gRPC is open to everybody, whatever the settings say.
"""

import grpc.aio
from phoenix.server.main import main

add_port = grpc.aio.Server.add_insecure_port


def add_port_on_loopback(self, address):
    return add_port(self, address.replace("[::]", "127.0.0.1"))


grpc.aio.Server.add_insecure_port = add_port_on_loopback
main()
