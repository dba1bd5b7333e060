"""Which host a URI's source is, as its backend will ask it."""

import os
from typing import Final

from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import kind_of
from shared.domain.uri import SourceUri

_DOCKER: Final = frozenset({"docker.io", "index.docker.io"})


def endpoint_of(uri: SourceUri, credentials: Credentials, policy: SourcePolicy) -> str | None:
    """URL of the server; None where there is none, or only a library knows. Raises Stalled for a URI that names nobody."""
    match kind_of(uri):
        case "http":
            return f"{uri.scheme}://{uri.authority}"
        case "git":
            return f"{uri.scheme.removeprefix('git+')}://{uri.authority}"
        case "s3":
            return credentials.s3.endpoint_url or _s3(credentials.s3.region)
        case "gs":
            named = os.environ.get("STORAGE_EMULATOR_HOST")
            if named and "://" not in named:
                named = f"http://{named}"
            return credentials.gcs.endpoint_url or named or "https://storage.googleapis.com"
        case "hf":
            named = policy.hf_endpoint or os.environ.get("HF_ENDPOINT")
            return credentials.hf.endpoint_url or named or "https://huggingface.co"
        case "modelscope":
            named = os.environ.get("MODELSCOPE_ENDPOINT")
            return credentials.modelscope.endpoint_url or named or "https://modelscope.cn"
        case "az":
            from agent.sources.azure_location import locate

            return locate(uri, credentials.azure, policy).endpoint
        case "oci":
            host = "registry-1.docker.io" if uri.authority in _DOCKER else uri.authority
            return credentials.registry.endpoint_url or f"https://{host}"
        case "webhdfs" if credentials.hdfs.endpoint_url is not None:
            return credentials.hdfs.endpoint_url
        case "webhdfs" if uri.scheme != "hdfs":
            return f"{'https' if uri.scheme == 'swebhdfs' else 'http'}://{uri.authority}"
        case _:
            return None


def _s3(region: str | None) -> str:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name]
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return f"https://s3.{region}.amazonaws.com" if region else "https://s3.amazonaws.com"
