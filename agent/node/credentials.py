"""Reads the credentials that a copy names from Kubernetes. Values are never logged, and never kept after the copy."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from agent.copying.access import Reading
from agent.errors import FetchError, Retryable, Stalled
from agent.planning.desired import Access
from agent.planning.retry import SecretVersions
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, Forbidden, NotFound
from shared.kube.resource import SECRETS, SERVICE_ACCOUNTS, Resource

STORAGE_CONFIG = "storage-config"
# deploy/base/agent-rbac.yaml; bound to the agents by namespaces that have credentials of their own.
READERS = "localmodel-credentials-reader"

# A copy may wait a little for the API server; it is retried later anyway.
_READ_SECONDS = 30.0
# An account that names more secrets than this is a mistake; each one is a request.
_MOST_SECRETS = 16


class KubernetesCredentials:
    """Named ServiceAccounts and Secrets, by get, never by list.

    They are in one namespace; own: those that a namespace's cache names are in that namespace, which has to let us.
    """

    def __init__(self, client: KubeClient, *, namespace: str, own: bool = False) -> None:
        self._client = client
        self._namespace = namespace
        self._own = own

    async def read(self, access: Access) -> Reading:
        """Never raises: what hinders is part of the reading, and so are the versions seen until then."""
        seen: dict[str, str] = {}
        try:
            async with asyncio.timeout(_READ_SECONDS):
                credentials = await self._read(access, seen)
        except FetchError as error:
            return Reading(tuple(sorted(seen.items())), error=error)
        except TimeoutError:
            return Reading(
                tuple(sorted(seen.items())),
                error=Retryable(
                    Reason.CREDENTIALS_UNREACHABLE, "the API server did not answer in time"
                ),
            )
        return Reading(tuple(sorted(seen.items())), credentials)

    async def versions(self, access: Access) -> SecretVersions:
        """The versions alone; raises Retryable while the API server cannot be asked."""
        reading = await self.read(access)
        if isinstance(reading.error, Retryable):
            raise reading.error
        return reading.versions

    async def _read(self, access: Access, seen: dict[str, str]) -> Credentials:
        parameters = dict(access.parameters)
        where = (access.namespace if self._own else None) or self._namespace
        if access.storage is not None:
            return await self._from_storage_config(where, access.storage, parameters, seen)
        if access.service_account is None:
            return Credentials.from_storage_config({}, parameters) if parameters else Credentials()
        credentials = await self._from_service_account(where, access.service_account, seen)
        if parameters:
            credentials = credentials.with_parameters(parameters)
        return credentials

    async def _from_storage_config(
        self, where: str, key: str, parameters: Mapping[str, str], seen: dict[str, str]
    ) -> Credentials:
        """Where there is no such entry the key names a Secret, as in KServe."""
        config = await self._find(SECRETS, where, STORAGE_CONFIG, seen)
        text = None if config is None else _data(config).get(key)
        if text is None:
            secret = await self._find(SECRETS, where, key, seen)
            if secret is None:
                raise Stalled(
                    Reason.CREDENTIALS_MISSING,
                    f"neither an entry {key!r} of Secret {STORAGE_CONFIG!r} nor a Secret of that name is in namespace {where!r}",
                )
            return _from_secret(secret).with_parameters(parameters)
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise Stalled(
                Reason.CREDENTIALS_INVALID,
                f"entry {key!r} of secret {STORAGE_CONFIG} is not a JSON object",
            )
        return Credentials.from_storage_config(entry, parameters)

    async def _from_service_account(
        self, where: str, name: str, seen: dict[str, str]
    ) -> Credentials:
        account = await self._get(SERVICE_ACCOUNTS, where, name, seen)
        named = [ref.get("name") for ref in account.get("secrets") or () if ref.get("name")]
        if not named:
            raise Stalled(
                Reason.CREDENTIALS_MISSING, f"ServiceAccount {name!r} names no secret in secrets[]"
            )
        found: list[Credentials] = []
        for secret_name in named[:_MOST_SECRETS]:
            found.append(_from_secret(await self._get(SECRETS, where, secret_name, seen)))
        return Credentials.merged(found)

    async def _get(
        self, resource: Resource, where: str, name: str, seen: dict[str, str]
    ) -> dict[str, Any]:
        found = await self._find(resource, where, name, seen)
        if found is None:
            shown = f"{resource.kind} {name!r} in namespace {where!r}"
            raise Stalled(Reason.CREDENTIALS_MISSING, f"{shown} does not exist")
        return found

    async def _find(
        self, resource: Resource, where: str, name: str, seen: dict[str, str]
    ) -> dict[str, Any] | None:
        what = f"{resource.kind}/{name}"
        shown = f"{resource.kind} {name!r} in namespace {where!r}"
        try:
            found = await self._client.get(resource, name, namespace=where)
        except NotFound:
            seen[what] = ""
            return None
        except Forbidden as error:
            seen[what] = ""
            hint = "" if where == self._namespace else f": bind ClusterRole {READERS} there"
            raise Stalled(
                Reason.CREDENTIALS_MISSING, f"the agent may not read {shown}{hint}"
            ) from error
        except ApiError as error:
            raise Retryable(
                Reason.CREDENTIALS_UNREACHABLE, f"{shown} could not be read: {error.reason}"
            ) from error
        seen[what] = found["metadata"].get("resourceVersion", "")
        return found


def _from_secret(secret: Mapping[str, Any]) -> Credentials:
    annotations = secret["metadata"].get("annotations") or {}
    return Credentials.from_secret(_data(secret), annotations)


def _data(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """A Secret's values, decoded; one that is not base64 cannot have come from an API server."""
    try:
        return {
            key: base64.b64decode(value, validate=True)
            for key, value in (secret.get("data") or {}).items()
        }
    except (binascii.Error, ValueError) as error:
        name = secret["metadata"].get("name", "")
        raise Stalled(
            Reason.CREDENTIALS_INVALID, f"Secret {name!r} holds a value that is not base64"
        ) from error
