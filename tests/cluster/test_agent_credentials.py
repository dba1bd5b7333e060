"""Credentials as users name them: by ServiceAccount, by storage-config, missing, wrong, corrected."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared.domain.storage_key import storage_key
from tests.cluster.worklist import WorkList, account, files_below, metric, model, secret
from tests.support.cluster import AGENTS_NAMESPACE, CREDENTIALS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.programs import Agent
from tests.support.servers.s3 import NOBODY, PUBLIC_BUCKET, READER, Keys, S3Server

StartAgent = Callable[..., tuple[Agent, WorkList]]
FILES = {"config.json": b"{}", "weights.bin": b"w" * 100_000}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        for name, content in FILES.items():
            server.put("models", f"llama/{name}", content)
            server.put(PUBLIC_BUCKET, f"llama/{name}", content)
        yield server


@pytest.fixture
def start_agent(control_plane: ControlPlane, folder: Path, s3: S3Server) -> Iterator[StartAgent]:
    with ExitStack() as stack:

        def start(node: str, **settings: Any) -> tuple[Agent, WorkList]:
            control_plane.add_node(node)
            stack.callback(control_plane.remove_node, node)
            agent = Agent(
                control_plane,
                folder,
                node=node,
                settings=settings,
                environment={
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "AWS_ENDPOINT_URL_S3": s3.endpoint,
                },
            )
            stack.callback(agent.kill)
            agent.start_ready()
            return agent, WorkList(control_plane, node)

        yield start


def keys_secret(name: str, keys: Keys, s3: S3Server) -> dict[str, Any]:
    return secret(
        name,
        {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        },
        {
            "serving.kserve.io/s3-endpoint": s3.endpoint.removeprefix("http://"),
            "serving.kserve.io/s3-usehttps": "0",
            "serving.kserve.io/s3-region": "us-east-1",
        },
    )


def entry(s3: S3Server, keys: Keys) -> str:
    return json.dumps(
        {
            "type": "s3",
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "endpoint_url": s3.endpoint,
            "region": "us-east-1",
        }
    )


def everything_said(agent: Agent, work: WorkList) -> str:
    return "\n".join(
        (
            agent.output(),
            json.dumps(work.read()),
            agent.get("/metrics")[1],
            agent.get("/debug/state")[1],
        )
    )


def test_a_service_account_s_secret_opens_the_bucket(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    control_plane.apply(keys_secret("sa-keys", READER, s3), account("sa-reader", "sa-keys"))
    agent, work = start_agent("credentials-account")
    work.set(model("llama", "s3://models/llama", serviceAccountName="sa-reader"))
    work.wait_downloaded("llama")
    assert files_below(agent.models / storage_key("s3://models/llama")) == FILES
    assert READER.secret_access_key not in everything_said(agent, work)


def test_an_entry_of_storage_config_opens_the_bucket_and_parameters_override_it(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    broken = json.dumps({**json.loads(entry(s3, READER)), "region": "nowhere"})
    control_plane.apply(secret("storage-config", {"good": entry(s3, READER), "odd": broken}))
    agent, work = start_agent("credentials-storage")
    storage = {"key": "odd", "parameters": {"region": "us-east-1"}}
    work.set(
        model("llama", "s3://models/llama", storage={"key": "good"}),
        model("again", "s3://models/llama/", storage=storage),
    )
    work.wait_downloaded("llama")
    work.wait_downloaded("again")
    assert READER.secret_access_key not in everything_said(agent, work)


def test_a_storage_key_without_an_entry_names_a_secret(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    control_plane.apply(keys_secret("by-name", READER, s3))
    agent, work = start_agent("credentials-by-name")
    storage = {"key": "by-name", "parameters": {"region": "us-east-1"}}
    work.set(
        model("llama", "s3://models/llama", storage=storage),
        model("other", "s3://models/llama/", storage={"key": "no-name"}),
    )
    work.wait_downloaded("llama")
    found = work.wait_report("other", state="ModelDownloadError", reason="CredentialsMissing")
    assert found["message"].startswith(
        "neither an entry 'no-name' of Secret 'storage-config' nor a Secret of that name is in"
    )
    control_plane.apply(keys_secret("no-name", READER, s3))
    work.wait_downloaded("other")
    assert READER.secret_access_key not in everything_said(agent, work)


def test_a_missing_account_stalls_the_copy_until_somebody_makes_it(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    _, work = start_agent("credentials-missing")
    uri = f"s3://{PUBLIC_BUCKET}/llama"
    work.set(model("llama", uri, serviceAccountName="late-reader"))
    found = work.wait_report("llama", state="ModelDownloadError", reason="CredentialsMissing")
    assert "ServiceAccount 'late-reader'" in found["message"]
    assert found["nextRetryTime"]
    control_plane.apply(account("late-reader", "late-keys"))
    work.wait(
        lambda s: "Secret 'late-keys'" in (s.get("models") or [{}])[0].get("message", ""),
        "the missing secret's name",
    )
    control_plane.apply(keys_secret("late-keys", NOBODY, s3))
    work.wait_report("llama", reason="AccessDenied")
    control_plane.apply(keys_secret("late-keys", READER, s3))
    # READER may not read the public bucket either; nobody is ever tried anonymously instead.
    work.set(model("llama", "s3://models/llama", serviceAccountName="late-reader"))
    work.wait_downloaded("llama")


def test_wrong_keys_are_denied_and_corrected_ones_are_noticed(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    control_plane.apply(keys_secret("wrong-keys", NOBODY, s3), account("wrong", "wrong-keys"))
    agent, work = start_agent("credentials-wrong")
    work.set(model("llama", "s3://models/llama", serviceAccountName="wrong"))
    work.wait_report("llama", state="ModelDownloadError", reason="AccessDenied")
    control_plane.apply(keys_secret("wrong-keys", READER, s3))
    work.wait_downloaded("llama")
    assert NOBODY.secret_access_key not in everything_said(agent, work)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("half", {"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY"),
        ("json", {"gcloud-application-credentials.json": "{"}, "gcloud-application-credentials"),
    ],
)
def test_malformed_credentials_are_named_by_their_key(
    start_agent: StartAgent,
    control_plane: ControlPlane,
    name: str,
    values: dict[str, str],
    says: str,
) -> None:
    control_plane.apply(secret(f"bad-{name}", values), account(f"bad-{name}", f"bad-{name}"))
    _, work = start_agent(f"credentials-bad-{name}")
    work.set(model("llama", "s3://models/llama", serviceAccountName=f"bad-{name}"))
    found = work.wait_report("llama", state="ModelDownloadError", reason="CredentialsInvalid")
    assert says in found["message"]


def test_a_cache_whose_credentials_are_refused_gets_nothing_although_the_bytes_are_there(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    control_plane.apply(
        keys_secret("rich-keys", READER, s3),
        account("rich", "rich-keys"),
        keys_secret("poor-keys", NOBODY, s3),
        account("poor", "poor-keys"),
    )
    _, work = start_agent("credentials-refused")
    rich = model("rich", "s3://models/llama", serviceAccountName="rich")
    work.set(rich)
    work.wait_downloaded("rich")
    work.set(rich, model("poor", "s3://models/llama", namespace="team", serviceAccountName="poor"))
    work.wait_report("team/poor", state="ModelDownloadError", reason="AccessDenied")
    assert work.report("rich")["state"] == "ModelDownloaded"
    control_plane.apply(keys_secret("poor-keys", READER, s3))
    work.wait_downloaded("team/poor")


def test_a_namespace_may_keep_the_credentials_of_its_caches(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    team = {"namespace": "keeps-its-own"}
    control_plane.kubectl("create", "namespace", "keeps-its-own")
    for item in (keys_secret("own-keys", READER, s3), account("own", "own-keys")):
        control_plane.apply({**item, "metadata": {**item["metadata"], **team}})
    _, work = start_agent("credentials-own", namespace_credentials="own")
    work.set(
        model("mine", "s3://models/llama", serviceAccountName="own", **team),
        model("everybodys", "s3://models/llama/", serviceAccountName="own"),
    )
    found = work.wait_report("keeps-its-own/mine", state="ModelDownloadError")
    assert found["reason"] == "CredentialsMissing"
    assert "bind ClusterRole localmodel-credentials-reader" in found["message"]
    control_plane.kubectl(
        "create", "rolebinding", "own-credentials", "-n", "keeps-its-own",
        "--clusterrole=localmodel-credentials-reader",
        f"--serviceaccount={AGENTS_NAMESPACE}:localmodel-agent",
    )  # fmt: skip
    work.wait_downloaded("keeps-its-own/mine")
    # A cache of the whole cluster has its credentials where they always were.
    found = work.wait_report("everybodys", state="ModelDownloadError")
    assert f"in namespace {CREDENTIALS_NAMESPACE!r} does not exist" in found["message"]


def test_keys_that_are_rotated_while_a_copy_runs_do_not_stop_it(
    start_agent: StartAgent, control_plane: ControlPlane, s3: S3Server
) -> None:
    new = Keys("NEWREADERNEWREADER01", "new-reader-secret-canary-11bb")
    body = os.urandom(24 << 20)
    s3.put("models", "slow/weights", body)
    control_plane.apply(keys_secret("old-keys", READER, s3), account("rotated", "old-keys"))
    agent, work = start_agent(
        "credentials-rotated", max_bytes_per_second=3 << 20, part_size_mib=1, progress_seconds=0.5
    )
    try:
        work.set(model("slow", "s3://models/slow", serviceAccountName="rotated"))
        work.wait(
            lambda s: (s.get("models") or [{}])[0].get("bytesDone", 0) > 4 << 20, "some progress"
        )
        control_plane.apply(keys_secret("old-keys", new, s3))
        s3.rotate(new)
        work.wait_downloaded("slow")
    finally:
        s3.rotate(READER)
    found = files_below(agent.models / storage_key("s3://models/slow"))
    assert found == {"weights": body}
    assert "AccessDenied" not in agent.output()
    assert new.secret_access_key not in everything_said(agent, work)
    assert metric(agent.get("/metrics")[1], "localmodel_agent_transferred_bytes_total") < 26 << 20
