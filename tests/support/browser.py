"""A headless Chromium, driven over its DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.support.processes import Process, free_port

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_START_SECONDS = 30
_ANSWER_SECONDS = 20
_WAIT_SECONDS = 15.0
_KEYS = {" ": (" ", 32), "Enter": ("\r", 13), "Tab": (None, 9), "Escape": (None, 27)}
_MORE_KEYS = {"End": 35, "Home": 36, "PageDown": 34, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip


def find() -> str:
    """The browser's program; RuntimeError says how to get it."""
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise RuntimeError("no Chromium is installed: run `make setup` once")
    return found


class Browser:
    """One process with a profile of its own; `page` gives tabs that know nothing of each other."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._profile = tempfile.mkdtemp(prefix="localmodel-browser-")
        options = [
            "--headless=new",
            "--no-sandbox",  # root has none; what it shows is ours
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--window-size=1440,900",
            f"--remote-debugging-port={self._port}",
            f"--user-data-dir={self._profile}",
            "about:blank",
        ]
        self._process = Process("chromium", [find(), *options], log=folder / "chromium.log")

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop(seconds=10)
        shutil.rmtree(self._profile, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def page(self, url: str, *, dark: bool = False) -> AsyncIterator["Page"]:
        """A tab that has begun to load `url`."""
        async with aiohttp.ClientSession() as session:
            address = await self._address(session)
            async with session.ws_connect(address, max_msg_size=0) as socket, Page(socket) as page:
                await page.open(url, dark=dark)
                yield page

    async def _address(self, session: aiohttp.ClientSession) -> str:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self._port}/json/version") as answer:
                        found: str = (await answer.json())["webSocketDebuggerUrl"]
                        return found
                if not self._process.running:
                    raise RuntimeError(f"the browser ended:\n{self._process.output()[-2000:]}")
                await asyncio.sleep(0.05)


class Page:
    """One tab. `complaints`: whatever the browser held against the page: violations of its policy, errors of its code."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self._context: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read(), name="browser")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._context is not None:
            self._session = None
            with contextlib.suppress(RuntimeError, TimeoutError):
                await self.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def open(self, url: str, *, dark: bool) -> None:
        self._context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        made = await self.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        joined = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            await self.call(f"{domain}.enable")
        await self.resize(1440, 900)
        await self.colours(dark=dark)
        # Policy violations are counted by the page itself too, however they come about.
        await self.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))",
        )
        await self.call("Page.navigate", url=url)

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def colours(self, *, dark: bool) -> None:
        value = "dark" if dark else "light"
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited when it is a promise."""
        answer = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def wait(
        self,
        script: str,
        what: str,
        accept: Callable[[Any], bool] = bool,
        *,
        seconds: float = _WAIT_SECONDS,
    ) -> Any:
        """Until the expression's value is accepted; returns it."""
        value = None
        deadline = time.monotonic() + seconds
        while not accept(value := await self.run(script)):
            if time.monotonic() > deadline:
                text = await self.run("document.body.innerText")
                raise AssertionError(f"{what}: {value!r}\n{text[:3000]}\n{self.complaints}")
            await asyncio.sleep(0.05)
        return value

    async def press(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        text, code = _KEYS[key] if key in _KEYS else (None, _MORE_KEYS[key])
        common = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": code,
            "modifiers": 2 * ctrl + 8 * shift,
        }
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **common, **down)
        await self.call("Input.dispatchKeyEvent", **common, type="keyUp")

    async def type(self, text: str) -> None:
        """Into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await answer

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                waiting = self._answers.pop(said["id"], None)
                if waiting is None or waiting.done():
                    continue
                if "error" in said:
                    waiting.set_exception(RuntimeError(said["error"]["message"]))
                else:
                    waiting.set_result(said["result"])
            else:
                self._note(said["method"], said["params"])

    def _note(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"])[:1000])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.complaints.append(" ".join(str(a.get("value")) for a in told["args"]))
            case "Log.entryAdded" if told["entry"]["source"] == "security":
                self.complaints.append(told["entry"]["text"])
            case "Audits.issueAdded" if (
                "contentSecurityPolicyIssueDetails" in told["issue"]["details"]
            ):
                self.complaints.append(json.dumps(told["issue"]["details"])[:1000])
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
