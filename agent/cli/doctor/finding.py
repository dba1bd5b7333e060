"""What a check found, and how it is shown."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from threading import Thread

import orjson

from agent.cli.outcome import put
from agent.errors import FetchError
from shared.domain.reason_table import TABLE


class Level(StrEnum):
    """How well something is. FAIL: copies cannot be made like this."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """found: what is so. advice: what to do about it; "" where all is well."""

    check: str
    level: Level
    found: str
    advice: str = ""


Tell = Callable[[Finding], None]


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.FAIL, found, advice)


def failed(check: str, error: FetchError) -> Finding:
    """What an agent would report, with the advice of the table of reasons."""
    row = TABLE.get(error.reason)
    return fail(check, f"{error.message} ({error.reason.value})", row.action if row else "")


def bounded(check: str, look: Callable[[], Finding], *, seconds: float) -> Finding:
    """A disk that does not answer hangs the thread, not the program."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.append(look())
        except OSError as error:
            found.append(fail(check, str(error), "Look at `dmesg` on the node."))

    thread = Thread(target=run, name=check, daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return fail(check, f"no answer within {seconds:.0f} s", "Look at `dmesg` and at what serves the disk; processes may hang on it.")  # fmt: skip


def show(finding: Finding) -> None:
    """A line for what was found, and one for what to do."""
    put(f"{finding.level.value:<5} {finding.check:<12} {finding.found}")
    if finding.advice:
        put(f"{'':<18} → {finding.advice}")


def as_json(findings: list[Finding]) -> str:
    return orjson.dumps([asdict(one) for one in findings], option=orjson.OPT_INDENT_2).decode()
