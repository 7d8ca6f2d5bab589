"""One service process: started, asked for its port, watched, told what to do, ended. It never outlives the runner: its
standard input is the lifeline that the services of both applications follow."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOG_TAIL_LINES = 25


class ChildDied(RuntimeError):
    """A service process ended by itself, or never became ready; the message holds the end of its log."""


class Process:
    """A replica of a service. ``command`` starts it; its log is ``pod.log`` in ``logs``; ``path`` are folders to import
    from. ``port`` is 0 until ``wait_ready`` returned."""

    host = "127.0.0.1"
    """Where others reach it."""

    def __init__(
        self, service: str, version: str, pod: str, command: Sequence[str], logs: Path, path: Sequence[Path] = ()
    ) -> None:
        self.service = service
        self.version = version
        self.pod = pod
        self.port = 0
        self.log_path = logs / f"{pod}.log"
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # the lifeline: closes with this process, whatever ends it
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the runner, which then ends its children in order
                env=environment(path),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, deadline: float) -> None:
        """Until the child has said its port. Raises ChildDied when it ends before, or ``deadline`` (monotonic) passes."""
        self.port = int(self._fact(deadline, "was not ready in time", " before it was ready")["port"])

    def tell(self, word: str, deadline: float) -> dict[str, Any]:
        """Write a line to its standard input; the line of JSON it answers. Raises ChildDied as ``wait_ready`` does."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: said better by what follows
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()
        return self._fact(deadline, f"did not answer {word!r} in time")

    def _fact(self, deadline: float, late: str, when: str = "") -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ChildDied(f"{self.pod} {late}\n{self.log_tail()}")
                chunk = os.read(stream.fileno(), 4096)
                if not chunk:
                    code = self._process.wait()
                    raise ChildDied(f"{self.pod} ended with exit code {code}{when}\n{self.log_tail()}")
                line += chunk
        found: dict[str, Any] = json.loads(line)
        return found

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


def environment(path: Sequence[Path] = ()) -> dict[str, str]:
    """Ours, with the folders of ``path``, and for a clone that is not installed the folder meshlib was imported from. An
    installed wheel is found without: putting site-packages on PYTHONPATH would let any package there shadow the standard
    library."""
    root = Path(__file__).resolve().parents[2]
    known = [] if root.name in ("site-packages", "dist-packages") else [str(root)]
    joined = os.pathsep.join(filter(None, [*map(str, path), *known, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}
