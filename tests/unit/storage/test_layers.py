"""Layers over each other: what an upper one replaces or removes never comes to be."""

import io
import tarfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent.errors import Stalled
from agent.manifest import ArchiveKind, Layer, Strength
from agent.storage.layers import unpack_layers
from agent.storage.tree import TreeFile
from shared.domain.reasons import Reason


def tar(files: Mapping[str, bytes | str]) -> bytes:
    """A value that is text is the target of a link, hard with a leading `=`; a name that ends in `/` is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                hard = content.startswith("=")
                entry.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
                entry.linkname = content.removeprefix("=")
                archive.addfile(entry)
            elif name.endswith("/"):
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def unpacked(
    tmp_path: Path,
    layers: Sequence[Mapping[str, bytes | str]],
    *,
    folder: str = "models/",
    plain: Mapping[str, bytes] | None = None,
    limit: int = 1 << 20,
) -> dict[str, bytes]:
    packed, made = [], []
    source = tmp_path / "archive"
    source.mkdir()
    for number, files in enumerate(layers):
        (source / f"{number}.tar").write_bytes(tar(files))
        packed.append(TreeFile(f"{number}.tar", 1, (), "v", Strength.SHA256))
        made.append(Layer(f"{number}.tar", ArchiveKind.TAR, folder, whiteouts=True))
    for name, content in (plain or {}).items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        packed.append(TreeFile(name, len(content), (), "v", Strength.SHA256))
    into = tmp_path / "tree"
    into.mkdir()
    (into / "left-over").write_bytes(b"of an earlier attempt")
    written = unpack_layers(
        source, packed, made, into, limit_bytes=limit, cancelled=threading.Event()
    )
    found = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    assert sorted(found) == sorted(file.path for file in written)
    assert all(file.verified_by is Strength.SHA256 for file in written)
    return found


@pytest.mark.parametrize(
    ("layers", "tree"),
    [
        ([{"models/a": b"1", "models/b": b"1"}, {"models/a": b"2"}], {"a": b"2", "b": b"1"}),
        ([{"./models/a": b"1"}, {"/models/b": b"2"}], {"a": b"1", "b": b"2"}),
        ([{"models/a": b"1", "models/b": b"1"}, {"models/.wh.a": b""}], {"b": b"1"}),
        ([{"models/d/a": b"1", "models/b": b""}, {"models/.wh.d": b""}], {"b": b""}),
        (
            [
                {"models/d/a": b"1", "models/e": b""},
                {"models/d/.wh..wh..opq": b"", "models/d/b": b"2"},
            ],
            {"d/b": b"2", "e": b""},
        ),
        ([{"models/a": b"1"}, {"models/.wh.a": b""}, {"models/a": b"3"}], {"a": b"3"}),
        ([{"models/d/a": b"1"}, {"models/d": b"a file now"}], {"d": b"a file now"}),
        ([{"models/d": b"a file"}, {"models/d/a": b"a folder now"}], {"d/a": b"a folder now"}),
        ([{"models/": b"", "models/a": b"1", "etc/b": b""}], {"a": b"1"}),
        (
            [{"models/a": b"1", "models/l": "a", "models/h": "=models/a"}],
            dict.fromkeys("ahl", b"1"),
        ),
        ([{"models/l": "a"}, {"models/a": b"2"}], {"l": b"2", "a": b"2"}),
        # A hard link means what its own layer has under that name.
        (
            [{"models/a": b"old", "models/h": "=models/a"}, {"models/a": b"new"}],
            {"a": b"new", "h": b"old"},
        ),
        ([{"models/a": b"old", "models/h": "=models/a"}, {"models/.wh.a": b""}], {"h": b"old"}),
        (
            [
                {"models/a": b"old", "models/h": "=models/a", "models/i": "=models/h"},
                {"models/a": b"new", "models/h": b"newer"},
            ],
            {"a": b"new", "h": b"newer", "i": b"old"},
        ),
        ([{"models/a": b"1"}, {"models/h": "=models/a"}], {"a": b"1", "h": b"1"}),
        ([{"models/a": b"1", "models/h": b"0"}, {"models/h": "=models/a"}], {"a": b"1", "h": b"1"}),
        (
            [
                {"models/a": b"1", "models/b": "=models/a"},
                {"models/h": "=models/b", "models/a": b"2"},
            ],
            {"a": b"2", "b": b"1", "h": b"1"},
        ),
    ],
)
def test_the_uppermost_counts(
    tmp_path: Path, layers: Sequence[Mapping[str, bytes | str]], tree: dict[str, bytes]
) -> None:
    assert unpacked(tmp_path, layers) == tree


def test_plain_files_and_archives_make_one_tree(tmp_path: Path) -> None:
    found = unpacked(tmp_path, [{"d/a": b"1"}], folder="", plain={"d/b": b"2", "c": b"3"})
    assert found == {"d/a": b"1", "d/b": b"2", "c": b"3"}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"models/../up": b"x"}, Reason.UNSAFE_PATH),
        ({"models/l": "../../etc/passwd", "models/a": b""}, Reason.UNSAFE_PATH),
        ({"models/h": "=etc/passwd", "etc/passwd": b""}, Reason.ARCHIVE_INVALID),
        ({"models/a": b"", "models/h": "=models/nowhere"}, Reason.ARCHIVE_INVALID),
        ({"models/h": "=models/h"}, Reason.ARCHIVE_INVALID),
        ({"usr/lib/x": b""}, Reason.ARCHIVE_INVALID),
        ({"models/a": b"12345678901"}, Reason.ARCHIVE_TOO_LARGE),
    ],
)
def test_what_is_unsafe_missing_or_too_much_is_refused(
    tmp_path: Path, layer: Mapping[str, bytes | str], reason: Reason
) -> None:
    with pytest.raises(Stalled) as caught:
        unpacked(tmp_path, [layer], limit=10)
    assert caught.value.reason is reason
