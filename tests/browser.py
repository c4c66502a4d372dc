"""A browser driven by a script: Chromium without a window, over Chrome's DevTools protocol.

Messages are JSON, each ended by a NUL, over a pair of pipes (``--remote-debugging-pipe``): no
port is opened, and nothing but the standard library is needed.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0
"""Seconds until an answer must be there: a shared machine is slow at times."""


class BrowserError(Exception):
    """The browser refused a command, or did not answer."""


def found() -> str | None:
    """Where a browser is, if one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser process with a profile of its own, which goes when it is closed."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="qkvcli-browser-")
        ours, theirs = _pipe()
        answers, their_answers = _pipe()
        sink = (os.POSIX_SPAWN_OPEN, os.devnull, os.O_RDWR, 0)
        self._process = os.posix_spawn(
            program,
            [program, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            os.environ,
            file_actions=[
                *((sink[0], number, *sink[1:]) for number in (0, 1, 2)),
                (os.POSIX_SPAWN_DUP2, ours, 3),
                (os.POSIX_SPAWN_DUP2, their_answers, 4),
            ],
            setpgroup=0,
        )
        os.close(ours)
        os.close(their_answers)
        self._commands, self._answers = theirs, answers
        self._buffer = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []
        try:
            self.command("Browser.getVersion")
        except BaseException:
            self.close()
            raise

    def command(
        self, method: str, session: str | None = None, /, **parameters: Any
    ) -> dict[str, Any]:
        """A command's result; events that come meanwhile are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        _written(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._next(deadline)
            if answer is None:
                raise BrowserError(f"no answer to {method} in {_PATIENCE:.0f} s")
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def until(self, method: str, session: str) -> dict[str, Any]:
        """The next event of a name."""
        deadline = time.monotonic() + _PATIENCE
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event
            seen = len(self.events)
            answer = self._next(deadline)
            if answer is None:
                raise BrowserError(f"no {method} in {_PATIENCE:.0f} s")
            self.events.append(answer)

    def _next(self, deadline: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select(
                [self._answers], [], [], max(deadline - time.monotonic(), 0)
            )
            if not ready:
                return None
            part = os.read(self._answers, 2**20)
            if not part:
                raise BrowserError("the browser has gone")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def close(self) -> None:
        """End the process, and remove what it left."""
        with contextlib.suppress(OSError):
            os.killpg(self._process, signal.SIGTERM)
        for descriptor in (self._commands, self._answers):
            os.close(descriptor)
        deadline = time.monotonic() + 5
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                break
            time.sleep(0.02)
        shutil.rmtree(self._profile, ignore_errors=True)

    def page(self) -> "Page":
        """A new page, in a context of its own."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        made = self.command("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.command("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        return Page(self, attached["sessionId"], context)


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser, self._session, self._context = browser, session, context
        self._been = False
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        return self._browser.command(method, self._session, **parameters)

    def close(self) -> None:
        """Close the page, and forget its events."""
        self._browser.command("Target.disposeBrowserContext", browserContextId=self._context)
        self._browser.events.clear()

    def go(self, file: Path, link: str = "") -> None:
        """Open a file, and wait until it has loaded."""
        if self._been:  # or another link to the same file would load nothing
            self._load("about:blank")
        self._been = True
        self._load(file.as_uri() + link)

    def _load(self, address: str) -> None:
        self.command("Page.getFrameTree")
        self.forget("Page.loadEventFired")
        self.command("Page.navigate", url=address)
        self._browser.until("Page.loadEventFired", self._session)

    def js(self, expression: str) -> Any:
        """The value of an expression. Raises BrowserError with what it threw."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of the first element of a selector, its white space made single."""
        text = self.js(f"document.querySelector({json.dumps(selector)}).textContent")
        return " ".join(str(text).split())

    def texts(self, selector: str) -> list[str]:
        """The texts of all of them."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return [" ".join(text.split()) for text in self.js(f"{found}.map(e => e.textContent)")]

    def click(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Click an element with the mouse, at a place within it."""
        where = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{where}.scrollIntoView({{block: 'center'}})")
        box = self.js(f"{where}.getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + at[0] * box["width"], "y": box["y"] + at[1] * box["height"]}
        self.command("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place
            )

    def point(self, selector: str) -> None:
        """Move the mouse onto an element."""
        where = f"document.querySelector({json.dumps(selector)})"
        box = self.js(f"{where}.getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.command("Input.dispatchMouseEvent", type="mouseMoved", **place)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key: "ArrowUp", " "; ``modifiers`` is 8 for Shift."""
        known: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key}
        code = {" ": 32, "Escape": 27, "Tab": 9, "Enter": 13}.get(key)
        if code is not None:
            known["windowsVirtualKeyCode"] = code
        if key in (" ", "Enter"):
            known["text"] = " " if key == " " else "\r"
        self.command("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **known)
        known.pop("text", None)
        self.command("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **known)

    def fill(self, selector: str, text: str) -> None:
        """Type a text into a field, in place of what was there."""
        where = f"document.querySelector({json.dumps(selector)})"
        self.js(f"({where}.focus(), {where}.select())")
        self.command("Input.insertText", text=text)

    def size(self, width: int, height: int = 800) -> None:
        """The window's size."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def media(self, media: str = "", scheme: str = "light") -> None:
        """The medium ("print"), and what the reader prefers ("dark")."""
        self.command(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def scripts(self, run: bool) -> None:
        """Whether the page's scripts run at all."""
        self.command("Emulation.setScriptExecutionDisabled", value=not run)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A picture of the page, as PNG."""
        answer = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        answer = self.command("Page.printToPDF", printBackground=True)
        return base64.b64decode(answer["data"])

    def events(self, method: str) -> list[dict[str, Any]]:
        """The events of a name that came so far: each one's parameters."""
        self.command("Page.getFrameTree")  # those on their way have arrived
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    def frame(self) -> "Page":
        """The page within this one, in a frame that is kept apart (``sandbox``)."""
        found: list[str] = []

        def there() -> list[str]:
            targets = self._browser.command("Target.getTargets")["targetInfos"]
            found[:] = [one["targetId"] for one in targets if one["type"] == "iframe"]
            return found

        self.waited(there)
        attached = self._browser.command("Target.attachToTarget", targetId=found[0], flatten=True)
        return Page(self._browser, attached["sessionId"], self._context)

    def forget(self, method: str) -> None:
        """Drop the events of a name: they were looked at."""
        events = self._browser.events
        events[:] = [event for event in events if event.get("method") != method]

    def waited(self, holds: Callable[[], object]) -> None:
        """Wait until something holds. Raises BrowserError where it does not."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise BrowserError("it did not come to hold")
            time.sleep(0.02)


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, at numbers that stand in nobody's way."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _written(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
