"""What people, nodes and agents do to a cluster, in any order; and what has to hold when all is at rest."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from controller import routes, routes_serving
from controller.planning.cache import plan_cache
from controller.planning.group import plan_group
from controller.planning.silence import shown_silent
from controller.planning.volumes import pairs_in_use, plan_volumes
from controller.planning.work_list import plan_node
from shared.api.cache import RETRY_ANNOTATION
from shared.domain.forecast import real_sizes
from shared.domain.serving import cache_of
from tests.unit.controller.binder import bind, service
from tests.unit.controller.builders import NOW, Cluster, cache, group, node, report

NODES = st.sampled_from(["a", "b", "c"])
POOLS = st.sampled_from(["gpu", "cpu", "none"])
NAMES = st.sampled_from(["m", "n", "o"])
GROUPS = st.sampled_from(["gpu", "cpu"])
URIS = st.sampled_from(["s3://x/1", "s3://x/2"])


class Edits(RuleBasedStateMachine):
    cluster: Cluster

    def beginning(self) -> Cluster:
        return Cluster()

    @initialize()
    def start(self) -> None:
        self.cluster = self.beginning()
        self.cluster.put("group", group("gpu", limit="10Gi"))
        self.cluster.put("node", node("a"))

    @rule(
        name=NAMES,
        groups=st.lists(GROUPS, min_size=1, max_size=2, unique=True),
        uri=URIS,
        size=st.integers(1, 8),
        namespace=st.sampled_from([None, "team"]),
        created=st.integers(0, 3),
    )
    def put_cache(
        self,
        name: str,
        groups: list[str],
        uri: str,
        size: int,
        namespace: str | None,
        created: int,
    ) -> None:
        raw = cache(name, *groups, uri=uri, size=f"{size}Gi", namespace=namespace, created=created)
        key = f"{namespace}/{name}" if namespace else name
        old = self.cluster.stored.get(("cache", key))
        if old is None:
            raw["metadata"]["finalizers"] = []
        else:  # immutable
            raw["spec"]["sourceModelUri"] = old["spec"]["sourceModelUri"]
        self.cluster.put("cache", raw)

    @rule(
        name=GROUPS, pool=POOLS, limit=st.integers(1, 20), path=st.sampled_from(["/models", "/x"])
    )
    def put_group(self, name: str, pool: str, limit: int, path: str) -> None:
        self.cluster.put("group", group(name, limit=f"{limit}Gi", path=path, pool=pool))

    @rule(name=NODES, pool=POOLS, ready=st.booleans())
    def put_node(self, name: str, pool: str, ready: bool) -> None:
        self.cluster.put("node", node(name, ready=ready, pool=pool))

    @rule(kind=st.sampled_from(["cache", "group", "node", "work"]), data=st.data())
    def delete(self, kind: str, data: st.DataObject) -> None:
        keys = sorted(key for have, key in self.cluster.stored if have == kind)
        if keys:
            self.cluster.remove(kind, data.draw(st.sampled_from(keys)))

    @rule(
        name=NODES,
        state=st.sampled_from(["ModelDownloading", "ModelDownloaded", "ModelDownloadError"]),
        size=st.none() | st.integers(0, 12),
        revision=st.sampled_from([None, "r1", "r2"]),
        behind=st.none() | st.booleans(),
        free=st.none() | st.integers(0, 20),
        lag=st.booleans(),
    )
    def agent_answers(
        self,
        name: str,
        state: str,
        size: int | None,
        revision: str | None,
        behind: bool | None,
        free: int | None,
        lag: bool,
    ) -> None:
        """Of its work list, or of what it still has; sometimes of an older list. KServe's agent does not say of which."""
        obj = self.cluster.stored.get(("work", name))
        if obj is None:
            return
        more: dict[str, Any] = {}
        if size is not None:
            more["bytesTotal"] = size * 1024**3
        if revision is not None:
            more["revision"] = revision
        lines = {
            line.key: report(line.key, line.wire["sourceModelUri"], state, **more)
            for line in self.cluster.world.works[name].entries
        }
        if lag:
            for old in obj.get("status", {}).get("models", ()):
                lines.setdefault(old["key"], old)
        status: dict[str, Any] = {}
        if free is not None:
            status["storage"] = {
                "capacityBytes": 1,
                "availableBytes": free * 1024**3,
                "usedBytes": 0,
            }
        generation = None if behind is None else obj["metadata"]["generation"] - behind
        self.cluster.report(name, *lines.values(), observedGeneration=generation, **status)

    @rule(
        name=st.sampled_from(["s", "t"]),
        cache_name=NAMES,
        namespace=st.sampled_from(["team", "other"]),
        own=st.booleans(),
        asked=st.none() | GROUPS,
    )
    def put_service(
        self, name: str, cache_name: str, namespace: str, own: bool, asked: str | None
    ) -> None:
        self.cluster.put(
            "service", service(name, cache_name, namespace=namespace, own=own, group=asked)
        )

    @rule(kind=st.sampled_from(["service", "volume", "claim"]), data=st.data())
    def delete_served(self, kind: str, data: st.DataObject) -> None:
        keys = sorted(key for have, key in self.cluster.stored if have == kind)
        if keys:
            self.cluster.remove(kind, data.draw(st.sampled_from(keys)))
            bind(self.cluster)

    @rule(kind=st.sampled_from(["volume", "claim"]), note=st.integers(0, 1), data=st.data())
    def others_note_on_served(self, kind: str, note: int, data: st.DataObject) -> None:
        """Nothing to us, but what was read before can no longer be written."""
        keys = sorted(key for have, key in self.cluster.stored if have == kind)
        if keys:
            key = data.draw(st.sampled_from(keys))
            self.cluster.edit(kind, key, lambda meta: meta.update(labels={"note": str(note)}))

    @rule(name=GROUPS, pool=POOLS)
    def break_group(self, name: str, pool: str) -> None:
        self.cluster.put("group", group(name, limit="lots", pool=pool))

    @rule(change=st.sampled_from(["size", "finalizer", "retry"]), data=st.data())
    def break_or_poke_cache(self, change: str, data: st.DataObject) -> None:
        keys = sorted(key for kind, key in self.cluster.stored if kind == "cache")
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        old = self.cluster.stored["cache", key]
        if change == "size":
            self.cluster.put("cache", {**old, "spec": {**old["spec"], "modelSize": "huge"}})
        elif change == "finalizer":
            self.cluster.edit("cache", key, lambda meta: meta.update(finalizers=[]))
        else:
            notes = {RETRY_ANNOTATION: str(data.draw(st.integers(0, 1)))}
            self.cluster.edit("cache", key, lambda meta: meta.update(annotations=notes))

    @rule(managed=st.none() | st.booleans())
    def configure(self, managed: bool | None) -> None:
        self.cluster._add(routes_serving.configuration_changed(self.cluster.world, managed, None))

    @rule(silent=st.sets(NODES), given_up=st.booleans())
    def agents_fall_silent(self, silent: set[str], given_up: bool) -> None:
        self.cluster.silence(*silent, abandoned=given_up)

    @rule()
    def restart(self) -> None:
        silent, abandoned = self.cluster.world.silent, self.cluster.world.abandoned
        self.cluster.restart()
        self.cluster._add(routes.liveness_changed(self.cluster.world, silent, abandoned))

    def check(self) -> None:
        self._what_is_kept_up_by_cache_is_what_a_look_at_all_nodes_finds()
        self.cluster.settle()
        self._everything_looked_at_again_agrees()
        self._nothing_is_left_over()
        self._what_is_kept_up_by_cache_is_what_a_look_at_all_nodes_finds()
        self._services_reach_their_caches()
        self._a_new_controller_would_do_nothing()

    def _everything_looked_at_again_agrees(self) -> None:
        """What settled by looking at dirty keys only is what a look at everything finds."""
        world = self.cluster.world
        for name in world.nodes.keys() | world.works.keys():
            plan = plan_node(world, name)
            assert plan.action is None, (name, plan)
            if name in world.nodes:
                assert plan.placement == world.placements[name], name
        for view in world.caches.values():
            assert plan_cache(world, view, now=NOW) is None, view.key
        for found in world.groups.values():
            assert plan_group(world, found, now=NOW) is None, found.name
        for key in world.caches.keys() | world.serving.volumes_of.keys():
            assert not plan_volumes(world, key).steps, key

    def _nothing_is_left_over(self) -> None:
        world = self.cluster.world
        assert world.works.keys() <= world.nodes.keys()
        for name, work in world.works.items():
            assert work.owner == world.nodes[name].uid
            for line in work.entries:
                view, found = world.caches[line.key], world.groups.get(line.group or "")
                assert not view.deleting
                if view.defect is None and (found is None or found.defect is None):
                    assert line.group in world.groups_of[name]
        for key, view in world.caches.items():
            expected = world.expected(view)
            if not view.deleting:
                assert self.cluster.status(key)["nodeStatus"].keys() == expected.keys()

    def _what_is_kept_up_by_cache_is_what_a_look_at_all_nodes_finds(self) -> None:
        """Also between an edit and what is done about it."""
        world = self.cluster.world
        lines: dict[str, set[str]] = {}
        reports: dict[str, set[str]] = {}
        for name, work in world.works.items():
            for line in work.entries:
                lines.setdefault(line.key, set()).add(name)
            for key in work.reports:
                reports.setdefault(key, set()).add(name)
        for key in {*lines, *reports, *world.caches}:
            assert world.holdings.listing(key) == lines.get(key, set()), key
            assert world.holdings.reporting(key) == reports.get(key, set()), key
        assert world.sizes == real_sizes(world.works.values(), world.caches.values())

    def _services_reach_their_caches(self) -> None:
        world, stored = self.cluster.world, self.cluster.stored
        for key, view in world.caches.items():
            if view.deleting:
                continue
            listed = self.cluster.status(key).get("inferenceServices", ())
            assert {(s["namespace"], s["name"]) for s in listed} == {
                (s.namespace, s.name) for s in world.serving.services(key)
            }
            told = view.conditions if world.serving.seen else ()
            serves = next((c for c in told if c.type == "Servable"), None)
            for one in pairs_in_use(world, view) if serves and serves.status == "True" else ():
                assert stored["claim", f"{one.namespace}/{one.claim}"]["status"]["phase"] == "Bound"
        for name in world.serving.volumes:
            assert cache_of(world.serving.volumes[name]) in world.caches, name

    def _a_new_controller_would_do_nothing(self) -> None:
        """Unless an agent is behind: then a new controller cannot know which of its answers still hold.

        Who is silent it sees from the statuses.
        """
        world = self.cluster.world
        works = world.works.values()
        if any(w.observed is not None and w.observed < w.generation for w in works):
            return
        fresh = Cluster()
        fresh.stored = dict(self.cluster.stored)
        fresh.restart()
        fresh.world.serving.managed = world.serving.managed
        fresh._add(routes.liveness_changed(fresh.world, shown_silent(fresh.world), set()))
        assert fresh.settle() == 0, fresh.writes
