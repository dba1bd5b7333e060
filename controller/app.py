"""The controller: composition, start and stop."""

import argparse
import asyncio
import socket
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from controller.configuration import ConfigurationWatch
from controller.execute import Executor
from controller.grace import Grace
from controller.herald import Herald
from controller.installation import Installation
from controller.liveness import Liveness
from controller.metrics import FleetMetrics
from controller.picture import picture
from controller.reconcilers.caches import CachePass
from controller.reconcilers.groups import GroupPass
from controller.reconcilers.nodes import NodePass
from controller.reconcilers.volumes import VolumePass
from controller.router import Router
from controller.services import ServiceWatch
from controller.settings import ControllerSettings
from controller.ui.sight import Sight
from controller.ui.site import Site
from controller.ui.timeline import Timeline
from controller.watches import watches
from controller.world import World
from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.election import LeaderElection
from shared.kube.errors import ApiError
from shared.kube.events import EventRecorder
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.runner import run_workers
from shared.ops import lifecycle, logging
from shared.ops.following import follow
from shared.ops.metrics import LoopLag, new_registry
from shared.ops.server import HealthServer
from shared.ops.settings import SettingsError, add_log_level, load, use_log_level

MANAGER: Final = "localmodel-controller"
_ELECTION_QPS: Final = 5  # a renewal every two seconds, and retries

_PATIENCE_SETTLINGS: Final = 20  # caches that are made together arrive within six seconds

log = structlog.get_logger(__name__)


class Controller:
    """One replica. `run` ends when `stop` is set; writing ends before the leader Lease is free for another."""

    def __init__(
        self, settings: ControllerSettings, kubeconfig: Path | None, *, config: Path | None
    ) -> None:
        self._settings = settings
        self._config = config
        self._kubeconfig = kubeconfig
        self._identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._registry = new_registry(MANAGER)
        self._metrics = KubeMetrics(self._registry)
        self._lag = LoopLag(self._registry)
        self._world = World()
        self._router: Router | None = None
        self._informers: list[Informer[Any]] = []
        self._leading = False
        self._installation: Installation | None = None
        self._timeline: Timeline | None = None
        if settings.ui:
            known = self._world.caches.__contains__
            self._timeline = Timeline(lambda: datetime.now(UTC), known=known)
        FleetMetrics(
            self._world,
            self._registry,
            leading=lambda: self._leading,
            problems=lambda: self._problems,
        )

    async def run(self, stop: asyncio.Event) -> int:
        """0 when `stop` was set; 1 when it ended for another reason."""
        settings = self._settings
        try:
            client = await self._connect(settings.kube_qps, settings.kube_burst)
            election_client = await self._connect(_ELECTION_QPS, _ELECTION_QPS)
        except ApiError as error:
            log.error("no Kubernetes API", error=error.message)
            return 1
        site = self._site()
        server = HealthServer(
            host=settings.http_host,
            port=settings.http_port,
            registry=self._registry,
            live=lambda: None,
            ready=self._not_ready,
            state=self.state,
            pages=site.routes() if site else (),
        )
        try:
            port = await server.start()
            log.info("serving health and metrics", port=port)
            loop = asyncio.get_running_loop()
            router = Router(self._world, Liveness(loop.time), settings, self._metrics)
            self._router = router
            self._informers = watches(
                client, router, self._timeline, settings.agents_namespace, self._metrics
            )
            parts = {f"watch {i.resource.plural}": i.run() for i in self._informers}
            configuration = ConfigurationWatch(client, router, settings, self._metrics)
            parts["configuration"] = configuration.run()
            parts["services"] = ServiceWatch(
                client, router, settings.recheck_seconds, self._metrics
            ).run()
            self._installation = Installation(client, pause=settings.recheck_seconds)
            parts["installation"] = self._installation.run()
            parts["lag"] = self._lag.run()
            if self._config is not None:
                parts["settings"] = follow(
                    ControllerSettings, self._config, settings.log_level, lambda _: None
                )
            if site is not None:
                parts["page"] = site.run()
            parts["listen"] = self._listen(router)
            parts["lead"] = self._contend(client, election_client, router, configuration)
            await lifecycle.run_until(stop, parts)
        finally:
            await server.stop()
            await client.close()
            await election_client.close()
        return 0 if stop.is_set() else 1

    def state(self) -> dict[str, Any]:
        """What is known and decided, for a person's eyes."""
        return {
            "identity": self._identity,
            "leading": self._leading,
            "not_ready": self._not_ready(),
            "queues": self._router.describe() if self._router is not None else {},
            "problems": self._head()["problems"],
            **picture(self._world),
        }

    async def _connect(self, qps: float, burst: int) -> KubeClient:
        return await KubeClient.connect(
            kubeconfig=self._kubeconfig,
            manager=MANAGER,
            qps=qps,
            burst=burst,
            watch_silence=self._settings.watch_silence_seconds,
            metrics=self._metrics,
        )

    def _site(self) -> Site | None:
        if self._timeline is None:
            return None
        sight = Sight(self._world, leading=lambda: self._leading)
        return Site(sight, self._timeline, head=self._head, waiting=self._unsynced)

    def _head(self) -> dict[str, Any]:
        """What the page says of this replica."""
        problems = [*([self._world.problem[1]] if self._world.problem else [])]
        return {
            "replica": self._identity,
            "leading": self._leading,
            "problems": [*problems, *self._problems.values()],
        }

    def _unsynced(self) -> str | None:
        if not self._informers:
            return "starting"
        waiting = [i.resource.plural for i in self._informers if not i.synced]
        return f"waiting for {', '.join(waiting)}" if waiting else None

    def _not_ready(self) -> str | None:
        return self._unsynced() or self._problems.get(Reason.CRDS_OUTDATED)

    @property
    def _problems(self) -> dict[Reason, str]:
        """What is wrong with the installation."""
        return self._installation.problems if self._installation is not None else {}

    async def _listen(self, router: Router) -> None:
        pause = min(5.0, self._settings.agent_silence_seconds / 10)
        while True:
            await asyncio.sleep(pause)
            router.listen()

    async def _contend(
        self,
        client: KubeClient,
        election_client: KubeClient,
        router: Router,
        configuration: ConfigurationWatch,
    ) -> None:
        for informer in self._informers:  # nothing is ever written from half a picture
            await informer.wait_synced()
        log.info("synced", caches=len(self._world.caches), nodes=len(self._world.nodes))
        if not self._settings.leader_elect:
            self._metrics.leader.labels(MANAGER).set(1)
            await self._lead(client, router, configuration)
            return
        election = LeaderElection(
            election_client,
            namespace=self._settings.namespace,
            name=MANAGER,
            identity=self._identity,
            lease_seconds=self._settings.lease_seconds,
            metrics=self._metrics,
        )
        client.fence_writes(election.seconds_left)
        await election.run(lambda: self._lead(client, router, configuration))

    async def _lead(
        self, client: KubeClient, router: Router, configuration: ConfigurationWatch
    ) -> None:
        """Until cancelled; nothing is written after this has ended."""
        settings, loop = self._settings, asyncio.get_running_loop()
        recorder = EventRecorder(
            client, component=MANAGER, instance=self._identity, metrics=self._metrics
        )
        herald = Herald(recorder, loop.time)
        executor = Executor(client, recorder, herald, router)
        nodes = NodePass(
            router,
            executor,
            herald,
            Grace(settings.removal_grace_seconds),
            loop.time,
            patience=_PATIENCE_SETTLINGS * settings.settle_seconds,
        )
        caches = CachePass(router, executor, now=_now, clock=loop.time)
        groups = GroupPass(router, executor, now=_now, clock=loop.time)
        volumes = VolumePass(router, executor, loop.time)
        queues = router.start()
        configuration.tell(recorder)
        router.herald = herald
        self._leading = True
        try:
            parts = {
                name: run_workers(
                    queue, reconcile, workers=settings.workers, name=name, metrics=self._metrics
                )
                for name, queue, reconcile in (
                    ("nodes", queues.nodes, nodes),
                    ("caches", queues.caches, caches),
                    ("groups", queues.groups, groups),
                    ("volumes", queues.volumes, volumes),
                )
            }
            await lifecycle.run_until(asyncio.Event(), {"events": recorder.run(), **parts})
        finally:
            self._leading = False
            configuration.tell(None)
            router.herald = None
            router.stop()


def _now() -> datetime:
    """Whole seconds, as Kubernetes' timestamps have them."""
    return datetime.now(UTC).replace(microsecond=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=MANAGER, description="Places model caches on the nodes of a Kubernetes cluster."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the controller until SIGTERM")
    run.add_argument("--config", type=Path, metavar="FILE", help="settings, as YAML")
    run.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="outside a cluster: how to reach it"
    )
    add_log_level(run)
    arguments = parser.parse_args()
    use_log_level(arguments)
    try:
        settings = load(ControllerSettings, file=arguments.config)
    except SettingsError as error:
        sys.exit(f"{MANAGER}: {error}")
    logging.configure(settings.log_level, settings.log_format)
    controller = Controller(settings, arguments.kubeconfig, config=arguments.config)
    sys.exit(lifecycle.run(controller.run, state=controller.state))


if __name__ == "__main__":
    main()
