"""``meshlib proxy`` as a process, with the files that it is given, and a client that counts what fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from benchmarks.free_ports import free_port as free_port
from tests.support.forked import MAIN, Forked
from tests.support.proxy import Client

SECONDS = 90.0
ROOT = Path(__file__).parents[2]
MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews, reviews.example]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: PORT}}]
"""


class ProxyCommand:
    """``with ProxyCommand(folder, backend_port, "--workers", "2") as proxy``; ``folder`` gets ``mesh/all.yaml``."""

    def __init__(
        self,
        folder: Path,
        backend: int,
        *arguments: str,
        port: int = 0,
        env: dict[str, str] | None = None,
        outbound: bool = True,
    ) -> None:
        self.folder = folder
        self.backend = backend
        (folder / "mesh").mkdir(exist_ok=True)
        self.configure()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHLIB_")}
        environment["PYTHONPATH"] = str(ROOT)
        environment["XDG_RUNTIME_DIR"] = str(folder)
        self.process = Forked(
            MAIN,
            "proxy",
            "--config",
            "mesh",
            *(["--outbound", f"127.0.0.1:{port}"] if outbound else []),
            *arguments,
            folder=folder,
            environment={**environment, **(env or {})},
            session=True,  # its workers end with it, whatever state the test has left them in
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def configure(self, more: str = "") -> None:
        """All at once, as those do who know that files are watched."""
        (self.folder / "mesh.new").write_text(MESH.replace("PORT", str(self.backend)) + more)
        os.replace(self.folder / "mesh.new", self.folder / "mesh" / "all.yaml")

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def says(self, pattern: str, times: int = 1) -> str:
        """Wait for a line like this (the so-manieth)."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        with self._more:
            self._more.wait_for(lambda: len(found()) >= times or self._ended, SECONDS)
            assert len(found()) >= times, "\n".join(self.lines)
            return found()[times - 1]

    @property
    def port(self) -> int:
        return int(self.says("forwarding, listening on").split(" as process")[0].rsplit(":", 1)[1])

    def client(self) -> Client:
        return Client(self.port)

    def ends(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        self.process.stdout.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """A page of the admin endpoint, or of the port for probes."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def workers_of(admin: int, state: str = "LIVE") -> dict[int, int]:
    """The pids of a proxy's workers that are in a state, by their numbers."""
    info = json.loads(ask(admin, "/server_info")[1])
    return {each["worker"]: each["pid"] for each in info["workers"] if each["state"] == state}


class Load:
    """Requests over kept connections from a few threads, until it is left: ``done`` and ``failed`` count them. As a client of
    HTTP/1.1 may, it tries once more, on a new connection, what fails on a kept one (``again``)."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self._port = port
        self._over = threading.Event()
        self.done = 0
        self.again = 0
        self.failed: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        fresh = True
        while not self._over.is_set():
            try:
                connection.request("GET", "/", headers={"Host": "reviews:9080"})
                response = connection.getresponse()
                response.read()
                self._count("" if response.status == 200 else str(response.status))
                fresh = response.will_close
            except (OSError, HTTPException) as error:
                connection.close()
                if fresh:
                    self._count(repr(error))
                else:
                    self.again += 1
                fresh = True
        connection.close()

    def _count(self, what: str) -> None:
        with self._lock:
            self.done += 1
            if what:
                self.failed.append(what)

    def more(self, count: int = 50) -> None:
        """Wait until so many more are done."""
        aim = self.done + count
        pause = threading.Event()
        for _ in range(int(SECONDS * 200)):
            if self.done >= aim:
                return
            pause.wait(0.005)
        raise AssertionError(f"{self.done} of {aim}: {self.failed[:5]}")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)
