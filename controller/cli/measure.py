"""How large a model is at its source, learned from the agent's own program: the controller's side has no sources."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.cli.outcome import Exit, Problem

PROGRAM: Final = "localmodel-agent"
# As long as the agent itself waits for a listing, and a little for its start.
_SECONDS: Final = 620.0
_AGENT_STALLED: Final = 3
# As the agent links files; other digests only confirm that the same file did not change.
_NAMING: Final = ("sha256", "git-sha1")


@dataclass(frozen=True, slots=True)
class Measured:
    """bytes: None when the source does not say. archive: its bytes are packed; it takes more once unpacked.

    contents: bytes of files by a digest that names their content wherever it is; what has no such digest is not in it.
    """

    bytes: int | None
    files: int
    revision: str | None
    archive: bool
    contents: Mapping[str, int] = field(default_factory=dict)


def program() -> str | None:
    """On PATH, or beside this one; None where the agent is not installed."""
    beside = Path(sys.executable).parent / PROGRAM
    return shutil.which(PROGRAM) or (str(beside) if beside.is_file() else None)


async def measure(
    command: str,
    uri: str,
    *,
    allow: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    revision: str | None = None,
) -> Measured:
    """Asks the source with the caller's own credentials. Problem with the agent's own sentence when that fails."""
    arguments = ["resolve", "--json"]
    if revision is not None:
        arguments += ["--revision", revision]
    for pattern in allow:
        arguments += ["--allow", pattern]
    for pattern in ignore:
        arguments += ["--ignore", pattern]
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        "--",
        uri,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        text = f"The source did not say within {_SECONDS:.0f} s what the model consists of."
        raise Problem(text, "--offline uses modelSize instead.", exit=Exit.RETRYABLE) from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        exit = Exit.STALLED if process.returncode == _AGENT_STALLED else Exit.RETRYABLE
        hint = "--offline uses modelSize instead; with --size it is not asked."
        raise Problem(f"The source cannot be measured: {_reason(err)}", hint, exit=exit)
    return _read(out)


def _reason(err: bytes) -> str:
    """The last line that says something; the program says its errors in one."""
    lines = [text.strip() for text in err.decode(errors="replace").splitlines() if text.strip()]
    return lines[-1].removeprefix("Error: ") if lines else f"{PROGRAM} failed without a word"


def _read(out: bytes) -> Measured:
    try:
        found = json.loads(out)
        return Measured(
            bytes=found["bytes"],
            files=len(found["files"]),
            revision=found["revision"],
            archive=found["archive"] is not None,
            contents={
                f"{name}:{file['digests'][name]}": file["bytes"]
                for file in found["files"]
                for name in _NAMING
                if name in file["digests"] and file["bytes"] is not None
            },
        )
    except (ValueError, KeyError, TypeError) as error:
        text = f"{PROGRAM} of another version answered something else than expected."
        raise Problem(text, "install both programs from one release.") from error
