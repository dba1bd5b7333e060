"""`plan` as a program: files, namespaces, sizes that are measured."""

import json
import os
import sys
from pathlib import Path

import yaml

from tests.support.cluster import REPOSITORY
from tests.support.servers.hub import HubServer
from tests.unit.cli.fleet import GIB, Cluster, cache, done
from tests.unit.cli.program import bodies, run, run_process
from tests.unit.kube.wire import ApiServer

KIND = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "LocalModelCache"}


async def test_a_plan_measures_the_source_and_writes_nothing(
    server: ApiServer, env: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with (model / "weights").open("wb") as file:
        file.truncate(2000 * GIB)
    path = tmp_path / "cache.yaml"
    path.write_text(yaml.safe_dump(cache("m", uri=f"file://{model}") | KIND))
    ended = await run("plan", "-f", path, env=env)
    assert ended.code == 4
    assert "more than the declared 1.0 GiB: raise modelSize" in ended.err
    assert "m (2.0 TiB) does not fit on 3 of 3 nodes." in ended.out
    ended = await run("plan", "-f", "-", "--offline", env=env, given=path.read_text())
    assert (ended.code, ended.err) == (0, "")
    assert "m (1.0 GiB) fits on 3 nodes, at most 3.0 GiB to fetch in all." in ended.out
    ended = await run("plan", f"file://{model}/none", "-g", "gpu", env=env)
    assert ended.code == 3
    assert "The source cannot be measured: " in ended.err
    assert bodies(server.asked) == []


async def test_a_plan_of_a_file_takes_the_namespace_that_is_asked_for(
    env: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "cache.yaml"
    theirs = cache("m") | KIND | {"kind": "LocalModelNamespaceCache"}
    path.write_text(yaml.safe_dump(theirs))
    for more, key in (((), "default/m"), (("-n", "team"), "team/m")):
        ended = await run("plan", "-f", path, "--offline", *more, env=env)
        assert ended.out.splitlines()[-1].startswith(f"{key} (1.0 GiB) fits"), ended
    theirs["metadata"]["namespace"] = "other"
    path.write_text(yaml.safe_dump(theirs))
    ended = await run("plan", "-f", path, "--offline", "-n", "team", env=env)
    assert (ended.code, ended.out) == (2, "")
    assert "names the namespace other, -n another one" in ended.err
    path.write_text(yaml.safe_dump(cache("m") | KIND))
    ended = await run("plan", "-f", path, "--offline", "-n", "team", env=env)
    assert (ended.code, ended.out) == (2, "")
    assert "belongs to no namespace" in ended.err


async def test_without_the_agents_program_it_says_so_and_counts_what_is_declared(
    env: dict[str, str], tmp_path: Path
) -> None:
    """A Python beside which no other program lies."""
    alone = tmp_path / "bin/python"
    alone.parent.mkdir()
    alone.symlink_to(sys.executable)
    packages = os.pathsep.join([str(REPOSITORY), *(p for p in sys.path if "site-packages" in p)])
    env = {**env, "PATH": "/nonexistent", "PYTHONPATH": packages}
    program = (str(alone), "-m", "controller.cli")
    path = tmp_path / "cache.yaml"
    path.write_text(yaml.safe_dump(cache("m") | KIND))
    ended = await run_process(program, "plan", "-f", path, env=env)
    assert ended.code == 0, ended.err
    assert "localmodel-agent is not installed: modelSize counts" in ended.err
    ended = await run_process(program, "create", "s3://models/m", "-g", "gpu", env=env)
    assert ended.code == 3
    assert "give --size, such as --size 20Gi, or install localmodel-agent" in ended.err


async def test_files_that_another_revision_has_on_the_nodes_are_not_counted_as_to_fetch(
    cluster: Cluster, env: dict[str, str]
) -> None:
    """v1 is complete on node a; b and c have nothing of it."""
    weights = bytes(1 << 20)
    with HubServer() as hub:
        env = {**env, "HF_ENDPOINT": hub.endpoint}
        first = hub.add("acme/m", {"w.bin": weights, "old.bin": b"o" * (1 << 20)}, branch="v1")
        hub.add("acme/m", {"w.bin": weights, "new.bin": b"n" * (1 << 20)}, branch="v2")
        cluster.put("cache", cache("m1", uri="hf://acme/m:v1", created=9))
        cluster.settle()
        copy = done("m1", "hf://acme/m:v1", 2 << 20) | {"revision": first}
        cluster.report("a", done("llama"), copy)
        cluster.settle()
        arguments = ("plan", "hf://acme/m:v2", "-g", "gpu", "--name", "m2")
        ended = await run(*arguments, env=env)
        assert ended.code == 0, ended.err
        rows = {row.split()[0]: row for row in ended.out.splitlines()[1:4]}
        assert "1.0 MiB of its files are there in other revisions; at most 1.0 MiB" in rows["a"]
        assert rows["b"].split() == ["b", "gpu", "fits"]
        assert ended.out.endswith("fits on 3 nodes, at most 5.0 MiB to fetch in all.\n")
        found = json.loads((await run(*arguments, "-o", "json", env=env)).out)
        assert {n["node"]: n["bytesLinked"] for n in found["nodes"]}["a"] == 1 << 20
        ended = await run(*arguments, "--size", "2Mi", "--offline", env=env)
        assert ended.out.endswith("at most 6.0 MiB to fetch in all.\n")
        # Another domain of trust fetches first.
        ended = await run(*arguments, "-n", "team", env=env)
        assert ended.out.endswith("at most 6.0 MiB to fetch in all.\n")
