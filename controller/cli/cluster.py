"""The caller's cluster: reads and writes with the caller's own rights; what fails becomes a sentence with a hint."""

import difflib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from controller.cli.kubeconfig import Target
from controller.cli.outcome import Exit, NotAllowed, Problem
from shared.api.cache import RETRY_ANNOTATION
from shared.kube import errors
from shared.kube.client import KubeClient
from shared.kube.resource import (
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NAMESPACE_CACHES,
    ObjectKey,
    Resource,
)

Wire = dict[str, Any]
MANAGER: Final = "kubectl-localmodel"
# Fields of a manager that an apply leaves out are removed: what retries must not own what creates.
_RETRY_MANAGER: Final = "kubectl-localmodel-retry"
# One person's commands; a page of 500 objects counts as one.
_QPS: Final = 50.0
_BURST: Final = 100
# LocalModelNodes are large: a hundred of them with a hundred models each are 25 MiB of JSON.
_PAGE: Final = 100
CORE_EVENTS: Final = Resource("", "v1", "events", "Event", True)


class Cluster:
    """Raises Problem only."""

    def __init__(self, client: KubeClient, retrier: KubeClient, namespace: str) -> None:
        self._client = client
        self._retrier = retrier
        self.namespace = namespace

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None
    ) -> Wire | None:
        """None when there is no such object."""
        with translated(f"read {resource.plural}"):
            try:
                return await self._client.get(resource, name, namespace=namespace)
            except errors.NotFound as error:
                if error.reason != "NotFound":
                    raise
                return None

    async def pages(
        self, resource: Resource, *, namespace: str | None = None, field_selector: str | None = None
    ) -> AsyncIterator[Sequence[Wire]]:
        with translated(f"list {resource.plural}"):
            pages = self._client.pages(
                resource, namespace=namespace, field_selector=field_selector, limit=_PAGE
            )
            async for items, _ in pages:
                yield items

    async def list(
        self, resource: Resource, *, namespace: str | None = None, field_selector: str | None = None
    ) -> list[Wire]:
        found: list[Wire] = []
        async for items in self.pages(resource, namespace=namespace, field_selector=field_selector):
            found += items
        return found

    async def create(self, manifest: Wire) -> None:
        """Server-side apply. Problem when somebody else owns one of its fields with another value."""
        namespace = manifest["metadata"].get("namespace")
        with translated(f"create {manifest['metadata']['name']}"):
            await self._client.apply(
                cache_resource(namespace),
                manifest,
                namespace=namespace,
                force=False,
                metadata_only=True,
            )

    async def retry(self, key: ObjectKey, value: str) -> None:
        resource = cache_resource(key.namespace)
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": key.name,
                **({"namespace": key.namespace} if key.namespace else {}),
                "annotations": {RETRY_ANNOTATION: value},
            },
        }
        with translated(f"annotate {key}"):
            await self._retrier.apply(resource, body, namespace=key.namespace, metadata_only=True)


def cache_resource(namespace: str | None) -> Resource:
    return LOCAL_MODEL_CACHES if namespace is None else LOCAL_MODEL_NAMESPACE_CACHES


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Cluster]:
    """Closed again at the end of the block."""
    _silence()
    clients: list[KubeClient] = []
    try:
        with translated("connect"):
            for manager in (MANAGER, _RETRY_MANAGER):
                clients.append(await _connect(target.files, target.context, manager))
        yield Cluster(clients[0], clients[1], target.namespace)
    finally:
        for client in clients:
            await client.close()


async def _connect(files: Path | None, context: str | None, manager: str) -> KubeClient:
    return await KubeClient.connect(
        kubeconfig=files, context=context, manager=manager, qps=_QPS, burst=_BURST
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    try:
        yield
    except errors.ApiError as error:
        raise problem(what, error) from error


def problem(what: str, error: errors.ApiError) -> Problem:
    match error:
        case errors.Unauthorized():
            hint = "log in to the cluster again, or pick another --context."
            return Problem("The API server does not know you (401).", hint)
        case errors.Forbidden():
            hint = (
                "ask an admin for the ClusterRole view (edit, to change something), bound for the whole cluster; "
                "with rights in one namespace, name it by -n."
            )
            return NotAllowed(f"You may not {what}: {error.message}", hint)
        case errors.NotFound():
            hint = "install it (kubectl apply -k deploy), or pick another --context."
            return Problem(f"This cluster does not know localmodel: it cannot {what}.", hint)
        case errors.Conflict():
            hint = "look at it with kubectl get -o yaml --show-managed-fields, and change it with kubectl edit."
            return Problem(f"Cannot {what}, somebody else has set it: {error.message}", hint)
        case errors.Invalid() | errors.Gone():
            return Problem(f"The API server refuses to {what}: {error.message}")
        case errors.Unreachable():
            hint = "kubectl cluster-info shows whether kubectl reaches it; --context picks another cluster."
            return Problem(_sentence(error.message), hint, exit=Exit.RETRYABLE)
        case _:
            text = f"The API server failed to {what}: {error.message}"
            return Problem(text, "try again in a moment.", exit=Exit.RETRYABLE)


def no_such(what: str, name: str, known: Sequence[str]) -> Problem:
    """With the most similar names that there are."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        hint = f"there are {', '.join(sorted(known)[:5])}{' and others' if len(known) > 5 else ''}."
    else:
        hint = "there are none at all."
    return Problem(f"{what} {name} does not exist.", hint)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _silence() -> None:
    """What the layers below log is for servers."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
