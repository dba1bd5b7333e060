"""The docs' pictures of the page, taken in a real browser: `python -m tests.ui.pictures [FOLDER]`, by default docs/images."""

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from controller import routes
from controller.world import World
from shared.domain import parse
from shared.domain.placement import Placement, Waiting
from shared.domain.reasons import Reason
from tests.support.browser import Browser, Page
from tests.support.cluster import REPOSITORY
from tests.ui import fleets
from tests.unit.controller import builders

GIB = fleets.GIB
SIZES = {
    "deepseek-r1": 642, "gemma-3-27b": 51, "llama-3.3-70b": 132, "llama-4-scout": 203, "mistral-small-24b": 44,
    "mixtral-8x22b": 263, "phi-4": 28, "qwen3-235b": 438, "qwen3-32b": 62, "whisper-large-v3": 3,
}  # fmt: skip
DENIED = (
    "s3://models/mixtral-8x22b: AccessDenied (403): no permission to list objects; "
    "the Secret is models-readonly"
)


def room(nodes: int) -> World:
    """Ten models on a few nodes, some of them in trouble."""
    world = World()
    routes.group_changed(world, "gpu", parse.group(builders.group("gpu", limit="4Ti")))
    names = [f"gpu-{number:02}" for number in range(1, nodes + 1)]
    for name in names:
        routes.node_changed(world, name, parse.node(builders.node(name)))
    for key, size in SIZES.items():
        made = builders.cache(key, uri=fleets.uri(key), size=f"{size}Gi")
        routes.cache_changed(world, key, parse.cache({**made, "status": _status(key)}))
    sizes = {
        _word(key): {"bytesTotal": size * GIB, "bytesDone": size * GIB}
        for key, size in SIZES.items()
    }
    for place, name in enumerate(names):
        different: dict[str, dict[str, Any]] = dict(sizes)
        different["mixtral_8x22b"] = {
            "state": "ModelDownloadError",
            "reason": "AccessDenied",
            "message": DENIED,
            "bytesTotal": None,
            "bytesDone": None,
            "nextRetryTime": "2026-01-01T12:10:00Z",
            "completionTime": None,
        }
        for key, ahead in (("qwen3-235b", 17), ("llama-4-scout", 71)):
            share = (ahead + 13 * place) % 100
            different[_word(key)] = _moving(SIZES[key], share) if place % 3 else sizes[_word(key)]
        keys = [key for key in SIZES if not (key == "deepseek-r1" and place % 4 == 1)]
        fleets.tell(world, name, keys, **different)
        if place % 4 == 1:
            waiting = Waiting(
                Reason.NO_SPACE, "needs 642 GiB; the node's disk has room for 310 GiB of models"
            )
            placed = Placement({}, {"deepseek-r1": waiting}, {}, 0)
            routes.placement_changed(world, name, placed)
    routes.liveness_changed(world, {names[-1]}, set())
    return world


def hall() -> World:
    """A hundred caches on a thousand nodes."""
    world = fleets.fleet(100, 1000)
    keys = [fleets.cache_name(number) for number in range(100)]
    for number in range(0, 1000, 7):
        different = {
            f"model_{(number * 3 + k) % 100:03}": _moving(1, (number + 9 * k) % 100)
            for k in range(12)
        }
        if number % 5 == 0:
            different["model_042"] = {
                "state": "ModelDownloadError",
                "reason": "SourceUnreachable",
                "bytesDone": 0,
            }
        if number % 35 == 0:
            different["model_017"] = {"state": "ModelDownloadError", "reason": "ChecksumMismatch"}
        fleets.tell(world, fleets.node_name(number), keys, **different)
    routes.liveness_changed(world, {fleets.node_name(number) for number in range(100, 104)}, set())
    return world


async def main(folder: Path) -> None:
    few, many = room(8), hall()
    with tempfile.TemporaryDirectory() as logs:
        browser = Browser(Path(logs))
        browser.start()
        try:
            for name, world, opened, height in (
                ("wall", few, "mixtral-8x22b on gpu-03: AccessDenied", 720),
                ("wall-node", few, "node gpu-02, 2 trouble, 2 moving, 6 ready", 560),
                ("wall-thousand", many, None, 560),
            ):
                async with fleets.served(world) as url:
                    for shade in ("light", "dark"):
                        async with browser.page(url, dark=shade == "dark") as page:
                            await page.resize(1280, height)
                            picture = await _picture(page, opened)
                        (folder / f"{name}-{shade}.png").write_bytes(picture)
        finally:
            browser.stop()


async def _picture(page: Page, opened: str | None) -> bytes:
    cells = "document.querySelectorAll('[role=gridcell]').length"
    await page.wait(cells, "cells", lambda count: count > 10)
    if opened is not None:
        label = f"document.querySelector('[aria-label=\"{opened}\"]')"
        await page.wait(f"{label} !== null", opened)
        await page.run(f"{label}.click()")
        panel = "document.querySelector('#panel').innerText"
        await page.wait(panel, "details", lambda text: "gpu" in text)
    return await page.picture()


def _moving(gib: int, share: int) -> dict[str, Any]:
    return {
        "state": "ModelDownloading",
        "reason": "Downloading",
        "bytesTotal": gib * GIB,
        "bytesDone": gib * GIB * share // 100,
        "bytesPerSecond": 700 * 1024**2,
        "completionTime": None,
    }


def _status(key: str) -> dict[str, Any]:
    reason = "AccessDenied" if key == "mixtral-8x22b" else "Available"
    return {
        "revision": "9f2c41d",
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if reason == "Available" else "False",
                "reason": reason,
                "message": "" if reason == "Available" else f"8 of 8 copies: {DENIED}",
                "lastTransitionTime": "2026-01-01T12:00:00Z",
            }
        ],
    }


def _word(key: str) -> str:
    return key.replace("-", "_")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.ui.pictures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "docs/images")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(arguments.folder))
