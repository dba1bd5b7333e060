"""However many caches there are, a program shows the same number of series; and the page of metrics is as the code says."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from agent.copying.progress import CopyWatch, Phase
from agent.node.metrics import FAILURES, AgentMetrics, scheme_label
from agent.node.report import failing
from agent.planning.desired import group, read_work_list
from agent.planning.status import CopyView, Scene, build_status
from agent.planning.world import Limits, World
from controller.metrics import FleetMetrics
from controller.planning.work_list import plan_node
from controller.world import World as Fleet
from shared.api.node import AgentInfo, NodeStorage
from shared.domain import parse
from shared.domain.reasons import Reason
from shared.kube.errors import Conflict
from shared.kube.metrics import KubeMetrics
from shared.kube.runner import run_workers
from shared.kube.workqueue import WorkQueue
from shared.ops.metrics import LoopLag, new_registry
from shared.ops.tracing import Step
from tests.monitoring import metrics_page
from tests.support.cluster import REPOSITORY
from tests.unit.agent import builders
from tests.unit.controller.builders import cache, node
from tests.unit.controller.builders import group as node_group


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def agent(caches: int) -> CollectorRegistry:
    """A node whose copies are in every state, from as many schemes as people can think of."""
    registry = new_registry("localmodel-agent")
    KubeMetrics(registry)
    LoopLag(registry)
    metrics = AgentMetrics(registry)
    lines = [
        builders.line(f"c{n}", f"scheme{n}://host{n}/m", namespace=f"team{n}")
        for n in range(caches)
    ]
    desired = group(read_work_list(lines))
    failures = {
        key: builders.failure(
            next_try=builders.after(60),
            reason=FAILURES[n % len(FAILURES)],
            message=f"about {n}",
            fingerprint=wanted.fingerprint,
        )
        for n, (key, wanted) in enumerate(desired.items())
        if n % 2
    }
    watches = [CopyWatch(phase=Reason.DOWNLOADING) for _ in desired]
    for n, (watch, wanted) in enumerate(zip(watches, desired.values(), strict=True)):
        metrics.bytes.labels(scheme=scheme_label(wanted.uri)).inc(n)
        watch.steps.extend(Step(phase, 0.0, 1.0) for phase in Phase)
        metrics.published(watch)
        metrics.failed(FAILURES[n % len(FAILURES)])
    metrics.moving(watches, now=1.0)
    world = World(now=builders.NOW, desired=desired, disk=builders.disk(), failures=failures)
    status = build_status(
        Scene(
            generation=1,
            entries=read_work_list(lines),
            world=world,
            limits=Limits(),
            agent=AgentInfo(version="1"),
            copies={key: CopyView(phase=Reason.DOWNLOADING) for key in desired},
            storage=NodeStorage(capacity_bytes=1, available_bytes=1, used_bytes=1),
        )
    )
    models = status.models or ()
    assert len(models) == caches
    metrics.reported(status, failing(models, world))
    return registry


async def controller(caches: int) -> CollectorRegistry:
    """A cluster whose caches have every reason there is, and whose keys all went through the queue."""
    registry = new_registry("localmodel-controller")
    metrics = KubeMetrics(registry)
    LoopLag(registry)
    world = Fleet()
    FleetMetrics(world, registry, leading=lambda: True)
    world.put_group("gpu", parse.group(node_group(limit="100Gi")))
    world.put_node("n1", parse.node(node("n1")))
    reasons = [*Reason, "MadeUp", *(f"Reason{n}" for n in range(caches))]
    for n in range(caches):
        made = cache(f"c{n}", size="10Ti" if n % 3 == 0 else "1Mi", namespace=f"t{n}")
        ready = {"type": "Ready", "status": "False", "reason": reasons[n], "message": f"m{n}"}
        made["status"] = {"conditions": [{**ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        world.put_cache(f"t{n}/c{n}", parse.cache(made))
    world.placements["n1"] = plan_node(world, "n1", frozenset()).placement
    queue: WorkQueue[str] = WorkQueue("caches", metrics=metrics)
    for key in world.caches:
        queue.add(key)

    async def reconcile(key: str) -> float | None:
        if not len(queue):
            queue.shut_down()
        if key.endswith("7"):
            raise Conflict("somebody was faster")
        return 60.0 if key.endswith("5") else None

    await run_workers(queue, reconcile, workers=2, name="caches", metrics=metrics)
    return registry


async def test_a_thousand_caches_make_no_more_series_than_a_few() -> None:
    few, many = agent(caches=100), agent(caches=1000)
    assert series(many) == series(few)
    assert len(series(many)) < 400
    shown = await controller(caches=1000)
    assert series(shown) == series(await controller(caches=100))
    # Reasons that nobody knows count as one that everybody does.
    unknown = 1000 - len(Reason) + 1
    assert shown.get_sample_value("localmodel_caches", {"reason": "Pending"}) == unknown
    assert shown.get_sample_value("localmodel_unplaced_copies", {"reason": "NoSpace"}) == 334


@pytest.mark.parametrize("program", [agent])
def test_no_label_holds_a_name_or_an_address(program: Callable[[int], CollectorRegistry]) -> None:
    values = {value for _, labels in series(program(60)) for _, value in labels}
    assert not [value for value in values if "host" in value or "team" in value]


def test_the_page_of_metrics_is_as_the_code_says() -> None:
    page = (REPOSITORY / "docs/metrics.md").read_text()
    assert page == metrics_page.page(), "run python -m tests.monitoring.metrics_page"
