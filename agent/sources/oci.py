"""oci://: images that carry a model, and artifacts; manifests by the registry's API, blobs by ranges and SHA-256."""

import platform

from agent.errors import Retryable, Stalled
from agent.manifest import Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import RegistryAccess, tls
from agent.sources.oci_layers import content, pick_platform
from agent.sources.oci_registry import Image, Registry, is_digest
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# An index that leads to an index is allowed and pointless.
_MOST_INDICES = 2


class OciSource:
    """One image or artifact by tag or digest."""

    def __init__(self, uri: SourceUri, access: RegistryAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        self._image = Image.parse(uri)
        self._tls = tls(access)
        self._registry = Registry(self._image, access, policy)

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Pinned: the revision is the digest of the manifest, or of the index where there is one for several machines."""
        what = self._image.shown
        digest, found = await self._registry.manifest(revision or self._image.reference)
        top = digest
        for _ in range(_MOST_INDICES):
            if "manifests" not in found:
                break
            machine = platform.machine()
            entry = pick_platform(
                found["manifests"] if isinstance(found["manifests"], list) else [],
                architecture=_ARCHITECTURES.get(machine, machine),
                what=what,
            )
            chosen = str(entry.get("digest"))
            if not is_digest(chosen):
                raise Stalled(Reason.INVALID_SOURCE, f"{what}: its index names no SHA-256 digest")
            digest, found = await self._registry.manifest(chosen)
        if "manifests" in found:
            raise Stalled(Reason.INVALID_SOURCE, f"{what}: an index of indices of indices")
        if found.get("schemaVersion") != 2:
            raise Retryable(
                Reason.SOURCE_ERROR, f"{what}: the registry sends a manifest of another kind"
            )
        inside = content(found, what)
        return listing.manifest(
            self._uri.text, inside.files, revision=top, unpack=False, layers=inside.layers
        )

    async def sign(self, file: RemoteFile) -> SignedRequest:
        headers, seconds = await self._registry.authorize(file.locator)
        return SignedRequest(
            url=self._registry.blob_url(file.locator),
            headers=headers,
            expires_in=seconds,
            missing=f"{self._image.shown}: the registry no longer has {file.locator}, which its manifest names",
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._registry.close()
