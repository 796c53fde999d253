"""A browser without a window, driven through the pipe of its developer tools."""

import base64
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = ("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SECONDS = 120  # that an answer may take


class Tab:
    """One page. told: what the page wrote to its console, and errors that nothing caught."""

    def __init__(self, process: subprocess.Popen, read: int, write: int) -> None:
        self.process, self.read, self.write = process, read, write
        self.rest, self.number, self.session, self.told = b"", 0, "", []

    def call(self, method: str, **params: object) -> dict:
        """The answer to one command of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for found in self._messages():
                if found.get("id") == self.number:
                    assert "error" not in found, found
                    return found["result"]
        raise AssertionError(f"the browser does not answer {method}")

    def evaluate(self, code: str) -> object:
        """The value of an expression in the page; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, code: str) -> np.ndarray:
        """The picture (H, W, 3) of a data URL that an expression gives."""
        url = self.evaluate(code)
        assert isinstance(url, str)
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            return np.asarray(picture.convert("RGB"))

    def screenshot(self) -> np.ndarray:
        data = self.call("Page.captureScreenshot")["data"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            return np.asarray(picture.convert("RGB"))

    def _messages(self) -> Iterator[dict]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], 1)
            if not ready:
                return
            part = os.read(self.read, 2**20)
            assert part, "the browser has ended"
            self.rest += part
        *whole, self.rest = self.rest.split(b"\0")
        for text in whole:
            message = json.loads(text)
            kind, params = message.get("method"), message.get("params")
            if kind == "Runtime.exceptionThrown":
                self.told.append(params["exceptionDetails"]["text"])
            elif kind == "Runtime.consoleAPICalled":
                self.told.append(" ".join(str(each.get("value")) for each in params["args"]))
            elif kind == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
                self.told.append(params["entry"]["text"])
            yield message


@contextmanager
def opened(page: Path | str, folder: Path, *words: str, size: tuple[int, int] = (320, 240)) -> Iterator[Tab]:
    """A page from the disk, or at an address. folder: for what the browser writes."""
    inner, outer = os.pipe(), os.pipe()
    command = [BROWSER, *WORDS, *words, f"--window-size={size[0]},{size[1]}", "--remote-debugging-pipe"]
    command += [f"--user-data-dir={folder}", "about:blank"]

    def pipes() -> None:
        os.dup2(inner[0], 3)
        os.dup2(outer[1], 4)

    high = [os.dup2(fd, 100 + i) for i, fd in enumerate((inner[0], outer[1]))]  # clear of 3 and 4
    inner, outer = (high[0], inner[1]), (outer[0], high[1])
    process = subprocess.Popen(command, preexec_fn=pipes, pass_fds=(3, 4), stderr=subprocess.DEVNULL)
    tab = Tab(process, outer[0], inner[1])
    try:
        targets = tab.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            tab.call(f"{domain}.enable")
        tab.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while tab.evaluate("document.readyState") != "complete":
            time.sleep(0.1)
        yield tab
    finally:
        process.kill()
        process.wait()
