"""A folder to unpack archives into, and who lives next to it."""

import gzip
import os
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.errors import Stalled
from agent.manifest import ArchiveKind
from agent.storage.archive import unpack
from agent.storage.tree import TreeFile
from shared.domain.reasons import Reason
from tests.support.archives import tar_files, zip_files

TAR, TAR_GZ, ZIP = ArchiveKind.TAR, ArchiveKind.TAR_GZ, ArchiveKind.ZIP
MIB = 1 << 20
MODEL = {
    "config.json": b"{}",
    "1/model.onnx": os.urandom(3 * MIB + 17),
    "empty": b"",
    "a/déjà/模型.bin": b"unicode",
    "x" * 120 + "/" + "y" * 200: b"long names",
}


class Bench:
    """A folder to unpack into, with neighbours that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.into = root / "staging" / "tree"
        self.into.mkdir(parents=True)
        (root / "staging" / "journal").write_bytes(b"neighbour")

    def unpack(
        self,
        content: bytes,
        kind: ArchiveKind = ArchiveKind.TAR,
        *,
        limit_bytes: int = 64 * MIB,
        max_entries: int = 1000,
    ) -> tuple[TreeFile, ...]:
        packed = self.root / "archive"
        packed.write_bytes(content)
        return unpack(
            packed,
            kind,
            self.into,
            limit_bytes=limit_bytes,
            max_entries=max_entries,
            cancelled=threading.Event(),
        )

    def refuse(
        self, content: bytes, kind: ArchiveKind, reason: Reason, *mentions: str, **limits: int
    ) -> None:
        with pytest.raises(Stalled) as caught:
            self.unpack(content, kind, **limits)
        assert caught.value.reason == reason, caught.value.message
        for words in mentions:
            assert words in caught.value.message
        self.nothing_escaped()

    def nothing_escaped(self) -> None:
        assert sorted(path.name for path in self.root.iterdir()) == ["archive", "staging"]
        assert sorted(path.name for path in (self.root / "staging").iterdir()) == [
            "journal",
            "tree",
        ]
        assert (self.root / "staging" / "journal").read_bytes() == b"neighbour"


def as_tar(content: Mapping[str, bytes]) -> bytes:
    return tar_files(content)


def as_gnu(content: Mapping[str, bytes]) -> bytes:
    return tar_files(content, format_=tarfile.GNU_FORMAT)


def as_gzip(content: Mapping[str, bytes]) -> bytes:
    return gzip.compress(tar_files(content), 1)


def as_gzip_members(content: Mapping[str, bytes]) -> bytes:
    raw = tar_files(content)
    return gzip.compress(raw[:700], 1) + gzip.compress(raw[700:], 1) + b"\0" * 512


def as_zip(content: Mapping[str, bytes]) -> bytes:
    return zip_files(content)


def as_stored_zip(content: Mapping[str, bytes]) -> bytes:
    return zip_files(content, method=zipfile.ZIP_STORED)


def as_prefixed_zip(content: Mapping[str, bytes]) -> bytes:
    return b"#!/bin/sh\nexit 1\n" + zip_files(content)
