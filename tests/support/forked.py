"""Processes that run Python and have meshlib imported when they begin: half a second to a second of CPU less for each.

``with Forked("from meshlib.cli.main import main; main()", "proxy", "--config", "mesh") as process`` is the part of
``subprocess.Popen([sys.executable, "-c", program, *arguments])`` that tests use: for what a command does once it runs. What a
command imports, and when, is asked with ``subprocess``.

What differs from ``subprocess.Popen`` of that:

- It runs on Linux alone.
- All of ``IMPORTED`` is imported, whether the program asks for it or not, and what those modules do when they are imported is
  done: a test of what is imported, or of a module that is missing, sees nothing here.
- Programs of one test process have the same hash seed (PYTHONHASHSEED gives another), and the same addresses.
- Environment variables are there, but the interpreter and modules have read those they read when they begin: those of
  ``AT_THE_BEGINNING`` are as the program's environment says, others (PATH, HOME) as the test process had them then.
- Environment and arguments take 200 kB together at most, and ``/proc/PID/environ`` and ``cmdline`` are those of the process
  that forks.
- Folder, umask and signals are as with ``Popen``; the input is /dev/null; limits (``ulimit``) are those of the process that
  forks.

Behind it: one process for each of xdist's has imported what commands import, has one thread, and forks when it is asked to
(``python -m tests.support.forked``). It ends with the process that began it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from meshlib.envoy.messages import discovery
from meshlib.problems import MeshError

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
MAIN = "from meshlib.cli.main import main; main()"

IMPORTED = (
    "meshlib.cli.main",
    "meshlib.cli.proxy",
    "meshlib.cli.serve",
    "meshlib.cli.ca",
    "meshlib.mesh",
    "meshlib.mesh.numbers",
    "meshlib.mesh.state_files",
    "meshlib.telemetry.mesh_metrics",
    "meshlib.sources.files",
    "meshlib.sources.watcher",
    "meshlib.resources.loader",
    "meshlib.proxy.launch",
    "meshlib.proxy.process",
    "meshlib.proxy.listener",
    "meshlib.proxy.supervise",
    "meshlib.proxy.options",
    "meshlib.proxy.resolv_conf",
    "meshlib.proxy.gateway_listeners",
    "meshlib.proxy.gateway_options",
    "meshlib.proxy.pages",
    "meshlib.proxy.health",
    "meshlib.proxy.metrics",
    "meshlib.envoy.launch",
    "meshlib.envoy.tracing",
    "meshlib.serving.serve",
    "meshlib.serving.http_server",
    "meshlib.serving.wsgi_application",
    "meshlib.transport.asgi.middleware",
    "meshlib.transport.wsgi.middleware",
    "a2wsgi",
    "fastapi",
    "flask",
    "grpc",
    "prometheus_client",
    "uvicorn.main",
    "uvicorn.supervisors",
    "uvloop",
    "watchfiles",
)

AT_THE_BEGINNING = (
    "PYTHON", "LC_", "LANG", "TZ", "MESHLIB_PLAIN", "MALLOC_", "GLIBC_", "LD_", "GRPC_", "PROMETHEUS_", "OTEL_", "OPENSSL_",
    "SSL_",
)  # fmt: skip
"""How environment variables begin that an interpreter, or a module, reads when it begins."""


class NotToldError(Exception):
    """The process that forks has ended, so that nobody knows how what it has forked ends."""


def _of_the_beginning(environment: dict[str, str]) -> dict[str, str]:
    """Without the path of modules, to which a forked process adds its own."""
    return {n: value for n, value in environment.items() if n.startswith(AT_THE_BEGINNING) and n != "PYTHONPATH"}


class Forked:
    """``stdout`` is a text of both outputs, line by line. ``environment`` is all of it, ``folder`` the working directory,
    ``session`` whether it leads one of its own."""

    def __init__(
        self,
        program: str,
        *arguments: str,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        session: bool = False,
    ) -> None:
        mine, theirs = os.pipe()
        self.stdout = os.fdopen(mine, encoding="utf-8")
        ended, theirs_ended = os.pipe()
        self._ended = os.fdopen(ended, "rb")
        self._lock = threading.Lock()
        self.returncode: int | None = None
        whole = dict(os.environ if environment is None else environment)
        asked = {
            "program": program, "arguments": arguments, "folder": str(folder or Path.cwd()), "session": session,
            "environment": whole, "umask": _umask(),
        }  # fmt: skip
        try:
            self.pid = _parent_for(_of_the_beginning(whole)).fork(asked, theirs, theirs_ended)
        finally:
            os.close(theirs)
            os.close(theirs_ended)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, as ``subprocess`` has it; it is no process any more then, not even a dead one.

        Raises:
            NotToldError: the process that forks has ended
        """
        with self._lock:
            if self.returncode is None:
                waiting = select.poll()
                waiting.register(self._ended, select.POLLIN)
                if not waiting.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
                told = self._ended.read()
                if not told:
                    raise NotToldError
                self.returncode = int(told)
                self._ended.close()
            return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(NotToldError):  # then it may well run
            if self.poll() is not None:
                return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stdout.close()
        self.wait(SECONDS)


class _Parent:
    """A process that forks, for programs whose environment begins as its own did."""

    def __init__(self, beginning: dict[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._maker = os.getpid()
        found = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
                cwd=ROOT,
                env={**found, **beginning, "PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.end)

    @property
    def dead(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        """Nothing in a fork of the process that has made it: it is not the fork's."""
        if self._maker != os.getpid():
            return
        atexit.unregister(self.end)
        with contextlib.suppress(OSError):  # it is dead
            self._control.shutdown(socket.SHUT_RDWR)  # whoever else has it, as forks of this process do
        self._control.close()
        self._process.wait(SECONDS)

    def fork(self, asked: dict[str, object], *descriptors: int) -> int:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(asked).encode()], descriptors)
            told = self._control.recv(100)
        assert told, "the process that forks has ended"
        return int(told)


_parents: dict[tuple[int, tuple[tuple[str, str], ...]], _Parent] = {}
_begun = threading.Lock()


def _parent_for(beginning: dict[str, str]) -> _Parent:
    with _begun:
        key = (os.getpid(), tuple(sorted(beginning.items())))
        parent = _parents.get(key)
        if parent is not None and parent.dead:
            parent.end()
            parent = None
        if parent is None:
            parent = _parents[key] = _Parent(beginning)
        return parent


def _umask() -> int:
    """Of this process; to ask the system for it would set it, for all threads."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Umask:")[2].split(maxsplit=1)[0], 8)


def _fork_when_asked(control: socket.socket) -> str | None:
    """The program that the forked process is to run; None when nobody can ask any more. One thread, and no handler of signals:
    what is forked begins as Python does."""
    running: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its number, and where its end is told
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready != control.fileno():
                waiting.unregister(ready)
                pid, told = running.pop(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):  # nobody asks any more
                    os.write(told, b"%d" % code)
                os.close(told)
                continue
            asked, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 2)
            if not asked:
                return None
            output, ended = descriptors
            pid = os.fork()
            if not pid:
                for process, (_, told) in running.items():
                    os.close(process)
                    os.close(told)
                os.close(ended)
                return _begin(control, json.loads(asked), output)
            os.close(output)
            process = os.pidfd_open(pid)
            running[process] = (pid, ended)
            waiting.register(process, select.POLLIN)
            control.send(b"%d" % pid)


def _begin(control: socket.socket, asked: dict[str, object], output: int) -> str:
    control.close()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    if asked["session"]:
        os.setsid()
    os.umask(int(str(asked["umask"])))
    os.chdir(str(asked["folder"]))
    os.environ.clear()
    os.environ.update(asked["environment"])  # type: ignore[call-overload]
    sys.argv[:] = ["-c", *asked["arguments"]]  # type: ignore[misc]
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = ["", *(path for path in found if path and path not in sys.path)]
    return str(asked["program"])


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        with contextlib.suppress(ImportError):  # an extra that is not there
            importlib.import_module(name)
    with contextlib.suppress(ImportError, MeshError):
        discovery()
    gc.collect()
    gc.freeze()
    # where this was begun in the background of a shell it is ignored, and would be in all that is forked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    program = _fork_when_asked(control)
    if program is not None:
        gc.unfreeze()
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _main()
