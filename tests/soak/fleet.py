"""The servers of a soak: processes that are killed, drained and paused, one of a kind at a time."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.free_ports import free_port
from tests.soak.history import Ledger

GROUPS = {"http1": 4, "http2": 3, "grpc": 3}
BETWEEN = 0.4
"""Seconds between two disturbances of a kind of servers, of which at most one is down at a time."""
STARTS = 60.0
USED_AGAIN = 60.0
"""Seconds in which a server that is up must be called."""


class Server:
    """One endpoint, again and again on the same port."""

    def __init__(self, kind: str, port: int, folder: Path) -> None:
        self.kind = kind
        self.port = port
        self.ledger = folder / f"server-{port}.jsonl"
        self._errors = folder / f"server-{port}.err"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.endpoint", self.kind, str(self.port), str(self.ledger)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], STARTS)
        if not readable or self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the {self.kind} server on port {self.port} did not start; see {self._errors}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def gone(self) -> None:
        """Wait for its end."""
        process, self.process = self.process, None
        if process is not None:
            process.wait(30)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.gone()

    def executions(self) -> int:
        """How much it has written; the more, the more it has worked."""
        return self.ledger.stat().st_size if self.ledger.exists() else 0


class Fleet:
    """All servers. ``with`` starts and ends them; ``disturb`` goes on in a thread until ``calm``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed = seed
        ports = iter([free_port() for _ in range(sum(GROUPS.values()))])
        self.servers = {kind: [Server(kind, next(ports), folder) for _ in range(n)] for kind, n in GROUPS.items()}
        self._ledger = Ledger(folder / "fleet.jsonl")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.counts = {"kill": 0, "drain": 0, "pause": 0}
        self.problems: list[str] = []

    @property
    def ports(self) -> dict[str, list[int]]:
        return {kind: [server.port for server in group] for kind, group in self.servers.items()}

    def __enter__(self) -> Fleet:
        for group in self.servers.values():
            for server in group:
                server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.calm()
        for group in self.servers.values():
            for server in group:
                server.kill()
        self._ledger.close()

    def disturb(self) -> None:
        """Begin to kill, drain and pause."""
        for kind in GROUPS:
            thread = threading.Thread(target=self._run, args=(kind,), name=f"disturb-{kind}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def calm(self) -> None:
        """End that, with all servers up."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self, group: str) -> None:
        rng = random.Random(f"{self._seed} {group}")
        try:
            while not self._stop.wait(BETWEEN):
                server = rng.choice(self.servers[group])
                kind = rng.choices(("kill", "drain", "pause"), (5, 3, 2))[0]
                self.counts[kind] += 1
                since = time.monotonic()
                if kind == "pause":
                    server.signal(signal.SIGSTOP)
                    time.sleep(rng.uniform(0.05, 0.4))
                    server.signal(signal.SIGCONT)
                else:
                    server.signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
                    server.gone()
                    self._stop.wait(rng.uniform(0.0, 1.0))
                    server.start()
                self._ledger.write(kind, server.port, since, time.monotonic())
                self._ledger.flush()
                self._wait_until_used(server)
        except Exception as error:
            self.problems.append(f"the fleet fell apart: {error!r}")

    def _wait_until_used(self, server: Server) -> None:
        """Until calls come to it again: all but one endpoint of a host are not only up, they are known to be."""
        before, end = server.executions(), time.monotonic() + USED_AGAIN
        while server.executions() == before and not self._stop.is_set():
            if time.monotonic() > end:
                self.problems.append(f"no call came to the {server.kind} server {server.port}, which is up again")
                return
            time.sleep(0.02)
