"""Our presigned URLs are those that botocore would make."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.sources.s3_signing import URL_SECONDS, Presigner

MOMENT = datetime(2026, 11, 23, 21, 5, 9, tzinfo=UTC)


class Keys:
    """As aiobotocore hands them out."""

    def __init__(self, token: str | None) -> None:
        self.frozen = SimpleNamespace(
            access_key="AKIDEXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG", token=token
        )

    async def get_frozen_credentials(self) -> SimpleNamespace:
        return self.frozen


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzE/+=="])
@pytest.mark.parametrize(
    "base",
    [
        "https://bucket.s3.eu-west-1.amazonaws.com/",
        "http://127.0.0.1:9000/bucket/",
        "https://minio:443/a%20b/",
        "http://[::1]:8333/bucket/",
    ],
)
@pytest.mark.parametrize("key", ["a/b.bin", "spaß/ü +&=?#%.txt", "~x//y"])
@pytest.mark.parametrize("headers", [{}, {"X-Amz-Checksum-Mode": " ENABLED  twice"}])
async def test_a_url_is_signed_as_botocore_signs_it(
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    key: str,
    headers: Mapping[str, str],
    token: str | None,
) -> None:
    monkeypatch.setattr(auth, "get_current_datetime", lambda: MOMENT.replace(tzinfo=None))
    keys = Keys(token)
    ours = await Presigner(base, "eu-west-1", keys, clock=MOMENT.timestamp).url(
        "GET", key, headers=headers
    )
    request = AWSRequest("GET", base + quote(key, safe="/~"), headers=dict(headers))
    credentials = Credentials(keys.frozen.access_key, keys.frozen.secret_key, token)
    auth.S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=URL_SECONDS).add_auth(request)
    theirs = str(request.url)
    assert ours.partition("?")[0] == theirs.partition("?")[0]
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(theirs).query)


async def test_a_later_second_other_keys_and_other_headers_make_another_signature() -> None:
    keys, moment = Keys(None), [MOMENT.timestamp()]
    presigner = Presigner("https://b.s3.amazonaws.com/", "eu-west-1", keys, clock=lambda: moment[0])

    async def signature(headers: Mapping[str, str]) -> str:
        url = await presigner.url("GET", "k", headers=headers)
        return parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]

    seen = [await signature({})]
    assert await signature({}) == seen[0]
    seen.append(await signature({"X-Amz-Checksum-Mode": "ENABLED"}))
    moment[0] += 1
    seen.append(await signature({}))
    keys.frozen = SimpleNamespace(access_key="AKIDEXAMPLE", secret_key="another", token=None)
    seen.append(await signature({}))
    assert len(set(seen)) == 4
