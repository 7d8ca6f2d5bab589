"""The process of Envoy: begun, looked at, told to end. It is begun again by who holds it (``supervise.py``)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.envoy import tether

if TYPE_CHECKING:
    from meshlib.envoy.values import Json

ADMIN_TIMEOUT = 10.0
"""Seconds that a page of Envoy's may take."""
FLUSH = "500"
"""Milliseconds that a line of an access log may wait (Envoy's own: 10,000)."""
LEVELS = {"debug": "debug", "info": "warning", "warning": "warning", "error": "error"}
"""Envoy's log level by ours: it tells much that is of no interest but to who develops it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A page of Envoy's."""

    status: int
    kind: str
    body: bytes


class EnvoyAdmin:
    """Asks for Envoy's admin pages over their unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, target: str, method: str = "GET") -> Reply:
        """Raises OSError where nothing, or nothing readable, responds."""
        connection = _UnixConnection(self._path, ADMIN_TIMEOUT)
        try:
            connection.request(method, target)
            found = connection.getresponse()
            return Reply(found.status, found.headers.get("content-type", "text/plain"), found.read())
        except http.client.HTTPException as error:
            raise OSError(f"{target}: {error!r}") from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._unix_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._unix_path)


class Child:
    """One Envoy at a time. ``folder`` is our own, of mode 0700; ``drain``: whole seconds of Envoy's own drains."""

    def __init__(
        self, binary: str, folder: Path, begun_with: Json, *, workers: int, drain: int, log_level: str
    ) -> None:
        self._file = folder / "bootstrap.json"
        self._file.write_text(json.dumps(begun_with))
        self._arguments = [
            *(sys.executable, "-I", tether.__file__, str(os.getpid()), binary, "-c", str(self._file)),
            *("--concurrency", str(workers), "--disable-hot-restart", "-l", LEVELS[log_level]),
            *("--drain-time-s", str(drain), "--parent-shutdown-time-s", str(drain + 1)),
            *("--file-flush-interval-msec", FLUSH),
            *("--log-format", "%Y-%m-%d %T.%e %l envoy %n: %v"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return 0 if self._process is None else self._process.pid

    def begin(self) -> None:
        """In the main thread, with which Envoy ends (a thread that ends would take it along, too)."""
        self._process = subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL)

    def ended(self) -> int | None:
        """The exit code (negative: of a signal) of one that has, once; None: it runs, or there is none."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._process = None
        return code

    def end(self, patience: float) -> None:
        """Tell it to, and after ``patience`` seconds end it."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
