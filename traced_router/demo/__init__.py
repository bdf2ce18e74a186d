"""``traced-router demo``: about ten telling calls against fake providers on loopback, and their traces.

It needs no network and no key. With ``OTEL_EXPORTER_OTLP_ENDPOINT`` set the traces are exported too.
"""

import argparse
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit status.

    Args:
        arguments: the command's words; ``sys.argv``'s when ``None``.
    """
    parser = argparse.ArgumentParser(prog="traced-router", description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="make some calls that go wrong in telling ways, and print their traces")
    demo.add_argument("--json", action="store_true", help="print the spans as JSON, one a line")
    chosen = parser.parse_args(arguments)
    # litellm reads this at import, and would otherwise wait for the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from traced_router.demo._run import run

    return run(sys.stdout, as_json=chosen.json)
