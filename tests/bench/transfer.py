"""The benchmark of transfers: every load with every client, interleaved and shuffled, on the same bytes."""

import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import clients, content, measure, peers
from tests.bench.clients import Client
from tests.bench.content import GIB, MIB
from tests.bench.farm import BUCKET, Farm
from tests.bench.loads import DELAY, LIMITS, Load, Start, disk
from tests.bench.measure import Failed, Run
from tests.bench.report import Result
from tests.support.latency import Link
from tests.support.processes import LOOPBACK

# Sources, one output and what a killed run left; all outputs of many files.
_SPACE = 24 * GIB


class Session:
    """The models that the loads need, and a server for them, in a folder that goes away."""

    def __init__(
        self, folder: Path, farm: Farm, link_port: int, absent: Mapping[str, str], scale: float
    ) -> None:
        self._folder, self._farm, self._absent = folder, farm, absent
        self._far = f"http://{LOOPBACK}:{link_port}"
        self._ground = measure.Ground(folder)
        self._out = self._ground.out
        self._disk_bytes = max(64 * MIB, int(4 * GIB * scale))
        self._warm: set[str] = set()

    def measure(self, load: Load, *, rounds: int, seconds: float) -> Result:
        """seconds: no further round is begun that would end after these."""
        started = time.monotonic()
        size = sum(self._farm.models[name].size for name in load.models)
        result = Result(load, size, self._disk_bytes)
        contestants = [*load.contestants(self._farm, self._far), disk(self._disk_bytes)]
        for name in {client.name for client in contestants} & self._absent.keys():
            result.failures[name] = self._absent[name]
        for client in contestants:
            if client.name not in {*LIMITS, *self._warm, *result.failures}:
                self._warm_up(client)
        for number in range(rounds):
            if (time.monotonic() - started) * (number + 1) > seconds * max(1, number):
                break
            random.shuffle(contestants)
            for client in contestants:
                if client.name in result.failures:
                    continue
                try:
                    run = self._run(load, client)
                except Failed as error:
                    result.failures[client.name] = str(error)
                    _say(f"{load.name} {number + 1}: {error}")
                else:
                    result.add(client.name, run)
                    _say(f"{load.name} {number + 1}: {client.name} {run.wall:.2f} s")
        return result

    def _warm_up(self, client: Client) -> None:
        """Once, unmeasured: bytecode is written, programs are in memory."""
        self._warm.add(client.name)
        self._ground.prepare()
        with contextlib.suppress(Failed):
            self._once(client, client.command(clients.WARM, self._out))

    def _run(self, load: Load, client: Client) -> Run:
        self._ground.prepare()
        command = load.command(client, self._out)
        limit = client.name in LIMITS
        if not limit and load.start is not Start.NOTHING:
            half = self._farm.models[load.models[0]].size // 2
            kill_at = half if load.start is Start.HALF else 0
            self._once(client, command, kill_at)
            measure.settle()
        self._farm.sent()
        run = self._once(client, command)
        if not limit:
            run = replace(run, settle=measure.settle())
            self._check(load, client)
        used = self._out / measure.USED
        if used.exists():
            run = replace(run, **json.loads(used.read_text()))
        return replace(run, moved=self._farm.sent())

    def _once(self, client: Client, command: Sequence[str], kill_at: int = 0) -> Run:
        return measure.run(
            command, client.environment, folder=self._folder, name=client.name, kill_at=kill_at
        )

    def _check(self, load: Load, client: Client) -> None:
        for name in load.models:
            model = self._farm.models[name]
            folder = load.folder(client, name, self._out)
            sizes = {file.name: file.size for file in model.files}
            measure.check(client.place(name, folder), sizes, client.name)


@contextlib.contextmanager
def session(loads: Sequence[Load], *, scale: float) -> Iterator[Session]:
    """Makes what these loads need; all of it is gone afterwards but the peers."""
    peers.HOME.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(peers.HOME).free < _SPACE * scale:
        raise SystemExit(f"{peers.HOME}: {_SPACE * scale / GIB:.0f} GiB of free space are needed")
    absent = {peer.name: why for peer, why in peers.install(peers.ALL).items()}
    names = dict.fromkeys([clients.WARM, *(name for load in loads for name in load.models)])
    with tempfile.TemporaryDirectory(prefix="run-", dir=peers.HOME) as temporary:
        folder = Path(temporary)
        models = []
        for name in names:
            _say(f"making {name}")
            models.append(content.make(name, folder / "content" / BUCKET / name, scale))
        os.sync()
        with_hub = any(load.clients is clients.hub for load in loads)
        with (
            Farm(folder, models, hub=with_hub) as farm,
            Link(farm.http_port, delay=DELAY, log=folder / "link.log") as link,
        ):
            yield Session(folder, farm, link.port, absent, scale)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
