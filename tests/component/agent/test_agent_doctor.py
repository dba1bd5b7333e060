"""`doctor` finds what would hinder copies, says what to do, and changes nothing."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.domain.reason_table import TABLE
from shared.domain.reasons import Reason
from tests.component.agent.terminal import Cli, Ended
from tests.support.faults import FaultServer, Reply, Request
from tests.support.mounts import remount, tmpfs
from tests.support.servers.s3 import NOBODY, READER, S3Server
from tests.support.servers.web import WebServer

MIB = 1 << 20
Findings = dict[str, dict[str, Any]]
Look = Callable[..., tuple[Ended, Findings]]


@pytest.fixture
def look(cli: Cli) -> Look:
    """Runs it and reads its JSON, by check."""

    def run(*arguments: str | Path, program: Cli = cli) -> tuple[Ended, Findings]:
        done = program("doctor", *arguments, "-o", "json")
        assert done.out, done.err
        findings = {one["check"]: one for one in json.loads(done.out)}
        for one in findings.values():
            assert (one["level"] == "ok") == (one["advice"] == ""), one
        assert (done.code == 0) == all(one["level"] != "fail" for one in findings.values())
        return done, findings

    return run


@pytest.fixture
def used(cli: Cli, web: WebServer, root: Path) -> Path:
    """A folder with a model."""
    web.put("doctor.bin", os.urandom(MIB))
    assert cli("pull", f"{web.url}/doctor.bin", "--root", root).code == 0
    return root


def everything(folder: Path) -> dict[str, tuple[int, ...]]:
    """All that would tell a change; reading may move access times."""
    return {
        str(path): (s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        for path in sorted([folder, *folder.rglob("*")])
        for s in [path.lstat()]
    }


def test_where_all_is_well_each_check_says_what_it_found_and_nothing_is_changed(
    cli: Cli, look: Look, s3: S3Server, used: Path
) -> None:
    s3.put("models", "healthy/config.json", b"{}")
    before = everything(used)
    done, found = look("s3://models/healthy", "--root", used)
    assert done.code == 0, done.out
    assert everything(used) == before
    assert set(found) == {
        "folder", "permissions", "disk", "space", "speed", "memory", "open files", "DNS", "connection", "clock", "source", "room",
    }  # fmt: skip
    assert "nobody is seen to use it" in found["folder"]["found"]
    assert "B/s" in found["speed"]["found"]
    assert s3.endpoint in found["connection"]["found"]
    assert found["source"]["found"].startswith("gives 1 file, 2 B, revision ")
    told = cli("doctor", "s3://models/healthy", "--root", used)
    assert told.code == 0
    assert len(told.out.splitlines()) >= len(found)
    assert all(any(name in line for line in told.out.splitlines()) for name in found)


def test_beside_a_program_that_serves_the_folder_it_names_that_program(
    look: Look, used: Path
) -> None:
    with (used / ".localmodel" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done, found = look("--root", used)
    assert done.code == 0
    assert f"in use by process {os.getpid()} (" in found["folder"]["found"]


def test_a_folder_that_is_not_there_yet_is_no_failure_and_is_not_made(
    look: Look, root: Path
) -> None:
    done, found = look("--root", root)
    assert done.code == 0
    assert found["folder"]["level"] == "warn"
    assert "is the disk mounted" in found["folder"]["advice"]
    assert not root.exists()


def test_a_folder_that_lost_its_marker_is_told(look: Look, used: Path) -> None:
    (used / ".localmodel" / "VERSION").unlink()
    done, found = look("--root", used)
    assert done.code == 4
    assert "holds manifests but not the marker" in found["folder"]["found"]
    assert "Is the right disk mounted?" in found["folder"]["advice"]


def test_a_folder_of_another_version_is_told(look: Look, used: Path) -> None:
    (used / ".localmodel" / "VERSION").write_text('{"owner": "localmodel", "layout": 9}\n')
    done, found = look("--root", used)
    assert done.code == 4
    assert "has layout 9, this version knows 1" in found["folder"]["found"]


def _without_roots_rights(cli: Cli, root: Path) -> subprocess.CompletedProcess[str]:
    """As a user who may not read and write everything, as root otherwise may."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("giving away folders takes root")
    less = "-dac_override,-dac_read_search"
    return subprocess.run(
        ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}", sys.executable, "-m", "agent.cli", "doctor", "--root", root],
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip


def test_a_folder_of_somebody_else_is_told_with_the_command_that_mends_it(
    cli: Cli, used: Path
) -> None:
    os.chown(used, 4321, 4321)
    done = _without_roots_rights(cli, used)
    assert done.returncode == 4, done.stderr
    assert f"{used} is 4321:4321" in done.stdout
    assert f"`chown 0:4321 {used}`" in done.stdout


def test_a_folder_below_a_closed_one_is_told(cli: Cli, used: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    used.rename(closed / "cache")
    os.chown(closed, 4321, 4321)
    done = _without_roots_rights(cli, closed / "cache")
    assert done.returncode == 4, done.stderr
    assert "cannot be reached by user 0" in done.stdout


def test_a_group_that_is_not_the_settings_one_is_told(look: Look, used: Path) -> None:
    config = used.parent / "agent.yaml"
    config.write_text(yaml.safe_dump({"root": str(used), "gid": 2345}))
    done, found = look("--config", config)
    assert done.code == 0
    assert found["permissions"]["level"] == "warn"
    assert f"`chgrp 2345 {used / 'models'}`" in found["permissions"]["advice"]
    (used / "models").chmod(0o755)
    _, found = look("--root", used)
    assert f"`chmod g+s {used / 'models'}`" in found["permissions"]["advice"]


def test_a_read_only_disk_is_told(cli: Cli, look: Look, web: WebServer, tmp_path: Path) -> None:
    web.put("tiny.bin", b"1")
    with tmpfs(tmp_path / "disk", "size=64m") as disk:
        assert cli("pull", f"{web.url}/tiny.bin", "--root", disk).code == 0
        remount(disk, "ro")
        done, found = look("--root", disk)
    assert done.code == 4
    assert "mounted read-only" in found["permissions"]["found"]
    assert "speed" not in found
    assert found["disk"]["found"].startswith("tmpfs of tmpfs, mounted at ")
    assert "It is memory" in found["disk"]["advice"]


def test_a_full_disk_and_one_without_inodes_are_told(look: Look, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=8m,nr_inodes=20") as disk:
        (disk / "other").write_bytes(bytes(7 * MIB + MIB // 2))
        done, found = look("--root", disk)
        assert done.code == 0
        assert found["space"]["level"] == "warn"
        assert found["speed"]["level"] == "warn"
        for number in range(30):
            if os.statvfs(disk).f_favail:
                (disk / f"file-{number}").touch()
        done, found = look("--root", disk)
        assert done.code == 4
        assert ", 0 inodes" in found["space"]["found"]
        with pytest.raises(OSError, match="No space"), (disk / "other").open("ab") as file:
            file.write(bytes(MIB))
        done, found = look("--root", disk)
        assert done.code == 4
        assert found["space"]["found"].startswith("0 B of 8.0 MiB free")


def test_what_models_must_leave_free_counts(look: Look, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    with tmpfs(tmp_path / "disk", "size=64m") as disk:
        config.write_text(yaml.safe_dump({"root": str(disk), "min_free_percent": 60}))
        (disk / "other").write_bytes(bytes(30 * MIB))
        done, found = look("--config", config)
    assert done.code == 4
    assert "38.4 MiB stay free" in found["space"]["found"]


def test_a_model_that_is_too_large_for_the_disk_is_told(
    look: Look, web: WebServer, tmp_path: Path
) -> None:
    web.put("twelve.bin", os.urandom(12 * MIB))
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        done, found = look(f"{web.url}/twelve.bin", "--root", disk)
    assert done.code == 3
    assert found["room"]["found"] == "the model takes 12.0 MiB, 8.0 MiB can be used"


def test_an_unknown_host_is_told(look: Look, root: Path) -> None:
    done, found = look("https://nobody.invalid/model.bin", "--root", root)
    assert done.code == 3
    assert found["DNS"]["found"].startswith("nobody.invalid has no address: ")
    assert "/etc/resolv.conf" in found["DNS"]["advice"]
    assert "source" not in found


def test_nobody_who_answers_is_told(look: Look, root: Path) -> None:
    done, found = look("http://127.0.0.1:9/model.bin", "--root", root)
    assert done.code == 3
    assert found["DNS"]["level"] == "ok"
    assert found["connection"]["found"].endswith(f"({Reason.SOURCE_UNREACHABLE})")
    assert found["connection"]["advice"] == TABLE[Reason.SOURCE_UNREACHABLE].action


def test_a_certificate_that_nobody_vouches_for_is_told(
    look: Look, web: WebServer, root: Path
) -> None:
    web.put("secure.bin", b"1")
    done, found = look(f"{web.tls_url}/secure.bin", "--root", root)
    assert done.code == 3
    assert "the certificate of localhost is not trusted" in found["connection"]["found"]
    trusting = Cli(SSL_CERT_FILE=str(web.authority))
    done, found = look(f"{web.tls_url}/secure.bin", "--root", root, program=trusting)
    assert done.code == 0
    assert "the certificate is trusted" in found["connection"]["found"]


def test_keys_that_may_not_read_are_told_with_the_tables_advice(
    look: Look, s3: S3Server, root: Path
) -> None:
    s3.put("models", "closed/config.json", b"{}")
    stranger = Cli(
        AWS_ACCESS_KEY_ID=NOBODY.access_key_id,
        AWS_SECRET_ACCESS_KEY=NOBODY.secret_access_key,
        AWS_ENDPOINT_URL_S3=s3.endpoint,
    )
    done, found = look("s3://models/closed", "--root", root, program=stranger)
    assert done.code == 3
    assert found["connection"]["level"] == "ok"
    assert found["source"]["found"].endswith(f"({Reason.ACCESS_DENIED})")
    assert found["source"]["advice"] == TABLE[Reason.ACCESS_DENIED].action
    assert NOBODY.secret_access_key not in done.out
    given = ("--endpoint-url", s3.endpoint, "--region", "us-east-1")
    mine = Cli(
        AWS_ACCESS_KEY_ID=READER.access_key_id, AWS_SECRET_ACCESS_KEY=READER.secret_access_key
    )
    assert look("s3://models/closed", "--root", root, *given, program=mine)[0].code == 0
    absent = look("s3://models/closed", "--root", root, *given, "--anonymous", program=mine)
    assert absent[1]["source"]["level"] == "fail"


@contextmanager
def _telling(off: timedelta | None) -> Iterator[str]:
    """A source whose clock is off."""

    def answer(request: Request) -> Reply:
        head = ["HTTP/1.1 200 OK", "Content-Length: 1", 'ETag: "1"', "Connection: close"]
        if off is not None:
            head.append(f"Date: {format_datetime(datetime.now(UTC) + off, usegmt=True)}")
        return Reply(raw="\r\n".join([*head, "", ""]).encode())

    with FaultServer(answer) as server:
        yield f"{server.url}/model.bin"


@pytest.mark.parametrize(
    ("off", "level", "says"),
    [
        (timedelta(hours=1), "fail", "s behind 127.0.0.1"),
        (timedelta(hours=-1), "fail", "s ahead of 127.0.0.1"),
        (timedelta(minutes=2), "warn", "s behind 127.0.0.1"),
        (timedelta(), "ok", "agrees with 127.0.0.1"),
        (None, "ok", "not compared"),
    ],
)
def test_a_clock_that_is_wrong_is_told(
    look: Look, root: Path, off: timedelta | None, level: str, says: str
) -> None:
    with _telling(off) as url:
        done, found = look(url, "--root", root)
    assert found["clock"]["level"] == level, found
    assert says in found["clock"]["found"]
    assert done.code == (3 if level == "fail" else 0)
    assert found["source"]["level"] == "ok"


def test_with_an_agents_configuration_its_rules_count(
    look: Look, web: WebServer, root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(yaml.safe_dump({"root": str(root)}))
    web.put("near.bin", b"1")
    done, found = look(f"{web.url}/near.bin", "--config", config)
    assert done.code == 3
    assert found["connection"]["found"].endswith(f"({Reason.SOURCE_NOT_ALLOWED})")
    assert "allowed_networks" in found["connection"]["advice"]
    config.write_text(yaml.safe_dump({"root": str(root), "allowed_networks": ["127.0.0.0/8"]}))
    assert look(f"{web.url}/near.bin", "--config", config)[0].code == 0


def test_few_open_files_and_a_bad_uri_are_told(cli: Cli, look: Look, root: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 200; exec {sys.executable} -m agent.cli doctor --root {root}"],
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "at most 200; copies at full speed need about 640" in done.stdout
    assert "`ulimit -n 640`" in done.stdout
    for uri, reason in (
        ("nonsense", Reason.INVALID_SOURCE),
        ("gopher://host/model", Reason.UNSUPPORTED_SCHEME),
        ("file:///not/there", Reason.SOURCE_NOT_FOUND),
    ):
        ended, found = look(uri, "--root", root)
        assert ended.code == 3
        assert found["source"]["found"].endswith(f"({reason})")


def test_a_source_alone_can_be_looked_at(look: Look, web: WebServer) -> None:
    web.put("alone.bin", b"1")
    done, found = look(f"{web.url}/alone.bin")
    assert done.code == 0
    assert set(found) == {"memory", "open files", "DNS", "connection", "clock", "source"}


def test_wrong_usage_is_told_from_failure(cli: Cli, tmp_path: Path) -> None:
    assert cli("doctor").code == 2
    config = tmp_path / "agent.yaml"
    config.write_text("rooot: /x\n")
    wrong = cli("doctor", "--config", config)
    assert wrong.code == 2
    assert "rooot" in wrong.err
    assert cli("doctor", "--root", tmp_path, "-o", "xml").code == 2
