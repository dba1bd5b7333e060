"""The plugin as a program: errors as sentences, exit codes, terminals, Ctrl-C, pipes that break, completion."""

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.fleet import Cluster, cache, done, failed, node
from tests.unit.cli.program import (
    PROGRAM,
    Terminal,
    bodies,
    environment,
    run,
    run_process,
    serving,
)
from tests.unit.kube.wire import ApiServer, refusal, write_kubeconfig


async def test_status_of_all_and_of_one(env: dict[str, str]) -> None:
    ended = await run("status", env=env)
    assert ended.code == 0
    rows = [row.split()[:3] for row in ended.out.splitlines()]
    assert rows == [
        ["CACHE", "STATE", "COPIES"],
        ["llama", "Reconciling", "1/3,"],
        ["team/tiny", "Reconciling", "0/3"],
    ]
    ended = await run("status", "llama", env=env)
    assert "403 \\x1b]0;pwned\\x07<b>" in ended.out
    assert "\x1b" not in ended.out
    ended = await run("status", "-n", "team", "-o", "name", env=env)
    assert ended.out == "localmodelnamespacecache.serving.kserve.io/tiny\n"
    for output in ("json", "yaml"):
        ended = await run("status", "llama", "-o", output, env=env)
        assert not set(ended.out) & {"\x1b", "\x07", "\x9b"}
        assert yaml.safe_load(ended.out)["nodes"][0]["message"].startswith("403 \x1b]0;pwned")
    found = json.loads((await run("status", "llama", "-o", "json", env=env)).out)
    assert [one["node"] for one in found["nodes"]] == ["c", "b", "a"]
    found = yaml.safe_load((await run("status", "-o", "yaml", env=env)).out)
    assert [one["name"] for one in found["caches"]] == ["llama", "tiny"]


async def test_a_complete_copy_on_a_node_that_is_not_ready_is_shown_so(
    cluster: Cluster, server: ApiServer, env: dict[str, str]
) -> None:
    cluster.put("node", node("a", ready=False))
    cluster.settle()
    text = (await run("status", "llama", env=env)).out
    row = next(row.split() for row in text.splitlines() if row.startswith("a "))
    assert row[:3] == ["a", "Downloaded", "NodeNotReady"]
    for arguments in (("status", "llama"), ("status",)):
        found = json.loads((await run(*arguments, "-o", "json", env=env)).out)
        cache_ = found["caches"][0] if "caches" in found else found
        assert {one["node"]: one["reason"] for one in cache_["nodes"]}["a"] == "NodeNotReady"
    assert (await run("retry", "llama", "a", env=env)).out == (
        "Nothing failed on a: NodeNotReady.\n"
    )
    answer = serving(cluster)
    server.otherwise = lambda asked: (
        refusal(403, "Forbidden") if asked.path == "/api/v1/nodes" else answer(asked)
    )
    ended = await run("status", "llama", env=env)
    assert ended.err == "Which nodes are not Ready is not shown: you may not list nodes.\n"


async def test_a_node_whose_agent_is_silent_is_not_shown_as_live(
    cluster: Cluster, env: dict[str, str]
) -> None:
    text = (await run("node", "b", env=env)).out
    assert "1.0 GiB/s" in text
    assert "silent" not in text
    cluster.silence("b")
    cluster.settle()
    text = (await run("node", "b", env=env)).out
    assert "Its agent has been silent: what follows is what it said last" in text
    assert "/s" not in text
    renewed = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
    cluster.stored["lease", "localmodel-agents/b"] = {
        "metadata": {"name": "b", "namespace": "localmodel-agents"},
        "spec": {"renewTime": renewed},
    }
    assert "Its agent has been silent for 20m: " in (await run("node", "b", env=env)).out


async def test_data_of_all_caches_says_why_one_is_not_placed(
    cluster: Cluster, server: ApiServer, env: dict[str, str]
) -> None:
    for name in ("big", "huge"):
        cluster.put("cache", cache(name, size="2Ti", uri=f"s3://models/{name}"))
    cluster.settle()
    found = yaml.safe_load((await run("status", "-o", "yaml", env=env)).out)
    for one in found["caches"]:
        reasons = {copy["reason"] for copy in one["nodes"]}
        assert ("NoSpace" in reasons) == (one["name"] in ("big", "huge"))
    nodes = [asked for asked in server.asked if asked.path == "/api/v1/nodes"]
    assert len(nodes) == 1, "the fleet is read once for all of them"


async def test_how_ready_caches_were_verified_is_shown_unless_it_would_cost_much(
    cluster: Cluster, server: ApiServer, env: dict[str, str]
) -> None:
    for name in "abc":
        cluster.report(name, done("llama"), done("team/tiny", "s3://models/tiny"))
    cluster.settle()
    text = (await run("status", env=env)).out
    assert [row.split()[1:5] for row in text.splitlines()[1:]] == [
        ["Ready", "3/3", "100%", "sha256"]
    ] * 2
    cluster.stored["cache", "llama"]["status"]["copies"]["total"] = 10_000
    server.asked.clear()
    assert "VERIFIED" not in (await run("status", env=env)).out
    assert [asked for asked in server.asked if asked.path.endswith("localmodelnodes")] == []


async def test_what_does_not_exist_is_told_with_what_is_similar(env: dict[str, str]) -> None:
    ended = await run("status", "lama", env=env)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "Error: Cache lama does not exist.\nHint: did you mean llama?\n"
    ended = await run("node", "x", env=env)
    assert ended.err == "Error: LocalModelNode x does not exist.\nHint: there are a, b, c.\n"
    ended = await run("create", "s3://models/new", "--group", "gpus", "--size", "1Gi", env=env)
    assert ended.code == 3
    assert ended.err == "Error: Node group gpus does not exist.\nHint: did you mean gpu?\n"


@pytest.mark.parametrize(
    ("status", "reason", "code", "text"),
    [
        (401, "Unauthorized", 3, "does not know you (401)"),
        (403, "Forbidden", 3, "You may not list localmodelcaches: because"),
        (404, "", 3, "This cluster does not know localmodel"),
        (422, "Invalid", 3, "refuses to list localmodelcaches: because"),
    ],
)
async def test_refusals_are_sentences_with_a_hint(
    server: ApiServer, env: dict[str, str], status: int, reason: str, code: int, text: str
) -> None:
    server.otherwise = lambda _: refusal(status, reason)
    ended = await run("status", env=env)
    assert ended.code == code
    assert text in ended.err
    assert ended.err.count("\n") <= 2


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    ended = await run("status", "--kubeconfig", config)
    assert ended.code == 1
    assert ended.err.startswith("Error: The API server cannot be reached: ")
    assert "Hint: kubectl cluster-info" in ended.err


async def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, env: dict[str, str]) -> None:
    assert "There is no kubeconfig." in (await run("status")).err
    broken = tmp_path / "broken"
    broken.write_text("a: [")
    ended = await run("status", "--kubeconfig", broken)
    assert (ended.code, ended.err) == (
        3,
        f"Error: The kubeconfig {broken} cannot be read: it is not YAML.\n",
    )
    ended = await run("status", "--context", "prod", env=env)
    assert ended.err == "Error: The kubeconfig has no context prod.\nHint: there are: wire.\n"
    assert "does not exist" in (await run("status", "--kubeconfig", tmp_path / "none")).err


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "-o", "xml"),
        ("status", "-w", "-o", "json"),
        ("plan",),
        ("plan", "s3://models/m"),
        ("create", "s3://models/m"),
        ("create", "nonsense", "-g", "gpu", "--size", "1Gi"),
        ("create", "s3://models/m", "-g", "gpu", "--size", "many"),
        ("wait", "llama", "--timeout", "soon"),
        ("gc",),
        ("completion", "tcsh"),
        ("plan", "s3://models/m", "-g", "gpu", "--offline"),
        ("plan", "-f", "m.yaml", "-g", "gpu"),
        ("plan", "-f", "m.yaml", "--name", "m"),
        ("plan", "-f", "m.yaml", "--size", "auto"),
        ("plan", "-f", "m.yaml", "--allow", "*"),
        ("plan", "-f", "m.yaml", "--ignore", "*"),
    ],
)
async def test_wrong_usage_has_its_own_exit_code(
    env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await run(*arguments, env=env)
    assert ended.code == 2, ended
    assert ended.out == ""
    assert ended.err


async def test_a_manifest_is_printed_without_a_cluster() -> None:
    ended = await run(
        "create", "hf://meta-llama/Llama-3.1-8B", "-g", "gpu", "--size", "16Gi", "--dry-run=client", "-o", "yaml"
    )  # fmt: skip
    assert ended.code == 0
    assert yaml.safe_load(ended.out) == {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": "llama-3-1-8b"},
        "spec": {
            "sourceModelUri": "hf://meta-llama/Llama-3.1-8B",
            "modelSize": "16Gi",
            "nodeGroups": ["gpu"],
        },
    }


async def test_a_cache_is_created_by_server_side_apply_with_the_size_of_its_source(
    server: ApiServer, env: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"w" * ((5 << 20) + 1))
    ended = await run("create", f"file://{model}", "-g", "gpu", "-n", "team", env=env)
    assert ended.code == 0, ended.err
    assert ended.out == "localmodelnamespacecache/model created (6Mi)\n"
    assert "The source holds 1 file, 5.0 MiB" in ended.err
    ((path, query, body),) = bodies(server.asked)
    assert path.endswith("/namespaces/team/localmodelnamespacecaches/model")
    assert (query["fieldManager"], query["force"]) == ("kubectl-localmodel", "false")
    assert body["spec"]["modelSize"] == "6Mi"
    ended = await run(
        "create", "s3://models/x", "--name", "llama", "-g", "gpu", "--size", "1Gi", env=env
    )
    assert ended.err.startswith("Error: Cache llama exists already.\nHint: ")


async def test_a_retry_changes_an_annotation_and_owns_nothing_else(
    server: ApiServer, env: dict[str, str]
) -> None:
    ended = await run("retry", "llama", "c", env=env)
    assert (ended.code, ended.out) == (0, "llama is tried again now on c.\n")
    ((path, query, body),) = bodies(server.asked)
    assert path.endswith("/localmodelcaches/llama")
    assert query["fieldManager"] == "kubectl-localmodel-retry"
    assert set(body) == {"apiVersion", "kind", "metadata"}
    assert set(body["metadata"]["annotations"]) == {"localmodel.kserve.io/retry"}
    server.asked.clear()
    assert (await run("retry", "llama", "a", env=env)).out == "Nothing failed on a: Published.\n"
    assert "No copy of team/tiny has failed" in (await run("retry", "team/tiny", env=env)).out
    assert bodies(server.asked) == []


async def test_colours_are_for_terminals_only(env: dict[str, str]) -> None:
    async with Terminal("status", "llama", env=env) as screen:
        assert await screen.end() == 0
    assert "\x1b[31mFailed" in screen.text
    assert "\x1b]0;" not in screen.text
    assert "\x07" not in screen.text
    async with Terminal("status", "llama", env={**env, "NO_COLOR": "1"}) as screen:
        assert await screen.end() == 0
    assert "\x1b" not in screen.text
    assert "Failed" in screen.text


async def test_a_live_view_follows_and_ctrl_c_gives_the_terminal_back(
    cluster: Cluster, env: dict[str, str]
) -> None:
    async with Terminal("status", "-w", "llama", env=env) as screen:
        await screen.until("Reconciling")
        for name in "abc":
            cluster.report(name, done("llama"))
        cluster.settle()
        await screen.until("Ready")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.end() == 130
    assert screen.text.rstrip().endswith("\x1b[?25h")  # the cursor is shown again


async def test_a_terminal_without_these_letters_gets_others(env: dict[str, str]) -> None:
    ended = await run_process(
        PROGRAM, "status", "llama", env={**env, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    assert (ended.code, ended.err) == (0, "")
    assert "llama  130 GiB" in ended.out


async def test_waiting_ends_when_it_is_ready(cluster: Cluster, env: dict[str, str]) -> None:
    waiting = asyncio.create_task(run("wait", "llama", "--timeout", "1m", env=env))
    await asyncio.sleep(0)
    for name in "abc":
        cluster.report(name, done("llama"))
    cluster.settle()
    ended = await waiting
    assert ended.code == 0
    assert "llama ████████████████████████ 100%" in ended.out


async def test_waiting_tells_why_it_gave_up(env: dict[str, str], cluster: Cluster) -> None:
    cluster.report("b", failed("llama", "AccessDenied", "403"))
    cluster.settle()
    ended = await run("wait", "llama", "--timeout", "1s", env=env)
    assert ended.code == 4
    assert "AccessDenied" in ended.out
    assert ended.err == (
        "Not Ready within 1s: llama.\nHint: kubectl localmodel explain llama says why.\n"
    )


async def test_waiting_ends_when_one_stalls_if_that_is_asked(
    env: dict[str, str], cluster: Cluster
) -> None:
    running = asyncio.create_task(run("wait", "llama", "--fail-fast", "--timeout", "0", env=env))
    await asyncio.sleep(0.5)
    assert not running.done(), "llama is only Reconciling"
    cluster.report("b", failed("llama", "AccessDenied", "403"))
    cluster.settle()
    ended = await running
    assert ended.code == 4
    assert ended.err == "Not Ready: llama.\nHint: kubectl localmodel explain llama says why.\n"


async def test_a_reader_that_goes_away_is_no_error(env: dict[str, str]) -> None:
    command = f"{' '.join(PROGRAM)} status -o json; echo code $? >&2"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"({command}) | true",
        env=environment(**env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert err.decode() in ("code 141\n", "code 0\n")  # small output may fit into the pipe before


async def test_help_loads_neither_cluster_nor_models() -> None:
    code = (
        "import sys; from controller.cli import commands; "
        "print({'aiohttp', 'pydantic', 'yaml', 'rich', 'shared.kube.client'} & set(sys.modules))"
    )
    ended = await run_process((sys.executable, "-c", code))
    assert ended.out == "set()\n"
