import hashlib
import os
import zlib
from pathlib import Path

import pytest

from agent.manifest import Algorithm, Digest
from agent.transfer.checksums import (
    HashingCancelled,
    crc_text,
    hash_file,
    is_combinable,
    join,
    new_hasher,
)

CONTENT = b"123456789"
# CRC-32C and CRC-64/NVME of "123456789": the catalogues' check values.
CHECKS = {
    Algorithm.SHA256: hashlib.sha256(CONTENT).hexdigest(),
    Algorithm.GIT_SHA1: hashlib.sha1(b"blob 9\0" + CONTENT).hexdigest(),
    Algorithm.MD5: hashlib.md5(CONTENT).hexdigest(),
    Algorithm.CRC32: f"{zlib.crc32(CONTENT):08x}",
    Algorithm.CRC32C: "e3069283",
    Algorithm.CRC64NVME: "ae8b14860a799888",
}


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_file_has_the_digest_that_the_standard_says(algorithm: Algorithm, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    assert hash_file(path, [algorithm], lambda: False) == (Digest(algorithm, CHECKS[algorithm]),)


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if is_combinable(a)])
def test_crcs_of_parts_join_to_that_of_the_whole(algorithm: Algorithm) -> None:
    content = os.urandom(1000)
    parts = [content[:1], content[1:700], b"", content[700:]]
    values = []
    for part in parts:
        hasher = new_hasher(algorithm, len(part))
        hasher.update(part)
        values.append((int(hasher.hexdigest(), 16), len(part)))
    whole = new_hasher(algorithm, len(content))
    whole.update(content)
    assert crc_text(algorithm, join(algorithm, values)) == whole.hexdigest()


def test_hashing_stops_when_told(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    with pytest.raises(HashingCancelled):
        hash_file(path, [Algorithm.MD5], lambda: True)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    with pytest.raises(OSError, match="symbolic links"):
        hash_file(tmp_path / "link", [Algorithm.MD5], lambda: False)
