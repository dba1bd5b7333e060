"""What is in the images, and what is not."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import AGENT, CONTROLLER, NODES, Site
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE
from tests.support.nodes import images
from tests.support.nodes.images import Archive

pytestmark = pytest.mark.timeout(600)
PROGRAMS = ("agent", "controller")
# Above the base image.
MOST_MB = {"agent": 200, "controller": 120}
USER = {"agent": "1000:1000", "controller": "65532:65532"}
# Between the start of the container and the first answer that it is ready.
READY_SECONDS = {"agent": 3, "controller": 2}
_STORAGE = ("botocore", "s3fs", "gcsfs", "google", "huggingface_hub", "awscrt", "fsspec")
_TOOLS = re.compile(r"(^|/)(pip|ensurepip|setuptools|uv|gcc|cc|make)(-[\d.]+)?(\.dist-info)?(/|$)")


@pytest.fixture(params=PROGRAMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_sizes_are_limited(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    base, *ours = images.program(name).layers()
    size = sum(bytes_ for _, bytes_ in ours) / 1e6
    with capsys.disabled():
        print(f"\n{name}: {size:.0f} MB above a base of {base[1] / 1e6:.0f} MB")
    assert size <= MOST_MB[name]


def test_how_a_container_is_run(name: str) -> None:
    configuration = images.program(name).configuration()
    assert configuration["User"] == USER[name]
    assert configuration["StopSignal"] == "SIGTERM"
    assert configuration["Entrypoint"] == [f"localmodel-{name}"]
    assert configuration["Healthcheck"]["Test"][0] == "CMD"
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == f"localmodel-{name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_no_tool_that_builds_or_installs_is_in_it(name: str) -> None:
    archive = images.program(name)
    present = set(archive.files(above=1))
    removed = {re.sub(r"\.wh\.", "", path) for path in present if "/.wh." in path}
    everything = set(archive.files()) | present
    tools = {
        path
        for path in everything
        if _TOOLS.search(path)
        and "/.wh." not in path
        and not any(path == gone or path.startswith(f"{gone}/") for gone in removed)
        and not path.startswith(("usr/share/", "var/lib/dpkg/", "etc/"))
    }
    assert not {path for path in tools if "site-packages/pip/_vendor" not in path}, sorted(tools)[
        :9
    ]


def test_everything_is_compiled(name: str) -> None:
    ours = images.program(name).files(above=1)
    sources = {
        path for path in ours if re.search(r"site-packages/(agent|controller|shared)/.*\.py$", path)
    }
    assert sources
    for path in sources:
        folder, _, file = path.rpartition("/")
        assert any(
            other.startswith(f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-")
            for other in ours
        ), path


def test_the_controller_has_no_library_of_any_storage() -> None:
    ours = images.program("controller").files(above=1)
    packages = {
        path.split("site-packages/")[1].split("/")[0] for path in ours if "site-packages/" in path
    }
    assert not {package for package in packages if package.startswith(_STORAGE)}


def test_two_builds_give_the_same_layers(name: str) -> None:
    second: Archive = images.program(name, again=True)
    try:
        assert images.program(name).layers() == second.layers()
    finally:
        second.path.unlink()


def test_a_later_build_leaves_none_of_the_earlier_ones_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layers = []
    for text in ("one", "two", "three"):
        recipe = f"FROM scratch\nCOPY word /\nCOPY word /again\nLABEL word={text}\n"
        images.small("localhost/words:1", recipe, {"word": text})
        layers.append(len(list((tmp_path / "localmodel/images/store/overlay").iterdir())))
    assert layers[0] == layers[1] == layers[2]


@pytest.mark.parametrize(
    ("program", "namespace", "selector"),
    [("agent", AGENTS_NAMESPACE, AGENT), ("controller", CONTROLLER_NAMESPACE, CONTROLLER)],
)
def test_a_program_is_ready_soon_after_its_container_starts(
    site: Site, program: str, namespace: str, selector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = site.pods(namespace, selector)
    old = {pod["metadata"]["name"] for pod in pods}
    # Not one that leaves with its node: nothing comes in its place.
    staying = [
        pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("nodeName") in NODES and "deletionTimestamp" not in pod["metadata"]
    ]
    site.kubectl("delete", "pod", staying[0], "-n", namespace, "--wait=false")

    def fresh() -> list[dict[str, Any]]:
        pods = site.pods(namespace, selector)
        return [p for p in pods if p["metadata"]["name"] not in old and p["status"].get("podIP")]

    site.wait(lambda: bool(fresh()), f"another {program}")
    (pod,) = fresh()
    site.wait(lambda: bool(site.page(pod, "/readyz")), f"{program} ready", interval=0.02)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    node = site.cluster.nodes[pod["spec"]["nodeName"]]
    began = max(_started(pid) for pid in node.host_pids(f"localmodel-{program} run"))
    with capsys.disabled():
        print(f"\n{program}: ready {now - began:.1f} s after its process began")
    assert now - began <= READY_SECONDS[program]
    site.wait_installed()


def _started(pid: int) -> float:
    """Seconds after the machine's start, to the hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
