"""git's smart HTTP protocol, version 2: what references there are, and one commit without its history."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping

from agent.errors import Retryable, Stalled
from agent.sources.access import GitAccess
from agent.sources.web import LARGEST_BODY, Web
from shared.domain.reasons import Reason

_VERSION = {"Git-Protocol": "version=2"}
_SHA1 = re.compile(r"[0-9a-f]{40}")
_FLUSH, _DELIMITER = b"0000", b"0001"
_PACK, _PROGRESS, _FATAL = 1, 2, 3
# Compressed, and with what goes around it.
_LARGEST_PACK = 64 << 20
# A pack is one answer, and a slow link brings it, too.
_PACK_SECONDS = 300.0


class Remote:
    """One repository."""

    def __init__(self, url: str, access: GitAccess, web: Web, what: str) -> None:
        self._url = url
        self._what = what
        self._web = web
        self.headers: Mapping[str, str] = {}
        if access.secret:
            # Forges take any name beside a token.
            pair = f"{access.user or 'git'}:{access.password}"
            self.headers = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    async def find(self, revision: str | None) -> str:
        """The object that a branch, a tag, HEAD or a commit's full name means."""
        if revision is not None and _SHA1.fullmatch(revision):
            return revision
        await self._check_version()
        wanted = (
            ["HEAD"]
            if revision is None
            else [revision, f"refs/tags/{revision}", f"refs/heads/{revision}"]
        )
        arguments = ["symrefs", "peel", *(f"ref-prefix {name}" for name in wanted)]
        found = {}
        for line in _lines(await self._command("ls-refs", arguments), self._what):
            name, _, rest = bytes(line).decode("utf-8", "surrogateescape").strip().partition(" ")
            found[rest.partition(" ")[0]] = name
        for name in wanted:
            if _SHA1.fullmatch(found.get(name, "")):
                return found[name]
        if revision is None and not found:
            raise Stalled(Reason.SOURCE_EMPTY, f"{self._what}: the repository is empty")
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"{self._what}: there is no such revision")

    async def fetch(self, name: str) -> bytearray:
        """A pack with everything that this commit (or tag) needs, and nothing older."""
        answer = await self._command(
            "fetch",
            [f"want {name}", "deepen 1", "no-progress", "done"],
            most=_LARGEST_PACK,
            seconds=_PACK_SECONDS,
        )
        pack = bytearray()
        in_pack = False
        for line in _lines(answer, self._what):
            if not in_pack:
                text = bytes(line)
                in_pack = text.rstrip(b"\n") == b"packfile"
                if text.startswith(b"ERR "):
                    raise self._refused(text[4:])
            elif line[0] == _PACK:
                pack += line[1:]
            elif line[0] == _FATAL:
                raise self._refused(bytes(line[1:]))
        return pack

    async def _check_version(self) -> None:
        answer = await self._web.request(
            "GET",
            f"{self._url}/info/refs?service=git-upload-pack",
            what=self._what,
            headers={**_VERSION, **self.headers},
        )
        lines = [bytes(line).strip() for line in _lines(answer.body, self._what)]
        if b"version 2" not in lines:
            raise Stalled(
                Reason.INVALID_SOURCE, f"{self._what}: the server does not speak git's protocol 2"
            )
        if b"object-format=sha256" in lines:
            raise Stalled(
                Reason.INVALID_SOURCE,
                f"{self._what}: repositories with SHA-256 names are not served",
            )

    async def _command(
        self,
        command: str,
        arguments: list[str],
        *,
        most: int = LARGEST_BODY,
        seconds: float | None = None,
    ) -> bytes:
        body = _line(f"command={command}") + _line("object-format=sha1") + _DELIMITER
        body += b"".join(_line(argument) for argument in arguments) + _FLUSH
        answer = await self._web.request(
            "POST",
            f"{self._url}/git-upload-pack",
            what=self._what,
            headers={
                **_VERSION,
                **self.headers,
                "Content-Type": "application/x-git-upload-pack-request",
                "Accept": "application/x-git-upload-pack-result",
            },
            body=body,
            most=most,
            seconds=seconds,
        )
        return answer.body

    def _refused(self, said: bytes) -> Stalled:
        text = said.decode("utf-8", "replace").strip()
        if "not our ref" in text or "unadvertised object" in text:
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{self._what}: there is no such commit")
        return Stalled(Reason.SOURCE_ERROR, f"{self._what}: the server refuses the revision")


def _line(text: str) -> bytes:
    data = f"{text}\n".encode()
    return b"%04x" % (len(data) + 4) + data


def _lines(data: bytes, what: str) -> Iterator[memoryview]:
    """Packet lines, none of them empty; flushes and delimiters are left out."""
    at, view = 0, memoryview(data)
    while at < len(data):
        try:
            length = int(data[at : at + 4], 16)
        except ValueError:
            length = 3
        if length == 3 or at + length > len(data):
            raise Retryable(
                Reason.SOURCE_ERROR, f"{what}: the endpoint does not answer as git does"
            )
        if length > 4:
            yield view[at + 4 : at + length]
        at += max(length, 4)
