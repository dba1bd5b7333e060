"""Whatever bytes an archive consists of: it is unpacked as its writer meant, or refused; nothing else happens."""

import gzip
import tempfile
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Stalled
from agent.manifest import ArchiveKind
from agent.storage.archive import unpack
from shared.domain.reasons import Reason
from tests.support.archives import tar_files, zip_files
from tests.support.trees import read_files

names = st.lists(
    st.text(
        st.characters(
            min_codepoint=33,
            max_codepoint=0x2FFF,
            exclude_characters="/\\",
            exclude_categories=["C"],
        ),
        min_size=1,
        max_size=60,
    ),
    min_size=1,
    max_size=4,
).map("/".join)
contents = st.dictionaries(names, st.binary(max_size=2000), min_size=1, max_size=6)
kinds = st.sampled_from(list(ArchiveKind))
REASONS = {None, Reason.UNSAFE_PATH, Reason.ARCHIVE_INVALID, Reason.ARCHIVE_TOO_LARGE}


def pack(content: dict[str, bytes], kind: ArchiveKind) -> bytes:
    match kind:
        case ArchiveKind.TAR:
            return tar_files(content)
        case ArchiveKind.TAR_GZ:
            return gzip.compress(tar_files(content), 1)
        case ArchiveKind.ZIP:
            return zip_files(content)


def outcome(packed: bytes, kind: ArchiveKind) -> dict[str, bytes] | None:
    """What was unpacked, or None when it was refused; the neighbours are looked at."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "archive").write_bytes(packed)
        (root / "into").mkdir()
        found: dict[str, bytes] | None = None
        reason: Reason | None = None
        try:
            files = unpack(
                root / "archive",
                kind,
                root / "into",
                limit_bytes=1 << 20,
                cancelled=threading.Event(),
            )
        except Stalled as refused:
            reason = refused.reason
        else:
            found = read_files(root / "into")
            assert {file.path: file.size for file in files} == {
                path: len(data) for path, data in found.items()
            }
        assert reason in REASONS
        assert sorted(path.name for path in root.iterdir()) == ["archive", "into"]
        return found


def collides(content: dict[str, bytes]) -> bool:
    return any(
        other.startswith(f"{path}/") for path in content for other in content if path != other
    )


@settings(deadline=None)
@given(contents, kinds)
def test_what_was_packed_is_unpacked(content: dict[str, bytes], kind: ArchiveKind) -> None:
    odd = any(part in {".", ".."} for path in content for part in path.split("/"))
    too_long = any(len(part.encode()) > 255 for path in content for part in path.split("/"))
    found = outcome(pack(content, kind), kind)
    if collides(content) or odd or too_long:
        assert found is None or not (collides(content) or too_long)
    else:
        assert found == content


@settings(deadline=None, max_examples=300)
@given(
    contents,
    kinds,
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    st.floats(0, 1),
)
def test_damaged_archives_are_unpacked_or_refused(
    content: dict[str, bytes],
    kind: ArchiveKind,
    damage: list[tuple[float, int]],
    kept: float,
) -> None:
    packed = bytearray(pack(content, kind))
    for place, value in damage:
        packed[int(place * len(packed))] = value
    outcome(bytes(packed[: int(kept * len(packed))]), kind)


@settings(deadline=None)
@given(st.binary(max_size=4000), kinds)
def test_any_bytes_are_unpacked_or_refused(packed: bytes, kind: ArchiveKind) -> None:
    outcome(packed, kind)
