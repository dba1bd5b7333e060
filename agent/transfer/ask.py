"""What is asked of a source for a range, and where its answer leads before the bytes come."""

import time
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import quote, urljoin, urlsplit

from agent.errors import SourceChanged, Stalled
from agent.origin import SignedRequest
from agent.policy import Endpoint
from agent.transfer import answers
from agent.transfer.pool import Answer, request
from agent.transfer.work import PartWork, Place, Route
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "localmodel-agent"}
MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Everything that may stand in a URL; the rest is encoded.
_AS_IT_IS: Final = "!#$%&'()*+,/:;=?@[]~"


class Head(Protocol):
    """The head of an answer; names of headers in lower case."""

    @property
    def url(self) -> str: ...

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


def ask(part: PartWork, shop: Workshop) -> Answer:
    """The answer that carries the bytes, redirects followed; the route remembers where they led."""
    window: Place | None = None
    for _ in range(MAX_REDIRECTS + 1):
        route = route_of(part)
        place = window or route.place
        headers = {**HEADERS, **place.headers}
        whole = part.is_whole_file and part.at == part.start
        if part.end is not None and route.signed.window is not None:
            if window is None:
                place = window = Place(
                    route.signed.window(part.at, part.asked or part.end), dict(route.signed.headers)
                )
        elif _asks_for_range(part, route, whole=whole):
            headers["Range"] = f"bytes={part.at}-{(part.asked or part.end or 0) - 1}"
        elif part.at > part.start:
            shop.progress.found(-part.rewind())
        answer = request(shop.pool, place.url, headers, route.signed.tls, owner=shop)
        try:
            check_expected(route, place, answer, part)
            if answer.status in REDIRECTS:
                following = follow(route, place, answer, part)
                if window is None:
                    route.place = following
                else:
                    window = following
            elif answer.status in (200, 206):
                check_confirmed(route, part)
                return answer
            else:
                what, missing = part.of.file.path, route.signed.missing
                raise answers.failure(answer.status, answer.headers, what=what, missing=missing)
        except BaseException:
            answer.close()
            raise
        answer.close()
    raise Stalled(Reason.SOURCE_ERROR, f"{part.of.file.path}: too many redirects")


def _asks_for_range(part: PartWork, route: Route, *, whole: bool) -> bool:
    if part.end is None or not part.of.file.versioned:
        return False
    return not (whole and (route.signed.states or not part.of.ranges))


def follow(route: Route, place: Place, answer: Head, part: PartWork) -> Place:
    """Where the answer leads. Raises `Stalled`."""
    what = part.of.file.path
    # Headers are read as Latin-1, but what is sent there is UTF-8 if anything.
    location = quote(answer.headers.get("location", "").encode("latin-1"), safe=_AS_IT_IS)
    try:
        target = urljoin(place.url, location)
        old, new = urlsplit(place.url), urlsplit(target)
        Endpoint.of(target)
    except ValueError:
        old = new = urlsplit("")
    if new.scheme not in {"http", "https"}:
        raise Stalled(
            Reason.SOURCE_ERROR, f"{what}: redirected to something that is no web address"
        )
    if old.scheme == "https" and new.scheme == "http":
        raise Stalled(Reason.SOURCE_NOT_ALLOWED, f"{what}: redirected from https to plain http")
    headers = place.headers
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        secret = route.signed.secret_headers
        headers = {name: value for name, value in headers.items() if name.lower() not in secret}
    return Place(target, headers)


def check_expected(route: Route, place: Place, answer: Head, part: PartWork) -> None:
    for name, value in route.signed.expect.items():
        found = answer.headers.get(name)
        # After a redirect the same header may mean something else.
        elsewhere = route.seen.get(name, place.url) != place.url
        if found is None or elsewhere or answer.status >= 400:
            continue
        if found != value:
            raise SourceChanged(f"{part.of.file.path} changed: another {name}")
        route.seen[name] = place.url


def check_confirmed(route: Route, part: PartWork) -> None:
    missing = route.signed.expect.keys() - route.seen
    if missing:
        raise SourceChanged(
            f"{part.of.file.path}: the source no longer sends {', '.join(sorted(missing))}"
        )


def learn(part: PartWork, answer: Head) -> None:
    """The digests that this answer states about the whole file, when nobody stated any before."""
    route = route_of(part)
    if part.of.stated is None and route.signed.states and answer.url == route.signed.url:
        part.of.learn(route.signed.states(answer.headers))
        part.rewind()


def new_route(signed: SignedRequest) -> Route:
    return Route(signed, time.monotonic(), Place(signed.url, dict(signed.headers)))


def route_of(part: PartWork) -> Route:
    route = part.route
    if not isinstance(route, Route):
        raise TypeError(f"{part.of.file.path} was not signed")
    return route
