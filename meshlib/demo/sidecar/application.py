"""Bookinfo of services that know nothing of the mesh, a proxy beside each, and gateways at its edges."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from meshlib.demo.bookinfo.play.application import START_SECONDS, STOP_SECONDS, Application
from meshlib.demo.bookinfo.play.probe import API
from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.sidecar.child import Behind
from meshlib.demo.sidecar.gateways import NAME, Gateways
from meshlib.demo.sidecar.place import Loopback, Place
from meshlib.demo.sidecar.scenes import play_egress, play_ingress, play_rotation
from meshlib.demo.sidecar.visitor import Way

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from meshlib.demo.report import Report


class Sidecars(Application):
    """An ``Application`` whose replicas are ``Behind`` a proxy, and whose visitors come through a gateway."""

    processes = (
        "productpage, details, reviews v1 v2 v3, ratings, and a proxy beside each of them; an ingress and an egress gateway, "
        "and books.example.com"
    )
    traced = False
    engine = ""
    """Of the proxies, "" for what they do by themselves."""

    def __init__(self, port: int = 0, otlp: str = "") -> None:
        super().__init__(port, otlp)
        self._gateways: Gateways | None = None

    @property
    def gateways(self) -> Gateways:
        """Those at its edges, which have been started."""
        assert self._gateways is not None
        return self._gateways

    @property
    def url(self) -> str:
        """What productpage says of the book, by way of the ingress gateway."""
        return f"https://{NAME}:{self.gateways.port}{API}/reviews"

    @asynccontextmanager
    async def visitor(self, spans: TracerProvider | None) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody outside of the mesh."""
        way = Way(self.gateways.ingress.host, self.gateways.port, self.gateways.context(), again=self.engine == "envoy")
        headers = {"user-agent": "bookinfo-visitor"}
        async with httpx.AsyncClient(transport=way, base_url=f"https://{NAME}", headers=headers) as client:
            yield client

    async def also_plays(self, client: httpx.AsyncClient, report: Report, requests: int) -> None:
        """The gateways."""
        await play_ingress(self.gateways, report)
        await play_egress(self.gateways, client, report)
        await play_rotation(self.gateways, client, report)

    def fail(self, child: Child, mode: str) -> None:
        """Turn a replica's switch, past its proxy."""
        self._behind(child).tell_app(mode=mode)

    def status(self, child: Child) -> dict[str, Any]:
        """``mesh.status()`` of its proxy."""
        return self._behind(child).proxy.knows()

    def where_to_look(self) -> Iterable[str]:
        """Into the proxies."""
        gateways = self.gateways
        socket = self._behind(self.find("productpage")).proxy.admin
        place = f"{NAME}:{gateways.port}:{gateways.ingress.host}"
        return [
            f"As a visitor: curl --resolve {place} --cacert {gateways.root_file} {self.url}",
            f"What productpage's proxy knows: curl --unix-socket {socket} http://admin/clusters (/stats/prometheus, /calls)",
            f"What the ingress gateway knows: curl --unix-socket {gateways.ingress.admin} http://admin/clusters",
        ]

    def check(self) -> None:
        """Raises ChildDied when a process has ended by itself."""
        super().check()
        for each in self._gateways.processes if self._gateways is not None else ():
            each.check()

    def stop(self, *, keep_files: bool = False) -> None:
        """End every process, in time or by force. Idempotent."""
        if self._gateways is not None:
            self._gateways.terminate()
        super().stop(keep_files=True)
        if self._gateways is not None:
            self._gateways.join(time.monotonic() + STOP_SECONDS)
            self._gateways.forget_keys()
            self._gateways = None
        if not keep_files:
            self.remove_files()

    def place(self, name: str) -> Place:
        """Where a process of this name is to run."""
        return Loopback()

    @staticmethod
    def _behind(child: Child) -> Behind:
        assert isinstance(child, Behind)
        return child

    def _child(self, service: str, version: str) -> Child:
        number = 1 + sum(c.service == service and c.version == version for c in self.children)
        pod = f"{service}-{version}-{number}"
        port = self._port if service == "productpage" else 0
        child = Behind(service, version, pod, self.folder.path, self.logs, self.place(pod), port, self.engine)
        self.children.append(child)  # before anything can fail, so that stop() knows it
        return child

    def _start(self, children: Sequence[Child]) -> None:
        deadline = time.monotonic() + START_SECONDS
        first = self._gateways is None
        if first:
            self._gateways = Gateways(self.folder.path, self.logs, self.root, self.place, time.time(), self.engine)
        for child in children:
            self._behind(child).begin(deadline)  # all of them start at once
        if first:
            self.gateways.wait_ready(deadline)
        super()._start(children)
        if first:
            self.gateways.wait_open(deadline, API)


class OnEnvoy(Sidecars):
    """The same, each proxy with Envoy as its engine. A listener of Envoy that gets another certificate closes its idle
    connections soon after: visitors ask again, as browsers do."""

    engine = "envoy"
    processes = f"{Sidecars.processes}; Envoy is the engine of all proxies"
