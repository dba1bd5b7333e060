"""`python -m tests.bench [NAME…]`: measure, print tables, write JSON."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import memory, report
from tests.bench.loads import LOADS
from tests.bench.peers import ALL
from tests.bench.transfer import session

_NAMES = {load.name: load for load in LOADS}
_OTHERS = ("memory", "controller")


def main() -> None:
    # Servers and gigabytes of models are taken away by whatever ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = _arguments()
    loads = [_NAMES[name] for name in arguments.names if name in _NAMES]
    versions = [f"{peer.name}: {peer.version}" for peer in ALL]
    about = report.machine()
    if arguments.scale != 1:
        about = {**about, "models scaled by": arguments.scale}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    results: list[report.Result] = []
    idle: list[dict[str, Any]] = []
    if loads:
        with session(loads, scale=arguments.scale) as running:
            for load in loads:
                results.append(running.measure(load, rounds=1 if arguments.quick else 3))
                print(f"\n{results[-1].table()}", flush=True)
                if arguments.json:
                    report.save(arguments.json, results, idle, versions)
    if "memory" in arguments.names:
        idle = memory.measure()
        if arguments.json:
            report.save(arguments.json, results, idle, versions)
    if "controller" in arguments.names:
        subprocess.run([sys.executable, "-m", "tests.bench.controller"], check=True)


def _arguments() -> argparse.Namespace:
    titles = "\n".join(f"  {load.name:12} {load.title}" for load in LOADS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"loads:\n{titles}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        choices=[*_NAMES, *_OTHERS, []],
        default=[],
        help=f"loads, or {', '.join(_OTHERS)}; default: all loads and memory",
    )
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--scale", type=float, default=1.0, help="make models smaller by this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs there")
    arguments = parser.parse_args()
    arguments.names = arguments.names or [*_NAMES, "memory"]
    return arguments


if __name__ == "__main__":
    main()
