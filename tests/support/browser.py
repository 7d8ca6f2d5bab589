"""A real browser for tests: Chromium without a window, driven by its DevTools protocol.

It comes from PATH, or from ``make browser``, which unpacks Debian's package into .venv, without root. Where there is none,
tests are skipped and say so (``needs_browser``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

UNPACKED = Path(__file__).parents[2] / ".venv" / "browser"
NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"
LONG = 120.0
"""Seconds that anything may take on a busy machine."""


def found() -> str | None:
    """Where one is; None: nowhere."""
    unpacked = UNPACKED / "usr" / "lib" / "chromium" / PACKAGE
    return next(filter(None, map(shutil.which, NAMES)), None) or (str(unpacked) if unpacked.exists() else None)


needs_browser = pytest.mark.skipif(
    found() is None,
    reason="NO CHROMIUM on PATH or in .venv/browser: pages are NOT looked at in a browser (make browser)",
)


class Page:
    """One that is open. ``console`` has what scripts, the policy and the network complained of; ``requests`` what was asked
    for, the page itself aside."""

    def __init__(self, socket: Any) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._number = 0
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load a page, as somebody sees it who prefers the scheme (light, dark)."""
        self.console.clear()
        self.requests.clear()
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._loaded = False
        self._call("Page.navigate", url=url)
        end = time.monotonic() + LONG
        while not self._loaded:
            self._read(end)
        self.requests = [each for each in self.requests if each != url and not each.startswith("data:")]

    def run(self, script: str) -> Any:
        """What an expression of JavaScript is."""
        said = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def press(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, file: Path) -> Path:
        """All of the page as a PNG file."""
        said = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(said["data"]))
        return file

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        self._socket.send(json.dumps(asked))
        end = time.monotonic() + LONG
        while True:
            message = self._read(end)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result

    def _read(self, end: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(max(0.1, end - time.monotonic())))
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(str(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(parameters["exceptionDetails"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        return message


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """One page for a module of tests, which imports this and is marked with ``needs_browser``."""
    with running() as page:
        yield page


@contextlib.contextmanager
def running(*more: str) -> Iterator[Page]:
    """Start one, with ``more`` options; it is over with the block."""
    from websockets.sync.client import connect

    binary = found()
    assert binary is not None, "mark the tests that need it with needs_browser"
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        log = folder / "log"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
        options += ["--no-first-run", "--disable-extensions", "--disable-background-networking"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", *more, "about:blank"]
        with log.open("wb") as written:
            process = subprocess.Popen([binary, *options], stdout=written, stderr=written, env=environment())
        try:
            port = folder / "profile" / "DevToolsActivePort"
            end = time.monotonic() + LONG
            while not (port.exists() and len(port.read_text().split()) == 2):
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"the browser did not start: {log.read_text(errors='replace')}")
                time.sleep(0.05)
            number, path = port.read_text().split()
            with connect(f"ws://127.0.0.1:{number}{path}", max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            try:
                process.wait(LONG)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)


def environment() -> dict[str, str]:
    """This process's, with the libraries that were unpacked with the browser."""
    made = dict(os.environ)
    folders = [str(each) for each in sorted({each.parent for each in (UNPACKED / "usr" / "lib").rglob("*.so*")})]
    if folders:
        made["LD_LIBRARY_PATH"] = os.pathsep.join([*folders, *filter(None, [made.get("LD_LIBRARY_PATH")])])
    return made


def unpack() -> str:
    """Unpack Debian's package and what it needs and this machine has not, unless there is a browser. Returns where it is.
    OSError, SubprocessError: it cannot be had."""
    already = found()
    if already is not None:
        return already
    with tempfile.TemporaryDirectory(prefix="browser-") as temporary:
        folder = Path(temporary)
        # lists of packages of our own: the machine's may be missing or old, and are not ours to write
        state, archives = folder / "state", folder / "cache" / "archives"
        for each in (state / "lists" / "partial", archives / "partial"):
            each.mkdir(parents=True)
        options = ["-qq", "-o", f"Dir::State={state}", "-o", f"Dir::State::lists={state / 'lists'}"]
        options += ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        options += ["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        for command in (["update"], ["--download-only", "--yes", "--no-install-recommends", "install", PACKAGE]):
            subprocess.run(
                ["apt-get", *options, *command], cwd=folder, check=True, timeout=600, stdin=subprocess.DEVNULL
            )
        whole = folder / "whole"
        for package in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, whole], check=True, timeout=300)
        # whole or not at all: another process may look for it
        shutil.rmtree(UNPACKED, ignore_errors=True)
        shutil.move(whole, UNPACKED)
    return str(found())


if __name__ == "__main__":
    try:
        sys.stdout.write(f"browser: {unpack()}\n")
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(
            f"\nNO BROWSER: Debian's {PACKAGE} cannot be unpacked ({error}). The tests that look at pages in one are SKIPPED.\n"
            "Install chromium on PATH to run them.\n\n"
        )
