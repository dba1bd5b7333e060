"""The page with a hundred caches on a thousand nodes: few elements, few made anew at an input, only what changed on the wire."""

from tests.support.browser import Browser, Page
from tests.ui import fleets

CACHES, NODES = 100, 1000
ELEMENTS = "document.querySelectorAll('*').length"
# A screen of narrow cells, with what is spare around it; all of them would be a hundred thousand.
MOST_ELEMENTS = 6000
# What five inputs make anew, until the frame after the last of them: the screen once or twice for each.
MADE = """(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  let made = 0;
  const count = (node) => node.querySelectorAll ? 1 + node.querySelectorAll('*').length : 0;
  const watch = new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) made += count(node);
  });
  watch.observe(document.body, { childList: true, subtree: true });
  for (let turn = 0; turn < 5; turn += 1) {
    %s;
    await frame(); await frame();
  }
  watch.disconnect();
  return made;
})()"""


def copies(text: str) -> str:
    return f"[...document.querySelectorAll('#tones button')].find((b) => b.innerText.startsWith('{text}'))?.innerText ?? ''"


async def test_a_hundred_caches_on_a_thousand_nodes_are_usable(browser: Browser) -> None:
    world = fleets.fleet(CACHES, NODES)
    keys = [fleets.cache_name(number) for number in range(CACHES)]
    async with fleets.served(world) as url, browser.page(url) as page:
        await page.wait(copies("ready"), "all are there", lambda text: "100000" in text)
        assert await page.run(ELEMENTS) < MOST_ELEMENTS
        made = {
            "scroll": await page.run(
                MADE % "document.querySelector('#matrix').scrollBy(2000, 400)"
            ),
            "filter": await page.run(MADE % _typed("cache-filter", "`model-0${turn}`")),
            "clear": await page.run(MADE % _typed("cache-filter", "''")),
        }
        assert all(0 < count < 10 * MOST_ELEMENTS for count in made.values()), made
        assert await page.run(ELEMENTS) < MOST_ELEMENTS
        failed = {"state": "ModelDownloadError", "reason": "AccessDenied", "message": "no"}
        fleets.tell(world, fleets.node_name(777), keys, model_042=failed)
        await page.wait(copies("trouble"), "one fails", lambda text: text.endswith("1"))
        await page.run("document.querySelector('#matrix').scrollTo(0, 0)")
        first = "document.querySelector('[aria-rowindex=\"2\"] [aria-colindex=\"2\"]')?.getAttribute('aria-label')"
        wanted = "model-042 on node-0777: AccessDenied"
        await page.wait(first, "trouble comes first", lambda label: label == wanted)
        await _walk(page)
        assert await page.run(ELEMENTS) < MOST_ELEMENTS
        assert page.complaints == []


async def _walk(page: Page) -> None:
    """The focus goes to the far corner and is not lost when it is scrolled away."""
    await page.run("document.querySelector('#tones button:last-child').focus()")
    await page.press("Tab")
    await page.press("End", ctrl=True)
    focused = "document.activeElement.getAttribute('aria-label')"
    assert await page.run(focused) == "model-099 on node-0999: Available"
    await page.run("document.querySelector('#matrix').scrollTo(0, 0)")
    await page.run(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    assert await page.run(focused) == "model-099 on node-0999: Available"


def _typed(field: str, value: str) -> str:
    return f"(() => {{ const i = document.querySelector('#{field}'); i.value = {value}; i.dispatchEvent(new Event('input')); }})()"
