"""Archives as tools write them, and as no tool would."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Mapping


def tar_of(
    entries: Iterable[tuple[tarfile.TarInfo, bytes]], *, format_: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of raw entries, in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entry(
    name: str,
    content: bytes = b"",
    *,
    type_: bytes = tarfile.REGTYPE,
    target: str = "",
    mode: int = 0o644,
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = type_, target, mode, len(content)
    return info, content


def tar_files(content: Mapping[str, bytes], *, format_: int = tarfile.PAX_FORMAT) -> bytes:
    return tar_of([entry(name, data) for name, data in content.items()], format_=format_)


def zip_of(
    entries: Iterable[tuple[str, bytes]],
    *,
    method: int = zipfile.ZIP_DEFLATED,
    mode: int = stat.S_IFREG | 0o644,
) -> bytes:
    """A zip of raw names, duplicates included."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return out.getvalue()


def zip_files(content: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return zip_of(content.items(), method=method)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type_=tarfile.SYMTYPE, target=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type_=tarfile.LNKTYPE, target=target)
