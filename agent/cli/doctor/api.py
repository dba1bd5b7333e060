"""The Kubernetes API, where there is one."""

import os
from pathlib import Path
from typing import Final

from agent.cli.doctor.clock import compared
from agent.cli.doctor.finding import Tell, fail, ok, warn
from agent.errors import FetchError
from agent.node.settings import AgentSettings
from agent.policy import SourcePolicy
from agent.sources.web import Web
from agent.tls import Tls

_ADVICE: Final = "Check the node's network, network policies, and the agent's ServiceAccount and roles (`kubectl apply -k deploy` restores them)."


async def look(
    settings: AgentSettings | None, kubeconfig: Path | None, *, clock_is_known: bool, tell: Tell
) -> None:
    """Says nothing outside of a cluster, unless a kubeconfig is given."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if host and not clock_is_known:
        await _clock(host, os.environ.get("KUBERNETES_SERVICE_PORT", "443"), tell)
    if host or kubeconfig is not None:
        await _reach(settings, kubeconfig, tell)


async def _reach(settings: AgentSettings | None, kubeconfig: Path | None, tell: Tell) -> None:
    from shared.kube.client import KubeClient
    from shared.kube.errors import ApiError, NotFound
    from shared.kube.resource import LOCAL_MODEL_NODES

    name = settings.node_name if settings else AgentSettings().node_name
    try:
        client = await KubeClient.connect(
            kubeconfig=kubeconfig, manager="localmodel-agent-doctor", qps=10, burst=10
        )
        try:
            node = await client.get(LOCAL_MODEL_NODES, name)
        finally:
            await client.close()
    except NotFound:
        tell(
            warn(
                "API server",
                f"answers; there is no LocalModelNode {name}",
                "The controller writes it once a cache names a group that this node belongs to.",
            )
        )
    except ApiError as error:
        tell(fail("API server", error.message, _ADVICE))
    else:
        count = len((node.get("spec") or {}).get("localModels") or ())
        tell(ok("API server", f"answers; LocalModelNode {name} lists {count} models"))


async def _clock(host: str, port: str, tell: Tell) -> None:
    """Without credentials, so that it does not matter here who answers."""
    shown = f"[{host}]" if ":" in host else host
    async with Web(SourcePolicy.unrestricted(), Tls(verify=False)) as web:
        try:
            tell(await compared(web, f"https://{shown}:{port}/version", "the API server"))
        except FetchError:
            # The next check says it.
            return
