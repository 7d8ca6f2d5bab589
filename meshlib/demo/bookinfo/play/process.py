"""One service process: started, asked for its port, watched, ended. It never outlives the runner (see ``serve.py``)."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

LOG_TAIL_LINES = 25


class ChildDied(RuntimeError):
    """A service process ended by itself, or never became ready; the message holds the end of its log."""


class Child:
    """A replica. ``port`` is 0 until ``wait_ready`` returned."""

    def __init__(self, service: str, version: str, pod: str, mesh: Path, logs: Path, port: int = 0) -> None:
        self.service = service
        self.version = version
        self.pod = pod
        self.port = 0
        self.log_path = logs / f"{pod}.log"
        command = [sys.executable, "-m", "meshlib.demo.bookinfo.services.serve", service]
        command += ["--version", version, "--pod", pod, "--mesh", str(mesh), "--port", str(port), "--lifeline"]
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # the lifeline: closes with this process, whatever ends it
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the runner, which then ends its children in order
                env=_environment(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def address(self) -> str:
        """``http://127.0.0.1:port`` of this replica, past the mesh."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, deadline: float) -> None:
        """Until the child has said its port. Raises ChildDied when it ends before, or ``deadline`` (monotonic) passes."""
        stream = self._process.stdout
        assert stream is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ChildDied(f"{self.pod} was not ready in time\n{self.log_tail()}")
                chunk = os.read(stream.fileno(), 4096)
                if not chunk:
                    code = self._process.wait()
                    raise ChildDied(f"{self.pod} ended with exit code {code} before it was ready\n{self.log_tail()}")
                line += chunk
        self.port = int(json.loads(line)["port"])

    def check(self) -> None:
        """Raises ChildDied when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise ChildDied(f"{self.pod} ended with exit code {code}\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of its log, indented, with the log's path."""
        try:
            lines = self.log_path.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            return f"  (its log cannot be read: {error})"
        shown = lines[-LOG_TAIL_LINES:] or ["(empty)"]
        return "\n".join([f"  end of {self.log_path}:", *(f"  | {line}" for line in shown)])

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end; ``join`` waits for that."""
        if self._process.poll() is None:
            self._process.terminate()

    def join(self, seconds: float) -> None:
        """Wait until it has ended; after ``seconds`` by force."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _environment() -> dict[str, str]:
    """Ours, and for a clone that is not installed the folder meshlib was imported from. An installed wheel is found
    without: putting site-packages on PYTHONPATH would let any package there shadow the standard library."""
    root = Path(__file__).resolve().parents[4]
    known = [] if root.name in ("site-packages", "dist-packages") else [str(root)]
    path = os.pathsep.join(filter(None, [*known, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
