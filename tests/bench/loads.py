"""What is measured: models, protocol, link and the state from which a run starts."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from tests.bench import clients
from tests.bench.clients import Client, Server
from tests.bench.farm import Farm

DISK, NULL = "disk (O_DIRECT)", "server to null"
LIMITS = (DISK, NULL)
_PROGRAM = str(Path(__file__).with_name("limits.py"))


class Start(Enum):
    """From what a measured run starts: nothing, a complete copy by the same client, or what kill -9 at half left."""

    NOTHING = "nothing"
    COMPLETE = "complete"
    HALF = "half"


@dataclass(frozen=True)
class Load:
    name: str
    title: str
    models: tuple[str, ...]
    clients: Callable[[Server], list[Client]] = clients.s3
    tls: bool = False
    start: Start = Start.NOTHING

    def server(self, farm: Farm) -> Server:
        return Server(farm.tls_url, farm.authority) if self.tls else Server(farm.url)

    def contestants(self, farm: Farm) -> list[Client]:
        server = self.server(farm)
        found = [_together(client, self.models) for client in self.clients(server)]
        if self.start is not Start.NOTHING:
            return found
        urls = [url for model in self.models for url in farm.urls(model, tls=self.tls)]
        null = [sys.executable, "-IS", _PROGRAM, "read", *urls]
        return [*found, Client(NULL, lambda *_: null, server.trust)]


def disk(size: int) -> Client:
    """The limit of all limits: one writer, past the page cache, durable."""
    return Client(
        DISK,
        lambda _, out: [sys.executable, "-IS", _PROGRAM, "write", str(out / "disk"), str(size)],
    )


LOADS: Sequence[Load] = (
    Load("one", "one object of 4 GiB", ("one",)),
    Load("shards", "8 files of 512 MiB and 40 small ones", ("shards",)),
    Load("small", "5,000 files of 20 KiB", ("small",)),
    Load("one-tls", "one object of 4 GiB over TLS", ("one",), tls=True),
    Load("shards-tls", "8 files of 512 MiB and 40 small ones over TLS", ("shards",), tls=True),
    Load("small-tls", "5,000 files of 20 KiB over TLS", ("small",), tls=True),
    Load("hub", "Hugging Face Hub: 8 files of 512 MiB and 40 small ones", ("shards",), clients.hub),
    Load("gcs", "GCS JSON API: 8 files of 512 MiB and 40 small ones", ("shards",), clients.gcs),
    Load("again", "one object of 4 GiB that is there already", ("one",), start=Start.COMPLETE),
    Load("resume", "one object of 4 GiB after kill -9 at half", ("one",), start=Start.HALF),
    Load(
        "eight",
        "eight models of 512 MiB at once",
        tuple(f"eight-{n}" for n in range(1, 9)),
    ),
)


def _together(client: Client, models: tuple[str, ...]) -> Client:
    """One command for several models: side by side, each in a folder of its own."""
    if len(models) == 1:
        return client

    def command(_: str, out: Path) -> list[str]:
        all_of_them = (
            f"mkdir -p {out / model}; {shlex.join(client.command(model, out / model))} &"
            for model in models
        )
        return ["sh", "-c", "\n".join([*all_of_them, "wait"])]

    return replace(client, command=command)
