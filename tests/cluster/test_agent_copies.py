"""One agent with its own token on a real API server; an admin writes its work list."""

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared.domain.storage_key import storage_key
from tests.cluster.worklist import WorkList, files_below, metric, model
from tests.component.agent.terminal import Cli
from tests.support.cluster import AGENTS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until
from tests.support.programs import Agent
from tests.support.servers.web import WebServer

MIB = 1 << 20
SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(7).randbytes(24 * MIB)
TRANSFERRED = "localmodel_agent_transferred_bytes_total"

StartAgent = Callable[..., tuple[Agent, WorkList]]


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        server.put("small.bin", SMALL)
        server.put("large.bin", LARGE)
        yield server


@pytest.fixture
def start_agent(control_plane: ControlPlane, folder: Path) -> Iterator[StartAgent]:
    """Starts an agent on a node of its own, with an empty work list."""
    with ExitStack() as stack:

        def start(node: str, **settings: Any) -> tuple[Agent, WorkList]:
            control_plane.add_node(node)
            stack.callback(control_plane.remove_node, node)
            work = WorkList(control_plane, node)
            agent = Agent(control_plane, folder, node=node, settings=settings)
            stack.callback(agent.kill)
            agent.start_ready()
            return agent, work

        yield start


def moved(agent: Agent) -> float:
    return metric(agent.get("/metrics")[1], TRANSFERRED)


def test_a_model_comes_to_the_disk_and_the_status_tells_how(
    start_agent: StartAgent, web: WebServer, control_plane: ControlPlane
) -> None:
    agent, work = start_agent("copies-flow", max_bytes_per_second=12 * MIB)
    uri = f"{web.url}/large.bin"
    generation = work.set(model("llama", uri))
    moving = work.wait_report("llama", state="ModelDownloading", reason="Downloading")
    assert moving["storageKey"] == storage_key(uri)
    assert moving["attempts"] == 1
    done = work.wait_downloaded("llama")
    assert done["bytesTotal"] == done["bytesDone"] == len(LARGE)
    assert done["revision"]
    assert done["verifiedBy"]
    assert done["completionTime"] >= done["startTime"]
    status = work.status()
    assert status["observedGeneration"] == generation
    assert status["modelStatus"] == {"llama": "ModelDownloaded"}
    assert status["agent"]["hostPath"] == "/models"
    assert status["storage"]["usedBytes"] >= len(LARGE)
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("StorageReady", "True")
    assert files_below(agent.models / storage_key(uri)) == {"large.bin": LARGE}
    lease = control_plane.get("lease", "copies-flow", namespace=AGENTS_NAMESPACE)
    assert lease is not None
    assert lease["spec"]["renewTime"]


def test_progress_is_shown_while_it_moves(start_agent: StartAgent, web: WebServer) -> None:
    agent, work = start_agent("copies-progress", max_bytes_per_second=6 * MIB)
    work.set(model("llama", f"{web.url}/large.bin"))

    def moves(status: dict[str, Any]) -> bool:
        (report,) = status.get("models") or [{}]
        done, rate = report.get("bytesDone", 0), report.get("bytesPerSecond", 0)
        return bool(0 < done < len(LARGE) and rate > 0)

    work.wait(moves, "bytes and a rate")
    work.wait_downloaded("llama")
    # Twice a second while it moves (4 s), and the few states before and after.
    assert metric(agent.get("/metrics")[1], "localmodel_agent_status_writes_total") < 25


def test_nothing_is_written_while_nothing_changes(
    start_agent: StartAgent, web: WebServer, control_plane: ControlPlane
) -> None:
    agent, work = start_agent("copies-quiet")
    work.set(model("llama", f"{web.url}/small.bin"))
    work.wait_downloaded("llama")
    before = metric(agent.get("/metrics")[1], "localmodel_agent_status_writes_total")
    version = work.read()["metadata"]["resourceVersion"]
    # Five looks at the disk and one renewal of the Lease pass meanwhile.
    time.sleep(5)
    assert work.read()["metadata"]["resourceVersion"] == version
    assert metric(agent.get("/metrics")[1], "localmodel_agent_status_writes_total") == before


def test_a_copy_that_is_no_longer_listed_goes_and_its_absence_is_confirmed(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-gone")
    gone, kept = f"{web.url}/small.bin", f"{web.url}/large.bin"
    work.set(model("gone", gone), model("kept", kept), model("other", gone, namespace="team"))
    for key in ("gone", "kept", "team/other"):
        work.wait_downloaded(key)
    generation = work.set(model("kept", kept), model("other", gone, namespace="team"))
    status = work.wait(
        lambda s: s.get("observedGeneration") == generation and "gone" not in s["modelStatus"],
        "confirmation",
    )
    assert status["modelStatus"] == {
        "kept": "ModelDownloaded",
        "team/other": "ModelDownloaded",
    }
    assert (agent.models / storage_key(gone)).exists()
    generation = work.set(model("kept", kept))
    work.wait(
        lambda s: (
            s.get("observedGeneration") == generation
            and s["modelStatus"] == {"kept": "ModelDownloaded"}
        ),
        "confirmation",
    )
    assert not (agent.models / storage_key(gone)).exists()
    assert (agent.models / storage_key(kept)).exists()


def test_a_copy_that_is_withdrawn_half_way_leaves_nothing(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-withdrawn", max_bytes_per_second=4 * MIB)
    work.set(model("llama", f"{web.url}/large.bin"))
    work.wait_report("llama", reason="Downloading")
    generation = work.set()
    work.wait(
        lambda s: s.get("observedGeneration") == generation and s["modelStatus"] == {},
        "an empty status",
    )
    assert files_below(agent.models) == {}
    assert files_below(agent.root / ".localmodel" / "staging") == {}


def test_without_a_work_list_everything_stays(start_agent: StartAgent, web: WebServer) -> None:
    agent, work = start_agent("copies-unknown")
    uri = f"{web.url}/small.bin"
    work.set(model("llama", uri))
    work.wait_downloaded("llama")
    work.delete()
    # Long enough for several passes and looks at the disk.
    time.sleep(3)
    assert files_below(agent.models / storage_key(uri)) == {"small.bin": SMALL}
    before = moved(agent)
    work.set(model("llama", uri))
    work.wait_downloaded("llama")
    assert moved(agent) == before


def test_after_kill_9_the_next_agent_goes_on_from_the_journal(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-killed", max_bytes_per_second=8 * MIB, part_size_mib=1)
    uri = f"{web.url}/large.bin"
    work.set(model("llama", uri))
    work.wait(
        lambda s: (s.get("models") or [{}])[0].get("bytesDone", 0) > len(LARGE) // 2,
        "half of the model",
    )
    agent.kill()
    assert not (agent.models / storage_key(uri)).exists()
    agent.start_ready()
    work.wait_downloaded("llama")
    assert files_below(agent.models / storage_key(uri)) == {"large.bin": LARGE}
    assert moved(agent) < len(LARGE) * 0.75


def test_what_is_deleted_or_changed_by_hand_is_repaired(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-repaired")
    uri = f"{web.url}/small.bin"
    work.set(model("llama", uri))
    work.wait_downloaded("llama")
    file = agent.models / storage_key(uri) / "small.bin"
    for damage in (file.unlink, lambda: file.write_bytes(b"changed"), lambda: emptied(file.parent)):
        damage()
        wait_until(
            lambda: file.exists() and file.read_bytes() == SMALL, seconds=20, what="the repair"
        )
        work.wait_downloaded("llama")


def test_what_verify_finds_beside_a_running_agent_is_repaired_by_it(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-verified", max_bytes_per_second=200_000)
    good, rotten = f"{web.url}/small.bin", f"{web.url}/late-{uuid.uuid4()}.bin"
    web.put(rotten.rpartition("/")[2], SMALL[::-1])
    work.set(model("good", good), model("rotten", rotten))
    for key in ("good", "rotten"):
        work.wait_downloaded(key)
    before, cli = moved(agent), Cli()
    assert cli("verify", "--root", agent.root).code == 0
    file = next((agent.models / storage_key(rotten)).iterdir())
    times = file.stat()
    file.write_bytes(b"x" * times.st_size)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cli("verify", good, "--root", agent.root).code == 0
    found = cli("verify", "--root", agent.root)
    assert found.code == 5
    assert f"{storage_key(rotten)}  damaged  {file.name}" in found.out
    assert "was asked to repair it" in found.err
    work.wait_report("rotten", state="ModelDownloading", reason="Repairing")
    work.wait_downloaded("rotten")
    assert cli("verify", "--root", agent.root).code == 0
    assert moved(agent) - before == len(SMALL)


def test_rot_that_reading_again_finds_is_told_and_repaired(
    start_agent: StartAgent, web: WebServer
) -> None:
    # Everything is always due.
    agent, work = start_agent("copies-rotten", max_bytes_per_second=200_000, scrub_days=1e-9)
    uri = f"{web.url}/small.bin"
    work.set(model("llama", uri))
    work.wait_downloaded("llama")
    assert agent.stop() == 0
    file = agent.models / storage_key(uri) / "small.bin"
    times, mounted = file.stat(), file.open("rb")
    file.write_bytes(b"x" * times.st_size)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with mounted:
        agent.start_ready()
        found = work.wait_report("llama", state="ModelDownloading", reason="Repairing")
        assert "small.bin" in found["message"]
        work.wait_downloaded("llama")
        # Another file has its name; who has the rotten one open keeps that.
        assert mounted.read() == b"x" * times.st_size
    assert file.read_bytes() == SMALL
    assert moved(agent) == len(SMALL)


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_a_restart_shows_what_is_there_at_once_and_fetches_nothing(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-restarted")
    uri = f"{web.url}/small.bin"
    work.set(model("llama", uri))
    before = work.wait_downloaded("llama")
    assert agent.stop() == 0
    requests = len(web.requests())
    agent.start_ready()
    wait_until(lambda: agent.state()["reconciler"]["status"] is not None, seconds=10, what="status")
    after = work.wait_downloaded("llama")
    assert after["completionTime"] == before["completionTime"]
    assert len(web.requests()) == requests


def test_a_disk_that_is_not_mounted_is_waited_for_over_restarts_and_never_filled_beneath(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-unmounted")
    uri = f"{web.url}/small.bin"
    work.set(model("llama", uri))
    work.wait_downloaded("llama")
    disk = agent.root.with_name("disk")
    agent.root.rename(disk)
    agent.root.mkdir()
    work.wait(unreachable, "the loss of the disk")
    requests = len(web.requests())
    for end in (agent.stop, agent.kill):
        end()
        agent.start()
        wait_until(
            lambda: "copies are known" in agent.get("/readyz")[1], seconds=30, what="refusal"
        )
        # It looks once a second.
        time.sleep(4)
        assert list(agent.root.iterdir()) == []
        assert unreachable(work.status())
    assert len(web.requests()) == requests
    agent.root.rmdir()
    disk.rename(agent.root)
    work.wait_downloaded("llama")
    assert len(web.requests()) == requests


def test_a_disk_that_was_replaced_is_filled_once_somebody_deletes_the_node_object(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-replaced")
    entry = model("llama", f"{web.url}/small.bin")
    work.set(entry)
    work.wait_downloaded("llama")
    agent.stop()
    agent.root.rename(agent.root.with_name("old-disk"))
    agent.root.mkdir()
    agent.start()
    status = work.wait(unreachable, "the loss of the disk")
    assert "kubectl delete localmodelnode copies-replaced" in status["conditions"][0]["message"]
    work.delete()
    work.set(entry)
    work.wait_downloaded("llama")
    assert files_below(agent.models / storage_key(entry["sourceModelUri"])) == {"small.bin": SMALL}


def unreachable(status: dict[str, Any]) -> bool:
    """The disk is away, and no copy is said to be there."""
    reasons = [condition["reason"] for condition in status.get("conditions") or []]
    states = {model["state"] for model in status.get("models") or []}
    return reasons == ["CopiesUnreachable"] and states == {"ModelDownloadPending"}


@pytest.mark.parametrize(
    ("name", "entry", "reason"),
    [
        ("missing", {"uri": "/absent.bin"}, "SourceNotFound"),
        ("scheme", {"uri": "ftp://host/model"}, "UnsupportedScheme"),
        ("forbidden", {"uri": "/forbidden/x.bin"}, "AccessDenied"),
        ("folder", {"uri": "file:///etc", "namespace": "team"}, "SourceNotAllowed"),
    ],
)
def test_what_cannot_work_is_stalled_with_its_reason_and_a_time(
    start_agent: StartAgent, web: WebServer, name: str, entry: dict[str, Any], reason: str
) -> None:
    agent, work = start_agent(f"copies-stalled-{name}")
    uri = entry.pop("uri")
    work.set(model("llama", web.url + uri if uri.startswith("/") else uri, **entry))
    key = "team/llama" if "namespace" in entry else "llama"
    found = work.wait_report(key, state="ModelDownloadError", reason=reason)
    assert found["message"]
    assert found["nextRetryTime"]
    assert found["attempts"] == 1
    assert files_below(agent.models) == {}


def test_a_stalled_copy_is_tried_at_once_when_somebody_asks(
    start_agent: StartAgent, web: WebServer
) -> None:
    _, work = start_agent("copies-asked")
    entry = model("llama", f"{web.url}/late.bin")
    work.set(entry)
    work.wait_report("llama", reason="SourceNotFound")
    web.put("late.bin", SMALL)
    work.set({**entry, "retry": "now"})
    work.wait_downloaded("llama")


def test_a_source_that_is_away_is_tried_again_until_it_is_back(
    start_agent: StartAgent, web: WebServer
) -> None:
    _, work = start_agent("copies-away", retry_seconds=0.5)
    work.set(model("llama", f"{web.url}/away/x.bin"))

    def failed_thrice(status: dict[str, Any]) -> bool:
        (report,) = status.get("models") or [{}]
        return bool(
            report.get("attempts", 0) >= 3
            and report["reason"] in {"SourceError", "SourceThrottled", "SourceUnreachable"}
            and report["nextRetryTime"]
        )

    work.wait(failed_thrice, "a third attempt")


def test_a_model_that_does_not_fit_is_refused_before_the_first_byte(
    start_agent: StartAgent, web: WebServer
) -> None:
    agent, work = start_agent("copies-full", min_free_percent=99.99)
    work.set(model("llama", f"{web.url}/large.bin"))
    found = work.wait_report("llama", reason="InsufficientStorage")
    assert found["message"].startswith("needs 24.0 MiB, 0 B can be used")
    assert work.status()["storage"]["availableBytes"] == 0  # so the controller sends nothing more
    assert moved(agent) == 0


def test_caches_of_one_uri_share_a_folder_that_holds_what_all_of_them_select(
    start_agent: StartAgent, folder: Path
) -> None:
    source = folder / "source"
    source.mkdir()
    for name in ("a.json", "b.bin", "c.txt"):
        (source / name).write_bytes(name.encode())
    agent, work = start_agent("copies-shared")
    uri = f"file://{source}"
    tree = agent.models / storage_key(uri)
    work.set(model("json", uri, allowPatterns=["*.json"]))
    work.wait_downloaded("json")
    assert files_below(tree).keys() == {"a.json"}
    work.set(
        model("json", uri, allowPatterns=["*.json"]), model("bin", uri, allowPatterns=["*.bin"])
    )
    wait_until(
        lambda: files_below(tree).keys() == {"a.json", "b.bin"}, seconds=20, what="the union"
    )
    work.wait_downloaded("bin")
    work.set(model("bin", uri, allowPatterns=["*.bin"]))
    wait_until(lambda: files_below(tree).keys() == {"b.bin"}, seconds=20, what="the rest to go")


def test_the_agent_is_ready_within_seconds_and_small_when_idle(start_agent: StartAgent) -> None:
    agent, work = start_agent("copies-idle")
    work.set()
    work.wait(lambda s: s.get("modelStatus") == {}, "an empty status")
    pages = int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1])
    assert pages * 4096 < 120 * MIB
