"""A headless Chromium driven by the DevTools protocol over a pipe: the standard library is enough."""

import base64
import json
import math
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 180.0
"""Seconds that one command may take; printing a long page on a busy machine takes its time."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class View:
    """What a reader looks with: a window in CSS pixels and a colour scheme."""

    name: str
    width: int
    height: int
    phone: bool
    scheme: str  # "light" or "dark"


@dataclass
class Visit:
    """What happened while one page was open in one view."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Chromium:
    """One browser process; use it as a context manager. Commands are answered in order, one page at a time."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self):
        self.profile = tempfile.mkdtemp()
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4. Ours may be 3 or 4 themselves: go by way of high ones.
        high = [os.dup2(commands, 103), os.dup2(answers, 104)]

        def connect():
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [self.path, *FLAGS, f"--user-data-dir={self.profile}"],
            preexec_fn=connect,  # noqa: PLW1509  # no thread of ours is running yet
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (commands, answers, *high):
            os.close(descriptor)
        self.messages: queue.Queue[dict | None] = queue.Queue()
        self.number = 0
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _read(self):
        rest = b""
        while chunk := os.read(self.answers, 1 << 16):
            *whole, rest = (rest + chunk).split(b"\0")
            for message in whole:
                self.messages.put(json.loads(message))
        os.close(self.answers)
        self.messages.put(None)

    def _next(self, seconds: float) -> dict:
        try:
            message = self.messages.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            raise TimeoutError("Chromium did not answer in time.") from None
        if message is None:
            raise ConnectionError(f"Chromium ended with code {self.process.wait()}.")
        return message

    def call(self, method: str, session: str | None = None, visit: Visit | None = None, **parameters) -> dict:
        """Send one command and return its result; events that arrive meanwhile go to `visit`."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while (message := self._next(end - time.monotonic())).get("id") != self.number:
            note(message, visit)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def open(self, page: Path, view: View, query: str = "") -> "Page":
        """Open a file in a new tab, at an address that may end in ``?…``; wait until it, its fonts and its mathematics
        are there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Page(self, session, target, Visit(), view)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.look(view)
        tab.call("Page.navigate", url=page.resolve().as_uri() + query)
        tab.evaluate(READY)
        return tab


READY = """(async () => {
    while (document.readyState !== "complete") await new Promise(r => setTimeout(r, 20));
    await document.fonts.ready;
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    for (const image of document.images) { image.loading = "eager"; await image.decode().catch(() => {}); }
    await new Promise(r => setTimeout(r, 100));
})()"""


SETTLING = 0.15
"""Seconds until a page is laid out in a new window. Slept, not asked for: a page without scripts answers no promise."""
HIGHEST = 16000
"""Chromium's own limit on a picture's side is 16384 pixels."""


def note(message: dict, visit: Visit | None):
    """Keep an event that tells of a request or of an error."""
    if visit is None:
        return
    method, event = message.get("method"), message.get("params", {})
    if method == "Network.requestWillBeSent":
        visit.requests.append(event["request"]["url"])
    elif method == "Runtime.exceptionThrown":
        details = event["exceptionDetails"]
        visit.errors.append(details.get("exception", {}).get("description", details["text"]))
    elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
        visit.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in event["args"]))
    elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
        visit.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}".strip())


@dataclass
class Page:
    """An open tab."""

    browser: Chromium
    session: str
    target: str
    visit: Visit
    view: View

    def call(self, method: str, **parameters) -> dict:
        """Send a command to this tab."""
        return self.browser.call(method, session=self.session, visit=self.visit, **parameters)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "JavaScript error"))
        return answer["result"].get("value")

    def look(self, view: View):
        """Take another window and colour scheme."""
        self.view = view
        self._window(view.height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": view.scheme}])

    def screenshot(self, path: Path) -> list[Path]:
        """Write the whole page, not only the window, as a PNG; of a page higher than :data:`HIGHEST` a second one, ``NAME-2``, and
        so on. Returns what was written.

        The window itself is made as high as the page: a picture of more than the window is laid out anew while it is
        taken, and not always as a reader sees it."""
        height = math.ceil(self.call("Page.getLayoutMetrics")["cssContentSize"]["height"])
        path.parent.mkdir(parents=True, exist_ok=True)
        written = []
        try:
            for number, top in enumerate(range(0, max(height, 1), HIGHEST), 1):
                own = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
                self._window(min(max(self.view.height, height - top), HIGHEST))
                self.evaluate(f"window.scrollTo({{top: {top}, behavior: 'instant'}})")
                time.sleep(SETTLING)
                own.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
                written.append(own)
        finally:
            self._window(self.view.height)
        return written

    def _window(self, height: int):
        window = {"width": self.view.width, "height": height, "deviceScaleFactor": 1, "mobile": self.view.phone}
        self.call("Emulation.setDeviceMetricsOverride", **window)

    def close(self):
        """Close the tab."""
        self.browser.call("Target.closeTarget", targetId=self.target)
