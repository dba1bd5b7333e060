"""Source URIs: parsed fully, or refused with the defect in words."""

import pytest

from shared.domain.uri import MAX_LENGTH, SourceUri, redact


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://models/llama", "models", "llama"),
        ("S3://models/llama", "models", "llama"),
        ("s3://models", "models", ""),
        ("s3://models/", "models", ""),
        ("s3://models/a/b/", "models", "a/b"),
        ("gs://my-bucket/my-model", "my-bucket", "my-model"),
        ("gs://my.bucket_1/a b/ü", "my.bucket_1", "a b/ü"),
        ("s3://models/a@b:c?d#e", "models", "a@b:c?d#e"),
    ],
)
def test_buckets_and_keys(text: str, bucket: str, key: str) -> None:
    uri = SourceUri.parse(text)
    assert (uri.text, uri.scheme, uri.bucket, uri.key) == (text, text[:2].lower(), bucket, key)


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("hf://meta-llama/meta-llama-3-8b-instruct", "meta-llama/meta-llama-3-8b-instruct", None),
        ("hf://01-ai/Yi-1.5-6B:main", "01-ai/Yi-1.5-6B", "main"),
        ("hf://o/r:refs/pr/1", "o/r", "refs/pr/1"),
        ("hf://o/r:v1.0+cu121", "o/r", "v1.0+cu121"),
        ("hf://__user__/r_", "__user__/r_", None),
        (
            "hf://o/r:5f0b02c75b57c5855da9ae460ce51323ea669d8a",
            "o/r",
            "5f0b02c75b57c5855da9ae460ce51323ea669d8a",
        ),
    ],
)
def test_hub_repositories_and_revisions(text: str, repo: str, revision: str | None) -> None:
    uri = SourceUri.parse(text)
    assert (uri.scheme, uri.repo, uri.revision) == ("hf", repo, revision)


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "path"),
    [
        ("https://example.com/m.tar.gz", "https", "example.com", "/m.tar.gz"),
        ("HTTP://example.com:8080/a@b?sig=x#y", "http", "example.com:8080", "/a@b"),
        ("https://[::1]:8443/m", "https", "[::1]:8443", "/m"),
        ("https://example.com", "https", "example.com", ""),
        ("file:///models/a b", "file", "", "/models/a b"),
        ("oci://registry/repo:tag", "oci", "registry", "/repo:tag"),
        ("az://container/blob", "az", "container", "/blob"),
        (
            "abfss://c@account.dfs.core.windows.net/p",
            "abfss",
            "c@account.dfs.core.windows.net",
            "/p",
        ),
        ("pvc://claim", "pvc", "claim", ""),
    ],
)
def test_web_addresses_files_and_schemes_that_nobody_serves(
    text: str, scheme: str, authority: str, path: str
) -> None:
    uri = SourceUri.parse(text)
    assert (uri.scheme, uri.authority, uri.path) == (scheme, authority, path)


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        ("", "no scheme"),
        ("models/llama", "no scheme"),
        ("://models", "no scheme"),
        ("1s3://models/a", "no scheme"),
        ("s3:/models/a", "no scheme"),
        ("s3://", "names nothing"),
        ("s3:///a", "names no bucket"),
        ("gs:///", "names no bucket"),
        ("s3://a b/c", "malformed bucket"),
        ("s3://-x-/c", "malformed bucket"),
        ("hf://", "names nothing"),
        ("hf://gpt2", "hf://owner/repo"),
        ("hf://o/", "hf://owner/repo"),
        ("hf://o/r/sub", "hf://owner/repo"),
        ("hf:///r", "hf://owner/repo"),
        ("hf://../r", "hf://owner/repo"),
        ("hf://o/..", "hf://owner/repo"),
        ("hf://o/a..b", "hf://owner/repo"),
        ("hf://o/r:", "malformed revision"),
        ("hf://o/r:a b", "malformed revision"),
        ("hf://o/r:a/../b", "malformed revision"),
        ("hf://o/r:/a", "malformed revision"),
        ("https:///path", "names no host"),
        ("https://:80/path", "names no host"),
        ("https://h:0/path", "names no host"),
        ("https://h:99999/path", "malformed host or port"),
        ("https://h:http/path", "malformed host or port"),
        ("https://[::1/path", "malformed host or port"),
        ("https://h/a b", "write %20"),
        ("file://models/a", "absolute path"),
        ("file://host/models/a", "absolute path"),
        ("file:///models/../etc", "without .."),
        ("file:///..", "without .."),
        (" s3://models/a", "white space"),
        ("s3://models/a ", "white space"),
        ("s3://models/a\n", "control characters"),
        ("s3://models/a\x00b", "control characters"),
        ("https://h/a\u2028b", "control characters"),
        ("s3://models/" + "a" * MAX_LENGTH, "longer than 2048"),
    ],
)
def test_defects_are_named(text: str, defect: str) -> None:
    with pytest.raises(ValueError, match=defect):
        SourceUri.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:hunter2@models/a",
        "s3://hunter2@models/a",
        "gs://u:hunter2@bucket",
        "hf://u:hunter2@owner/repo",
        "hf://hunter2@owner/repo",
        "https://u:hunter2@example.com/m",
        "https://hunter2@example.com/m",
        "http://hunter2@[::1]/m",
        "ftp://u:hunter2@example.com/m",
    ],
)
def test_credentials_in_a_uri_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(ValueError, match="must not hold credentials") as refusal:
        SourceUri.parse(text)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@example.com:8443/a/b?sig=x#y", "https://example.com:8443/a/b"),
        ("https://example.com?sig=x", "https://example.com"),
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("s3://models/a/b", "s3://models/a/b"),
        ("hf://o/r:refs/pr/1", "hf://o/r:refs/pr/1"),
        ("file:///models/m", "file:///models/m"),
        ("/relative/redirect?sig=x", "/relative/redirect"),
        ("u:p@example.com/m", "example.com/m"),
        ("https://[::1/a?sig=x", "https://[::1/a"),
        ("", ""),
    ],
)
def test_what_is_shown_has_no_user_info_and_no_query(text: str, shown: str) -> None:
    assert redact(text) == shown
