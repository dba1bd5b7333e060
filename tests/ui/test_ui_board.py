"""The board tells exactly what changed: who applies it all sees what a newcomer sees. And what a panel is told."""

import json
import random
from typing import Any

import pytest

from controller.planning.copies import assess
from controller.ui.board import Board
from controller.ui.details import cache_page, node_page
from controller.ui.tones import percent
from controller.world import World
from tests.support.browser import Browser
from tests.ui import fleets
from tests.unit.controller.builders import GIB, Cluster, cache, group, node, report

Cells = dict[tuple[str, str], tuple[str, int]]


def look(board: Board, world: World) -> None:
    for name, keys in board.stale(world).items():
        board.look_at(world, name, keys)


class Reader:
    """Applies what a browser is told, as controller/ui/assets/state.js does."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.kinds = {kind: reason for kind, _, reason, _ in snapshot["kinds"]}
        self.caches = {slot: info["name"] for slot, info in snapshot["caches"]}
        self.nodes = {slot: info["name"] for slot, info, _ in snapshot["nodes"]}
        self.rows = {slot: dict(enumerate(cells)) for slot, _, cells in snapshot["nodes"]}

    def apply(self, changes: dict[str, Any] | None) -> None:
        if changes is None:
            return
        self.kinds |= {kind: reason for kind, _, reason, _ in changes["kinds"]}
        for slot, info in changes["caches"]:
            if info is None or self.caches.get(slot) != info["name"]:
                for row in self.rows.values():
                    row.pop(slot, None)
            self.caches.pop(slot, None)
            if info is not None:
                self.caches[slot] = info["name"]
        for slot, info in changes["nodes"]:
            if info is None or self.nodes.get(slot) != info["name"]:
                self.rows[slot] = {}
            self.nodes.pop(slot, None)
            if info is not None:
                self.nodes[slot] = info["name"]
        numbers = iter(changes["cells"])
        for n, c, value in zip(numbers, numbers, numbers, strict=True):
            self.rows[n][c] = value

    def cells(self) -> Cells:
        return {
            (self.caches[c], self.nodes[n]): (self.kinds[value // 128], value % 128)
            for n, row in self.rows.items()
            for c, value in row.items()
            if value
        }


def story(seed: int) -> tuple[Cluster, Board, list[Any]]:
    """Things happen in a small cluster; what a browser is told, the snapshot of an empty board first."""
    rng = random.Random(seed)
    cluster, board = Cluster(), Board()
    cluster.put("group", group(limit="5Gi"))
    told: list[Any] = [board.snapshot()]
    names, keys = [f"n{i}" for i in range(4)], [f"m{i}" for i in range(6)]
    for _ in range(40):
        name, key = rng.choice(names), rng.choice(keys)
        match rng.randrange(7):
            case 0 | 1:
                cluster.put("node", node(name, pool=rng.choice(["gpu", "gpu", "other"])))
            case 2:
                cluster.put("cache", cache(key, size=f"{rng.randrange(1, 4)}Gi"))
            case 3 if ("cache", key) in cluster.stored:
                cluster.remove("cache", key)
            case 4 if ("node", name) in cluster.stored:
                cluster.remove("node", name)
            case 5 if ("work", name) in cluster.stored:
                cluster.answer(name)
            case _ if ("work", name) in cluster.stored:
                uri = f"s3://models/{key}"
                moving = {"bytesTotal": 100, "bytesDone": rng.randrange(100)}
                cluster.report(name, report(key, uri, "ModelDownloading", **moving))
        if rng.random() < 0.7:
            cluster.settle()
        if rng.random() < 0.7:
            look(board, cluster.world)
            told.append(board.changes())
    cluster.settle()
    look(board, cluster.world)
    told.append(board.changes())
    return cluster, board, told


def read(told: list[Any]) -> Reader:
    reader = Reader(told[0])
    for changes in told[1:]:
        reader.apply(changes)
    return reader


@pytest.mark.parametrize("seed", range(8))
def test_all_changes_add_up_to_what_a_newcomer_sees(seed: int) -> None:
    cluster, board, told = story(seed)
    reader, fresh = read(told), Board()
    look(fresh, cluster.world)
    assert reader.cells() == Reader(fresh.snapshot()).cells() == Reader(board.snapshot()).cells()
    expected = {
        (found.key, copy.node): (copy.verdict.reason.value, percent(copy))
        for found in cluster.world.caches.values()
        if not found.deleting
        for copy in assess(cluster.world, found)
    }
    assert {place: cell for place, cell in reader.cells().items() if place in expected} == expected


def test_at_rest_nothing_is_looked_at_and_nothing_told() -> None:
    cluster, board = Cluster(), Board()
    cluster.put("group", group())
    cluster.put("node", node("a"))
    cluster.put("cache", cache("m"))
    cluster.settle()
    look(board, cluster.world)
    assert board.changes() is not None
    assert board.stale(cluster.world) == {}
    assert board.changes() is None


def test_a_nodes_page_counts_a_shared_folder_once_and_shows_what_fills_the_disk() -> None:
    cluster = Cluster()
    cluster.put("group", group())
    cluster.put("node", node("a"))
    for name in ("first", "second"):
        cluster.put("cache", cache(name, uri="s3://models/same"))
    cluster.settle()
    same = [
        report(name, "s3://models/same", bytesTotal=GIB, bytesDone=GIB)
        for name in ("first", "second")
    ]
    disk = {"capacityBytes": 10 * GIB, "availableBytes": 5 * GIB, "usedBytes": GIB}
    disk["keptFreeBytes"] = GIB
    cluster.report("a", *same, storage=disk)
    page = node_page(cluster.world, "a")
    assert page is not None
    assert page["disk"] == {
        "capacity": 10 * GIB,
        "free": 5 * GIB,
        "kept": GIB,
        "models": GIB,
    }
    assert [(m["name"], m["bytes"], m["shared"]) for m in page["models"]] == [
        ("first", GIB, False),
        ("second", GIB, True),
    ]


def test_a_caches_page_groups_its_copies_and_says_when_they_are_tried_again() -> None:
    cluster = Cluster()
    cluster.put("group", group())
    for name in "abcd":
        cluster.put("node", node(name))
    cluster.put("cache", cache("m"))
    cluster.settle()
    for name in "abc":
        late = f"2026-01-01T00:0{ord(name) - ord('a')}:00Z"
        failed = {"reason": "AccessDenied", "message": "403", "nextRetryTime": late}
        cluster.report(name, report("m", "s3://models/m", "ModelDownloadError", **failed))
    cluster.report("d", report("m", "s3://models/m", completionTime="2026-01-01T00:05:00Z"))
    cluster.settle()
    page = cache_page(cluster.world, "m", ())
    assert page is not None
    groups = [(g["tone"], g["reason"], g["nodes"], g["retry"]) for g in page["copies"]]
    assert groups == [
        ("trouble", "AccessDenied", ["a", "b", "c"], "2026-01-01T00:00:00Z"),
        ("ready", "Available", ["d"], None),
    ]
    assert page["timeline"][0]["what"] == "complete on d"
    assert cache_page(cluster.world, "gone", ()) is None


async def test_the_browser_reads_the_same_out_of_it(browser: Browser) -> None:
    """The page's own module, in the page's own browser."""
    stories = [[one for one in story(seed)[2] if one is not None] for seed in range(4)]
    script = """(async () => {
      const { fromSnapshot, apply, cell } = await import('./state.js');
      return STORIES.map(([first, ...rest]) => {
        const state = fromSnapshot(first);
        rest.forEach((changes) => apply(state, changes));
        const found = {};
        for (const [node, { name }] of state.nodes) for (const [cache, info] of state.caches) {
          const one = cell(state, node, cache);
          if (one) found[`${info.name} ${name}`] = [one.reason, one.percent];
        }
        return found;
      });
    })()"""
    async with fleets.served(fleets.fleet(1, 1)) as url, browser.page(url) as page:
        await page.wait("document.querySelectorAll('[role=gridcell]').length", "loaded")
        read_there = await page.run(
            script.replace("STORIES", json.dumps(stories)).replace("./state.js", f"{url}state.js")
        )
    for told, found in zip(stories, read_there, strict=True):
        wanted = {" ".join(place): list(cell) for place, cell in read(told).cells().items()}
        assert found == wanted
        assert wanted
