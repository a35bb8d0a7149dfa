"""A headless Chromium, spoken to over a pipe in the DevTools protocol; no package and no open port needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--no-default-browser-check", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip

# The browser reads file 3 and writes file 4; through high numbers, as either may be an end of our pipes.
START = """
import os, sys
to_read, from_write = (os.dup2(int(end), high) for end, high in zip(sys.argv[1:3], (103, 104)))
os.dup2(to_read, 3)
os.dup2(from_write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The browser's path: `ILK_CHROMIUM` if set, else the first of the usual names that is there."""
    return os.environ.get("ILK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page at a time. Every wait ends with a TimeoutError after `patience` seconds."""

    def __init__(self, program: str, profile: Path, *, patience: float = 20.0) -> None:
        self.patience = patience
        to_read, self.to_write = os.pipe()
        self.to_hear, from_write = os.pipe()

        self.process = subprocess.Popen(
            [sys.executable, "-ISc", START, str(to_read), str(from_write), program, *OPTIONS,
             f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_read, from_write),
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        self.heard = b""
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None

    def close(self) -> None:
        try:
            self.call("Browser.close", session=None)
            self.process.wait(10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(10)
        os.close(self.to_write)
        os.close(self.to_hear)

    # The protocol: messages end with a zero byte.

    def call(self, method: str, *, session: str | None = "page", **parameters: Any) -> dict[str, Any]:
        """The answer to a command; raises RuntimeError with the browser's words if it refuses."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if session and self.session:
            message["sessionId"] = self.session
        self.send(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self.patience
        while True:
            answer = self.hear(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer.get("result", {})
            if "method" in answer:
                self.events.append(answer)

    def send(self, message: bytes) -> None:
        while message:
            message = message[os.write(self.to_write, message) :]

    def hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.heard:
            ready, _, _ = select.select([self.to_hear], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("The browser did not answer.")
            part = os.read(self.to_hear, 1 << 20)
            if not part:
                raise RuntimeError("The browser ended.")
            self.heard += part
        message, self.heard = self.heard.split(b"\0", 1)
        return json.loads(message)

    def listen(self, seconds: float) -> None:
        """Takes in events for some time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                answer = self.hear(deadline)
            except TimeoutError:
                return
            if "method" in answer:
                self.events.append(answer)

    # Pages.

    def open(
        self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False
    ) -> None:
        """Opens a fresh page and waits until its script has run; the page before is closed."""
        if self.session:
            self.call("Page.close")
        target = self.call("Target.createTarget", session=None, url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", session=None, targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", script))
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float | None = None) -> Any:
        """The expression's value as soon as it is true."""
        deadline = time.monotonic() + (seconds or self.patience)
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.02)
        return value

    def picture(self, file: Path, *, form: str = "png", quality: int | None = None) -> None:
        options = {"quality": quality} if quality else {}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format=form, **options)["data"]))

    # Hands.

    def mouse(self, kind: str, x: float, y: float, *, shift: bool = False, down: bool = False, **more: Any) -> None:
        button = "left" if down or kind != "mouseMoved" else "none"
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(down), clickCount=1,
            modifiers=8 * shift, **more,
        )  # fmt: skip

    def click(self, selector: str) -> None:
        """Scrolls to the first such element and clicks its middle."""
        x, y = self.middle(selector)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, down=True)
        self.mouse("mouseReleased", x, y)

    def middle(self, selector: str) -> tuple[float, float]:
        box = self.run(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)}); if (!node) return null;"
            "node.scrollIntoView({ block: 'center', behavior: 'instant' }); const b = node.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        if box is None:
            raise LookupError(f"There is no {selector}.")
        return box[0], box[1]

    def drag(self, points: list[tuple[float, float]], *, shift: bool = False) -> None:
        self.mouse("mouseMoved", *points[0], shift=shift)
        self.mouse("mousePressed", *points[0], shift=shift, down=True)
        for x, y in points[1:]:
            self.mouse("mouseMoved", x, y, shift=shift, down=True)
        self.mouse("mouseReleased", *points[-1], shift=shift)

    def wheel(self, x: float, y: float, amount: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=amount)

    def press(self, key: str, *, shift: bool = False) -> None:
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        shared = {
            "key": " " if key == "Space" else key,
            "windowsVirtualKeyCode": code.get(key, ord(key[0])),
            "modifiers": 8 * shift,
        }
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown" if text else "rawKeyDown",
            **shared,
            **({"text": text} if text else {}),
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    # What must not have happened.

    def troubles(self) -> list[str]:
        """Errors, warnings, requests to anywhere but the page's own file, and dialogs since the page was opened."""
        self.listen(0.05)
        found = []
        for event in self.events:
            what = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = what["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
                found.append(f"console: {what['args']}")
            elif event["method"] == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
                found.append(f"log: {what['entry']['text']}")
            elif event["method"] == "Network.requestWillBeSent" and not what["request"]["url"].startswith(
                ("data:", "file:")
            ):
                found.append(f"request: {what['request']['url'][:200]}")
            elif event["method"] == "Page.javascriptDialogOpening":
                found.append(f"dialog: {what['message']}")
        return found
