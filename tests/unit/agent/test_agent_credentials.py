"""Credentials from an API server that does not give them."""

from pathlib import Path

from agent.errors import Retryable
from agent.node.credentials import KubernetesCredentials
from agent.planning.desired import Access
from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from tests.unit.kube.wire import ApiServer, refusal, write_kubeconfig


async def test_an_api_server_that_refuses_us_is_asked_again_later(tmp_path: Path) -> None:
    async with ApiServer() as server:
        server.say(refusal(401, "Unauthorized"))
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        client = await KubeClient.connect(
            kubeconfig=kubeconfig, manager="localmodel-agent", qps=100, burst=100
        )
        try:
            reading = await KubernetesCredentials(client, namespace="keys").read(
                Access(storage="models")
            )
        finally:
            await client.close()
    assert isinstance(reading.error, Retryable)
    assert reading.error.reason is Reason.CREDENTIALS_UNREACHABLE
    assert "Secret 'storage-config' in namespace 'keys'" in reading.error.message
