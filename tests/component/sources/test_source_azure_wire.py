"""az:// against a service on the wire, which lists and answers what no emulator would."""

from collections.abc import Iterator

import pytest
from aiohttp import web

from agent.errors import FetchError, Retryable
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.reading import paths, resolved
from tests.support.servers.azure import ACCOUNT
from tests.support.servers.threaded import Fault, ThreadedApp

LISTING = """<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs>
<NextMarker>{marker}</NextMarker></EnumerationResults>"""
BLOB = (
    "<Blob><Name{encoded}>{name}</Name><Properties><Etag>0x8D1</Etag>"
    "<Content-Length>3</Content-Length></Properties></Blob>"
)


async def failure(uri: str, policy: SourcePolicy, credentials: Credentials) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    return caught.value


class WireAzure:
    """Lists what it is told to; `pages` by marker."""

    def __init__(self) -> None:
        self.server = ThreadedApp("azure-wire")
        self.pages: dict[str, str] = {}
        self.server.app.router.add_get("/{container}", self._list)

    async def _list(self, request: web.Request) -> web.Response:
        return web.Response(text=self.pages[request.query.get("marker", "")])


@pytest.fixture
def wire() -> Iterator[WireAzure]:
    server = WireAzure()
    server.server.start()
    yield server
    server.server.stop()


def of(wire: WireAzure) -> Credentials:
    return Credentials.from_storage_config(
        {"endpoint_url": wire.server.url, "account_name": ACCOUNT, "anonymous": "true"}, {}
    )


def listed(*names: str, marker: str = "", encoded: str = "") -> str:
    blobs = "".join(BLOB.format(name=name, encoded=encoded) for name in names)
    return LISTING.format(blobs=blobs, marker=marker)


@pytest.mark.parametrize(
    "page",
    [
        listed("m/../up"),
        listed("m//abs"),
        listed("m/a", "m/a/b"),
        listed("m/twice", "m/twice"),
        listed("m/nul%00", encoded=' Encoded="true"'),
    ],
)
async def test_names_that_no_folder_can_hold_are_refused(
    wire: WireAzure, loopback_policy: SourcePolicy, page: str
) -> None:
    wire.pages = {"": page}
    error = await failure("az://models/m", loopback_policy, of(wire))
    assert error.reason is Reason.UNSAFE_PATH


async def test_pages_are_followed(wire: WireAzure, loopback_policy: SourcePolicy) -> None:
    wire.pages = {"": listed("m/a", marker="next"), "next": listed("m/b")}
    manifest = await resolved("az://models/m", loopback_policy, of(wire))
    assert paths(manifest) == ["a", "b"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(401), Reason.ACCESS_DENIED),
        (Fault(403), Reason.ACCESS_DENIED),
        (Fault(409, headers={"x-ms-error-code": "PublicAccessNotPermitted"}), Reason.ACCESS_DENIED),
        (Fault(429, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(503, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
        (Fault(302, headers={"Location": "http://169.254.169.254/"}), Reason.SOURCE_NOT_ALLOWED),
    ],
)
async def test_each_refusal_has_its_reason(
    wire: WireAzure, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    wire.server.fault = fault
    error = await failure("az://models/m", loopback_policy, of(wire))
    assert error.reason is reason
    if reason is Reason.SOURCE_THROTTLED:
        assert isinstance(error, Retryable)
        assert error.after == 9
