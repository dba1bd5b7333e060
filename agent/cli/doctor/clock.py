"""This machine's clock against that of somebody who answers by HTTP."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from agent.cli.doctor.finding import Finding, fail, ok, warn
from agent.sources.web import Answer, Web

ANY_STATUS: Final = frozenset(range(200, 600))
# Signatures and tokens are refused from 5 minutes on at some stores; at 15 by S3.
_WRONG: Final = timedelta(minutes=5)
_DOUBTFUL: Final = timedelta(seconds=30)
_ADVICE: Final = "Let chrony or systemd-timesyncd set the clock (`timedatectl` on the node): signatures, tokens and certificates depend on it."


async def compared(web: Web, url: str, who: str) -> Finding:
    """Asks, and compares. Raises FetchError when nobody answers."""
    before = datetime.now(UTC)
    answer = await web.request("HEAD", url, what=who, accept=ANY_STATUS, read=False)
    return judged(answer, who, before=before, after=datetime.now(UTC))


def judged(answer: Answer, who: str, *, before: datetime, after: datetime) -> Finding:
    """before, after: when the request was sent and when its answer was there."""
    try:
        theirs = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return ok("clock", f"not compared: {who} does not tell its time")
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    # The header has whole seconds.
    off = max(theirs - after, before - theirs - timedelta(seconds=1), timedelta(0))
    found = f"{off.total_seconds():.0f} s {'behind' if theirs > after else 'ahead of'} {who}"
    if off > _WRONG:
        return fail("clock", found, _ADVICE)
    if off > _DOUBTFUL:
        return warn("clock", found, _ADVICE)
    return ok("clock", f"agrees with {who}" if off < timedelta(seconds=2) else found)
