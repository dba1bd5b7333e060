"""Whatever an endpoint answers, only a FetchError leaves its source, and what is listed can be signed."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from shared.domain.uri import SourceUri
from tests.support.servers.threaded import ThreadedApp

POLICY = SourcePolicy(allowed_networks=(ip_network("127.0.0.0/8"),))
SHA = "ab" * 32

# Characters that break parsers, headers, encoders, paths and numbers.
ODD = st.sampled_from(
    [
        "",
        "a",
        "m/a",
        "m/b/c",
        "../x",
        "\ud800",
        "é",
        "²",
        "\n",
        "a\r\nb: c",
        "\0",
        "9" * 5000,
        "-1",
        "1e999",
    ]
)
TEXTS = ODD | st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 10**19, 1e308, float("inf"), float("nan"), 2**63])
    | TEXTS
    | st.sampled_from(
        [SHA, f"sha256:{SHA}", "c" * 40, "http://h:99999999/x", "http://[::1", "FILE", "file"]
    )
)
KEYS = st.sampled_from(
    [
        *("items", "name", "size", "generation", "nextPageToken", "md5Hash", "contentEncoding"),
        *("sha", "siblings", "path", "type", "oid", "lfs", "sha256", "gated", "id"),
        *("Data", "Files", "Path", "Sha256", "Revision", "Size", "Type"),
        *("manifests", "layers", "config", "mediaType", "digest", "annotations", "schemaVersion"),
        *(
            "FileStatus",
            "FileStatuses",
            "pathSuffix",
            "length",
            "FileChecksum",
            "algorithm",
            "bytes",
        ),
        *("token", "access_token", "expires_in", "error", "org.opencontainers.image.title"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


def json_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def made(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Nearly right: each field is as it should be, or anything, or left out."""
    return st.fixed_dictionaries(
        {}, optional={name: value | SCALARS | VALUES for name, value in fields.items()}
    )


SIZES = st.integers(0, 99)
ITEM = made(name=st.just("m/a"), size=st.just("3"), generation=st.just("17"), md5Hash=TEXTS)
GCS = made(items=st.lists(ITEM, max_size=3), nextPageToken=TEXTS)
LFS = made(oid=st.just(SHA), size=SIZES, pointerSize=SIZES)
NODE = made(type=st.just("file"), path=st.just("a"), oid=st.just("c" * 40), size=SIZES, lfs=LFS)
HUB = made(sha=st.just("c" * 40), id=st.just("org/model"), gated=st.just(False), siblings=VALUES)
SCOPE = made(
    Path=st.just("a"), Sha256=st.just(SHA), Size=SIZES, Type=st.just("blob"), Revision=TEXTS
)
LAYER = made(
    mediaType=st.just("application/octet-stream"),
    digest=st.just(f"sha256:{SHA}"),
    size=SIZES,
    annotations=st.just({"org.opencontainers.image.title": "a"}) | VALUES,
)
MANIFEST = made(
    schemaVersion=st.just(2),
    layers=st.lists(LAYER, max_size=3),
    config=made(mediaType=TEXTS),
    manifests=st.lists(made(digest=st.just(f"sha256:{SHA}"), platform=VALUES), max_size=2),
)
STATUS = made(pathSuffix=TEXTS, type=st.just("FILE"), length=SIZES, fileId=SIZES)
HDFS = made(
    FileStatus=STATUS,
    FileStatuses=made(FileStatus=st.lists(STATUS, max_size=3)),
    FileChecksum=VALUES,
)
XML_TEXTS = TEXTS.map(lambda text: escape(text.encode("utf-8", "replace").decode()))
XML_SIZES = XML_TEXTS | st.just("3")


@st.composite
def s3_page(draw: st.DrawFn) -> bytes:
    entries = "".join(
        f"<Contents><Key>{quote(draw(st.just('m/a') | TEXTS), errors='replace')}</Key>"
        f"<Size>{draw(XML_SIZES)}</Size><ETag>{draw(XML_TEXTS)}</ETag></Contents>"
        for _ in range(draw(st.integers(0, 2)))
    ) + draw(
        st.sampled_from(
            ["", "<Contents/>", "<Contents><Size>1</Size></Contents>", "<IsTruncated/>"]
        )
    )
    return (
        f"<ListBucketResult><EncodingType>url</EncodingType>{entries}</ListBucketResult>".encode()
    )


@st.composite
def azure_page(draw: st.DrawFn) -> bytes:
    encoded = draw(st.sampled_from(["", ' Encoded="true"']))
    blobs = "".join(
        f"<Blob><Name{encoded}>{draw(st.just('m/a') | XML_TEXTS)}</Name><Properties>"
        f"<Etag>{draw(XML_TEXTS)}</Etag><Content-Length>{draw(XML_SIZES)}</Content-Length>"
        "</Properties></Blob>"
        for _ in range(draw(st.integers(0, 2)))
    )
    head = draw(
        st.sampled_from(
            ["", '<?xml version="1.0" encoding="utf-7"?>', '<?xml version="1.0" encoding="x"?>']
        )
    )
    return f"{head}<EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>".encode()


ANYTHING = st.one_of(
    st.binary(max_size=64),
    VALUES.map(json_of),
    st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 50_000, b"<a>" * 10_000, b"\xff\xfe", b'"\\ud800"', b"1" * 5000]
    ),
)
BODIES: Mapping[str, st.SearchStrategy[bytes]] = {
    "s3": s3_page(),
    "gs": GCS.map(json_of),
    "az": azure_page(),
    "hf": (HUB | st.lists(NODE, max_size=3)).map(json_of),
    "modelscope": made(Data=made(Files=st.lists(SCOPE, max_size=3))).map(json_of),
    "oci": MANIFEST.map(json_of),
    "hdfs": HDFS.map(json_of),
    "https": st.just(b"xyz"),
    "git+http": st.lists(
        st.binary(max_size=20).map(lambda data: b"%04x" % (len(data) + 4) + data)
        | st.sampled_from([b"000eversion 2\n", b"0000", b"-001", b"0_1f", b"000dpackfile\n"]),
        max_size=6,
    ).map(b"".join),
}
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "ETag",
            "Content-Range",
            "Location",
            "Retry-After",
            "WWW-Authenticate",
            "Last-Modified",
            "Link",
        ]
    ),
    st.sampled_from(
        [
            *(
                '"e"',
                "W/x",
                "bytes 0-0/" + "9" * 5000,
                "http://[::1",
                "http://h:99999999/",
                "//",
                "²",
                "é",
            ),
            *(
                'Bearer realm="http://[::1",service="é"',
                'Bearer realm="/x"',
                "Basic",
                '<http://[>; rel="next"',
            ),
            *("Fri, 31 Dec 9999 23:59:59 -2359", "9" * 5000, "\udcff"),
        ]
    ),
    max_size=2,
)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]


class Anything(ThreadedApp):
    """Says the next of `answers` to each request, and the last one for ever."""

    def __init__(self) -> None:
        super().__init__("garbage")
        self.answers: list[Answer] = []
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        headers = {
            name: value.encode("utf-8", "surrogateescape").decode("latin-1")
            for name, value in said.headers.items()
        }
        if request.query.get("continuation-token") or request.query.get("marker"):
            return web.Response(status=404)
        return web.Response(status=said.status, body=said.body, headers=headers)


@pytest.fixture(scope="module")
def server() -> Iterator[Anything]:
    with ExitStack() as stack:
        server = Anything()
        server.start()
        stack.callback(server.stop)
        yield server


def source_of(kind: str, url: str) -> tuple[str, Credentials, SourcePolicy]:
    host = url.removeprefix("http://")
    entry: dict[str, str] = {"endpoint_url": url, "anonymous": "true"}
    uris = {
        "s3": "s3://models/m",
        "gs": "gs://models/m",
        "az": "az://models/m",
        "hf": "hf://org/model",
        "modelscope": "modelscope://org/model",
        "oci": "oci://registry.test/a/b:v1",
        "hdfs": "hdfs://cluster/m",
        "https": f"http://{host}/m/file.bin",
        "git+http": f"git+http://{host}/org/model",
    }
    if kind == "az":
        entry["account_name"] = "account"
    if kind == "hdfs":
        entry = {"HDFS_NAMENODE": url}
    if kind in {"https", "git+http"}:
        return uris[kind], Credentials(), POLICY
    return uris[kind], Credentials.from_storage_config(entry, {}), replace(POLICY, hf_endpoint=url)


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_only_a_fetch_error_leaves_a_source(kind: str, server: Anything) -> None:
    uri, credentials, policy = source_of(kind, server.url)
    answers = st.builds(
        Answer,
        st.sampled_from([200, 200, 200, 200, 206, 302, 401, 403, 404, 416, 503]),
        BODIES[kind] | BODIES[kind] | ANYTHING,
        st.just({}) | HEADERS,
    )

    async def resolve() -> None:
        source = open_source(SourceUri.parse(uri), credentials, policy)
        try:
            async with asyncio.timeout(20):
                for file in (await source.resolve()).files:
                    assert file.size is None or 0 <= file.size < 10**18
                    await source.sign(file)
        except FetchError:
            pass
        finally:
            await source.close()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(answers, min_size=1, max_size=4))
    def fuzz(said: list[Answer]) -> None:
        server.answers = list(said)
        asyncio.run(resolve())

    fuzz()
