"""`python -m tests.bench [NAME…]`: measure, print tables, write JSON."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import goals, memory, report
from tests.bench.loads import LOADS
from tests.bench.peers import ALL
from tests.bench.transfer import session

_NAMES = {load.name: load for load in LOADS}
# All loads together take less than an hour: where a round takes long, there are fewer.
_ROUNDS, _SECONDS = 3, 50 * 60.0
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

    def save() -> None:
        if arguments.json:
            found = [
                {"goal": verdict.goal, "met": verdict.met, "line": verdict.line()}
                for verdict in goals.judge(results)
            ]
            report.save(arguments.json, results, idle, found, versions)

    if loads:
        with session(loads, scale=arguments.scale) as running:
            started = time.monotonic()
            for number, load in enumerate(loads):
                share = (started + _SECONDS - time.monotonic()) / (len(loads) - number)
                rounds = 1 if arguments.quick else _ROUNDS
                results.append(running.measure(load, rounds=rounds, seconds=share))
                print(f"\n{results[-1].table()}", flush=True)
                save()
        print("\n### goals\n", *(verdict.line() for verdict in goals.judge(results)), sep="\n")
    if "memory" in arguments.names:
        idle += memory.measure()
        save()
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
