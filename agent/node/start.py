"""From settings to a running agent, and its exit code."""

import asyncio
import sys
from pathlib import Path

import structlog

from agent.node.app import Agent
from agent.node.settings import AgentSettings
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError
from shared.kube.metrics import KubeMetrics
from shared.ops import lifecycle
from shared.ops.logging import configure
from shared.ops.metrics import new_registry
from shared.ops.settings import SettingsError, load

log = structlog.get_logger(__name__)

PROGRAM = "localmodel-agent"


def serve(*, config: Path | None, kubeconfig: Path | None) -> int:
    """Run until SIGTERM. Exit codes: 0 stopped, 1 cannot work here, 2 wrong settings."""
    try:
        settings = load(AgentSettings, file=config)
    except SettingsError as error:
        sys.stderr.write(f"Error: wrong settings: {error}\n")
        return 2
    configure(settings.log_level, settings.log_format)
    agent: list[Agent] = []

    async def main(stop: asyncio.Event) -> int:
        registry = new_registry(PROGRAM)
        kube = KubeMetrics(registry)
        try:
            client = await _connect(settings, kubeconfig, kube)
        except ApiError as error:
            log.error("no Kubernetes API", error=error.message)
            return 1
        agent.append(Agent(settings, client, kube, registry, config=config))
        await agent[0].run(stop)
        return 0

    return lifecycle.run(main, state=lambda: agent[0].state() if agent else {})


async def _connect(
    settings: AgentSettings, kubeconfig: Path | None, metrics: KubeMetrics
) -> KubeClient:
    return await KubeClient.connect(
        kubeconfig=kubeconfig,
        manager=PROGRAM,
        qps=settings.kube_qps,
        burst=settings.kube_burst,
        metrics=metrics,
    )
