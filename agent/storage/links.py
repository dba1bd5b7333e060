"""Where the symlinks of an archive lead, judged by the archive's own entries and never by what is on the disk. Pure."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from agent.storage.member import invalid, shown, unsafe

# As many links on one path as Linux follows.
_HOPS = 40


def resolve(
    links: Mapping[str, str], files: Collection[str], folders: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Pairs (new path, file that it is to be a hard link of), for links to files and then for every file below a linked folder.

    Raises `Stalled` for a link that leaves the archive, leads nowhere, runs in a circle, or names a folder that
    holds further folder links (or the link itself), which could multiply without end.
    """
    ends = {path: _end(links, path) for path in links}
    names = set(files)
    to_folder = {}
    for path, end in ends.items():
        if end in names:
            yield path, end
        elif end in folders:
            to_folder[path] = end
        else:
            raise invalid(f"link {shown(path)} leads to {shown(end)}, which is not in it")
    everything = names | (ends.keys() - to_folder.keys())
    for path, end in to_folder.items():
        below = f"{end}/" if end else ""
        for other in to_folder:
            if other.startswith(below):
                raise invalid(
                    f"link {shown(path)} leads to a folder that holds the folder link {shown(other)}"
                )
        for file in sorted(everything):
            if file.startswith(below):
                yield f"{path}/{file[len(below) :]}", file


def _end(links: Mapping[str, str], path: str) -> str:
    """The path with every link on it replaced, as the kernel would within the archive's folder."""
    pending = deque(path.split("/"))
    real: list[str] = []
    hops = 0
    while pending:
        name = pending.popleft()
        if name in {"", "."}:
            continue
        if name == "..":
            if not real:
                raise unsafe(f"link {shown(path)} leaves its folder")
            real.pop()
            continue
        real.append(name)
        target = links.get("/".join(real))
        if target is None:
            continue
        hops += 1
        if hops > _HOPS:
            raise invalid(f"link {shown(path)} runs in a circle")
        if target.startswith("/") or "\0" in target or not target:
            raise unsafe(f"link {shown(path)} leads to {shown(target)}, outside its folder")
        real.pop()
        pending.extendleft(reversed(target.split("/")))
    return "/".join(real)
