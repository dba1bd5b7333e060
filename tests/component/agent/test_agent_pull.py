import errno
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent.copying.adopt import equal_files
from shared.domain.storage_key import storage_key
from tests.component.agent.terminal import Cli, files_below
from tests.support.servers.gcs import GcsServer
from tests.support.servers.hub import STRANGER, TOKEN, HubServer
from tests.support.servers.s3 import NOBODY, S3Server
from tests.support.servers.web import WebServer
from tests.support.trees import remote_file

MODEL = {
    "config.json": b'{"a": 1}',
    "weights/ü 1.bin": random.Random(5).randbytes(768_000),
    "empty": b"",
}


def tar(files: dict[str, bytes], mode: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def stored(s3: S3Server, prefix: str, files: dict[str, bytes] | None = None) -> str:
    for name, content in (MODEL if files is None else files).items():
        s3.put("models", f"{prefix}/{name}", content)
    return f"s3://models/{prefix}"


def pulled(cli: Cli, uri: str, root: Path, *more: str) -> dict[str, bytes]:
    done = cli("pull", uri, "--root", root, *more)
    assert done.code == 0, done.err
    published = Path(done.out.strip())
    assert published == root / "models" / storage_key(uri)
    return files_below(published)


def test_a_model_from_s3_is_published_listed_verified_and_removed(
    cli: Cli, s3: S3Server, root: Path
) -> None:
    uri = stored(s3, "llama")
    stored(s3, "llama-sibling")
    assert pulled(cli, uri, root) == MODEL
    (found,) = json.loads(cli("ls", "--root", root, "-o", "json").out)
    assert found["uri"] == uri
    assert found["bytes"] == sum(map(len, MODEL.values()))
    assert found["files"] == len(MODEL)
    assert uri in cli("ls", "--root", root).out
    checked = cli("verify", "--root", root)
    assert checked.code == 0, checked.err
    assert "  ok  3 files" in checked.out
    removed = cli("rm", uri, "--root", root)
    assert removed.code == 0, removed.err
    assert json.loads(cli("ls", "--root", root, "-o", "json").out) == []
    assert files_below(root / "models") == {}


def test_a_model_that_is_there_already_moves_no_bytes(cli: Cli, s3: S3Server, root: Path) -> None:
    uri = stored(s3, "again")
    pulled(cli, uri, root)
    again = cli("pull", uri, "--root", root)
    assert again.code == 0
    assert "(0 B transferred)" in again.err


def test_a_changed_model_is_exchanged_and_only_what_changed_is_fetched(
    cli: Cli, s3: S3Server, root: Path
) -> None:
    uri = stored(s3, "changing")
    pulled(cli, uri, root)
    s3.put("models", "changing/config.json", b'{"a": 2222}')
    again = cli("pull", uri, "--root", root)
    assert again.code == 0, again.err
    assert "(11 B transferred)" in again.err
    assert files_below(root / "models" / storage_key(uri)) == {
        **MODEL,
        "config.json": b'{"a": 2222}',
    }


def test_patterns_choose_files(cli: Cli, s3: S3Server, root: Path) -> None:
    uri = stored(s3, "patterns")
    assert pulled(cli, uri, root, "--allow", "*.json", "--allow", "empty").keys() == {
        "config.json",
        "empty",
    }
    assert pulled(cli, uri, root, "--ignore", "weights/").keys() == {"config.json", "empty"}
    nothing = cli("pull", uri, "--root", root, "--allow", "*.onnx")
    assert nothing.code == 3
    assert "none of the source's 3 files matches the patterns" in nothing.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.tar", tar(MODEL, "w")),
        ("model.tar.gz", tar(MODEL, "w:gz")),
        ("model.tgz", tar(MODEL, "w:gz")),
        ("model.zip", zipped(MODEL)),
    ],
)
def test_an_archive_is_unpacked(
    cli: Cli, web: WebServer, root: Path, name: str, content: bytes
) -> None:
    web.put(name, content)
    assert pulled(cli, f"{web.url}/{name}", root) == MODEL


def test_patterns_choose_among_an_archive_s_members(cli: Cli, web: WebServer, root: Path) -> None:
    web.put("some.zip", zipped(MODEL))
    assert pulled(cli, f"{web.url}/some.zip", root, "--allow", "*.json").keys() == {"config.json"}


def test_a_single_file_comes_over_http(cli: Cli, web: WebServer, root: Path) -> None:
    web.put("one/model.onnx", MODEL["weights/ü 1.bin"])
    found = pulled(cli, f"{web.url}/one/model.onnx", root)
    assert found == {"model.onnx": MODEL["weights/ü 1.bin"]}


def test_a_model_from_gcs(gcs: GcsServer, root: Path) -> None:
    gcs.make_bucket("models")
    for name, content in MODEL.items():
        gcs.put("models", f"bert/{name}", content)
    cli = Cli(STORAGE_EMULATOR_HOST=gcs.endpoint)
    assert pulled(cli, "gs://models/bert", root, "--anonymous") == MODEL


def test_a_model_from_the_hub_at_a_revision_and_behind_a_gate(hub: HubServer, root: Path) -> None:
    first = hub.add("acme/tiny", MODEL, access="gated")
    hub.add("acme/tiny", {"config.json": b"{}"}, access="gated")
    mine = Cli(HF_ENDPOINT=hub.endpoint, MINE=TOKEN, THEIRS=STRANGER)
    token = ("--token-env", "MINE")
    assert pulled(mine, "hf://acme/tiny", root, *token, "--revision", first) == MODEL
    assert pulled(mine, "hf://acme/tiny", root, *token) == {"config.json": b"{}"}
    refused = mine("pull", f"hf://acme/tiny:{first}", "--root", root, "--token-env", "THEIRS")
    assert refused.code == 3
    assert "(AccessDenied)" in refused.err
    assert STRANGER not in refused.err


def test_a_model_from_a_folder(cli: Cli, tmp_path: Path, root: Path) -> None:
    for name, content in MODEL.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert pulled(cli, f"file://{tmp_path}/source", root) == MODEL


@pytest.mark.parametrize(
    ("uri", "code", "says"),
    [
        ("s3://models/nothing-there", 3, "(SourceNotFound)"),
        ("nonsense", 3, "sourceModelUri has no scheme"),
        ("gopher://host/model", 3, "no source serves gopher://"),
        ("http://127.0.0.1:9/model.bin", 1, "(SourceUnreachable)"),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(
    cli: Cli, root: Path, uri: str, code: int, says: str
) -> None:
    done = cli("pull", uri, "--root", root, "--retries", "0", "--quiet")
    assert done.code == code
    assert says in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_wrong_keys_are_refused_and_never_shown(s3: S3Server, root: Path) -> None:
    stranger = Cli(
        AWS_ACCESS_KEY_ID=NOBODY.access_key_id,
        AWS_SECRET_ACCESS_KEY=NOBODY.secret_access_key,
        AWS_ENDPOINT_URL_S3=s3.endpoint,
    )
    done = stranger("pull", stored(s3, "secret"), "--root", root)
    assert done.code == 3
    assert "(AccessDenied)" in done.err
    assert NOBODY.secret_access_key not in done.err


def test_a_failure_that_may_pass_is_tried_again(cli: Cli, root: Path) -> None:
    done = cli("pull", "http://127.0.0.1:9/model.bin", "--root", root, "--retries", "1")
    assert done.code == 1
    assert "attempt 1 of 2, again in" in done.err


def test_wrong_usage_is_told_from_failure(cli: Cli, root: Path) -> None:
    assert cli("pull", "s3://models/x").code == 2
    assert cli("pull", "s3://models/x", "--root", root, "--token-env", "ABSENT").code == 2
    assert cli("pull", "s3://models/x", "--root", root, "--max-rate", "fast").code == 2
    assert cli("ls", "--root", root / "absent").code == 2


def test_damage_is_found_and_repaired_by_fetching_only_what_is_damaged(
    cli: Cli, s3: S3Server, root: Path
) -> None:
    uri = stored(s3, "damaged")
    pulled(cli, uri, root)
    folder = root / "models" / storage_key(uri)
    (folder / "config.json").write_bytes(b'{"a": 9}')
    found = cli("verify", uri, "--root", root)
    assert found.code == 5
    assert found.out.strip().endswith("damaged  config.json")
    again = cli("pull", uri, "--root", root)
    assert again.code == 0, again.err
    assert "(8 B transferred)" in again.err
    assert files_below(folder) == MODEL
    assert cli("verify", "--root", root).code == 0


def evil_tar(name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        content = b"" if target else b"evil"
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (evil_tar("../outside"), "outside"),
        (evil_tar("/tmp/absolute"), "absolute"),
        (evil_tar("link", kind=tarfile.SYMTYPE, target="/etc/passwd"), "link"),
        (evil_tar("link", kind=tarfile.SYMTYPE, target="../../x"), "link"),
        (evil_tar("pipe", kind=tarfile.FIFOTYPE), "pipe"),
    ],
)
def test_an_evil_archive_is_refused_naming_the_entry_and_nothing_leaves_staging(
    cli: Cli, web: WebServer, tmp_path: Path, root: Path, content: bytes, says: str
) -> None:
    web.put("evil.tar", content)
    done = cli("pull", f"{web.url}/evil.tar", "--root", root, "--quiet")
    assert done.code == 3, done.err
    assert re.search(rf"{says}.*\((UnsafePath|ArchiveInvalid)\)", done.err)
    assert files_below(root / "models") == {}
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_an_archive_that_unpacks_to_much_more_than_itself_is_refused(
    cli: Cli, web: WebServer, root: Path
) -> None:
    web.put("bomb.tar.gz", tar({"zeros": bytes(32 << 20)}, "w:gz"))
    done = cli("pull", f"{web.url}/bomb.tar.gz", "--root", root, "--quiet")
    assert done.code == 3
    assert "(ArchiveTooLarge)" in done.err
    assert files_below(root / "models") == {}


def test_resolve_tells_size_and_files_and_writes_nothing(
    cli: Cli, s3: S3Server, tmp_path: Path
) -> None:
    uri = stored(s3, "planned")
    told = json.loads(cli("resolve", uri, "--json").out)
    assert told["bytes"] == sum(map(len, MODEL.values()))
    assert {file["path"] for file in told["files"]} == MODEL.keys()
    assert told["storageKey"] == storage_key(uri)
    assert told["revision"]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_of_somebody_else_is_adopted_when_it_is_equal(
    cli: Cli, s3: S3Server, root: Path
) -> None:
    equal = {name: content for name, content in MODEL.items() if content}
    uri = stored(s3, "adopted", equal)
    folder = root / "models" / storage_key(uri)
    for name, content in equal.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    done = cli("pull", uri, "--root", root)
    assert done.code == 0, done.err
    assert "(0 B transferred)" in done.err
    assert files_below(folder) == equal


def test_what_kserves_downloader_left_of_a_hub_model_is_adopted_with_its_notes(
    cli: Cli, hub: HubServer, root: Path
) -> None:
    model = {"config.json": b"{}", "sub/weights.safetensors": os.urandom(100_000)}
    hub.add("kserve/llama", model)
    folder = root / "models" / storage_key("hf://kserve/llama")
    # A process of its own: in this one the library's client may be the agent's.
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from huggingface_hub import snapshot_download as f; f('kserve/llama', local_dir=sys.argv[1], token=False)",
            str(folder),
        ],
        check=True,
        timeout=60,
        env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"},
    )
    notes = files_below(folder).keys() - model.keys()
    assert notes
    cli.environment["HF_ENDPOINT"] = hub.endpoint
    done = cli("pull", "hf://kserve/llama", "--root", root)
    assert done.code == 0, done.err
    assert "(0 B transferred)" in done.err
    assert files_below(folder).keys() == model.keys() | notes
    (listed,) = json.loads(cli("ls", "--root", root, "-o", "json").out)
    assert listed["files"] == len(model)
    assert cli("verify", "--root", root).code == 0


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_read_is_not_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    wanted = (remote_file("config.json", b"{}"),)
    assert equal_files(tmp_path, wanted, lambda: False) is not None

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("agent.copying.adopt.hash_file", "pathlib.Path.iterdir"):
        with monkeypatch.context() as patched:
            patched.setattr(name, refuse)
            assert equal_files(tmp_path, wanted, lambda: False) is None


def test_an_existing_folder_that_differs_is_replaced_and_others_are_not_touched(
    cli: Cli, s3: S3Server, root: Path
) -> None:
    uri = stored(s3, "replaced")
    folder = root / "models" / storage_key(uri)
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"else")
    (root / "models" / "notes").mkdir()
    (root / "models" / "notes" / "mine.txt").write_bytes(b"keep")
    assert pulled(cli, uri, root) == MODEL
    assert files_below(root / "models" / "notes") == {"mine.txt": b"keep"}
