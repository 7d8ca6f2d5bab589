"""Bookinfo's processes and the folder that configures them: start, scale, swap rules, wait until all have seen it, stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.demo.bookinfo.play.mesh_folder import MeshFolder
from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.bookinfo.play.where_to_look import where_to_look, write_prometheus
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.mesh import Mesh
from meshlib.resources.loader import load
from meshlib.workload import Workload

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from meshlib.demo.report import Report

REPLICAS = (
    ("productpage", "v1"),
    ("details", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("ratings", "v1"),
)
START_SECONDS = 90.0
RELOAD_SECONDS = 10.0
STOP_SECONDS = 3.0
PAGE = "http://productpage:9080"
VISITOR = Workload("visitor", labels={"app": "visitor"})
"""Who the runner itself is in the mesh when it calls productpage."""


class NotConverged(RuntimeError):
    """A process did not take up new configuration in time."""


class Application:
    """A context manager. ``folder`` is where the mesh's YAML lies; ``children`` the running replicas; ``otlp`` is the URL that
    their spans go to; ``keep_files`` leaves YAML and logs behind at the end (an error does so, too)."""

    processes = "productpage, details, reviews v1 v2 v3, ratings"
    """What is started, for a person."""

    traced = True
    """Whether its processes can send spans."""

    def __init__(self, port: int = 0, otlp: str = "") -> None:
        self._otlp = otlp
        self.root = Path(tempfile.mkdtemp(prefix="bookinfo-"))
        self.folder = MeshFolder(self.root)
        self.logs = self.root / "logs"
        self.logs.mkdir()
        self.children: list[Child] = []
        self.keep_files = False
        self._port = port
        self._http = httpx.Client(timeout=5.0, trust_env=False)
        self._own: Mesh | None = None

    def __enter__(self) -> Self:
        try:
            self._start([self._child(service, version) for service, version in REPLICAS])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # the logs are what explains a failure, so they stay then; not when a signal ended the run
        self.stop(keep_files=self.keep_files or isinstance(error, Exception))

    @property
    def url(self) -> str:
        """The page, for a browser."""
        return f"{self.find('productpage').address}/productpage"

    def where_to_look(self) -> Iterable[str]:
        """Sentences for who wants to see more while the page is up."""
        file = self.root / "prometheus.yml"
        write_prometheus(file, self.children)
        return where_to_look(file, self.children)

    def find(self, service: str, version: str = "v1") -> Child:
        """The first replica of a service's version."""
        return next(c for c in self.children if c.service == service and c.version == version)

    def scale_up(self, service: str, version: str) -> Child:
        """Start one more replica and publish it."""
        child = self._child(service, version)
        self._start([child])
        return child

    def remove(self, child: Child) -> None:
        """End a replica and take it out of discovery."""
        self.children.remove(child)
        self.publish()
        child.terminate()
        child.join(STOP_SECONDS)

    def publish(self) -> None:
        """Write who serves, and wait until everybody knows."""
        self.folder.endpoints(self.children)
        self.wait_converged()

    def play(self, traffic: bytes, *, beside: Sequence[dict[str, Any]] = ()) -> float:
        """Swap the rules; returns the seconds until every process had them."""
        started = time.monotonic()
        self.folder.play(traffic, beside=beside)
        self.wait_converged()
        return time.monotonic() - started

    @asynccontextmanager
    async def visitor(self, spans: TracerProvider | None) -> AsyncIterator[httpx.AsyncClient]:
        """A client that reaches productpage by paths alone: here one of the mesh, which ``wait_converged`` waits for, too.
        ``spans``: where its own go."""
        mesh = Mesh.from_path(self.folder.path, watch=True, workload=VISITOR, tracer_provider=spans)
        async with mesh, mesh.async_client(base_url=PAGE, headers={"user-agent": "bookinfo-visitor"}) as client:
            self._own = mesh
            try:
                yield client
            finally:
                self._own = None

    async def also_plays(self, client: httpx.AsyncClient, report: Report, requests: int) -> None:
        """What this application has to show beside the scenarios."""

    def fail(self, child: Child, mode: str) -> None:
        """Turn a replica's switch (``failing.py``), past the mesh."""
        self._http.post(f"{child.address}/admin/fail", params={"mode": mode}).raise_for_status()

    def status(self, child: Child) -> dict[str, Any]:
        """``mesh.status()`` of that process."""
        found: dict[str, Any] = self._http.get(f"{child.address}/mesh/status").raise_for_status().json()
        return found

    def snapshot(self, workload: Workload) -> Snapshot:
        """What the folder compiles to for ``workload``, in this process: what the others are expected to do."""
        loaded = load([self.folder.path])
        return compile_snapshot(loaded.resources, workload)

    def snapshot_of(self, service: str, version: str = "v1") -> Snapshot:
        """The same for one of the services."""
        return self.snapshot(workload_of(service, version))

    def wait_converged(self) -> None:
        """Until every process that routes serves the configuration the folder holds. Raises NotConverged, ChildDied."""
        wanted = self.snapshot(VISITOR).version
        deadline = time.monotonic() + RELOAD_SECONDS
        waiting = [c for c in self.children if c.service in ("productpage", "reviews")]
        while True:
            self.check()
            waiting = [c for c in waiting if self.status(c).get("version") != wanted]
            own = [m for m in [self._own] if m is not None and m.status().get("version") != wanted]
            if not waiting and not own:
                return
            if time.monotonic() > deadline:
                late = ", ".join([c.pod for c in waiting] + [repr(mesh) for mesh in own])
                tails = "\n".join(c.log_tail() for c in waiting)
                raise NotConverged(f"{late} did not load version {wanted} within {RELOAD_SECONDS:g} s\n{tails}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises ChildDied when a replica has ended by itself."""
        for child in self.children:
            child.check()

    def stop(self, *, keep_files: bool = False) -> None:
        """End every process, in time or by force. Idempotent."""
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            child.join(max(0.1, deadline - time.monotonic()))
        self.children.clear()
        self._http.close()
        if not keep_files:
            self.remove_files()

    def remove_files(self) -> None:
        """YAML and logs."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _child(self, service: str, version: str) -> Child:
        number = 1 + sum(c.service == service and c.version == version for c in self.children)
        port = self._port if service == "productpage" else 0
        child = Child(service, version, f"{service}-{version}-{number}", self.folder.path, self.logs, port, self._otlp)
        self.children.append(child)  # before anything can fail, so that stop() knows it
        return child

    def _start(self, children: Sequence[Child]) -> None:
        deadline = time.monotonic() + START_SECONDS
        for child in children:
            child.wait_ready(deadline)
        self.publish()
