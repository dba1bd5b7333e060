"""What is measured: models, protocol, link and the state from which a run starts."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.bench import clients
from tests.bench.clients import US, Client, Server
from tests.bench.farm import Farm

DISK, NULL = "disk (O_DIRECT)", "server to null"
LIMITS = (DISK, NULL)
DELAY = 0.02
# As many as fill each link: two on loopback, and far away as many as the agent opens by default.
_STREAMS, _FAR_STREAMS = 2, 16
# More do not fit into a command line.
_MOST_URLS = 10_000
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
    far: bool = False
    start: Start = Start.NOTHING

    @property
    def large(self) -> bool:
        """Whether its bytes count, and not its files."""
        return not {"small", "many"} & set(self.models)

    @property
    def sha256(self) -> bool:
        """Whether the source states it, so that it is computed."""
        return self.clients is clients.hub

    def contestants(self, farm: Farm, far_url: str) -> list[Client]:
        """far_url: the same server at the end of a long link."""
        server = Server(far_url if self.far else farm.url)
        if self.tls:
            server = Server(farm.tls_url, farm.authority)
        found = self.clients(server)
        if self.start is not Start.NOTHING:
            return found
        if len(self.models) > 1:
            found = [client for client in found if client.name != US]
        streams = _FAR_STREAMS if self.far else _STREAMS
        urls = [f"{server.url}{path}" for model in self.models for path in farm.paths(model)]
        if len(urls) > _MOST_URLS:
            return found
        null = [sys.executable, "-IS", _PROGRAM, "read", str(streams), *urls]
        return [*found, Client(NULL, lambda *_: null, server.trust)]

    def command(self, client: Client, out: Path) -> list[str]:
        """Several models are fetched side by side: by one process where the client can, else by one each."""
        if len(self.models) == 1 or client.name in LIMITS:
            return client.command(self.models[0], out)
        if client.together:
            return client.together(self.models, out)
        each = (
            f"mkdir -p {out / model}; {shlex.join(client.command(model, out / model))} &"
            for model in self.models
        )
        return ["sh", "-c", "\n".join([*each, "wait"])]

    def folder(self, client: Client, model: str, out: Path) -> Path:
        """What `command` gave the client for this model."""
        return out if len(self.models) == 1 or client.together else out / model


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
    Load("one-far", "one object of 4 GiB, 40 ms away", ("one",), far=True),
    Load("shards-far", "8 files of 512 MiB and 40 small ones, 40 ms away", ("shards",), far=True),
    Load("small-far", "5,000 files of 20 KiB, 40 ms away", ("small",), far=True),
    Load("hub", "Hugging Face Hub: 8 files of 512 MiB and 40 small ones", ("shards",), clients.hub),
    Load(
        "hub-far",
        "Hugging Face Hub, 40 ms away: 8 files of 512 MiB and 40 small ones",
        ("shards",),
        clients.hub,
        far=True,
    ),
    Load("gcs", "GCS JSON API: 8 files of 512 MiB and 40 small ones", ("shards",), clients.gcs),
    Load("again", "one object of 4 GiB that is there already", ("one",), start=Start.COMPLETE),
    Load("resume", "one object of 4 GiB after kill -9 at half", ("one",), start=Start.HALF),
    Load("many", "50,000 files of 1 KiB", ("many",), clients.s3_natively),
    Load(
        "eight",
        "eight models of 512 MiB at once",
        tuple(f"eight-{n}" for n in range(1, 9)),
    ),
)
