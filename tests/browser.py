"""A headless Chromium driven through a pipe: no network, no driver, no other package."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIRE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 60.0
"""Seconds that the browser may take to answer; a machine may be busy."""


def find_chromium():
    return next(filter(None, map(shutil.which, NAMES)), None)


needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium is installed (Debian: apt install chromium)"
)


def high_pipe():
    """Make a pipe whose ends are not 3 or 4, which are those that the browser uses."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high


class Browser:
    """One page; `requests` are the addresses that it asked for, `errors` what it complained of."""

    def __init__(self, profile, width=1100, height=900):
        from_us, self._write_end = high_pipe()
        self._read_end, to_us = high_pipe()
        self.requests, self.errors, self._answers, self._rest, self._last = [], [], {}, b"", 0
        command = [
            *(find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
            f"--window-size={width},{height}",
        ]
        wired = [sys.executable, "-Sc", WIRE, str(from_us), str(to_us), *command]
        self.process = subprocess.Popen(
            wired,
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        self.session = None
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        self.resize(width, height)

    def _begin(self):
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._write_end)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._read_end)

    def send(self, method, **params):
        """Have the browser do something; return what it answers."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write_end, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while self._last not in self._answers:
            assert time.monotonic() < deadline, f"no answer to {method}"
            self._take()
        answer = self._answers.pop(self._last)
        assert "error" not in answer, answer
        return answer["result"]

    def _take(self):
        os.set_blocking(self._read_end, False)
        try:
            data = os.read(self._read_end, 1 << 20)
        except BlockingIOError:
            time.sleep(0.005)
            return
        assert data, "the browser has gone"
        *whole, self._rest = (self._rest + data).split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self._answers[message["id"]] = message
                continue
            about = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(about["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
                self.errors.append(about["entry"]["text"])

    def open(self, path):
        """Load a file and wait until all of it, its pictures too, is there."""
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, "the page was not loaded"
            time.sleep(0.02)
        self.run("Promise.all([...document.images].map((image) => image.decode())).then(() => 1)")

    def run(self, script):
        """Evaluate JavaScript and return its value."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key):
        """Press and release a key."""
        text = key if len(key) == 1 else ""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, " ": 32}
        number = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            about = {"type": kind, "key": key, "windowsVirtualKeyCode": number}
            if text and kind == "keyDown":
                about["text"] = text
            self.send("Input.dispatchKeyEvent", **about)

    def resize(self, width, height, *, scale=1, touch=False):
        """Give the window another size, or make it a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=touch,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    def prefer(self, colors):
        """Prefer `dark` or `light`."""
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": colors}],
        )

    def screenshot(self, path=None, *, whole=False):
        """Take a picture of the page, PNG; write it to `path`, if given."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        data = base64.b64decode(shot["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data
