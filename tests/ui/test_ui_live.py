"""The page of a real controller on a real control plane, in a real browser; simulated agents move the copies."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.request import urlopen

import pytest

from tests.cluster.scene import Scene
from tests.support.browser import Browser, Page
from tests.support.controlplane import ControlPlane
from tests.support.fleet import GIB, FleetThread
from tests.support.programs import Controller
from tests.ui import fleets

CANARY = "canary-5f1c"
HOSTILE = (
    f"<img src=x onerror=alert(1)><script>alert(2)</script> at "
    f"https://user:{CANARY}@host.example/path?X-Amz-Signature={CANARY}#{CANARY}"
)
CELLS = "[...document.querySelectorAll('[role=gridcell]')].map((e) => e.getAttribute('aria-label'))"
ROWS = "[...document.querySelectorAll('[role=rowheader]')].map((e) => e.innerText)"
FOCUSED = "document.activeElement.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {"lease_seconds": 3}


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And the ready node b; both hold the cache m."""
    scene.add_node("b")
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    return scene


@pytest.fixture
async def page(scene: Scene, browser: Browser, controller: Controller) -> AsyncIterator[Page]:
    """Shows this scene alone. At the end of each test nothing was held against the page, and no other host was asked."""
    url = f"http://127.0.0.1:{controller.port}/ui#cache={scene.prefix}&node={scene.prefix}"
    async with browser.page(url) as opened:
        await cells(opened, scene, {"m on a: Available", "m on b: Available"})
        yield opened
        assert opened.complaints == []
        own = f"http://127.0.0.1:{controller.port}/ui"
        assert [asked for asked in opened.requests if not asked.startswith(own)] == []


async def cells(page: Page, scene: Scene, wanted: set[str]) -> None:
    script = f"{CELLS}.map((text) => text.replaceAll({json.dumps(scene.prefix)}, ''))"
    await page.wait(script, f"cells {wanted}", lambda found: set(found) == wanted)


def failing(message: str, **more: object) -> dict[str, object]:
    return {
        "state": "ModelDownloadError",
        "reason": "AccessDenied",
        "message": message,
        "bytesDone": 0,
        "nextRetryTime": "2030-01-01T00:00:00Z",
        **more,
    }


async def test_states_appear_and_follow_what_happens(
    page: Page, scene: Scene, fleet: FleetThread
) -> None:
    key = scene.name("m")
    moving = {"state": "ModelDownloading", "reason": "Downloading", "bytesDone": GIB // 4}
    fleet.change(outcomes={key: moving})
    await cells(page, scene, {f"m on {n}: Downloading 25 %" for n in "ab"})
    fleet.change(outcomes={key: {**moving, "bytesDone": GIB // 2}})
    await cells(page, scene, {f"m on {n}: Downloading 50 %" for n in "ab"})
    fleet.change(outcomes={key: failing("403")})
    await cells(page, scene, {f"m on {n}: AccessDenied" for n in "ab"})
    assert "2 copies in trouble" in await page.run("document.querySelector('#sum').innerText")
    fleet.change(outcomes={})
    scene.add_node("c")
    await cells(page, scene, {f"m on {n}: Available" for n in "abc"})
    scene.add_cache("n")
    await cells(page, scene, {f"{m} on {n}: Available" for m in "mn" for n in "abc"})
    scene.delete("localmodelcache", "m")
    await cells(page, scene, {f"n on {n}: Available" for n in "abc"})
    scene.delete("node", "c")
    await cells(page, scene, {f"n on {n}: Available" for n in "ab"})


async def test_trouble_comes_first_and_filters_leave_what_is_wanted(
    page: Page, scene: Scene, fleet: FleetThread
) -> None:
    fleet.change(outcomes={scene.name("z"): failing("no")})
    scene.add_cache("y")
    scene.add_cache("z")
    await page.wait(ROWS, "three caches", lambda rows: len(rows) == 3)
    first = "document.querySelector('[aria-rowindex=\"2\"] [role=rowheader]').innerText"
    await page.wait(first, "trouble first", lambda text: scene.name("z") in text)
    trouble = "[...document.querySelectorAll('#tones button')].find((b) => b.innerText.startsWith('trouble'))"
    await page.wait(f"{trouble}.innerText", "counted", lambda text: "2" in text)
    await page.run(f"{trouble}.click()")
    await cells(page, scene, {f"z on {n}: AccessDenied" for n in "ab"})
    assert await page.run(f"{trouble}.getAttribute('aria-pressed')") == "true"
    await page.run(f"{trouble}.click()")
    await page.run("document.querySelector('#node-filter').focus()")
    await page.run("document.querySelector('#node-filter').select()")
    await page.type(scene.name("b"))
    await cells(page, scene, {"m on b: Available", "y on b: Available", "z on b: AccessDenied"})
    assert scene.name("b") in await page.run("location.hash"), "kept for the next start"
    await page.run("document.querySelector('#cache-filter').focus()")
    await page.type("-nothing")
    await page.wait("document.querySelector('#nothing').innerText", "nothing is left")


async def test_the_keyboard_reaches_every_cell_and_opens_it(page: Page, scene: Scene) -> None:
    scene.add_cache("n")
    await page.wait(ROWS, "two caches", lambda rows: len(rows) == 2)
    await page.run("document.querySelector('#tones button:last-child').focus()")
    await page.press("Tab")
    await page.wait(
        FOCUSED,
        "first cell",
        lambda text: text == f"{scene.name('m')} on {scene.name('a')}: Available",
    )
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await page.run(outline) == "solid", "the focus is to be seen"
    for key, wanted in (
        ("ArrowRight", f"{scene.name('m')} on {scene.name('b')}: Available"),
        ("ArrowDown", f"{scene.name('n')} on {scene.name('b')}: Available"),
        ("Home", f"cache {scene.name('n')}, Available, 2 of 2 ready, 2 ready"),
        ("ArrowUp", f"cache {scene.name('m')}, Available, 2 of 2 ready, 2 ready"),
        ("End", f"{scene.name('m')} on {scene.name('b')}: Available"),
        ("ArrowUp", f"node {scene.name('b')}, 2 ready"),
        ("ArrowDown", f"{scene.name('m')} on {scene.name('b')}: Available"),
    ):
        await page.press(key)
        assert await page.run(FOCUSED) == wanted, key
    only = "document.querySelectorAll('#matrix [tabindex=\"0\"]').length"
    assert await page.run(only) == 1
    await page.press("Enter")
    panel = await page.wait(
        "document.querySelector('#panel').innerText", "details", lambda text: "Timeline" in text
    )
    assert f"s3://models/{scene.name('m')}" in panel
    assert "complete on" in panel
    assert "2.0 GiB of models, 0 B of others, 50.0 GiB kept free, 1000 GiB free" in panel
    assert await page.run("document.activeElement.id") == "panel"
    await page.press("Escape")
    assert await page.run("document.querySelector('#panel').hidden")
    assert await page.run(FOCUSED) == f"{scene.name('m')} on {scene.name('b')}: Available"


async def test_what_others_wrote_stays_text_and_tells_no_secret(
    page: Page, scene: Scene, fleet: FleetThread, controller: Controller
) -> None:
    uri = f"https://host.example/model?sig={CANARY}"
    fleet.change(outcomes={scene.name("evil"): failing(HOSTILE)})
    scene.add_cache("evil", uri=uri)
    names = {f"m on {n}: Available" for n in "ab"} | {f"evil on {n}: AccessDenied" for n in "ab"}
    await cells(page, scene, names)
    first = "document.querySelector('[aria-rowindex=\"2\"] [role=rowheader]')"
    await page.run(f"{first}.click()")
    panel = await page.wait(
        "document.querySelector('#panel').innerText",
        "the message, and the moment it was seen",
        lambda text: text.count("<img src=x onerror=alert(1)><script>") >= 2,
    )
    assert "https://host.example/model" in panel
    assert "Grant" in panel or "To do" in panel, "what a person can do"
    assert await page.run("document.querySelectorAll('#panel img, #panel script').length") == 0
    assert CANARY not in await page.run("document.documentElement.outerHTML")
    for path in ("cache?name=evil", "node?name=a"):
        what, _, name = path.partition("=")
        status, body = controller.get(f"/ui/{what}={scene.name(name)}")
        assert status == 200
        assert CANARY not in body


async def test_it_comes_back_with_a_new_snapshot_after_the_controller_restarted(
    page: Page, scene: Scene, fleet: FleetThread, controller: Controller
) -> None:
    link = "document.querySelector('#link').innerText"
    before = await page.run(link)
    assert "leads" in before
    controller.kill()
    await page.wait(link, "the loss is told", lambda text: "not connected" in text)
    assert await page.run("document.body.classList.contains('stale')")
    fleet.change(outcomes={scene.name("m"): failing("since then")})
    controller.start_ready()
    await cells(page, scene, {f"m on {n}: AccessDenied" for n in "ab"})
    await page.wait(link, "a new replica", lambda text: "leads" in text and text != before)
    assert not await page.run("document.body.classList.contains('stale')")
    # What the browser says of a server that is away is no fault of the page.
    page.complaints[:] = [said for said in page.complaints if "ERR_CONNECTION" not in said]


async def test_light_and_dark_as_the_system_wishes(browser: Browser) -> None:
    ground = "document.body && getComputedStyle(document.body).backgroundColor"
    async with fleets.served(fleets.fleet(2, 2)) as url, browser.page(url) as page:
        await page.wait(ground, "light", lambda colour: colour == "rgb(255, 255, 255)")
        await page.colours(dark=True)
        await page.wait(ground, "dark", lambda colour: colour == "rgb(15, 19, 24)")
        assert page.complaints == []


async def test_a_replica_that_waits_shows_the_same(
    scene: Scene,
    browser: Browser,
    control_plane: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scene.add_cache("huge", size="200Gi")
    scene.wait(lambda: scene.condition("huge")["reason"] == "NoSpace", "no space")
    second = Controller(control_plane, tmp_path_factory.mktemp("second"), name="second")
    second.start_ready()
    try:
        url = f"http://127.0.0.1:{second.port}/ui/#cache={scene.prefix}"
        async with browser.page(url) as page:
            wanted = {f"huge on {n}: NoSpace" for n in "ab"} | {
                f"m on {n}: Available" for n in "ab"
            }
            await cells(page, scene, wanted)
            link = await page.run("document.querySelector('#link').innerText")
            assert "waits to lead" in link
    finally:
        second.stop()


def test_the_settings_turn_it_off(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = Controller(control_plane, tmp_path_factory.mktemp("off"), settings={"ui": False})
    made.start_ready()
    try:
        assert [made.get(path)[0] for path in ("/ui", "/ui/", "/ui/events")] == [404, 404, 404]
        with urlopen(f"http://127.0.0.1:{made.port}/healthz", timeout=5) as answer:
            assert answer.status == 200
    finally:
        made.stop()
