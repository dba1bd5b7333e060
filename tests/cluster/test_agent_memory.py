"""An agent needs no more than 256 MiB of memory while it fills its disk."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.worklist import WorkList, model
from tests.support.controlplane import ControlPlane
from tests.support.mounts import tmpfs
from tests.support.processes import wait_until
from tests.support.programs import Agent
from tests.support.servers.many import ManyFiles
from tests.support.servers.web import WebServer

MIB = 1 << 20
MOST = 256 * MIB
FILES = 100_000
COPIES = 4

StartAgent = Callable[..., tuple[Agent, WorkList]]


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        for number in range(COPIES):
            content = server.files / f"{number}.bin"
            content.touch()
            os.truncate(content, 256 * MIB)
        yield server


@pytest.fixture
def start_agent(control_plane: ControlPlane, folder: Path) -> Iterator[StartAgent]:
    """Starts an agent on a node of its own, with an empty work list."""
    with ExitStack() as stack:

        def start(
            node: str, environment: Mapping[str, str] | None = None, **settings: Any
        ) -> tuple[Agent, WorkList]:
            control_plane.add_node(node)
            stack.callback(control_plane.remove_node, node)
            agent = Agent(
                control_plane, folder, node=node, settings=settings, environment=environment
            )
            stack.callback(agent.kill)
            agent.start_ready()
            return agent, WorkList(control_plane, node)

        yield start


def peak(agent: Agent) -> int:
    """The most memory that was resident since the start, in bytes."""
    status = Path(f"/proc/{agent.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scheme", ["s3", "hf"])
def test_with_a_model_of_very_many_files(
    start_agent: StartAgent, tmp_path: Path, scheme: str
) -> None:
    with ManyFiles(FILES) as many, tmpfs(tmp_path / "disk", "size=2g") as root:
        uri = many.s3_uri if scheme == "s3" else many.hub_uri
        agent, work = start_agent(
            f"memory-many-{scheme}",
            {"AWS_ENDPOINT_URL_S3": many.url, **many.keys},
            root=str(root),
            hf_endpoint=many.url,
        )
        work.set(model("many", uri))
        assert work.wait_downloaded("many", seconds=200)["bytesDone"] == many.size
        assert peak(agent) <= MOST
        lost = next(root.glob("models/*/shards/000/*"))
        lost.unlink()
        wait_until(lost.exists, seconds=100, what="the file that was lost")
        work.wait_downloaded("many", seconds=60)
        assert peak(agent) <= MOST, "while it mended one file"
        agent.kill()


@pytest.mark.parametrize("writing", ["direct", "buffered"])
def test_with_several_copies_of_large_files_over_all_connections(
    start_agent: StartAgent, web: WebServer, writing: str
) -> None:
    agent, work = start_agent(f"memory-large-{writing}", writing=writing, part_size_mib=4)
    names = [str(number) for number in range(COPIES)]
    work.set(*(model(name, f"{web.url}/paced/{name}.bin") for name in names))
    used = 0

    def here(status: dict[str, Any]) -> bool:
        nonlocal used
        used = max(used, agent.state()["engine"]["connections"]["used"])
        states = status.get("modelStatus") or {}
        return [states.get(name) for name in names] == ["ModelDownloaded"] * COPIES

    work.wait(here, "all copies", seconds=60)
    assert used == 64
    assert peak(agent) <= MOST
