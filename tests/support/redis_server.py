"""A real redis-server for tests: killed and started again at will, with a password, and behind what delays it.

It comes from PATH, or from ``make redis``, which unpacks Debian's package into .venv, without root. Where there is none, tests
are skipped and say so (``needs_redis``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from benchmarks import debian_packages
from benchmarks.free_ports import free_port

UNPACKED = Path(__file__).parents[2] / ".venv" / "redis"
LONG = 60.0
"""Seconds that anything may take on a busy machine."""


def found() -> str | None:
    """Where it is; None: nowhere."""
    return shutil.which(
        "redis-server", path=os.pathsep.join([os.environ.get("PATH", ""), str(UNPACKED / "usr" / "bin")])
    )


needs_redis = pytest.mark.skipif(
    found() is None or importlib.util.find_spec("redis") is None,
    reason="NO REDIS on PATH or in .venv/redis: what a real one does is NOT tested (make redis)",
)


class RedisServer:
    """One that runs, as long as the block. ``folder`` has its socket, ``redis.sock``."""

    def __init__(self, folder: Path, password: str = "") -> None:
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database 0, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """At the same port, empty."""
        binary = found()
        assert binary is not None, "mark the tests that need it with needs_redis"
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
        }
        if self._password:
            options["requirepass"] = self._password
        command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        log = self._folder / "redis.log"
        with log.open("wb") as written:
            self._process = subprocess.Popen(
                command, stdout=written, stderr=written, env=debian_packages.environment(UNPACKED)
            )
        end = time.monotonic() + LONG
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"redis-server did not start: {log.read_text(errors='replace')}")
            time.sleep(0.01)

    def kill(self) -> None:
        """As a machine that is switched off does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def client(self) -> Any:
        """redis-py's."""
        import redis

        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        import redis

        client = self.client()
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()


class Held:
    """A port in front of another one, which passes nothing on while it is held."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = [self._listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def hold(self) -> None:
        """What comes waits."""
        self._open.clear()

    def let_go(self) -> None:
        """What has come goes on."""
        self._open.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to), LONG)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait(LONG)
                target.sendall(data)


if __name__ == "__main__":
    try:
        if found() is None:
            debian_packages.unpack(["redis-server"], UNPACKED)
        sys.stdout.write(f"redis-server: {found()}\n")
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(
            f"\nNO REDIS: its Debian package cannot be unpacked ({error}). The tests that ask a real one are SKIPPED.\n"
            "Install redis-server on PATH to run them.\n\n"
        )
