"""`run` without the libraries for terminals: they would stay in memory for as long as the node lives (10 MiB)."""

import argparse
import sys
from pathlib import Path

from shared.ops.settings import add_log_level, use_log_level


def main(arguments: list[str]) -> None:
    """What follows `run` on the command line."""
    parser = argparse.ArgumentParser(
        prog="localmodel-agent run",
        description="Serve this node: what its LocalModelNode names comes to be on its disk.",
    )
    parser.add_argument(
        "--config", type=Path, help="YAML file with settings; LOCALMODEL_* variables win."
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="Kubeconfig; without it the pod's own account is used."
    )
    add_log_level(parser)
    options = parser.parse_args(arguments)
    use_log_level(options)
    from agent.node.start import serve

    sys.exit(serve(config=options.config, kubeconfig=options.kubeconfig))
